// Tables that have expired: which of them go, and when a look at them would be in vain.

import { expect } from 'chai';
import { expiredAmong, ExpiredTables } from '../../actors/storage/expired-tables.ts';
import type { TableMeta } from '../../actors/storage/protocol.ts';
import { type PurgeBounds, readInputs } from '../../actors/storage/purge-rule.ts';
import type { CompactionOutcome } from '../../actors/storage/store-steps.ts';
import { tableOver } from './tables-under-test.ts';

const bounds: PurgeBounds = { belowHlc: 10_000, expiredBeforeMs: 500, batchesBelowHlc: 0 };

/** Over the same keys as all others, expired unless something else is said. */
const stamped = (fileNumber: number, hlcs: readonly [number, number], changes = {}): TableMeta => {
  const [minHlc, maxHlc] = hlcs;
  return tableOver(fileNumber, [0, 100], { minHlc, maxHlc, maxExpiresAt: 400, ...changes });
};

const chosen = (tables: readonly TableMeta[], rule = bounds): number[] =>
  expiredAmong(tables, tables, rule).map(({ fileNumber }) => fileNumber);

const outcome: CompactionOutcome = {
  ...{ inputs: 1, outputs: 1, outputLevel: 0, readBytes: 1, writtenBytes: 1 },
  ...{ superseded: 0, purged: 0, written: [] },
};

describe('expired tables', () => {
  it('expired: a lone table goes when the last of its records has expired for long enough', () => {
    expect(chosen([stamped(1, [1, 9])])).to.deep.equal([1]);
    expect(chosen([stamped(1, [1, 9], { maxExpiresAt: 500 })])).to.deep.equal([]);
    expect(chosen([stamped(1, [1, 9], { maxExpiresAt: 0 })])).to.deep.equal([]);
  });

  it('expired: tables that share a few stamps go together, but for what a younger one holds back', () => {
    const young = { maxExpiresAt: 900 };
    const tables = [stamped(1, [1, 101]), stamped(2, [99, 201]), stamped(3, [199, 300], young)];
    expect(chosen(tables)).to.deep.equal([1, 2]);
    const rule = { ...bounds, others: tables.slice(2) };
    const isRead = (table: TableMeta): boolean => readInputs(rule, [table]).length > 0;
    expect(tables.map(isRead)).to.deep.equal([false, true, true]);
  });

  it('expired: a table is left alone where something as old as most of it may be elsewhere', () => {
    const old = stamped(2, [1, 50], { maxExpiresAt: 0 });
    expect(chosen([stamped(1, [1, 101]), old])).to.deep.equal([]);
    expect(chosen([stamped(1, [1, 101])], { ...bounds, belowHlc: 50 })).to.deep.equal([]);
    const apart = tableOver(2, [101, 200], { minHlc: 1, maxHlc: 50 });
    expect(chosen([stamped(1, [1, 101]), apart])).to.deep.equal([1]);
  });

  it('expired: what one table holds back holds back others', () => {
    const tables = [stamped(1, [50, 60]), stamped(2, [10, 60]), stamped(3, [10, 20])];
    const young = stamped(4, [10, 900], { maxExpiresAt: 900 });
    expect(chosen(tables)).to.deep.equal([3, 1, 2]);
    expect(chosen([...tables, young])).to.deep.equal([]);
  });

  it('expired: with several copies the lowest horizon counts, and all of them for a table unread', () => {
    const rule = (...hlcs: number[]): PurgeBounds => ({ ...bounds, arcs: { ends: [1, 2], hlcs } });
    const table = stamped(1, [1, 101]);
    expect(chosen([table], rule(40, 200))).to.deep.equal([]);
    expect(chosen([table], rule(60, 200))).to.deep.equal([1]);
    expect(chosen([table], rule(0, 200))).to.deep.equal([1]);
    const whole = (...hlcs: number[]): boolean =>
      readInputs({ ...rule(...hlcs), others: [] }, [table]).length === 0;
    expect([whole(101, 200), whole(60, 200), whole(0, 200)]).to.deep.equal([true, false, false]);
  });

  it('expired: a table that hides what stays of the same job is read', () => {
    const read = (...inputs: TableMeta[]): number[] =>
      readInputs({ ...bounds, others: [] }, inputs).map(({ fileNumber }) => fileNumber);
    const expired = stamped(1, [50, 60]);
    const living = { maxExpiresAt: 0 };
    expect(read(expired, stamped(2, [10, 20], living))).to.deep.equal([1, 2]);
    expect(read(expired, stamped(2, [70, 80], living)), 'it is younger').to.deep.equal([2]);
    const apart = tableOver(2, [101, 200], { minHlc: 10, maxHlc: 20 });
    expect(read(expired, apart), 'of other keys').to.deep.equal([2]);
    const old = tableOver(2, [0, 10], { minHlc: 10, maxHlc: 20 });
    const left = tableOver(3, [5, 50], { minHlc: 30, maxHlc: 60, maxExpiresAt: 400 });
    const right = tableOver(4, [40, 90], { minHlc: 50, maxHlc: 90, maxExpiresAt: 400 });
    expect(read(old, left, right), 'nothing of the first two is left below it').to.deep.equal([
      2, 3,
    ]);
    expect(read(left, right), 'nothing lives').to.deep.equal([]);
  });

  it('expired: of many the oldest ones go first', () => {
    const tables = Array.from({ length: 50 }, (_, i) => stamped(50 - i, [10 * i, 10 * i + 5]));
    expect(chosen(tables)).to.deep.equal(Array.from({ length: 32 }, (_, i) => 50 - i));
  });

  it('expired: outputs of which most had to stay are left alone, and other jobs count for nothing', () => {
    const expired = new ExpiredTables();
    const output = stamped(9, [1, 9]);
    const end = (purged: number, inputs: readonly TableMeta[] | undefined): boolean => {
      expired.begin();
      const isMove = false;
      const rest = { ...{ isMove, isCold: false, outputLevel: 0 }, sections: [], group: 0 };
      expired.found(inputs && { ...rest, inputs, splitBytes: undefined });
      expired.ended({ ...outcome, purged, written: [output] }, 1_000);
      return expired.isResting(output, 2_000);
    };
    const [input] = [stamped(1, [1, 9], { records: 10 })];
    expect(end(0, undefined)).to.equal(false);
    expect(expired.isDue).to.equal(false);
    expect(end(5, [input])).to.equal(false);
    expect(expired.isDue).to.equal(true);
    expect(end(4, [input])).to.equal(true);
    expect(expired.isResting(output, 48 * 3_600_000)).to.equal(false);
    expired.keepOnly(new Map());
    expect(expired.isResting(output, 2_000)).to.equal(false);
  });
});
