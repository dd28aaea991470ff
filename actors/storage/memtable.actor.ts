// The newest records of one shard, ordered, in arenas of shared memory: no object and no garbage
// per record, and a frozen table is read by the flusher on its own thread without a copy
// (measured: docs/performance.md).
//
// One table is active; frozen ones wait for their flush. The store freezes before an arena can
// fill up and lets in no more than fits, so an insert that does not fit is a defect: the record is
// durable in the WAL, the node stops and recovers it from there.

import { actor, type Context } from '../../runtime/actor.ts';
import { assert, KvError } from '../../runtime/errors.ts';
import type { BodyOf, Handlers, ReplyOf } from '../../runtime/protocol.ts';
import { recordHlc } from '../model/record.ts';
import { mergePages, type RecordPage, readPage } from '../model/record-pages.ts';
import { type Resolve, resolveAll } from '../model/resolve.ts';
import { ArenaTree } from './arena-tree.ts';
import { type FrozenTable, Memtable, type RangeRequest } from './protocol.ts';

export interface MemtableOptions {
  /** Indexes into the node's arenas that belong to this shard, at least 2. */
  readonly arenas: readonly number[];
  readonly resolve: Resolve;
}

interface Table {
  readonly arena: number;
  readonly tree: ArenaTree;
  throughLsn: number;
  minHlc: number;
}

class MemtableActor implements Handlers<Memtable> {
  readonly #ctx: Context<object, 'arenas'>;
  readonly #resolve: Resolve;
  readonly #free: number[];
  #active: Table;
  /** Oldest first. */
  #frozen: Table[] = [];

  constructor(ctx: Context<object, 'arenas'>, options: MemtableOptions) {
    this.#ctx = ctx;
    this.#resolve = options.resolve;
    this.#free = [...options.arenas];
    this.#active = this.#newTable(0);
    const shard = String(ctx.shard);
    const bytes = (): number => this.stats().bytes;
    ctx.metrics.gauge('kvd_memtable_bytes', 'Bytes in memtables', bytes, { shard });
  }

  insert({ record, lsn }: { readonly record: Uint8Array; readonly lsn: number }): void {
    const active = this.#active;
    const outcome = active.tree.insert(record, this.#resolve);
    assert(outcome !== 'full', 'a record that was let in does not fit into the memtable');
    active.throughLsn = lsn;
    active.minHlc = Math.min(active.minHlc, recordHlc(record));
  }

  insertMany({ records, lsn }: BodyOf<Memtable['insertMany']>): void {
    for (const record of records) this.insert({ record, lsn });
  }

  load({ records, lsn }: { readonly records: readonly Uint8Array[]; readonly lsn: number }): {
    readonly loaded: number;
  } {
    const active = this.#active;
    let loaded = 0;
    for (const record of records) {
      if (active.tree.insert(record, this.#resolve) === 'full') return { loaded };
      active.minHlc = Math.min(active.minHlc, recordHlc(record));
      loaded += 1;
    }
    active.throughLsn = Math.max(active.throughLsn, lsn);
    return { loaded };
  }

  get({ key }: { readonly key: Uint8Array }): { readonly record: Uint8Array | undefined } {
    const newest = this.#active.tree.get(key);
    if (this.#frozen.length === 0) return { record: newest };
    // A frozen table may hold the winner: a repair writes old stamps into the active one.
    const older = this.#frozen.map(({ tree }) => tree.get(key));
    return { record: resolveAll([newest, ...older], this.#resolve) };
  }

  range(request: RangeRequest): RecordPage {
    const tables = [this.#active, ...this.#frozen];
    const pages = tables.map(({ tree }) => readPage(tree.cursor(request.from), request));
    return mergePages(pages, request.limit, this.#resolve);
  }

  freeze(): { readonly table: FrozenTable | undefined } {
    const { arena, tree, throughLsn } = this.#active;
    if (tree.records === 0) return { table: undefined };
    if (this.#free.length === 0)
      throw new KvError('OVERLOADED', { detail: 'all memtables wait for their flush' });
    this.#frozen.push(this.#active);
    this.#active = this.#newTable(throughLsn);
    return { table: { arena, records: tree.records, bytes: tree.bytesUsed, throughLsn } };
  }

  release({ arena }: { readonly arena: number }): void {
    const before = this.#frozen.length;
    this.#frozen = this.#frozen.filter((table) => table.arena !== arena);
    assert(this.#frozen.length === before - 1, `arena ${arena} is not frozen`);
    // Used next: memory that was never touched costs nothing.
    this.#free.unshift(arena);
  }

  stats(): ReplyOf<Memtable['stats']> {
    let records = 0;
    let bytes = 0;
    let oldest = Number.MAX_SAFE_INTEGER;
    for (const { tree, minHlc } of [this.#active, ...this.#frozen]) {
      records += tree.records;
      bytes += tree.bytesUsed;
      oldest = Math.min(oldest, minHlc);
    }
    return { records, bytes, minHlc: oldest };
  }

  #newTable(throughLsn: number): Table {
    const arena = this.#free.shift();
    assert(arena !== undefined, 'no free arena');
    const memory = this.#ctx.arenas[arena];
    assert(memory !== undefined, `no arena ${arena}`);
    return { arena, tree: ArenaTree.create(memory), throughLsn, minHlc: Number.MAX_SAFE_INTEGER };
  }
}

export const memtable = actor({
  protocol: Memtable,
  needs: ['arenas'],
  create: (ctx: Context<object, 'arenas'>, options: MemtableOptions) =>
    new MemtableActor(ctx, options),
});
