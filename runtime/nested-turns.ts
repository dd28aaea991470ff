// Asks and tells of one actor to another of its thread that take their turn inside of the turn that
// sends them: no envelope, no mailbox, no open ask where the answer is there at once. What a hot path
// saves by it is in docs/performance.md.
//
// It is never more than a shortcut of what would happen anyway: a turn is taken here only where the
// receiver is not in a turn itself and nothing waits in its mailbox, so that nobody is overtaken and
// no state changes under a handler's feet; an answer is handed over here only where its receiver is
// not in a turn and no earlier answer waits. All else goes the usual way. In the simulator bodies are
// copied as on that way, and now and then it is taken for no reason.

import type { Call, Done, Ref } from './actor.ts';
import type { AskTable, PendingAsk } from './ask-table.ts';
import { type Cell, DeferredReply, logFailure, type Settles } from './cell.ts';
import type { KernelSide } from './context.ts';
import type { Link, Transcode } from './envelope.ts';
import {
  assert,
  CorruptionError,
  errorOf,
  type Failure,
  failure,
  KvError,
  toFailure,
} from './errors.ts';
import type { Descriptor } from './protocol.ts';

/** What nested turns need of the kernel. */
export interface NestingSide
  extends Pick<
    KernelSide,
    'node' | 'host' | 'isStopped' | 'tell' | 'find' | 'crash' | 'trace' | 'traced'
  > {
  readonly ask: (
    cell: Cell | undefined,
    ref: Ref<unknown>,
    name: string,
    body: unknown,
    timeoutMs: number,
    done: Done<never>,
  ) => void;
  readonly asks: AskTable;
  readonly transcode: Transcode | undefined;
  readonly descriptorOf: (actor: string, name: string) => Descriptor | undefined;
  readonly isRunning: () => boolean;
  /** Monotonic time of the turn that runs, milliseconds. */
  readonly nowMs: () => number;
  /** The usual way of an answer: through the mailbox of whoever asked. */
  readonly settle: (askId: number, problem: Failure | undefined, reply: unknown) => void;
}

/** An ask whose receiver has had its turn and answers later. */
class OpenCall implements PendingAsk, Settles {
  readonly cell: Cell | undefined;
  readonly incarnation: number;
  readonly name: string;
  readonly to: string;
  readonly trace: string;
  readonly link: Link | undefined = undefined;
  readonly isDirect = false;
  readonly done: Done<never>;
  readonly #turns: NestedTurns;
  readonly #actor: string;
  /** 0: it has no deadline and stands in no table. */
  askId = 0;

  constructor(
    turns: NestedTurns,
    cell: Cell | undefined,
    actor: string,
    name: string,
    done: Done<never>,
  ) {
    this.#turns = turns;
    this.cell = cell;
    this.incarnation = cell?.incarnation ?? 0;
    this.name = name;
    this.to = turns.node;
    this.trace = turns.trace;
    this.done = done;
    this.#actor = actor;
  }

  get actor(): string {
    return this.#actor;
  }

  settled(problem: Failure | undefined, reply: unknown): void {
    this.#turns.settled(this, problem, reply);
  }
}

/** An earlier answer that waits is not overtaken. */
const isNext = (from: Cell | undefined): boolean =>
  from === undefined || from.mailbox.ownLength === 0;

const usualWay = 'message by the mailbox';

export class NestedTurns {
  readonly node: string;
  readonly #side: NestingSide;

  constructor(side: NestingSide) {
    this.node = side.node;
    this.#side = side;
  }

  get trace(): string {
    return this.#side.trace();
  }

  /** See BaseContext.askHere; `from` undefined: asked from outside of any actor. */
  ask(
    from: Cell | undefined,
    ref: Ref<unknown>,
    name: string,
    body: unknown,
    deadlineMs: number,
    done: Done<never>,
  ): void {
    const side = this.#side;
    const target = this.#free(ref);
    if (target === undefined || deadlineMs < side.nowMs())
      return side.ask(from, ref, name, body, deadlineMs - side.nowMs(), done);
    let result: unknown;
    try {
      result = this.#turn(target, name, body, deadlineMs);
    } catch (error) {
      const problem = this.#failureOf(target, error);
      if (isNext(from)) return done(problem, undefined);
      return this.settled(new OpenCall(this, from, ref.actor, name, done), problem, undefined);
    }
    if (isNext(from) && !(result instanceof DeferredReply))
      return done(undefined, this.#copied(ref.actor, name, true, result) as never);
    const open = new OpenCall(this, from, ref.actor, name, done);
    if (!(result instanceof DeferredReply)) return this.settled(open, undefined, result);
    if (isNext(from) && result.isSettled) return this.#hand(open, result.failure, result.reply);
    // What has no deadline needs no place among those that have.
    if (deadlineMs !== Infinity) open.askId = side.asks.open(open, side.nowMs(), deadlineMs);
    result.onSettled(open);
  }

  #hand({ actor, name, done }: OpenCall, problem: Failure | undefined, reply: unknown): void {
    if (problem !== undefined) return done(problem, undefined);
    done(undefined, this.#copied(actor, name, true, reply) as never);
  }

  /** See BaseContext.forward. */
  forward(from: Cell, ref: Ref<unknown>, name: string, body: unknown, deadlineMs: number): unknown {
    const side = this.#side;
    const target = this.#free(ref);
    if (target === undefined || deadlineMs < side.nowMs() || side.transcode !== undefined) {
      const later = new DeferredReply();
      this.ask(from, ref, name, body, deadlineMs, (problem, reply) => {
        if (problem === undefined) later.resolve(reply);
        else later.fail(problem);
      });
      return later;
    }
    try {
      return this.#turn(target, name, body, deadlineMs);
    } catch (error) {
      throw errorOf(this.#failureOf(target, error));
    }
  }

  /** See BaseContext.tellHere. */
  tell(ref: Ref<unknown>, name: string, body: unknown): void {
    const target = this.#free(ref);
    if (target === undefined) return this.#side.tell(ref, name, body);
    try {
      const result = this.#turn(target, name, body, Infinity);
      if (result instanceof DeferredReply) result.onSettled(this.#told(target, name));
    } catch (error) {
      const problem = this.#failureOf(target, error);
      logFailure(this.#side.host.log, target, { name, trace: this.trace }, problem);
    }
  }

  /** The answer to an ask that was taken here and left open. */
  settled(open: OpenCall, problem: Failure | undefined, reply: unknown): void {
    const side = this.#side;
    const { askId, cell, name, actor } = open;
    if (!this.#isAwaited(open)) return;
    const body = problem === undefined ? this.#copied(actor, name, true, reply) : undefined;
    if (cell === undefined || !this.#takesAnswers(cell)) {
      const id = askId === 0 ? side.asks.open(open, 0, Infinity) : askId;
      return side.settle(id, problem, body);
    }
    if (askId !== 0) side.asks.take(askId);
    cell.isInTurn = true;
    try {
      side.traced(open.trace, () => open.done(problem, body as never));
    } catch (error) {
      this.#logOrCrash(cell, name, error);
    }
    cell.isInTurn = false;
  }

  /** False: it has ended at its deadline or with its actor, or the node has. */
  #isAwaited(open: OpenCall): boolean {
    const { isStopped, asks } = this.#side;
    const { askId, cell, incarnation } = open;
    if (isStopped() || (cell !== undefined && cell.incarnation !== incarnation)) return false;
    return askId === 0 || asks.get(askId) === open;
  }

  #logOrCrash(cell: Cell, name: string, error: unknown): void {
    if (error instanceof KvError || error instanceof CorruptionError)
      logFailure(this.#side.host.log, cell, { name, trace: this.trace }, toFailure(error));
    else this.#side.crash(cell, error);
  }

  #takesAnswers({ isInTurn, mailbox }: Cell): boolean {
    const { isRunning, host } = this.#side;
    return !isInTurn && mailbox.ownLength === 0 && isRunning() && !host.probe.buggify(usualWay);
  }

  /** The receiver, where it can have its turn now. */
  #free(ref: Ref<unknown>): Cell | undefined {
    const side = this.#side;
    if (ref.node !== side.node || !side.isRunning() || side.isStopped()) return undefined;
    const cell = side.find(ref);
    return cell?.isFree === true && !side.host.probe.buggify(usualWay) ? cell : undefined;
  }

  #turn(cell: Cell, name: string, body: unknown, deadlineMs: number): unknown {
    const handler = cell.instance[name];
    const call: Call = { from: this.node, deadlineMs, trace: this.#side.trace() };
    cell.isInTurn = true;
    cell.handled += 1;
    try {
      assert(handler !== undefined, `${cell.address} has no handler ${name}`);
      return handler.call(cell.instance, this.#copied(cell.name, name, false, body), call);
    } finally {
      cell.isInTurn = false;
    }
  }

  #failureOf(cell: Cell, error: unknown): Failure {
    if (error instanceof KvError || error instanceof CorruptionError) return toFailure(error);
    this.#side.crash(cell, error);
    return failure('ACTOR_RESTARTED', { actor: cell.address });
  }

  #told(cell: Cell, name: string): Settles {
    const { incarnation } = cell;
    const failed = { name, trace: this.trace };
    return {
      settled: (problem) => {
        if (problem !== undefined && cell.incarnation === incarnation)
          logFailure(this.#side.host.log, cell, failed, problem);
      },
    };
  }

  #copied(actor: string, name: string, isReply: boolean, body: unknown): unknown {
    const { transcode, descriptorOf } = this.#side;
    if (transcode === undefined) return body;
    const descriptor = descriptorOf(actor, name);
    assert(descriptor !== undefined, `no ${name} in the protocol of ${actor}`);
    return transcode(descriptor, isReply, body);
  }
}
