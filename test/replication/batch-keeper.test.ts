// A holder of the log of atomic batches alone: what it keeps, completes, forgets, and no longer undoes.

import { expect } from 'chai';
import { actor, type Context, type Deferred, refTo } from '../../runtime/actor.ts';
import { justAfter } from '../../runtime/bytes.ts';
import type { Handlers } from '../../runtime/protocol.ts';
import { Ring } from '../../actors/model/ring.ts';
import {
  batchLogNamespace,
  recordEtag,
  recordIsTombstone,
  recordKey,
} from '../../actors/model/record.ts';
import { HintKeeper } from '../../actors/handoff/protocol.ts';
import { batchKeeper } from '../../actors/replication/batch-keeper.actor.ts';
import { encodeBatchEntry } from '../../actors/replication/batch-log-format.ts';
import { BatchKeeper, Coordinator, Replica } from '../../actors/replication/protocol.ts';
import { type RangeRequest, Store } from '../../actors/storage/protocol.ts';
import { makeRecord, ReplicaKit } from '../kit-replication.ts';

const target = refTo(BatchKeeper, 'n1');
const records = [makeRecord('a', { hlc: 900_000 }), makeRecord('b', { hlc: 900_000 })];
const etag = recordEtag(records[0] as Uint8Array);
const entry = encodeBatchEntry({ createdMs: 1_000, records });
const afterMs = 10_000;
const stored = (body: unknown): Uint8Array => (body as { readonly record: Uint8Array }).record;

interface Hint {
  readonly node: string;
  readonly later: Deferred<object>;
}

/** Keeps hints when the test says that they are on the disk. */
const fakeHints = actor({
  protocol: HintKeeper,
  create: (ctx: Context, { asked }: { asked: Hint[] }): Handlers<HintKeeper> => ({
    keep: () => undefined,
    peersChanged: () => undefined,
    stats: () => ({ nodes: [] }),
    keepSynced: ({ node }) => {
      const later = ctx.later<object>();
      asked.push({ node, later });
      return later;
    },
  }),
});

async function spawn(members: readonly string[] = ['n1']): Promise<ReplicaKit> {
  const kit = new ReplicaKit({}, [Coordinator, Replica, Store, HintKeeper, BatchKeeper]);
  await kit.playStore();
  await kit.playReplica();
  const ring = new Ring({ members, virtualNodes: 1, replicationFactor: members.length });
  const store = refTo(Store, 'n1');
  await kit.spawn(batchKeeper, { ring, store, shards: 1, afterMs, oldMs: 3_600_000 });
  return kit;
}

async function start(
  found: readonly Uint8Array[] = [],
  members: readonly string[] = ['n1'],
): Promise<ReplicaKit> {
  const kit = await spawn(members);
  (await kit.take('n1', 'range')).reply({ records: found, isDone: true });
  await kit.host.settle();
  return kit;
}

/** What the holder has in its store after it was asked to keep the entry. */
async function kept(kit: ReplicaKit): Promise<Uint8Array> {
  const asked = kit.ask(target, 'keep', { entry }, 5_000);
  const applied = await kit.take('n1', 'apply');
  expect(asked.calls, 'not before it is durable').to.equal(0);
  applied.reply({ lsn: 1 });
  await kit.host.settle();
  expect(asked.reply).to.deep.equal({});
  return stored(applied.body);
}

async function waiting(kit: ReplicaKit): Promise<number | undefined> {
  const stats = kit.ask(target, 'stats', {});
  await kit.host.settle();
  return stats.reply?.batches;
}

describe('batch keeper', () => {
  it('batch keeper: what its writer does not end goes to every replica, and then out of the log', async () => {
    const kit = await start();
    const record = await kept(kit);
    await kit.host.advance(afterMs + 1_000);
    (await kit.take('n1', 'read')).reply({ record });
    for (const expected of records) {
      const written = await kit.take('n1', 'write');
      expect(stored(written.body)).to.deep.equal(expected);
      written.reply({ lsn: 2 });
    }
    const mark = await kit.take('n1', 'apply');
    expect(recordIsTombstone(stored(mark.body))).to.equal(true);
    mark.reply({ lsn: 3 });
    await kit.host.settle();
    expect(await waiting(kit)).to.equal(0);
  });

  it('batch keeper: what a replica does not take is in its hints, on the disk, before the entry goes (BL-4)', async () => {
    const kit = await start([], ['n1', 'n2']);
    kit.playPeer('n2');
    const hints: Hint[] = [];
    await kit.spawn(fakeHints, { asked: hints });
    const record = await kept(kit);
    await kit.host.advance(afterMs + 1_000);
    (await kit.take('n1', 'read')).reply({ record });
    for (let i = 0; i < records.length; i += 1) {
      (await kit.take('n1', 'write')).reply({ lsn: 2 });
      (await kit.take('n2', 'write')).fail('UNREACHABLE');
      await kit.host.advance(10);
      const early = 'the entry goes before its hints are on the disk';
      expect(await kit.waiting(), early).to.deep.equal([]);
      expect(await waiting(kit), early).to.equal(1);
      expect(hints[i]?.node).to.equal('n2');
      hints[i]?.later.resolve({});
    }
    expect(await kit.waiting()).to.deep.equal(['n1/apply']);
  });

  it('batch keeper: an entry of an earlier run is completed too', async () => {
    const record = await kept(await start());
    const kit = await start([record]);
    expect(await waiting(kit)).to.equal(1);
    await kit.host.advance(afterMs + 1_000);
    (await kit.take('n1', 'read')).reply({ record });
    expect(await kit.waiting()).to.deep.equal(['n1/write']);
  });

  it('batch keeper: no start waits for what an earlier run has left, and a page that fails is asked for again', async () => {
    const record = await kept(await start());
    const kit = await spawn();
    const first = await kit.take('n1', 'range');
    const calledOff = kit.ask(target, 'callOff', etag);
    (await kit.take('n1', 'read')).reply({ record });
    await kit.host.settle();
    expect(calledOff.failure?.code, 'one that is not found yet').to.equal('CONFLICT');
    first.fail('OVERLOADED');
    await kit.host.advance(6_000);
    const again = await kit.take('n1', 'range');
    expect(again.body).to.deep.equal(first.body);
    again.reply({ records: [record], isDone: false });
    const next = (await kit.take('n1', 'range')).body as RangeRequest;
    expect(next.from).to.deep.equal(justAfter(recordKey(record)));
    expect(await waiting(kit), 'while the rest is searched').to.equal(1);
  });

  it('batch keeper: what is no batch of its own does not keep the node from starting', async () => {
    const record = await kept(await start());
    // Of 6 to 21 bytes; 16 is the length of the name of a batch.
    const names = ['scan:7', 'scan:12345678901', 'scan:1234567890123456'];
    const others = names.map((name, i) =>
      makeRecord(name, { namespace: batchLogNamespace, value: 'cursor', expiresAt: i }),
    );
    const kit = await start([...others, record]);
    expect(await waiting(kit)).to.equal(1);
    const said = kit.host.logged.filter(({ event }) => event === 'batches.others-in-log');
    expect(said.map(({ fields }) => fields)).to.deep.equal([{ records: names.length }]);
    await kit.host.advance(afterMs + 1_000);
    (await kit.take('n1', 'read')).reply({ record });
    expect(await kit.waiting()).to.deep.equal(['n1/write']);
  });

  // WRONG_SHARD: of a replica whose shards were not known yet.
  for (const code of ['DISK_FULL', 'WRONG_SHARD'] as const)
    it(`batch keeper: a copy that no replica takes stays in the log where no hint can be kept (code=${code})`, async () => {
      const kit = await start();
      const record = await kept(kit);
      await kit.host.advance(afterMs + 1_000);
      (await kit.take('n1', 'read')).reply({ record });
      (await kit.take('n1', 'write')).fail(code);
      (await kit.take('n1', 'write')).reply({ lsn: 2 });
      expect(await kit.waiting(), 'nobody brings a node its own hints').to.deep.equal([]);
      expect(await waiting(kit)).to.equal(1);
      await kit.host.advance(6_000);
      expect(await kit.waiting(), 'it is tried again').to.deep.equal(['n1/read']);
    });

  it('batch keeper: what was called off is gone, also when its entry comes later', async () => {
    const kit = await start();
    const calledOff = kit.ask(target, 'callOff', etag);
    (await kit.take('n1', 'read')).reply({ record: undefined });
    const mark = await kit.take('n1', 'apply');
    mark.reply({ lsn: 1 });
    await kit.host.settle();
    expect(calledOff.reply).to.deep.equal({});
    await kept(kit);
    await kit.host.advance(afterMs + 1_000);
    (await kit.take('n1', 'read')).reply({ record: stored(mark.body) });
    expect(await kit.waiting()).to.deep.equal([]);
    expect(await waiting(kit)).to.equal(0);
  });

  it('batch keeper: a batch that it has begun to complete, or has completed, cannot be called off', async () => {
    const kit = await start();
    const record = await kept(kit);
    await kit.host.advance(afterMs + 1_000);
    const late = kit.ask(target, 'callOff', etag);
    await kit.host.settle();
    expect(late.failure?.code).to.equal('CONFLICT');
    (await kit.take('n1', 'read')).reply({ record });
    for (let i = 0; i < records.length; i += 1) (await kit.take('n1', 'write')).reply({ lsn: 2 });
    const mark = await kit.take('n1', 'apply');
    mark.reply({ lsn: 3 });
    await kit.host.settle();
    const later = kit.ask(target, 'callOff', etag);
    (await kit.take('n1', 'read')).reply({ record: stored(mark.body) });
    await kit.host.settle();
    expect(later.failure?.code).to.equal('CONFLICT');
  });

  it('batch keeper: what an earlier run may have begun to complete cannot be called off', async () => {
    const record = await kept(await start());
    const kit = await start([record]);
    const asked = kit.ask(target, 'callOff', etag);
    await kit.host.settle();
    expect(asked.failure?.code).to.equal('CONFLICT');
    expect(await kit.waiting()).to.deep.equal([]);
  });

  it('batch keeper: bytes that are no batch are refused', async () => {
    const kit = await start();
    const damaged = entry.slice();
    damaged[20] = (damaged[20] ?? 0) ^ 1;
    const asked = kit.ask(target, 'keep', { entry: damaged });
    await kit.host.settle();
    expect(asked.failure?.code).to.equal('BAD_REQUEST');
    expect(await kit.waiting()).to.deep.equal([]);
  });
});
