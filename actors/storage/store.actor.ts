// Front door of one shard's storage. It owns no bytes: the WAL makes a record durable, the
// memtable and the tables hold it, the manifest says which tables count. This actor keeps their
// order right:
//
//   apply   WAL durable -> memtable -> answer. A record is visible only once it is durable, so no
//           read can leak what a power loss would remove (WAL-7, WAL-8).
//   read    memtable, then tables; the winner by HLC-1, whatever its age (MF-9).
//   flush   freeze -> table written and verified -> manifest edit durable -> table readable ->
//           arena and WAL segments released (MF-3, WAL-9).
//   start   manifest -> tables -> WAL into memory -> flushed -> new WAL segment (WAL-12).
//
// Admission: records in flight and in memory are bounded; beyond, OVERLOADED before anything is
// written, so that nothing grows without limit and nothing acknowledged depends on luck.

import {
  actor,
  type Context,
  type Deferred,
  type Later,
  type Ref,
  refTo,
  type Session,
} from '../../runtime/actor.ts';
import type { Disk } from '../../runtime/environment.ts';
import { assert, describeFailure, failure, KvError } from '../../runtime/errors.ts';
import type { BodyOf, Handlers, Tell } from '../../runtime/protocol.ts';
import { checkRecord, recordHlc } from '../model/record.ts';
import { mergePages, type RecordPage } from '../model/record-pages.ts';
import { type Resolve, resolveAll } from '../model/resolve.ts';
import { ManifestLog, type ManifestOptions } from './manifest.ts';
import {
  type Compactor,
  type FrozenTable,
  type Memtable,
  type RangeRequest,
  Store,
  type StoreStats,
  type TableReader,
  type WalWriter,
} from './protocol.ts';
import { tableName, tableNumber } from './table-files.ts';

export interface StoreOptions {
  readonly wal: Ref<WalWriter>;
  readonly memtable: Ref<Memtable>;
  readonly tables: Ref<TableReader>;
  readonly compactor: Ref<Compactor>;
  readonly resolve: Resolve;
  /** Directory of this shard inside the data directory. */
  readonly directory: string;
  readonly identity: {
    readonly clusterName: string;
    readonly node: string;
    readonly incarnation: number;
  };
  /** A memtable of this size is flushed. */
  readonly memtableBytes: number;
  /** Bytes that may wait for the WAL; one record always may. */
  readonly inFlightBytes: number;
  /** No writes below this free space; they are let in again above twice that (FS-8). */
  readonly reserveBytes: number;
  readonly manifest?: ManifestOptions;
}

interface Own {
  readonly recovered: Tell<{ readonly manifest: ManifestLog }>;
  readonly flushed: Tell<{ readonly table: FrozenTable | undefined }>;
  readonly flushFailed: Tell<{
    readonly table: FrozenTable | undefined;
    readonly reason: string;
  }>;
  readonly retryFlush: Tell<object>;
  readonly checkSpace: Tell<object>;
}

/** Arena bytes of a record beside its own: index entry, alignment, half-full nodes. */
const recordOverheadBytes = 96;
/** Nothing inside the node waits longer; callers have deadlines of their own. */
const internalTimeoutMs = 24 * 3600 * 1000;
const spaceCheckMs = 2_000;
const flushRetryMs = 1_000;

class StoreActor implements Handlers<Store>, Handlers<Own> {
  readonly #ctx: Context<Own, 'disk'>;
  readonly #options: StoreOptions;
  #manifest: ManifestLog | undefined;
  #inFlightBytes = 0;
  #inFlightRecords = 0;
  /** Bytes let in since the last freeze. */
  #admittedBytes = 0;
  #isFlushing = false;
  #isFull = false;
  /** Frozen, but its flush failed. */
  #unflushed: FrozenTable | undefined;
  /** Highest hlc in any table: a newer record in memory needs no look at the tables. */
  #tablesMaxHlc = 0;
  #tableCount = 0;
  #flushWaiters: Deferred<{ readonly tables: number }>[] = [];

  constructor(ctx: Context<Own, 'disk'>, options: StoreOptions) {
    this.#ctx = ctx;
    this.#options = options;
    const shard = String(ctx.shard);
    ctx.metrics.gauge('kvd_store_tables', 'Tables', () => this.#tableCount, { shard });
    const inFlight = (): number => this.#inFlightBytes;
    ctx.metrics.gauge('kvd_store_in_flight_bytes', 'Bytes on the way to the WAL', inFlight, {
      shard,
    });
  }

  // ---- life --------------------------------------------------------------------------------

  start(): Later<void> {
    const { disk, log, tell, toSelf, shard } = this.#ctx;
    const options = this.#options;
    return this.#ctx.session(async (session) => {
      await disk.makeDirectory(`${options.directory}/tables`);
      const identity = { ...options.identity, shard };
      const manifest = await ManifestLog.open(disk, options.directory, identity, options.manifest);
      removeStrangers(disk, options.directory, manifest);
      for (const table of manifest.state.tables.values())
        await session.ask(options.tables, 'install', { table }, internalTimeoutMs);
      const flush = async (): Promise<void> => {
        const { table } = await session.ask(options.memtable, 'freeze', {}, internalTimeoutMs);
        if (table === undefined) return;
        await writeTable(session, options, manifest, table);
        tell(options.memtable, 'release', { arena: table.arena });
      };
      const { records, lastLsn } = await replayWal(session, options, manifest, flush);
      await flush();
      const afterLsn = Math.max(lastLsn, manifest.state.flushedThrough);
      await session.ask(options.wal, 'begin', { afterLsn }, internalTimeoutMs);
      log.info('store.ready', { shard, tables: manifest.state.tables.size, recovered: records });
      toSelf('recovered', { manifest });
    });
  }

  recovered({ manifest }: { readonly manifest: ManifestLog }): void {
    this.#manifest = manifest;
    this.#countTables();
    this.checkSpace();
  }

  /** What is in memory goes to a table: the next start has nothing to recover. */
  drain(): Later<void> {
    const self = refTo(Store, this.#ctx.node, this.#ctx.shard);
    return this.#ctx.session(async (session) => {
      await session.ask(self, 'flush', {}, internalTimeoutMs);
    });
  }

  // ---- writes ------------------------------------------------------------------------------

  apply({ record }: { readonly record: Uint8Array }): Later<{ readonly lsn: number }> {
    checkRecord(record);
    this.#admit(record.length);
    const { wal, memtable } = this.#options;
    const later = this.#ctx.later<{ readonly lsn: number }>();
    const bytes = record.length;
    this.#inFlightBytes += bytes;
    this.#inFlightRecords += 1;
    this.#admittedBytes += bytes + recordOverheadBytes;
    this.#ctx.ask(wal, 'append', { record }, internalTimeoutMs, (problem, reply) => {
      this.#inFlightBytes -= bytes;
      this.#inFlightRecords -= 1;
      if (reply === undefined) return later.fail(problem ?? failure('BUG'));
      // Answers come in LSN order, and one mailbox keeps that order into the memtable.
      this.#ctx.tell(memtable, 'insert', { record, lsn: reply.lsn });
      later.resolve(reply);
    });
    if (this.#admittedBytes >= this.#options.memtableBytes) this.#flush();
    return later;
  }

  #admit(bytes: number): void {
    const { inFlightBytes, memtableBytes } = this.#options;
    if (this.#isFull)
      throw new KvError('DISK_FULL', { detail: 'free space is below the reserve; reads go on' });
    if (this.#inFlightBytes > 0 && this.#inFlightBytes + bytes > inFlightBytes)
      throw new KvError('OVERLOADED', { inFlightBytes: this.#inFlightBytes, max: inFlightBytes });
    if (this.#admittedBytes >= memtableBytes)
      throw new KvError('OVERLOADED', { detail: 'memtables wait for their flush' });
  }

  // ---- reads -------------------------------------------------------------------------------

  read({ key, hash }: BodyOf<Store['read']>): Later<{ readonly record: Uint8Array | undefined }> {
    const { memtable, tables, resolve } = this.#options;
    const later = this.#ctx.later<{ readonly record: Uint8Array | undefined }>();
    this.#ctx.ask(memtable, 'get', { key }, internalTimeoutMs, (problem, found) => {
      if (found === undefined) return later.fail(problem ?? failure('BUG'));
      const { record } = found;
      const aboveHlc = record === undefined ? 0 : recordHlc(record);
      if (this.#tableCount === 0 || aboveHlc > this.#tablesMaxHlc) return later.resolve(found);
      this.#ctx.ask(
        tables,
        'get',
        { key, hash, aboveHlc },
        internalTimeoutMs,
        (trouble, stored) => {
          if (stored === undefined) later.fail(trouble ?? failure('BUG'));
          else later.resolve({ record: resolveAll([record, stored.record], resolve) });
        },
      );
    });
    return later;
  }

  range(request: RangeRequest): Later<RecordPage> {
    const { memtable, tables, resolve } = this.#options;
    const later = this.#ctx.later<RecordPage>();
    this.#ctx.ask(memtable, 'range', request, internalTimeoutMs, (problem, recent) => {
      if (recent === undefined) return later.fail(problem ?? failure('BUG'));
      if (this.#tableCount === 0) return later.resolve(recent);
      this.#ctx.ask(tables, 'range', request, internalTimeoutMs, (trouble, stored) => {
        if (stored === undefined) later.fail(trouble ?? failure('BUG'));
        else later.resolve(mergePages([recent, stored], request.limit, resolve));
      });
    });
    return later;
  }

  // ---- flush -------------------------------------------------------------------------------

  flush(): Later<{ readonly tables: number }> {
    const later = this.#ctx.later<{ readonly tables: number }>();
    this.#flushWaiters.push(later);
    this.#flush();
    return later;
  }

  #flush(): void {
    const manifest = this.#manifest;
    if (this.#isFlushing || manifest === undefined) return;
    this.#isFlushing = true;
    const { toSelf, log, shard } = this.#ctx;
    const options = this.#options;
    let table = this.#unflushed;
    this.#ctx.session(async (session) => {
      try {
        table ??= (await session.ask(options.memtable, 'freeze', {}, internalTimeoutMs)).table;
        if (table !== undefined) await writeTable(session, options, manifest, table);
        toSelf('flushed', { table });
      } catch (error) {
        if (!(error instanceof KvError)) throw error;
        const reason = describeFailure(error.toFailure());
        log.warn('store.flush-failed', { shard, reason });
        toSelf('flushFailed', { table, reason });
      }
    });
    // The freeze is in the memtable's mailbox now: what is let in from here on belongs to the next
    // table, and so does what is still on its way to the WAL.
    if (this.#unflushed === undefined)
      this.#admittedBytes = this.#inFlightBytes + this.#inFlightRecords * recordOverheadBytes;
  }

  /** The table is readable: only now may its arena go, or a read would find it nowhere. */
  flushed({ table }: { readonly table: FrozenTable | undefined }): void {
    const { memtable, wal } = this.#options;
    this.#isFlushing = false;
    this.#unflushed = undefined;
    this.#countTables();
    if (table !== undefined) {
      this.#ctx.probe.reach('memtable flushed');
      this.#ctx.tell(memtable, 'release', { arena: table.arena });
      this.#ctx.tell(wal, 'release', { throughLsn: table.throughLsn });
    }
    const waiters = this.#flushWaiters;
    this.#flushWaiters = [];
    for (const waiter of waiters) waiter.resolve({ tables: this.#tableCount });
    if (this.#admittedBytes >= this.#options.memtableBytes) this.#flush();
  }

  /** Usually a full disk: the frozen table stays in memory and is tried again. */
  flushFailed({ table, reason }: BodyOf<Own['flushFailed']>): void {
    this.#unflushed = table;
    const waiters = this.#flushWaiters;
    this.#flushWaiters = [];
    for (const waiter of waiters) waiter.fail(failure('DISK_FULL', { detail: reason }));
    this.#ctx.after(flushRetryMs, 'retryFlush', {});
  }

  retryFlush(): void {
    this.#isFlushing = false;
    this.#flush();
  }

  // ---- figures and space --------------------------------------------------------------------

  stats(): Later<StoreStats> {
    const { wal, memtable, tables } = this.#options;
    return this.#ctx.session(async (session) => {
      const log = await session.ask(wal, 'stats', {}, internalTimeoutMs);
      const recent = await session.ask(memtable, 'stats', {}, internalTimeoutMs);
      const stored = await session.ask(tables, 'stats', {}, internalTimeoutMs);
      return {
        records: recent.records + stored.records,
        memtableBytes: recent.bytes,
        tables: stored.tables,
        tableBytes: stored.bytes,
        walBytes: log.bytes,
      };
    });
  }

  checkSpace(): void {
    const free = this.#ctx.disk.freeBytes();
    const { reserveBytes } = this.#options;
    const isFull = free < (this.#isFull ? reserveBytes * 2 : reserveBytes);
    if (isFull !== this.#isFull)
      this.#ctx.log.warn(isFull ? 'disk.full' : 'disk.writable', { freeBytes: free });
    this.#isFull = isFull;
    this.#ctx.after(spaceCheckMs, 'checkSpace', {});
  }

  #countTables(): void {
    assert(this.#manifest !== undefined, 'no manifest yet');
    const { tables } = this.#manifest.state;
    this.#tableCount = tables.size;
    this.#tablesMaxHlc = 0;
    for (const { maxHlc } of tables.values())
      this.#tablesMaxHlc = Math.max(this.#tablesMaxHlc, maxHlc);
  }
}

/** A frozen memtable becomes a table that counts (MF-3): written, verified, named, readable. */
async function writeTable(
  session: Session,
  { compactor, tables }: StoreOptions,
  manifest: ManifestLog,
  table: FrozenTable,
): Promise<void> {
  const fileNumber = manifest.takeFileNumber();
  const written = await session.ask(compactor, 'flush', { table, fileNumber }, internalTimeoutMs);
  await manifest.commit({
    added: [written.table],
    dropped: [],
    flushedThrough: table.throughLsn,
  });
  await session.ask(tables, 'install', { table: written.table }, internalTimeoutMs);
}

/** The records that an earlier run left in its WAL go into memory, oldest first. */
async function replayWal(
  session: Session,
  { wal, memtable }: StoreOptions,
  manifest: ManifestLog,
  flush: () => Promise<void>,
): Promise<{ records: number; lastLsn: number }> {
  const { flushedThrough } = manifest.state;
  let records = 0;
  for (;;) {
    const part = await session.ask(wal, 'recover', { flushedThrough }, internalTimeoutMs);
    let rest = part.records;
    while (rest.length > 0) {
      const lsn = part.lastLsn;
      const { loaded } = await session.ask(
        memtable,
        'load',
        { records: rest, lsn },
        internalTimeoutMs,
      );
      records += loaded;
      rest = rest.slice(loaded);
      if (rest.length > 0) await flush();
    }
    if (part.isDone) return { records, lastLsn: part.lastLsn };
  }
}

/** Table files that the manifest does not name: outputs of a run that ended too early (MF-6). */
function removeStrangers(disk: Disk, directory: string, manifest: ManifestLog): void {
  const known = new Set([...manifest.state.tables.keys()].map((number) => tableName(number)));
  for (const name of disk.list(`${directory}/tables`)) {
    const number = tableNumber(name);
    if (number !== undefined) manifest.skipFileNumber(number);
    if (!known.has(name)) disk.remove(`${directory}/tables/${name}`);
  }
}

export const store = actor({
  protocol: Store,
  needs: ['disk'],
  create: (ctx: Context<Own, 'disk'>, options: StoreOptions) => new StoreActor(ctx, options),
});
