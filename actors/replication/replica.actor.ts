// Applies and serves the records of one shard of this node, for coordinators anywhere. What comes
// from the wire is checked here; a request whose deadline has passed was dropped before (WR-6).

import {
  actor,
  type Call,
  type Context,
  type Deferred,
  type Later,
  type Ref,
} from '../../runtime/actor.ts';
import { type Failure, failure, KvError } from '../../runtime/errors.ts';
import type { BodyOf, Handlers, ReplyOf } from '../../runtime/protocol.ts';
import {
  checkRecord,
  recordHlc,
  recordIncarnation,
  recordToken,
  recordWriter,
} from '../model/record.ts';
import { shardOf } from '../model/token.ts';
import type { RecordPage } from '../model/record-pages.ts';
import type { RangeRequest, Store } from '../storage/protocol.ts';
import { Replica } from './protocol.ts';

export interface ReplicaOptions {
  readonly store: Ref<Store>;
  /** Shards of this node. */
  readonly shards: number;
  /** Rows and bytes of one range answer, at most. */
  readonly rangeRowsMax: number;
  readonly rangeBytesMax: number;
}

type ReadReply = ReplyOf<Replica['read']>;

class ReplicaActor implements Handlers<Replica> {
  readonly #ctx: Context;
  readonly #options: ReplicaOptions;

  constructor(ctx: Context, options: ReplicaOptions) {
    this.#ctx = ctx;
    this.#options = options;
  }

  write({ record }: { readonly record: Uint8Array }, call: Call): Later<{ readonly lsn: number }> {
    this.#check(record);
    const later = this.#ctx.later<{ readonly lsn: number }>();
    this.#apply(record, call, later);
    return later;
  }

  hint({ record }: BodyOf<Replica['hint']>, call: Call): Later<{ readonly isApplied: boolean }> {
    this.#check(record);
    const later = this.#ctx.later<{ readonly isApplied: boolean }>();
    this.#ctx.ask(this.#options.store, 'apply', { record }, this.#left(call), (problem) => {
      if (problem === undefined) later.resolve({ isApplied: true });
      else later.fail(problem);
    });
    return later;
  }

  #apply(record: Uint8Array, call: Call, later: Deferred<{ readonly lsn: number }>): void {
    this.#ctx.ask(this.#options.store, 'apply', { record }, this.#left(call), (problem, reply) =>
      settle(later, problem, reply),
    );
  }

  #check(record: Uint8Array): void {
    checkRecord(record);
    if (shardOf(recordToken(record), this.#options.shards) !== this.#ctx.shard)
      throw new KvError('BAD_REQUEST', { detail: 'record of another shard' });
    // Stamp 0 stands for "nothing there" in the answers to digest reads.
    if (recordHlc(record) === 0)
      throw new KvError('BAD_REQUEST', { detail: 'bad record: no stamp' });
  }

  read({ key, hash, digest }: BodyOf<Replica['read']>, call: Call): Later<ReadReply> {
    const later = this.#ctx.later<ReadReply>();
    this.#ctx.ask(
      this.#options.store,
      'read',
      { key, hash },
      this.#left(call),
      (problem, reply) => {
        if (problem !== undefined) later.fail(problem);
        else later.resolve(answerOf(reply?.record, digest));
      },
    );
    return later;
  }

  range(request: RangeRequest, call: Call): Later<RecordPage> {
    const { rangeRowsMax, rangeBytesMax, store } = this.#options;
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
  create: (ctx: Context, options: ReplicaOptions) => new ReplicaActor(ctx, options),
});
