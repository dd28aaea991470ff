// The wheel of open asks: each is ended once, not before its deadline and at most 16 ms after it,
// against a naive model.

import { expect } from 'chai';
import fc from 'fast-check';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
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

/** Collects young objects only, as happens while a node is under load. */
function youngCollection(): (options: { readonly type: 'minor' }) => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as (options: { readonly type: 'minor' }) => void;
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

  it('ask table: long waits among many short ones, over every growth of the table, against a Map', () => {
    const { host, table } = wheel();
    const steps = fc.array(fc.record({ take: fc.nat({ max: 3 }), at: fc.nat() }), {
      minLength: 1,
      maxLength: 400,
    });
    fc.assert(
      fc.property(steps, (list) => {
        const model = new Map<number, PendingAsk>();
        for (const { take, at } of list) {
          const ids = [...model.keys()];
          const id = ids[at % Math.max(1, ids.length)];
          if (take === 0 && id !== undefined) {
            expect(table.take(id)).to.equal(model.get(id));
            model.delete(id);
          } else {
            const ask = { ...pending };
            model.set(table.open(ask, host.nowMs, Infinity), ask);
          }
          expect(table.size).to.equal(model.size);
        }
        for (const [id, ask] of model) expect(table.get(id)).to.equal(ask);
        expect(table.select(() => true)).to.deep.equal([...model.keys()]);
        for (const id of model.keys()) table.take(id);
      }),
      { numRuns: 50 },
    );
  });

  it('ask table: what was answered is young garbage, whatever else is open', () => {
    const { host, table } = wheel();
    const collect = youngCollection();
    const open: number[] = [];
    const turn = (): void => {
      open.push(table.open({ ...pending, trace: 'x' }, host.nowMs, Infinity));
      if (open.length > 64) table.take(open.shift() as number);
    };
    const heldAfter = (turns: number): number => {
      for (let i = 0; i < turns; i += 1) {
        turn();
        if (i % 1000 === 0) collect({ type: 'minor' });
      }
      collect({ type: 'minor' });
      collect({ type: 'minor' });
      return process.memoryUsage().heapUsed;
    };
    const before = heldAfter(20_000);
    // An ask has about 100 bytes: 100,000 of them that were kept would be ten megabytes.
    expect(heldAfter(100_000) - before).to.be.below(1_000_000);
  });
});
