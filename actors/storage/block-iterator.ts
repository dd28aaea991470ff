// Walks the records of a data block, forwards and backwards. It stands between two entries, or before
// the first, or behind the last: `next` gives the record behind the place and passes it, `previous`
// the one before it, so both in turn give the same record.
//
// Forwards each key is put together from the record before. Backwards the entries between two
// restarts are walked once and handed out from the last: a step costs what one forwards costs.

import type { BytePool } from '../../runtime/byte-pool.ts';
import { noBytes } from '../../runtime/bytes.ts';
import { recordHeaderBytes, recordKeyLength } from '../model/record.ts';
import type { DataBlock } from './data-block.ts';

export class BlockIterator {
  readonly #block: DataBlock;
  readonly #pool: BytePool;
  #at = 0;
  /** What an entry here shares with the one before lies in these bytes, from #keyAt on. */
  #keyBytes: Uint8Array = noBytes;
  #keyAt = 0;
  #keyLength = 0;
  /** The entries from the last restart up to #at, for steps back; empty: not walked yet. */
  #records: Uint8Array[] = [];
  #places: number[] = [];

  /**
   * It stands before the first record. As long as it is used the block must stay as it is; records
   * are given out as `DataBlock.recordAt` says.
   */
  constructor(block: DataBlock, pool: BytePool) {
    this.#block = block;
    this.#pool = pool;
  }

  /** Before the first record. */
  seekToStart(): void {
    this.#stand(0, noBytes, 0, 0);
  }

  /** Behind the last record: `previous` gives it. */
  seekToEnd(): void {
    this.#stand(this.#block.end, noBytes, 0, 0);
  }

  /** Before the first record that is not below `key`: `next` gives it. */
  seek(key: Uint8Array): void {
    this.#stand(this.#block.seek(key), key, 0, key.length);
  }

  /** Behind the last record that is below `key`: `previous` gives it. The same place as `seek`. */
  seekBefore(key: Uint8Array): void {
    this.seek(key);
  }

  /** The record behind this place, which it passes; undefined at the end. */
  next(): Uint8Array | undefined {
    const block = this.#block;
    const at = this.#at;
    if (at === block.end) return undefined;
    if (this.#records.length > 0) this.#forget();
    this.#checkShared(at);
    const next = block.nextAt(at);
    const record = block.recordAt(at, next, this.#keyBytes, this.#keyAt, this.#pool);
    this.#at = next;
    this.#shareWith(record);
    return record;
  }

  /** The record before this place, which it goes back over; undefined at the start. */
  previous(): Uint8Array | undefined {
    if (this.#at === 0) return undefined;
    if (this.#records.length === 0) this.#walkToHere();
    const record = this.#records.pop() as Uint8Array;
    this.#at = this.#places.pop() as number;
    const before = this.#records[this.#records.length - 1];
    // The first of them is a restart and shares nothing.
    if (before === undefined) this.#keyLength = 0;
    else this.#shareWith(before);
    return record;
  }

  /** All entries from the last restart before this place up to it. */
  #walkToHere(): void {
    const block = this.#block;
    const end = this.#at;
    this.#keyLength = 0;
    let next = end;
    for (let at = block.restartBefore(end); at < end; at = next) {
      this.#checkShared(at);
      next = block.nextAt(at);
      const record = block.recordAt(at, next, this.#keyBytes, this.#keyAt, this.#pool);
      this.#records.push(record);
      this.#places.push(at);
      this.#shareWith(record);
    }
    if (this.#records.length === 0) throw block.corrupt('offsets that do not ascend');
  }

  #stand(at: number, keyBytes: Uint8Array, keyAt: number, keyLength: number): void {
    this.#at = at;
    this.#keyBytes = keyBytes;
    this.#keyAt = keyAt;
    this.#keyLength = keyLength;
    this.#forget();
  }

  #forget(): void {
    this.#records = [];
    this.#places = [];
  }

  #shareWith(record: Uint8Array): void {
    this.#keyBytes = record;
    this.#keyAt = recordHeaderBytes;
    this.#keyLength = recordKeyLength(record);
  }

  #checkShared(at: number): void {
    if (this.#block.sharedAt(at) > this.#keyLength)
      throw this.#block.corrupt('a key shares more than there is');
  }
}
