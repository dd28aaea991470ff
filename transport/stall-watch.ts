// Cuts off clients that do not read: a connection with bytes to send of which none has left for a
// while. Looked at a few times within that while; a connection with nothing to send is never cut
// (rule SE-24).

import type { Server, Socket } from 'node:net';

/** How long none of what one connection has to send has left. */
export class SendProgress {
  readonly #socket: Socket;
  #sentBytes = 0;
  #sinceMs = performance.now();

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** Milliseconds; 0 where something has left since the last look, or nothing waits. */
  stalledMs(nowMs: number): number {
    const { bytesWritten, writableLength } = this.#socket;
    // bytesWritten counts what was handed over, also what still waits.
    const sentBytes = bytesWritten - writableLength;
    if (sentBytes === this.#sentBytes && writableLength > 0) return nowMs - this.#sinceMs;
    this.#sentBytes = sentBytes;
    this.#sinceMs = nowMs;
    return 0;
  }
}

/** How often is looked, in parts of the time that a connection may stall. */
const checks = 4;

export class StallWatch {
  readonly #stallMs: number;
  readonly #sockets = new Map<Socket, SendProgress>();
  readonly #timer: NodeJS.Timeout;

  constructor(stallMs: number) {
    this.#stallMs = stallMs;
    this.#timer = setInterval(() => this.#check(performance.now()), stallMs / checks);
    this.#timer.unref();
  }

  /** Every connection that the server announces by this event. */
  watch(server: Server, event: 'connection' | 'secureConnection'): void {
    server.on(event, (socket: Socket) => {
      this.#sockets.set(socket, new SendProgress(socket));
      socket.once('close', () => this.#sockets.delete(socket));
    });
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #check(nowMs: number): void {
    for (const [socket, progress] of this.#sockets)
      if (progress.stalledMs(nowMs) >= this.#stallMs) socket.destroy();
  }
}
