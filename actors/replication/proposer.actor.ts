// Runs serial operations on the keys of its shard (PX-*). Operations on one key that come while a
// round is under way wait and go into the next one together: a counter that hundreds of clients
// increment costs one decision for all that have gathered (PX-14). What a round does is in
// serial-round.ts.

import {
  actor,
  type Call,
  type Context,
  type Deferred,
  type Later,
  refTo,
} from '../../runtime/actor.ts';
import { base64url } from '../../runtime/bytes.ts';
import { type Failure, failure, KvError, toFailure } from '../../runtime/errors.ts';
import type { Counter } from '../../runtime/metrics.ts';
import type { BodyOf, Handlers, Tell } from '../../runtime/protocol.ts';
import type { PeerStates } from '../membership/protocol.ts';
import { maxSkewMicros } from '../model/hlc.ts';
import {
  keyBytesMax,
  noEtag,
  recordEtag,
  recordExpiresAt,
  recordVersion,
  storageKey,
} from '../model/record.ts';
import type { Resolve } from '../model/resolve.ts';
import type { Ring } from '../model/ring.ts';
import { hashKey, shardOf } from '../model/token.ts';
import { Acceptor, Proposer, type SerialReply, type SerialRequest } from './protocol.ts';
import { ReplicaView } from './replica-view.ts';
import type { Ballot } from './serial-history.ts';
import type { Evaluated, KeyFacts } from './serial-operations.ts';
import { type Decided, SerialRound } from './serial-round.ts';

export interface ProposerOptions {
  readonly ring: Ring;
  readonly resolve: Resolve;
  /** Stands for this node in ballots; another number than that of its plain writes. */
  readonly writer: number;
  readonly incarnation: number;
  readonly shards: number;
  /** Operations of one key that one round takes, 1 to 256. */
  readonly operationsPerRound: number;
  /** Longest value that an operation may make. */
  readonly valueBytesMax: number;
  /** A step that a majority has not answered after so many milliseconds goes to all replicas. */
  readonly sparesAfterMs: number;
  /** Operations that may wait, over all keys. */
  readonly waitingMax: number;
}

interface Waiting {
  readonly request: SerialRequest;
  readonly deadlineMs: number;
  readonly later: Deferred<SerialReply>;
}

interface KeyQueue {
  readonly facts: KeyFacts;
  readonly waiting: Waiting[];
  underWay: readonly Waiting[];
}

interface Own {
  readonly decided: Tell<{ readonly name: string; readonly decided: Decided }>;
  readonly undecided: Tell<{ readonly name: string; readonly problem: Failure }>;
}

class ProposerActor implements Handlers<Proposer>, Handlers<Own> {
  readonly #ctx: Context<Own>;
  readonly #options: ProposerOptions;
  readonly #view: ReplicaView;
  readonly #queues = new Map<string, KeyQueue>();
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

  peersChanged({ peers }: PeerStates): void {
    this.#view.changed(peers);
  }

  drain(): void {
    this.#isDraining = true;
  }

  run(request: SerialRequest, { deadlineMs }: Call): Later<SerialReply> {
    const { shards, waitingMax } = this.#options;
    if (this.#isDraining) throw new KvError('DRAINING', { node: this.#ctx.node });
    if (this.#waiting >= waitingMax)
      throw new KvError('OVERLOADED', { waiting: this.#waiting, max: waitingMax });
    if (request.key.length > keyBytesMax)
      throw new KvError('TOO_LARGE', { bytes: request.key.length, limit: keyBytesMax });
    this.#refuseFuture(request);
    const key = storageKey(request.namespace, request.key);
    const { token, hash } = hashKey(key);
    const isOurs = shardOf(token, shards) === this.#ctx.shard;
    if (!isOurs || !this.#view.replicasOf(token).includes(this.#ctx.node))
      throw new KvError('UNAVAILABLE', {
        detail: `this part of node ${this.#ctx.node} does not hold the key`,
      });
    const later = this.#ctx.later<SerialReply>();
    const name = base64url.encode(key);
    let queue = this.#queues.get(name);
    if (queue === undefined) {
      queue = { facts: { key, token, hash }, waiting: [], underWay: [] };
      this.#queues.set(name, queue);
    }
    queue.waiting.push({ request, deadlineMs, later });
    this.#waiting += 1;
    this.#operations.add();
    if (queue.underWay.length === 0) this.#begin(name, queue);
    return later;
  }

  /** Alone, before it raises the ballot of a round that it shares with others (HLC-5). */
  #refuseFuture({ afterHlc = 0 }: SerialRequest): void {
    if (afterHlc < Math.floor(this.#ctx.clock.wallMicros()) + maxSkewMicros) return;
    throw new KvError('FUTURE_VERSION', {
      stored: afterHlc,
      detail: 'the session knows a version that is further in the future than clocks may differ',
    });
  }

  /** Those whose time is over are not done any more: their clients have been told so. */
  #takeDue({ waiting }: KeyQueue): readonly Waiting[] {
    const nowMs = this.#ctx.clock.monotonicMs();
    const due: Waiting[] = [];
    while (due.length < this.#options.operationsPerRound) {
      const one = waiting.shift();
      if (one === undefined) break;
      if (one.deadlineMs > nowMs) {
        due.push(one);
        continue;
      }
      this.#waiting -= 1;
      one.later.fail(failure('CONTENTION', { detail: 'its turn did not come in time' }));
    }
    return due;
  }

  #begin(name: string, queue: KeyQueue): void {
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
    const replicas = view.replicasOf(token);
    const parts = {
      ...{ clock, random, probe, facts, replicas, resolve, valueBytesMax, sparesAfterMs },
      deadlineMs: Math.max(...underWay.map((one) => one.deadlineMs)),
      afterHlc: Math.max(...requests.map(({ afterHlc = 0 }) => afterHlc)),
      live: () => view.live(replicas),
      acceptorOf: (node: string) => refTo(Acceptor, node, shardOf(token, view.shardsOf(node))),
      nextBallot: (floor: number, count: number) => this.#nextBallot(floor, count),
    };
    this.#ctx.session(async (session) => {
      try {
        const decided = await new SerialRound({ ...parts, session }, requests).run();
        toSelf('decided', { name, decided });
      } catch (error) {
        if (!(error instanceof KvError)) throw error;
        toSelf('undecided', { name, problem: toFailure(error) });
      }
    });
  }

  decided({ name, decided }: BodyOf<Own['decided']>): void {
    const { outcomes, nowMs } = decided;
    this.#ended(name, ({ later }, i) => {
      const evaluated = outcomes[i] as Evaluated;
      if ('refusal' in evaluated) later.fail(evaluated.refusal.toFailure());
      else later.resolve(replyOf(evaluated, nowMs, this.#ctx.node));
    });
  }

  undecided({ name, problem }: BodyOf<Own['undecided']>): void {
    this.#ended(name, ({ later }) => later.fail(problem));
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
