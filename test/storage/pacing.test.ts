// The rule by which background work holds back: quick to yield, slow to return, never without a
// floor.

import { expect } from 'chai';
import { Pacer, pauseMsMax } from '../../actors/storage/pacing.ts';

/** One window of 100 equal figures, with `slow` of them ten times as long. */
function window(pacer: Pacer, delayMs: number, slow = 0): void {
  for (let n = 0; n < 100; n += 1) pacer.measured(n < slow ? delayMs * 10 : delayMs, 0);
}

describe('pacing', () => {
  it('pacing: a p99 above the target doubles the pause, up to its bound', () => {
    const pacer = new Pacer({ targetMs: 5 });
    const pauses = Array.from({ length: 9 }, () => {
      window(pacer, 6);
      return pacer.pauseMs(0);
    });
    expect(pauses).to.deep.equal([1, 2, 4, 8, 16, 32, 64, 64, 64]);
    expect([pauseMsMax, pacer.p99Ms]).to.deep.equal([64, 6]);
  });

  it('pacing: one slow message in a hundred is no reason, two are', () => {
    const pacer = new Pacer({ targetMs: 5 });
    window(pacer, 1, 1);
    expect([pacer.p99Ms, pacer.pauseMs(0)]).to.deep.equal([1, 0]);
    window(pacer, 1, 2);
    expect([pacer.p99Ms, pacer.pauseMs(0)]).to.deep.equal([10, 1]);
  });

  it('pacing: it takes three quiet windows in a row to halve the pause', () => {
    const pacer = new Pacer({ targetMs: 4 });
    for (const delay of [5, 5, 5]) window(pacer, delay);
    const pauses = [1, 1, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1].map((delay) => {
      window(pacer, delay);
      return pacer.pauseMs(0);
    });
    expect(pauses).to.deep.equal([4, 4, 4, 4, 4, 2, 2, 2, 1, 1, 1, 0]);
  });

  it('pacing: debt takes the pauses away: half of the limit begins it, all of it ends them', () => {
    const pacer = new Pacer({ targetMs: 1 });
    for (let n = 0; n < 10; n += 1) window(pacer, 100);
    const pauses = [0, 0.5, 0.75, 1, 2].map((debt) => pacer.pauseMs(debt));
    expect(pauses).to.deep.equal([64, 64, 32, 0, 0]);
  });

  it('pacing: a window ends after a second, however few figures there are', () => {
    const pacer = new Pacer({ targetMs: 5 });
    pacer.begin(10_000);
    expect(pacer.measured(400, 10_400)).to.equal(false);
    expect(pacer.measured(600, 11_000)).to.equal(true);
    expect([pacer.p99Ms, pacer.pauseMs(0)]).to.deep.equal([600, 1]);
    pacer.begin(20_000);
    expect(pacer.measured(1, 20_500)).to.equal(false);
  });
});
