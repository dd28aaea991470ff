// A closed-loop HTTP load: each connection sends its next request when the last one was answered.
// Requests are prepared bytes and answers are only counted to their end, so that the client takes
// as little of the shared processors as it can; what it measures is the server and the kernel.

import { connect, type Socket } from 'node:net';

export interface LoadOptions {
  readonly port: number;
  readonly connections: number;
  readonly requests: number;
  /** Whole request bytes for the n-th request. */
  readonly request: (n: number) => Buffer;
}

export interface LoadResult {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Answers that were no 2xx. */
  readonly errors: number;
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

/** Runs all requests; rejects when a connection breaks. */
export async function httpLoad(options: LoadOptions): Promise<LoadResult> {
  const latencies = new Float64Array(options.requests);
  const state = { next: 0, done: 0, errors: 0 };
  const startMs = performance.now();
  await Promise.all(
    Array.from({ length: options.connections }, () => runConnection(options, state, latencies)),
  );
  const seconds = (performance.now() - startMs) / 1000;
  const sorted = latencies.subarray(0, state.done).sort();
  const at = (part: number): number => sorted[Math.floor(part * (sorted.length - 1))] ?? 0;
  return {
    perSecond: state.done / seconds,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    errors: state.errors,
  };
}

interface LoadState {
  next: number;
  done: number;
  errors: number;
}

function runConnection(
  { port, requests, request }: LoadOptions,
  state: LoadState,
  latencies: Float64Array,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket: Socket = connect({ port, host: '127.0.0.1', noDelay: true });
    let sentMs = 0;
    const sendNext = (): void => {
      if (state.next >= requests) {
        socket.destroy();
        resolve();
        return;
      }
      const n = state.next;
      state.next += 1;
      sentMs = performance.now();
      socket.write(request(n));
    };
    const reader = new AnswerReader((status) => {
      latencies[state.done] = performance.now() - sentMs;
      state.done += 1;
      if (status < 200 || status > 299) state.errors += 1;
      sendNext();
    });
    socket.on('connect', sendNext);
    socket.on('data', (chunk) => reader.feed(chunk));
    socket.on('error', reject);
    socket.on('end', () => reject(new Error('the server closed a connection')));
  });
}

/** Finds the end of each answer by its content-length. */
class AnswerReader {
  readonly #answered: (status: number) => void;
  #held: Buffer = Buffer.alloc(0);

  constructor(answered: (status: number) => void) {
    this.#answered = answered;
  }

  feed(chunk: Buffer): void {
    this.#held = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const headEnd = this.#held.indexOf('\r\n\r\n');
    if (headEnd < 0) return;
    const head = this.#held.toString('latin1', 0, headEnd);
    const length = Number(/content-length: *(\d+)/i.exec(head)?.[1] ?? 0);
    const end = headEnd + 4 + length;
    if (this.#held.length < end) return;
    this.#held = this.#held.subarray(end);
    this.#answered(Number(head.slice(9, 12)));
  }
}
