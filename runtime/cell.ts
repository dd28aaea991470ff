// One running actor as the kernel sees it: instance, mailbox, state, figures. And the Deferred,
// the answer that an actor gives later.

import type { Call } from './actor.ts';
import type { Envelope } from './envelope.ts';
import type { Log, LogFields } from './environment.ts';
import { describeFailure, type Failure } from './errors.ts';
import { Mailbox } from './mailbox.ts';
import { type MetricSample, plainSample } from './metrics.ts';
import { type ActorSpec, CrashHistory } from './supervisor.ts';

export type CellState = 'starting' | 'running' | 'back-off' | 'stopped';

/** `name`, `body`: the watcher's own message that says so. */
export interface Watcher {
  readonly cell: Cell;
  readonly incarnation: number;
  readonly name: string;
  readonly body: unknown;
}

type Handler = (body: unknown, call: Call) => unknown;

export class Cell {
  readonly spec: ActorSpec;
  readonly name: string;
  readonly shard: number;
  readonly address: string;
  readonly mailbox: Mailbox;
  readonly crashes: CrashHistory;
  state: CellState = 'starting';
  /** Raised by each restart: what belongs to an earlier instance has no effect any more. */
  incarnation = 0;
  instance: Record<string, Handler | undefined> = {};
  /** Told how the first start ended, once. */
  onFirstStart: ((problem: Error | undefined) => void) | undefined;
  /** In the call of start(): a session that begins now is the one of the start. */
  isEntering = false;
  /** In the kernel's run queue. */
  queued = false;
  /** A handler of it runs, perhaps deep in other turns: no other one may begin. */
  isInTurn = false;
  watchers: Watcher[] = [];

  /** A turn of it may begin inside of another actor's: nothing waits before, and none runs. */
  get isFree(): boolean {
    return this.state === 'running' && !this.isInTurn && this.mailbox.length === 0;
  }

  handled = 0;
  expired = 0;
  refused = 0;
  /** Estimated from one turn in 32, seconds. */
  handlingSeconds = 0;
  /** Age of the newest sampled message when its turn came, seconds. */
  waitedSeconds = 0;
  sampled: Envelope | undefined;
  sampledAtMs = 0;

  constructor(spec: ActorSpec, address: string) {
    this.spec = spec;
    this.name = spec.kind.protocol.name;
    this.shard = spec.shard;
    this.address = address;
    this.mailbox = new Mailbox(spec.mailboxCapacity);
    this.crashes = new CrashHistory(spec.onCrash);
  }
}

/** Hears the outcome of an answer that comes later, once. */
export interface Settles {
  readonly settled: (problem: Failure | undefined, reply: unknown) => void;
}

/** Tells its listener the outcome as soon as both are there. Actors see it as a Deferred. */
export class DeferredReply<Reply> {
  isSettled = false;
  failure: Failure | undefined = undefined;
  reply: Reply | undefined = undefined;
  #listener: Settles | undefined = undefined;

  resolve(reply: Reply): void {
    this.#settle(undefined, reply);
  }

  fail(problem: Failure): void {
    this.#settle(problem, undefined);
  }

  onSettled(listener: Settles): void {
    if (this.isSettled) listener.settled(this.failure, this.reply);
    else this.#listener = listener;
  }

  #settle(problem: Failure | undefined, reply: Reply | undefined): void {
    if (this.isSettled) return;
    this.isSettled = true;
    this.failure = problem;
    this.reply = reply;
    this.#listener?.settled(problem, reply);
  }
}

/** Lets the actors finish, one after the other. */
export async function drainAll(cells: readonly Cell[]): Promise<void> {
  for (const { state, instance } of cells) {
    const drain = instance['drain'] as (() => unknown) | undefined;
    if (state !== 'running' || drain === undefined) continue;
    const result = drain.call(instance);
    if (result instanceof DeferredReply)
      await new Promise<void>((resolve) => {
        result.onSettled({ settled: () => resolve() });
      });
  }
}

/** The message that an actor failed on; `trace`: empty where it has none. */
interface Failed {
  readonly name: string | undefined;
  readonly trace: string;
}

const traceField = (trace: string): LogFields => (trace === '' ? {} : { trace });

/** A message or session of an actor that failed, where nobody waits for its answer. */
export function logFailure(log: Log, { address }: Cell, failed: Failed, problem: Failure): void {
  const { name: message, trace } = failed;
  const { code } = problem;
  const fields = { actor: address, message, code, detail: describeFailure(problem) };
  log.debug('session.failed', { ...fields, ...traceField(trace) });
}

export function logCrash(log: Log, { address }: Cell, failed: Failed, error: string): void {
  const { name: message, trace } = failed;
  log.error('actor.crashed', { actor: address, message, error, ...traceField(trace) });
}

/** What the mailboxes of `cells` tell about themselves. */
export function mailboxSamples(cells: readonly Cell[]): MetricSample[] {
  return cells.flatMap((cell) => {
    const labels = { actor: cell.name, shard: String(cell.shard) };
    const gauge = (name: string, help: string, value: number): MetricSample =>
      plainSample(`kvd_mailbox_${name}`, help, 'gauge', value, labels);
    const counter = (name: string, help: string, value: number): MetricSample =>
      plainSample(`kvd_${name}_total`, help, 'counter', value, labels);
    return [
      gauge('depth', 'Messages that wait', cell.mailbox.length),
      gauge('wait_seconds', 'Wait of a sampled message', cell.waitedSeconds),
      counter('mailbox_handled', 'Messages handled', cell.handled),
      counter('mailbox_expired', 'Dropped at their deadline', cell.expired),
      counter('mailbox_refused', 'Refused, mailbox full', cell.refused),
      counter('actor_busy_seconds', 'Handling, estimated', cell.handlingSeconds),
    ];
  });
}
