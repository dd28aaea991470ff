// The ring: pinned placements, and properties against a model that walks the tokens naively.

import { expect } from 'chai';
import fc from 'fast-check';
import { fingerprint32Text } from '../../runtime/hash.ts';
import { Prng } from '../../runtime/prng.ts';
import { Ring } from '../../actors/model/ring.ts';
import { codeThrownBy } from '../kit.ts';

const highestToken = 0xffff_ffff;
const names = (count: number): string[] => Array.from({ length: count }, (_, i) => `n${i + 1}`);

function ringOf(members: readonly string[], virtualNodes: number, replicationFactor: number): Ring {
  return new Ring({ members, virtualNodes, replicationFactor });
}

/** Tokens with their owners in token order, placed by the rule of model.md section 3. */
function naivePlaces(members: readonly string[], virtualNodes: number): [number, string][] {
  const owners = new Map<number, string>();
  for (const node of [...members].sort())
    for (let i = 0; i < virtualNodes; i += 1) {
      let token = fingerprint32Text(`${node}:${i}`);
      for (let n = 1; owners.has(token); n += 1) token = fingerprint32Text(`${node}:${i}:${n}`);
      owners.set(token, node);
    }
  return [...owners].sort(([a], [b]) => a - b);
}

function naiveReplicas(
  places: readonly [number, string][],
  token: number,
  replicationFactor: number,
): string[] {
  const first = places.findIndex(([place]) => place >= token);
  const start = first < 0 ? 0 : first;
  const replicas = new Set<string>();
  for (let step = 0; step < places.length && replicas.size < replicationFactor; step += 1)
    replicas.add((places[(start + step) % places.length] as [number, string])[1]);
  return [...replicas];
}

const rings = fc.record({
  members: fc.uniqueArray(fc.stringMatching(/^[A-Za-z0-9_-]{1,6}$/), {
    minLength: 1,
    maxLength: 6,
  }),
  virtualNodes: fc.integer({ min: 1, max: 8 }),
  replicationFactor: fc.integer({ min: 1, max: 5 }),
});

const randomTokens = (seed: number, count: number): number[] => {
  const random = new Prng(seed);
  return Array.from({ length: count }, () => random.u32());
};

describe('ring', () => {
  it('ring: the placement of three nodes is pinned (virtualNodes=4, replication=2)', () => {
    const ring = ringOf(['n1', 'n2', 'n3'], 4, 2);
    expect(ring.ranges().map(({ to, replicas }) => [to, ...replicas])).to.deep.equal([
      [350_551_259, 'n2', 'n1'],
      [1_522_310_300, 'n1', 'n2'],
      [1_755_704_497, 'n2', 'n3'],
      [2_123_672_894, 'n3', 'n2'],
      [2_251_123_782, 'n2', 'n1'],
      // 2404470374 and 2599063090 are both n1's, with n2 after them: one range.
      [2_599_063_090, 'n1', 'n2'],
      [2_616_053_320, 'n2', 'n3'],
      // n3 has three places in a row: 3142971198, 3214847547, 3523929990.
      [3_523_929_990, 'n3', 'n1'],
      [4_262_085_678, 'n1', 'n2'],
    ]);
  });

  it('ring: the replica lists of three nodes are pinned (virtualNodes=4, replication=3)', () => {
    const ring = ringOf(['n1', 'n2', 'n3'], 4, 3);
    const at = (token: number): string => ring.replicasOf(token).join(' ');
    expect(at(0)).to.equal('n2 n1 n3');
    expect(at(350_551_259)).to.equal('n2 n1 n3');
    expect(at(350_551_260)).to.equal('n1 n2 n3');
    expect(at(1_700_000_000)).to.equal('n2 n3 n1');
    expect(at(2_000_000_000)).to.equal('n3 n2 n1');
    expect(at(3_000_000_000)).to.equal('n3 n1 n2');
    expect(at(4_262_085_678)).to.equal('n1 n2 n3');
    // Beyond the last place it wraps to the first.
    expect(at(4_262_085_679)).to.equal('n2 n1 n3');
    expect(at(highestToken)).to.equal('n2 n1 n3');
  });

  it('ring: lookups agree with a naive walk, at every place and on both sides of it', () => {
    fc.assert(
      fc.property(rings, fc.nat(highestToken), ({ members, ...numbers }, other) => {
        const ring = ringOf(members, numbers.virtualNodes, numbers.replicationFactor);
        const places = naivePlaces(members, numbers.virtualNodes);
        const around = places.flatMap(([place]) => [place - 1, place, place + 1]);
        const tokens = [0, other, highestToken, ...around];
        for (const token of tokens.filter((t) => t >= 0 && t <= highestToken))
          expect(ring.replicasOf(token), `token=${token}`).to.deep.equal(
            naiveReplicas(places, token, numbers.replicationFactor),
          );
      }),
      { numRuns: 60 },
    );
  });

  it('ring: every token has exactly as many distinct replicas as asked, or all members', () => {
    fc.assert(
      fc.property(rings, fc.nat(highestToken), ({ members, ...numbers }, token) => {
        const ring = ringOf(members, numbers.virtualNodes, numbers.replicationFactor);
        const expected = Math.min(numbers.replicationFactor, members.length);
        expect(ring.replicationFactor).to.equal(expected);
        const lists = [...ring.replicaLists(), ring.replicasOf(token)];
        for (const list of lists) {
          expect(list.length).to.equal(expected);
          expect(new Set(list).size).to.equal(expected);
          expect(members).to.include.members([...list]);
        }
      }),
    );
  });

  it('ring: the ranges tile the ring, each with the replicas of its tokens', () => {
    fc.assert(
      fc.property(rings, ({ members, ...numbers }) => {
        const ring = ringOf(members, numbers.virtualNodes, numbers.replicationFactor);
        const ranges = ring.ranges();
        ranges.forEach(({ after, to, replicas }, i) => {
          const before = ranges[i === 0 ? ranges.length - 1 : i - 1];
          expect(after).to.equal(before?.to);
          expect(ring.replicasOf(to)).to.deep.equal(replicas);
          expect(ring.replicasOf((after + 1) % 2 ** 32)).to.deep.equal(replicas);
        });
      }),
    );
  });

  it('ring: the order of the members does not matter', () => {
    const order = fc.shuffledSubarray(names(5), { minLength: 5 });
    const expected = ringOf(names(5), 16, 3).ranges();
    fc.assert(
      fc.property(order, (members) => {
        expect(ringOf(members, 16, 3).ranges()).to.deep.equal(expected);
      }),
      { numRuns: 20 },
    );
  });

  it('ring: the shares add up to the copies, and those of one node alone to one', () => {
    fc.assert(
      fc.property(rings, ({ members, ...numbers }) => {
        const ring = ringOf(members, numbers.virtualNodes, numbers.replicationFactor);
        const shares = ring.ownership();
        const sum = [...shares.values()].reduce((total, share) => total + share, 0);
        expect(sum).to.be.closeTo(ring.replicationFactor, 1e-9);
        expect([...shares.keys()]).to.deep.equal([...members].sort());
      }),
    );
    expect([...ringOf(['alone'], 1, 3).ownership()]).to.deep.equal([['alone', 1]]);
  });

  for (const count of [3, 5, 10])
    it(`ring: the shares differ by less than 15 % (nodes=${count}, virtualNodes=256)`, () => {
      const shares = [...ringOf(names(count), 256, 3).ownership().values()];
      const mean = 3 / count;
      for (const share of shares) expect(Math.abs(share - mean) / mean).to.be.below(0.15);
    });

  it('ring: one more node takes about its share of the keys, and none moves elsewhere', () => {
    const before = ringOf(names(5), 256, 1);
    const after = ringOf(names(6), 256, 1);
    const tokens = randomTokens(1, 20_000);
    const moved = tokens.filter((t) => before.replicasOf(t)[0] !== after.replicasOf(t)[0]);
    for (const token of moved) expect(after.replicasOf(token)).to.deep.equal(['n6']);
    expect(moved.length / tokens.length).to.be.within((1 / 6) * 0.8, (1 / 6) * 1.2);
  });

  it('ring: with three copies, one more node changes one replica of a key at the most', () => {
    const before = ringOf(names(5), 64, 3);
    const after = ringOf(names(6), 64, 3);
    for (const token of randomTokens(2, 2_000)) {
      const lost = before.replicasOf(token).filter((n) => !after.replicasOf(token).includes(n));
      const won = after.replicasOf(token).filter((n) => !before.replicasOf(token).includes(n));
      expect(lost.length).to.be.at.most(1);
      expect(won).to.deep.equal(lost.length === 0 ? [] : ['n6']);
    }
  });

  it('ring: of two nodes that draw one token the lower id keeps it, the other draws again', () => {
    // The one collision of these two: found by search among n0 to n400.
    expect(fingerprint32Text('n163:204')).to.equal(983_829_106);
    expect(fingerprint32Text('n64:209')).to.equal(983_829_106);
    const again = fingerprint32Text('n64:209:1');
    for (const members of [
      ['n64', 'n163'],
      ['n163', 'n64'],
    ]) {
      const ring = ringOf(members, 256, 1);
      expect(ring.replicasOf(983_829_106)).to.deep.equal(['n163']);
      expect(ring.replicasOf(again)).to.deep.equal(['n64']);
      const places = naivePlaces(members, 256);
      expect(places.length).to.equal(512);
      for (const [token, owner] of places) expect(ring.replicasOf(token)).to.deep.equal([owner]);
    }
  });

  it('ring: a large cluster is looked up correctly (nodes=1000, virtualNodes=256)', () => {
    const members = Array.from({ length: 1000 }, (_, i) => `node-${i}`);
    const ring = ringOf(members, 256, 3);
    const places = naivePlaces(members, 256);
    expect(places.length).to.equal(256_000);
    for (const token of [0, highestToken, ...randomTokens(3, 50)])
      expect(ring.replicasOf(token)).to.deep.equal(naiveReplicas(places, token, 3));
  }).timeout(20_000);

  for (const [what, options] of [
    ['no members', { members: [], virtualNodes: 4, replicationFactor: 1 }],
    ['a member twice', { members: ['n1', 'n1'], virtualNodes: 4, replicationFactor: 1 }],
    ['no virtual nodes', { members: ['n1'], virtualNodes: 0, replicationFactor: 1 }],
    ['half a virtual node', { members: ['n1'], virtualNodes: 1.5, replicationFactor: 1 }],
    ['4,097 virtual nodes', { members: ['n1'], virtualNodes: 4097, replicationFactor: 1 }],
    ['no copies', { members: ['n1'], virtualNodes: 4, replicationFactor: 0 }],
  ] as const)
    it(`ring: refused: ${what}`, () => {
      expect(codeThrownBy(() => new Ring(options))).to.equal('BAD_REQUEST');
    });
});
