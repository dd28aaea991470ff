// One moment of an embedded store: what was acknowledged when it was taken, whatever is written,
// flushed and merged afterwards. The tables of that moment have second names in a directory of their
// own, so a merge that is done with one takes nothing away; after a crash the next opening removes
// them. Records are read from the tables alone: taking a snapshot flushes what is in memory.

import { type BlockCodecs, type Disk } from '../../runtime/environment.ts';
import { BytePool } from '../../runtime/byte-pool.ts';
import { compareBytes } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';
import { isLive, recordKey, recordValue, userKey } from '../../actors/model/record.ts';
import { lastWriteWins, resolveAll } from '../../actors/model/resolve.ts';
import { hashKey } from '../../actors/model/token.ts';
import { BlockCache } from '../../actors/storage/block-cache.ts';
import { mergeCursors } from '../../actors/storage/merge-iterator.ts';
import type { TableMeta } from '../../actors/storage/protocol.ts';
import { SstableReader } from '../../actors/storage/sstable-reader.ts';
import { tableName } from '../../actors/storage/table-files.ts';
import { decodeEdit } from '../../actors/storage/version-edit.ts';
import {
  type Bytes,
  checkedKey,
  type IterateOptions,
  type KeyRange,
  rangeOf,
} from './storage-keys.ts';

export type Entry = readonly [key: Uint8Array, value: Uint8Array];

/** Reads of one moment. It keeps files: close it. */
export interface StorageSnapshot {
  /** A copy of the value as it was; undefined where there was none. */
  readonly get: (key: Bytes) => Promise<Uint8Array | undefined>;
  readonly getSync: (key: Bytes) => Uint8Array | undefined;
  /** Entries of that moment by key bytes, ascending or with `reverse` descending. */
  readonly iterate: (options?: IterateOptions) => AsyncIterableIterator<Entry>;
  /** Lets its files go; later reads are refused: DRAINING. Again: no change. */
  readonly close: () => Promise<void>;
}

export interface SnapshotTables {
  readonly disk: Disk;
  readonly codecs: BlockCodecs;
  /** Stands before the name of each table. */
  readonly prefix: string;
  /** The tables, as the store has named them (version-edit.ts). */
  readonly edit: Uint8Array;
  /** Called once. */
  readonly onClose: (snapshot: StorageSnapshot) => void;
}

/** Of snapshots that are open, in the directory of the store. */
export const snapshotDirectory = 'open-snapshots';
/** Blocks that a snapshot keeps for itself. */
const cacheBytes = 8 * 1024 * 1024;
/** Entries after which others have their turn. */
const entriesPerLoop = 256;

/** Removes what snapshots of an earlier run have left. */
export function removeOldSnapshots(disk: Disk): void {
  for (const name of disk.list(snapshotDirectory)) disk.remove(`${snapshotDirectory}/${name}`);
}

/** CORRUPT where a table cannot be read; then nothing stays open. */
export function openSnapshot(from: SnapshotTables): StorageSnapshot {
  const snapshot = new TablesSnapshot(from);
  try {
    snapshot.open();
  } catch (error) {
    snapshot.abandon();
    throw error;
  }
  return snapshot;
}

class TablesSnapshot implements StorageSnapshot {
  readonly #from: SnapshotTables;
  readonly #tables: readonly TableMeta[];
  readonly #readers: SstableReader[] = [];
  readonly #pool = new BytePool();
  #isClosed = false;

  constructor(from: SnapshotTables) {
    this.#from = from;
    this.#tables = decodeEdit(from.edit).added;
  }

  open(): void {
    const { disk, codecs } = this.#from;
    const cache = new BlockCache(cacheBytes);
    for (const { fileNumber } of this.#tables) {
      const file = disk.open(this.#path(fileNumber), 'read');
      this.#readers.push(SstableReader.open(file, fileNumber, codecs, cache));
    }
  }

  readonly get = (key: Bytes): Promise<Uint8Array | undefined> =>
    new Promise((done) => {
      done(this.getSync(key));
    });

  readonly getSync = (key: Bytes): Uint8Array | undefined => {
    this.#refuseClosed();
    const stored = checkedKey(key);
    const { hash } = hashKey(stored);
    const found = this.#readers.map((reader) => reader.get(stored, hash));
    const record = resolveAll(found, lastWriteWins);
    if (record === undefined || !isLive(record, 0)) return undefined;
    return this.#pool.copy(recordValue(record));
  };

  readonly iterate = (options: IterateOptions = {}): AsyncIterableIterator<Entry> => {
    this.#refuseClosed();
    return this.#entries(rangeOf(options));
  };

  async *#entries({
    from,
    to,
    limit,
    isReverse,
  }: KeyRange): AsyncGenerator<Entry, void, undefined> {
    const cursor = mergeCursors(
      this.#readers.map((reader) => (isReverse ? reader.reverseCursor(to) : reader.cursor(from))),
      lastWriteWins,
      isReverse ? 'descending' : 'ascending',
    );
    let given = 0;
    for (let seen = 1; given < limit; seen += 1) {
      this.#refuseClosed();
      const record = cursor.next();
      if (record === undefined) return;
      const key = recordKey(record);
      if (isReverse ? compareBytes(key, from) < 0 : compareBytes(key, to) >= 0) return;
      if (isLive(record, 0)) {
        given += 1;
        yield [this.#pool.copy(userKey(key)), this.#pool.copy(recordValue(record))];
      }
      if (seen % entriesPerLoop === 0) await nextLoop();
    }
  }

  readonly close = (): Promise<void> => {
    if (!this.#isClosed) {
      this.abandon();
      this.#from.onClose(this);
    }
    return Promise.resolve();
  };

  abandon(): void {
    this.#isClosed = true;
    for (const reader of this.#readers) reader.close();
    for (const { fileNumber } of this.#tables) this.#from.disk.remove(this.#path(fileNumber));
  }

  #path(fileNumber: number): string {
    return `${this.#from.prefix}${tableName(fileNumber)}`;
  }

  #refuseClosed(): void {
    if (this.#isClosed) throw new KvError('DRAINING', { detail: 'the snapshot is closed' });
  }
}

const nextLoop = (): Promise<void> =>
  new Promise((done) => {
    setImmediate(done);
  });
