// Connections that end before their handshake: TLS with something else than TLS in it, with nothing,
// or cut off in the middle; between nodes also what says no hello. They are closed, counted, and told
// of in the log now and then, so that a flood of them fills neither the places of a port nor the disk.
//
// Node closes a connection whose TLS handshake fails, but of one that does not end in time it only
// tells: without `watch` that one stays open for ever.

import type { Server, Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Host } from '../runtime/environment.ts';
import { endsOf } from './connection-cap.ts';
import type { Counter } from '../runtime/metrics.ts';
import { Seldom } from './seldom.ts';

export type FailureHost = Pick<Host, 'clock' | 'log' | 'metrics'>;

export interface FailedHandshakesOptions {
  /** Of which port of a node, as its metric says. */
  readonly port: 'http' | 'resp' | 'internode';
  /** In the log. */
  readonly event: string;
  /** Absent: nothing is counted or told of. */
  readonly host?: FailureHost | undefined;
}

/** The first one is in the log at once, the next one not before this; those between are counted. */
const logIntervalMs = 10_000;

export class FailedHandshakes {
  readonly #options: FailedHandshakesOptions;
  readonly #counter: Counter | undefined;
  readonly #seldom = new Seldom(logIntervalMs);
  /** Connections whose TLS handshake is under way, by their two ends. */
  readonly #open = new Map<string, Socket>();
  #isEnded = false;

  constructor(options: FailedHandshakesOptions) {
    this.#options = options;
    this.#counter = options.host?.metrics.counter(
      'kvd_handshakes_failed_total',
      'Connections that ended before their handshake',
      { port: options.port },
    );
  }

  /** Of a listener with TLS. */
  watch(server: Server): void {
    // First: whoever comes after it is not to write to a connection that has no keys.
    server.on('connection', (socket: Socket) => {
      const ends = endsOf(socket);
      this.#open.set(ends, socket);
      socket.once('close', () => {
        if (this.#open.get(ends) === socket) this.#open.delete(ends);
      });
    });
    server.on('secureConnection', (socket: TLSSocket) => void this.#open.delete(endsOf(socket)));
    server.prependListener('tlsClientError', (error: TlsError, socket: TLSSocket) => {
      const { remoteAddress } = socket;
      socket.destroy();
      this.happened(remoteAddress ?? '?', error.reason ?? error.message);
    });
  }

  /** Cuts off what has not ended its handshake: a listener that closes does not wait for it. */
  end(): void {
    this.#isEnded = true;
    for (const socket of this.#open.values()) socket.destroy();
  }

  happened(peer: string, reason: string): void {
    if (this.#isEnded) return;
    const { event, host, port } = this.#options;
    this.#counter?.add();
    if (host === undefined) return;
    const left_out = this.#seldom.happened(host.clock.monotonicMs());
    if (left_out === undefined) return;
    host.log.info(event, { port, peer, reason, ...(left_out === 0 ? {} : { left_out }) });
  }
}

/** OpenSSL's own words are in `reason`; the message has places of its source in it. */
interface TlsError extends Error {
  readonly reason?: string;
}
