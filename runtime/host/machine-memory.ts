// How much memory this process may have: the limit of its control group where there is one, else
// what the machine has.

import { totalmem } from 'node:os';

/** Bytes, above 0. */
export function machineMemoryBytes(): number {
  const total = totalmem();
  // 0 where there is no limit or none is known; without a limit some kernels say an absurd number.
  const limit = process.constrainedMemory();
  return limit > 0 && limit < total ? limit : total;
}
