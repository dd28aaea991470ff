// What a store knows of its compaction groups: which there are now, since when, and what each has
// written, owes and holds, for people.

import type { Labels, MetricRegistry } from '../../runtime/metrics.ts';
import { namespaceOf } from '../model/record.ts';
import type { CatalogDocument } from '../model/namespaces.ts';
import { firstDocument } from '../model/namespaces.ts';
import { usualGroup } from '../model/table-choices.ts';
import { bytesOf, type PickerOptions, type PickerState } from './compaction-picker.ts';
import {
  chosenJob,
  type CompactionGroup,
  type GroupDefaults,
  type GroupJob,
  groupPressures,
  groupsOf,
  isSameGroups,
  pickGroupJob,
  type Pressures,
  rewriteJob,
  sectionsOf,
} from './compaction-groups.ts';
import type { TableMeta } from './protocol.ts';
import { sectionOf, type TableSection } from './table-sections.ts';

/** Of the groups of one name; what they hold is of now, what they wrote since the start. */
interface Figures {
  tables: number;
  bytes: number;
  debtBytes: number;
  /** Tables that a look-up may have to try: all of level 0, one of each level above. */
  runs: number;
  flushedBytes: number;
  compactedBytes: number;
}

const noFigures = (): Figures => ({
  ...{ tables: 0, bytes: 0, debtBytes: 0, runs: 0, flushedBytes: 0, compactedBytes: 0 },
});

export class GroupBoard {
  readonly #defaults: GroupDefaults;
  readonly #sizes: PickerOptions;
  readonly #metrics: MetricRegistry;
  readonly #labels: Labels;
  readonly #figures = new Map<string, Figures>();
  #groups: readonly CompactionGroup[];
  #sections: readonly TableSection[];
  /** No table of this number was written yet when the groups changed. */
  #changedAt = 0;
  #cutBelow = 0;
  #mixedBytes = 0;

  constructor(
    defaults: GroupDefaults,
    sizes: PickerOptions,
    metrics: MetricRegistry,
    labels: Labels,
  ) {
    this.#defaults = defaults;
    this.#sizes = sizes;
    this.#metrics = metrics;
    this.#labels = labels;
    this.#groups = groupsOf(firstDocument, defaults);
    this.#sections = sectionsOf(this.#groups);
    const help = 'Bytes of tables that are still to be cut at the borders of groups';
    metrics.gauge('kvd_compaction_mixed_bytes', help, () => this.#mixedBytes, labels);
  }

  /** True: tables that were written before `nextFileNumber` may lie across the new borders. */
  know(document: CatalogDocument, nextFileNumber: number): boolean {
    const groups = groupsOf(document, this.#defaults);
    if (isSameGroups(groups, this.#groups)) return false;
    this.#groups = groups;
    this.#sections = sectionsOf(groups);
    this.#changedAt = nextFileNumber;
    this.#cutBelow = nextFileNumber;
    return true;
  }

  /** A start: the last run may have ended before it had cut everything. */
  begin(nextFileNumber: number): void {
    this.#cutBelow = nextFileNumber;
  }

  get sections(): readonly TableSection[] {
    return this.#sections;
  }

  pick(tables: readonly TableMeta[], state: PickerState): GroupJob | undefined {
    const cutBelow = this.#cutBelow;
    return pickGroupJob(tables, this.#groups, this.#sizes, { ...state, cutBelow });
  }

  /** Of the tables of one group. */
  pickChosen(
    tables: readonly TableMeta[],
    choose: (own: readonly TableMeta[]) => readonly TableMeta[],
  ): GroupJob | undefined {
    return chosenJob(tables, this.#groups, this.#sizes, choose);
  }

  rewrite(table: TableMeta, tables: readonly TableMeta[]): GroupJob {
    return rewriteJob(table, tables, this.#groups, this.#sizes);
  }

  /** How far behind they are; the gauges show it from here on. */
  measure(tables: readonly TableMeta[], state: PickerState): Pressures {
    const changedAt = this.#changedAt;
    const pressures = groupPressures(tables, this.#groups, this.#sizes, { ...state, changedAt });
    this.#mixedBytes = bytesOf(pressures.mixed);
    for (const figures of this.#figures.values())
      Object.assign(figures, { tables: 0, bytes: 0, debtBytes: 0, runs: 0 });
    for (const { group, tables: members, debtBytes } of pressures.groups) {
      if (members.length === 0) continue;
      const figures = this.#of(group.name);
      figures.tables += members.length;
      figures.bytes += bytesOf(members);
      figures.debtBytes += debtBytes;
      figures.runs = Math.max(figures.runs, runsOf(members));
    }
    return pressures;
  }

  flushed(tables: readonly TableMeta[]): void {
    for (const table of tables) this.#ofTable(table).flushedBytes += table.bytes;
  }

  compacted(tables: readonly TableMeta[]): void {
    for (const table of tables) this.#ofTable(table).compactedBytes += table.bytes;
  }

  /** A mixed one counts for the group that it begins in. */
  #ofTable({ firstKey }: TableMeta): Figures {
    const group = this.#groups[sectionOf(this.#groups, namespaceOf(firstKey))];
    return this.#of(group?.name ?? usualGroup);
  }

  #of(name: string): Figures {
    const known = this.#figures.get(name);
    if (known !== undefined) return known;
    const figures = noFigures();
    this.#figures.set(name, figures);
    const labels = { ...this.#labels, group: name };
    const gauge = (key: keyof Figures, unit: string, help: string): void =>
      this.#metrics.gauge(`kvd_group_${unit}`, help, () => figures[key], labels);
    const total = (key: keyof Figures, unit: string, help: string): void =>
      this.#metrics.total(`kvd_group_${unit}_total`, help, () => figures[key], labels);
    gauge('tables', 'tables', 'Tables of a compaction group');
    gauge('bytes', 'table_bytes', 'Bytes of the tables of a compaction group');
    gauge('debtBytes', 'debt_bytes', 'Bytes of its tables above the targets of its strategy');
    gauge('runs', 'read_tables', 'Tables that a look-up may have to try');
    total('flushedBytes', 'flushed_bytes', 'Bytes of tables that flushes wrote for it');
    total('compactedBytes', 'compacted_bytes', 'Bytes of tables that merges wrote for it');
    return figures;
  }
}

function runsOf(tables: readonly TableMeta[]): number {
  const levels = new Set(tables.map(({ level }) => level).filter((level) => level > 0));
  return tables.filter(({ level }) => level === 0).length + levels.size;
}
