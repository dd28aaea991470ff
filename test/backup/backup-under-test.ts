// A backup's source in memory: snapshots of a simulated node, made while it writes and compacts.

import {
  decodeSnapshot,
  snapshotDirectory,
  snapshotPath,
  snapshotTablePath,
} from '../../actors/storage/snapshot-format.ts';
import type { BackupSource } from '../../cli/backup/backup.ts';
import { type BackupList, chunksOf } from '../../cli/backup/backup-format.ts';
import { noBytes } from '../../runtime/bytes.ts';
import { sharedCodecs } from '../../sim/kvd-program.ts';
import type { MemoryDisk } from '../kit-disk.ts';
import { copyOf, MachineUnderTest } from '../storage/machine-under-test.ts';

export interface Taken {
  readonly list: BackupList;
  readonly source: BackupSource;
  /** Paths of the backup whose bytes were asked for. */
  readonly copied: string[];
}

/** The snapshot `name` on `disk` as a backup `id`. */
function takenOf(disk: MemoryDisk, name: string, id: string): Taken {
  const snapshot = decodeSnapshot(name, disk.read(snapshotPath(name)) ?? noBytes);
  const copied: string[] = [];
  const source: BackupSource = {
    chunks: ({ shard, meta, path }) => {
      copied.push(path);
      return chunksOf(disk, snapshotTablePath(name, shard, meta.fileNumber), meta.bytes);
    },
    onBytes: () => undefined,
    parallel: 2,
    verifiesAll: false,
    codecs: sharedCodecs(),
  };
  return { list: { id, nodes: [snapshot] }, source, copied };
}

/** Two snapshots of one node: the second one shares a table with the first and has one more. */
export async function twoSnapshots(): Promise<readonly [Taken, Taken]> {
  const machine = new MachineUnderTest();
  let disk: MemoryDisk | undefined;
  await machine.cluster.world.run(async () => {
    await machine.start();
    await machine.write(10);
    await machine.snapshot('one');
    await machine.write(5);
    await machine.snapshot('two');
    disk = copyOf(machine.storage, [snapshotDirectory]);
  });
  if (disk === undefined) throw new Error('no disk');
  return [takenOf(disk, 'one', 'a'), takenOf(disk, 'two', 'b')];
}
