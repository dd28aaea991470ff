// Below which ballot the acceptors of a shard promise and accept nothing more, for each set of
// replicas, and the file that keeps it. A state that is older than the floor of its set needs not be
// kept: an acceptor that has none behaves as if it had promised the floor (PX-15, decision 26).
//
// Invariant: a floor never sinks, and is durable before anybody relies on it.

import { ByteReader, ByteWriter, crc32 } from '../../runtime/bytes.ts';
import { CorruptionError } from '../../runtime/errors.ts';
import type { ReplicaSets } from '../model/replica-sets.ts';
import type { SetBounds } from './protocol.ts';

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
    const sets = [...this.#hlcs.keys()].filter((set) => (this.#hlcs[set] ?? 0) > 0);
    return { sets, hlcs: sets.map((set) => this.#hlcs[set] ?? 0) };
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
    writer.u32(crc32(writer.view()));
    return writer.copy();
  }

  /** CorruptionError where the file is damaged: what was refused must not be accepted again. */
  static decode(bytes: Uint8Array, path: string, sets: ReplicaSets): BallotFloors {
    const end = bytes.length - 4;
    if (end < 4 || new ByteReader(bytes, end).u32() !== crc32(bytes.subarray(0, end)))
      throw new CorruptionError(path, 0, 'floors of ballots fail their checksum');
    const reader = new ByteReader(bytes);
    const floors = new BallotFloors(sets);
    for (let left = reader.u32(); left > 0; left -= 1) {
      const id = reader.text();
      const hlc = reader.u53();
      const set = sets.sets.findIndex((known) => known.id === id);
      if (set >= 0) floors.#hlcs[set] = hlc;
    }
    return floors;
  }
}
