// CK-9: a run that hardly did anything proves nothing. Such a seed is invalid: neither passed nor
// failed, and counted apart.

import type { Operation } from '../history.ts';

export interface LoadFloor {
  /** Acknowledged operations before the first fault. */
  readonly beforeFaults: number;
  /** Acknowledged operations while faults went on. */
  readonly duringFaults: number;
}

/** Why the run proves nothing; undefined: it does. */
export function invalidLoad(
  operations: readonly Operation[],
  floor: LoadFloor,
): string | undefined {
  const acknowledged = (phase: string): number =>
    operations.filter((operation) => operation.phase === phase && operation.outcome === 'ok')
      .length;
  const before = acknowledged('load');
  if (before < floor.beforeFaults)
    return `${before} operations acknowledged before faults, ${floor.beforeFaults} wanted`;
  const during = acknowledged('chaos');
  if (during < floor.duringFaults)
    return `${during} operations acknowledged during faults, ${floor.duringFaults} wanted`;
  return undefined;
}
