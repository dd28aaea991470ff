// CK-1 and CK-11, the part about values: every value that a read returns was written by a put of
// its key that had started before the read ended and did not end `fail`, and under the etag that
// this put was told. Two reads of one etag see one value.

import { equalEtags, formatEtag } from '../../actors/model/record.ts';
import type { Checker } from '../checker.ts';
import { byKey, type Operation } from '../history.ts';
import type { Violation } from './violation.ts';

/**
 * Keys of all workloads: who put a value does not matter. Only those of the serial one are left to
 * CK-2, since values come twice there and a compare-and-set answers with another one's etag.
 */
export const valuesChecker: Checker = {
  id: 'CK-11',
  check: ({ operations }) => {
    const plain = operations.filter(({ workload }) => workload !== 'serial').flatMap(putsOf);
    const judged = plain.filter(
      ({ kind, outcome, value }) => kind === 'get' && outcome === 'ok' && value !== undefined,
    ).length;
    return { judged, violations: checkValues(plain) };
  },
};

/** A batch is a put of each of its keys. */
const putsOf = (operation: Operation): readonly Operation[] =>
  operation.kind === 'batch'
    ? (operation.keys ?? []).map((key) => ({ ...operation, key, kind: 'put' as const }))
    : [operation];

export function checkValues(operations: readonly Operation[]): Violation[] {
  const violations: Violation[] = [];
  for (const [key, ofKey] of byKey(operations)) {
    const puts = new Map<string, Operation[]>();
    for (const operation of ofKey)
      if (operation.kind === 'put' && operation.value !== undefined)
        puts.set(operation.value, [...(puts.get(operation.value) ?? []), operation]);
    const seen = new Map<string, Operation>();
    for (const read of ofKey) {
      if (read.kind !== 'get' || read.outcome !== 'ok' || read.value === undefined) continue;
      const broken = brokenRead(read, puts.get(read.value) ?? [], seen);
      if (broken !== undefined) violations.push({ ...broken, key });
    }
  }
  return violations;
}

function brokenRead(
  read: Operation,
  writers: readonly Operation[],
  seen: Map<string, Operation>,
): Omit<Violation, 'key'> | undefined {
  const { etag } = read;
  if (etag === undefined)
    return { rule: 'CK-1', what: 'a value was returned without its etag', operations: [read] };
  const before = seen.get(formatEtag(etag));
  if (before !== undefined && before.value !== read.value)
    return { rule: 'CK-1', what: 'one etag, two values', operations: [before, read] };
  seen.set(formatEtag(etag), read);
  const started = writers.filter(({ invokedMs }) => invokedMs <= (read.returnedMs ?? Infinity));
  if (started.length === 0)
    return { rule: 'CK-1', what: 'the value was never written', operations: [read] };
  const possible = started.filter(({ outcome }) => outcome !== 'fail');
  if (possible.length === 0)
    return { rule: 'CK-11', what: 'the write had failed', operations: [...started, read] };
  if (!possible.some((write) => write.etag === undefined || equalEtags(write.etag, etag)))
    return { rule: 'CK-1', what: 'not the etag of its write', operations: [...possible, read] };
  return undefined;
}
