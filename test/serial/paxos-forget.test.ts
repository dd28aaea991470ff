// Who is asked, and who is told, so that old states can be forgotten.

import { expect } from 'chai';
import { ReplicaSets } from '../../actors/model/replica-sets.ts';
import { Ring } from '../../actors/model/ring.ts';
import { moveFloors } from '../../actors/replication/paxos-forget.ts';
import type { Session } from '../../runtime/actor.ts';
import { KvError } from '../../runtime/errors.ts';

const members = ['n1', 'n2', 'n3'];
const sets = new ReplicaSets(new Ring({ members, virtualNodes: 4, replicationFactor: 3 }));
const keptMs = 1_000;
const wallMicros = 1e9;

interface Answer {
  readonly hlc: number;
  readonly shards: number;
  readonly wallMicros?: number;
}

/** Of a ref, what this test looks at. */
interface To {
  readonly node: string;
  readonly shard: number;
}

interface Body {
  readonly sets: readonly number[];
  readonly hlcs?: readonly number[];
}

/** What members are told, as lines, where their shards answer so; undefined: not at all. */
async function told(
  answers: Readonly<Record<string, readonly (Answer | undefined)[]>>,
  shardsOf: Readonly<Record<string, number>> = { n1: 1, n2: 1, n3: 1 },
  node = 'n1',
): Promise<string[]> {
  const lines: string[] = [];
  const answerTo = (to: To, name: string, body: Body): object => {
    if (name !== 'settled') {
      lines.push(`${to.node}/${to.shard} ${name} ${(body.hlcs ?? []).join()}`);
      return {};
    }
    const answer = answers[to.node]?.[to.shard];
    if (answer === undefined) throw new KvError('UNREACHABLE');
    return { wallMicros, ...answer, sets: body.sets, hlcs: [answer.hlc] };
  };
  const ask = (to: To, name: string, body: Body): Promise<object> =>
    Promise.resolve().then(() => answerTo(to, name, body));
  const session = { ask } as unknown as Session;
  await moveFloors({ session, node, sets, keptMs, shardsOf: new Map(Object.entries(shardsOf)) });
  return lines.sort();
}

const settled = (hlc: number): Answer => ({ hlc, shards: 1 });

describe('paxos-forget', () => {
  it('paxos-forget: all forget up to the least, and refuse what the slowest clock takes for old', async () => {
    const slow = { ...settled(20), wallMicros: 5e8 };
    expect(await told({ n1: [settled(30)], n2: [slow], n3: [settled(40)] })).to.deep.equal([
      'n1/0 forget 20',
      'n1/0 raiseFloors 499000000',
      'n2/0 forget 20',
      'n2/0 raiseFloors 499000000',
      'n3/0 forget 20',
      'n3/0 raiseFloors 499000000',
    ]);
  });

  it('paxos-forget: where one has settled nothing, nothing is forgotten', async () => {
    const lines = await told({ n1: [settled(30)], n2: [settled(0)], n3: [settled(40)] });
    expect(lines.filter((line) => line.includes('forget'))).to.deep.equal([]);
    expect(lines.length).to.equal(3);
  });

  it('paxos-forget: nobody is told anything while a shard of a member does not answer', async () => {
    const half = [{ hlc: 40, shards: 2 }, undefined];
    const shards = { n1: 1, n2: 1, n3: 2 };
    expect(await told({ n1: [settled(30)], n2: [settled(20)], n3: half }, shards)).to.deep.equal(
      [],
    );
  });

  it('paxos-forget: or while one has more shards than this node knows of', async () => {
    const more = [{ hlc: 40, shards: 2 }];
    expect(await told({ n1: [settled(30)], n2: [settled(20)], n3: more })).to.deep.equal([]);
  });

  it('paxos-forget: while a member is dead, or by another than the first, nothing is asked', async () => {
    const all = { n1: [settled(30)], n2: [settled(20)], n3: [settled(40)] };
    expect(await told(all, { n1: 1, n2: 1 })).to.deep.equal([]);
    expect(await told(all, { n1: 1, n2: 1, n3: 1 }, 'n2')).to.deep.equal([]);
  });
});
