// CK-10: a walk over all keys returns each key that existed during the whole walk exactly once, no key
// that never existed, and a list returns them in the order of their bytes.
//
// A key existed during the whole walk when its put was acknowledged before the walk began and nobody
// ever tried to delete it. A list in strict order has no key twice.

import type { Checker } from '../checker.ts';
import type { Operation } from '../history.ts';

export const scanChecker: Checker = {
  id: 'CK-10',
  check: ({ of, lostCopies }) => {
    const operations = of('scans');
    const walks = operations.filter(({ keys }) => keys !== undefined);
    return {
      judged: walks.length,
      violations: walks.flatMap((walk) => {
        const what = brokenWalk(walk, operations, lostCopies > 0);
        return what === undefined
          ? []
          : [{ rule: 'CK-10', key: walk.key, operations: [walk], what }];
      }),
    };
  },
};

function brokenWalk(
  walk: Operation,
  operations: readonly Operation[],
  mayBeLost: boolean,
): string | undefined {
  const keys = walk.keys ?? [];
  const seen = new Set(keys);
  if (seen.size < keys.length) return `a key came twice (${firstTwice(keys)})`;
  const puts = operations.filter(
    ({ kind, outcome, invokedMs }) =>
      kind === 'put' && outcome !== 'fail' && invokedMs < (walk.returnedMs ?? Infinity),
  );
  const possible = new Set(puts.map(({ key }) => key));
  const phantom = keys.find((key) => !possible.has(key));
  if (phantom !== undefined) return `a key came that nobody had written (${phantom})`;
  const deleted = new Set(operations.filter(({ kind }) => kind === 'delete').map(({ key }) => key));
  const missing = puts.find(
    ({ key, outcome, returnedMs }) =>
      outcome === 'ok' &&
      (returnedMs ?? Infinity) < walk.invokedMs &&
      !deleted.has(key) &&
      !seen.has(key),
  );
  if (missing !== undefined && !mayBeLost)
    return `a key is missing that was there all the time (${missing.key})`;
  if (walk.key !== 'list') return undefined;
  const at = keys.findIndex((key, i) => i > 0 && key <= (keys[i - 1] as string));
  return at < 0 ? undefined : `not in the order of bytes (${keys[at - 1]}, ${keys[at]})`;
}

const firstTwice = (keys: readonly string[]): string =>
  keys.find((key, i) => keys.indexOf(key) !== i) ?? '';
