// Namespaces that choose anew how their tables are kept, while they are written and the node goes
// down again and again: nothing is lost, the tables are as they were chosen in the end, and a crash
// at any call on the way of cutting tables apart leaves one version or the other.

import { expect } from 'chai';
import { namespaceOf, recordIsTombstone, recordKey } from '../../actors/model/record.ts';
import { lastWriteWins } from '../../actors/model/resolve.ts';
import {
  type CompactionStrategy,
  compactionStrategies,
  compressions,
} from '../../actors/model/table-choices.ts';
import { groupsOf } from '../../actors/storage/compaction-groups.ts';
import { onlySectionOf } from '../../actors/storage/table-sections.ts';
import { Catalog } from '../../actors/catalog/protocol.ts';
import type { TableMeta } from '../../actors/storage/protocol.ts';
import { refTo } from '../../runtime/actor.ts';
import { Prng } from '../../runtime/prng.ts';
import type { CrashKind } from '../../sim/cluster.ts';
import { type Choice, documentOf, toldOf } from '../storage/groups-under-test.ts';
import { hexes } from '../storage/records-under-test.ts';
import { recordOf, ShardUnderTest } from './shard-under-test.ts';

const namespaces = 4;
const value = (n: number): Uint8Array => new Prng(n).bytes(600);

const live = (records: readonly Uint8Array[]): Uint8Array[] =>
  records.filter((record) => !recordIsTombstone(record));

/** Winners by storage key. */
class Winners {
  readonly #all = new Map<string, Uint8Array>();

  add(record: Uint8Array): void {
    const id = Buffer.from(recordKey(record)).toString('hex');
    const before = this.#all.get(id);
    this.#all.set(id, before === undefined ? record : lastWriteWins(before, record));
  }

  live(): string[] {
    const sorted = [...this.#all].sort(([a], [b]) => (a < b ? -1 : 1));
    return hexes(live(sorted.map(([, record]) => record)));
  }
}

async function tablesOf(shard: ShardUnderTest): Promise<readonly TableMeta[]> {
  const answer = await shard.ask('tables', {});
  if (answer.kind !== 'reply') throw new Error('no tables');
  return answer.reply.tables;
}

/** Every namespace gets `count` records and one delete; then a flush. */
async function fill(
  shard: ShardUnderTest,
  winners: Winners,
  { from, count }: { readonly from: number; readonly count: number },
): Promise<void> {
  for (let id = 0; id < namespaces; id += 1)
    for (let i = 0; i <= count; i += 1) {
      const isDelete = i === count;
      const name = `key-${isDelete ? Math.max(0, from - 1) : from + i}`;
      const record = recordOf(name, shard.stamp(), isDelete ? undefined : value(i), id);
      if (await shard.apply(record)) winners.add(record);
      else if (shard.cluster.condition('n1') === 'up') throw new Error('not written');
    }
  await shard.ask('flush', {});
}

const drawn = (random: Prng): Record<number, Choice> =>
  Object.fromEntries(
    [0, 1, 2, 3].map((id) => [
      id,
      {
        compaction: random.pick(['', ...compactionStrategies] as const),
        compression: random.pick(['', ...compressions] as const),
      },
    ]),
  );

describe('sim table settings', () => {
  for (const compaction of compactionStrategies)
    it(`table settings: switched on live data while the node crashes, nothing is lost and all is cut (${compaction})`, async () => {
      const tunables = { l0Tables: 2, l0TablesMax: 8 };
      const shard = new ShardUnderTest({ seed: 21, compaction, copies: 1, tunables });
      const { cluster } = shard;
      const random = new Prng(21);
      const winners = new Winners();
      await cluster.world.run(async () => {
        expect(await cluster.startAll()).to.equal(true);
        let told = documentOf(namespaces, {});
        for (let round = 1; round <= 24; round += 1) {
          await fill(shard, winners, { from: round * 10, count: 12 });
          if (round % 3 === 0) {
            told = documentOf(namespaces, drawn(random), round);
            await shard.ask('namespacesChanged', toldOf(told));
          }
          if (round % 4 === 0) {
            await cluster.world.sleep(random.int(40));
            cluster.crash('n1', random.pick(['kill', 'power-loss']));
            expect(await cluster.start('n1')).to.equal(true);
            // As the catalog does at a start.
            if (random.chance(0.7)) await shard.ask('namespacesChanged', toldOf(told));
          }
        }
        const last = documentOf(namespaces, { 1: { compaction: 'size-tiered' } }, 99);
        await shard.ask('namespacesChanged', toldOf(last));
        await fill(shard, winners, { from: 500, count: 12 });
        await cluster.world.sleep(60_000);
        expect(hexes(live(await shard.all()))).to.deep.equal(winners.live());
        const groups = groupsOf(last, { strategy: compaction, compression: 'auto' });
        const mixed = (await tablesOf(shard)).filter(
          (table) => onlySectionOf(groups, table) === undefined,
        );
        expect(mixed).to.deep.equal([]);
        cluster.crash('n1', 'power-loss');
        expect(await cluster.start('n1')).to.equal(true);
        expect(hexes(live(await shard.all()))).to.deep.equal(winners.live());
        await cluster.world.sleep(10_000);
        expect(shard.tableFiles().length).to.equal((await shard.stats()).tables);
      });
      expect(shard.reached('compaction groups changed')).to.be.greaterThan(5);
      expect(shard.reached('compaction failed')).to.equal(0);
    }).timeout(120_000);

  it('table settings: a start merges nothing before it knows what was chosen', async () => {
    const tunables = { l0Tables: 2 };
    const shard = new ShardUnderTest({ seed: 4, compaction: 'leveled', copies: 1, tunables });
    const { cluster } = shard;
    await cluster.world.run(async () => {
      await cluster.startAll();
      const chosen = toldOf(documentOf(2, { 1: { compaction: 'time-window' } }));
      await cluster.ask(refTo(Catalog, 'n1'), 'install', chosen, 10_000);
      for (let window = 0; window < 4; window += 1) {
        for (let i = 0; i < 40; i += 1)
          await shard.apply(recordOf(`key-${i}`, shard.stamp(), value(i), 1));
        await shard.ask('flush', {});
        // A window ends.
        await cluster.world.sleep(21_000);
      }
      const own = async (): Promise<number[]> =>
        (await tablesOf(shard))
          .filter(({ firstKey }) => namespaceOf(firstKey) === 1)
          .map(({ fileNumber }) => fileNumber);
      const before = await own();
      expect(before.length).to.equal(4);
      cluster.crash('n1', 'power-loss');
      expect(await cluster.start('n1')).to.equal(true);
      await cluster.world.sleep(10_000);
      expect(await own(), 'tables of a window of their own').to.deep.equal(before);
    });
  });

  it('table settings: a new codec takes hold with the tables that are written from then on', async () => {
    const shard = new ShardUnderTest({ seed: 3, compaction: 'leveled', copies: 1 });
    const { cluster } = shard;
    await cluster.world.run(async () => {
      await cluster.startAll();
      const text = new Uint8Array(600).fill(97);
      const write = async (): Promise<number> => {
        for (let i = 0; i < 60; i += 1)
          await shard.apply(recordOf(`key-${i}`, shard.stamp(), text, 1));
        await shard.ask('flush', {});
        const tables = await tablesOf(shard);
        return Math.max(...tables.map(({ fileNumber }) => fileNumber));
      };
      const bytesOf = async (fileNumber: number): Promise<number> =>
        (await tablesOf(shard)).find((table) => table.fileNumber === fileNumber)?.bytes ?? 0;
      const packed = await bytesOf(await write());
      const none = documentOf(2, { 1: { compression: 'none' } });
      await shard.ask('namespacesChanged', toldOf(none));
      const plain = await bytesOf(await write());
      expect(plain).to.be.greaterThan(4 * packed);
    });
  });
});

/** What was written: acknowledged, or sent to a node that went down before it answered. */
async function beforeSwitch(): Promise<{ shard: ShardUnderTest; winners: Winners }> {
  const compaction: CompactionStrategy = 'leveled';
  const shard = new ShardUnderTest({ seed: 9, compaction, copies: 1, tunables: { l0Tables: 2 } });
  const winners = new Winners();
  await shard.cluster.world.run(async () => {
    await shard.cluster.startAll();
    for (let table = 0; table < 3; table += 1) {
      await fill(shard, winners, { from: table * 5, count: 5 });
      await shard.cluster.world.sleep(500);
    }
    // Mixed tables on level 0 and above it.
    const levels = (await tablesOf(shard)).map(({ level }) => level);
    expect([levels.includes(0), levels.some((level) => level > 0)]).to.deep.equal([true, true]);
  });
  return { shard, winners };
}

const switched = toldOf(
  documentOf(namespaces, {
    1: { compaction: 'size-tiered', compression: 'none' },
    3: { compaction: 'time-window', compression: 'zstd' },
  }),
);

/** False: the way through the switch has no such call any more. */
async function crashAndCheck(call: number, kind: CrashKind): Promise<boolean> {
  const { shard, winners } = await beforeSwitch();
  const { cluster } = shard;
  return cluster.world.run(async () => {
    cluster.crashAtCall('n1', call, kind);
    await shard.ask('namespacesChanged', switched);
    await cluster.world.sleep(500);
    const hasCrashed = cluster.condition('n1') === 'down';
    cluster.cancelPlannedCrash('n1');
    if (hasCrashed) expect(await cluster.start('n1')).to.equal(true);
    expect(hexes(live(await shard.all()))).to.deep.equal(winners.live());
    await shard.ask('namespacesChanged', switched);
    await cluster.world.sleep(5_000);
    expect(shard.reached('compaction failed')).to.equal(0);
    expect(hexes(live(await shard.all()))).to.deep.equal(winners.live());
    const tables = await tablesOf(shard);
    for (const { firstKey, lastKey } of tables)
      expect(namespaceOf(firstKey), 'a mixed table').to.equal(namespaceOf(lastKey));
    expect(shard.tableFiles().length).to.equal(tables.length);
    return hasCrashed;
  });
}

describe('sim table settings: a crash at every call', () => {
  for (const kind of ['kill', 'power-loss'] as const)
    it(`table settings: tables that are cut apart are the old ones or the new ones (${kind})`, async () => {
      let calls = 0;
      while (await crashAndCheck(calls + 1, kind)) calls += 1;
      expect(calls).to.be.greaterThan(30);
    }).timeout(300_000);
});
