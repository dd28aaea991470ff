// Cuts off clients that do not read: a connection with bytes to send of which none has left for a
// while. Looked at a few times within that while; a connection with nothing to send is never cut
// (rule SE-24).

import type { Server, Socket } from 'node:net';

interface Progress {
  sentBytes: number;
  sinceMs: number;
}

/** How often is looked, in parts of the time that a connection may stall. */
const checks = 4;

export class StallWatch {
  readonly #stallMs: number;
  readonly #sockets = new Map<Socket, Progress>();
  readonly #timer: NodeJS.Timeout;

  constructor(stallMs: number) {
    this.#stallMs = stallMs;
    this.#timer = setInterval(() => this.#check(performance.now()), stallMs / checks);
    this.#timer.unref();
  }

  /** Every connection that the server announces by this event. */
  watch(server: Server, event: 'connection' | 'secureConnection'): void {
    server.on(event, (socket: Socket) => {
      this.#sockets.set(socket, { sentBytes: 0, sinceMs: performance.now() });
      socket.once('close', () => this.#sockets.delete(socket));
    });
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #check(nowMs: number): void {
    for (const [socket, progress] of this.#sockets) {
      // bytesWritten counts what was handed over, also what still waits.
      const sentBytes = socket.bytesWritten - socket.writableLength;
      if (sentBytes !== progress.sentBytes || socket.writableLength === 0) {
        progress.sentBytes = sentBytes;
        progress.sinceMs = nowMs;
      } else if (nowMs - progress.sinceMs >= this.#stallMs) socket.destroy();
    }
  }
}
