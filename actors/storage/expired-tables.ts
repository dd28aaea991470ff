// Clears away tables whose records have all expired: nothing may ever be merged with them again, so
// they are looked for by themselves, now and then. Where the purge rule keeps nothing of a table it
// goes unread; of the others what the rule keeps is written again.
//
// That must not be in vain. So a table is taken only where at least half of it goes if its stamps
// are spread evenly. Tables are taken together: flushed one after the other they may share a few
// stamps, and alone each would keep what could lie below the other. Whether an arc that no repair has
// reached has records here is not known, so outputs of which most had to stay are left alone for long.

import type { Session } from '../../runtime/actor.ts';
import type { GroupJob } from './compaction-groups.ts';
import type { GroupBoard } from './group-board.ts';
import { rangesOverlap } from './key-ranges.ts';
import type { ManifestLog } from './manifest.ts';
import type { TableMeta } from './protocol.ts';
import { hasExpired, type PurgeBounds } from './purge-rule.ts';
import {
  type CompactionOutcome,
  purgeBoundsOf,
  type PurgeMoment,
  type StoreParts,
} from './store-steps.ts';

const inputsMax = 32;
/** Outputs of which less than half went are left alone for so long. */
const restMs = 24 * 3600 * 1000;

/** What a store remembers between two looks. */
export class ExpiredTables {
  /** There may be some. */
  isDue = false;
  /** Records of the inputs of the job that runs, where it is one of these. */
  #records: number | undefined;
  /** Until when tables are left alone, by file number; milliseconds since 1970. */
  readonly #resting = new Map<number, number>();

  /** A job begins; nobody knows yet which. */
  begin(): void {
    this.#records = undefined;
  }

  /** The look that is under way has found this, or nothing. */
  found(job: GroupJob | undefined): void {
    this.isDue = false;
    this.#records = job?.inputs.reduce((sum, { records }) => sum + records, 0);
  }

  /** The job that began last is done: where it was one of these there may be more. */
  ended({ purged, written }: CompactionOutcome, nowMs: number): void {
    if (this.#records === undefined) return;
    this.isDue = true;
    if (2 * purged >= this.#records) return;
    for (const { fileNumber } of written) this.#resting.set(fileNumber, nowMs + restMs);
  }

  isResting({ fileNumber }: TableMeta, nowMs: number): boolean {
    return (this.#resting.get(fileNumber) ?? 0) > nowMs;
  }

  /** Tables that are gone need not be remembered. */
  keepOnly(tables: ReadonlyMap<number, TableMeta>): void {
    for (const fileNumber of this.#resting.keys())
      if (!tables.has(fileNumber)) this.#resting.delete(fileNumber);
  }
}

/** The next tables that have expired, of one group; undefined: none, or it is not the time. */
export async function pickExpired(
  session: Session,
  expired: ExpiredTables,
  search: {
    readonly parts: StoreParts;
    readonly place: PurgeMoment;
    readonly manifest: ManifestLog;
    readonly groups: GroupBoard;
    readonly damaged: ReadonlySet<number>;
  },
): Promise<GroupJob | undefined> {
  if (!expired.isDue) return undefined;
  const { parts, place, manifest, groups, damaged } = search;
  const bounds = await purgeBoundsOf(session, parts, place);
  const all = manifest.state.tables;
  const nowMs = place.wallMicros / 1000;
  expired.keepOnly(all);
  const mayGo = (table: TableMeta): boolean =>
    !damaged.has(table.fileNumber) && !expired.isResting(table, nowMs);
  const tables = [...all.values()];
  const job =
    bounds && groups.pickChosen(tables, (own) => expiredAmong(own.filter(mayGo), tables, bounds));
  expired.found(job);
  return job;
}

/** Those of `own` that have expired and of which at least half goes, the oldest ones first. */
export function expiredAmong(
  own: readonly TableMeta[],
  tables: readonly TableMeta[],
  bounds: PurgeBounds,
): readonly TableMeta[] {
  const expired = own
    .filter((table) => hasExpired(table, bounds))
    .sort((a, b) => a.maxHlc - b.maxHlc || a.fileNumber - b.fileNumber);
  const belowHlc = lowestOf(bounds);
  const free = withoutHeld(expired, tables, belowHlc);
  return free.length <= inputsMax ? free : withoutHeld(free.slice(0, inputsMax), tables, belowHlc);
}

/** Arcs without a horizon are, as a rule, those of which this node has no copy. */
function lowestOf({ belowHlc, arcs }: PurgeBounds): number {
  let lowest = belowHlc;
  for (const hlc of arcs?.hlcs ?? []) if (hlc > 0 && hlc + 1 < lowest) lowest = hlc + 1;
  return lowest;
}

/** Without what others hold back; each that is left out may hold back more. */
function withoutHeld(
  chosen: readonly TableMeta[],
  tables: readonly TableMeta[],
  belowHlc: number,
): readonly TableMeta[] {
  for (let left = chosen; ; ) {
    const numbers = new Set(left.map(({ fileNumber }) => fileNumber));
    const others = tables.filter(({ fileNumber }) => !numbers.has(fileNumber));
    const rest = left.filter((table) => isWorthIt(table, others, belowHlc));
    if (rest.length === left.length) return rest;
    left = rest;
  }
}

/** By its figures: records from the first stamp on that something else may hold stay. */
function isWorthIt(table: TableMeta, others: readonly TableMeta[], belowHlc: number): boolean {
  const { minHlc, maxHlc } = table;
  let stays = belowHlc;
  for (const other of others)
    if (other.minHlc < stays && rangesOverlap(other, table)) stays = other.minHlc;
  return stays - minHlc > (maxHlc - minHlc) / 2;
}
