// Background work of one shard, on the background thread: frozen memtables become tables. It reads
// the frozen arena in shared memory, so nothing is copied between threads; the foreground goes on
// with the next one. Its thread runs at low priority (docs/performance.md).

import { actor, type Context, type Later } from '../../runtime/actor.ts';
import { assert } from '../../runtime/errors.ts';
import { syncFile } from '../../runtime/files.ts';
import type { BodyOf, Handlers } from '../../runtime/protocol.ts';
import { ArenaTree } from './arena-tree.ts';
import { Compactor, type TableMeta } from './protocol.ts';
import { SstableReader } from './sstable-reader.ts';
import { SstableWriter } from './sstable-writer.ts';
import { tablePath } from './table-files.ts';

export interface CompactorOptions {
  /** Directory of this shard inside the data directory. */
  readonly directory: string;
}

type Needs = 'disk' | 'arenas' | 'lz4';

class CompactorActor implements Handlers<Compactor> {
  readonly #ctx: Context<object, Needs>;
  readonly #options: CompactorOptions;

  constructor(ctx: Context<object, Needs>, options: CompactorOptions) {
    this.#ctx = ctx;
    this.#options = options;
  }

  flush({ table, fileNumber }: BodyOf<Compactor['flush']>): Later<{ readonly table: TableMeta }> {
    const { disk, lz4, arenas, log, shard } = this.#ctx;
    const { directory } = this.#options;
    const memory = arenas[table.arena];
    assert(memory !== undefined, `no arena ${table.arena}`);
    return this.#ctx.session(async () => {
      const path = tablePath(directory, fileNumber);
      // A flush that failed half-way left its file behind.
      disk.remove(path);
      const file = disk.open(path, 'create');
      try {
        const tree = ArenaTree.open(memory);
        const expectedRecords = tree.records;
        const writer = new SstableWriter(file, fileNumber, { lz4, expectedRecords });
        const cursor = tree.cursor();
        for (let record = cursor.next(); record !== undefined; record = cursor.next())
          writer.add(record);
        const meta = writer.finish();
        await syncFile(file);
        await disk.syncDirectory(`${directory}/tables`);
        // Read back what the manifest is about to name: footer, index, filter, figures (MF-3).
        SstableReader.open(file, fileNumber, lz4);
        log.info('table.written', { shard, fileNumber, records: meta.records, bytes: meta.bytes });
        return { table: meta };
      } finally {
        file.close();
      }
    });
  }
}

export const compactor = actor({
  protocol: Compactor,
  needs: ['disk', 'arenas', 'lz4'],
  create: (ctx: Context<object, Needs>, options: CompactorOptions) =>
    new CompactorActor(ctx, options),
});
