// The sets of replicas of a ring: their numbers, and what is looked up by their ids.

import { expect } from 'chai';
import { ReplicaSets } from '../../actors/model/replica-sets.ts';
import { Ring } from '../../actors/model/ring.ts';
import { Horizons } from '../../actors/repair/horizons.ts';
import { BallotFloors } from '../../actors/replication/ballot-floors.ts';

const members = Array.from({ length: 12 }, (_, i) => `n${i}`);
const ring = new Ring({ members, virtualNodes: 16, replicationFactor: 3 });

/** How often a method of arrays is called, of one list or of any. */
function callsOf(
  list: readonly unknown[],
  name: 'findIndex' | 'indexOf',
  work: () => unknown,
): number {
  const real = Reflect.get(list, name) as (...args: unknown[]) => number;
  let calls = 0;
  const counting = function (this: unknown[], ...args: unknown[]): number {
    calls += 1;
    return real.apply(this, args);
  };
  const own = Object.getOwnPropertyDescriptor(list, name);
  Object.defineProperty(list, name, { value: counting, configurable: true, writable: true });
  try {
    work();
  } finally {
    if (own === undefined) Reflect.deleteProperty(list, name);
    else Object.defineProperty(list, name, own);
  }
  return calls;
}

describe('replica-sets', () => {
  it('replica-sets: a token has the set of its replicas, under the number of its id', () => {
    const sets = new ReplicaSets(ring);
    for (const { to, replicas } of ring.ranges()) {
      const id = [...replicas].sort().join(',');
      expect(sets.sets[sets.indexOf(to)]?.id).to.equal(id);
      expect(sets.numberOf(id)).to.equal(sets.indexOf(to));
    }
    expect(sets.numberOf('n1')).to.equal(undefined);
  });

  it('replica-sets: neither a ring nor a stored file is searched once for each of its sets', () => {
    const sets = new ReplicaSets(ring);
    expect(sets.sets.length).to.be.above(50);
    const made = callsOf(Array.prototype as unknown[], 'indexOf', () => new ReplicaSets(ring));
    expect(made, 'of a ring').to.be.below(50);
    const horizons = new Horizons(sets, false);
    const floors = new BallotFloors(sets);
    sets.sets.forEach((_, set) => {
      horizons.agree(set, set + 1);
      floors.raise({ sets: [set], hlcs: [set + 1] });
    });
    const read = callsOf(sets.sets, 'findIndex', () => {
      expect(Horizons.decode(horizons.encode(), 'p', sets).list()).to.deep.equal(horizons.list());
      expect(BallotFloors.decode(floors.encode(), 'p', sets).bounds()).to.deep.equal(
        floors.bounds(),
      );
    });
    expect(read, 'of files').to.equal(0);
  });

  it('replica-sets: what a file says of sets that are no more is left out', () => {
    const before = new ReplicaSets(ring);
    const horizons = new Horizons(before, false);
    const floors = new BallotFloors(before);
    before.sets.forEach((_, set) => {
      horizons.agree(set, 7);
      floors.raise({ sets: [set], hlcs: [7] });
    });
    const fewer = members.slice(1);
    const after = new ReplicaSets(
      new Ring({ members: fewer, virtualNodes: 16, replicationFactor: 3 }),
    );
    const kept = after.sets.map(({ id }) => (before.sets.some((set) => set.id === id) ? 7 : 0));
    const read = Horizons.decode(horizons.encode(), 'p', after);
    expect(kept.map((_, set) => read.agreedOf(set))).to.deep.equal(kept);
    const hlcs = BallotFloors.decode(floors.encode(), 'p', after).bounds().hlcs;
    expect(hlcs.length).to.equal(kept.filter((hlc) => hlc > 0).length);
    expect(new Set(kept).size).to.equal(2);
  });
});
