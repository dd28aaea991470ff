// Tells the log of requests that ended in a failure of the server (5xx), with the trace id that the
// client sent. Bounded: a cluster that fails every request says so a few times a second, with how many
// lines were left out, and does not fill its disk with it.

import type { Context } from '../../runtime/actor.ts';
import { TokenBuckets } from '../model/token-buckets.ts';
import { codeOf } from './http-access.ts';
import type { HttpAnswer } from './protocol.ts';

/** Lines of all routes together. */
const lines = { perSecond: 5, nodes: 1, burst: 20 } as const;
/** A probe asks for it again and again, and 503 is its way to say no. */
const probeRoute = 'readyz';

export class FailedRequests {
  readonly #ctx: Pick<Context, 'log' | 'clock'>;
  readonly #lines = new TokenBuckets<'all'>();
  #leftOut = 0;

  constructor(ctx: Pick<Context, 'log' | 'clock'>) {
    this.#ctx = ctx;
  }

  /** `trace`: empty where the client sent none. */
  ended(route: string, trace: string, answer: HttpAnswer): void {
    const { status } = answer;
    if (status < 500 || route === probeRoute) return;
    const { log, clock } = this.#ctx;
    if (this.#lines.take('all', lines, 1, clock.monotonicMs()).granted === 0) {
      this.#leftOut += 1;
      return;
    }
    const code = codeOf(answer);
    const leftOut = this.#leftOut === 0 ? {} : { leftOut: this.#leftOut };
    this.#leftOut = 0;
    log.warn('request.failed', {
      route,
      status,
      code,
      ...(trace === '' ? {} : { trace }),
      ...leftOut,
    });
  }
}
