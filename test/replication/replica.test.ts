// The replica alone: what it asks of its store, what it answers, and what it refuses.

import { expect } from 'chai';
import { refTo } from '../../runtime/actor.ts';
import { recordHash, recordKey, recordToken } from '../../actors/model/record.ts';
import { Replica } from '../../actors/replication/protocol.ts';
import { replica } from '../../actors/replication/replica.actor.ts';
import { Store } from '../../actors/storage/protocol.ts';
import { makeRecord, ReplicaKit } from '../kit-replication.ts';

const target = refTo(Replica, 'n1');
const record = makeRecord('key', { hlc: 77, writer: 8, incarnation: 9 });

async function start(shards = 1): Promise<ReplicaKit> {
  const kit = new ReplicaKit();
  await kit.playStore();
  const store = refTo(Store, 'n1');
  await kit.spawn(replica, { store, shards, rangeRowsMax: 100, rangeBytesMax: 5_000 });
  return kit;
}

describe('replica', () => {
  it('replica: a write is answered when the store has applied it, not before', async () => {
    const kit = await start();
    const written = kit.ask(target, 'write', { record });
    const asked = await kit.take('n1', 'apply');
    expect(asked.body).to.deep.equal({ record });
    expect(written.calls).to.equal(0);
    asked.reply({ lsn: 12 });
    await kit.host.settle();
    expect(written.reply).to.deep.equal({ lsn: 12 });
  });

  it('replica: several records are one question to the store, and all are checked before it', async () => {
    const kit = await start();
    const records = ['a', 'b', 'c'].map((key) => makeRecord(key));
    const written = kit.ask(target, 'writeMany', { records });
    const asked = await kit.take('n1', 'applyMany');
    expect(asked.body).to.deep.equal({ records });
    asked.reply({ lsn: 3 });
    const bad = [...records.slice(1), makeRecord('d', { hlc: 0 })];
    const refused = kit.ask(target, 'writeMany', { records: bad });
    await kit.host.settle();
    expect(written.reply).to.deep.equal({ lsn: 3 });
    expect(refused.failure?.code).to.equal('BAD_REQUEST');
    expect(kit.asked).to.deep.equal([]);
  });

  it('replica: what the store refuses is answered in its words', async () => {
    const kit = await start();
    const written = kit.ask(target, 'write', { record });
    (await kit.take('n1', 'apply')).fail('DISK_FULL');
    const read = kit.ask(target, 'read', { key: recordKey(record), hash: 1, digest: false });
    (await kit.take('n1', 'read')).fail('CORRUPT');
    await kit.host.settle();
    expect(written.failure?.code).to.equal('DISK_FULL');
    expect(read.failure?.code).to.equal('CORRUPT');
  });

  it('replica: bytes that are no record never reach the store', async () => {
    const kit = await start();
    const cut = kit.ask(target, 'write', { record: record.slice(0, 50) });
    const unstamped = kit.ask(target, 'write', { record: makeRecord('key', { hlc: 0 }) });
    await kit.host.settle();
    expect(cut.failure?.code).to.equal('BAD_REQUEST');
    expect(unstamped.failure?.fields['detail']).to.equal('bad record: no stamp');
    expect(kit.asked).to.deep.equal([]);
    expect(kit.host.stops).to.deep.equal([]);
  });

  it('replica: a record of another shard is refused', async () => {
    const kit = await start(2);
    const names = Array.from({ length: 20 }, (_, i) => `key-${i}`);
    const even = names.find((name) => recordToken(makeRecord(name)) % 2 === 0) ?? '';
    const odd = names.find((name) => recordToken(makeRecord(name)) % 2 === 1) ?? '';
    const refused = kit.ask(target, 'write', { record: makeRecord(odd) });
    await kit.host.settle();
    expect(refused.failure?.code).to.equal('WRONG_SHARD');
    kit.ask(target, 'write', { record: makeRecord(even) });
    expect(await kit.waiting()).to.deep.equal(['n1/apply']);
  });

  it('replica: a read answers the record with its etag, a digest read the etag alone', async () => {
    const kit = await start();
    const question = { key: recordKey(record), hash: recordHash(record) };
    const data = kit.ask(target, 'read', { ...question, digest: false });
    const asked = await kit.take('n1', 'read');
    expect(asked.body).to.deep.equal(question);
    asked.reply({ record });
    const digest = kit.ask(target, 'read', { ...question, digest: true });
    (await kit.take('n1', 'read')).reply({ record });
    await kit.host.settle();
    const etag = { hlc: 77, writer: 8, incarnation: 9 };
    expect(data.reply).to.deep.equal({ record, ...etag });
    expect(digest.reply).to.deep.equal({ record: undefined, ...etag });
  });

  it('replica: where there is nothing, the etag is zero', async () => {
    const kit = await start();
    const read = kit.ask(target, 'read', { key: recordKey(record), hash: 1, digest: false });
    (await kit.take('n1', 'read')).reply({ record: undefined });
    await kit.host.settle();
    const nothing = { record: undefined, hlc: 0, writer: 0, incarnation: 0 };
    expect(read.reply).to.deep.equal(nothing);
  });

  it('replica: a range is cut to the rows and bytes that this node gives out at once', async () => {
    const kit = await start();
    const from = recordKey(record);
    const large = kit.ask(target, 'range', { from, to: undefined, limit: 101, bytes: 5_001 });
    const asked = await kit.take('n1', 'range');
    expect(asked.body).to.deep.equal({ from, to: undefined, limit: 100, bytes: 5_000 });
    asked.reply({ records: [record], isDone: true });
    kit.ask(target, 'range', { from, to: from, limit: 7, bytes: 50 });
    expect((await kit.take('n1', 'range')).body).to.deep.equal({
      from,
      to: from,
      limit: 7,
      bytes: 50,
    });
    await kit.host.settle();
    expect(large.reply).to.deep.equal({ records: [record], isDone: true });
  });

  it('replica: the store gets the time that is left, and a request that is too late nothing (WR-6)', async () => {
    const kit = await start();
    kit.ask(target, 'write', { record }, 400);
    expect((await kit.take('n1', 'apply')).leftMs).to.equal(400);
    kit.ask(target, 'write', { record }, 400);
    // The thread was busy for longer than the caller waits.
    kit.host.nowMs += 401;
    expect(await kit.waiting()).to.deep.equal([]);
    expect(kit.sample('kvd_mailbox_expired_total', 'replica')).to.equal(1);
  });
});
