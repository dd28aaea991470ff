// Comparison of all replicas after a read: who is sent what, how often, and what is left alone.

import { expect } from 'chai';
import { BackgroundRepair } from '../../actors/replication/background-repair.ts';
import { Replica } from '../../actors/replication/protocol.ts';
import { encodeRecord, recordEtag, storageKey, valueTypes } from '../../actors/model/record.ts';
import { hashKey } from '../../actors/model/token.ts';
import { refTo } from '../../runtime/actor.ts';
import { utf8 } from '../../runtime/bytes.ts';

const key = storageKey(0, utf8.encode('k'));
const hashes = hashKey(key);
const nodes = ['n1', 'n2', 'n3'];

function recordAt(hlc: number, isTombstone = false): Uint8Array {
  return encodeRecord({
    key,
    value: utf8.encode(isTombstone ? '' : String(hlc)),
    valueType: valueTypes.bytes,
    isTombstone,
    hlc,
    writer: 1,
    incarnation: 1,
    version: 1,
    expiresAt: 0,
    token: hashes.token,
    hash: hashes.hash,
  });
}

/** Replicas as a map; asks are answered in the order in which they came, when the test says so. */
class Replicas {
  readonly held = new Map<string, Uint8Array>();
  readonly down = new Set<string>();
  readonly seen: string[] = [];
  readonly #waiting: (() => void)[] = [];
  nowMs = 0;
  readonly reached: string[] = [];

  readonly tools = {
    ask: ((ref: { node: string }, name: string, body: never, _ms: number, done: never): void => {
      this.#waiting.push(() => this.#answer(ref.node, name, body, done));
    }) as never,
    clock: { monotonicMs: () => this.nowMs, wallMicros: () => 1e15 } as never,
    // Every read is looked at.
    random: { int: () => 0, float: () => 0 } as never,
    probe: {
      reach: (label: string) => void this.reached.push(label),
      buggify: () => false,
    } as never,
  };

  settle(): void {
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) next();
  }

  #answer(
    node: string,
    name: string,
    body: { readonly digest?: boolean; readonly record?: Uint8Array },
    done: (problem: unknown, reply: unknown) => void,
  ): void {
    if (this.down.has(node)) return done({ code: 'TIMEOUT', fields: {} }, undefined);
    this.seen.push(`${name}${body.digest === true ? ' etag' : ''} ${node}`);
    if (body.record !== undefined) {
      this.held.set(node, body.record);
      return done(undefined, { lsn: 1 });
    }
    const record = this.held.get(node);
    const etag = record === undefined ? { hlc: 0, writer: 0, incarnation: 0 } : recordEtag(record);
    done(undefined, { ...etag, record: body.digest === true ? undefined : record });
  }
}

function start(perSecond = 100): { replicas: Replicas; background: BackgroundRepair } {
  const replicas = new Replicas();
  const background = new BackgroundRepair(replicas.tools, {
    perSecond,
    live: () => nodes,
    replica: (node) => refTo(Replica, node),
  });
  return { replicas, background };
}

describe('background read repair', () => {
  it('background read repair: who is behind or has nothing gets the newest record as it is (RR-4, RR-5)', () => {
    const { replicas, background } = start();
    const newest = recordAt(9);
    replicas.held.set('n1', recordAt(5));
    replicas.held.set('n2', newest);
    background.wasRead(key, hashes);
    replicas.settle();
    for (const node of nodes) expect(replicas.held.get(node), node).to.deep.equal(newest);
    expect(replicas.reached).to.deep.equal(Array(2).fill('background read repair'));
    replicas.seen.length = 0;
    background.wasRead(key, hashes);
    replicas.settle();
    expect(replicas.seen, 'all agree').to.deep.equal(nodes.map((node) => `read etag ${node}`));
  });

  it('background read repair: a mark of a delete is not brought back where it may have been purged (RR-6)', () => {
    const { replicas, background } = start();
    replicas.held.set('n1', recordAt(9, true));
    replicas.held.set('n2', recordAt(5));
    background.wasRead(key, hashes);
    replicas.settle();
    expect(replicas.held.get('n2'), 'an older value is hidden').to.deep.equal(recordAt(9, true));
    expect(replicas.held.has('n3'), 'nothing stays nothing').to.equal(false);
  });

  it('background read repair: one comparison of a key at a time, and so many per second', () => {
    const { replicas, background } = start(2);
    replicas.held.set('n1', recordAt(5));
    background.wasRead(key, hashes);
    background.wasRead(key, hashes);
    replicas.settle();
    expect(replicas.seen.filter((each) => each === 'read etag n1').length).to.equal(1);
    background.wasRead(key, hashes);
    background.wasRead(key, hashes);
    replicas.settle();
    background.wasRead(key, hashes);
    replicas.settle();
    expect(replicas.seen.filter((each) => each === 'read etag n1').length).to.equal(2);
    replicas.nowMs = 500;
    background.wasRead(key, hashes);
    replicas.settle();
    expect(replicas.seen.filter((each) => each === 'read etag n1').length).to.equal(3);
  });

  it('background read repair: a replica that does not answer is left to hints and repair', () => {
    const { replicas, background } = start();
    replicas.held.set('n1', recordAt(5));
    replicas.down.add('n2');
    background.wasRead(key, hashes);
    replicas.settle();
    expect(replicas.held.get('n3')).to.deep.equal(recordAt(5));
    expect(replicas.seen.some((each) => each.endsWith('n2'))).to.equal(false);
    replicas.down.delete('n2');
    background.wasRead(key, hashes);
    replicas.settle();
    expect(replicas.held.get('n2'), 'it was not left open').to.deep.equal(recordAt(5));
  });

  it('background read repair: 0 per second is none', () => {
    const { replicas, background } = start(0);
    background.wasRead(key, hashes);
    replicas.settle();
    expect(replicas.seen).to.deep.equal([]);
  });
});
