// Clients that know nothing of kvd but its HTTP: they send one request at a time to one node, record
// when it began and ended and what came back, and never retry.

import { Agent, type IncomingMessage, request as httpRequest } from 'node:http';
import type { Operation, Outcome } from './history.ts';

interface Answer {
  readonly status: number;
  readonly etag: string | undefined;
  readonly token: string | undefined;
  readonly body: Readonly<Record<string, unknown>>;
}

interface Sent {
  readonly method: string;
  readonly path: string;
  readonly body?: unknown;
}

/** Refusals that certainly had no effect: all 4xx, and these of 5xx (docs/errors.md). */
const withoutEffect = new Set([
  'UNAVAILABLE',
  'DRAINING',
  'DISK_FULL',
  'NOT_IMPLEMENTED',
  'SESSION_UNSATISFIED',
  'CLOCK_SKEW',
  'FUTURE_VERSION',
]);
/** The node was down: nothing was sent. */
const nobodyThere: Answer = {
  status: 0,
  etag: undefined,
  token: undefined,
  body: { code: 'DOWN' },
};
const deadlineMs = 3000;
const answerMarginMs = 1500;

export class Recorder {
  readonly history: Operation[] = [];
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 64 });

  close(): void {
    this.#agent.destroy();
  }

  /** Writes a value of JSON text, or deletes with undefined; the session's next token. */
  async write(at: Request, value: string | undefined): Promise<string | undefined> {
    const kind = value === undefined ? 'delete' : 'write';
    const sent =
      value === undefined
        ? { method: 'DELETE', path: pathOf(at) }
        : { method: 'PUT', path: pathOf(at), body: { value } };
    const { operation, answer } = await this.#record(at, kind, sent, value);
    this.history.push(operation);
    return answer?.token;
  }

  async read(at: Request): Promise<string | undefined> {
    const sent = { method: 'GET', path: pathOf(at) };
    const { operation, answer } = await this.#record(at, 'read', sent, undefined);
    const value = answer?.body['value'] as string | undefined;
    this.history.push({ ...operation, value: operation.outcome === 'ok' ? value : undefined });
    return answer?.token;
  }

  async increment(at: Request): Promise<void> {
    const sent = { method: 'POST', path: `${pathOf(at)}/incr`, body: { delta: 1 } };
    const { operation, answer } = await this.#record(at, 'increment', sent, undefined);
    const value = answer === undefined ? undefined : String(answer.body['value']);
    this.history.push({ ...operation, value });
  }

  /** One value under all of the keys, or nothing of it. */
  async batch(at: Request, keys: readonly string[], value: string): Promise<void> {
    const operations = keys.map((key) => ({ key, value }));
    const body = { atomic: true, operations };
    const sent = { method: 'POST', path: `${at.url}/api/v1/batch/put`, body };
    const { operation } = await this.#record(at, 'batch', sent, value);
    this.history.push({ ...operation, keys });
  }

  /** Writes `value` where `expected` is found. */
  async cas(at: Request, expected: string, value: string): Promise<void> {
    const body = { expected_value: expected, new_value: value };
    const sent = { method: 'POST', path: `${pathOf(at)}/cas`, body };
    const { operation, answer } = await this.#record(at, 'cas', sent, value);
    // 409 and 404 are answers here: the condition was looked at and did not hold.
    const isAnswer = answer !== undefined && [200, 404, 409].includes(answer.status);
    const outcome = isAnswer ? 'ok' : operation.outcome;
    this.history.push({ ...operation, outcome, expected, wasMet: answer?.status === 200 });
  }

  async #record(
    { client, key, level, token }: Request,
    kind: Operation['kind'],
    sent: Sent,
    value: string | undefined,
  ): Promise<{ operation: Operation; answer: Answer | undefined }> {
    const known = { client, kind, key, level, value };
    const startMs = performance.now();
    const answer = await this.#send(sent, level, token);
    const endMs = performance.now();
    const outcome = outcomeOf(answer, kind);
    const code = answer?.body['code'];
    const operation: Operation = {
      ...known,
      startMs,
      endMs,
      outcome,
      etag: outcome === 'ok' ? answer?.etag : undefined,
      ...(typeof code === 'string' ? { code } : {}),
    };
    return { operation, answer };
  }

  #send(
    { method, path, body }: Sent,
    level: string,
    token: string | undefined,
  ): Promise<Answer | undefined> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    return new Promise((resolve) => {
      const sent = httpRequest(
        path,
        {
          method,
          agent: this.#agent,
          headers: {
            'consistency-level': level,
            'x-deadline-ms': String(deadlineMs),
            ...(text === undefined ? {} : { 'content-type': 'application/json' }),
            ...(token === undefined ? {} : { 'x-session-token': token }),
          },
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('error', () => resolve(undefined));
          response.on('end', () => resolve(toAnswer(response, Buffer.concat(chunks))));
        },
      );
      sent.setTimeout(deadlineMs + answerMarginMs, () => sent.destroy());
      sent.on('error', (error: NodeJS.ErrnoException) =>
        resolve(error.code === 'ECONNREFUSED' ? nobodyThere : undefined),
      );
      sent.end(text);
    });
  }
}

/** Who asks for what, and of which node. */
export interface Request {
  readonly client: number;
  readonly url: string;
  readonly key: string;
  readonly level: string;
  /** Of the session. */
  readonly token?: string | undefined;
}

const pathOf = ({ url, key }: Request): string => `${url}/api/v1/keys/${key}`;

function toAnswer({ statusCode = 0, headers }: IncomingMessage, bytes: Buffer): Answer | undefined {
  try {
    const body = bytes.length === 0 ? {} : (JSON.parse(bytes.toString()) as Answer['body']);
    const etag = headers['etag'];
    const token = headers['x-session-token'];
    return {
      status: statusCode,
      etag: typeof etag === 'string' ? etag.replaceAll('"', '') : undefined,
      token: typeof token === 'string' ? token : undefined,
      body,
    };
  } catch {
    return undefined;
  }
}

/** No answer at all: the request may have arrived. */
function outcomeOf(answer: Answer | undefined, kind: Operation['kind']): Outcome {
  if (answer === undefined) return 'unknown';
  const { status, body } = answer;
  if (status === 200 || (kind === 'read' && status === 404)) return 'ok';
  if (status < 500 || withoutEffect.has(String(body['code']))) return 'fail';
  return 'unknown';
}
