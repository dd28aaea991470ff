// A node that comes back from an old backup under its old id has forgotten writes that it
// acknowledged. The cluster that it came from must not take it in: its name is another one
// (docs/decisions/0007-restored-nodes-keep-their-ids.md).

import { expect } from 'chai';
import type { MemoryDisk } from '../kit-disk.ts';
import {
  type Backup,
  backupOf,
  restoreInto,
  snapshotOf,
  takeSnapshot,
} from './backup-of-cluster.ts';
import { replicaNames, ReplicasUnderTest } from './replicas-under-test.ts';

/** Nothing but reads may bring a node what it lacks. */
const quiet = { hintWindowMs: 0, repairIntervalMs: 0 };

async function backedUp(replicas: ReplicasUnderTest): Promise<Backup> {
  const disks = new Map<string, MemoryDisk>();
  for (const node of replicaNames) {
    await takeSnapshot(replicas.cluster, node);
    disks.set(node, snapshotOf(replicas.cluster, node));
  }
  return backupOf(disks);
}

function isolate({ cluster }: ReplicasUnderTest, node: string): void {
  for (const other of replicaNames)
    if (other !== node) {
      cluster.network.cut(node, other, 'drop');
      cluster.network.cut(other, node, 'drop');
    }
}

/** `n1` as an operator restores it: empty first, then from the backup. False: it does not start. */
function startRestored({ cluster }: ReplicasUnderTest, copy: Backup): Promise<boolean> {
  cluster.crash('n1', 'kill');
  const { storage } = cluster.machineOf('n1');
  const nowMs = cluster.clockOf('n1').wallMicros() / 1000;
  storage.wipe();
  const who = { node: 'n1', clusterName: 'restored', nowMs };
  return restoreInto(storage, copy, who).then(() => cluster.start('n1'));
}

describe('sim restored node', () => {
  // It is started with the settings of the old cluster: with those of its own name a handshake
  // refuses it (test/transport).
  it('restored node: the cluster that was backed up does not take it for the one it was', async () => {
    const replicas = new ReplicasUnderTest({ tunables: quiet });
    await replicas.run(async () => {
      const { network } = replicas.cluster;
      await replicas.write('n1', 'key', 'old', 'ALL');
      const copy = await backedUp(replicas);
      isolate(replicas, 'n3');
      await replicas.write('n2', 'key', 'new');
      expect(await replicas.holds('n3', 'key')).to.equal('old');
      const isUp = await startRestored(replicas, copy);
      network.healAll();
      isolate(replicas, 'n2');
      await replicas.sleep(10);
      for (const node of ['n1', 'n3'])
        expect(await replicas.read(node, 'key'), `a stale quorum read through ${node}`).to.equal(
          'refused',
        );
      expect(isUp, 'n1 started').to.equal(false);
      expect(replicas.logged('clusterName').length, 'and says why').to.be.above(0);
      network.healAll();
      await replicas.sleep(10);
      expect(await replicas.read('n3', 'key'), 'n2 and n3').to.equal('new');
    });
  });
});
