// Background work of one shard, on the background thread: frozen memtables become tables. It reads
// the frozen arena in shared memory, so nothing is copied between threads; the foreground goes on
// with the next one. Blocks are packed in the task pool, a megabyte at a time, while the next ones
// are built. All of these threads run at low priority (docs/performance.md).

import { actor, type Context, type Later } from '../../runtime/actor.ts';
import type { DiskFile, Lz4, Tasks } from '../../runtime/environment.ts';
import { assert } from '../../runtime/errors.ts';
import { syncFile } from '../../runtime/files.ts';
import type { BodyOf, Handlers } from '../../runtime/protocol.ts';
import type { CompressedBlock } from '../../runtime/tasks.ts';
import { ArenaTree } from './arena-tree.ts';
import { Compactor, type TableMeta } from './protocol.ts';
import { SstableReader } from './sstable-reader.ts';
import { type SealedBlock, SstableWriter } from './sstable-writer.ts';
import { tablePath } from './table-files.ts';

export interface CompactorOptions {
  /** Directory of this shard inside the data directory. */
  readonly directory: string;
}

type Needs = 'disk' | 'arenas' | 'lz4' | 'tasks';

/** Raw bytes that are packed in one task: a task costs about 0.1 ms beside its work. */
const batchBytes = 1024 * 1024;

class CompactorActor implements Handlers<Compactor> {
  readonly #ctx: Context<object, Needs>;
  readonly #options: CompactorOptions;

  constructor(ctx: Context<object, Needs>, options: CompactorOptions) {
    this.#ctx = ctx;
    this.#options = options;
  }

  flush({ table, fileNumber }: BodyOf<Compactor['flush']>): Later<{ readonly table: TableMeta }> {
    const { disk, lz4, tasks, arenas, log, shard } = this.#ctx;
    const { directory } = this.#options;
    const memory = arenas[table.arena];
    assert(memory !== undefined, `no arena ${table.arena}`);
    return this.#ctx.session(async () => {
      const path = tablePath(directory, fileNumber);
      // A flush that failed half-way left its file behind.
      disk.remove(path);
      const file = disk.open(path, 'create');
      try {
        const meta = await writeTree(ArenaTree.open(memory), file, { fileNumber, lz4, tasks });
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

interface TableTools {
  readonly fileNumber: number;
  readonly lz4: Lz4;
  readonly tasks: Tasks;
}

interface Packing {
  readonly blocks: readonly SealedBlock[];
  readonly packed: Promise<readonly Uint8Array[]>;
}

/** One batch is packed in the pool while the next one is built here. */
async function writeTree(
  tree: ArenaTree,
  file: DiskFile,
  { fileNumber, lz4, tasks }: TableTools,
): Promise<TableMeta> {
  const expectedRecords = tree.records;
  const isPackedElsewhere = true;
  const writer = new SstableWriter(file, fileNumber, { lz4, expectedRecords, isPackedElsewhere });
  const cursor = tree.cursor();
  let packing: Packing | undefined;
  const pack = async (andLast: boolean): Promise<void> => {
    if (packing !== undefined) writer.writeBlocks(packing.blocks, await packing.packed);
    const blocks = writer.takeBlocks(andLast);
    const raw = { blocks: blocks.map((block) => block.raw) };
    const done = tasks.run<typeof raw, readonly CompressedBlock[]>('compress-blocks', raw);
    packing = { blocks, packed: done.then((all) => all.map(({ bytes }) => bytes)) };
  };
  for (let record = cursor.next(); record !== undefined; record = cursor.next()) {
    writer.add(record);
    if (writer.sealedBytes >= batchBytes) await pack(false);
  }
  await pack(true);
  if (packing !== undefined) writer.writeBlocks(packing.blocks, await packing.packed);
  return writer.finish();
}

export const compactor = actor({
  protocol: Compactor,
  needs: ['disk', 'arenas', 'lz4', 'tasks'],
  create: (ctx: Context<object, Needs>, options: CompactorOptions) =>
    new CompactorActor(ctx, options),
});
