// How many connections a listener has, in total and from one address. One over either bound is told
// so, where it would understand, and closed before anything of it is read; the others notice nothing
// (rules SE-2, limits table).

import type { Server, Socket } from 'node:net';

/** Of a listener for clients, whatever they speak. */
export interface ConnectionLimits {
  /** Connections at the same time. Default 10,000. */
  readonly connections: number;
  /** Connections from one address at the same time. Default 1,000. */
  readonly connectionsPerAddress: number;
  /** A connection that reads nothing of its answers for so long is cut off. Default 60 s. */
  readonly stallMs: number;
  /** A TLS handshake has to end within this time. Default 10 s. */
  readonly handshakeMs: number;
}

export const defaultConnectionLimits: ConnectionLimits = {
  connections: 10_000,
  connectionsPerAddress: 1000,
  stallMs: 60_000,
  handshakeMs: 10_000,
};

export interface ConnectionCapOptions {
  /** At the same time, from everywhere. */
  readonly total: number;
  /** At the same time, from one address. */
  readonly perAddress: number;
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
    const address = socket.remoteAddress ?? '';
    const count = this.#byAddress.get(address) ?? 0;
    if (this.#total >= total || count >= perAddress) return this.#refuse(socket);
    this.#total += 1;
    this.#byAddress.set(address, count + 1);
    socket.once('close', () => {
      this.#total -= 1;
      const left = (this.#byAddress.get(address) ?? 1) - 1;
      if (left === 0) this.#byAddress.delete(address);
      else this.#byAddress.set(address, left);
    });
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
