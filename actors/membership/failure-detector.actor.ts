// Says who is alive, from the beats that gossip brings, and tells the coordinators and gateways of
// this node. Phi below 5 is alive, up to 8 suspected, above dead; hard bounds beside it: suspected
// after 10 s of silence, dead after 30 s (model.md section 4).
//
// A first word about a node is proof of its life only where the node said it itself: gossip also
// brings what others remember of a node that is long gone. A second, newer beat is proof as well.
//
// Beside it, it judges this node's own clock by those of the others (clock-health.ts): whoever
// coordinates writes here hears of it with the rest.
//
// It only changes routing; ownership and quorum sizes never depend on it (GO-7). When this process
// itself was paused it convicts nobody: everyone seems silent to a sleeper (FD-3).

import { actor, type Context, type Ref } from '../../runtime/actor.ts';
import type { BodyOf, Handlers, Tell } from '../../runtime/protocol.ts';
import { ClockHealth, type OwnClocks } from './clock-health.ts';
import { ArrivalWindow } from './phi.ts';
import {
  FailureDetector,
  type NodeState,
  type PeerCondition,
  type PeerState,
  type PeerStates,
} from './protocol.ts';

export interface DetectorOptions {
  /** All members, this node included. */
  readonly members: readonly string[];
  readonly shards: number;
  readonly gossipIntervalMs: number;
  readonly suspectPhi: number;
  readonly deadPhi: number;
  readonly suspectAfterMs: number;
  readonly deadAfterMs: number;
  /** Clocks may differ by so much; 0: any clock is right. */
  readonly clockOffsetMaxMs: number;
  readonly listeners: readonly Ref<{ peersChanged: Tell<PeerStates> }>[];
}

interface Own {
  readonly check: Tell<object>;
}

interface Peer {
  readonly window: ArrivalWindow;
  state: NodeState;
  condition: PeerCondition;
  /** Something of this generation shows that the node lives, or lived while this one looked. */
  isProven: boolean;
}

class FailureDetectorActor implements Handlers<FailureDetector>, Handlers<Own> {
  readonly #ctx: Context<Own>;
  readonly #options: DetectorOptions;
  readonly #peers = new Map<string, Peer>();
  readonly #clocks: ClockHealth;
  #isClockWrong = false;
  #checkedMs: number;

  constructor(ctx: Context<Own>, options: DetectorOptions) {
    this.#ctx = ctx;
    this.#options = options;
    this.#clocks = new ClockHealth({
      peers: options.members.length - 1,
      offsetMicrosMax: options.clockOffsetMaxMs * 1000,
    });
    const help = 'What the clocks of other nodes are ahead of this one, their median';
    const offset = (): number => this.#clocks.offsetMicros(this.#ownClocks()) / 1e6;
    ctx.metrics.gauge('kvd_clock_offset_seconds', help, offset);
    const wrong = 'This clock is too far from most others: no writes are coordinated here';
    ctx.metrics.gauge('kvd_clock_wrong', wrong, () => Number(this.#isClockWrong));
    this.#checkedMs = ctx.clock.monotonicMs();
  }

  start(): void {
    this.#publish();
    this.#ctx.after(this.#checkMs, 'check', {});
  }

  heard({ state, atMs, isDirect }: BodyOf<FailureDetector['heard']>): void {
    let peer = this.#peers.get(state.node);
    if (peer === undefined || peer.state.generation !== state.generation) {
      const window = new ArrivalWindow(atMs, this.#options.gossipIntervalMs);
      peer = { window, state, condition: peer?.condition ?? 'dead', isProven: isDirect };
      this.#peers.set(state.node, peer);
    } else {
      peer.window.heard(atMs, peer.condition === 'suspected');
      peer.state = state;
      peer.isProven = true;
    }
    if (this.#judge(state.node, peer, atMs)) this.#publish();
  }

  clock({ node, ...measurement }: BodyOf<FailureDetector['clock']>): void {
    this.#clocks.measured(node, measurement);
    const isWrong = this.#clocks.wrongBy(this.#ownClocks()) !== undefined;
    if (isWrong !== this.#isClockWrong) this.#publish();
  }

  check(): void {
    const nowMs = this.#ctx.clock.monotonicMs();
    const lateMs = nowMs - this.#checkedMs - this.#checkMs;
    this.#checkedMs = nowMs;
    this.#ctx.after(this.#checkMs, 'check', {});
    if (lateMs > this.#options.suspectAfterMs / 2) {
      this.#ctx.log.warn('detector.own-pause', { lateMs: Math.round(lateMs) });
      for (const peer of this.#peers.values()) peer.window.forgive(lateMs, nowMs);
    }
    for (const [node, peer] of this.#peers) this.#judge(node, peer, nowMs);
    // Also without a change: a coordinator that restarted learns the state within a second.
    this.#publish();
  }

  peers(): PeerStates {
    const nowMs = this.#ctx.clock.monotonicMs();
    const { members, shards } = this.#options;
    const peers = [...members].sort().map((node): PeerState => {
      if (node === this.#ctx.node) return { node, condition: 'alive', phi: 0, shards };
      const peer = this.#peers.get(node);
      if (peer === undefined) return { node, condition: 'dead', phi: 0, shards };
      const { window, condition, state } = peer;
      return { node, condition, phi: window.phi(nowMs), shards: state.shards };
    });
    const wrongBy = this.#clocks.wrongBy(this.#ownClocks());
    return wrongBy === undefined ? { peers } : { peers, clockOffMicros: Math.round(wrongBy) };
  }

  get #checkMs(): number {
    return Math.min(1_000, this.#options.gossipIntervalMs);
  }

  /** True where the peer's condition changed. */
  #judge(node: string, peer: Peer, nowMs: number): boolean {
    const { suspectPhi, deadPhi, suspectAfterMs, deadAfterMs } = this.#options;
    const silenceMs = peer.window.silenceMs(nowMs);
    const phi = peer.window.phi(nowMs);
    // Nothing to judge yet: what was known of it before stands, until silence says otherwise.
    const isUnproven = !peer.isProven && peer.condition === 'dead';
    const condition: PeerCondition =
      isUnproven || peer.state.status === 'draining' || silenceMs > deadAfterMs || phi > deadPhi
        ? 'dead'
        : silenceMs > suspectAfterMs || phi > suspectPhi
          ? 'suspected'
          : 'alive';
    if (condition === peer.condition) return false;
    this.#ctx.log.info('peer.changed', {
      peer: node,
      from: peer.condition,
      to: condition,
      phi: Math.round(phi * 100) / 100,
      silenceMs: Math.round(silenceMs),
    });
    peer.condition = condition;
    return true;
  }

  #publish(): void {
    const states = this.peers();
    this.#noteClock(states);
    for (const listener of this.#options.listeners)
      this.#ctx.tell(listener, 'peersChanged', states);
  }

  #ownClocks(): OwnClocks {
    const { clock } = this.#ctx;
    return { wallMicros: clock.wallMicros(), monotonicMs: clock.monotonicMs() };
  }

  #noteClock({ clockOffMicros }: PeerStates): void {
    const isWrong = clockOffMicros !== undefined;
    if (isWrong === this.#isClockWrong) return;
    this.#isClockWrong = isWrong;
    const { log } = this.#ctx;
    if (clockOffMicros === undefined) return log.info('clock.right-again', {});
    log.error('clock.wrong', { offMs: Math.round(clockOffMicros / 1000) });
  }
}

export const failureDetector = actor({
  protocol: FailureDetector,
  create: (ctx: Context<Own>, options: DetectorOptions) => new FailureDetectorActor(ctx, options),
});
