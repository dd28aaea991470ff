// Front door of one shard's storage. It owns no bytes: the WAL makes a record durable, the
// memtable and the tables hold it, the manifest says which tables count. This actor keeps their
// order right:
//
//   apply   WAL durable -> memtable -> answer. A record is visible only once it is durable, so no
//           read can leak what a power loss would remove (WAL-7, WAL-8).
//   read    row cache, or memtable, then tables; the winner by HLC-1, whatever its age (MF-9).
//   flush   freeze -> table written and verified -> manifest edit durable -> table readable ->
//           arena and WAL segments released (MF-3, WAL-9).
//   compact inputs merged -> one manifest edit durable -> readable -> inputs removed (MF-4); one
//           job at a time, beside flushes.
//   start   store-recovery.ts; on a full disk its last steps wait for space (FS-8).
//
// What it lets in is decided in admission.ts.

import {
  actor,
  type Context,
  type Done,
  type Later,
  type Ref,
  refTo,
} from '../../runtime/actor.ts';
import { assert, describeFailure, type ErrorCode, failure, KvError } from '../../runtime/errors.ts';
import type { BodyOf, Handlers, Tell } from '../../runtime/protocol.ts';
import { BytePool } from '../../runtime/byte-pool.ts';
import type { CatalogBytes } from '../catalog/protocol.ts';
import type { Watcher } from '../gateway/protocol.ts';
import { type CatalogFileOptions, readCatalogFile } from '../model/catalog-file.ts';
import { checkRecord, recordHash } from '../model/record.ts';
import type { RecordPage } from '../model/record-pages.ts';
import type { Resolve } from '../model/resolve.ts';
import type { Compression } from '../model/table-choices.ts';
import { Admission } from './admission.ts';
import { registerCache } from './cache-figures.ts';
import { CompactionFigures } from './compaction-figures.ts';
import { FlushQueue, type Frozen } from './flush-queue.ts';
import { GroupBoard } from './group-board.ts';
import type { PickerOptions } from './compaction-picker.ts';
import type { ManifestLog } from './manifest.ts';
import { MergePace } from './merge-pace.ts';
import { MergeSearch } from './merge-search.ts';
import {
  type FrozenTable,
  type RangeRequest,
  Store,
  type StoreStats,
  type TableMeta,
} from './protocol.ts';
import type { PurgeArcs } from './purge-rule.ts';
import { RowCache } from './row-cache.ts';
import {
  type CompactionOutcome,
  compactTables,
  internalTimeoutMs,
  linkTables,
  statsOf,
  writeTable,
} from './store-steps.ts';
import {
  isDiskFull,
  type Recovered,
  type RecoveryOptions,
  recoverStore,
} from './store-recovery.ts';
import { type Found, StoreReads } from './store-reads.ts';
import { tableNumber } from './table-files.ts';
import { WritePace } from './write-pace.ts';

export interface StoreOptions extends RecoveryOptions {
  readonly resolve: Resolve;
  readonly identity: {
    readonly clusterName: string;
    readonly node: string;
    readonly incarnation: number;
  };
  /** Hears of what is written, while somebody watches; absent: nobody ever does. */
  readonly watcher?: Ref<Watcher> | undefined;
  /** A memtable of this size is flushed. */
  readonly memtableBytes: number;
  /** Memtables: one takes records, the others wait for their flush. */
  readonly arenas: number;
  /** Bytes that may wait for the WAL; one record always may. */
  readonly inFlightBytes: number;
  /** With its index no record is larger. */
  readonly heldBytesMax: number;
  /** Records that are read often, with their index; 0 keeps none. */
  readonly rowCacheBytes: number;
  /** Where a namespace chooses nothing. */
  readonly compaction: PickerOptions;
  readonly compression: Compression;
  /** Where the node keeps its namespaces; absent: it has none but the first. */
  readonly catalog?: CatalogFileOptions | undefined;
  /** With so many tables waiting for their merge writes are refused until it has caught up. */
  readonly waitingTablesMax: number;
  /** Merges pause when the p99 of the delay of requests is above, milliseconds; 0: never. */
  readonly foregroundDelayMs: number;
}

interface Own {
  readonly recovered: Tell<Recovered>;
  readonly logBegun: Tell<object>;
  readonly flushed: Tell<{
    readonly table: FrozenTable;
    readonly written: readonly TableMeta[];
  }>;
  readonly flushFailed: Tell<{ readonly code: ErrorCode; readonly reason: string }>;
  readonly retryFlush: Tell<object>;
  readonly resumeStart: Tell<object>;
  readonly compacted: Tell<{
    readonly outcome: CompactionOutcome;
    readonly startedMs: number;
  }>;
  readonly nothingDue: Tell<object>;
  readonly compactionFailed: Tell<{
    readonly reason: string;
    /** The table that could not be read, where that was the reason. */
    readonly damaged: string | undefined;
  }>;
  readonly retryCompaction: Tell<object>;
  readonly lookAgain: Tell<object>;
  readonly checkSpace: Tell<object>;
  readonly measure: Tell<object>;
}

const spaceCheckMs = 2_000;
const flushRetryMs = 1_000;
/** Doubles with each failure in a row. */
const compactionRetryMs = 1_000;
const compactionRetryMsMax = 60_000;
/** Windows end and records expire also where nothing is written. */
const lookAgainMs = 60_000;

type Needs = 'disk' | 'takeMemory';

class StoreActor implements Handlers<Store>, Handlers<Own> {
  readonly #ctx: Context<Own, Needs>;
  readonly #options: StoreOptions;
  #manifest: ManifestLog | undefined;
  readonly #admission: Admission;
  readonly #queue: FlushQueue;
  /** The log takes records; before, everything of the earlier run has to be in tables. */
  #isLogBegun = false;
  #isBeginning = false;
  #afterLsn = 0;
  /** Highest hlc in any table: a newer record in memory needs no look at the tables. */
  #tablesMaxHlc = 0;
  #tableCount = 0;
  #isDraining = false;
  #isCompacting = false;
  #compactionFailures = 0;
  #purgeArcs: PurgeArcs | undefined;
  readonly #figures: CompactionFigures;
  readonly #groups: GroupBoard;
  readonly #search: MergeSearch;
  readonly #rows: RowCache;
  readonly #reads: StoreReads;
  /** Tells the watcher, while somebody watches. */
  #told: ((records: readonly Uint8Array[]) => void) | undefined;
  /** Records that the watcher was told of. */
  #sequence = 0;
  readonly #pace: MergePace;
  readonly #writePace: WritePace;

  constructor(ctx: Context<Own, Needs>, options: StoreOptions) {
    this.#ctx = ctx;
    this.#options = options;
    this.#queue = new FlushQueue(options.arenas - 1);
    this.#admission = new Admission(options, () => this.#lookAtSpace());
    const labels = { shard: String(ctx.shard) };
    const { metrics } = ctx;
    metrics.gauge('kvd_store_tables', 'Tables', () => this.#tableCount, labels);
    const inFlight = (): number => this.#admission.inFlightBytes;
    metrics.gauge('kvd_store_in_flight_bytes', 'Bytes on the way to the WAL', inFlight, labels);
    this.#figures = new CompactionFigures(metrics, labels);
    const usual = { strategy: options.compaction.strategy, compression: options.compression };
    this.#groups = new GroupBoard(usual, options.compaction, metrics, labels);
    this.#search = new MergeSearch(options, this.#groups);
    this.#pace = new MergePace(ctx, options.compactor, options.foregroundDelayMs);
    const limits = { ...options, l0Tables: options.compaction.l0Tables };
    this.#writePace = new WritePace(ctx, options.wal, limits, this.#admission);
    const pool = new BytePool();
    const { rowCacheBytes, resolve } = options;
    this.#rows = new RowCache(rowCacheBytes, resolve, (row) => pool.copy(row), ctx.takeMemory);
    registerCache(metrics, { ...labels, cache: 'rows' }, () => this.#rows.figures);
    this.#reads = new StoreReads(ctx, options, this.#rows);
  }

  // ---- life --------------------------------------------------------------------------------

  start(): Later<void> {
    const { disk, log, tell, toSelf, shard } = this.#ctx;
    const options = this.#options;
    // A merge by other groups than those of the last run would mix what they keep apart.
    if (options.catalog !== undefined) this.#groups.know(readCatalogFile(disk, options.catalog), 0);
    const { sections } = this.#groups;
    const release = (arena: number): void => tell(options.memtable, 'release', { arena });
    return this.#ctx.session(async (session) => {
      const tools = { session, disk, log, sections, release };
      const recovered = await recoverStore(tools, options, { ...options.identity, shard });
      const { records, manifest, unflushed } = recovered;
      if (unflushed.length === 0) {
        try {
          const { afterLsn } = recovered;
          await session.ask(options.wal, 'begin', { afterLsn }, internalTimeoutMs);
          toSelf('logBegun', {});
        } catch (error) {
          if (!isDiskFull(error)) throw error;
        }
      }
      log.info('store.ready', { shard, tables: manifest.state.tables.size, recovered: records });
      toSelf('recovered', recovered);
    });
  }

  recovered({ manifest, unflushed, afterLsn }: Recovered): void {
    this.#manifest = manifest;
    this.#queue.begin(unflushed);
    this.#afterLsn = afterLsn;
    this.#groups.begin(manifest.state.nextFileNumber);
    this.#countTables();
    this.checkSpace();
    this.#flush();
    this.lookAgain();
  }

  logBegun(): void {
    this.#isLogBegun = true;
    if (this.#manifest !== undefined) this.#lookAtSpace();
  }

  /** After a start on a full disk: what is left of the earlier run is in tables now. */
  #beginLog(): void {
    if (this.#isBeginning) return;
    this.#isBeginning = true;
    const { wal } = this.#options;
    const body = { afterLsn: this.#afterLsn };
    this.#ctx.ask(wal, 'begin', body, internalTimeoutMs, (problem) => {
      this.#isBeginning = false;
      if (problem === undefined) this.logBegun();
      else if (problem.code === 'DISK_FULL') this.#ctx.after(flushRetryMs, 'resumeStart', {});
      // Half of a segment may be there, which only a start makes sense of.
      else this.#ctx.stopNode(`disk: the log could not be begun: ${problem.code}`);
    });
  }

  resumeStart(): void {
    this.#flush();
  }

  /** What is in memory goes to a table: the next start has nothing to recover. */
  drain(): Later<void> {
    const self = refTo(Store, this.#ctx.node, this.#ctx.shard);
    this.#isDraining = true;
    return this.#ctx.session(async (session) => {
      await session.ask(self, 'flush', {}, internalTimeoutMs);
    });
  }

  // ---- writes ------------------------------------------------------------------------------

  apply({ record }: { readonly record: Uint8Array }): Later<{ readonly lsn: number }> {
    checkRecord(record);
    return this.#write([record], record.length);
  }

  /** As apply, for several records at once: one log record, one insert, one answer. */
  applyMany({ records }: BodyOf<Store['applyMany']>): Later<{ readonly lsn: number }> {
    if (records.length === 0) throw new KvError('BAD_REQUEST', { detail: 'an empty batch' });
    let bytes = 0;
    for (const record of records) {
      checkRecord(record);
      bytes += record.length;
    }
    return this.#write(records, bytes);
  }

  feed({ isOn }: { readonly isOn: boolean }): { readonly sequence: number } {
    const { watcher } = this.#options;
    const { tell, shard } = this.#ctx;
    this.#told = undefined;
    if (isOn && watcher !== undefined)
      this.#told = (records) => {
        this.#sequence += records.length;
        tell(watcher, 'committed', { shard, sequence: this.#sequence, records });
      };
    return { sequence: this.#sequence };
  }

  #write(records: readonly Uint8Array[], bytes: number): Later<{ readonly lsn: number }> {
    this.#admission.enter(bytes, records.length);
    this.#writePace.logs(bytes);
    const { wal, memtable } = this.#options;
    const later = this.#ctx.later<{ readonly lsn: number }>();
    const [record] = records;
    const alone = records.length === 1 ? record : undefined;
    const logged: Done<{ readonly lsn: number }> = (problem, reply) => {
      this.#admission.logged(bytes, records.length);
      // Answers come in LSN order, and one mailbox keeps that order into the memtable.
      if (reply === undefined) later.fail(problem ?? failure('BUG'));
      else if (alone === undefined)
        this.#ctx.tellHere(memtable, 'insertMany', { records, lsn: reply.lsn });
      else this.#ctx.tellHere(memtable, 'insert', { record: alone, lsn: reply.lsn });
      if (reply !== undefined) {
        for (const record of records) this.#rows.written(record, recordHash(record));
        this.#told?.(records);
        later.resolve(reply);
      }
      // It was full of what was on its way to the log: there may be something to freeze now.
      if (this.#admission.isMemtableFull) this.#flush();
    };
    const { askHere } = this.#ctx;
    if (alone === undefined) askHere(wal, 'appendMany', { records }, Infinity, logged);
    else askHere(wal, 'append', { record: alone }, Infinity, logged);
    if (this.#admission.isMemtableFull) this.#flush();
    return later;
  }

  // ---- reads -------------------------------------------------------------------------------

  read(look: BodyOf<Store['read']>): Found | Later<Found> {
    return this.#reads.read(look);
  }

  range(request: RangeRequest): Later<RecordPage> {
    return this.#reads.range(request);
  }

  // ---- flush -------------------------------------------------------------------------------

  flush(): Later<{ readonly tables: number }> {
    const later = this.#ctx.later<{ readonly tables: number }>();
    this.#queue.wish({
      done: () => later.resolve({ tables: this.#tableCount }),
      failed: (problem) => later.fail(problem),
    });
    this.#flush();
    return later;
  }

  /** Freezes what is due, also while a flush runs, and writes the oldest that is frozen. */
  #flush(): void {
    const manifest = this.#manifest;
    if (manifest === undefined) return;
    const queue = this.#queue;
    const isFull = this.#isLogBegun ? this.#admission.isMemtableFull : queue.isEmpty;
    if ((isFull || queue.isWished) && queue.mayFreeze) this.#freeze();
    const next = queue.next();
    if (next !== undefined) this.#writeTable(next, manifest);
  }

  #freeze(): void {
    this.#queue.freezeBegins(this.#writePace.freezes());
    this.#ctx.askHere(this.#options.memtable, 'freeze', {}, Infinity, (problem, reply) => {
      assert(reply !== undefined, `no memtable could be frozen: ${problem?.code}`);
      this.#frozen(reply.table);
    });
    // The freeze is in the memtable's mailbox now: what is let in from here on belongs to the next
    // table, and so does what is still on its way to the WAL.
    this.#admission.frozen();
  }

  #frozen(table: FrozenTable | undefined): void {
    this.#writePace.logs(this.#queue.frozen(table));
    if (this.#queue.isEmpty && !this.#isLogBegun) this.#beginLog();
    // With nothing to freeze all of it is still in flight: the next answer of the log tries again.
    if (table !== undefined || this.#queue.isWished) this.#flush();
  }

  #writeTable({ table, loggedBytes }: Frozen, manifest: ManifestLog): void {
    const { disk, toSelf, log, shard, probe } = this.#ctx;
    probe.reach('flush began');
    if (loggedBytes !== undefined) this.#writePace.flushBegins(loggedBytes);
    const options = this.#options;
    const plan = { table, isRecovered: !this.#isLogBegun, sections: this.#groups.sections };
    this.#ctx.session(async (session) => {
      try {
        const written = await writeTable(session, disk, options, manifest, plan);
        toSelf('flushed', { table, written });
      } catch (error) {
        if (!(error instanceof KvError)) throw error;
        const reason = describeFailure(error.toFailure());
        log.warn('store.flush-failed', { shard, reason });
        toSelf('flushFailed', { code: error.code, reason });
      }
    });
  }

  /** The table is readable: only now may its arena go, or a read would find it nowhere. */
  flushed({ table, written }: BodyOf<Own['flushed']>): void {
    const { memtable, wal } = this.#options;
    this.#groups.flushed(written);
    this.#writePace.flushEnds('written');
    this.#countTables();
    this.#ctx.probe.reach('memtable flushed');
    this.#ctx.tell(memtable, 'release', { arena: table.arena });
    this.#ctx.tell(wal, 'release', { throughLsn: table.throughLsn });
    this.#queue.written();
    this.#flush();
    this.#compact();
  }

  /** Usually a full disk: the frozen table stays in memory and is tried again. */
  flushFailed({ code, reason }: BodyOf<Own['flushFailed']>): void {
    this.#writePace.flushEnds('kept');
    this.#queue.failed(failure(code, { detail: reason }));
    this.#stopIfManifestFailed();
    this.#ctx.after(flushRetryMs, 'retryFlush', {});
  }

  linkTables({ prefix }: BodyOf<Store['linkTables']>): { readonly edit: Uint8Array } {
    if (this.#manifest === undefined) throw new KvError('DRAINING', { node: this.#ctx.node });
    return { edit: linkTables(this.#ctx.disk, this.#options, this.#manifest, prefix) };
  }

  retryFlush(): void {
    this.#queue.retry();
    this.#flush();
  }

  // ---- compaction --------------------------------------------------------------------------

  #compact(): void {
    const manifest = this.#manifest;
    if (this.#isCompacting || this.#isDraining || manifest === undefined) return;
    const options = this.#options;
    const { disk, toSelf, clock } = this.#ctx;
    const place = { disk, wallMicros: clock.wallMicros(), arcs: this.#purgeArcs };
    const find = this.#search.begin(manifest, place);
    if (find === undefined) return;
    this.#isCompacting = true;
    this.#pace.mergeBegins();
    const startedMs = clock.monotonicMs();
    const { dropped } = this.#search;
    this.#ctx.session(async (session) => {
      try {
        const job = await find(session);
        if (job === undefined) return toSelf('nothingDue', {});
        const now = { ...place, dropped: dropped.all };
        const outcome = await compactTables(session, now, options, manifest, job);
        toSelf('compacted', { outcome, startedMs });
      } catch (error) {
        if (!(error instanceof KvError)) throw error;
        const { code, fields } = error;
        const damaged = code === 'CORRUPT' ? String(fields['file']) : undefined;
        toSelf('compactionFailed', { reason: describeFailure(error.toFailure()), damaged });
      }
    });
  }

  /** For the compactions that begin from now on. */
  purgeBelow(arcs: PurgeArcs): void {
    this.#purgeArcs = arcs;
  }

  /** What is in memory of one that was dropped goes to a table first: only tables are rewritten. */
  namespacesChanged(known: CatalogBytes): object {
    const { dropped } = this.#search;
    if (!dropped.changed(known)) return {};
    this.#regroup();
    if (dropped.all === undefined) return {};
    this.#flushDropped(this.#search.beginDrop());
    return {};
  }

  #flushDropped(generation: number): void {
    this.#queue.wish({
      done: () => {
        this.#search.dropFlushed(generation);
        this.#compact();
      },
      failed: () => this.#flushDropped(generation),
    });
    this.#flush();
  }

  /** Tables of other groups stay valid; the new strategies take them from here on. */
  #regroup(): void {
    const nextFileNumber = this.#manifest?.state.nextFileNumber;
    if (!this.#groups.know(this.#search.dropped.document, nextFileNumber ?? 0)) return;
    this.#ctx.probe.reach('compaction groups changed');
    if (nextFileNumber === undefined) return;
    this.#countTables();
    this.#compact();
  }

  /** Nothing is left of the dropped, or nothing that can be read; and nothing that has expired. */
  nothingDue(): void {
    this.#isCompacting = false;
    this.#pace.mergeEnds();
    this.#search.foundNothing();
    this.#compact();
  }

  compacted({ outcome, startedMs }: BodyOf<Own['compacted']>): void {
    const { probe, log, clock, shard } = this.#ctx;
    probe.reach('compaction installed');
    if (outcome.purged > 0) probe.reach('tombstones purged');
    const tookMs = Math.round(clock.monotonicMs() - startedMs);
    const { written, ...figures } = outcome;
    log.info('compaction.done', { shard, ...figures, tookMs });
    this.#search.done(outcome, clock.wallMicros() / 1000);
    this.#groups.compacted(written);
    this.#isCompacting = false;
    this.#pace.mergeEnds();
    this.#compactionFailures = 0;
    this.#figures.done(outcome);
    this.#countTables(tookMs);
    this.#compact();
  }

  /** Inputs stay, whatever it was; a table that cannot be read is no longer an input. */
  compactionFailed({ reason, damaged }: BodyOf<Own['compactionFailed']>): void {
    const { probe, log, shard } = this.#ctx;
    probe.reach('compaction failed');
    log.warn('compaction.failed', { shard, reason });
    this.#pace.mergeEnds();
    const fileNumber = tableNumber(damaged?.slice(damaged.lastIndexOf('/') + 1) ?? '');
    if (fileNumber !== undefined) this.#search.damaged.add(fileNumber);
    this.#stopIfManifestFailed();
    this.#countTables();
    const delayMs = compactionRetryMs * 2 ** Math.min(this.#compactionFailures, 16);
    this.#compactionFailures += 1;
    this.#figures.failed();
    this.#ctx.after(Math.min(delayMs, compactionRetryMsMax), 'retryCompaction', {});
  }

  retryCompaction(): void {
    this.#isCompacting = false;
    this.#compact();
  }

  lookAgain(): void {
    this.#search.timePassed();
    this.#compact();
    this.#ctx.after(lookAgainMs, 'lookAgain', {});
  }

  // ---- pace --------------------------------------------------------------------------------

  measure(): void {
    this.#pace.measure();
  }

  ping(): object {
    return {};
  }

  /** Nobody knows what is in it, and no table can change any more: recovery finds out (MF-5). */
  #stopIfManifestFailed(): void {
    if (this.#manifest?.hasFailed === true)
      this.#ctx.stopNode(
        `DISK_FAILED: a change of the manifest of shard ${this.#ctx.shard} failed`,
      );
  }

  tables(): { readonly tables: readonly TableMeta[] } {
    return { tables: [...(this.#manifest?.state.tables.values() ?? [])] };
  }

  damaged({ fileNumber }: { readonly fileNumber: number }): void {
    if (this.#manifest?.state.tables.has(fileNumber) !== true) return;
    this.#search.damaged.add(fileNumber);
    this.#countTables();
  }

  // ---- figures and space --------------------------------------------------------------------

  stats(): Later<StoreStats> {
    const options = this.#options;
    const newestHlc = this.#tablesMaxHlc;
    return this.#ctx.session((session) => statsOf(session, options, newestHlc));
  }

  checkSpace(): void {
    this.#lookAtSpace();
    this.#ctx.after(spaceCheckMs, 'checkSpace', {});
  }

  /** Refuses below what a flush of everything in memory needs; lets in again a reserve above. */
  #lookAtSpace(): void {
    const free = this.#ctx.disk.freeBytes();
    const { reserveBytes, flushSpaceBytes } = this.#options;
    const wasFull = this.#admission.isFull;
    const neededBytes = reserveBytes + flushSpaceBytes;
    const isFull = !this.#isLogBegun || free < neededBytes + (wasFull ? reserveBytes : 0);
    if (isFull !== wasFull)
      this.#ctx.log.warn(isFull ? 'disk.full' : 'disk.writable', { freeBytes: free, neededBytes });
    this.#admission.isFull = isFull;
    this.#admission.spareBytes = free - neededBytes;
  }

  /** `mergedMs`: what the merge took that has just ended, if one has. */
  #countTables(mergedMs?: number): void {
    assert(this.#manifest !== undefined, 'no manifest yet');
    const tables = [...this.#manifest.state.tables.values()];
    this.#tableCount = tables.length;
    this.#tablesMaxHlc = tables.reduce((most, { maxHlc }) => Math.max(most, maxHlc), 0);
    this.#reads.tablesChanged(this.#tableCount, this.#tablesMaxHlc);
    const nowMs = this.#ctx.clock.wallMicros() / 1000;
    const pressure = this.#groups.measure(tables, { nowMs, damaged: this.#search.damaged });
    this.#figures.debtBytes = pressure.debtBytes;
    this.#figures.levels = tables.reduce((most, { level }) => Math.max(most, level + 1), 0);
    this.#pace.owes(pressure.waitingTables / this.#options.waitingTablesMax);
    this.#writePace.owes(pressure.waitingTables, mergedMs);
  }
}

export const store = actor({
  protocol: Store,
  needs: ['disk', 'takeMemory'],
  create: (ctx: Context<Own, Needs>, options: StoreOptions) => new StoreActor(ctx, options),
});
