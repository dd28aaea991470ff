// The live records of a backup, each key once, whatever nodes and shards it lies on: for a cluster
// of another shape, which gets them as new writes (BK-4). Tables are read in the directory.

import {
  type CatalogDocument,
  catalogKey,
  decodeCatalog,
  firstDocument,
  systemNamespace,
} from '../../actors/model/namespaces.ts';
import {
  isLive,
  namespaceOf,
  recordKey,
  recordValue,
  storageKey,
} from '../../actors/model/record.ts';
import { lastWriteWins } from '../../actors/model/resolve.ts';
import { mergeCursors } from '../../actors/storage/merge-iterator.ts';
import { SstableReader } from '../../actors/storage/sstable-reader.ts';
import { equalBytes, noBytes } from '../../runtime/bytes.ts';
import type { BlockCodecs, Disk } from '../../runtime/environment.ts';
import { CorruptionError } from '../../runtime/errors.ts';
import { type BackupList, isSameTable, tablesOf } from './backup-format.ts';

export interface LiveRecordsOptions {
  readonly codecs: BlockCodecs;
  readonly nowMs: number;
  /** Whose records, by its number. */
  readonly namespace: number;
}

/**
 * In key order, without deletions and what has expired by `nowMs`. CorruptionError names the file.
 * Every table is open at the same time.
 */
export function* liveRecords(
  disk: Disk,
  list: BackupList,
  { codecs, nowMs, namespace }: LiveRecordsOptions,
): Generator<Uint8Array> {
  for (const record of newestFrom(storageKey(namespace, noBytes), disk, list, codecs)) {
    if (namespaceOf(recordKey(record)) !== namespace) return;
    if (isLive(record, nowMs)) yield record;
  }
}

/** The namespaces of the cluster as far as the backup has heard of them. CorruptionError as above. */
export function catalogOf(disk: Disk, list: BackupList, codecs: BlockCodecs): CatalogDocument {
  const key = storageKey(systemNamespace, catalogKey);
  const [record] = newestFrom(key, disk, list, codecs);
  const isThere = record !== undefined && equalBytes(recordKey(record), key);
  // Where nobody has changed any there is no such record.
  return isThere ? decodeCatalog(recordValue(record)) : firstDocument;
}

/** The newest record of each key from this one on. */
function* newestFrom(
  key: Uint8Array,
  disk: Disk,
  list: BackupList,
  codecs: BlockCodecs,
): Generator<Uint8Array> {
  const readers: SstableReader[] = [];
  try {
    for (const { path, meta } of tablesOf(list)) {
      if (!disk.exists(path)) throw new CorruptionError(path, 0, 'the file is missing');
      const reader = SstableReader.open(disk.open(path, 'read'), meta.fileNumber, codecs);
      readers.push(reader);
      if (!isSameTable(reader.meta, meta))
        throw new CorruptionError(path, 0, 'it is another table than the list says');
    }
    const cursor = mergeCursors(
      readers.map((reader) => reader.cursor(key)),
      lastWriteWins,
    );
    for (let record = cursor.next(); record !== undefined; record = cursor.next()) yield record;
  } finally {
    for (const reader of readers) reader.close();
  }
}
