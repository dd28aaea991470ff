// Whose clock is wrong, by what exchanges with the others told.

import { expect } from 'chai';
import { ClockHealth, measurementOf } from '../../actors/membership/clock-health.ts';

const now = { wallMicros: 1_000_000_000, monotonicMs: 5_000 };

/** Of a peer whose clock is ahead by `offsetMs`, measured now with a round trip of `tripMs`. */
const ahead = (offsetMs: number, tripMs = 2, at = now) =>
  measurementOf(at.wallMicros - (tripMs / 2) * 1000 + offsetMs * 1000, {
    sentMs: at.monotonicMs - tripMs,
    heardMs: at.monotonicMs,
  });

const health = (offsetsMs: readonly number[], peers = offsetsMs.length, maxMs = 500) => {
  const clocks = new ClockHealth({ peers, offsetMicrosMax: maxMs * 1000 });
  offsetsMs.forEach((offsetMs, i) => clocks.measured(`n${i + 2}`, ahead(offsetMs)));
  return clocks;
};

describe('clock health', () => {
  const rows: readonly [what: string, offsets: number[], peers: number, wrongByMs?: number][] = [
    ['alone', [], 0],
    ['nobody measured', [], 4],
    ['all near', [499, -499], 2],
    ['all far', [-2_000, -2_010], 2, 2_000],
    ['far behind and far ahead', [3_000, -3_000], 2, 3_000],
    ['one of two', [2_000, 1], 2],
    ['one of two, the other not measured', [2_000], 2],
    ['one of one', [2_000], 1, 2_000],
    ['two of four', [2_000, 2_000, 1, 1], 4],
    ['three of four', [2_000, 2_000, 2_000, 1], 4, 2_000],
    ['two of four, two not measured', [2_000, 2_000], 4],
    ['five of a thousand', [9_000, 9_000, 9_000, 9_000, 9_000, 0, 0, 0, 0], 1_000, 9_000],
    ['four of a thousand', [9_000, 9_000, 9_000, 9_000, 0, 0, 0, 0, 0], 1_000],
  ];
  for (const [what, offsets, peers, wrongByMs] of rows)
    it(`clock health: ${what} (peers=${peers})`, () => {
      const wrongBy = health(offsets, peers).wrongBy(now);
      expect(wrongBy === undefined ? undefined : Math.round(wrongBy / 1000)).to.equal(wrongByMs);
    });

  it('clock health: what a round trip leaves open speaks for our clock', () => {
    for (const [tripMs, isWrong] of [
      [990, true],
      [1_010, false],
    ] as const) {
      const clocks = new ClockHealth({ peers: 1, offsetMicrosMax: 500_000 });
      clocks.measured('n2', ahead(1_000, tripMs));
      expect(clocks.wrongBy(now) !== undefined, `${tripMs} ms`).to.equal(isWrong);
    }
  });

  it('clock health: a step of our own clock shows at once, and that it was set right', () => {
    const clocks = health([0, 10]);
    const later = { wallMicros: now.wallMicros + 3_600_000_000, monotonicMs: 3_605_000 };
    expect(clocks.wrongBy(later), 'an hour later').to.equal(undefined);
    const stepped = { ...later, wallMicros: later.wallMicros + 2_000_000 };
    expect(clocks.wrongBy(stepped)).to.be.closeTo(1_990_000, 10_001);
    expect(clocks.offsetMicros(stepped)).to.be.below(-1_900_000);
    expect(clocks.wrongBy(later)).to.equal(undefined);
  });

  it('clock health: the last measurement of a node counts, in a large cluster the last nine nodes', () => {
    const clocks = health(Array<number>(20).fill(9_000), 20);
    expect(clocks.wrongBy(now)).to.equal(9_000_000);
    for (let i = 0; i < 4; i += 1) clocks.measured(`n${i + 2}`, ahead(0));
    expect(clocks.wrongBy(now), 'five of nine').to.equal(9_000_000);
    clocks.measured('n2', ahead(0));
    expect(clocks.wrongBy(now), 'measured again').to.equal(9_000_000);
    clocks.measured('n6', ahead(0));
    expect(clocks.wrongBy(now), 'four of nine').to.equal(undefined);
  });

  it('clock health: with a bound of 0 any clock is right', () => {
    expect(health([9_000, 9_000], 2, 0).wrongBy(now)).to.equal(undefined);
  });
});
