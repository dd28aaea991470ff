// The picker: it comes to an end, keeps levels apart, loses nothing, and chooses the same again.

import { expect } from 'chai';
import fc from 'fast-check';
import {
  compactionPressure,
  levelMax,
  levelTargetBytes,
  pickCompaction,
  type PickerOptions,
} from '../../actors/storage/compaction-picker.ts';
import { byFirstKey, isRun, overlapInRun, rangesOverlap } from '../../actors/storage/key-ranges.ts';
import type { TableMeta } from '../../actors/storage/protocol.ts';
import { Prng } from '../../runtime/prng.ts';
import { keyOf, SimulatedTables, tableOver } from './tables-under-test.ts';
import { type CompactionStrategy, compactionStrategies } from '../../actors/model/table-choices.ts';

const optionsOf = (strategy: CompactionStrategy): PickerOptions => ({
  strategy,
  l0Tables: 4,
  tableBytes: 2_000,
  timeWindowMs: 1_000,
});

const nothingDamaged = { nowMs: 0, damaged: new Set<number>() };
/** A shard's tables never need more jobs in a row than this in these tests. */
const jobsMax = 200;

const pick = (
  tables: readonly TableMeta[],
  strategy: CompactionStrategy,
  changes: Partial<PickerOptions> = {},
): ReturnType<typeof pickCompaction> =>
  pickCompaction(tables, { ...optionsOf(strategy), ...changes }, nothingDamaged);

const span = (from: number, to: number): number[] =>
  Array.from({ length: to - from }, (_, i) => from + i);

const filesOf = (job: ReturnType<typeof pickCompaction>): number[] | undefined =>
  job?.inputs.map(({ fileNumber }) => fileNumber).sort((a, b) => a - b);

function settle(tables: SimulatedTables): void {
  for (let jobs = 0; tables.compact() !== undefined; jobs += 1)
    expect(jobs, 'the picker goes on for ever').to.be.lessThan(jobsMax);
}

function expectLevelsApart(tables: readonly TableMeta[]): void {
  for (let level = 1; level <= levelMax; level += 1)
    expect(isRun(tables.filter((table) => table.level === level).sort(byFirstKey))).to.equal(true);
}

describe('compaction picker: any strategy', () => {
  for (const strategy of compactionStrategies)
    it(`picker: flushes and merges come to rest, lose no key and keep levels apart (${strategy}, any flushes)`, () => {
      const flushes = fc.array(fc.array(fc.nat(5_000), { minLength: 1, maxLength: 60 }), {
        minLength: 1,
        maxLength: 25,
      });
      const property = fc.property(flushes, fc.nat(900), (batches, stepMs) => {
        const tables = new SimulatedTables(optionsOf(strategy));
        for (const batch of batches) {
          tables.nowMs += stepMs;
          tables.flush(batch);
          settle(tables);
          expectLevelsApart(tables.tables);
        }
        const all = [...new Set(batches.flat())].sort((a, b) => a - b);
        expect(tables.numbers()).to.deep.equal(all);
        const pressure = compactionPressure(tables.tables, optionsOf(strategy), {
          ...nothingDamaged,
          nowMs: tables.nowMs,
        });
        expect(pressure.debtBytes).to.equal(0);
      });
      fc.assert(property, { numRuns: 60 });
    });

  for (const strategy of compactionStrategies)
    it(`picker: the order in which tables are listed does not matter (${strategy})`, () => {
      const random = new Prng(3);
      const tables = span(1, 30).map((fileNumber) =>
        tableOver(fileNumber, [random.int(500), 500 + random.int(500)], {
          bytes: random.between(100, 4_000),
          maxHlc: random.int(5_000_000),
        }),
      );
      const job = pick(tables, strategy);
      expect(filesOf(job)).to.not.equal(undefined);
      for (let round = 0; round < 20; round += 1)
        expect(filesOf(pick(random.shuffled(tables), strategy))).to.deep.equal(filesOf(job));
    });

  for (const strategy of compactionStrategies)
    it(`picker: a job never has a damaged table in it (${strategy})`, () => {
      const random = new Prng(4);
      for (let round = 0; round < 200; round += 1) {
        const tables = new SimulatedTables(optionsOf(strategy));
        for (let flush = 0; flush < 12; flush += 1) {
          tables.flush(span(0, 40).map(() => random.int(2_000)));
          if (random.chance(0.5)) tables.compact();
        }
        const damaged = new Set(
          tables.tables.filter(() => random.chance(0.1)).map(({ fileNumber }) => fileNumber),
        );
        const job = tables.compact(damaged);
        expect(job?.inputs.some(({ fileNumber }) => damaged.has(fileNumber)) ?? false).to.equal(
          false,
        );
      }
    });
});

describe('compaction picker: tables that wait', () => {
  const waiting = (
    tables: readonly TableMeta[],
    strategy: CompactionStrategy,
    damaged: readonly number[],
  ): number => {
    const state = { nowMs: 10_000, damaged: new Set(damaged) };
    return compactionPressure(tables, optionsOf(strategy), state).waitingTables;
  };

  it('picker: flushed tables wait, but for what is damaged among them or below them', () => {
    const flushed = [1, 2, 3, 4, 5].map((n) => tableOver(n, [40, 60]));
    const below = [
      tableOver(6, [0, 39], { level: 1 }),
      tableOver(7, [50, 80], { level: 1 }),
      tableOver(8, [40, 60], { level: 2 }),
    ];
    const tables = [...flushed, ...below];
    expect(waiting(tables, 'leveled', [])).to.equal(5);
    expect(waiting(tables, 'leveled', [6, 8])).to.equal(5);
    expect(waiting(tables, 'leveled', [7])).to.equal(0);
    expect(waiting(tables, 'leveled', [3])).to.equal(0);
    expect(waiting(below, 'leveled', [7])).to.equal(0);
  });

  for (const strategy of ['size-tiered', 'time-window'] as const)
    it(`picker: of tables of one size or window the others wait (${strategy})`, () => {
      const tables = [1, 2, 3, 4, 5].map((n) => tableOver(n, [0, 100]));
      expect(waiting(tables, strategy, [])).to.equal(5);
      expect(waiting(tables, strategy, [2, 9])).to.equal(4);
    });
});

describe('compaction picker: leveled', () => {
  it('picker: the fourth flushed table starts a merge into level 1, not the third', () => {
    const tables = [1, 2, 3].map((n) => tableOver(n, [0, 100]));
    expect(pick(tables, 'leveled')).to.equal(undefined);
    const job = pick([...tables, tableOver(4, [50, 60])], 'leveled');
    expect(filesOf(job)).to.deep.equal([1, 2, 3, 4]);
    expect(job).to.include({ outputLevel: 1, splitBytes: 2_000, isMove: false });
  });

  it('picker: flushed tables are merged with what they overlap in level 1 only', () => {
    const flushed = [1, 2, 3, 4].map((n) => tableOver(n, [40, 60]));
    const below = [
      tableOver(5, [0, 39], { level: 1 }),
      tableOver(6, [40, 45], { level: 1 }),
      tableOver(7, [60, 80], { level: 1 }),
      tableOver(8, [81, 90], { level: 1 }),
    ];
    expect(filesOf(pick([...flushed, ...below], 'leveled'))).to.deep.equal([1, 2, 3, 4, 6, 7]);
  });

  it('picker: a level above its target gives the table that rewrites least of the next', () => {
    const bytes = 4_500;
    const tables = [
      tableOver(1, [0, 10], { level: 1, bytes }),
      tableOver(2, [20, 30], { level: 1, bytes }),
      tableOver(3, [0, 5], { level: 2, bytes: 2_000 }),
      tableOver(4, [6, 9], { level: 2, bytes: 2_000 }),
      tableOver(5, [25, 26], { level: 2, bytes: 2_000 }),
    ];
    const job = pick(tables, 'leveled');
    expect(filesOf(job)).to.deep.equal([2, 5]);
    expect(job).to.include({ outputLevel: 2, isMove: false });
  });

  it('picker: a table that overlaps nothing in the next level is moved as it is', () => {
    const tables = [
      tableOver(1, [0, 10], { level: 1, bytes: 9_000 }),
      tableOver(2, [20, 30], { level: 2, bytes: 1_000 }),
    ];
    expect(pick(tables, 'leveled')).to.deep.equal({
      inputs: [tables[0]],
      outputLevel: 2,
      splitBytes: 2_000,
      isMove: true,
      isCold: true,
    });
  });

  it('picker: what nothing lies below is cold, but not level 1', () => {
    const full = tableOver(1, [0, 10], { level: 1, bytes: 9_000 });
    const below = tableOver(2, [0, 30], { level: 2, bytes: 1_000 });
    const deepest = tableOver(3, [0, 30], { level: 3, bytes: 1_000 });
    expect(pick([full, below], 'leveled')?.isCold).to.equal(true);
    expect(pick([full, below, deepest], 'leveled')?.isCold).to.equal(false);
    const flushed = [4, 5, 6, 7].map((n) => tableOver(n, [0, 50]));
    expect(pick(flushed, 'leveled')?.isCold).to.equal(false);
  });

  it('picker: flushed tables that follow each other are moved, unless they are small', () => {
    const tables = (bytes: number): TableMeta[] =>
      [1, 2, 3, 4].map((n) => tableOver(n, [n * 10, n * 10 + 5], { bytes }));
    expect(pick(tables(1_000), 'leveled')?.isMove).to.equal(true);
    expect(pick(tables(999), 'leveled')?.isMove).to.equal(false);
  });

  it('picker: the level that is furthest above its target comes first', () => {
    const flushed = span(1, 5).map((n) => tableOver(n, [0, 100]));
    const full = (bytes: number): TableMeta[] => [
      ...flushed,
      tableOver(9, [200, 300], { level: 1, bytes }),
    ];
    expect(pick(full(7_900), 'leveled')?.outputLevel).to.equal(1);
    expect(pick(full(8_100), 'leveled')?.outputLevel).to.equal(2);
  });

  it('picker: levels are ten times as large as the one before, the last one has no limit', () => {
    const options = { l0Tables: 4, tableBytes: 100 };
    expect(levelTargetBytes(1, options)).to.equal(400);
    expect(levelTargetBytes(3, options)).to.equal(40_000);
    expect(levelTargetBytes(levelMax, options)).to.equal(Infinity);
    const huge = tableOver(1, [0, 10], { level: levelMax, bytes: 2 ** 50 });
    expect(pick([huge], 'leveled')).to.equal(undefined);
  });

  it('picker: damage in one level leaves the others their work', () => {
    const tables = [
      ...[1, 2, 3, 4].map((n) => tableOver(n, [0, 100])),
      tableOver(5, [0, 10], { level: 1, bytes: 5_000 }),
      tableOver(6, [20, 30], { level: 1, bytes: 5_000 }),
    ];
    const damaged = new Set([5]);
    const job = pickCompaction(tables, optionsOf('leveled'), { nowMs: 0, damaged });
    expect(filesOf(job)).to.deep.equal([6]);
  });

  it('picker: the debt is what is above the targets', () => {
    const tables = [
      ...[1, 2, 3, 4].map((n) => tableOver(n, [0, 100], { bytes: 10 })),
      tableOver(5, [0, 10], { level: 1, bytes: 8_100 }),
      tableOver(6, [0, 10], { level: 2, bytes: 80_000 }),
    ];
    expect(compactionPressure(tables, optionsOf('leveled'), nothingDamaged)).to.deep.equal({
      waitingTables: 4,
      debtBytes: 140,
    });
  });
});

describe('compaction picker: size-tiered', () => {
  const sized = (...sizes: readonly number[]): TableMeta[] =>
    sizes.map((bytes, i) => tableOver(i + 1, [0, 100], { bytes }));

  it('picker: four tables of similar size become one', () => {
    const job = pick(sized(10_000, 50_000, 11_000, 9_000, 10_500), 'size-tiered');
    expect(filesOf(job)).to.deep.equal([1, 3, 4, 5]);
    expect(job).to.deep.include({ outputLevel: 0, splitBytes: undefined, isMove: false });
  });

  it('picker: what is larger than all that is left is cold, unless it is small', () => {
    const cold = (...sizes: readonly number[]): boolean | undefined =>
      pick(sized(...sizes), 'size-tiered')?.isCold;
    expect(cold(10_000, 10_000, 10_000, 10_000, 30_000)).to.equal(true);
    expect(cold(10_000, 10_000, 10_000, 10_000, 50_000)).to.equal(false);
    expect(cold(1_000, 1_000, 1_000, 1_000)).to.equal(false);
  });

  it('picker: three of a size stay, and sizes apart are no group', () => {
    expect(pick(sized(10_000, 10_000, 10_000), 'size-tiered')).to.equal(undefined);
    expect(pick(sized(10_000, 16_000, 25_000, 40_000), 'size-tiered')).to.equal(undefined);
  });

  it('picker: small tables are of one size, and come first', () => {
    const tables = sized(9_000, 1, 9_000, 40, 9_000, 600, 9_000, 1_999);
    expect(filesOf(pick(tables, 'size-tiered'))).to.deep.equal([2, 4, 6, 8]);
  });

  it('picker: tables of any level take part', () => {
    const tables = sized(10_000, 10_000, 10_000, 10_000).map((table, i) => ({
      ...table,
      level: i,
    }));
    expect(filesOf(pick(tables, 'size-tiered'))).to.deep.equal([1, 2, 3, 4]);
  });

  it('picker: a job has at most 32 inputs, and all of a size wait', () => {
    const tables = sized(...span(0, 50).map(() => 10_000));
    expect(pick(tables, 'size-tiered')?.inputs.length).to.equal(32);
    expect(compactionPressure(tables, optionsOf('size-tiered'), nothingDamaged)).to.deep.equal({
      waitingTables: 50,
      debtBytes: 500_000,
    });
  });
});

describe('compaction picker: time-window', () => {
  /** One table for each pair of the window of its newest record and its size. */
  const stamped = (...tables: readonly (readonly [number, number])[]): TableMeta[] =>
    tables.map(([window, bytes], i) =>
      tableOver(i + 1, [0, 100], { bytes, maxHlc: window * 1_000_000 + 5 }),
    );
  const pickAt = (tables: readonly TableMeta[], nowMs: number): number[] | undefined =>
    filesOf(
      pickCompaction(tables, optionsOf('time-window'), { nowMs, damaged: new Set<number>() }),
    );

  it('picker: a window that is over becomes one table, the oldest first', () => {
    const tables = stamped([2, 10_000], [1, 50_000], [2, 90_000], [1, 10_000], [3, 10_000]);
    expect(pickAt(tables, 3_500)).to.deep.equal([2, 4]);
    expect(
      pickAt(
        tables.filter(({ fileNumber }) => fileNumber !== 2),
        3_500,
      ),
    ).to.deep.equal([1, 3]);
  });

  it('picker: one table in each window is at rest', () => {
    expect(pickAt(stamped([1, 10], [2, 10], [3, 10]), 9_000)).to.equal(undefined);
  });

  it('picker: the current window is merged by size, before those that are over', () => {
    const tables = stamped([3, 10_000], [3, 10_000], [3, 10_000], [1, 10], [1, 10]);
    expect(pickAt(tables, 3_999)).to.deep.equal([4, 5]);
    const more = [...tables, tableOver(6, [0, 1], { bytes: 10_000, maxHlc: 3_000_000 })];
    expect(pickAt(more, 3_999)).to.deep.equal([1, 2, 3, 6]);
  });

  it('picker: records ahead of the clock do not close the window before them', () => {
    const tables = stamped([3, 10_000], [3, 20_000], [9, 10_000]);
    expect(pickAt(tables, 3_500)).to.equal(undefined);
    expect(pickAt(tables, 4_000)).to.deep.equal([1, 2]);
  });
});

describe('key ranges', () => {
  it('key ranges: a search in a run finds what a look at every range finds (any run)', () => {
    const property = fc.property(
      fc.uniqueArray(fc.nat(60), { minLength: 2, maxLength: 30 }),
      fc.nat(62),
      fc.nat(20),
      (ends, from, length) => {
        const sorted = ends.sort((a, b) => a - b);
        const run = span(0, Math.floor(sorted.length / 2)).map((i) =>
          tableOver(i, [sorted[2 * i] as number, sorted[2 * i + 1] as number]),
        );
        expect(isRun(run)).to.equal(true);
        const range = { firstKey: keyOf(from), lastKey: keyOf(from + length) };
        expect(overlapInRun(run, range)).to.deep.equal(
          run.filter((table) => rangesOverlap(table, range)),
        );
      },
    );
    fc.assert(property);
  });

  it('key ranges: ranges with one key in common are no run', () => {
    expect(isRun([tableOver(1, [0, 5]), tableOver(2, [5, 9])])).to.equal(false);
    expect(isRun([tableOver(1, [0, 5]), tableOver(2, [6, 9])])).to.equal(true);
    expect(isRun([])).to.equal(true);
  });
});
