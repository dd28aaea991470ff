// Background work of one shard, on the background thread: frozen memtables become tables, and many
// tables become few. It reads a frozen arena in shared memory, so nothing is copied between
// threads; it reads tables by itself, past the block cache, whose blocks are for readers. All of
// these threads run at low priority (docs/performance.md).
//
// Flushes and a compaction run beside each other: each lets the other go on after every batch. A
// compaction also pauses as long as the store says (pacing.ts), and while there is a flush: writes wait
// for that one. It only makes new files; what counts is for the store and its manifest to say.

import { actor, type Context, type Later, type Session } from '../../runtime/actor.ts';
import { assert } from '../../runtime/errors.ts';
import type { BodyOf, Handlers, ReplyOf } from '../../runtime/protocol.ts';
import { isDroppedBy } from '../model/dropped-keys.ts';
import { recordKey, recordNamespace } from '../model/record.ts';
import type { RecordCursor } from '../model/record-pages.ts';
import type { Resolve } from '../model/resolve.ts';
import { ArenaTree } from './arena-tree.ts';
import { BlockBatches } from './block-batch.ts';
import { byFirstKey } from './key-ranges.ts';
import { chainCursors, mergeCursors } from './merge-iterator.ts';
import { Compactor, type TableMeta } from './protocol.ts';
import { keeperOf } from './purge-rule.ts';
import type { CodecName } from './sstable-format.ts';
import { openTable, type SstableReader, type TablePlace } from './sstable-reader.ts';
import { readAheadDisk } from './read-ahead.ts';
import { type TablePlan, type TableTools, writeTables } from './table-output.ts';
import { joinSmall, sectionOf, type TableSection } from './table-sections.ts';
import type { Compression } from '../model/table-choices.ts';

export interface CompactorOptions {
  /** Directory of this shard inside the data directory. */
  readonly directory: string;
  readonly resolve: Resolve;
  readonly compression: Compression;
}

type Needs = 'disk' | 'arenas' | 'codecs' | 'tasks';

/** After each batch of a merge while a memtable is written: most of the thread is for the flush. */
const flushPauseMs = 50;

class CompactorActor implements Handlers<Compactor> {
  readonly #ctx: Context<object, Needs>;
  readonly #options: CompactorOptions;
  readonly #batches = new BlockBatches();
  #pauseMs = 0;
  /** Memtables that are being written. */
  readonly #flushes = { open: 0 };
  /** Of the merge that runs: records of its inputs, and those written or left out. */
  #running = { all: 0, done: 0 };

  constructor(ctx: Context<object, Needs>, options: CompactorOptions) {
    this.#ctx = ctx;
    this.#options = options;
    const name = 'kvd_compaction_running_records';
    const help = 'Records of the merge that runs: of its inputs, and merged so far';
    for (const state of ['all', 'done'] as const) {
      const labels = { shard: String(ctx.shard), state };
      ctx.metrics.gauge(name, help, () => this.#running[state], labels);
    }
  }

  pace({ pauseMs }: BodyOf<Compactor['pace']>): void {
    this.#pauseMs = pauseMs;
  }

  flush(job: BodyOf<Compactor['flush']>): Later<{ readonly tables: readonly TableMeta[] }> {
    const { disk, codecs, tasks, arenas, log, shard } = this.#ctx;
    const batches = this.#batches;
    const { directory, compression } = this.#options;
    const { table, fileNumbers, sections, sectionBytesMin = 0 } = job;
    const terms = { bytesMin: sectionBytesMin, plain: compression };
    const whole = [{ fromId: 0, compression }];
    const memory = arenas[table.arena];
    assert(memory !== undefined, `no arena ${table.arena}`);
    return this.#flushing(async (session) => {
      const tree = ArenaTree.open(memory);
      const { sleep } = session;
      const tools = { disk, codecs, tasks, batches, sleep, pauseMs: () => 0 };
      const joined =
        sections === undefined || sections.length === 1
          ? sections
          : joinSmall(sections, await sizesOf(tree.cursor(), sections, sleep), terms);
      const expectedRecords = (joined?.length ?? 1) === 1 ? { expectedRecords: tree.records } : {};
      const plan = { directory, fileNumbers, level: 0, ...expectedRecords, keep: () => true };
      const cuts = { sections: packed(joined ?? whole, false) };
      const tables = await writeTables(tree.cursor(), { ...plan, ...cuts }, tools);
      assert(tables.length > 0, 'a frozen memtable without records');
      for (const { fileNumber, records, bytes } of tables)
        log.info('table.written', { shard, fileNumber, records, bytes });
      return { tables };
    });
  }

  /** `work` is a flush: merges give way to it. */
  #flushing<Result>(work: (session: Session) => Promise<Result>): Later<Result> {
    const flushes = this.#flushes;
    flushes.open += 1;
    return this.#ctx.session(async (session) => {
      try {
        return await work(session);
      } finally {
        flushes.open -= 1;
      }
    });
  }

  compact(job: BodyOf<Compactor['compact']>): Later<ReplyOf<Compactor['compact']>> {
    const { disk, codecs, tasks } = this.#ctx;
    const { directory, resolve } = this.#options;
    const { inputs, level, splitBytes, fileNumbers, purge, dropped, isCold } = job;
    const whole = [{ fromId: 0, compression: this.#options.compression }];
    const sections = packed(job.sections ?? whole, isCold);
    const running = { all: inputs.reduce((sum, { records }) => sum + records, 0), done: 0 };
    this.#running = running;
    const pauseMs = (): number =>
      this.#flushes.open > 0 ? Math.max(this.#pauseMs, flushPauseMs) : this.#pauseMs;
    const batches = this.#batches;
    return this.#ctx.session(async (session) => {
      const readers: SstableReader[] = [];
      const { sleep } = session;
      const tools = { disk, codecs, tasks, batches, sleep, pauseMs };
      const mayStay = keeperOf(purge);
      const isDropped = dropped === undefined ? undefined : isDroppedBy(dropped);
      let purged = 0;
      const keep = (record: Uint8Array): boolean => {
        const stays = isDropped?.(recordKey(record)) !== true && mayStay(record);
        running.done += 1;
        if (!stays) purged += 1;
        return stays;
      };
      try {
        const cursor = mergeCursors(
          cursorsOf({ disk: readAheadDisk(disk), codecs, directory }, inputs, readers),
          resolve,
        );
        const plan = { directory, fileNumbers, splitBytes, level, sections, keep };
        return { tables: await writeTables(cursor, plan, tools), purged };
      } finally {
        for (const reader of readers) reader.close();
        running.all = 0;
        running.done = 0;
      }
    });
  }
}

/** `isCold`: nothing lies below, so the table stays for long. */
function codecFor(compression: Compression, isCold: boolean): CodecName {
  if (compression !== 'auto') return compression;
  return isCold ? 'zstd' : 'lz4';
}

const packed = (sections: readonly TableSection[], isCold: boolean): TablePlan['sections'] =>
  sections.map(({ fromId, compression }) => ({ fromId, codec: codecFor(compression, isCold) }));

/** Records between two turns of others. */
const sizedAtOnce = 10_000;

/** Bytes of the records of each section. */
async function sizesOf(
  cursor: RecordCursor,
  sections: readonly TableSection[],
  sleep: TableTools['sleep'],
): Promise<readonly number[]> {
  const sizes = sections.map(() => 0);
  let records = 0;
  for (let record = cursor.next(); record !== undefined; record = cursor.next()) {
    const section = sectionOf(sections, recordNamespace(record));
    sizes[section] = (sizes[section] ?? 0) + record.length;
    records += 1;
    if (records % sizedAtOnce === 0) await sleep(0);
  }
  return sizes;
}

/** One cursor for each table of level 0, one for each level above; `readers`: what was opened. */
function cursorsOf(
  place: TablePlace,
  inputs: readonly TableMeta[],
  readers: SstableReader[],
): RecordCursor[] {
  const levels = new Map<number, (TableMeta & { readonly reader: SstableReader })[]>();
  const cursors: RecordCursor[] = [];
  for (const meta of inputs) {
    const reader = openTable(place, meta);
    readers.push(reader);
    if (meta.level === 0) cursors.push(reader.mergeCursor());
    else levels.set(meta.level, [...(levels.get(meta.level) ?? []), { ...meta, reader }]);
  }
  for (const run of levels.values())
    cursors.push(
      chainCursors(
        run.sort(byFirstKey).map(
          ({ reader }) =>
            () =>
              reader.mergeCursor(),
        ),
      ),
    );
  return cursors;
}

export const compactor = actor({
  protocol: Compactor,
  needs: ['disk', 'arenas', 'codecs', 'tasks'],
  create: (ctx: Context<object, Needs>, options: CompactorOptions) =>
    new CompactorActor(ctx, options),
});
