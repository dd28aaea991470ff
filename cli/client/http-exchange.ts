// One HTTP request and what came of it: an answer, or an error and whether the request may have
// reached the node. Nothing is retried or judged here.

import {
  Agent,
  type AgentOptions,
  type ClientRequest as ClientHttpRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request as httpRequest,
} from 'node:http';
import { Agent as TlsAgent, request as httpsRequest } from 'node:https';
import { errorTable, isErrorCode } from '../../runtime/errors.ts';

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

/** What one attempt came to. */
export type Attempt =
  | { readonly answer: ClientAnswer }
  /** `wasSent`: the request may have reached the node. */
  | { readonly error: Error; readonly wasSent: boolean };

/** UNREACHABLE: no endpoint could be reached, nothing happened. Else a code of runtime/errors.ts. */
export class ClientError extends Error {
  readonly code: string;
  /** 0 where there was no answer. */
  readonly status: number;
  readonly detail: string;
  /** The write may or may not have happened. */
  readonly isOutcomeUnknown: boolean;
  /** What the node answered; undefined where nothing came. */
  answer: ClientAnswer | undefined;
  /** Members of the problem document, where one came: figures, the current value of a condition. */
  readonly fields: Readonly<Record<string, unknown>>;

  constructor(
    code: string,
    status: number,
    detail: string,
    isOutcomeUnknown: boolean,
    fields: Readonly<Record<string, unknown>> = {},
  ) {
    super(`${code}: ${detail}`);
    this.fields = fields;
    this.name = 'ClientError';
    this.code = code;
    this.status = status;
    this.detail = detail;
    this.isOutcomeUnknown = isOutcomeUnknown;
  }
}

/** For https endpoints; PEM texts. */
export interface ClientTls {
  /** Who is believed; default: the authorities that Node knows. */
  readonly ca?: string | undefined;
  /** This client's certificate and key, where the cluster asks for one. */
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
}

/** Kept connections, plain and encrypted. */
export class Agents {
  readonly #plain: Agent;
  readonly #encrypted: TlsAgent;

  constructor(options: AgentOptions, tls: ClientTls = {}) {
    this.#plain = new Agent(options);
    this.#encrypted = new TlsAgent({ ...options, ...tls, minVersion: 'TLSv1.2' });
  }

  /** The agent for a URL and what sends with it. */
  of({ protocol }: URL): { readonly agent: Agent; readonly send: typeof httpRequest } {
    return protocol === 'https:'
      ? { agent: this.#encrypted, send: httpsRequest }
      : { agent: this.#plain, send: httpRequest };
  }

  destroy(): void {
    this.#plain.destroy();
    this.#encrypted.destroy();
  }
}

export interface ExchangeTerms {
  readonly url: URL;
  /** The node is told this deadline; a second later nothing is waited for any more. */
  readonly timeoutMs: number;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The node's own answer at the deadline says more than a cut connection. */
const answerMarginMs = 1000;
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

interface Sending {
  readonly agents: Agents;
  readonly method: string;
  /** Below the path of the endpoint. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string | number>>;
  readonly signal: AbortSignal | undefined;
}

/** A request to an endpoint, without its body yet. */
export function sendTo(
  url: URL,
  { agents, method, path, headers, signal }: Sending,
  answered: (response: IncomingMessage) => void,
): ClientHttpRequest {
  const { agent, send } = agents.of(url);
  const options = {
    hostname: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port,
    path: url.pathname.replace(/\/$/, '') + path,
    method,
    headers,
    agent,
    ...(signal === undefined ? {} : { signal }),
  };
  return send(options, answered);
}

/** The whole answer. */
export function collect(response: IncomingMessage, done: (attempt: Attempt) => void): void {
  const { statusCode: status = 0, headers } = response;
  const parts: Buffer[] = [];
  response.on('data', (part: Buffer) => parts.push(part));
  response.on('error', (error) => done({ error, wasSent: true }));
  response.on('end', () => done({ answer: { status, headers, body: Buffer.concat(parts) } }));
}

/** Always resolves; an abort by the signal is an error that may have been sent. */
export function exchange(
  request: ClientRequest,
  { agents, url, timeoutMs, headers: fixed, signal }: ExchangeTerms & { readonly agents: Agents },
): Promise<Attempt> {
  const { method, path, body } = request;
  const headers: Record<string, string | number> = {
    'x-deadline-ms': Math.min(timeoutMs, deadlineHeaderMsMax),
    ...fixed,
    ...request.headers,
  };
  if (body !== undefined) headers['content-length'] = body.length;
  return new Promise((resolve) => {
    const sent = sendTo(url, { agents, method, path, headers, signal }, (response) =>
      collect(response, resolve),
    );
    sent.setTimeout(timeoutMs + answerMarginMs, () => sent.destroy(new Error('no answer in time')));
    sent.on('error', (error: NodeJS.ErrnoException) => {
      resolve({ error, wasSent: !neverSent.has(error.code ?? '') });
    });
    sent.end(body);
  });
}

/** BAD_REQUEST where it is no http or https URL. */
export function parseEndpoint(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  // A path or a query would be left out of each request, a name and a password never be sent. What
  // they are is not shown: it may be secret.
  const isPlain =
    url !== undefined &&
    /^https?:$/.test(url.protocol) &&
    `${url.username}${url.password}${url.search}${url.hash}` === '' &&
    url.pathname === '/';
  if (isPlain) return url;
  const named = url === undefined ? text : `${url.protocol}//${url.host}`;
  throw new ClientError(
    'BAD_REQUEST',
    0,
    `endpoint ${named}: expected http://host:port or https://host:port, without a path, a query or a name`,
    false,
  );
}

/** Why an attempt was no success. */
export function toClientError(
  outcome: Attempt,
  request: ClientRequest,
  endpoint: string,
): ClientError {
  if ('error' in outcome) {
    const { error, wasSent } = outcome;
    const isUnknown = wasSent && request.isWrite;
    const code = isUnknown ? 'UNKNOWN_OUTCOME' : 'UNREACHABLE';
    return new ClientError(code, 0, `${endpoint}: ${error.message}`, isUnknown);
  }
  const { status, body } = outcome.answer;
  const { code, detail, fields } = parseProblem(body, status);
  const isUnknown =
    request.isWrite && (isErrorCode(code) ? errorTable[code].effect === 'unknown' : status >= 500);
  return withAnswer(new ClientError(code, status, detail, isUnknown, fields), outcome.answer);
}

function withAnswer(error: ClientError, answer: ClientAnswer | undefined): ClientError {
  error.answer = answer;
  return error;
}

/**
 * The error that ends a call, where one of its attempts may have had an effect. A condition that was
 * judged under a request id is definite all the same: the id has that result for good (rule ID-3).
 */
export function finalError(
  error: ClientError,
  isUnknown: boolean,
  { isIdempotent }: ClientRequest,
): ClientError {
  const { code, status, detail, fields } = error;
  const isJudged = code === 'CONFLICT' && isIdempotent;
  const final = new ClientError(code, status, detail, isUnknown && !isJudged, fields);
  return withAnswer(final, error.answer);
}

/** Whether the same request may be sent once more, here or elsewhere (rule ID-1). */
export function mayRetry(
  { code, status, isOutcomeUnknown }: ClientError,
  request: ClientRequest,
): boolean {
  if (isOutcomeUnknown && !request.isIdempotent) return false;
  if (status === 0) return true;
  return isErrorCode(code) ? errorTable[code].retry !== 'never' : status >= 500;
}

const firstPauseMs = 50;
const pauseMsMax = 2000;

/** Doubles with each attempt; any part of it, so that many clients do not come back in step. */
export function pauseMs(attempt: number, random: () => number = Math.random): number {
  return random() * Math.min(pauseMsMax, firstPauseMs * 2 ** attempt);
}

interface Problem {
  readonly code: string;
  readonly detail: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** An answer without a problem document (HEAD, a proxy) gets its code from the status. */
function parseProblem(body: Buffer, status: number): Problem {
  try {
    const fields = JSON.parse(body.toString()) as Record<string, unknown>;
    const { code, detail } = fields;
    if (typeof code === 'string')
      return { code, detail: typeof detail === 'string' ? detail : code, fields };
  } catch {
    // Not a document of ours.
  }
  const detail = `status ${status}`;
  const code = status === 404 ? 'NOT_FOUND' : `HTTP_${status}`;
  return { code, detail, fields: {} };
}
