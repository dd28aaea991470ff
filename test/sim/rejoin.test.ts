// A node that lost its disk, in a cluster of three that hold every key (CO-4): it counts in no quorum
// until it holds what it had acknowledged, also of what was decided.

import { expect } from 'chai';
import { storageKey } from '../../actors/model/record.ts';
import { hashKey } from '../../actors/model/token.ts';
import { Rejoiner } from '../../actors/rejoin/protocol.ts';
import {
  Acceptor,
  plainSerial,
  Proposer,
  type SerialRequest,
} from '../../actors/replication/protocol.ts';
import { Snapshotter } from '../../actors/storage/protocol.ts';
import { refTo } from '../../runtime/actor.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { ReplicasUnderTest, shown } from './replicas-under-test.ts';

const key = 'key';
const plain: SerialRequest = {
  ...plainSerial,
  namespace: 0,
  key: utf8.encode(key),
  verb: 'read',
};

async function phaseOf(replicas: ReplicasUnderTest, node: string): Promise<string> {
  const answer = await replicas.cluster.ask(refTo(Rejoiner, node), 'status', {}, 2_000);
  return answer.kind === 'reply' ? answer.reply.phase : answer.kind;
}

/** The value that a serial read finds, or the code of its failure. */
async function decided(replicas: ReplicasUnderTest, node: string): Promise<string> {
  const answer = await replicas.cluster.ask(refTo(Proposer, node), 'run', plain, 4_000);
  if (answer.kind === 'failure') return answer.failure.code;
  if (answer.kind !== 'reply') return answer.kind;
  return shown(answer.reply.record);
}

/** `reply`, or the code of the failure. */
async function snapshotOf(replicas: ReplicasUnderTest, node: string): Promise<string> {
  const answer = await replicas.cluster.ask(
    refTo(Snapshotter, node),
    'create',
    { name: 's' },
    4_000,
  );
  return answer.kind === 'failure' ? answer.failure.code : answer.kind;
}

async function votesOf(replicas: ReplicasUnderTest, node: string): Promise<unknown> {
  const at = storageKey(0, utf8.encode(key));
  const answer = await replicas.cluster.ask(
    refTo(Acceptor, node),
    'look',
    { key: at, token: hashKey(at).token, keys: [at] },
    2_000,
  );
  if (answer.kind !== 'reply') throw new Error(JSON.stringify(answer));
  const { committed, promisedWrite } = answer.reply;
  expect(committed.ballot.hlc, `what ${node} has committed`).to.be.above(0);
  return { committed, promisedWrite };
}

async function decide(replicas: ReplicasUnderTest, node: string, value: string): Promise<void> {
  const request: SerialRequest = { ...plain, verb: 'write', value: utf8.encode(value) };
  const answer = await replicas.cluster.ask(refTo(Proposer, node), 'run', request, 4_000);
  if (answer.kind !== 'reply') throw new Error(JSON.stringify(answer));
}

/** n1 and n2 have what n3 has missed; then n1 comes back with an empty disk and n2 is away. */
async function wipeFirst(replicas: ReplicasUnderTest, write: () => Promise<void>): Promise<void> {
  await replicas.down('n3');
  await write();
  await replicas.down('n1');
  replicas.cluster.machineOf('n1').storage.wipe();
  await replicas.down('n2');
  // Hints are on n1 and n2: nobody has brought anything to n3.
  await replicas.up('n3');
  await replicas.up('n1');
  await replicas.sleep(12);
}

describe('sim rejoin', () => {
  it('rejoin: new nodes are whole at once', async () => {
    const replicas = new ReplicasUnderTest();
    await replicas.run(async () => {
      for (const node of ['n1', 'n2', 'n3'])
        expect(await phaseOf(replicas, node)).to.equal('whole');
      await replicas.down('n1');
      await replicas.up('n1');
      expect(await phaseOf(replicas, 'n1'), 'after a restart').to.equal('whole');
    });
    expect(replicas.reached('node filled')).to.equal(0);
  });

  it('rejoin: a node without its disk counts in no quorum until it is filled', async () => {
    const replicas = new ReplicasUnderTest({ tunables: { hintWindowMs: 0, repairIntervalMs: 0 } });
    await replicas.run(async () => {
      await replicas.write('n2', key, 'old');
      await wipeFirst(replicas, () => replicas.write('n2', key, 'new'));
      expect(await phaseOf(replicas, 'n1')).to.not.equal('whole');
      for (const node of ['n1', 'n3'])
        expect(await replicas.read(node, key), `through ${node}`).to.equal('refused');
      expect(await snapshotOf(replicas, 'n1'), 'a snapshot without the data').to.equal('DRAINING');
      await replicas.up('n2');
      await replicas.sleep(20);
      expect(await phaseOf(replicas, 'n1')).to.equal('whole');
      expect(await snapshotOf(replicas, 'n1')).to.equal('reply');
      // Filled by what n2 had: now n1 may speak for both of them.
      await replicas.down('n2');
      expect(await replicas.read('n3', key)).to.equal('new');
      expect(await replicas.read('n1', key)).to.equal('new');
    });
    expect(replicas.reached('node filled')).to.equal(1);
  });

  it('rejoin: a vote that went with the disk is not given again before the others were asked', async () => {
    const replicas = new ReplicasUnderTest({ tunables: { hintWindowMs: 0, repairIntervalMs: 0 } });
    await replicas.run(async () => {
      await decide(replicas, 'n2', 'old');
      await wipeFirst(replicas, () => decide(replicas, 'n2', 'new'));
      for (const node of ['n1', 'n3'])
        expect(await decided(replicas, node), `through ${node}`).to.not.equal('old');
      await replicas.up('n2');
      await replicas.sleep(20);
      // Nothing was decided meanwhile: these are the votes that were given before the loss.
      expect(await votesOf(replicas, 'n1')).to.deep.equal(await votesOf(replicas, 'n2'));
      await replicas.down('n2');
      expect(await decided(replicas, 'n3')).to.equal('new');
      await decide(replicas, 'n1', 'newer');
      expect(await decided(replicas, 'n3')).to.equal('newer');
    });
  });

  it('rejoin: what is written meanwhile is there too, and a second loss is noticed again', async () => {
    const replicas = new ReplicasUnderTest();
    await replicas.run(async () => {
      for (let i = 0; i < 20; i += 1) await replicas.write('n2', `a-${i}`, 'before');
      for (let loss = 1; loss <= 2; loss += 1) {
        await replicas.down('n1');
        replicas.cluster.machineOf('n1').storage.wipe();
        await replicas.up('n1');
        for (let i = 0; i < 20; i += 1) await replicas.write('n3', `b-${i}`, `during-${loss}`);
        await replicas.sleep(25);
        expect(await phaseOf(replicas, 'n1')).to.equal('whole');
        for (let i = 0; i < 20; i += 1) {
          expect(await replicas.holds('n1', `a-${i}`)).to.equal('before');
          expect(await replicas.holds('n1', `b-${i}`)).to.equal(`during-${loss}`);
        }
        expect(replicas.reached('node filled')).to.equal(loss);
      }
    });
  });

  it('rejoin: what only it has of hints is no obstacle: it is brought to the others', async () => {
    const replicas = new ReplicasUnderTest({ tunables: { repairIntervalMs: 0 } });
    const { network } = replicas.cluster;
    await replicas.run(async () => {
      await replicas.write('n2', key, 'old');
      await replicas.down('n3');
      await replicas.down('n1');
      replicas.cluster.machineOf('n1').storage.wipe();
      await replicas.up('n1');
      network.cut('n2', 'n3', 'drop');
      network.cut('n3', 'n2', 'drop');
      // n2 keeps it for both others, and can bring it to n1 alone, which waits for n3.
      await replicas.write('n2', key, 'new', 'ONE');
      await replicas.sleep(20);
      expect(await phaseOf(replicas, 'n1')).to.not.equal('whole');
      await replicas.up('n3');
      await replicas.sleep(60);
      expect(await phaseOf(replicas, 'n1')).to.equal('whole');
      expect(await replicas.held(key)).to.deep.equal(['new', 'new', 'new']);
    });
  });
});
