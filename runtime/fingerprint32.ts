// FarmHash's 32-bit fingerprint in plain TypeScript, equal to the native one on every input: for
// places where no addon should be needed (the client library, building a ring). Written from the
// description of farmhashmk in FarmHash (Google, 2014, farmhash.cc); tested against the package.
// All arithmetic is modulo 2^32; words are read little-endian.

import { utf8 } from './bytes.ts';

const c1 = 0xcc9e2d51;
const c2 = 0x1b873593;
const m5 = 0xe6546b64;

const rotate = (value: number, bits: number): number => (value >>> bits) | (value << (32 - bits));

function word(bytes: Uint8Array, at: number): number {
  return (
    (bytes[at] as number) |
    ((bytes[at + 1] as number) << 8) |
    ((bytes[at + 2] as number) << 16) |
    ((bytes[at + 3] as number) << 24)
  );
}

/** Mixes one word into the hash. */
function mur(value: number, hash: number): number {
  const mixed = Math.imul(rotate(Math.imul(value, c1), 17), c2);
  return (Math.imul(rotate(hash ^ mixed, 19), 5) + m5) | 0;
}

function finalMix(value: number): number {
  let h = value ^ (value >>> 16);
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

function upTo4(bytes: Uint8Array): number {
  let b = 0;
  let c = 9;
  for (const byte of bytes) {
    b = (Math.imul(b, c1) + ((byte << 24) >> 24)) | 0;
    c ^= b;
  }
  return finalMix(mur(b, mur(bytes.length, c)));
}

function upTo12(bytes: Uint8Array): number {
  const { length } = bytes;
  const a = (length + word(bytes, 0)) | 0;
  const b = (length * 5 + word(bytes, length - 4)) | 0;
  const c = (9 + word(bytes, (length >>> 1) & 4)) | 0;
  return finalMix(mur(c, mur(b, mur(a, length * 5))));
}

function upTo24(bytes: Uint8Array): number {
  const { length } = bytes;
  const half = length >>> 1;
  const b = word(bytes, 4);
  const c = word(bytes, length - 8);
  const d = word(bytes, half);
  const e = word(bytes, 0);
  const f = word(bytes, length - 4);
  let a = (rotate(word(bytes, half - 4), 12) + f) | 0;
  let h = (Math.imul(d, c1) + length) | 0;
  h = (mur(c, h) + a) | 0;
  a = (rotate(a, 3) + c) | 0;
  h = (mur(e, h) + a) | 0;
  a = (rotate((a + f) | 0, 12) + d) | 0;
  h = (mur(b, h) + a) | 0;
  return finalMix(h);
}

const scrambled = (bytes: Uint8Array, fromEnd: number): number =>
  Math.imul(rotate(Math.imul(word(bytes, bytes.length - fromEnd), c1), 17), c2);

const folded = (hash: number, value: number): number =>
  (Math.imul(rotate(hash ^ value, 19), 5) + m5) | 0;

const spun = (value: number): number => Math.imul(rotate(Math.imul(rotate(value, 11), c1), 17), c1);

const joined = (hash: number, value: number): number =>
  Math.imul(rotate((Math.imul(rotate((hash + value) | 0, 19), 5) + m5) | 0, 17), c1);

function longer(bytes: Uint8Array): number {
  const { length } = bytes;
  let h = folded(folded(length, scrambled(bytes, 4)), scrambled(bytes, 16));
  let g = folded(folded(Math.imul(c1, length), scrambled(bytes, 8)), scrambled(bytes, 12));
  let f = (Math.imul(c1, length) + scrambled(bytes, 20)) | 0;
  f = (rotate(f, 19) + 113) | 0;
  const rounds = Math.floor((length - 1) / 20);
  for (let at = 0; at < rounds * 20; at += 20) {
    const a = word(bytes, at);
    const b = word(bytes, at + 4);
    const c = word(bytes, at + 8);
    const d = word(bytes, at + 12);
    const e = word(bytes, at + 16);
    h = (mur(d, (h + a) | 0) + e) | 0;
    g = (mur(c, (g + b) | 0) + a) | 0;
    f = (mur((b + Math.imul(e, c1)) | 0, (f + c) | 0) + d) | 0;
    f = (f + g) | 0;
    g = (g + f) | 0;
  }
  return joined(joined(h, spun(g)), spun(f)) >>> 0;
}

/** 0 to 2^32 - 1, the same on every machine. */
export function fingerprint32Pure(bytes: Uint8Array): number {
  if (bytes.length <= 4) return upTo4(bytes);
  if (bytes.length <= 12) return upTo12(bytes);
  return bytes.length <= 24 ? upTo24(bytes) : longer(bytes);
}

/** The same for text, as its UTF-8 bytes. */
export function fingerprint32PureText(text: string): number {
  return fingerprint32Pure(utf8.encode(text));
}
