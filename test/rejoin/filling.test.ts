// What a node that lost its data asks to be repaired: its own sets of replicas, and of those only
// what no repair before has brought to its end.

import { expect } from 'chai';
import { ReplicaSets } from '../../actors/model/replica-sets.ts';
import { Ring } from '../../actors/model/ring.ts';
import { type FillingParts, fillNode } from '../../actors/rejoin/filling.ts';
import type { RepairReport, RepairRequest } from '../../actors/repair/protocol.ts';
import { failure, errorOf } from '../../runtime/errors.ts';

const members = ['n1', 'n2', 'n3', 'n4', 'n5', 'n6'];
const ring = new Ring({ members, virtualNodes: 16, replicationFactor: 3 });
const sets = new ReplicaSets(ring);
const own = sets.ofNode('n1').map((set) => sets.sets[set]?.id ?? '');

/** The sets that each repair was asked for; `answer`: what becomes of them, undefined: it is busy. */
async function fill(
  answer: (ids: readonly string[], run: number) => RepairReport['sets'] | undefined,
): Promise<readonly (readonly string[])[]> {
  const asked: (readonly string[])[] = [];
  const ask = (_to: unknown, name: string, body: RepairRequest): Promise<unknown> => {
    expect([name, body.isFull, body.set]).to.deep.equal(['run', true, undefined]);
    asked.push(body.sets ?? ['all']);
    const done = answer(asked[asked.length - 1] ?? [], asked.length);
    if (done === undefined) return Promise.reject(errorOf(failure('OVERLOADED')));
    return Promise.resolve({ id: asked.length, isRunning: false, sets: done });
  };
  const session = { ask, sleep: () => Promise.resolve() };
  const parts = {
    ...{ session, node: 'n1', birth: 1, others: [], ring, sets, shards: 1, settleMs: 0 },
    ...{ repairer: {}, shardsOf: () => 1, tell: () => undefined },
    clock: { monotonicMs: () => 0, wallMicros: () => 0 },
  };
  await fillNode(parts as unknown as FillingParts);
  return asked;
}

const ended = (
  ids: readonly string[],
  outcome: 'complete' | 'partial' | 'failed',
): RepairReport['sets'] => ids.map((set) => ({ set, outcome, why: '' }));

describe('rejoin: filling', () => {
  it('filling: only sets that the node belongs to are repaired', async () => {
    expect(own.length).to.be.within(2, sets.sets.length - 1);
    expect(await fill((ids) => ended(ids, 'complete'))).to.deep.equal([own]);
  });

  it('filling: what a repair has brought to its end is not asked for again', async () => {
    const [first, ...rest] = own;
    const asked = await fill((ids, run) => {
      if (run === 2) return undefined;
      if (run > 2) return ended(ids, 'complete');
      return [
        ...ended([first ?? ''], 'complete'),
        ...ended(rest, run === 1 ? 'failed' : 'partial'),
      ];
    });
    expect(asked).to.deep.equal([own, rest, rest]);
  });
});
