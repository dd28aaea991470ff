// The latest records that the stores of this node have taken in, for those who watch keys: a bounded
// buffer with numbers. Whoever reads it says up to which number it has come. What was dropped to
// keep the bound, and everything of an earlier feed, is a gap that the reader is told of.
//
// A feed has an epoch of its own: numbers mean nothing in another one.

import { startsWith } from '../../runtime/bytes.ts';

export interface ChangesQuestion {
  /** Epoch and number read up to; an epoch that is not this feed's: from now on. */
  readonly epoch: string;
  readonly after: number;
  /** Storage keys that begin with this. */
  readonly prefix: Uint8Array;
}

export interface Changes {
  readonly epoch: string;
  /** Read up to here. */
  readonly next: number;
  /** In the order in which they became visible. */
  readonly records: readonly Uint8Array[];
  /** Something between the number asked for and these is gone. */
  readonly isGap: boolean;
  /** There is nothing after `next` yet. */
  readonly isHead: boolean;
}

/** The key of a stored record begins here. */
export type KeyOf = (record: Uint8Array) => Uint8Array;

/** What one record costs beside its bytes. */
const entryBytes = 64;
/** One answer looks at so many records at most. */
const lookedAtMax = 8192;
const compactAfter = 4096;

export class ChangeFeed {
  readonly epoch: string;
  readonly #bytesMax: number;
  readonly #keyOf: KeyOf;
  #records: Uint8Array[] = [];
  /** Index of the oldest record that counts. */
  #start = 0;
  /** Number of the last record that was dropped. */
  #floor = 0;
  #bytes = 0;

  constructor(epoch: string, bytesMax: number, keyOf: KeyOf) {
    this.epoch = epoch;
    this.#bytesMax = bytesMax;
    this.#keyOf = keyOf;
  }

  /** Number of the newest record. */
  get head(): number {
    return this.#floor + this.#records.length - this.#start;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Takes a copy: the record may lie in a buffer of the network. */
  add(record: Uint8Array): void {
    this.#records.push(record.slice());
    this.#bytes += record.length + entryBytes;
    while (this.#bytes > this.#bytesMax && this.#start < this.#records.length) this.#drop();
    if (this.#start < compactAfter) return;
    this.#records = this.#records.slice(this.#start);
    this.#start = 0;
  }

  #drop(): void {
    this.#bytes -= (this.#records[this.#start] as Uint8Array).length + entryBytes;
    this.#records[this.#start] = new Uint8Array(0);
    this.#start += 1;
    this.#floor += 1;
  }

  /** At most `bytesMax` bytes of records, one more than that at least. */
  read({ epoch, after, prefix }: ChangesQuestion, bytesMax: number): Changes {
    const { head } = this;
    if (epoch !== this.epoch || after < this.#floor || after > head)
      return { epoch: this.epoch, next: head, records: [], isGap: true, isHead: true };
    const records: Uint8Array[] = [];
    let bytes = 0;
    let next = after;
    const end = Math.min(head, after + lookedAtMax);
    while (next < end && bytes < bytesMax) {
      const record = this.#records[this.#start + next - this.#floor] as Uint8Array;
      next += 1;
      if (!startsWith(this.#keyOf(record), prefix)) continue;
      records.push(record);
      bytes += record.length;
    }
    return { epoch: this.epoch, next, records, isGap: false, isHead: next === head };
  }
}
