// Which records a compaction may leave out for good: tombstones, and records whose time is over,
// which count as tombstones of their own version (TTL-2). Leaving one out too early brings back
// what it hid, so it goes only where both hold (TS-2, guarantee G8):
//
//   nothing older   no table outside of the job and no memtable may hold an older record of the
//                   key. The figures of the tables decide, not their content: a key within the
//                   range of a table that has any record as old as this one is taken for held.
//   the horizon     it is older than what may still arrive. With several replicas that takes a
//                   repair that all of them finished (TS-3), which is not there yet: then nothing
//                   is ever purged. A single copy is stamped by one clock that never goes back and
//                   written in the order of its stamps, so nothing older than a table can arrive.

import { recordExpiresAt, recordHlc, recordIsTombstone, recordKey } from '../model/record.ts';
import { coversKey, type KeyRange } from './key-ranges.ts';

/** `never`: every tombstone is kept. `when-shadowed-nothing`: see above; for a single copy only. */
export type TombstonePurge = 'never' | 'when-shadowed-nothing';

export interface PurgeRule {
  /** Records from this stamp on are kept: memory may hold something as old. */
  readonly belowHlc: number;
  /** Records that expired before this moment count as tombstones; milliseconds since 1970. */
  readonly expiredBeforeMs: number;
  /** Tables outside of the job that share keys with it. */
  readonly others: readonly (KeyRange & { readonly minHlc: number })[];
}

/** A clock that was ahead for less than this, and was set right again, has cost no record. */
export const expiryGraceMs = 3600 * 1000;

/** Whether a record stays, for the winners of one job. */
export function keeperOf(rule: PurgeRule | undefined): (record: Uint8Array) => boolean {
  if (rule === undefined) return () => true;
  const { belowHlc, expiredBeforeMs, others } = rule;
  return (record) => {
    const expiresAt = recordExpiresAt(record);
    const isExpired = expiresAt !== 0 && expiresAt < expiredBeforeMs;
    if (!isExpired && !recordIsTombstone(record)) return true;
    const hlc = recordHlc(record);
    if (hlc >= belowHlc) return true;
    const key = recordKey(record);
    return others.some((other) => other.minHlc <= hlc && coversKey(other, key));
  };
}
