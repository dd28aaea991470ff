// Log segments that are written to no more and not gone yet. One goes when two things are true:
// everything in it is in tables that the manifest names (WAL-9), and, where there is an archive, it
// is in there. They are archived one at a time, oldest first; an archive that fails is tried again
// and again while the segments stay, so that in the end it is the disk's reserve that refuses writes.

import type { Done, Ref } from '../../runtime/actor.ts';
import type { Disk, Log } from '../../runtime/environment.ts';
import { describeFailure } from '../../runtime/errors.ts';
import type { BodyOf } from '../../runtime/protocol.ts';
import type { Covered } from './archive-format.ts';
import type { SegmentEnd, WalArchiver } from './protocol.ts';

export interface ArchiveTerms {
  readonly archiver: Ref<WalArchiver>;
  /** A segment with records is closed after this time at the latest. */
  readonly intervalMs: number;
}

export interface ClosedSegment extends SegmentEnd {
  /** Undefined: it was found at the start. */
  readonly bytes: number | undefined;
  /** Wall clock when it was closed, microseconds; 0: it was found at the start. */
  readonly closedMicros: number;
}

interface Held extends ClosedSegment {
  isKept: boolean;
}

/** What it needs of the log writer. */
interface Surroundings {
  readonly ask: <K extends 'keep' | 'cover'>(
    name: K,
    body: BodyOf<WalArchiver[K]>,
    done: Done<object>,
  ) => void;
  /** Calls keepNext after a while. */
  readonly again: (delayMs: number) => void;
  readonly log: Log;
  readonly shard: number;
}

const retryMs = 5_000;

export class ClosedSegments {
  readonly #disk: Disk;
  readonly #hasArchive: boolean;
  readonly #around: Surroundings;
  #held: Held[] = [];
  #releasedThrough = 0;
  #isKeeping = false;

  constructor(disk: Disk, archive: ArchiveTerms | undefined, around: Surroundings) {
    this.#disk = disk;
    this.#hasArchive = archive !== undefined;
    this.#around = around;
  }

  get count(): number {
    return this.#held.length;
  }

  get bytes(): number {
    return this.#held.reduce((sum, { bytes = 0 }) => sum + bytes, 0);
  }

  /** Segments that are not archived yet. */
  get waiting(): number {
    return this.#held.filter(({ isKept }) => !isKept).length;
  }

  /** Those that this run wrote, oldest first; the others are in tables already. */
  get ownSegments(): SegmentEnd[] {
    return this.#held.filter(({ bytes }) => bytes !== undefined);
  }

  add(segment: ClosedSegment): void {
    this.#held.push({ ...segment, isKept: !this.#hasArchive });
    this.keepNext();
  }

  /** What an earlier run left: in tables already. */
  addRecovered(segments: readonly { readonly number: number; readonly path: string }[]): void {
    for (const { number, path } of segments)
      this.add({ path, number, bytes: undefined, lastLsn: 0, chain: 0, closedMicros: 0 });
  }

  release(throughLsn: number): void {
    this.#releasedThrough = Math.max(this.#releasedThrough, throughLsn);
    this.#drop();
  }

  /** Nothing was logged after `throughLsn` until now: so much more time is covered. */
  cover(throughLsn: number, atMicros: number): void {
    if (this.waiting === 0) this.#around.ask('cover', { throughLsn, atMicros }, () => undefined);
  }

  keepNext(): void {
    const next = this.#held.find(({ isKept }) => !isKept);
    if (next === undefined || this.#isKeeping) return;
    this.#isKeeping = true;
    const { path, number, bytes, lastLsn: throughLsn, closedMicros: atMicros } = next;
    const covered: Covered | undefined = atMicros === 0 ? undefined : { throughLsn, atMicros };
    this.#around.ask('keep', { path, number, bytes, covered }, (problem) => {
      this.#isKeeping = false;
      if (problem === undefined) {
        next.isKept = true;
        this.#drop();
        this.keepNext();
        return;
      }
      const { log, shard, again } = this.#around;
      const reason = describeFailure(problem);
      log.warn('wal.archive-failed', { shard, segment: number, waiting: this.waiting, reason });
      again(retryMs);
    });
  }

  /** From the oldest on: a gap would make a recovery refuse what comes after it. */
  #drop(): void {
    for (;;) {
      const [oldest] = this.#held;
      if (oldest === undefined || !oldest.isKept || oldest.lastLsn > this.#releasedThrough) return;
      this.#disk.remove(oldest.path);
      this.#held.shift();
    }
  }
}
