// farmhash behind a typed wrapper. Only fingerprint32 is used: unlike the package's hash*
// functions it is the same on every processor, so it may be stored and sent (tokens, bloom
// filters). The addon takes a Buffer or a string and refuses a plain Uint8Array; a view of one as a
// Buffer costs more than the hash (and moves a small array out of the heap), so short input is
// copied into a buffer of this module.

import farmhash from 'farmhash';

declare const Buffer: {
  alloc(length: number): Uint8Array;
  from(buffer: ArrayBufferLike, offset: number, length: number): Uint8Array;
  isBuffer(bytes: Uint8Array): boolean;
};

const native = (farmhash as unknown as { fingerprint32: (input: Uint8Array | string) => number })
  .fingerprint32;

const scratch = Buffer.alloc(128);
/** Element n: the first n bytes of the scratch. */
const scratchViews = Array.from({ length: scratch.length + 1 }, (_, length) =>
  scratch.subarray(0, length),
);

/** 32-bit farmhash fingerprint of `bytes`; about 170 ns a call, so compute it once and pass it on. */
export function fingerprint32(bytes: Uint8Array): number {
  if (Buffer.isBuffer(bytes)) return native(bytes);
  const view = scratchViews[bytes.length];
  if (view === undefined)
    return native(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  view.set(bytes);
  return native(view);
}

/** The same for text, as its UTF-8 bytes. */
export function fingerprint32Text(text: string): number {
  return native(text);
}
