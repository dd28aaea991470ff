// A short storm over three real processes: kill -9, pauses, bent networks; then the checks. The long
// one is `npm run test:system`.

import { expect } from 'chai';
import { runSystem } from '../system/run-system.ts';
import { freeBasePort } from './dev-cluster.ts';

describe('process: a storm', function () {
  this.timeout(180_000);

  it('storm: what was acknowledged holds through faults of processes and network (seconds=12)', async () => {
    const basePort = await freeBasePort(5);
    const report = await runSystem({ nodes: 3, seconds: 12, seed: 7, basePort });
    expect(report.verdicts.flatMap(({ violations }) => violations)).to.deep.equal([]);
    expect(report.faults.size).to.be.above(0);
    expect(report.verdicts.find(({ name }) => name === 'quorum floor')?.judged).to.be.above(50);
  });
});
