// A small text in a file of its own, and whether it is whole: the text on one line, its CRC-32 in
// decimal digits on the next.

import { crc32, utf8 } from '../../runtime/bytes.ts';

export const sealText = (text: string): Uint8Array =>
  utf8.encode(`${text}\n${String(crc32(utf8.encode(text)))}\n`);

/** Undefined where it fails its checksum. */
export function openText(bytes: Uint8Array): string | undefined {
  const [text = '', checksum = ''] = utf8.decode(bytes).split('\n');
  return String(crc32(utf8.encode(text))) === checksum ? text : undefined;
}
