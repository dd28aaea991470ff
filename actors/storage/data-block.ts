// The content of one data block: records as they are, in key order, then the offset of every 8th
// record and the count of these offsets. A search halves over the offsets and walks the last few.
//
// The bytes were verified, so lengths that do not fit are a defect of the writer or of memory; they
// are a CorruptionError all the same, and nothing is read beyond the block.

import { CorruptionError } from '../../runtime/errors.ts';
import { recordHeaderBytes, recordLengthAt } from '../model/record.ts';
import { compareRange } from './sstable-format.ts';

const offsetBytes = 4;

export class DataBlock {
  readonly bytes: Uint8Array;
  readonly #path: string;
  readonly #offset: number;
  readonly #view: DataView;
  /** Where the records end and their offsets begin. */
  readonly #end: number;
  readonly #restarts: number;

  /** `path` and `offset` name it in errors. */
  constructor(path: string, offset: number, bytes: Uint8Array) {
    this.bytes = bytes;
    this.#path = path;
    this.#offset = offset;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#restarts = bytes.length < offsetBytes ? 0 : this.#u32(bytes.length - offsetBytes);
    this.#end = bytes.length - (this.#restarts + 1) * offsetBytes;
    if (this.#restarts === 0 || this.#end < recordHeaderBytes) throw this.#corrupt('no records');
  }

  /** A view of the record at `at`; undefined at the end of the block. */
  recordAt(at: number): Uint8Array | undefined {
    return at === this.#end ? undefined : this.bytes.subarray(at, this.#next(at));
  }

  keyAt(at: number): Uint8Array {
    return this.bytes.subarray(at + recordHeaderBytes, this.#keyEnd(at));
  }

  /** Negative, zero or positive as the record at `at` sorts before, with or after `key`. */
  compareAt(at: number, key: Uint8Array): number {
    return compareRange(this.bytes, at + recordHeaderBytes, this.#keyEnd(at), key);
  }

  /** Where the first record starts that is not below `key`; the end of the records for none. */
  lowerBound(key: Uint8Array): number {
    // The last restart whose key is below: what is looked for is at most a few records behind.
    let low = 0;
    let high = this.#restarts;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.compareAt(this.#restart(middle), key) < 0) low = middle + 1;
      else high = middle;
    }
    let at = low === 0 ? 0 : this.#restart(low - 1);
    while (at < this.#end && this.compareAt(at, key) < 0) at = this.#next(at);
    return at;
  }

  #restart(index: number): number {
    const at = this.#u32(this.#end + index * offsetBytes);
    if (at >= this.#end) throw this.#corrupt('an offset beyond the records');
    return at;
  }

  #next(at: number): number {
    const next =
      at + recordHeaderBytes > this.#end ? Infinity : at + recordLengthAt(this.bytes, at);
    if (next > this.#end) throw this.#corrupt('a record beyond its block');
    return next;
  }

  #keyEnd(at: number): number {
    const keyAt = at + recordHeaderBytes;
    const end = keyAt > this.#end ? Infinity : keyAt + this.#view.getUint16(at, true);
    if (end > this.#end) throw this.#corrupt('a key beyond its block');
    return end;
  }

  #u32(at: number): number {
    return this.#view.getUint32(at, true);
  }

  #corrupt(what: string): CorruptionError {
    return new CorruptionError(this.#path, this.#offset, what);
  }
}
