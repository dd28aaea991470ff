// The acceptor alone: what it asks of its store, when it answers, and what it refuses.

import { expect } from 'chai';
import { refTo } from '../../runtime/actor.ts';
import { noBytes, utf8 } from '../../runtime/bytes.ts';
import { fingerprint32 } from '../../runtime/hash.ts';
import {
  decodeRecord,
  encodeRecord,
  noEtag,
  recordHlc,
  recordIsTombstone,
  recordKey,
  recordValue,
  storageKey,
} from '../../actors/model/record.ts';
import {
  type AcceptorState,
  decodeState,
  emptyState,
  encodeState,
  stateKeyOf,
} from '../../actors/replication/acceptor-state.ts';
import { acceptor } from '../../actors/replication/acceptor.actor.ts';
import { BallotFloors } from '../../actors/replication/ballot-floors.ts';
import { ReplicaSets } from '../../actors/model/replica-sets.ts';
import { Ring } from '../../actors/model/ring.ts';
import { Acceptor } from '../../actors/replication/protocol.ts';
import { Store } from '../../actors/storage/protocol.ts';
import { MemoryDisk } from '../kit-disk.ts';
import { type Asked, makeRecord, ReplicaKit } from '../kit-replication.ts';
import { facts, key } from './serial-world.ts';

const at = { key, token: facts.token };

const target = refTo(Acceptor, 'n1');
const stateKey = stateKeyOf(key);
const ballot = { hlc: 100, writer: 3, incarnation: 1 };
/** A stamp from a clock that was ahead. */
const farMicros = 1e12;
const record = makeRecord('key', ballot);
const proposal = { ballot, original: ballot, records: [record], history: noBytes };

async function start(shards = 1): Promise<ReplicaKit> {
  const kit = new ReplicaKit({}, [Acceptor, Store]);
  await kit.playStore();
  await kit.spawn(acceptor, { store: refTo(Store, 'n1'), shards });
  return kit;
}

const stored = (state: AcceptorState, hlc: number): Uint8Array =>
  encodeRecord({
    ...decodeRecord(makeRecord('key', { hlc })),
    key: stateKey,
    value: encodeState(state),
    hash: fingerprint32(stateKey),
  });
const recordOf = ({ body }: Asked): Uint8Array => (body as { record: Uint8Array }).record;
const keyOf = ({ body }: Asked): Uint8Array => (body as { key: Uint8Array }).key;

describe('acceptor', () => {
  it('acceptor: a promise is answered when it is stored, with what is read after that (PX-3)', async () => {
    const kit = await start();
    const promised = kit.ask(target, 'prepare', { ...at, keys: [key], ballot, isWrite: true });
    const loading = await kit.take('n1', 'read');
    const early = 'what is read before the promise is stored';
    expect(keyOf(loading), early).to.deep.equal(stateKey);
    loading.reply({ record: undefined });
    const saving = await kit.take('n1', 'apply');
    expect(kit.asked, early).to.deep.equal([]);
    expect(decodeState(recordValue(recordOf(saving))).promised).to.deep.equal(ballot);
    expect(recordHlc(recordOf(saving)), 'about the time').to.equal(kit.host.clock.wallMicros());
    saving.reply({ lsn: 1 });
    const reading = await kit.take('n1', 'read');
    expect(keyOf(reading)).to.deep.equal(key);
    expect(promised.calls).to.equal(0);
    reading.reply({ record });
    await kit.host.settle();
    expect(promised.reply).to.deep.include({ isPromised: true, records: [record] });
  });

  it('acceptor: a promise that cannot be stored is none', async () => {
    const kit = await start();
    const promised = kit.ask(target, 'prepare', { ...at, keys: [key], ballot, isWrite: true });
    (await kit.take('n1', 'read')).reply({ record: undefined });
    (await kit.take('n1', 'apply')).fail('DISK_FULL');
    await kit.host.settle();
    expect(promised.failure?.code).to.equal('DISK_FULL');
  });

  it('acceptor: an older ballot is refused with the newest that was seen, and nothing is stored', async () => {
    const kit = await start();
    const newer = { ...ballot, hlc: 200 };
    const state = { ...emptyState, promised: newer };
    const before = stored(state, 7);
    const promised = kit.ask(target, 'prepare', { ...at, keys: [key], ballot, isWrite: false });
    (await kit.take('n1', 'read')).reply({ record: before });
    const proposed = kit.ask(target, 'propose', { ...at, proposal });
    (await kit.take('n1', 'read')).reply({ record: before });
    await kit.host.settle();
    expect(promised.reply).to.deep.include({ isPromised: false, highest: newer });
    expect(proposed.reply).to.deep.equal({ isAccepted: false, highest: newer });
    expect(kit.asked).to.deep.equal([]);
  });

  it('acceptor: a proposal is accepted when it is stored, over the stamp of the state before', async () => {
    const kit = await start();
    const accepted = kit.ask(target, 'propose', { ...at, proposal });
    const before = stored({ ...emptyState, promised: ballot }, farMicros);
    (await kit.take('n1', 'read')).reply({ record: before });
    const saving = await kit.take('n1', 'apply');
    expect(recordHlc(recordOf(saving))).to.equal(farMicros + 1);
    expect(decodeState(recordValue(recordOf(saving))).accepted).to.deep.equal(proposal);
    expect(accepted.calls).to.equal(0);
    saving.reply({ lsn: 1 });
    await kit.host.settle();
    expect(accepted.reply).to.deep.include({ isAccepted: true });
  });

  it('acceptor: a commit stores the record and the mark of it at once (PX-5)', async () => {
    const kit = await start();
    const committed = kit.ask(target, 'commit', { ...at, proposal });
    const accepted = { ...emptyState, promised: ballot, accepted: proposal };
    (await kit.take('n1', 'read')).reply({ record: stored(accepted, 7) });
    const saving = await kit.take('n1', 'applyMany');
    const { records } = saving.body as { records: readonly Uint8Array[] };
    expect(records.map(recordKey)).to.deep.equal([key, stateKey]);
    const after = decodeState(recordValue(records[1] ?? noBytes));
    expect(after.committed.ballot).to.deep.equal(ballot);
    expect(after.accepted).to.equal(undefined);
    saving.reply({ lsn: 1 });
    await kit.host.settle();
    expect(committed.reply).to.deep.equal({});
  });

  it('acceptor: a commit older than the newest brings its records all the same, and no state', async () => {
    const kit = await start();
    const committed = kit.ask(target, 'commit', { ...at, proposal });
    const newer = { ...ballot, hlc: 200 };
    const newest = { ballot: newer, original: newer, keys: [], history: noBytes };
    (await kit.take('n1', 'read')).reply({
      record: stored({ ...emptyState, committed: newest }, 7),
    });
    expect(await kit.waiting(), 'a late decision wrote').to.deep.equal(['n1/applyMany']);
    const applying = await kit.take('n1', 'applyMany');
    expect(applying.body).to.deep.include({ records: [record] });
    expect(committed.calls).to.equal(0);
    applying.reply({ lsn: 1 });
    await kit.host.settle();
    expect(committed.reply).to.deep.equal({});
  });

  it('acceptor: steps of one key wait for each other, those of others do not', async () => {
    const kit = await start();
    kit.ask(target, 'prepare', { ...at, keys: [key], ballot, isWrite: true });
    kit.ask(target, 'propose', { ...at, proposal });
    const other = storageKey(1, utf8.encode('other'));
    kit.ask(target, 'prepare', { ...at, key: other, keys: [other], ballot, isWrite: true });
    expect(await kit.waiting()).to.deep.equal(['n1/read', 'n1/read']);
    (await kit.take('n1', 'read')).fail('CORRUPT');
    (await kit.take('n1', 'read')).reply({ record: undefined });
    // The first step has failed: the second one of the key has its turn.
    expect(await kit.waiting()).to.deep.equal(['n1/apply', 'n1/read']);
  });

  it('acceptor: a state that may be stored or not is stored again before the next step (PX-3, PX-4)', async () => {
    const kit = await start();
    const newer = { ...ballot, hlc: 200 };
    const promised = kit.ask(
      target,
      'prepare',
      { ...at, keys: [key], ballot: newer, isWrite: true },
      1_000,
    );
    (await kit.take('n1', 'read')).reply({ record: undefined });
    const lost = await kit.take('n1', 'apply');
    await kit.host.advance(1_500);
    expect(promised.failure?.code).to.equal('TIMEOUT');
    const accepted = kit.ask(target, 'propose', { ...at, proposal });
    expect(await kit.waiting(), 'the store has not answered').to.deep.equal([]);
    lost.fail('DISK_FAILED');
    const again = await kit.take('n1', 'apply');
    expect(decodeState(recordValue(recordOf(again))).promised).to.deep.equal(newer);
    expect(recordHlc(recordOf(again)), 'above the one in doubt').to.be.above(
      recordHlc(recordOf(lost)),
    );
    again.reply({ lsn: 2 });
    await kit.host.settle();
    expect(accepted.reply).to.deep.equal({ isAccepted: false, highest: newer });
    expect(kit.asked).to.deep.equal([]);
  });

  it('acceptor: a decision in doubt is stored again with its record', async () => {
    const kit = await start();
    kit.ask(target, 'commit', { ...at, proposal });
    (await kit.take('n1', 'read')).reply({ record: undefined });
    const doubtful = await kit.take('n1', 'applyMany');
    const [, first = noBytes] = (doubtful.body as { records: readonly Uint8Array[] }).records;
    doubtful.fail('ACTOR_RESTARTED');
    await kit.host.settle();
    const newer = { ...ballot, hlc: 200 };
    const promised = kit.ask(target, 'prepare', {
      ...at,
      keys: [key],
      ballot: newer,
      isWrite: true,
    });
    const again = await kit.take('n1', 'applyMany');
    const { records } = again.body as { records: readonly Uint8Array[] };
    const [data, second = noBytes] = records;
    expect(data).to.deep.equal(record);
    expect(recordHlc(second)).to.be.above(recordHlc(first));
    again.reply({ lsn: 2 });
    const saving = await kit.take('n1', 'apply');
    expect(recordHlc(recordOf(saving))).to.be.above(recordHlc(second));
    saving.reply({ lsn: 3 });
    (await kit.take('n1', 'read')).reply({ record });
    await kit.host.settle();
    expect(promised.reply).to.deep.include({ isPromised: true });
    expect(promised.reply?.committed.ballot).to.deep.equal(ballot);
  });

  it('acceptor: a step whose time is over when its turn comes does nothing', async () => {
    const kit = await start();
    kit.ask(target, 'prepare', { ...at, keys: [key], ballot, isWrite: true }, 1_000);
    (await kit.take('n1', 'read')).reply({ record: undefined });
    const saving = await kit.take('n1', 'apply');
    const late = kit.ask(target, 'propose', { ...at, proposal }, 1_000);
    await kit.host.advance(1_500);
    expect(late.failure?.code).to.equal('TIMEOUT');
    saving.reply({ lsn: 1 });
    expect(await kit.waiting()).to.deep.equal([]);
  });

  it('acceptor: keys of another shard and records that are none are refused', async () => {
    const kit = await start(2);
    const other = kit.ask(target, 'prepare', {
      ...at,
      token: 1,
      keys: [key],
      ballot,
      isWrite: true,
    });
    const torn = { ...proposal, records: [record.slice(0, 40)] };
    const bad = kit.ask(target, 'commit', { ...at, token: 0, proposal: torn });
    await kit.host.settle();
    expect(other.failure?.code).to.equal('WRONG_SHARD');
    expect(bad.failure?.code).to.equal('BAD_REQUEST');
    expect([kit.asked, kit.host.stops]).to.deep.equal([[], []]);
    expect(emptyState.promised).to.deep.equal(noEtag);
  });

  describe('acceptor: floors', () => {
    const sets = new ReplicaSets(
      new Ring({ members: ['n1'], virtualNodes: 4, replicationFactor: 1 }),
    );
    const floors = { sets, path: 'ballot-floors' };
    let disk: MemoryDisk;
    const withFloors = async (): Promise<ReplicaKit> => {
      disk = new MemoryDisk();
      const kit = new ReplicaKit({ disk }, [Acceptor, Store]);
      await kit.playStore();
      await kit.spawn(acceptor, { store: refTo(Store, 'n1'), shards: 1, floors });
      return kit;
    };
    const floor = { sets: [0], hlcs: [500] };

    it('acceptor: below a floor nothing is promised or accepted, also of groups without a state (PX-15)', async () => {
      const kit = await withFloors();
      const raised = kit.ask(target, 'raiseFloors', floor);
      await kit.host.settle();
      expect(raised.reply).to.deep.equal({});
      kit.ask(target, 'raiseFloors', { sets: [0, 9], hlcs: [400, 9] });
      await kit.host.settle();
      const known = kit.ask(target, 'floors', {});
      await kit.host.settle();
      expect(known.reply, 'a floor never sinks').to.deep.equal({ ...floor, isClear: true });
      const promised = kit.ask(target, 'prepare', { ...at, keys: [key], ballot, isWrite: true });
      (await kit.take('n1', 'read')).reply({ record: undefined });
      const proposed = kit.ask(target, 'propose', { ...at, proposal });
      (await kit.take('n1', 'read')).reply({ record: undefined });
      await kit.host.settle();
      const highest = { hlc: 500, writer: 0, incarnation: 0 };
      expect(promised.reply).to.deep.include({ isPromised: false, highest });
      expect(proposed.reply).to.deep.equal({ isAccepted: false, highest });
      const bytes = disk.read(floors.path) ?? noBytes;
      expect(BallotFloors.decode(bytes, floors.path, sets).bounds()).to.deep.equal(floor);
      bytes[7] = (bytes[7] ?? 0) ^ 1;
      expect(() => BallotFloors.decode(bytes, floors.path, sets)).to.throw(/checksum/);
      expect(() => BallotFloors.decode(noBytes, floors.path, sets)).to.throw(/checksum/);
    });

    it('acceptor: a floor is not answered while something below it is still being accepted', async () => {
      const kit = await withFloors();
      const accepted = kit.ask(target, 'propose', { ...at, proposal });
      (await kit.take('n1', 'read')).reply({ record: undefined });
      const saving = await kit.take('n1', 'apply');
      const raised = kit.ask(target, 'raiseFloors', floor);
      await kit.host.settle();
      const told = kit.ask(target, 'floors', {});
      await kit.host.settle();
      expect([raised.calls, told.reply?.sets], 'a pass would not see it').to.deep.equal([0, []]);
      saving.reply({ lsn: 1 });
      await kit.host.settle();
      expect([accepted.reply?.isAccepted, raised.calls]).to.deep.equal([true, 1]);
      const later = kit.ask(target, 'floors', {});
      await kit.host.settle();
      expect(later.reply?.hlcs).to.deep.equal(floor.hlcs);
    });

    it('acceptor: what is in doubt is told, until it is known', async () => {
      const kit = await withFloors();
      kit.ask(target, 'propose', { ...at, proposal });
      (await kit.take('n1', 'read')).reply({ record: undefined });
      (await kit.take('n1', 'apply')).fail('ACTOR_RESTARTED');
      await kit.host.settle();
      const doubtful = kit.ask(target, 'floors', {});
      await kit.host.settle();
      expect(doubtful.reply).to.deep.equal({ sets: [], hlcs: [], isClear: false });
      kit.ask(target, 'look', { ...at, keys: [] });
      (await kit.take('n1', 'apply')).reply({ lsn: 1 });
      await kit.host.settle();
      const known = kit.ask(target, 'floors', {});
      await kit.host.settle();
      expect(known.reply?.isClear).to.equal(true);
    });

    const forget = { keys: [key], tokens: [at.token], belows: [500] };
    const old = { ...emptyState, promised: ballot };
    const younger = { ...ballot, hlc: 600 };
    const kept: readonly (readonly [string, AcceptorState])[] = [
      ['is younger', { ...emptyState, promised: younger }],
      ['may be decided', { ...old, accepted: proposal }],
    ];
    for (const [what, state] of kept)
      it(`acceptor: a state that ${what} is not forgotten`, async () => {
        const kit = await withFloors();
        kit.ask(target, 'raiseFloors', floor);
        await kit.host.settle();
        const forgotten = kit.ask(target, 'forget', forget);
        (await kit.take('n1', 'read')).reply({ record: stored(state, 7) });
        await kit.host.settle();
        expect(forgotten.reply).to.deep.equal({ forgotten: 0 });
        expect(kit.asked).to.deep.equal([]);
      });

    it('acceptor: nothing is forgotten above the floor, whoever says so', async () => {
      const kit = await withFloors();
      const forgotten = kit.ask(target, 'forget', forget);
      (await kit.take('n1', 'read')).reply({ record: stored(old, 7) });
      await kit.host.settle();
      expect(forgotten.reply).to.deep.equal({ forgotten: 0 });
    });

    it('acceptor: a forgotten state leaves a mark above it, and the next state is above that', async () => {
      const kit = await withFloors();
      kit.ask(target, 'raiseFloors', floor);
      await kit.host.settle();
      const forgotten = kit.ask(target, 'forget', forget);
      (await kit.take('n1', 'read')).reply({ record: stored(old, farMicros) });
      const marking = await kit.take('n1', 'apply');
      const mark = recordOf(marking);
      expect(recordIsTombstone(mark)).to.equal(true);
      expect([recordKey(mark), recordHlc(mark)]).to.deep.equal([stateKey, farMicros + 1]);
      marking.reply({ lsn: 1 });
      await kit.host.settle();
      expect(forgotten.reply).to.deep.equal({ forgotten: 1 });
      kit.ask(target, 'prepare', { ...at, keys: [key], ballot: younger, isWrite: true });
      (await kit.take('n1', 'read')).reply({ record: mark });
      const saving = await kit.take('n1', 'apply');
      expect(recordHlc(recordOf(saving))).to.equal(farMicros + 2);
      expect(decodeState(recordValue(recordOf(saving))).promised).to.deep.equal(younger);
    });
  });
});
