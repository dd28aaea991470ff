// A file of hints for one node: frames one after the other, written once and read once.
//
//   frame   u32 length of the body, u32 CRC-32 of the body, body
//   body    u53 when it was created (milliseconds since 1970; + 2^52 where something counts on it),
//           then the record's bytes
//
// A frame that fails its checksum is left out and the next one is read; where a length makes no
// sense the file ends (HH-9). Repair finds what is lost.

import { ByteReader, ByteWriter, crc32 } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';
import { checkRecord, recordBytesMax } from '../model/record.ts';

export interface Hint {
  /** Milliseconds since 1970, by the clock of the node that keeps it. */
  readonly createdMs: number;
  /** A batch that was completed or a write at ANY counts on it: the window does not end it. */
  readonly isCounted: boolean;
  readonly record: Uint8Array;
}

const countedBit = 2 ** 52;
const headerBytes = 8;
const createdBytes = 8;

/** Bytes of a hint on disk. */
export const hintBytes = (record: Uint8Array): number => headerBytes + createdBytes + record.length;

export function encodeHint({ createdMs, isCounted, record }: Hint): Uint8Array {
  const body = new ByteWriter(createdBytes + record.length);
  body.u53(createdMs + (isCounted ? countedBit : 0));
  body.raw(record);
  const frame = new ByteWriter(headerBytes + body.length);
  frame.u32(body.length);
  frame.u32(crc32(body.view()));
  frame.raw(body.view());
  return frame.copy();
}

/** All hints that can be read, oldest first, and how many frames could not. */
export function decodeHints(bytes: Uint8Array): { hints: Hint[]; damaged: number } {
  const hints: Hint[] = [];
  let damaged = 0;
  let at = 0;
  while (at + headerBytes <= bytes.length) {
    const reader = new ByteReader(bytes, at);
    const length = reader.u32();
    const checksum = reader.u32();
    const end = at + headerBytes + length;
    // A torn tail: what follows is no frame any more.
    if (length <= createdBytes || length > createdBytes + recordBytesMax || end > bytes.length)
      return { hints, damaged: damaged + 1 };
    const hint = decodeBody(bytes.subarray(at + headerBytes, end), checksum);
    if (hint === undefined) damaged += 1;
    else hints.push(hint);
    at = end;
  }
  return { hints, damaged: at < bytes.length ? damaged + 1 : damaged };
}

function decodeBody(body: Uint8Array, checksum: number): Hint | undefined {
  if (crc32(body) !== checksum) return undefined;
  const record = body.slice(createdBytes);
  try {
    checkRecord(record);
  } catch (error) {
    if (!(error instanceof KvError)) throw error;
    return undefined;
  }
  const created = new ByteReader(body).u53();
  const isCounted = created >= countedBit;
  return { createdMs: isCounted ? created - countedBit : created, isCounted, record };
}
