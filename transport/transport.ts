// Which link leads to an actor: none for this thread, a ring for another thread of this node, a TCP
// connection for another node. What every link promises: messages keep their order, each arrives at
// most once, and nothing waits without a bound. Nothing is promised across two links, nor across
// two connections to the same peer (TR-2, TR-7).

import type { Link, Router } from '../runtime/envelope.ts';
import type { Placement, ThreadGroup } from '../runtime/placement.ts';
import type { PeerTable } from './peer-table.ts';

/** A link to another thread of this node. */
export interface FlushableLink extends Link {
  readonly flush: () => void;
}

export interface RouterOptions {
  readonly node: string;
  readonly placement: Placement;
  /** Thread group of an actor's name. */
  readonly groupOf: (actor: string) => ThreadGroup;
  /** Actors that are placed by their shard number alone. */
  readonly threadOverride?: (actor: string, shard: number) => number | undefined;
  readonly threadLinks: ReadonlyMap<number, FlushableLink>;
  /** Undefined: this thread talks to no other node. */
  readonly peers: PeerTable | undefined;
}

export class NodeRouter implements Router {
  readonly #options: RouterOptions;

  constructor(options: RouterOptions) {
    this.#options = options;
  }

  linkTo(node: string, actor: string, shard: number): Link | undefined {
    const { node: self, placement, threadLinks, peers } = this.#options;
    if (node === self) return threadLinks.get(this.#threadOf(placement, actor, shard));
    if (peers === undefined) return undefined;
    return peers.linkTo(node, this.#threadOf(peers.placementOf(node), actor, shard));
  }

  flush(): void {
    for (const link of this.#options.threadLinks.values()) link.flush();
  }

  #threadOf(placement: Placement, actor: string, shard: number): number {
    const { groupOf, threadOverride } = this.#options;
    return threadOverride?.(actor, shard) ?? placement.threadOf(groupOf(actor), shard);
  }
}
