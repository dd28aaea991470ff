// Records that expire in a real node: in the end the disk holds no table of them, and where nothing
// may be purged nothing is written again for it.

import { expect } from 'chai';
import { recordExpiresAt, recordIsTombstone } from '../../actors/model/record.ts';
import { compactionStrategies, type CompactionStrategy } from '../../actors/model/table-choices.ts';
import { utf8 } from '../../runtime/bytes.ts';
import type { Clock } from '../../runtime/environment.ts';
import { Prng } from '../../runtime/prng.ts';
import { makeRecord } from '../storage/records-under-test.ts';
import { recordOf, ShardUnderTest } from './shard-under-test.ts';

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

const isExpiredAt = (record: Uint8Array, { wallMicros }: Pick<Clock, 'wallMicros'>): boolean =>
  recordExpiresAt(record) !== 0 && recordExpiresAt(record) < wallMicros() / 1000;

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

  it('compaction: what lived before a record that has expired does not come back', async () => {
    const shard = shardOf('leveled', 1);
    const { cluster } = shard;
    await cluster.world.run(async () => {
      await cluster.startAll();
      const put = async (key: string, value: string, expiresAt = 0): Promise<void> => {
        await shard.apply(makeRecord(key, { hlc: shard.stamp(), value, expiresAt }));
        await shard.ask('flush', {});
      };
      await put('k', 'for ever');
      await put('k', 'for a second', Math.floor(cluster.clockOf('n1').wallMicros() / 1000) + 1000);
      await cluster.world.sleep(hourMs + minuteMs);
      const before = shard.reached('compaction installed');
      // The ordinary merge of what waits at level 0.
      await put('a', 'x');
      await put('b', 'x');
      await cluster.world.sleep(minuteMs);
      expect(shard.reached('compaction installed')).to.be.greaterThan(before);
      cluster.crash('n1', 'kill');
      expect(await cluster.start('n1')).to.equal(true);
      const found = await shard.read('k');
      expect(found === undefined || isExpiredAt(found, cluster.clockOf('n1'))).to.equal(true);
    });
  });

  for (const [graceMs, isHidden] of [
    [4 * hourMs, true],
    [0, false],
  ] as const)
    it(`compaction: a single copy keeps what hides a late record for the grace of tombstones (graceMs=${graceMs})`, async () => {
      const shard = new ShardUnderTest({
        ...{ seed: 12, compaction: 'leveled', copies: 1 },
        tunables: { l0Tables: 2, repairIntervalMs: 0, tombstoneGraceMs: graceMs },
      });
      await shard.cluster.world.run(async () => {
        await shard.cluster.startAll();
        // Written elsewhere before the delete: a hint of level ANY, a record of a batch.
        const late = recordOf('k', shard.stamp(), utf8.encode('old'));
        for (const record of [
          recordOf('k', shard.stamp(), undefined),
          recordOf('a', shard.stamp(), utf8.encode('x')),
        ]) {
          await shard.apply(record);
          await shard.ask('flush', {});
        }
        await shard.cluster.world.sleep(minuteMs);
        expect(shard.reached('compaction installed')).to.be.greaterThan(0);
        shard.cluster.crash('n1', 'kill');
        expect(await shard.cluster.start('n1')).to.equal(true);
        await shard.apply(late);
        const found = await shard.read('k');
        expect(found !== undefined && recordIsTombstone(found)).to.equal(isHidden);
      });
    });
});
