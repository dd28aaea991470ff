// Where a list or scan goes on: an opaque text that holds the last key given out, and what it was
// given out for. It names no node and no file, so any node continues from it, also after restarts
// and moves (rule SC-1). The seal finds damage and what others have made up; the text is no secret
// and no permission.
//
//   offset  size  field
//        0     1  format version (2)
//        1     1  kind (1 list, 2 scan)
//        2     4  namespace
//        6     4  crc32 of the filter (the prefix)
//       10     8  when it was given out, milliseconds since 1970
//       18        last key
//      end    16  seal of all before

import { base64url, ByteReader, ByteWriter, crc32 } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';
import { type Sealer, tagBytes } from '../../runtime/seal.ts';
import { keyBytesMax } from '../model/record.ts';

export type CursorKind = 'list' | 'scan';

/** What a cursor belongs to: it goes on with nothing else. */
export interface CursorScope {
  readonly kind: CursorKind;
  readonly namespace: number;
  /** The prefix asked for. */
  readonly filter: Uint8Array;
}

export interface CursorSeal {
  readonly sealer: Sealer;
  /** Wall clock, milliseconds since 1970. */
  readonly nowMs: number;
}

const formatVersion = 2;
const headerBytes = 18;
const goodForHours = 24;
const kindNumbers = { list: 1, scan: 2 } as const satisfies Record<CursorKind, number>;

export function encodeCursor(
  { kind, namespace, filter }: CursorScope,
  lastKey: Uint8Array,
  { sealer, nowMs }: CursorSeal,
): string {
  const writer = new ByteWriter(headerBytes + lastKey.length);
  writer.u8(formatVersion);
  writer.u8(kindNumbers[kind]);
  writer.u32(namespace);
  writer.u32(crc32(filter));
  writer.u53(Math.floor(nowMs));
  writer.raw(lastKey);
  return base64url.encode(sealer.seal(writer.view()));
}

/**
 * The last key given out. BAD_REQUEST for a cursor that is damaged, too old, of another cluster, or
 * of another question.
 */
export function decodeCursor(
  text: string,
  { kind, namespace, filter }: CursorScope,
  { sealer, nowMs }: CursorSeal,
): Uint8Array {
  const bytes = text.length <= 2 * keyBytesMax ? base64url.decode(text) : undefined;
  if (bytes === undefined || bytes.length <= headerBytes + tagBytes)
    return refuse('it is not a cursor that this service gave out');
  const message = sealer.open(bytes);
  if (message === undefined) return refuse('it is damaged, or of another cluster');
  const reader = new ByteReader(message);
  if (reader.u8() !== formatVersion) return refuse('it is of another version of this service');
  if (reader.u8() !== kindNumbers[kind]) return refuse(`it was not given out by a ${kind}`);
  if (reader.u32() !== namespace) return refuse('it belongs to another namespace');
  if (reader.u32() !== crc32(filter)) return refuse('it belongs to another prefix');
  if (nowMs - reader.u53() > goodForHours * 3_600_000)
    return refuse(`it is older than ${goodForHours} hours`);
  return message.slice(headerBytes);
}

function refuse(why: string): never {
  throw new KvError('BAD_REQUEST', {
    field: 'cursor',
    detail: `cursor: ${why}; start again without a cursor`,
  });
}
