// The trace hash of a run (rule RP-1): everything that happens is mixed into a rolling hash, in
// order. Two runs of one seed are the same run exactly when their hashes are equal. Every 1,000
// entries the hash is kept as a checkpoint, so that two runs can be compared down to the first
// entry that differs.

import { utf8, crc32 } from '../runtime/bytes.ts';

const checkpointEvery = 1_000;
const microsPerHalf = 0x1_0000_0000;

/** Entries with numbers from `from` to below `to` are kept as text. */
export interface TraceWindow {
  readonly from: number;
  readonly to: number;
}

export class Trace {
  readonly #checkpoints: number[] = [];
  readonly #lines: string[] = [];
  readonly #names = new Map<string, number>();
  readonly #window: TraceWindow | undefined;
  #a = 0x6a09e667;
  #b = 0xbb67ae85;
  #entries = 0;

  constructor(window?: TraceWindow) {
    this.#window = window;
  }

  /** Entries so far. */
  get entries(): number {
    return this.#entries;
  }

  /** 53 bits of the rolling hash. */
  get hash(): number {
    return (this.#a & 0x1fffff) * microsPerHalf + (this.#b >>> 0);
  }

  get text(): string {
    return this.hash.toString(16).padStart(14, '0');
  }

  get checkpoints(): readonly number[] {
    return this.#checkpoints;
  }

  /** The entries of the window as text. */
  get lines(): readonly string[] {
    return this.#lines;
  }

  /** One thing that happened. `payload`: a 32-bit hash of its content. */
  record(timeMicros: number, node: string, kind: string, payload: number): void {
    this.mix(timeMicros >>> 0);
    this.mix((timeMicros / microsPerHalf) >>> 0);
    this.mix(this.#nameHash(node));
    this.mix(this.#nameHash(kind));
    this.mix(payload);
    const number = this.#entries;
    this.#entries += 1;
    if (this.#window !== undefined && number >= this.#window.from && number < this.#window.to)
      this.#lines.push(`#${number} ${timeMicros / 1000}ms ${node} ${kind} ${payload.toString(16)}`);
    if (this.#entries % checkpointEvery === 0) this.#checkpoints.push(this.hash);
  }

  /** Mixes a number in without counting an entry: random draws. */
  mix(value: number): void {
    let a = Math.imul(this.#a ^ value, 0x85ebca6b);
    a = (a << 13) | (a >>> 19);
    this.#a = (Math.imul(a, 5) + 0xe6546b64) | 0;
    this.#b = (Math.imul(this.#b ^ (this.#a >>> 15), 0xc2b2ae35) + value) | 0;
  }

  #nameHash(name: string): number {
    let hash = this.#names.get(name);
    if (hash === undefined) {
      hash = textHash(name);
      this.#names.set(name, hash);
    }
    return hash;
  }
}

/** A 32-bit hash of text, for payloads. */
export function textHash(text: string): number {
  return crc32(utf8.encode(text));
}

/**
 * The number of the first checkpoint that differs between two runs; undefined where the shorter
 * one is a prefix of the other.
 */
export function firstDifference(a: readonly number[], b: readonly number[]): number | undefined {
  const shared = Math.min(a.length, b.length);
  for (let i = 0; i < shared; i += 1) if (a[i] !== b[i]) return i;
  return undefined;
}

/** The entries that lie before checkpoint `index`. */
export function windowOf(index: number): TraceWindow {
  return { from: index * checkpointEvery, to: (index + 1) * checkpointEvery };
}
