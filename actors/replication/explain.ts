// How one request was carried out, for the client that asks to know (X-Explain): which replicas were
// asked for what, when each answered and with what. Kept only for such a request.

import type { Ref, Session } from '../../runtime/actor.ts';
import type { Clock } from '../../runtime/environment.ts';
import { type Failure, toFailure } from '../../runtime/errors.ts';
import type { AskNames, BodyOf, ReplyOf } from '../../runtime/protocol.ts';
import { type Etag, formatEtag } from '../model/record.ts';
import type { Acceptor } from './protocol.ts';

export type ExplainedAsk =
  | 'read'
  | 'digest'
  | 'repair'
  | 'write'
  | 'hint'
  /** Of a serial operation. */
  | 'look'
  | 'prepare'
  | 'propose'
  | 'commit';

interface Step {
  readonly node: string;
  readonly ask: ExplainedAsk;
  readonly sentMs: number;
  answeredMs?: number;
  /** Etag that the replica has; null where it has nothing. */
  etag?: string | null;
  /** Code of its refusal. */
  failed?: string;
  /** It has promised a newer ballot, of another proposer. */
  isOvertaken?: true;
}

export class Explanation {
  readonly #clock: Clock;
  readonly #startedMs: number;
  readonly #steps: Step[] = [];

  /** Times are milliseconds from now on. */
  constructor(clock: Clock) {
    this.#clock = clock;
    this.#startedMs = clock.monotonicMs();
  }

  /** Notes that a replica is asked; call what it returns with the answer. */
  asked(
    node: string,
    ask: ExplainedAsk,
  ): (problem: Failure | undefined, etag?: Etag, isOvertaken?: boolean) => void {
    const step: Step = { node, ask, sentMs: this.#elapsedMs() };
    this.#steps.push(step);
    return (problem, etag, isOvertaken = false) => {
      step.answeredMs = this.#elapsedMs();
      if (isOvertaken) step.isOvertaken = true;
      if (problem !== undefined) step.failed = problem.code;
      else if (etag !== undefined) step.etag = etag.hlc === 0 ? null : formatEtag(etag);
    };
  }

  /** JSON; a replica without `answeredMs` had not answered when the request was settled. */
  text(facts: {
    readonly coordinator: string;
    readonly level: string;
    readonly required: number;
    readonly replicas: readonly string[];
    /** Of a serial round: those that were decided together. */
    readonly operations?: number;
  }): string {
    return JSON.stringify({ ...facts, tookMs: this.#elapsedMs(), steps: this.#steps });
  }

  /** To a microsecond. */
  #elapsedMs(): number {
    return Math.round((this.#clock.monotonicMs() - this.#startedMs) * 1000) / 1000;
  }
}

/** A session whose questions to acceptors are noted, step by step. */
export function explainedSession(session: Session, explanation: Explanation): Session {
  const ask = async <P, K extends AskNames<P>>(
    ref: Ref<P>,
    name: K,
    body: BodyOf<P[K]>,
    timeoutMs: number,
  ): Promise<ReplyOf<P[K]>> => {
    const heard = explanation.asked(ref.node, name as ExplainedAsk);
    try {
      const reply = await session.ask(ref, name, body, timeoutMs);
      heard(undefined, undefined, isOvertaken(name, reply));
      return reply;
    } catch (error) {
      heard(toFailure(error));
      throw error;
    }
  };
  return { ask, sleep: session.sleep };
}

const isOvertaken = (name: string, reply: unknown): boolean =>
  name === 'prepare'
    ? !(reply as ReplyOf<Acceptor['prepare']>).isPromised
    : name === 'propose' && !(reply as ReplyOf<Acceptor['propose']>).isAccepted;
