// Runs serial operations on the keys of its shard (PX-*). Operations on one group of keys (one key,
// or all of one hash tag: acceptor-state.ts) that come while a
// round is under way wait and go into the next one together: a counter that hundreds of clients
// increment costs one decision for all that have gathered (PX-14). What a round does is in
// serial-round.ts.

import { actor, type Call, type Context, type Later, refTo } from '../../runtime/actor.ts';
import { base64url, equalBytes } from '../../runtime/bytes.ts';
import { errorOf, type Failure, failure, KvError, toFailure } from '../../runtime/errors.ts';
import type { Counter } from '../../runtime/metrics.ts';
import type { BodyOf, Handlers, Tell } from '../../runtime/protocol.ts';
import type { PeerStates } from '../membership/protocol.ts';
import { quorumOf } from '../model/consistency.ts';
import { maxSkewMicros } from '../model/hlc.ts';
import {
  keyBytesMax,
  namespaceBytes,
  noEtag,
  recordEtag,
  recordExpiresAt,
  recordVersion,
  storageKey,
} from '../model/record.ts';
import type { Resolve } from '../model/resolve.ts';
import type { Ring } from '../model/ring.ts';
import { hashKey, shardOf } from '../model/token.ts';
import { groupOf } from './acceptor-state.ts';
import { explainedSession, Explanation } from './explain.ts';
import {
  Acceptor,
  Proposer,
  type SerialReply,
  type SerialRequest,
  type TransactionReply,
  transactionOperationsMax,
  type TransactionRequest,
} from './protocol.ts';
import { ReplicaView } from './replica-view.ts';
import type { Ballot } from './serial-history.ts';
import {
  type Evaluated,
  type GroupFacts,
  keysOfRound,
  operationsOf,
  type RoundRequest,
} from './serial-operations.ts';
import { type Decided, SerialRound } from './serial-round.ts';

export interface ProposerOptions {
  readonly ring: Ring;
  readonly resolve: Resolve;
  /** Stands for this node in ballots; another number than that of its plain writes. */
  readonly writer: number;
  readonly incarnation: number;
  readonly shards: number;
  /** Operations of one group that one round takes, 1 to 256; a transaction of more has its own. */
  readonly operationsPerRound: number;
  /** Longest value that an operation may make. */
  readonly valueBytesMax: number;
  /** Records that a decision on several keys may write, bytes. Default 8 MiB, which is the most. */
  readonly decisionBytesMax?: number;
  /** A step that a majority has not answered after so many milliseconds goes to all replicas. */
  readonly sparesAfterMs: number;
  /** Operations that may wait, over all keys. */
  readonly waitingMax: number;
}

interface Waiting {
  readonly request: RoundRequest;
  readonly deadlineMs: number;
  readonly answer: (evaluated: Evaluated, nowMs: number, explanation?: string) => void;
  readonly fail: (problem: Failure) => void;
}

interface GroupQueue {
  readonly facts: GroupFacts;
  readonly waiting: Waiting[];
  underWay: readonly Waiting[];
  /** So many of those that wait do not fit into a round with others. */
  alone: number;
}

interface Own {
  readonly decided: Tell<{
    readonly name: string;
    readonly decided: Decided;
    readonly explanation: string | undefined;
  }>;
  readonly undecided: Tell<{ readonly name: string; readonly problem: Failure }>;
}

class ProposerActor implements Handlers<Proposer>, Handlers<Own> {
  readonly #ctx: Context<Own>;
  readonly #options: ProposerOptions;
  readonly #view: ReplicaView;
  readonly #queues = new Map<string, GroupQueue>();
  #waiting = 0;
  #lastMicros = 0;
  #isDraining = false;
  readonly #rounds: Counter;
  readonly #operations: Counter;

  constructor(ctx: Context<Own>, options: ProposerOptions) {
    this.#ctx = ctx;
    this.#options = options;
    this.#view = new ReplicaView(options.ring, { node: ctx.node, shards: options.shards });
    const labels = { shard: String(ctx.shard) };
    const { metrics } = ctx;
    this.#rounds = metrics.counter(
      'kvd_serial_rounds_total',
      'Rounds of serial operations',
      labels,
    );
    this.#operations = metrics.counter('kvd_serial_operations_total', 'Serial operations', labels);
    metrics.gauge('kvd_serial_waiting', 'Operations that wait', () => this.#waiting, labels);
  }

  peersChanged(states: PeerStates): void {
    this.#view.changed(states);
  }

  drain(): void {
    this.#isDraining = true;
  }

  run(request: SerialRequest, { deadlineMs }: Call): Later<SerialReply> {
    const facts = this.#groupOf(request);
    const later = this.#ctx.later<SerialReply>();
    const coordinator = this.#ctx.node;
    const answer = (evaluated: Evaluated, nowMs: number, explanation?: string): void => {
      if ('refusal' in evaluated) later.fail(evaluated.refusal.toFailure());
      else if ('outcome' in evaluated) {
        const reply = replyOf(evaluated, nowMs, coordinator);
        later.resolve(request.explain === true ? { ...reply, explanation } : reply);
      } else later.fail(failure('BUG'));
    };
    this.#take(facts, { request, deadlineMs, answer, fail: (problem) => later.fail(problem) });
    return later;
  }

  transact(request: TransactionRequest, { deadlineMs }: Call): Later<TransactionReply> {
    const facts = this.#groupOf(request);
    checkTransaction(request);
    const coordinator = this.#ctx.node;
    const later = this.#ctx.later<TransactionReply>();
    const answer = (evaluated: Evaluated, nowMs: number): void => {
      if ('refusal' in evaluated) later.fail(evaluated.refusal.toFailure());
      else if ('transaction' in evaluated)
        later.resolve({ ...evaluated.transaction, nowMs, coordinator });
      else later.fail(failure('BUG'));
    };
    this.#take(facts, { request, deadlineMs, answer, fail: (problem) => later.fail(problem) });
    return later;
  }

  /** The group of a request that this proposer can take now. */
  #groupOf(request: Pick<SerialRequest, 'namespace' | 'key' | 'afterHlc'>): GroupFacts {
    const { shards, waitingMax } = this.#options;
    if (this.#isDraining) throw new KvError('DRAINING', { node: this.#ctx.node });
    const trouble = this.#view.clockTrouble();
    if (trouble !== undefined) throw errorOf(trouble);
    if (this.#waiting >= waitingMax)
      throw new KvError('OVERLOADED', { waiting: this.#waiting, max: waitingMax });
    if (request.key.length > keyBytesMax)
      throw new KvError('TOO_LARGE', { bytes: request.key.length, limit: keyBytesMax });
    this.#refuseFuture(request);
    const key = storageKey(request.namespace, request.key);
    const { token } = hashKey(key);
    const isOurs = shardOf(token, shards) === this.#ctx.shard;
    if (!isOurs || !this.#view.replicasOf(token).includes(this.#ctx.node))
      throw new KvError('UNAVAILABLE', {
        detail: `this part of node ${this.#ctx.node} does not hold the key`,
      });
    return { key: groupOf(key), token };
  }

  #take(facts: GroupFacts, one: Waiting): void {
    const name = base64url.encode(facts.key);
    let queue = this.#queues.get(name);
    if (queue === undefined) {
      queue = { facts, waiting: [], underWay: [], alone: 0 };
      this.#queues.set(name, queue);
    }
    queue.waiting.push(one);
    this.#waiting += 1;
    this.#operations.add();
    if (queue.underWay.length === 0) this.#begin(name, queue);
  }

  /** Alone, before it raises the ballot of a round that it shares with others (HLC-5). */
  #refuseFuture({ afterHlc = 0 }: Pick<SerialRequest, 'afterHlc'>): void {
    if (afterHlc < Math.floor(this.#ctx.clock.wallMicros()) + maxSkewMicros) return;
    throw new KvError('FUTURE_VERSION', {
      stored: afterHlc,
      detail: 'the session knows a version that is further in the future than clocks may differ',
    });
  }

  /** Those whose time is over are not done any more: their clients have been told so. */
  #takeDue(queue: GroupQueue): readonly Waiting[] {
    const nowMs = this.#ctx.clock.monotonicMs();
    while (queue.waiting.length > 0) {
      const taken = queue.waiting.splice(0, this.#nextRound(queue));
      const due = taken.filter(({ deadlineMs }) => deadlineMs > nowMs);
      this.#waiting -= taken.length - due.length;
      for (const { deadlineMs, fail } of taken)
        if (deadlineMs <= nowMs)
          fail(failure('CONTENTION', { detail: 'its turn did not come in time' }));
      if (due.length > 0) return due;
    }
    return [];
  }

  #begin(name: string, queue: GroupQueue): void {
    queue.underWay = this.#takeDue(queue);
    const { facts, underWay } = queue;
    if (underWay.length === 0) return void this.#queues.delete(name);
    const { clock, random, probe, toSelf } = this.#ctx;
    const { resolve, valueBytesMax, sparesAfterMs } = this.#options;
    const requests = underWay.map(({ request }) => request);
    if (requests.length > 1) probe.reach('serial operations merged');
    this.#rounds.add();
    const view = this.#view;
    const { token } = facts;
    const { node } = this.#ctx;
    const replicas = view.replicasOf(token);
    const parts = {
      ...{ clock, random, probe, facts, replicas, resolve, valueBytesMax, sparesAfterMs },
      decisionBytes: this.#options.decisionBytesMax,
      deadlineMs: Math.max(...underWay.map((one) => one.deadlineMs)),
      afterHlc: Math.max(0, ...requests.flatMap(operationsOf).map(({ afterHlc = 0 }) => afterHlc)),
      live: () => view.live(replicas),
      acceptorOf: (node: string) => refTo(Acceptor, node, shardOf(token, view.shardsOf(node))),
      nextBallot: (floor: number, count: number) => this.#nextBallot(floor, count),
    };
    const isExplained = requests.some((request) => 'explain' in request && request.explain);
    this.#ctx.session(async (own) => {
      const explanation = isExplained ? new Explanation(clock) : undefined;
      const session = explanation === undefined ? own : explainedSession(own, explanation);
      try {
        const decided = await new SerialRound({ ...parts, session }, requests).run();
        const text = explanation?.text({
          ...{ coordinator: node, level: 'SERIAL', replicas },
          required: quorumOf(replicas.length),
          operations: requests.length,
        });
        toSelf('decided', { name, decided, explanation: text });
      } catch (error) {
        if (!(error instanceof KvError)) throw error;
        toSelf('undecided', { name, problem: toFailure(error) });
      }
    });
  }

  decided({ name, decided, explanation }: BodyOf<Own['decided']>): void {
    const { outcomes, nowMs } = decided;
    this.#ended(name, ({ answer }, i) => answer(outcomes[i] as Evaluated, nowMs, explanation));
  }

  undecided({ name, problem }: BodyOf<Own['undecided']>): void {
    const queue = this.#queues.get(name);
    if (queue !== undefined && problem.code === 'TOO_LARGE' && queue.underWay.length > 1) {
      // Together they read too much: nothing has happened, and each is tried by itself.
      queue.alone += queue.underWay.length;
      queue.waiting.unshift(...queue.underWay);
      return this.#begin(name, queue);
    }
    this.#ended(name, ({ fail }) => fail(problem));
  }

  /** How many of those that wait go into the next round. */
  #nextRound(queue: GroupQueue): number {
    if (queue.alone > 0) {
      queue.alone -= 1;
      return 1;
    }
    const { operationsPerRound } = this.#options;
    let operations = 0;
    let bytes = 0;
    const end = queue.waiting.findIndex(({ request }, i) => {
      const all = operationsOf(request);
      operations += Math.max(1, all.length);
      bytes += all.reduce((sum, { value }) => sum + (value?.length ?? 0), 0);
      return i > 0 && (operations > operationsPerRound || bytes > roundBytesMax);
    });
    return end < 0 ? queue.waiting.length : end;
  }

  #ended(name: string, answer: (one: Waiting, index: number) => void): void {
    const queue = this.#queues.get(name);
    if (queue === undefined) return;
    const { underWay } = queue;
    queue.underWay = [];
    this.#waiting -= underWay.length;
    underWay.forEach(answer);
    if (queue.waiting.length > 0) this.#begin(name, queue);
    else this.#queues.delete(name);
  }

  /**
   * Unique by writer and incarnation, and by growing within them (PX-1). What lies further ahead
   * than clocks may differ moves no other key's ballots (HLC-4): neither the floor of this key, nor
   * what a clock gave out before it was set back. A ballot that comes a second time after that finds
   * a majority that has promised it, or was never used for a proposal.
   */
  #nextBallot(floor: number, count: number): Ballot {
    const { writer, incarnation } = this.#options;
    const wallMicros = Math.floor(this.#ctx.clock.wallMicros());
    const bound = wallMicros + maxSkewMicros;
    const last = this.#lastMicros <= bound ? this.#lastMicros : 0;
    const hlc = Math.max(last, wallMicros, floor) + 1;
    if (hlc <= bound) this.#lastMicros = hlc + count;
    return { hlc, writer, incarnation };
  }
}

/** Values that the operations of one round bring, where it takes more than one. */
const roundBytesMax = 4 * 1024 * 1024;

/** One namespace, one group, and no more than a round takes. */
function checkTransaction(request: TransactionRequest): void {
  const operations = operationsOf(request);
  const wrong = (detail: string): KvError => new KvError('BAD_REQUEST', { detail });
  if (operations.length > transactionOperationsMax)
    throw wrong(`expected at most ${transactionOperationsMax} operations`);
  if (operations.some(({ namespace }) => namespace !== request.namespace))
    throw wrong('expected operations of one namespace');
  const group = groupOf(storageKey(request.namespace, request.key));
  for (const key of keysOfRound([request])) {
    if (key.length > namespaceBytes + keyBytesMax)
      throw new KvError('TOO_LARGE', { bytes: key.length - namespaceBytes, limit: keyBytesMax });
    if (!equalBytes(groupOf(key), group)) throw wrong('expected keys of one hash tag');
  }
}

function replyOf(
  { outcome }: Extract<Evaluated, { outcome: unknown }>,
  nowMs: number,
  coordinator: string,
): SerialReply {
  const { isApplied, record, written, before, number, mark = noEtag } = outcome;
  const facts = { isApplied, record, before, number, nowMs, coordinator };
  if (written !== undefined) return { ...facts, ...written };
  if (record === undefined) return { ...facts, ...mark, version: 0, expiresAt: 0 };
  const version = recordVersion(record);
  return { ...facts, ...recordEtag(record), version, expiresAt: recordExpiresAt(record) };
}

export const proposer = actor({
  protocol: Proposer,
  create: (ctx: Context<Own>, options: ProposerOptions) => new ProposerActor(ctx, options),
});
