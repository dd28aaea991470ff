// Checkers are tested by histories that are good and by the same histories with one corruption
// (CK-14).

import { expect } from 'chai';
import type { Etag } from '../../actors/model/record.ts';
import { invalidLoad } from '../../sim/checkers/load.ts';
import { checkQuorumFloor } from '../../sim/checkers/quorum-floor.ts';
import { checkConvergence, checkDurability } from '../../sim/checkers/settled.ts';
import { checkValues } from '../../sim/checkers/values.ts';
import type { Operation } from '../../sim/history.ts';

const etag = (hlc: number): Etag => ({ hlc, writer: 1, incarnation: 1 });

let index = 0;
function operation(part: Partial<Operation>): Operation {
  index += 1;
  return {
    index,
    workload: 'registers',
    client: 0,
    turn: index,
    kind: 'get',
    key: 'k',
    process: 1,
    node: 'n1',
    level: 'QUORUM',
    phase: 'chaos',
    invokedMs: 0,
    returnedMs: 0,
    outcome: 'ok',
    value: undefined,
    etag: undefined,
    code: undefined,
    ...part,
  };
}

const at = (startMs: number): Pick<Operation, 'invokedMs' | 'returnedMs'> => ({
  invokedMs: startMs,
  returnedMs: startMs + 5,
});
const put = (hlc: number, startMs: number, part: Partial<Operation> = {}): Operation =>
  operation({ kind: 'put', value: `v${hlc}`, etag: etag(hlc), ...at(startMs), ...part });
const get = (hlc: number, startMs: number, part: Partial<Operation> = {}): Operation =>
  operation({
    value: hlc === 0 ? undefined : `v${hlc}`,
    etag: hlc === 0 ? undefined : etag(hlc),
    ...at(startMs),
    ...part,
  });
const remove = (hlc: number, startMs: number, part: Partial<Operation> = {}): Operation =>
  operation({ kind: 'delete', etag: etag(hlc), ...at(startMs), ...part });

/** Writes, overwrites, a delete, an open write that one read saw, and final reads. */
const good = (): Operation[] => [
  get(0, 0),
  put(10, 10),
  get(10, 20),
  put(20, 30, { level: 'ALL' }),
  get(20, 40, { level: 'ONE' }),
  put(30, 50, { outcome: 'info', etag: undefined, returnedMs: undefined }),
  get(30, 60),
  remove(40, 70),
  get(0, 80),
  put(45, 85, { outcome: 'fail', etag: undefined }),
  put(50, 90),
  get(50, 200, { phase: 'final' }),
  get(50, 210, { phase: 'final', level: 'ALL' }),
];

const rules = (operations: readonly Operation[], replicas = 3): string[] => [
  ...new Set(
    [
      ...checkDurability(operations, replicas),
      ...checkValues(operations),
      ...checkQuorumFloor(operations, replicas),
    ].map(({ rule }) => rule),
  ),
];

const changed = (at: number, part: Partial<Operation>): Operation[] =>
  good().map((each, i) => (i === at ? { ...each, ...part } : each));

describe('sim checkers', () => {
  it('checkers: a good history passes', () => {
    expect(rules(good())).to.deep.equal([]);
  });

  it('checkers: a final read that misses an acknowledged write (CK-1)', () => {
    const stale = { value: 'v20', etag: etag(20) };
    expect(rules(changed(12, stale))).to.include('CK-1');
    expect(rules(changed(11, stale))).to.include('CK-1');
    expect(rules(changed(12, { value: undefined, etag: undefined }))).to.include('CK-1');
  });

  it('checkers: an acknowledged write at ONE must be in a read at ALL, need not be in one at QUORUM', () => {
    const weak = [
      put(10, 10, { level: 'ONE' }),
      get(0, 20, { phase: 'final' }),
      get(10, 30, { phase: 'final', level: 'ALL' }),
    ];
    expect(rules(weak)).to.deep.equal([]);
    const lost = weak.map((each, i) =>
      i === 2 ? { ...each, value: undefined, etag: undefined } : each,
    );
    expect(rules(lost)).to.include('CK-1');
  });

  it('checkers: a value that nobody wrote, or under another etag than its write was told (CK-1)', () => {
    expect(rules(changed(2, { value: 'v11' }))).to.include('CK-1');
    expect(rules(changed(2, { etag: etag(11) }))).to.include('CK-1');
    expect(rules(changed(2, { etag: undefined }))).to.include('CK-1');
  });

  it('checkers: a value that was read before its write began (CK-1)', () => {
    expect(rules(changed(2, { invokedMs: 2, returnedMs: 4 }))).to.include('CK-1');
  });

  it('checkers: a value whose write had failed (CK-11)', () => {
    expect(rules(changed(10, { kind: 'get', value: 'v45', etag: etag(46) }))).to.include('CK-11');
  });

  it('checkers: a quorum read older than an acknowledged quorum write before it (CK-4)', () => {
    expect(rules([put(10, 10), put(20, 20), get(10, 30)])).to.deep.equal(['CK-4']);
    expect(rules([put(10, 10), get(0, 30)])).to.deep.equal(['CK-4']);
  });

  it('checkers: reads that overlap the write, or too few replicas, promise nothing', () => {
    expect(rules([put(10, 10), put(20, 20, { returnedMs: 40 }), get(10, 30)])).to.deep.equal([]);
    expect(rules([put(10, 10), put(20, 20), get(10, 30, { level: 'ONE' })])).to.deep.equal([]);
    expect(rules([put(10, 10), put(20, 20, { level: 'ONE' }), get(10, 30)])).to.deep.equal([]);
  });

  it('checkers: reads at ONE see acknowledged writes at ALL, and any with one replica (CK-4)', () => {
    const read = get(10, 30, { level: 'ONE' });
    expect(rules([put(10, 10), put(20, 20, { level: 'ALL' }), read])).to.deep.equal(['CK-4']);
    const single = [put(10, 10, { level: 'ONE' }), put(20, 20, { level: 'ONE' }), read];
    expect(rules(single, 1)).to.deep.equal(['CK-4']);
  });

  it('checkers: a quorum read goes back behind an earlier quorum read (CK-4, G5)', () => {
    const open = { outcome: 'info' as const, etag: undefined, returnedMs: undefined };
    const history = [put(10, 10), put(20, 20, open), get(20, 30), get(10, 40)];
    expect(rules(history)).to.deep.equal(['CK-4']);
    expect(rules([put(10, 10), put(20, 20, open), get(10, 30), get(20, 40)])).to.deep.equal([]);
  });

  it('checkers: a deleted value that comes back (CK-4)', () => {
    expect(rules([put(10, 10), remove(20, 20), get(10, 30)])).to.deep.equal(['CK-4']);
  });

  it('checkers: absence is explained by a delete that may have happened, not by one that failed', () => {
    const open = { outcome: 'info' as const, etag: undefined, returnedMs: undefined };
    expect(rules([put(10, 10), remove(20, 20, open), get(0, 30)])).to.deep.equal([]);
    const failed = { outcome: 'fail' as const, etag: undefined };
    expect(rules([put(10, 10), remove(20, 20, failed), get(0, 30)])).to.deep.equal(['CK-4']);
    expect(rules([put(10, 10), remove(5, 20), get(0, 30)])).to.deep.equal(['CK-4']);
  });

  it('checkers: replicas that differ after a read of all (CK-6)', () => {
    const copy = (node: string, content: number) => ({ node, etag: etag(content), content });
    const same = new Map([['k', [copy('n1', 7), copy('n2', 7)]]]);
    expect(checkConvergence(same)).to.deep.equal([]);
    const other = new Map([['k', [copy('n1', 7), copy('n2', 8)]]]);
    expect(checkConvergence(other).map(({ rule }) => rule)).to.deep.equal(['CK-6']);
  });

  it('checkers: a run without load is invalid (CK-9)', () => {
    const operations = [put(1, 1, { phase: 'load' }), put(2, 2), put(3, 3)];
    const floor = { beforeFaults: 1, duringFaults: 2 };
    expect(invalidLoad(operations, floor)).to.equal(undefined);
    expect(invalidLoad(operations.slice(1), floor)).to.match(/before faults/);
    expect(invalidLoad(operations.slice(0, 2), floor)).to.match(/during faults/);
  });
});
