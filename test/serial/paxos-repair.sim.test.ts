// Paxos repair in a whole cluster: what a majority has accepted, and whose proposer is gone, is
// brought to its end although nobody touches the key again (PX-16).

import { expect } from 'chai';
import { hashKey } from '../../actors/model/token.ts';
import { storageKey } from '../../actors/model/record.ts';
import { groupOf } from '../../actors/replication/acceptor-state.ts';
import {
  Acceptor,
  PaxosRepairer,
  plainSerial,
  Proposer,
} from '../../actors/replication/protocol.ts';
import { SerialHistory } from '../../actors/replication/serial-history.ts';
import { refTo } from '../../runtime/actor.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { ReplicasUnderTest, shown } from '../sim/replicas-under-test.ts';
import { makeRecord } from '../storage/records-under-test.ts';

const nodes = ['n1', 'n2', 'n3'];

/** As if a proposer had died after `who` had accepted what it proposed. */
async function accepted(
  replicas: ReplicasUnderTest,
  key: string,
  who: readonly string[],
): Promise<void> {
  const stored = storageKey(0, utf8.encode(key));
  const { token, hash } = hashKey(stored);
  const hlc = Math.floor(replicas.cluster.clockOf('n1').wallMicros());
  const ballot = { hlc, writer: 7, incarnation: 1 };
  const record = makeRecord(key, { ...ballot, namespace: 0, value: 'decided', token, hash });
  const history = new SerialHistory().with(ballot, []).encode();
  const proposal = { ballot, original: ballot, records: [record], history };
  for (const node of who) {
    const body = { key: groupOf(stored), token, proposal };
    const answer = await replicas.cluster.ask(refTo(Acceptor, node), 'propose', body, 2_000);
    expect(answer.kind === 'reply' && answer.reply.isAccepted, node).to.equal(true);
  }
}

async function open(replicas: ReplicasUnderTest, key: string): Promise<string[]> {
  const stored = storageKey(0, utf8.encode(key));
  const { token } = hashKey(stored);
  const body = { key: groupOf(stored), token, keys: [stored] };
  const found: string[] = [];
  for (const node of nodes) {
    const answer = await replicas.cluster.ask(refTo(Acceptor, node), 'look', body, 2_000);
    if (answer.kind !== 'reply') throw new Error(JSON.stringify(answer));
    if (answer.reply.accepted !== undefined) found.push(node);
  }
  return found;
}

describe('paxos repair', () => {
  for (const key of ['key', 'key-{tag}'])
    it(`paxos repair: what a majority has accepted is committed, without any operation (${key})`, async () => {
      const replicas = new ReplicasUnderTest({ tunables: { repairIntervalMs: 20_000 } });
      await replicas.run(async () => {
        await accepted(replicas, key, ['n1', 'n2']);
        expect(await replicas.held(key)).to.deep.equal(['nothing', 'nothing', 'nothing']);
        await replicas.sleep(60);
        expect(await open(replicas, key), 'nobody has finished it').to.deep.equal([]);
        expect(await replicas.held(key)).to.deep.equal(['decided', 'decided', 'decided']);
      });
      expect(replicas.reached('open updates ended by repair')).to.be.above(0);
    });

  it('paxos repair: where nothing runs by itself it comes with a repair that was asked for', async () => {
    const replicas = new ReplicasUnderTest({ tunables: { repairIntervalMs: 0 } });
    await replicas.run(async () => {
      await accepted(replicas, 'key', ['n1', 'n2']);
      await replicas.sleep(60);
      expect(await open(replicas, 'key')).to.deep.equal(['n1', 'n2']);
      await replicas.repair('n3');
      await replicas.sleep(5);
      expect(await open(replicas, 'key')).to.deep.equal([]);
      expect(await replicas.held('key')).to.deep.equal(['decided', 'decided', 'decided']);
    });
  });

  it('paxos repair: a young round is left alone; without a majority the rest waits for the next pass', async () => {
    const replicas = new ReplicasUnderTest({ tunables: { repairIntervalMs: 0 } });
    const pass = async (): Promise<unknown> => {
      const to = refTo(PaxosRepairer, 'n1');
      const answer = await replicas.cluster.ask(to, 'run', {}, 60_000);
      return answer.kind === 'reply' ? answer.reply : answer;
    };
    await replicas.run(async () => {
      await accepted(replicas, 'key', ['n1']);
      expect(await pass()).to.deep.equal({ states: 1, finished: 0, left: 0, forgotten: 0 });
      await replicas.sleep(20);
      await replicas.down('n2');
      await replicas.down('n3');
      expect(await pass()).to.deep.equal({ states: 1, finished: 0, left: 1, forgotten: 0 });
      await replicas.up('n2');
      await replicas.sleep(5);
      expect(await pass()).to.deep.equal({ states: 1, finished: 1, left: 0, forgotten: 0 });
      expect(await pass(), 'nothing is left').to.deep.equal({
        states: 1,
        finished: 0,
        left: 0,
        forgotten: 0,
      });
      expect(await replicas.read('n2', 'key')).to.equal('decided');
    });
  });
});

/** Number of states that a node keeps. */
async function statesOf(replicas: ReplicasUnderTest, node: string): Promise<number> {
  const answer = await replicas.cluster.ask(refTo(PaxosRepairer, node), 'run', {}, 60_000);
  if (answer.kind !== 'reply') throw new Error(JSON.stringify(answer));
  return answer.reply.states;
}

async function allStates(replicas: ReplicasUnderTest): Promise<number[]> {
  const found: number[] = [];
  for (const node of nodes) found.push(await statesOf(replicas, node));
  return found;
}

/** What a counter is after it was raised by one; `at` n1. */
async function increment(replicas: ReplicasUnderTest, key: string): Promise<number | undefined> {
  const at = { ...plainSerial, namespace: 0, key: utf8.encode(key) };
  const request = { ...at, verb: 'increment', delta: 1 } as const;
  const answer = await replicas.cluster.ask(refTo(Proposer, 'n1'), 'run', request, 5_000);
  if (answer.kind !== 'reply') throw new Error(JSON.stringify(answer));
  return answer.reply.number;
}

describe('paxos repair: what is forgotten', function () {
  this.timeout(60_000);
  const keptMs = 20_000;
  const forgets = { tunables: { repairIntervalMs: 5_000, serialKeptMs: keptMs } };
  /** Long after a state could be forgotten. */
  const longSeconds = 60;

  it('paxos repair: states are forgotten when all members have settled, and their keys go on (PX-15)', async () => {
    const replicas = new ReplicasUnderTest(forgets);
    await replicas.run(async () => {
      const hlc = Math.floor(replicas.cluster.clockOf('n1').wallMicros());
      for (const key of ['a', 'b', 'c-{t}', 'd-{t}'])
        expect(await increment(replicas, key)).to.equal(1);
      await replicas.sleep(2);
      expect(await allStates(replicas)).to.deep.equal([3, 3, 3]);
      await replicas.sleep(longSeconds);
      expect(await allStates(replicas)).to.deep.equal([0, 0, 0]);
      const stored = storageKey(0, utf8.encode('a'));
      const { token } = hashKey(stored);
      const ballot = { hlc, writer: 7, incarnation: 1 };
      const at = { key: groupOf(stored), token };
      for (const node of nodes) {
        const body = { ...at, keys: [stored], ballot, isWrite: true };
        const promised = await replicas.cluster.ask(refTo(Acceptor, node), 'prepare', body, 2_000);
        expect(promised.kind === 'reply' && promised.reply.isPromised, 'an old ballot').to.equal(
          false,
        );
      }
      expect(await increment(replicas, 'a')).to.equal(2);
      expect(await increment(replicas, 'd-{t}')).to.equal(2);
    });
    expect(replicas.reached('serial state forgotten')).to.equal(9);
  });

  it('paxos repair: floors hold after a restart, and on a node that has lost its disk', async () => {
    const replicas = new ReplicasUnderTest(forgets);
    await replicas.run(async () => {
      const hlc = Math.floor(replicas.cluster.clockOf('n1').wallMicros());
      await increment(replicas, 'key');
      await replicas.sleep(longSeconds);
      const stored = storageKey(0, utf8.encode('key'));
      const { token } = hashKey(stored);
      const ballot = { hlc, writer: 7, incarnation: 1 };
      const record = makeRecord('key', { ...ballot, namespace: 0, value: 'old', token });
      const history = new SerialHistory().with(ballot, []).encode();
      const proposal = { ballot, original: ballot, records: [record], history };
      const body = { key: groupOf(stored), token, proposal };
      const accepts = async (node: string): Promise<unknown> => {
        const answer = await replicas.cluster.ask(refTo(Acceptor, node), 'propose', body, 2_000);
        return answer.kind === 'reply' ? answer.reply.isAccepted : answer;
      };
      await replicas.down('n2');
      await replicas.up('n2');
      await replicas.down('n3');
      replicas.cluster.machineOf('n3').storage.wipe();
      await replicas.up('n3');
      await replicas.sleep(30);
      expect(await accepts('n2')).to.equal(false);
      expect(await accepts('n3')).to.equal(false);
    });
  });

  it('paxos repair: while something older is open, nothing is forgotten', async () => {
    // Passes take every round for young, and leave it alone.
    const tunables = { ...forgets.tunables, writeTimeoutMs: 600_000 };
    const replicas = new ReplicasUnderTest({ tunables });
    await replicas.run(async () => {
      expect(await increment(replicas, 'key')).to.equal(1);
      await accepted(replicas, 'open', ['n1', 'n2']);
      await replicas.sleep(longSeconds);
      expect(await allStates(replicas), 'states beside an open update').to.deep.equal([2, 2, 1]);
      expect(await replicas.held('open')).to.deep.equal(['nothing', 'nothing', 'nothing']);
      const at = { ...plainSerial, namespace: 0, key: utf8.encode('open') };
      const read = await replicas.cluster.ask(
        refTo(Proposer, 'n3'),
        'run',
        { ...at, verb: 'read' },
        5_000,
      );
      expect(read.kind === 'reply' && shown(read.reply.record)).to.equal('decided');
      await replicas.sleep(longSeconds);
      expect(await allStates(replicas)).to.deep.equal([0, 0, 0]);
      expect(await replicas.held('open')).to.deep.equal(['decided', 'decided', 'decided']);
    });
  });

  it('paxos repair: while a member is away nothing is forgotten', async () => {
    const replicas = new ReplicasUnderTest(forgets);
    await replicas.run(async () => {
      await increment(replicas, 'key');
      await replicas.sleep(2);
      await replicas.down('n3');
      await replicas.sleep(longSeconds);
      expect(await statesOf(replicas, 'n1')).to.equal(1);
      await replicas.up('n3');
      await replicas.sleep(longSeconds);
      expect(await allStates(replicas)).to.deep.equal([0, 0, 0]);
    });
  });
});
