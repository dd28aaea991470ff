// Reads and scans through a coordinator whose replicas are played by the test.

import { expect } from 'chai';
import { utf8 } from '../../runtime/bytes.ts';
import { formatEtag, noEtag, recordEtag, recordKey, userKey } from '../../actors/model/record.ts';
import { Ring } from '../../actors/model/ring.ts';
import { mergeReplicas } from '../../actors/model/siblings.ts';
import type { RangeRequest } from '../../actors/storage/protocol.ts';
import { CoordinatorKit, keyWhere, wallMs } from '../kit-coordinator.ts';
import { type Asked, hexOf, makeRecord, readReply, setOfWriters } from '../kit-replication.ts';

const old = makeRecord('key', { hlc: 10, value: 'old' });
const fresh = makeRecord('key', { hlc: 20, value: 'fresh' });
const keyOf = (record: Uint8Array): string => utf8.decode(userKey(recordKey(record)));

const isDigest = ({ body }: Asked): boolean => (body as { readonly digest: boolean }).digest;

/** Answers the read of one node as a replica that holds `record`. */
async function answer(kit: CoordinatorKit, node: string, record?: Uint8Array): Promise<void> {
  const asked = await kit.take(node, 'read');
  asked.reply(readReply(record, isDigest(asked)));
  await kit.host.settle();
}

describe('coordinator: reads', () => {
  it('coordinator: siblings that no record holds together fail their read, and it is over', async () => {
    const kit = await CoordinatorKit.start({ resolve: mergeReplicas });
    const [a, b] = [setOfWriters('key', 1, 600), setOfWriters('key', 1_001, 600)];
    const read = kit.read('key');
    await answer(kit, 'n1', a);
    await answer(kit, 'n2', b);
    await answer(kit, 'n2', b);
    expect(read.failure?.code).to.equal('TOO_LARGE');
    expect(kit.openReads()).to.equal(0);
    const scan = kit.scan({ limit: 10 });
    const page = { records: [a], isDone: true };
    (await kit.take('n1', 'range')).reply(page);
    (await kit.take('n2', 'range')).reply({ ...page, records: [b] });
    (await kit.take('n3', 'range')).reply(page);
    await kit.host.settle();
    expect(scan.failure?.code).to.equal('TOO_LARGE');
  });

  it('coordinator: RR-1: data from this node, an etag from one other, and the record', async () => {
    const kit = await CoordinatorKit.start();
    const read = kit.read('key');
    expect(await kit.waiting()).to.deep.equal(['n1/read', 'n2/read']);
    const digests = kit.asked.filter(isDigest).map(({ node }) => node);
    expect(digests).to.deep.equal(['n2']);
    await answer(kit, 'n2', fresh);
    expect(read.calls).to.equal(0);
    await answer(kit, 'n1', fresh);
    const at = { nowMs: wallMs, coordinator: 'n1', explanation: undefined };
    expect(read.reply).to.deep.equal({ record: fresh, ...recordEtag(fresh), ...at });
    expect(kit.openReads()).to.equal(0);
  });

  it('coordinator: requests under way are bounded, and one that ends makes room (max=3)', async () => {
    const kit = await CoordinatorKit.start({ openRequestsMax: 3 });
    const write = kit.write('w');
    kit.read('r', 'ONE');
    kit.read('s', 'ONE');
    const refused = kit.read('t', 'ONE');
    await kit.host.settle();
    expect(refused.failure?.code).to.equal('OVERLOADED');
    // The write asked first, so its local read is the first that is answered.
    (await kit.take('n1', 'read')).fail('DISK_FAILED');
    await kit.host.settle();
    expect(write.failure?.code).to.equal('UNAVAILABLE');
    const next = kit.read('t', 'ONE');
    await kit.host.settle();
    expect(next.calls).to.equal(0);
  });

  it('coordinator: level ONE asks this node alone', async () => {
    const kit = await CoordinatorKit.start();
    const read = kit.read('key', 'ONE');
    expect(await kit.waiting()).to.deep.equal(['n1/read']);
    await answer(kit, 'n1', old);
    expect(read.reply?.record).to.equal(old);
  });

  it('coordinator: suspected replicas are asked last, dead ones not at all', async () => {
    const kit = await CoordinatorKit.start();
    kit.peers({ n2: 'suspected' });
    kit.read('key');
    expect(await kit.waiting()).to.deep.equal(['n1/read', 'n3/read']);
    kit.asked = [];
    kit.peers({ n3: 'dead' });
    kit.read('key');
    expect(await kit.waiting()).to.deep.equal(['n1/read', 'n2/read']);
  });

  it('coordinator: a node that holds no copy reads from those that do', async () => {
    const members = ['n1', 'n2', 'n3', 'n4'];
    const kit = await CoordinatorKit.start({ members, replicationFactor: 1 });
    const ring = new Ring({ members, virtualNodes: 4, replicationFactor: 1 });
    const key = keyWhere((token) => ring.replicasOf(token)[0] === 'n3');
    const read = kit.read(key, 'ALL');
    expect(await kit.waiting()).to.deep.equal(['n3/read']);
    await answer(kit, 'n3');
    expect(read.reply?.record).to.equal(undefined);
  });

  it('coordinator: X-Explain: who was asked for what, who answered, and who was repaired', async () => {
    const kit = await CoordinatorKit.start();
    const read = kit.read('key', 'QUORUM', 1_000, true);
    await answer(kit, 'n1', old);
    await answer(kit, 'n2', fresh);
    await answer(kit, 'n2', fresh);
    (await kit.take('n1', 'write')).reply({ lsn: 1 });
    await kit.host.settle();
    const { coordinator, level, required, replicas, steps } = JSON.parse(
      read.reply?.explanation ?? '',
    ) as Record<string, unknown> & { steps: Record<string, unknown>[] };
    expect({ coordinator, level, required }).to.deep.equal({
      coordinator: 'n1',
      level: 'QUORUM',
      required: 2,
    });
    expect([...(replicas as string[])].sort()).to.deep.equal(['n1', 'n2', 'n3']);
    expect(steps.map(({ node, ask, etag }) => [node, ask, etag])).to.deep.equal([
      ['n1', 'read', formatEtag(recordEtag(old))],
      ['n2', 'digest', formatEtag(recordEtag(fresh))],
      ['n2', 'read', formatEtag(recordEtag(fresh))],
      ['n1', 'repair', undefined],
    ]);
    expect(steps.every(({ answeredMs }) => typeof answeredMs === 'number')).to.equal(true);
  });

  for (const [what, record] of [
    ['nothing', undefined],
    ['a tombstone', makeRecord('key', { isTombstone: true })],
    ['a value that expires at this millisecond', makeRecord('key', { expiresAt: wallMs })],
  ] as const)
    it(`coordinator: ${what} is not found (TTL-2)`, async () => {
      const kit = await CoordinatorKit.start();
      const read = kit.read('key', 'ONE');
      await answer(kit, 'n1', record);
      const etag = record === undefined ? noEtag : recordEtag(record);
      const at = { nowMs: wallMs, coordinator: 'n1', explanation: undefined };
      expect(read.reply).to.deep.equal({ record: undefined, ...etag, ...at });
    });

  it('coordinator: a value that expires a millisecond later is found', async () => {
    const kit = await CoordinatorKit.start();
    const read = kit.read('key', 'ONE');
    const record = makeRecord('key', { expiresAt: wallMs + 1 });
    await answer(kit, 'n1', record);
    expect(read.reply?.record).to.equal(record);
  });

  it('coordinator: WR-2: too few alive replicas are UNAVAILABLE before anything is asked', async () => {
    const kit = await CoordinatorKit.start();
    kit.peers({ n2: 'dead', n3: 'dead' });
    const read = kit.read('key');
    expect(await kit.waiting()).to.deep.equal([]);
    expect(read.failure?.code).to.equal('UNAVAILABLE');
    expect(read.failure?.fields).to.deep.include({ required: 2, alive: 1, level: 'QUORUM' });
    expect(kit.openReads()).to.equal(0);
  });

  it('coordinator: ID-1: TIMEOUT says how many were needed and how many answered', async () => {
    const kit = await CoordinatorKit.start();
    const read = kit.read('key', 'ALL');
    await answer(kit, 'n1', fresh);
    await answer(kit, 'n3', fresh);
    expect(kit.openReads()).to.equal(1);
    await kit.host.advance(999);
    expect(read.failure).to.deep.equal({ code: 'TIMEOUT', fields: { required: 3, received: 2 } });
    expect(kit.openReads()).to.equal(0);
  });
});

describe('coordinator: reads of a hot key', () => {
  const joinedTotal = (kit: CoordinatorKit): number | undefined =>
    kit.host.metrics.samples().find(({ name }) => name === 'kvd_coordinator_joined_reads_total')
      ?.value;

  it('coordinator: nine reads of a key ask each for itself, those after them together (above=8)', async () => {
    const kit = await CoordinatorKit.start();
    const apart = Array.from({ length: 9 }, () => kit.read('key'));
    await kit.host.settle();
    const together = Array.from({ length: 15 }, () => kit.read('key'));
    await kit.host.settle();
    const other = kit.read('another');
    await kit.host.settle();
    expect(kit.asked.filter(({ node }) => node === 'n1').length, 'reads of n1').to.equal(10);
    expect(kit.openReads()).to.equal(25);
    for (let i = 0; i < 9; i += 1) {
      await answer(kit, 'n1', old);
      await answer(kit, 'n2', old);
    }
    expect(apart.every(({ reply }) => reply?.record === old)).to.equal(true);
    expect(together.every(({ calls }) => calls === 0)).to.equal(true);
    expect(joinedTotal(kit)).to.equal(14);
    await answer(kit, 'n1');
    await answer(kit, 'n2');
    expect(other.calls).to.equal(1);
    await answer(kit, 'n1', fresh);
    await answer(kit, 'n2', fresh);
    expect(together.every(({ reply }) => reply?.record === fresh)).to.equal(true);
    expect(await kit.waiting()).to.deep.equal([]);
    expect(kit.openReads()).to.equal(0);
  });

  it('coordinator: a joined read sees a write that was acknowledged while another was in flight', async () => {
    const kit = await CoordinatorKit.start({ joinReadsAbove: 0 });
    const before = kit.read('key');
    const asked = [await kit.take('n1', 'read'), await kit.take('n2', 'read')];
    // Both replicas have answered the read when the write comes; the answers are on their way.
    const written = await kit.sentWrite('key', old);
    for (const node of ['n1', 'n2']) (await kit.take(node, 'write')).reply({ lsn: 1 });
    await kit.host.settle();
    expect(written.reply?.hlc, 'the write is acknowledged').to.be.above(20);
    const after = [kit.read('key'), kit.read('key')];
    await kit.host.settle();
    for (const each of asked) each.reply(readReply(old, isDigest(each)));
    await kit.host.settle();
    expect(before.reply?.record).to.equal(old);
    for (const { reply } of after)
      expect(reply?.record, 'a stale answer to a read that came after the write').to.equal(
        undefined,
      );
    await answer(kit, 'n1', fresh);
    await answer(kit, 'n2', fresh);
    for (const { reply } of after) expect(reply?.record).to.equal(fresh);
  });

  it('coordinator: reads that explain themselves, and other levels, are not joined', async () => {
    const kit = await CoordinatorKit.start({ joinReadsAbove: 0 });
    kit.read('key');
    kit.read('key', 'QUORUM', 1_000, true);
    kit.read('key', 'ONE');
    expect(await kit.waiting()).to.deep.equal([
      'n1/read',
      'n1/read',
      'n1/read',
      'n2/read',
      'n2/read',
    ]);
  });

  it('coordinator: each joined read has its own deadline, and hears how far the shared one came', async () => {
    const kit = await CoordinatorKit.start({ joinReadsAbove: 0 });
    kit.read('key', 'ALL', 5_000);
    const hasty = kit.read('key', 'ALL', 1_000);
    const patient = kit.read('key', 'ALL', 3_000);
    await answer(kit, 'n1', fresh);
    await answer(kit, 'n2', fresh);
    await answer(kit, 'n3', fresh);
    await answer(kit, 'n1', fresh);
    await answer(kit, 'n2', fresh);
    await kit.host.advance(949);
    expect(hasty.calls).to.equal(0);
    await kit.host.advance(1);
    const over = { code: 'TIMEOUT', fields: { required: 3, received: 2 } };
    expect(hasty.failure).to.deep.equal(over);
    expect(kit.openReads()).to.equal(1);
    await kit.host.advance(1_000);
    await answer(kit, 'n3', fresh);
    expect(patient.reply?.record).to.equal(fresh);
    expect(kit.openReads()).to.equal(0);
  });

  it('coordinator: the last of them is told TIMEOUT when the replicas never answer', async () => {
    const kit = await CoordinatorKit.start({ joinReadsAbove: 0 });
    const reads = [1_000, 2_000, 4_000].map((timeoutMs) => kit.read('key', 'ALL', timeoutMs));
    await kit.host.advance(4_000);
    for (const { failure } of reads) expect(failure?.code).to.equal('TIMEOUT');
    expect(kit.openReads()).to.equal(0);
    await kit.host.advance(4_000);
    expect(kit.host.timersOpen).to.equal(0);
  });

  it('coordinator: nobody waits behind a slow read for longer than a sweep (100 ms)', async () => {
    const kit = await CoordinatorKit.start({ joinReadsAbove: 0 });
    kit.read('key');
    const behind = kit.read('key');
    expect(await kit.waiting()).to.deep.equal(['n1/read', 'n2/read']);
    kit.asked = [];
    await kit.host.advance(100);
    expect(await kit.waiting(), 'n3: the slow one asks on').to.deep.equal([
      'n1/read',
      'n2/read',
      'n3/read',
    ]);
    await answer(kit, 'n1', fresh);
    await answer(kit, 'n2', fresh);
    expect(behind.reply?.record).to.equal(fresh);
  });

  it('coordinator: joined reads are UNAVAILABLE together when replicas have died meanwhile', async () => {
    const kit = await CoordinatorKit.start({ joinReadsAbove: 0 });
    kit.read('key');
    const joined = [kit.read('key'), kit.read('key')];
    await kit.host.settle();
    kit.peers({ n2: 'dead', n3: 'dead' });
    await answer(kit, 'n1', fresh);
    await answer(kit, 'n2', fresh);
    const fields = {
      required: 2,
      alive: 1,
      level: 'QUORUM',
      detail: '2 of 3 replicas needed, 1 alive',
    };
    for (const { failure } of joined)
      expect(failure).to.deep.equal({ code: 'UNAVAILABLE', fields });
    expect(kit.read('key').calls, 'refused at once, not put to others').to.equal(0);
    expect(kit.openReads()).to.equal(0);
  });

  it('coordinator: reads that wait for others count against what may be under way (max=3)', async () => {
    const kit = await CoordinatorKit.start({ joinReadsAbove: 0, openRequestsMax: 3 });
    for (let i = 0; i < 3; i += 1) kit.read('key');
    const refused = kit.read('key');
    await kit.host.settle();
    expect(refused.failure?.code).to.equal('OVERLOADED');
  });
});

describe('coordinator: read repair', () => {
  it('coordinator: RR-3: a quorum read answers when a quorum holds the winner, not before', async () => {
    const kit = await CoordinatorKit.start();
    const read = kit.read('key');
    await answer(kit, 'n1', old);
    await answer(kit, 'n2', fresh);
    expect(await kit.waiting(), 'RR-2: the data of n2').to.deep.equal(['n2/read']);
    await answer(kit, 'n2', fresh);
    const repair = await kit.take('n1', 'write');
    expect(hexOf((repair.body as { readonly record: Uint8Array }).record), 'RR-5').to.equal(
      hexOf(fresh),
    );
    expect(read.calls).to.equal(0);
    repair.reply({ lsn: 1 });
    await kit.host.settle();
    expect(read.reply?.record).to.equal(fresh);
  });

  it('coordinator: RR-3: a repair that fails goes to the third replica', async () => {
    const kit = await CoordinatorKit.start();
    const read = kit.read('key');
    await answer(kit, 'n1', fresh);
    await answer(kit, 'n2');
    (await kit.take('n2', 'write')).fail('DISK_FULL');
    (await kit.take('n3', 'write')).reply({ lsn: 1 });
    await kit.host.settle();
    expect(read.reply?.record).to.equal(fresh);
  });

  it('coordinator: a tombstone is repaired like any record, and is not found', async () => {
    const kit = await CoordinatorKit.start();
    const read = kit.read('key');
    await answer(kit, 'n1', makeRecord('key', { hlc: 30, isTombstone: true }));
    await answer(kit, 'n2', fresh);
    await answer(kit, 'n2', fresh);
    (await kit.take('n2', 'write')).reply({ lsn: 1 });
    await kit.host.settle();
    expect(read.reply?.record).to.equal(undefined);
  });

  it('coordinator: RR-7: a read that waits 100 ms asks the third replica', async () => {
    const kit = await CoordinatorKit.start();
    const read = kit.read('key');
    await answer(kit, 'n1', fresh);
    await kit.host.advance(99);
    expect(await kit.waiting()).to.deep.equal(['n2/read']);
    await kit.host.advance(1);
    expect(await kit.waiting()).to.deep.equal(['n2/read', 'n3/read']);
    await answer(kit, 'n3', fresh);
    expect(read.reply?.record).to.equal(fresh);
    // The answer that comes late is ignored.
    await answer(kit, 'n2', old);
    expect(await kit.waiting()).to.deep.equal([]);
    expect(read.calls).to.equal(1);
  });

  it('coordinator: RR-3: a repair that waits 100 ms goes to the third replica as well', async () => {
    const kit = await CoordinatorKit.start();
    const read = kit.read('key');
    await answer(kit, 'n1', fresh);
    await answer(kit, 'n2');
    await kit.host.advance(100);
    expect(await kit.waiting()).to.deep.equal(['n2/write', 'n3/write']);
    (await kit.take('n3', 'write')).reply({ lsn: 1 });
    await kit.host.settle();
    expect(read.reply?.record).to.equal(fresh);
  });

  it('coordinator: a replica that dies between etag and data ends a read of ALL', async () => {
    const kit = await CoordinatorKit.start();
    const read = kit.read('key', 'ALL');
    await answer(kit, 'n1', old);
    await answer(kit, 'n2', fresh);
    await answer(kit, 'n3', fresh);
    (await kit.take('n2', 'read')).fail('UNREACHABLE');
    await kit.host.settle();
    expect(read.failure).to.deep.equal({ code: 'TIMEOUT', fields: { required: 3, received: 2 } });
    expect(kit.openReads()).to.equal(0);
  });

  it('coordinator: RR-3: a repair gets the time that is left, not a time of its own', async () => {
    const kit = await CoordinatorKit.start();
    kit.read('key');
    await answer(kit, 'n1', fresh);
    await kit.host.advance(90);
    await answer(kit, 'n2');
    expect((await kit.take('n2', 'write')).leftMs).to.equal(860);
  });

  it('coordinator: no timer runs while no read is open', async () => {
    const kit = await CoordinatorKit.start();
    kit.read('key', 'ONE');
    await answer(kit, 'n1', fresh);
    await kit.host.advance(2_000);
    expect(kit.host.timersOpen).to.equal(0);
  });
});

describe('coordinator: scans', () => {
  const page = (keys: string) => ({
    records: Array.from(keys).map((key) => makeRecord(key)),
    isDone: true,
  });

  it('coordinator: a scan asks every shard of every node and answers at the level', async () => {
    const kit = await CoordinatorKit.start();
    kit.peers({}, 2);
    const scan = kit.scan();
    await kit.host.settle();
    expect(kit.asked.map(({ node, shard }) => `${node}/${shard}`).sort()).to.deep.equal([
      'n1/0',
      'n2/0',
      'n2/1',
      'n3/0',
      'n3/1',
    ]);
    (await kit.take('n1', 'range')).reply(page('ac'));
    (await kit.take('n2', 'range')).reply(page('b'));
    await kit.host.settle();
    expect(scan.calls, 'one shard of n2 is missing').to.equal(0);
    (await kit.take('n2', 'range')).reply(page('a'));
    await kit.host.settle();
    expect(scan.reply?.records.map(keyOf)).to.deep.equal(['a', 'b', 'c']);
    expect(scan.reply?.next).to.equal(undefined);
    (await kit.take('n3', 'range')).reply(page('z'));
    await kit.host.settle();
    expect(scan.calls).to.equal(1);
  });

  it('coordinator: SC-3: where a page was cut it asks on after the last key they all know', async () => {
    const kit = await CoordinatorKit.start();
    const scan = kit.scan({ limit: 3, level: 'TWO' });
    (await kit.take('n1', 'range')).reply({ ...page('a'), isDone: false });
    (await kit.take('n2', 'range')).reply(page('ab'));
    await kit.host.settle();
    // Of the first round n3 is late; the second one has begun.
    const late = await kit.take('n3', 'range');
    late.reply(page('x'));
    const again = await kit.take('n1', 'range');
    const { from, limit } = again.body as RangeRequest;
    expect(hexOf(from)).to.equal('000000016100');
    expect(limit).to.equal(3);
    again.reply(page('b'));
    (await kit.take('n2', 'range')).reply(page('b'));
    await kit.host.settle();
    expect(scan.reply?.records.map(keyOf)).to.deep.equal(['a', 'b']);
  });

  it('coordinator: SC-6: one clock decides about expiry on the whole page', async () => {
    const kit = await CoordinatorKit.start();
    const scan = kit.scan({ level: 'ONE' });
    const soon = makeRecord('b', { expiresAt: wallMs + 10 });
    (await kit.take('n1', 'range')).reply({ ...page('a'), isDone: false });
    await kit.host.settle();
    kit.wallMicros += 20_000;
    kit.asked = kit.asked.filter(({ node }) => node === 'n1');
    (await kit.take('n1', 'range')).reply({ records: [soon], isDone: true });
    await kit.host.settle();
    expect(scan.reply?.records.map(keyOf)).to.deep.equal(['a', 'b']);
    expect(scan.reply?.nowMs).to.equal(wallMs);
  });

  it('coordinator: a ring that is not covered is UNAVAILABLE before anything is asked', async () => {
    const kit = await CoordinatorKit.start();
    kit.peers({ n2: 'dead', n3: 'dead' });
    const scan = kit.scan();
    expect(await kit.waiting()).to.deep.equal([]);
    expect(scan.failure?.code).to.equal('UNAVAILABLE');
    expect(scan.failure?.fields).to.deep.include({ required: 2, alive: 1 });
  });

  it('coordinator: a scan fails when too few replicas can answer, and at its deadline', async () => {
    const kit = await CoordinatorKit.start();
    const failing = kit.scan();
    (await kit.take('n1', 'range')).reply(page('a'));
    (await kit.take('n2', 'range')).fail('UNREACHABLE');
    await kit.host.settle();
    expect(failing.calls).to.equal(0);
    (await kit.take('n3', 'range')).fail('OVERLOADED');
    await kit.host.settle();
    expect(failing.failure?.code).to.equal('TIMEOUT');
    const silent = kit.scan();
    await kit.host.advance(999);
    expect(silent.failure?.code).to.equal('TIMEOUT');
  });
});
