// At most so many requests of a client in a window of time. Counting is a serial operation, so the
// limit holds over all nodes and however many ask at once; a window's counter expires by itself.

import type { KvdClient } from '../../cli/client/kvd-client.ts';

export interface RateLimit {
  /** Requests in a window. */
  readonly limit: number;
  readonly windowSeconds: number;
  /** Milliseconds since 1970. Default: the clock of this machine. */
  readonly nowMs?: () => number;
}

export class RateLimiter {
  readonly #kvd: KvdClient;
  readonly #terms: RateLimit;
  /** Counters that this process has made or found. */
  readonly #made = new Set<string>();
  #window = -1;

  constructor(kvd: KvdClient, terms: RateLimit) {
    this.#kvd = kvd;
    this.#terms = terms;
  }

  /** True: the request may go on. */
  async take(client: string): Promise<boolean> {
    const { limit, windowSeconds, nowMs = Date.now } = this.#terms;
    const window = Math.floor(nowMs() / (windowSeconds * 1000));
    const key = `rate:${client}:${window}`;
    if (window !== this.#window) this.#made.clear();
    this.#window = window;
    // Made with a time to live, which increments keep: whoever dies, no counter stays for ever.
    if (!this.#made.has(key))
      await this.#kvd.putIfAbsent(key, 0, { ttlSeconds: 2 * windowSeconds });
    this.#made.add(key);
    const { value } = await this.#kvd.incr(key);
    return value <= limit;
  }
}
