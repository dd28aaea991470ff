// HTTP/1.1 for closed-loop.ts: prepared requests, answers counted by their status.

import { closedLoop, type Conversation, type LoadResult } from './closed-loop.ts';

export interface LoadOptions {
  readonly port: number;
  readonly connections: number;
  readonly requests: number;
  /** Between an answer and the next request, milliseconds. Default 0. */
  readonly pauseMs?: number;
  /** Whole request bytes for the n-th request. */
  readonly request: (n: number) => Buffer;
}

/** A whole request as bytes; with a body it is JSON. */
export function requestBytes(
  method: string,
  path: string,
  { level, body }: { readonly level?: string; readonly body?: string } = {},
): Buffer {
  const lines = [
    `${method} ${path} HTTP/1.1`,
    'host: bench',
    ...(level === undefined ? [] : [`consistency-level: ${level}`]),
    ...(body === undefined
      ? []
      : ['content-type: application/json', `content-length: ${Buffer.byteLength(body)}`]),
  ];
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n${body ?? ''}`);
}

export const keyPath = (key: string): string => `/api/v1/keys/${encodeURIComponent(key)}`;

export const putRequest = (key: string, value: string): Buffer =>
  requestBytes('PUT', keyPath(key), { body: `{"value":${value}}` });

export const getRequest = (key: string): Buffer => requestBytes('GET', keyPath(key));

/** Runs all requests; rejects when a connection breaks. An error is an answer that is no 2xx. */
export function httpLoad({ port, request, ...options }: LoadOptions): Promise<LoadResult> {
  const converse = (): Conversation => {
    const reader = new AnswerReader();
    return { ask: request, feed: (chunk) => reader.feed(chunk) };
  };
  return closedLoop({ ...options, ports: [port], converse });
}

/** Finds the end of each answer by its content-length. */
class AnswerReader {
  /** Of the answer that is not complete yet. */
  #held: Buffer = Buffer.alloc(0);

  feed(chunk: Buffer): number | undefined {
    const isOwn = this.#held.length > 0;
    const bytes = isOwn ? Buffer.concat([this.#held, chunk]) : chunk;
    const { end, errors } = firstAnswer(bytes);
    const rest = bytes.subarray(end);
    this.#held = isOwn ? rest : Buffer.from(rest);
    return errors;
  }
}

/** Where the first answer ends, and its errors; 0 and undefined where it is not complete. */
function firstAnswer(bytes: Buffer): { readonly end: number; readonly errors?: number } {
  const headEnd = bytes.indexOf('\r\n\r\n');
  if (headEnd < 0) return { end: 0 };
  const head = bytes.toString('latin1', 0, headEnd);
  const length = Number(/content-length: *(\d+)/i.exec(head)?.[1] ?? 0);
  const end = headEnd + 4 + length;
  if (bytes.length < end) return { end: 0 };
  const status = Number(head.slice(9, 12));
  return { end, errors: status < 200 || status > 299 ? 1 : 0 };
}
