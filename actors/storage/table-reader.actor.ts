// Looks records up in the tables of one shard. Reads are synchronous: the page cache answers in
// microseconds, a hop to a thread pool costs tens (docs/performance.md).
//
// Tables of level 0 are tried in the order of their newest record; of each level above at most one
// table can hold a key. A table is skipped only where it cannot hold a winner: its newest record is
// older than what was found, at whatever level (MF-9), the key is outside of its range, or its
// bloom filter says no. A checksum that fails is an error, never "not found" (CO-1).
//
// A change of tables takes effect between two messages, so every read sees one version whole.

import { actor, type Context } from '../../runtime/actor.ts';
import { compareBytes } from '../../runtime/bytes.ts';
import { assert } from '../../runtime/errors.ts';
import type { BodyOf, Handlers, ReplyOf } from '../../runtime/protocol.ts';
import { recordHlc } from '../model/record.ts';
import { type RecordPage, readPage } from '../model/record-pages.ts';
import type { Resolve } from '../model/resolve.ts';
import { BlockCache } from './block-cache.ts';
import { registerCache } from './cache-figures.ts';
import { byFirstKey, coversKey, indexInRun, isRun, type KeyRange } from './key-ranges.ts';
import { chainCursors, mergeCursors } from './merge-iterator.ts';
import { type RangeRequest, type TableMeta, TableReader } from './protocol.ts';
import { readAheadDisk } from './read-ahead.ts';
import { openTable, type SstableReader } from './sstable-reader.ts';

export interface TableReaderOptions {
  readonly directory: string;
  readonly resolve: Resolve;
  /** Decoded blocks kept in memory, with indexes and filters of open tables, bytes. */
  readonly blockCacheBytes: number;
}

interface OpenTable extends KeyRange {
  readonly meta: TableMeta;
  readonly reader: SstableReader;
}

type Needs = 'disk' | 'codecs';

class TableReaderActor implements Handlers<TableReader> {
  readonly #ctx: Context<object, Needs>;
  readonly #options: TableReaderOptions;
  readonly #cache: BlockCache;
  /** What the open tables keep in memory beside blocks. */
  #indexBytes = 0;
  /** By file number. */
  #tables: ReadonlyMap<number, OpenTable> = new Map();
  /** Opened and not read yet, by file number. */
  #waiting: ReadonlyMap<number, SstableReader> = new Map();
  /** Level 0, newest record first. */
  #flushed: readonly OpenTable[] = [];
  /** The levels above, each in key order without overlap. */
  #runs: readonly (readonly OpenTable[])[] = [];

  constructor(ctx: Context<object, Needs>, options: TableReaderOptions) {
    this.#ctx = ctx;
    this.#options = options;
    this.#cache = new BlockCache(options.blockCacheBytes);
    const labels = { shard: String(ctx.shard) };
    registerCache(ctx.metrics, { ...labels, cache: 'blocks' }, () => this.#cache.figures);
    registerCache(ctx.metrics, { ...labels, cache: 'index' }, () => this.#cache.indexFigures);
    const help = 'Tops of indexes and filters of open tables, always in memory';
    ctx.metrics.gauge('kvd_table_index_bytes', help, () => this.#indexBytes, labels);
  }

  get({ key, hash, aboveHlc }: BodyOf<TableReader['get']>): {
    readonly record: Uint8Array | undefined;
  } {
    let winner: Uint8Array | undefined;
    let newest = aboveHlc;
    const look = ({ reader }: OpenTable): void => {
      const found = reader.get(key, hash);
      if (found === undefined) return;
      winner = winner === undefined ? found : this.#options.resolve(winner, found);
      newest = Math.max(newest, recordHlc(winner));
    };
    for (const table of this.#flushed) {
      if (table.meta.maxHlc < newest) break;
      if (coversKey(table, key)) look(table);
    }
    for (const run of this.#runs) {
      const table = run[indexInRun(run, key)];
      if (table === undefined || table.meta.maxHlc < newest) continue;
      if (coversKey(table, key)) look(table);
    }
    return { record: winner };
  }

  range(request: RangeRequest): RecordPage {
    return this.#cache.scan(() => this.#range(request));
  }

  #range(request: RangeRequest): RecordPage {
    const { from, to } = request;
    const isBefore = ({ firstKey }: OpenTable): boolean =>
      to === undefined || compareBytes(firstKey, to) < 0;
    const flushed = this.#flushed
      .filter((table) => compareBytes(table.lastKey, from) >= 0 && isBefore(table))
      .map(({ reader }) => reader.cursor(from));
    const leveled = this.#runs
      .map((run) => run.slice(indexInRun(run, from)))
      .filter(([first]) => first !== undefined && isBefore(first))
      .map((run) =>
        chainCursors(
          run.map(
            ({ reader }) =>
              () =>
                reader.cursor(from),
          ),
        ),
      );
    const cursors = [...flushed, ...leveled];
    const [only] = cursors;
    if (only === undefined) return { records: [], isDone: true };
    // As one cursor: of no table more is read than the page takes from it.
    const merged = cursors.length === 1 ? only : mergeCursors(cursors, this.#options.resolve);
    return readPage(merged, request);
  }

  open({ tables }: BodyOf<TableReader['open']>): object {
    for (const reader of this.#waiting.values()) reader.close();
    this.#waiting = new Map();
    const opened = this.#open(tables).filter(({ meta }) => !this.#tables.has(meta.fileNumber));
    this.#waiting = new Map(opened.map(({ meta, reader }) => [meta.fileNumber, reader]));
    return {};
  }

  replace({ added, dropped }: BodyOf<TableReader['replace']>): { readonly tables: number } {
    const before = this.#tables;
    const tables = new Map(before);
    for (const fileNumber of dropped) tables.delete(fileNumber);
    for (const table of this.#open(added)) tables.set(table.meta.fileNumber, table);
    this.#arrange(tables);
    this.#waiting = new Map([...this.#waiting].filter(([fileNumber]) => !tables.has(fileNumber)));
    for (const [fileNumber, { reader }] of before) if (!tables.has(fileNumber)) reader.close();
    this.#indexBytes = 0;
    for (const { reader } of tables.values()) this.#indexBytes += reader.heldBytes;
    this.#cache.setTableBytes(this.#indexBytes);
    return { tables: tables.size };
  }

  stats(): ReplyOf<TableReader['stats']> {
    let bytes = 0;
    let records = 0;
    for (const { meta } of this.#tables.values()) {
      bytes += meta.bytes;
      records += meta.records;
    }
    return { tables: this.#tables.size, bytes, records, indexBytes: this.#indexBytes };
  }

  /** All or none; a table that is open already keeps its reader. */
  #open(added: readonly TableMeta[]): OpenTable[] {
    const { disk, codecs } = this.#ctx;
    const { directory } = this.#options;
    const place = { disk: readAheadDisk(disk), codecs, directory, cache: this.#cache };
    const opened: SstableReader[] = [];
    try {
      return added.map((meta) => {
        const { firstKey, lastKey, fileNumber } = meta;
        let reader = this.#tables.get(fileNumber)?.reader ?? this.#waiting.get(fileNumber);
        if (reader === undefined) {
          reader = openTable(place, meta);
          opened.push(reader);
        }
        return { meta, reader, firstKey, lastKey };
      });
    } catch (error) {
      for (const reader of opened) reader.close();
      throw error;
    }
  }

  #arrange(tables: ReadonlyMap<number, OpenTable>): void {
    const all = [...tables.values()];
    const levels = new Set(all.map(({ meta }) => meta.level));
    const runs = [...levels]
      .filter((level) => level > 0)
      .sort((a, b) => a - b)
      .map((level) => all.filter(({ meta }) => meta.level === level).sort(byFirstKey));
    for (const run of runs)
      assert(isRun(run), `tables of level ${run[0]?.meta.level ?? 0} overlap`);
    this.#tables = tables;
    this.#flushed = all
      .filter(({ meta }) => meta.level === 0)
      .sort((a, b) => b.meta.maxHlc - a.meta.maxHlc);
    this.#runs = runs;
  }
}

export const tableReader = actor({
  protocol: TableReader,
  needs: ['disk', 'codecs'],
  create: (ctx: Context<object, Needs>, options: TableReaderOptions) =>
    new TableReaderActor(ctx, options),
});
