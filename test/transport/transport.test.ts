// Which way a message goes, and who may shake hands.

import { expect } from 'chai';
import type { Link } from '../../runtime/envelope.ts';
import { fingerprint32Text } from '../../runtime/hash.ts';
import { placementOf } from '../../runtime/placement.ts';
import { type Hello, refusal } from '../../transport/handshake.ts';
import type { PeerTable } from '../../transport/peer-table.ts';
import { type FlushableLink, NodeRouter } from '../../transport/transport.ts';

class NamedLink implements FlushableLink {
  readonly name: string;
  flushes = 0;

  constructor(name: string) {
    this.name = name;
  }

  readonly send = (): boolean => true;
  readonly flush = (): void => {
    this.flushes += 1;
  };
}

const groups = { gossiper: 'control', store: 'shard', compactor: 'background' } as const;

/** A router of node a, thread 1 of 4, whose peers run six shards. */
function routerWith(peers: boolean): { router: NodeRouter; links: Map<number, NamedLink> } {
  const links = new Map([0, 2, 3].map((n) => [n, new NamedLink(`thread ${n}`)]));
  const table = {
    placementOf: () => placementOf('wide', 6),
    linkTo: (node: string, thread: number): Link => new NamedLink(`${node}/${thread}`),
  };
  const router = new NodeRouter({
    node: 'a',
    placement: placementOf('small', 2),
    groupOf: (actor) => groups[actor as keyof typeof groups],
    threadOverride: (actor, shard) => (actor === 'monitor' ? shard : undefined),
    threadLinks: links,
    peers: peers ? (table as unknown as PeerTable) : undefined,
  });
  return { router, links };
}

describe('router', () => {
  const ways: readonly (readonly [string, string, number, string | undefined])[] = [
    ['a', 'gossiper', 0, 'thread 0'],
    ['a', 'store', 0, undefined],
    ['a', 'store', 1, 'thread 2'],
    ['a', 'compactor', 1, 'thread 3'],
    ['a', 'monitor', 3, 'thread 3'],
    ['b', 'gossiper', 0, 'b/0'],
    ['b', 'store', 5, 'b/6'],
    ['b', 'compactor', 5, 'b/7'],
    ['b', 'monitor', 4, 'b/4'],
  ];
  for (const [node, actor, shard, name] of ways)
    it(`router: ${node}/${actor}/${shard} is reached by ${name ?? 'no link: it is of this thread'}`, () => {
      expect(routerWith(true).router.linkTo(node, actor, shard)?.name).to.equal(name);
    });

  it('router: a thread without peers reaches no other node', () => {
    expect(routerWith(false).router.linkTo('b', 'store', 0)).to.equal(undefined);
  });

  it('router: a flush goes to every thread', () => {
    const { router, links } = routerWith(true);
    router.flush();
    expect([...links.values()].map(({ flushes }) => flushes)).to.deep.equal([1, 1, 1]);
  });
});

/** Two ids with one fingerprint, by trying: a few hundred thousand ids have such a pair. */
function twins(): readonly [string, string] {
  const seen = new Map<number, string>();
  for (let i = 0; ; i += 1) {
    const id = `n${i}`;
    const print = fingerprint32Text(id);
    const other = seen.get(print);
    if (other !== undefined) return [other, id];
    seen.set(print, id);
  }
}

describe('handshake', () => {
  const hello = (node: string, clusterName = 'test'): Hello => ({
    clusterName,
    node,
    incarnation: 1,
    thread: 0,
    profile: 'single',
    shards: 1,
    answersProbes: true,
  });

  it('handshake: a member of the same cluster is let in', () => {
    expect(refusal(hello('a'), hello('b'), ['b'])).to.equal(undefined);
  });

  it('handshake: another cluster, a stranger and this node itself are refused', () => {
    expect(refusal(hello('a'), hello('b', 'prod'), ['b'])).to.contain('cluster prod');
    expect(refusal(hello('a'), hello('c'), ['b'])).to.contain('no member');
    expect(refusal(hello('a'), hello('a'), ['a'])).to.contain('own id');
  });

  it('handshake: two ids with one fingerprint are refused', () => {
    const [a, b] = twins();
    expect(refusal(hello(a), hello(b), [b])).to.contain('fingerprint');
  });
});
