// The proposer with acceptors that the test plays: what it merges, what it refuses, and how it
// answers each of the operations of a round.

import { expect } from 'chai';
import { refTo } from '../../runtime/actor.ts';
import { utf8 } from '../../runtime/bytes.ts';
import type { ReplyOf } from '../../runtime/protocol.ts';
import { noEtag } from '../../actors/model/record.ts';
import { lastWriteWins } from '../../actors/model/resolve.ts';
import { Ring } from '../../actors/model/ring.ts';
import { emptyState } from '../../actors/replication/acceptor-state.ts';
import { proposer } from '../../actors/replication/proposer.actor.ts';
import { Acceptor, Proposer, type SerialRequest } from '../../actors/replication/protocol.ts';
import { ReplicaKit } from '../kit-replication.ts';
import { requestOf } from './serial-world.ts';

const members = ['n1', 'n2', 'n3'];
const target = refTo(Proposer, 'n1');
const increment = (delta: number): SerialRequest => requestOf({ verb: 'increment', delta });

interface Setup {
  readonly operationsPerRound?: number;
  readonly waitingMax?: number;
  readonly shards?: number;
}

/** Node n1 proposes; n2 and n3 vote as the test says, n1's own acceptor is not there. */
async function start({
  operationsPerRound = 8,
  waitingMax = 100,
  shards = 1,
}: Setup = {}): Promise<ReplicaKit> {
  const kit = new ReplicaKit({}, [Acceptor, Proposer]);
  kit.host.clock.wallMicros = () => 1_700_000_000_000_000;
  kit.playPeer('n2');
  kit.playPeer('n3');
  await kit.spawn(proposer, {
    ring: new Ring({ members, virtualNodes: 4, replicationFactor: 3 }),
    resolve: lastWriteWins,
    writer: 41,
    incarnation: 2,
    shards,
    operationsPerRound,
    valueBytesMax: 1_000,
    sparesAfterMs: 100,
    waitingMax,
  });
  const peers = members.map((node) => ({ node, condition: 'alive' as const, phi: 0, shards }));
  kit.kernel.tell(target, 'peersChanged', { peers });
  return kit;
}

interface Explained {
  readonly replicas: readonly string[];
  readonly operations: number;
  readonly steps: readonly {
    readonly node: string;
    readonly ask: string;
    readonly failed?: string;
    readonly isOvertaken?: boolean;
  }[];
}

const promised: ReplyOf<Acceptor['prepare']> = {
  isPromised: true,
  highest: noEtag,
  promisedWrite: noEtag,
  accepted: undefined,
  committed: emptyState.committed,
  records: [],
};

/** Both others agree to whatever is asked; how many rounds that were. */
async function agree(kit: ReplicaKit): Promise<number> {
  let rounds = 0;
  for (;;) {
    await kit.host.settle();
    const [asked] = kit.asked;
    if (asked === undefined) return rounds;
    kit.asked = kit.asked.slice(1);
    if (asked.name === 'prepare') {
      if (asked.node === 'n2') rounds += 1;
      asked.reply(promised);
    } else if (asked.name === 'propose') asked.reply({ isAccepted: true, highest: noEtag });
    else asked.reply({});
  }
}

describe('proposer', () => {
  for (const [operationsPerRound, rounds] of [
    [8, 2],
    [1, 6],
    [2, 4],
  ] as const)
    it(`proposer: what waits for a key goes into one round (at most ${operationsPerRound}: ${rounds} rounds, PX-14)`, async () => {
      const kit = await start({ operationsPerRound });
      const asked = Array.from({ length: 6 }, (_, i) => kit.ask(target, 'run', increment(i)));
      expect(await agree(kit)).to.equal(rounds);
      expect(asked.map(({ calls }) => calls)).to.deep.equal([1, 1, 1, 1, 1, 1]);
      expect(asked.every(({ reply }) => reply?.isApplied === true)).to.equal(true);
      const stamps = new Set(asked.map(({ reply }) => reply?.hlc));
      expect(stamps.size).to.equal(6);
    });

  it('proposer: an operation whose time is over when its turn comes is not done (WR-6)', async () => {
    const kit = await start({ operationsPerRound: 1 });
    const first = kit.ask(target, 'run', increment(1), 5_000);
    const late = kit.ask(target, 'run', increment(1), 500);
    const last = kit.ask(target, 'run', increment(1), 5_000);
    await kit.host.advance(700);
    expect(await agree(kit)).to.equal(2);
    expect([first.reply?.isApplied, last.reply?.isApplied]).to.deep.equal([true, true]);
    expect(late.failure?.code).to.equal('TIMEOUT');
  });

  it('proposer: a node that stood still proposes nothing on its old promises (PX-17)', async () => {
    const kit = await start();
    kit.ask(target, 'run', increment(1), 30_000);
    const prepares = [await kit.take('n2', 'prepare'), await kit.take('n3', 'prepare')];
    // Stopped and continued: the clock went on, no timer of this node did.
    kit.host.nowMs += 20_000;
    for (const asked of prepares) asked.reply(promised);
    expect(await kit.waiting()).to.deep.equal([]);
    await kit.host.advance(200);
    expect(await kit.waiting()).to.deep.equal(['n2/prepare', 'n3/prepare']);
  });

  it('proposer: who asks to know hears each step of the round, and who does not is told nothing', async () => {
    const kit = await start();
    const first = kit.ask(target, 'run', { ...increment(1), explain: true });
    const refused = { ...promised, isPromised: false, highest: { ...noEtag, hlc: 9 } };
    (await kit.take('n2', 'prepare')).reply(refused);
    (await kit.take('n3', 'prepare')).fail('OVERLOADED');
    await kit.host.advance(200);
    const others = [
      kit.ask(target, 'run', { ...increment(1), explain: true }),
      kit.ask(target, 'run', increment(1)),
    ];
    await agree(kit);
    const { steps, ...facts } = JSON.parse(first.reply?.explanation ?? '') as Explained;
    expect(facts).to.deep.include({
      coordinator: 'n1',
      level: 'SERIAL',
      required: 2,
      operations: 1,
    });
    expect([...facts.replicas].sort()).to.deep.equal(members);
    const told = steps.filter(({ node }) => node !== 'n1');
    expect(told[0]).to.deep.include({ node: 'n2', ask: 'prepare', isOvertaken: true });
    expect(told.map(({ failed }) => failed)).to.include('OVERLOADED');
    expect(told.map(({ ask }) => ask)).to.include.members(['prepare', 'propose', 'commit']);
    expect(others[1]?.reply?.explanation).to.equal(undefined);
    const merged = JSON.parse(others[0]?.reply?.explanation ?? '') as Explained;
    expect(merged.operations).to.equal(2);
  });

  it('proposer: what an operation writes is stamped above what its session knows (SS-1)', async () => {
    const kit = await start();
    const known = 1_700_000_000_000_000 + 400_000;
    const after = kit.ask(target, 'run', { ...increment(1), afterHlc: known });
    await agree(kit);
    expect(after.reply?.hlc).to.be.greaterThan(known);
    const neighbour = kit.ask(target, 'run', increment(1));
    const ahead = kit.ask(target, 'run', { ...increment(1), afterHlc: known + 200_000 });
    await agree(kit);
    expect(ahead.failure?.code).to.equal('FUTURE_VERSION');
    expect(neighbour.reply?.isApplied).to.equal(true);
  });

  it('proposer: rounds of different keys do not wait for each other', async () => {
    const kit = await start();
    kit.ask(target, 'run', increment(1));
    kit.ask(target, 'run', { ...increment(1), key: utf8.encode('other') });
    expect(await kit.waiting()).to.deep.equal([
      'n2/prepare',
      'n2/prepare',
      'n3/prepare',
      'n3/prepare',
    ]);
  });

  it('proposer: an operation that cannot be done fails alone', async () => {
    const kit = await start();
    const first = kit.ask(target, 'run', increment(1));
    const bad = kit.ask(target, 'run', requestOf({ verb: 'append', value: new Uint8Array(2_000) }));
    const good = kit.ask(target, 'run', increment(5));
    await agree(kit);
    expect(first.reply?.number).to.equal(1);
    expect(bad.failure?.code).to.equal('TOO_LARGE');
    expect(good.reply?.number).to.equal(5);
  });

  it('proposer: with a full queue nothing new begins', async () => {
    const kit = await start({ waitingMax: 1 });
    kit.ask(target, 'run', increment(1));
    const refused = kit.ask(target, 'run', increment(1));
    await kit.host.settle();
    expect(refused.failure?.code).to.equal('OVERLOADED');
  });

  it('proposer: keys of another shard and keys that are too long are refused before any message', async () => {
    const kit = await start({ shards: 2 });
    const keys = Array.from({ length: 6 }, (_, i) => utf8.encode(`key-${i}`));
    const all = keys.map((key) => kit.ask(target, 'run', { ...increment(1), key }));
    await kit.host.settle();
    const long = kit.ask(target, 'run', { ...increment(1), key: new Uint8Array(70_000) });
    await kit.host.settle();
    const refused = all.filter(({ failure }) => failure?.code === 'UNAVAILABLE').length;
    expect(refused).to.be.within(1, 5);
    expect(long.failure?.code).to.equal('TOO_LARGE');
    expect(kit.asked.length).to.equal(2 * (6 - refused));
  });

  it('proposer: with one of three alive nothing is sent, and the refusal says how many', async () => {
    const kit = await start();
    const dead = members.map((node) => ({
      node,
      condition: node === 'n1' ? ('alive' as const) : ('dead' as const),
      phi: 9,
      shards: 1,
    }));
    kit.kernel.tell(target, 'peersChanged', { peers: dead });
    const refused = kit.ask(target, 'run', increment(1));
    await kit.host.settle();
    expect(refused.failure?.code).to.equal('UNAVAILABLE');
    expect(refused.failure?.fields).to.include({ required: 2, alive: 1 });
    expect(kit.asked).to.deep.equal([]);
  });
});
