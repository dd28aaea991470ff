// Bearer tokens: texts that give access to whoever shows them. A token is made here, never chosen by
// a person: 64 bits name it and 256 bits are secret, so its plain SHA-256 may be stored (there is
// nothing to guess from it, where a password would need scrypt), and looking it up by its name tells
// nothing about the secret. Hashes are compared in a time that does not depend on where they differ.
//
// Reference: RFC 6750 (bearer tokens); rule SE-12.

import { createHash, timingSafeEqual } from 'node:crypto';

export interface MintedToken {
  /** To be shown once and kept nowhere. */
  readonly text: string;
  readonly id: string;
  readonly hash: string;
}

const idBytes = 8;
const secretBytes = 32;
/** Random bytes that a token is made of. */
export const tokenBytes = idBytes + secretBytes;
/** Longer texts are no tokens, and nothing is computed for them. */
export const tokenLengthMax = 512;

const hexOf = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

const fromHex = (text: string): Uint8Array =>
  Uint8Array.from({ length: text.length / 2 }, (_, i) =>
    Number.parseInt(text.slice(2 * i, 2 * i + 2), 16),
  );

const pattern = /^kvd_([0-9a-f]{16})_[0-9a-f]{64}$/;
const hashPattern = /^[0-9a-f]{64}$/;
const idPattern = /^[0-9a-f]{16}$/;

/** `random`: tokenBytes of them, from a source that nobody can predict. */
export function mintToken(random: Uint8Array): MintedToken {
  const id = hexOf(random.subarray(0, idBytes));
  const text = `kvd_${id}_${hexOf(random.subarray(idBytes, tokenBytes))}`;
  return { text, id, hash: tokenHash(text) };
}

/** The name of a token; undefined for a text that is none. */
export function tokenId(text: string): string | undefined {
  return text.length > tokenLengthMax ? undefined : pattern.exec(text)?.[1];
}

export const isTokenId = (value: unknown): value is string =>
  typeof value === 'string' && idPattern.test(value);

export const isTokenHash = (value: unknown): value is string =>
  typeof value === 'string' && hashPattern.test(value);

/** SHA-256 in hex. */
export const tokenHash = (text: string): string => hexOf(digestOf(text));

const digestOf = (text: string): Uint8Array => createHash('sha256').update(text).digest();

/** Whether `text` is the token with this hash. */
export function matchesHash(text: string, hash: string): boolean {
  if (text.length > tokenLengthMax || !isTokenHash(hash)) return false;
  return timingSafeEqual(digestOf(text), fromHex(hash));
}
