// CK-2 and CK-8: serial operations of a key are linearizable, and increments are counted once each.
// Where a disk was lost or damaged an acceptor may have forgotten what it promised (CO-4), so such a
// run proves nothing about them.

import type { Checker } from '../checker.ts';
import { byKey, type Operation } from '../history.ts';
import { isLinearizable, type RegisterOperation } from '../linearizability.ts';
import type { Violation } from './violation.ts';

const kinds = { get: 'read', put: 'write', delete: 'delete', cas: 'cas' } as const;

export const linearizabilityChecker: Checker = {
  id: 'CK-2',
  check: ({ of, lostCopies, isRefilled }) => {
    if (lostCopies > 0 && !isRefilled) return { judged: 0, violations: [] };
    const operations = of('serial').filter(
      ({ key, level }) => !key.startsWith('counter') && level === 'SERIAL',
    );
    const violations = [...checkRegisters(operations), ...checkSettledReads(operations)];
    return { judged: operations.length, violations };
  },
};

export function checkRegisters(operations: readonly Operation[]): Violation[] {
  const violations: Violation[] = [];
  for (const [key, ofKey] of byKey(operations)) {
    const known = ofKey.filter(
      ({ outcome, kind }) => outcome === 'ok' || (outcome === 'info' && kind !== 'get'),
    );
    const verdict = isLinearizable(known.map(registerOperationOf));
    if (verdict === 'yes') continue;
    const what =
      verdict === 'no'
        ? 'no order of the operations explains their answers'
        : 'too many operations to find an order';
    violations.push({ rule: 'CK-2', key, what, operations: known });
  }
  return violations;
}

/**
 * When all writers have given up, the first read decides what becomes of their open writes: all
 * reads after it see the same (PX-9). An order alone would let an open write come at any time.
 */
export function checkSettledReads(operations: readonly Operation[]): Violation[] {
  const violations: Violation[] = [];
  for (const [key, ofKey] of byKey(operations)) {
    const reads = ofKey.filter(
      ({ kind, outcome, phase }) => kind === 'get' && outcome === 'ok' && phase === 'final',
    );
    const [first] = reads;
    const other = reads.find(({ value }) => value !== first?.value);
    if (first === undefined || other === undefined) continue;
    const what = 'an open write took effect after a read had settled that it has none';
    violations.push({ rule: 'CK-2', key, what, operations: [first, other] });
  }
  return violations;
}

function registerOperationOf(operation: Operation): RegisterOperation {
  const { kind, value, expected, wasMet, invokedMs, returnedMs, outcome } = operation;
  return {
    kind: kinds[kind as keyof typeof kinds],
    ...{ value, expected, wasMet, startMs: invokedMs },
    endMs: outcome === 'ok' ? (returnedMs ?? Infinity) : Infinity,
  };
}

export const counterChecker: Checker = {
  id: 'CK-8',
  check: ({ of, lostCopies, isRefilled }) => {
    if (lostCopies > 0 && !isRefilled) return { judged: 0, violations: [] };
    const operations = of('serial');
    const counters = [...byKey(operations)].filter(([, all]) =>
      all.some(({ kind }) => kind === 'increment'),
    );
    return {
      judged: counters.reduce((sum, [, all]) => sum + all.length, 0),
      violations: counters.flatMap(([key, all]) => checkCounter(key, all)),
    };
  },
};

/** Results are unique and grow with time; the total lies between the acknowledged and the possible. */
export function checkCounter(key: string, operations: readonly Operation[]): Violation[] {
  const added = operations.filter(({ kind }) => kind === 'increment');
  const acked = added.filter(({ outcome }) => outcome === 'ok');
  const violations: Violation[] = [];
  const violated = (what: string, ...shown: readonly Operation[]): void => {
    violations.push({ rule: 'CK-8', key, what, operations: shown });
  };
  const first = new Map<string | undefined, Operation>();
  for (const operation of acked) {
    const same = first.get(operation.value);
    if (same !== undefined) violated('two increments have one result', same, operation);
    first.set(operation.value, operation);
    const before = acked.find(
      ({ returnedMs = Infinity, value }) =>
        returnedMs < operation.invokedMs && Number(value) >= Number(operation.value),
    );
    if (before !== undefined)
      violated('a later increment is not above an earlier', before, operation);
  }
  const unknown = added.filter(({ outcome }) => outcome === 'info').length;
  for (const read of operations) {
    if (read.kind !== 'get' || read.outcome !== 'ok' || read.phase !== 'final') continue;
    // A value stands in the history with its length and checksum after it.
    const total = Number(read.value?.split('/', 1)[0] ?? 0);
    if (total < acked.length || total > acked.length + unknown)
      violated(`${acked.length} acknowledged, ${unknown} unknown, ${total} counted`, read);
  }
  return violations;
}
