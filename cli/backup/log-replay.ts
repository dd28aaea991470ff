// Records of an archived log that come on top of a backup: all that were logged after its tables and
// stamped up to a point in time become the log of the restored shard, and its first start recovers
// them in the usual way. One segment is in memory at a time.
//
// Invariant: what is missing is never passed over. The archive has to begin where the tables end or
// before, each segment where the one before it ends, and it has to cover the time asked for.

import {
  archiveDirectory,
  type Covered,
  readCovered,
} from '../../actors/storage/archive-format.ts';
import { recordHlc } from '../../actors/model/record.ts';
import { readSegment, type SegmentVerdict } from '../../actors/storage/segment-reader.ts';
import {
  appendWalRecord,
  decodeSegmentHeader,
  encodeSegmentHeader,
  type LogIdentity,
  segmentChain,
  type SegmentHeader,
  segmentHeaderSpace,
  segmentName,
  segmentNumberOf,
  splitPayload,
  walRecordTypes,
} from '../../actors/storage/wal-format.ts';
import { ByteWriter } from '../../runtime/bytes.ts';
import type { Disk } from '../../runtime/environment.ts';
import { CorruptionError, KvError } from '../../runtime/errors.ts';
import { syncFile } from '../../runtime/files.ts';

export interface LogReplay {
  /** The archive that kvd was given with --wal-archive. */
  readonly archive: Disk;
  /** Stamps up to here, microseconds since 1970; Infinity: all that there is. */
  readonly untilMicros: number;
}

export interface ShardReplay {
  /** Of the restored shard. */
  readonly identity: LogIdentity;
  /** Whose log it was, and the LSN up to which its records are in the tables of the backup. */
  readonly from: {
    readonly clusterName: string;
    readonly node: string;
    readonly shard: number;
    readonly flushedThrough: number;
  };
  readonly replay: LogReplay;
}

interface Archived {
  readonly number: number;
  readonly path: string;
  readonly header: SegmentHeader;
}

/** The log that is written. */
interface Output {
  readonly disk: Disk;
  readonly directory: string;
  readonly identity: LogIdentity;
  number: number;
  lastLsn: number;
  chain: number;
  records: number;
  maxHlc: number;
}

/**
 * What can be told without reading the log: that the archive begins early enough, has no gap by its
 * headers, and covers the time asked for. BAD_REQUEST says what is missing.
 */
export function checkArchive(from: ShardReplay['from'], replay: LogReplay): void {
  wantedSegments(from, replay);
}

/** BAD_REQUEST or CorruptionError say what is missing; then the restore has not happened. */
export async function replayShard(
  disk: Disk,
  directory: string,
  { identity, from, replay }: ShardReplay,
): Promise<{ readonly records: number; readonly maxHlc: number }> {
  const { archive, untilMicros } = replay;
  const { segments, covered, place } = wantedSegments(from, replay);
  const output: Output = { ...emptyLog, disk, directory, identity };
  let lastLsn = from.flushedThrough;
  for (const [i, segment] of segments.entries()) {
    const { header, path } = segment;
    if (header.previousLastLsn > lastLsn)
      throw gap(path, missingBefore(segments[i - 1]?.path, lastLsn, header.previousLastLsn));
    const payloads: Uint8Array[][] = [];
    const verdict = readArchived(archive, segment, segments[i + 1], ({ lsn, payload }) => {
      if (lsn <= from.flushedThrough) return;
      const records = splitPayload(payload).filter((one) => recordHlc(one) <= untilMicros);
      if (records.length > 0) payloads.push(records);
    });
    lastLsn = Math.max(lastLsn, verdict.lastLsn);
    if (payloads.length > 0) await writeSegment(output, payloads);
  }
  const lastPath = segments.at(-1)?.path ?? place;
  if (lastLsn < covered.throughLsn)
    throw gap(lastPath, `it ends at LSN ${lastLsn}, and LSN ${covered.throughLsn} was archived`);
  await disk.syncDirectory(directory);
  return { records: output.records, maxHlc: output.maxHlc };
}

/** The segment before it is whole as far as its own bytes say: its last records may be damaged. */
function missingBefore(before: string | undefined, lastLsn: number, throughLsn: number): string {
  const where = before === undefined ? '' : `, at the end of ${before}`;
  return `LSN ${lastLsn + 1} to ${throughLsn} are missing before it${where}`;
}

const emptyLog = { number: 0, lastLsn: 0, chain: 0, records: 0, maxHlc: 0 };

function gap(path: string, what: string): KvError {
  return new KvError('BAD_REQUEST', {
    field: 'wal-archive',
    detail: `gap in the archive at ${path}: ${what}`,
  });
}

function coveredOf(archive: Disk, place: string, untilMicros: number): Covered {
  const covered = readCovered(archive, place);
  if (covered === undefined)
    throw new KvError('BAD_REQUEST', {
      field: 'wal-archive',
      detail: `the archive has nothing complete under ${place}`,
    });
  if (untilMicros === Infinity || covered.atMicros >= untilMicros) return covered;
  const end = new Date(Math.floor(covered.atMicros / 1000)).toISOString();
  throw new KvError('BAD_REQUEST', {
    field: 'until',
    detail: `the archive under ${place} is complete up to ${end}: take a time up to then, or --until latest`,
  });
}

/** From the newest segment that begins where the tables end, or before. */
function wantedSegments(
  { clusterName, node, shard, flushedThrough }: ShardReplay['from'],
  { archive, untilMicros }: LogReplay,
): {
  readonly place: string;
  readonly covered: Covered;
  readonly segments: readonly Archived[];
} {
  const place = archiveDirectory(clusterName, node, shard);
  const covered = coveredOf(archive, place, untilMicros);
  const all = archive
    .list(place)
    .flatMap((name) => {
      const number = segmentNumberOf(name);
      return number === undefined ? [] : [{ number, path: `${place}/${segmentName(number)}` }];
    })
    .map(({ number, path }) => ({ number, path, header: headerOf(archive, path) }));
  const first = all.findLastIndex(({ header }) => header.previousLastLsn <= flushedThrough);
  const [oldest] = all;
  if (first < 0 && oldest !== undefined)
    throw gap(
      oldest.path,
      `the archive begins after LSN ${oldest.header.previousLastLsn}, the backup ends at ${flushedThrough}`,
    );
  const segments = all.slice(Math.max(first, 0));
  segments.forEach(({ path, header }, i) => {
    const before = header.previousSegmentNumber;
    if (i > 0 && before !== 0 && before !== segments[i - 1]?.number)
      throw gap(path, `segment ${before} before it is missing`);
  });
  return { place, covered, segments };
}

function headerOf(archive: Disk, path: string): SegmentHeader {
  const bytes = new Uint8Array(segmentHeaderSpace);
  const file = archive.open(path, 'read');
  const length = file.read(bytes, 0);
  file.close();
  const header = decodeSegmentHeader(bytes.subarray(0, length));
  if (header === undefined) throw new CorruptionError(path, 0, 'the header is damaged');
  return header;
}

/** Where the segment ends: as the next one says, or at its last whole record. */
function readArchived(
  archive: Disk,
  { path, number, header }: Archived,
  next: Archived | undefined,
  onRecord: Parameters<typeof readSegment>[2],
): Extract<SegmentVerdict, { kind: 'end' | 'torn' }> {
  const { clusterName, node, shard } = header;
  const later = next?.header.previousSegmentNumber === number ? next.header : undefined;
  const expectations = {
    kind: 'wal' as const,
    identity: { clusterName, node, shard },
    segmentNumber: number,
    later,
    flushedThrough: 0,
    inFlightBytesMax: Infinity,
  };
  const bytes = archive.read(path) ?? new Uint8Array(0);
  const verdict = readSegment(bytes, expectations, onRecord);
  if (verdict.kind === 'end' || verdict.kind === 'torn') return verdict;
  const offset = 'offset' in verdict ? verdict.offset : 0;
  throw new CorruptionError(path, offset, verdict.reason);
}

/** A whole segment with its mark, durable but for its name. */
async function writeSegment(
  output: Output,
  payloads: readonly (readonly Uint8Array[])[],
): Promise<void> {
  const number = output.number + 1;
  const header = encodeSegmentHeader({
    kind: 'wal',
    ...output.identity,
    segmentNumber: number,
    previousSegmentNumber: output.number,
    previousLastLsn: output.lastLsn,
    previousChain: output.chain,
  });
  const writer = new ByteWriter(1024 * 1024);
  writer.raw(header);
  output.chain = segmentChain(header);
  const append = (type: 1 | 2, payload: readonly Uint8Array[]): void => {
    const lsn = output.lastLsn + 1;
    output.chain = appendWalRecord(writer, {
      type,
      lsn,
      // All of it is synced before anybody reads it: damage is never a torn tail.
      durableLsn: lsn - 1,
      previousCrc: output.chain,
      segmentNumber: number,
      payload,
    });
    output.lastLsn = lsn;
  };
  for (const records of payloads) {
    append(walRecordTypes.data, records);
    output.records += records.length;
    for (const record of records) output.maxHlc = Math.max(output.maxHlc, recordHlc(record));
  }
  append(walRecordTypes.mark, []);
  const file = output.disk.open(`${output.directory}/${segmentName(number)}`, 'create');
  try {
    file.write(writer.view(), 0);
    await syncFile(file);
  } finally {
    file.close();
  }
  output.number = number;
}
