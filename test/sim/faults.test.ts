// What seeds draw: options within their ranges, every class of fault in some seed.

import { expect } from 'chai';
import { Prng } from '../../runtime/prng.ts';
import { type FaultClass, faultClasses, optionsOf } from '../../sim/faults.ts';
import { workloadKinds } from '../../sim/registry.ts';
import { separated } from '../../sim/schedule.ts';

describe('sim faults', () => {
  const drawn = Array.from({ length: 1_000 }, (_, i) => optionsOf(i + 1, 60));

  it('faults: one seed draws the same options always', () => {
    expect(JSON.stringify(optionsOf(9, 60))).to.equal(JSON.stringify(optionsOf(9, 60)));
  });

  it('faults: each class is in about half of the seeds, some seeds have none, some one (SW-1)', () => {
    for (const name of faultClasses) {
      const share = drawn.filter(({ faults }) => faults.includes(name)).length / drawn.length;
      expect(share).to.be.within(0.38, 0.56);
    }
    const sized = (size: number): number =>
      drawn.filter(({ faults }) => faults.length === size).length;
    expect(sized(0)).to.be.within(20, 90);
    expect(sized(1)).to.be.within(20, 90);
  });

  it('faults: every cluster size and copy count is drawn (SW-2)', () => {
    const seen = new Set(drawn.map(({ nodes }) => nodes));
    expect([...seen].sort()).to.deep.equal([1, 2, 3, 4, 5]);
    const copies = new Set(drawn.map(({ tunables }) => tunables.replicationFactor));
    expect([...copies].sort()).to.deep.equal([1, 2, 3]);
  });

  it('faults: most seeds ask for sixty operations per second at most, some for all that was drawn', () => {
    const askedBy = ({ workloads }: (typeof drawn)[number]): number =>
      workloads.reduce((sum, { perSecond, pace }) => sum + perSecond / pace, 0);
    const isBounded = (options: (typeof drawn)[number]): boolean => askedBy(options) < 60.001;
    expect(drawn.every(({ workloads }) => workloads[0]?.name === 'registers')).to.equal(true);
    expect(drawn.filter(isBounded).length / drawn.length).to.be.within(0.88, 0.95);
    const heavy = drawn.filter((options) => !isBounded(options));
    expect(heavy.every(({ workloads }) => workloads.every(({ pace }) => pace === 1))).to.equal(
      true,
    );
    for (const { name } of workloadKinds)
      expect(
        drawn.filter(({ workloads }) => workloads.some((each) => each.name === name)).length,
        name,
      ).to.be.above(100);
  });

  it('faults: clocks are wrong only where a class says so', () => {
    const clockClasses: readonly FaultClass[] = ['clock-offset', 'clock-drift'];
    for (const { faults, clocks } of drawn) {
      const isWrong = [...clocks.values()].some(
        ({ offsetMs, driftPpm }) => offsetMs !== 0 || driftPpm !== 0,
      );
      expect(isWrong).to.equal(clockClasses.some((name) => faults.includes(name)));
    }
  });

  it('faults: a cut separates some of the nodes and never all pairs of three or more', () => {
    const names = ['n1', 'n2', 'n3', 'n4', 'n5'];
    const sizes = new Set<number>();
    for (let seed = 0; seed < 100; seed += 1) {
      const pairs = separated(new Prng(seed), names);
      sizes.add(pairs.length);
      expect(pairs.length).to.be.within(1, 9);
      for (const [a, b] of pairs) expect(a).to.not.equal(b);
    }
    // One: 4; halves: 6; bridge: 4; ring: 5.
    expect([...sizes].sort()).to.deep.equal([4, 5, 6]);
  });
});
