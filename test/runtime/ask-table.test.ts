// The wheel of open asks: each is ended once, not before its deadline and at most 16 ms after it,
// against a naive model.

import { expect } from 'chai';
import fc from 'fast-check';
import { AskTable, type PendingAsk } from '../../runtime/ask-table.ts';
import { ManualHost } from '../kit.ts';

const pending: PendingAsk = {
  cell: undefined,
  incarnation: 0,
  name: 'get',
  to: 'n2',
  trace: '',
  link: undefined,
  isDirect: false,
  done: () => undefined,
};

interface Wheel {
  readonly host: ManualHost;
  readonly table: AskTable;
  /** When each ask was ended. */
  readonly ended: Map<number, number>;
}

function wheel(): Wheel {
  const host = new ManualHost();
  const ended = new Map<number, number>();
  const table = new AskTable(host.timers, (id) => {
    expect(table.take(id)).to.equal(pending);
    ended.set(id, host.nowMs);
  });
  table.onTimer = () => table.tick(host.nowMs);
  return { host, table, ended };
}

describe('ask table', () => {
  it('ask table: every ask ends once, from its deadline to 16 ms after it', async () => {
    const delays = fc.array(fc.double({ min: 0, max: 500, noNaN: true }), { maxLength: 30 });
    await fc.assert(
      fc.asyncProperty(delays, async (list) => {
        const { host, table, ended } = wheel();
        const deadlines = new Map<number, number>();
        for (const delayMs of list) {
          const deadlineMs = host.nowMs + delayMs;
          deadlines.set(table.open(pending, host.nowMs, deadlineMs), deadlineMs);
          await host.advance(7);
        }
        await host.advance(600);
        expect(table.size).to.equal(0);
        for (const [id, deadlineMs] of deadlines)
          expect(ended.get(id)).to.be.within(deadlineMs, deadlineMs + 16);
      }),
      { numRuns: 25 },
    );
  });

  it('ask table: an answered ask is not ended, and the last one leaves no timer', async () => {
    const { host, table, ended } = wheel();
    const id = table.open(pending, host.nowMs, host.nowMs + 100);
    expect(table.get(id)).to.equal(pending);
    expect(table.take(id)).to.equal(pending);
    expect(table.take(id)).to.equal(undefined);
    await host.advance(1000);
    expect(ended.size).to.equal(0);
    expect(host.timersOpen).to.equal(0);
  });

  it('ask table: an earlier deadline moves the timer forward', async () => {
    const { host, table, ended } = wheel();
    table.open(pending, host.nowMs, host.nowMs + 1000);
    const early = table.open(pending, host.nowMs, host.nowMs + 100);
    await host.advance(116);
    expect([...ended.keys()]).to.deep.equal([early]);
    expect(host.timersOpen).to.equal(1);
  });

  it('ask table: asks are selected by what they belong to', () => {
    const { host, table } = wheel();
    const other = { ...pending, to: 'n3' };
    table.open(pending, host.nowMs, host.nowMs + 1);
    const id = table.open(other, host.nowMs, host.nowMs + 1);
    expect(table.select(({ to }) => to === 'n3')).to.deep.equal([id]);
  });
});
