// The count of replicas of each range against one that goes through all ranges after every change.

import { expect } from 'chai';
import fc from 'fast-check';
import { Ring } from '../../actors/model/ring.ts';
import { RingCoverage } from '../../actors/model/ring-coverage.ts';

describe('ring-coverage', () => {
  it('ring-coverage: as nodes come and go it says the same as a walk of all ranges', () => {
    const cases = fc.record({
      nodes: fc.integer({ min: 1, max: 9 }),
      virtualNodes: fc.integer({ min: 1, max: 8 }),
      replicationFactor: fc.integer({ min: 1, max: 4 }),
      required: fc.integer({ min: 1, max: 4 }),
      changes: fc.array(fc.nat(8), { maxLength: 24 }),
    });
    const seen = { whole: 0, short: 0 };
    fc.assert(
      fc.property(cases, ({ nodes, required, changes, ...shape }) => {
        const members = Array.from({ length: nodes }, (_, i) => `n${i}`);
        const ring = new Ring({ members, ...shape });
        const coverage = new RingCoverage(ring, required);
        const counted = new Set<string>();
        for (const change of changes) {
          const node = `n${change % nodes}`;
          if (counted.delete(node)) coverage.remove(node);
          else {
            counted.add(node);
            coverage.add(node);
          }
          const counts = ring
            .replicaLists()
            .map((list) => list.filter((each) => counted.has(each)).length);
          const short = counts.find((count) => count < required);
          expect(coverage.firstShort()).to.equal(short);
          expect(coverage.isWhole).to.equal(short === undefined);
          seen[short === undefined ? 'whole' : 'short'] += 1;
        }
      }),
      { numRuns: 300 },
    );
    expect(seen.whole).to.be.above(50);
    expect(seen.short).to.be.above(50);
  });

  it('ring-coverage: a node that is no member changes nothing', () => {
    const ring = new Ring({ members: ['n1'], virtualNodes: 2, replicationFactor: 1 });
    const coverage = new RingCoverage(ring, 1);
    coverage.add('n2');
    expect(coverage.isWhole).to.equal(false);
    coverage.add('n1');
    expect(coverage.isWhole).to.equal(true);
  });
});
