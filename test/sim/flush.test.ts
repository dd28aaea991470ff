// Flushes of a real node: what an answer promises.

import { expect } from 'chai';
import { Prng } from '../../runtime/prng.ts';
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
