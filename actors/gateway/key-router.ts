// Which coordinator runs a request: this node's own where it holds the key, else one on a replica
// (model.md section 3). Replicas that are alive come first in ring order, suspected ones after
// them, dead ones not at all. Liveness changes the order of asking only, never who holds a key.

import { type Ref, refTo } from '../../runtime/actor.ts';
import type { PeerState } from '../membership/protocol.ts';
import { inOrderOfUse, type Liveness } from '../model/primaries.ts';
import type { Ring } from '../model/ring.ts';
import { shardOf } from '../model/token.ts';
import { Coordinator, Proposer } from '../replication/protocol.ts';

export interface KeyRouterOptions {
  readonly node: string;
  readonly ring: Ring;
  /** Coordinators of this node. */
  readonly coordinatorShards: number;
}

export class KeyRouter {
  readonly #options: KeyRouterOptions;
  /** Coordinators of this node, by shard. */
  readonly #own: readonly Ref<Coordinator>[];
  #peers: ReadonlyMap<string, PeerState> = new Map();

  /** The coordinator of every key, where this node has one and holds a copy of everything. */
  readonly sole: Ref<Coordinator> | undefined;

  constructor(options: KeyRouterOptions) {
    this.#options = options;
    const { node, ring, coordinatorShards } = options;
    this.#own = Array.from({ length: coordinatorShards }, (_, shard) =>
      refTo(Coordinator, node, shard),
    );
    const holdsAll = ring.replicaLists().every((replicas) => replicas.includes(node));
    this.sole = holdsAll && coordinatorShards === 1 ? this.#own[0] : undefined;
  }

  /** The first of the candidates where it is one of this node; else they have to be looked at. */
  own(token: number): Ref<Coordinator> | undefined {
    const { node, ring, coordinatorShards } = this.#options;
    if (!ring.replicasOf(token).includes(node)) return undefined;
    return this.#own[shardOf(token, coordinatorShards)];
  }

  /** False until the failure detector has spoken; a node alone knows enough. */
  get knowsPeers(): boolean {
    return this.#peers.size > 0 || this.#options.ring.members.length === 1;
  }

  update(peers: readonly PeerState[]): void {
    this.#peers = new Map(peers.map((peer) => [peer.node, peer]));
  }

  /**
   * Proposers to ask: the primary first, which is the first replica in ring order that is alive.
   * Whoever asks then meets the others' requests in one queue.
   */
  proposers(token: number): Ref<Proposer>[] {
    const { node, ring, coordinatorShards } = this.#options;
    const livenessOf = (replica: string): Liveness =>
      replica === node ? 'alive' : (this.#peers.get(replica)?.condition ?? 'dead');
    return inOrderOfUse(ring.replicasOf(token), livenessOf).flatMap((replica) => {
      const shards = replica === node ? coordinatorShards : (this.#peers.get(replica)?.shards ?? 0);
      return shards > 0 ? refTo(Proposer, replica, shardOf(token, shards)) : [];
    });
  }

  /**
   * Coordinators to ask, best first; empty where no replica is reachable. `takesHints`: this node
   * comes last also where it holds no copy, to keep the write for the replicas (ANY).
   */
  candidates(token: number, takesHints = false): readonly Ref<Coordinator>[] {
    const { node, ring, coordinatorShards } = this.#options;
    const replicas = ring.replicasOf(token);
    const own = this.#own[shardOf(token, coordinatorShards)] as Ref<Coordinator>;
    const found: Ref<Coordinator>[] = replicas.includes(node) ? [own] : [];
    for (const condition of ['alive', 'suspected'] as const)
      for (const replica of replicas) {
        const peer = replica === node ? undefined : this.#peers.get(replica);
        if (peer?.condition === condition && peer.shards > 0)
          found.push(refTo(Coordinator, replica, shardOf(token, peer.shards)));
      }
    if (takesHints && !replicas.includes(node)) found.push(own);
    return found;
  }
}
