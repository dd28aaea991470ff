// The live records of a backup, each key once, whatever nodes and shards it lies on: for a cluster
// of another shape, which gets them as new writes (BK-4). Tables are read in the directory.

import { isLive, namespaceOf, recordKey } from '../../actors/model/record.ts';
import { lastWriteWins } from '../../actors/model/resolve.ts';
import { mergeCursors } from '../../actors/storage/merge-iterator.ts';
import { SstableReader } from '../../actors/storage/sstable-reader.ts';
import type { BlockCodecs, Disk } from '../../runtime/environment.ts';
import { CorruptionError } from '../../runtime/errors.ts';
import { type BackupList, isSameTable, tablesOf } from './backup-format.ts';

const defaultNamespace = 0;

/**
 * In key order, without deletions and what has expired by `nowMs`. CorruptionError names the file.
 * Every table is open at the same time.
 */
export function* liveRecords(
  disk: Disk,
  list: BackupList,
  { codecs, nowMs }: { readonly codecs: BlockCodecs; readonly nowMs: number },
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
      readers.map((reader) => reader.cursor()),
      lastWriteWins,
    );
    for (let record = cursor.next(); record !== undefined; record = cursor.next())
      if (isLive(record, nowMs) && namespaceOf(recordKey(record)) === defaultNamespace)
        yield record;
  } finally {
    for (const reader of readers) reader.close();
  }
}
