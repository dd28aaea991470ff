// Handoff in a whole cluster, with repair switched off: what a node missed is brought to it by the
// hints alone, whatever happens to the nodes that keep them.

import { expect } from 'chai';
import { ReplicasUnderTest } from './replicas-under-test.ts';

const keys = Array.from({ length: 40 }, (_, i) => `key-${i}`);

async function writeAll(replicas: ReplicasUnderTest, value: string, node = 'n1'): Promise<void> {
  for (const key of keys) await replicas.write(node, key, `${value}-${key}`);
}

async function expectHeld(replicas: ReplicasUnderTest, node: string, value: string): Promise<void> {
  const held: string[] = [];
  for (const key of keys) held.push(await replicas.holds(node, key));
  expect(held).to.deep.equal(keys.map((key) => `${value}-${key}`));
}

describe('sim hints', () => {
  for (const shards of [1, 2])
    it(`hints: a node that was down gets what it missed (shards=${shards})`, async () => {
      const replicas = new ReplicasUnderTest({ shards });
      await replicas.run(async () => {
        await writeAll(replicas, 'old');
        await replicas.down('n3');
        await writeAll(replicas, 'new');
        await replicas.up('n3');
        expect(await replicas.holds('n3', 'key-0')).to.equal('old-key-0');
        await replicas.sleep(8);
        await expectHeld(replicas, 'n3', 'new');
      });
      expect(replicas.logged('hints.delivered').length).to.equal(shards);
    });

  it('hints: they survive a loss of power of the node that keeps them', async () => {
    const replicas = new ReplicasUnderTest();
    await replicas.run(async () => {
      await writeAll(replicas, 'old');
      await replicas.down('n3');
      await writeAll(replicas, 'new');
      await replicas.sleep(1);
      await replicas.down('n1');
      await replicas.up('n1');
      await replicas.up('n3');
      await replicas.sleep(8);
      await expectHeld(replicas, 'n3', 'new');
    });
  });

  it('hints: a delete is brought like any write', async () => {
    const replicas = new ReplicasUnderTest();
    await replicas.run(async () => {
      await replicas.write('n1', 'key', 'value');
      await replicas.down('n3');
      await replicas.write('n1', 'key', undefined);
      await replicas.up('n3');
      await replicas.sleep(8);
      expect(await replicas.held('key')).to.deep.equal(['deleted', 'deleted', 'deleted']);
    });
  });

  it('hints: a node that goes down while it gets them gets the rest when it is back', async () => {
    const replicas = new ReplicasUnderTest({ tunables: { hintBytesPerSecond: 1_024 } });
    await replicas.run(async () => {
      await replicas.down('n3');
      await writeAll(replicas, 'x'.repeat(200));
      await replicas.up('n3');
      await replicas.sleep(4);
      const some = await Promise.all(keys.map((key) => replicas.holds('n3', key)));
      expect(some, 'some have come').to.include(`${'x'.repeat(200)}-key-0`);
      expect(some, 'some have not').to.include('nothing');
      await replicas.down('n3');
      await replicas.up('n3');
      await replicas.sleep(40);
      await expectHeld(replicas, 'n3', 'x'.repeat(200));
    });
  });

  it('hints: the shards of a node bring them no faster together than it may (shards=4)', async () => {
    const tunables = { hintBytesPerSecond: 10_240 };
    const replicas = new ReplicasUnderTest({ shards: 4, tunables });
    await replicas.run(async () => {
      await replicas.down('n3');
      // More than one batch of each shard.
      for (let i = 0; i < 8; i += 1)
        for (const key of keys) await replicas.write('n1', `${i}-${key}`, 'x'.repeat(200));
      await replicas.up('n3');
      await replicas.sleep(5);
      const all = Array.from({ length: 8 }, (_, i) => keys.map((key) => `${i}-${key}`)).flat();
      let come = 0;
      for (const key of all) if ((await replicas.holds('n3', key)) !== 'nothing') come += 1;
      expect(come, 'some have come').to.be.greaterThan(0);
      expect(come, 'some have not').to.be.lessThan(all.length);
    });
  });

  it('hints: beyond the window none are kept, and none come late', async () => {
    const replicas = new ReplicasUnderTest({ tunables: { hintWindowMs: 20_000 } });
    await replicas.run(async () => {
      await replicas.down('n3');
      await replicas.write('n1', 'early', 'value');
      await replicas.sleep(25);
      await replicas.write('n1', 'late', 'value');
      expect(replicas.logged('hints.window-closed').length).to.equal(1);
      await replicas.up('n3');
      await replicas.sleep(8);
      expect(await replicas.holds('n3', 'early'), 'too old').to.equal('nothing');
      expect(await replicas.holds('n3', 'late')).to.equal('nothing');
      await replicas.down('n3');
      await replicas.write('n1', 'again', 'value');
      await replicas.up('n3');
      await replicas.sleep(8);
      expect(await replicas.holds('n3', 'again'), 'the window opens anew').to.equal('value');
    });
  });

  it('hints: with a window of 0 there are none', async () => {
    const replicas = new ReplicasUnderTest({ tunables: { hintWindowMs: 0 } });
    await replicas.run(async () => {
      await replicas.down('n3');
      await replicas.write('n1', 'key', 'value');
      await replicas.up('n3');
      await replicas.sleep(8);
      expect(await replicas.held('key')).to.deep.equal(['value', 'value', 'nothing']);
    });
    expect(replicas.reached('hint kept')).to.equal(0);
  });

  it('hints: they do not count for the level', async () => {
    const replicas = new ReplicasUnderTest();
    await replicas.run(async () => {
      await replicas.down('n3');
      await replicas.down('n2');
      let refused = '';
      await replicas
        .write('n1', 'key', 'value')
        .catch((error: unknown) => (refused = String(error)));
      expect(refused).to.include('UNAVAILABLE');
      expect(replicas.reached('hint kept')).to.equal(0);
      await replicas.write('n1', 'key', 'value', 'ONE');
      expect(replicas.reached('hint kept')).to.equal(2);
    });
  });

  it('hints: a write at ANY is kept while no copy answers, and outlives a loss of power', async () => {
    // The window is over when they are back: nobody else has it, so this hint stays.
    const replicas = new ReplicasUnderTest({
      tunables: { replicationFactor: 2, hintWindowMs: 20_000 },
    });
    const { cluster } = replicas;
    await replicas.run(async () => {
      const key = replicas.keyWithout('n1');
      await replicas.write('n2', key, 'old');
      await replicas.down('n2');
      await replicas.down('n3');
      let refused = '';
      await replicas.write('n1', key, 'new', 'ONE').catch((error: unknown) => {
        refused = String(error);
      });
      expect(refused).to.include('UNAVAILABLE');
      await replicas.write('n1', key, 'new', 'ANY');
      cluster.crash('n1', 'power-loss');
      await replicas.up('n1');
      await replicas.sleep(40);
      await replicas.up('n2');
      await replicas.up('n3');
      await replicas.sleep(10);
      expect(await replicas.holds('n2', key)).to.equal('new');
      expect(await replicas.holds('n3', key)).to.equal('new');
    });
  });

  it('hints: what a write at ANY has left is brought also where a repair was faster (WR-4)', async () => {
    const replicas = new ReplicasUnderTest({
      tunables: { replicationFactor: 2, repairIntervalMs: 0, hintBytesPerSecond: 1_024 },
    });
    await replicas.run(async () => {
      const key = replicas.keyWithout('n1');
      await replicas.down('n2');
      await replicas.down('n3');
      // The hint waits behind others, which are as long as the repair needs.
      for (let i = 0; i < 40; i += 1) await replicas.write('n1', key, 'x'.repeat(1_000), 'ANY');
      await replicas.write('n1', key, 'new', 'ANY');
      await replicas.sleep(10);
      await replicas.up('n2');
      await replicas.up('n3');
      await replicas.sleep(4);
      const { sets } = await replicas.repair('n2');
      const [done] = sets.filter(({ set }) => set === 'n2,n3');
      expect(done?.outcome).to.equal('complete');
      await replicas.sleep(120);
      expect(await replicas.holds('n2', key), 'acknowledged').to.equal('new');
      expect(await replicas.holds('n3', key), 'acknowledged').to.equal('new');
    });
  });

  it('hints: none brings back what was deleted, repaired and purged meanwhile (HH-4, G8)', async () => {
    const replicas = new ReplicasUnderTest({
      tunables: {
        ...{ repairIntervalMs: 0, tombstoneGraceMs: 0, hintWindowMs: 20_000 },
        ...{ l0Tables: 2, l0TablesMax: 20 },
      },
    });
    const { network } = replicas.cluster;
    await replicas.run(async () => {
      await replicas.down('n3');
      await replicas.write('n1', 'key', 'old');
      // Its hint stays with n1: n3 hears from n2 only.
      network.cut('n1', 'n3', 'drop');
      network.cut('n3', 'n1', 'drop');
      await replicas.up('n3');
      await replicas.sleep(10);
      await replicas.write('n2', 'key', undefined, 'ALL');
      await replicas.sleep(25);
      expect((await replicas.repair('n2')).sets[0]?.outcome).to.equal('complete');
      await replicas.mergeAll('n2', 'fill');
      expect(await replicas.held('key'), 'purged').to.deep.equal(Array(3).fill('nothing'));
      network.healAll();
      await replicas.sleep(30);
      expect(await replicas.holds('n3', 'key'), 'a delete was undone').to.equal('nothing');
    });
  });
});
