// Compaction per namespace: which tables are merged by which strategy, and packed how. Pure.
//
// Neighbours by id whose tables are kept alike are a group; all ids belong to one. Groups are ranges
// of keys, so what no longer fits can be seen from the ends of a table: one that reaches over a
// border (from before a namespace was altered, or of a small flush) is mixed, and is cut at the
// borders. Every other table belongs to one group, and each group picks among its own.
//
// Invariant: tables above level 0 share no key with others of their level, over all groups. So while
// a mixed one lies there, nothing else is merged: it is cut where it lies, which stays within its
// range, or, if it cannot be read, goes to level 0 as it is.

import type { CatalogDocument } from '../model/namespaces.ts';
import { type CompactionStrategy, type Compression, usualGroup } from '../model/table-choices.ts';
import {
  type CompactionJob,
  type CompactionPressure,
  compactionPressure,
  pickCompaction,
  type PickerOptions,
  type PickerState,
} from './compaction-picker.ts';
import type { TableMeta } from './protocol.ts';
import { onlySectionOf, type TableSection } from './table-sections.ts';

export interface CompactionGroup extends TableSection {
  /** Of the first namespace in it; `*` where nothing was chosen for any of them. */
  readonly name: string;
  readonly strategy: CompactionStrategy;
}

/** What a node does where a namespace chooses nothing. */
export interface GroupDefaults {
  readonly strategy: CompactionStrategy;
  readonly compression: Compression;
}

export interface GroupJob extends CompactionJob {
  /** The outputs are cut where these begin. */
  readonly sections: readonly TableSection[];
  /** Index of the group; undefined: the inputs are mixed. */
  readonly group: number | undefined;
  /** A damaged table only gets another level. */
  readonly mustMove?: boolean;
}

export interface GroupState extends PickerState {
  /** Mixed tables below this number are cut at once: they are from before a change, or the start. */
  readonly cutBelow: number;
}

export interface GroupPressure extends CompactionPressure {
  readonly group: CompactionGroup;
  readonly tables: readonly TableMeta[];
}

export interface Pressures {
  readonly groups: readonly GroupPressure[];
  readonly mixed: readonly TableMeta[];
  /** The most that wait in one group, or mixed. */
  readonly waitingTables: number;
  readonly debtBytes: number;
}

const inputsMax = 32;

/** The first one begins at id 0; ids that are free belong to the group before them. */
export function groupsOf(
  { namespaces, nextId }: Pick<CatalogDocument, 'namespaces' | 'nextId'>,
  defaults: GroupDefaults,
): readonly CompactionGroup[] {
  const groups: CompactionGroup[] = [];
  const add = (group: CompactionGroup): void => {
    const last = groups[groups.length - 1];
    const isSame = last?.strategy === group.strategy && last.compression === group.compression;
    if (!isSame) groups.push(group);
  };
  for (const { id, name, compaction, compression } of namespaces) {
    const strategy = compaction === '' ? defaults.strategy : compaction;
    const codec = compression === '' ? defaults.compression : compression;
    const isUsual = strategy === defaults.strategy && codec === defaults.compression;
    add({ name: isUsual ? usualGroup : name, fromId: id, strategy, compression: codec });
  }
  add({ name: usualGroup, fromId: nextId, ...defaults });
  return groups;
}

export const isSameGroups = (
  a: readonly CompactionGroup[],
  b: readonly CompactionGroup[],
): boolean =>
  a.length === b.length &&
  a.every((group, i) => {
    const other = b[i];
    return (
      group.fromId === other?.fromId &&
      group.strategy === other.strategy &&
      group.compression === other.compression
    );
  });

// ---- choosing ------------------------------------------------------------------------------------

interface Sorted {
  /** By index of the group. */
  readonly own: readonly (readonly TableMeta[])[];
  readonly mixed: readonly TableMeta[];
}

function sortTables(tables: readonly TableMeta[], groups: readonly CompactionGroup[]): Sorted {
  const own: TableMeta[][] = groups.map(() => []);
  const mixed: TableMeta[] = [];
  for (const table of tables) {
    const group = onlySectionOf(groups, table);
    (group === undefined ? mixed : own[group])?.push(table);
  }
  return { own, mixed };
}

type Sizes = Omit<PickerOptions, 'strategy'>;

/** The next job: of the group in which most tables wait. */
export function pickGroupJob(
  tables: readonly TableMeta[],
  groups: readonly CompactionGroup[],
  sizes: Sizes,
  state: GroupState,
): GroupJob | undefined {
  const { own, mixed } = sortTables(tables, groups);
  const inTheWay = mixed.filter(({ level }) => level > 0);
  if (inTheWay.length > 0) return cutInPlace(inTheWay, tables, groups, state.damaged);
  const candidates = own
    .map((members, group) => ({ members, group }))
    .filter(({ members }) => members.length > 0)
    .map(({ members, group }) => {
      const options = { ...sizes, strategy: strategyOf(groups, group) };
      const { waitingTables } = compactionPressure(members, options, state);
      return { members, group, options, waitingTables };
    })
    .sort((a, b) => b.waitingTables - a.waitingTables || a.group - b.group);
  const mixedJob = cutMixed(mixed, groups, sizes, state);
  for (const { members, group, options, waitingTables } of candidates) {
    if (mixedJob !== undefined && mixed.length >= waitingTables) return mixedJob;
    const job = pickCompaction(members, options, state);
    if (job !== undefined) return { ...job, group, sections: sectionsWithin(groups, group) };
  }
  return mixedJob;
}

const strategyOf = (groups: readonly CompactionGroup[], group: number): CompactionStrategy =>
  groups[group]?.strategy ?? 'leveled';

/** Its own packing; by the time that the job ends others may have begun there. */
function sectionsWithin(
  groups: readonly CompactionGroup[],
  group: number,
): readonly TableSection[] {
  const own = groups[group];
  return own === undefined ? [] : [{ fromId: 0, compression: own.compression }];
}

export const sectionsOf = (groups: readonly CompactionGroup[]): readonly TableSection[] =>
  groups.map(({ fromId, compression }) => ({ fromId, compression }));

/** One table alone, as one of its own level; those that cannot be read change to level 0. */
function cutInPlace(
  inTheWay: readonly TableMeta[],
  tables: readonly TableMeta[],
  groups: readonly CompactionGroup[],
  damaged: ReadonlySet<number>,
): GroupJob | undefined {
  const unreadable = inTheWay.filter(({ fileNumber }) => damaged.has(fileNumber));
  const rest = { sections: sectionsOf(groups), group: undefined };
  if (unreadable.length > 0) {
    const job = { inputs: unreadable, outputLevel: 0, splitBytes: undefined };
    return { ...job, isMove: true, mustMove: true, isCold: false, ...rest };
  }
  const [table] = [...inTheWay].sort((a, b) => a.fileNumber - b.fileNumber);
  if (table === undefined) return undefined;
  const isCold = table.level > 1 && tables.every(({ level }) => level <= table.level);
  const job = { inputs: [table], outputLevel: table.level, splitBytes: undefined };
  return { ...job, isMove: false, isCold, ...rest };
}

/** Of level 0: what is large or older than the groups alone, small ones when they are many. */
function cutMixed(
  mixed: readonly TableMeta[],
  groups: readonly CompactionGroup[],
  { l0Tables, tableBytes }: Sizes,
  { damaged, cutBelow }: GroupState,
): GroupJob | undefined {
  const readable = mixed
    .filter(({ fileNumber }) => !damaged.has(fileNumber))
    .sort((a, b) => a.fileNumber - b.fileNumber);
  const isDue = ({ fileNumber, bytes }: TableMeta): boolean =>
    fileNumber < cutBelow || bytes >= tableBytes;
  const [due] = readable.filter(isDue);
  const small = readable.length >= l0Tables ? readable.slice(0, inputsMax) : [];
  const inputs = due === undefined ? small : [due];
  if (inputs.length === 0) return undefined;
  const job = { inputs, outputLevel: 0, splitBytes: undefined, isMove: false, isCold: false };
  return { ...job, sections: sectionsOf(groups), group: undefined };
}

/**
 * Tables of one group that `choose` has chosen among them, merged into level 0. A mixed one is cut
 * first, so it is nobody's.
 */
export function chosenJob(
  tables: readonly TableMeta[],
  groups: readonly CompactionGroup[],
  { tableBytes }: Sizes,
  choose: (own: readonly TableMeta[]) => readonly TableMeta[],
): GroupJob | undefined {
  for (const [group, own] of sortTables(tables, groups).own.entries()) {
    const inputs = choose(own);
    if (inputs.length === 0) continue;
    const splitBytes = strategyOf(groups, group) === 'leveled' ? tableBytes : undefined;
    const job = { inputs, outputLevel: 0, splitBytes, isMove: false, isCold: false };
    return { ...job, sections: sectionsWithin(groups, group), group };
  }
  return undefined;
}

/** Rewrites one table where it lies, as its group would have it. */
export function rewriteJob(
  table: TableMeta,
  tables: readonly TableMeta[],
  groups: readonly CompactionGroup[],
  { tableBytes }: Sizes,
): GroupJob {
  const group = onlySectionOf(groups, table);
  const isLeveled = group !== undefined && strategyOf(groups, group) === 'leveled';
  const isDeepest = tables.every(({ level }) => level <= table.level);
  return {
    inputs: [table],
    outputLevel: table.level,
    splitBytes: isLeveled ? tableBytes : undefined,
    isMove: false,
    isCold: isLeveled && table.level > 1 && isDeepest,
    sections: sectionsOf(groups),
    group,
  };
}

/**
 * How far behind each group is. Tables below `changedAt`, from before a change, do not count as waiting: the new
 * strategy may find many of them, and they were not written faster than they could be merged.
 */
export function groupPressures(
  tables: readonly TableMeta[],
  groups: readonly CompactionGroup[],
  sizes: Sizes,
  state: PickerState & { readonly changedAt: number },
): Pressures {
  const { changedAt, damaged } = state;
  const { own, mixed } = sortTables(tables, groups);
  const isNew = ({ fileNumber }: TableMeta): boolean => fileNumber >= changedAt;
  const isReadable = ({ fileNumber }: TableMeta): boolean => !damaged.has(fileNumber);
  let waitingTables = mixed.filter((table) => isNew(table) && isReadable(table)).length;
  let debtBytes = mixed.reduce((sum, { bytes }) => sum + bytes, 0);
  const pressures = groups.map((group, i): GroupPressure => {
    const options = { ...sizes, strategy: group.strategy };
    const members = own[i] ?? [];
    const all = compactionPressure(members, options, state);
    const fresh = members.every(isNew)
      ? all
      : compactionPressure(members.filter(isNew), options, state);
    waitingTables = Math.max(waitingTables, fresh.waitingTables);
    debtBytes += all.debtBytes;
    return { ...all, group, tables: members };
  });
  return { groups: pressures, mixed, waitingTables, debtBytes };
}
