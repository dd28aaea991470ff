// Makes what an actor sees: its context and its sessions, over the few things that they need of the
// kernel. Both belong to one incarnation of their actor: after a crash the old ones go on existing
// in closures, but nothing that they do has an effect any more.

import type { BaseContext, Deferred, Done, Later, Outcome, Ref, Session } from './actor.ts';
import { type Cell, DeferredReply } from './cell.ts';
import type { Host, TimerHandle } from './environment.ts';
import type { NestedTurns } from './nested-turns.ts';
import { tracedLog } from './traced-log.ts';
import { CorruptionError, errorOf, type Failure, failure, KvError, toFailure } from './errors.ts';

/** What contexts need of the kernel. */
export interface KernelSide {
  readonly node: string;
  readonly host: Host;
  readonly isStopped: () => boolean;
  readonly tell: (ref: Ref<unknown>, name: string, body: unknown) => void;
  readonly ask: (
    cell: Cell,
    ref: Ref<unknown>,
    name: string,
    body: unknown,
    timeoutMs: number,
    done: Done<never>,
  ) => void;
  readonly peek: (
    cell: Cell,
    ref: Ref<unknown>,
    name: string,
    body: unknown,
  ) => Outcome<never> | undefined;
  /** Sends and asks within the turn, where that is possible. */
  readonly nested: NestedTurns;
  /** Puts a message of the actor to itself into its mailbox. */
  readonly own: (cell: Cell, name: string, body: unknown) => void;
  /** The actor of this thread under `ref`. */
  readonly find: (ref: Ref<unknown>) => Cell | undefined;
  readonly crash: (cell: Cell, error: unknown) => void;
  /** The trace id of the turn that runs. */
  readonly trace: () => string;
  /** Runs `work` as if in a turn with this trace id. */
  readonly traced: (trace: string, work: () => void) => void;
}

type AnyContext = BaseContext<Record<string, never>>;

/** The context of the cell's present incarnation, with the capabilities that its kind lists. */
export function createContext(kernel: KernelSide, cell: Cell): AnyContext {
  const { incarnation } = cell;
  const { clock, random, log, metrics, probe, timers, capabilities, stopNode } = kernel.host;
  const isCurrent = (): boolean => cell.incarnation === incarnation && !kernel.isStopped();
  const toSelf = (name: string, body: unknown): void => {
    if (isCurrent()) kernel.own(cell, name, body);
  };
  const given: Record<string, unknown> = {};
  for (const need of cell.spec.kind.needs) given[need] = capabilities[need];
  const context = {
    node: kernel.node,
    shard: cell.shard,
    clock,
    random,
    log: tracedLog(log, kernel.trace),
    metrics,
    probe,
    tell: (ref: Ref<unknown>, name: string, body: unknown): void => {
      if (isCurrent()) kernel.tell(ref, name, body);
    },
    ask: (
      ref: Ref<unknown>,
      name: string,
      body: unknown,
      timeoutMs: number,
      done: Done<never>,
    ): void => {
      if (isCurrent()) kernel.ask(cell, ref, name, body, timeoutMs, done);
    },
    peek: (ref: Ref<unknown>, name: string, body: unknown): Outcome<never> | undefined =>
      isCurrent() ? kernel.peek(cell, ref, name, body) : undefined,
    ...nestingOf(kernel, cell, isCurrent),
    later: <Reply>() => new DeferredReply<Reply>() as unknown as Deferred<Reply>,
    session: <Reply>(work: (session: Session) => Promise<Reply>): Later<Reply> =>
      startSession(kernel, cell, work),
    toSelf,
    toSelfLater: (name: string, body: unknown): void => timers.later(() => toSelf(name, body)),
    after: (delayMs: number, name: string, body: unknown): TimerHandle =>
      timers.after(delayMs, () => toSelf(name, body)),
    watch: (ref: Ref<unknown>, name: string, body: unknown): void => {
      const watched = ref.node === kernel.node ? kernel.find(ref) : undefined;
      if (watched === undefined || watched.state === 'stopped') toSelf(name, body);
      else watched.watchers.push({ cell, incarnation, name, body });
    },
    stopNode: (reason: string): void => {
      if (isCurrent()) stopNode(reason);
    },
    ...given,
  };
  return context;
}

/** What takes its turn within the turn that sends it: nested-turns.ts. */
function nestingOf(
  kernel: KernelSide,
  cell: Cell,
  isCurrent: () => boolean,
): Pick<AnyContext, 'tellHere' | 'askHere' | 'forward'> {
  const { nested } = kernel;
  return {
    tellHere: (ref: Ref<unknown>, name: string, body: unknown): void => {
      if (isCurrent()) nested.tell(ref, name, body);
    },
    askHere: (
      ref: Ref<unknown>,
      name: string,
      body: unknown,
      deadlineMs: number,
      done: Done<never>,
    ): void => {
      if (isCurrent()) nested.ask(cell, ref, name, body, deadlineMs, done);
    },
    forward: (ref: Ref<unknown>, name: string, body: unknown, deadlineMs: number): never =>
      (isCurrent()
        ? nested.forward(cell, ref, name, body, deadlineMs)
        : new DeferredReply()) as never,
  };
}

function startSession<Reply>(
  kernel: KernelSide,
  cell: Cell,
  work: (session: Session) => Promise<Reply>,
): Later<Reply> {
  const { incarnation } = cell;
  // A bug in the session of start() is a start that failed, not a crash of its own.
  const isOfStart = cell.isEntering;
  const trace = kernel.trace();
  const deferred = new DeferredReply<Reply>();
  const isCurrent = (): boolean => cell.incarnation === incarnation && !kernel.isStopped();
  const ask = (
    ref: Ref<unknown>,
    name: string,
    body: unknown,
    timeoutMs: number,
  ): Promise<unknown> =>
    new Promise((resolve, reject) => {
      if (!isCurrent()) return;
      const done = (problem: Failure | undefined, reply: unknown): void => {
        if (problem === undefined) resolve(reply);
        else reject(errorOf(problem));
      };
      kernel.traced(trace, () => kernel.ask(cell, ref, name, body, timeoutMs, done));
    });
  const sleep = (delayMs: number): Promise<void> =>
    new Promise((resolve) => {
      kernel.host.timers.after(delayMs, () => {
        if (isCurrent()) resolve();
      });
    });
  const resolve = (reply: Reply): void => deferred.resolve(reply);
  work({ ask, sleep } as unknown as Session).then(resolve, (error: unknown) => {
    if (!isCurrent()) return;
    if (error instanceof KvError || error instanceof CorruptionError || isOfStart) {
      deferred.fail(toFailure(error));
      return;
    }
    kernel.traced(trace, () => kernel.crash(cell, error));
    deferred.fail(failure('ACTOR_RESTARTED', { actor: cell.address }));
  });
  return deferred as unknown as Later<Reply>;
}
