// Looks records up in the tables of one shard. Reads are synchronous: the page cache answers in
// microseconds, a hop to a thread pool costs tens (docs/performance.md).
//
// Tables are tried in the order of their newest record. A table is skipped only where it cannot
// hold a winner: its newest record is older than what was found (MF-9), the key is outside of its
// range, or its bloom filter says no. A checksum that fails is an error, never "not found" (CO-1).

import { actor, type Context } from '../../runtime/actor.ts';
import { compareBytes } from '../../runtime/bytes.ts';
import type { BodyOf, Handlers } from '../../runtime/protocol.ts';
import { recordHlc } from '../model/record.ts';
import { mergePages, type RecordPage, readPage } from '../model/record-pages.ts';
import type { Resolve } from '../model/resolve.ts';
import { BlockCache } from './block-cache.ts';
import { type RangeRequest, type TableMeta, TableReader } from './protocol.ts';
import { SstableReader } from './sstable-reader.ts';
import { tablePath } from './table-files.ts';

export interface TableReaderOptions {
  readonly directory: string;
  readonly resolve: Resolve;
  /** Decoded blocks kept in memory, bytes. */
  readonly blockCacheBytes: number;
}

interface OpenTable {
  readonly meta: TableMeta;
  readonly reader: SstableReader;
}

type Needs = 'disk' | 'lz4';

class TableReaderActor implements Handlers<TableReader> {
  readonly #ctx: Context<object, Needs>;
  readonly #options: TableReaderOptions;
  readonly #cache: BlockCache;
  /** Newest record first. */
  #tables: OpenTable[] = [];

  constructor(ctx: Context<object, Needs>, options: TableReaderOptions) {
    this.#ctx = ctx;
    this.#options = options;
    this.#cache = new BlockCache(options.blockCacheBytes);
  }

  get({ key, hash, aboveHlc }: BodyOf<TableReader['get']>): {
    readonly record: Uint8Array | undefined;
  } {
    let winner: Uint8Array | undefined;
    let newest = aboveHlc;
    for (const { meta, reader } of this.#tables) {
      if (meta.maxHlc < newest) break;
      if (!covers(meta, key)) continue;
      const found = reader.get(key, hash);
      if (found === undefined) continue;
      winner = winner === undefined ? found : this.#options.resolve(winner, found);
      newest = Math.max(newest, recordHlc(winner));
    }
    return { record: winner };
  }

  range(request: RangeRequest): RecordPage {
    const { from, to } = request;
    const pages = this.#tables
      .filter(({ meta }) => overlaps(meta, from, to))
      .map(({ reader }) => readPage(reader.cursor(from), request));
    if (pages.length === 0) return { records: [], isDone: true };
    return mergePages(pages, request.limit, this.#options.resolve);
  }

  install({ table }: { readonly table: TableMeta }): { readonly tables: number } {
    const { disk, lz4 } = this.#ctx;
    const path = tablePath(this.#options.directory, table.fileNumber);
    const file = disk.open(path, 'read');
    const reader = SstableReader.open(file, table.fileNumber, lz4, this.#cache);
    this.#tables = [...this.#tables, { meta: table, reader }].sort(
      (a, b) => b.meta.maxHlc - a.meta.maxHlc,
    );
    return { tables: this.#tables.length };
  }

  stats(): { readonly tables: number; readonly bytes: number; readonly records: number } {
    let bytes = 0;
    let records = 0;
    for (const { meta } of this.#tables) {
      bytes += meta.bytes;
      records += meta.records;
    }
    return { tables: this.#tables.length, bytes, records };
  }
}

function covers({ firstKey, lastKey }: TableMeta, key: Uint8Array): boolean {
  return compareBytes(key, firstKey) >= 0 && compareBytes(key, lastKey) <= 0;
}

function overlaps(
  { firstKey, lastKey }: TableMeta,
  from: Uint8Array,
  to: Uint8Array | undefined,
): boolean {
  return compareBytes(lastKey, from) >= 0 && (to === undefined || compareBytes(firstKey, to) < 0);
}

export const tableReader = actor({
  protocol: TableReader,
  needs: ['disk', 'lz4'],
  create: (ctx: Context<object, Needs>, options: TableReaderOptions) =>
    new TableReaderActor(ctx, options),
});
