// The operations of a batch, some of them at the same time: enough to use all nodes, few enough that
// one batch does not fill their queues. Outcomes keep the order of the operations.

import type { Done } from '../../runtime/actor.ts';
import { failure } from '../../runtime/errors.ts';
import type { Outcome } from './http-answers.ts';

/** Operations of one batch that are under way at the same time. */
const batchParallel = 128;

/** Runs `items` with bounded parallelism; outcomes in the order of the items. */
export function runAll<Item, Reply>(
  items: readonly Item[],
  run: (item: Item, done: Done<Reply>) => void,
  done: (outcomes: readonly Outcome<Reply>[]) => void,
): void {
  const outcomes: Outcome<Reply>[] = [];
  let next = 0;
  let ended = 0;
  let isStepping = false;
  const step = (): void => {
    const index = next;
    next += 1;
    run(items[index] as Item, (problem, reply) => {
      outcomes[index] = reply === undefined ? { failure: problem ?? failure('BUG') } : { reply };
      ended += 1;
      if (ended === items.length) done(outcomes);
      else advance();
    });
  };
  // An outcome may come before `run` returns: then the loop goes on, not deeper.
  const advance = (): void => {
    if (isStepping) return;
    isStepping = true;
    while (next < items.length && next - ended < batchParallel) step();
    isStepping = false;
  };
  if (items.length === 0) done([]);
  advance();
}
