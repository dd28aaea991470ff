// Which record wins. A pure function per namespace: commutative, associative and idempotent, so
// that replicas agree whatever the order in which writes reach them (guarantee G9). Last write
// wins loses one of two concurrent updates; docs/consistency.md says so.

import { compareRecords } from './record.ts';

export type Resolve = (a: Uint8Array, b: Uint8Array) => Uint8Array;

/** Last write wins, by the total order of compareRecords (rule HLC-1). */
export const lastWriteWins: Resolve = (a, b) => (compareRecords(a, b) >= 0 ? a : b);

/** The winner of any number of records; undefined where there is none. */
export function resolveAll(
  records: Iterable<Uint8Array | undefined>,
  resolve: Resolve,
): Uint8Array | undefined {
  let winner: Uint8Array | undefined;
  for (const record of records)
    if (record !== undefined) winner = winner === undefined ? record : resolve(winner, record);
  return winner;
}
