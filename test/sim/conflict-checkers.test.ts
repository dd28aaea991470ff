// The checkers of siblings and of atomic batches, on histories that are good and on the same with one
// corruption (CK-14).

import { expect } from 'chai';
import type { Etag } from '../../actors/model/record.ts';
import { checkBatches } from '../../sim/checkers/batches.ts';
import { checkSiblings } from '../../sim/checkers/siblings.ts';
import type { Operation } from '../../sim/history.ts';

const etag = (hlc: number): Etag => ({ hlc, writer: 1, incarnation: 1 });

let index = 0;
function at(startMs: number, part: Partial<Operation>): Operation {
  index += 1;
  return {
    index,
    workload: 'any',
    client: 0,
    turn: index,
    kind: 'get',
    key: 'k',
    process: 1,
    node: 'n1',
    level: 'QUORUM',
    phase: 'chaos',
    invokedMs: startMs,
    returnedMs: startMs + 5,
    outcome: 'ok',
    value: undefined,
    etag: undefined,
    code: undefined,
    ...part,
  };
}

describe('sim checkers: siblings', () => {
  const put = (startMs: number, value: string, seen: string[], part = {}): Operation =>
    at(startMs, { kind: 'put', value, siblings: seen, ...part });
  const read = (startMs: number, values: string[], part = {}): Operation =>
    at(startMs, { siblings: values, ...part });
  const problems = (...operations: Operation[]): string[] =>
    checkSiblings(operations, 3).map(({ what }) => what);
  const both = [put(0, 'a', []), put(0, 'b', []), read(10, ['a', 'b'])];

  it('checkers: DV-1 passes values that go by writes that have seen them', () => {
    const deleted = at(40, { kind: 'delete', siblings: ['c'] });
    const history = [...both, put(20, 'c', ['a', 'b']), read(30, ['c']), deleted, read(50, [])];
    expect(problems(...history)).to.deep.equal([]);
  });

  it('checkers: DV-1 finds a value that is gone though nobody had seen it', () => {
    const lost = 'a value is gone that no write had seen';
    expect(problems(...both, read(20, ['a']))).to.deep.equal([lost]);
    expect(problems(...both, put(20, 'c', ['a']), read(30, ['c']))).to.deep.equal([lost]);
    // What may have happened excuses it, and so do levels that need not meet.
    const open = put(20, 'c', ['b'], { outcome: 'info', returnedMs: undefined });
    expect(problems(...both, open, read(30, ['a']))).to.deep.equal([]);
    expect(problems(...both, read(20, ['a'], { level: 'ONE' }))).to.deep.equal([]);
  });

  it('checkers: DV-1 finds a value that is there again, and one that was never written', () => {
    expect(problems(...both, put(20, 'c', ['a', 'b']), read(30, ['a', 'c']))).to.deep.equal([
      'a value is there that was overwritten',
    ]);
    const failed = put(0, 'x', [], { outcome: 'fail' });
    for (const history of [[failed, read(10, ['x'])], [read(10, ['y'])]])
      expect(problems(...history)).to.deep.equal(['a value is there that was not written']);
  });
});

describe('sim checkers: batches', () => {
  const batch = (
    value: string,
    hlc: number | undefined,
    part: Partial<Operation> = {},
  ): Operation =>
    at(hlc ?? 0, {
      kind: 'batch',
      key: 'p,q',
      keys: ['p', 'q'],
      value,
      ...(hlc === undefined ? {} : { etag: etag(hlc) }),
      ...part,
    });
  const final = (key: string, value: string | undefined, hlc = 0): Operation =>
    at(100, { key, value, phase: 'final', ...(hlc === 0 ? {} : { etag: etag(hlc) }) });
  const problems = (...operations: Operation[]): string[] =>
    checkBatches(operations).map(({ key, what }) => `${key}: ${what}`);
  const half = 'a batch is there in part';

  it('checkers: BL-1 passes batches that are there, overwritten, or nowhere', () => {
    expect(problems(batch('b1', 10), final('p', 'b1', 10), final('q', 'b1', 10))).to.deep.equal([]);
    expect(problems(batch('b1', 10), final('p', 'b2', 20), final('q', 'b1', 10))).to.deep.equal([]);
    const open = batch('b1', undefined, { outcome: 'info' });
    expect(problems(open, final('p', undefined), final('q', undefined))).to.deep.equal([]);
  });

  it('checkers: BL-1 finds half of a batch, whatever its client was told', () => {
    const finals = [final('p', 'b1', 10), final('q', undefined)];
    expect(problems(batch('b1', 10), ...finals)).to.deep.equal([`q: ${half}`]);
    const promised = batch('b1', 10, { outcome: 'info' });
    expect(problems(promised, ...finals)).to.deep.equal([`q: ${half}`]);
    const open = batch('b1', undefined, { outcome: 'info' });
    expect(problems(open, ...finals)).to.deep.equal([`q: ${half}`]);
    expect(problems(batch('b1', 10), final('p', 'x', 9), final('q', 'b1', 10))).to.deep.equal([
      `p: ${half}`,
    ]);
  });

  it('checkers: BL-1 finds what a refused batch has left', () => {
    const refused = batch('b1', undefined, { outcome: 'fail' });
    expect(problems(refused, final('p', 'b1', 10))).to.deep.equal([
      'p: a batch that was refused has left something',
    ]);
  });
});
