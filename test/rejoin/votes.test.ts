// Votes of the other replicas, taken over in spite of failures: every page is read once, however
// often an ask fails, and what the others refuse is merged and raised once.

import { expect } from 'chai';
import { systemNamespace } from '../../actors/model/namespaces.ts';
import {
  privateKeysFrom,
  privateNamespaces,
  recordKey,
  systemStatesFrom,
} from '../../actors/model/record.ts';
import { Ring } from '../../actors/model/ring.ts';
import { takeOverVotes } from '../../actors/rejoin/votes.ts';
import { Acceptor, Replica } from '../../actors/replication/protocol.ts';
import { type Ref, refTo, type Session } from '../../runtime/actor.ts';
import { justAfter } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';
import { makeRecord } from '../kit-replication.ts';

/** The last one is of the system namespace, which lies by itself. */
const pages = [
  ...['a', 'b', 'c'].map((key) => [makeRecord(key, { namespace: privateNamespaces })]),
  [makeRecord('catalog', { namespace: privateNamespaces + systemNamespace })],
];
const startOf = (page: number): Uint8Array => {
  if (page === pages.length - 1) return systemStatesFrom;
  const [last] = pages[page - 1] ?? [];
  return last === undefined ? privateKeysFrom : justAfter(recordKey(last));
};
const floorsOf: Readonly<Record<string, object>> = {
  'n2/0': { sets: [0, 1], hlcs: [5, 1], isClear: true },
  'n2/1': { sets: [0, 1], hlcs: [3, 7], isClear: true },
  'n3/0': { sets: [], hlcs: [], isClear: true },
};

/** Shards of the others that fail in their turn: `fails` names asks, by number, that do. */
class Others {
  readonly asked: string[] = [];
  readonly raised: unknown[] = [];
  adopted = 0;
  shards: Readonly<Record<string, number>> = { n2: 2, n3: 1 };
  before: (asked: number) => void = () => undefined;

  get session(): Session {
    const ask = ({ node, shard }: Ref<Replica>, name: string, body: object): Promise<unknown> =>
      Promise.resolve().then(() => this.#answer(`${node}/${shard}`, name, body));
    return { ask, sleep: () => Promise.resolve() } as unknown as Session;
  }

  #answer(at: string, name: string, body: object): unknown {
    if (name === 'adopt') {
      this.adopted += 1;
      return {};
    }
    if (name === 'raiseFloors') {
      this.raised.push([at, body]);
      return {};
    }
    const page = name === 'range' ? this.#pageOf(body as { readonly from: Uint8Array }) : undefined;
    this.asked.push(`${at} ${page ?? name}`);
    this.before(this.asked.length);
    if (page === undefined) return floorsOf[at];
    return { records: pages[page], isDone: page >= pages.length - 2 };
  }

  #pageOf({ from }: { readonly from: Uint8Array }): number {
    return pages.findIndex((_, page) => Buffer.compare(startOf(page), from) === 0);
  }

  take(): Promise<void> {
    return takeOverVotes({
      session: this.session,
      node: 'n1',
      others: ['n2', 'n3'],
      ring: new Ring({ members: ['n1', 'n2', 'n3'], virtualNodes: 4, replicationFactor: 3 }),
      replicaOf: (node, shard) => refTo(Replica, node, shard),
      shardsOf: (node) => this.shards[node],
      acceptorOf: (shard) => refTo(Acceptor, 'n1', shard),
      otherAcceptorOf: (node, shard) => refTo(Acceptor, node, shard),
      shards: 2,
    });
  }
}

const whole = (at: string): string[] =>
  ['0', '1', '2', '3', 'floors'].map((page) => `${at} ${page}`);

describe('votes', () => {
  it('votes: what the others refuse is merged and raised once in each shard', async () => {
    const others = new Others();
    await others.take();
    expect(others.asked).to.deep.equal([...whole('n2/0'), ...whole('n2/1'), ...whole('n3/0')]);
    expect(others.adopted).to.equal(12);
    const bounds = { sets: [0, 1], hlcs: [5, 7] };
    expect(others.raised).to.deep.equal([
      ['n1/0', bounds],
      ['n1/1', bounds],
    ]);
  });

  it('votes: after an ask that failed it goes on with the same page of the same shard', async () => {
    const all = [...whole('n2/0'), ...whole('n2/1'), ...whole('n3/0')];
    for (let failing = 1; failing <= all.length; failing += 1) {
      const others = new Others();
      others.before = (asked) => {
        if (asked === failing) throw new KvError('TIMEOUT', {});
      };
      await others.take();
      const again = all[failing - 1] as string;
      // One after its page was taken over asks for the end of that shard again, and for no more.
      const pageAgain = again.endsWith('floors') ? [again.replace('floors', '3')] : [];
      const expected = [...all.slice(0, failing), ...pageAgain, again, ...all.slice(failing)];
      expect(others.asked, `ask ${failing}`).to.deep.equal(expected);
    }
  });

  it('votes: a node that comes back with other shards is asked from the first one on', async () => {
    const others = new Others();
    others.before = (asked) => {
      if (asked !== 8) return;
      others.shards = { n2: 1, n3: 1 };
      throw new KvError('UNREACHABLE', {});
    };
    await others.take();
    const before = [...whole('n2/0'), ...whole('n2/1').slice(0, 3)];
    expect(others.asked).to.deep.equal([...before, ...whole('n2/0'), ...whole('n3/0')]);
  });
});
