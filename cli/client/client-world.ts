// What the client takes from outside: the network, time, chance. The real one is here; the simulated
// cluster of `kvd/sim` has another, so that the same client runs in virtual time and a seed repeats
// its retries too.

import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  Agents,
  type Attempt,
  type ClientRequest,
  type ClientTls,
  exchange,
  type ExchangeTerms,
} from './http-exchange.ts';
import { openStream, type StreamAttempt, type StreamTerms } from './http-stream.ts';

export interface ClientWorld {
  /** One request and what came of it; always resolves. */
  readonly exchange: (request: ClientRequest, terms: ExchangeTerms) => Promise<Attempt>;
  /** One request with an answer that goes on; always resolves. */
  readonly stream: (request: ClientRequest, terms: StreamTerms) => Promise<StreamAttempt>;
  /** Milliseconds since some moment; never goes back. */
  readonly nowMs: () => number;
  /** Resolves after `delayMs`, or as soon as `signal` is aborted. */
  readonly sleep: (delayMs: number, signal: AbortSignal | undefined) => Promise<void>;
  /** From 0 to less than 1. */
  readonly random: () => number;
  /** Different each time: the id of a request, at most 64 bytes. */
  readonly newId: () => string;
  readonly close: () => void;
}

export interface RealWorldOptions {
  /** Connections to one node. */
  readonly connectionsMax: number;
  /** A kept connection that is idle for so long is closed, milliseconds. */
  readonly idleMs: number;
  /** For https endpoints. */
  readonly tls?: ClientTls | undefined;
}

export function realWorld({ connectionsMax, idleMs, tls }: RealWorldOptions): ClientWorld {
  const pool = { keepAlive: true, maxSockets: connectionsMax, timeout: idleMs };
  const agents = new Agents(pool, tls);
  // A watch keeps its connection for itself, and requests must not wait for it.
  const streams = new Agents({ keepAlive: false }, tls);
  return {
    exchange: (request, terms) => exchange(request, { ...terms, agents }),
    stream: (request, terms) => openStream(request, { ...terms, agents: streams }),
    nowMs: () => performance.now(),
    sleep: (delayMs, signal) =>
      sleep(delayMs, undefined, signal === undefined ? {} : { signal }).catch(() => undefined),
    random: () => Math.random(),
    newId: () => randomUUID(),
    close: () => {
      agents.destroy();
      streams.destroy();
    },
  };
}
