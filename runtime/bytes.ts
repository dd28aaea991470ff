// Byte-level tools that every format uses: comparison, UTF-8, base64url, checksums, a growing
// writer and a bounded reader. Little-endian throughout. Integers above 32 bits travel as two
// halves, so that nothing needs BigInt; they are safe integers (below 2^53) by contract.

import { crc32 as nativeCrc32 } from 'node:zlib';
import { BugError, KvError } from './errors.ts';

declare const TextEncoder: new () => {
  encode(text: string): Uint8Array<ArrayBuffer>;
  encodeInto(text: string, into: Uint8Array): { read: number; written: number };
};
declare const TextDecoder: new (
  label: string,
  options?: { fatal?: boolean; ignoreBOM?: boolean },
) => { decode(bytes: Uint8Array): string };

const encoder = new TextEncoder();
const lossyDecoder = new TextDecoder('utf-8', { ignoreBOM: true });
const strictDecoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export const noBytes = new Uint8Array(0);

/** About what an array of bytes costs beside them, also an empty one. */
export const arrayOverheadBytes = 64;

/** Gives an array of that length to be filled; it may hold what was there before. */
export type TakeBytes = (length: number) => Uint8Array;

/** A new one each time. */
export const ownBytes: TakeBytes = (length) => new Uint8Array(length);

/**
 * The next multiple of 8. V8 copies to and from shared memory by words where both sides begin at one,
 * else byte by byte.
 */
export const wordAligned = (length: number): number => (length + 7) & ~7;

/** 2^32: the weight of the high half of a 53-bit integer. */
export const high32 = 0x1_0000_0000;

export const utf8 = {
  encode: (text: string): Uint8Array => encoder.encode(text),
  /** Replaces what is no UTF-8: for people, never for data. */
  decode: (bytes: Uint8Array): string => lossyDecoder.decode(bytes),
  /** Undefined where the bytes are no UTF-8: for data. */
  decodeStrict(bytes: Uint8Array): string | undefined {
    try {
      return strictDecoder.decode(bytes);
    } catch {
      return undefined;
    }
  },
};

/** CRC-32 (IEEE 802.3) of `bytes`, continuing from `seed`. Native: 4.5 GB/s on 16 KiB. */
export function crc32(bytes: Uint8Array, seed = 0): number {
  // zlib answers 0, not the seed, for an empty view whose buffer has no memory.
  return bytes.length === 0 ? seed : nativeCrc32(bytes, seed);
}

/** Negative, zero or positive as `a` sorts before, with or after `b`, byte by byte. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const shared = a.length < b.length ? a.length : b.length;
  for (let i = 0; i < shared; i += 1) {
    const difference = (a[i] as number) - (b[i] as number);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

/** How many bytes both begin with alike. */
export function sharedLength(a: Uint8Array, b: Uint8Array): number {
  const most = a.length < b.length ? a.length : b.length;
  let shared = 0;
  while (shared < most && a[shared] === b[shared]) shared += 1;
  return shared;
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && compareBytes(a, b) === 0;
}

export function startsWith(bytes: Uint8Array, prefix: Uint8Array): boolean {
  if (bytes.length < prefix.length) return false;
  for (let i = 0; i < prefix.length; i += 1) if (bytes[i] !== prefix[i]) return false;
  return true;
}

/** One character for each byte: equal texts for equal bytes, as the key of a Map. */
export function latin1(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

export function concatBytes(parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const joined = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** The lowest bytes above `bytes`. */
export function justAfter(bytes: Uint8Array): Uint8Array {
  const next = new Uint8Array(bytes.length + 1);
  next.set(bytes);
  return next;
}

/** The first bytes after every key that starts with `prefix`; undefined where there is none. */
export function prefixEnd(prefix: Uint8Array): Uint8Array | undefined {
  let length = prefix.length;
  while (length > 0 && prefix[length - 1] === 0xff) length -= 1;
  if (length === 0) return undefined;
  const end = prefix.slice(0, length);
  end[length - 1] = (end[length - 1] as number) + 1;
  return end;
}

const digits = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

export const base64url = {
  encode(bytes: Uint8Array): string {
    let text = '';
    for (let i = 0; i < bytes.length; i += 3) {
      const left = bytes.length - i;
      const a = bytes[i] as number;
      const b = left > 1 ? (bytes[i + 1] as number) : 0;
      const c = left > 2 ? (bytes[i + 2] as number) : 0;
      text += digits.charAt(a >> 2) + digits.charAt(((a & 3) << 4) | (b >> 4));
      if (left > 1) text += digits.charAt(((b & 15) << 2) | (c >> 6));
      if (left > 2) text += digits.charAt(c & 63);
    }
    return text;
  },
  /** Undefined where the text is not base64url without padding. */
  decode(text: string): Uint8Array | undefined {
    if (text.length % 4 === 1) return undefined;
    const bytes = new Uint8Array(Math.floor((text.length * 3) / 4));
    let at = 0;
    let bits = 0;
    let held = 0;
    for (let i = 0; i < text.length; i += 1) {
      const digit = digits.indexOf(text.charAt(i));
      if (digit < 0) return undefined;
      held = ((held << 6) | digit) & 0xffffff;
      bits += 6;
      if (bits >= 8) {
        bits -= 8;
        bytes[at++] = (held >> bits) & 0xff;
      }
    }
    return bytes;
  },
};

/** Appends little-endian values to a buffer that grows by doubling and is reused after `reset`. */
export class ByteWriter {
  #bytes: Uint8Array;
  #view: DataView;
  #length = 0;

  constructor(capacity = 1024) {
    this.#bytes = new Uint8Array(capacity);
    this.#view = new DataView(this.#bytes.buffer);
  }

  get length(): number {
    return this.#length;
  }

  reset(): void {
    this.#length = 0;
  }

  /** Forgets everything after `length`. */
  truncate(length: number): void {
    if (length > this.#length) throw new BugError('truncate beyond the end');
    this.#length = length;
  }

  /** A view of what was written; valid until the next write. */
  view(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  copy(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  /** Makes room for `count` more bytes and returns where they start. */
  reserve(count: number): number {
    const at = this.#length;
    const needed = at + count;
    if (needed > this.#bytes.length) {
      let capacity = this.#bytes.length * 2;
      while (capacity < needed) capacity *= 2;
      const grown = new Uint8Array(capacity);
      grown.set(this.#bytes.subarray(0, at));
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    this.#length = needed;
    return at;
  }

  u8(value: number): void {
    const at = this.reserve(1);
    this.#bytes[at] = value;
  }

  u16(value: number): void {
    const at = this.reserve(2);
    this.#view.setUint16(at, value, true);
  }

  u32(value: number): void {
    const at = this.reserve(4);
    this.#view.setUint32(at, value, true);
  }

  /** A safe integer from 0 to 2^53 - 1, in 8 bytes. */
  u53(value: number): void {
    const at = this.reserve(8);
    this.#view.setUint32(at, value >>> 0, true);
    this.#view.setUint32(at + 4, (value / high32) >>> 0, true);
  }

  f64(value: number): void {
    const at = this.reserve(8);
    this.#view.setFloat64(at, value, true);
  }

  /** An integer below 2^53 in 1 to 8 bytes, seven bits each, lowest first. */
  varint(value: number): void {
    let rest = value;
    while (rest >= 0x80) {
      this.u8((rest & 0x7f) | 0x80);
      rest = rest < high32 ? rest >>> 7 : Math.floor(rest / 128);
    }
    this.u8(rest);
  }

  raw(bytes: Uint8Array): void {
    const at = this.reserve(bytes.length);
    this.#bytes.set(bytes, at);
  }

  /** Length in 4 bytes, then the bytes. */
  bytes(bytes: Uint8Array): void {
    this.u32(bytes.length);
    this.raw(bytes);
  }

  /** UTF-8 with its length in 4 bytes. */
  text(text: string): void {
    const lengthAt = this.reserve(4);
    const at = this.reserve(text.length * 3);
    const { written } = encoder.encodeInto(text, this.#bytes.subarray(at));
    this.#view.setUint32(lengthAt, written, true);
    this.#length = at + written;
  }

  setU32(at: number, value: number): void {
    this.#view.setUint32(at, value, true);
  }
}

/** Reads what ByteWriter wrote. Every read is checked: cut input is BAD_REQUEST, never a crash. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at: number;
  readonly #end: number;

  constructor(bytes: Uint8Array, at = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#at = at;
    this.#end = end;
  }

  get at(): number {
    return this.#at;
  }

  get left(): number {
    return this.#end - this.#at;
  }

  #take(count: number): number {
    const at = this.#at;
    if (count > this.#end - at)
      throw new KvError('BAD_REQUEST', {
        detail: `message cut short: ${count} bytes needed, ${this.#end - at} left`,
      });
    this.#at = at + count;
    return at;
  }

  u8(): number {
    return this.#bytes[this.#take(1)] as number;
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2), true);
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  u53(): number {
    const at = this.#take(8);
    return this.#view.getUint32(at, true) + this.#view.getUint32(at + 4, true) * high32;
  }

  f64(): number {
    return this.#view.getFloat64(this.#take(8), true);
  }

  varint(): number {
    let value = 0;
    let weight = 1;
    for (let i = 0; i < 8; i += 1) {
      const byte = this.u8();
      value += (byte & 0x7f) * weight;
      if (byte < 0x80) return value;
      weight *= 128;
    }
    throw new KvError('BAD_REQUEST', { detail: 'varint longer than 8 bytes' });
  }

  /** A copy of the next `count` bytes. */
  raw(count: number): Uint8Array {
    const at = this.#take(count);
    return this.#bytes.slice(at, at + count);
  }

  /** A view of the next `count` bytes: valid as long as the input is. */
  rawView(count: number): Uint8Array {
    const at = this.#take(count);
    return this.#bytes.subarray(at, at + count);
  }

  bytes(): Uint8Array {
    return this.raw(this.u32());
  }

  text(): string {
    const at = this.#take(this.u32());
    return utf8.decode(this.#bytes.subarray(at, this.#at));
  }
}
