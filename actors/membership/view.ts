// What a node knows of the others, and the merge rule of gossip (GO-2): the higher generation wins
// whole, in one generation the higher heartbeat. Merging is commutative, associative and
// idempotent, so news may be lost, repeated or reordered.

import type { Digest, NodeState } from './protocol.ts';

export type View = ReadonlyMap<string, NodeState>;

/** A generation is seconds since 1970 or a little above; further ahead it is refused (GO-2). */
export const generationLeadMaxSeconds = 365 * 24 * 3600;

export function isNewer(a: Digest, b: Digest | undefined): boolean {
  if (b === undefined) return true;
  return (
    a.generation > b.generation || (a.generation === b.generation && a.heartbeat > b.heartbeat)
  );
}

/** The view with `state` merged in, and whether it told anything new. */
export function merged(view: View, state: NodeState): { view: View; isNews: boolean } {
  if (!isNewer(state, view.get(state.node))) return { view, isNews: false };
  const next = new Map(view);
  next.set(state.node, state);
  return { view: next, isNews: true };
}

export function digestsOf(view: View): Digest[] {
  return [...view.values()].map(({ node, generation, heartbeat }) => ({
    node,
    generation,
    heartbeat,
  }));
}

/** For a caller with these digests: what it lacks, and the nodes of which it knows more. */
export function compare(
  view: View,
  digests: readonly Digest[],
): { states: NodeState[]; wanted: string[] } {
  const theirs = new Map(digests.map((digest) => [digest.node, digest]));
  const states = [...view.values()].filter((state) => isNewer(state, theirs.get(state.node)));
  const wanted = digests
    .filter((digest) => isNewer(digest, view.get(digest.node)))
    .map((digest) => digest.node);
  return { states, wanted };
}
