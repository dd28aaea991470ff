// farmhash behind a typed wrapper. Only fingerprint32 is used: unlike the package's hash*
// functions it is the same on every processor, so it may be stored and sent (tokens, bloom
// filters). The addon takes a Buffer or a string and refuses a plain Uint8Array, hence the view.

import farmhash from 'farmhash';

declare const Buffer: {
  from(buffer: ArrayBufferLike, offset: number, length: number): Uint8Array;
  isBuffer(bytes: Uint8Array): boolean;
};

const native = (farmhash as unknown as { fingerprint32: (input: Uint8Array | string) => number })
  .fingerprint32;

/** 32-bit farmhash fingerprint of `bytes`; about 170 ns a call, so compute it once and pass it on. */
export function fingerprint32(bytes: Uint8Array): number {
  return native(
    Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength),
  );
}

/** The same for text, as its UTF-8 bytes. */
export function fingerprint32Text(text: string): number {
  return native(text);
}
