// Messages of liveness: gossip spreads heartbeats and load, the failure detector says who is
// alive. Liveness changes routing only, never ownership (GO-7).

import { ask, group, type Layout, many, protocol, tell } from '../../runtime/protocol.ts';
import type { Liveness } from '../model/primaries.ts';
import type { ClockMeasurement } from './clock-health.ts';

/** What a node says of itself; a higher (generation, heartbeat) replaces the whole (GO-1, GO-2). */
export interface NodeState {
  readonly node: string;
  /** Grows with every start, durable before the first message. */
  readonly generation: number;
  readonly heartbeat: number;
  readonly status: 'serving' | 'draining';
  readonly host: string;
  readonly internodePort: number;
  readonly httpPort: number;
  readonly shards: number;
  readonly load: NodeLoad;
  /** Of the namespaces that it knows; absent: none were ever changed there. */
  readonly catalogEpoch?: number;
}

export interface NodeLoad {
  readonly keys: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
}

export interface Digest {
  readonly node: string;
  readonly generation: number;
  readonly heartbeat: number;
}

const stateLayout: Layout<NodeState> = {
  node: 'text',
  generation: 'u53',
  heartbeat: 'u53',
  status: 'text',
  host: 'text',
  internodePort: 'u32',
  httpPort: 'u32',
  shards: 'u32',
  load: group({ keys: 'u53', memoryBytes: 'u53', diskBytes: 'u53' }),
  catalogEpoch: 'u53?',
};

export const Gossiper = protocol('gossiper', 30, {
  /** Step one and two: what the caller knows, for what it lacks and what it is asked for. */
  exchange: ask<
    { readonly digests: readonly Digest[] },
    {
      readonly states: readonly NodeState[];
      readonly wanted: readonly string[];
      /** The wall clock of who answers; absent: a node of before. */
      readonly wallMicros?: number;
    }
  >(1, { lane: 'control' }),
  /** Step three: what step two asked for. Safe to lose, repeat or reorder. */
  news: tell<{ readonly states: readonly NodeState[] }>(2, { lane: 'control' }),
  /** This node shuts down: tell the others now rather than let them find out. */
  leaving: ask<object, object>(3, { lane: 'control' }),
  states: ask<object, { readonly states: readonly NodeState[] }>(4),
  /** This node knows the namespaces of this epoch from now on. */
  catalogEpoch: tell<{ readonly epoch: number }>(70, { lane: 'control' }),
});
export type Gossiper = typeof Gossiper.messages;

export type PeerCondition = Liveness;

export interface PeerState {
  readonly node: string;
  readonly condition: PeerCondition;
  readonly phi: number;
  readonly shards: number;
}

/** All members, this node included, sorted by id. */
export interface PeerStates {
  readonly peers: readonly PeerState[];
  /** How far this node's clock is from those of most others; absent: near enough (HLC-7). */
  readonly clockOffMicros?: number | undefined;
}

/** Of what the failure detector tells the others. */
export const peerStatesLayout: Layout<PeerStates> = {
  peers: many({ node: 'text', condition: 'text', phi: 'f64', shards: 'u32' }),
  clockOffMicros: 'u53?',
};

export const FailureDetector = protocol('failure-detector', 31, {
  /**
   * A newer beat of a node was heard, at this node's monotonic clock. `isDirect`: from the node
   * itself, not from another one that remembers it.
   */
  heard: tell<{ readonly state: NodeState; readonly atMs: number; readonly isDirect: boolean }>(1, {
    lane: 'control',
    layout: { state: group(stateLayout), atMs: 'f64', isDirect: 'bool' },
  }),
  peers: ask<object, PeerStates>(2),
  /** What an exchange told about the clock of a peer (clock-health.ts). */
  clock: tell<ClockMeasurement & { readonly node: string }>(3, {
    lane: 'control',
    layout: { node: 'text', originMicros: 'f64', uncertaintyMicros: 'f64' },
  }),
});
export type FailureDetector = typeof FailureDetector.messages;

export const PrimaryWatch = protocol('primary-watch', 33, {
  /** Who is alive, from the failure detector; every change and once per second. */
  peersChanged: tell<PeerStates>(1, { lane: 'control', layout: peerStatesLayout }),
});
export type PrimaryWatch = typeof PrimaryWatch.messages;
