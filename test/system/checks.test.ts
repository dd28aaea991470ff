// The checks of the system test on histories written by hand: good ones pass, and each kind of bad
// one is noticed.

import { expect } from 'chai';
import { checkBatches } from './batches.ts';
import {
  checkCounters,
  checkLinearizable,
  checkQuorumFloor,
  checkSessions,
  checkValues,
  isLinearizable,
} from './checks.ts';
import { compareEtagTexts, type Operation } from './history.ts';

const etag = (hlc: number): string => `${hlc.toString(36)}-1-1`;

/** An operation from `startMs` to `endMs`; all else as it usually is. */
function op(startMs: number, endMs: number, changes: Partial<Operation>): Operation {
  const usual = { client: 1, kind: 'read', key: 'k', level: 'QUORUM', outcome: 'ok' } as const;
  return { ...usual, startMs, endMs, value: undefined, etag: undefined, ...changes };
}
const write = (
  startMs: number,
  endMs: number,
  hlc: number,
  more: Partial<Operation> = {},
): Operation => op(startMs, endMs, { kind: 'write', value: `v${hlc}`, etag: etag(hlc), ...more });
const read = (
  startMs: number,
  endMs: number,
  hlc: number,
  more: Partial<Operation> = {},
): Operation =>
  op(startMs, endMs, hlc === 0 ? more : { value: `v${hlc}`, etag: etag(hlc), ...more });

describe('system checks', () => {
  it('etags: ordered by hlc, then writer, then incarnation, as numbers', () => {
    const sorted = ['z-1-1', '10-1-1', '10-2-1', '10-2-2', '10-11-1'];
    expect([...sorted].reverse().sort(compareEtagTexts)).to.deep.equal(sorted);
  });

  it('quorum floor: reads at or above what was acknowledged pass, the ones below do not', () => {
    const history = [
      write(0, 1, 10),
      read(2, 3, 10),
      write(2, 6, 20),
      read(4, 5, 20),
      read(7, 8, 20),
    ];
    expect(checkQuorumFloor(history)).to.deep.equal({
      name: 'quorum floor',
      judged: 3,
      violations: [],
    });
    for (const bad of [
      [write(0, 1, 10), write(2, 3, 20), read(4, 5, 10)],
      [write(0, 1, 10), read(4, 5, 0)],
      // A write that failed half-way was seen once: it may not go away again.
      [
        write(0, 1, 10),
        write(2, 9, 20, { outcome: 'unknown', etag: undefined }),
        read(3, 4, 20),
        read(5, 6, 10),
      ],
    ])
      expect(checkQuorumFloor(bad).violations.length).to.equal(1);
    // At the same time either may be seen.
    expect(
      checkQuorumFloor([write(0, 1, 10), write(2, 9, 20), read(3, 4, 10)]).violations,
    ).to.deep.equal([]);
  });

  it('quorum floor: nothing is right after a delete, also one of unknown outcome', () => {
    const gone = (outcome: 'ok' | 'unknown' | 'fail'): Operation =>
      op(2, 3, { kind: 'delete', outcome, etag: outcome === 'ok' ? etag(20) : undefined });
    const found = (outcome: 'ok' | 'unknown' | 'fail'): number =>
      checkQuorumFloor([write(0, 1, 10), gone(outcome), read(4, 5, 0)]).violations.length;
    expect([found('ok'), found('unknown'), found('fail')]).to.deep.equal([0, 0, 1]);
  });

  it('values: only what somebody may have written, under its etag', () => {
    expect(checkValues([write(0, 1, 10), read(2, 3, 10)]).violations).to.deep.equal([]);
    for (const bad of [
      [read(2, 3, 10)],
      [write(0, 1, 10, { outcome: 'fail', etag: undefined }), read(2, 3, 10)],
      [write(5, 6, 10), read(2, 3, 10)],
      [write(0, 1, 10), read(2, 3, 10, { etag: etag(11) })],
    ])
      expect(checkValues(bad).violations.length).to.equal(1);
  });

  it('sessions: each client for itself never goes back', () => {
    const other = { client: 2 };
    const good = [write(0, 1, 20), read(2, 3, 20), read(2, 3, 10, other), read(4, 5, 15, other)];
    expect(checkSessions(good).violations).to.deep.equal([]);
    expect(checkSessions([write(0, 1, 20), read(2, 3, 10)]).violations.length).to.equal(1);
    expect(checkSessions([read(0, 1, 20), read(2, 3, 0)]).violations.length).to.equal(1);
  });

  it('counters: results are unique, grow and add up', () => {
    const add = (startMs: number, endMs: number, value: number | undefined): Operation =>
      op(startMs, endMs, {
        kind: 'increment',
        value: value === undefined ? undefined : String(value),
        outcome: value === undefined ? 'unknown' : 'ok',
      });
    const good = [add(0, 1, 1), add(2, 5, 3), add(2, 4, 2), add(6, 7, undefined)];
    const judge = (history: readonly Operation[], total: number): number =>
      checkCounters(history, new Map([['k', total]])).violations.length;
    expect([judge(good, 3), judge(good, 4), judge(good, 2), judge(good, 5)]).to.deep.equal([
      0, 0, 1, 1,
    ]);
    expect(judge([add(0, 1, 1), add(0, 1, 1)], 2)).to.equal(1);
    expect(judge([add(0, 1, 2), add(2, 3, 1)], 2)).to.equal(1);
  });

  it('linearizability: an order is found where there is one', () => {
    const serial = (startMs: number, endMs: number, changes: Partial<Operation>): Operation =>
      op(startMs, endMs, { level: 'SERIAL', ...changes });
    const cas = (expected: string, value: string, wasMet: boolean): Partial<Operation> => ({
      kind: 'cas',
      expected,
      value,
      wasMet,
    });
    const good = [
      serial(0, 1, { kind: 'write', value: 'a' }),
      serial(2, 9, cas('a', 'b', true)),
      serial(3, 4, { value: 'a' }),
      serial(5, 6, { value: 'b' }),
      serial(5, 8, cas('a', 'c', false)),
      serial(10, 11, { kind: 'write', value: 'x', outcome: 'unknown' }),
      serial(12, 13, { value: 'b' }),
      serial(14, 15, { value: 'x' }),
    ];
    expect(isLinearizable(good)).to.equal('yes');
    expect(checkLinearizable(good)).to.deep.include({ judged: 8, violations: [] });
  });

  it('linearizability: what no order explains is noticed', () => {
    const w = (startMs: number, endMs: number, value: string): Operation =>
      op(startMs, endMs, { kind: 'write', value });
    const r = (startMs: number, endMs: number, value: string | undefined): Operation =>
      op(startMs, endMs, { value });
    const met = { kind: 'cas', expected: 'a', wasMet: true } as const;
    for (const bad of [
      [w(0, 1, 'a'), r(2, 3, undefined)],
      [w(0, 1, 'a'), w(2, 3, 'b'), r(4, 5, 'a')],
      // New, then old again, while the write is under way.
      [w(0, 1, 'a'), w(2, 9, 'b'), r(3, 4, 'b'), r(5, 6, 'a')],
      // Two of the same condition cannot both be met.
      [w(0, 1, 'a'), op(2, 9, { ...met, value: 'b' }), op(2, 9, { ...met, value: 'c' })],
      [w(0, 1, 'a'), op(2, 3, { ...met, wasMet: false, value: 'b' })],
    ])
      expect(isLinearizable(bad)).to.equal('no');
  });

  it('linearizability: a hundred operations of eight clients are decided', () => {
    const history: Operation[] = [];
    for (let i = 0; i < 100; i += 1)
      history.push(
        op(i, i + 7, {
          kind: i % 3 === 0 ? 'read' : 'write',
          value: String(i - (i % 3)),
          client: i % 8,
        }),
      );
    expect(isLinearizable(history)).to.not.equal('undecided');
  });

  it('batches: all or nothing passes; a part, a lost one and a refused one that is seen do not', () => {
    const batch = (startMs: number, value: string, outcome: Operation['outcome'] = 'ok') =>
      op(startMs, startMs + 1, { kind: 'batch', key: 'a,b', keys: ['a', 'b'], value, outcome });
    const final = (key: string, value: string, hlc: number): Operation =>
      op(90, 91, { key, value, etag: etag(hlc) });
    const violationsOf = (batches: readonly Operation[], finals: readonly Operation[]): number =>
      checkBatches(batches, finals).violations.length;
    const [first, second, third] = [batch(0, 'x'), batch(10, 'y'), batch(20, 'z', 'unknown')];
    const both = [final('a', 'y', 2), final('b', 'y', 2)];
    expect(violationsOf([first, second, third], both)).to.equal(0);
    expect(violationsOf([first, third], [final('a', 'z', 2), final('b', 'z', 2)])).to.equal(0);
    // A part, of one that was acknowledged and of one whose outcome nobody knew.
    expect(violationsOf([first, second], [final('a', 'y', 2), final('b', 'x', 1)])).to.equal(1);
    expect(violationsOf([first, third], [final('a', 'z', 2), final('b', 'x', 1)])).to.equal(1);
    // Nothing of it, and nothing newer.
    expect(violationsOf([first, second], [final('a', 'x', 1), final('b', 'x', 1)])).to.equal(2);
    const refused = batch(30, 'w', 'fail');
    expect(violationsOf([refused], [final('a', 'w', 3), final('b', 'w', 3)])).to.equal(1);
  });
});
