// Connections to a node's port for other nodes that have not said yet who they are. They have places
// of their own, fewer than the listener has in all: however many come, a member finds one, and is
// done with it when its handshake has ended, a round trip later. Where all are taken, the address
// that holds most of them gives up the one that has waited longest.

import type { Server, Socket } from 'node:net';
import { addressGroup } from '../runtime/address-group.ts';
import { endsOf } from './connection-cap.ts';

interface Stranger {
  readonly socket: Socket;
  readonly address: string;
}

export class Strangers {
  readonly #max: number;
  /** By their ends, for TLS wraps a socket into another; the oldest first. */
  readonly #waiting = new Map<string, Stranger>();
  readonly #byAddress = new Map<string, number>();

  /** `max`: at the same time, from everywhere. */
  constructor(max: number) {
    this.#max = max;
  }

  watch(server: Server): void {
    server.prependListener('connection', (socket: Socket) => {
      const ends = endsOf(socket);
      const address = addressGroup(socket.remoteAddress ?? '');
      if (this.#waiting.size >= this.#max) this.#makeRoom();
      this.#waiting.set(ends, { socket, address });
      this.#byAddress.set(address, (this.#byAddress.get(address) ?? 0) + 1);
      socket.once('close', () => this.#leave(ends, socket));
    });
  }

  /** It has said who it is, and is a member: its place is free again. */
  known(socket: Socket): void {
    this.#leave(endsOf(socket));
  }

  /** `socket`: only where it is still the one with these ends, which may be another's by now. */
  #leave(ends: string, socket?: Socket): void {
    const stranger = this.#waiting.get(ends);
    if (stranger === undefined || (socket !== undefined && stranger.socket !== socket)) return;
    this.#waiting.delete(ends);
    const left = (this.#byAddress.get(stranger.address) ?? 1) - 1;
    if (left === 0) this.#byAddress.delete(stranger.address);
    else this.#byAddress.set(stranger.address, left);
  }

  #makeRoom(): void {
    let most = '';
    let count = 0;
    for (const [address, held] of this.#byAddress) {
      if (held > count) [most, count] = [address, held];
    }
    for (const [ends, { socket, address }] of this.#waiting) {
      if (address !== most) continue;
      this.#leave(ends);
      socket.destroy();
      return;
    }
  }
}
