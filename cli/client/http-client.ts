// Talks to a cluster over HTTP: kept connections, several endpoints with fail-over, bounded retries
// with jitter, one deadline over all of it.
//
// What may be sent again: anything that certainly had no effect (connection refused, a problem whose
// code says so), and requests that are idempotent. Everything else ends as an error that says the
// outcome is unknown (rule ID-1); an earlier attempt with an unknown outcome stays unknown, whatever
// a later one says.

import { setTimeout as sleep } from 'node:timers/promises';
import {
  Agents,
  type Attempt,
  type ClientAnswer,
  type ClientError,
  type ClientTls,
  type ClientRequest,
  exchange,
  finalError,
  mayRetry,
  parseEndpoint,
  pauseMs,
  toClientError,
} from './http-exchange.ts';

export interface HttpClientOptions {
  /** Base URLs, tried in this order; the last one that answered is tried first. */
  readonly endpoints: readonly string[];
  /** Over all attempts of one call, milliseconds. Default 15,000. */
  readonly deadlineMs?: number;
  /** For one attempt, milliseconds: a node that hangs must not use up the call. Default 5,000. */
  readonly attemptMs?: number;
  /** Attempts of one call, 1 or more. Default 8. */
  readonly attemptsMax?: number;
  /** Connections per endpoint. Default 128. */
  readonly connectionsMax?: number;
  /** Headers of every request. */
  readonly headers?: Readonly<Record<string, string>>;
  /** For https endpoints. */
  readonly tls?: ClientTls;
}

export class HttpClient {
  readonly #endpoints: readonly URL[];
  readonly #options: HttpClientOptions;
  readonly #agents: Agents;
  #current = 0;
  #retries = 0;

  /** Throws where an endpoint is no http URL. */
  constructor(options: HttpClientOptions) {
    this.#options = options;
    this.#endpoints = options.endpoints.map(parseEndpoint);
    const maxSockets = options.connectionsMax ?? 128;
    this.#agents = new Agents({ keepAlive: true, maxSockets }, options.tls);
  }

  /** Attempts beyond the first ones, over the life of the client. */
  get retries(): number {
    return this.#retries;
  }

  close(): void {
    this.#agents.destroy();
  }

  /** The answer of status 2xx, or 300 for several values; a ClientError for anything else. */
  async call(request: ClientRequest): Promise<ClientAnswer> {
    const deadline = performance.now() + (this.#options.deadlineMs ?? 15_000);
    const attemptsMax = this.#options.attemptsMax ?? 8;
    let isUnknown = false;
    for (let attempt = 1; ; attempt += 1) {
      const endpoint = this.#current;
      const outcome = await this.#attempt(request, endpoint, deadline - performance.now());
      if ('answer' in outcome && outcome.answer.status <= 300) return outcome.answer;
      const error = toClientError(outcome, request, this.#nameOf(endpoint));
      isUnknown ||= error.isOutcomeUnknown;
      const leftMs = deadline - performance.now();
      if (!mayRetry(error, request) || attempt >= attemptsMax || leftMs <= 0)
        throw finalError(error, isUnknown, request);
      this.#retries += 1;
      const isFresh = this.#moveOn(endpoint, error, attempt);
      if (!isFresh) await sleep(Math.min(leftMs, pauseMs(attempt)));
    }
  }

  /** Chooses the next endpoint; true while there is one that this call has not tried yet. */
  #moveOn(endpoint: number, error: ClientError, attempt: number): boolean {
    // An overload is waited for: elsewhere it would only spread.
    if (error.code === 'OVERLOADED') return false;
    if (this.#current === endpoint) this.#current = (endpoint + 1) % this.#endpoints.length;
    return attempt < this.#endpoints.length;
  }

  #nameOf(endpoint: number): string {
    return this.#endpoints[endpoint]?.host ?? '';
  }

  #attempt(request: ClientRequest, endpoint: number, leftMs: number): Promise<Attempt> {
    const { attemptMs = 5000, headers } = this.#options;
    const url = this.#endpoints[endpoint] as URL;
    const timeoutMs = Math.max(1, Math.ceil(Math.min(leftMs, attemptMs)));
    return exchange(request, { agents: this.#agents, url, timeoutMs, headers });
  }
}
