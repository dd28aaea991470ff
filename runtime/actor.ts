// What an actor sees: its context. An actor is a class with one synchronous handler per message;
// it keeps its state in private fields and touches the world through the context only.
//
// Waiting happens in two ways. A session is an async function that gets values, not the actor,
// and ends with the reply or with a message to self: use it where clarity counts. On hot paths
// (coordinator, storage) a handler takes a Deferred, asks with a callback, and answers later: the
// callback runs as a turn of the actor, so it may see the actor's state, and no promise is made.

import type { Capabilities, Clock, Log, Need, Probe, Random, TimerHandle } from './environment.ts';
import type { Failure } from './errors.ts';
import type { MetricRegistry } from './metrics.ts';
import type {
  AskNames,
  BodyOf,
  Handlers,
  MessageTable,
  Protocol,
  ReplyOf,
  TellNames,
} from './protocol.ts';

declare const target: unique symbol;

/** An address with the messages that it takes. Plain data: may be sent. */
export interface Ref<Messages> {
  readonly node: string;
  readonly actor: string;
  readonly shard: number;
  readonly [target]?: Messages;
}

export function refTo<Messages extends MessageTable>(
  { name }: Protocol<Messages>,
  node: string,
  shard = 0,
): Ref<Messages> {
  return { node, actor: name, shard };
}

/** What a handler may know about the message beside its body. */
export interface Call {
  /** Node that sent it. */
  readonly from: string;
  /** When the sender stops waiting: this thread's monotonic milliseconds. */
  readonly deadlineMs: number;
  readonly trace: string;
}

declare const promised: unique symbol;

/** An answer that comes later; made by `ctx.session` and `ctx.later` only. */
export interface Later<Reply> {
  readonly [promised]: Reply;
}

/** The other end of a Later: settled once, further calls are ignored. */
export interface Deferred<Reply> extends Later<Reply> {
  readonly resolve: (reply: Reply) => void;
  readonly fail: (failure: Failure) => void;
}

/** The callback of an ask: exactly one of the two is given. */
export type Done<Reply> = (failure: Failure | undefined, reply: Reply | undefined) => void;

/** The same as a value. */
export interface Outcome<Reply> {
  readonly problem: Failure | undefined;
  readonly reply: Reply | undefined;
}

/** What an async function may do while it waits. */
export interface Session {
  /** Rejects with a KvError: the callee's, TIMEOUT, OVERLOADED or UNREACHABLE. */
  readonly ask: <P, K extends AskNames<P>>(
    ref: Ref<P>,
    name: K,
    body: BodyOf<P[K]>,
    timeoutMs: number,
  ) => Promise<ReplyOf<P[K]>>;
  readonly sleep: (delayMs: number) => Promise<void>;
}

export interface BaseContext<Own> {
  readonly node: string;
  readonly shard: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: MetricRegistry;
  readonly probe: Probe;
  /** Best effort: a full mailbox or a broken link drops it, counted. */
  readonly tell: <P, K extends TellNames<P>>(ref: Ref<P>, name: K, body: BodyOf<P[K]>) => void;
  /** `done` runs as a turn of this actor, once, at the latest when `timeoutMs` have passed. */
  readonly ask: <P, K extends AskNames<P>>(
    ref: Ref<P>,
    name: K,
    body: BodyOf<P[K]>,
    timeoutMs: number,
    done: Done<ReplyOf<P[K]>>,
  ) => void;
  /**
   * The answer here and now, as if the message had been sent and its turn had come at once: for
   * messages that are marked `isPeek`, of an actor of this thread that has no mail and is not this
   * one. Undefined otherwise: ask. No envelope, no open ask, no turn of another actor in between.
   */
  readonly peek: <P, K extends AskNames<P>>(
    ref: Ref<P>,
    name: K,
    body: BodyOf<P[K]>,
  ) => Outcome<ReplyOf<P[K]>> | undefined;
  /** As `tell`; where nothing waits before it, the receiver has its turn before this returns. */
  readonly tellHere: <P, K extends TellNames<P>>(ref: Ref<P>, name: K, body: BodyOf<P[K]>) => void;
  /**
   * As `ask`, at the latest at `deadlineMs` (monotonic); where nothing waits before it, the receiver
   * has its turn before this returns, and `done` may run before too. For hot paths (decision 22).
   */
  readonly askHere: <P, K extends AskNames<P>>(
    ref: Ref<P>,
    name: K,
    body: BodyOf<P[K]>,
    deadlineMs: number,
    done: Done<ReplyOf<P[K]>>,
  ) => void;
  /**
   * Asks as askHere does and is what the handler may return: the answer of the other actor becomes
   * this one's.
   */
  readonly forward: <P, K extends AskNames<P>>(
    ref: Ref<P>,
    name: K,
    body: BodyOf<P[K]>,
    deadlineMs: number,
  ) => ReplyOf<P[K]> | Later<ReplyOf<P[K]>>;
  readonly later: <Reply>() => Deferred<Reply>;
  /** Runs `work` now up to its first await; a KvError in it becomes the answer. */
  readonly session: <Reply>(work: (session: Session) => Promise<Reply>) => Later<Reply>;
  /** A message to this actor, in its control lane. */
  readonly toSelf: <K extends TellNames<Own>>(name: K, body: BodyOf<Own[K]>) => void;
  /** The same once what already waits (messages, sockets) has had its turn: for batching. */
  readonly toSelfLater: <K extends TellNames<Own>>(name: K, body: BodyOf<Own[K]>) => void;
  /** The same after `delayMs`; the timer dies with the actor. */
  readonly after: <K extends TellNames<Own>>(
    delayMs: number,
    name: K,
    body: BodyOf<Own[K]>,
  ) => TimerHandle;
  /** Sends `name` to self when the actor of this thread under `ref` ends or restarts. */
  readonly watch: <K extends TellNames<Own>>(
    ref: Ref<unknown>,
    name: K,
    body: BodyOf<Own[K]>,
  ) => void;
  /** Stops the whole node: for what must not go on (failed disk, second owner). */
  readonly stopNode: (reason: string) => void;
}

export type Context<Own = object, N extends Need = never> = BaseContext<Own> &
  Pick<Capabilities, N>;

/** Optional parts of an actor's life. */
export interface Lifecycle {
  /** Before the first message of others; they wait until its session ends. */
  readonly start?: () => void | Later<void>;
  /** The node shuts down: finish what is in flight, refuse what is new. */
  readonly drain?: () => void | Later<void>;
}

/** A kind of actor: its protocol, its needs and how to make one. */
export interface ActorKind<
  Messages extends MessageTable = MessageTable,
  Options = unknown,
  Own = object,
  N extends Need = Need,
> {
  readonly protocol: Protocol<Messages>;
  readonly needs: readonly N[];
  readonly create: (context: Context<Own, N>, options: Options) => object;
}

export function actor<Messages extends MessageTable, Options, Own, N extends Need = never>(kind: {
  readonly protocol: Protocol<Messages>;
  readonly needs?: readonly N[];
  readonly create: (
    // Not inferred from here: what `needs` does not list would be missing at run time.
    context: Context<Own, NoInfer<N>>,
    options: Options,
  ) => Handlers<Messages> & Handlers<Own> & Lifecycle;
}): ActorKind<Messages, Options, Own, N> {
  return { protocol: kind.protocol, needs: kind.needs ?? [], create: kind.create };
}
