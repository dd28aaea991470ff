// Bytes that this service gives out and takes back unchanged: a message with an HMAC-SHA-256 tag
// (RFC 2104, FIPS 198-1), cut to 128 bits as RFC 2104 section 5 allows. Who does not have the
// secret can neither make nor change one. The message itself is readable: it is no encryption.

import { createHmac, timingSafeEqual } from 'node:crypto';
import { concatBytes } from './bytes.ts';

export const tagBytes = 16;

export class Sealer {
  readonly #secret: string;

  /** `secret`: any text; every node that should take the other's seals needs the same. */
  constructor(secret: string) {
    this.#secret = secret;
  }

  /** The message with its tag after it. */
  seal(message: Uint8Array): Uint8Array {
    return concatBytes([message, this.#tag(message)]);
  }

  /** The message; undefined where the tag is not of this message and secret. */
  open(sealed: Uint8Array): Uint8Array | undefined {
    if (sealed.length < tagBytes) return undefined;
    const message = sealed.subarray(0, sealed.length - tagBytes);
    return timingSafeEqual(sealed.subarray(message.length), this.#tag(message))
      ? message
      : undefined;
  }

  #tag(message: Uint8Array): Uint8Array {
    return createHmac('sha256', this.#secret).update(message).digest().subarray(0, tagBytes);
  }
}
