// Copies closed log segments of one shard to the archive, on the background thread. A segment counts
// as kept when its copy is synced, was read back and has its name: only then may the log release it
// (WAL-9). PostgreSQL's archive_command and CockroachDB's log archiving are the models. One segment
// at a time: an archive may be slower than the patience of who asks, and the next ask for a segment
// joins the copy that runs.
//
// Invariant: an archive belongs to one data directory, by a random id that both hold: two histories
// of one node never mix. After a restore the node needs an archive of its own.

import { actor, type Context, type Deferred, type Later } from '../../runtime/actor.ts';
import { crc32, utf8 } from '../../runtime/bytes.ts';
import type { Disk, DiskFile } from '../../runtime/environment.ts';
import { assert, CorruptionError, type Failure, KvError, toFailure } from '../../runtime/errors.ts';
import { syncFile } from '../../runtime/files.ts';
import type { BodyOf, Handlers, Tell } from '../../runtime/protocol.ts';
import { lineagePath, readCovered, writeCovered } from './archive-format.ts';
import { WalArchiver } from './protocol.ts';
import { decodeSegmentHeader, segmentHeaderSpace, segmentName } from './wal-format.ts';

export interface WalArchiverOptions {
  /** Directory of the shard inside the data directory. */
  readonly directory: string;
  /** Directory of the shard inside the archive. */
  readonly archiveDirectory: string;
}

type Needs = 'disk' | 'archive';

interface Place {
  readonly disk: Disk;
  readonly archive: Disk;
  readonly options: WalArchiverOptions;
  readonly pause: () => Promise<void>;
}

const chunkBytes = 1024 * 1024;

type Segment = BodyOf<WalArchiver['keep']>;

interface Own {
  /** The first of the jobs; `bytes` of its copy, 0 where there was nothing to copy. */
  readonly ended: Tell<{ readonly bytes: number; readonly problem: Failure | undefined }>;
}

interface Job {
  readonly segment: Segment;
  readonly waiting: Deferred<object>[];
}

class WalArchiverActor implements Handlers<WalArchiver>, Handlers<Own> {
  readonly #ctx: Context<Own, Needs>;
  readonly #options: WalArchiverOptions;
  /** The first one runs. */
  readonly #jobs: Job[] = [];

  constructor(ctx: Context<Own, Needs>, options: WalArchiverOptions) {
    this.#ctx = ctx;
    this.#options = options;
  }

  start(): Later<void> {
    const { disk, random } = this.#ctx;
    const options = this.#options;
    const archive = this.#archive();
    const fresh = [...random.bytes(16)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    return this.#ctx.session(async () => {
      await disk.makeDirectory(options.directory);
      await archive.makeDirectory(options.archiveDirectory);
      await checkLineage(disk, archive, options, fresh);
    });
  }

  keep(segment: Segment): Later<object> {
    const later = this.#ctx.later<object>();
    const open = this.#jobs.find((job) => job.segment.number === segment.number);
    if (open !== undefined) open.waiting.push(later);
    else {
      this.#jobs.push({ segment, waiting: [later] });
      if (this.#jobs.length === 1) this.#copy(segment);
    }
    return later;
  }

  #copy({ path, number, bytes: length, covered }: Segment): void {
    const { disk, toSelf } = this.#ctx;
    const archive = this.#archive();
    const options = this.#options;
    this.#ctx.session(async (session) => {
      const place = { disk, archive, options, pause: () => session.sleep(0) };
      try {
        const bytes = await keepSegment(place, path, number, length);
        if (covered !== undefined) await writeCovered(archive, options.archiveDirectory, covered);
        toSelf('ended', { bytes, problem: undefined });
      } catch (error) {
        if (!(error instanceof KvError || error instanceof CorruptionError)) throw error;
        toSelf('ended', { bytes: 0, problem: toFailure(error) });
      }
    });
  }

  ended({ bytes, problem }: BodyOf<Own['ended']>): void {
    const job = this.#jobs.shift();
    assert(job !== undefined, 'a copy that nobody has asked for');
    const { log, shard, metrics } = this.#ctx;
    const kept = metrics.counter('kvd_wal_archived_segments_total', 'Log segments archived', {
      shard: String(shard),
    });
    if (bytes > 0) {
      kept.add(1);
      log.info('wal.archived', { shard, segment: job.segment.number, bytes });
    }
    for (const later of job.waiting)
      if (problem === undefined) later.resolve({});
      else later.fail(problem);
    const [next] = this.#jobs;
    if (next !== undefined) this.#copy(next.segment);
  }

  cover(covered: BodyOf<WalArchiver['cover']>): Later<object> {
    const archive = this.#archive();
    const { archiveDirectory } = this.#options;
    return this.#ctx.session(async () => {
      const before = readCovered(archive, archiveDirectory);
      if (before === undefined || before.atMicros < covered.atMicros)
        await writeCovered(archive, archiveDirectory, covered);
      return {};
    });
  }

  #archive(): Disk {
    const { archive } = this.#ctx;
    assert(archive !== undefined, 'an archiver without an archive');
    return archive;
  }
}

/** The data directory gets its id first: one that has none never wrote to any archive. */
async function checkLineage(
  disk: Disk,
  archive: Disk,
  { directory, archiveDirectory }: WalArchiverOptions,
  fresh: string,
): Promise<void> {
  const ownPath = `${directory}/archive-id`;
  const own = textOf(disk.read(ownPath));
  const theirs = textOf(archive.read(lineagePath(archiveDirectory)));
  if (theirs !== undefined && theirs !== own)
    throw new KvError('DATA_REFUSED', {
      field: 'walArchive',
      detail: `the archive ${archiveDirectory} holds the log of another data directory: take an empty one`,
    });
  if (own === undefined) await disk.replace(ownPath, utf8.encode(fresh));
  if (theirs === undefined)
    await archive.replace(lineagePath(archiveDirectory), utf8.encode(own ?? fresh));
}

const textOf = (bytes: Uint8Array | undefined): string | undefined =>
  bytes === undefined ? undefined : utf8.decode(bytes);

/** Bytes of the copy; 0 where there was nothing to copy. */
async function keepSegment(
  place: Place,
  path: string,
  number: number,
  bytes: number | undefined,
): Promise<number> {
  const { disk, archive, options } = place;
  const target = `${options.archiveDirectory}/${segmentName(number)}`;
  const file = disk.open(path, 'read');
  try {
    // Its making was cut short: it never had a record.
    if (!hasHeader(file)) return 0;
    const size = bytes ?? contentBytes(file);
    if (!isKept(place, target, size)) await copySegment(place, file, target, size);
    // Also of one that was there: nobody knows whether its name was durable when the node ended.
    await archive.syncDirectory(options.archiveDirectory);
    return size;
  } finally {
    file.close();
  }
}

function hasHeader(file: DiskFile): boolean {
  const bytes = new Uint8Array(segmentHeaderSpace);
  return file.read(bytes, 0) === bytes.length && decodeSegmentHeader(bytes) !== undefined;
}

/** Up to the last chunk that is not all zeros: a segment is extended ahead. */
function contentBytes(file: DiskFile): number {
  const chunk = new Uint8Array(chunkBytes);
  let end = file.size();
  while (end > segmentHeaderSpace) {
    const from = Math.max(segmentHeaderSpace, end - chunkBytes);
    const part = chunk.subarray(0, end - from);
    file.read(part, from);
    if (part.some((byte) => byte !== 0)) break;
    end = from;
  }
  return end;
}

async function checksumOf(place: Place, file: DiskFile, size: number): Promise<number> {
  let crc = 0;
  await eachChunk(place, file, size, (chunk) => {
    crc = crc32(chunk, crc);
  });
  return crc;
}

async function eachChunk(
  { pause }: Place,
  file: DiskFile,
  size: number,
  work: (chunk: Uint8Array, at: number) => void,
): Promise<void> {
  const buffer = new Uint8Array(Math.min(chunkBytes, size));
  for (let at = 0; at < size; at += buffer.length) {
    const chunk = buffer.subarray(0, Math.min(buffer.length, size - at));
    if (file.read(chunk, at) !== chunk.length)
      throw new CorruptionError(file.path, at, 'the file is cut short');
    work(chunk, at);
    await pause();
  }
}

/**
 * It was copied before, and the node ended before it could release it. A copy was read back when it
 * was made: a file that was damaged since must not take its place.
 */
function isKept({ archive }: Place, target: string, size: number): boolean {
  if (!archive.exists(target)) return false;
  const file = archive.open(target, 'read');
  const isWhole = file.size() >= size;
  file.close();
  return isWhole;
}

async function copySegment(
  place: Place,
  source: DiskFile,
  target: string,
  size: number,
): Promise<void> {
  const { archive } = place;
  const temporary = `${target}.tmp`;
  archive.remove(temporary);
  const copy = archive.open(temporary, 'create');
  try {
    let crc = 0;
    await eachChunk(place, source, size, (chunk, at) => {
      crc = crc32(chunk, crc);
      copy.write(chunk, at);
    });
    await syncFile(copy);
    if ((await checksumOf(place, copy, size)) !== crc)
      throw new CorruptionError(temporary, 0, 'the copy is not what was written');
  } finally {
    copy.close();
  }
  archive.rename(temporary, target);
}

export const walArchiver = actor({
  protocol: WalArchiver,
  needs: ['disk', 'archive'],
  create: (ctx: Context<Own, Needs>, options: WalArchiverOptions) =>
    new WalArchiverActor(ctx, options),
});
