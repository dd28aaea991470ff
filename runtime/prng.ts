// Seeded pseudo-random numbers (sfc32, by Chris Doty-Humphrey, PractRand). A generator is forked
// by name: the fork depends on the parent's seed and the name alone, never on how many numbers
// were drawn, so adding a draw in one place does not shift the others (rule SIM-6).

import type { Random } from './environment.ts';

function mix(hash: number, value: number): number {
  let h = Math.imul(hash ^ value, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

export class Prng implements Random {
  readonly #seed: number;
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  /** `seed`: a safe integer. */
  constructor(seed: number) {
    this.#seed = seed;
    this.#a = mix(0x9e3779b9, seed >>> 0);
    this.#b = mix(this.#a, Math.floor(seed / 0x1_0000_0000) >>> 0);
    this.#c = mix(this.#b, 0x6a09e667);
    for (let i = 0; i < 12; i += 1) this.u32();
  }

  u32(): number {
    const t = (((this.#a + this.#b) | 0) + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (this.#c << 21) | (this.#c >>> 11);
    this.#c = (this.#c + t) | 0;
    return t >>> 0;
  }

  /** From 0 to below 1, 32 bits of it. */
  float(): number {
    return this.u32() / 0x1_0000_0000;
  }

  /** A whole number from 0 to below `bound`; 0 where the bound is not positive. */
  int(bound: number): number {
    return bound <= 0 ? 0 : Math.floor(this.float() * bound);
  }

  /** A whole number from `low` to `high`, both included. */
  between(low: number, high: number): number {
    return low + this.int(high - low + 1);
  }

  chance(probability: number): boolean {
    return this.float() < probability;
  }

  /** Exponentially distributed with the given mean. */
  exponential(mean: number): number {
    return -mean * Math.log(1 - this.float());
  }

  /** Uniform in the logarithm: every order of magnitude between is as likely. */
  logUniform(low: number, high: number): number {
    return low * Math.exp(this.float() * Math.log(high / low));
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.int(items.length)];
    if (item === undefined) throw new RangeError('pick from an empty list');
    return item;
  }

  shuffled<T>(items: readonly T[]): T[] {
    const copy = [...items];
    for (let i = copy.length - 1; i > 0; i -= 1) {
      const j = this.int(i + 1);
      const held = copy[i] as T;
      copy[i] = copy[j] as T;
      copy[j] = held;
    }
    return copy;
  }

  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i += 1) bytes[i] = this.u32() & 0xff;
    return bytes;
  }

  fork(name: string): Prng {
    let low = mix(this.#seed >>> 0, 0x51ed270b);
    let high = mix(Math.floor(this.#seed / 0x1_0000_0000) >>> 0, 0x2545f491);
    for (let i = 0; i < name.length; i += 1) {
      low = mix(low, name.charCodeAt(i));
      high = mix(high, low);
    }
    return new Prng((high & 0x1fffff) * 0x1_0000_0000 + low);
  }
}
