// Hashes of records that wait until their number is known, for a filter of the right size: four
// bytes each, outside of the engine's heap. An array of numbers takes twice as much inside of it,
// and ends the process at some hundred million.
//
// They lie in chunks: the first is small, each next one twice as large up to a limit, so that
// nothing is copied and at most one chunk is unused.

const firstChunk = 1024;
const chunkMax = 256 * 1024;

export class HashList {
  readonly #full: Uint32Array[] = [];
  #open = new Uint32Array(firstChunk);
  /** Hashes in the open chunk. */
  #used = 0;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  add(hash: number): void {
    if (this.#used === this.#open.length) {
      this.#full.push(this.#open);
      this.#open = new Uint32Array(Math.min(2 * this.#open.length, chunkMax));
      this.#used = 0;
    }
    this.#open[this.#used] = hash;
    this.#used += 1;
    this.#length += 1;
  }

  /** In the order in which they came. */
  forEach(visit: (hash: number) => void): void {
    for (const chunk of this.#full) chunk.forEach((hash) => visit(hash));
    this.#open.subarray(0, this.#used).forEach((hash) => visit(hash));
  }
}
