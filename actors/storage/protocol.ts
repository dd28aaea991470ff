// Messages of one shard's storage. Records are the bytes of actors/model/record.ts; keys are
// storage keys.

import { ask, protocol, tell } from '../../runtime/protocol.ts';
import type { CatalogBytes } from '../catalog/protocol.ts';
import type { DroppedNamespaces } from '../model/dropped-keys.ts';
import type { RecordPage } from '../model/record-pages.ts';
import type { PurgeArcs, PurgeRule } from './purge-rule.ts';
import type { TableSection } from './table-sections.ts';

export interface RangeRequest {
  /** First key of the range, included. */
  readonly from: Uint8Array;
  /** End of the range, not included; absent: to the end. */
  readonly to: Uint8Array | undefined;
  readonly limit: number;
  /** The page ends with the record that passes this size. */
  readonly bytes: number;
}

const rangeLayout = { from: 'bytes', to: 'bytes?', limit: 'u32', bytes: 'u32' } as const;
const pageLayout = { records: 'bytes[]', isDone: 'bool' } as const;

/** A record that was read and is longer may be a view of a block of the cache, which others see too. */
export const ownRecordBytesMax = 4 * 1024;

/** Front door of a shard: the newest record of a key, whatever holds it. */
export const Store = protocol('store', 10, {
  /**
   * Answers when the record is durable (WAL-7). Idempotent: the winner by HLC-1 stays. TOO_LARGE: it
   * does not fit into the memtables of this node.
   */
  apply: ask<{ readonly record: Uint8Array }, { readonly lsn: number }>(1, {
    layout: { record: 'bytes' },
    replyLayout: { lsn: 'u53' },
  }),
  /**
   * Tombstones and expired records included: the reader decides what they mean. Up to
   * `ownRecordBytesMax` the bytes are the reader's own.
   */
  read: ask<
    { readonly key: Uint8Array; readonly hash: number },
    { readonly record: Uint8Array | undefined }
  >(2, { layout: { key: 'bytes', hash: 'u32' }, replyLayout: { record: 'bytes?' } }),
  /** Bytes of a record as those of `read`. */
  range: ask<RangeRequest, RecordPage>(3, { layout: rangeLayout, replyLayout: pageLayout }),
  /** Writes what is in memory to a table; answers when it is installed. */
  flush: ask<object, { readonly tables: number }>(4, { lane: 'background' }),
  stats: ask<object, StoreStats>(5, { lane: 'background' }),
  /**
   * Several records as one unit: after a crash all of them are there or none. BAD_REQUEST for an
   * empty list; TOO_LARGE above what may be in flight at once.
   */
  applyMany: ask<{ readonly records: readonly Uint8Array[] }, { readonly lsn: number }>(6, {
    layout: { records: 'bytes[]' },
    replyLayout: { lsn: 'u53' },
  }),
  /** The tables that count now. */
  tables: ask<object, { readonly tables: readonly TableMeta[] }>(40),
  /** This table cannot be read whole: no compaction takes it until the next start. */
  damaged: tell<{ readonly fileNumber: number }>(41),
  /**
   * Gives every table that counts a second name, `prefix` and the name of the table, all in one
   * turn: no compaction comes in between. The answer is the version edit that makes this state
   * (version-edit.ts). The caller syncs the directory.
   */
  linkTables: ask<{ readonly prefix: string }, { readonly edit: Uint8Array }>(20, {
    lane: 'background',
    layout: { prefix: 'text' },
    replyLayout: { edit: 'bytes' },
  }),
  /**
   * Tombstones with a stamp up to the number of their arc may be purged, when they are old enough:
   * a repair of all replicas has seen them. `ends`: last tokens of the arcs of the ring, ascending.
   */
  purgeBelow: tell<PurgeArcs>(50, { lane: 'control', layout: { ends: 'u32[]', hlcs: 'u53[]' } }),
  /** What is left of namespaces that were dropped is cleared away from now on. */
  namespacesChanged: ask<CatalogBytes, object>(60, { lane: 'control' }),
  /** Of the store to itself, in the lane of requests: how long they wait (pacing.ts). */
  ping: ask<object, object>(30),
  /**
   * From the answer on the watcher of this node is told of every record as it becomes visible, or is
   * not any more. `sequence`: how many it was told of so far.
   */
  feed: ask<{ readonly isOn: boolean }, { readonly sequence: number }>(90, { lane: 'control' }),
});
export type Store = typeof Store.messages;

export interface StoreStats {
  /** Records in memory and tables; counts overwritten ones until compaction. */
  readonly records: number;
  readonly memtableBytes: number;
  readonly tables: number;
  readonly tableBytes: number;
  /** Memory that open tables always take: tops of indexes, and filters; within the block cache's. */
  readonly tableIndexBytes: number;
  readonly walBytes: number;
  /** Highest hlc in tables; right after the start that is the highest of all. */
  readonly newestHlc: number;
}

/** A log segment that gets no more records, and how it ends. */
export interface SegmentEnd {
  readonly path: string;
  readonly number: number;
  readonly lastLsn: number;
  readonly chain: number;
}

/** One shard's write-ahead log: a record is answered when it is durable. */
export const WalWriter = protocol('wal-writer', 11, {
  append: ask<{ readonly record: Uint8Array }, { readonly lsn: number }>(1, {
    layout: { record: 'bytes' },
    replyLayout: { lsn: 'u53' },
  }),
  /**
   * Before the first append: the records of the next segment that an earlier run left, oldest
   * first. CORRUPT where acknowledged records are damaged (WAL-10, WAL-11).
   */
  recover: ask<
    { readonly flushedThrough: number; readonly recoveredThrough: number },
    { readonly records: readonly Uint8Array[]; readonly lastLsn: number; readonly isDone: boolean }
  >(4),
  /** The end of the recovered log is on the disk: where its records cannot go to tables yet. */
  syncRecovered: ask<object, object>(8),
  /** Recovery is over and its records are safe elsewhere: starts a new segment (WAL-12). */
  begin: ask<{ readonly afterLsn: number }, object>(5),
  /** Everything up to this LSN is in tables that the manifest names (WAL-9). */
  release: tell<{ readonly throughLsn: number }>(2, { lane: 'control' }),
  /** `unarchived`: closed segments that wait for the archive, where there is one. */
  stats: ask<
    object,
    { readonly bytes: number; readonly segments: number; readonly unarchived: number }
  >(3),
  /** One log record for all of them: one atomic unit (WAL-5). */
  appendMany: ask<{ readonly records: readonly Uint8Array[] }, { readonly lsn: number }>(6, {
    layout: { records: 'bytes[]' },
    replyLayout: { lsn: 'u53' },
  }),
  /** So many bytes of records per second at most from now on; Infinity: all that comes. */
  pace: tell<{ readonly bytesPerSecond: number }>(7, { lane: 'control' }),
  /** Segments that are full and not released yet. */
  closed: ask<object, { readonly segments: readonly SegmentEnd[] }>(40),
});
export type WalWriter = typeof WalWriter.messages;

/** A frozen memtable, as the flusher on another thread finds it. */
export interface FrozenTable {
  /** Index into the node's arenas. */
  readonly arena: number;
  readonly records: number;
  readonly bytes: number;
  /** Every record up to here is in this table or an older one. */
  readonly throughLsn: number;
}

/** The newest records of one shard, ordered. */
export const Memtable = protocol('memtable', 12, {
  /** A durable record. In the control lane: what is durable may not be dropped on its way. */
  insert: tell<{ readonly record: Uint8Array; readonly lsn: number }>(1, {
    lane: 'control',
    layout: { record: 'bytes', lsn: 'u53' },
  }),
  get: ask<{ readonly key: Uint8Array }, { readonly record: Uint8Array | undefined }>(2, {
    layout: { key: 'bytes' },
    replyLayout: { record: 'bytes?' },
    isPeek: true,
  }),
  range: ask<RangeRequest, RecordPage>(3, { layout: rangeLayout, replyLayout: pageLayout }),
  /** Fails with OVERLOADED where the table is full: recovery flushes and tries again. */
  load: ask<
    { readonly records: readonly Uint8Array[]; readonly lsn: number },
    { readonly loaded: number }
  >(7),
  /** Closes the active table, if it holds anything, and starts a new one. */
  freeze: ask<object, { readonly table: FrozenTable | undefined }>(4, { lane: 'control' }),
  /** Its table is installed: the arena may be used again. */
  release: tell<{ readonly arena: number }>(5, { lane: 'control' }),
  /** `minHlc`: no record in memory is older; the highest safe integer where there is none. */
  stats: ask<object, { readonly records: number; readonly bytes: number; readonly minHlc: number }>(
    6,
  ),
  /** The records of one log record: no read sees a part of them. */
  insertMany: tell<{ readonly records: readonly Uint8Array[]; readonly lsn: number }>(8, {
    lane: 'control',
    layout: { records: 'bytes[]', lsn: 'u53' },
  }),
});
export type Memtable = typeof Memtable.messages;

/** What the manifest knows of a table (MF-1). */
export interface TableMeta {
  readonly fileNumber: number;
  readonly level: number;
  readonly bytes: number;
  readonly records: number;
  readonly tombstones: number;
  readonly firstKey: Uint8Array;
  readonly lastKey: Uint8Array;
  readonly minHlc: number;
  readonly maxHlc: number;
  /** Latest expiry in it; 0: some record never expires. */
  readonly maxExpiresAt: number;
  /** CRC-32 of the whole file before its footer. */
  readonly checksum: number;
}

/** Looks records up in the tables of one shard. */
export const TableReader = protocol('table-reader', 13, {
  /** The winner among all tables; `aboveHlc`: only what is newer matters (MF-9). */
  get: ask<
    { readonly key: Uint8Array; readonly hash: number; readonly aboveHlc: number },
    { readonly record: Uint8Array | undefined }
  >(1, {
    layout: { key: 'bytes', hash: 'u32', aboveHlc: 'u53' },
    replyLayout: { record: 'bytes?' },
    isPeek: true,
  }),
  range: ask<RangeRequest, RecordPage>(2, { layout: rangeLayout, replyLayout: pageLayout }),
  /**
   * One change of what is read: all `added` are opened and verified, then they take the place of
   * those dropped, whose files are closed (MF-3 steps 5, 7 and 8). A table may be both: it changes
   * its level. CORRUPT, NOT_FOUND: everything is as before. What `open` has opened cannot fail.
   */
  replace: ask<
    { readonly added: readonly TableMeta[]; readonly dropped: readonly number[] },
    { readonly tables: number }
  >(3, { lane: 'control' }),
  stats: ask<
    object,
    {
      readonly tables: number;
      readonly bytes: number;
      readonly records: number;
      /** What open tables always keep in memory: tops of indexes, and filters. */
      readonly indexBytes: number;
    }
  >(4),
  /**
   * Opens and verifies what a `replace` is going to show, and keeps it open beside what is read; what
   * was kept so before is closed. CORRUPT, NOT_FOUND: none is kept.
   */
  open: ask<{ readonly tables: readonly TableMeta[] }, object>(5, { lane: 'control' }),
});
export type TableReader = typeof TableReader.messages;

/** One snapshot of one node, in few words. */
export interface SnapshotSummary {
  readonly name: string;
  /** Milliseconds since 1970. */
  readonly createdMs: number;
  readonly tables: number;
  readonly records: number;
  readonly bytes: number;
  /** No record in it is newer; 0: it holds none. */
  readonly maxHlc: number;
}

/**
 * Named sets of tables of this node that never change, on all shards together. Names have 1 to 64
 * letters, digits, hyphens or underscores.
 */
export const Snapshotter = protocol('snapshotter', 16, {
  /**
   * Holds everything that was acknowledged before the request. CONFLICT where the name is taken or
   * another one is being made; DRAINING: this node is filled with what it has lost (CO-4);
   * DISK_FULL: nothing was made.
   */
  create: ask<{ readonly name: string }, SnapshotSummary>(1),
  /** By name, in order. */
  list: ask<object, { readonly snapshots: readonly SnapshotSummary[] }>(2),
  remove: ask<{ readonly name: string }, { readonly isRemoved: boolean }>(3),
  /** The snapshot's own manifest (snapshot-format.ts). NOT_FOUND, CORRUPT. */
  describe: ask<{ readonly name: string }, { readonly manifest: Uint8Array }>(4, {
    layout: { name: 'text' },
    replyLayout: { manifest: 'bytes' },
  }),
  /** Up to `length` bytes of one of its tables from `offset`; `size`: of the whole file. */
  read: ask<
    {
      readonly name: string;
      readonly shard: number;
      readonly fileNumber: number;
      readonly offset: number;
      readonly length: number;
    },
    { readonly bytes: Uint8Array; readonly size: number }
  >(5, {
    lane: 'background',
    layout: { name: 'text', shard: 'u32', fileNumber: 'u53', offset: 'u53', length: 'u32' },
    replyLayout: { bytes: 'bytes', size: 'u53' },
  }),
  /** What is in memory becomes tables, in all shards; `tables`: of all shards then. */
  flush: ask<object, { readonly tables: number }>(6),
});
export type Snapshotter = typeof Snapshotter.messages;

/** Copies closed log segments of one shard to the archive. */
export const WalArchiver = protocol('wal-archiver', 17, {
  /**
   * Answers when the segment is in the archive, durable and read back. `bytes`: of its records;
   * absent: to the last byte that is not zero. What `covered` says is true then.
   */
  keep: ask<
    {
      readonly path: string;
      readonly number: number;
      readonly bytes: number | undefined;
      readonly covered: { readonly throughLsn: number; readonly atMicros: number } | undefined;
    },
    object
  >(1, { lane: 'background' }),
  /** Nothing was logged since the last segment was kept: time went on. */
  cover: ask<{ readonly throughLsn: number; readonly atMicros: number }, object>(2, {
    lane: 'background',
  }),
});
export type WalArchiver = typeof WalArchiver.messages;

/** Background work of one shard: tables out of memory, and fewer tables out of many. */
export const Compactor = protocol('compactor', 14, {
  /**
   * Writes a frozen memtable to new table files: written, synced, their directory synced. One for
   * each section; neighbours that have less than `sectionBytesMin` share one. Absent: all in one.
   */
  flush: ask<
    {
      readonly table: FrozenTable;
      readonly fileNumbers: readonly number[];
      readonly sections?: readonly TableSection[] | undefined;
      readonly sectionBytesMin?: number;
    },
    { readonly tables: readonly TableMeta[] }
  >(1, { lane: 'background' }),
  /**
   * Merges tables into new ones in key order, split at `splitBytes` and where a section begins:
   * written, synced, verified. The inputs stay as they are. CORRUPT names the input that is damaged.
   */
  compact: ask<
    {
      readonly inputs: readonly TableMeta[];
      readonly level: number;
      readonly splitBytes: number | undefined;
      /** For the outputs; not all of them may be needed. */
      readonly fileNumbers: readonly number[];
      readonly purge: PurgeRule | undefined;
      /** Records of these namespaces are left out. */
      readonly dropped?: DroppedNamespaces | undefined;
      /** Nobody will merge the outputs again for long: pack them as tightly as possible. */
      readonly isCold: boolean;
      /** Absent: the outputs are packed as the node is configured. */
      readonly sections?: readonly TableSection[] | undefined;
    },
    { readonly tables: readonly TableMeta[]; readonly purged: number }
  >(2, { lane: 'background' }),
  /** Merges pause so long after each batch from now on, milliseconds. */
  pace: tell<{ readonly pauseMs: number }>(30, { lane: 'control' }),
});
export type Compactor = typeof Compactor.messages;

/** Stored bytes that are not what was written. */
export interface ScrubDamage {
  readonly file: string;
  readonly offset: number;
  readonly what: string;
  /** Keys that are concerned, as `namespace:text`; both empty for a log segment. */
  readonly firstKey: string;
  readonly lastKey: string;
}

export interface ScrubStatus {
  /** Since the start. */
  readonly passes: number;
  /** Of the pass that is under way, or the last one. */
  readonly tables: number;
  readonly bytes: number;
  /** Since the end of the last pass; negative: there was none since the start. */
  readonly ageMs: number;
  readonly damageCount: number;
  /** The first of them. */
  readonly damages: readonly ScrubDamage[];
}

/** Reads stored bytes again in the background. */
export const Scrubber = protocol('scrubber', 15, {
  status: ask<object, ScrubStatus>(1),
});
export type Scrubber = typeof Scrubber.messages;
