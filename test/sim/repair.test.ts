// Repair in a whole cluster, with hints and its own timer switched off: what replicas lack is
// found and brought, whoever lacks it and for whatever reason; horizons move only when all members
// took part; and tombstones go behind them without bringing anything back.

import { expect } from 'chai';
import type { Tunables } from '../../actors/node/settings.ts';
import { plainSerial, Proposer } from '../../actors/replication/protocol.ts';
import { Store } from '../../actors/storage/protocol.ts';
import { refTo } from '../../runtime/actor.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { Prng } from '../../runtime/prng.ts';
import { setOfWriters } from '../kit-replication.ts';
import { replicaNames, ReplicasUnderTest } from './replicas-under-test.ts';

const quiet: Partial<Tunables> = { hintWindowMs: 0, repairIntervalMs: 0, tombstoneGraceMs: 0 };
const start = (tunables: Partial<Tunables> = {}, shards = 1): ReplicasUnderTest =>
  new ReplicasUnderTest({ shards, tunables: { ...quiet, ...tunables } });
const keysOf = (count: number): string[] => Array.from({ length: count }, (_, i) => `key-${i}`);
/** Longer than a write may be on its way: then a repair covers it. */
const lagSeconds = 10;

async function writeAll(
  replicas: ReplicasUnderTest,
  keys: readonly string[],
  value: string | undefined,
): Promise<void> {
  for (const key of keys) await replicas.write('n1', key, value);
}

async function expectAll(
  replicas: ReplicasUnderTest,
  keys: readonly string[],
  value: string,
): Promise<void> {
  const different: string[] = [];
  for (const key of keys) {
    const held = await replicas.held(key);
    if (held.some((one) => one !== value)) different.push(`${key}: ${held.join()}`);
  }
  expect(different).to.deep.equal([]);
}

describe('sim repair: convergence', () => {
  for (const shards of [1, 2])
    it(`repair: what a node missed is brought to it, and nothing else is sent (shards=${shards})`, async () => {
      const replicas = start({}, shards);
      const same = keysOf(300);
      const missed = same.slice(40, 90);
      await replicas.run(async () => {
        await writeAll(replicas, same, 'old');
        await replicas.down('n3');
        await writeAll(replicas, missed, 'new');
        await replicas.up('n3');
        await replicas.sleep(5);
        const report = await replicas.repair('n1');
        expect(report.sets).to.deep.equal([{ set: 'n1,n2,n3', outcome: 'complete', why: '' }]);
        expect(report.recordsSent).to.equal(missed.length);
        await expectAll(replicas, missed, 'new');
        const again = await replicas.repair('n2');
        expect(again.leavesDiffering).to.equal(0);
        expect(again.keysCompared).to.equal(0);
      });
    });

  it('repair: both ways, and deletes as well, in memory and in tables', async () => {
    const replicas = start();
    const [first, second, gone] = [
      keysOf(60).slice(0, 20),
      keysOf(60).slice(20, 40),
      keysOf(60).slice(40),
    ];
    await replicas.run(async () => {
      await writeAll(replicas, [...first, ...second, ...gone], 'old');
      for (const node of replicaNames) await replicas.flush(node);
      await replicas.down('n3');
      await writeAll(replicas, first, 'new');
      await writeAll(replicas, gone, undefined);
      await replicas.flush('n1');
      await replicas.up('n3');
      await replicas.down('n2');
      await writeAll(replicas, second, 'new');
      await replicas.up('n2');
      await replicas.sleep(5);
      expect((await replicas.repair('n3')).recordsSent).to.equal(60);
      await expectAll(replicas, [...first, ...second], 'new');
      await expectAll(replicas, gone, 'deleted');
    });
  });

  it('repair: full compares every key and finds the same', async () => {
    const replicas = start();
    const keys = keysOf(700);
    await replicas.run(async () => {
      await writeAll(replicas, keys, 'old');
      await replicas.down('n2');
      await writeAll(replicas, keys.slice(0, 10), 'new');
      await replicas.up('n2');
      await replicas.sleep(5);
      const report = await replicas.repair('n1', { isFull: true });
      expect(report.keysCompared).to.equal(700);
      expect(report.recordsSent).to.equal(10);
      await expectAll(replicas, keys.slice(0, 10), 'new');
    });
  });

  it('repair: an empty node is filled', async () => {
    const replicas = start();
    const keys = keysOf(200);
    await replicas.run(async () => {
      await replicas.down('n3');
      await writeAll(replicas, keys, 'value');
      await replicas.up('n3');
      await replicas.sleep(5);
      expect((await replicas.repair('n2')).recordsSent).to.equal(200);
      await expectAll(replicas, keys, 'value');
    });
  });

  it('repair: it runs by itself', async () => {
    const replicas = start({ repairIntervalMs: 20_000 });
    await replicas.run(async () => {
      await replicas.down('n3');
      await replicas.write('n1', 'key', 'value');
      await replicas.up('n3');
      await replicas.sleep(60);
      expect(await replicas.held('key')).to.deep.equal(['value', 'value', 'value']);
    });
    expect(replicas.reached('repair complete')).to.be.above(1);
    expect(replicas.reached('repair incomplete')).to.equal(0);
  });

  it('repair: without a member the others are made equal, and the outcome is partial', async () => {
    const replicas = start();
    await replicas.run(async () => {
      await replicas.down('n2');
      await replicas.write('n1', 'key', 'value');
      await replicas.up('n2');
      await replicas.down('n3');
      const report = await replicas.repair('n1');
      expect(report.sets.map(({ outcome }) => outcome)).to.deep.equal(['partial']);
      expect(await replicas.holds('n2', 'key')).to.equal('value');
      expect(replicas.reached('repair horizon moved')).to.equal(0);
    });
  });

  it('repair: siblings that no record holds together hold up no other key', async () => {
    const replicas = start();
    const keys = keysOf(300);
    await replicas.run(async () => {
      await replicas.down('n3');
      await writeAll(replicas, keys, 'value');
      await replicas.up('n3');
      await replicas.sleep(5);
      for (const [node, first] of [
        ['n1', 1],
        ['n2', 1_001],
      ] as const) {
        const body = { record: setOfWriters('cart', first, 600) };
        const applied = await replicas.cluster.ask(refTo(Store, node), 'apply', body, 5_000);
        expect(applied.kind).to.equal('reply');
      }
      const { sets, recordsSent } = await replicas.repair('n1');
      expect(sets.map(({ outcome }) => outcome)).to.deep.equal(['failed']);
      expect(sets[0]?.why).to.include('all siblings of the key together');
      expect(recordsSent).to.equal(keys.length);
      await expectAll(replicas, keys, 'value');
    });
  });

  it('repair: a set that does not exist is refused by name', async () => {
    const replicas = start();
    await replicas.run(async () => {
      let refused = '';
      await replicas
        .repair('n1', { set: 'n1,n9' })
        .catch((error: unknown) => (refused = String(error)));
      expect(refused).to.include('BAD_REQUEST').and.include('n1,n2,n3');
    });
  });

  it('repair: a node that goes down on the way leaves no session behind', async () => {
    const replicas = start({ repairBytesPerSecond: 64 * 1024 });
    const keys = keysOf(300);
    await replicas.run(async () => {
      await writeAll(replicas, keys, 'x'.repeat(3_000));
      const running = replicas.repair('n1');
      await replicas.sleep(3);
      await replicas.down('n3');
      expect((await running).sets[0]?.outcome).to.not.equal('complete');
      await replicas.up('n3');
      await replicas.sleep(10);
      expect((await replicas.repair('n2')).sets[0]?.outcome).to.equal('complete');
    });
  });

  it('repair: a part that has nothing to do for long waits for the others', async () => {
    const replicas = start({ repairBytesPerSecond: 64 * 1024 });
    // Summing up takes two minutes and a half where the keys are, and no time on the empty node.
    const keys = keysOf(1_200);
    await replicas.run(async () => {
      await replicas.down('n3');
      await writeAll(replicas, keys, 'x'.repeat(8_000));
      await replicas.up('n3');
      await replicas.sleep(5);
      const report = await replicas.repair('n1');
      expect(report.sets).to.deep.equal([{ set: 'n1,n2,n3', outcome: 'complete', why: '' }]);
      expect(report.recordsSent).to.equal(keys.length);
    });
  });

  it('repair: one that lost its runner ends by itself on the others', async () => {
    const replicas = start({ repairBytesPerSecond: 64 * 1024 });
    await replicas.run(async () => {
      await writeAll(replicas, keysOf(300), 'x'.repeat(3_000));
      replicas.repair('n1').catch(() => undefined);
      await replicas.sleep(3);
      await replicas.down('n1');
      await replicas.up('n1');
      await replicas.sleep(150);
      expect((await replicas.repair('n1')).sets[0]?.outcome).to.equal('complete');
    });
  });
});

/**
 * `n3` holds the delete of a key in a table that waits for its merge, and in memory a write of the
 * key that was stamped before the delete and came after it. `n1` has the delete, `n2` the write.
 */
async function olderWriteInMemory(replicas: ReplicasUnderTest, key: string): Promise<void> {
  const { network } = replicas.cluster;
  const random = new Prng(1);
  // Values that do not shrink: the merge needs as much space as they take.
  for (const other of keysOf(100))
    await replicas.write('n1', other, Buffer.from(random.bytes(500)).toString('hex'));
  await replicas.flush('n3');
  // Enough for what is written, too little for a merge.
  replicas.limitSpace('n3', 16 * 1024);
  replicas.cluster.machineOf('n1').clock.jump(400);
  network.cut('n1', 'n2', 'drop');
  await replicas.write('n1', key, undefined);
  await replicas.flush('n3');
  await replicas.write('n2', key, 'older');
  network.healAll();
}

describe('sim repair: tombstones', () => {
  const keys = keysOf(20);

  it('repair: behind the horizon tombstones are purged on all replicas, and nothing comes back', async () => {
    const replicas = start({ l0Tables: 2, l0TablesMax: 20 });
    await replicas.run(async () => {
      await writeAll(replicas, keys, 'value');
      await writeAll(replicas, keys, undefined);
      await replicas.mergeAll('n1', 'fill-1');
      await expectAll(replicas, keys, 'deleted');
      await replicas.sleep(lagSeconds);
      expect((await replicas.repair('n1')).sets[0]?.outcome).to.equal('complete');
      await replicas.mergeAll('n1', 'fill-2');
      await expectAll(replicas, keys, 'nothing');
      expect(replicas.reached('tombstones purged')).to.be.above(0);
      expect((await replicas.repair('n2')).recordsSent).to.equal(0);
      await expectAll(replicas, keys, 'nothing');
    });
  });

  it('repair: without a member they stay, for as long as it is away, and it deletes what it has', async () => {
    const replicas = start({ l0Tables: 2, l0TablesMax: 20 });
    await replicas.run(async () => {
      await writeAll(replicas, keys, 'value');
      await replicas.down('n3');
      await writeAll(replicas, keys, undefined);
      await replicas.sleep(lagSeconds);
      await replicas.repair('n1');
      await replicas.mergeAll('n1', 'fill-1');
      expect(await replicas.holds('n1', 'key-0')).to.equal('deleted');
      await replicas.sleep(3_600);
      await replicas.up('n3');
      await replicas.sleep(5);
      await replicas.repair('n1');
      await expectAll(replicas, keys, 'deleted');
      await replicas.mergeAll('n1', 'fill-2');
      await expectAll(replicas, keys, 'nothing');
    });
  });

  it('repair: they stay for the grace time', async () => {
    const replicas = start({ l0Tables: 2, l0TablesMax: 20, tombstoneGraceMs: 3_600_000 });
    await replicas.run(async () => {
      await writeAll(replicas, keys, undefined);
      await replicas.sleep(lagSeconds);
      await replicas.repair('n1');
      await replicas.mergeAll('n1', 'fill-1');
      await expectAll(replicas, keys, 'deleted');
      await replicas.sleep(3_700);
      await replicas.mergeAll('n1', 'fill-2');
      await expectAll(replicas, keys, 'nothing');
    });
  }).timeout(60_000);

  for (const memory of ['active', 'frozen'] as const)
    it(`repair: a tombstone stays while memory holds an older write of its key (memory=${memory})`, async () => {
      const replicas = start({ l0Tables: 2, l0TablesMax: 20 });
      const { faults } = replicas.cluster.machineOf('n3').storage;
      await replicas.run(async () => {
        await olderWriteInMemory(replicas, 'gone');
        await replicas.sleep(lagSeconds);
        expect((await replicas.repair('n1')).sets[0]?.outcome).to.equal('complete');
        expect(await replicas.held('gone')).to.deep.equal(['deleted', 'deleted', 'deleted']);
        expect(replicas.reached('compaction installed'), 'not merged yet').to.equal(0);
        // Its flush is under way when the merge is tried again.
        if (memory === 'frozen') faults.syncMs = 30_000;
        const flushing = memory === 'frozen' ? replicas.flush('n3') : undefined;
        replicas.limitSpace('n3', Infinity);
        await replicas.sleep(20);
        faults.syncMs = 1;
        await replicas.sleep(120);
        await flushing;
        expect(replicas.reached('compaction installed'), 'merged').to.be.above(0);
        expect(await replicas.holds('n3', 'gone'), 'a delete was undone').to.equal('deleted');
        await replicas.mergeAll('n1', 'fill-1');
        expect(await replicas.held('gone')).to.not.include('older');
      });
    });

  it('repair: a serial delete by a clock that was set back stays until all have it (TS-3, HLC-9)', async () => {
    const replicas = start({ l0Tables: 2, l0TablesMax: 20 });
    const decide = async (node: string, value: string | undefined): Promise<void> => {
      const changes = value === undefined ? {} : { value: utf8.encode(value) };
      const verb = value === undefined ? ('delete' as const) : ('write' as const);
      const at = { ...plainSerial, namespace: 0, key: utf8.encode('gone') };
      const request = { ...at, verb, ...changes };
      const answer = await replicas.cluster.ask(refTo(Proposer, node), 'run', request, 5_000);
      expect(answer.kind, `${node} decides`).to.equal('reply');
    };
    await replicas.run(async () => {
      await decide('n1', 'value');
      await replicas.sleep(60);
      expect((await replicas.repair('n1')).sets[0]?.outcome).to.equal('complete');
      await replicas.down('n3');
      replicas.cluster.machineOf('n2').clock.jump(-30_000);
      await decide('n2', undefined);
      await replicas.mergeAll('n1', 'fill-1');
      expect(await replicas.holds('n1', 'gone'), 'before n3 had it').to.equal('deleted');
      await replicas.up('n3');
      await replicas.sleep(5);
      await replicas.repair('n1');
      expect(await replicas.held('gone'), 'a delete was undone').to.not.include('value');
    });
  });

  it('repair: the horizon survives a restart', async () => {
    const replicas = start({ l0Tables: 2, l0TablesMax: 20 });
    await replicas.run(async () => {
      await writeAll(replicas, keys, undefined);
      await replicas.sleep(lagSeconds);
      await replicas.repair('n1');
      await replicas.down('n1');
      await replicas.up('n1');
      await replicas.sleep(5);
      await replicas.mergeAll('n1', 'fill-1');
      await expectAll(replicas, keys, 'nothing');
    });
  });

  it('repair: a hint that a repair has overtaken brings nothing back', async () => {
    const replicas = start({
      l0Tables: 2,
      l0TablesMax: 20,
      hintWindowMs: 10_800_000,
      hintBytesPerSecond: 1_024,
    });
    await replicas.run(async () => {
      await replicas.down('n3');
      // The hints for these wait behind a long row of others.
      await writeAll(
        replicas,
        keysOf(40).map((key) => `first-${key}`),
        'x'.repeat(1_000),
      );
      await writeAll(replicas, keys, 'value');
      await replicas.up('n3');
      await replicas.sleep(4);
      await writeAll(replicas, keys, undefined);
      await replicas.sleep(lagSeconds);
      expect((await replicas.repair('n1')).sets[0]?.outcome).to.equal('complete');
      await replicas.sleep(120);
      await expectAll(replicas, keys, 'deleted');
      expect(replicas.reached('hint overtaken by repair')).to.be.above(0);
    });
  });
});
