// Backups of simulated nodes, made and restored by the code of `kvctl`: for the tests of what a
// restored cluster holds and of what a restored node may not do.

import {
  decodeSnapshot,
  snapshotDirectory,
  snapshotPath,
  snapshotTablePath,
} from '../../actors/storage/snapshot-format.ts';
import { Snapshotter } from '../../actors/storage/protocol.ts';
import { backupToDirectory } from '../../cli/backup/backup.ts';
import { type BackupList, chunksOf } from '../../cli/backup/backup-format.ts';
import { restoreFromDirectory } from '../../cli/backup/restore-from.ts';
import { refTo } from '../../runtime/actor.ts';
import { noBytes } from '../../runtime/bytes.ts';
import type { SimCluster } from '../../sim/cluster.ts';
import { sharedCodecs } from '../../sim/kvd-program.ts';
import type { SimStorage } from '../../sim/sim-disk.ts';
import { MemoryDisk } from '../kit-disk.ts';
import { copyOf } from '../storage/machine-under-test.ts';

const name = 'b';

export interface Backup {
  readonly backup: MemoryDisk;
  readonly list: BackupList;
}

/** Throws where the node does not make it. */
export async function takeSnapshot(cluster: SimCluster, node: string): Promise<void> {
  const made = await cluster.ask(refTo(Snapshotter, node), 'create', { name }, 30_000);
  if (made.kind !== 'reply') throw new Error(`no snapshot of ${node}: ${JSON.stringify(made)}`);
}

/** The snapshot that a node has made. */
export const snapshotOf = (cluster: SimCluster, node: string): MemoryDisk =>
  copyOf(cluster.machineOf(node).storage, [snapshotDirectory]);

/** A backup of these snapshots, by node. */
export async function backupOf(disks: ReadonlyMap<string, MemoryDisk>): Promise<Backup> {
  const diskOf = (node: string): MemoryDisk => disks.get(node) ?? new MemoryDisk();
  const nodes = [...disks].map(([node, disk]) =>
    decodeSnapshot(node, disk.read(snapshotPath(name)) ?? noBytes),
  );
  const list = { id: name, nodes };
  const backup = new MemoryDisk();
  await backupToDirectory(backup, list, {
    chunks: ({ node, shard, meta }) =>
      chunksOf(diskOf(node), snapshotTablePath(name, shard, meta.fileNumber), meta.bytes),
    onBytes: () => undefined,
    parallel: 1,
    verifiesAll: false,
    codecs: sharedCodecs(),
  });
  return { backup, list };
}

/** Fills an empty data directory, as the restore of one node does. */
export async function restoreInto(
  storage: SimStorage,
  { backup, list }: Backup,
  who: { readonly node: string; readonly clusterName: string; readonly nowMs?: number },
): Promise<void> {
  const target = new MemoryDisk();
  const rest = { codecs: sharedCodecs(), onBytes: () => undefined };
  await restoreFromDirectory(backup, list, { nowMs: 0, ...who, ...rest, target });
  for (const path of target.paths()) {
    const parts = path.split('/');
    for (let i = 1; i < parts.length; i += 1) storage.addDirectory(parts.slice(0, i).join('/'));
    storage.create(path).write(target.read(path) ?? noBytes, 0);
  }
}
