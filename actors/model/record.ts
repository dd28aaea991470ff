// A record: one immutable write of one key, as bytes. The coordinator encodes it once; the wire,
// the WAL, the memtable's arena and the SSTable all carry these same bytes.
//
//   offset  size  field
//        0     2  length of the storage key
//        2     1  flags (bit 0: tombstone; bit 1: written by a serial operation; bit 2: the
//                   value is a sibling set, siblings.ts; others zero)
//        3     1  value type (0 bytes, 1 JSON text)
//        4     4  length of the value
//        8     8  hlc, microseconds (safe integer)
//       16     4  writer: fingerprint32 of the node id
//       20     4  incarnation of the writer
//       24     8  version (safe integer): generation of the key
//       32     8  expiresAt, milliseconds since 1970, 0 for never
//       40     4  token: place on the ring
//       44     4  hash of the storage key: for bloom filters
//       48        storage key, then value
//
// A storage key is the namespace id (4 bytes, big-endian) and the user's key, so that the keys of
// a namespace are neighbours and sort bytewise. (hlc, writer, incarnation) names a write uniquely
// and is its etag (model.md section 1).

import { compareBytes, high32 } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';

export const recordHeaderBytes = 48;
export const namespaceBytes = 4;
export const keyBytesMax = 1024;
/** Namespaces from here on hold what a replica keeps for itself: nobody copies it to another. */
export const privateNamespaces = 0x8000_0000;
/** The first storage key of them: everything that is replicated sorts before it. */
export const privateKeysFrom = Uint8Array.of(0x80, 0, 0, 0);
/** Up to here they belong to namespaces of users; the node's own ones come after it. */
export const privateKeysTo = Uint8Array.of(0xff, 0xff, 0xff, 0xf0);
/** The log of atomic batches of a node. */
export const batchLogNamespace = 0xffff_fff0;
/** What a replica has promised for the system namespace lies from here on, and before the next one. */
export const systemStatesFrom = Uint8Array.of(0xff, 0xff, 0xff, 0xf1);
const systemStatesTo = Uint8Array.of(0xff, 0xff, 0xff, 0xf2);

/** Where states of decisions lie: those for keys of users, and the one of the system. */
export interface StatesPart {
  readonly to: Uint8Array;
  /** Where the part after it begins; undefined: there is none. Between the two lies what is no state. */
  readonly next: Uint8Array | undefined;
}

/** The part that this key lies in. */
export const statesFrom = (key: Uint8Array): StatesPart =>
  compareBytes(key, privateKeysTo) < 0
    ? { to: privateKeysTo, next: systemStatesFrom }
    : { to: systemStatesTo, next: undefined };

/** Cursors of `SCAN`: on the replicas of their keys, and no repair looks at them. */
export const cursorNamespace = 0xffff_fff2;
export const valueBytesHardMax = 16 * 1024 * 1024;
export const recordBytesMax = recordHeaderBytes + namespaceBytes + keyBytesMax + valueBytesHardMax;

export const valueTypes = { bytes: 0, json: 1 } as const;
const tombstoneFlag = 1;
const serialFlag = 2;
const setFlag = 4;

/** Names a write: higher hlc wins, then higher writer, then higher incarnation. */
export interface Etag {
  readonly hlc: number;
  readonly writer: number;
  readonly incarnation: number;
}

export const noEtag: Etag = { hlc: 0, writer: 0, incarnation: 0 };

export interface RecordFields extends Etag {
  /** Storage key. */
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly valueType: number;
  readonly isTombstone: boolean;
  /** Written by a serial operation: plain writes of the key become serial too (PX-18). */
  readonly isSerial?: boolean;
  /** The value is a sibling set (siblings.ts). */
  readonly isSet?: boolean;
  readonly version: number;
  /** Milliseconds since 1970; 0 = never. */
  readonly expiresAt: number;
  readonly token: number;
  readonly hash: number;
}

export function storageKey(namespace: number, key: Uint8Array): Uint8Array {
  const joined = new Uint8Array(namespaceBytes + key.length);
  // Byte by byte: a view would move a small array out of the heap.
  joined[0] = namespace >>> 24;
  joined[1] = namespace >>> 16;
  joined[2] = namespace >>> 8;
  joined[3] = namespace;
  joined.set(key, namespaceBytes);
  return joined;
}

/** Of a storage key. */
export const namespaceOf = (key: Uint8Array): number => namespaceAt(key, 0);

/** Without a view: the hot path asks for it. */
const namespaceAt = (bytes: Uint8Array, at: number): number =>
  (((bytes[at] as number) << 24) |
    ((bytes[at + 1] as number) << 16) |
    ((bytes[at + 2] as number) << 8) |
    (bytes[at + 3] as number)) >>>
  0;

export function userKey(key: Uint8Array): Uint8Array {
  return key.subarray(namespaceBytes);
}

/** `allocate`: where the bytes come from, whatever is in them; default: an array of its own. */
export function encodeRecord(
  fields: RecordFields,
  allocate: (length: number) => Uint8Array = newBytes,
): Uint8Array {
  const { key, value } = fields;
  const bytes = allocate(recordHeaderBytes + key.length + value.length);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  view.setUint16(0, key.length, true);
  view.setUint8(2, flagsOf(fields));
  view.setUint8(3, fields.valueType);
  view.setUint32(4, value.length, true);
  setU53(view, 8, fields.hlc);
  view.setUint32(16, fields.writer, true);
  view.setUint32(20, fields.incarnation, true);
  setU53(view, 24, fields.version);
  setU53(view, 32, fields.expiresAt);
  view.setUint32(40, fields.token, true);
  view.setUint32(44, fields.hash, true);
  bytes.set(key, recordHeaderBytes);
  bytes.set(value, recordHeaderBytes + key.length);
  return bytes;
}

const flagsOf = ({ isTombstone, isSerial, isSet }: RecordFields): number =>
  (isTombstone ? tombstoneFlag : 0) | (isSerial ? serialFlag : 0) | (isSet ? setFlag : 0);

const newBytes = (length: number): Uint8Array => new Uint8Array(length);

function setU53(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, (value / high32) >>> 0, true);
}

function u32(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)) >>>
    0
  );
}

function u53(bytes: Uint8Array, at: number): number {
  return u32(bytes, at) + u32(bytes, at + 4) * high32;
}

// Single fields, read without decoding the rest.

export const recordHlc = (record: Uint8Array): number => u53(record, 8);
export const recordWriter = (record: Uint8Array): number => u32(record, 16);
export const recordIncarnation = (record: Uint8Array): number => u32(record, 20);
export const recordVersion = (record: Uint8Array): number => u53(record, 24);
export const recordExpiresAt = (record: Uint8Array): number => u53(record, 32);
export const recordToken = (record: Uint8Array): number => u32(record, 40);
export const recordHash = (record: Uint8Array): number => u32(record, 44);
export const recordValueType = (record: Uint8Array): number => record[3] as number;
export const recordIsTombstone = (record: Uint8Array): boolean =>
  ((record[2] as number) & tombstoneFlag) !== 0;
export const recordKeyLength = (record: Uint8Array): number =>
  (record[0] as number) | ((record[1] as number) << 8);
export const recordValueLength = (record: Uint8Array): number => u32(record, 4);

/** The length of the record that starts at `at`: header, key and value. */
export function recordLengthAt(bytes: Uint8Array, at: number): number {
  const keyLength = (bytes[at] as number) | ((bytes[at + 1] as number) << 8);
  return recordHeaderBytes + keyLength + u32(bytes, at + 4);
}

/** A view of the storage key. */
export function recordKey(record: Uint8Array): Uint8Array {
  return record.subarray(recordHeaderBytes, recordHeaderBytes + recordKeyLength(record));
}

/** A view of its key without the namespace. */
export const recordUserKey = (record: Uint8Array): Uint8Array =>
  record.subarray(recordHeaderBytes + namespaceBytes, recordHeaderBytes + recordKeyLength(record));

/** The namespace of its key. */
export const recordNamespace = (record: Uint8Array): number =>
  namespaceAt(record, recordHeaderBytes);

/** A view of the value. */
export function recordValue(record: Uint8Array): Uint8Array {
  return record.subarray(recordHeaderBytes + recordKeyLength(record));
}

export function recordIsSerial(record: Uint8Array): boolean {
  return ((record[2] as number) & serialFlag) !== 0;
}

export function recordIsSet(record: Uint8Array): boolean {
  return ((record[2] as number) & setFlag) !== 0;
}

export function recordEtag(record: Uint8Array): Etag {
  return {
    hlc: recordHlc(record),
    writer: recordWriter(record),
    incarnation: recordIncarnation(record),
  };
}

export function decodeRecord(record: Uint8Array): RecordFields {
  checkRecord(record);
  return {
    ...recordEtag(record),
    key: recordKey(record),
    value: recordValue(record),
    valueType: recordValueType(record),
    isTombstone: recordIsTombstone(record),
    isSerial: recordIsSerial(record),
    isSet: recordIsSet(record),
    version: recordVersion(record),
    expiresAt: recordExpiresAt(record),
    token: recordToken(record),
    hash: recordHash(record),
  };
}

/** Refuses bytes from elsewhere that are no record: BAD_REQUEST. */
export function checkRecord(record: Uint8Array): void {
  const problem = lengthProblem(record) ?? fieldProblem(record);
  if (problem !== undefined) throw new KvError('BAD_REQUEST', { detail: `bad record: ${problem}` });
}

function lengthProblem(record: Uint8Array): string | undefined {
  if (record.length < recordHeaderBytes) return 'shorter than its header';
  if (recordLengthAt(record, 0) !== record.length) return 'lengths do not add up';
  if (recordKeyLength(record) <= namespaceBytes) return 'key is empty';
  if (recordKeyLength(record) > namespaceBytes + keyBytesMax) return 'key too long';
  return recordValueLength(record) > valueBytesHardMax ? 'value too long' : undefined;
}

function fieldProblem(record: Uint8Array): string | undefined {
  if (((record[2] as number) & ~(tombstoneFlag | serialFlag | setFlag)) !== 0)
    return 'unknown flag';
  if (recordValueType(record) > valueTypes.json) return 'unknown value type';
  const highest = Math.max(u32(record, 12), u32(record, 28), u32(record, 36));
  return highest >= 0x20_0000 ? 'integer above 2^53' : undefined;
}

/** At `nowMs` this record is a live value: neither tombstone nor expired (TTL-2). */
export function isLive(record: Uint8Array, nowMs: number): boolean {
  if (recordIsTombstone(record)) return false;
  const expiresAt = recordExpiresAt(record);
  return expiresAt === 0 || nowMs < expiresAt;
}

export function compareEtags(a: Etag, b: Etag): number {
  return a.hlc - b.hlc || a.writer - b.writer || a.incarnation - b.incarnation;
}

export const equalEtags = (a: Etag, b: Etag): boolean => compareEtags(a, b) === 0;

/** Text form of an etag, as REST shows it. */
export function formatEtag({ hlc, writer, incarnation }: Etag): string {
  return `${hlc.toString(36)}-${writer.toString(36)}-${incarnation.toString(36)}`;
}

/**
 * The one total order of writes of a key (HLC-1 as amended): hlc, writer, incarnation; for equal
 * stamps tombstone over live, later expiry (expiring over not expiring), larger value.
 */
export function compareRecords(a: Uint8Array, b: Uint8Array): number {
  return (
    recordHlc(a) - recordHlc(b) ||
    recordWriter(a) - recordWriter(b) ||
    recordIncarnation(a) - recordIncarnation(b) ||
    Number(recordIsTombstone(a)) - Number(recordIsTombstone(b)) ||
    recordExpiresAt(a) - recordExpiresAt(b) ||
    compareBytes(recordValue(a), recordValue(b)) ||
    compareBytes(a, b)
  );
}
