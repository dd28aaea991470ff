// Bytes of a log: the write-ahead log's segments and, with the same records, the manifest
// (docs/storage-format.md). Pure: who writes, syncs and deletes is decided elsewhere.
//
//   segment  header of 4,096 bytes, records, zeros (it is extended ahead)
//   record   u16 magic | u8 type | u8 flags | u32 payload length | u64 LSN | u64 durable LSN
//            | u32 CRC of the record before | payload | zeros | u32 own CRC       8-byte aligned
//
// A record's own CRC covers everything before it and is seeded with the segment's number, so old
// bytes of another file never verify. Repeating the CRC of the record before makes a chain, which
// starts with the header's CRC; both together let recovery trust a record after a bad one. The
// durable LSN is evidence: everything up to it was synced when the record was built (WAL-1..5).

import { ByteReader, type ByteWriter, crc32, high32, utf8 } from '../../runtime/bytes.ts';
import { assert, KvError } from '../../runtime/errors.ts';
import { checkRecord, recordBytesMax, recordHeaderBytes, recordLengthAt } from '../model/record.ts';

/** Bytes of a segment before its first record: one page, which no record's write touches. */
export const segmentHeaderSpace = 4096;
/** Payload and frame of the largest record; a longer length is corruption (WAL-3). */
export const walPayloadBytesMax = recordBytesMax + 4096;

export const walRecordTypes = {
  /** One or more model records back to back: one atomic unit. */
  data: 1,
  /** Nothing but its durable LSN (WAL-15). */
  mark: 2,
  /** One version edit of the manifest. */
  edit: 3,
} as const;
export type WalRecordType = (typeof walRecordTypes)[keyof typeof walRecordTypes];

export const logKinds = { wal: 'KVDWAL', manifest: 'KVDMAN' } as const;
export type LogKind = keyof typeof logKinds;

/** A reader that does not know the type may skip the record (WAL-13). */
export const ignorableFlag = 1;
/** In front of a record's payload, and with its own CRC. */
const frameBytes = 28;
const crcBytes = 4;
const recordMagic = 0xa55b;
/** Version 2 of the write-ahead log says in its header what it was written with. */
const formatVersions: Readonly<Record<LogKind, number>> = { wal: 2, manifest: 1 };
const writtenBytes = 16;
const nameBytes = 10;

/** When a write was answered: after a sync, after a write with syncs now and then, after a write. */
export type LogDurability = 'group' | 'periodic' | 'none';
/** On disk: the number of its place, from 1. */
const logDurabilities: readonly LogDurability[] = ['group', 'periodic', 'none'];

/** What a segment was written with: recovery judges it by this, not by the options of its own run. */
export interface WrittenWith {
  readonly durability: LogDurability;
  /** No more bytes than this waited for a sync at once, where durability is `group`. */
  readonly inFlightBytesMax: number;
}

/** Whose log this is; a log of another shard or node is refused. */
export interface LogIdentity {
  readonly clusterName: string;
  readonly node: string;
  readonly incarnation: number;
  readonly shard: number;
}

export interface SegmentHeader extends LogIdentity {
  readonly kind: LogKind;
  readonly segmentNumber: number;
  /** 0: there was none. */
  readonly previousSegmentNumber: number;
  /** Highest LSN before this segment. */
  readonly previousLastLsn: number;
  /** CRC of the last record before this segment, or of its header where it had none. */
  readonly previousChain: number;
  /** Of a write-ahead log; undefined: format version 1, and manifests. */
  readonly writtenWith?: WrittenWith | undefined;
}

/** Names sort as their numbers do. */
export const segmentName = (segmentNumber: number): string =>
  `${String(segmentNumber).padStart(nameBytes, '0')}.wal`;

/** The number in a segment's file name; undefined for any other file. */
export function segmentNumberOf(name: string): number | undefined {
  const match = /^(\d{10})\.wal$/.exec(name);
  return match === null ? undefined : Number(match[1]);
}

/** `segmentHeaderSpace` bytes; the last four are the CRC that starts the chain. */
export function encodeSegmentHeader(header: SegmentHeader): Uint8Array {
  const bytes = new Uint8Array(segmentHeaderSpace);
  const view = new DataView(bytes.buffer);
  const cluster = utf8.encode(header.clusterName);
  const node = utf8.encode(header.node);
  const version = header.writtenWith === undefined ? 1 : formatVersions[header.kind];
  const textAt = version === 1 ? 60 : 60 + writtenBytes;
  assert(textAt + cluster.length + node.length <= segmentHeaderSpace - crcBytes, 'names too long');
  bytes.set(utf8.encode(logKinds[header.kind]));
  view.setUint16(6, version, true);
  setU53(view, 8, header.segmentNumber);
  setU53(view, 16, header.previousSegmentNumber);
  setU53(view, 24, header.previousLastLsn);
  view.setUint32(32, header.previousChain, true);
  view.setUint32(36, header.shard, true);
  setU53(view, 40, header.incarnation);
  view.setUint32(48, cluster.length, true);
  view.setUint32(52, node.length, true);
  if (header.writtenWith !== undefined && version > 1) {
    const { durability, inFlightBytesMax } = header.writtenWith;
    view.setUint32(60, logDurabilities.indexOf(durability) + 1, true);
    setU53(view, 68, inFlightBytesMax);
  }
  bytes.set(cluster, textAt);
  bytes.set(node, textAt + cluster.length);
  const crcAt = segmentHeaderSpace - crcBytes;
  view.setUint32(crcAt, crc32(bytes.subarray(0, crcAt)), true);
  return bytes;
}

/** The header; undefined where its bytes are damaged. DATA_REFUSED for another format version. */
export function decodeSegmentHeader(bytes: Uint8Array): SegmentHeader | undefined {
  if (bytes.length < segmentHeaderSpace) return undefined;
  const reader = new ByteReader(bytes, 0, segmentHeaderSpace);
  const magic = utf8.decode(reader.rawView(6));
  const kind =
    magic === logKinds.wal ? 'wal' : magic === logKinds.manifest ? 'manifest' : undefined;
  const crcAt = segmentHeaderSpace - crcBytes;
  if (kind === undefined || crc32(bytes.subarray(0, crcAt)) !== segmentChain(bytes))
    return undefined;
  const version = reader.u16();
  const newest = formatVersions[kind];
  if (version < 1 || version > newest)
    throw new KvError('DATA_REFUSED', {
      detail: `log format ${version}; this program reads up to ${newest}`,
    });
  const segmentNumber = reader.u53();
  const previousSegmentNumber = reader.u53();
  const previousLastLsn = reader.u53();
  const previousChain = reader.u32();
  const shard = reader.u32();
  const incarnation = reader.u53();
  const clusterBytes = reader.u32();
  const nodeLength = reader.u32();
  reader.u32();
  const writtenWith = version === 1 ? undefined : readWrittenWith(reader);
  const clusterName = utf8.decode(reader.rawView(clusterBytes));
  const node = utf8.decode(reader.rawView(nodeLength));
  const previous = { previousSegmentNumber, previousLastLsn, previousChain };
  const identity: LogIdentity = { clusterName, node, incarnation, shard };
  const whole: SegmentHeader = { kind, ...identity, segmentNumber, ...previous };
  return writtenWith === undefined ? whole : { ...whole, writtenWith };
}

function readWrittenWith(reader: ByteReader): WrittenWith {
  const number = reader.u32();
  reader.u32();
  const inFlightBytesMax = reader.u53();
  const durability = logDurabilities[number - 1];
  if (durability === undefined)
    throw new KvError('DATA_REFUSED', { detail: `log durability ${number} is not known` });
  return { durability, inFlightBytesMax };
}

/** The CRC at the end of an encoded header: where the chain of its records starts. */
export function segmentChain(header: Uint8Array): number {
  return readU32(header, segmentHeaderSpace - crcBytes);
}

export interface WalRecordFields {
  readonly type: WalRecordType;
  readonly flags?: number;
  readonly lsn: number;
  /** Highest LSN known to be synced; below `lsn`. */
  readonly durableLsn: number;
  /** CRC of the record before, or of the header. */
  readonly previousCrc: number;
  readonly segmentNumber: number;
  /** Written back to back. */
  readonly payload: readonly Uint8Array[];
}

/** Bytes that a record with this payload takes in the log. */
export const walRecordLength = (payloadBytes: number): number =>
  (frameBytes + payloadBytes + crcBytes + 7) & ~7;

/** Appends one record; gives its CRC, which the next one repeats. */
export function appendWalRecord(writer: ByteWriter, record: WalRecordFields): number {
  const { lsn, durableLsn, payload } = record;
  assert(durableLsn < lsn, `LSN ${lsn} cannot prove that ${durableLsn} is durable`);
  let length = 0;
  for (const part of payload) length += part.length;
  assert(length <= walPayloadBytesMax, `a log record of ${length} bytes`);
  const at = writer.length;
  const end = at + walRecordLength(length);
  writer.u16(recordMagic);
  writer.u8(record.type);
  writer.u8(record.flags ?? 0);
  writer.u32(length);
  writer.u53(lsn);
  writer.u53(durableLsn);
  writer.u32(record.previousCrc);
  for (const part of payload) writer.raw(part);
  while (writer.length < end - crcBytes) writer.u8(0);
  const crc = crc32(writer.view().subarray(at), seedOf(record.segmentNumber));
  writer.u32(crc);
  return crc;
}

/** One record of a log as it was read. */
export interface WalRecord {
  readonly type: number;
  readonly flags: number;
  readonly lsn: number;
  readonly durableLsn: number;
  readonly previousCrc: number;
  /** A view of what was read. */
  readonly payload: Uint8Array;
  readonly crc: number;
  /** Where the next record starts. */
  readonly end: number;
}

/** The intact record at `at`; undefined where there is none. `bytes` is never read beyond. */
export function decodeWalRecord(
  bytes: Uint8Array,
  at: number,
  segmentNumber: number,
): WalRecord | undefined {
  if (at + frameBytes + crcBytes > bytes.length) return undefined;
  if ((bytes[at] as number) !== (recordMagic & 0xff)) return undefined;
  if ((bytes[at + 1] as number) !== recordMagic >>> 8) return undefined;
  const length = readU32(bytes, at + 4);
  if (length > walPayloadBytesMax) return undefined;
  const end = at + walRecordLength(length);
  if (end > bytes.length) return undefined;
  const crc = readU32(bytes, end - crcBytes);
  if (crc32(bytes.subarray(at, end - crcBytes), seedOf(segmentNumber)) !== crc) return undefined;
  const payloadAt = at + frameBytes;
  return {
    type: bytes[at + 2] as number,
    flags: bytes[at + 3] as number,
    lsn: readU53(bytes, at + 8),
    durableLsn: readU53(bytes, at + 16),
    previousCrc: readU32(bytes, at + 24),
    payload: bytes.subarray(payloadAt, payloadAt + length),
    crc,
    end,
  };
}

/** Views of the model records of a data record's payload. BAD_REQUEST where they are none. */
export function splitPayload(payload: Uint8Array): readonly Uint8Array[] {
  const records: Uint8Array[] = [];
  for (let at = 0; at < payload.length; ) {
    const isWhole = payload.length - at >= recordHeaderBytes;
    const end = isWhole ? at + recordLengthAt(payload, at) : payload.length;
    const record = payload.subarray(at, end);
    checkRecord(record);
    records.push(record);
    at = end;
  }
  return records;
}

/** What a checksum starts from: the number of the file that it is in. */
const seedOf = (segmentNumber: number): number => segmentNumber >>> 0;

function setU53(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, (value / high32) >>> 0, true);
}

function readU32(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)) >>>
    0
  );
}

const readU53 = (bytes: Uint8Array, at: number): number =>
  readU32(bytes, at) + readU32(bytes, at + 4) * high32;
