// Whole runs of kvd: short, with fixed seeds.

import { expect } from 'chai';
import { runSeed } from '../../sim/run-seed.ts';

describe('sim run', () => {
  it('run: one seed gives one hash, another seed another (seconds=8, RP-1)', async () => {
    const first = await runSeed(5, { seconds: 8 });
    const again = await runSeed(5, { seconds: 8 });
    const other = await runSeed(4, { seconds: 8 });
    expect(again).to.deep.equal(first);
    expect(other.hash).to.not.equal(first.hash);
    expect(first.problems).to.deep.equal([]);
    expect(first.acknowledged).to.be.greaterThan(50);
  }).timeout(20_000);
});
