// A raw Redis connection for tests: bytes out, bytes in, nothing interpreted but the end of answers.

import { connect, type Socket } from 'node:net';

export type Argument = string | Uint8Array;

/** A command as an array of bulk strings. */
export function command(...args: readonly Argument[]): Buffer {
  const parts = args.flatMap((arg) => {
    const bytes = Buffer.from(arg);
    return [Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from('\r\n')];
  });
  return Buffer.concat([Buffer.from(`*${args.length}\r\n`), ...parts]);
}

/** Sends all, ends the sending side, and gives all that came until the server ended. */
export function exchange(port: number, ...sent: readonly Argument[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    const chunks: Buffer[] = [];
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('error', reject);
    socket.on('close', () => resolve(Buffer.concat(chunks).toString('latin1')));
    socket.on('end', () => socket.end());
    for (const bytes of sent) socket.write(bytes);
    socket.end();
  });
}

/** A connection that stays open and is asked line by line. */
export class RawConnection {
  readonly socket: Socket;
  #received = '';
  #isClosed = false;
  #changed: () => void = () => undefined;

  constructor(port: number) {
    this.socket = connect({ port, host: '127.0.0.1' });
    this.socket.on('data', (chunk) => {
      this.#received += chunk.toString('latin1');
      this.#changed();
    });
    this.socket.on('error', () => undefined);
    this.socket.on('close', () => {
      this.#isClosed = true;
      this.#changed();
    });
  }

  send(bytes: Argument): void {
    this.socket.write(bytes);
  }

  /** Takes the next bytes once `length` of them are there, or what there is when it was closed. */
  async take(length: number): Promise<string> {
    while (this.#received.length < length && !this.#isClosed)
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    const taken = this.#received.slice(0, length);
    this.#received = this.#received.slice(length);
    return taken;
  }

  /** Sends a command and expects exactly these bytes as its answer. */
  async ask(expected: string, ...args: readonly Argument[]): Promise<string> {
    this.send(command(...args));
    return this.take(expected.length);
  }

  async closed(): Promise<void> {
    while (!this.#isClosed)
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
  }

  close(): void {
    this.socket.destroy();
  }
}
