// What a dropped namespace leaves in the files of a shard: gone after a while, by each strategy of
// compaction, also over a crash, and never anything of another one.

import { expect } from 'chai';
import { encodeCatalog, firstDocument, plainSettings } from '../../actors/model/namespaces.ts';
import { droppedRanges, isDroppedBy } from '../../actors/model/dropped-keys.ts';
import {
  namespaceOf,
  privateNamespaces,
  recordKey,
  storageKey,
} from '../../actors/model/record.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { makeRecord } from '../storage/records-under-test.ts';
import { ShardUnderTest } from '../sim/shard-under-test.ts';
import { compactionStrategies } from '../../actors/model/table-choices.ts';

const document = (epoch: number, nextId: number, living: readonly number[]): Uint8Array =>
  encodeCatalog({
    ...firstDocument,
    epoch,
    nextId,
    namespaces: [0, ...living].map((id) => ({
      ...plainSettings,
      name: id === 0 ? 'default' : `ns${id}`,
      id,
      createdMs: 0,
    })),
  });

async function fill(shard: ShardUnderTest, namespaces: readonly number[]): Promise<void> {
  for (let i = 0; i < 400; i += 1)
    for (const namespace of namespaces) {
      const value = new Uint8Array(300).fill(i);
      const record = makeRecord(`key-${i}`, { namespace, hlc: shard.stamp(), value });
      if (!(await shard.apply(record))) throw new Error('not written');
    }
}

/** Records by namespace, of the whole shard. */
async function census(shard: ShardUnderTest): Promise<Record<number, number>> {
  const counts: Record<number, number> = {};
  const records = await shard.all();
  for (const record of records) {
    const id = namespaceOf(recordKey(record));
    counts[id] = (counts[id] ?? 0) + 1;
  }
  return counts;
}

describe('catalog: what was dropped', function () {
  this.timeout(120_000);

  for (const compaction of compactionStrategies)
    it(`catalog: what was dropped goes from the tables, and nothing else does (${compaction})`, async () => {
      const shard = new ShardUnderTest({ seed: 3, compaction, copies: 2 });
      await shard.cluster.world.run(async () => {
        await shard.cluster.startAll();
        const promises = privateNamespaces + 2;
        await fill(shard, [0, 1, 2, promises, 3]);
        const all = { 0: 400, 1: 400, 2: 400, 3: 400, [promises]: 400 };
        expect(await census(shard)).to.deep.include(all);
        await shard.ask('namespacesChanged', { document: document(5, 4, [1, 3]) });
        await shard.cluster.world.sleep(60_000);
        const left = await census(shard);
        expect(left).to.deep.include({ 0: 400, 1: 400, 3: 400 });
        expect([left[2], left[promises]]).to.deep.equal([undefined, undefined]);
        // An older document brings nothing back and takes nothing away.
        await shard.ask('namespacesChanged', { document: document(4, 4, []) });
        await shard.cluster.world.sleep(60_000);
        expect(await census(shard)).to.deep.include({ 0: 400, 1: 400, 3: 400 });
      });
    });

  it('catalog: a clearing that power loss has cut short goes on after the start', async () => {
    const shard = new ShardUnderTest({ seed: 4, compaction: 'leveled', copies: 2 });
    await shard.cluster.world.run(async () => {
      await shard.cluster.startAll();
      await fill(shard, [1, 2]);
      const body = { document: document(9, 3, [1]) };
      await shard.ask('namespacesChanged', body);
      await shard.cluster.world.sleep(3);
      shard.cluster.crash('n1', 'power-loss');
      expect(await shard.cluster.start('n1')).to.equal(true);
      await shard.ask('namespacesChanged', body);
      await shard.cluster.world.sleep(60_000);
      const left = await census(shard);
      expect([left[1], left[2]]).to.deep.equal([400, undefined]);
    });
  });

  it('catalog: the gaps between the living are what was dropped, on both sides', () => {
    const gone = { nextId: 7, living: [0, 2, 5] };
    expect(droppedRanges(gone)).to.deep.equal([
      { from: 1, to: 2 },
      { from: 3, to: 5 },
      { from: 6, to: 7 },
      { from: privateNamespaces + 1, to: privateNamespaces + 2 },
      { from: privateNamespaces + 3, to: privateNamespaces + 5 },
      { from: privateNamespaces + 6, to: privateNamespaces + 7 },
    ]);
    const isDropped = isDroppedBy(gone);
    const ids = Array.from({ length: 9 }, (_, id) => id).filter((id) =>
      isDropped(storageKey(id, utf8.encode('k'))),
    );
    expect(ids).to.deep.equal([1, 3, 4, 6]);
  });
});
