// A closed-loop load on TCP ports: each connection sends its next request when the last one was
// answered; with `perSecond` not before it is due, and then its latency counts from when it was due
// (an open loop: a server that falls behind is not spared). Nothing is due before all connections are
// there. Requests are prepared bytes and answers are only followed to their end, so that the client
// takes as little of the shared processors as it can; what it measures is the server and the kernel.
// What is said on a connection is a `Conversation`: HTTP/1.1 (http-load.ts), Redis (resp-load.ts),
// gRPC (grpc-load.ts).

import { connect, type Socket } from 'node:net';

/** What one connection says and hears. */
export interface Conversation {
  /** Bytes before the first request, which is sent when `feed` has called them answered. */
  readonly opening?: Buffer | undefined;
  /** Bytes of the n-th request, whose answer comes next. */
  readonly ask: (n: number) => Buffer;
  /**
   * Errors in the answer when it is complete, undefined while it is not. The bytes are there during
   * the call: the next ones come to lie over them.
   */
  readonly feed: (chunk: Buffer) => number | undefined;
}

export interface LoopOptions {
  /** Connections are spread over these, in turn. */
  readonly ports: readonly number[];
  readonly connections: number;
  /** Requests in all, at most. */
  readonly requests: number;
  /** No request begins later, milliseconds. */
  readonly durationMs?: number | undefined;
  /** Between an answer and the next request of the connection, milliseconds. Default 0. */
  readonly pauseMs?: number | undefined;
  /** Requests are due at this rate, however long answers take. Default: at once. */
  readonly perSecond?: number | undefined;
  /** `send`: bytes that are no request, such as an acknowledgement. */
  readonly converse: (send: (bytes: Buffer) => void) => Conversation;
}

export interface LoadResult {
  /** Requests per second. */
  readonly perSecond: number;
  readonly done: number;
  /** Of one request, milliseconds. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly errors: number;
}

/** What is read at once from one socket, at most. */
const readBytes = 64 * 1024;

/** A connection that is there, and its opening answered. */
interface OpenConnection {
  /** Ends when its last request was answered. */
  readonly run: () => Promise<void>;
}

/** Rejects when a connection breaks. */
export async function closedLoop(options: LoopOptions): Promise<LoadResult> {
  const loop = new Loop(options);
  try {
    return await loop.run();
  } finally {
    loop.end();
  }
}

class Loop {
  readonly #options: LoopOptions;
  readonly #latencies: Float64Array;
  readonly #sockets: Socket[] = [];
  /** One for all: without it each read costs an array of this size. */
  readonly #buffer = Buffer.alloc(readBytes);
  #next = 0;
  #done = 0;
  #errors = 0;
  /** When all connections were there: what is due counts from here. */
  #startMs = 0;
  #endMs = 0;

  constructor(options: LoopOptions) {
    this.#options = options;
    this.#latencies = new Float64Array(options.requests);
  }

  async run(): Promise<LoadResult> {
    const { connections, ports, durationMs = Number.POSITIVE_INFINITY } = this.#options;
    const opened = Array.from({ length: connections }, (_, i) =>
      this.#open(ports[i % ports.length] as number),
    );
    const open = await Promise.all(opened);
    this.#startMs = performance.now();
    this.#endMs = this.#startMs + durationMs;
    await Promise.all(open.map(({ run }) => run()));
    const seconds = (performance.now() - this.#startMs) / 1000;
    const done = this.#done;
    const sorted = this.#latencies.subarray(0, done).sort();
    const at = (part: number): number => sorted[Math.floor(part * (sorted.length - 1))] ?? 0;
    const figures = { p50Ms: at(0.5), p99Ms: at(0.99), errors: this.#errors };
    return { perSecond: done / seconds, done, ...figures };
  }

  end(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #open(port: number): Promise<OpenConnection> {
    const { requests, pauseMs = 0, perSecond = Infinity, converse } = this.#options;
    return new Promise((opened, refused) => {
      let isOpen = false;
      let dueMs = 0;
      let ended = (): void => undefined;
      let broken: (error: Error) => void = () => undefined;
      const ending = new Promise<void>((resolve, reject) => {
        ended = resolve;
        broken = reject;
      });
      // Where it breaks before `run`, nobody waits for it yet.
      ending.catch(() => undefined);
      const fail = (error: Error): void => {
        socket.destroy();
        refused(error);
        broken(error);
      };
      const callback = (bytes: number): boolean => {
        try {
          heard(this.#buffer.subarray(0, bytes));
        } catch (error) {
          fail(error as Error);
        }
        return true;
      };
      const onread = { buffer: this.#buffer, callback };
      const socket = connect({ port, host: '127.0.0.1', noDelay: true, onread });
      this.#sockets.push(socket);
      const { opening, ask, feed } = converse((bytes) => socket.write(bytes));
      const sendNext = (): void => {
        const n = this.#next;
        const nowMs = performance.now();
        dueMs = perSecond === Infinity ? nowMs : this.#startMs + (n / perSecond) * 1000;
        if (n >= requests || Math.max(nowMs, dueMs) >= this.#endMs) {
          socket.destroy();
          ended();
          return;
        }
        this.#next += 1;
        if (dueMs <= nowMs) socket.write(ask(n));
        else setTimeout(() => sendDue(n), dueMs - nowMs);
      };
      const sendDue = (n: number): void => {
        // A timer may be early by part of a millisecond.
        dueMs = Math.min(dueMs, performance.now());
        socket.write(ask(n));
      };
      const run = (): Promise<void> => {
        sendNext();
        return ending;
      };
      const isThere = (): void => {
        isOpen = true;
        opened({ run });
      };
      const heard = (chunk: Buffer): void => {
        const errors = feed(chunk);
        if (errors === undefined) return;
        if (!isOpen) {
          if (errors > 0) throw new Error('what opens a connection was refused');
          isThere();
          return;
        }
        this.#latencies[this.#done] = performance.now() - dueMs;
        this.#done += 1;
        this.#errors += errors;
        if (pauseMs > 0) setTimeout(sendNext, pauseMs);
        else sendNext();
      };
      socket.on('connect', () => {
        if (opening === undefined) isThere();
        else socket.write(opening);
      });
      socket.on('error', fail);
      socket.on('end', () => fail(new Error('the server closed a connection')));
    });
  }
}
