// Cuts off clients that do not read: a connection with bytes to send of which too few have left for a
// while. Less than 1 KiB a second counts as nothing: a byte now and then would keep all answers alive.
// Looked at a few times within that while; a connection with nothing to send is never cut
// (rule SE-24).

import type { Server, Socket } from 'node:net';

/** A client takes so many bytes a second, over the time that it may stall, or less waits for it. */
const bytesPerSecondMin = 1024;

type Sending = Pick<Socket, 'bytesWritten' | 'writableLength'>;

/** Whether what one connection has to send leaves. */
export class SendProgress {
  readonly #socket: Sending;
  #sentBytes = 0;
  #sinceMs: number;

  constructor(socket: Sending, nowMs: number) {
    this.#socket = socket;
    this.#sinceMs = nowMs;
  }

  /** Too little has left for so long, while something waited at each look. */
  isStalled(nowMs: number, stallMs: number): boolean {
    const { bytesWritten, writableLength } = this.#socket;
    // bytesWritten counts what was handed over, also what still waits.
    const sentBytes = bytesWritten - writableLength;
    const wantedBytes = (bytesPerSecondMin * stallMs) / 1000;
    if (writableLength > 0 && sentBytes - this.#sentBytes < wantedBytes)
      return nowMs - this.#sinceMs >= stallMs;
    this.#sentBytes = sentBytes;
    this.#sinceMs = nowMs;
    return false;
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
      this.#sockets.set(socket, new SendProgress(socket, performance.now()));
      socket.once('close', () => this.#sockets.delete(socket));
    });
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #check(nowMs: number): void {
    for (const [socket, progress] of this.#sockets)
      if (progress.isStalled(nowMs, this.#stallMs)) socket.destroy();
  }
}
