// Records that expire in a real node: in the end the disk holds no table of them, and where nothing
// may be purged nothing is written again for it.

import { expect } from 'chai';
import { compactionStrategies, type CompactionStrategy } from '../../actors/model/table-choices.ts';
import { Prng } from '../../runtime/prng.ts';
import { makeRecord } from '../storage/records-under-test.ts';
import { ShardUnderTest } from './shard-under-test.ts';

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const windowMs = 20_000;
const tableCount = 12;

/** The same keys in each table; the last stamp of a table may be above the first one of the next. */
async function writeTable(shard: ShardUnderTest, ttlMs: number): Promise<void> {
  const expiresAt = Math.floor(shard.cluster.clockOf('n1').wallMicros() / 1000) + ttlMs;
  const stamps = Array.from({ length: 20 }, () => shard.stamp());
  stamps[19] = shard.stamp() + (windowMs / 2 + 500) * 1000;
  for (const [i, hlc] of stamps.entries()) {
    const value = new Prng(hlc).bytes(300);
    expect(await shard.apply(makeRecord(`key-${i}`, { hlc, value, expiresAt }))).to.equal(true);
  }
  expect((await shard.ask('flush', {})).kind).to.equal('reply');
}

async function writeWindows(shard: ShardUnderTest, ttlMs: number): Promise<void> {
  for (let table = 0; table < tableCount; table += 1) {
    await writeTable(shard, ttlMs);
    await shard.cluster.world.sleep(windowMs / 2);
  }
}

const shardOf = (compaction: CompactionStrategy, copies: 1 | 2): ShardUnderTest =>
  new ShardUnderTest({
    ...{ seed: 11, compaction, copies },
    tunables: { timeWindowMs: windowMs, repairIntervalMs: 0 },
  });

describe('sim compaction: records that expire', () => {
  for (const compaction of compactionStrategies)
    it(`compaction: when all records have expired no table is left (${compaction})`, async () => {
      const shard = shardOf(compaction, 1);
      const { world } = shard.cluster;
      await world.run(async () => {
        await shard.cluster.startAll();
        await writeWindows(shard, minuteMs);
        await world.sleep(minuteMs);
        expect(shard.tableFiles().length).to.be.greaterThan(0);
        await world.sleep(hourMs + 5 * minuteMs);
        expect(shard.tableFiles()).to.deep.equal([]);
        expect(await shard.range()).to.deep.equal([]);
        shard.cluster.crash('n1', 'power-loss');
        expect(await shard.cluster.start('n1')).to.equal(true);
        expect(await shard.range()).to.deep.equal([]);
      });
    });

  it('compaction: windows end one by one, and what has not expired stays', async () => {
    const shard = shardOf('time-window', 1);
    const { world } = shard.cluster;
    await world.run(async () => {
      await shard.cluster.startAll();
      await writeWindows(shard, minuteMs);
      await writeTable(shard, 2 * hourMs);
      await world.sleep(hourMs + 10 * minuteMs);
      const left = await shard.range();
      expect(left.length).to.equal(20);
      expect(shard.tableFiles().length).to.be.lessThan(3);
    });
  });

  it('compaction: without a repair of all copies nothing of it is written again', async () => {
    const shard = shardOf('time-window', 2);
    const { world } = shard.cluster;
    await world.run(async () => {
      await shard.cluster.startAll();
      await writeWindows(shard, minuteMs);
      await world.sleep(10 * minuteMs);
      const merges = shard.reached('compaction installed');
      const files = shard.tableFiles();
      await world.sleep(6 * hourMs);
      expect(shard.reached('compaction installed')).to.equal(merges);
      expect(shard.tableFiles()).to.deep.equal(files);
      expect(files.length).to.be.greaterThan(0);
    });
  });
});
