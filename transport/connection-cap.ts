// How many connections a listener has, in total and from one address. One over either bound is told
// so, where it would understand, and closed before anything of it is read; the others notice nothing
// (rules SE-2, limits table).
//
// Beyond the bounds a listener may take a few more, for requests that have to be served while a flood
// holds all places: health and administrators. Who that is shows with the request, so whoever comes is
// let in, and the one that has waited longest without a request makes room for the next one.

import type { Server, Socket } from 'node:net';
import { addressGroup } from '../runtime/address-group.ts';

/** Of a listener for clients, whatever they speak. */
export interface ConnectionLimits {
  /** Connections at the same time. Default 10,000. */
  readonly connections: number;
  /** Connections from one address at the same time; an IPv6 /64 is one. Default 1,000. */
  readonly connectionsPerAddress: number;
  /** Beyond the two, for health and administrators. Default 0; over HTTP 32. */
  readonly connectionsReserved: number;
  /** A connection that takes less than 1 KiB/s of its answers for so long is cut off. Default 60 s. */
  readonly stallMs: number;
  /** A TLS handshake has to end within this time. Default 10 s. */
  readonly handshakeMs: number;
}

export const defaultConnectionLimits: ConnectionLimits = {
  connections: 10_000,
  connectionsPerAddress: 1000,
  connectionsReserved: 0,
  stallMs: 60_000,
  handshakeMs: 10_000,
};

export interface ConnectionCapOptions {
  /** At the same time, from everywhere. */
  readonly total: number;
  /** At the same time, from one address; an IPv6 /64 is one. */
  readonly perAddress: number;
  /** Beyond the two. */
  readonly reserved: number;
  /** Then the refusal has no words: there was no handshake yet. */
  readonly isEncrypted: boolean;
  /** What a refused connection is told. */
  readonly refused: string;
}

/** A refused connection that does not close its side is cut after this. */
const refusalMs = 1000;

export class ConnectionCap {
  readonly #options: ConnectionCapOptions;
  readonly #byAddress = new Map<string, number>();
  /** On reserved places, the oldest first; by their ends, for TLS wraps a socket into another. */
  readonly #reserved = new Map<string, { readonly socket: Socket; isKept: boolean }>();
  #total = 0;

  constructor(options: ConnectionCapOptions) {
    this.#options = options;
  }

  /** Before the listener's own handler, which finds `writableEnded` set on what was refused. */
  watch(server: Server): void {
    server.prependListener('connection', (socket: Socket) => this.#admit(socket));
  }

  #admit(socket: Socket): void {
    const { total, perAddress } = this.#options;
    const address = addressGroup(socket.remoteAddress ?? '');
    const count = this.#byAddress.get(address) ?? 0;
    if (this.#total >= total || count >= perAddress) return this.#reserve(socket);
    this.#total += 1;
    this.#byAddress.set(address, count + 1);
    socket.once('close', () => {
      this.#total -= 1;
      const left = (this.#byAddress.get(address) ?? 1) - 1;
      if (left === 0) this.#byAddress.delete(address);
      else this.#byAddress.set(address, left);
    });
  }

  /** True: the connection has a reserved place, which it keeps from now on until it ends. */
  keep(socket: Socket): boolean {
    if (this.#reserved.size === 0) return false;
    const place = this.#reserved.get(endsOf(socket));
    if (place === undefined) return false;
    place.isKept = true;
    return true;
  }

  #reserve(socket: Socket): void {
    if (this.#reserved.size >= this.#options.reserved && !this.#makeRoom())
      return this.#refuse(socket);
    const ends = endsOf(socket);
    const place = { socket, isKept: false };
    this.#reserved.set(ends, place);
    socket.once('close', () => {
      if (this.#reserved.get(ends) === place) this.#reserved.delete(ends);
    });
  }

  /** False: each of them has a request that is being answered, or there are none. */
  #makeRoom(): boolean {
    for (const [ends, { socket, isKept }] of this.#reserved) {
      if (isKept) continue;
      this.#reserved.delete(ends);
      socket.destroy();
      return true;
    }
    return false;
  }

  #refuse(socket: Socket): void {
    const { isEncrypted, refused } = this.#options;
    socket.on('error', () => socket.destroy());
    if (isEncrypted) {
      socket.destroy();
      return;
    }
    socket.end(refused);
    setTimeout(() => socket.destroy(), refusalMs).unref();
  }
}

/** What tells the connections of a listener apart; the same of a socket and of TLS over it. */
export const endsOf = ({ remoteAddress, remotePort, localAddress, localPort }: Socket): string =>
  `${remoteAddress ?? ''} ${remotePort ?? 0} ${localAddress ?? ''} ${localPort ?? 0}`;
