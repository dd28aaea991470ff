// How one request was carried out, for the client that asks to know (X-Explain): which replicas were
// asked for what, when each answered and with what. Kept only for such a request.

import type { Clock } from '../../runtime/environment.ts';
import type { Failure } from '../../runtime/errors.ts';
import { type Etag, formatEtag } from '../model/record.ts';

export type ExplainedAsk = 'read' | 'digest' | 'repair' | 'write' | 'hint';

interface Step {
  readonly node: string;
  readonly ask: ExplainedAsk;
  readonly sentMs: number;
  answeredMs?: number;
  /** Etag that the replica has; null where it has nothing. */
  etag?: string | null;
  /** Code of its refusal. */
  failed?: string;
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
  asked(node: string, ask: ExplainedAsk): (problem: Failure | undefined, etag?: Etag) => void {
    const step: Step = { node, ask, sentMs: this.#elapsedMs() };
    this.#steps.push(step);
    return (problem, etag) => {
      step.answeredMs = this.#elapsedMs();
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
  }): string {
    return JSON.stringify({ ...facts, tookMs: this.#elapsedMs(), steps: this.#steps });
  }

  /** To a microsecond. */
  #elapsedMs(): number {
    return Math.round((this.#clock.monotonicMs() - this.#startedMs) * 1000) / 1000;
  }
}
