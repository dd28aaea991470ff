// A small file of bytes, and whether it is whole: its CRC-32 stands at the end. For what is text,
// sealed-text.ts does the same in a form that people can read.

import { ByteReader, type ByteWriter, crc32 } from '../../runtime/bytes.ts';

const crcBytes = 4;

/** All that was written, sealed. */
export function sealBytes(writer: ByteWriter): Uint8Array {
  writer.u32(crc32(writer.view()));
  return writer.copy();
}

/** What was sealed; undefined where it fails its checksum. */
export function openBytes(bytes: Uint8Array): Uint8Array | undefined {
  const end = bytes.length - crcBytes;
  if (end < 0) return undefined;
  const content = bytes.subarray(0, end);
  return new ByteReader(bytes, end).u32() === crc32(content) ? content : undefined;
}
