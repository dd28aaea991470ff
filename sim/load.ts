// How much the clients of a seed ask for. All that its workloads would do together makes a seed
// several times as expensive as the faults in it are worth, so most seeds run registers and as many
// of the others as fit into a budget, each as hard as it was drawn: contention inside of a workload
// finds more than many workloads side by side. Some seeds run everything that they have drawn.

import type { Prng } from '../runtime/prng.ts';
import type { PacedWorkload, PreparedWorkload } from './workload.ts';

/** Operations per virtual second. */
const budget = 60;
const unlimitedRatio = 0.1;

/** What a seed runs of what it has drawn. The first one is in every seed, so that none is idle. */
export function withinBudget(drawn: readonly PreparedWorkload[], random: Prng): PacedWorkload[] {
  if (random.chance(unlimitedRatio)) return drawn.map((workload) => ({ ...workload, pace: 1 }));
  const paces = new Map<PreparedWorkload, number>();
  const keep = (workload: PreparedWorkload, mostPerSecond: number): number => {
    paces.set(workload, Math.max(1, workload.perSecond / mostPerSecond));
    return Math.min(workload.perSecond, mostPerSecond);
  };
  const [first, ...others] = drawn;
  if (first === undefined) return [];
  let left = budget - keep(first, budget / 2);
  for (const workload of random.shuffled(others))
    if (paces.size === 1 || workload.perSecond <= left) left -= keep(workload, left);
  return drawn.flatMap((workload) => {
    const pace = paces.get(workload);
    return pace === undefined ? [] : [{ ...workload, pace }];
  });
}
