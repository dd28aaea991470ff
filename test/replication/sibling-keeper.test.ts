// The keeper of sibling sets alone: one change of a key at a time, nothing lost where the store's
// answer is, and a new name for the counting of a replica that has lost what it had counted.

import { expect } from 'chai';
import { refTo } from '../../runtime/actor.ts';
import { noBytes, utf8 } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';
import { recordHlc, recordIsTombstone, storageKey } from '../../actors/model/record.ts';
import {
  addEvent,
  type Clock,
  contextOf,
  emptySet,
  joinRecords,
  recordOfSet,
  setOf,
  siblingsMax,
} from '../../actors/model/siblings.ts';
import { hashKey } from '../../actors/model/token.ts';
import { Coordinator, Replica, SiblingKeeper } from '../../actors/replication/protocol.ts';
import { siblingKeeper } from '../../actors/replication/sibling-keeper.actor.ts';
import { Store } from '../../actors/storage/protocol.ts';
import { MemoryDisk } from '../kit-disk.ts';
import { makeRecord, ReplicaKit } from '../kit-replication.ts';

const target = refTo(SiblingKeeper, 'n1');
const key = storageKey(7, utf8.encode('cart'));
const place = { key, ...hashKey(key) };
const writer = 5;

async function start(disk = new MemoryDisk(), isStateKept = true): Promise<ReplicaKit> {
  const kit = new ReplicaKit({ disk }, [Coordinator, Replica, Store, SiblingKeeper]);
  await kit.playStore();
  const options = { store: refTo(Store, 'n1'), writer, epochPath: 'sibling-epoch', isStateKept };
  await kit.spawn(siblingKeeper, options);
  return kit;
}

let stamps = 1_000;

/** A put of `value`, or a delete. Its stamp is above all before. */
function event(value: string | undefined, context: Uint8Array = noBytes, aboveHlc = 0) {
  const bytes = value === undefined ? undefined : utf8.encode(value);
  stamps += 10;
  return { ...place, value: bytes, valueType: 0, ttlMs: 0, context, aboveHlc, stamp: stamps };
}

const stored = (body: unknown): Uint8Array => (body as { readonly record: Uint8Array }).record;
const textsOf = (record: Uint8Array): string[] =>
  setOf(record).siblings.map(({ value }) => utf8.decode(value));
const clockOf = (record: Uint8Array | undefined): Clock => setOf(record).clock;

/** Lets the store answer a read with `record` and take what follows. */
async function play(kit: ReplicaKit, record: Uint8Array | undefined): Promise<Uint8Array> {
  (await kit.take('n1', 'read')).reply({ record });
  const applied = await kit.take('n1', 'apply');
  applied.reply({ lsn: 3 });
  await kit.host.settle();
  return stored(applied.body);
}

/** The record of one write that another replica counted. */
function foreign(value: string, actor = { writer: 9, epoch: 1 }): Uint8Array {
  const content = { hlc: 4, expiresAt: 0, valueType: 0, value: utf8.encode(value) };
  return recordOfSet(place, addEvent(emptySet, actor, [], content), 4);
}

describe('sibling keeper', () => {
  it('sibling keeper: a write stands beside what its context has not seen', async () => {
    const kit = await start();
    const asked = kit.ask(target, 'event', event('mine'));
    const record = await play(kit, foreign('theirs'));
    expect(textsOf(record).sort()).to.deep.equal(['mine', 'theirs']);
    expect(asked.reply).to.deep.equal({ record, existed: true });
    const second = kit.ask(target, 'event', event('both', contextOf(record)));
    expect(textsOf(await play(kit, record))).to.deep.equal(['both']);
    expect(second.reply?.existed).to.equal(true);
  });

  it('sibling keeper: a delete with the context of a read leaves a tombstone that remembers', async () => {
    const kit = await start();
    const held = foreign('theirs');
    kit.ask(target, 'event', event(undefined, contextOf(held)));
    const record = await play(kit, held);
    expect(recordIsTombstone(record)).to.equal(true);
    kit.ask(target, 'merge', { record: held });
    (await kit.take('n1', 'read')).reply({ record });
    // The value that comes late was overwritten: nothing is stored.
    expect(await kit.waiting()).to.deep.equal([]);
  });

  it('sibling keeper: the stamp lies above what is stored and above what it was asked to', async () => {
    const kit = await start();
    kit.ask(target, 'event', event('a', noBytes, 9_000_000_000));
    const record = await play(kit, undefined);
    expect(recordHlc(record)).to.equal(9_000_000_001);
    kit.ask(target, 'event', event('b'));
    expect(recordHlc(await play(kit, record))).to.equal(9_000_000_002);
  });

  it('sibling keeper: the second change of a key waits for the first, another key does not', async () => {
    const kit = await start();
    kit.ask(target, 'event', event('first'));
    kit.ask(target, 'event', event('second'));
    const other = storageKey(7, utf8.encode('other'));
    kit.ask(target, 'event', { ...event('other'), key: other, ...hashKey(other) });
    expect(await kit.waiting()).to.deep.equal(['n1/read', 'n1/read']);
    const record = await play(kit, undefined);
    await play(kit, undefined);
    expect(textsOf(await play(kit, record))).to.deep.equal(['first', 'second']);
  });

  it('sibling keeper: what a store may have taken is part of everything that follows', async () => {
    const kit = await start();
    const lost = kit.ask(target, 'event', event('in doubt'));
    (await kit.take('n1', 'read')).reply({ record: undefined });
    (await kit.take('n1', 'apply')).fail('TIMEOUT');
    await kit.host.settle();
    expect(lost.failure?.code).to.equal('TIMEOUT');
    kit.ask(target, 'merge', { record: foreign('theirs') });
    const record = await play(kit, undefined);
    expect(textsOf(record).sort()).to.deep.equal(['in doubt', 'theirs']);
    kit.ask(target, 'event', event('next', contextOf(record)));
    expect(textsOf(await play(kit, record))).to.deep.equal(['next']);
  });

  it('sibling keeper: what a store has refused is gone', async () => {
    const kit = await start();
    const refused = kit.ask(target, 'event', event('refused'));
    (await kit.take('n1', 'read')).reply({ record: undefined });
    (await kit.take('n1', 'apply')).fail('DISK_FULL');
    await kit.host.settle();
    expect(refused.failure?.code).to.equal('DISK_FULL');
    const unread = kit.ask(target, 'event', event('unread'));
    (await kit.take('n1', 'read')).fail('TIMEOUT');
    await kit.host.settle();
    expect(unread.failure?.code).to.equal('UNAVAILABLE');
    kit.ask(target, 'event', event('taken'));
    expect(textsOf(await play(kit, undefined))).to.deep.equal(['taken']);
  });

  it('sibling keeper: writes without context are refused where so many values wait', async () => {
    const kit = await start();
    let record: Uint8Array | undefined;
    for (let i = 0; i < siblingsMax; i += 1) {
      kit.ask(target, 'event', event(`v${i}`));
      record = await play(kit, record);
    }
    const refused = kit.ask(target, 'event', event('one more'));
    (await kit.take('n1', 'read')).reply({ record });
    await kit.host.settle();
    expect(refused.failure?.code).to.equal('CONFLICT');
    expect(refused.failure?.fields).to.include({ siblings: siblingsMax, max: siblingsMax });
    const resolved = kit.ask(target, 'event', event('resolved', contextOf(record)));
    expect(textsOf(await play(kit, record))).to.deep.equal(['resolved']);
    expect(resolved.failure).to.equal(undefined);
  });

  it('sibling keeper: hostile input is refused before anything is read', async () => {
    const kit = await start();
    const context = kit.ask(target, 'event', event('x', utf8.encode('forged')));
    const plain = kit.ask(target, 'merge', { record: makeRecord('key') });
    const cut = recordOfSet(place, emptySet, 4);
    cut[cut.length - 5] = 9;
    const bytes = kit.ask(target, 'merge', { record: cut });
    await kit.host.settle();
    for (const { failure } of [context, plain, bytes])
      expect(failure?.code).to.equal('BAD_REQUEST');
    expect(await kit.waiting()).to.deep.equal([]);
  });

  it('sibling keeper: a single value under the key is not touched', async () => {
    const kit = await start();
    const asked = kit.ask(target, 'event', event('x'));
    (await kit.take('n1', 'read')).reply({ record: makeRecord('cart', { namespace: 7 }) });
    await kit.host.settle();
    expect(asked.failure?.code).to.equal('WRONG_TYPE');
    expect(await kit.waiting()).to.deep.equal([]);
  });

  it('sibling keeper: it goes on counting after a restart where nothing durable can be lost', async () => {
    const disk = new MemoryDisk();
    const actors: number[] = [];
    let record: Uint8Array | undefined;
    for (const isStateKept of [true, true, false, false, true]) {
      const kit = await start(disk, isStateKept);
      kit.ask(target, 'event', event('x', contextOf(record)));
      record = await play(kit, record);
      actors.push(clockOf(record).length);
    }
    // The run before the last one could lose acknowledged writes: the last one trusts none of it.
    expect(actors).to.deep.equal([1, 1, 2, 3, 4]);
  });

  it('sibling keeper: without room for its name it joins sets and counts nothing', async () => {
    const disk = new MemoryDisk();
    disk.beforeWrite = () => {
      throw new KvError('DISK_FULL');
    };
    const kit = await start(disk);
    const refused = kit.ask(target, 'event', event('x'));
    await kit.host.settle();
    expect(refused.failure?.code).to.equal('DISK_FULL');
    kit.ask(target, 'merge', { record: foreign('theirs') });
    expect(textsOf(await play(kit, undefined))).to.deep.equal(['theirs']);
    disk.beforeWrite = () => undefined;
    kit.ask(target, 'event', event('x'));
    expect(textsOf(await play(kit, undefined))).to.deep.equal(['x']);
  });

  it('sibling keeper: who is told of own writes that it has not gets a new name', async () => {
    const disk = new MemoryDisk();
    const kit = await start(disk);
    kit.ask(target, 'event', event('counted'));
    const before = await play(kit, undefined);
    const own = clockOf(before)[0] ?? { writer, epoch: 0 };
    // The store has lost it all, another replica has not.
    kit.ask(target, 'merge', { record: before });
    await play(kit, undefined);
    await kit.host.settle();
    kit.ask(target, 'event', event('later'));
    const after = await play(kit, before);
    expect(textsOf(after).sort()).to.deep.equal(['counted', 'later']);
    const epochs = clockOf(after).map(({ epoch }) => epoch);
    expect(epochs).to.have.lengthOf(2);
    expect(Math.max(...epochs)).to.be.above(own.epoch);
    expect(kit.host.logged.map(({ event: name }) => name)).to.include('siblings.epoch-given-up');
  });

  it('sibling keeper: what it counts after the loss of its disk stands beside what it had counted (DV-3)', async () => {
    const kit = await start();
    kit.ask(target, 'event', event('before'));
    // Another replica has it.
    const before = await play(kit, undefined);
    const wiped = await start(new MemoryDisk());
    wiped.ask(target, 'event', event('after'));
    const after = await play(wiped, undefined);
    const texts = textsOf(joinRecords(before, after)).sort();
    expect(texts, 'an acknowledged value was taken for another').to.deep.equal(['after', 'before']);
  });

  it('sibling keeper: a key that was purged is counted under a new name (DV-3)', async () => {
    const kit = await start();
    kit.ask(target, 'event', event('one'));
    const one = await play(kit, undefined);
    kit.ask(target, 'event', event(undefined, contextOf(one)));
    await play(kit, one);
    // The tombstone is gone; somebody still has the context of the first value.
    kit.ask(target, 'event', event('two'));
    const two = await play(kit, undefined);
    kit.ask(target, 'event', event('three', contextOf(one)));
    expect(textsOf(await play(kit, two))).to.deep.equal(['two', 'three']);
  });

  it('sibling keeper: a context that has seen more of our writes than is left starts a new name', async () => {
    const kit = await start();
    kit.ask(target, 'event', event('counted'));
    const before = await play(kit, undefined);
    const asked = kit.ask(target, 'event', event('later', contextOf(before)));
    const record = await play(kit, undefined);
    expect(asked.reply?.existed).to.equal(false);
    expect(textsOf(record)).to.deep.equal(['later']);
    expect(clockOf(record)).to.have.lengthOf(2);
  });
});
