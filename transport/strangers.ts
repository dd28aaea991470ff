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
      socket.once('close', () => {
        // Another one may have these ends by now.
        if (this.#waiting.get(ends)?.socket === socket) this.#waiting.delete(ends);
      });
    });
  }

  /** It has said who it is, and is a member: its place is free again. */
  known(socket: Socket): void {
    this.#waiting.delete(endsOf(socket));
  }

  #makeRoom(): void {
    const held = new Map<string, number>();
    let most = '';
    for (const { address } of this.#waiting.values()) {
      const count = (held.get(address) ?? 0) + 1;
      held.set(address, count);
      if (count > (held.get(most) ?? 0)) most = address;
    }
    for (const [ends, { socket, address }] of this.#waiting) {
      if (address !== most) continue;
      this.#waiting.delete(ends);
      socket.destroy();
      return;
    }
  }
}
