// Reads back the segments that an earlier run left, one at a time, oldest first. It only reads:
// nothing is cut, appended to or removed until everything in them is safe in tables (WAL-12).
//
// A segment whose header names no predecessor was begun by a recovery, after everything before it
// had become tables; of any other segment the header says up to which LSN the ones before it go.
// Segments whose records are all in tables are leftovers and are not looked at: which of them are
// still there says nothing, since removing them is not synced. A torn tail is cut and said; damage
// to what may have been acknowledged is a CorruptionError (WAL-10, WAL-11).

import type { Disk } from '../../runtime/environment.ts';
import { CorruptionError, KvError } from '../../runtime/errors.ts';
import { readContent } from './read-content.ts';
import { readSegment, type SegmentVerdict } from './segment-reader.ts';
import {
  decodeSegmentHeader,
  type SegmentHeader,
  segmentHeaderSpace,
  segmentName,
  segmentNumberOf,
  splitPayload,
} from './wal-format.ts';

export interface WalPlace {
  readonly disk: Disk;
  readonly directory: string;
  readonly clusterName: string;
  readonly node: string;
  readonly shard: number;
}

export interface WalEvidence {
  /** Everything up to this LSN is in tables. */
  readonly flushedThrough: number;
  /** The log was synced before every answer, so it may not end before what is in tables. */
  readonly isLogAhead: boolean;
  /** More bytes than this never waited for a sync. */
  readonly inFlightBytesMax: number;
}

export interface RecoveredPart {
  readonly records: readonly Uint8Array[];
  readonly lastLsn: number;
  readonly torn: { readonly path: string; readonly offset: number } | undefined;
  readonly isDone: boolean;
}

interface Found {
  readonly number: number;
  readonly path: string;
  /** Undefined: damaged. */
  readonly header: SegmentHeader | undefined;
}

export class WalRecovery {
  readonly #place: WalPlace;
  readonly #evidence: WalEvidence;
  /** All segments, also those that are not looked at. */
  readonly #found: readonly Found[];
  #next: number;
  #lastLsn = 0;

  constructor(place: WalPlace, evidence: WalEvidence) {
    this.#place = place;
    this.#evidence = evidence;
    this.#found = findSegments(place);
    const first = this.#found.findLastIndex(
      ({ header }) =>
        header !== undefined &&
        (header.previousSegmentNumber === 0 || header.previousLastLsn <= evidence.flushedThrough),
    );
    this.#next = Math.max(first, 0);
    if (first < 0) this.#refuseGap(0);
    for (let i = this.#next + 1; i < this.#found.length; i += 1) this.#refuseGap(i);
  }

  /** All that an earlier run left, oldest first. */
  get segments(): readonly { readonly number: number; readonly path: string }[] {
    return this.#found;
  }

  /** Never used before, also not by a segment that was never finished. */
  get nextSegmentNumber(): number {
    return (this.#found[this.#found.length - 1]?.number ?? 0) + 1;
  }

  /** The next segment; CorruptionError or DATA_REFUSED end the recovery. */
  next(): RecoveredPart {
    const segment = this.#found[this.#next];
    if (segment === undefined)
      return { records: [], lastLsn: this.#lastLsn, torn: undefined, isDone: true };
    this.#next += 1;
    const isDone = this.#next >= this.#found.length;
    const { path } = segment;
    const records: Uint8Array[] = [];
    const bytes = readContent(this.#place.disk, path);
    const { flushedThrough } = this.#evidence;
    const verdict = readSegment(bytes, this.#expectations(segment), ({ lsn, payload }) => {
      // What is in tables already would only make one more table of the same records.
      if (lsn > flushedThrough) for (const record of splitPayload(payload)) records.push(record);
    });
    refuse(verdict, path);
    if (verdict.kind === 'unborn')
      return { records: [], lastLsn: this.#lastLsn, torn: undefined, isDone };
    if (verdict.kind === 'end' || verdict.kind === 'torn') this.#lastLsn = verdict.lastLsn;
    const torn = verdict.kind === 'torn' ? { path, offset: verdict.offset } : undefined;
    return { records, lastLsn: this.#lastLsn, torn, isDone };
  }

  #expectations(segment: Found): Parameters<typeof readSegment>[1] {
    const { clusterName, node, shard } = this.#place;
    const { flushedThrough, isLogAhead, inFlightBytesMax } = this.#evidence;
    const later = this.#found[this.#next]?.header;
    return {
      kind: 'wal',
      identity: { clusterName, node, shard },
      segmentNumber: segment.number,
      later,
      flushedThrough: isLogAhead ? flushedThrough : 0,
      inFlightBytesMax,
    };
  }

  /** The segment before this one is missing, and tables do not hold what was in it. */
  #refuseGap(at: number): void {
    const { path, header } = this.#found[at] ?? {};
    if (path === undefined || header === undefined) return;
    if (header.previousSegmentNumber === this.#found[at - 1]?.number) return;
    const missing = header.previousSegmentNumber;
    throw new CorruptionError(path, 0, `segment ${missing} before it is missing`);
  }
}

function findSegments({ disk, directory }: WalPlace): Found[] {
  const found: Found[] = [];
  for (const name of disk.list(directory)) {
    const number = segmentNumberOf(name);
    if (number === undefined) continue;
    const path = `${directory}/${segmentName(number)}`;
    found.push({ number, path, header: readHeader(disk, path) });
  }
  return found.sort((a, b) => a.number - b.number);
}

function readHeader(disk: Disk, path: string): SegmentHeader | undefined {
  const file = disk.open(path, 'read');
  try {
    const bytes = new Uint8Array(segmentHeaderSpace);
    const length = file.read(bytes, 0);
    return decodeSegmentHeader(bytes.subarray(0, length));
  } finally {
    file.close();
  }
}

function refuse(verdict: SegmentVerdict, path: string): void {
  if (verdict.kind === 'corrupt') throw new CorruptionError(path, verdict.offset, verdict.reason);
  if (verdict.kind === 'refused')
    throw new KvError('DATA_REFUSED', { file: path, detail: `${path}: ${verdict.reason}` });
}
