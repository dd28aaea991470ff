// NS-1: namespaces are apart. Of what clients put and got at a quorum in namespaces that were created
// and dropped meanwhile (sim/workloads/namespaces.ts):
//
//   foreign     a value that was put in one namespace is never seen in another
//   resurrected a value that was acknowledged before a drop began is not seen after the drop was
//               acknowledged, whatever was created under the name since
//   unreachable after a drop was acknowledged, and as long as nothing is created, nothing is found
//   lost        what was acknowledged is seen by every later read, as long as no drop can have come
//               in between; neither is the namespace said to be missing then
//
// A drop whose outcome is unknown may take effect at any time from its start on.

import { compareEtags } from '../../actors/model/record.ts';
import type { Checker } from '../checker.ts';
import type { Operation } from '../history.ts';
import type { Violation } from './violation.ts';

export const namespaceChecker: Checker = {
  id: 'NS-1',
  check: ({ of, lostCopies }) => {
    const operations = of('namespaces');
    const judged = operations.filter(({ kind, outcome }) => kind === 'get' && outcome === 'ok');
    return { judged: judged.length, violations: checkNamespaces(operations, lostCopies > 0) };
  },
};

/** `mayLose`: faults may have destroyed copies, so that something may be missing. */
export function checkNamespaces(operations: readonly Operation[], mayLose = false): Violation[] {
  const writers = new Map<string, Operation>();
  for (const operation of operations)
    if (operation.kind === 'put' && operation.value !== undefined)
      writers.set(operation.value, operation);
  const groups = new Map<string, Operation[]>();
  for (const operation of operations) {
    const [namespace = ''] = operation.key.split(':');
    groups.set(namespace, [...(groups.get(namespace) ?? []), operation]);
  }
  return [...groups.values()].flatMap((own) =>
    own
      .filter(({ kind }) => kind === 'get')
      .flatMap((read) => brokenBy(read, own, writers, mayLose)),
  );
}

type Broken = readonly [what: string, ...others: readonly Operation[]];

function brokenBy(
  read: Operation,
  own: readonly Operation[],
  writers: ReadonlyMap<string, Operation>,
  mayLose: boolean,
): Violation[] {
  const [what, ...others] =
    wrongSight(read, own, writers) ?? (mayLose ? undefined : lossOf(read, own)) ?? [];
  if (what === undefined) return [];
  return [{ rule: 'NS-1', what, key: read.key, operations: [...others, read] }];
}

/** A value that must not be seen. */
function wrongSight(
  read: Operation,
  own: readonly Operation[],
  writers: ReadonlyMap<string, Operation>,
): Broken | undefined {
  if (read.outcome !== 'ok' || read.value === undefined) return undefined;
  const writer = writers.get(read.value);
  if (writer !== undefined && writer.key !== read.key)
    return ['a value of another key or namespace was seen', writer];
  const drops = own.filter((each) => isEnded(each, 'drop') && precedes(each, read));
  const after = drops.find((drop) => writer?.outcome === 'ok' && precedes(writer, drop));
  if (after !== undefined && writer !== undefined)
    return ['what was dropped was seen again', writer, after];
  const last = drops[drops.length - 1];
  if (last === undefined || own.some((each) => mayCreate(each, last, read))) return undefined;
  return ['something was found in a namespace that was dropped', last];
}

/** Something that must be seen and is not. */
function lossOf(read: Operation, own: readonly Operation[]): Broken | undefined {
  const isMissing = read.code === 'NO_SUCH_NAMESPACE';
  if (read.outcome !== 'ok' && !isMissing) return undefined;
  const lost = own.find(
    (put) =>
      put.key === read.key &&
      isEnded(put, 'put') &&
      precedes(put, read) &&
      (isMissing || isOlder(read, put)) &&
      !own.some((each) => mayDrop(each, put, read)),
  );
  if (lost === undefined) return undefined;
  return isMissing
    ? ['a namespace that is there was said to be missing', lost]
    : ['what was acknowledged is lost', lost];
}

const isEnded = ({ kind, outcome, code }: Operation, wanted: Operation['kind']): boolean =>
  kind === wanted && outcome === 'ok' && code === undefined;

/** `a` had returned when `b` began. */
const precedes = (a: Operation, b: Operation): boolean =>
  a.returnedMs !== undefined && a.returnedMs < b.invokedMs;

const isOlder = (read: Operation, put: Operation): boolean =>
  put.etag !== undefined && (read.etag === undefined || compareEtags(read.etag, put.etag) < 0);

/** May have taken effect after `from` began and before `to` ended. */
function mayFall(each: Operation, from: Operation, to: Operation): boolean {
  if (each.outcome === 'fail') return false;
  if (to.returnedMs !== undefined && each.invokedMs > to.returnedMs) return false;
  return each.outcome === 'info' || !precedes(each, from);
}

const mayDrop = (each: Operation, from: Operation, to: Operation): boolean =>
  each.kind === 'drop' && mayFall(each, from, to);

const mayCreate = (each: Operation, from: Operation, to: Operation): boolean =>
  each.kind === 'create' && mayFall(each, from, to);
