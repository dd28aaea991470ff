// Asks that are answered before the caller goes on. From outside of any actor: a program with actors
// inside asks, and their turns are taken here and now. From a turn of an actor: it peeks at what
// another one of its thread knows (decision 18). No promise, no wait for the event loop.

import type { Done, Outcome, Ref } from './actor.ts';
import { type Cell, DeferredReply } from './cell.ts';
import type { KernelSide } from './context.ts';
import { ownTell, type Transcode } from './envelope.ts';
import type { Host } from './environment.ts';
import { assert, CorruptionError, type Failure, failure, KvError, toFailure } from './errors.ts';
import type { AskNames, BodyOf, Descriptor, ReplyOf } from './protocol.ts';

type Answered = (problem: Failure | undefined, reply: unknown) => void;

/** What direct asks need of the kernel. */
export interface TurnSide
  extends Pick<KernelSide, 'node' | 'find' | 'crash' | 'isStopped' | 'nested'> {
  readonly host: Host;
  readonly descriptorOf: (actor: string, name: string) => Descriptor | undefined;
  /** Bodies are copied on their way into a mailbox, so askAhead may not go past it. */
  readonly transcode: Transcode | undefined;
  readonly isRunning: () => boolean;
  /** Sends an ask whose answer comes in a turn, at once. */
  readonly ask: (ref: Ref<unknown>, name: string, body: unknown, done: Answered) => void;
  /** Takes turns, and lets batches leave, when the caller has ended. */
  readonly runSoon: () => void;
  /** A turn begins, or ends. */
  readonly setRunning: (isRunning: boolean) => void;
  /** Takes turns until `isDone` or nothing is left to do, and lets batches leave. */
  readonly takeTurns: (isDone: () => boolean) => void;
}

export class DirectAsks {
  readonly #side: TurnSide;
  /** The call that a message from outside of any actor is. */
  readonly #outside;
  #isPeeking = false;

  constructor(side: TurnSide) {
    this.#side = side;
    this.#outside = ownTell(side.node, { name: '', shard: 0 }, '', '', undefined);
  }

  /** See Kernel.askNow. */
  readonly now = <P, K extends AskNames<P>>(
    ref: Ref<P>,
    name: K,
    body: BodyOf<P[K]>,
  ): Outcome<ReplyOf<P[K]>> | undefined => {
    assert(!this.#side.isRunning(), `askNow ${name} in a turn`);
    return this.#answered((done) => this.#side.ask(ref, name, body, done));
  };

  /** See Kernel.askAhead. */
  readonly ahead = <P, K extends AskNames<P>>(
    ref: Ref<P>,
    name: K,
    body: BodyOf<P[K]>,
  ): Outcome<ReplyOf<P[K]>> | undefined => {
    const side = this.#side;
    const cell = ref.node === side.node ? side.find(ref) : undefined;
    if (cell?.state !== 'running' || side.transcode !== undefined || side.isStopped())
      return this.now(ref, name, body);
    assert(!side.isRunning(), `askAhead ${name} in a turn`);
    side.setRunning(true);
    const result = this.#call(cell, name, body);
    side.setRunning(false);
    let outcome: Outcome<unknown> | undefined;
    if (result instanceof DeferredReply)
      result.onSettled({
        settled: (problem, reply) => {
          outcome = { problem, reply };
        },
      });
    else outcome = result;
    side.takeTurns(() => outcome !== undefined);
    return outcome as Outcome<ReplyOf<P[K]>> | undefined;
  };

  /** See BaseContext.peek. `cell` is who peeks. */
  peek(cell: Cell, ref: Ref<unknown>, name: string, body: unknown): Outcome<never> | undefined {
    const side = this.#side;
    const peeked = ref.node === side.node ? side.find(ref) : undefined;
    if (peeked === undefined || peeked === cell || this.#isPeeking) return undefined;
    // With mail in its box it has not heard of everything that came before.
    if (!peeked.isFree) return undefined;
    const descriptor = side.descriptorOf(ref.actor, name);
    assert(descriptor?.isPeek === true, `${name} of ${ref.actor} is nothing to peek at`);
    if (side.host.probe.buggify('asked instead of peeked')) return undefined;
    const { transcode } = side;
    const sent = transcode === undefined ? body : transcode(descriptor, false, body);
    const outcome = this.#peekAt(peeked, name, sent);
    assert(!(outcome instanceof DeferredReply), `${name} of ${ref.actor} answers later`);
    if (transcode === undefined || outcome.problem !== undefined) return outcome as Outcome<never>;
    return { problem: undefined, reply: transcode(descriptor, true, outcome.reply) as never };
  }

  /** See Kernel.askHere. */
  readonly here = <P, K extends AskNames<P>>(
    ref: Ref<P>,
    name: K,
    body: BodyOf<P[K]>,
    timeoutMs: number,
    done: Done<ReplyOf<P[K]>>,
  ): void => {
    const side = this.#side;
    const isOutside = !side.isRunning();
    if (isOutside) side.setRunning(true);
    const deadlineMs = side.host.clock.monotonicMs() + timeoutMs;
    side.nested.ask(undefined, ref, name, body, deadlineMs, done);
    if (isOutside) side.setRunning(false);
    side.runSoon();
  };

  #peekAt(cell: Cell, name: string, body: unknown): Outcome<unknown> | DeferredReply<unknown> {
    this.#isPeeking = true;
    try {
      return this.#call(cell, name, body);
    } finally {
      this.#isPeeking = false;
    }
  }

  #answered<Reply>(ask: (done: Answered) => void): Outcome<Reply> | undefined {
    let outcome: Outcome<Reply> | undefined;
    ask((problem, reply) => {
      outcome = { problem, reply: reply as Reply | undefined };
    });
    this.#side.takeTurns(() => outcome !== undefined);
    return outcome;
  }

  /** A turn of one actor for a message that never was in its mailbox. */
  #call(cell: Cell, name: string, body: unknown): Outcome<unknown> | DeferredReply<unknown> {
    const handler = cell.instance[name];
    assert(handler !== undefined, `${cell.address} has no handler ${name}`);
    cell.handled += 1;
    cell.isInTurn = true;
    try {
      const reply = handler.call(cell.instance, body, this.#outside);
      return reply instanceof DeferredReply ? reply : { problem: undefined, reply };
    } catch (error) {
      if (error instanceof KvError || error instanceof CorruptionError)
        return { problem: toFailure(error), reply: undefined };
      this.#side.crash(cell, error);
      return {
        problem: failure('ACTOR_RESTARTED', { actor: cell.address }),
        reply: undefined,
      };
    } finally {
      cell.isInTurn = false;
    }
  }
}
