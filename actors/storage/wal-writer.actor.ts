// One shard's write-ahead log with group commit: records that wait while a sync runs go into the
// next batch, written with one write and made durable by one fdatasync (WAL-7). Under load a batch
// holds hundreds of records; an idle shard pays one sync per record.
//
// Invariant: an append is answered only after an fdatasync that STARTED after its bytes were
// written has returned without error. A sync that fails stops the node: what the kernel holds can
// no longer be trusted, so nothing is retried (FS-6). Answers come in LSN order.
//
// Phases: recovering (old segments are read, none is written) -> idle <-> syncing, with rotating
// in between when a segment is full.

import { actor, type Context, type Deferred, type Later, refTo } from '../../runtime/actor.ts';
import { ByteWriter } from '../../runtime/bytes.ts';
import type { Disk, DiskFile } from '../../runtime/environment.ts';
import { assert, failure, KvError } from '../../runtime/errors.ts';
import { syncFile } from '../../runtime/files.ts';
import type { BodyOf, Handlers, ReplyOf, Tell } from '../../runtime/protocol.ts';
import { type ArchiveTerms, type ClosedSegment, ClosedSegments } from './closed-segments.ts';
import { WalWriter } from './protocol.ts';
import {
  appendWalRecord,
  encodeSegmentHeader,
  segmentChain,
  segmentHeaderSpace,
  segmentName,
  type SegmentHeader,
  type WalRecordType,
  walRecordLength,
  walRecordTypes,
  type WrittenWith,
} from './wal-format.ts';
import { SyncsBehind } from './syncs-behind.ts';
import { newestFile, WalRecovery } from './wal-recovery.ts';
import { ZerosAhead } from './zeros-ahead.ts';

export interface WalOptions {
  /** Directory of the segments inside the data directory. */
  readonly directory: string;
  readonly identity: {
    readonly clusterName: string;
    readonly node: string;
    readonly incarnation: number;
  };
  /** Size of a segment; a record that is larger gets a segment of its own. */
  readonly segmentBytes: number;
  /** Zeros that are written ahead of the records at a time; 0: none. */
  readonly aheadBytes: number;
  readonly durability: 'group' | 'periodic' | 'none';
  /** With durability `periodic`: milliseconds between syncs. */
  readonly syncIntervalMs: number;
  /** Keeps closed segments before they are released; absent: nobody does. */
  readonly archive?: ArchiveTerms | undefined;
  /** Bytes of records that may wait at once: a torn tail is never longer than a write of them. */
  readonly inFlightBytes: number;
  /** Damaged and missing segments are left out instead of refused. Default false. */
  readonly acceptDataLoss?: boolean;
}

interface Own {
  readonly commit: Tell<object>;
  readonly synced: Tell<{ readonly error: string | undefined }>;
  readonly durable: Tell<{ readonly throughLsn: number }>;
  readonly rotated: Tell<{ readonly segment: Segment }>;
  readonly rotationFailed: Tell<{ readonly code: string }>;
  readonly mark: Tell<{ readonly afterLsn: number }>;
  readonly syncPeriodically: Tell<object>;
  readonly archiveTick: Tell<object>;
  readonly begun: Tell<object>;
  readonly keepNext: Tell<object>;
}

interface Segment {
  readonly number: number;
  readonly path: string;
  readonly file: DiskFile;
  /** Where the chain of its records starts. */
  readonly chain: number;
}

interface Append {
  /** Model records that go into one log record. */
  readonly records: readonly Uint8Array[];
  readonly bytes: number;
  readonly later: Deferred<{ readonly lsn: number }>;
}

type Phase = 'recovering' | 'idle' | 'syncing' | 'rotating' | 'failed';

/** After a sync with nothing behind it, this long until a mark closes the window (WAL-15). */
const markAfterMs = 100;
const archiveDrainMs = 5_000;
const archivePollMs = 10;
/** A copy of one segment takes a second or two; a slower archive is asked again. */
const keepTimeoutMs = 600_000;
/** One write to the file, at most, unless one record is larger. */
const batchBytesMax = 4 * 1024 * 1024;
/** With a limit on the bytes per second: so long is a batch, unless one record is longer. */
const pacedBatchMs = 20;
/** No batch holds up the next one for longer, whatever the limit. */
const pacedMsMax = 100;

class WalWriterActor implements Handlers<WalWriter>, Handlers<Own> {
  readonly #ctx: Context<Own, 'disk'>;
  readonly #options: WalOptions;
  readonly #batch = new ByteWriter(64 * 1024);
  #phase: Phase = 'recovering';
  #recovery: WalRecovery | undefined;
  #segment: Segment | undefined;
  /** Where the next record goes. */
  #position = 0;
  readonly #zeros: ZerosAhead;
  readonly #syncsBehind: SyncsBehind;
  readonly #closed: ClosedSegments;
  /** The segment that a rotation is about to close. */
  #leaving: ClosedSegment | undefined;
  #lastLsn = 0;
  #durableLsn = 0;
  /** Checksum of the last record: the chain. */
  #chain = 0;
  #waiting: Append[] = [];
  #committing: { readonly appends: readonly Append[]; readonly lastLsn: number } | undefined;
  #isScheduled = false;
  /** The segment is to be closed as it is, for the archive, before the next batch. */
  #isRotationDue = false;
  #markedLsn = 0;
  #bytesPerSecond = Infinity;
  /** By the clock of this thread: the limit lets no batch begin before. */
  #pacedUntilMs = 0;

  constructor(ctx: Context<Own, 'disk'>, options: WalOptions) {
    this.#ctx = ctx;
    this.#options = options;
    const shard = String(ctx.shard);
    const bytes = (): number => this.stats().bytes;
    ctx.metrics.gauge('kvd_wal_bytes', 'Bytes in WAL segments', bytes, { shard });
    const { archive, segmentBytes, aheadBytes } = options;
    this.#zeros = new ZerosAhead(aheadBytes, segmentBytes);
    this.#syncsBehind = new SyncsBehind(segmentBytes, {
      synced: (throughLsn) => ctx.toSelf('durable', { throughLsn }),
      failed: ({ message }) => ctx.toSelf('synced', { error: message }),
    });
    this.#closed = new ClosedSegments(ctx.disk, archive, {
      ask: (name, body, done) => {
        if (archive !== undefined) ctx.ask(archive.archiver, name, body, keepTimeoutMs, done);
      },
      again: (delayMs) => void ctx.after(delayMs, 'keepNext', {}),
      log: ctx.log,
      shard: ctx.shard,
    });
    if (archive !== undefined)
      ctx.metrics.gauge(
        'kvd_wal_unarchived_segments',
        'Closed log segments that wait for the archive',
        () => this.#closed.waiting,
        { shard },
      );
  }

  start(): Later<void> {
    const { disk } = this.#ctx;
    const { directory } = this.#options;
    return this.#ctx.session(async () => {
      await disk.makeDirectory(directory);
    });
  }

  // ---- recovery ------------------------------------------------------------------------------

  recover(flushed: BodyOf<WalWriter['recover']>): ReplyOf<WalWriter['recover']> {
    assert(this.#phase === 'recovering', 'recovery after begin');
    const { disk, log, shard, probe } = this.#ctx;
    const { directory, identity, acceptDataLoss = false } = this.#options;
    this.#recovery ??= new WalRecovery(
      { disk, directory, shard, clusterName: identity.clusterName, node: identity.node },
      { ...flushed, writtenWith: this.#writtenWith, acceptsLoss: acceptDataLoss },
    );
    const part = this.#recovery.next();
    if (part.isDone)
      for (const loss of this.#recovery.losses) log.error('wal.loss-accepted', { shard, ...loss });
    if (part.torn !== undefined) {
      probe.reach('torn tail cut');
      log.warn('wal.torn-tail', { shard, file: part.torn.path, offset: part.torn.offset });
    }
    return { records: part.records, lastLsn: part.lastLsn, isDone: part.isDone };
  }

  /** Only the newest segment can have an end that was never synced (WAL-9). */
  syncRecovered(): Later<object> {
    const { disk, session } = this.#ctx;
    const newest = this.#recovery?.segments.at(-1);
    return session(async () => {
      if (newest === undefined) return {};
      const file = disk.open(newest.path, 'modify');
      try {
        await syncFile(file);
      } finally {
        file.close();
      }
      return {};
    });
  }

  /**
   * The recovered segments go only when the new one is durable. Its header names no predecessor:
   * everything before it is in tables, so a recovery that finds it looks at nothing older.
   */
  begin({ afterLsn }: { readonly afterLsn: number }): Later<object> {
    assert(this.#phase === 'recovering', 'begin twice');
    const recovery = this.#recovery;
    assert(recovery !== undefined, 'begin before recover');
    const { disk, toSelf } = this.#ctx;
    const { segmentBytes, directory } = this.#options;
    const number = recovery.nextSegmentNumber;
    const header = this.#header(number, {
      previousSegmentNumber: 0,
      previousLastLsn: afterLsn,
      previousChain: 0,
    });
    this.#lastLsn = afterLsn;
    this.#durableLsn = afterLsn;
    this.#markedLsn = afterLsn;
    const isArchived = this.#options.archive !== undefined;
    const { segments, unused } = recovery;
    return this.#ctx.session(async () => {
      const segment = await openSegment(disk, directory, { number, header, segmentBytes });
      for (const { path } of unused) disk.remove(path);
      if (!isArchived) for (const { path } of segments) disk.remove(path);
      await disk.syncDirectory(directory);
      toSelf('rotated', { segment });
      toSelf('begun', {});
      return {};
    });
  }

  /** Once, however often a full disk made `begin` fail before. */
  begun(): void {
    const { archive, durability } = this.#options;
    if (durability === 'periodic') this.syncPeriodically();
    if (archive === undefined) return;
    // Their records are in tables: they stay until they are archived, and NEWEST names none of them.
    this.#closed.addRecovered(this.#recovery?.segments ?? []);
    this.archiveTick();
  }

  // ---- appends -------------------------------------------------------------------------------

  append({ record }: { readonly record: Uint8Array }): Later<{ readonly lsn: number }> {
    return this.#append([record], record.length);
  }

  appendMany({ records }: BodyOf<WalWriter['appendMany']>): Later<{ readonly lsn: number }> {
    let bytes = 0;
    for (const record of records) bytes += record.length;
    return this.#append(records, bytes);
  }

  #append(records: readonly Uint8Array[], bytes: number): Later<{ readonly lsn: number }> {
    const later = this.#ctx.later<{ readonly lsn: number }>();
    this.#waiting.push({ records, bytes, later });
    this.#schedule();
    return later;
  }

  pace({ bytesPerSecond }: BodyOf<WalWriter['pace']>): void {
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** Once what already waits has had its turn: the more records, the fewer syncs. */
  #schedule(): void {
    if (this.#isScheduled || this.#phase !== 'idle' || this.#waiting.length === 0) return;
    this.#isScheduled = true;
    const heldMs = this.#heldMs();
    if (heldMs > 0) this.#ctx.after(heldMs, 'commit', {});
    else this.#ctx.toSelfLater('commit', {});
  }

  /** How long the limit holds the next batch up, whole milliseconds. */
  #heldMs(): number {
    if (this.#bytesPerSecond === Infinity) return 0;
    return Math.max(Math.floor(this.#pacedUntilMs - this.#ctx.clock.monotonicMs()), 0);
  }

  /** Its bytes take their time; less than a millisecond is made up for by the next batch. */
  #countPaced(bytes: number): void {
    if (this.#bytesPerSecond === Infinity) return;
    const nowMs = this.#ctx.clock.monotonicMs();
    const tookMs = (bytes / this.#bytesPerSecond) * 1000;
    const untilMs = Math.max(this.#pacedUntilMs, nowMs) + tookMs;
    this.#pacedUntilMs = Math.min(untilMs, nowMs + pacedMsMax);
  }

  commit(): void {
    this.#isScheduled = false;
    if (this.#phase !== 'idle' || this.#waiting.length === 0) return;
    const segment = this.#segmentOrBug();
    const before = { lsn: this.#lastLsn, chain: this.#chain };
    const taken = this.#encodeBatch(segment.number);
    if (taken === 0) return this.#rotate();
    const appends = this.#waiting.splice(0, taken);
    const outcome = this.#write(segment);
    if (outcome === 'failed') return;
    if (outcome === 'full') {
      this.#lastLsn = before.lsn;
      this.#chain = before.chain;
      const full = failure('DISK_FULL', { detail: 'the log could not be extended' });
      for (const { later } of appends) later.fail(full);
      return this.#schedule();
    }
    this.#countPaced(this.#batch.length);
    this.#committing = { appends, lastLsn: this.#lastLsn };
    this.#phase = 'syncing';
    if (this.#options.durability === 'group') return this.#sync(segment);
    if (this.#options.durability === 'periodic')
      this.#syncsBehind.wrote(segment.file, this.#batch.length, this.#lastLsn);
    this.synced({ error: undefined });
  }

  /** Encodes what waits, as far as it fits into the segment; how many records that is. */
  #encodeBatch(segmentNumber: number): number {
    this.#batch.reset();
    const pacedBytes = (this.#bytesPerSecond / 1000) * pacedBatchMs;
    const bytesMax = Math.min(batchBytesMax, pacedBytes);
    let taken = 0;
    for (const { records, bytes } of this.#waiting) {
      const end = this.#position + this.#batch.length + walRecordLength(bytes);
      const isAlone = this.#position === segmentHeaderSpace && taken === 0;
      if (end > this.#options.segmentBytes && !isAlone) break;
      if (taken > 0 && this.#batch.length > bytesMax) break;
      this.#encode(walRecordTypes.data, records, segmentNumber);
      taken += 1;
    }
    return taken;
  }

  #encode(type: WalRecordType, payload: readonly Uint8Array[], segmentNumber: number): void {
    this.#lastLsn += 1;
    this.#chain = appendWalRecord(this.#batch, {
      type,
      lsn: this.#lastLsn,
      durableLsn: this.#durableLsn,
      previousCrc: this.#chain,
      segmentNumber,
      payload,
    });
  }

  /** 'full': no space, and nothing of the batch is left in the file (WAL-6). */
  #write({ file }: Segment): 'written' | 'full' | 'failed' {
    try {
      file.write(this.#batch.view(), this.#position);
      this.#zeros.extend(file, this.#position + this.#batch.length, this.#batch.length);
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      if (error.code === 'DISK_FULL' && this.#cutBack(file)) return 'full';
      // Nobody knows what is in the file: no answer, no further append (FS-6).
      this.#phase = 'failed';
      this.#ctx.stopNode(`disk: the log could not be written: ${error.message}`);
      return 'failed';
    }
    this.#position += this.#batch.length;
    return 'written';
  }

  #cutBack(file: DiskFile): boolean {
    this.#ctx.probe.reach('append cut back');
    try {
      file.truncate(this.#position);
      this.#zeros.begin(this.#position);
      return true;
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      return false;
    }
  }

  #sync({ file }: Segment): void {
    const { toSelf } = this.#ctx;
    file.sync((error) => toSelf('synced', { error: error?.message }));
  }

  synced({ error }: { readonly error: string | undefined }): void {
    if (error !== undefined) {
      // Nobody may be told anything: the batch may be on the disk or not (FS-6).
      this.#phase = 'failed';
      this.#ctx.stopNode(`disk: the log could not be synced: ${error}`);
      return;
    }
    const committing = this.#committing;
    this.#phase = 'idle';
    this.#committing = undefined;
    if (committing !== undefined) {
      if (this.#options.durability === 'group') this.#durableLsn = committing.lastLsn;
      let lsn = committing.lastLsn - committing.appends.length;
      for (const { later } of committing.appends) {
        lsn += 1;
        later.resolve({ lsn });
      }
    }
    if (this.#isRotationDue) this.#closeForArchive();
    else if (this.#waiting.length > 0) {
      if (this.#heldMs() > 0) this.#schedule();
      else this.commit();
    } else if (this.#durableLsn > this.#markedLsn && this.#options.durability === 'group')
      this.#ctx.after(markAfterMs, 'mark', { afterLsn: this.#durableLsn });
  }

  /** A small record that says: all before me is durable. Rot is then told from a torn tail. */
  mark({ afterLsn }: { readonly afterLsn: number }): void {
    if (this.#phase !== 'idle' || this.#durableLsn !== afterLsn) return;
    const segment = this.#segmentOrBug();
    // The header of a new segment proves the same; a mark would be all that is archived of it.
    if (this.#options.archive !== undefined && this.#position === segmentHeaderSpace) return;
    if (this.#position + walRecordLength(0) > this.#options.segmentBytes) return;
    const before = { lsn: this.#lastLsn, chain: this.#chain };
    this.#batch.reset();
    this.#encode(walRecordTypes.mark, [], segment.number);
    if (this.#write(segment) !== 'written') {
      this.#lastLsn = before.lsn;
      this.#chain = before.chain;
      return;
    }
    this.#markedLsn = this.#lastLsn;
    this.#committing = { appends: [], lastLsn: this.#lastLsn };
    this.#phase = 'syncing';
    this.#sync(segment);
  }

  /** Durability `periodic`: what was acknowledged meanwhile becomes durable now. */
  syncPeriodically(): void {
    this.#ctx.after(this.#options.syncIntervalMs, 'syncPeriodically', {});
    this.#syncBehind();
  }

  /** A rotation syncs by itself. */
  #syncBehind(): void {
    if (this.#phase === 'idle' && this.#lastLsn > this.#durableLsn)
      this.#syncsBehind.begin(this.#segmentOrBug().file, this.#lastLsn);
  }

  durable({ throughLsn }: { readonly throughLsn: number }): void {
    this.#durableLsn = Math.max(this.#durableLsn, throughLsn);
    if (this.#syncsBehind.isWanted) this.#syncBehind();
  }

  // ---- segments ------------------------------------------------------------------------------

  #rotate(): void {
    this.#isRotationDue = false;
    const segment = this.#segmentOrBug();
    const { disk, toSelf } = this.#ctx;
    const { directory, segmentBytes } = this.#options;
    this.#phase = 'rotating';
    const number = segment.number + 1;
    const header = this.#header(number, {
      previousSegmentNumber: segment.number,
      previousLastLsn: this.#lastLsn,
      previousChain: this.#chain,
    });
    this.#leaving = {
      path: segment.path,
      number: segment.number,
      bytes: this.#position,
      lastLsn: this.#lastLsn,
      chain: this.#chain,
      closedMicros: Math.floor(this.#ctx.clock.wallMicros()),
    };
    this.#ctx.session(async () => {
      let isSynced = false;
      try {
        // With durability `periodic` the old segment may still wait for its sync (WAL-9).
        await syncFile(segment.file);
        isSynced = true;
        const next = await openSegment(disk, directory, { number, header, segmentBytes });
        segment.file.close();
        toSelf('rotated', { segment: next });
      } catch (error) {
        if (!(error instanceof KvError)) throw error;
        // What was acknowledged may be gone, whatever the reason: only a new file may be full (FS-6).
        if (isSynced) toSelf('rotationFailed', { code: error.code });
        else toSelf('synced', { error: error.message });
      }
    });
  }

  /** Only now may the old segment be released: a rotation that fails goes on writing to it. */
  rotated({ segment }: { readonly segment: Segment }): void {
    if (this.#phase === 'failed') return;
    if (this.#leaving !== undefined) this.#closed.add(this.#leaving);
    this.#leaving = undefined;
    this.#segment = segment;
    this.#position = segmentHeaderSpace;
    this.#zeros.begin(segmentHeaderSpace);
    this.#chain = segment.chain;
    this.#phase = 'idle';
    this.#schedule();
  }

  rotationFailed({ code }: { readonly code: string }): void {
    if (code !== 'DISK_FULL') {
      this.#ctx.stopNode(`disk: a new log segment could not be written: ${code}`);
      return;
    }
    this.#leaving = undefined;
    this.#phase = 'idle';
    const full = failure('DISK_FULL', { detail: 'no space for a new log segment' });
    for (const { later } of this.#waiting.splice(0)) later.fail(full);
  }

  release({ throughLsn }: { readonly throughLsn: number }): void {
    this.#closed.release(throughLsn);
  }

  closed(): ReplyOf<WalWriter['closed']> {
    return { segments: this.#closed.ownSegments };
  }

  stats(): ReplyOf<WalWriter['stats']> {
    const isClosing = this.#isRotationDue || this.#phase === 'rotating';
    const unarchived = this.#closed.waiting + (isClosing ? 1 : 0);
    const segments = this.#closed.count + (this.#segment === undefined ? 0 : 1);
    return { bytes: this.#closed.bytes + this.#position, segments, unarchived };
  }

  // ---- archive -------------------------------------------------------------------------------

  keepNext(): void {
    this.#closed.keepNext();
  }

  /** What was logged is in the archive soon, while few records come and while many do. */
  archiveTick(): void {
    const { archive } = this.#options;
    if (archive === undefined) return;
    this.#ctx.after(archive.intervalMs, 'archiveTick', {});
    this.#closeForArchive();
    if (this.#phase === 'idle')
      this.#closed.cover(this.#lastLsn, Math.floor(this.#ctx.clock.wallMicros()));
  }

  /** At once, or when the sync that runs has ended; one that is being closed is closed anyway. */
  #closeForArchive(): void {
    this.#isRotationDue = this.#phase === 'syncing';
    if (this.#phase === 'idle' && this.#position > segmentHeaderSpace) this.#rotate();
  }

  /** The last records go to the archive; a slow one is waited for by the next start instead. */
  drain(): Later<void> | void {
    if (this.#options.archive === undefined) return undefined;
    const self = refTo(WalWriter, this.#ctx.node, this.#ctx.shard);
    this.#closeForArchive();
    return this.#ctx.session(async (session) => {
      for (let waitedMs = 0; waitedMs < archiveDrainMs; waitedMs += archivePollMs) {
        const { unarchived } = await session.ask(self, 'stats', {}, archiveDrainMs);
        if (unarchived === 0) return;
        await session.sleep(archivePollMs);
      }
    });
  }

  #header(
    segmentNumber: number,
    previous: Pick<SegmentHeader, 'previousSegmentNumber' | 'previousLastLsn' | 'previousChain'>,
  ): Uint8Array {
    const { identity } = this.#options;
    const { shard } = this.#ctx;
    const whose = { kind: 'wal' as const, ...identity, shard, writtenWith: this.#writtenWith };
    return encodeSegmentHeader({ ...whose, segmentNumber, ...previous });
  }

  get #writtenWith(): WrittenWith {
    const { durability, inFlightBytes, aheadBytes } = this.#options;
    return { durability, inFlightBytesMax: inFlightBytes + batchBytesMax + aheadBytes };
  }

  #segmentOrBug(): Segment {
    assert(this.#segment !== undefined, 'an append before begin');
    return this.#segment;
  }
}

/** A new segment, extended ahead with zeros; durable, and named by NEWEST, when this ends. */
async function openSegment(
  disk: Disk,
  directory: string,
  options: { readonly number: number; readonly header: Uint8Array; readonly segmentBytes: number },
): Promise<Segment> {
  const { number, header, segmentBytes } = options;
  const path = `${directory}/${segmentName(number)}`;
  const file = disk.open(path, 'create');
  try {
    file.truncate(Math.max(segmentBytes, header.length));
    file.write(header, 0);
    await syncFile(file);
    await disk.syncDirectory(directory);
    const newest = newestFile(directory, number);
    await disk.replace(newest.path, newest.bytes);
    return { number, path, file, chain: segmentChain(header) };
  } catch (error) {
    file.close();
    // After any other failure NEWEST may name it, and the node stops.
    if (error instanceof KvError && error.code === 'DISK_FULL') disk.remove(path);
    throw error;
  }
}

export const walWriter = actor({
  protocol: WalWriter,
  needs: ['disk'],
  create: (ctx: Context<Own, 'disk'>, options: WalOptions) => new WalWriterActor(ctx, options),
});
