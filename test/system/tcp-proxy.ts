// A TCP proxy between two nodes that can be made a bad network: each direction passes, is late, or
// goes nowhere; connections can be cut. What goes nowhere is kept back, not lost: TCP would send it
// again once the network is whole.

import { createServer, type Server, Socket } from 'node:net';

export type Direction = 'there' | 'back';

interface Pair {
  readonly near: Socket;
  readonly far: Socket;
}

export class TcpProxy {
  readonly #targetPort: number;
  readonly #server: Server;
  readonly #pairs = new Set<Pair>();
  readonly #delayMs: Record<Direction, number> = { there: 0, back: 0 };
  readonly #isStopped: Record<Direction, boolean> = { there: false, back: false };

  constructor(targetPort: number) {
    this.#targetPort = targetPort;
    this.#server = createServer({ allowHalfOpen: false }, (near) => this.#connected(near));
  }

  listen(port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, '127.0.0.1', resolve);
    });
  }

  /** Bytes of this direction go nowhere, on connections old and new. */
  stop(direction: Direction): void {
    this.#isStopped[direction] = true;
    for (const pair of this.#pairs) sourceOf(pair, direction).pause();
  }

  delay(direction: Direction, ms: number): void {
    this.#delayMs[direction] = ms;
  }

  /** Connections end with a reset; new ones may come. */
  cut(): void {
    for (const { near, far } of this.#pairs) {
      near.resetAndDestroy();
      far.resetAndDestroy();
    }
  }

  heal(): void {
    for (const direction of ['there', 'back'] as const) {
      this.#delayMs[direction] = 0;
      this.#isStopped[direction] = false;
      for (const pair of this.#pairs) sourceOf(pair, direction).resume();
    }
  }

  close(): Promise<void> {
    for (const { near, far } of this.#pairs) {
      near.destroy();
      far.destroy();
    }
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  #connected(near: Socket): void {
    const far = new Socket();
    const pair = { near, far };
    this.#pairs.add(pair);
    for (const socket of [near, far]) {
      socket.setNoDelay(true);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        this.#pairs.delete(pair);
        near.destroy();
        far.destroy();
      });
    }
    far.connect(this.#targetPort, '127.0.0.1');
    this.#forward(pair, 'there');
    this.#forward(pair, 'back');
  }

  #forward(pair: Pair, direction: Direction): void {
    const source = sourceOf(pair, direction);
    const target = direction === 'there' ? pair.far : pair.near;
    source.on('data', (bytes: Buffer) => {
      const ms = this.#delayMs[direction];
      const send = (): void => {
        if (!target.destroyed) target.write(bytes);
      };
      // Equal delays fire in the order in which they were set, so bytes stay in order.
      if (ms > 0) setTimeout(send, ms);
      else send();
    });
    if (this.#isStopped[direction]) source.pause();
  }
}

const sourceOf = ({ near, far }: Pair, direction: Direction): Socket =>
  direction === 'there' ? near : far;
