// One kernel per thread: it owns the actors of that thread and moves messages between them, to
// other threads and to other nodes (by the router's links).
//
// Turns: one message at a time, to its end. Actors with mail stand in a run queue; each gets up
// to 64 turns, then the next; after 512 turns in all the event loop gets its chance. Sending
// never runs the receiver (the hot path's exception: nested-turns.ts); an actor is never entered
// while a handler of it runs, so state cannot
// change under a handler's feet.

import type { Done, Ref } from './actor.ts';
import { AskTable, type PendingAsk } from './ask-table.ts';
import { Cell, DeferredReply, drainAll, logCrash, logFailure, mailboxSamples } from './cell.ts';
import { createContext, type KernelSide } from './context.ts';
import {
  type Envelope,
  type Link,
  ownAnswer,
  ownTell,
  type Router,
  sendAnswer,
  transcoded,
} from './envelope.ts';
import type { Host } from './environment.ts';
import {
  assert,
  BugError,
  CorruptionError,
  describeThrown,
  type Failure,
  failure,
  errorOf,
  KvError,
  toFailure,
} from './errors.ts';
import { DirectAsks, type TurnSide } from './direct-asks.ts';
import type { KernelOptions } from './kernel-options.ts';
import { Ring } from './mailbox.ts';
import { NestedTurns, type NestingSide } from './nested-turns.ts';
import { type MetricSample, plainSample } from './metrics.ts';
import type { AskNames, BodyOf, Descriptor, ReplyOf, TellNames } from './protocol.ts';
import type { ActorSpec } from './supervisor.ts';

const turnsPerActor = 64;
const turnsPerRun = 512;
/** One turn in so many is timed. */
const sampleEvery = 32;

export class Kernel {
  readonly node: string;
  readonly #host: Host;
  readonly #router: Router;
  readonly #options: KernelOptions;
  readonly #descriptors = new Map<string, ReadonlyMap<string, Descriptor>>();
  readonly #cells = new Map<string, (Cell | undefined)[]>();
  readonly #started: Cell[] = [];
  readonly #runQueue = new Ring<Cell>();
  readonly #asks: AskTable;
  readonly #nestingSide: NestingSide;
  readonly #side: KernelSide;
  readonly #direct: DirectAsks;
  #scheduled = false;
  #running = false;
  #stopped = false;
  /** What asks from outside of any actor are told after the stop. */
  #stopProblem: Failure | undefined;
  /** The ask that is being made is one of askNow. */
  #isDirect = false;
  #nowMs: number;
  #turns = 0;
  #trace = '';
  #tellsDropped = 0;
  /**
   * From outside of any actor and of any turn: takes turns here and now until the answer is there.
   * Undefined: nothing is left to do on this thread and there is no answer; a later one is dropped.
   */
  readonly askNow: DirectAsks['now'];
  /**
   * As askNow, but the actor handles it at once, ahead of the mail that waits; what it answers in
   * that turn has cost neither an envelope nor an open ask. The same as askNow for an actor that is
   * elsewhere or not running.
   */
  readonly askAhead: DirectAsks['ahead'];
  /**
   * From outside of any actor: as `ask`, but where nothing waits before it the actor has its turn
   * before this returns, and `done` may run before too.
   */
  readonly askHere: DirectAsks['here'];

  constructor(options: KernelOptions) {
    this.node = options.node;
    this.#options = options;
    this.#host = options.host;
    this.#router = options.router;
    this.#nowMs = options.host.clock.monotonicMs();
    for (const { name, descriptors } of options.protocols) this.#descriptors.set(name, descriptors);
    this.#asks = new AskTable(options.host.timers, (id) => this.#expire(id));
    this.#asks.onTimer = () => {
      if (this.#stopped) return;
      this.#nowMs = this.#host.clock.monotonicMs();
      this.#asks.tick(this.#nowMs);
    };
    this.#nestingSide = this.#sideOfNestedTurns();
    this.#side = this.#sideOfContexts();
    this.#direct = new DirectAsks(this.#sideOfDirectAsks());
    ({ now: this.askNow, ahead: this.askAhead, here: this.askHere } = this.#direct);
  }

  /** Asks that wait for an answer. */
  get openAsks(): number {
    return this.#asks.size;
  }

  // ---- actors ------------------------------------------------------------------------------

  /** Makes the actor and runs its start; messages wait until that has ended. */
  spawn(spec: ActorSpec): Promise<void> {
    const { name } = spec.kind.protocol;
    const cell = new Cell(spec, `${this.node}/${name}/${spec.shard}`);
    const shards = this.#cells.get(name) ?? [];
    this.#cells.set(name, shards);
    assert(shards[spec.shard] === undefined, `two actors at ${cell.address}`);
    shards[spec.shard] = cell;
    this.#started.push(cell);
    return new Promise((resolve, reject) => {
      cell.onFirstStart = (problem) => {
        cell.onFirstStart = undefined;
        if (problem === undefined) resolve();
        else reject(problem);
      };
      this.#instantiate(cell);
    });
  }

  /** Lets every actor finish, in the reverse order of starting. */
  drain(): Promise<void> {
    return drainAll([...this.#started].reverse());
  }

  /** Nothing is delivered or sent any more. Asks from outside of any actor end with `problem`. */
  stop(problem?: Failure): void {
    this.#stopped = true;
    this.#stopProblem = problem;
    if (problem === undefined) return;
    for (const id of this.#asks.select((ask) => ask.cell === undefined))
      this.#settle(id, problem, undefined);
  }

  #instantiate(cell: Cell): void {
    const { kind, options } = cell.spec;
    const { incarnation } = cell;
    cell.state = 'starting';
    try {
      const context = createContext(this.#side, cell);
      cell.instance = kind.create(context as never, options) as Cell['instance'];
      const start = cell.instance['start'] as (() => unknown) | undefined;
      cell.isEntering = true;
      const result = start?.call(cell.instance);
      cell.isEntering = false;
      if (!(result instanceof DeferredReply)) this.#ready(cell);
      else
        result.onSettled({
          settled: (problem) => {
            if (cell.incarnation !== incarnation) return;
            if (problem === undefined) this.#ready(cell);
            else this.#startFailed(cell, errorOf(problem));
          },
        });
    } catch (error) {
      cell.isEntering = false;
      this.#startFailed(cell, error instanceof Error ? error : new BugError(String(error)));
    }
  }

  #ready(cell: Cell): void {
    cell.state = 'running';
    this.#enqueue(cell);
    cell.onFirstStart?.(undefined);
  }

  /** The first start fails to whoever spawned it; a later one is a crash again. */
  #startFailed(cell: Cell, problem: Error): void {
    if (cell.incarnation > 0) this.#crash(cell, problem, undefined);
    else {
      cell.state = 'stopped';
      cell.onFirstStart?.(problem);
    }
  }

  #crash(cell: Cell, error: unknown, poison: Envelope | undefined): void {
    const { log, clock } = this.#host;
    const { summary, stack } = describeThrown(error);
    logCrash(log, cell, { name: poison?.name, trace: this.#trace }, stack);
    if (poison !== undefined)
      this.#answer(poison, failure('ACTOR_RESTARTED', { actor: cell.address }), undefined);
    cell.incarnation += 1;
    cell.mailbox.clearOwn();
    cell.sampled = undefined;
    for (const id of this.#asks.select((ask) => ask.cell === cell)) this.#asks.take(id);
    for (const { cell: watching, incarnation, name, body } of cell.watchers)
      if (watching.incarnation === incarnation) this.#own(watching, name, body);
    cell.watchers = [];
    const pauseMs = cell.crashes.next(clock.monotonicMs());
    if (pauseMs === undefined) {
      cell.state = 'stopped';
      const reason = `actor ${cell.address} crashed: ${summary}`;
      cell.onFirstStart?.(new BugError(reason));
      this.#host.stopNode(reason);
      return;
    }
    cell.state = 'back-off';
    this.#host.timers.after(pauseMs, () => {
      if (!this.#stopped) this.#instantiate(cell);
    });
  }

  // ---- sending -----------------------------------------------------------------------------

  tell<P, K extends TellNames<P>>(ref: Ref<P>, name: K, body: BodyOf<P[K]>): void {
    this.#tell(ref, name, body);
  }

  #tell(ref: Ref<unknown>, name: string, body: unknown): void {
    if (!this.#send(ref, name, body, 0, Infinity, undefined)) this.#tellsDropped += 1;
  }

  /** From outside of any actor: an edge, a launcher, a test. */
  ask<P, K extends AskNames<P>>(
    ref: Ref<P>,
    name: K,
    body: BodyOf<P[K]>,
    timeoutMs: number,
    done: Done<ReplyOf<P[K]>>,
    trace = '',
  ): void {
    this.#traced(trace, () => {
      this.#ask(undefined, ref, name, body, timeoutMs, done);
    });
  }

  #ask(
    cell: Cell | undefined,
    ref: Ref<unknown>,
    name: string,
    body: unknown,
    timeoutMs: number,
    done: Done<never>,
  ): void {
    // Outside of a turn (a file was synced, a session goes on) the time of the last turn is old.
    if (!this.#running) this.#nowMs = this.#host.clock.monotonicMs();
    const deadlineMs = this.#nowMs + Math.max(0, timeoutMs);
    const ask: PendingAsk = {
      cell,
      incarnation: cell === undefined ? 0 : cell.incarnation,
      name,
      to: ref.node,
      trace: this.#trace,
      link: undefined,
      isDirect: this.#isDirect,
      done,
    };
    const id = this.#asks.open(ask, this.#nowMs, deadlineMs);
    if (!this.#send(ref, name, body, id, deadlineMs, ask))
      this.#settle(
        id,
        failure('OVERLOADED', { to: `${ref.node}/${ref.actor}`, message: name }),
        undefined,
      );
  }

  #send(
    ref: Ref<unknown>,
    name: string,
    body: unknown,
    askId: number,
    deadlineMs: number,
    ask: PendingAsk | undefined,
  ): boolean {
    if (this.#stopped) return true;
    const kind = ask === undefined ? 'tell' : 'ask';
    const descriptor = this.#descriptors.get(ref.actor)?.get(name);
    assert(descriptor?.kind === kind, `no ${kind} ${name} in the protocol of ${ref.actor}`);
    const envelope: Envelope = {
      kind,
      node: ref.node,
      actor: ref.actor,
      shard: ref.shard,
      name,
      descriptor,
      from: this.node,
      askId,
      deadlineMs,
      via: undefined,
      trace: this.#trace,
      body,
      failure: undefined,
    };
    if (ref.node === this.node) {
      const cell = this.#cells.get(ref.actor)?.[ref.shard];
      if (cell !== undefined)
        return this.#deliverTo(cell, transcoded(envelope, this.#options.transcode));
    }
    const link = this.#router.linkTo(ref.node, ref.actor, ref.shard);
    if (link === undefined) {
      // Nothing was sent, so nothing can have happened: not UNREACHABLE, whose effect is unknown.
      const nowhere = failure('NOT_CONNECTED', { node: ref.node });
      if (askId !== 0) this.#settle(askId, nowhere, undefined);
      return askId !== 0;
    }
    if (ask !== undefined) ask.link = link;
    return link.send(envelope);
  }

  // ---- receiving ---------------------------------------------------------------------------

  /** An envelope that a link received. */
  deliver(envelope: Envelope): void {
    if (this.#stopped) return;
    if (envelope.kind === 'reply') return this.#settle(envelope.askId, undefined, envelope.body);
    if (envelope.kind === 'error')
      return this.#settle(envelope.askId, envelope.failure ?? failure('BUG'), undefined);
    const cell = this.#cells.get(envelope.actor)?.[envelope.shard];
    if (cell === undefined) {
      const actor = `${envelope.actor}/${envelope.shard}`;
      this.#answer(envelope, failure('NO_SUCH_ACTOR', { node: this.node, actor }), undefined);
    } else if (!this.#deliverTo(cell, envelope)) {
      const full = failure('OVERLOADED', { actor: cell.address, capacity: cell.mailbox.capacity });
      this.#answer(envelope, full, undefined);
    }
  }

  /** The link is gone: asks that left through it will not be answered. */
  linkLost(link: Link): void {
    const code = link.wasOpen === false ? 'NOT_CONNECTED' : 'UNREACHABLE';
    for (const id of this.#asks.select((ask) => ask.link === link)) {
      const node = this.#asks.get(id)?.to ?? '';
      this.#settle(id, failure(code, { node }), undefined);
    }
  }

  #deliverTo(cell: Cell, envelope: Envelope): boolean {
    if (cell.state === 'stopped') return false;
    if (!cell.mailbox.push(envelope, envelope.descriptor?.lane ?? 'control')) {
      cell.refused += 1;
      return false;
    }
    if (cell.sampled === undefined) {
      cell.sampled = envelope;
      cell.sampledAtMs = this.#running ? this.#nowMs : this.#host.clock.monotonicMs();
    }
    this.#enqueue(cell);
    return true;
  }

  #own(cell: Cell, name: string, body: unknown): void {
    const envelope = ownTell(this.node, cell, name, this.#trace, body);
    assert(cell.mailbox.pushOwn(envelope), `the own lane of ${cell.address} is full`);
    this.#enqueue(cell);
  }

  // ---- answers -----------------------------------------------------------------------------

  #answer(envelope: Envelope, problem: Failure | undefined, reply: unknown): void {
    if (envelope.kind !== 'ask' || this.#stopped) return;
    if (envelope.via === undefined)
      return this.#settle(envelope.askId, problem, reply, envelope.descriptor);
    sendAnswer(envelope, envelope.via, this.node, problem, reply);
  }

  #settle(
    askId: number,
    problem: Failure | undefined,
    reply: unknown,
    descriptor?: Descriptor,
  ): void {
    const ask = this.#asks.get(askId);
    if (ask === undefined) return;
    let body = reply;
    const { transcode } = this.#options;
    if (transcode !== undefined && descriptor !== undefined && problem === undefined)
      body = transcode(descriptor, true, reply);
    if (ask.cell === undefined) {
      this.#asks.take(askId);
      if (ask.isDirect) return ask.done(problem, body as never);
      this.#host.timers.soon(() => {
        if (!this.#stopped || this.#stopProblem !== undefined) ask.done(problem, body as never);
      });
      return;
    }
    const envelope = ownAnswer(this.node, ask.cell, ask, askId, problem, body);
    assert(ask.cell.mailbox.pushOwn(envelope), `the own lane of ${ask.cell.address} is full`);
    this.#enqueue(ask.cell);
  }

  #expire(askId: number): void {
    const ask = this.#asks.get(askId);
    if (ask !== undefined)
      this.#settle(askId, failure('TIMEOUT', { node: ask.to, message: ask.name }), undefined);
  }

  // ---- turns -------------------------------------------------------------------------------

  #enqueue(cell: Cell): void {
    if (!cell.queued) {
      cell.queued = true;
      this.#runQueue.push(cell);
    }
    this.#runSoon();
  }

  #runSoon(): void {
    if (this.#scheduled || this.#running) return;
    this.#scheduled = true;
    this.#host.timers.soon(this.#run);
  }

  readonly #run = (): void => {
    this.#scheduled = false;
    if (this.#stopped) return;
    this.#nowMs = this.#host.clock.monotonicMs();
    this.#takeTurns(turnsPerRun);
    this.#router.flush();
    this.#scheduleRest();
  };

  /** At least so many turns, if there is mail: an actor that has begun takes up to 64. */
  #takeTurns(count: number): void {
    this.#running = true;
    let left = count;
    while (left > 0) {
      const cell = this.#runQueue.shift();
      if (cell === undefined) break;
      cell.queued = false;
      cell.isInTurn = true;
      left -= this.#runCell(cell);
      cell.isInTurn = false;
    }
    this.#running = false;
  }

  #scheduleRest(): void {
    if (this.#runQueue.length === 0 || this.#scheduled) return;
    this.#scheduled = true;
    this.#host.timers.later(this.#run);
  }

  /** Up to 64 turns of one actor; how many it took. */
  #runCell(cell: Cell): number {
    const { mailbox } = cell;
    let turns = 0;
    while (turns < turnsPerActor) {
      if (cell.state === 'stopped' || cell.state === 'back-off') return turns + 1;
      // While it starts, an actor hears its own messages and answers only.
      const envelope = cell.state === 'running' ? mailbox.shift() : mailbox.shiftOwn();
      if (envelope === undefined) return turns + 1;
      turns += 1;
      this.#turns += 1;
      if (this.#turns % sampleEvery === 0) this.#timedTurn(cell, envelope);
      else this.#turn(cell, envelope);
    }
    if (mailbox.length > 0) this.#enqueue(cell);
    return turns;
  }

  #timedTurn(cell: Cell, envelope: Envelope): void {
    this.#nowMs = this.#host.clock.monotonicMs();
    this.#turn(cell, envelope);
    const endMs = this.#host.clock.monotonicMs();
    cell.handlingSeconds += ((endMs - this.#nowMs) * sampleEvery) / 1000;
    this.#nowMs = endMs;
  }

  #turn(cell: Cell, envelope: Envelope): void {
    if (envelope === cell.sampled) {
      cell.waitedSeconds = Math.max(0, this.#nowMs - cell.sampledAtMs) / 1000;
      cell.sampled = undefined;
    }
    this.#trace = envelope.trace;
    try {
      if (envelope.kind === 'reply' || envelope.kind === 'error') this.#replyTurn(cell, envelope);
      else this.#messageTurn(cell, envelope);
    } catch (error) {
      if (error instanceof KvError || error instanceof CorruptionError) {
        this.#answer(envelope, toFailure(error), undefined);
        if (envelope.kind !== 'ask') logFailure(this.#host.log, cell, envelope, toFailure(error));
      } else this.#crash(cell, error, envelope);
    }
    this.#trace = '';
  }

  #replyTurn(cell: Cell, envelope: Envelope): void {
    const ask = this.#asks.take(envelope.askId);
    if (ask === undefined || ask.incarnation !== cell.incarnation) return;
    ask.done(envelope.failure, envelope.body as never);
  }

  #messageTurn(cell: Cell, envelope: Envelope): void {
    if (envelope.deadlineMs < this.#nowMs) {
      cell.expired += 1;
      return;
    }
    cell.handled += 1;
    const handler = cell.instance[envelope.name];
    assert(handler !== undefined, `${cell.address} has no handler ${envelope.name}`);
    const result = handler.call(cell.instance, envelope.body, envelope);
    if (result instanceof DeferredReply) {
      const { incarnation } = cell;
      result.onSettled({
        settled: (problem, reply) => {
          if (envelope.kind === 'ask') this.#answer(envelope, problem, reply);
          else if (problem !== undefined && cell.incarnation === incarnation)
            logFailure(this.#host.log, cell, envelope, problem);
        },
      });
    } else if (envelope.kind === 'ask') this.#answer(envelope, undefined, result);
  }

  #traced(trace: string, work: () => void): void {
    const before = this.#trace;
    this.#trace = trace;
    try {
      work();
    } finally {
      this.#trace = before;
    }
  }

  #sideOfNestedTurns(): NestingSide {
    return {
      node: this.node,
      host: this.#host,
      asks: this.#asks,
      transcode: this.#options.transcode,
      descriptorOf: (actor, name) => this.#descriptors.get(actor)?.get(name),
      isStopped: () => this.#stopped,
      isRunning: () => this.#running,
      nowMs: () => this.#nowMs,
      tell: (ref, name, body) => this.#tell(ref, name, body),
      ask: (cell, ref, name, body, timeoutMs, done) =>
        this.#ask(cell, ref, name, body, timeoutMs, done),
      settle: (askId, problem, reply) => this.#settle(askId, problem, reply),
      find: (ref) => this.#cells.get(ref.actor)?.[ref.shard],
      crash: (cell, error) => this.#crash(cell, error, undefined),
      trace: () => this.#trace,
      traced: (trace, work) => this.#traced(trace, work),
    };
  }

  #sideOfContexts(): KernelSide {
    return {
      ...this.#nestingSide,
      nested: new NestedTurns(this.#nestingSide),
      peek: (cell, ref, name, body) => this.#direct.peek(cell, ref, name, body),
      own: (cell, name, body) => this.#own(cell, name, body),
    };
  }

  #sideOfDirectAsks(): TurnSide {
    return {
      ...this.#nestingSide,
      nested: this.#side.nested,
      ask: (ref, name, body, done) => {
        this.#isDirect = true;
        this.#ask(undefined, ref, name, body, Infinity, done);
        this.#isDirect = false;
      },
      runSoon: () => this.#runSoon(),
      setRunning: (isRunning) => {
        if (isRunning) this.#nowMs = this.#host.clock.monotonicMs();
        this.#running = isRunning;
      },
      takeTurns: (isDone) => {
        while (!isDone() && !this.#stopped && this.#runQueue.length > 0) this.#takeTurns(1);
        this.#router.flush();
        this.#scheduleRest();
      },
    };
  }

  // ---- figures -----------------------------------------------------------------------------

  /** The mailbox figures of this thread's actors, and what this thread could not send. */
  samples(): MetricSample[] {
    return [
      ...mailboxSamples(this.#started),
      plainSample('kvd_tells_dropped_total', 'Tells not sent', 'counter', this.#tellsDropped),
    ];
  }
}
