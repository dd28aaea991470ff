// Small byte arrays cut from chunks. An array of its own above 64 bytes lives outside of the heap in
// V8 (its flag typed_array_max_size_in_heap): one malloc each, and the collector runs for them as for
// memory that is short. What is cut off is never used again, so arrays share a chunk but no byte.

import { wordAligned } from './bytes.ts';

const chunkBytes = 16 * 1024;
/** Longer ones are made alone: they would keep too much of a chunk alive, or not fit. */
const pooledBytesMax = 4 * 1024;

export class BytePool {
  #chunk = new Uint8Array(chunkBytes);
  #at = 0;

  /** Bytes that nobody else has; zeros. */
  take(length: number): Uint8Array {
    if (length > pooledBytesMax) return new Uint8Array(length);
    if (this.#at + length > chunkBytes) {
      this.#chunk = new Uint8Array(chunkBytes);
      this.#at = 0;
    }
    const bytes = this.#chunk.subarray(this.#at, this.#at + length);
    this.#at += wordAligned(length);
    return bytes;
  }

  copy(bytes: Uint8Array): Uint8Array {
    const copy = this.take(bytes.length);
    copy.set(bytes);
    return copy;
  }
}
