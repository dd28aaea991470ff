// Flushes of a real node: what an answer promises.

import { expect } from 'chai';
import { heldBytes } from '../../actors/storage/admission.ts';
import { Prng } from '../../runtime/prng.ts';
import { byKey } from '../storage/records-under-test.ts';
import { recordOf, ShardUnderTest } from './shard-under-test.ts';

const value = (n: number): Uint8Array => new Prng(n).bytes(600);

async function recordsInTables(shard: ShardUnderTest): Promise<number> {
  const { tables } = await shard.askWithin('tables', {});
  return tables.reduce((sum, { records }) => sum + records, 0);
}

describe('sim flush', () => {
  it('flush: one that is asked for while another one runs has all that was acknowledged before it', async () => {
    const shard = new ShardUnderTest({ seed: 3, compaction: 'size-tiered', copies: 1 });
    const { cluster } = shard;
    await cluster.world.run(async () => {
      await cluster.startAll();
      cluster.machineOf('n1').storage.faults.syncMs = 50;
      let written = 0;
      const flushes: Promise<void>[] = [];
      const flush = async (): Promise<void> => {
        const before = written;
        await shard.askWithin('flush', {});
        expect(await recordsInTables(shard)).to.be.at.least(before);
      };
      for (let i = 0; i < 20; i += 1) {
        expect(await shard.apply(recordOf(`key-${i}`, shard.stamp(), value(i)))).to.equal(true);
        written += 1;
        flushes.push(flush());
      }
      await Promise.all(flushes);
      expect(await recordsInTables(shard)).to.equal(20);
    });
  });

  for (const arenasPerShard of [2, 3, 4])
    it(`flush: while one runs all memtables fill before writes are refused (memtables=${arenasPerShard})`, async () => {
      // Of the log nothing is synced here, so that a slow disk is slow for tables alone.
      const shard = new ShardUnderTest({
        ...{ seed: 5, compaction: 'size-tiered', copies: 1, durability: 'none' },
        tunables: { arenasPerShard, walSegmentBytes: 1 << 20 },
      });
      const { cluster } = shard;
      await cluster.world.run(async () => {
        await cluster.startAll();
        const { storage } = cluster.machineOf('n1');
        storage.faults.syncMs = 10_000;
        const records: Uint8Array[] = [];
        let refusal = '';
        while (refusal === '' && records.length < 1_000) {
          const record = recordOf(`key-${records.length}`, shard.stamp(), value(records.length));
          const answer = await shard.ask('apply', { record });
          if (answer.kind === 'failure') refusal = String(answer.failure.fields['detail']);
          else records.push(record);
        }
        expect(refusal).to.equal('memtables wait for their flush');
        const held = records.reduce((sum, { length }) => sum + heldBytes(length, 1), 0);
        expect(held / (64 * 1024)).to.be.within(arenasPerShard - 0.1, arenasPerShard + 0.1);
        expect(await shard.range()).to.deep.equal(records.sort(byKey));
        storage.faults.syncMs = 1;
        // The last one is full as well.
        await shard.askWithin('flush', {});
        expect(await recordsInTables(shard)).to.equal(records.length);
        const more = recordOf('more', shard.stamp(), value(0));
        expect(await shard.apply(more)).to.equal(true);
        cluster.crash('n1', 'kill');
        expect(await cluster.start('n1')).to.equal(true);
        expect(await shard.range()).to.deep.equal([...records, more].sort(byKey));
      });
    });

  it('flush: with nothing in memory it is answered when the table before it is there', async () => {
    const shard = new ShardUnderTest({ seed: 4, compaction: 'size-tiered', copies: 1 });
    const { cluster } = shard;
    await cluster.world.run(async () => {
      await cluster.startAll();
      await shard.apply(recordOf('key', shard.stamp(), value(1)));
      const [first, second] = [shard.askWithin('flush', {}), shard.askWithin('flush', {})];
      await second;
      expect(await recordsInTables(shard)).to.equal(1);
      await first;
      await shard.askWithin('flush', {});
      expect(await recordsInTables(shard)).to.equal(1);
    });
  });
});
