// CK-5: within a session a read returns at least what the session wrote and saw of the key before
// (read your writes, monotonic reads), and a write is newer than all of that (writes follow reads).
// Only answers count, in the order in which the one client of a session got them; an explicit error
// is allowed at any time (Terry et al. 1994).
//
// Holds whatever the faults have destroyed: a read that finds less must say so.

import { compareEtags, type Etag, noEtag } from '../../actors/model/record.ts';
import type { Checker } from '../checker.ts';
import { byKey, type Operation } from '../history.ts';
import { sightOf } from './versions.ts';
import type { Violation } from './violation.ts';

export const sessionChecker: Checker = {
  id: 'CK-5',
  check: ({ of }) => {
    const operations = of('sessions');
    return {
      judged: operations.filter(({ outcome }) => outcome === 'ok').length,
      violations: checkSessions(operations),
    };
  },
};

export function checkSessions(operations: readonly Operation[]): Violation[] {
  const violations: Violation[] = [];
  for (const [key, ofKey] of byKey(operations)) {
    const deletes = ofKey.filter(({ kind }) => kind === 'delete');
    const known = new Map<number, { readonly version: Etag; readonly source: Operation }>();
    for (const operation of ofKey) {
      const { session, outcome } = operation;
      if (session === undefined || outcome !== 'ok') continue;
      const before = known.get(session);
      const version = versionAfter(operation, before?.version ?? noEtag, deletes);
      if (version !== undefined) known.set(session, { version, source: operation });
      else if (before !== undefined)
        violations.push({
          rule: 'CK-5',
          key,
          what:
            operation.kind === 'get'
              ? 'a session was shown something older than it knew'
              : 'a write of a session is older than what the session knew',
          operations: [before.source, operation],
        });
    }
  }
  return violations;
}

/** What the session knows of the key after this; undefined: the operation went back behind `known`. */
function versionAfter(
  operation: Operation,
  known: Etag,
  deletes: readonly Operation[],
): Etag | undefined {
  if (operation.kind === 'get') {
    const sight = sightOf(operation, known, deletes);
    return sight.kind === 'seen' ? sight.version : undefined;
  }
  const { etag } = operation;
  if (etag === undefined) return known;
  return compareEtags(etag, known) > 0 ? etag : undefined;
}
