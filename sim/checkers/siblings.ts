// Keys that keep siblings (DV-1 to DV-4): no value is lost but to a write that had seen it, and what
// such a write was acknowledged for is gone. Every value is written once, so a value names its write.
//
//   lost      a value acknowledged on w replicas is not in a later read of r, r + w above the number
//             of replicas, and no write that may have happened by then had seen it
//   undead    a read shows a value that a write had seen which was acknowledged before, on as many
//   unwritten a read shows a value that nobody wrote, or whose write had no effect
//
// A write may overwrite only what its context had seen; what that had overwritten before is gone by
// the same rule, so it is enough to look at the values that a context shows.

import type { Checker } from '../checker.ts';
import { byKey, type Operation } from '../history.ts';
import { acksOf, type Copies, sureCopies } from './versions.ts';
import type { Violation } from './violation.ts';

export const siblingChecker: Checker = {
  id: 'DV-1 siblings',
  check: ({ of, replicas, lostCopies, isRefilled }) => {
    const operations = of('siblings');
    return {
      judged: operations.filter(isRead).length,
      violations: checkSiblings(operations, replicas, lostCopies, isRefilled),
    };
  },
};

const isRead = ({ kind, outcome }: Operation): boolean => kind === 'get' && outcome === 'ok';

/** `lost`: copies of a record that faults may have destroyed, of `replicas`. */
export function checkSiblings(
  operations: readonly Operation[],
  replicas: number,
  lost = 0,
  isRefilled = false,
): Violation[] {
  const violations: Violation[] = [];
  for (const [key, ofKey] of byKey(operations)) {
    const writes = ofKey.filter(({ kind }) => kind !== 'get');
    for (const read of ofKey.filter(isRead)) {
      const found = { read, writes, isSure: surely(read, { replicas, lost, isRefilled }) };
      for (const { what, write } of [...lostOf(found), ...undeadOf(found), ...unwrittenOf(found)])
        violations.push({
          rule: 'DV-1',
          key,
          what,
          operations: write === undefined ? [read] : [write, read],
        });
    }
  }
  return violations;
}

interface Looked {
  readonly read: Operation;
  readonly writes: readonly Operation[];
  /** The write was acknowledged before the read began, and they have a replica in common. */
  readonly isSure: (write: Operation) => boolean;
}

interface Broken {
  readonly what: string;
  readonly write: Operation | undefined;
}

const surely =
  (read: Operation, copies: Copies) =>
  (write: Operation): boolean =>
    write.outcome === 'ok' &&
    (write.returnedMs ?? Infinity) <= read.invokedMs &&
    sureCopies(acksOf(write.level, copies.replicas), copies) + acksOf(read.level, copies.replicas) >
      copies.replicas;

const hasSeen = (write: Operation, value: string | undefined): boolean =>
  value !== undefined && write.siblings?.includes(value) === true;

function lostOf({ read, writes, isSure }: Looked): Broken[] {
  const returnedMs = read.returnedMs ?? Infinity;
  const mayHaveHappened = writes.filter(
    ({ outcome, invokedMs }) => outcome !== 'fail' && invokedMs < returnedMs,
  );
  return writes
    .filter((write) => write.kind === 'put' && isSure(write))
    .filter(({ value }) => value !== undefined && read.siblings?.includes(value) !== true)
    .filter(({ value }) => !mayHaveHappened.some((other) => hasSeen(other, value)))
    .map((write) => ({ what: 'a value is gone that no write had seen', write }));
}

function undeadOf({ read, writes, isSure }: Looked): Broken[] {
  return writes
    .filter(isSure)
    .filter((write) => read.siblings?.some((value) => hasSeen(write, value)) === true)
    .map((write) => ({ what: 'a value is there that was overwritten', write }));
}

function unwrittenOf({ read, writes }: Looked): Broken[] {
  return (read.siblings ?? []).flatMap((value) => {
    const write = writes.find((one) => one.value === value);
    if (write !== undefined && write.outcome !== 'fail') return [];
    return [{ what: 'a value is there that was not written', write }];
  });
}
