// Sorted records into new table files, in the order of MF-3: written, footer last, synced, read
// back, directory synced. Flush and compaction both write through here.
//
// Blocks are packed in the task pool, a batch at a time, while the next one is built, and after
// each batch whoever else waits gets a turn: a flush does not wait for a compaction to end. Files
// that were begun are removed again where the work fails: nobody has named them yet.

import type { BlockCodecs, Disk, DiskFile, Tasks } from '../../runtime/environment.ts';
import { assert } from '../../runtime/errors.ts';
import { syncFile } from '../../runtime/files.ts';
import { recordNamespace } from '../model/record.ts';
import type { RecordCursor } from '../model/record-pages.ts';
import type { BlockBatch, BlockBatches } from './block-batch.ts';
import type { TableMeta } from './protocol.ts';
import { SstableReader } from './sstable-reader.ts';
import type { CodecName } from './sstable-format.ts';
import { SstableWriter } from './sstable-writer.ts';
import { tablePath } from './table-files.ts';

export interface TableTools {
  readonly disk: Disk;
  readonly codecs: BlockCodecs;
  readonly tasks: Tasks;
  readonly batches: BlockBatches;
  /** Ends after so many milliseconds, in another turn. */
  readonly sleep: (delayMs: number) => Promise<void>;
  /** What the work pauses after a batch, milliseconds. */
  readonly pauseMs: () => number;
}

export interface TablePlan {
  /** Directory of the shard. */
  readonly directory: string;
  /** For the outputs in turn; the last one takes all that is left. */
  readonly fileNumbers: readonly number[];
  /** An output of this size, bytes, is followed by the next one. Absent: it is never split. */
  readonly splitBytes?: number | undefined;
  readonly level: number;
  /**
   * Ids of namespaces, ascending, the first one 0: where the next one begins an output ends, and
   * `codec` is that of what follows. There are numbers for so many outputs more.
   */
  readonly sections: readonly { readonly fromId: number; readonly codec: CodecName }[];
  /** Absent: the filters are sized when their records are known. */
  readonly expectedRecords?: number;
  /** Records for which this is false are left out. */
  readonly keep: (record: Uint8Array) => boolean;
}

interface OpenTable {
  readonly fileNumber: number;
  readonly file: DiskFile;
  readonly writer: SstableWriter;
  readonly codec: CodecName;
  /** Takes the blocks that are full. */
  filling: BlockBatch;
  /** The batch before, and when it is packed. */
  packing: { readonly batch: BlockBatch; readonly done: Promise<void> } | undefined;
}

/** Raw bytes that are packed in one task: a task costs about 0.1 ms beside its work. */
const batchBytesMax = 1024 * 1024;
/** So many batches of an output at least, or sizes would be far from what was asked for. */
const batchesPerTable = 4;

/** What was written so far. */
interface Progress {
  readonly tables: TableMeta[];
  open: OpenTable | undefined;
  /** Index of the section of the last record. */
  section: number;
}

/** The tables, durable and verified, in key order; none where nothing is kept. */
export async function writeTables(
  cursor: RecordCursor,
  plan: TablePlan,
  tools: TableTools,
): Promise<readonly TableMeta[]> {
  const { directory, fileNumbers } = plan;
  const { disk } = tools;
  const progress: Progress = { tables: [], open: undefined, section: 0 };
  const { tables } = progress;
  try {
    await writeAll(cursor, plan, tools, progress);
    if (tables.length > 0) await disk.syncDirectory(`${directory}/tables`);
    return tables;
  } catch (error) {
    progress.open?.file.close();
    for (const fileNumber of fileNumbers.slice(0, tables.length + 1))
      disk.remove(tablePath(directory, fileNumber));
    throw error;
  }
}

async function writeAll(
  cursor: RecordCursor,
  plan: TablePlan,
  tools: TableTools,
  progress: Progress,
): Promise<void> {
  const { splitBytes = Infinity } = plan;
  const batchBytes = Math.min(batchBytesMax, splitBytes / batchesPerTable);
  let seenBytes = 0;
  for (let record = cursor.next(); record !== undefined; record = cursor.next()) {
    // What is left out counts too: it took its time.
    seenBytes += record.length;
    if (plan.keep(record)) {
      if (entersSection(record, plan, progress) && progress.open !== undefined)
        await endTable(progress.open, tools, progress);
      progress.open ??= beginTable(plan, progress, tools);
      progress.open.writer.add(record);
    }
    if (seenBytes < batchBytes) continue;
    seenBytes = 0;
    await endBatch(plan, tools, progress);
  }
  if (progress.open !== undefined) await endTable(progress.open, tools, progress);
}

function entersSection(record: Uint8Array, { sections }: TablePlan, progress: Progress): boolean {
  if (progress.section + 1 >= sections.length) return false;
  const before = progress.section;
  const id = recordNamespace(record);
  while (id >= (sections[progress.section + 1]?.fromId ?? Infinity)) progress.section += 1;
  return progress.section > before;
}

async function endBatch(plan: TablePlan, tools: TableTools, progress: Progress): Promise<void> {
  const { open, tables } = progress;
  if (open !== undefined) await packBlocks(open, tools);
  const pauseMs = tools.pauseMs();
  // Where the pool packs, others have their turn while it does.
  const hasWaited = open !== undefined && open.codec !== 'none';
  if (pauseMs > 0 || !hasWaited) await tools.sleep(pauseMs);
  if (open === undefined) return;
  const bordersLeft = plan.sections.length - 1 - progress.section;
  const isLast = tables.length + 1 + bordersLeft >= plan.fileNumbers.length;
  const isFull = open.writer.dataBytes >= (plan.splitBytes ?? Infinity);
  if (isFull && !isLast) await endTable(open, tools, progress);
}

function beginTable(
  plan: TablePlan,
  { tables, section }: Progress,
  { disk, codecs, batches }: TableTools,
): OpenTable {
  const { directory, fileNumbers, level, sections, expectedRecords } = plan;
  const fileNumber = fileNumbers[tables.length];
  const codec = sections[section]?.codec ?? 'lz4';
  assert(fileNumber !== undefined, 'an output without a number');
  const file = disk.open(tablePath(directory, fileNumber), 'create');
  const open: OpenTable = {
    ...{ fileNumber, file, codec, packing: undefined, filling: batches.take() },
    writer: new SstableWriter(file, fileNumber, {
      ...{ codecs, codec, level, expectedRecords },
      sealed: (raw, separator) => open.filling.add(raw, separator),
    }),
  };
  return open;
}

/** One batch is packed in the pool while the next one is built. */
async function packBlocks(open: OpenTable, tools: TableTools): Promise<void> {
  await writePacked(open, tools);
  const { codec, filling: batch } = open;
  const done = codec === 'none' ? Promise.resolve() : batch.pack(tools.tasks, codec);
  // Whoever waits for it hears of a failure; nobody does where something else failed first.
  done.catch(() => undefined);
  open.packing = { batch, done };
  open.filling = tools.batches.take();
}

/** A batch of which the work failed is not used again: a thread may still be at it. */
async function writePacked(open: OpenTable, { batches }: TableTools): Promise<void> {
  if (open.packing === undefined) return;
  const { batch, done } = open.packing;
  await done;
  batch.forEach((raw, separator, packed) => {
    open.writer.writeBlock(raw, separator, packed);
  });
  batches.give(batch);
  open.packing = undefined;
}

async function endTable(open: OpenTable, tools: TableTools, progress: Progress): Promise<void> {
  open.writer.sealLast();
  await packBlocks(open, tools);
  await writePacked(open, tools);
  tools.batches.give(open.filling);
  const meta = open.writer.finish();
  await syncFile(open.file);
  // Read back what the manifest is about to name: footer, index, filter, figures (MF-3).
  SstableReader.open(open.file, open.fileNumber, tools.codecs);
  open.file.close();
  progress.tables.push(meta);
  progress.open = undefined;
}
