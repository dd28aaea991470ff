// Below which ballot the acceptors of a shard promise and accept nothing more, for each set of
// replicas, and the file that keeps it. A state that is older than the floor of its set needs not be
// kept: an acceptor that has none behaves as if it had promised the floor (PX-15, decision 26).
//
// Invariant: a floor never sinks, and is durable before anybody relies on it.

import { ByteReader, ByteWriter } from '../../runtime/bytes.ts';
import { CorruptionError } from '../../runtime/errors.ts';
import type { ReplicaSets } from '../model/replica-sets.ts';
import { openBytes, sealBytes } from '../model/sealed-bytes.ts';
import type { SetBounds } from './protocol.ts';

/** Those of some sets. */
export function boundsWhere(
  { sets, hlcs }: SetBounds,
  isWanted: (set: number, hlc: number) => boolean,
): SetBounds {
  const wanted = sets
    .map((set, i) => ({ set, hlc: hlcs[i] ?? 0 }))
    .filter(({ set, hlc }) => isWanted(set, hlc));
  return { sets: wanted.map(({ set }) => set), hlcs: wanted.map(({ hlc }) => hlc) };
}

export class BallotFloors {
  readonly #sets: ReplicaSets;
  /** By number of the set. */
  readonly #hlcs: number[];

  constructor(sets: ReplicaSets) {
    this.#sets = sets;
    this.#hlcs = sets.sets.map(() => 0);
  }

  /** Of the set that holds a token. */
  ofToken(token: number): number {
    return this.#hlcs[this.#sets.indexOf(token)] ?? 0;
  }

  /** Those that are not 0. */
  bounds(): SetBounds {
    const all = { sets: [...this.#hlcs.keys()], hlcs: this.#hlcs };
    return boundsWhere(all, (_, hlc) => hlc > 0);
  }

  raise({ sets, hlcs }: SetBounds): void {
    sets.forEach((set, i) => {
      const known = this.#hlcs[set];
      if (known !== undefined) this.#hlcs[set] = Math.max(known, hlcs[i] ?? 0);
    });
  }

  /** u32 count, for each set text id, u53 hlc; then the CRC-32. */
  encode(): Uint8Array {
    const writer = new ByteWriter();
    writer.u32(this.#hlcs.length);
    this.#hlcs.forEach((hlc, set) => {
      writer.text(this.#sets.sets[set]?.id ?? '');
      writer.u53(hlc);
    });
    return sealBytes(writer);
  }

  /** CorruptionError where the file is damaged: what was refused must not be accepted again. */
  static decode(bytes: Uint8Array, path: string, sets: ReplicaSets): BallotFloors {
    const content = openBytes(bytes);
    if (content === undefined || content.length < 4)
      throw new CorruptionError(path, 0, 'floors of ballots fail their checksum');
    const reader = new ByteReader(content);
    const floors = new BallotFloors(sets);
    for (let left = reader.u32(); left > 0; left -= 1) {
      const id = reader.text();
      const hlc = reader.u53();
      const set = sets.numberOf(id);
      if (set !== undefined) floors.#hlcs[set] = hlc;
    }
    return floors;
  }
}
