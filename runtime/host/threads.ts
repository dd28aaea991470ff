// The threads of a node as the main thread sees them: it starts one worker per thread of the
// placement, calls them over comlink, and watches them. It relays no messages: every two threads
// are joined by rings in shared memory, with a port beside them that only says "look".
//
// A worker that ends unasked has lost state that others count on, so the node ends with it (rule
// TR-5): nothing is respawned. comlink by itself would leave every open call of a dead worker
// hanging for ever, so each call also ends with its worker, and at a time limit.

import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import * as comlink from 'comlink';
import type { Log } from '../environment.ts';
import { KvError } from '../errors.ts';
import type { MetricSample } from '../metrics.ts';
import {
  asEndpoint,
  type LastWords,
  type ServedThread,
  type ThreadData,
  ThreadMeter,
  type ThreadReport,
} from './thread-control.ts';

/** A thread's way to one other thread of its node. */
export interface ThreadJoint {
  readonly outgoing: SharedArrayBuffer;
  readonly incoming: SharedArrayBuffer;
  readonly doorbell: MessagePort;
}

/** A thread's ways to all others, by thread number. */
export interface ThreadPart {
  readonly rings: Readonly<Record<number, ThreadJoint>>;
}

export interface ThreadsOptions {
  /** Threads of the node, the main thread (number 0) included. */
  readonly threads: number;
  /** The compiled entry file of a worker; it calls serveThread. */
  readonly entry: URL;
  readonly nameOf: (thread: number) => string;
  /** What the worker gets: plain data, shared memory, and the ports that transferFor lists. */
  readonly dataFor: (thread: number) => unknown;
  readonly transferFor: (thread: number) => readonly MessagePort[];
  /** A thread ended unasked; `reason` is one line. Called at most once. */
  readonly onFatal: (reason: string) => void;
}

/** One worker thread. Each call rejects with TIMEOUT, or UNREACHABLE when the thread ends. */
export interface ThreadHandle {
  readonly thread: number;
  readonly name: string;
  readonly start: (timeoutMs: number) => Promise<void>;
  readonly drain: (timeoutMs: number) => Promise<void>;
  /** Ends the thread, also where its own stop fails or takes too long. */
  readonly stop: (timeoutMs: number) => Promise<void>;
  readonly samples: (timeoutMs: number) => Promise<readonly MetricSample[]>;
  readonly report: (timeoutMs: number) => Promise<ThreadReport>;
}

/** Starts the workers of all threads but the main one, in the order of their numbers. */
export function startThreads(options: ThreadsOptions): readonly ThreadHandle[] {
  let isFatal = false;
  const onFatal = (reason: string): void => {
    if (isFatal) return;
    isFatal = true;
    options.onFatal(reason);
  };
  const handles: ThreadHandle[] = [];
  for (let thread = 1; thread < options.threads; thread += 1)
    handles.push(new WorkerHandle(thread, { ...options, onFatal }));
  return handles;
}

/** Twice the default: what requests in flight hold is copied less often (docs/performance.md). */
const youngMegabytes = 96;

class WorkerHandle implements ThreadHandle {
  readonly thread: number;
  readonly name: string;
  readonly #worker: Worker;
  readonly #port: MessagePort;
  /** Held for the life of the thread: a collected proxy would take its open calls with it. */
  readonly #remote: comlink.Remote<ServedThread>;
  /** Ends the open calls. */
  readonly #open = new Set<(problem: KvError) => void>();
  #isStopping = false;
  #gone: KvError | undefined;

  constructor(thread: number, options: ThreadsOptions) {
    const { nameOf, dataFor, transferFor, onFatal } = options;
    const { port1, port2 } = new MessageChannel();
    this.thread = thread;
    this.name = nameOf(thread);
    this.#port = port1;
    this.#remote = comlink.wrap<ServedThread>(asEndpoint(port1));
    const data: ThreadData = { thread, name: this.name, control: port2, data: dataFor(thread) };
    this.#worker = new Worker(options.entry, {
      name: this.name,
      workerData: data,
      resourceLimits: { maxYoungGenerationSizeMb: youngMegabytes },
      transferList: [port2, ...transferFor(thread)],
    });
    let reason = '';
    this.#worker.on('message', (words: LastWords) => {
      reason = words.fatal;
    });
    this.#worker.on('error', (error: Error) => {
      reason = `${error.name}: ${error.message}`;
    });
    this.#worker.on('exit', (code) => {
      this.#ended();
      if (this.#isStopping) return;
      onFatal(`thread ${this.name} ended: ${reason === '' ? `exit code ${code}` : reason}`);
    });
  }

  readonly start = (timeoutMs: number): Promise<void> =>
    this.#call('start', this.#remote.start(), timeoutMs);

  readonly drain = (timeoutMs: number): Promise<void> =>
    this.#call('drain', this.#remote.drain(), timeoutMs);

  readonly samples = (timeoutMs: number): Promise<readonly MetricSample[]> =>
    this.#call('samples', this.#remote.samples(), timeoutMs);

  readonly report = (timeoutMs: number): Promise<ThreadReport> =>
    this.#call('report', this.#remote.report(), timeoutMs);

  readonly stop = async (timeoutMs: number): Promise<void> => {
    this.#isStopping = true;
    try {
      await this.#call('stop', this.#remote.stop(), timeoutMs);
    } finally {
      await this.#worker.terminate();
    }
  };

  #ended(): void {
    this.#gone = new KvError('UNREACHABLE', { thread: this.name });
    this.#port.close();
    for (const end of this.#open) end(this.#gone);
    this.#open.clear();
  }

  #call<Reply>(name: string, reply: Promise<Reply>, timeoutMs: number): Promise<Reply> {
    return new Promise((resolve, reject) => {
      if (this.#gone !== undefined) {
        reject(this.#gone);
        return;
      }
      const end = (problem: KvError): void => {
        settle();
        reject(problem);
      };
      const timer = setTimeout(() => {
        end(new KvError('TIMEOUT', { thread: this.name, call: name, timeoutMs }));
      }, timeoutMs);
      const settle = (): void => {
        clearTimeout(timer);
        this.#open.delete(end);
      };
      this.#open.add(end);
      reply.then(
        (value) => {
          settle();
          resolve(value);
        },
        (error: unknown) => {
          settle();
          reject(error instanceof Error ? error : new Error(String(error)));
        },
      );
    });
  }
}

/**
 * Joins every two of `threads` threads: a ring for each direction, made by `createRing`, and a
 * channel that rings both ways. Element n is the part of thread n.
 */
export function createThreadMesh(
  threads: number,
  ringBytes: number,
  createRing: (bytes: number) => SharedArrayBuffer,
): readonly ThreadPart[] {
  const parts = Array.from({ length: threads }, (): { rings: Record<number, ThreadJoint> } => ({
    rings: {},
  }));
  parts.forEach((part, thread) => {
    parts.slice(0, thread).forEach((other, peer) => {
      const there = createRing(ringBytes);
      const back = createRing(ringBytes);
      const { port1, port2 } = new MessageChannel();
      part.rings[peer] = { outgoing: there, incoming: back, doorbell: port1 };
      other.rings[thread] = { outgoing: back, incoming: there, doorbell: port2 };
    });
  });
  return parts;
}

/** The ports of a part, for transferFor. */
export function doorbellsOf(part: ThreadPart): readonly MessagePort[] {
  return Object.values(part.rings).map(({ doorbell }) => doorbell);
}

/** An event loop that stood still for longer is reported. */
const stallMs = 1000;

/**
 * Looks at this thread and at `handles` every `everyMs` and logs `thread.stalled` for each whose
 * event loop stood still for over a second. Begin it when the threads have started. Returns what
 * ends the watch.
 */
export function watchStalls(
  handles: readonly ThreadHandle[],
  log: Log,
  everyMs = stallMs,
): () => void {
  const meter = new ThreadMeter();
  const check = (thread: string, { eventLoopDelayMs }: ThreadReport): void => {
    if (eventLoopDelayMs > stallMs) log.warn('thread.stalled', { thread, eventLoopDelayMs });
  };
  const checkAll = (): void => {
    check('main', meter.report());
    for (const handle of handles)
      handle.report(stallMs).then(
        (report) => check(handle.name, report),
        (error: unknown) => {
          if (error instanceof KvError && error.code === 'TIMEOUT')
            log.warn('thread.stalled', { thread: handle.name, noAnswerMs: stallMs });
        },
      );
  };
  const timer = setInterval(checkAll, everyMs);
  timer.unref();
  return () => {
    clearInterval(timer);
    meter.close();
  };
}
