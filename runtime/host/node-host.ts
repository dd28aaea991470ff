// The real world as a kernel sees it: clock, timers, randomness, log and figures of one thread of
// a node process. The simulator implements the same interface with virtual ones (rule SIM-1).

import { randomBytes } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { high32 } from '../bytes.ts';
import type { Capabilities, Clock, Host, Log, Probe, TimerHandle, Timers } from '../environment.ts';
import { MetricRegistry } from '../metrics.ts';
import { Prng } from '../prng.ts';

export interface NodeHostOptions {
  readonly log: Log;
  readonly capabilities: Capabilities;
  /** Called at most once: the node must end now, with `reason` as the last line of its log. */
  readonly onStop: (reason: string) => void;
}

/**
 * The host of one thread. `log` already carries the names of node and thread. Monotonic times of
 * two threads of a process may be compared (within 10 us).
 */
export function createNodeHost({ log, capabilities, onStop }: NodeHostOptions): Host {
  let stopping = false;
  return {
    clock: createClock(),
    timers: nodeTimers,
    random: new Prng(randomSeed()),
    log,
    probe: noProbe,
    metrics: new MetricRegistry(),
    capabilities,
    stopNode: (reason) => {
      if (stopping) return;
      stopping = true;
      onStop(reason);
    },
  };
}

/** performance.now() counts from the start of its thread; this adds what makes it comparable. */
export function createClock(): Clock {
  const offsetMs = monotonicOffsetMs();
  return {
    monotonicMs: () => performance.now() + offsetMs,
    // Whole milliseconds: the hybrid clock counts on by itself within one (rule HLC-1).
    wallMicros: () => Date.now() * 1000,
  };
}

/** From the tightest of a few readings, since a thread may be paused between two of them. */
function monotonicOffsetMs(): number {
  let best = { spanMs: Infinity, offsetMs: 0 };
  for (let i = 0; i < 8; i += 1) {
    const beforeMs = performance.now();
    const [seconds, nanos] = process.hrtime();
    const afterMs = performance.now();
    const spanMs = afterMs - beforeMs;
    const offsetMs = seconds * 1000 + nanos / 1e6 - (beforeMs + afterMs) / 2;
    if (spanMs < best.spanMs) best = { spanMs, offsetMs };
  }
  return best.offsetMs;
}

/** Above, setTimeout fires at once. */
const timeoutMsMax = 2 ** 31 - 1;

/** A longer delay is one timer after the other. */
function startTimer(delayMs: number, fire: () => void): TimerHandle {
  // Rounded up: a timer never fires before its time.
  let leftMs = Math.ceil(Math.max(0, delayMs));
  let timer: NodeJS.Timeout;
  const next = (): void => {
    const stepMs = Math.min(leftMs, timeoutMsMax);
    leftMs -= stepMs;
    timer = setTimeout(leftMs > 0 ? next : fire, stepMs);
  };
  next();
  return { cancel: () => clearTimeout(timer) };
}

export const nodeTimers: Timers = {
  after: startTimer,
  soon: (fire) => {
    process.nextTick(fire);
  },
  later: (fire) => {
    setImmediate(fire);
  },
};

const noProbe: Probe = { reach: () => undefined, buggify: () => false };

/** From the system's generator; a copy, since a Buffer may be a part of a pool. */
export const secretBytes = (length: number): Uint8Array => new Uint8Array(randomBytes(length));

/** 53 bits from the system's generator. */
function randomSeed(): number {
  const bytes = randomBytes(8);
  return (bytes.readUInt32LE(0) & 0x1fffff) * high32 + bytes.readUInt32LE(4);
}
