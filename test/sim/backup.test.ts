// G14 in simulation: snapshots of a cluster that is written to while nodes crash, made into a backup
// and restored into another cluster, hold every write that was acknowledged before them.

import { expect } from 'chai';
import { recordKey, recordValue, userKey } from '../../actors/model/record.ts';
import { defaultTunables, type Tunables } from '../../actors/node/settings.ts';
import { Coordinator } from '../../actors/replication/protocol.ts';
import { tablesOf } from '../../cli/backup/backup-format.ts';
import { liveRecords } from '../../cli/backup/live-records.ts';
import { refTo } from '../../runtime/actor.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { Prng } from '../../runtime/prng.ts';
import { SimCluster } from '../../sim/cluster.ts';
import { kvdCodec, kvdProgram, sharedCodecs } from '../../sim/kvd-program.ts';
import { World } from '../../sim/world.ts';
import type { MemoryDisk } from '../kit-disk.ts';
import {
  type Backup,
  backupOf,
  restoreInto,
  snapshotOf,
  takeSnapshot,
} from './backup-of-cluster.ts';
import { quickNetwork } from './small-cluster.ts';

const names = ['n1', 'n2', 'n3'] as const;
const keyCount = 24;
/** Nobody knows the stamp of a write without an answer: the next one waits until clocks are past it. */
const unknownMs = 1_000;
const tunables: Tunables = {
  ...defaultTunables(),
  replicationFactor: 3,
  virtualNodes: 8,
  memtableBytes: 64 * 1024,
  inFlightBytes: 64 * 1024,
  arenasPerShard: 2,
  walSegmentBytes: 64 * 1024,
  blockCacheBytes: 64 * 1024,
  l0Tables: 2,
  reserveBytes: 0,
  valueBytesMax: 1024,
};

const clusterOf = (seed: number): SimCluster =>
  new SimCluster({
    world: new World({ seed }),
    names,
    program: kvdProgram({ names, shards: 2, durability: 'group', tunables }),
    codec: kvdCodec(),
    codecs: sharedCodecs(),
    network: quickNetwork,
  });

/**
 * Values of a key are numbers that grow; each key is written by one writer, one after the other, as
 * a session: without that a coordinator which has not seen the value before may stamp the next one
 * below it, by a clock that is behind (SS-1).
 */
class Writers {
  readonly acked = new Map<string, number>();
  readonly tried = new Map<string, number>();
  readonly #cluster: SimCluster;
  readonly #random: Prng;
  #isOver = false;

  constructor(cluster: SimCluster, random: Prng) {
    this.#cluster = cluster;
    this.#random = random;
  }

  run(): Promise<unknown> {
    return Promise.all(Array.from({ length: keyCount }, (_, i) => this.#write(`key-${i}`)));
  }

  end(): void {
    this.#isOver = true;
  }

  async #write(key: string): Promise<void> {
    let afterHlc = 0;
    for (let value = 1; !this.#isOver; value += 1) {
      this.tried.set(key, value);
      const body = {
        namespace: 0,
        key: utf8.encode(key),
        value: utf8.encode(String(value)),
        valueType: 0,
        ttlMs: 0,
        afterHlc,
        level: 'QUORUM',
      };
      const node = names[this.#random.int(3)] ?? 'n1';
      const target = refTo(Coordinator, node, this.#random.int(2));
      const answer = await this.#cluster.ask(target, 'write', body as never, 2_000);
      if (answer.kind === 'reply') {
        this.acked.set(key, value);
        afterHlc = answer.reply.hlc;
      } else await this.#cluster.world.sleep(unknownMs);
      await this.#cluster.world.sleep(this.#random.exponential(20));
    }
  }
}

interface Copy extends Backup {
  readonly before: ReadonlyMap<string, number>;
  readonly tried: ReadonlyMap<string, number>;
}

/** A backup of a cluster under load, some of whose nodes crash. */
async function backedUp(seed: number): Promise<Copy> {
  const cluster = clusterOf(seed);
  const random = new Prng(seed);
  const writers = new Writers(cluster, random);
  const disks = new Map<string, MemoryDisk>();
  let before = new Map<string, number>();
  await cluster.world.run(async () => {
    const { world } = cluster;
    await cluster.startAll();
    await world.sleep(3_000);
    const writing = writers.run();
    await world.sleep(random.between(500, 3_000));
    cluster.crash('n2', random.chance(0.5) ? 'kill' : 'power-loss');
    await world.sleep(random.between(100, 3_000));
    await cluster.startAll();
    await world.sleep(random.between(100, 2_000));
    before = new Map(writers.acked);
    await Promise.all(
      names.map(async (node) => {
        await world.sleep(random.int(300));
        await takeSnapshot(cluster, node);
      }),
    );
    await world.sleep(500);
    writers.end();
    await writing;
    for (const node of names) disks.set(node, snapshotOf(cluster, node));
  });
  const { backup, list } = await backupOf(disks);
  return { backup, list, before, tried: writers.tried };
}

/** A cluster on the restored directories: what a quorum reads through each node. */
async function expectRestored(copy: Copy, seed: number): Promise<void> {
  const { before, tried } = copy;
  const cluster = clusterOf(seed + 1_000);
  for (const node of names) {
    await restoreInto(cluster.machineOf(node).storage, copy, { node, clusterName: 'sim' });
  }
  await cluster.world.run(async () => {
    await cluster.startAll();
    await cluster.world.sleep(5_000);
    for (const [key, value] of before)
      for (const node of names) {
        const body = { namespace: 0, key: utf8.encode(key), level: 'QUORUM' };
        const answer = await cluster.ask(refTo(Coordinator, node), 'read', body as never, 5_000);
        const record = answer.kind === 'reply' ? answer.reply.record : undefined;
        const found = record === undefined ? 0 : Number(utf8.decode(recordValue(record)));
        expect(found, `${key} through ${node}`).to.be.within(value, tried.get(key) ?? 0);
      }
  });
}

describe('sim backup', function () {
  this.timeout(60_000);

  it('backup: a restored cluster has every write acknowledged before it (seeds=8)', async () => {
    for (let seed = 1; seed <= 8; seed += 1) {
      const copy = await backedUp(seed);
      expect(copy.before.size, 'keys').to.be.above(keyCount / 2);
      await expectRestored(copy, seed);
    }
  });

  it('backup: any two of three nodes have every write acknowledged by a quorum (seeds=4)', async () => {
    for (let seed = 20; seed < 24; seed += 1) {
      const { backup, list, before } = await backedUp(seed);
      expect(tablesOf(list).length).to.be.above(3);
      for (const missing of names) {
        const some = { id: 'b', nodes: list.nodes.filter(({ node }) => node !== missing) };
        const found = new Map(
          [...liveRecords(backup, some, { codecs: sharedCodecs(), nowMs: 0, namespace: 0 })].map(
            (record) => [
              utf8.decode(userKey(recordKey(record))),
              Number(utf8.decode(recordValue(record))),
            ],
          ),
        );
        for (const [key, value] of before) expect(found.get(key), key).to.be.at.least(value);
      }
    }
  });
});
