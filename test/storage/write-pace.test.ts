// The rule by which writes are slowed down: by what merges take away, and the less the more tables
// wait.

import { expect } from 'chai';
import { WritePacer } from '../../actors/storage/write-pace.ts';

const limits = { l0Tables: 4, waitingTablesMax: 20, memtableBytes: 1_000 };

describe('write pace', () => {
  it('write pace: below the soft limit the log takes all that comes, at the limit a fifth of what goes', () => {
    const pacer = new WritePacer(limits);
    expect(pacer.softLimit).to.equal(8);
    expect([0, 4, 7].map((waiting) => pacer.bytesPerSecond(waiting))).to.deep.equal([
      Infinity,
      Infinity,
      Infinity,
    ]);
    pacer.merged(1, 1_000);
    expect([20, 21, 1_000].map((waiting) => pacer.bytesPerSecond(waiting))).to.deep.equal([
      200, 200, 200,
    ]);
  });

  it('write pace: twice what merges take away at the soft limit, as much in the middle', () => {
    const pacer = new WritePacer(limits);
    // Six tables in two seconds, a thousand bytes each.
    pacer.merged(6, 2_000);
    pacer.flushed(1_000);
    expect([8, 14, 17].map((waiting) => pacer.bytesPerSecond(waiting))).to.deep.equal([
      6_000, 3_000, 1_500,
    ]);
  });

  it('write pace: each table more lets less through', () => {
    for (const waitingTablesMax of [5, 6, 20, 1_000]) {
      const pacer = new WritePacer({ ...limits, waitingTablesMax });
      let last = Infinity;
      for (let waiting = Math.ceil(pacer.softLimit); waiting <= waitingTablesMax; waiting += 1) {
        const rate = pacer.bytesPerSecond(waiting);
        expect(rate <= last && rate > 0).to.equal(true);
        if (rate > 100) expect(rate).to.be.lessThan(last);
        last = rate;
      }
      expect(last).to.equal(100);
    }
  });

  it('write pace: merges that take no waiting table away count with their time', () => {
    const pacer = new WritePacer(limits);
    pacer.merged(8, 4_000);
    const alone = pacer.bytesPerSecond(14);
    pacer.merged(0, 4_000);
    // Of the last merge all counts, of the one before four fifths.
    expect(pacer.bytesPerSecond(14) / alone).to.be.closeTo((0.8 * 4_000) / 7_200, 1e-9);
  });

  it('write pace: what a flush brings follows the last flushes', () => {
    const pacer = new WritePacer(limits);
    pacer.merged(1, 1_000);
    for (let i = 0; i < 20; i += 1) pacer.flushed(64);
    expect(pacer.bytesPerSecond(14)).to.be.closeTo(64, 0.01);
  });

  it('write pace: before any merge has ended it is a guess, not none and not nothing', () => {
    expect(new WritePacer(limits).bytesPerSecond(14)).to.equal(500);
  });
});
