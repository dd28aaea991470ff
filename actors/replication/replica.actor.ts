// Applies and serves the records of one shard of this node, for coordinators anywhere. What comes
// from the wire is checked here; a request whose deadline has passed was dropped before (WR-6).

import {
  actor,
  type Call,
  type Context,
  type Deferred,
  type Done,
  type Later,
  type Ref,
} from '../../runtime/actor.ts';
import { type Failure, failure, KvError } from '../../runtime/errors.ts';
import type { BodyOf, Handlers, ReplyOf, Tell } from '../../runtime/protocol.ts';
import type { CatalogBytes } from '../catalog/protocol.ts';
import { type CatalogFileOptions, readCatalogFile } from '../model/catalog-file.ts';
import { DroppedKeys } from '../model/dropped-keys.ts';
import {
  checkRecord,
  namespaceBytes,
  recordHlc,
  recordIncarnation,
  recordKey,
  recordIsSet,
  recordToken,
  recordWriter,
} from '../model/record.ts';
import { setOf } from '../model/siblings.ts';
import { checkShard } from '../model/token.ts';
import type { RecordPage } from '../model/record-pages.ts';
import { notWhole } from '../model/wholeness.ts';
import type { Repairer } from '../repair/protocol.ts';
import type { RangeRequest, Store } from '../storage/protocol.ts';
import { Replica, type SiblingEventReply, type SiblingKeeper } from './protocol.ts';

export interface ReplicaOptions {
  readonly store: Ref<Store>;
  /** Takes sibling sets instead of the store. */
  readonly siblings: Ref<SiblingKeeper>;
  /** Shards of this node. */
  readonly shards: number;
  /** Rows and bytes of one range answer, at most. */
  readonly rangeRowsMax: number;
  readonly rangeBytesMax: number;
  /** Hears of records that come late; absent: nobody repairs. */
  readonly repairer?: Ref<Repairer>;
  /** How the catalog of namespaces is read; absent: none is ever dropped. */
  readonly catalog?: CatalogFileOptions;
  /** False: it counts only after `open`. Default true. */
  readonly isOpen?: boolean;
}

type ReadReply = ReplyOf<Replica['read']>;

interface Own {
  readonly floorKnown: Tell<{ readonly hlc: number }>;
}

const startTimeoutMs = 60_000;

class ReplicaActor implements Handlers<Replica>, Handlers<Own> {
  readonly #ctx: Context<Own, 'disk'>;
  readonly #options: ReplicaOptions;
  /** Records up to here are late. */
  #floorHlc = 0;
  #isOpen: boolean;
  readonly #dropped = new DroppedKeys();

  constructor(ctx: Context<Own, 'disk'>, options: ReplicaOptions) {
    this.#ctx = ctx;
    this.#options = options;
    this.#isOpen = options.isOpen ?? true;
  }

  start(): Later<void> | undefined {
    const { repairer, catalog } = this.#options;
    // Not asked for: the actor that keeps it may start later than this one.
    if (catalog !== undefined) this.#dropped.knows(readCatalogFile(this.#ctx.disk, catalog));
    if (repairer === undefined) return undefined;
    const { toSelf } = this.#ctx;
    return this.#ctx.session(async (session) => {
      toSelf('floorKnown', await session.ask(repairer, 'floor', {}, startTimeoutMs));
    });
  }

  namespacesChanged(known: CatalogBytes): object {
    this.#dropped.changed(known);
    return {};
  }

  floorKnown({ hlc }: { readonly hlc: number }): void {
    this.#floorHlc = Math.max(this.#floorHlc, hlc);
  }

  /** What is taken then must not count: its node may lack what this replica has acknowledged. */
  #refuseClosed(): void {
    if (!this.#isOpen) throw notWhole(this.#ctx.node);
  }

  open(): void {
    this.#isOpen = true;
  }

  write(
    body: { readonly record: Uint8Array },
    call: Call,
  ): { readonly lsn: number } | Later<{ readonly lsn: number }> {
    const { record } = body;
    this.#refuseClosed();
    this.#check(record);
    this.#dropped.refuseRecord(record);
    const isLate = recordHlc(record) <= this.#floorHlc;
    // The usual write is the store's to answer.
    if (!isLate && !recordIsSet(record))
      return this.#ctx.forward(this.#options.store, 'apply', body, call.deadlineMs);
    const later = this.#ctx.later<{ readonly lsn: number }>();
    if (!isLate) this.#apply(record, call, later);
    else
      this.#announce(record, call, (problem) => {
        if (problem === undefined) this.#apply(record, call, later);
        else later.fail(problem);
      });
    return later;
  }

  writeMany(
    { records }: BodyOf<Replica['writeMany']>,
    call: Call,
  ): Later<ReplyOf<Replica['writeMany']>> {
    this.#refuseClosed();
    for (const record of records) {
      this.#check(record);
      if (recordIsSet(record))
        throw new KvError('BAD_REQUEST', { detail: 'a set of siblings is written by itself' });
      this.#dropped.refuseRecord(record);
    }
    const later = this.#ctx.later<ReplyOf<Replica['writeMany']>>();
    const { store } = this.#options;
    const late = records.filter((record) => recordHlc(record) <= this.#floorHlc);
    const apply = (): void =>
      this.#ctx.ask(store, 'applyMany', { records }, this.#left(call), (problem, reply) =>
        settle(later, problem, reply),
      );
    const announceRest = (): void => {
      const next = late.pop();
      if (next === undefined) return apply();
      this.#announce(next, call, (problem) => {
        if (problem === undefined) announceRest();
        else later.fail(problem);
      });
    };
    announceRest();
    return later;
  }

  hint({ record }: BodyOf<Replica['hint']>, call: Call): Later<{ readonly isApplied: boolean }> {
    return this.#missed(record, call, true);
  }

  countedHint(
    { record }: BodyOf<Replica['countedHint']>,
    call: Call,
  ): Later<{ readonly isApplied: boolean }> {
    return this.#missed(record, call, false);
  }

  /** `isHint`: a repair may have overtaken it. */
  #missed(record: Uint8Array, call: Call, isHint: boolean): Later<{ readonly isApplied: boolean }> {
    this.#check(record);
    const later = this.#ctx.later<{ readonly isApplied: boolean }>();
    if (this.#dropped.has(recordKey(record))) {
      later.resolve({ isApplied: false });
      return later;
    }
    const apply = (): void =>
      this.#store(record, call, (problem) => {
        if (problem === undefined) later.resolve({ isApplied: true });
        else later.fail(problem);
      });
    if (recordHlc(record) > this.#floorHlc) apply();
    else
      this.#announce(
        record,
        call,
        (problem, reply) => {
          if (reply === undefined) later.fail(problem ?? failure('BUG'));
          else if (reply.isOvertaken) later.resolve({ isApplied: false });
          else apply();
        },
        isHint,
      );
    return later;
  }

  repairFloor({ hlc }: { readonly hlc: number }): object {
    this.#floorHlc = hlc;
    return {};
  }

  /** A repair may have passed this record by: the repairer hears of it before anyone can read it. */
  #announce(
    record: Uint8Array,
    call: Call,
    done: Done<{ readonly isOvertaken: boolean }>,
    isHint = false,
  ): void {
    const { repairer } = this.#options;
    if (repairer === undefined) return done(undefined, { isOvertaken: false });
    const announced = { token: recordToken(record), hlc: recordHlc(record), isHint };
    this.#ctx.ask(repairer, 'late', announced, this.#left(call), done);
  }

  #apply(record: Uint8Array, call: Call, later: Deferred<{ readonly lsn: number }>): void {
    this.#store(record, call, (problem, reply) => settle(later, problem, reply));
  }

  #store(record: Uint8Array, call: Call, done: Done<{ readonly lsn: number }>): void {
    const { siblings, store } = this.#options;
    if (recordIsSet(record)) this.#ctx.ask(siblings, 'merge', { record }, this.#left(call), done);
    else this.#ctx.askHere(store, 'apply', { record }, call.deadlineMs, done);
  }

  #check(record: Uint8Array): void {
    checkRecord(record);
    if (recordIsSet(record)) setOf(record);
    this.#checkShard(recordToken(record));
    // Stamp 0 stands for "nothing there" in the answers to digest reads.
    if (recordHlc(record) === 0)
      throw new KvError('BAD_REQUEST', { detail: 'bad record: no stamp' });
  }

  #checkShard(token: number): void {
    checkShard(token, this.#ctx.shard, this.#options.shards);
  }

  event(event: BodyOf<Replica['event']>, call: Call): Later<SiblingEventReply> {
    this.#refuseClosed();
    this.#checkShard(event.token);
    this.#dropped.refuse(event.key);
    const later = this.#ctx.later<SiblingEventReply>();
    const body = { ...event, aboveHlc: this.#floorHlc };
    this.#ctx.ask(this.#options.siblings, 'event', body, this.#left(call), (problem, reply) =>
      settle(later, problem, reply),
    );
    return later;
  }

  read({ key, hash, digest }: BodyOf<Replica['read']>, call: Call): ReadReply | Later<ReadReply> {
    this.#refuseClosed();
    this.#dropped.refuse(key);
    const { store } = this.#options;
    let later: Deferred<ReadReply> | undefined;
    let early: ReadReply | undefined;
    this.#ctx.askHere(store, 'read', { key, hash }, call.deadlineMs, (problem, reply) => {
      if (problem === undefined && later === undefined) early = answerOf(reply?.record, digest);
      else if (problem === undefined) later?.resolve(answerOf(reply?.record, digest));
      else (later ??= this.#ctx.later<ReadReply>()).fail(problem);
    });
    return early ?? (later ??= this.#ctx.later<ReadReply>());
  }

  range(request: RangeRequest, call: Call): Later<RecordPage> {
    this.#refuseClosed();
    const { rangeRowsMax, rangeBytesMax, store } = this.#options;
    if (request.from.length >= namespaceBytes) this.#dropped.refuse(request.from);
    const later = this.#ctx.later<RecordPage>();
    const limit = Math.min(request.limit, rangeRowsMax);
    const bytes = Math.min(request.bytes, rangeBytesMax);
    this.#ctx.ask(store, 'range', { ...request, limit, bytes }, this.#left(call), (problem, page) =>
      settle(later, problem, page),
    );
    return later;
  }

  #left(call: Call): number {
    return call.deadlineMs - this.#ctx.clock.monotonicMs();
  }
}

function answerOf(record: Uint8Array | undefined, digest: boolean): ReadReply {
  if (record === undefined) return { record: undefined, hlc: 0, writer: 0, incarnation: 0 };
  return {
    record: digest ? undefined : record,
    hlc: recordHlc(record),
    writer: recordWriter(record),
    incarnation: recordIncarnation(record),
  };
}

function settle<Reply>(
  later: Deferred<Reply>,
  problem: Failure | undefined,
  reply: Reply | undefined,
): void {
  if (problem === undefined && reply !== undefined) later.resolve(reply);
  else later.fail(problem ?? failure('BUG', { detail: 'answer without a body' }));
}

export const replica = actor({
  protocol: Replica,
  needs: ['disk'],
  create: (ctx: Context<Own, 'disk'>, options: ReplicaOptions) => new ReplicaActor(ctx, options),
});
