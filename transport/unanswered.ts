// Tells the log of requests that the gateway gave no answer to, because it failed on them or did not
// come to it in time. What the gateway answers with a failure it tells itself; of these nobody else
// knows. A line a second at most, with how many were left out: a gateway that fails on everything
// does not fill the disk.

import type { ErrorCode } from '../runtime/errors.ts';
import type { FailureHost } from './failed-handshakes.ts';
import { Seldom } from './seldom.ts';

const lineEveryMs = 1_000;

export interface UnansweredRequest {
  readonly route: string;
  /** Empty where the client sent none. */
  readonly trace: string;
  /** Of the answer that the client gets instead. */
  readonly status: number;
  readonly code: ErrorCode;
}

export class Unanswered {
  readonly #host: FailureHost | undefined;
  readonly #seldom = new Seldom(lineEveryMs);

  /** Without a host nothing is told. */
  constructor(host: FailureHost | undefined) {
    this.#host = host;
  }

  happened({ trace, ...request }: UnansweredRequest): void {
    if (this.#host === undefined) return;
    const { clock, log } = this.#host;
    const leftOut = this.#seldom.happened(clock.monotonicMs());
    if (leftOut === undefined) return;
    log.warn('request.failed', {
      ...request,
      ...(trace === '' ? {} : { trace }),
      ...(leftOut === 0 ? {} : { leftOut }),
    });
  }
}
