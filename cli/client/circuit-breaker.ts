// Leaves a node alone that fails again and again, and finds out when it is back (Nygard, "Release
// It!", circuit breaker):
//
//   closed     requests go there; so many failures in a row open it
//   open       nothing goes there for a while, longer with each time in a row
//   half open  one request goes there: its success closes it, its failure opens it again

export interface BreakerOptions {
  /** Failures in a row that open it. Default 5. */
  readonly failuresMax?: number;
  /** First pause, milliseconds; doubles up to `pauseMsMax`. Defaults 500 and 30,000. */
  readonly pauseMs?: number;
  readonly pauseMsMax?: number;
}

export class CircuitBreaker {
  readonly #failuresMax: number;
  readonly #pauseMs: number;
  readonly #pauseMsMax: number;
  #failures = 0;
  #openings = 0;
  #closedAtMs = 0;
  #isProbing = false;

  constructor({ failuresMax = 5, pauseMs = 500, pauseMsMax = 30_000 }: BreakerOptions = {}) {
    this.#failuresMax = failuresMax;
    this.#pauseMs = pauseMs;
    this.#pauseMsMax = pauseMsMax;
  }

  state(nowMs: number): 'closed' | 'open' | 'half open' {
    if (this.#openings === 0) return 'closed';
    return nowMs < this.#closedAtMs || this.#isProbing ? 'open' : 'half open';
  }

  /** A request is sent; in the half open state it is the one that finds out. */
  sent(nowMs: number): void {
    if (this.state(nowMs) === 'half open') this.#isProbing = true;
  }

  succeeded(): void {
    this.#failures = 0;
    this.#openings = 0;
    this.#isProbing = false;
  }

  /** The node did not answer, or not as itself; an answer with a refusal is no failure. */
  failed(nowMs: number): void {
    this.#failures += 1;
    if (!this.#isProbing && this.#failures < this.#failuresMax) return;
    this.#isProbing = false;
    this.#failures = 0;
    const pauseMs = this.#pauseMs * 2 ** Math.min(this.#openings, 16);
    this.#closedAtMs = nowMs + Math.min(pauseMs, this.#pauseMsMax);
    this.#openings += 1;
  }

  /** Nothing can be said of the node: the request was given up. */
  abandoned(): void {
    this.#isProbing = false;
  }
}
