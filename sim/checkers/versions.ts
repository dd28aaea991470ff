// What both register checkers share: how many replicas an acknowledged operation is on, and
// whether a read saw a given version or a newer one.
//
// Versions are ordered by etag, not by time: with skewed clocks the last writer in time may lose
// (rule HLC-9), but then the version that won is there for all to see.

import { parseLevel, quorumOf, requiredAcks } from '../../actors/model/consistency.ts';
import { compareEtags, type Etag, noEtag } from '../../actors/model/record.ts';
import type { Operation } from '../history.ts';

/** Replicas that answered before an operation at this level was acknowledged. */
export function acksOf(level: string, replicas: number): number {
  return requiredAcks(parseLevel(level), replicas);
}

/** Copies of a record that faults may have destroyed, of `replicas`. */
export interface Copies {
  readonly replicas: number;
  readonly lost: number;
  /** Nothing is lost of what a quorum has acknowledged. */
  readonly isRefilled?: boolean;
}

/** Of so many copies, how many are sure to be there. */
export function sureCopies(acks: number, { replicas, lost, isRefilled = false }: Copies): number {
  return isRefilled && acks >= quorumOf(replicas) ? acks : acks - lost;
}

/**
 * Replicas that hold what a read returned: a read at a quorum or above answers only when a quorum
 * holds it (RR-3); others promise nothing.
 */
export function holdersAfterRead(level: string, replicas: number): number {
  const quorum = quorumOf(replicas);
  return acksOf(level, replicas) >= quorum ? quorum : 0;
}

export type Sight =
  /** At least `floor`; what it saw was this version. */
  { readonly kind: 'seen'; readonly version: Etag } | { readonly kind: 'stale' };

/** Whether a finished read saw `floor` or something newer, among the deletes of its key. */
export function sightOf(read: Operation, floor: Etag, deletes: readonly Operation[]): Sight {
  if (read.etag !== undefined)
    return compareEtags(read.etag, floor) >= 0
      ? { kind: 'seen', version: read.etag }
      : { kind: 'stale' };
  if (compareEtags(floor, noEtag) === 0) return { kind: 'seen', version: noEtag };
  const least = leastDelete(read, floor, deletes);
  return least === undefined ? { kind: 'stale' } : { kind: 'seen', version: least };
}

/** The oldest delete, not older than `floor`, that may have happened before the read ended. */
function leastDelete(
  read: Operation,
  floor: Etag,
  deletes: readonly Operation[],
): Etag | undefined {
  let least: Etag | undefined;
  for (const { etag, outcome, invokedMs } of deletes) {
    if (outcome === 'fail' || invokedMs >= (read.returnedMs ?? Infinity)) continue;
    const version = etag ?? floor;
    if (compareEtags(version, floor) < 0) continue;
    if (least === undefined || compareEtags(version, least) < 0) least = version;
  }
  return least;
}
