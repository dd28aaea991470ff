// Writes through a coordinator whose replicas are played by the test: what is sent, when it is
// answered, and in which words.

import { expect } from 'chai';
import { utf8 } from '../../runtime/bytes.ts';
import { CorruptionError, KvError } from '../../runtime/errors.ts';
import { maxSkewMicros } from '../../actors/model/hlc.ts';
import { decodeRecord, type RecordFields } from '../../actors/model/record.ts';
import { Ring } from '../../actors/model/ring.ts';
import { boundLeadMicros, decodeBound, encodeBound } from '../../actors/replication/stamper.ts';
import {
  boundPath,
  CoordinatorKit,
  keyWhere,
  tokenOf,
  wallMicros,
  wallMs,
} from '../kit-coordinator.ts';
import { MemoryDisk } from '../kit-disk.ts';
import { type Asked, hexOf, makeRecord, readReply } from '../kit-replication.ts';

const lsn = { lsn: 1 };
const recordOf = (asked: Asked): Uint8Array =>
  (asked.body as { readonly record: Uint8Array }).record;

/** The records that wait to be written, by replica, decoded. */
async function sent(kit: CoordinatorKit): Promise<[string, RecordFields][]> {
  await kit.host.settle();
  return kit.asked
    .filter(({ name }) => name === 'write')
    .map((asked) => [asked.node, decodeRecord(recordOf(asked))]);
}

async function sentOne(kit: CoordinatorKit): Promise<RecordFields> {
  const [first] = await sent(kit);
  if (first === undefined) throw new Error('nothing was sent');
  return first[1];
}

/** A disk whose replaces wait for the test. */
class SlowDisk extends MemoryDisk {
  /** Ends the replace that was asked for last, well or with an error. */
  finish: (error?: Error) => void = () => undefined;

  override readonly replace = (path: string, bytes: Uint8Array): Promise<void> =>
    new Promise((resolve, reject) => {
      this.finish = (error) => {
        if (error !== undefined) return reject(error);
        this.put(path, bytes);
        resolve();
      };
    });
}

describe('coordinator: acknowledging writes', () => {
  it('coordinator: PX-18: a plain write that meets a serial record is not sent, and has no effect', async () => {
    const kit = await CoordinatorKit.start();
    const written = kit.write('key');
    const isSerial = makeRecord('key', { isSerial: true });
    (await kit.take('n1', 'read')).reply(readReply(isSerial));
    await kit.host.settle();
    expect(written.failure?.code).to.equal('SERIAL_KEY');
    expect(kit.asked).to.deep.equal([]);
  });

  for (const [level, acks] of [
    ['ONE', 1],
    ['TWO', 2],
    ['QUORUM', 2],
    ['THREE', 3],
    ['ALL', 3],
  ] as const)
    it(`coordinator: WR-4: a write goes to all replicas and is answered at its acks (level=${level}, acks=${acks})`, async () => {
      const kit = await CoordinatorKit.start();
      const written = await kit.sentWrite('key', undefined, { level });
      expect(await kit.waiting()).to.deep.equal(['n1/write', 'n2/write', 'n3/write']);
      const nodes = ['n3', 'n1', 'n2'];
      for (const [i, node] of nodes.entries()) {
        expect(written.calls).to.equal(i < acks ? 0 : 1);
        (await kit.take(node, 'write')).reply(lsn);
        await kit.host.settle();
      }
      expect(written.calls).to.equal(1);
      expect(written.reply).to.deep.equal({
        version: 1,
        hlc: wallMicros,
        writer: 41,
        incarnation: 42,
        expiresAt: 0,
        explanation: undefined,
        existed: false,
        coordinator: 'n1',
      });
    });

  it('coordinator: every replica is sent the same bytes', async () => {
    const kit = await CoordinatorKit.start();
    await kit.sentWrite('key');
    const bytes = kit.asked.map((asked) => hexOf(recordOf(asked)));
    expect(bytes.length).to.equal(3);
    expect(new Set(bytes).size).to.equal(1);
  });

  it('coordinator: a dead replica is sent nothing, a suspected one is', async () => {
    const kit = await CoordinatorKit.start();
    kit.peers({ n2: 'dead', n3: 'suspected' });
    await kit.sentWrite('key');
    expect(await kit.waiting()).to.deep.equal(['n1/write', 'n3/write']);
  });

  it('coordinator: the record goes to the shard that owns its token, of each node', async () => {
    const kit = await CoordinatorKit.start({ shards: 2 });
    kit.peers({}, 3);
    const key = keyWhere((token) => token % 2 === 0 && token % 3 === 2);
    await kit.sentWrite(key);
    expect(kit.asked.map(({ node, shard }) => `${node}/${shard}`).sort()).to.deep.equal([
      'n1/0',
      'n2/2',
      'n3/2',
    ]);
  });
});

describe('coordinator: writes that fail', () => {
  for (const [level, dead, alive, required] of [
    ['QUORUM', ['n2', 'n3'], 1, 2],
    ['ALL', ['n3'], 2, 3],
    ['TWO', ['n2', 'n3'], 1, 2],
  ] as const)
    it(`coordinator: WR-2: UNAVAILABLE before anything is sent (level=${level}, alive=${alive})`, async () => {
      const kit = await CoordinatorKit.start();
      kit.peers(Object.fromEntries(dead.map((node) => [node, 'dead'])));
      const written = kit.write('key', { level });
      expect(await kit.waiting()).to.deep.equal([]);
      expect(written.failure?.code).to.equal('UNAVAILABLE');
      expect(written.failure?.fields).to.deep.include({ required, alive, level });
    });

  it('coordinator: THREE of two replicas is unavailable even when both are alive', async () => {
    const kit = await CoordinatorKit.start({ members: ['n1', 'n2'] });
    const written = kit.write('key', { level: 'THREE' });
    expect(await kit.waiting()).to.deep.equal([]);
    expect(written.failure?.fields).to.deep.include({ required: 3, alive: 2 });
  });

  it('coordinator: no other node is alive before the failure detector has spoken', async () => {
    const kit = await CoordinatorKit.start({ knowsPeers: false });
    const quorum = kit.write('key');
    expect(await kit.waiting()).to.deep.equal([]);
    expect(quorum.failure?.fields).to.deep.include({ required: 2, alive: 1 });
    kit.write('key', { level: 'ONE' });
    expect(await kit.waiting(), 'this node knows of itself').to.deep.equal(['n1/read']);
  });

  it('coordinator: ID-1: TIMEOUT says how many were needed and how many came', async () => {
    const kit = await CoordinatorKit.start();
    const written = await kit.sentWrite('key', undefined, { level: 'ALL' });
    (await kit.take('n2', 'write')).reply(lsn);
    await kit.host.advance(999);
    expect(written.failure).to.deep.equal({
      code: 'TIMEOUT',
      fields: { required: 3, received: 1 },
    });
  });

  it('coordinator: ID-1: where every replica refuses, the client hears the refusal', async () => {
    const kit = await CoordinatorKit.start();
    const written = await kit.sentWrite('key');
    for (const node of ['n1', 'n2', 'n3']) (await kit.take(node, 'write')).fail('DISK_FULL');
    await kit.host.settle();
    expect(written.failure?.code).to.equal('DISK_FULL');
  });

  for (const [problem, expected] of [
    ['OVERLOADED', 'OVERLOADED'],
    ['CORRUPT', 'CORRUPT'],
    ['DISK_FAILED', 'UNAVAILABLE'],
    ['TIMEOUT', 'UNAVAILABLE'],
  ] as const)
    it(`coordinator: ID-1: before anything is sent no effect is unknown (local=${problem})`, async () => {
      const kit = await CoordinatorKit.start();
      const written = kit.write('key');
      (await kit.take('n1', 'read')).fail(problem);
      expect(await kit.waiting()).to.deep.equal([]);
      expect(written.failure?.code).to.equal(expected);
    });

  it('coordinator: a key of other nodes is refused, nothing is asked', async () => {
    const members = ['n1', 'n2', 'n3', 'n4'];
    const kit = await CoordinatorKit.start({ members, replicationFactor: 1 });
    const ring = new Ring({ members, virtualNodes: 4, replicationFactor: 1 });
    const key = keyWhere((token) => !ring.replicasOf(token).includes('n1'));
    const written = kit.write(key, { level: 'ONE' });
    expect(await kit.waiting()).to.deep.equal([]);
    expect(written.failure?.code).to.equal('UNAVAILABLE');
  });

  it('coordinator: a key of another shard is refused: two stampers could stamp it alike', async () => {
    const kit = await CoordinatorKit.start({ shards: 2 });
    const written = kit.write(keyWhere((token) => token % 2 === 1));
    expect(await kit.waiting()).to.deep.equal([]);
    expect(written.failure?.code).to.equal('UNAVAILABLE');
  });

  it('coordinator: X-Explain: a write says who had it when it was acknowledged', async () => {
    const kit = await CoordinatorKit.start();
    const written = await kit.sentWrite('key', undefined, { explain: true });
    (await kit.take('n1', 'write')).reply(lsn);
    (await kit.take('n2', 'write')).fail('OVERLOADED');
    (await kit.take('n3', 'write')).reply(lsn);
    await kit.host.settle();
    const { steps } = JSON.parse(written.reply?.explanation ?? '') as {
      steps: { node: string; ask: string; failed?: string }[];
    };
    expect(steps.map(({ node, ask, failed }) => [node, ask, failed])).to.deep.equal([
      ['n1', 'write', undefined],
      ['n2', 'write', 'OVERLOADED'],
      ['n3', 'write', undefined],
    ]);
  });

  for (const [level, code] of [
    ['SERIAL', 'BAD_REQUEST'],
    ['MOST', 'BAD_REQUEST'],
  ] as const)
    it(`coordinator: a level that is not served is refused by name (level=${level})`, async () => {
      const kit = await CoordinatorKit.start();
      const outcomes = [kit.write('key', { level }), kit.read('key', level), kit.scan({ level })];
      expect(await kit.waiting()).to.deep.equal([]);
      for (const outcome of outcomes) expect(outcome.failure?.code).to.equal(code);
    });
});

describe('coordinator: level ANY', () => {
  const setup = { replicationFactor: 2, hasHints: true };
  const ring = new Ring({ members: ['n1', 'n2', 'n3'], virtualNodes: 4, replicationFactor: 2 });
  const elsewhere = keyWhere((token) => !ring.replicasOf(token).includes('n1'));
  const here = keyWhere((token) => ring.replicasOf(token)[0] === 'n1');

  it('coordinator: ANY: where it holds no copy, a hint that is on disk acknowledges', async () => {
    const kit = await CoordinatorKit.start(setup);
    const written = kit.write(elsewhere, { level: 'ANY', explain: true });
    await kit.host.settle();
    expect(kit.asked.map(({ name }) => name)).to.deep.equal(['keepSynced', 'keepSynced']);
    const nodes = kit.asked.map(({ body }) => (body as { readonly node: string }).node);
    expect(nodes).to.have.members(['n2', 'n3']);
    (await kit.take('keeper', 'keepSynced')).fail('UNAVAILABLE');
    await kit.host.settle();
    expect(written.calls).to.equal(0);
    (await kit.take('keeper', 'keepSynced')).reply({});
    await kit.host.settle();
    expect(written.reply?.version).to.equal(1);
    expect(written.reply?.explanation).to.contain('"ask":"hint"');
  });

  it('coordinator: ANY: with no hint on disk it has failed, or nobody knows', async () => {
    for (const [codes, expected] of [
      [['UNAVAILABLE', 'UNAVAILABLE'], 'UNAVAILABLE'],
      [['UNAVAILABLE', 'TIMEOUT'], 'TIMEOUT'],
    ] as const) {
      const kit = await CoordinatorKit.start(setup);
      const written = kit.write(elsewhere, { level: 'ANY' });
      for (const code of codes) (await kit.take('keeper', 'keepSynced')).fail(code);
      await kit.host.settle();
      expect(written.failure?.code).to.equal(expected);
    }
  });

  it('coordinator: ANY: a replica writes as at ONE, and everything else needs a replica', async () => {
    const kit = await CoordinatorKit.start(setup);
    const written = await kit.sentWrite(here, undefined, { level: 'ANY' });
    (await kit.take('n1', 'write')).reply(lsn);
    await kit.host.settle();
    expect(written.reply?.version).to.equal(1);
    const refused = kit.write(elsewhere, { level: 'ONE' });
    const found = kit.read(elsewhere, 'ANY');
    await kit.host.settle();
    expect(refused.failure?.code).to.equal('UNAVAILABLE');
    kit.asked.find(({ name }) => name === 'read')?.reply(readReply(undefined));
    await kit.host.settle();
    expect(found.reply).to.include({ record: undefined, hlc: 0 });
  });
});

describe('coordinator: what a write becomes', () => {
  it('coordinator: the record has the fields of the request, the next version, a stamp', async () => {
    const kit = await CoordinatorKit.start();
    const before = makeRecord('key', { version: 6, hlc: wallMicros - 5 });
    const written = await kit.sentWrite('key', before, {
      value: utf8.encode('{"a":1}'),
      valueType: 1,
    });
    const fields = await sentOne(kit);
    expect(utf8.decode(fields.value)).to.equal('{"a":1}');
    expect(fields).to.deep.include({
      valueType: 1,
      isTombstone: false,
      version: 7,
      hlc: wallMicros,
      writer: 41,
      incarnation: 42,
      expiresAt: 0,
      token: tokenOf('key'),
    });
    (await kit.take('n1', 'write')).reply(lsn);
    (await kit.take('n2', 'write')).reply(lsn);
    await kit.host.settle();
    expect(written.reply).to.deep.include({ version: 7, hlc: wallMicros, existed: true });
  });

  it('coordinator: TTL-1: a time to live becomes one absolute expiry', async () => {
    const kit = await CoordinatorKit.start();
    kit.wallMicros += 999;
    await kit.sentWrite('key', undefined, { ttlMs: 5_000 });
    const expiries = (await sent(kit)).map(([, { expiresAt }]) => expiresAt);
    expect(expiries).to.deep.equal([wallMs + 5_000, wallMs + 5_000, wallMs + 5_000]);
  });

  it('coordinator: a delete is a tombstone with the next version and no value', async () => {
    const kit = await CoordinatorKit.start();
    await kit.sentWrite('key', makeRecord('key', { version: 3 }), {
      value: undefined,
      valueType: 1,
    });
    const fields = await sentOne(kit);
    expect(fields).to.deep.include({ isTombstone: true, version: 4, valueType: 0, expiresAt: 0 });
    expect(fields.value.length).to.equal(0);
  });

  for (const [what, before] of [
    ['a tombstone', { isTombstone: true, version: 9 }],
    ['an expired value', { expiresAt: wallMs, version: 9 }],
  ] as const)
    it(`coordinator: ${what} counts for the version but did not exist`, async () => {
      const kit = await CoordinatorKit.start();
      const written = await kit.sentWrite('key', makeRecord('key', before), { level: 'ONE' });
      (await kit.take('n1', 'write')).reply(lsn);
      await kit.host.settle();
      expect(written.reply).to.deep.include({ version: 10, existed: false });
    });

  it('coordinator: the stamp lies above that of the record it saw, with the wall behind it', async () => {
    const kit = await CoordinatorKit.start();
    const hlc = wallMicros + 300_000;
    await kit.sentWrite('key', makeRecord('key', { hlc }));
    expect((await sentOne(kit)).hlc).to.equal(hlc + 1);
  });

  it('coordinator: two writes that saw the same record get different stamps', async () => {
    const kit = await CoordinatorKit.start();
    const before = makeRecord('key', { hlc: wallMicros + 300_000 });
    kit.write('key', { value: utf8.encode('a') });
    kit.write('key', { value: utf8.encode('b') });
    (await kit.take('n1', 'read')).reply(readReply(before));
    (await kit.take('n1', 'read')).reply(readReply(before));
    const stamps = (await sent(kit)).map(([, { hlc }]) => hlc - wallMicros - 300_000);
    expect(stamps).to.deep.equal([1, 1, 1, 2, 2, 2]);
  });

  it('coordinator: HLC-5: a record from the far future is not overwritten, nothing is sent', async () => {
    const kit = await CoordinatorKit.start();
    const stored = wallMicros + maxSkewMicros;
    const written = await kit.sentWrite('key', makeRecord('key', { hlc: stored }));
    expect(await kit.waiting()).to.deep.equal([]);
    expect(written.failure?.code).to.equal('FUTURE_VERSION');
    expect(written.failure?.fields).to.deep.include({ stored, wallMicros });
    await kit.sentWrite('other');
    expect((await sentOne(kit)).hlc, 'and moves no clock').to.equal(wallMicros);
  });
});

describe('coordinator: the bound of the clock (HLC-3)', () => {
  it('coordinator: nothing is stamped before its bound is on the disk', async () => {
    const disk = new SlowDisk();
    const kit = await CoordinatorKit.start({ disk });
    const written = await kit.sentWrite('key');
    expect(await kit.waiting()).to.deep.equal([]);
    expect(written.calls).to.equal(0);
    disk.finish();
    const { hlc } = await sentOne(kit);
    expect(decodeBound(disk.read(boundPath) ?? new Uint8Array(0), boundPath)).to.equal(
      wallMicros + boundLeadMicros,
    );
    expect(hlc).to.equal(wallMicros);
  });

  it('coordinator: while the bound still reaches far enough nobody waits for the next one', async () => {
    const disk = new SlowDisk();
    const kit = await CoordinatorKit.start({ disk });
    await kit.sentWrite('key');
    disk.finish();
    await kit.host.settle();
    kit.asked = [];
    kit.wallMicros += boundLeadMicros / 2 + 1;
    await kit.sentWrite('key');
    expect(await kit.waiting()).to.deep.equal(['n1/write', 'n2/write', 'n3/write']);
    kit.asked = [];
    // The disk is still busy with the next bound, and the clock has passed the old one.
    kit.wallMicros += boundLeadMicros / 2;
    await kit.sentWrite('key');
    expect(await kit.waiting()).to.deep.equal([]);
  });

  it('coordinator: a bound that is stale when it reaches the disk is extended again', async () => {
    const disk = new SlowDisk();
    const kit = await CoordinatorKit.start({ disk });
    await kit.sentWrite('key');
    kit.wallMicros += 60_000_000;
    disk.finish();
    expect(await kit.waiting(), 'the first bound is behind the clock').to.deep.equal([]);
    disk.finish();
    expect((await sentOne(kit)).hlc).to.equal(wallMicros + 60_000_000);
  });

  it('coordinator: a full disk fails the writes that wait; the next one tries again', async () => {
    const disk = new SlowDisk();
    const kit = await CoordinatorKit.start({ disk });
    const first = await kit.sentWrite('key');
    disk.finish(new KvError('DISK_FULL'));
    await kit.host.settle();
    expect(first.failure?.code).to.equal('DISK_FULL');
    const second = await kit.sentWrite('key');
    disk.finish(new KvError('DISK_FAILED'));
    await kit.host.settle();
    expect(second.failure?.code, 'nothing was sent: no unknown effect').to.equal('UNAVAILABLE');
    await kit.sentWrite('key');
    disk.finish();
    expect((await sent(kit)).length).to.equal(3);
    expect(kit.host.stops).to.deep.equal([]);
  });

  it('coordinator: a write that waited too long for the bound is not sent any more (WR-6)', async () => {
    const disk = new SlowDisk();
    const kit = await CoordinatorKit.start({ disk });
    const written = await kit.sentWrite('key');
    await kit.host.advance(960);
    disk.finish();
    expect(await kit.waiting()).to.deep.equal([]);
    expect(written.failure?.code).to.equal('UNAVAILABLE');
  });

  it('coordinator: after a restart stamps go on above the bound, with the clock set back', async () => {
    const disk = new MemoryDisk();
    disk.put(boundPath, encodeBound(wallMicros + 7));
    const kit = await CoordinatorKit.start({ disk });
    kit.wallMicros -= 3_600_000_000;
    await kit.sentWrite('key');
    expect((await sentOne(kit)).hlc).to.equal(wallMicros + 8);
  });

  it('coordinator: with a damaged bound it does not start', async () => {
    const disk = new MemoryDisk();
    disk.put(boundPath, encodeBound(wallMicros).fill(1, 3, 4));
    let problem: unknown;
    await CoordinatorKit.start({ disk }).catch((error: unknown) => {
      problem = error;
    });
    expect(problem).to.be.instanceOf(CorruptionError);
  });
});

describe('coordinator: the time of a write', () => {
  it('coordinator: the replicas answer a little before the caller gives up', async () => {
    const kit = await CoordinatorKit.start();
    kit.write('long', {}, 5_000);
    const asked = await kit.take('n1', 'read');
    expect(asked.leftMs).to.equal(4_950);
    kit.write('short', {}, 100);
    expect((await kit.take('n1', 'read')).leftMs).to.equal(90);
  });

  it('coordinator: what the local read took is no longer there for the replicas', async () => {
    const kit = await CoordinatorKit.start();
    kit.write('key');
    const asked = await kit.take('n1', 'read');
    await kit.host.advance(600);
    asked.reply(readReply(undefined));
    await kit.host.settle();
    expect(kit.asked.map(({ leftMs }) => leftMs)).to.deep.equal([350, 350, 350]);
  });
});
