// What must hold in a history, however the cluster was treated. Each check returns the violations
// that it found, as sentences, and how many operations it judged.

import { assert } from '../../runtime/errors.ts';
import {
  isLinearizable as isRegisterLinearizable,
  type RegisterOperation,
  stepsMax,
  type Verdict as Order,
} from '../../sim/linearizability.ts';
import { byKey, compareEtagTexts, type Operation } from './history.ts';

export interface Verdict {
  readonly name: string;
  readonly judged: number;
  readonly violations: readonly string[];
}

const shownMax = 5;
const verdict = (name: string, judged: number, violations: readonly string[]): Verdict => ({
  name,
  judged,
  violations: violations.slice(0, shownMax),
});

const describe = ({ kind, key, level, client, startMs, endMs, value, etag }: Operation): string =>
  `${kind} ${key} at ${level} by client ${client} (${startMs.toFixed(1)} to ${endMs.toFixed(1)} ms, value ${String(value)}, etag ${String(etag)})`;

const isQuorum = ({ level }: Operation): boolean => level === 'QUORUM' || level === 'ALL';

/** A delete that may be newer than `floor`, seen from a read that found nothing. */
function deleteExplains(read: Operation, floor: string, operations: readonly Operation[]): boolean {
  return operations.some(
    ({ kind, outcome, startMs, etag }) =>
      kind === 'delete' &&
      outcome !== 'fail' &&
      startMs < read.endMs &&
      (etag === undefined || compareEtagTexts(etag, floor) >= 0),
  );
}

/**
 * Quorum reads see every quorum write that was acknowledged before they began, or a newer one, and
 * nothing older than an earlier quorum read saw (CK-1, G4, G5).
 */
export function checkQuorumFloor(history: readonly Operation[]): Verdict {
  const violations: string[] = [];
  let judged = 0;
  for (const operations of byKey(history.filter(isQuorum)).values()) {
    const floorAt = floorsOf(operations);
    for (const read of operations) {
      if (read.kind !== 'read' || read.outcome !== 'ok') continue;
      judged += 1;
      const floor = floorAt(read.startMs);
      const floorEtag = floor?.etag;
      if (floor === undefined || floorEtag === undefined) continue;
      const isBehind =
        read.etag === undefined
          ? !deleteExplains(read, floorEtag, operations)
          : compareEtagTexts(read.etag, floorEtag) < 0;
      if (isBehind) violations.push(`${describe(read)} is older than ${describe(floor)}`);
    }
  }
  return verdict('quorum floor', judged, violations);
}

/** For a moment, the newest of what was acknowledged or read before it. */
function floorsOf(operations: readonly Operation[]): (atMs: number) => Operation | undefined {
  const known = operations
    .filter(({ outcome, etag }) => outcome === 'ok' && etag !== undefined)
    .sort((a, b) => a.endMs - b.endMs);
  let newest: Operation | undefined;
  const floors = known.map((operation) => {
    if (compareEtagTexts(operation.etag ?? '', newest?.etag ?? '0-0-0') > 0) newest = operation;
    return newest;
  });
  return (atMs) => {
    const after = known.findIndex(({ endMs }) => endMs >= atMs);
    return floors[(after < 0 ? known.length : after) - 1];
  };
}

/** What is read was written, by a write that may have had an effect, and under its etag. */
export function checkValues(history: readonly Operation[]): Verdict {
  const violations: string[] = [];
  let judged = 0;
  for (const operations of byKey(history).values()) {
    const writes = operations.filter(({ kind }) => kind === 'write');
    const byValue = new Map(writes.map((write) => [write.value, write]));
    for (const read of operations) {
      if (read.kind !== 'read' || read.outcome !== 'ok' || read.value === undefined) continue;
      judged += 1;
      const write = byValue.get(read.value);
      if (write === undefined) violations.push(`${describe(read)}: nobody wrote this`);
      else if (write.outcome === 'fail')
        violations.push(`${describe(read)}: its write failed with ${String(write.code)}`);
      else if (write.startMs > read.endMs)
        violations.push(`${describe(read)}: before it was written`);
      else if (write.etag !== undefined && write.etag !== read.etag)
        violations.push(`${describe(read)}: was acknowledged as ${write.etag}`);
    }
  }
  return verdict('values', judged, violations);
}

/** A session reads its writes and never goes back (SS-*); `client` is the session. */
export function checkSessions(history: readonly Operation[]): Verdict {
  const violations: string[] = [];
  let judged = 0;
  for (const operations of byKey(history).values()) {
    const floors = new Map<number, string>();
    for (const operation of [...operations].sort((a, b) => a.startMs - b.startMs)) {
      if (operation.outcome !== 'ok') continue;
      const { kind, client, etag } = operation;
      const floor = floors.get(client);
      if (kind === 'read') judged += 1;
      const isBehind =
        kind === 'read' &&
        floor !== undefined &&
        (etag === undefined
          ? !deleteExplains(operation, floor, operations)
          : compareEtagTexts(etag, floor) < 0);
      if (isBehind) violations.push(`${describe(operation)} went back behind ${floor}`);
      if (etag !== undefined && (floor === undefined || compareEtagTexts(etag, floor) > 0))
        floors.set(client, etag);
    }
  }
  return verdict('sessions', judged, violations);
}

/** Increments by one: no result comes twice, later ones are higher, and the total adds up (CK-8). */
export function checkCounters(
  history: readonly Operation[],
  totals: ReadonlyMap<string, number>,
): Verdict {
  const violations: string[] = [];
  let judged = 0;
  for (const [key, operations] of byKey(history)) {
    const added = operations.filter(({ kind }) => kind === 'increment');
    const acked = added.filter(({ outcome }) => outcome === 'ok').sort((a, b) => a.endMs - b.endMs);
    judged += acked.length;
    const seen = new Set(acked.map(({ value }) => value));
    if (seen.size !== acked.length) violations.push(`${key}: a result of an increment came twice`);
    for (const operation of acked) {
      const before = acked.filter(({ endMs }) => endMs < operation.startMs);
      const highest = Math.max(0, ...before.map(({ value }) => Number(value)));
      if (Number(operation.value) <= highest)
        violations.push(`${describe(operation)} is not above ${highest}, which was there before`);
    }
    const unknown = added.filter(({ outcome }) => outcome === 'unknown').length;
    const total = totals.get(key);
    if (total !== undefined && (total < acked.length || total > acked.length + unknown))
      violations.push(
        `${key}: ${total} in the end, ${acked.length} acknowledged and ${unknown} unknown`,
      );
  }
  return verdict('counters', judged, violations);
}

// ---- linearizability -----------------------------------------------------------------------

/**
 * Some order of all operations of a key explains every answer: a register with read, write, delete
 * and cas. An operation of unknown outcome may stand anywhere after its start, or nowhere.
 */
export function checkLinearizable(history: readonly Operation[]): Verdict {
  const violations: string[] = [];
  let judged = 0;
  for (const [key, all] of byKey(history)) {
    const operations = all.filter(
      ({ outcome, kind }) => outcome === 'ok' || (outcome === 'unknown' && kind !== 'read'),
    );
    judged += operations.length;
    const answer = isLinearizable(operations);
    if (answer !== 'yes')
      violations.push(
        answer === 'no'
          ? `${key}: no order of its ${operations.length} operations explains their answers`
          : `${key}: undecided after ${stepsMax} steps`,
      );
  }
  return verdict('linearizability', judged, violations);
}

export function isLinearizable(operations: readonly Operation[]): Order {
  return isRegisterLinearizable(operations.map(registerOperationOf));
}

function registerOperationOf(operation: Operation): RegisterOperation {
  const { kind, value, expected, wasMet, startMs, outcome, endMs } = operation;
  assert(kind !== 'increment' && kind !== 'batch', `a ${kind} is none of a register`);
  return { kind, value, expected, wasMet, startMs, endMs: outcome === 'ok' ? endMs : Infinity };
}
