// The gossiper alone: its rounds, what it tells and takes, and when it stops the node.

import { expect } from 'chai';
import { actor, type Context, type Ref, refTo } from '../../runtime/actor.ts';
import { noBytes } from '../../runtime/bytes.ts';
import type { BodyOf, Handlers } from '../../runtime/protocol.ts';
import { Catalog } from '../../actors/catalog/protocol.ts';
import { gossiper } from '../../actors/membership/gossiper.actor.ts';
import {
  type Digest,
  FailureDetector,
  Gossiper,
  type NodeState,
} from '../../actors/membership/protocol.ts';
import { decodeHeardGeneration, heardGenerationFile } from '../../actors/model/heard-generation.ts';
import { generationLeadMaxSeconds } from '../../actors/membership/view.ts';
import { Store } from '../../actors/storage/protocol.ts';
import { MemoryDisk } from '../kit-disk.ts';
import { ReplicaKit } from '../kit-replication.ts';
import { nodeState } from './states.ts';

const self = refTo(Gossiper, 'n1');
type Beat = BodyOf<FailureDetector['heard']>;
type Clock = BodyOf<FailureDetector['clock']>;

const fakeDetector = actor({
  protocol: FailureDetector,
  create: (
    _ctx: Context,
    options: { heard: Beat[]; clocks: Clock[] },
  ): Handlers<FailureDetector> => ({
    heard: (beat) => void options.heard.push(beat),
    clock: (measured) => void options.clocks.push(measured),
    peers: () => ({ peers: [] }),
  }),
});

const fakeCatalog = actor({
  protocol: Catalog,
  create: (_ctx: Context, options: { epochs: BodyOf<Catalog['heard']>[] }): Handlers<Catalog> => {
    const notPlayed = (): never => {
      throw new Error('not played here');
    };
    return {
      heard: (news) => void options.epochs.push(news),
      peersChanged: () => undefined,
      counted: () => undefined,
      document: notPlayed,
      refresh: notPlayed,
      change: notPlayed,
      install: notPlayed,
      lease: notPlayed,
    };
  },
});

class GossipKit extends ReplicaKit {
  readonly heard: Beat[] = [];
  readonly clocks: Clock[] = [];
  readonly epochs: BodyOf<Catalog['heard']>[] = [];
  readonly disk: MemoryDisk;

  private constructor(disk: MemoryDisk) {
    super({ disk }, [Gossiper, FailureDetector, Store, Catalog]);
    this.disk = disk;
  }

  static async start(
    peers: readonly string[] = ['n2'],
    stores: readonly Ref<Store>[] = [],
  ): Promise<GossipKit> {
    const kit = new GossipKit(new MemoryDisk());
    for (const peer of peers) kit.playPeer(peer);
    await kit.spawn(fakeDetector, { heard: kit.heard, clocks: kit.clocks });
    await kit.spawn(fakeCatalog, { epochs: kit.epochs });
    if (stores.length > 0) await kit.playStore();
    await kit.spawn(gossiper, {
      roundMs: 1_000,
      peers: peers.map((peer) => refTo(Gossiper, peer)),
      detector: refTo(FailureDetector, 'n1'),
      catalog: refTo(Catalog, 'n1'),
      stores,
      self: nodeState('n1', { generation: 5 }),
    });
    return kit;
  }

  async news(...states: readonly NodeState[]): Promise<void> {
    this.kernel.tell(self, 'news', { states });
    await this.host.settle();
  }

  /** What the gossiper knows of a node. */
  async stateOf(node: string): Promise<NodeState | undefined> {
    const asked = this.ask(self, 'states', {});
    await this.host.settle();
    return asked.reply?.states.find((state) => state.node === node);
  }

  /** The digests of the next round, whoever was asked; left unanswered. */
  async nextDigests(): Promise<readonly Digest[]> {
    await this.host.settle();
    const asked = this.asked.shift();
    return (asked?.body as { readonly digests: readonly Digest[] } | undefined)?.digests ?? [];
  }

  /** The states of the news sent to a node. */
  newsTo(node: string): (readonly NodeState[])[] {
    return (this.links.get(node)?.sent ?? [])
      .filter(({ kind, name }) => kind === 'tell' && name === 'news')
      .map(({ body }) => (body as { readonly states: readonly NodeState[] }).states);
  }
}

describe('gossiper', () => {
  it('gossiper: each round raises the heartbeat and tells a peer what this node knows', async () => {
    const kit = await GossipKit.start();
    expect(await kit.nextDigests()).to.deep.equal([{ node: 'n1', generation: 5, heartbeat: 1 }]);
    await kit.host.advance(1_100);
    expect(await kit.nextDigests()).to.deep.equal([{ node: 'n1', generation: 5, heartbeat: 2 }]);
  });

  it('gossiper: the rounds come 0.9 to 1.1 intervals after each other, not in step', async () => {
    const kit = await GossipKit.start();
    const roundsMs: number[] = [];
    for (let beats = 0; roundsMs.length < 20; ) {
      const heartbeat = (await kit.stateOf('n1'))?.heartbeat ?? 0;
      if (heartbeat > beats) roundsMs.push(kit.host.nowMs);
      beats = heartbeat;
      await kit.host.advance(1);
    }
    const gaps = roundsMs.slice(1).map((at, i) => at - (roundsMs[i] as number));
    for (const gap of gaps) expect(gap).to.be.within(900, 1_101);
    expect(new Set(gaps).size).to.be.above(10);
  });

  it('gossiper: an exchange takes what it lacked and sends what was wanted', async () => {
    const kit = await GossipKit.start(['n2', 'n3']);
    await kit.news(nodeState('n2', { heartbeat: 3 }));
    const { node, reply } = kit.asked[0] as (typeof kit.asked)[number];
    reply({ states: [nodeState('n3', { heartbeat: 9 })], wanted: ['n1', 'n9'] });
    await kit.host.settle();
    expect(kit.newsTo(node)).to.deep.equal([[nodeState('n1', { generation: 5, heartbeat: 1 })]]);
    expect(await kit.stateOf('n3')).to.deep.equal(nodeState('n3', { heartbeat: 9 }));
  });

  it("gossiper: an exchange measures the other's clock, half a round trip more or less", async () => {
    const kit = await GossipKit.start();
    const { clock } = kit.host;
    await kit.host.settle();
    const wallMicros = clock.wallMicros() + 7_000_000;
    await kit.host.advance(20);
    kit.asked[0]?.reply({ states: [], wanted: [], wallMicros });
    await kit.host.settle();
    const origin = clock.wallMicros() - clock.monotonicMs() * 1000;
    expect(kit.clocks.length).to.equal(1);
    expect(kit.clocks[0]?.node).to.equal('n2');
    expect(kit.clocks[0]?.uncertaintyMicros).to.be.closeTo(10_000, 100);
    // What it said 20 ms ago is taken for what it said 10 ms ago.
    expect((kit.clocks[0]?.originMicros ?? 0) - origin).to.be.closeTo(6_990_000, 100);
  });

  it('gossiper: a node of before says nothing of its clock', async () => {
    const kit = await GossipKit.start();
    await kit.host.settle();
    kit.asked[0]?.reply({ states: [], wanted: [] });
    await kit.host.settle();
    expect(kit.clocks).to.deep.equal([]);
  });

  it('gossiper: a round goes to every member sooner or later, also to who never answers', async () => {
    const kit = await GossipKit.start(['n2', 'n3', 'n4']);
    await kit.host.advance(60_000);
    expect([...new Set(kit.asked.map(({ node }) => node))].sort()).to.deep.equal([
      'n2',
      'n3',
      'n4',
    ]);
  });

  it('gossiper: an exchange that fails is followed by the next round', async () => {
    const kit = await GossipKit.start();
    (await kit.take('n2', 'exchange')).fail('UNREACHABLE');
    await kit.host.advance(1_100);
    expect(await kit.nextDigests()).to.deep.equal([{ node: 'n1', generation: 5, heartbeat: 2 }]);
    expect(kit.host.stops).to.deep.equal([]);
  });

  it('gossiper: a node alone beats for itself', async () => {
    const kit = await GossipKit.start([]);
    await kit.host.advance(5_500);
    expect((await kit.stateOf('n1'))?.heartbeat).to.be.within(5, 7);
    expect(kit.asked).to.deep.equal([]);
  });

  it('gossiper: it answers an exchange with what the other lacks and asks for what it lacks', async () => {
    const kit = await GossipKit.start(['n2', 'n3']);
    await kit.news(nodeState('n2', { heartbeat: 3 }), nodeState('n3', { heartbeat: 3 }));
    const digest = (node: string, heartbeat: number) => ({ node, generation: 1, heartbeat });
    const answer = kit.ask(self, 'exchange', {
      digests: [digest('n2', 2), digest('n3', 4), digest('n9', 1)],
    });
    await kit.host.settle();
    expect(answer.reply?.states.map(({ node }) => node)).to.deep.equal(['n1', 'n2']);
    expect(answer.reply?.wanted, 'strangers are not asked for').to.deep.equal(['n3']);
  });

  it('gossiper: news reaches the failure detector once, with the time of this node', async () => {
    const kit = await GossipKit.start();
    const state = nodeState('n2', { heartbeat: 3 });
    await kit.host.advance(250);
    await kit.news(state, state);
    await kit.news(nodeState('n2', { heartbeat: 2 }));
    expect(kit.heard).to.deep.equal([{ state, atMs: 1_250, isDirect: false }]);
    await kit.news(nodeState('n2', { generation: 2 }));
    expect(kit.heard.length).to.equal(2);
  });

  it('gossiper: an answer is first-hand about its sender and second-hand about others', async () => {
    const kit = await GossipKit.start();
    const round = await kit.take('n2', 'exchange');
    round.reply({ states: [nodeState('n2', { heartbeat: 3 })], wanted: [] });
    await kit.host.settle();
    expect(kit.heard.map(({ state, isDirect }) => [state.node, isDirect])).to.deep.equal([
      ['n2', true],
    ]);
  });

  it('gossiper: states of strangers are ignored', async () => {
    const kit = await GossipKit.start();
    await kit.news(nodeState('n9', { heartbeat: 3 }));
    expect(await kit.stateOf('n9')).to.equal(undefined);
    expect(kit.heard).to.deep.equal([]);
  });

  it('gossiper: a generation more than a year ahead is refused and logged (GO-2)', async () => {
    const kit = await GossipKit.start();
    // The wall clock of the kit stands at 1 s since 1970.
    const latest = 1 + generationLeadMaxSeconds;
    await kit.news(nodeState('n2', { generation: latest + 1 }));
    expect(await kit.stateOf('n2')).to.equal(undefined);
    const warnings = kit.host.logged.filter(({ event }) => event === 'gossip.generation-refused');
    expect(warnings.length).to.equal(1);
    await kit.news(nodeState('n2', { generation: latest }));
    expect((await kit.stateOf('n2'))?.generation).to.equal(latest);
  });

  it('gossiper: a newer generation of this node itself stops it (GO-3)', async () => {
    const kit = await GossipKit.start();
    await kit.news(nodeState('n1', { generation: 4, heartbeat: 99 }));
    expect(kit.host.stops).to.deep.equal([]);
    await kit.news(nodeState('n1', { generation: 6 }));
    expect(kit.host.stops).to.deep.equal([
      'another process runs as node n1 with a newer generation',
    ]);
    expect((await kit.stateOf('n1'))?.generation, 'its own word stays').to.equal(5);
    const left = kit.disk.read(heardGenerationFile);
    expect(decodeHeardGeneration(left ?? noBytes), 'for the next start').to.equal(6);
  });

  it('gossiper: after a restart of the actor the heartbeat goes on above what others know', async () => {
    const kit = await GossipKit.start();
    await kit.news(nodeState('n1', { generation: 5, heartbeat: 500 }));
    expect(kit.heard).to.deep.equal([]);
    await kit.host.advance(1_100);
    expect((await kit.stateOf('n1'))?.heartbeat).to.equal(501);
  });

  it('gossiper: a node that leaves tells every peer at once, and goes on saying so', async () => {
    const kit = await GossipKit.start(['n2', 'n3']);
    const left = kit.ask(self, 'leaving', {});
    await kit.host.settle();
    for (const node of ['n2', 'n3']) {
      const states = kit.newsTo(node).flat();
      expect(states.map(({ status }) => status)).to.deep.equal(['draining']);
      expect(states[0]?.heartbeat).to.equal(2);
    }
    expect(left.calls, 'a moment for the links').to.equal(0);
    await kit.host.advance(50);
    expect(left.reply).to.deep.equal({});
    await kit.host.advance(1_100);
    expect((await kit.stateOf('n1'))?.status).to.equal('draining');
  });

  it('gossiper: the load is the sum over the stores, and keeps the last when one is silent', async () => {
    const stores = [refTo(Store, 'n1'), refTo(Store, 'n1')];
    const kit = await GossipKit.start(['n2'], stores);
    const stats = {
      records: 3,
      memtableBytes: 50,
      tables: 1,
      tableBytes: 700,
      walBytes: 40,
      newestHlc: 9,
    };
    (await kit.take('n1', 'stats')).reply(stats);
    (await kit.take('n1', 'stats')).reply({ ...stats, records: 4 });
    await kit.host.advance(1_100);
    const load = { keys: 7, memoryBytes: 100, diskBytes: 1_480 };
    expect((await kit.stateOf('n1'))?.load).to.deep.equal(load);
    // The next measurement is never answered.
    await kit.host.advance(10_000);
    expect((await kit.stateOf('n1'))?.load).to.deep.equal(load);
  });

  it('gossip: the catalog hears of epochs above the one of this node, and of no others', async () => {
    const kit = await GossipKit.start(['n2', 'n3']);
    kit.kernel.tell(self, 'catalogEpoch', { epoch: 4 });
    const beat = (heartbeat: number, epoch: Partial<NodeState>): Promise<void> =>
      kit.news(nodeState('n2', { generation: 5, heartbeat, ...epoch }));
    await beat(1, {});
    await beat(2, { catalogEpoch: 4 });
    await beat(3, { catalogEpoch: 5 });
    await beat(4, { catalogEpoch: Number.NaN });
    await kit.news(nodeState('stranger', { generation: 5, heartbeat: 1, catalogEpoch: 9 }));
    expect(kit.epochs).to.deep.equal([{ epoch: 5, node: 'n2' }]);
  });
});
