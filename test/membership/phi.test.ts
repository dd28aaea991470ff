// Phi accrual (FD-1): exact values on regular beats, and what is not taken for a usual interval.

import { expect } from 'chai';
import fc from 'fast-check';
import { ArrivalWindow } from '../../actors/membership/phi.ts';

const tiny = 1e-9;

/** A window after `count` beats, one every `everyMs`, expected every second; and its time. */
function beaten(count: number, everyMs: number): { window: ArrivalWindow; nowMs: number } {
  const window = new ArrivalWindow(0, 1_000);
  for (let i = 1; i <= count; i += 1) window.heard(i * everyMs);
  return { window, nowMs: count * everyMs };
}

describe('phi', () => {
  it('phi: the first sample is twice the expected interval', () => {
    const window = new ArrivalWindow(500, 1_000);
    expect(window.meanMs).to.equal(2_000);
    expect(window.silenceMs(2_500)).to.equal(2_000);
    expect(window.phi(2_500)).to.be.closeTo(Math.LOG10E, tiny);
  });

  it('phi: on regular beats it is 0.434 times the silence in mean intervals', () => {
    const { window, nowMs } = beaten(9, 1_000);
    expect(window.meanMs).to.equal(1_100);
    expect(window.phi(nowMs)).to.equal(0);
    expect(window.phi(nowMs + 1_100)).to.be.closeTo(0.4342944819, tiny);
    expect(window.phi(nowMs + 8 * 1_100 * Math.LN10)).to.be.closeTo(8, tiny);
  });

  it('phi: it grows with the silence, and slower for nodes that beat slowly', () => {
    const fast = beaten(50, 500);
    const slow = beaten(50, 2_000);
    let last = -1;
    for (let silenceMs = 0; silenceMs <= 20_000; silenceMs += 500) {
      const phi = fast.window.phi(fast.nowMs + silenceMs);
      expect(phi).to.be.above(last);
      expect(slow.window.phi(slow.nowMs + silenceMs)).to.be.at.most(phi);
      last = phi;
    }
  });

  it('phi: only the last 1,000 intervals count', () => {
    const { window, nowMs } = beaten(1_000, 700);
    expect(window.meanMs).to.be.closeTo(700, tiny);
    for (let i = 1; i <= 500; i += 1) window.heard(nowMs + i * 900);
    expect(window.meanMs).to.be.closeTo(800, tiny);
    for (let i = 501; i <= 1_500; i += 1) window.heard(nowMs + i * 900);
    expect(window.meanMs).to.be.closeTo(900, tiny);
  });

  it('phi: the mean is that of the last intervals, whatever they were', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 8_000 }), { minLength: 1_000, maxLength: 2_200 }),
        (intervals) => {
          const window = new ArrivalWindow(0, 1_000);
          let nowMs = 0;
          for (const interval of intervals) window.heard((nowMs += interval));
          const last = intervals.slice(-1_000);
          const mean = last.reduce((sum, interval) => sum + interval, 0) / 1_000;
          expect(window.meanMs).to.be.closeTo(mean, 1e-6);
        },
      ),
      { numRuns: 20 },
    );
  });

  it('phi: an interval that ended a suspected silence is not fed into the window (FD-1)', () => {
    const { window, nowMs } = beaten(9, 1_000);
    window.heard(nowMs + 6_000, true);
    expect(window.meanMs).to.equal(1_100);
    expect(window.silenceMs(nowMs + 6_000)).to.equal(0);
    window.heard(nowMs + 7_000);
    expect(window.meanMs).to.be.closeTo(12_000 / 11, tiny);
  });

  it('phi: an interval above eight expected ones is not fed, at exactly eight it is', () => {
    const { window, nowMs } = beaten(9, 1_000);
    window.heard(nowMs + 8_001);
    expect(window.meanMs).to.equal(1_100);
    window.heard(nowMs + 8_001 + 8_000);
    expect(window.meanMs).to.be.closeTo(19_000 / 11, tiny);
  });

  it('phi: two beats at one moment do not count as an interval', () => {
    const { window, nowMs } = beaten(9, 1_000);
    window.heard(nowMs);
    expect(window.meanMs).to.equal(1_100);
  });

  it('phi: a pause of this process is no silence of the others (FD-3)', () => {
    const { window, nowMs } = beaten(9, 1_000);
    window.forgive(20_000, nowMs + 20_700);
    expect(window.silenceMs(nowMs + 20_700)).to.equal(700);
  });

  it('phi: forgiving never reaches beyond now, and does not acquit who was silent before', () => {
    const { window, nowMs } = beaten(9, 1_000);
    window.forgive(20_000, nowMs + 100);
    expect(window.silenceMs(nowMs + 100)).to.equal(0);
    const other = beaten(9, 1_000);
    other.window.forgive(20_000, other.nowMs + 80_000);
    expect(other.window.silenceMs(other.nowMs + 80_000)).to.equal(60_000);
  });
});
