// Who is the primary of which range: the first replica in ring order that is alive, or else the
// first that is suspected (model.md section 3). The primary runs the serial operations of its keys;
// when it is convicted the next replica takes over, with no election, since ballots and not the
// role protect what is decided.

import { type RingRange, widthOf } from './ring.ts';

export type Liveness = 'alive' | 'suspected' | 'dead';

/** Replicas that may be asked, in the order in which they are: the alive ones, then the suspected. */
export function inOrderOfUse(
  replicas: readonly string[],
  livenessOf: (node: string) => Liveness,
): readonly string[] {
  const alive = replicas.filter((node) => livenessOf(node) === 'alive');
  return [...alive, ...replicas.filter((node) => livenessOf(node) === 'suspected')];
}

/** The primary of each range, in the order of the ranges; undefined where all replicas are dead. */
export function primariesOf(
  ranges: readonly RingRange[],
  livenessOf: (node: string) => Liveness,
): readonly (string | undefined)[] {
  return ranges.map(({ replicas }) => inOrderOfUse(replicas, livenessOf)[0]);
}

/** The share of all tokens, 0 to 1, that each node is the primary of. */
export function primaryShares(
  ranges: readonly RingRange[],
  primaries: readonly (string | undefined)[],
): Map<string, number> {
  const shares = new Map<string, number>();
  ranges.forEach((range, i) => {
    const node = primaries[i];
    if (node !== undefined) shares.set(node, (shares.get(node) ?? 0) + widthOf(range));
  });
  return shares;
}

export interface Takeover {
  /** Who had the ranges before; undefined: nobody that was alive. */
  readonly from: string | undefined;
  readonly ranges: number;
  /** Of all tokens, 0 to 1. */
  readonly share: number;
}

/** What `node` is the primary of now and was not before, by who was it. */
export function takeoversBy(
  node: string,
  ranges: readonly RingRange[],
  before: readonly (string | undefined)[],
  now: readonly (string | undefined)[],
): readonly Takeover[] {
  const found = new Map<string | undefined, { ranges: number; share: number }>();
  ranges.forEach((range, i) => {
    if (now[i] !== node || before[i] === node) return;
    const taken = found.get(before[i]) ?? { ranges: 0, share: 0 };
    taken.ranges += 1;
    taken.share += widthOf(range);
    found.set(before[i], taken);
  });
  return [...found].map(([from, taken]) => ({ from, ...taken }));
}
