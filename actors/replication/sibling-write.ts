// A write in a namespace that keeps siblings, from the coordinator's side: first this replica adds it
// to the set that it holds and makes that durable, then the whole set goes to the other replicas,
// which join it with theirs. In this order a replica knows whatever others know of its counting; the
// price is a second sync, one after the other, in these namespaces only.

import type { BaseContext, Ref } from '../../runtime/actor.ts';
import { type Failure, failure } from '../../runtime/errors.ts';
import { recordEtag, recordVersion } from '../model/record.ts';
import { contextOf, liveSiblings, setOf } from '../model/siblings.ts';
import type { KeyHashes } from '../model/token.ts';
import { MissedReplicas } from './missed-replicas.ts';
import type { Replica, SiblingWriteReply, SiblingWriteRequest } from './protocol.ts';
import { type WriteOutcome, WritePath } from './write-path.ts';

export interface SiblingWrite {
  readonly request: SiblingWriteRequest;
  /** Never given twice by this coordinator. */
  readonly stamp: number;
  /** Storage key. */
  readonly key: Uint8Array;
  readonly hashes: KeyHashes;
  /** Live replicas; this node is the first of them. */
  readonly targets: readonly string[];
  /** Replicas that are not asked. */
  readonly absent: readonly string[];
  readonly required: number;
  /** Monotonic: when the replicas have to have answered. */
  readonly deadlineMs: number;
  readonly replica: (node: string) => Ref<Replica>;
  readonly hint: (node: string, record: Uint8Array) => void;
  /** Called once. */
  readonly done: (problem: Failure | undefined, reply: SiblingWriteReply | undefined) => void;
}

type Tools = Pick<BaseContext<object>, 'ask' | 'clock' | 'node'>;

export function sendSiblingWrite(ctx: Tools, write: SiblingWrite): void {
  const { request, key, hashes, deadlineMs, stamp } = write;
  const { value, valueType, ttlMs, context } = request;
  const event = { key, ...hashes, value, valueType, ttlMs, context, stamp };
  const leftMs = deadlineMs - ctx.clock.monotonicMs();
  ctx.ask(write.replica(ctx.node), 'event', event, leftMs, (problem, reply) => {
    if (reply === undefined) return write.done(problem ?? failure('BUG'), undefined);
    spread(ctx, write, reply.record, reply.existed);
  });
}

/** This replica has it: now the others. */
function spread(ctx: Tools, write: SiblingWrite, record: Uint8Array, existed: boolean): void {
  const { targets, required, absent, deadlineMs } = write;
  const path = new WritePath(required, targets.length);
  const missed = new MissedReplicas(absent);
  const settle = (outcome: WriteOutcome): void => {
    if (outcome.kind === 'acked') write.done(undefined, replyOf(ctx, record, existed));
    else if (outcome.kind === 'failed') write.done(outcome.failure, undefined);
  };
  for (const node of missed.answered(ctx.node, undefined)) write.hint(node, record);
  settle(path.acked());
  const leftMs = deadlineMs - ctx.clock.monotonicMs();
  for (const node of targets)
    if (node !== ctx.node)
      ctx.ask(write.replica(node), 'write', { record }, leftMs, (problem) => {
        for (const other of missed.answered(node, problem)) write.hint(other, record);
        settle(problem === undefined ? path.acked() : path.failed(problem));
      });
}

function replyOf(ctx: Tools, record: Uint8Array, existed: boolean): SiblingWriteReply {
  const nowMs = Math.floor(ctx.clock.wallMicros() / 1000);
  return {
    ...recordEtag(record),
    version: recordVersion(record),
    existed,
    siblings: liveSiblings(setOf(record), nowMs).length,
    context: contextOf(record),
    coordinator: ctx.node,
  };
}
