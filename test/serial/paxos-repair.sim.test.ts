// Paxos repair in a whole cluster: what a majority has accepted, and whose proposer is gone, is
// brought to its end although nobody touches the key again (PX-16).

import { expect } from 'chai';
import { hashKey } from '../../actors/model/token.ts';
import { storageKey } from '../../actors/model/record.ts';
import { groupOf } from '../../actors/replication/acceptor-state.ts';
import { Acceptor, PaxosRepairer } from '../../actors/replication/protocol.ts';
import { SerialHistory } from '../../actors/replication/serial-history.ts';
import { refTo } from '../../runtime/actor.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { ReplicasUnderTest } from '../sim/replicas-under-test.ts';
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

  it('paxos repair: a young round is left alone; without a majority the rest waits for the next pass', async () => {
    const replicas = new ReplicasUnderTest({ tunables: { repairIntervalMs: 0 } });
    const pass = async (): Promise<unknown> => {
      const to = refTo(PaxosRepairer, 'n1');
      const answer = await replicas.cluster.ask(to, 'run', {}, 60_000);
      return answer.kind === 'reply' ? answer.reply : answer;
    };
    await replicas.run(async () => {
      await accepted(replicas, 'key', ['n1']);
      expect(await pass()).to.deep.equal({ states: 1, finished: 0, left: 0 });
      await replicas.sleep(20);
      await replicas.down('n2');
      await replicas.down('n3');
      expect(await pass()).to.deep.equal({ states: 1, finished: 0, left: 1 });
      await replicas.up('n2');
      await replicas.sleep(5);
      expect(await pass()).to.deep.equal({ states: 1, finished: 1, left: 0 });
      expect(await pass(), 'nothing is left').to.deep.equal({ states: 1, finished: 0, left: 0 });
      expect(await replicas.read('n2', 'key')).to.equal('decided');
    });
  });
});
