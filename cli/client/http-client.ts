// Talks to a cluster over HTTP: kept connections, several endpoints with fail-over, bounded retries
// with jitter, one deadline over all of it.
//
// What may be sent again: anything that certainly had no effect (connection refused, a problem whose
// code says so), and requests that are idempotent. Everything else ends as an error that says the
// outcome is unknown (rule ID-1); an earlier attempt with an unknown outcome stays unknown, whatever
// a later one says.

import { Agent, type IncomingHttpHeaders, request as httpRequest } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorTable, isErrorCode } from '../../runtime/errors.ts';

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
}

export interface ClientRequest {
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE';
  /** Path and query, encoded. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  /** Sent twice it does what it does sent once: may be repeated after an unknown outcome. */
  readonly isIdempotent: boolean;
  /** It changes something: then a lost answer is an unknown outcome. */
  readonly isWrite: boolean;
}

export interface ClientAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** UNREACHABLE: no endpoint could be reached, nothing happened. Else a code of runtime/errors.ts. */
export class ClientError extends Error {
  readonly code: string;
  /** 0 where there was no answer. */
  readonly status: number;
  readonly detail: string;
  /** The write may or may not have happened. */
  readonly isOutcomeUnknown: boolean;

  constructor(code: string, status: number, detail: string, isOutcomeUnknown: boolean) {
    super(`${code}: ${detail}`);
    this.name = 'ClientError';
    this.code = code;
    this.status = status;
    this.detail = detail;
    this.isOutcomeUnknown = isOutcomeUnknown;
  }
}

/** What one attempt came to. */
type Attempt =
  | { readonly answer: ClientAnswer }
  /** `wasSent`: the request may have reached the node. */
  | { readonly error: Error; readonly wasSent: boolean };

const firstPauseMs = 50;
const pauseMsMax = 2000;
const deadlineHeaderMsMax = 60_000;
/** Nothing of the request left this machine. */
const neverSent: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EADDRNOTAVAIL',
]);

export class HttpClient {
  readonly #endpoints: readonly URL[];
  readonly #options: HttpClientOptions;
  readonly #agent: Agent;
  #current = 0;
  #retries = 0;

  /** Throws where an endpoint is no http URL. */
  constructor(options: HttpClientOptions) {
    this.#options = options;
    this.#endpoints = options.endpoints.map(parseEndpoint);
    this.#agent = new Agent({ keepAlive: true, maxSockets: options.connectionsMax ?? 128 });
  }

  /** Attempts beyond the first ones, over the life of the client. */
  get retries(): number {
    return this.#retries;
  }

  close(): void {
    this.#agent.destroy();
  }

  /** The answer of status 2xx; a ClientError for anything else. */
  async call(request: ClientRequest): Promise<ClientAnswer> {
    const deadline = performance.now() + (this.#options.deadlineMs ?? 15_000);
    const attemptsMax = this.#options.attemptsMax ?? 8;
    let isUnknown = false;
    for (let attempt = 1; ; attempt += 1) {
      const endpoint = this.#current;
      const outcome = await this.#attempt(request, endpoint, deadline - performance.now());
      if ('answer' in outcome && outcome.answer.status < 300) return outcome.answer;
      const error = toError(outcome, request, this.#nameOf(endpoint));
      isUnknown ||= error.isOutcomeUnknown;
      const leftMs = deadline - performance.now();
      if (!mayRetry(error, request) || attempt >= attemptsMax || leftMs <= 0)
        throw new ClientError(error.code, error.status, error.detail, isUnknown);
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
    const { method, path, body } = request;
    const url = this.#endpoints[endpoint] as URL;
    const attemptMs = this.#options.attemptMs ?? 5000;
    const timeoutMs = Math.max(1, Math.ceil(Math.min(leftMs, attemptMs)));
    const headers: Record<string, string | number> = {
      'x-deadline-ms': Math.min(timeoutMs, deadlineHeaderMsMax),
      ...this.#options.headers,
      ...request.headers,
    };
    if (body !== undefined) headers['content-length'] = body.length;
    const base = url.pathname.replace(/\/$/, '');
    const { hostname, port } = url;
    return new Promise((resolve) => {
      const sent = httpRequest(
        {
          hostname: hostname.replace(/^\[|\]$/g, ''),
          port,
          method,
          path: base + path,
          headers,
          agent: this.#agent,
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('error', (error) => resolve({ error, wasSent: true }));
          response.on('end', () => {
            const { statusCode = 0, headers: answered } = response;
            resolve({
              answer: { status: statusCode, headers: answered, body: Buffer.concat(chunks) },
            });
          });
        },
      );
      sent.setTimeout(timeoutMs + answerMarginMs, () =>
        sent.destroy(new Error('no answer in time')),
      );
      sent.on('error', (error: NodeJS.ErrnoException) => {
        resolve({ error, wasSent: !neverSent.has(error.code ?? '') });
      });
      sent.end(body);
    });
  }
}

/** The node's own answer at the deadline says more than a cut connection. */
const answerMarginMs = 1000;

function parseEndpoint(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== 'http:')
    throw new ClientError('BAD_REQUEST', 0, `endpoint ${text}: expected http://host:port`, false);
  return url;
}

/** Doubles with each attempt; any part of it, so that many clients do not come back in step. */
function pauseMs(attempt: number): number {
  return Math.random() * Math.min(pauseMsMax, firstPauseMs * 2 ** attempt);
}

function mayRetry(
  { code, status, isOutcomeUnknown }: ClientError,
  request: ClientRequest,
): boolean {
  if (isOutcomeUnknown && !request.isIdempotent) return false;
  if (status === 0) return true;
  return isErrorCode(code) ? errorTable[code].retry !== 'never' : status >= 500;
}

function toError(outcome: Attempt, request: ClientRequest, endpoint: string): ClientError {
  if ('error' in outcome) {
    const { error, wasSent } = outcome;
    const isUnknown = wasSent && request.isWrite;
    const code = isUnknown ? 'UNKNOWN_OUTCOME' : 'UNREACHABLE';
    return new ClientError(code, 0, `${endpoint}: ${error.message}`, isUnknown);
  }
  const { status, body } = outcome.answer;
  const { code, detail } = parseProblem(body, status);
  const isUnknown =
    request.isWrite && (isErrorCode(code) ? errorTable[code].effect === 'unknown' : status >= 500);
  return new ClientError(code, status, detail, isUnknown);
}

/** An answer without a problem document (HEAD, a proxy) gets its code from the status. */
function parseProblem(body: Buffer, status: number): { code: string; detail: string } {
  try {
    const { code, detail } = JSON.parse(body.toString()) as { code?: unknown; detail?: unknown };
    if (typeof code === 'string')
      return { code, detail: typeof detail === 'string' ? detail : code };
  } catch {
    // Not a document of ours.
  }
  const detail = `status ${status}`;
  return status === 404 ? { code: 'NOT_FOUND', detail } : { code: `HTTP_${status}`, detail };
}
