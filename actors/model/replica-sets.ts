// The ranges of the ring, put together by the nodes that hold them: all ranges that the same nodes
// hold are one unit of repair, because one comparison of these nodes settles them all (model.md
// section 3). In a cluster with as many nodes as copies there is exactly one.
//
// The same ring gives the same units under the same numbers on every node.

import type { Ring } from './ring.ts';

export interface ReplicaSet {
  /** The members, sorted, with commas between them. */
  readonly id: string;
  /** Sorted. */
  readonly members: readonly string[];
}

export class ReplicaSets {
  /** Sorted by id; their number is their place in this list. */
  readonly sets: readonly ReplicaSet[];
  /** Last token of each arc, ascending, and the number of its set. */
  readonly ends: readonly number[];
  readonly setOfArc: readonly number[];
  readonly #numbers: ReadonlyMap<string, number>;

  constructor(ring: Ring) {
    const arcs = ring.ranges().map(({ to, replicas }) => ({ to, id: idOf(replicas) }));
    const ids = [...new Set(arcs.map(({ id }) => id))].sort();
    this.#numbers = new Map(ids.map((id, number) => [id, number]));
    this.sets = ids.map((id) => ({ id, members: id.split(',') }));
    // Neighbours that differ only in the order of their replicas are one arc here.
    const kept = arcs.filter(({ id }, i) => arcs[i + 1]?.id !== id);
    this.ends = kept.map(({ to }) => to);
    this.setOfArc = kept.map(({ id }) => this.#numbers.get(id) as number);
  }

  /** The number of a set; undefined where this ring has none of this id. */
  numberOf(id: string): number | undefined {
    return this.#numbers.get(id);
  }

  /** The number of the set that holds a token. */
  indexOf(token: number): number {
    return this.setOfArc[arcOf(this.ends, token)] as number;
  }

  /** Numbers of the sets that a node belongs to. */
  ofNode(node: string): number[] {
    return [...this.sets.keys()].filter((i) => this.sets[i]?.members.includes(node));
  }
}

const idOf = (replicas: readonly string[]): string => [...replicas].sort().join(',');

/** The arc of a token among arcs with these ends; behind the last one the first comes again. */
export function arcOf(ends: readonly number[], token: number): number {
  let low = 0;
  let high = ends.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ends[middle] as number) < token) low = middle + 1;
    else high = middle;
  }
  return low === ends.length ? 0 : low;
}
