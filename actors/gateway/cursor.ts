// Where a list or scan goes on: an opaque text that holds the last key given out, and what it was
// given out for. It names no node and no file, so any node continues from it, also after restarts
// and moves (rule SC-1). The checksum finds damage; it is no secret and no permission.
//
//   offset  size  field
//        0     1  format version (1)
//        1     1  kind (1 list, 2 scan)
//        2     4  namespace
//        6     4  crc32 of the filter (the prefix)
//       10        last key
//      end     4  crc32 of all before

import { base64url, ByteReader, ByteWriter, crc32 } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';
import { keyBytesMax } from '../model/record.ts';

export type CursorKind = 'list' | 'scan';

/** What a cursor belongs to: it goes on with nothing else. */
export interface CursorScope {
  readonly kind: CursorKind;
  readonly namespace: number;
  /** The prefix asked for. */
  readonly filter: Uint8Array;
}

const formatVersion = 1;
const headerBytes = 10;
const checksumBytes = 4;
const kindNumbers = { list: 1, scan: 2 } as const satisfies Record<CursorKind, number>;

export function encodeCursor(
  { kind, namespace, filter }: CursorScope,
  lastKey: Uint8Array,
): string {
  const writer = new ByteWriter(headerBytes + lastKey.length + checksumBytes);
  writer.u8(formatVersion);
  writer.u8(kindNumbers[kind]);
  writer.u32(namespace);
  writer.u32(crc32(filter));
  writer.raw(lastKey);
  writer.u32(crc32(writer.view()));
  return base64url.encode(writer.view());
}

/** The last key given out. BAD_REQUEST for a damaged cursor and for one of another question. */
export function decodeCursor(text: string, { kind, namespace, filter }: CursorScope): Uint8Array {
  const bytes = text.length <= 2 * keyBytesMax ? base64url.decode(text) : undefined;
  if (bytes === undefined || bytes.length <= headerBytes + checksumBytes)
    return refuse('it is not a cursor that this service gave out');
  const body = bytes.subarray(0, bytes.length - checksumBytes);
  const reader = new ByteReader(bytes);
  if (new ByteReader(bytes.subarray(body.length)).u32() !== crc32(body))
    return refuse('it is damaged: its checksum does not match');
  if (reader.u8() !== formatVersion) return refuse('it is of another version of this service');
  if (reader.u8() !== kindNumbers[kind]) return refuse(`it was not given out by a ${kind}`);
  if (reader.u32() !== namespace) return refuse('it belongs to another namespace');
  if (reader.u32() !== crc32(filter)) return refuse('it belongs to another prefix');
  return body.slice(headerBytes);
}

function refuse(why: string): never {
  throw new KvError('BAD_REQUEST', {
    field: 'cursor',
    detail: `cursor: ${why}; start again without a cursor`,
  });
}
