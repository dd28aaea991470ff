// Records and replicas for the tests of the data model and of replication: records whose fields are
// fixed where a test does not care, and node n1 with its replica and its peers n2, n3 ... played by
// the test, which sees every question in order and answers when it likes.

import fc from 'fast-check';
import { actor, type Call, type Context, type Deferred, type Later } from '../runtime/actor.ts';
import { noBytes, utf8 } from '../runtime/bytes.ts';
import type { Envelope } from '../runtime/envelope.ts';
import type { Capabilities } from '../runtime/environment.ts';
import { type ErrorCode, failure } from '../runtime/errors.ts';
import type { BodyOf, Handlers, Protocol, ReplyOf } from '../runtime/protocol.ts';
import { encodeRecord, recordEtag, type RecordFields, storageKey } from '../actors/model/record.ts';
import type { RecordPage } from '../actors/model/record-pages.ts';
import { addEvent, emptySet, recordOfSet } from '../actors/model/siblings.ts';
import { hashKey } from '../actors/model/token.ts';
import { Coordinator, Replica } from '../actors/replication/protocol.ts';
import { Store } from '../actors/storage/protocol.ts';
import { Kit, RecordingLink } from './kit.ts';

export type RecordChanges = Partial<Omit<RecordFields, 'key' | 'value'>> & {
  readonly namespace?: number;
  readonly value?: string;
};

/** A record whose fields are fixed where nothing else is said. */
export function makeRecord(key: string, changes: RecordChanges = {}): Uint8Array {
  const { namespace = 1, value = 'value', ...fields } = changes;
  const storage = storageKey(namespace, utf8.encode(key));
  return encodeRecord({
    key: storage,
    value: fields.isTombstone === true ? noBytes : utf8.encode(value),
    valueType: 0,
    isTombstone: false,
    hlc: 1_000,
    writer: 7,
    incarnation: 1,
    version: 1,
    expiresAt: 0,
    ...hashKey(storage),
    ...fields,
  });
}

/** Writes of one key with few different stamps, so that equal ones are common. */
export const writesOfOneKey = fc
  .record({
    hlc: fc.constantFrom(1, 2, 0xffff_ffff, 0x1_0000_0000, Number.MAX_SAFE_INTEGER),
    writer: fc.constantFrom(0, 1, 0xffff_ffff),
    incarnation: fc.constantFrom(0, 1, 0x8000_0000),
    isTombstone: fc.boolean(),
    version: fc.constantFrom(1, 2, 300),
    expiresAt: fc.constantFrom(0, 1, 255, 256, Number.MAX_SAFE_INTEGER),
    value: fc.constantFrom('', 'a', 'b', 'ab'),
  })
  .map((changes) => makeRecord('key', changes));

export const hexOf = (bytes: Uint8Array | undefined): string =>
  bytes === undefined ? 'nothing' : Buffer.from(bytes).toString('hex');

/** The answer of a replica that holds `record`. */
export function readReply(
  record: Uint8Array | undefined,
  digest = false,
): ReplyOf<Replica['read']> {
  if (record === undefined) return { record, hlc: 0, writer: 0, incarnation: 0 };
  return { record: digest ? undefined : record, ...recordEtag(record) };
}

/** A question to a replica or store that waits for the test's answer. */
export interface Asked {
  readonly node: string;
  readonly shard: number;
  readonly name: string;
  readonly body: unknown;
  /** Time that the asker gives it, milliseconds. */
  readonly leftMs: number;
  readonly reply: (body: unknown) => void;
  readonly fail: (code: ErrorCode) => void;
}

interface FakeOptions {
  readonly heard: (asked: Asked) => void;
}

class Fake {
  readonly #ctx: Context;
  readonly #heard: FakeOptions['heard'];

  constructor(ctx: Context, { heard }: FakeOptions) {
    this.#ctx = ctx;
    this.#heard = heard;
  }

  protected ask<Reply>(name: string, body: unknown, call: Call): Later<Reply> {
    const later: Deferred<Reply> = this.#ctx.later<Reply>();
    const { node, shard, clock } = this.#ctx;
    this.#heard({
      node,
      shard,
      name,
      body,
      leftMs: call.deadlineMs - clock.monotonicMs(),
      reply: (reply) => later.resolve(reply as Reply),
      fail: (code) => later.fail(failure(code)),
    });
    return later;
  }
}

class FakeReplica extends Fake implements Handlers<Replica> {
  write(body: BodyOf<Replica['write']>, call: Call): Later<{ readonly lsn: number }> {
    return this.ask('write', body, call);
  }

  writeMany(body: BodyOf<Replica['writeMany']>, call: Call): Later<{ readonly lsn: number }> {
    return this.ask('writeMany', body, call);
  }

  read(body: BodyOf<Replica['read']>, call: Call): Later<ReplyOf<Replica['read']>> {
    return this.ask('read', body, call);
  }

  range(body: BodyOf<Replica['range']>, call: Call): Later<RecordPage> {
    return this.ask('range', body, call);
  }

  hint(body: BodyOf<Replica['hint']>, call: Call): Later<ReplyOf<Replica['hint']>> {
    return this.ask('hint', body, call);
  }
  countedHint(
    body: BodyOf<Replica['countedHint']>,
    call: Call,
  ): Later<ReplyOf<Replica['countedHint']>> {
    return this.ask('countedHint', body, call);
  }

  event(body: BodyOf<Replica['event']>, call: Call): Later<ReplyOf<Replica['event']>> {
    return this.ask('event', body, call);
  }

  open(): void {
    // Nothing to answer.
  }

  repairFloor(body: BodyOf<Replica['repairFloor']>, call: Call): Later<object> {
    return this.ask('repairFloor', body, call);
  }

  namespacesChanged(): object {
    return {};
  }
}

class FakeStore extends Fake implements Handlers<Store> {
  feed(): { readonly sequence: number } {
    return { sequence: 0 };
  }

  namespacesChanged(): object {
    return {};
  }

  applyMany(body: BodyOf<Store['applyMany']>, call: Call): Later<ReplyOf<Store['applyMany']>> {
    return this.ask('applyMany', body, call);
  }

  apply(body: BodyOf<Store['apply']>, call: Call): Later<ReplyOf<Store['apply']>> {
    return this.ask('apply', body, call);
  }

  ping(): object {
    return {};
  }

  read(body: BodyOf<Store['read']>, call: Call): Later<ReplyOf<Store['read']>> {
    return this.ask('read', body, call);
  }

  range(body: BodyOf<Store['range']>, call: Call): Later<RecordPage> {
    return this.ask('range', body, call);
  }

  flush(body: object, call: Call): Later<ReplyOf<Store['flush']>> {
    return this.ask('flush', body, call);
  }

  stats(body: object, call: Call): Later<ReplyOf<Store['stats']>> {
    return this.ask('stats', body, call);
  }

  linkTables(body: BodyOf<Store['linkTables']>, call: Call): Later<ReplyOf<Store['linkTables']>> {
    return this.ask('linkTables', body, call);
  }

  purgeBelow(): void {
    // Nothing to answer.
  }

  tables(): ReplyOf<Store['tables']> {
    return { tables: [] };
  }

  damaged(): void {
    // Nothing to answer.
  }
}

const fakeReplica = actor({
  protocol: Replica,
  create: (ctx: Context, options: FakeOptions) => new FakeReplica(ctx, options),
});

const fakeStore = actor({
  protocol: Store,
  create: (ctx: Context, options: FakeOptions) => new FakeStore(ctx, options),
});

/** Hands over what is asked of another node, at once. */
class PeerLink extends RecordingLink {
  readonly #heard: (envelope: Envelope) => void;

  constructor(name: string, heard: (envelope: Envelope) => void) {
    super(name);
    this.#heard = heard;
  }

  override readonly send = (envelope: Envelope): boolean => {
    this.sent.push(envelope);
    if (envelope.kind === 'ask') this.#heard(envelope);
    return true;
  };
}

/** Node n1 in a kernel; everything that it asks of replicas and stores waits in `asked`. */
export class ReplicaKit extends Kit {
  /** Not yet taken, in the order of asking. */
  asked: Asked[] = [];

  constructor(
    capabilities: Partial<Capabilities> = {},
    protocols: readonly Protocol[] = [Coordinator, Replica, Store],
  ) {
    super(protocols, capabilities);
  }

  /** Lets the test play the replica of n1's shard. */
  async playReplica(shard = 0): Promise<void> {
    await this.spawn(fakeReplica, { heard: (asked: Asked) => this.asked.push(asked) }, { shard });
  }

  /** Lets the test play the store of n1's shard. */
  async playStore(shard = 0): Promise<void> {
    await this.spawn(fakeStore, { heard: (asked: Asked) => this.asked.push(asked) }, { shard });
  }

  /** Lets the test play every actor of another node. */
  playPeer(node: string): void {
    const link = new PeerLink(node, (envelope) => {
      const answer = (changes: Partial<Envelope>): void =>
        this.kernel.deliver({ ...envelope, node: 'n1', from: node, ...changes });
      this.asked.push({
        node,
        shard: envelope.shard,
        name: envelope.name,
        body: envelope.body,
        leftMs: envelope.deadlineMs - this.host.nowMs,
        reply: (body) => answer({ kind: 'reply', body }),
        fail: (code) => answer({ kind: 'error', failure: failure(code) }),
      });
    });
    this.links.set(node, link);
  }

  /** The oldest question of this name to this node, taken off the list. */
  async take(node: string, name: string): Promise<Asked> {
    await this.host.settle();
    const found = this.asked.find((asked) => asked.node === node && asked.name === name);
    if (found === undefined) {
      const waiting = this.asked.map((asked) => `${asked.node}/${asked.name}`).join(', ');
      throw new Error(`nothing asks ${node} to ${name}; what waits: ${waiting}`);
    }
    this.asked = this.asked.filter((asked) => asked !== found);
    return found;
  }

  /** Who is asked what and waits, as `node/name`, sorted: other nodes hear of it before n1 does. */
  async waiting(): Promise<string[]> {
    await this.host.settle();
    return this.asked.map(({ node, name }) => `${node}/${name}`).sort();
  }
}

/** A set of siblings of `key` that has heard of so many writers, from `first` on. */
export function setOfWriters(key: string, first: number, count: number): Uint8Array {
  let set = emptySet;
  for (let writer = first; writer < first + count; writer += 1)
    set = addEvent(set, { writer, epoch: 1 }, set.clock, {
      ...{ hlc: 10, expiresAt: 0, valueType: 0 },
      value: utf8.encode('v'),
    });
  const stored = storageKey(1, utf8.encode(key));
  return recordOfSet({ key: stored, ...hashKey(stored) }, set, 10);
}
