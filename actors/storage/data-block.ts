// The content of one data block: entries in key order, then the offset of every 16th of them and the
// count of these offsets. An entry is a record whose key lacks the bytes that it shares with the key
// before it; those at an offset, the restarts, lack nothing. A search halves over the restarts and
// walks the entries behind one of them without putting any key together: how far the key that is
// looked for matches the entry before says how an entry that shares more than that compares.
// Tables of version 1 have no shared bytes at all (LevelDB, doc/table_format.md; table/block.cc).
//
//   entry   u16 shared | record header, with the length of the whole key | rest of the key | value
//
// The bytes were verified, so lengths that do not fit are a defect of the writer or of memory; they
// are a CorruptionError all the same, and nothing is read beyond the block.

import type { BytePool } from '../../runtime/byte-pool.ts';
import { CorruptionError } from '../../runtime/errors.ts';
import { recordHeaderBytes, recordLengthAt } from '../model/record.ts';
import { ownRecordBytesMax } from './protocol.ts';

const offsetBytes = 4;
const sharedBytes = 2;

/** Whether keys lack what they share with the one before: not in tables of version 1. */
export type EntryForm = 'prefixed' | 'plain';

export class DataBlock {
  /** The content comes first; what is behind it is of nobody. */
  bytes: Uint8Array;
  #path = '';
  #offset = 0;
  /** Bytes in front of the header of an entry. */
  #lead = 0;
  /** Where the entries end and the offsets begin. */
  #end = 0;
  #restarts = 0;
  /** Whether the entry that `seek` found has the very key. */
  #isExact = false;
  /** Somebody may hold a view of these bytes, so they can never be used for another block. */
  isLent = false;

  /** `path` and `offset` name it in errors. */
  constructor(path: string, offset: number, bytes: Uint8Array, form: EntryForm = 'prefixed') {
    this.bytes = bytes;
    this.become(path, offset, bytes.length, form);
  }

  /** Another block, whose content was decoded into these bytes; nobody may look at the one it was. */
  become(path: string, offset: number, length: number, form: EntryForm): void {
    this.#path = path;
    this.#offset = offset;
    this.#lead = form === 'prefixed' ? sharedBytes : 0;
    this.#restarts = length < offsetBytes ? 0 : this.#u32(length - offsetBytes);
    this.#end = length - (this.#restarts + 1) * offsetBytes;
    if (this.#restarts === 0 || this.#end < this.#lead + recordHeaderBytes)
      throw this.corrupt('no records');
  }

  /** Bytes of memory. */
  get heldBytes(): number {
    return this.bytes.buffer.byteLength;
  }

  /** Where the entries end: a place that is none. */
  get end(): number {
    return this.#end;
  }

  get restarts(): number {
    return this.#restarts;
  }

  /** The record of this key, as `recordAt` gives it. */
  get(key: Uint8Array, pool: BytePool): Uint8Array | undefined {
    const at = this.seek(key);
    if (!this.#isExact) return undefined;
    return this.recordAt(at, this.nextAt(at), key, 0, pool);
  }

  /**
   * Where the first entry starts that is not below `key`; `end` for none. What this entry shares with
   * the one before it, it shares with `key`.
   */
  seek(key: Uint8Array): number {
    this.#isExact = false;
    const { bytes } = this;
    const end = this.#end;
    let at = this.#restartBelow(key);
    // Bytes that the key has in common with the entry before `at`, which is below it.
    let matched = 0;
    for (let next = at; at < end; at = next) {
      const header = at + this.#lead;
      const shared = this.sharedAt(at);
      next = this.nextAt(at);
      // One that shares more than matched differs from the key where the one before it does.
      if (shared > matched) continue;
      const keyAt = header + recordHeaderBytes - shared;
      const keyEnd = keyAt + this.#keyLengthAt(header);
      matched = this.#match(keyAt, keyEnd, key, shared);
      const place = keyAt + matched;
      if (place === keyEnd && matched === key.length) {
        this.#isExact = true;
        return at;
      }
      if (place === keyEnd) continue;
      if (matched === key.length || (bytes[place] as number) > (key[matched] as number)) return at;
    }
    return at;
  }

  /** How many bytes the key of an entry begins with alike; `from` are known to be equal. */
  #match(keyAt: number, keyEnd: number, key: Uint8Array, from: number): number {
    const { bytes } = this;
    let matched = from;
    let place = keyAt + from;
    while (place < keyEnd && matched < key.length && bytes[place] === key[matched]) {
      place += 1;
      matched += 1;
    }
    return matched;
  }

  /** Where the next entry starts. */
  nextAt(at: number): number {
    const header = at + this.#lead;
    const shared = this.sharedAt(at);
    const next =
      header + recordHeaderBytes > this.#end
        ? Infinity
        : header + recordLengthAt(this.bytes, header) - shared;
    if (next > this.#end) throw this.corrupt('a record beyond its block');
    if (shared > this.#keyLengthAt(header)) throw this.corrupt('a key shares too much');
    return next;
  }

  /** How many bytes of its key the entry lacks. */
  sharedAt(at: number): number {
    if (this.#lead === 0) return 0;
    return (this.bytes[at] as number) | ((this.bytes[at + 1] as number) << 8);
  }

  /**
   * The record at `at`, whose shared bytes are those of `keyBytes` from `keyAt` on, in bytes of the
   * pool; a long one that shares nothing is a view of the block. `next`: what `nextAt` says of it.
   */
  recordAt(
    at: number,
    next: number,
    keyBytes: Uint8Array,
    keyAt: number,
    pool: BytePool,
  ): Uint8Array {
    const { bytes } = this;
    const header = at + this.#lead;
    const shared = this.sharedAt(at);
    if (shared === 0) return this.#own(bytes.subarray(header, next), pool);
    const record = pool.take(next - header + shared);
    // One copy puts all but the header in its place; the header comes to the front, then the gap
    // is filled.
    record.set(bytes.subarray(header, next), shared);
    record.copyWithin(0, shared, shared + recordHeaderBytes);
    for (let i = 0; i < shared; i += 1)
      record[recordHeaderBytes + i] = keyBytes[keyAt + i] as number;
    return record;
  }

  #own(record: Uint8Array, pool: BytePool): Uint8Array {
    if (record.length <= ownRecordBytesMax) return pool.copy(record);
    // Copying more costs more than it saves to use the bytes of a block again.
    this.isLent = true;
    return record;
  }

  /** The last restart before `at`, which is not the start of the block. */
  restartBefore(at: number): number {
    let low = 1;
    let high = this.#restarts;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.restart(middle) < at) low = middle + 1;
      else high = middle;
    }
    return this.restart(low - 1);
  }

  /** Where the restart with this index lies. */
  restart(index: number): number {
    const at = this.#u32(this.#end + index * offsetBytes);
    if (at >= this.#end) throw this.corrupt('an offset beyond the records');
    return at;
  }

  corrupt(what: string): CorruptionError {
    return new CorruptionError(this.#path, this.#offset, what);
  }

  /** The last restart whose key is below; the first one where none is. */
  #restartBelow(key: Uint8Array): number {
    let low = 0;
    let high = this.#restarts;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#isBelow(this.restart(middle), key)) low = middle + 1;
      else high = middle;
    }
    return low === 0 ? 0 : this.restart(low - 1);
  }

  /** The entry at a restart, whose key lacks nothing. */
  #isBelow(at: number, key: Uint8Array): boolean {
    const { bytes } = this;
    const header = at + this.#lead;
    const keyAt = header + recordHeaderBytes;
    if (keyAt > this.#end) throw this.corrupt('a key beyond its block');
    const length = this.#keyLengthAt(header);
    if (keyAt + length > this.#end) throw this.corrupt('a key beyond its block');
    if (this.sharedAt(at) !== 0) throw this.corrupt('an offset of a record that is not whole');
    const compared = length < key.length ? length : key.length;
    for (let i = 0; i < compared; i += 1) {
      const difference = (bytes[keyAt + i] as number) - (key[i] as number);
      if (difference !== 0) return difference < 0;
    }
    return length < key.length;
  }

  #keyLengthAt(header: number): number {
    return (this.bytes[header] as number) | ((this.bytes[header + 1] as number) << 8);
  }

  #u32(at: number): number {
    const { bytes } = this;
    const low = (bytes[at] as number) | ((bytes[at + 1] as number) << 8);
    return (low | ((bytes[at + 2] as number) << 16) | ((bytes[at + 3] as number) << 24)) >>> 0;
  }
}
