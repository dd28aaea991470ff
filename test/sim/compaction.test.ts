// Compaction in a real node: random writes, deletes, flushes, compactions and crashes against a
// map, and a crash at every call of the environment on the way of one compaction. Nothing that was
// acknowledged is lost, nothing deleted comes back, and no file is left that no version names.

import { expect } from 'chai';
import { recordIsTombstone, recordKey } from '../../actors/model/record.ts';
import { lastWriteWins } from '../../actors/model/resolve.ts';
import { Store } from '../../actors/storage/protocol.ts';
import { tablePath } from '../../actors/storage/table-files.ts';
import type { CrashKind } from '../../sim/cluster.ts';
import { refTo } from '../../runtime/actor.ts';
import { Prng } from '../../runtime/prng.ts';
import { hexes, hexOf } from '../storage/records-under-test.ts';
import { neededBytes, recordOf, ShardUnderTest } from './shard-under-test.ts';
import { compactionStrategies } from '../../actors/model/table-choices.ts';

const steps = 400;
const batch = 8;
const keyCount = 300;

/** A shard, and the winner of each key by a map. */
class Model {
  readonly shard: ShardUnderTest;
  readonly random: Prng;
  readonly #winners = new Map<string, Uint8Array>();
  /** Late writes with old stamps come, as read repair brings them. */
  readonly #hasLateWrites: boolean;

  constructor(shard: ShardUnderTest, random: Prng, hasLateWrites: boolean) {
    this.shard = shard;
    this.random = random;
    this.#hasLateWrites = hasLateWrites;
  }

  async write(key: string, isDelete: boolean): Promise<void> {
    const isLate = this.#hasLateWrites && this.random.chance(0.2);
    const hlc = this.shard.stamp() - (isLate ? this.random.int(20_000_000) : 0);
    const value = isDelete ? undefined : this.random.bytes(this.random.pick([10, 200, 1_500]));
    const record = recordOf(key, hlc, value);
    if (!(await this.shard.apply(record))) throw new Error(`${key} was not written`);
    const before = this.#winners.get(key);
    this.#winners.set(key, before === undefined ? record : lastWriteWins(before, record));
  }

  async check(key: string): Promise<void> {
    const held = await this.shard.read(key);
    const winner = this.#winners.get(key);
    const shown = held === undefined ? 'nothing' : hexOf(held);
    if (winner === undefined) expect(shown).to.equal('nothing');
    else if (held === undefined) expect(this.#mayBePurged(winner), `${key} is lost`).to.equal(true);
    else expect(shown, key).to.equal(hexOf(winner));
  }

  async checkAll(): Promise<void> {
    for (const key of this.#winners.keys()) await this.check(key);
    const live = [...this.#winners.values()].filter((record) => !recordIsTombstone(record));
    const found = (await this.shard.range()).filter((record) => !recordIsTombstone(record));
    expect(hexes(found)).to.deep.equal(
      hexes(live.sort((a, b) => Buffer.compare(recordKey(a), recordKey(b)))),
    );
  }

  #mayBePurged(winner: Uint8Array): boolean {
    return !this.#hasLateWrites && recordIsTombstone(winner);
  }
}

async function step(model: Model): Promise<void> {
  const { shard, random } = model;
  const { cluster } = shard;
  const dice = random.float();
  const someKeys = random.shuffled(Array.from({ length: keyCount }, (_, i) => `key-${i}`));
  if (dice < 0.75) {
    const isDelete = random.chance(0.25);
    await Promise.all(someKeys.slice(0, batch).map((key) => model.write(key, isDelete)));
  } else if (dice < 0.88) {
    for (const key of someKeys.slice(0, batch)) await model.check(key);
  } else if (dice < 0.95) await shard.ask('flush', {});
  else if (dice < 0.98) await cluster.world.sleep(random.between(1, 5_000));
  else {
    cluster.crash('n1', random.pick(['kill', 'power-loss']));
    expect(await cluster.start('n1')).to.equal(true);
  }
}

describe('sim compaction: against a map', () => {
  for (const compaction of compactionStrategies)
    for (const copies of [1, 2] as const)
      for (const seed of [1, 2, 3])
        it(`compaction: random writes and crashes leave what a map holds (${compaction}, copies=${copies}, seed=${seed})`, async () => {
          const tunables = { l0Tables: seed === 1 ? 2 : 4, l0TablesMax: 6 };
          const shard = new ShardUnderTest({ seed, compaction, copies, tunables });
          const { cluster } = shard;
          const model = new Model(shard, new Prng(seed), copies > 1);
          await cluster.world.run(async () => {
            expect(await cluster.startAll()).to.equal(true);
            for (let i = 0; i < steps; i += 1) await step(model);
            await model.checkAll();
            await cluster.world.sleep(10_000);
            cluster.crash('n1', 'power-loss');
            await cluster.start('n1');
            await model.checkAll();
            await cluster.world.sleep(10_000);
            expect(shard.tableFiles().length).to.equal((await shard.stats()).tables);
          });
          expect(shard.reached('compaction installed')).to.be.greaterThan(5);
          expect(shard.reached('compaction failed')).to.equal(0);
          expect(shard.reached('tombstones purged') > 0).to.equal(copies === 1);
        }).timeout(60_000);
});

const value = (n: number): Uint8Array => new Prng(n).bytes(600);

/** What was written: acknowledged, or sent to a node that went down before it answered. */
interface Written {
  readonly acknowledged: Uint8Array[];
  readonly unanswered: Uint8Array[];
}

/** Four flushed tables, merged into a level, then three more: the next flush merges them all. */
async function shardBeforeMerge(): Promise<{ shard: ShardUnderTest; written: Written }> {
  const shard = new ShardUnderTest({ seed: 7, compaction: 'leveled', copies: 1 });
  const written: Written = { acknowledged: [], unanswered: [] };
  await shard.cluster.world.run(async () => {
    await shard.cluster.startAll();
    for (let table = 0; table < 7; table += 1) {
      await writeTable(shard, table, written);
      await shard.cluster.world.sleep(500);
    }
  });
  expect(shard.reached('compaction installed')).to.equal(1);
  return { shard, written };
}

/** A delete of one of the table before, ten new keys, a flush. */
async function writeTable(shard: ShardUnderTest, table: number, written: Written): Promise<void> {
  const first = table * 10;
  const put = (n: number): Uint8Array => recordOf(`key-${n}`, shard.stamp(), value(n));
  const records = Array.from({ length: 10 }, (_, i) => put(first + i));
  if (table > 0) records.unshift(recordOf(`key-${first - 1}`, shard.stamp(), undefined));
  for (const record of records)
    ((await shard.apply(record)) ? written.acknowledged : written.unanswered).push(record);
  await shard.ask('flush', {});
}

async function expectAllThere(shard: ShardUnderTest, written: Written): Promise<void> {
  const keyOf = (record: Uint8Array): string => hexOf(recordKey(record));
  const winners = new Map(written.acknowledged.map((record) => [keyOf(record), record]));
  const uncertain = new Set(written.unanswered.map(keyOf));
  const isLive = (record: Uint8Array): boolean => !recordIsTombstone(record);
  const known = (records: Iterable<Uint8Array>): string[] =>
    hexes([...records].filter((record) => isLive(record) && !uncertain.has(keyOf(record)))).sort();
  expect(known(await shard.range())).to.deep.equal(known(winners.values()));
}

/** False: the way through the merge has no such call any more. */
async function crashAndCheck(call: number, kind: CrashKind): Promise<boolean> {
  const { shard, written } = await shardBeforeMerge();
  const { cluster } = shard;
  return cluster.world.run(async () => {
    cluster.crashAtCall('n1', call, kind);
    await writeTable(shard, 7, written);
    await cluster.world.sleep(500);
    const hasCrashed = cluster.condition('n1') === 'down';
    if (hasCrashed) expect(await cluster.start('n1')).to.equal(true);
    else expect(shard.reached('compaction installed')).to.equal(2);
    cluster.cancelPlannedCrash('n1');
    await expectAllThere(shard, written);
    await cluster.world.sleep(2_000);
    await expectAllThere(shard, written);
    expect(shard.tableFiles().length).to.equal((await shard.stats()).tables);
    return hasCrashed;
  });
}

describe('sim compaction: a crash at every call', () => {
  for (const kind of ['kill', 'power-loss'] as const)
    it(`compaction: old or new version, nothing lost, nothing left over (${kind})`, async () => {
      let calls = 0;
      while (await crashAndCheck(calls + 1, kind)) calls += 1;
      expect(calls).to.be.greaterThan(100);
    }).timeout(120_000);
});

describe('sim compaction: trouble', () => {
  it('compaction: a damaged input stays, is left alone, and everything else is read', async () => {
    const { shard, written } = await shardBeforeMerge();
    const { cluster } = shard;
    const name = shard.tableFiles()[shard.tableFiles().length - 1] ?? '';
    await cluster.world.run(async () => {
      const file = cluster
        .machineOf('n1')
        .storage.find(tablePath('shard-0', Number(name.slice(0, 10))));
      const byte = new Uint8Array(1);
      file?.read(byte, 500);
      file?.write(
        byte.map((bits) => bits ^ 1),
        500,
      );
      await writeTable(shard, 7, written);
      await cluster.world.sleep(10_000);
      expect(shard.reached('compaction failed')).to.equal(1);
      expect(shard.tableFiles()).to.include(name);
      const first = await shard.read('key-1');
      expect(first === undefined ? '' : hexOf(first)).to.equal(
        hexOf(written.acknowledged[1] as Uint8Array),
      );
      // Damage does not stall writes.
      expect(await shard.apply(recordOf('more', shard.stamp(), value(1)))).to.equal(true);
    });
  });

  it('compaction: a full disk fails it, loses nothing, and it is done when there is space', async () => {
    const { shard, written } = await shardBeforeMerge();
    const { cluster } = shard;
    const { storage } = cluster.machineOf('n1');
    await cluster.world.run(async () => {
      // Enough for the flush, too little for what the merge would write beside its inputs.
      storage.faults.capacityBytes = storage.usedBytes + neededBytes + 28_000;
      await writeTable(shard, 7, written);
      await cluster.world.sleep(3_500);
      expect(shard.reached('compaction installed')).to.equal(1);
      expect(shard.reached('compaction failed')).to.equal(3);
      await expectAllThere(shard, written);
      storage.faults.capacityBytes = Infinity;
      await cluster.world.sleep(60_000);
      expect(shard.reached('compaction installed')).to.equal(2);
      await expectAllThere(shard, written);
      expect(shard.tableFiles().length).to.equal((await shard.stats()).tables);
    });
  });

  it('compaction: with too many tables that wait writes are refused until it has caught up', async () => {
    const tunables = { l0Tables: 2, l0TablesMax: 4 };
    const shard = new ShardUnderTest({ seed: 1, compaction: 'leveled', copies: 1, tunables });
    const { cluster } = shard;
    const { storage } = cluster.machineOf('n1');
    const written: Written = { acknowledged: [], unanswered: [] };
    const record = recordOf('refused', 1, value(1));
    await cluster.world.run(async () => {
      await cluster.startAll();
      for (let table = 0; table < 4; table += 1) {
        storage.faults.capacityBytes = storage.usedBytes + neededBytes + 15_000;
        await writeTable(shard, table, written);
      }
      const answer = await shard.ask('apply', { record });
      expect(answer.kind === 'failure' ? answer.failure.code : answer.kind).to.equal('OVERLOADED');
      expect(shard.reached('writes stalled by compaction')).to.equal(1);
      storage.faults.capacityBytes = Infinity;
      await cluster.world.sleep(60_000);
      await expectAllThere(shard, written);
      expect((await shard.ask('apply', { record })).kind).to.equal('reply');
    });
  });

  it('compaction: a damaged table does not hide that others wait', async () => {
    const tunables = { l0Tables: 2, l0TablesMax: 4 };
    const shard = new ShardUnderTest({ seed: 1, compaction: 'size-tiered', copies: 1, tunables });
    const { cluster } = shard;
    const { storage } = cluster.machineOf('n1');
    const written: Written = { acknowledged: [], unanswered: [] };
    await cluster.world.run(async () => {
      await cluster.startAll();
      for (let table = 0; table < 5; table += 1) {
        storage.faults.capacityBytes = storage.usedBytes + neededBytes + 15_000;
        await writeTable(shard, table, written);
        const { tables } = await shard.askWithin('tables', {});
        const fileNumber = tables[0]?.fileNumber ?? 0;
        if (table === 0)
          cluster.kernelOf('n1')?.tell(refTo(Store, 'n1'), 'damaged', { fileNumber });
      }
      expect(shard.reached('compaction installed')).to.equal(0);
      expect(shard.reached('writes stalled by compaction')).to.equal(1);
    });
  });

  it('compaction: writes are slowed down before they are refused, and run again when it has caught up', async () => {
    const tunables = { l0Tables: 2, l0TablesMax: 10 };
    const shard = new ShardUnderTest({ seed: 1, compaction: 'leveled', copies: 1, tunables });
    const { cluster } = shard;
    const { storage } = cluster.machineOf('n1');
    const written: Written = { acknowledged: [], unanswered: [] };
    const records = 20;
    let stamp = 0;
    /** How long so many records of 600 bytes take, sent together. */
    const tookMs = async (): Promise<number> => {
      const startMs = cluster.world.nowMs;
      const sent = Array.from({ length: records }, (_, i) => {
        stamp += 1;
        const record = recordOf(`more-${i}`, stamp, value(i));
        written.acknowledged.push(record);
        return shard.ask('apply', { record });
      });
      for (const answer of await Promise.all(sent)) expect(answer.kind).to.equal('reply');
      return cluster.world.nowMs - startMs;
    };
    await cluster.world.run(async () => {
      await cluster.startAll();
      const freelyMs = await tookMs();
      for (let table = 0; table < 6; table += 1) {
        // A full disk keeps the merges from being done.
        storage.faults.capacityBytes = storage.usedBytes + neededBytes + 15_000;
        await writeTable(shard, table, written);
      }
      expect(shard.reached('writes slowed down')).to.equal(1);
      storage.faults.capacityBytes = storage.usedBytes + neededBytes + 60_000;
      const slowlyMs = await tookMs();
      expect(shard.reached('writes stalled by compaction')).to.equal(0);
      // Tables are so small that a batch is a record, and each is held up for as long as any may be.
      expect(slowlyMs).to.be.within(1_000, records * 100);
      expect(freelyMs).to.be.lessThan(200);
      storage.faults.capacityBytes = Infinity;
      await cluster.world.sleep(60_000);
      await expectAllThere(shard, written);
      expect(await tookMs()).to.be.lessThan(200);
    });
  });

  it('compaction: while a memtable is written writes are slowed down, and run again after it', async () => {
    const how = { compaction: 'leveled', copies: 1, durability: 'none' } as const;
    const shard = new ShardUnderTest({ seed: 3, ...how });
    const { cluster } = shard;
    const { storage } = cluster.machineOf('n1');
    const written: Written = { acknowledged: [], unanswered: [] };
    const write = async (count: number): Promise<number> => {
      const startMs = cluster.world.nowMs;
      for (let i = 0; i < count; i += 1) {
        const record = recordOf(`key-${i}`, shard.stamp(), value(i));
        expect(await shard.apply(record)).to.equal(true);
        written.acknowledged[i] = record;
      }
      return cluster.world.nowMs - startMs;
    };
    await cluster.world.run(async () => {
      await cluster.startAll();
      const freelyMs = await write(40);
      storage.faults.syncMs = 400;
      await write(400);
      expect(shard.reached('writes slowed down by a flush')).to.be.greaterThan(1);
      storage.faults.syncMs = 1;
      await cluster.world.sleep(60_000);
      await expectAllThere(shard, written);
      expect(await write(40)).to.be.lessThan(freelyMs * 2);
    });
  });
});
