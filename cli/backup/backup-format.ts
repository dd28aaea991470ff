// What a backup is: tables that never change, and a list of those that belong to it. A directory
// holds any number of backups of one cluster; a table that several of them need is there once.
//
//   tables/NODE.SHARD.NUMBER-CRC.sst   named by owner, number and the CRC-32 of its content
//   backups/ID.json                    one backup: the snapshots of its nodes, written last
//
// A tar stream has the same names, with the list in front: unpacked it is such a directory. Each
// table carries its own checksums down to the block, the list its own CRC, so damage anywhere is
// found by reading (BK-6). What no list names is left over of a backup that did not end.

import type { TableMeta } from '../../actors/storage/protocol.ts';
import {
  openDocument,
  sealDocument,
  snapshotDocument,
  type SnapshotManifest,
  snapshotOf,
} from '../../actors/storage/snapshot-format.ts';
import { SstableReader } from '../../actors/storage/sstable-reader.ts';
import { compareBytes } from '../../runtime/bytes.ts';
import type { BlockCodecs, Disk } from '../../runtime/environment.ts';
import { CorruptionError, KvError } from '../../runtime/errors.ts';

const formatVersion = 1;
export const tablesDirectory = 'tables';
export const listsDirectory = 'backups';

export interface BackupList {
  /** Sorts by time: `20260131T235959123Z`, or any name of letters, digits, hyphens, underscores. */
  readonly id: string;
  readonly nodes: readonly SnapshotManifest[];
}

/** One table of a backup and whose it is. */
export interface BackupTable {
  readonly node: string;
  readonly shard: number;
  readonly meta: TableMeta;
  /** Inside the backup. */
  readonly path: string;
}

export const listPath = (id: string): string => `${listsDirectory}/${id}.json`;

export function listIdOf(path: string): string | undefined {
  return /^(?:[.]\/)?backups\/([A-Za-z0-9_-]{1,64})[.]json$/.exec(path)?.[1];
}

const tablePathOf = (node: string, shard: number, { fileNumber, checksum }: TableMeta): string => {
  const number = String(fileNumber).padStart(10, '0');
  return `${tablesDirectory}/${node}.${shard}.${number}-${checksum.toString(16).padStart(8, '0')}.sst`;
};

/** All tables, in the order in which they are copied. */
export function tablesOf({ nodes }: BackupList): readonly BackupTable[] {
  return nodes.flatMap(({ node, shards }) =>
    shards.flatMap(({ shard, tables }) =>
      tables.map((meta) => ({ node, shard, meta, path: tablePathOf(node, shard, meta) })),
    ),
  );
}

export const bytesOf = (tables: readonly BackupTable[]): number =>
  tables.reduce((sum, { meta }) => sum + meta.bytes, 0);

export function encodeList({ id, nodes }: BackupList): Uint8Array {
  return sealDocument({
    kind: 'kvd-backup',
    formatVersion,
    id,
    nodes: nodes.map(snapshotDocument),
  });
}

/** CorruptionError where it is damaged, DATA_REFUSED where it is no backup that is known here. */
export function decodeList(path: string, bytes: Uint8Array): BackupList {
  const document = openDocument(path, bytes) as {
    readonly kind: string;
    readonly formatVersion: number;
    readonly id: string;
    readonly nodes: readonly unknown[];
  };
  if (document.kind !== 'kvd-backup' || document.formatVersion !== formatVersion)
    throw new KvError('DATA_REFUSED', {
      file: path,
      detail: `${path}: backup format ${document.formatVersion}; this program reads ${formatVersion}`,
    });
  const nodes = document.nodes.map((node) => snapshotOf(path, node));
  return { id: document.id, nodes };
}

/** Oldest first. CorruptionError names the list that is damaged. */
export function readLists(disk: Disk): readonly BackupList[] {
  return disk
    .list(listsDirectory)
    .map((name) => `${listsDirectory}/${name}`)
    .filter((path) => listIdOf(path) !== undefined)
    .map((path) => decodeList(path, disk.read(path) ?? new Uint8Array(0)))
    .sort((a, b) => createdMsOf(a) - createdMsOf(b));
}

/** When the last of its snapshots was taken, milliseconds since 1970. */
export const createdMsOf = ({ nodes }: BackupList): number =>
  Math.max(0, ...nodes.map(({ createdMs }) => createdMs));

/** The same content; the level is where its manifest has it, not a part of the table. */
export function isSameTable(a: TableMeta, b: TableMeta): boolean {
  return (
    a.fileNumber === b.fileNumber &&
    a.bytes === b.bytes &&
    a.checksum === b.checksum &&
    a.records === b.records &&
    a.minHlc === b.minHlc &&
    a.maxHlc === b.maxHlc &&
    compareBytes(a.firstKey, b.firstKey) === 0 &&
    compareBytes(a.lastKey, b.lastKey) === 0
  );
}

/** Reads a whole table back. CorruptionError names the file; another table is one too. */
export function verifyTable(disk: Disk, path: string, meta: TableMeta, codecs: BlockCodecs): void {
  let file;
  try {
    file = disk.open(path, 'read');
  } catch (error) {
    if (error instanceof KvError && error.code === 'NOT_FOUND')
      throw new CorruptionError(path, 0, 'the file is missing');
    throw error;
  }
  try {
    const reader = SstableReader.open(file, meta.fileNumber, codecs);
    if (!isSameTable(reader.meta, meta))
      throw new CorruptionError(path, 0, 'it is another table than the list says');
    reader.verifyAll();
  } finally {
    file.close();
  }
}

/** Chunks of a file, as it is. CorruptionError where it is missing or its size is not `bytes`. */
export async function* chunksOf(
  disk: Disk,
  path: string,
  bytes: number,
): AsyncGenerator<Uint8Array> {
  if (!disk.exists(path)) throw new CorruptionError(path, 0, 'the file is missing');
  const file = disk.open(path, 'read');
  try {
    if (file.size() !== bytes)
      throw new CorruptionError(path, 0, `it has ${file.size()} bytes, the list says ${bytes}`);
    for (let at = 0; at < bytes; at += chunkBytes) {
      const chunk = new Uint8Array(Math.min(chunkBytes, bytes - at));
      if (file.read(chunk, 0 + at) !== chunk.length)
        throw new CorruptionError(path, at, 'the file is cut short');
      yield await Promise.resolve(chunk);
    }
  } finally {
    file.close();
  }
}

const chunkBytes = 1024 * 1024;
