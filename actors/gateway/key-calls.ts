// One operation on a key, run at its best coordinator, then at others where that is safe (rule ID-1):
// what the HTTP and the Redis gateway share. Callbacks, no promises: this is the hot path of both.

import { type Context, type Done, type Ref, refTo } from '../../runtime/actor.ts';
import { type Failure, failure, KvError } from '../../runtime/errors.ts';
import type { BodyOf, ReplyOf } from '../../runtime/protocol.ts';
import { isSerial, type Level, requiredAcks } from '../model/consistency.ts';
import { storageKey } from '../model/record.ts';
import type { Ring } from '../model/ring.ts';
import { hashKey } from '../model/token.ts';
import {
  type BatchReply,
  type BatchRequest,
  BatchWriter,
  type Coordinator,
  type Proposer,
  type SerialReply,
  type SerialRequest,
  type TransactionReply,
  transactionOperationsMax,
  type TransactionRequest,
  type WriteRequest,
} from '../replication/protocol.ts';
import { attemptsNext, finalFailure, type KeyVerb } from './attempts.ts';
import type { NamespaceGuard } from './namespace-guard.ts';
import type { KeyRouter } from './key-router.ts';
import { asRead, asWritten, explained, serialRead } from './serial-requests.ts';

export interface KeyCallsOptions {
  readonly ctx: Pick<Context, 'ask' | 'askHere' | 'clock' | 'node' | 'probe'>;
  readonly router: KeyRouter;
  readonly ring: Ring;
  readonly guard: NamespaceGuard;
}

/** Coordinators to try, best first; `earlier`: what was wrong at the one before `index`. */
interface Route {
  readonly candidates: readonly Ref<Coordinator>[];
  readonly index?: number;
  readonly earlier?: Failure;
}

interface FailedAttempt {
  readonly route: Route;
  readonly problem: Failure;
  /** At this node's own coordinator. */
  readonly isOwn: boolean;
}

export class KeyCalls {
  readonly #options: KeyCallsOptions;

  constructor(options: KeyCallsOptions) {
    this.#options = options;
  }

  /** `deadlineMs`: monotonic. `done` gets the failure as a client hears it. */
  run<K extends KeyVerb>(
    verb: K,
    body: BodyOf<Coordinator[K]>,
    deadlineMs: number,
    done: Done<ReplyOf<Coordinator[K]>>,
  ): void {
    const { guard } = this.#options;
    let admitted: BodyOf<Coordinator[K]>;
    try {
      admitted = this.#withTerms(verb, body);
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      return done(error.toFailure(), undefined);
    }
    if (!guard.isCounted(body.namespace)) return this.#run(verb, admitted, deadlineMs, done);
    guard.admit(body.namespace, (problem) => {
      if (problem === undefined) this.#run(verb, admitted, deadlineMs, done);
      else done(problem, undefined);
    });
  }

  /** What the namespace makes of a request; undefined where `done` has heard why it does not go. */
  #admitted<Request>(apply: () => Request, done: Done<never>): Request | undefined {
    try {
      return apply();
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      done(error.toFailure(), undefined);
      return undefined;
    }
  }

  #withTerms<K extends KeyVerb>(verb: K, body: BodyOf<Coordinator[K]>): BodyOf<Coordinator[K]> {
    const { guard } = this.#options;
    if (verb !== 'read') return guard.withLifetime(body as WriteRequest) as typeof body;
    guard.checkRead(body.namespace);
    return body;
  }

  #run<K extends KeyVerb>(
    verb: K,
    body: BodyOf<Coordinator[K]>,
    deadlineMs: number,
    done: Done<ReplyOf<Coordinator[K]>>,
  ): void {
    if (isSerial(body.level as Level)) return this.#decided(verb, body, deadlineMs, done);
    const { ctx, router } = this.#options;
    const { namespace, key } = body;
    const first = router.sole ?? router.own(hashKey(storageKey(namespace, key)).token);
    if (first === undefined)
      return this.#attempt(
        verb,
        body,
        deadlineMs,
        { candidates: this.#candidates(verb, body) },
        done,
      );
    ctx.askHere(first, verb, body, deadlineMs, (problem, reply) => {
      if (problem === undefined) return done(undefined, reply);
      // The first of them is the one that was asked; most requests never need the others.
      const route = { candidates: this.#candidates(verb, body) };
      this.#failed(verb, body, deadlineMs, { route, problem, isOwn: true }, done);
    });
  }

  #candidates<K extends KeyVerb>(
    verb: K,
    { namespace, key, level }: BodyOf<Coordinator[K]>,
  ): readonly Ref<Coordinator>[] {
    const { token } = hashKey(storageKey(namespace, key));
    return this.#options.router.candidates(token, verb === 'write' && level === 'ANY');
  }

  #attempt<K extends KeyVerb>(
    verb: K,
    body: BodyOf<Coordinator[K]>,
    deadlineMs: number,
    route: Route,
    done: Done<ReplyOf<Coordinator[K]>>,
  ): void {
    const { askHere, clock, node } = this.#options.ctx;
    const { candidates, index = 0, earlier } = route;
    const target = candidates[index];
    if (target === undefined || (index > 0 && deadlineMs <= clock.monotonicMs()))
      return done(earlier ?? this.#unavailable(body.level), undefined);
    askHere(target, verb, body, deadlineMs, (problem, reply) => {
      if (problem === undefined) return done(undefined, reply);
      const isOwn = target.node === node;
      this.#failed(verb, body, deadlineMs, { route, problem, isOwn }, done);
    });
  }

  #failed<K extends KeyVerb>(
    verb: K,
    body: BodyOf<Coordinator[K]>,
    deadlineMs: number,
    { route: { candidates, index = 0 }, problem, isOwn }: FailedAttempt,
    done: Done<ReplyOf<Coordinator[K]>>,
  ): void {
    // A plain write of a key with serial operations becomes one of them (PX-18).
    if (problem.code === 'SERIAL_KEY') return this.#decided(verb, body, deadlineMs, done);
    const earlier = finalFailure(verb, problem);
    if (!attemptsNext(verb, problem, isOwn)) return done(earlier, undefined);
    this.#attempt(verb, body, deadlineMs, { candidates, index: index + 1, earlier }, done);
  }

  /** A plain read or write at a level that is decided: as the reply that its verb has. */
  #decided<K extends KeyVerb>(
    verb: K,
    body: BodyOf<Coordinator[K]>,
    deadlineMs: number,
    done: Done<never>,
  ): void {
    const { namespace, key } = body;
    const read = explained(serialRead({ namespace, key }), 'explain' in body && body.explain);
    const request = verb === 'read' ? read : { ...read, ...writeOf(body as WriteRequest) };
    this.#serial(request, deadlineMs, (problem, reply) => {
      if (reply === undefined) return done(problem, undefined);
      done(undefined, (verb === 'read' ? asRead(reply) : asWritten(reply)) as never);
    });
  }

  /** A serial operation, at the primary of its key. */
  serial(request: SerialRequest, deadlineMs: number, done: Done<SerialReply>): void {
    const { guard } = this.#options;
    const admitted = this.#admitted(() => guard.withSerialLifetime(request), done);
    if (admitted === undefined) return;
    guard.admit(request.namespace, (problem) => {
      if (problem === undefined) this.#serial(admitted, deadlineMs, done);
      else done(problem, undefined);
    });
  }

  /** Commands on keys of one hash tag, decided as one (docs/decisions/0021). */
  transact(request: TransactionRequest, deadlineMs: number, done: Done<TransactionReply>): void {
    const { guard } = this.#options;
    const { namespace } = request;
    const admitted = this.#admitted(() => this.#withLifetimes(request), done);
    if (admitted === undefined) return;
    const operations = request.commands.flatMap((command) => command.operations);
    if (operations.length > transactionOperationsMax) {
      const detail = `expected at most ${transactionOperationsMax} operations`;
      return done(failure('BAD_REQUEST', { detail }), undefined);
    }
    const isRead = operations.every(({ verb }) => verb === 'read');
    // Every operation counts against the quota, before any of them is done.
    guard.admitAll(namespace, operations.length, (problem) => {
      if (problem !== undefined) return done(problem, undefined);
      this.#propose('transact', admitted, isRead ? 'read' : 'write', deadlineMs, done);
    });
  }

  #withLifetimes(request: TransactionRequest): TransactionRequest {
    const { guard } = this.#options;
    guard.checkRead(request.namespace);
    const commands = request.commands.map((command) => ({
      ...command,
      operations: command.operations.map((operation) => guard.withSerialLifetime(operation)),
    }));
    return { ...request, commands };
  }

  /** An atomic batch, by the writer of this node. */
  atomic(request: BatchRequest, deadlineMs: number, done: Done<BatchReply>): void {
    const { guard, ctx } = this.#options;
    const { namespace } = request;
    const admitted = this.#admitted(
      () =>
        request.operations.map(({ key, value, valueType, ttlMs }) =>
          guard.withLifetime({ namespace, key, value, valueType, ttlMs }),
        ),
      done,
    );
    if (admitted === undefined) return;
    // Every operation counts against the quota, before any of them is done.
    guard.admitAll(namespace, admitted.length, (problem) => {
      if (problem !== undefined) return done(problem, undefined);
      const body = { ...request, operations: admitted };
      const leftMs = deadlineMs - ctx.clock.monotonicMs();
      ctx.ask(refTo(BatchWriter, ctx.node), 'run', body, leftMs, (refused, reply) =>
        done(refused === undefined ? undefined : finalFailure('write', refused), reply),
      );
    });
  }

  #serial(request: SerialRequest, deadlineMs: number, done: Done<SerialReply>): void {
    this.#propose('run', request, request.verb === 'read' ? 'read' : 'write', deadlineMs, done);
  }

  #propose<K extends 'run' | 'transact'>(
    name: K,
    request: BodyOf<Proposer[K]>,
    verb: KeyVerb,
    deadlineMs: number,
    done: Done<ReplyOf<Proposer[K]>>,
  ): void {
    const { ctx, router } = this.#options;
    const { ask, clock, node, probe } = ctx;
    const { token } = hashKey(storageKey(request.namespace, request.key));
    // Which replica proposes is a matter of speed alone (PX-14): rounds of several must be safe too.
    const candidates = probe.buggify('serial rounds meet')
      ? router.proposers(token).reverse()
      : router.proposers(token);
    const attempt = (index: number, earlier: Failure | undefined): void => {
      const target = candidates[index];
      const leftMs = deadlineMs - clock.monotonicMs();
      if (target === undefined || (index > 0 && leftMs <= 0))
        return done(earlier ?? this.#unavailable('SERIAL'), undefined);
      ask(target, name, request, leftMs, (problem, reply) => {
        if (problem === undefined) return done(undefined, reply);
        const final = finalFailure(verb, problem);
        if (attemptsNext(verb, problem, target.node === node)) attempt(index + 1, final);
        else done(final, undefined);
      });
    };
    attempt(0, undefined);
  }

  #unavailable(level: string): Failure {
    const { replicationFactor } = this.#options.ring;
    const required = requiredAcks(level as Level, replicationFactor);
    return failure('UNAVAILABLE', {
      required,
      alive: 0,
      detail: `${required} of ${replicationFactor} replicas needed, none of them is reachable`,
    });
  }
}

function writeOf({ value, valueType, ttlMs, afterHlc }: WriteRequest): Partial<SerialRequest> {
  if (value === undefined) return { verb: 'delete', afterHlc };
  return { verb: 'write', value, valueType, ttlMs, afterHlc };
}
