// A small log of several segments for the tests of its format and its reader, and a reader of whole
// logs that puts the pieces together as recovery does.

import {
  readSegment,
  type SegmentExpectations,
  type SegmentVerdict,
} from '../../actors/storage/segment-reader.ts';
import {
  appendWalRecord,
  decodeSegmentHeader,
  encodeSegmentHeader,
  type SegmentHeader,
  segmentChain,
  type WalRecordType,
  walRecordTypes,
  type WrittenWith,
} from '../../actors/storage/wal-format.ts';
import { ByteWriter } from '../../runtime/bytes.ts';

export const identity = { clusterName: 'test', node: 'n1', incarnation: 3, shard: 2 };

export interface LogRecord {
  readonly lsn: number;
  readonly durableLsn: number;
  readonly payload: Uint8Array;
  readonly isMark?: boolean;
  /** Default: data. */
  readonly type?: number;
  readonly flags?: number;
}

export interface BuiltSegment {
  readonly number: number;
  readonly bytes: Uint8Array;
  /** Where each record starts. */
  readonly offsets: readonly number[];
  /** Where the records end. */
  readonly end: number;
}

/** Segments with these records, each extended by `zeros` bytes, numbered from `firstNumber`. */
export function buildLog(
  segments: readonly (readonly LogRecord[])[],
  {
    zeros = 64,
    firstNumber = 1,
    writtenWith,
  }: { zeros?: number; firstNumber?: number; writtenWith?: WrittenWith } = {},
): BuiltSegment[] {
  let link = { previousSegmentNumber: 0, previousLastLsn: 0, previousChain: 0 };
  return segments.map((records, i) => {
    const segmentNumber = firstNumber + i;
    const whose = { kind: 'wal' as const, ...identity, writtenWith };
    const header = encodeSegmentHeader({ ...whose, segmentNumber, ...link });
    const writer = new ByteWriter();
    writer.raw(header);
    let chain = segmentChain(header);
    let lastLsn = link.previousLastLsn;
    const offsets: number[] = [];
    for (const { payload, isMark = false, ...record } of records) {
      offsets.push(writer.length);
      const { lsn, durableLsn, flags = 0 } = record;
      const type = (record.type ?? walRecordTypes[isMark ? 'mark' : 'data']) as WalRecordType;
      const frame = { type, flags, lsn, durableLsn, previousCrc: chain, segmentNumber };
      chain = appendWalRecord(writer, { ...frame, payload: [payload] });
      lastLsn = lsn;
    }
    const end = writer.length;
    writer.raw(new Uint8Array(zeros));
    link = { previousSegmentNumber: segmentNumber, previousLastLsn: lastLsn, previousChain: chain };
    return { number: segmentNumber, bytes: writer.copy(), offsets, end };
  });
}

export interface Recovered {
  readonly verdict: SegmentVerdict;
  readonly lsns: readonly number[];
  readonly payloads: readonly Uint8Array[];
}

const expectationsOf = (
  segmentNumber: number,
  later: SegmentHeader | undefined,
  changes: Partial<SegmentExpectations>,
): SegmentExpectations => ({
  kind: 'wal',
  identity,
  segmentNumber,
  later,
  flushedThrough: 0,
  inFlightBytesMax: 1 << 20,
  ...changes,
});

/**
 * Reads all segments; the verdict is the first that is no clean end, or the last one's. A segment
 * before one without a header is judged as the last, and that one for itself.
 */
export function readLog(
  segments: readonly Pick<BuiltSegment, 'number' | 'bytes'>[],
  changes: Partial<SegmentExpectations> = {},
): Recovered {
  const lsns: number[] = [];
  const payloads: Uint8Array[] = [];
  let worst: SegmentVerdict | undefined;
  for (const [i, { number, bytes }] of segments.entries()) {
    const next = segments[i + 1];
    const later = next === undefined ? undefined : decodeSegmentHeader(next.bytes);
    const verdict = readSegment(bytes, expectationsOf(number, later, changes), (record) => {
      lsns.push(record.lsn);
      payloads.push(record.payload);
    });
    if (worst === undefined || worst.kind === 'end' || verdict.kind === 'corrupt') worst = verdict;
  }
  if (worst === undefined) throw new Error('a log without segments');
  return { verdict: worst, lsns, payloads };
}
