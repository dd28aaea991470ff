// Files that hold nothing but the name of another one (CURRENT, NEWEST): one line, the name, its
// CRC-32 and a newline, so that a part of it is no name.

import { crc32, utf8 } from '../../runtime/bytes.ts';

export function encodeSealedName(name: string): Uint8Array {
  const crc = crc32(utf8.encode(name)).toString(16).padStart(8, '0');
  return utf8.encode(`${name} ${crc}\n`);
}

/** Undefined where the bytes are damaged or cut short. */
export function decodeSealedName(bytes: Uint8Array): string | undefined {
  const text = utf8.decode(bytes);
  const [name = ''] = text.split(' ', 1);
  return utf8.decode(encodeSealedName(name)) === text ? name : undefined;
}
