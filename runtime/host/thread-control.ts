// What the main thread may ask of another thread of its node, and the other thread's side of it.
// The calls travel over comlink on a port of their own: control only, a few a second. Messages of
// actors take the rings of thread-link instead.
//
// comlink has no boundary (who holds the port can run code here), so the port never leaves the
// process.

import {
  type EventLoopUtilization,
  type IntervalHistogram,
  monitorEventLoopDelay,
  performance,
} from 'node:perf_hooks';
import { getHeapStatistics } from 'node:v8';
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import * as comlink from 'comlink';
import { assert } from '../errors.ts';
import type { MetricSample } from '../metrics.ts';

/** The life of one thread, in this order: start, drain, stop. */
export interface ThreadControl {
  /** Ends when all actors of the thread have started. */
  readonly start: () => Promise<void>;
  /** Finishes what is in flight and refuses what is new. */
  readonly drain: () => Promise<void>;
  /** Closes files and ports; the thread is ended after it. */
  readonly stop: () => Promise<void>;
  readonly samples: () => Promise<readonly MetricSample[]>;
}

export interface ThreadReport {
  readonly heapBytes: number;
  readonly heapLimitBytes: number;
  /** Memory outside of the heap: buffers. */
  readonly externalBytes: number;
  /** The longest pause of the event loop since the last report, milliseconds. */
  readonly eventLoopDelayMs: number;
  /** Part of the time since the last report in which the event loop was busy, 0 to 1. */
  readonly utilization: number;
}

/** What the main thread sees of a thread. */
export interface ServedThread extends ThreadControl {
  readonly report: () => Promise<ThreadReport>;
}

/** The workerData of a thread of the node. */
export interface ThreadData<Data = unknown> {
  readonly thread: number;
  readonly name: string;
  readonly control: MessagePort;
  readonly data: Data;
}

/** What a dying thread says last. */
export interface LastWords {
  readonly fatal: string;
}

/** In a worker's entry file: what the main thread gave to this thread. */
export function threadData<Data>(): ThreadData<Data> {
  return workerData as ThreadData<Data>;
}

/** In a worker's entry file: lets the main thread control this thread. */
export function serveThread(control: ThreadControl): void {
  const { control: port } = threadData();
  const meter = new ThreadMeter();
  const served: ServedThread = {
    start: () => control.start(),
    drain: () => control.drain(),
    stop: () => control.stop(),
    samples: () => control.samples(),
    report: () => Promise.resolve(meter.report()),
  };
  comlink.expose(served, asEndpoint(port));
}

/** Ends the whole node from a worker thread, at once: nothing of this thread runs after it. */
export function endNode(reason: string): never {
  assert(parentPort !== null, 'the main thread ends its process itself');
  parentPort.postMessage({ fatal: reason } satisfies LastWords);
  process.exit(1);
}

/** A port of Node is an EventTarget; the declarations of comlink ask for the one of browsers. */
export function asEndpoint(port: MessagePort): comlink.Endpoint {
  return port;
}

/** Measures the calling thread, from one report to the next. */
export class ThreadMeter {
  readonly #delays: IntervalHistogram = monitorEventLoopDelay({ resolution: 20 });
  #since: EventLoopUtilization = performance.eventLoopUtilization();

  constructor() {
    this.#delays.enable();
  }

  report(): ThreadReport {
    const now = performance.eventLoopUtilization();
    const { used_heap_size, heap_size_limit, external_memory } = getHeapStatistics();
    const eventLoopDelayMs = this.#delays.max / 1e6;
    const { utilization } = performance.eventLoopUtilization(now, this.#since);
    this.#since = now;
    this.#delays.reset();
    return {
      heapBytes: used_heap_size,
      heapLimitBytes: heap_size_limit,
      externalBytes: external_memory,
      eventLoopDelayMs,
      utilization,
    };
  }

  close(): void {
    this.#delays.disable();
  }
}
