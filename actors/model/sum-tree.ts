// Merkle trees over the tokens of a shard, one for each set of replicas: where two replicas have
// the same sum for a part of the token space they hold the same records there, so only parts that
// differ are looked at closer, down to the leaves (Merkle, "A Digital Signature Based on a
// Conventional Encryption Function", 1987; Dynamo, 2007, section 4.7).
//
// The hash of a part is the sum of the hashes of its records (Bellare and Micciancio, "A New
// Paradigm for Collision-Free Hashing", 1997): so records may come in any order, the shards of a
// node may be added up, and a node of the tree is the sum of its children. Two sums of 32 bits,
// from two hash functions, tell accidents apart; nobody here is an adversary.
//
// Only leaves that hold something take memory.

import { crc32 } from '../../runtime/bytes.ts';
import { fingerprint32 } from '../../runtime/hash.ts';

/** A node of the tree has so many children, as bits of the token. */
export const bitsPerLevel = 4;
/** Leaves are parts of the token space by so many leading bits, at most. */
export const leafBitsMax = 16;
const leavesMax = 2 ** leafBitsMax;

/** Two sums of hashes and a count, each modulo 2^32. */
interface Sum {
  a: number;
  b: number;
  records: number;
}

/** So deep that a leaf holds some tens of records. */
export function leafBitsFor(records: number): number {
  let bits = bitsPerLevel;
  while (bits < leafBitsMax && records / 2 ** bits > 64) bits += bitsPerLevel;
  return bits;
}

/** The leaf of a token: its first bits. */
export const leafOf = (token: number, bits: number): number => Math.floor(token / 2 ** (32 - bits));

/** One number for a node of the tree of a set; at most 2^16 sets. */
export const nodeKey = (set: number, node: number): number => set * leavesMax + node;

export class SumTree {
  readonly bits: number;
  /** By bits: the nodes of that level. */
  readonly #levels = new Map<number, Map<number, Sum>>();
  records = 0;

  /** `bits`: 4, 8, 12 or 16. */
  constructor(bits: number) {
    this.bits = bits;
    for (let level = 0; level <= bits; level += bitsPerLevel) this.#levels.set(level, new Map());
  }

  add(set: number, token: number, record: Uint8Array): void {
    const a = mixed(crc32(record));
    const b = mixed(fingerprint32(record) ^ 0x5bd1e995);
    for (const [level, nodes] of this.#levels) {
      const key = nodeKey(set, leafOf(token, level));
      const sum = nodes.get(key);
      if (sum === undefined) nodes.set(key, { a, b, records: 1 });
      else {
        sum.a = (sum.a + a) >>> 0;
        sum.b = (sum.b + b) >>> 0;
        sum.records = (sum.records + 1) >>> 0;
      }
    }
    this.records += 1;
  }

  /** For each node of a level three numbers: both sums and the count. A multiple of 4 bits. */
  sums(set: number, level: number, nodes: readonly number[]): number[] {
    const known = this.#levels.get(level);
    return nodes.flatMap((node) => {
      const sum = known?.get(nodeKey(set, node));
      return sum === undefined ? [0, 0, 0] : [sum.a, sum.b, sum.records];
    });
  }
}

/** Spreads every bit over all others (the finalizer of MurmurHash3, Appleby, public domain). */
function mixed(hash: number): number {
  let h = hash;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** The sums of the shards of one node, added up. */
export function addSums(parts: readonly (readonly number[])[]): number[] {
  const [first = [], ...rest] = parts;
  return rest.reduce<number[]>(
    (total, sums) => total.map((sum, i) => (sum + (sums[i] ?? 0)) >>> 0),
    [...first],
  );
}

/** Those of `nodes` for which not all members have the same three numbers. */
export function differing(
  nodes: readonly number[],
  members: readonly (readonly number[])[],
): number[] {
  const [first = []] = members;
  return nodes.filter((_, i) =>
    members.some((sums) => [0, 1, 2].some((j) => sums[3 * i + j] !== first[3 * i + j])),
  );
}

/** The children of nodes, one level down. */
export const childrenOf = (nodes: readonly number[]): number[] =>
  nodes.flatMap((node) =>
    Array.from({ length: 2 ** bitsPerLevel }, (_, i) => node * 2 ** bitsPerLevel + i),
  );
