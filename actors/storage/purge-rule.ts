// Which records a compaction may leave out for good: tombstones, and records whose time is over,
// which count as tombstones of their own version (TTL-2). Leaving one out too early brings back
// what it hid, so it goes only where both hold (TS-2, guarantee G8):
//
//   nothing older   no table outside of the job and no memtable may hold an older record of the
//                   key. The figures of the tables decide, not their content: a key within the
//                   range of a table that has any record as old as this one is taken for held.
//   the horizon     it is older than what may still arrive. A store by itself is stamped by one clock
//                   that never goes back and written in the order of its stamps, so nothing older
//                   than a table can arrive. In a cluster a batch that is completed late, or a hint
//                   of another node, is as old as its stamp says: what hides it stays for longer than
//                   either may take. With several copies a repair of all of them must have seen it,
//                   too (TS-3): the horizons come from actors/repair.

import { noBytes } from '../../runtime/bytes.ts';
import {
  batchLogNamespace,
  namespaceOf,
  recordExpiresAt,
  recordHlc,
  recordIsTombstone,
  recordKey,
  recordToken,
  storageKey,
} from '../model/record.ts';
import { arcOf } from '../model/replica-sets.ts';
import { coversKey, type KeyRange, rangesOverlap } from './key-ranges.ts';
import type { TableMeta } from './protocol.ts';

/** `at-once`: for a store by itself. `after-grace`: a single copy. `after-repair`: several. */
export type TombstonePurge = 'at-once' | 'after-grace' | 'after-repair';

/** The horizons of the arcs of the ring. */
export interface PurgeArcs {
  /** Last token of each arc, ascending. */
  readonly ends: readonly number[];
  /** 0: nothing may be purged. */
  readonly hlcs: readonly number[];
}

/** What holds for all tables. */
export interface PurgeBounds {
  /** Records from this stamp on are kept: memory may hold something as old. */
  readonly belowHlc: number;
  /** Records that expired before this moment count as tombstones; milliseconds since 1970. */
  readonly expiredBeforeMs: number;
  /**
   * Marks of the log of batches (BL-4) from this stamp on are kept: an entry that came now could
   * still be completed. Older ones need no repair: none looks at that log, which lies on any nodes.
   */
  readonly batchesBelowHlc: number;
  /** Several copies: only what is not above the number of its arc. Absent: a single copy. */
  readonly arcs?: PurgeArcs | undefined;
}

export interface PurgeRule extends PurgeBounds {
  /** Tables outside of the job that share keys with it. */
  readonly others: readonly (KeyRange & { readonly minHlc: number })[];
}

/** A clock that was ahead for less than this, and was set right again, has cost no record. */
export const expiryGraceMs = 3600 * 1000;

const batchLog: KeyRange = {
  firstKey: storageKey(batchLogNamespace, noBytes),
  lastKey: storageKey(batchLogNamespace + 1, noBytes),
};

/** Whether something of the log of batches may be in one of the tables. */
export const mayHoldBatches = (tables: readonly KeyRange[]): boolean =>
  tables.some((table) => rangesOverlap(table, batchLog));

const horizonOf = ({ ends, hlcs }: PurgeArcs, token: number): number =>
  hlcs[arcOf(ends, token)] ?? 0;

/** Whether all records of a table have expired for long enough. */
export const hasExpired = (
  { maxExpiresAt }: TableMeta,
  { expiredBeforeMs }: Pick<PurgeBounds, 'expiredBeforeMs'>,
): boolean => maxExpiresAt !== 0 && maxExpiresAt < expiredBeforeMs;

/**
 * The inputs of a job that have to be read: of the others no record stays, by their figures alone.
 * What stays of one input may be older than what has expired in another, and be hidden by it.
 */
export function readInputs(
  rule: PurgeRule | undefined,
  inputs: readonly TableMeta[],
): readonly TableMeta[] {
  if (rule === undefined) return inputs;
  const staying = inputs.filter((table) => !mayGoWhole(rule, table));
  const isRead = new Set(staying);
  return inputs.filter((table) => isRead.has(table) || hides(table, staying));
}

/** Whether something among the others may be as old as a record of this table. */
const hides = (table: TableMeta, others: PurgeRule['others']): boolean =>
  others.some((other) => other.minHlc <= table.maxHlc && rangesOverlap(other, table));

/** Whether nothing outside of the job keeps a record of this input. */
function mayGoWhole(rule: PurgeRule, table: TableMeta): boolean {
  if (!hasExpired(table, rule)) return false;
  const { maxHlc } = table;
  if (maxHlc >= rule.belowHlc || rule.arcs?.hlcs.some((hlc) => hlc < maxHlc) === true) return false;
  return !hides(table, rule.others);
}

/** Whether a record stays, for the winners of one job. */
export function keeperOf(rule: PurgeRule | undefined): (record: Uint8Array) => boolean {
  if (rule === undefined) return () => true;
  const { belowHlc, expiredBeforeMs, batchesBelowHlc, others, arcs } = rule;
  return (record) => {
    const expiresAt = recordExpiresAt(record);
    const isExpired = expiresAt !== 0 && expiresAt < expiredBeforeMs;
    if (!isExpired && !recordIsTombstone(record)) return true;
    const hlc = recordHlc(record);
    if (hlc >= belowHlc) return true;
    const key = recordKey(record);
    if (namespaceOf(key) === batchLogNamespace) {
      if (hlc >= batchesBelowHlc) return true;
    } else if (arcs !== undefined && hlc > horizonOf(arcs, recordToken(record))) return true;
    return others.some((other) => other.minHlc <= hlc && coversKey(other, key));
  };
}
