// After faults have ended: CK-1, nothing acknowledged is lost; CK-6, the replicas agree.
//
// Durability is checked on the final reads: a read of r replicas shows the newest version that was
// acknowledged by w of them, r + w above the number of replicas, or something newer; a read of all
// replicas shows everything that was ever acknowledged, whatever its level.
//
// Convergence is demanded after a read of all replicas of the key: in this version nothing else
// brings a replica up to date that had missed a write (there are no hints and no anti-entropy).

import { compareEtags, type Etag, noEtag } from '../../actors/model/record.ts';
import type { Checker } from '../checker.ts';
import { byKey, type Operation } from '../history.ts';
import { acksOf, type Copies, sightOf, sureCopies } from './versions.ts';
import type { Violation } from './violation.ts';

const isFinalRead = ({ phase, kind, outcome }: Operation): boolean =>
  phase === 'final' && kind === 'get' && outcome === 'ok';

export const durabilityChecker: Checker = {
  id: 'CK-1',
  check: ({ of, replicas, lostCopies, isRefilled }) => {
    const operations = of('registers');
    return {
      judged: operations.filter(isFinalRead).length,
      violations: checkDurability(operations, replicas, lostCopies, isRefilled),
    };
  },
};

export const convergenceChecker: Checker = {
  id: 'CK-6',
  check: ({ copies }) => ({ judged: copies.size, violations: checkConvergence(copies) }),
};

/** `lost`: copies of a record that faults may have destroyed, of `replicas`. */
export function checkDurability(
  operations: readonly Operation[],
  replicas: number,
  lost = 0,
  isRefilled = false,
): Violation[] {
  const violations: Violation[] = [];
  for (const [key, ofKey] of byKey(operations)) {
    const deletes = ofKey.filter(({ kind }) => kind === 'delete');
    for (const read of ofKey) {
      if (!isFinalRead(read)) continue;
      const newest = newestAcknowledged(ofKey, read, { replicas, lost, isRefilled });
      if (newest === undefined) continue;
      const sight = sightOf(read, newest.etag ?? noEtag, deletes);
      if (sight.kind === 'stale')
        violations.push({
          rule: 'CK-1',
          key,
          what: 'an acknowledged write is lost',
          operations: [newest, read],
        });
    }
  }
  return violations;
}

function newestAcknowledged(
  operations: readonly Operation[],
  read: Operation,
  copies: Copies,
): Operation | undefined {
  const { replicas } = copies;
  const asked = acksOf(read.level, replicas);
  let newest: Operation | undefined;
  for (const write of operations) {
    if (write.kind === 'get' || write.outcome !== 'ok' || write.etag === undefined) continue;
    if ((write.returnedMs ?? Infinity) > read.invokedMs) continue;
    if (sureCopies(acksOf(write.level, replicas), copies) + asked <= replicas) continue;
    if (newest === undefined || compareEtags(write.etag, newest.etag ?? noEtag) > 0) newest = write;
  }
  return newest;
}

/** What one replica holds of a key; `content`: a fingerprint of the whole record. */
export interface ReplicaCopy {
  readonly node: string;
  readonly etag: Etag | undefined;
  readonly content: number;
}

/** `copies`: of each key, all replicas, after a read of all of them. */
export function checkConvergence(copies: ReadonlyMap<string, readonly ReplicaCopy[]>): Violation[] {
  const violations: Violation[] = [];
  for (const [key, held] of copies) {
    const contents = new Set(held.map(({ content }) => content));
    if (contents.size <= 1) continue;
    const shown = held
      .map(({ node, etag }) => `${node}: ${etag === undefined ? 'nothing' : String(etag.hlc)}`)
      .join(', ');
    violations.push({
      rule: 'CK-6',
      key,
      what: `the replicas differ after a read of all of them (${shown})`,
      operations: [],
    });
  }
  return violations;
}
