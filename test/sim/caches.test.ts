// The row cache inside a shard: whatever is flushed, merged or read beside, an answer is never older
// than what was acknowledged before the question, and hits need neither memory nor tables.

import { expect } from 'chai';
import { recordHash, recordHlc, recordKey } from '../../actors/model/record.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { Prng } from '../../runtime/prng.ts';
import { recordOf, ShardUnderTest } from './shard-under-test.ts';

function shardOf(seed: number, rowCacheBytes: number): ShardUnderTest {
  return new ShardUnderTest({
    seed,
    compaction: 'leveled',
    copies: 1,
    tunables: { rowCacheBytes, l0Tables: 2 },
  });
}

/** Writers and readers of the same few keys at once; answers that were too old. */
async function oldAnswers(shard: ShardUnderTest, seed: number): Promise<string[]> {
  const acknowledged = new Map<string, number>();
  const old: string[] = [];
  const work = async (worker: number): Promise<void> => {
    const random = new Prng(seed * 100 + worker);
    for (let n = 0; n < 120; n += 1) {
      const key = `k${random.int(6)}`;
      if (random.int(3) === 0) {
        const hlc = shard.stamp();
        const isDelete = random.int(4) === 0;
        const value = isDelete ? undefined : new Uint8Array(random.int(900));
        if (await shard.apply(recordOf(key, hlc, value)))
          acknowledged.set(key, Math.max(hlc, acknowledged.get(key) ?? 0));
      } else {
        const least = acknowledged.get(key) ?? 0;
        const record = await shard.read(key);
        const found = record === undefined ? 0 : recordHlc(record);
        // A purged tombstone reads as nothing: only deletes may be gone.
        if (record !== undefined && found < least) old.push(`${key}: ${found} below ${least}`);
      }
      if (random.int(60) === 0) await shard.ask('flush', {});
    }
  };
  await Promise.all(Array.from({ length: 8 }, (_, worker) => work(worker)));
  return old;
}

/**
 * In one turn there reach the shard: a write of a key that is in a table, a read of it, and reads of
 * others, more than it does before it looks at its timers. So the write becomes visible while some
 * of the reads are on their way. Keys whose old value was seen afterwards.
 */
async function overtakenLookUps(shard: ShardUnderTest): Promise<string[]> {
  const random = new Prng(1);
  const names = Array.from({ length: 150 }, (_, n) => `k${n}`);
  for (const name of names) await shard.apply(recordOf(name, shard.stamp(), utf8.encode('old')));
  await shard.ask('flush', {});
  const look = (name: string): Promise<unknown> => {
    const record = recordOf(name, 1, undefined);
    return shard.askWithin('read', { key: recordKey(record), hash: recordHash(record) });
  };
  const stale: string[] = [];
  for (const name of names) {
    const record = recordOf(name, shard.stamp(), utf8.encode('new'));
    const others = Array.from({ length: 800 + random.int(100) }, (_, n) => `${name}-other-${n}`);
    const write = (): Promise<unknown> => shard.askWithin('apply', { record });
    const looks = random.shuffled([name, ...others]).map((each) => () => look(each));
    looks.splice(random.int(looks.length), 0, write);
    await Promise.all(looks.map((ask) => ask()));
    const found = await shard.read(name);
    if (found === undefined || recordHlc(found) < recordHlc(record)) stale.push(name);
  }
  return stale;
}

describe('sim caches', () => {
  for (const rowCacheBytes of [0, 32 * 1024, 1024 * 1024])
    it(`caches: no answer is older than what was acknowledged (rows=${rowCacheBytes})`, async () => {
      for (const seed of [1, 2, 3]) {
        const shard = shardOf(seed, rowCacheBytes);
        const old = await shard.cluster.world.run(async () => {
          await shard.cluster.startAll();
          return oldAnswers(shard, seed);
        });
        expect(old, 'an answer is older than what was acknowledged').to.deep.equal([]);
      }
    });

  // Without a sync the log answers as soon as it has its turn; and this seed is one of those in which
  // the store asks memory and tables now and then where it could peek.
  it('caches: a look-up that a write overtakes leaves nothing behind', async () => {
    const shard = new ShardUnderTest({
      seed: 1,
      compaction: 'leveled',
      copies: 1,
      durability: 'none',
      hasBuggify: true,
      tunables: { rowCacheBytes: 1024 * 1024 },
    });
    const stale = await shard.cluster.world.run(async () => {
      await shard.cluster.startAll();
      return overtakenLookUps(shard);
    });
    expect(shard.reached('buggify:asked instead of peeked')).to.be.above(0);
    expect(stale, 'an answer is older than what was acknowledged').to.deep.equal([]);
  });
});
