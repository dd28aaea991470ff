// One read through the replicas: the rules one by one, then random schedules against replicas that
// are sets of records.

import { expect } from 'chai';
import fc from 'fast-check';
import { Prng } from '../../runtime/prng.ts';
import { compareRecords } from '../../actors/model/record.ts';
import { lastWriteWins } from '../../actors/model/resolve.ts';
import { type ReadAction, ReadPath } from '../../actors/replication/read-path.ts';
import { hexOf, makeRecord, readReply } from '../kit-replication.ts';

const old = makeRecord('k', { hlc: 10, value: 'old' });
const fresh = makeRecord('k', { hlc: 20, value: 'fresh' });

/** Actions in short: `n2 data`, `n2 etag`, `n2 repair`. */
function words(actions: readonly ReadAction[]): string[] {
  return actions.map((action) =>
    action.kind === 'repair'
      ? `${action.node} repair`
      : `${action.node} ${action.digest ? 'etag' : 'data'}`,
  );
}

function pathOf(required: number, candidates: readonly string[]): ReadPath {
  return new ReadPath(required, candidates, lastWriteWins);
}

const three = ['n1', 'n2', 'n3'];
const full = (record: Uint8Array | undefined) => readReply(record);
const etag = (record: Uint8Array | undefined) => readReply(record, true);

/** At quorum of three, n1 has the fresh record and n2 an old one: n2 was asked for its data. */
function differing(): ReadPath {
  const path = pathOf(2, three);
  path.begin();
  path.answered('n1', full(fresh));
  expect(words(path.answered('n2', etag(old)))).to.deep.equal(['n2 data']);
  return path;
}

/** The same one step on: n2 is being repaired. */
function repairing(): ReadPath {
  const path = differing();
  expect(words(path.answered('n2', full(old)))).to.deep.equal(['n2 repair']);
  expect(path.outcome.kind).to.equal('open');
  return path;
}

describe('read-path', () => {
  it('read-path: RR-1: data from the first replica, etags from as many as the level needs', () => {
    expect(words(pathOf(1, three).begin())).to.deep.equal(['n1 data']);
    expect(words(pathOf(2, three).begin())).to.deep.equal(['n1 data', 'n2 etag']);
    expect(words(pathOf(3, three).begin())).to.deep.equal(['n1 data', 'n2 etag', 'n3 etag']);
  });

  for (const order of [
    ['n1', 'n2'],
    ['n2', 'n1'],
  ])
    it(`read-path: RR-1: equal etags end the read, in any order (first=${order[0] ?? ''})`, () => {
      const path = pathOf(2, three);
      path.begin();
      for (const node of order) {
        expect(path.outcome.kind).to.equal('open');
        expect(path.answered(node, node === 'n1' ? full(fresh) : etag(fresh))).to.deep.equal([]);
      }
      expect(path.outcome).to.deep.equal({ kind: 'done', record: fresh });
    });

  it('read-path: nothing anywhere is an answer too', () => {
    const path = pathOf(2, three);
    path.begin();
    path.answered('n1', full(undefined));
    path.answered('n2', etag(undefined));
    expect(path.outcome).to.deep.equal({ kind: 'done', record: undefined });
  });

  it('read-path: RR-2: different etags ask for the data of all that gave an etag only', () => {
    const path = pathOf(3, three);
    path.begin();
    path.answered('n1', full(old));
    path.answered('n2', etag(old));
    expect(words(path.answered('n3', etag(fresh)))).to.deep.equal(['n2 data', 'n3 data']);
    path.answered('n3', full(fresh));
    expect(words(path.answered('n2', full(old)))).to.deep.equal(['n1 repair', 'n2 repair']);
  });

  it('read-path: RR-2: who holds nothing needs no second question', () => {
    const path = pathOf(2, three);
    path.begin();
    path.answered('n1', full(fresh));
    expect(words(path.answered('n2', etag(undefined)))).to.deep.equal(['n2 repair']);
    path.repaired('n2');
    expect(path.outcome).to.deep.equal({ kind: 'done', record: fresh });
  });

  it('read-path: RR-3: no answer before a quorum holds the winner', () => {
    const path = repairing();
    expect(path.received).to.equal(1);
    path.repaired('n2');
    expect(path.outcome).to.deep.equal({ kind: 'done', record: fresh });
  });

  it('read-path: RR-3: at level ONE nobody waits for anybody', () => {
    const path = pathOf(1, three);
    path.begin();
    path.answered('n1', full(old));
    expect(path.outcome).to.deep.equal({ kind: 'done', record: old });
  });

  it('read-path: RR-3: no repair where as many as asked hold the winner already', () => {
    const path = pathOf(2, ['n1', 'n2', 'n3', 'n4']);
    path.begin();
    path.answered('n1', full(old));
    expect(words(path.answered('n2', etag(fresh)))).to.deep.equal(['n2 data']);
    expect(words(path.speculate())).to.deep.equal(['n3 data']);
    // Two that gave data make the level; n2's etag says that it holds the winner as well.
    expect(path.answered('n3', full(fresh))).to.deep.equal([]);
    expect(path.outcome).to.deep.equal({ kind: 'done', record: fresh });
  });

  it('read-path: RR-5: a repair carries the winner as it was stamped', () => {
    const path = differing();
    const [action] = path.answered('n2', full(old));
    expect(action?.kind === 'repair' ? hexOf(action.record) : '').to.equal(hexOf(fresh));
  });

  it('read-path: RR-3: a repair that fails goes to a further replica', () => {
    const path = repairing();
    expect(words(path.repairFailed('n2'))).to.deep.equal(['n3 repair']);
    path.repaired('n3');
    expect(path.outcome).to.deep.equal({ kind: 'done', record: fresh });
  });

  it('read-path: RR-3: a repair that is slow goes to a further replica beside it', () => {
    const path = repairing();
    expect(words(path.speculate())).to.deep.equal(['n3 repair']);
    expect(path.speculate()).to.deep.equal([]);
    path.repaired('n3');
    expect(path.outcome).to.deep.equal({ kind: 'done', record: fresh });
    expect(path.repaired('n2')).to.deep.equal([]);
  });

  it('read-path: RR-3: a replica that was asked and stayed silent may still be repaired', () => {
    const path = pathOf(2, three);
    path.begin();
    expect(words(path.speculate())).to.deep.equal(['n3 data']);
    path.answered('n3', full(fresh));
    // n1 never answers; n2 holds nothing.
    expect(words(path.answered('n2', etag(undefined)))).to.deep.equal(['n2 repair']);
    expect(words(path.repairFailed('n2'))).to.deep.equal(['n1 repair']);
    path.repaired('n1');
    expect(path.outcome).to.deep.equal({ kind: 'done', record: fresh });
  });

  it('read-path: RR-3: of the further replicas those that failed before come last', () => {
    const path = pathOf(2, ['n1', 'n2', 'n3', 'n4']);
    path.begin();
    path.failed('n1');
    path.answered('n3', full(fresh));
    path.answered('n2', etag(undefined));
    expect(words(path.repairFailed('n2'))).to.deep.equal(['n4 repair']);
    expect(words(path.repairFailed('n4'))).to.deep.equal(['n1 repair']);
    expect(path.repairFailed('n1')).to.deep.equal([]);
    expect(path.outcome).to.deep.equal({ kind: 'failed' });
  });

  it('read-path: RR-3: it fails where no quorum can hold the winner any more (required=3)', () => {
    const path = pathOf(3, three);
    path.begin();
    path.answered('n1', full(fresh));
    path.answered('n2', etag(undefined));
    expect(words(path.answered('n3', etag(undefined)))).to.deep.equal(['n2 repair', 'n3 repair']);
    path.repaired('n2');
    path.repairFailed('n3');
    expect(path.outcome).to.deep.equal({ kind: 'failed' });
    expect(path.received).to.equal(2);
  });

  it('read-path: a contact that fails is replaced by the next candidate, for its data', () => {
    const path = pathOf(2, three);
    path.begin();
    expect(words(path.failed('n1'))).to.deep.equal(['n3 data']);
    path.answered('n2', etag(fresh));
    path.answered('n3', full(fresh));
    expect(path.outcome).to.deep.equal({ kind: 'done', record: fresh });
  });

  it('read-path: RR-7: a contact that is slow is joined by the next candidate, each once', () => {
    const path = pathOf(2, three);
    path.begin();
    path.answered('n1', full(fresh));
    expect(words(path.speculate())).to.deep.equal(['n3 data']);
    expect(path.speculate()).to.deep.equal([]);
    path.answered('n3', full(fresh));
    expect(path.outcome).to.deep.equal({ kind: 'done', record: fresh });
  });

  it('read-path: the data may come from whichever candidate is first to send it', () => {
    const path = pathOf(2, ['n1', 'n2', 'n3', 'n4']);
    path.begin();
    path.failed('n1');
    path.speculate();
    path.answered('n2', etag(fresh));
    expect(path.outcome.kind).to.equal('open');
    path.answered('n4', full(fresh));
    expect(path.outcome).to.deep.equal({ kind: 'done', record: fresh });
  });

  it('read-path: a contact that dies while the data is compared is replaced', () => {
    const path = differing();
    expect(words(path.failed('n2'))).to.deep.equal(['n3 data']);
    path.answered('n3', full(fresh));
    expect(path.outcome).to.deep.equal({ kind: 'done', record: fresh });
  });

  it('read-path: a contact that is slow while the data is compared is joined by another', () => {
    const path = differing();
    expect(words(path.speculate())).to.deep.equal(['n3 data']);
    path.answered('n3', full(fresh));
    expect(path.outcome).to.deep.equal({ kind: 'done', record: fresh });
  });

  it('read-path: it ends when a contact dies while others are compared (required=3)', () => {
    const path = pathOf(3, three);
    path.begin();
    path.answered('n1', full(old));
    path.answered('n2', etag(fresh));
    path.answered('n3', etag(fresh));
    path.failed('n2');
    expect(path.outcome).to.deep.equal({ kind: 'failed' });
  });

  it('read-path: an etag that comes while others are compared asks for its data (required=3)', () => {
    const path = pathOf(3, ['n1', 'n2', 'n3', 'n4']);
    path.begin();
    path.speculate();
    path.answered('n1', full(old));
    path.answered('n2', etag(fresh));
    expect(words(path.answered('n4', full(old)))).to.deep.equal(['n2 data']);
    expect(words(path.answered('n3', etag(fresh)))).to.deep.equal(['n3 data']);
    expect(words(path.answered('n3', full(fresh)))).to.deep.equal(['n1 repair', 'n4 repair']);
  });

  it('read-path: answers after the end change nothing and ask nothing', () => {
    const path = pathOf(1, three);
    path.begin();
    path.speculate();
    path.answered('n1', full(old));
    const outcome = path.outcome;
    expect(path.answered('n2', full(fresh))).to.deep.equal([]);
    expect(path.failed('n2')).to.deep.equal([]);
    expect(path.speculate()).to.deep.equal([]);
    expect(path.repaired('n2')).to.deep.equal([]);
    expect(path.repairFailed('n2')).to.deep.equal([]);
    expect(path.outcome).to.equal(outcome);
  });

  it('read-path: answers to the read while it repairs change nothing', () => {
    const path = repairing();
    expect(path.answered('n3', full(makeRecord('k', { hlc: 30 })))).to.deep.equal([]);
    expect(path.failed('n3')).to.deep.equal([]);
    expect(path.outcome.kind).to.equal('open');
    path.repaired('n2');
    expect(path.outcome).to.deep.equal({ kind: 'done', record: fresh });
  });
});

interface World {
  readonly replicas: Map<string, Uint8Array | undefined>;
  readonly path: ReadPath;
  readonly failed: Set<string>;
  pending: ReadAction[];
}

/** One random event: an answer, a failure, impatience, or a write that lands beside the read. */
function event(world: World, random: Prng, hlc: number): void {
  const { replicas, path, failed } = world;
  const at = random.int(world.pending.length);
  const action = world.pending[at];
  if (action === undefined || random.chance(0.1)) {
    world.pending.push(...path.speculate());
    return;
  }
  if (random.chance(0.05)) replicas.set(action.node, makeRecord('k', { hlc }));
  world.pending.splice(at, 1);
  const { node } = action;
  const held = replicas.get(node);
  const isFailed = random.chance(0.25);
  if (isFailed) failed.add(node);
  if (action.kind === 'repair') {
    // Of a repair that fails nobody knows whether it arrived.
    if (!isFailed || random.chance(0.5))
      replicas.set(node, held === undefined ? action.record : lastWriteWins(held, action.record));
    world.pending.push(...(isFailed ? path.repairFailed(node) : path.repaired(node)));
  } else if (isFailed) world.pending.push(...path.failed(node));
  else world.pending.push(...path.answered(node, readReply(held, action.digest)));
}

describe('read-path: random schedules', () => {
  const cases = fc.record({
    seed: fc.nat(),
    nodes: fc.integer({ min: 1, max: 5 }),
    held: fc.array(fc.nat(3), { minLength: 5, maxLength: 5 }),
    dead: fc.nat(4),
    level: fc.nat(4),
  });

  it('read-path: it always ends, once; done means that as many as asked hold the winner', () => {
    const seen = { done: 0, failed: 0 };
    fc.assert(
      fc.property(cases, ({ seed, nodes, held, dead, level }) => {
        const random = new Prng(seed);
        const names = Array.from({ length: nodes }, (_, i) => `n${i + 1}`);
        const replicas = new Map(
          names.map((node, i) => {
            const hlc = held[i] as number;
            return [node, hlc === 0 ? undefined : makeRecord('k', { hlc })];
          }),
        );
        const candidates = random.shuffled(names).slice(0, Math.max(1, nodes - dead));
        const required = 1 + (level % candidates.length);
        const before = [...replicas.values()];
        const path = pathOf(required, candidates);
        const world: World = { replicas, path, failed: new Set(), pending: [...path.begin()] };
        let hlc = 100;
        while (world.pending.length > 0) {
          const { outcome } = path;
          event(world, random, (hlc += 1));
          if (outcome.kind !== 'open') expect(path.outcome).to.equal(outcome);
        }
        const { outcome } = path;
        expect(outcome.kind).to.not.equal('open');
        if (outcome.kind === 'failed') {
          seen.failed += 1;
          const trusty = candidates.filter((node) => !world.failed.has(node));
          expect(trusty.length, 'enough would have answered').to.be.below(required);
          return;
        }
        if (outcome.kind !== 'done') return;
        seen.done += 1;
        const { record } = outcome;
        const isAtLeast = (a: Uint8Array | undefined, b: Uint8Array | undefined): boolean =>
          b === undefined || (a !== undefined && compareRecords(a, b) >= 0);
        const holders = names.filter((node) => isAtLeast(replicas.get(node), record));
        expect(holders.length).to.be.at.least(required);
        // What more replicas held than the read can miss, it has not missed.
        for (const known of before) {
          const count = before.filter((other) => isAtLeast(other, known)).length;
          if (count > nodes - required) expect(isAtLeast(record, known)).to.equal(true);
        }
      }),
      { numRuns: 2_000 },
    );
    expect(seen.done).to.be.above(50);
    expect(seen.failed).to.be.above(50);
  });
});
