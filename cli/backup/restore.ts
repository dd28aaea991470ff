// Makes the data directory of one node from a backup. The node keeps its id, shards and ring, since
// they say which keys lie where; it gets another cluster name, so that no node of the cluster that
// was backed up takes part in it (BK-3), and starts with a newer incarnation and a clock that is not
// behind any record in the backup.
//
// Invariant: `identity.json` is written last, and a node refuses a directory with data and without
// it. A restore that ended early left a marker: the next one clears what is there and begins anew.
// Every table is read back from the new directory before it counts.

import { identityFile, restoreIdentity, restoreMarker } from '../../actors/node/identity.ts';
import { encodeBound } from '../../actors/replication/stamper.ts';
import { ManifestLog } from '../../actors/storage/manifest.ts';
import type { SnapshotManifest, SnapshotShard } from '../../actors/storage/snapshot-format.ts';
import { tablePath } from '../../actors/storage/table-files.ts';
import { utf8 } from '../../runtime/bytes.ts';
import type { BlockCodecs, Disk } from '../../runtime/environment.ts';
import { assert, CorruptionError, KvError } from '../../runtime/errors.ts';
import { type BackupList, type BackupTable, tablesOf, verifyTable } from './backup-format.ts';
import { copyTo } from './copy.ts';
import { checkArchive, type LogReplay, replayShard } from './log-replay.ts';

export interface RestoreOptions {
  /** The node of the backup whose data this becomes. */
  readonly node: string;
  /** Of the new cluster. */
  readonly clusterName: string;
  readonly nowMs: number;
  readonly codecs: BlockCodecs;
  /** Records of the archived log that come on top of the tables. */
  readonly replay?: LogReplay | undefined;
}

export interface RestoreFigures {
  readonly tables: number;
  readonly bytes: number;
  /** From the archived log. */
  readonly replayed: number;
  /** Newest record, microseconds since 1970; 0: there is none. */
  readonly maxHlc: number;
}

/** Files that a directory may have and still count as empty. */
const harmless: ReadonlySet<string> = new Set([
  'kvd.pid',
  'lost+found',
  restoreMarker,
  `${restoreMarker}.tmp`,
]);

const shardDirectory = (shard: number): string => `shard-${shard}`;

/** The snapshot of `node`; BAD_REQUEST says which there are. */
export function snapshotOfNode({ id, nodes }: BackupList, node: string): SnapshotManifest {
  const found = nodes.find((one) => one.node === node);
  if (found !== undefined) return found;
  throw new KvError('BAD_REQUEST', {
    field: 'node',
    detail: `backup ${id} holds ${nodes.map((one) => one.node).join(', ')}, not ${node}`,
  });
}

/** One restore: begin, a `put` for each wanted table in any order, finish. */
export class Restore {
  readonly #disk: Disk;
  readonly #options: RestoreOptions;
  readonly #snapshot: SnapshotManifest;
  readonly #wanted: ReadonlyMap<string, BackupTable>;
  readonly #put = new Set<string>();
  /** Of all nodes: this one may have stamped records that it holds no copy of. */
  readonly #newest: number;

  private constructor(disk: Disk, list: BackupList, options: RestoreOptions) {
    this.#disk = disk;
    this.#options = options;
    this.#snapshot = snapshotOfNode(list, options.node);
    const tables = tablesOf({ id: list.id, nodes: [this.#snapshot] });
    this.#newest = tablesOf(list).reduce((max, { meta }) => Math.max(max, meta.maxHlc), 0);
    this.#wanted = new Map(tables.map((table) => [table.path, table]));
  }

  /** CONFLICT where the directory is not empty. What an earlier restore left is cleared. */
  static async begin(disk: Disk, list: BackupList, options: RestoreOptions): Promise<Restore> {
    const restore = new Restore(disk, list, options);
    restore.#checkArchive();
    clearDirectory(disk);
    await disk.replace(restoreMarker, utf8.encode(`${list.id}\n`));
    for (const { shard } of restore.#snapshot.shards) {
      await disk.makeDirectory(`${shardDirectory(shard)}/tables`);
      await disk.makeDirectory(`${shardDirectory(shard)}/wal`);
    }
    return restore;
  }

  /** By their paths in the backup. */
  get wanted(): ReadonlyMap<string, BackupTable> {
    return this.#wanted;
  }

  /** Whether this file of the backup is needed and not there yet. */
  wants(path: string): boolean {
    return this.#wanted.has(path) && !this.#put.has(path);
  }

  /** Durable once its directory is synced. CorruptionError names the file of the backup. */
  async put(path: string, chunks: AsyncIterable<Uint8Array>): Promise<void> {
    const table = this.#wanted.get(path);
    assert(table !== undefined, `${path} is not wanted`);
    const { shard, meta } = table;
    const target = tablePath(shardDirectory(shard), meta.fileNumber);
    await copyTo(this.#disk, target, chunks, (copy) => {
      try {
        verifyTable(this.#disk, copy, meta, this.#options.codecs);
      } catch (error) {
        if (!(error instanceof CorruptionError)) throw error;
        throw new CorruptionError(path, error.offset, error.message.replace(/^[^]*?: /, ''));
      }
    });
    this.#put.add(path);
  }

  /** The directory is a node's from here on. CorruptionError where a table never came. */
  async finish(): Promise<RestoreFigures> {
    for (const path of this.#wanted.keys())
      if (!this.#put.has(path)) throw new CorruptionError(path, 0, 'the file is missing');
    const { nowMs, node, clusterName } = this.#options;
    const { shape, shards } = this.#snapshot;
    const incarnation = Math.max(Math.floor(nowMs / 1000), this.#snapshot.incarnation + 1);
    const metas = shards.flatMap(({ tables }) => tables);
    let maxHlc = this.#newest;
    let replayed = 0;
    for (const shard of shards) {
      await this.#writeManifest(shard, incarnation);
      const outcome = await this.#replay(shard, incarnation);
      replayed += outcome.records;
      maxHlc = Math.max(maxHlc, outcome.maxHlc);
    }
    for (const { shard } of shards)
      await this.#disk.replace(`${shardDirectory(shard)}/clock-bound`, encodeBound(maxHlc));
    await restoreIdentity(this.#disk, { clusterName, node, ...shape }, incarnation);
    this.#disk.remove(restoreMarker);
    await this.#disk.syncDirectory('');
    const bytes = metas.reduce((sum, table) => sum + table.bytes, 0);
    return { tables: metas.length, bytes, replayed, maxHlc };
  }

  async #writeManifest({ shard, tables }: SnapshotShard, incarnation: number): Promise<void> {
    const directory = shardDirectory(shard);
    await this.#disk.syncDirectory(`${directory}/tables`);
    const { clusterName, node } = this.#options;
    const identity = { clusterName, node, incarnation, shard };
    const manifest = await ManifestLog.create(this.#disk, directory, identity, tables);
    manifest.close();
  }

  /** Before anything is copied: a gap is best told at once. */
  #checkArchive(): void {
    const { replay, node } = this.#options;
    const { clusterName, shards } = this.#snapshot;
    if (replay === undefined) return;
    for (const shard of shards) checkArchive({ clusterName, node, ...shard }, replay);
  }

  async #replay(
    shard: SnapshotShard,
    incarnation: number,
  ): Promise<{ readonly records: number; readonly maxHlc: number }> {
    const { replay, clusterName, node } = this.#options;
    if (replay === undefined) return { records: 0, maxHlc: 0 };
    const identity = { clusterName, node, incarnation, shard: shard.shard };
    const from = { clusterName: this.#snapshot.clusterName, node, ...shard };
    const wal = `${shardDirectory(shard.shard)}/wal`;
    return replayShard(this.#disk, wal, { identity, from, replay });
  }
}

/** CONFLICT where the directory holds anything but what a restore left. */
function clearDirectory(disk: Disk): void {
  const isOurs = disk.exists(restoreMarker) && !disk.exists(identityFile);
  const found = disk.list('').filter((name) => !harmless.has(name));
  if (found.length > 0 && !isOurs)
    throw new KvError('CONFLICT', {
      detail: `the data directory holds ${found[0] ?? ''}: restore into an empty one`,
    });
  for (const shard of found.filter((name) => /^shard-\d+$/.test(name))) {
    removeFiles(disk, `${shard}/tables`);
    removeFiles(disk, `${shard}/wal`);
    removeFiles(disk, shard, new Set(['tables', 'wal']));
  }
}

function removeFiles(disk: Disk, directory: string, except: ReadonlySet<string> = new Set()): void {
  for (const name of disk.list(directory))
    if (!except.has(name)) disk.remove(`${directory}/${name}`);
}
