// Scans of whole clusters against a model: replicas of several shards whose pages are cut short,
// which answer in any order or not at all.

import { expect } from 'chai';
import fc from 'fast-check';
import { compareBytes, utf8 } from '../../runtime/bytes.ts';
import { Prng } from '../../runtime/prng.ts';
import { type Level, requiredAcks } from '../../actors/model/consistency.ts';
import { isLive, recordKey, recordToken, userKey } from '../../actors/model/record.ts';
import { readPage, type RecordPage } from '../../actors/model/record-pages.ts';
import { lastWriteWins } from '../../actors/model/resolve.ts';
import { Ring } from '../../actors/model/ring.ts';
import { shardOf } from '../../actors/model/token.ts';
import type { ScanReply, ScanRequest } from '../../actors/replication/protocol.ts';
import { ScanPath, type ScanTarget } from '../../actors/replication/scan-path.ts';
import type { RangeRequest } from '../../actors/storage/protocol.ts';
import { hexOf, makeRecord, type RecordChanges } from '../kit-replication.ts';

const nowMs = 1_000;
const request: ScanRequest = {
  namespace: 1,
  prefix: utf8.encode(''),
  after: undefined,
  limit: 100,
  level: 'QUORUM',
};
const keyOf = (record: Uint8Array): string => utf8.decode(userKey(recordKey(record)));
const keysOf = ({ records }: ScanReply): string[] => records.map(keyOf);

/** What one shard of one node holds, in key order. */
type Shards = Map<string, Uint8Array[]>;

class Cluster {
  readonly ring: Ring;
  readonly targets: readonly ScanTarget[];
  readonly #shards: Shards = new Map();
  /** Records on one answer of a shard, at most. */
  rowsMax = 1_000;
  /** Of all shards so far. */
  rowsRead = 0;
  rounds = 0;

  constructor(targets: readonly ScanTarget[], replicationFactor: number, virtualNodes = 4) {
    this.targets = targets;
    const members = targets.map(({ node }) => node);
    this.ring = new Ring({ members, virtualNodes, replicationFactor });
  }

  replicasOf(record: Uint8Array): readonly string[] {
    return this.ring.replicasOf(recordToken(record));
  }

  put(node: string, record: Uint8Array): void {
    const shards = this.targets.find((target) => target.node === node)?.shards ?? 1;
    const id = `${node}/${shardOf(recordToken(record), shards)}`;
    const held = this.#shards.get(id) ?? [];
    const others = held.filter((other) => keyOf(other) !== keyOf(record));
    const before = held.find((other) => keyOf(other) === keyOf(record));
    const winner = before === undefined ? record : lastWriteWins(before, record);
    const sorted = [...others, winner].sort((a, b) => compareBytes(recordKey(a), recordKey(b)));
    this.#shards.set(id, sorted);
  }

  read(node: string, shard: number, { from, to, limit, bytes }: RangeRequest): RecordPage {
    const held = this.#shards.get(`${node}/${shard}`) ?? [];
    const left = held.filter((record) => compareBytes(recordKey(record), from) >= 0);
    let at = 0;
    const cursor = { next: () => left[at++] };
    const page = readPage(cursor, { to, limit: Math.min(limit, this.rowsMax), bytes });
    this.rowsRead += page.records.length;
    return page;
  }
}

interface Schedule {
  readonly random: Prng;
  /** Nodes whose every answer is a failure. */
  readonly failing: ReadonlySet<string>;
  readonly targets: readonly ScanTarget[];
}

/** One page: rounds of questions to every shard, answered in a random order. */
function pageOf(
  cluster: Cluster,
  asked: ScanRequest,
  { random, failing, targets }: Schedule,
): ScanReply | 'failed' {
  const level = asked.level as Level;
  const path = new ScanPath({
    request: asked,
    ring: cluster.ring,
    level,
    resolve: lastWriteWins,
    nowMs,
  });
  for (;;) {
    expect(path.begin(targets)).to.equal(undefined);
    const round = path.request();
    cluster.rounds += 1;
    expect(path.isRound(round)).to.equal(true);
    const questions = targets.flatMap(({ node, shards }) =>
      Array.from({ length: shards }, (_, shard) => ({ node, shard })),
    );
    let outcome: ReturnType<ScanPath['outcome']> = 'open';
    for (const { node, shard } of random.shuffled(questions)) {
      if (failing.has(node)) path.failed(node);
      else path.answered(node, cluster.read(node, shard, round));
      outcome = path.outcome();
      if (outcome !== 'open') break;
    }
    if (outcome === 'failed') return 'failed';
    expect(outcome, 'all have answered').to.not.equal('open');
    if (typeof outcome === 'object') return outcome;
    expect(path.isRound(round), 'late answers do not count').to.equal(false);
  }
}

/** Page after page to the end. */
function scanAll(cluster: Cluster, asked: ScanRequest, schedule: Schedule): Uint8Array[] {
  const found: Uint8Array[] = [];
  for (let after = asked.after; ; ) {
    const page = pageOf(cluster, { ...asked, after }, schedule);
    if (page === 'failed') throw new Error('the scan failed');
    expect(page.records.length).to.be.at.most(asked.limit);
    expect(page.nowMs).to.equal(nowMs);
    found.push(...page.records);
    if (page.next === undefined) return found;
    if (after !== undefined) expect(compareBytes(page.next, after)).to.be.above(0);
    after = page.next;
  }
}

const oneShard = (nodes: number): ScanTarget[] =>
  Array.from({ length: nodes }, (_, i) => ({ node: `n${i + 1}`, shards: 1 }));

/** Three nodes with one shard that all hold the same records. */
function fullCluster(records: readonly Uint8Array[], rowsMax = 1_000): Cluster {
  const cluster = new Cluster(oneShard(3), 3);
  cluster.rowsMax = rowsMax;
  for (const record of records) for (const { node } of cluster.targets) cluster.put(node, record);
  return cluster;
}

const inOrder = (cluster: Cluster): Schedule => ({
  random: new Prng(1),
  failing: new Set(),
  targets: cluster.targets,
});

const page = (cluster: Cluster, changes: Partial<ScanRequest> = {}): ScanReply | 'failed' =>
  pageOf(cluster, { ...request, ...changes }, inOrder(cluster));

function replyOf(reply: ScanReply | 'failed'): ScanReply {
  if (reply === 'failed') throw new Error('the scan failed');
  return reply;
}

const cases = fc.record({
  seed: fc.nat(),
  nodes: fc.integer({ min: 1, max: 4 }),
  shards: fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 4, maxLength: 4 }),
  replicationFactor: fc.integer({ min: 1, max: 3 }),
  level: fc.constantFrom<Level[]>('ONE', 'QUORUM', 'ALL'),
  keys: fc.uniqueArray(fc.stringMatching(/^[ab]{1,4}$/), { maxLength: 14 }),
  rowsMax: fc.integer({ min: 1, max: 4 }),
  limit: fc.integer({ min: 1, max: 6 }),
  prefix: fc.constantFrom('', 'a', 'ab', 'b'),
  hasFailure: fc.boolean(),
});

/** Acknowledged writes, each on enough of its replicas, older and newer; the newest of each key. */
function fill(cluster: Cluster, keys: readonly string[], level: Level, random: Prng): Uint8Array[] {
  return keys.map((key) => {
    let newest = makeRecord(key);
    const writes = 1 + random.int(3);
    for (let hlc = 1; hlc <= writes; hlc += 1) {
      const changes: RecordChanges = {
        hlc,
        isTombstone: random.chance(0.3),
        expiresAt: random.pick([0, 0, nowMs, nowMs + 1]),
      };
      newest = makeRecord(key, changes);
      const replicas = cluster.replicasOf(newest);
      // As many as meet every read at this level.
      const least = replicas.length - requiredAcks(level, replicas.length) + 1;
      const count = least + random.int(replicas.length - least + 1);
      for (const node of random.shuffled(replicas).slice(0, count)) cluster.put(node, newest);
    }
    return newest;
  });
}

describe('scan-path: random clusters', () => {
  it('scan-path: SC-3: page by page every live key comes once, in order, and no other', () => {
    const seen = { keys: 0, dropped: 0, failing: 0 };
    fc.assert(
      fc.property(cases, (given) => {
        const { seed, nodes, shards, replicationFactor, level, keys } = given;
        const random = new Prng(seed);
        const targets = oneShard(nodes).map(({ node }, i) => ({
          node,
          shards: shards[i] as number,
        }));
        const cluster = new Cluster(targets, replicationFactor);
        cluster.rowsMax = given.rowsMax;
        const newest = fill(cluster, keys, level, random);
        const prefix = given.prefix;
        const expected = newest
          .filter((record) => isLive(record, nowMs) && keyOf(record).startsWith(prefix))
          .sort((a, b) => compareBytes(recordKey(a), recordKey(b)));
        // One node may fail where the level can do without any.
        const canMiss = cluster.ring
          .replicaLists()
          .every((list) => requiredAcks(level, list.length) < list.length);
        const failing = given.hasFailure && canMiss ? [random.pick(targets).node] : [];
        const found = scanAll(
          cluster,
          { ...request, prefix: utf8.encode(prefix), limit: given.limit, level },
          { random, failing: new Set(failing), targets },
        );
        expect(found.map(hexOf)).to.deep.equal(expected.map(hexOf));
        seen.keys += found.length;
        seen.dropped += newest.length - found.length;
        seen.failing += failing.length;
      }),
      { numRuns: 500 },
    );
    for (const count of Object.values(seen)) expect(count).to.be.above(5);
  });
});

describe('scan-path', () => {
  it('scan-path: a page holds as many keys as asked, and a cursor only where more may follow', () => {
    const cluster = fullCluster(['a', 'b', 'c', 'd'].map((key) => makeRecord(key)));
    const first = replyOf(page(cluster, { limit: 3 }));
    expect(keysOf(first)).to.deep.equal(['a', 'b', 'c']);
    expect(utf8.decode(first.next ?? utf8.encode('none'))).to.equal('c');
    const exact = replyOf(page(cluster, { limit: 4 }));
    expect(keysOf(exact)).to.deep.equal(['a', 'b', 'c', 'd']);
    expect(exact.next).to.equal(undefined);
    const rest = replyOf(page(cluster, { limit: 3, after: first.next }));
    expect(keysOf(rest)).to.deep.equal(['d']);
    expect(rest.next).to.equal(undefined);
  });

  it('scan-path: it asks for the range of the prefix in its namespace, after the cursor', () => {
    const bounds = (changes: Partial<ScanRequest>): string[] => {
      const path = new ScanPath({
        request: { ...request, ...changes },
        ring: new Ring({ members: ['n1'], virtualNodes: 1, replicationFactor: 1 }),
        level: 'ONE',
        resolve: lastWriteWins,
        nowMs,
      });
      path.begin(oneShard(1));
      const { from, to } = path.request();
      return [hexOf(from), hexOf(to)];
    };
    expect(bounds({})).to.deep.equal(['00000001', '00000002']);
    expect(bounds({ namespace: 0xffff_ffff })).to.deep.equal(['ffffffff', 'nothing']);
    expect(bounds({ prefix: utf8.encode('ab') })).to.deep.equal(['000000016162', '000000016163']);
    expect(bounds({ prefix: Uint8Array.of(0x61, 0xff) })).to.deep.equal([
      '0000000161ff',
      '0000000162',
    ]);
    const after = (key: string): string[] =>
      bounds({ prefix: utf8.encode('b'), after: utf8.encode(key) });
    expect(after('bc')).to.deep.equal(['00000001626300', '0000000163']);
    // A cursor from before the prefix must not open the range before it.
    expect(after('a')).to.deep.equal(['0000000162', '0000000163']);
  });

  it('scan-path: RR-8: deleted and expired keys are merged first and left out after', () => {
    const cluster = new Cluster(oneShard(3), 3);
    const old = makeRecord('a', { hlc: 1 });
    const deleted = makeRecord('a', { hlc: 2, isTombstone: true });
    const expired = makeRecord('b', { hlc: 2, expiresAt: nowMs });
    for (const node of ['n1', 'n2', 'n3']) {
      cluster.put(node, old);
      cluster.put(node, makeRecord('b', { hlc: 1 }));
      cluster.put(node, makeRecord('c', { expiresAt: nowMs + 1 }));
    }
    for (const node of ['n2', 'n3']) {
      cluster.put(node, deleted);
      cluster.put(node, expired);
    }
    expect(keysOf(replyOf(page(cluster)))).to.deep.equal(['c']);
  });

  it('scan-path: SC-5: a long range of deleted keys ends the page early, with a cursor', () => {
    const keys = Array.from({ length: 40 }, (_, i) => `k${String(i).padStart(2, '0')}`);
    const records = keys.map((key) => makeRecord(key, { isTombstone: true }));
    const cluster = fullCluster([...records, makeRecord('z')], 1);
    const reply = replyOf(page(cluster));
    expect(keysOf(reply)).to.deep.equal([]);
    // One record a round, sixteen rounds.
    expect(utf8.decode(reply.next ?? utf8.encode('none'))).to.equal('k15');
    expect(scanAll(cluster, request, inOrder(cluster)).map(keyOf)).to.deep.equal(['z']);
  });

  describe('in a wide cluster', () => {
    const targets = Array.from({ length: 20 }, (_, i) => ({ node: `n${i + 1}`, shards: 8 }));
    const limit = 200;

    function fillWide(keys: number, keyAt: (n: number) => string): Cluster {
      const cluster = new Cluster(targets, 3, 64);
      for (let n = 0; n < keys; n += 1) {
        const record = makeRecord(keyAt(n));
        for (const node of cluster.replicasOf(record)) cluster.put(node, record);
      }
      return cluster;
    }

    it('scan-path: a shard is asked for its share of the page and some more', () => {
      const cluster = fillWide(10 * limit, (n) => `key${String(n).padStart(4, '0')}`);
      const reply = replyOf(page(cluster, { limit }));
      expect(reply.records.length).to.equal(limit);
      expect(cluster.rounds, 'rounds').to.equal(1);
      // Of 30 times the page, three copies of each key, that the shards hold.
      expect(cluster.rowsRead, 'records read').to.be.below(5 * 3 * limit);
      const all = scanAll(cluster, { ...request, limit }, inOrder(cluster));
      expect(all.length).to.equal(10 * limit);
    });

    it('scan-path: keys that lie together are read in a few rounds', () => {
      const cluster = fillWide(limit + 50, (n) => `{tag}${String(n).padStart(4, '0')}`);
      const reply = replyOf(page(cluster, { limit }));
      expect(reply.records.length).to.equal(limit);
      expect(cluster.rounds, 'rounds').to.be.within(2, 4);
      expect(scanAll(cluster, { ...request, limit }, inOrder(cluster)).length).to.equal(limit + 50);
    });
  });

  it('scan-path: a ring that too few nodes cover is refused before anything is asked', () => {
    const ring = new Ring({ members: ['n1', 'n2', 'n3'], virtualNodes: 4, replicationFactor: 3 });
    const start = (level: Level, targets: number): unknown =>
      new ScanPath({ request, ring, level, resolve: lastWriteWins, nowMs }).begin(
        oneShard(targets),
      );
    expect(start('QUORUM', 2)).to.equal(undefined);
    expect(start('QUORUM', 1)).to.deep.equal({
      required: 2,
      alive: 1,
      level: 'QUORUM',
      detail: 'a range needs 2 of 3 replicas, 1 alive',
    });
    expect(start('ALL', 2)).to.deep.include({ required: 3, alive: 2 });
    expect(start('ONE', 0)).to.deep.include({ required: 1, alive: 0 });
    const sparse = new Ring({ members: ['n1', 'n2', 'n3'], virtualNodes: 4, replicationFactor: 1 });
    const path = new ScanPath({
      request,
      ring: sparse,
      level: 'ONE',
      resolve: lastWriteWins,
      nowMs,
    });
    expect(path.begin(oneShard(2)), 'the ranges of n3').to.deep.include({ alive: 0 });
  });

  it('scan-path: it goes on while enough may answer, and fails when they cannot', () => {
    const cluster = fullCluster([makeRecord('a')]);
    const path = new ScanPath({
      request,
      ring: cluster.ring,
      level: 'QUORUM',
      resolve: lastWriteWins,
      nowMs,
    });
    path.begin(cluster.targets);
    const round = path.request();
    path.failed('n1');
    expect(path.outcome()).to.equal('open');
    path.answered('n2', cluster.read('n2', 0, round));
    expect(path.outcome()).to.equal('open');
    path.failed('n3');
    expect(path.outcome()).to.equal('failed');
  });

  it('scan-path: the ranges of the ring are not gone through after each answer (shards=96)', () => {
    const targets = oneShard(24).map(({ node }) => ({ node, shards: 4 }));
    const cluster = new Cluster(targets, 3);
    for (const key of ['a', 'b', 'c']) {
      const record = makeRecord(key);
      for (const node of cluster.replicasOf(record)) cluster.put(node, record);
    }
    const lists = cluster.ring.replicaLists();
    let walks = 0;
    cluster.ring.replicaLists = () => {
      walks += 1;
      return lists;
    };
    const failing = new Set(['n7']);
    const reply = pageOf(cluster, request, { ...inOrder(cluster), failing });
    expect(keysOf(replyOf(reply))).to.deep.equal(['a', 'b', 'c']);
    expect(walks).to.be.at.most(8);
  });

  it('scan-path: a node counts only when all its shards have answered', () => {
    const targets = [{ node: 'n1', shards: 3 }];
    const cluster = new Cluster(targets, 1);
    for (const key of ['a', 'b', 'c', 'd', 'e', 'f']) cluster.put('n1', makeRecord(key));
    const path = new ScanPath({
      request,
      ring: cluster.ring,
      level: 'ONE',
      resolve: lastWriteWins,
      nowMs,
    });
    path.begin(targets);
    const round = path.request();
    for (const shard of [2, 0]) {
      path.answered('n1', cluster.read('n1', shard, round));
      expect(path.outcome()).to.equal('open');
    }
    path.answered('n1', cluster.read('n1', 1, round));
    const outcome = path.outcome();
    expect(typeof outcome === 'object' ? keysOf(outcome) : outcome).to.deep.equal(
      Array.from('abcdef'),
    );
  });
});
