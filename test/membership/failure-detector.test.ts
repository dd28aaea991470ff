// The failure detector alone: beats in, conditions out, and a listener that hears of them.

import { expect } from 'chai';
import { actor, type Context, refTo } from '../../runtime/actor.ts';
import { type Handlers, protocol, tell } from '../../runtime/protocol.ts';
import {
  type DetectorOptions,
  failureDetector,
} from '../../actors/membership/failure-detector.actor.ts';
import {
  FailureDetector,
  type NodeState,
  type PeerStates,
} from '../../actors/membership/protocol.ts';
import { Kit } from '../kit.ts';
import { nodeState } from './states.ts';

const Listener = protocol('listener', 230, { peersChanged: tell<PeerStates>(1) });
type Listener = typeof Listener.messages;

const listener = actor({
  protocol: Listener,
  create: (_ctx: Context, options: { heard: PeerStates[] }): Handlers<Listener> => ({
    peersChanged: (states) => void options.heard.push(states),
  }),
});

const detector = refTo(FailureDetector, 'n1');
const never = 600_000;

class DetectorKit extends Kit {
  readonly heard: PeerStates[] = [];
  readonly #beats = new Map<string, number>();

  static async start(changes: Partial<DetectorOptions> = {}): Promise<DetectorKit> {
    const kit = new DetectorKit([FailureDetector, Listener]);
    await kit.spawn(listener, { heard: kit.heard });
    const options: DetectorOptions = {
      members: ['n3', 'n1', 'n2'],
      shards: 4,
      gossipIntervalMs: 1_000,
      suspectPhi: 5,
      deadPhi: 8,
      suspectAfterMs: 10_000,
      deadAfterMs: 30_000,
      clockOffsetMaxMs: 500,
      listeners: [refTo(Listener, 'n1')],
      ...changes,
    };
    await kit.spawn(failureDetector, options);
    await kit.host.settle();
    return kit;
  }

  async beat(node: string, changes: Partial<NodeState> = {}): Promise<void> {
    const heartbeat = (this.#beats.get(node) ?? 0) + 1;
    this.#beats.set(node, heartbeat);
    const state = nodeState(node, { heartbeat, ...changes });
    await this.hear(state, true);
  }

  async hear(state: NodeState, isDirect: boolean): Promise<void> {
    this.kernel.tell(detector, 'heard', { state, atMs: this.host.nowMs, isDirect });
    await this.host.settle();
  }

  /** Beats of these nodes, one every second. */
  async beats(nodes: readonly string[], seconds: number): Promise<void> {
    for (let i = 0; i < seconds; i += 1) {
      await this.host.advance(1_000);
      for (const node of nodes) await this.beat(node);
    }
  }

  async conditions(): Promise<string> {
    const asked = this.ask(detector, 'peers', {});
    await this.host.settle();
    return (asked.reply?.peers ?? []).map(({ node, condition }) => `${node} ${condition}`).join();
  }

  async phiOf(node: string): Promise<number> {
    const asked = this.ask(detector, 'peers', {});
    await this.host.settle();
    return asked.reply?.peers.find((peer) => peer.node === node)?.phi ?? Number.NaN;
  }
}

describe('failure-detector', () => {
  it('failure-detector: who was never heard is dead, this node is alive, sorted by id', async () => {
    const kit = await DetectorKit.start();
    const expected = [
      { node: 'n1', condition: 'alive', phi: 0, shards: 4 },
      { node: 'n2', condition: 'dead', phi: 0, shards: 4 },
      { node: 'n3', condition: 'dead', phi: 0, shards: 4 },
    ];
    expect(kit.heard).to.deep.equal([{ peers: expected }]);
  });

  it('failure-detector: a first beat makes a node alive, and its listeners hear it at once', async () => {
    const kit = await DetectorKit.start();
    await kit.beat('n2', { shards: 7 });
    expect(kit.heard.length).to.equal(2);
    expect(kit.heard[1]?.peers[1]).to.deep.equal({
      node: 'n2',
      condition: 'alive',
      phi: 0,
      shards: 7,
    });
    await kit.beat('n2');
    expect(kit.heard.length, 'no change, no word').to.equal(2);
  });

  it('failure-detector: a clock that most others contradict is told at once, and when it is right again', async () => {
    const kit = await DetectorKit.start();
    const { clock } = kit.host;
    const measure = async (node: string, aheadMs: number): Promise<number | undefined> => {
      const origin = clock.wallMicros() - clock.monotonicMs() * 1000;
      const originMicros = origin + aheadMs * 1000;
      kit.kernel.tell(detector, 'clock', { node, originMicros, uncertaintyMicros: 100 });
      await kit.host.settle();
      return kit.heard[kit.heard.length - 1]?.clockOffMicros;
    };
    expect(await measure('n2', 2_000)).to.equal(undefined);
    expect(kit.heard.length, 'one of two').to.equal(1);
    expect(await measure('n3', 2_000)).to.equal(2_000_000);
    expect(kit.heard.length).to.equal(2);
    expect(await measure('n3', 1_000)).to.equal(2_000_000);
    expect(await measure('n3', 0)).to.equal(undefined);
    expect(kit.heard.length, 'no change, no word').to.equal(3);
  });

  it('failure-detector: what another node remembers of a dead node does not make it alive', async () => {
    const kit = await DetectorKit.start();
    await kit.hear(nodeState('n2', { heartbeat: 70 }), false);
    await kit.host.advance(20_000);
    expect(await kit.conditions()).to.equal('n1 alive,n2 dead,n3 dead');
    expect(
      kit.heard.flatMap(({ peers }) =>
        peers.filter((peer) => peer.node === 'n2' && peer.condition !== 'dead'),
      ),
    ).to.deep.equal([]);
  });

  it('failure-detector: a second, newer beat by way of another node makes it alive', async () => {
    const kit = await DetectorKit.start();
    await kit.hear(nodeState('n2', { heartbeat: 70 }), false);
    await kit.host.advance(1_000);
    await kit.hear(nodeState('n2', { heartbeat: 71 }), false);
    expect(await kit.conditions()).to.equal('n1 alive,n2 alive,n3 dead');
  });

  it('failure-detector: a living node that starts anew stays alive on word of another one', async () => {
    const kit = await DetectorKit.start();
    await kit.beat('n2');
    await kit.hear(nodeState('n2', { generation: 2_000_000, heartbeat: 1 }), false);
    expect(await kit.conditions()).to.equal('n1 alive,n2 alive,n3 dead');
  });

  it('failure-detector: its listeners hear the state every second, also without a change', async () => {
    const kit = await DetectorKit.start();
    await kit.host.advance(5_000);
    expect(kit.heard.length).to.equal(6);
  });

  it('failure-detector: regular beats keep a node alive (seconds=120)', async () => {
    const kit = await DetectorKit.start();
    await kit.beat('n2');
    for (let i = 0; i < 120; i += 1) {
      await kit.beats(['n2'], 1);
      expect(await kit.conditions()).to.equal('n1 alive,n2 alive,n3 dead');
    }
  });

  it('failure-detector: silence alone suspects after 10 s and convicts after 30 s', async () => {
    const kit = await DetectorKit.start({ suspectPhi: 1e6, deadPhi: 1e6 });
    await kit.beats(['n2', 'n3'], 20);
    await kit.beats(['n3'], 10);
    expect(await kit.conditions()).to.equal('n1 alive,n2 alive,n3 alive');
    await kit.beats(['n3'], 1);
    expect(await kit.conditions()).to.equal('n1 alive,n2 suspected,n3 alive');
    await kit.beats(['n3'], 19);
    expect(await kit.conditions()).to.equal('n1 alive,n2 suspected,n3 alive');
    await kit.beats(['n3'], 1);
    expect(await kit.conditions()).to.equal('n1 alive,n2 dead,n3 alive');
  });

  it('failure-detector: phi alone suspects above 5 and convicts above 8', async () => {
    const kit = await DetectorKit.start({ suspectAfterMs: never, deadAfterMs: never });
    await kit.beat('n2');
    // The first sample of 2,000 ms and 99 beats: a mean of 1,010 ms; phi 5 after 11.63 s.
    await kit.beats(['n2'], 99);
    await kit.host.advance(11_000);
    expect(await kit.conditions()).to.equal('n1 alive,n2 alive,n3 dead');
    await kit.host.advance(1_000);
    expect(await kit.conditions()).to.equal('n1 alive,n2 suspected,n3 dead');
    // Phi 8 after 18.6 s.
    await kit.host.advance(6_000);
    expect(await kit.conditions()).to.equal('n1 alive,n2 suspected,n3 dead');
    await kit.host.advance(1_000);
    expect(await kit.conditions()).to.equal('n1 alive,n2 dead,n3 dead');
  });

  it('failure-detector: a beat after a conviction makes the node alive again', async () => {
    const kit = await DetectorKit.start();
    await kit.beats(['n2'], 5);
    await kit.host.advance(60_000);
    expect(await kit.conditions()).to.equal('n1 alive,n2 dead,n3 dead');
    await kit.beat('n2');
    expect(await kit.conditions()).to.equal('n1 alive,n2 alive,n3 dead');
    expect(kit.heard.at(-1)?.peers[1]?.condition).to.equal('alive');
  });

  it('failure-detector: the interval that ended a suspicion does not slow the next one (FD-1)', async () => {
    const kit = await DetectorKit.start({ suspectPhi: 1, deadPhi: 8 });
    await kit.beat('n2');
    await kit.beats(['n2'], 99);
    await kit.host.advance(6_000);
    expect(await kit.conditions()).to.equal('n1 alive,n2 suspected,n3 dead');
    await kit.beat('n2');
    await kit.host.advance(1_010);
    expect(await kit.phiOf('n2')).to.be.closeTo(Math.LOG10E, 1e-9);
  });

  it('failure-detector: a node that drains is dead at once, its next life is alive', async () => {
    const kit = await DetectorKit.start();
    await kit.beats(['n2', 'n3'], 5);
    await kit.beat('n2', { status: 'draining' });
    expect(await kit.conditions()).to.equal('n1 alive,n2 dead,n3 alive');
    await kit.beat('n2', { status: 'draining' });
    expect(await kit.conditions()).to.equal('n1 alive,n2 dead,n3 alive');
    await kit.beat('n2', { generation: 2, heartbeat: 1 });
    expect(await kit.conditions()).to.equal('n1 alive,n2 alive,n3 alive');
  });

  it('failure-detector: a pause of this process convicts nobody (FD-3)', async () => {
    const kit = await DetectorKit.start();
    await kit.beats(['n2', 'n3'], 5);
    const heard = kit.heard.length;
    // Everything stands still for a minute, then the timer fires late.
    kit.host.nowMs += 60_000;
    await kit.host.advance(0);
    expect(await kit.conditions()).to.equal('n1 alive,n2 alive,n3 alive');
    expect(kit.host.logged.filter(({ event }) => event === 'detector.own-pause').length).to.equal(
      1,
    );
    for (const { peers } of kit.heard.slice(heard))
      expect(peers.map(({ condition }) => condition)).to.deep.equal(['alive', 'alive', 'alive']);
    await kit.host.advance(9_000);
    expect(await kit.conditions()).to.equal('n1 alive,n2 alive,n3 alive');
    await kit.host.advance(3_000);
    expect(await kit.conditions(), 'then silence counts').to.contain('n2 suspected,n3 suspected');
  });

  it('failure-detector: a pause of this process acquits nobody either', async () => {
    const kit = await DetectorKit.start();
    await kit.beats(['n2', 'n3'], 5);
    await kit.beats(['n3'], 40);
    expect(await kit.conditions()).to.equal('n1 alive,n2 dead,n3 alive');
    kit.host.nowMs += 60_000;
    await kit.host.advance(0);
    expect(await kit.conditions()).to.equal('n1 alive,n2 dead,n3 alive');
  });

  it('failure-detector: beats of strangers make nobody a member', async () => {
    const kit = await DetectorKit.start();
    await kit.beat('n9');
    expect(await kit.conditions()).to.equal('n1 alive,n2 dead,n3 dead');
  });
});
