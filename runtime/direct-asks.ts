// Asks from outside of any actor that are answered before the caller goes on: a program with actors
// inside asks, and their turns are taken here and now. No promise, no wait for the event loop.

import type { Outcome, Ref } from './actor.ts';
import { type Cell, DeferredReply } from './cell.ts';
import type { KernelSide } from './context.ts';
import { ownTell } from './envelope.ts';
import { assert, CorruptionError, type Failure, failure, KvError, toFailure } from './errors.ts';
import type { AskNames, BodyOf, ReplyOf } from './protocol.ts';

type Answered = (problem: Failure | undefined, reply: unknown) => void;

/** What direct asks need of the kernel. */
export interface TurnSide extends Pick<KernelSide, 'node' | 'find' | 'crash' | 'isStopped'> {
  /** Bodies are copied on their way into a mailbox, so nothing may go past it. */
  readonly isTranscoding: boolean;
  readonly isRunning: () => boolean;
  /** Sends an ask whose answer comes in a turn, at once. */
  readonly ask: (ref: Ref<unknown>, name: string, body: unknown, done: Answered) => void;
  /** `work` is a turn. */
  readonly inTurn: (work: () => void) => void;
  /** Takes turns until `isDone` or nothing is left to do, and lets batches leave. */
  readonly takeTurns: (isDone: () => boolean) => void;
}

export class DirectAsks {
  readonly #side: TurnSide;
  /** The call that a message from outside of any actor is. */
  readonly #outside;

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
    if (cell?.state !== 'running' || side.isTranscoding || side.isStopped())
      return this.now(ref, name, body);
    assert(!side.isRunning(), `askAhead ${name} in a turn`);
    return this.#answered((done) => side.inTurn(() => this.#call(cell, name, body, done)));
  };

  #answered<Reply>(ask: (done: Answered) => void): Outcome<Reply> | undefined {
    let outcome: Outcome<Reply> | undefined;
    ask((problem, reply) => {
      outcome = { problem, reply: reply as Reply | undefined };
    });
    this.#side.takeTurns(() => outcome !== undefined);
    return outcome;
  }

  /** A turn of one actor for a message that never was in its mailbox. */
  #call(cell: Cell, name: string, body: unknown, done: Answered): void {
    const handler = cell.instance[name];
    assert(handler !== undefined, `${cell.address} has no handler ${name}`);
    cell.handled += 1;
    try {
      const result = handler.call(cell.instance, body, this.#outside);
      if (result instanceof DeferredReply) result.onSettled(done);
      else done(undefined, result);
    } catch (error) {
      if (error instanceof KvError || error instanceof CorruptionError)
        return done(toFailure(error), undefined);
      this.#side.crash(cell, error);
      done(failure('ACTOR_RESTARTED', { actor: cell.address }), undefined);
    }
  }
}
