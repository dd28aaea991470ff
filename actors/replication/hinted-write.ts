// A write at level ANY where no replica of the key answers: a node that holds no copy keeps it as
// hints, one for each replica, and one that is durable acknowledges it (WR-4). It is not readable
// until a replica is back and has been given it; and nobody has read what it replaces, so that a
// clock behind decides against it.

import type { Context, Ref } from '../../runtime/actor.ts';
import type { Failure } from '../../runtime/errors.ts';
import type { HintKeeper } from '../handoff/protocol.ts';
import type { Explanation } from './explain.ts';

export interface HintedWrite {
  readonly hints: Ref<HintKeeper>;
  readonly record: Uint8Array;
  readonly replicas: readonly string[];
  readonly leftMs: number;
  readonly explanation: Explanation | undefined;
  /** Once for each replica: undefined where its hint is on disk. */
  readonly answered: (problem: Failure | undefined) => void;
}

export function keepForReplicas(
  ask: Context['ask'],
  { hints, record, replicas, leftMs, explanation, answered }: HintedWrite,
): void {
  for (const node of replicas) {
    const note = explanation?.asked(node, 'hint');
    ask(hints, 'keepSynced', { node, record }, leftMs, (problem) => {
      note?.(problem);
      answered(problem);
    });
  }
}
