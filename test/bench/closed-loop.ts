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
  /** Errors in the answer when it is complete, undefined while it is not. */
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

interface LoopState {
  next: number;
  done: number;
  errors: number;
  /** When all connections were there: what is due counts from here. */
  startMs: number;
  endMs: number;
}

/** A connection that is there, and its opening answered. */
interface OpenConnection {
  /** Ends when its last request was answered. */
  readonly run: () => Promise<void>;
}

/** Rejects when a connection breaks. */
export async function closedLoop(options: LoopOptions): Promise<LoadResult> {
  const { durationMs = Number.POSITIVE_INFINITY } = options;
  const latencies = new Float64Array(options.requests);
  const state: LoopState = { next: 0, done: 0, errors: 0, startMs: 0, endMs: 0 };
  const sockets = Array.from({ length: options.connections }, (_, i) =>
    connect({
      port: options.ports[i % options.ports.length] as number,
      host: '127.0.0.1',
      noDelay: true,
    }),
  );
  try {
    const opened = sockets.map((socket) => openConnection(socket, options, state, latencies));
    const open = await Promise.all(opened);
    state.startMs = performance.now();
    state.endMs = state.startMs + durationMs;
    await Promise.all(open.map(({ run }) => run()));
  } finally {
    for (const socket of sockets) socket.destroy();
  }
  const seconds = (performance.now() - state.startMs) / 1000;
  const { done, errors } = state;
  const sorted = latencies.subarray(0, done).sort();
  const at = (part: number): number => sorted[Math.floor(part * (sorted.length - 1))] ?? 0;
  return { perSecond: done / seconds, done, p50Ms: at(0.5), p99Ms: at(0.99), errors };
}

function openConnection(
  socket: Socket,
  { requests, pauseMs = 0, perSecond = Infinity, converse }: LoopOptions,
  state: LoopState,
  latencies: Float64Array,
): Promise<OpenConnection> {
  return new Promise((opened, refused) => {
    const { opening, ask, feed } = converse((bytes) => socket.write(bytes));
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
    const sendNext = (): void => {
      const n = state.next;
      const nowMs = performance.now();
      dueMs = perSecond === Infinity ? nowMs : state.startMs + (n / perSecond) * 1000;
      if (n >= requests || Math.max(nowMs, dueMs) >= state.endMs) {
        socket.destroy();
        ended();
        return;
      }
      state.next += 1;
      if (dueMs <= nowMs) socket.write(ask(n));
      else setTimeout(() => socket.write(ask(n)), dueMs - nowMs);
    };
    const run = (): Promise<void> => {
      sendNext();
      return ending;
    };
    const isThere = (): void => {
      isOpen = true;
      opened({ run });
    };
    const fail = (error: Error): void => {
      socket.destroy();
      refused(error);
      broken(error);
    };
    const heard = (chunk: Buffer): void => {
      const errors = feed(chunk);
      if (errors === undefined) return;
      if (!isOpen) {
        if (errors > 0) throw new Error('what opens a connection was refused');
        isThere();
        return;
      }
      latencies[state.done] = performance.now() - dueMs;
      state.done += 1;
      state.errors += errors;
      if (pauseMs > 0) setTimeout(sendNext, pauseMs);
      else sendNext();
    };
    socket.on('connect', () => {
      if (opening === undefined) isThere();
      else socket.write(opening);
    });
    socket.on('data', (chunk) => {
      try {
        heard(chunk);
      } catch (error) {
        fail(error as Error);
      }
    });
    socket.on('error', fail);
    socket.on('end', () => fail(new Error('the server closed a connection')));
  });
}
