// Who holds a key, and who of them can be asked now: the ring, with what the failure detector says
// of each node and how many shards it runs. A view of one moment; whoever coordinates requests has
// its own and tells it of every change.

import { type Ref, refTo } from '../../runtime/actor.ts';
import { type Failure, failure, KvError } from '../../runtime/errors.ts';
import type { PeerState, PeerStates } from '../membership/protocol.ts';
import { type Level, requiredAcks } from '../model/consistency.ts';
import type { Ring } from '../model/ring.ts';
import { shardOf } from '../model/token.ts';
import { Replica } from './protocol.ts';

export interface OwnPlace {
  readonly node: string;
  /** Shards of this node. */
  readonly shards: number;
}

export class ReplicaView {
  readonly #ring: Ring;
  readonly #own: OwnPlace;
  readonly #peers = new Map<string, PeerState>();
  #clockOffMicros: number | undefined;
  /** Of the ring's lists, which are shared: in the order of use, until somebody's condition changes. */
  readonly #live = new Map<readonly string[], readonly string[]>();
  /** Addresses that were asked for, by node and shard. */
  readonly #replicas = new Map<string, Ref<Replica>[]>();

  constructor(ring: Ring, own: OwnPlace) {
    this.#ring = ring;
    this.#own = own;
  }

  changed({ peers, clockOffMicros }: PeerStates): void {
    for (const peer of peers) this.#peers.set(peer.node, peer);
    this.#live.clear();
    this.#clockOffMicros = clockOffMicros;
  }

  /**
   * Why this node coordinates no writes and serial operations now; undefined: it does. With a wrong
   * clock its versions would lose against older ones, or nobody could overwrite them (HLC-7).
   */
  clockTrouble(): Failure | undefined {
    if (this.#clockOffMicros === undefined) return undefined;
    return failure('CLOCK_SKEW', {
      node: this.#own.node,
      offMs: Math.round(this.#clockOffMicros / 1000),
      detail: 'the clock of this node is too far from those of most others',
    });
  }

  get members(): readonly string[] {
    return this.#ring.members;
  }

  /** Nodes that hold a token's keys, in ring order. */
  replicasOf(token: number): readonly string[] {
    return this.#ring.replicasOf(token);
  }

  /** The replica of a token on one node. */
  replica(node: string, token: number): Ref<Replica> {
    const shard = shardOf(token, this.shardsOf(node));
    let known = this.#replicas.get(node);
    if (known === undefined) {
      known = [];
      this.#replicas.set(node, known);
    }
    return (known[shard] ??= refTo(Replica, node, shard));
  }

  shardsOf(node: string): number {
    if (node === this.#own.node) return this.#own.shards;
    return this.#peers.get(node)?.shards ?? 1;
  }

  /** Nodes that are not convicted: this one first, then the alive, then the suspected. */
  live(nodes: readonly string[]): readonly string[] {
    let known = this.#live.get(nodes);
    if (known === undefined) {
      known = this.#inOrderOfUse(nodes);
      this.#live.set(nodes, known);
    }
    return known;
  }

  #inOrderOfUse(nodes: readonly string[]): readonly string[] {
    const self: string[] = [];
    const alive: string[] = [];
    const suspected: string[] = [];
    for (const node of nodes) {
      if (node === this.#own.node) self.push(node);
      else {
        const condition = this.#peers.get(node)?.condition;
        if (condition === 'alive') alive.push(node);
        else if (condition === 'suspected') suspected.push(node);
      }
    }
    return [...self, ...alive, ...suspected];
  }
}

/** Answers needed; UNAVAILABLE before anything is sent where they cannot be had (WR-2). */
export function admitLevel(
  level: Level,
  replicas: readonly string[],
  live: readonly string[],
): number {
  const required = requiredAcks(level, replicas.length);
  if (live.length < required)
    throw new KvError('UNAVAILABLE', {
      required,
      alive: live.length,
      level,
      detail: `${required} of ${replicas.length} replicas needed, ${live.length} alive`,
    });
  return required;
}
