// Whether this node's wall clock is right, as far as the others' clocks can tell (HLC-7). Each round of
// gossip measures one of them: what it said, half a round trip ago give or take half a round trip.
// What is kept is what it would have said when the monotonic clock of this node was 0, so a step of our
// own clock shows at once, without another measurement.
//
// The clock is wrong when it is further from the clocks of most others than they may differ, of all of
// them, or of the last nine in a large cluster. A clock that was not measured speaks for ours, so a
// node that hears of few others never doubts itself.

import { dropOldest } from '../model/drop-oldest.ts';

export interface ClockHealthOptions {
  /** Other members of the cluster. */
  readonly peers: number;
  /** Clocks may differ by so much, microseconds; 0: any clock is right. */
  readonly offsetMicrosMax: number;
}

export interface ClockMeasurement {
  /** The wall clock of the peer when the monotonic clock of this node was 0, microseconds. */
  readonly originMicros: number;
  /** It may have been so much less or more. */
  readonly uncertaintyMicros: number;
}

/** What our own clocks say at one moment. */
export interface OwnClocks {
  readonly wallMicros: number;
  readonly monotonicMs: number;
}

/** In a large cluster, those that were measured last. */
const judgesMax = 9;

/** From an exchange with a peer that said `wallMicros` in between. */
export function measurementOf(
  wallMicros: number,
  { sentMs, heardMs }: { readonly sentMs: number; readonly heardMs: number },
): ClockMeasurement {
  const uncertaintyMicros = ((heardMs - sentMs) / 2) * 1000;
  return { originMicros: wallMicros + uncertaintyMicros - heardMs * 1000, uncertaintyMicros };
}

export class ClockHealth {
  readonly #options: ClockHealthOptions;
  /** By node; those that were measured last come last. */
  readonly #measured = new Map<string, ClockMeasurement>();

  constructor(options: ClockHealthOptions) {
    this.#options = options;
  }

  measured(node: string, measurement: ClockMeasurement): void {
    this.#measured.delete(node);
    this.#measured.set(node, measurement);
    dropOldest(this.#measured, judgesMax);
  }

  /** The median of what the measured clocks are ahead of ours, microseconds; 0 without any. */
  offsetMicros(now: OwnClocks): number {
    const offsets = this.#offsets(now).map(({ offset }) => offset);
    return offsets.sort((a, b) => a - b)[Math.floor(offsets.length / 2)] ?? 0;
  }

  /** How far ours is from those of most others, microseconds; undefined: near enough. */
  wrongBy(now: OwnClocks): number | undefined {
    const { peers, offsetMicrosMax } = this.#options;
    if (offsetMicrosMax === 0) return undefined;
    const judges = Math.min(peers, judgesMax);
    const against = this.#offsets(now).filter(
      ({ offset, uncertainty }) => Math.abs(offset) - uncertainty > offsetMicrosMax,
    );
    return against.length * 2 > judges ? Math.abs(this.offsetMicros(now)) : undefined;
  }

  #offsets({ wallMicros, monotonicMs }: OwnClocks) {
    const own = wallMicros - monotonicMs * 1000;
    return [...this.#measured.values()].map(({ originMicros, uncertaintyMicros }) => ({
      offset: originMicros - own,
      uncertainty: uncertaintyMicros,
    }));
  }
}
