// Gives writes their hlc. Stamps of one writer are strictly increasing, also across restarts and
// when the wall clock steps back: a bound ahead of every issued stamp is durable before the stamp
// is used (HLC-3). A key's stored stamp moves this clock as a received message would, within the
// bound on clock skew; beyond it the clock stays and the write is refused (HLC-4, HLC-5). It has
// to move: two writes that saw the same stored stamp must not get the same one, since equal etags
// stand for equal contents.

import { ByteReader, ByteWriter } from '../../runtime/bytes.ts';
import { CorruptionError, KvError } from '../../runtime/errors.ts';
import { maxSkewMicros, nextHlc } from '../model/hlc.ts';
import { openBytes, sealBytes } from '../model/sealed-bytes.ts';

/**
 * How far ahead a bound reaches. After a crash the stamps begin there, and other nodes refuse to
 * overwrite what is further ahead than the skew (HLC-5): so not further than a restart may wait.
 */
export const boundLeadMicros = 3_000_000;

export class Stamper {
  #last = 0;
  #bound = 0;

  /** `bound`: the durable bound of the last run, 0 at the first. */
  constructor(bound: number) {
    this.#last = bound;
    this.#bound = bound;
  }

  /** The newest stamp, or the bound of the last run. */
  get last(): number {
    return this.#last;
  }

  /** The bound to make durable next; undefined while the current one reaches far enough. */
  nextBound(wallMicros: number): number | undefined {
    const next = nextHlc(this.#last, wallMicros);
    return next + boundLeadMicros / 2 <= this.#bound ? undefined : next + boundLeadMicros;
  }

  /** `bound` is on disk. */
  extended(bound: number): void {
    this.#bound = Math.max(this.#bound, bound);
  }

  /** True: a stamp above any floor may be given now. False: the bound has to be extended first. */
  isReady(wallMicros: number): boolean {
    return nextHlc(this.#last, wallMicros + maxSkewMicros) <= this.#bound;
  }

  /** A stamp above `floor`, the newest stored stamp of the key. FUTURE_VERSION beyond the skew. */
  stamp(wallMicros: number, floor: number): number {
    if (floor >= Math.floor(wallMicros) + maxSkewMicros && floor > this.#last)
      throw new KvError('FUTURE_VERSION', {
        stored: floor,
        wallMicros,
        detail: 'the stored version is further in the future than clocks may differ',
      });
    this.#last = nextHlc(this.#last, wallMicros, floor);
    return this.#last;
  }
}

/** File of one bound: the number, then its CRC-32. */
export function encodeBound(bound: number): Uint8Array {
  const writer = new ByteWriter(12);
  writer.u53(bound);
  return sealBytes(writer);
}

export function decodeBound(bytes: Uint8Array, path: string): number {
  const content = openBytes(bytes);
  if (content?.length !== 8) throw new CorruptionError(path, 0, 'clock bound fails its checksum');
  return new ByteReader(content).u53();
}
