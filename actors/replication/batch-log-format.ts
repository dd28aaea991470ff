// One entry of a batch log: all records of an atomic batch, stamped, so that any holder can bring
// them to their replicas when the coordinator is gone (Cassandra's logged batch; rules BL-1, BL-2).
//
//   entry   u32 magic, u32 CRC-32 of the body, body
//   body    u53 creation (milliseconds since 1970), u32 records, then u32 length and bytes of each
//
// Half of an entry would be half of a batch: bytes that do not decode as a whole are refused as a
// whole. Every record carries the same stamp and no key occurs twice (BL-1), so replaying an entry
// any number of times, in any order, ends in one state.

import { ByteReader, ByteWriter, compareBytes, crc32 } from '../../runtime/bytes.ts';
import { assert, CorruptionError, KvError } from '../../runtime/errors.ts';
import { checkRecord, equalEtags, recordBytesMax, recordEtag, recordKey } from '../model/record.ts';

export interface BatchEntry {
  /** Milliseconds since 1970, by the clock of the coordinator. */
  readonly createdMs: number;
  /** One to `batchRecordsMax`, of different keys, with one stamp. */
  readonly records: readonly Uint8Array[];
}

/** Records of one atomic batch. */
export const batchRecordsMax = 1_000;
/** Keys and values of one atomic batch, bytes: its entry is one record of the log. */
export const batchBytesMax = 8 * 1024 * 1024;

const magic = 0x4c42_564b; // "KVBL"
const headerBytes = 8;
const bodyBytesMin = 12;

/** The entry's bytes. The records are a coordinator's own: what breaks the rules is a defect. */
export function encodeBatchEntry({ createdMs, records }: BatchEntry): Uint8Array {
  const broken = brokenRule(records);
  assert(broken === undefined, `batch entry: ${broken ?? ''}`);
  const body = new ByteWriter();
  body.u53(createdMs);
  body.u32(records.length);
  for (const record of records) {
    body.u32(record.length);
    body.raw(record);
  }
  const entry = new ByteWriter(headerBytes + body.length);
  entry.u32(magic);
  entry.u32(crc32(body.view()));
  entry.raw(body.view());
  return entry.copy();
}

/** The whole entry, its records copied. CorruptionError, naming `file`, for anything less. */
export function decodeBatchEntry(bytes: Uint8Array, file: string): BatchEntry {
  const refuse = (at: number, what: string): never => {
    throw new CorruptionError(file, at, `batch log: ${what}`);
  };
  if (bytes.length < headerBytes + bodyBytesMin) refuse(0, 'shorter than an entry');
  const header = new ByteReader(bytes);
  if (header.u32() !== magic) refuse(0, 'no entry begins here');
  if (crc32(bytes.subarray(headerBytes)) !== header.u32()) refuse(4, 'wrong checksum');
  const body = new ByteReader(bytes, headerBytes);
  const createdMs = body.u53();
  const count = body.u32();
  if (count > batchRecordsMax) refuse(headerBytes + 8, 'too many records');
  const records: Uint8Array[] = [];
  let at = headerBytes + bodyBytesMin;
  for (let i = 0; i < count; i += 1) {
    if (at + 4 > bytes.length) refuse(at, 'a record is missing');
    const length = new ByteReader(bytes, at).u32();
    const end = at + 4 + length;
    if (length > recordBytesMax || end > bytes.length) refuse(at, 'a length makes no sense');
    const record = bytes.slice(at + 4, end);
    if (!isRecord(record)) refuse(at + 4, 'a record is damaged');
    records.push(record);
    at = end;
  }
  if (at !== bytes.length) refuse(at, 'bytes after the last record');
  const broken = brokenRule(records);
  if (broken !== undefined) refuse(headerBytes, broken);
  return { createdMs, records };
}

function isRecord(bytes: Uint8Array): boolean {
  try {
    checkRecord(bytes);
    return true;
  } catch (error) {
    if (!(error instanceof KvError)) throw error;
    return false;
  }
}

/** What of BL-1 does not hold; undefined where all does. */
function brokenRule(records: readonly Uint8Array[]): string | undefined {
  const [first] = records;
  if (first === undefined) return 'no records';
  if (records.length > batchRecordsMax) return 'too many records';
  const stamp = recordEtag(first);
  if (records.some((record) => !equalEtags(recordEtag(record), stamp))) return 'several stamps';
  const keys = records.map(recordKey).sort(compareBytes);
  const isTwice = keys.some((key, i) => i > 0 && compareBytes(keys[i - 1] ?? key, key) === 0);
  return isTwice ? 'a key occurs twice' : undefined;
}
