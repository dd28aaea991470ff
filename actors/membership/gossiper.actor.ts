// Spreads heartbeats. Once per round this node raises its own heartbeat and runs the three-step
// exchange with one peer: digests out, what I lack and what they want back, their wants out. News
// reaches n nodes in O(log n) rounds (Demers et al., "Epidemic Algorithms", 1987).
//
// A round goes to a random member, alive or not: a partition that cut everyone off would never
// heal if only reachable nodes were tried. Membership itself is a fixed list here: states of
// strangers are ignored.
//
// Invariant: (generation, heartbeat) of this node only ever grows, also across restarts; the
// generation is durable before the first message leaves (GO-1; actors/node/identity.ts).

import { actor, type Call, type Context, type Later, type Ref } from '../../runtime/actor.ts';
import type { BodyOf, Handlers, ReplyOf, Tell } from '../../runtime/protocol.ts';
import { encodeHeardGeneration, heardGenerationFile } from '../model/heard-generation.ts';
import type { Catalog } from '../catalog/protocol.ts';
import type { Store } from '../storage/protocol.ts';
import { measurementOf } from './clock-health.ts';
import { type FailureDetector, Gossiper, type NodeLoad, type NodeState } from './protocol.ts';
import {
  compare,
  digestsOf,
  generationLeadMaxSeconds,
  isNewer,
  merged,
  type View,
} from './view.ts';

export interface GossipOptions {
  /** Time between rounds, milliseconds. Default 1,000; range 100 to 60,000. */
  readonly roundMs: number;
  /** The gossipers of all other members. */
  readonly peers: readonly Ref<Gossiper>[];
  readonly detector: Ref<FailureDetector>;
  /** Hears of newer epochs; absent: nobody does. */
  readonly catalog?: Ref<Catalog>;
  /** This node's stores: their figures are its load. */
  readonly stores: readonly Ref<Store>[];
  /** This node as it starts; heartbeat and load change from here. */
  readonly self: NodeState;
}

interface Own {
  readonly round: Tell<object>;
  readonly measure: Tell<object>;
  readonly measured: Tell<NodeLoad>;
  readonly merge: Tell<{ readonly states: readonly NodeState[]; readonly from: string }>;
}

/** Shards choose ports and addresses: a number from the wire has a bound. */
function isPlausible({ shards, heartbeat, generation, catalogEpoch = 0 }: NodeState): boolean {
  return (
    Number.isSafeInteger(catalogEpoch) &&
    Number.isInteger(shards) &&
    shards >= 1 &&
    shards <= 1_024 &&
    Number.isSafeInteger(heartbeat) &&
    Number.isSafeInteger(generation)
  );
}

/** The load of this node is measured every so many rounds. */
const roundsPerMeasure = 2;

class GossiperActor implements Handlers<Gossiper>, Handlers<Own> {
  readonly #ctx: Context<Own, 'disk'>;
  readonly #options: GossipOptions;
  readonly #members: ReadonlySet<string>;
  #view: View;
  #self: NodeState;
  #hasGivenWay = false;

  constructor(ctx: Context<Own, 'disk'>, options: GossipOptions) {
    this.#ctx = ctx;
    this.#options = options;
    this.#self = options.self;
    this.#members = new Set([ctx.node, ...options.peers.map((peer) => peer.node)]);
    this.#view = new Map([[ctx.node, options.self]]);
  }

  start(): void {
    this.#ctx.toSelf('round', {});
    this.#ctx.toSelf('measure', {});
  }

  round(): Later<void> {
    const { random, after, toSelf, tell, clock } = this.#ctx;
    const { peers, roundMs, detector } = this.#options;
    this.#beat({});
    // Jitter: nodes must not beat in step.
    after(roundMs * (0.9 + 0.2 * random.float()), 'round', {});
    const peer = peers[random.int(peers.length)];
    const digests = digestsOf(this.#view);
    const view = this.#view;
    return this.#ctx.session(async (session) => {
      if (peer === undefined) return;
      const sentMs = clock.monotonicMs();
      // A failed exchange ends the session; the next round tries another peer.
      const answer = await session.ask(peer, 'exchange', { digests }, roundMs);
      const { wallMicros } = answer;
      if (wallMicros !== undefined) {
        const measured = measurementOf(wallMicros, { sentMs, heardMs: clock.monotonicMs() });
        tell(detector, 'clock', { node: peer.node, ...measured });
      }
      const states = answer.wanted.flatMap((node) => view.get(node) ?? []);
      if (states.length > 0) tell(peer, 'news', { states });
      toSelf('merge', { states: answer.states, from: peer.node });
    });
  }

  exchange({ digests }: BodyOf<Gossiper['exchange']>): ReplyOf<Gossiper['exchange']> {
    const { states, wanted } = compare(this.#view, digests);
    const wallMicros = this.#ctx.clock.wallMicros();
    return { states, wanted: wanted.filter((node) => this.#members.has(node)), wallMicros };
  }

  news({ states }: { readonly states: readonly NodeState[] }, { from }: Call): void {
    this.merge({ states, from });
  }

  /**
   * Ends this process for the other one. There may be none: an emptied data directory does not know
   * its generations, and the clock may be behind those. So the number stays for the next start.
   */
  #giveWay(generation: number): void {
    const { disk, node, stopNode } = this.#ctx;
    if (this.#hasGivenWay) return;
    this.#hasGivenWay = true;
    this.#ctx.session(async () => {
      try {
        await disk.replace(heardGenerationFile, encodeHeardGeneration(generation));
      } finally {
        stopNode(`another process runs as node ${node} with a newer generation`);
      }
    });
  }

  merge({ states, from }: BodyOf<Own['merge']>): void {
    const { clock, tell, log, node } = this.#ctx;
    const latest = clock.wallMicros() / 1e6 + generationLeadMaxSeconds;
    for (const state of states) {
      if (!this.#members.has(state.node)) continue;
      if (state.generation > latest) {
        log.warn('gossip.generation-refused', { node: state.node, generation: state.generation });
        continue;
      }
      if (!isPlausible(state)) continue;
      if (state.node === node) {
        // Another process runs with our id and started later: it is the one (GO-3).
        if (state.generation > this.#self.generation) this.#giveWay(state.generation);
        // This actor was restarted after a crash: the others know beats that it has forgotten.
        else if (isNewer(state, this.#self))
          this.#self = { ...this.#self, heartbeat: state.heartbeat };
        continue;
      }
      const { view, isNews } = merged(this.#view, state);
      this.#view = view;
      if (!isNews) continue;
      const isDirect = state.node === from;
      tell(this.#options.detector, 'heard', { state, atMs: clock.monotonicMs(), isDirect });
      this.#compareEpochs(state);
    }
  }

  #compareEpochs({ node, catalogEpoch: epoch = 0 }: NodeState): void {
    const { catalog } = this.#options;
    if (catalog === undefined || epoch <= (this.#self.catalogEpoch ?? 0)) return;
    this.#ctx.tell(catalog, 'heard', { epoch, node });
  }

  catalogEpoch({ epoch }: BodyOf<Gossiper['catalogEpoch']>): void {
    this.#self = { ...this.#self, catalogEpoch: epoch };
  }

  /** Asks the stores for their figures; a store that is busy keeps the last ones. */
  measure(): Later<void> {
    const { stores, roundMs } = this.#options;
    const { toSelf, after } = this.#ctx;
    after(roundMs * roundsPerMeasure, 'measure', {});
    return this.#ctx.session(async (session) => {
      let load: NodeLoad = { keys: 0, memoryBytes: 0, diskBytes: 0 };
      for (const store of stores) {
        const stats = await session.ask(store, 'stats', {}, roundMs * roundsPerMeasure);
        load = {
          keys: load.keys + stats.records,
          memoryBytes: load.memoryBytes + stats.memtableBytes,
          diskBytes: load.diskBytes + stats.tableBytes + stats.walBytes,
        };
      }
      toSelf('measured', load);
    });
  }

  measured(load: NodeLoad): void {
    this.#self = { ...this.#self, load };
  }

  leaving(): Later<object> {
    this.#beat({ status: 'draining' });
    const { peers, roundMs } = this.#options;
    const states = [this.#self];
    for (const peer of peers) this.#ctx.tell(peer, 'news', { states });
    return this.#ctx.session(async (session) => {
      // A moment for the links to send it.
      await session.sleep(Math.min(50, roundMs));
      return {};
    });
  }

  states(): { readonly states: readonly NodeState[] } {
    return { states: [...this.#view.values()] };
  }

  #beat(changed: Partial<NodeState>): void {
    this.#self = { ...this.#self, ...changed, heartbeat: this.#self.heartbeat + 1 };
    this.#view = new Map(this.#view).set(this.#ctx.node, this.#self);
  }
}

export const gossiper = actor({
  protocol: Gossiper,
  needs: ['disk'],
  create: (ctx: Context<Own, 'disk'>, options: GossipOptions) => new GossiperActor(ctx, options),
});
