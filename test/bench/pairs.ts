// Keys and values of a bench in a few long arrays. As objects of their own a million of them are
// what collections of garbage walk over, and those are what the bench measures.

import type { Pair } from './storage-engines.ts';

const chunkBytes = 64 * 1024 * 1024;
/** Behind each key: with it, it is a key that is not there. */
const absentEnd = 1;

export class Pairs {
  readonly #chunks: Uint8Array[] = [];
  #used = chunkBytes;
  /** Of each pair: its chunk, where its key begins, how long that is, and how long its value is. */
  #places = new Uint32Array(4 * 1024);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Both together: up to a chunk of 64 MiB. */
  add(key: Uint8Array, value: Uint8Array): void {
    const bytes = key.length + 1 + value.length;
    if (this.#used + bytes > chunkBytes) {
      this.#chunks.push(new Uint8Array(chunkBytes));
      this.#used = 0;
    }
    const at = 4 * this.#length;
    if (at === this.#places.length) {
      const places = new Uint32Array(2 * at);
      places.set(this.#places);
      this.#places = places;
    }
    this.#places.set([this.#chunks.length - 1, this.#used, key.length, value.length], at);
    const chunk = this.#chunks[this.#chunks.length - 1] as Uint8Array;
    chunk.set(key, this.#used);
    chunk[this.#used + key.length] = absentEnd;
    chunk.set(value, this.#used + key.length + 1);
    this.#used += bytes;
    this.#length += 1;
  }

  /** A view, as the others. */
  key(n: number): Uint8Array {
    const from = this.#place(n, 1);
    return this.#chunk(n).subarray(from, from + this.#place(n, 2));
  }

  /** The key with one byte more, which no pair has. */
  absentKey(n: number): Uint8Array {
    const from = this.#place(n, 1);
    return this.#chunk(n).subarray(from, from + this.#place(n, 2) + 1);
  }

  value(n: number): Uint8Array {
    const from = this.#place(n, 1) + this.#place(n, 2) + 1;
    return this.#chunk(n).subarray(from, from + this.#place(n, 3));
  }

  /** Those of some numbers, up to the last one there is. */
  from(first: number, end = this.#length): readonly Pair[] {
    const pairs: Pair[] = [];
    for (let n = first; n < Math.min(end, this.#length); n += 1)
      pairs.push({ key: this.key(n), value: this.value(n) });
    return pairs;
  }

  #place(n: number, field: 1 | 2 | 3): number {
    return this.#places[4 * n + field] ?? 0;
  }

  #chunk(n: number): Uint8Array {
    return this.#chunks[this.#places[4 * n] ?? 0] as Uint8Array;
  }
}
