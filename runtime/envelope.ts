// The header of every message between actors, and the two seams of delivery: a Link carries
// envelopes one way, the Router picks the link. Both are implemented in transport/ and in sim/.

import { type Failure, failure } from './errors.ts';
import type { Descriptor } from './protocol.ts';

export type EnvelopeKind = 'tell' | 'ask' | 'reply' | 'error';

export interface Envelope {
  readonly kind: EnvelopeKind;
  /** Target of a tell or an ask; of a reply or an error only `node` counts. */
  readonly node: string;
  readonly actor: string;
  readonly shard: number;
  /** The message's name: of a reply or an error, the name of the ask. */
  readonly name: string;
  /** Undefined for what an actor sends to itself: it never leaves its thread. */
  readonly descriptor: Descriptor | undefined;
  /** Node that sent it. */
  readonly from: string;
  /** Names the ask on the sender's thread; 0 for a tell. */
  readonly askId: number;
  /** Monotonic milliseconds of this thread's clock; on the wire, the time that is left (TR-4). */
  readonly deadlineMs: number;
  /** Where it came in: an answer goes back there. Undefined: this thread. */
  readonly via: Link | undefined;
  /** A request's trace id, or empty. */
  readonly trace: string;
  /** A message, a reply, or for an error the Failure. Frozen by convention. */
  readonly body: unknown;
  /** The pending ask's actor, for answers inside one thread. */
  readonly failure: Failure | undefined;
}

/** One way of one connection. At most once, in order, bounded. */
export interface Link {
  /** Names the other end, for logs and metrics. */
  readonly name: string;
  /**
   * False: the queue is full or the other end is gone; nothing was or will be sent. Errors have
   * some room of their own, for they may stand for replies that found none.
   */
  readonly send: (envelope: Envelope) => boolean;
  /** False: the other end was never reached, so nothing that was handed to it has left. */
  readonly wasOpen?: boolean;
}

export interface Router {
  /** The link towards an actor that this thread does not host; undefined: no such place. */
  readonly linkTo: (node: string, actor: string, shard: number) => Link | undefined;
  /** Called after each turn of the kernel: batches may leave. */
  readonly flush: () => void;
}

/** A body as it would be on another thread. */
export type Transcode = (descriptor: Descriptor, isReply: boolean, body: unknown) => unknown;

/** The envelope with its body transcoded, where there is a `transcode`. */
export function transcoded(envelope: Envelope, transcode: Transcode | undefined): Envelope {
  const { descriptor, kind } = envelope;
  if (transcode === undefined || descriptor === undefined || kind === 'error') return envelope;
  return { ...envelope, body: transcode(descriptor, kind === 'reply', envelope.body) };
}

/** What an actor is called on its thread. */
interface Place {
  readonly name: string;
  readonly shard: number;
}

// Envelopes that never leave their thread. One order of fields everywhere: one shape for the engine.

/** A message of an actor to itself. */
export function ownTell(
  node: string,
  to: Place,
  name: string,
  trace: string,
  body: unknown,
): Envelope {
  return {
    kind: 'tell',
    node,
    actor: to.name,
    shard: to.shard,
    name,
    descriptor: undefined,
    from: node,
    askId: 0,
    deadlineMs: Infinity,
    via: undefined,
    trace,
    body,
    failure: undefined,
  };
}

/** The answer to an ask of an actor; `ask.to` is the node that gave it. */
export function ownAnswer(
  node: string,
  to: Place,
  ask: { readonly name: string; readonly to: string; readonly trace: string },
  askId: number,
  problem: Failure | undefined,
  body: unknown,
): Envelope {
  return {
    kind: problem === undefined ? 'reply' : 'error',
    node,
    actor: to.name,
    shard: to.shard,
    name: ask.name,
    descriptor: undefined,
    from: ask.to,
    askId,
    deadlineMs: Infinity,
    via: undefined,
    trace: ask.trace,
    body,
    failure: problem,
  };
}

/**
 * Answers an ask that `via` brought. A reply that finds no room on the way back becomes an error, for
 * which there is more room, so that the asker does not wait for nothing. It is UNREACHABLE and not
 * OVERLOADED: what was asked for has been done.
 */
export function sendAnswer(
  ask: Envelope,
  via: Link,
  node: string,
  problem: Failure | undefined,
  body: unknown,
): void {
  if (via.send(answerTo(ask, node, problem, body)) || problem !== undefined) return;
  const detail = 'there was no room for the answer on the way back';
  via.send(answerTo(ask, node, failure('UNREACHABLE', { node, detail }), undefined));
}

function answerTo(
  ask: Envelope,
  node: string,
  problem: Failure | undefined,
  body: unknown,
): Envelope {
  return {
    ...ask,
    kind: problem === undefined ? 'reply' : 'error',
    node: ask.from,
    from: node,
    deadlineMs: Infinity,
    via: undefined,
    body,
    failure: problem,
  };
}
