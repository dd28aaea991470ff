// Actors alone under a real kernel: a clock that a test moves, a log and a router that only record.
// Nothing here waits: `settle` runs what is due now, `advance` moves the time.

import type { ActorKind, Ref } from '../runtime/actor.ts';
import type { Envelope, Link, Router } from '../runtime/envelope.ts';
import type {
  Capabilities,
  Host,
  Log,
  LogFields,
  Probe,
  TimerHandle,
} from '../runtime/environment.ts';
import { Kernel } from '../runtime/kernel.ts';
import { MetricRegistry } from '../runtime/metrics.ts';
import { Prng } from '../runtime/prng.ts';
import type { AskNames, BodyOf, Protocol, ReplyOf } from '../runtime/protocol.ts';
import { type Failure, KvError } from '../runtime/errors.ts';
import { type CrashPolicy, stopNode } from '../runtime/supervisor.ts';

export interface LogEntry {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly event: string;
  readonly fields: LogFields;
}

interface Timer {
  readonly atMs: number;
  readonly fire: () => void;
}

/** A world that stands still until a test moves it. */
export class ManualHost implements Host {
  nowMs = 1000;
  readonly logged: LogEntry[] = [];
  /** Reasons given to stopNode. */
  readonly stops: string[] = [];
  readonly random = new Prng(1);
  readonly metrics = new MetricRegistry();
  readonly probe: Probe = { reach: () => undefined, buggify: () => false };
  readonly capabilities: Capabilities;
  readonly #soon: (() => void)[] = [];
  readonly #later: (() => void)[] = [];
  #timers: Timer[] = [];

  constructor(capabilities: Partial<Capabilities> = {}) {
    this.capabilities = capabilities as Capabilities;
  }

  readonly clock = {
    monotonicMs: (): number => this.nowMs,
    wallMicros: (): number => this.nowMs * 1000,
  };

  readonly timers = {
    after: (delayMs: number, fire: () => void): TimerHandle => {
      const timer = { atMs: this.nowMs + delayMs, fire };
      this.#timers.push(timer);
      return {
        cancel: () => {
          this.#timers = this.#timers.filter((other) => other !== timer);
        },
      };
    },
    soon: (fire: () => void): void => void this.#soon.push(fire),
    later: (fire: () => void): void => void this.#later.push(fire),
  };

  readonly log: Log = {
    debug: (event, fields = {}) => void this.logged.push({ level: 'debug', event, fields }),
    info: (event, fields = {}) => void this.logged.push({ level: 'info', event, fields }),
    warn: (event, fields = {}) => void this.logged.push({ level: 'warn', event, fields }),
    error: (event, fields = {}) => void this.logged.push({ level: 'error', event, fields }),
  };

  readonly stopNode = (reason: string): void => void this.stops.push(reason);

  /** Timers that wait. */
  get timersOpen(): number {
    return this.#timers.length;
  }

  /** Runs everything that is due at this moment, promises included, until nothing is left. */
  async settle(): Promise<void> {
    for (;;) {
      await drainMicrotasks();
      const next = this.#soon.shift() ?? this.#later.shift();
      if (next === undefined) return;
      next();
    }
  }

  /** Moves the time on by `byMs`, firing each timer at its moment. */
  async advance(byMs: number): Promise<void> {
    const endMs = this.nowMs + byMs;
    for (;;) {
      await this.settle();
      const due = this.#timers.filter((timer) => timer.atMs <= endMs);
      const next = due.sort((a, b) => a.atMs - b.atMs)[0];
      if (next === undefined) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.nowMs = Math.max(this.nowMs, next.atMs);
      next.fire();
    }
    this.nowMs = endMs;
    await this.settle();
  }
}

/** A macrotask runs only after all promise callbacks that are ready, and those that they make. */
function drainMicrotasks(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** A link that keeps what is sent; `isFull` makes it refuse. */
export class RecordingLink implements Link {
  wasOpen = true;
  readonly name: string;
  readonly sent: Envelope[] = [];
  isFull = false;

  constructor(name: string) {
    this.name = name;
  }

  readonly send = (envelope: Envelope): boolean => {
    if (!this.isFull) this.sent.push(envelope);
    return !this.isFull;
  };
}

/** How an ask ended. */
export interface Outcome<Reply> {
  failure: Failure | undefined;
  reply: Reply | undefined;
  /** How often its callback was called. */
  calls: number;
}

export interface SpawnOptions {
  readonly shard?: number;
  readonly mailboxCapacity?: number;
  readonly onCrash?: CrashPolicy;
}

/** Node `n1` with one kernel, whose peers are recording links. */
export class Kit {
  readonly host: ManualHost;
  readonly kernel: Kernel;
  readonly links = new Map<string, RecordingLink>();

  constructor(protocols: readonly Protocol[], capabilities: Partial<Capabilities> = {}) {
    this.host = new ManualHost(capabilities);
    const router: Router = {
      linkTo: (node) => this.links.get(node),
      flush: () => undefined,
    };
    this.kernel = new Kernel({ node: 'n1', thread: 'main', host: this.host, router, protocols });
  }

  /** Makes `node` reachable. */
  link(node: string): RecordingLink {
    const link = new RecordingLink(node);
    this.links.set(node, link);
    return link;
  }

  /** Starts an actor; the promise is the kernel's, so a test may look before it has ended. */
  spawn(kind: unknown, options: unknown, how: SpawnOptions = {}): Promise<void> {
    return this.kernel.spawn({
      kind: kind as ActorKind,
      options,
      shard: how.shard ?? 0,
      mailboxCapacity: how.mailboxCapacity ?? 16,
      onCrash: how.onCrash ?? stopNode(),
    });
  }

  /** Asks from outside of any actor, without waiting. */
  ask<P, K extends AskNames<P>>(
    ref: Ref<P>,
    name: K,
    body: BodyOf<P[K]>,
    timeoutMs = 1000,
  ): Outcome<ReplyOf<P[K]>> {
    const outcome: Outcome<ReplyOf<P[K]>> = { failure: undefined, reply: undefined, calls: 0 };
    this.kernel.ask(ref, name, body, timeoutMs, (failure, reply) => {
      outcome.failure = failure;
      outcome.reply = reply;
      outcome.calls += 1;
    });
    return outcome;
  }

  /** The value of a sample of the kernel for one actor. */
  sample(name: string, actor: string): number | undefined {
    return this.kernel
      .samples()
      .find((sample) => sample.name === name && sample.labels['actor'] === actor)?.value;
  }
}

/** The KvError code that `work` throws; anything else it throws is thrown on. */
export function codeThrownBy(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof KvError) return error.code;
    throw error;
  }
  return 'nothing was thrown';
}

/** The KvError code that the promise rejects with; anything else is thrown on. */
export async function codeRejectedBy(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof KvError) return error.code;
    throw error;
  }
  return 'nothing was thrown';
}
