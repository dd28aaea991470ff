// The ring: which nodes hold a key. Node `id` owns [256] virtual nodes at fingerprint32("<id>:<i>");
// a key belongs to the first virtual node at or after its token, wrapping, and its replicas are the
// next distinct nodes (Dynamo, SOSP 2007, section 4.2-4.3). When two nodes draw one token the lower
// id keeps it and the other draws again from "<id>:<i>:<n>".
//
// Same inputs, same ring, on every machine (golden vectors in the tests). A lookup is a binary
// search in one sorted Uint32Array and an index into a table of interned replica lists.

import { fingerprint32PureText } from '../../runtime/fingerprint32.ts';
import { KvError } from '../../runtime/errors.ts';

export interface RingOptions {
  /** Node ids; order does not matter. */
  readonly members: readonly string[];
  /** Virtual nodes per node, 1 to 4,096. Default 256. */
  readonly virtualNodes: number;
  /** Copies of each key; with fewer members, each of them holds every key. */
  readonly replicationFactor: number;
}

/** One arc of the ring between two virtual nodes. */
export interface RingRange {
  /** Not included; the arc wraps where it is not below `to`. */
  readonly after: number;
  /** Included: the token of the virtual node that ends the arc. */
  readonly to: number;
  readonly replicas: readonly string[];
}

export class Ring {
  readonly members: readonly string[];
  readonly virtualNodes: number;
  readonly replicationFactor: number;
  readonly #tokens: Uint32Array;
  /** Replica list of each virtual node, as an index into the lists. */
  readonly #lists: Uint32Array;
  readonly #replicas: readonly (readonly string[])[];
  /** Made when it is first asked for. */
  #listsOfNode: ReadonlyMap<string, readonly number[]> | undefined;

  /** BAD_REQUEST for an empty or repeated member list or numbers out of range. */
  constructor({ members, virtualNodes, replicationFactor }: RingOptions) {
    const sorted = [...new Set(members)].sort();
    if (sorted.length === 0 || sorted.length !== members.length)
      throw new KvError('BAD_REQUEST', { detail: 'a ring needs members, each named once' });
    if (!Number.isInteger(virtualNodes) || virtualNodes < 1 || virtualNodes > 4096)
      throw new KvError('BAD_REQUEST', { detail: 'virtual nodes: expected 1 to 4,096' });
    if (!Number.isInteger(replicationFactor) || replicationFactor < 1)
      throw new KvError('BAD_REQUEST', { detail: 'replication factor: expected at least 1' });
    this.members = sorted;
    this.virtualNodes = virtualNodes;
    this.replicationFactor = Math.min(replicationFactor, sorted.length);
    const owners = placeTokens(sorted, virtualNodes);
    this.#tokens = Uint32Array.from(owners.keys()).sort();
    const { lists, replicas } = replicaTable(this.#tokens, owners, sorted, this.replicationFactor);
    this.#lists = lists;
    this.#replicas = replicas;
  }

  /** The nodes that hold a token's keys, the natural primary first. The list is shared: do not change it. */
  replicasOf(token: number): readonly string[] {
    return this.#replicas[this.#lists[this.#indexOf(token)] as number] as readonly string[];
  }

  /** All distinct replica lists: enough to know whether every range can be read. */
  replicaLists(): readonly (readonly string[])[] {
    return this.#replicas;
  }

  /** The places in `replicaLists()` of those that a node is in. The list is shared: do not change it. */
  listsOf(node: string): readonly number[] {
    this.#listsOfNode ??= listsByNode(this.members, this.#replicas);
    return this.#listsOfNode.get(node) ?? [];
  }

  /** The arcs in token order; neighbours with the same replicas are one. */
  ranges(): RingRange[] {
    const ranges: RingRange[] = [];
    const count = this.#tokens.length;
    let after = this.#tokens[count - 1] as number;
    for (let i = 0; i < count; i += 1) {
      const to = this.#tokens[i] as number;
      const isLast = i === count - 1;
      if (!isLast && this.#lists[i] === this.#lists[i + 1]) continue;
      const replicas = this.#replicas[this.#lists[i] as number] as readonly string[];
      ranges.push({ after, to, replicas });
      after = to;
    }
    return ranges;
  }

  /** The share of the token space, 0 to 1, that each member holds as one of its replicas. */
  ownership(): Map<string, number> {
    const shares = new Map<string, number>(this.members.map((member) => [member, 0]));
    for (const { after, to, replicas } of this.ranges()) {
      const width = widthOf({ after, to });
      for (const node of replicas) shares.set(node, (shares.get(node) ?? 0) + width);
    }
    return shares;
  }

  #indexOf(token: number): number {
    const tokens = this.#tokens;
    let low = 0;
    let high = tokens.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((tokens[middle] as number) < token) low = middle + 1;
      else high = middle;
    }
    return low === tokens.length ? 0 : low;
  }
}

/** Part of all tokens that lie in a range, 0 to 1. */
export function widthOf({ after, to }: Pick<RingRange, 'after' | 'to'>): number {
  const tokens = to > after ? to - after : to - after + 0x1_0000_0000;
  return tokens / 0x1_0000_0000;
}

function placeTokens(sorted: readonly string[], virtualNodes: number): Map<number, number> {
  const owners = new Map<number, number>();
  // Lower ids draw first and so keep a token that two would get.
  sorted.forEach((node, index) => {
    for (let i = 0; i < virtualNodes; i += 1) {
      let token = fingerprint32PureText(`${node}:${i}`);
      for (let n = 1; owners.has(token); n += 1) token = fingerprint32PureText(`${node}:${i}:${n}`);
      owners.set(token, index);
    }
  });
  return owners;
}

function replicaTable(
  tokens: Uint32Array,
  owners: ReadonlyMap<number, number>,
  members: readonly string[],
  replicationFactor: number,
): { lists: Uint32Array; replicas: (readonly string[])[] } {
  const ownerAt = Uint32Array.from(tokens, (token) => owners.get(token) as number);
  const lists = new Uint32Array(tokens.length);
  const replicas: (readonly string[])[] = [];
  const known = new Map<string, number>();
  const chosen: number[] = [];
  for (let i = 0; i < tokens.length; i += 1) {
    chosen.length = 0;
    for (let step = 0; chosen.length < replicationFactor; step += 1) {
      const owner = ownerAt[(i + step) % tokens.length] as number;
      if (!chosen.includes(owner)) chosen.push(owner);
    }
    const id = chosen.join(',');
    let list = known.get(id);
    if (list === undefined) {
      list = replicas.length;
      known.set(id, list);
      replicas.push(chosen.map((owner) => members[owner] as string));
    }
    lists[i] = list;
  }
  return { lists, replicas };
}

function listsByNode(
  members: readonly string[],
  replicas: readonly (readonly string[])[],
): ReadonlyMap<string, readonly number[]> {
  const lists = new Map<string, number[]>(members.map((member) => [member, []]));
  for (const [list, nodes] of replicas.entries())
    for (const node of nodes) lists.get(node)?.push(list);
  return lists;
}
