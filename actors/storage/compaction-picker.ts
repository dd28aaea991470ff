// Which tables to merge next: pure and deterministic, from the manifest's figures alone.
//
//   leveled      flushed tables gather in level 0; each level above is one run of tables without a
//                common key, ten times as large as the one before. The fullest level by its score
//                gives a table, with what it overlaps, to the next one (O'Neil et al., "The
//                Log-Structured Merge-Tree", 1996; LevelDB, doc/impl.md).
//   size-tiered  tables of similar size are merged into one (Cassandra's strategy of that name).
//   time-window  the same within the current window of time; each window that is over becomes one
//                table.
//
// Tables whose records have all expired go in jobs of their own (expired-tables.ts).
//
// Any choice is correct, since the winner of a key is found by its stamp and not by its level
// (MF-9); choices differ in what they read, write and keep. A choice with a damaged table in it is
// passed over: only a table that was read whole may be dropped.

import type { CompactionStrategy } from '../model/table-choices.ts';
import { byFirstKey, isRun, overlapInRun, unionOf } from './key-ranges.ts';
import type { TableMeta } from './protocol.ts';

export interface PickerOptions {
  readonly strategy: CompactionStrategy;
  /** So many tables in level 0, or of one size, are merged; at least 2. */
  readonly l0Tables: number;
  /** Outputs of `leveled` have this size; for the others tables below it count as of one size. */
  readonly tableBytes: number;
  /** Length of a window, milliseconds. */
  readonly timeWindowMs: number;
}

/** What changes between two choices beside the tables. */
export interface PickerState {
  /** Milliseconds since 1970. */
  readonly nowMs: number;
  /** File numbers of tables that could not be read. */
  readonly damaged: ReadonlySet<number>;
}

export interface CompactionJob {
  readonly inputs: readonly TableMeta[];
  readonly outputLevel: number;
  /** Size of an output table, bytes; undefined: all goes into one. */
  readonly splitBytes: number | undefined;
  /** The inputs may change their level as they are: nothing overlaps them or each other. */
  readonly isMove: boolean;
  /** The outputs will not be merged again for long: nothing lies below them. */
  readonly isCold: boolean;
}

export interface CompactionPressure {
  /**
   * Tables that wait for their merge: what slows reads down. Those that damage keeps from being merged
   * do not wait: nothing that comes later would help them.
   */
  readonly waitingTables: number;
  /** Bytes above the targets. */
  readonly debtBytes: number;
}

/** A level is so many times as large as the one before. */
const sizeRatio = 10;
/** The last level has no limit. */
export const levelMax = 6;
/** Tables of one size: from this share of their average size to that one. */
const similarShare = 1.5;
const inputsMax = 32;

/** The next job; undefined where nothing is to be done. */
export function pickCompaction(
  tables: readonly TableMeta[],
  options: PickerOptions,
  { nowMs, damaged }: PickerState,
): CompactionJob | undefined {
  if (options.strategy === 'leveled') return pickLeveled(levelsOf(tables), options, damaged);
  const readable = tables.filter(({ fileNumber }) => !damaged.has(fileNumber));
  if (options.strategy === 'size-tiered') return pickSizeTiered(readable, options);
  return pickTimeWindow(readable, options, nowMs);
}

/** How far behind compaction is. */
export function compactionPressure(
  tables: readonly TableMeta[],
  options: PickerOptions,
  { nowMs, damaged }: PickerState,
): CompactionPressure {
  if (options.strategy === 'leveled') return leveledPressure(levelsOf(tables), options, damaged);
  const readable = tables.filter(({ fileNumber }) => !damaged.has(fileNumber));
  const groups =
    options.strategy === 'size-tiered'
      ? sizeGroups(readable, options)
      : windowsOf(readable, options).flatMap(({ window, members }) =>
          window < windowOf(nowMs * 1000, options) ? [members] : sizeGroups(members, options),
        );
  let waitingTables = 0;
  let debtBytes = 0;
  for (const group of groups) {
    waitingTables = Math.max(waitingTables, group.length);
    if (group.length >= options.l0Tables) debtBytes += bytesOf(group);
  }
  return { waitingTables, debtBytes };
}

export function bytesOf(tables: readonly TableMeta[]): number {
  return tables.reduce((sum, { bytes }) => sum + bytes, 0);
}

// ---- leveled -------------------------------------------------------------------------------------

type Levels = readonly (readonly TableMeta[])[];

/** Level 0 by file number, the others in key order. */
function levelsOf(tables: readonly TableMeta[]): Levels {
  const highest = tables.reduce((high, { level }) => Math.max(high, level), 0);
  const levels: TableMeta[][] = Array.from({ length: highest + 1 }, () => []);
  for (const table of tables) levels[table.level]?.push(table);
  return levels.map((members, level) =>
    members.sort(level === 0 ? (a, b) => a.fileNumber - b.fileNumber : byFirstKey),
  );
}

export function levelTargetBytes(
  level: number,
  { l0Tables, tableBytes }: Pick<PickerOptions, 'l0Tables' | 'tableBytes'>,
): number {
  return level >= levelMax ? Infinity : l0Tables * tableBytes * sizeRatio ** (level - 1);
}

/** Above 1: over its limit. Level 0 is merged when it reaches its limit. */
function scoreOf(members: readonly TableMeta[], level: number, options: PickerOptions): number {
  if (level === 0) return members.length / options.l0Tables;
  const score = bytesOf(members) / levelTargetBytes(level, options);
  return score > 1 ? score : 0;
}

function pickLeveled(
  levels: Levels,
  options: PickerOptions,
  damaged: ReadonlySet<number>,
): CompactionJob | undefined {
  const large = largeJob(levels, options, damaged);
  if (large !== undefined) return large;
  const full = levels
    .map((members, level) => ({ level, score: scoreOf(members, level, options) }))
    .filter(({ score }) => score >= 1)
    .sort((a, b) => b.score - a.score || a.level - b.level);
  for (const { level } of full) {
    const job =
      level === 0 ? flushedJob(levels, options) : levelJob(levels, level, options, damaged);
    if (job?.inputs.every(({ fileNumber }) => !damaged.has(fileNumber))) return job;
  }
  return undefined;
}

/**
 * A table that no flush writes: another strategy has left it. It goes alone to the level that it
 * would fill, since merging it with level 1 would rewrite it once for every level on the way.
 */
function largeJob(
  levels: Levels,
  options: PickerOptions,
  damaged: ReadonlySet<number>,
): CompactionJob | undefined {
  const large = (levels[0] ?? [])
    .filter(({ bytes }) => bytes > levelTargetBytes(2, options))
    .sort((a, b) => b.bytes - a.bytes || a.fileNumber - b.fileNumber);
  for (const table of large) {
    let level = 3;
    while (levelTargetBytes(level, options) < table.bytes) level += 1;
    const inputs = [table, ...overlapInRun(levels[level] ?? [], table)];
    if (inputs.some(({ fileNumber }) => damaged.has(fileNumber))) continue;
    const isCold = levels.slice(level + 1).every((deeper) => deeper.length === 0);
    return { inputs, outputLevel: level, splitBytes: options.tableBytes, isMove: false, isCold };
  }
  return undefined;
}

/** Level 0, the oldest first where it is more than one job, with what it overlaps in level 1. */
function flushedJob(levels: Levels, { tableBytes, l0Tables }: PickerOptions): CompactionJob {
  const flushed = (levels[0] ?? []).slice(0, Math.max(inputsMax, l0Tables));
  const below = overlapInRun(levels[1] ?? [], unionOf(flushed));
  return {
    inputs: [...flushed, ...below],
    outputLevel: 1,
    splitBytes: tableBytes,
    // Small tables are better merged than carried on.
    isMove:
      below.length === 0 &&
      flushed.every(({ bytes }) => bytes >= tableBytes / 2) &&
      isRun([...flushed].sort(byFirstKey)),
    // All of it is written again whenever level 0 is full.
    isCold: false,
  };
}

/** The table of the level that has to rewrite the least of the next level for its size. */
function levelJob(
  levels: Levels,
  level: number,
  { tableBytes }: PickerOptions,
  damaged: ReadonlySet<number>,
): CompactionJob | undefined {
  let best: { readonly inputs: readonly TableMeta[]; readonly cost: number } | undefined;
  for (const table of levels[level] ?? []) {
    const below = overlapInRun(levels[level + 1] ?? [], table);
    const inputs = [table, ...below];
    if (inputs.some(({ fileNumber }) => damaged.has(fileNumber))) continue;
    const cost = bytesOf(below) / table.bytes;
    if (best === undefined || cost < best.cost) best = { inputs, cost };
  }
  if (best === undefined) return undefined;
  const { inputs } = best;
  const isMove = inputs.length === 1;
  const isCold = levels.slice(level + 2).every((deeper) => deeper.length === 0);
  return { inputs, outputLevel: level + 1, splitBytes: tableBytes, isMove, isCold };
}

function leveledPressure(
  levels: Levels,
  options: PickerOptions,
  damaged: ReadonlySet<number>,
): CompactionPressure {
  let debtBytes = 0;
  for (const [level, members] of levels.entries()) {
    if (scoreOf(members, level, options) < 1) continue;
    debtBytes += bytesOf(members) - (level === 0 ? 0 : levelTargetBytes(level, options));
  }
  const flushed = levels[0]?.length ?? 0;
  const isStuck =
    flushed > 0 &&
    flushedJob(levels, options).inputs.some(({ fileNumber }) => damaged.has(fileNumber));
  return { waitingTables: isStuck ? 0 : flushed, debtBytes };
}

// ---- size-tiered and time-window -----------------------------------------------------------------

/** Tables by similar size, the smallest ones first. */
function sizeGroups(
  tables: readonly TableMeta[],
  { tableBytes }: PickerOptions,
): (readonly TableMeta[])[] {
  const groups: TableMeta[][] = [];
  const sorted = [...tables].sort((a, b) => a.bytes - b.bytes || a.fileNumber - b.fileNumber);
  for (const table of sorted) {
    const group = groups[groups.length - 1];
    const isSimilar =
      group !== undefined &&
      (table.bytes < tableBytes || table.bytes <= (bytesOf(group) / group.length) * similarShare);
    if (isSimilar) group.push(table);
    else groups.push([table]);
  }
  return groups;
}

/** Into one table: outputs that were split would be tables of one size again. */
function mergeJob(inputs: readonly TableMeta[], isCold: boolean): CompactionJob {
  return {
    inputs: inputs.slice(0, inputsMax),
    outputLevel: 0,
    splitBytes: undefined,
    isMove: false,
    isCold,
  };
}

function pickSizeTiered(
  tables: readonly TableMeta[],
  options: PickerOptions,
): CompactionJob | undefined {
  const group = sizeGroups(tables, options).find(({ length }) => length >= options.l0Tables);
  if (group === undefined) return undefined;
  // Larger than all that is left together: as much has to come before it is merged again.
  const others = bytesOf(tables) - bytesOf(group);
  return mergeJob(group, bytesOf(group) > Math.max(others, options.l0Tables * options.tableBytes));
}

const windowOf = (hlc: number, { timeWindowMs }: PickerOptions): number =>
  Math.floor(hlc / 1000 / timeWindowMs);

interface TimeWindow {
  readonly window: number;
  readonly members: TableMeta[];
}

/** Tables by the window of their newest record, oldest first. */
function windowsOf(tables: readonly TableMeta[], options: PickerOptions): readonly TimeWindow[] {
  const windows = new Map<number, TableMeta[]>();
  for (const table of tables) {
    const window = windowOf(table.maxHlc, options);
    windows.set(window, [...(windows.get(window) ?? []), table]);
  }
  return [...windows]
    .map(([window, members]) => ({ window, members }))
    .sort((a, b) => a.window - b.window);
}

/** Stamps may be ahead of the clock: windows that have not begun count as the current one. */
function pickTimeWindow(
  tables: readonly TableMeta[],
  options: PickerOptions,
  nowMs: number,
): CompactionJob | undefined {
  const current = windowOf(nowMs * 1000, options);
  const windows = windowsOf(tables, options);
  for (const { window, members } of windows) {
    const job = window >= current ? pickSizeTiered(members, options) : undefined;
    if (job !== undefined) return job;
  }
  const past = windows.find(({ window, members }) => window < current && members.length > 1);
  return past === undefined
    ? undefined
    : mergeJob(
        [...past.members].sort((a, b) => a.bytes - b.bytes || a.fileNumber - b.fileNumber),
        true,
      );
}
