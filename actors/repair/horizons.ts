// How far each set of replicas has been repaired, as one shard knows it, and the file that keeps
// it. Two numbers (hlc) for each set: `agreed`, to which all members have bound themselves, and
// `purge`, up to which this shard may forget tombstones. The second follows the first, and only
// when all members have stored the first: so whoever finds that a member has purged beyond what it
// has agreed to itself knows that its own disk is older than it should be (TS-4).
//
// `purge` goes back below a record that comes late: the repair has not seen that one.

import { ByteReader, ByteWriter } from '../../runtime/bytes.ts';
import { CorruptionError } from '../../runtime/errors.ts';
import type { ReplicaSets } from '../model/replica-sets.ts';
import { openBytes, sealBytes } from '../model/sealed-bytes.ts';
import type { Horizon } from './protocol.ts';

interface Held {
  agreed: number;
  purge: number;
}

export class Horizons {
  readonly #sets: ReplicaSets;
  /** By number of the set. */
  readonly #held: Held[];
  /** The shard began without data, and no repair has filled it yet. */
  isFresh: boolean;

  constructor(sets: ReplicaSets, isFresh: boolean) {
    this.#sets = sets;
    this.#held = sets.sets.map(() => ({ agreed: 0, purge: 0 }));
    this.isFresh = isFresh;
  }

  /** The highest of all. */
  get highest(): number {
    return this.#held.reduce((highest, { purge }) => Math.max(highest, purge), 0);
  }

  /** Those of sets that were ever repaired: of the others there is nothing to tell. */
  list(): Horizon[] {
    const all = this.#held.map(({ agreed, purge }, set) => ({ set, agreed, purge }));
    return all.filter(({ agreed, purge }) => agreed > 0 || purge > 0);
  }

  purgeOf(set: number): number {
    return this.#held[set]?.purge ?? 0;
  }

  agreedOf(set: number): number {
    return this.#held[set]?.agreed ?? 0;
  }

  agree(set: number, hlc: number): void {
    const held = this.#held[set];
    if (held !== undefined) held.agreed = Math.max(held.agreed, hlc);
  }

  confirm(set: number, hlc: number): void {
    const held = this.#held[set];
    if (held !== undefined) held.purge = hlc;
  }

  /** True: it went back. */
  retreat(set: number, hlc: number): boolean {
    const held = this.#held[set];
    if (held === undefined || held.purge <= hlc) return false;
    held.purge = hlc;
    return true;
  }

  /** For the store: the purge horizon of each arc of the ring. */
  arcs(): { readonly ends: readonly number[]; readonly hlcs: readonly number[] } {
    const { ends, setOfArc } = this.#sets;
    return { ends, hlcs: setOfArc.map((set) => this.purgeOf(set)) };
  }

  /** u8 fresh, u32 count, for each set text id, u53 agreed, u53 purge; then the CRC-32. */
  encode(): Uint8Array {
    const writer = new ByteWriter();
    writer.u8(this.isFresh ? 1 : 0);
    writer.u32(this.#held.length);
    this.#held.forEach(({ agreed, purge }, set) => {
      writer.text(this.#sets.sets[set]?.id ?? '');
      writer.u53(agreed);
      writer.u53(purge);
    });
    return sealBytes(writer);
  }

  static decode(bytes: Uint8Array, path: string, sets: ReplicaSets): Horizons {
    const content = openBytes(bytes);
    if (content === undefined || content.length < 5)
      throw new CorruptionError(path, 0, 'repair horizons fail their checksum');
    const reader = new ByteReader(content);
    const horizons = new Horizons(sets, reader.u8() === 1);
    const count = reader.u32();
    for (let i = 0; i < count; i += 1) {
      const id = reader.text();
      const held = { agreed: reader.u53(), purge: reader.u53() };
      const set = sets.numberOf(id);
      if (set !== undefined) horizons.#held[set] = held;
    }
    return horizons;
  }
}
