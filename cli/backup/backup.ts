// Makes a backup from snapshots: into a directory, where a table that an earlier backup holds is not
// copied again, or as a tar stream. Where the bytes come from is handed in.
//
// In a directory the list of the backup is written when everything that it names is durable and was
// read back: a backup that ended early is no backup, and the next one goes on with what is there.
// The caller has the directory for itself: what is unfinished there is removed.

import { pack, type Pack } from 'tar-stream';
import { decodeFooter, footerBytes } from '../../actors/storage/sstable-format.ts';
import { concatBytes, crc32 } from '../../runtime/bytes.ts';
import type { BlockCodecs, Disk } from '../../runtime/environment.ts';
import { CorruptionError, KvError } from '../../runtime/errors.ts';
import {
  type BackupList,
  type BackupTable,
  encodeList,
  isSameTable,
  listPath,
  listsDirectory,
  readLists,
  tablesDirectory,
  tablesOf,
  verifyTable,
} from './backup-format.ts';
import { copyTo } from './copy.ts';

export interface BackupFigures {
  readonly tables: number;
  readonly bytes: number;
  readonly copiedTables: number;
  readonly copiedBytes: number;
}

export interface BackupSource {
  /** The bytes of a table, in order. */
  readonly chunks: (table: BackupTable) => AsyncIterable<Uint8Array>;
  /** Bytes that are done, whether they were copied or there already. */
  readonly onBytes: (bytes: number) => void;
  /** Copies at the same time. */
  readonly parallel: number;
  /** Also reads back what earlier backups hold. */
  readonly verifiesAll: boolean;
  readonly codecs: BlockCodecs;
}

/** CONFLICT where the id is taken or the directory holds backups of another cluster. */
export async function backupToDirectory(
  disk: Disk,
  list: BackupList,
  source: BackupSource,
): Promise<BackupFigures> {
  await disk.makeDirectory(tablesDirectory);
  await disk.makeDirectory(listsDirectory);
  const earlier = readLists(disk);
  refuseOther(earlier, list);
  const held = new Map(earlier.flatMap(tablesOf).map((table) => [table.path, table]));
  for (const name of disk.list(tablesDirectory))
    if (name.endsWith('.tmp')) disk.remove(`${tablesDirectory}/${name}`);
  const tables = tablesOf(list);
  const copied: BackupTable[] = [];
  await inParallel(tables, source.parallel, async (table) => {
    if (isThere(disk, table, held.get(table.path), source)) source.onBytes(table.meta.bytes);
    else {
      await copyTo(disk, table.path, counted(table, source), (copy) =>
        verifyTable(disk, copy, table.meta, source.codecs),
      );
      copied.push(table);
    }
  });
  await disk.syncDirectory(tablesDirectory);
  for (const table of tables) refuseMissing(disk, table);
  await disk.replace(listPath(list.id), encodeList(list));
  return figuresOf(tables, copied);
}

/**
 * Leaves the newest `keep` backups, and of the tables those that they need. Lists go first, durably:
 * a table that no list names is only space.
 */
export async function pruneBackups(
  disk: Disk,
  keep: number,
): Promise<{ readonly backups: number; readonly tables: number }> {
  const lists = readLists(disk);
  const dropped = lists.slice(0, Math.max(0, lists.length - keep));
  for (const { id } of dropped) disk.remove(listPath(id));
  await disk.syncDirectory(listsDirectory);
  const needed = new Set(
    lists
      .slice(dropped.length)
      .flatMap(tablesOf)
      .map(({ path }) => path),
  );
  const unneeded = disk
    .list(tablesDirectory)
    .map((name) => `${tablesDirectory}/${name}`)
    .filter((path) => !needed.has(path));
  for (const path of unneeded) disk.remove(path);
  return { backups: dropped.length, tables: unneeded.length };
}

/** The list, then every table of it. The caller reads the stream meanwhile. */
export async function backupToTar(
  stream: Pack,
  list: BackupList,
  source: BackupSource,
): Promise<BackupFigures> {
  const tables = tablesOf(list);
  await putWhole(stream, listPath(list.id), encodeList(list));
  for (const table of tables) await putTable(stream, table, source);
  stream.finalize();
  return figuresOf(tables, tables);
}

export const newTar = (): Pack => pack();

function figuresOf(tables: readonly BackupTable[], copied: readonly BackupTable[]): BackupFigures {
  const bytes = (all: readonly BackupTable[]): number =>
    all.reduce((sum, { meta }) => sum + meta.bytes, 0);
  return {
    tables: tables.length,
    bytes: bytes(tables),
    copiedTables: copied.length,
    copiedBytes: bytes(copied),
  };
}

function refuseOther(earlier: readonly BackupList[], { id, nodes }: BackupList): void {
  if (earlier.some((other) => other.id === id))
    throw new KvError('CONFLICT', { detail: `there is a backup ${id} already` });
  const clusterName = nodes[0]?.clusterName;
  const other = earlier
    .flatMap((list) => list.nodes)
    .find((one) => one.clusterName !== clusterName);
  if (other !== undefined)
    throw new KvError('CONFLICT', {
      detail: `the directory holds backups of cluster ${other.clusterName}, this is ${String(clusterName)}: take another directory`,
    });
}

/** The lock of a directory does not reach other machines: a list that is written is true. */
function refuseMissing(disk: Disk, { path, meta }: BackupTable): void {
  const file = disk.exists(path) ? disk.open(path, 'read') : undefined;
  const isWhole = file?.size() === meta.bytes;
  file?.close();
  if (!isWhole)
    throw new KvError('CONFLICT', {
      detail: `${path} is gone, somebody else writes to this directory: back up again`,
    });
}

/** A file that no earlier list names may be of a backup that ended early: it is read back. */
function isThere(
  disk: Disk,
  { path, meta }: BackupTable,
  held: BackupTable | undefined,
  { verifiesAll, codecs }: BackupSource,
): boolean {
  if (!disk.exists(path)) return false;
  const isListed = held !== undefined && isSameTable(held.meta, meta);
  if (isListed && !verifiesAll) {
    const file = disk.open(path, 'read');
    const isWhole = file.size() === meta.bytes;
    file.close();
    if (isWhole) return true;
  }
  try {
    verifyTable(disk, path, meta, codecs);
    return true;
  } catch (error) {
    if (!(error instanceof CorruptionError)) throw error;
    // Of another life of the node, or damaged: the copy takes its place, which is good for both.
    if (held !== undefined && !isListed)
      throw new KvError('CONFLICT', {
        detail: `${path} is a table of an earlier life of the node: take another directory`,
      });
    disk.remove(path);
    return false;
  }
}

async function* counted(table: BackupTable, source: BackupSource): AsyncGenerator<Uint8Array> {
  for await (const chunk of source.chunks(table)) {
    yield chunk;
    source.onBytes(chunk.length);
  }
}

async function inParallel<Item>(
  items: readonly Item[],
  parallel: number,
  work: (item: Item) => Promise<void>,
): Promise<void> {
  let next = 0;
  let failed = false;
  const worker = async (): Promise<void> => {
    while (next < items.length && !failed) {
      const item = items[next] as Item;
      next += 1;
      try {
        await work(item);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const workers = Array.from({ length: Math.min(parallel, items.length) }, worker);
  const outcomes = await Promise.allSettled(workers);
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw asError(outcome.reason);
}

const asError = (reason: unknown): Error =>
  reason instanceof Error ? reason : new Error(String(reason));

// ---- tar -----------------------------------------------------------------------------------

function putWhole(stream: Pack, name: string, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.entry({ name, size: bytes.length, mode: 0o600 }, Buffer.from(bytes), (error) => {
      if (error === null || error === undefined) resolve();
      else reject(asError(error));
    });
  });
}

/** Its checksum is judged on the way: what is sent cannot be taken back, so the stream ends then. */
async function putTable(stream: Pack, table: BackupTable, source: BackupSource): Promise<void> {
  const { path, meta } = table;
  let crc = 0;
  let at = 0;
  const tail: Uint8Array[] = [];
  await new Promise<void>((resolve, reject) => {
    const entry = stream.entry({ name: path, size: meta.bytes, mode: 0o600 }, (error) => {
      if (error === null || error === undefined) resolve();
      else reject(asError(error));
    });
    const feed = async (): Promise<void> => {
      for await (const chunk of counted(table, source)) {
        const left = Math.max(0, Math.min(chunk.length, meta.bytes - footerBytes - at));
        crc = crc32(chunk.subarray(0, left), crc);
        if (left < chunk.length) tail.push(chunk.subarray(left));
        at += chunk.length;
        if (!entry.write(Buffer.from(chunk)))
          await new Promise<void>((go) => {
            entry.once('drain', go);
          });
      }
      const footer = decodeFooter(path, meta.bytes, concatBytes(tail));
      if (crc !== meta.checksum || footer.checksum !== crc)
        throw new CorruptionError(path, 0, 'the checksum of the file does not match');
      entry.end(null);
    };
    feed().catch((error: unknown) => {
      stream.destroy(asError(error));
      reject(asError(error));
    });
  });
}
