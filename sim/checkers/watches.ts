// WATCH-1: a watch is told of every change that was acknowledged after it began, or of a newer one of
// the same key; and within a stream no key goes back. Where a watch says `reset`, what came before
// counts no more: only its last beginning is judged.

import { compareEtags, type Etag } from '../../actors/model/record.ts';
import type { Checker } from '../checker.ts';
import type { Operation, Told } from '../history.ts';
import type { Violation } from './violation.ts';

export const watchChecker: Checker = {
  id: 'WATCH-1',
  check: ({ of, lostCopies }) => {
    const operations = of('watches');
    const streams = operations.filter(({ told }) => told !== undefined);
    const backwards = streams.flatMap((stream) => goesBack(stream));
    if (lostCopies > 0) return { judged: streams.length, violations: backwards };
    const due = acknowledgedSince(streams, operations);
    const newest = newestOf(streams.flatMap(({ told }) => told ?? []));
    const missing = due.filter(({ key, etag }) => {
      const told = newest.get(key);
      return etag !== undefined && (told === undefined || compareEtags(told, etag) < 0);
    });
    const violations = missing.map((operation) => ({
      rule: 'WATCH-1',
      key: operation.key,
      operations: [operation],
      what: 'a change was never told',
    }));
    return { judged: due.length, violations: [...backwards, ...violations] };
  },
};

function goesBack(stream: Operation): Violation[] {
  const newest = new Map<string, Etag>();
  for (const { key, etag } of stream.told ?? []) {
    const before = newest.get(key);
    if (before !== undefined && compareEtags(etag, before) <= 0)
      return [{ rule: 'WATCH-1', key, operations: [stream], what: 'a key went back in a stream' }];
    newest.set(key, etag);
  }
  return [];
}

/** Writes whose clients knew that the watch had begun, the last time that it did. */
function acknowledgedSince(
  streams: readonly Operation[],
  operations: readonly Operation[],
): Operation[] {
  const last = Math.max(...streams.map(({ session = 0 }) => session));
  const current = streams.filter(({ session }) => session === last);
  if (current.length === 0) return [];
  const beganMs = Math.min(...current.map(({ invokedMs }) => invokedMs));
  return operations.filter(
    ({ kind, outcome, invokedMs }) =>
      (kind === 'put' || kind === 'delete') && outcome === 'ok' && invokedMs > beganMs,
  );
}

function newestOf(told: readonly Told[]): ReadonlyMap<string, Etag> {
  const newest = new Map<string, Etag>();
  for (const { key, etag } of told) {
    const known = newest.get(key);
    if (known === undefined || compareEtags(etag, known) > 0) newest.set(key, etag);
  }
  return newest;
}
