// Zeros behind the records of a log segment, on the disk before records come to lie there. A sync
// of bytes that a file already holds writes these bytes; one of new bytes also has the file system
// write where they are, and where it keeps a journal wait for that (docs/performance.md). PostgreSQL
// fills its log segments with zeros for this reason (wal_init_zero).
//
// Only ever zeros where zeros are read anyway: a segment says the same with and without them.

import type { DiskFile } from '../../runtime/environment.ts';
import { KvError } from '../../runtime/errors.ts';

/** A write of more than this part of them pays for its new bytes by its own size. */
const smallWrite = 1 / 4;

export class ZerosAhead {
  readonly #zeros: Uint8Array;
  readonly #endMax: number;
  /** Up to here the file holds bytes. */
  #end = 0;

  /** `bytes`: so many at a time, 0: none. `endMax`: none behind this. */
  constructor(bytes: number, endMax: number) {
    this.#zeros = new Uint8Array(bytes);
    this.#endMax = endMax;
  }

  /** Another file, or a file that was cut: it holds bytes up to `end`. */
  begin(end: number): void {
    this.#end = end;
  }

  /**
   * After a write of `bytes` bytes of records that ends at `end`, before its sync. On a full disk
   * there are no zeros; any other failure is one of the write.
   */
  extend(file: DiskFile, end: number, bytes: number): void {
    if (end <= this.#end) return;
    this.#end = end;
    if (bytes > this.#zeros.length * smallWrite) return;
    const length = Math.min(this.#zeros.length, this.#endMax - end);
    if (length <= 0) return;
    try {
      file.write(this.#zeros.subarray(0, length), end);
      this.#end = end + length;
    } catch (error) {
      if (!(error instanceof KvError) || error.code !== 'DISK_FULL') throw error;
    }
  }
}
