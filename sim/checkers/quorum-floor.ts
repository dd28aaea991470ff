// CK-4: reads that overlap an acknowledged write in at least one replica see it, and go on seeing
// it. For each key: a read of r replicas returns at least the newest version acknowledged by w
// replicas before it started, where r + w exceeds the number of replicas (guarantee G4), and at
// least what an earlier read at a quorum returned (G5).

import { compareEtags, type Etag, noEtag } from '../../actors/model/record.ts';
import type { Checker } from '../checker.ts';
import { byKey, type Operation } from '../history.ts';
import { acksOf, type Copies, holdersAfterRead, sightOf, sureCopies } from './versions.ts';
import type { Violation } from './violation.ts';

/** The newest version known to be on so many replicas, and who said so. */
interface Floor {
  readonly version: Etag;
  readonly source: Operation | undefined;
}

const noFloor: Floor = { version: noEtag, source: undefined };

export const quorumFloorChecker: Checker = {
  id: 'CK-4',
  check: ({ of, replicas, lostCopies, isRefilled }) => {
    const operations = [...of('registers'), ...of('serial').filter(isOnRegister)];
    return {
      judged: operations.filter(({ kind, outcome }) => kind === 'get' && outcome === 'ok').length,
      violations: checkQuorumFloor(operations, replicas, lostCopies, isRefilled),
    };
  },
};

/** A decision is acknowledged when a quorum has applied it, so plain quorum reads see it too. */
const isOnRegister = ({ key, kind, wasMet }: Operation): boolean =>
  !key.startsWith('counter') && (kind !== 'cas' || wasMet === true);

/** `replicas`: copies of each key; `lost`: those that faults may have destroyed. */
export function checkQuorumFloor(
  operations: readonly Operation[],
  replicas: number,
  lost = 0,
  isRefilled = false,
): Violation[] {
  const violations: Violation[] = [];
  for (const [key, ofKey] of byKey(operations))
    for (const broken of brokenReads(ofKey, { replicas, lost, isRefilled }))
      violations.push({ rule: 'CK-4', key, ...broken });
  return violations;
}

interface Finished {
  readonly operation: Operation;
  readonly returnedMs: number;
  readonly holders: number;
  readonly version: Etag;
}

function brokenReads(
  operations: readonly Operation[],
  copies: Copies,
): Pick<Violation, 'what' | 'operations'>[] {
  const broken: Pick<Violation, 'what' | 'operations'>[] = [];
  const deletes = operations.filter(({ kind }) => kind === 'delete');
  const { replicas } = copies;
  const finished = finishedWrites(operations, copies);
  const reads = operations.filter(({ kind, outcome }) => kind === 'get' && outcome === 'ok');
  reads.sort((a, b) => a.invokedMs - b.invokedMs);
  // floors[h]: newest version on at least h replicas, as far as was known at this time.
  const floors: Floor[] = Array.from({ length: replicas + 1 }, () => noFloor);
  for (const read of reads) {
    raise(floors, finished, read.invokedMs);
    const needed = replicas - acksOf(read.level, replicas) + 1;
    const floor = floors[needed] ?? noFloor;
    const sight = sightOf(read, floor.version, deletes);
    if (sight.kind === 'stale') {
      const source = floor.source === undefined ? [] : [floor.source];
      broken.push({
        what: 'a read missed a version that enough replicas had acknowledged before it',
        operations: [...source, read],
      });
      continue;
    }
    const holders = sureCopies(holdersAfterRead(read.level, replicas), copies);
    if (holders > 0 && read.returnedMs !== undefined)
      insert(finished, {
        operation: read,
        returnedMs: read.returnedMs,
        holders,
        version: sight.version,
      });
  }
  return broken;
}

/** In the order in which they will be needed: the first to return is last. */
function finishedWrites(operations: readonly Operation[], copies: Copies): Finished[] {
  const { replicas } = copies;
  const finished: Finished[] = [];
  for (const operation of operations) {
    const { kind, outcome, etag, returnedMs, level } = operation;
    if (kind === 'get' || outcome !== 'ok' || etag === undefined || returnedMs === undefined)
      continue;
    finished.push({
      operation,
      returnedMs,
      holders: sureCopies(acksOf(level, replicas), copies),
      version: etag,
    });
  }
  return finished.sort((a, b) => b.returnedMs - a.returnedMs);
}

function insert(finished: Finished[], item: Finished): void {
  let at = finished.length;
  while (at > 0 && (finished[at - 1] as Finished).returnedMs < item.returnedMs) at -= 1;
  finished.splice(at, 0, item);
}

/** Takes in what had returned before `beforeMs`. */
function raise(floors: Floor[], finished: Finished[], beforeMs: number): void {
  for (;;) {
    const next = finished[finished.length - 1];
    if (next === undefined || next.returnedMs >= beforeMs) return;
    finished.pop();
    for (let held = 1; held <= next.holders; held += 1)
      if (compareEtags(next.version, (floors[held] as Floor).version) > 0)
        floors[held] = { version: next.version, source: next.operation };
  }
}
