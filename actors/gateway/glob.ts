// Glob patterns over bytes, as KEYS and SCAN of Redis take them: `*`, `?`, `[abc]`, `[^a]`, `[a-z]`
// and `\` before a byte that stands for itself. Reference: redis/redis src/util.c, stringmatchlen,
// whose recursion is exponential in the stars.
//
// A pattern is compiled once, into an automaton of bits: bit i of the state says that the first i
// parts of the pattern (whatever takes one byte) match what was read so far. A byte moves all bits by
// one at the same time, through the mask of parts that take it; a bit behind a star also stays where
// it is. So a text of n bytes costs at most n * (p / 32 + 1) steps for p parts, whatever is in them,
// and nothing is ever tried again; compiling costs at most 256 steps for each part. With both lengths
// bounded by 1 KiB that is 33,000 steps for a key (rule SE-23).
// Reference: Baeza-Yates and Gonnet, "A new approach to text searching", 1992.

import { KvError } from '../../runtime/errors.ts';

const star = 0x2a;
const question = 0x3f;
const open = 0x5b;
const close = 0x5d;
const caret = 0x5e;
const backslash = 0x5c;
const dash = 0x2d;

/** Longest pattern, bytes: as long as the longest key. */
export const globBytesMax = 1024;

const byteValues = 256;

export class Glob {
  /** What every match starts with: the literal bytes before the first special one. */
  readonly prefix: Uint8Array;
  readonly #words: number;
  readonly #parts: number;
  /** The parts that take a byte: a row of bits for each of the 256. */
  readonly #masks: Uint32Array;
  /** Where a star stands: before part i, or behind the last one. */
  readonly #stars: Uint32Array;
  /** Of the text that is looked at. */
  readonly #state: Uint32Array;

  /** TOO_LARGE where the pattern is longer than `globBytesMax`. */
  constructor(pattern: Uint8Array) {
    if (pattern.length > globBytesMax) {
      const detail = `a pattern has at most ${globBytesMax} bytes`;
      throw new KvError('TOO_LARGE', { detail });
    }
    this.prefix = prefixOf(pattern);
    const words = (pattern.length >>> 5) + 1;
    const masks = new Uint32Array(byteValues * words);
    const stars = new Uint32Array(words);
    let part = 0;
    for (let at = 0; at < pattern.length; ) {
      if (pattern[at] === star) {
        setBit(stars, part);
        at += 1;
        continue;
      }
      const { bytes, next } = readPart(pattern, at);
      for (let byte = 0; byte < byteValues; byte += 1)
        if (bytes[byte] === 1) setBit(masks, byte * words * 32 + part);
      at = next;
      part += 1;
    }
    this.#words = words;
    this.#parts = part;
    this.#masks = masks;
    this.#stars = stars;
    this.#state = new Uint32Array(words);
  }

  matches(text: Uint8Array): boolean {
    const words = this.#words;
    const masks = this.#masks;
    const stars = this.#stars;
    const state = this.#state.fill(0);
    state[0] = 1;
    for (const byte of text) {
      const row = byte * words;
      let carry = 0;
      let isAlive = 0;
      for (let i = 0; i < words; i += 1) {
        const bits = state[i] as number;
        const moved = bits & (masks[row + i] as number);
        const now = (moved << 1) | carry | (bits & (stars[i] as number));
        carry = moved >>> 31;
        state[i] = now;
        isAlive |= now;
      }
      if (isAlive === 0) return false;
    }
    return hasBit(state, this.#parts);
  }
}

const setBit = (bits: Uint32Array, at: number): void => {
  bits[at >>> 5] = (bits[at >>> 5] as number) | (1 << (at & 31));
};

const hasBit = (bits: Uint32Array, at: number): boolean =>
  (((bits[at >>> 5] as number) >>> (at & 31)) & 1) === 1;

/** What takes one byte: which ones (1 at their place), and where the pattern goes on. */
interface Part {
  readonly bytes: Uint8Array;
  readonly next: number;
}

function readPart(pattern: Uint8Array, at: number): Part {
  const first = pattern[at] as number;
  if (first === open) return readClass(pattern, at + 1);
  const bytes = new Uint8Array(byteValues);
  if (first === question) return { bytes: bytes.fill(1), next: at + 1 };
  const isEscape = first === backslash && at + 1 < pattern.length;
  bytes[isEscape ? (pattern[at + 1] as number) : first] = 1;
  return { bytes, next: at + (isEscape ? 2 : 1) };
}

/** A class without an end goes to the end of the pattern. */
function readClass(pattern: Uint8Array, start: number): Part {
  const bytes = new Uint8Array(byteValues);
  let at = start;
  const isNegated = pattern[at] === caret;
  if (isNegated) at += 1;
  while (at < pattern.length && pattern[at] !== close) {
    const isEscape = pattern[at] === backslash && at + 1 < pattern.length;
    if (isEscape) at += 1;
    const low = pattern[at] as number;
    // An escaped byte begins no range.
    if (!isEscape && pattern[at + 1] === dash && at + 2 < pattern.length) {
      const high = pattern[at + 2] as number;
      bytes.fill(1, Math.min(low, high), Math.max(low, high) + 1);
      at += 3;
    } else {
      bytes[low] = 1;
      at += 1;
    }
  }
  if (isNegated) for (let i = 0; i < byteValues; i += 1) bytes[i] = 1 - (bytes[i] as number);
  return { bytes, next: Math.min(at + 1, pattern.length) };
}

function prefixOf(pattern: Uint8Array): Uint8Array {
  const prefix: number[] = [];
  for (let at = 0; at < pattern.length; at += 1) {
    const byte = pattern[at] as number;
    if (byte === star || byte === question || byte === open) break;
    if (byte === backslash && at + 1 < pattern.length) at += 1;
    prefix.push(pattern[at] as number);
  }
  return Uint8Array.from(prefix);
}
