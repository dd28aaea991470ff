// One pass of the scrubber over a shard: each log segment that is closed, then each block of each
// table that counts when the pass comes to them. It reads at a bounded rate: after each slice it
// waits as long as the slice takes at that rate.
//
// A table that a compaction removes on the way is no damage: the store is asked whether it still
// counts. The records of a damaged segment are still in memory, so a flush makes it superfluous.

import type { Ref, Session } from '../../runtime/actor.ts';
import { utf8 } from '../../runtime/bytes.ts';
import type { BlockCodecs, Disk } from '../../runtime/environment.ts';
import { CorruptionError, KvError } from '../../runtime/errors.ts';
import { namespaceBytes, namespaceOf, userKey } from '../model/record.ts';
import type { ScrubDamage, SegmentEnd, Store, TableMeta, WalWriter } from './protocol.ts';
import { readContent } from './read-content.ts';
import { readSegment } from './segment-reader.ts';
import { type BlockSpan, type IndexPart, openTable, type SstableReader } from './sstable-reader.ts';
import { internalTimeoutMs } from './store-steps.ts';
import { tablePath } from './table-files.ts';

export interface ScrubPlace {
  readonly store: Ref<Store>;
  readonly wal: Ref<WalWriter>;
  /** Directory of this shard inside the data directory. */
  readonly directory: string;
  readonly identity: { readonly clusterName: string; readonly node: string };
  readonly bytesPerSecond: number;
}

export interface ScrubTools {
  readonly session: Session;
  readonly disk: Disk;
  readonly codecs: BlockCodecs;
  readonly shard: number;
  readonly place: ScrubPlace;
  /** `fileNumber` where a table is concerned. */
  readonly found: (damage: ScrubDamage, fileNumber: number | undefined) => void;
  /** So much was read since the last call, and it was the end of a table. */
  readonly progress: (step: { readonly bytes: number; readonly tables: number }) => void;
}

interface Pass extends ScrubTools {
  /** Read since the last wait. */
  owedBytes: number;
  readonly damagedTables: Set<number>;
}

/** Read at once; then others have their turn. */
const sliceBytes = 256 * 1024;

/** Resolves when all was read. KvError: the disk or the store does not answer; nothing was judged. */
export async function scrubPass(tools: ScrubTools): Promise<void> {
  const { session, place } = tools;
  const pass: Pass = { ...tools, owedBytes: 0, damagedTables: new Set() };
  const { segments } = await session.ask(place.wal, 'closed', {}, internalTimeoutMs);
  for (const segment of segments) await scrubSegment(pass, segment);
  const { tables } = await session.ask(place.store, 'tables', {}, internalTimeoutMs);
  for (const table of tables) {
    await scrubTable(pass, table);
    pass.progress({ bytes: 0, tables: 1 });
  }
}

// ---- tables ----------------------------------------------------------------------------------

async function scrubTable(pass: Pass, table: TableMeta): Promise<void> {
  const { disk, codecs, place } = pass;
  let reader: SstableReader;
  try {
    reader = openTable({ disk, codecs, directory: place.directory }, table);
  } catch (error) {
    return unopened(pass, table, error);
  }
  try {
    let records = 0;
    for (const part of reader.indexParts()) {
      const isWhole = noting(pass, table, part, () => reader.verifyIndexOf(part.firstBlock));
      await paced(pass, part.length);
      if (isWhole) records += await scrubPart(pass, table, reader, part);
    }
    if (records !== table.records && !pass.damagedTables.has(table.fileNumber))
      damaged(pass, table, 0, `${records} records of ${table.records}`);
  } finally {
    reader.close();
  }
}

/** The data blocks of one part of the index; the number of their records. */
async function scrubPart(
  pass: Pass,
  table: TableMeta,
  reader: SstableReader,
  { firstBlock, endBlock }: IndexPart,
): Promise<number> {
  let records = 0;
  for (let block = firstBlock; block < endBlock; block += 1) {
    const span = reader.spanOf(block);
    noting(pass, table, span, () => {
      records += reader.verifyBlock(block);
    });
    await paced(pass, span.length);
  }
  return records;
}

/** False where `work` found the block damaged. */
function noting(pass: Pass, table: TableMeta, span: BlockSpan, work: () => void): boolean {
  try {
    work();
    return true;
  } catch (error) {
    const keys = { firstKey: span.firstKey, lastKey: span.nextKey };
    if (error instanceof CorruptionError) damaged(pass, table, error.offset, error.message, keys);
    // A sector that cannot be read is as lost as one with other bytes (FS-7).
    else if (isUnreadable(error)) damaged(pass, table, span.offset, error.message, keys);
    else throw error;
    return false;
  }
}

const isUnreadable = (error: unknown): error is KvError =>
  error instanceof KvError && error.code === 'DISK_FAILED';

/** Damaged, or removed because a compaction replaced it meanwhile. */
async function unopened(pass: Pass, table: TableMeta, error: unknown): Promise<void> {
  const { session, place } = pass;
  if (error instanceof CorruptionError) return damaged(pass, table, error.offset, error.message);
  if (!(error instanceof KvError) || error.code !== 'NOT_FOUND') throw error;
  const { tables } = await session.ask(place.store, 'tables', {}, internalTimeoutMs);
  if (tables.some(({ fileNumber }) => fileNumber === table.fileNumber))
    damaged(pass, table, 0, 'it is gone, the manifest names it');
}

function damaged(
  { place, damagedTables, found }: Pass,
  table: TableMeta,
  offset: number,
  what: string,
  keys: { readonly firstKey: Uint8Array; readonly lastKey: Uint8Array | undefined } = table,
): void {
  const { fileNumber } = table;
  const firstKey = shownKey(keys.firstKey);
  const lastKey = shownKey(keys.lastKey ?? table.lastKey);
  const file = tablePath(place.directory, fileNumber);
  damagedTables.add(fileNumber);
  found({ file, offset, what, firstKey, lastKey }, fileNumber);
}

// ---- log -------------------------------------------------------------------------------------

async function scrubSegment(pass: Pass, segment: SegmentEnd): Promise<void> {
  const { session, disk, place, shard } = pass;
  const { path, number, lastLsn, chain } = segment;
  const bytes = contentOf(disk, path);
  // Released since.
  if (bytes === undefined) return;
  const verdict = readSegment(
    bytes,
    {
      kind: 'wal',
      identity: { ...place.identity, shard },
      segmentNumber: number,
      later: { previousLastLsn: lastLsn, previousChain: chain },
      flushedThrough: 0,
      inFlightBytesMax: 0,
    },
    () => undefined,
  );
  if (verdict.kind !== 'end') {
    const { reason: what } = verdict;
    const offset = 'offset' in verdict ? verdict.offset : 0;
    pass.found({ file: path, offset, what, firstKey: '', lastKey: '' }, undefined);
    await session.ask(place.store, 'flush', {}, internalTimeoutMs);
  }
  await paced(pass, bytes.length);
}

function contentOf(disk: Disk, path: string): Uint8Array | undefined {
  try {
    return readContent(disk, path);
  } catch (error) {
    if (error instanceof KvError && error.code === 'NOT_FOUND') return undefined;
    throw error;
  }
}

// ---- both ------------------------------------------------------------------------------------

async function paced(pass: Pass, bytes: number): Promise<void> {
  pass.progress({ bytes, tables: 0 });
  pass.owedBytes += bytes;
  if (pass.owedBytes < sliceBytes) return;
  const waitMs = (pass.owedBytes / pass.place.bytesPerSecond) * 1000;
  pass.owedBytes = 0;
  await pass.session.sleep(waitMs);
}

/** A storage key for a person: its namespace, and its text as in JSON. */
function shownKey(key: Uint8Array): string {
  if (key.length < namespaceBytes) return '';
  return `${namespaceOf(key)}:${JSON.stringify(utf8.decode(userKey(key)))}`;
}
