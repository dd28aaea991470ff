// Sends requests to the nodes of a cluster: to a replica of the key first, around nodes that fail,
// again where that is safe, and reads that are slow to a second node as well.
//
// One call has one deadline over all its attempts. What may be repeated is decided by the outcome
// alone (http-exchange.ts, rule ID-1): an attempt whose effect is unknown stays unknown whatever a
// later one says, and is repeated only where twice does what once does.

import { assert } from '../../runtime/errors.ts';
import { CircuitBreaker } from './circuit-breaker.ts';
import { type ClientWorld, realWorld } from './client-world.ts';
import {
  type Attempt,
  type ClientAnswer,
  ClientError,
  type ClientTls,
  type ClientRequest,
  finalError,
  mayRetry,
  parseEndpoint,
  pauseMs,
  toClientError,
} from './http-exchange.ts';
import type { StreamAttempt } from './http-stream.ts';
import { badRequest, checkNumber } from './given.ts';
import { LatencyWindow } from './latency-window.ts';
import type { Key } from './keys.ts';
import { parseTopology, replicaUrls, type Topology } from './topology.ts';

export interface ClusterOptions {
  /** Base URLs of some nodes; the others are learned from them. */
  readonly endpoints: readonly string[];
  /** Over all attempts of one call, milliseconds. Default 15,000. */
  readonly deadlineMs?: number;
  /** For one attempt, milliseconds. Default 5,000. */
  readonly attemptMs?: number;
  /** Attempts of one call. Default 8. */
  readonly attemptsMax?: number;
  /** Connections to one node. Default 64. */
  readonly connectionsMax?: number;
  /** A kept connection that is idle for so long is closed, milliseconds. Default 4,000. */
  readonly idleMs?: number;
  /**
   * A read that waits longer than this is sent to a second node too, and the first answer counts.
   * `auto` (default): longer than 95 in 100 of the last reads, at least 10 ms. `off`: never.
   */
  readonly hedgeAfterMs?: number | 'auto' | 'off';
  /** Time between two looks at the ring, milliseconds. Default 30,000. */
  readonly refreshMs?: number;
  /** Headers of every request. */
  readonly headers?: Readonly<Record<string, string>>;
  /** For https endpoints. */
  readonly tls?: ClientTls;
  /** Where users have to say who they are: goes to every node, and into no error or log. */
  readonly token?: string;
}

export interface Call extends ClientRequest {
  /** Sent to a replica of this key; absent: to any node. */
  readonly key?: Key | undefined;
  readonly deadlineMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A request whose answer goes on. */
export interface StreamCall extends Pick<ClientRequest, 'method' | 'path' | 'headers'> {
  readonly signal?: AbortSignal | undefined;
}

interface Node {
  readonly url: URL;
  readonly breaker: CircuitBreaker;
}

/** Options that are times or counts, from 1 on. */
const numbers = ['deadlineMs', 'attemptMs', 'attemptsMax', 'connectionsMax', 'refreshMs'] as const;
const timerMsMax = 2 ** 31 - 1;
/** Of a call, over all attempts. */
const usualDeadlineMs = 15_000;
/** A node says something every ten seconds. */
const streamSilenceMs = 30_000;
const hedgeShare = 0.95;
const hedgeMsMin = 10;
/** Of all reads so many, in a hundred, are sent twice at most: a slow cluster gets no more load. */
const hedgePercentMax = 10;

export class ClusterCalls {
  readonly #options: ClusterOptions;
  readonly #world: ClientWorld;
  readonly #nodes = new Map<string, Node>();
  readonly #endpoints: readonly URL[];
  readonly #latencies = new LatencyWindow();
  #topology: Topology | undefined;
  #refreshedMs = Number.NEGATIVE_INFINITY;
  #refreshing: Promise<void> | undefined;
  /** Why a node that answers does not show the ring. */
  #refusal: ClientError | undefined;
  #turn = 0;
  #reads = 0;
  #isClosed = false;
  readonly figures = { calls: 0, retries: 0, hedges: 0 };

  constructor(options: ClusterOptions, world?: ClientWorld) {
    if (options.endpoints.length === 0)
      throw new ClientError('BAD_REQUEST', 0, 'endpoints: expected at least one', false);
    for (const name of numbers) {
      const value = options[name];
      if (value !== undefined) checkNumber(name, value, timerMsMax);
    }
    const { token } = options;
    const headers = token === undefined ? options.headers : withToken(options.headers, token);
    this.#options = headers === undefined ? options : { ...options, headers };
    this.#endpoints = options.endpoints.map(parseEndpoint);
    const { connectionsMax = 64, idleMs = 4000 } = options;
    this.#world = world ?? realWorld({ connectionsMax, idleMs, tls: options.tls });
  }

  close(): void {
    this.#isClosed = true;
    this.#world.close();
  }

  #checkOpen(): void {
    if (this.#isClosed) throw badRequest('the client is closed: connect again');
  }

  /** An id for a request that is to be done once however often it is sent. */
  newId(): string {
    return this.#world.newId();
  }

  /** Learns the ring from the first endpoint that answers; UNREACHABLE where none does. */
  async connect(): Promise<void> {
    await this.#refresh();
    if (this.#topology !== undefined) return;
    if (this.#refusal !== undefined) throw this.#refusal;
    const tried = this.#endpoints.map(({ host }) => host).join(', ');
    throw new ClientError('UNREACHABLE', 0, `no endpoint answers: ${tried}`, false);
  }

  /** The answer of status 2xx, 300 or 304; a ClientError for anything else, the signal's reason if aborted. */
  async call(call: Call): Promise<ClientAnswer> {
    this.#checkOpen();
    const { deadlineMs = usualDeadlineMs, refreshMs = 30_000 } = this.#options;
    const startedMs = this.#world.nowMs();
    if (startedMs - this.#refreshedMs > refreshMs) void this.#refresh();
    this.figures.calls += 1;
    const deadline = startedMs + (call.deadlineMs ?? deadlineMs);
    const tried = new Set<string>();
    let isUnknown = false;
    for (let attempt = 1; ; attempt += 1) {
      const outcome = await this.#attempt(call, tried, deadline);
      if (outcome.answer !== undefined) return outcome.answer;
      const { error } = outcome;
      isUnknown ||= error.isOutcomeUnknown;
      const leftMs = deadline - this.#world.nowMs();
      if (!mayRetry(error, call) || attempt >= (this.#options.attemptsMax ?? 8) || leftMs <= 0)
        throw finalError(error, isUnknown, call);
      this.figures.retries += 1;
      await this.#pause(error, attempt, leftMs, call.signal);
    }
  }

  /**
   * Opens a stream at any node, and at another one where that fails, until the deadline of a call.
   * The signal's reason if aborted.
   */
  async stream(call: StreamCall): Promise<Extract<StreamAttempt, { chunks: unknown }>> {
    this.#checkOpen();
    const { deadlineMs = usualDeadlineMs, headers } = this.#options;
    const deadline = this.#world.nowMs() + deadlineMs;
    const request = { ...call, isIdempotent: true, isWrite: false };
    const tried = new Set<string>();
    for (let attempt = 1; ; attempt += 1) {
      call.signal?.throwIfAborted();
      const [node] = this.#candidates(undefined, tried);
      assert(node !== undefined, 'a cluster without nodes');
      tried.add(node.url.host);
      const answerMs = Math.max(1, Math.ceil(deadline - this.#world.nowMs()));
      const silenceMs = streamSilenceMs;
      const terms = { url: node.url, headers, signal: call.signal, silenceMs, answerMs };
      const outcome = await this.#world.stream(request, terms);
      if ('chunks' in outcome) {
        node.breaker.succeeded();
        return outcome;
      }
      call.signal?.throwIfAborted();
      if ('error' in outcome) node.breaker.failed(this.#world.nowMs());
      const error = toClientError(outcome, request, node.url.host);
      const leftMs = deadline - this.#world.nowMs();
      if (!mayRetry(error, request) || leftMs <= 0) throw error;
      await this.#pause(error, attempt, leftMs, call.signal);
    }
  }

  /** The first failure goes on at once, elsewhere; an overload is waited for. */
  async #pause(
    { code, status }: ClientError,
    attempt: number,
    leftMs: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    if (status === 0) void this.#refresh();
    if (attempt === 1 && code !== 'OVERLOADED') return;
    const delayMs = Math.min(leftMs, pauseMs(attempt, this.#world.random));
    await this.#world.sleep(delayMs, signal);
  }

  // ---- attempts ----------------------------------------------------------------------------

  /** At the best node that this call has not tried yet. */
  async #attempt(
    call: Call,
    tried: Set<string>,
    deadline: number,
  ): Promise<{ answer: ClientAnswer } | { answer?: undefined; error: ClientError }> {
    call.signal?.throwIfAborted();
    const [node, second] = this.#candidates(call.key, tried);
    assert(node !== undefined, 'a cluster without nodes');
    tried.add(node.url.host);
    const outcome = await this.#exchange(call, [node, second], deadline);
    call.signal?.throwIfAborted();
    if ('answer' in outcome && isSuccess(outcome.answer)) return { answer: outcome.answer };
    return { error: toClientError(outcome, call, node.url.host) };
  }

  /** With one node; a read that takes long, with two. */
  async #exchange(
    call: Call,
    [first, second]: readonly [Node, Node | undefined],
    deadline: number,
  ): Promise<Attempt> {
    if (call.isWrite) return this.#send(call, first, deadline);
    this.#reads += 1;
    const hedgeMs = this.#hedgeMs();
    if (second === undefined || hedgeMs === undefined) return this.#send(call, first, deadline);
    const race = new AbortController();
    const signals = call.signal === undefined ? [race.signal] : [race.signal, call.signal];
    const hedged = { ...call, signal: AbortSignal.any(signals) };
    const one = this.#send(hedged, first, deadline);
    const timer = new AbortController();
    const early = await Promise.race([
      one,
      this.#world.sleep(hedgeMs, timer.signal).then(() => undefined),
    ]);
    timer.abort();
    if (early !== undefined) return early;
    this.figures.hedges += 1;
    const both = [one, this.#send(hedged, second, deadline)];
    const outcome = await firstSuccess(both);
    race.abort();
    return outcome;
  }

  /** Undefined: this read is not sent twice. */
  #hedgeMs(): number | undefined {
    const { hedgeAfterMs = 'auto' } = this.#options;
    if (hedgeAfterMs === 'off') return undefined;
    if (this.figures.hedges * 100 > this.#reads * hedgePercentMax) return undefined;
    if (hedgeAfterMs !== 'auto') return hedgeAfterMs;
    const usual = this.#latencies.percentile(hedgeShare);
    return usual === undefined ? undefined : Math.max(hedgeMsMin, usual);
  }

  async #send(call: Call, { url, breaker }: Node, deadline: number): Promise<Attempt> {
    const { attemptMs = 5000, headers } = this.#options;
    const startedMs = this.#world.nowMs();
    const timeoutMs = Math.max(1, Math.ceil(Math.min(deadline - startedMs, attemptMs)));
    const { signal } = call;
    breaker.sent(startedMs);
    const outcome = await this.#world.exchange(call, { url, timeoutMs, headers, signal });
    const nowMs = this.#world.nowMs();
    if (signal?.aborted === true) breaker.abandoned();
    else if ('error' in outcome) breaker.failed(nowMs);
    else breaker.succeeded();
    if (!call.isWrite && 'answer' in outcome) this.#latencies.add(nowMs - startedMs);
    return outcome;
  }

  // ---- nodes -------------------------------------------------------------------------------

  /** Nodes to try, best first; those that this call has tried come last. */
  #candidates(key: Key | undefined, tried: ReadonlySet<string>): readonly Node[] {
    const urls = this.#ordered(key);
    const nowMs = this.#world.nowMs();
    const nodes = urls.map((url) => this.#nodeAt(url));
    const usable = nodes.filter(({ breaker }) => breaker.state(nowMs) !== 'open');
    const choice = usable.length > 0 ? usable : nodes;
    const isTried = ({ url }: Node): boolean => tried.has(url.host);
    return [...choice.filter((node) => !isTried(node)), ...choice.filter(isTried)];
  }

  #ordered(key: Key | undefined): readonly URL[] {
    if (this.#topology === undefined) return this.#endpoints;
    const all = [...this.#topology.urls.values()];
    if (all.length === 0) return this.#endpoints;
    if (key === undefined) {
      this.#turn = (this.#turn + 1) % all.length;
      return [...all.slice(this.#turn), ...all.slice(0, this.#turn)];
    }
    const replicas = replicaUrls(this.#topology, key);
    return [...replicas, ...all.filter((url) => !replicas.includes(url))];
  }

  #nodeAt(url: URL): Node {
    let node = this.#nodes.get(url.host);
    if (node === undefined) {
      node = { url, breaker: new CircuitBreaker() };
      this.#nodes.set(url.host, node);
    }
    return node;
  }

  /** One look at a time; what cannot be learned leaves things as they are. */
  #refresh(): Promise<void> {
    this.#refreshing ??= this.#learn().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  async #learn(): Promise<void> {
    this.#refreshedMs = this.#world.nowMs();
    const { attemptMs = 5000, deadlineMs = usualDeadlineMs, headers } = this.#options;
    const timeoutMs = Math.min(2000, attemptMs, deadlineMs);
    const known = [...(this.#topology?.urls.values() ?? []), ...this.#endpoints];
    for (const url of known) {
      const terms = { url, timeoutMs, headers };
      const outcome = await this.#world.exchange(ringRequest, terms);
      if (!('answer' in outcome)) continue;
      if (outcome.answer.status !== 200) {
        this.#refusal = toClientError(outcome, ringRequest, url.host);
        continue;
      }
      const topology = parseTopology(outcome.answer.body, url.protocol);
      if (topology === undefined) continue;
      this.#topology = topology;
      return;
    }
  }
}

/** A copy with the token in it. */
const withToken = (
  headers: Readonly<Record<string, string>> | undefined,
  token: string,
): Readonly<Record<string, string>> => {
  if (!/^[\x21-\x7e]+$/.test(token))
    throw new ClientError('BAD_REQUEST', 0, 'token: expected printable ASCII', false);
  return { ...headers, authorization: `Bearer ${token}` };
};

const ringRequest: ClientRequest = {
  method: 'GET',
  path: '/api/v1/ring',
  isIdempotent: true,
  isWrite: false,
};

/** 300: several values stand beside each other. */
const isSuccess = ({ status }: ClientAnswer): boolean => status <= 300 || status === 304;

/** The first good answer of two; where neither is good, the last. */
async function firstSuccess(attempts: readonly Promise<Attempt>[]): Promise<Attempt> {
  return new Promise((resolve) => {
    let open = attempts.length;
    for (const attempt of attempts)
      void attempt.then((outcome) => {
        open -= 1;
        const isFinal =
          'answer' in outcome && (isSuccess(outcome.answer) || outcome.answer.status < 500);
        if (isFinal || open === 0) resolve(outcome);
      });
  });
}
