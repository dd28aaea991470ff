// Compaction by groups of namespaces: every table is cut at the borders in the end, each group picks
// among its own, and whatever is altered on the way loses no key and keeps levels apart.

import { expect } from 'chai';
import fc from 'fast-check';
import { tableGroups } from '../../actors/model/namespaces.ts';
import { namespaceOf, storageKey } from '../../actors/model/record.ts';
import {
  type CompactionGroup,
  type GroupDefaults,
  type GroupJob,
  groupPressures,
  groupsOf,
  pickGroupJob,
} from '../../actors/storage/compaction-groups.ts';
import { byFirstKey, isRun } from '../../actors/storage/key-ranges.ts';
import type { TableMeta } from '../../actors/storage/protocol.ts';
import { joinSmall, onlySectionOf, sectionOf } from '../../actors/storage/table-sections.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { Prng } from '../../runtime/prng.ts';
import { documentOf, drawChoices } from './groups-under-test.ts';
import { tableOver } from './tables-under-test.ts';

const defaults: GroupDefaults = { strategy: 'leveled', compression: 'auto' };
const sizes = { l0Tables: 4, tableBytes: 2_000, timeWindowMs: 1_000 };
const recordBytes = 100;
const namespaces = 5;
/** A row of jobs longer than this goes on for ever. */
const jobsMax = 300;

/** A key as namespace * 10,000 and number, so that numbers sort as keys do. */
const keyOf = (n: number): Uint8Array =>
  storageKey(Math.floor(n / 10_000), utf8.encode(String(n % 10_000).padStart(5, '0')));

const tableAt = (
  fileNumber: number,
  numbers: readonly number[],
  changes: Partial<TableMeta> = {},
): TableMeta =>
  tableOver(fileNumber, numbers, {
    firstKey: keyOf(numbers[0] ?? 0),
    lastKey: keyOf(numbers[numbers.length - 1] ?? 0),
    ...changes,
  });

/** The tables of a shard as sets of numbers. */
class Shard {
  groups: readonly CompactionGroup[] = groupsOf(documentOf(1, {}), defaults);
  changedAt = 0;
  nowMs = 0;
  #next = 1;
  readonly contents = new Map<number, { meta: TableMeta; numbers: readonly number[] }>();

  get tables(): TableMeta[] {
    return [...this.contents.values()].map(({ meta }) => meta);
  }

  numbers(): number[] {
    const all = [...this.contents.values()].flatMap(({ numbers }) => numbers);
    return [...new Set(all)].sort((a, b) => a - b);
  }

  alter(groups: readonly CompactionGroup[]): void {
    this.groups = groups;
    this.changedAt = this.#next;
  }

  /** All in one table, or cut where groups begin. */
  flush(numbers: readonly number[], isCut: boolean): void {
    const sorted = [...new Set(numbers)].sort((a, b) => a - b);
    this.#write(sorted, 0, isCut ? this.groups : [{ fromId: 0 }], undefined);
  }

  compact(damaged: ReadonlySet<number> = new Set()): GroupJob | undefined {
    const { nowMs, changedAt } = this;
    const job = pickGroupJob(this.tables, this.groups, sizes, {
      nowMs,
      cutBelow: changedAt,
      damaged,
    });
    if (job === undefined) return undefined;
    const inputs = job.inputs.map(({ fileNumber }) => this.contents.get(fileNumber));
    for (const { fileNumber } of job.inputs) this.contents.delete(fileNumber);
    if (job.isMove) {
      for (const input of inputs)
        if (input !== undefined) {
          const meta = { ...input.meta, level: job.outputLevel };
          this.contents.set(meta.fileNumber, { meta, numbers: input.numbers });
        }
      return job;
    }
    const all = new Set(inputs.flatMap((input) => input?.numbers ?? []));
    const sorted = [...all].sort((a, b) => a - b);
    this.#write(sorted, job.outputLevel, job.sections, job.splitBytes);
    return job;
  }

  #write(
    sorted: readonly number[],
    level: number,
    sections: readonly { readonly fromId: number }[],
    splitBytes: number | undefined,
  ): void {
    const most = Math.max(1, (splitBytes ?? Infinity) / recordBytes);
    let part: number[] = [];
    const end = (): void => {
      if (part.length === 0) return;
      const stamp = this.nowMs * 1000;
      const meta = tableAt(this.#next, part, { level, minHlc: stamp, maxHlc: stamp });
      this.contents.set(this.#next, { meta, numbers: part });
      this.#next += 1;
      part = [];
    };
    let section = -1;
    for (const n of sorted) {
      const own = sectionOf(sections, namespaceOf(keyOf(n)));
      if (own !== section || part.length >= most) end();
      section = own;
      part.push(n);
    }
    end();
  }
}

function settle(shard: Shard, damaged?: ReadonlySet<number>): void {
  for (let jobs = 0; ; jobs += 1) {
    const { groups } = shard;
    const job = shard.compact(damaged);
    expectLevelsApart(shard.tables);
    if (job === undefined) return;
    expectOneGroup(job, groups);
    expect(jobs, 'it goes on for ever').to.be.lessThan(jobsMax);
  }
}

function expectLevelsApart(tables: readonly TableMeta[]): void {
  for (const level of new Set(tables.map((table) => table.level)))
    if (level > 0)
      expect(
        isRun(tables.filter((table) => table.level === level).sort(byFirstKey)),
        `level ${level}`,
      ).to.equal(true);
}

/** Tables of one group, or those that lie in several. */
function expectOneGroup({ inputs, group }: GroupJob, groups: readonly CompactionGroup[]): void {
  for (const table of inputs) expect(onlySectionOf(groups, table)).to.equal(group);
}

const strategiesOf = (groups: readonly CompactionGroup[]): readonly string[] =>
  groups.map(({ fromId, name, strategy, compression }) =>
    [fromId, name, strategy, compression].join(' '),
  );

describe('compaction groups', () => {
  it('groups: neighbours that are kept alike are one, and all ids belong to one', () => {
    expect(strategiesOf(groupsOf(documentOf(3, {}), defaults))).to.deep.equal(['0 * leveled auto']);
    const tiered = { compaction: 'size-tiered' } as const;
    const document = documentOf(7, { 1: tiered, 2: tiered, 4: { compression: 'none' }, 6: tiered });
    expect(strategiesOf(groupsOf(document, defaults))).to.deep.equal([
      '0 * leveled auto',
      '1 ns1 size-tiered auto',
      '3 * leveled auto',
      '4 ns4 leveled none',
      '5 * leveled auto',
      '6 ns6 size-tiered auto',
      '7 * leveled auto',
    ]);
    expect(tableGroups(document.namespaces)).to.equal(3);
    // What is chosen and is the node's own is no group of its own; a node that differs sees others.
    const same = documentOf(3, { 1: { compaction: 'leveled', compression: 'auto' } });
    expect(groupsOf(same, defaults).length).to.equal(1);
    expect(groupsOf(same, { strategy: 'time-window', compression: 'auto' }).length).to.equal(3);
  });

  it('groups: a dropped id in the middle ends no group', () => {
    const document = documentOf(4, { 1: { compression: 'zstd' }, 3: { compression: 'zstd' } });
    const without = { ...document, namespaces: document.namespaces.filter(({ id }) => id !== 2) };
    expect(strategiesOf(groupsOf(without, defaults))).to.deep.equal([
      '0 * leveled auto',
      '1 ns1 leveled zstd',
      '4 * leveled auto',
    ]);
  });

  it('groups: flushes, merges and alterations come to rest, lose no key and keep levels apart (any order)', () => {
    const keys = fc.array(
      fc.tuple(fc.nat(namespaces - 1), fc.nat(900)).map(([id, n]) => id * 10_000 + n),
      { minLength: 1, maxLength: 60 },
    );
    const step = fc.record({
      keys,
      isCut: fc.boolean(),
      alters: fc.option(fc.nat(1_000), { freq: 3 }),
      jobs: fc.nat(3),
      stepMs: fc.nat(900),
    });
    const property = fc.property(fc.array(step, { minLength: 1, maxLength: 25 }), (steps) => {
      const shard = new Shard();
      const written = new Set<number>();
      for (const { keys: numbers, isCut, alters, jobs, stepMs } of steps) {
        shard.nowMs += stepMs;
        if (alters !== null)
          shard.alter(
            groupsOf(documentOf(namespaces, drawChoices(new Prng(alters), namespaces)), defaults),
          );
        shard.flush(numbers, isCut);
        for (const n of numbers) written.add(n);
        for (let i = 0; i < jobs; i += 1) shard.compact();
        expectLevelsApart(shard.tables);
      }
      settle(shard);
      expect(shard.numbers()).to.deep.equal([...written].sort((a, b) => a - b));
      const { nowMs, changedAt, groups } = shard;
      const pressures = groupPressures(shard.tables, groups, sizes, {
        ...{ nowMs, changedAt, damaged: new Set<number>() },
      });
      const left = pressures.mixed.map(({ fileNumber, level }) => [fileNumber < changedAt, level]);
      expect(left.every(([isOld, level]) => isOld === false && level === 0)).to.equal(true);
      expect(left.length).to.be.lessThan(sizes.l0Tables);
      for (const { debtBytes } of pressures.groups) expect(debtBytes).to.equal(0);
    });
    fc.assert(property, { numRuns: 150 });
  });

  it('groups: a damaged table is in no merge, and stands in the way of none', () => {
    const random = new Prng(5);
    for (let round = 0; round < 100; round += 1) {
      const shard = new Shard();
      const some = (): number[] =>
        Array.from({ length: 50 }, () => random.int(namespaces) * 10_000 + random.int(900));
      for (let i = 0; i < 12; i += 1) {
        shard.flush(some(), false);
        if (random.chance(0.5)) shard.compact();
      }
      const choices = drawChoices(random, namespaces);
      shard.alter(groupsOf(documentOf(namespaces, choices), defaults));
      const damaged = new Set(
        shard.tables.filter(() => random.chance(0.2)).map(({ fileNumber }) => fileNumber),
      );
      for (let jobs = 0; ; jobs += 1) {
        const job = shard.compact(damaged);
        if (job === undefined) break;
        const hasDamaged = job.inputs.some(({ fileNumber }) => damaged.has(fileNumber));
        expect(hasDamaged).to.equal(job.mustMove === true);
        expectLevelsApart(shard.tables);
        expect(jobs).to.be.lessThan(jobsMax);
      }
      for (const fileNumber of damaged) expect(shard.contents.has(fileNumber)).to.equal(true);
    }
  });

  it('groups: while a mixed table lies above level 0 nothing else is merged', () => {
    const shard = new Shard();
    const groups = groupsOf(documentOf(3, { 1: { compaction: 'size-tiered' } }), defaults);
    const mixed = tableAt(1, [100, 10_100], { level: 2 });
    const own = [2, 3, 4, 5].map((fileNumber) => tableAt(fileNumber, [50, 60]));
    const state = { nowMs: 0, cutBelow: 0, damaged: new Set<number>() };
    const job = pickGroupJob([...own, mixed], groups, sizes, state);
    expect(job?.inputs, 'the mixed table').to.deep.equal([mixed]);
    expect([job?.outputLevel, job?.group, job?.isMove]).to.deep.equal([2, undefined, false]);
    expect(job?.sections.map(({ fromId }) => fromId)).to.deep.equal([0, 1, 2]);
    expect(shard.tables.length).to.equal(0);
  });

  it('groups: the group in which most tables wait comes first', () => {
    const groups = groupsOf(documentOf(3, { 1: { compression: 'none' } }), defaults);
    const state = { nowMs: 0, cutBelow: 0, damaged: new Set<number>() };
    const few = [1, 2, 3, 4].map((fileNumber) => tableAt(fileNumber, [1, 2]));
    const many = [5, 6, 7, 8, 9].map((fileNumber) => tableAt(fileNumber, [10_001, 10_002]));
    const job = pickGroupJob([...few, ...many], groups, sizes, state);
    expect(job?.group).to.equal(1);
    expect(job?.sections).to.deep.equal([{ fromId: 0, compression: 'none' }]);
  });

  for (const strategy of ['size-tiered', 'time-window'] as const)
    it(`groups: what another strategy has left stops no write, and its largest table goes deep at once (${strategy})`, () => {
      const tables: TableMeta[] = [];
      for (let i = 1; i <= 40; i += 1)
        tables.push(tableAt(i, [i, 500 + i], { bytes: 2_000, maxHlc: i * 2_000_000 }));
      tables.push(tableAt(41, [0, 900], { bytes: 3_000_000 }));
      const before = groupsOf(documentOf(1, { 0: { compaction: strategy } }), defaults);
      expect(
        groupPressures(tables, before, sizes, { nowMs: 0, changedAt: 0, damaged: new Set() }).mixed,
      ).to.deep.equal([]);
      const now = groupsOf(documentOf(1, {}), defaults);
      const state = { nowMs: 0, changedAt: 42, cutBelow: 42, damaged: new Set<number>() };
      const pressures = groupPressures(tables, now, sizes, state);
      expect([pressures.waitingTables, pressures.debtBytes > 0]).to.deep.equal([0, true]);
      const first = pickGroupJob(tables, now, sizes, state);
      expect(first?.inputs.map(({ fileNumber }) => fileNumber)).to.deep.equal([41]);
      expect([first?.outputLevel, first?.splitBytes]).to.deep.equal([4, 2_000]);
      const rest = pickGroupJob(tables.slice(0, 40), now, sizes, state);
      expect(rest?.inputs.length).to.equal(32);
    });

  it('sections: small neighbours of a flush share a table, large ones never do', () => {
    const sections = Array.from({ length: 6 }, (_, fromId) => ({
      fromId,
      compression: 'none' as const,
    }));
    const joined = (...bytes: number[]): string =>
      joinSmall(sections, bytes, { bytesMin: 10, plain: 'auto' })
        .map(({ fromId, compression }) => `${fromId}${compression[0] ?? ''}`)
        .join(' ');
    expect(joined(20, 30, 0, 40, 0, 0)).to.equal('0n 1n 3n');
    expect(joined(20, 3, 4, 40, 5, 0)).to.equal('0n 1a 3n 4n');
    expect(joined(1, 2, 3, 4, 5, 6)).to.equal('0a');
    expect(joined(0, 0, 3, 0, 0, 0)).to.equal('2n');
  });

  it('sections: every id is in the last one that does not begin above it', () => {
    const random = new Prng(1);
    for (let round = 0; round < 200; round += 1) {
      const ids = Array.from({ length: random.int(20) }, () => 1 + random.int(50));
      const starts = [0, ...new Set(ids)].sort((a, b) => a - b);
      const sections = starts.map((fromId) => ({ fromId }));
      const id = random.int(60);
      expect(starts[sectionOf(sections, id)]).to.equal(starts.filter((each) => each <= id).pop());
    }
  });
});
