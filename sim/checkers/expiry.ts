// CK-7: a key with a lifetime is there until it ends and never after it. Lifetimes are counted by the
// clocks of the nodes, so both bounds are as wide as those clocks were wrong; where they were wrong by
// more than the lifetime, only "never after it" is left.
//
// Each key of this workload is written once, at a quorum, and read at a quorum.

import type { Checker } from '../checker.ts';
import { byKey, type Operation } from '../history.ts';
import type { Violation } from './violation.ts';

export const expiryChecker: Checker = {
  id: 'CK-7',
  check: ({ of, clockErrorMs, lostCopies }) => {
    const operations = of('expiries');
    const terms = { clockErrorMs, mayBeLost: lostCopies > 0 };
    let judged = 0;
    const violations: Violation[] = [];
    for (const [key, ofKey] of byKey(operations)) {
      const put = ofKey.find(({ kind }) => kind === 'put');
      if (put?.ttlMs === undefined) continue;
      for (const read of ofKey) {
        if (read.kind !== 'get' || read.outcome !== 'ok') continue;
        const demand = demandOf(put, read, terms);
        if (demand === 'nothing') continue;
        judged += 1;
        const what = broken(demand, read);
        if (what !== undefined)
          violations.push({ rule: 'CK-7', key, what, operations: [put, read] });
      }
    }
    return { judged, violations };
  },
};

interface Terms {
  readonly clockErrorMs: number;
  readonly mayBeLost: boolean;
}

/** The stamp of a record is within this of the clock that wrote it. */
const slackMs = 1_000;

function demandOf(
  put: Operation,
  read: Operation,
  { clockErrorMs, mayBeLost }: Terms,
): 'there' | 'gone' | 'nothing' {
  const ttlMs = put.ttlMs ?? 0;
  const errorMs = 2 * clockErrorMs + slackMs;
  if (put.outcome === 'fail') return 'gone';
  const writtenMs = put.returnedMs;
  // A write whose answer was lost may take effect later than anybody knows.
  if (put.outcome !== 'ok' || writtenMs === undefined) return 'nothing';
  if (read.invokedMs > writtenMs + ttlMs + errorMs) return 'gone';
  const isEarly = (read.returnedMs ?? Infinity) < put.invokedMs + ttlMs - errorMs;
  return isEarly && read.invokedMs > writtenMs && !mayBeLost ? 'there' : 'nothing';
}

function broken(demand: 'there' | 'gone', { value }: Operation): string | undefined {
  if (demand === 'gone' && value !== undefined) return 'it was read after its lifetime had ended';
  if (demand === 'there' && value === undefined) return 'it was gone before its lifetime had ended';
  return undefined;
}
