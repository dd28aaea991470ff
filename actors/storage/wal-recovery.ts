// Reads back the segments that an earlier run left, one at a time, oldest first. It only reads:
// nothing is cut, appended to or removed until everything in them is safe in tables (WAL-12).
//
// A segment whose header names no predecessor was begun by a recovery, after everything before it
// had become tables; of any other segment the header says up to which LSN the ones before it go.
// Segments whose records are all in tables are leftovers and are not looked at: which of them are
// still there says nothing, since removing them is not synced. A torn tail is cut and said; damage
// to what may have been acknowledged is a CorruptionError (WAL-10, WAL-11). Each segment is judged
// by the durability that its own header names. The newest one has nothing behind it that would miss
// it: the file NEWEST names it, from before its first record on. One with a higher number was never
// written to, and the one that NEWEST names may have gone on after it was begun.

import type { Disk } from '../../runtime/environment.ts';
import { CorruptionError, KvError } from '../../runtime/errors.ts';
import { readContent } from './read-content.ts';
import { decodeSealedName, encodeSealedName } from './sealed-name.ts';
import { readSegment, type SegmentVerdict } from './segment-reader.ts';
import {
  decodeSegmentHeader,
  type SegmentHeader,
  segmentHeaderSpace,
  segmentName,
  segmentNumberOf,
  splitPayload,
  type WrittenWith,
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
  /** Up to here tables were made of a log whose end may never have been synced (version-edit.ts). */
  readonly recoveredThrough: number;
  /** Of segments whose header does not say it. */
  readonly writtenWith: WrittenWith;
  /** What is missing or damaged is left out and said, where it would be refused otherwise. */
  readonly acceptsLoss?: boolean;
}

/** What an operator may do about it. */
export const acceptHint = '--accept-data-loss starts with what is left';

const newestPath = (directory: string): string => `${directory}/NEWEST`;

/** The path of the file that names the newest segment, and what it holds. */
export function newestFile(
  directory: string,
  segmentNumber: number,
): { readonly path: string; readonly bytes: Uint8Array } {
  return { path: newestPath(directory), bytes: encodeSealedName(segmentName(segmentNumber)) };
}

export interface RecoveredPart {
  readonly records: readonly Uint8Array[];
  readonly lastLsn: number;
  readonly torn: { readonly path: string; readonly offset: number } | undefined;
  readonly isDone: boolean;
}

/** Damage that was accepted. */
export interface AcceptedLoss {
  readonly file: string;
  readonly offset: number;
  readonly detail: string;
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
  /** The log, oldest first; also segments that are not looked at. */
  readonly #found: readonly Found[];
  readonly #unused: readonly Found[];
  readonly #losses: AcceptedLoss[] = [];
  #next: number;
  #lastLsn = 0;

  constructor(place: WalPlace, evidence: WalEvidence) {
    this.#place = place;
    this.#evidence = evidence;
    const all = findSegments(place);
    const newest = readNewest(place);
    const isUsed = ({ number }: Found): boolean => number <= (newest?.number ?? Infinity);
    this.#found = all.filter(isUsed);
    this.#unused = all.filter((found) => !isUsed(found));
    const first = this.#found.findLastIndex(
      ({ header }) =>
        header !== undefined &&
        (header.previousSegmentNumber === 0 || header.previousLastLsn <= evidence.flushedThrough),
    );
    this.#next = Math.max(first, 0);
    this.#refuseNoNewest(newest);
    if (first < 0) this.#refuseGap(0);
    for (let i = this.#next + 1; i < this.#found.length; i += 1) this.#refuseGap(i);
  }

  /** Damage so far that was let pass because the operator accepts it. */
  get losses(): readonly AcceptedLoss[] {
    return this.#losses;
  }

  /** The log that an earlier run left, oldest first. */
  get segments(): readonly { readonly number: number; readonly path: string }[] {
    return this.#found;
  }

  /** Segments of rotations that did not succeed: they hold nothing. */
  get unused(): readonly { readonly path: string }[] {
    return this.#unused;
  }

  /** Never used before, also not by a segment that was never finished. */
  get nextSegmentNumber(): number {
    return ([...this.#found, ...this.#unused].at(-1)?.number ?? 0) + 1;
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
      this.#lastLsn = Math.max(this.#lastLsn, lsn);
      // What is in tables already would only make one more table of the same records.
      if (lsn > flushedThrough) for (const record of splitPayload(payload)) records.push(record);
    });
    this.#refuse(verdict, path);
    if (verdict.kind === 'unborn')
      return { records: [], lastLsn: this.#lastLsn, torn: undefined, isDone };
    if (verdict.kind === 'end' || verdict.kind === 'torn') this.#lastLsn = verdict.lastLsn;
    const torn = verdict.kind === 'torn' ? { path, offset: verdict.offset } : undefined;
    return { records, lastLsn: this.#lastLsn, torn, isDone };
  }

  #expectations(segment: Found): Parameters<typeof readSegment>[1] {
    const { clusterName, node, shard } = this.#place;
    const { flushedThrough, recoveredThrough } = this.#evidence;
    const { durability, inFlightBytesMax } =
      segment.header?.writtenWith ?? this.#evidence.writtenWith;
    // Without a sync before each answer the log may end before what is in tables, and any part of
    // it may be unsynced.
    const isLogAhead = durability === 'group';
    const wasSynced = isLogAhead && flushedThrough > recoveredThrough;
    const later = this.#found[this.#next]?.header;
    return {
      kind: 'wal',
      identity: { clusterName, node, shard },
      segmentNumber: segment.number,
      later,
      flushedThrough: wasSynced ? flushedThrough : 0,
      inFlightBytesMax: isLogAhead ? inFlightBytesMax : Infinity,
    };
  }

  /** The segment before this one is missing, and tables do not hold what was in it. */
  #refuseGap(at: number): void {
    const { path, header } = this.#found[at] ?? {};
    if (path === undefined || header === undefined) return;
    if (header.previousSegmentNumber === this.#found[at - 1]?.number) return;
    const missing = header.previousSegmentNumber;
    this.#lost(path, 0, `segment ${missing} before it is missing`);
  }

  /** A log that was begun has a segment at any time, and NEWEST says which. */
  #refuseNoNewest(newest: Newest | undefined): void {
    const { directory } = this.#place;
    if (newest === undefined) {
      const { flushedThrough } = this.#evidence;
      if (this.#found.length === 0 && flushedThrough > 0)
        this.#lost(directory, 0, 'the log is gone, its tables are not');
      return;
    }
    const { number } = newest;
    if (number === undefined) this.#lost(newestPath(directory), 0, 'it names no segment');
    else if (!this.#found.some((found) => found.number === number))
      this.#lost(`${directory}/${segmentName(number)}`, 0, 'it is gone');
  }

  #refuse(verdict: SegmentVerdict, path: string): void {
    if (verdict.kind === 'corrupt') this.#lost(path, verdict.offset, verdict.reason);
    if (verdict.kind === 'refused')
      throw new KvError('DATA_REFUSED', { file: path, detail: `${path}: ${verdict.reason}` });
  }

  #lost(file: string, offset: number, what: string): void {
    if (this.#evidence.acceptsLoss !== true)
      throw new CorruptionError(file, offset, `${what}; ${acceptHint}`);
    this.#losses.push({ file, offset, detail: what });
  }
}

interface Newest {
  /** Undefined: what it holds is damaged. */
  readonly number: number | undefined;
}

/** What NEWEST says; undefined: it is not there. */
function readNewest({ disk, directory }: WalPlace): Newest | undefined {
  const named = disk.read(newestPath(directory));
  if (named === undefined) return undefined;
  const name = decodeSealedName(named);
  return { number: name === undefined ? undefined : segmentNumberOf(name) };
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
