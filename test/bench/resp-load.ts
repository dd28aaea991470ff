// A closed-loop load on a Redis port: each connection keeps one pipeline of commands on its way and
// sends the next when the last answer is there. Requests are prepared bytes; answers are counted by
// their lengths alone, so that the client takes little of the shared processors.

import { connect } from 'node:net';

export interface RespLoadOptions {
  readonly port: number;
  readonly connections: number;
  /** Commands of one pipeline. */
  readonly depth: number;
  /** Commands in all, at most. */
  readonly requests: number;
  /** No pipeline begins later, milliseconds. */
  readonly durationMs?: number;
  /** One pipeline: bytes of `depth` commands from the n-th on. */
  readonly pipeline: (n: number) => Buffer;
}

export interface RespLoadResult {
  readonly perSecond: number;
  /** Of whole pipelines, milliseconds. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly errors: number;
}

const encoded = (args: readonly string[]): string =>
  `*${args.length}\r\n${args.map((arg) => `$${Buffer.byteLength(arg)}\r\n${arg}\r\n`).join('')}`;

/** Prepared pipelines of `depth` commands each, used in turn. */
export function pipelines(
  count: number,
  depth: number,
  command: (n: number) => readonly string[],
): (n: number) => Buffer {
  const prepared = Array.from({ length: count }, (_, i) =>
    Buffer.from(Array.from({ length: depth }, (__, j) => encoded(command(i * depth + j))).join('')),
  );
  return (n) => prepared[n % count] as Buffer;
}

/** Rejects when a connection breaks. */
export async function respLoad(options: RespLoadOptions): Promise<RespLoadResult> {
  const total = Math.ceil(options.requests / options.depth);
  const { durationMs = Number.POSITIVE_INFINITY } = options;
  const latencies = new Float64Array(total);
  const startMs = performance.now();
  const state = { next: 0, done: 0, errors: 0, endMs: startMs + durationMs };
  await Promise.all(
    Array.from({ length: options.connections }, () => runConnection(options, state, latencies)),
  );
  const seconds = (performance.now() - startMs) / 1000;
  const sorted = latencies.subarray(0, state.done).sort();
  const at = (part: number): number => sorted[Math.floor(part * (sorted.length - 1))] ?? 0;
  const { errors, done } = state;
  return { perSecond: (done * options.depth) / seconds, p50Ms: at(0.5), p99Ms: at(0.99), errors };
}

interface LoadState {
  next: number;
  done: number;
  errors: number;
  readonly endMs: number;
}

function runConnection(
  { port, depth, pipeline }: RespLoadOptions,
  state: LoadState,
  latencies: Float64Array,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    let sentMs = 0;
    let left = 0;
    const sendNext = (): void => {
      sentMs = performance.now();
      if (state.next >= latencies.length || sentMs >= state.endMs) {
        socket.destroy();
        resolve();
        return;
      }
      left = depth;
      socket.write(pipeline(state.next));
      state.next += 1;
    };
    const counter = new AnswerCounter();
    socket.on('connect', sendNext);
    socket.on('data', (chunk) => {
      left -= counter.feed(chunk);
      if (left > 0) return;
      state.errors += counter.errors;
      counter.errors = 0;
      latencies[state.done] = performance.now() - sentMs;
      state.done += 1;
      sendNext();
    });
    socket.on('error', reject);
    socket.on('end', () => reject(new Error('the server closed a connection')));
  });
}

const lf = 0x0a;
const dollar = 0x24;
const minus = 0x2d;
const star = 0x2a;

/** Counts answers that are lines, bulk strings or flat arrays, without looking into them. */
class AnswerCounter {
  errors = 0;
  #skip = 0;
  /** Items that the array which is read still lacks. */
  #items = 0;
  #type = 0;
  #length = 0;

  feed(chunk: Buffer): number {
    let count = 0;
    let at = 0;
    while (at < chunk.length) {
      if (this.#skip > 0) {
        const step = Math.min(this.#skip, chunk.length - at);
        this.#skip -= step;
        at += step;
        if (this.#skip === 0) count += this.#ended();
        continue;
      }
      const byte = chunk[at] as number;
      at += 1;
      if (this.#type === 0) {
        this.#type = byte;
        this.#length = 0;
        if (byte === minus) this.errors += 1;
      } else if (byte === lf) {
        if (this.#type === dollar && this.#length >= 0) this.#skip = this.#length + 2;
        else if (this.#type === star && this.#length > 0) this.#items = this.#length;
        else count += this.#ended();
        this.#type = 0;
      } else if (byte === minus) this.#length = -1;
      else if ((this.#type === dollar || this.#type === star) && byte >= 0x30 && this.#length >= 0)
        this.#length = this.#length * 10 + byte - 0x30;
    }
    return count;
  }

  /** 1 where the answer is complete. */
  #ended(): number {
    if (this.#items > 0) this.#items -= 1;
    return this.#items === 0 ? 1 : 0;
  }
}
