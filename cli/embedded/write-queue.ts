// Writes on their way to the store. What the store refuses because it is busy (memory waits for its
// flush, tables for their merge) is no error for a program that has the engine inside: its writes
// wait here and are sent again, so a loop of puts runs as fast as the disk takes them. How much may
// wait here is up to the caller, who waits for the promises.

import type { Store } from '../../actors/storage/protocol.ts';
import type { Ref } from '../../runtime/actor.ts';
import { errorOf, type Failure } from '../../runtime/errors.ts';
import type { Kernel } from '../../runtime/kernel.ts';
import { Ring } from '../../runtime/mailbox.ts';

interface Write {
  readonly records: readonly Uint8Array[];
  readonly bytes: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export interface WriteLimits {
  /** Bytes of records at the store; one write of any size always goes. */
  readonly bytes: number;
  /** Writes at the store: below the capacity of its mailbox. */
  readonly writes: number;
}

/** The store is asked again after so long, milliseconds. */
const retryAfterMs = 2;

export class WriteQueue {
  readonly #kernel: Kernel;
  readonly #store: Ref<Store>;
  readonly #limits: WriteLimits;
  readonly #waiting = new Ring<Write>();
  /** At the store. */
  #bytes = 0;
  #writes = 0;
  #isPaused = false;
  #failure: Failure | undefined;
  #idle: (() => void)[] = [];

  constructor(kernel: Kernel, store: Ref<Store>, limits: WriteLimits) {
    this.#kernel = kernel;
    this.#store = store;
    this.#limits = limits;
  }

  /** All records or none; ends when they are acknowledged. */
  write(records: readonly Uint8Array[]): Promise<void> {
    let bytes = 0;
    for (const record of records) bytes += record.length;
    return new Promise((resolve, reject) => {
      this.#waiting.push({ records, bytes, resolve, reject });
      this.#sendNext();
    });
  }

  /** Ends when no write is open. */
  settled(): Promise<void> {
    return new Promise((resolve) => {
      this.#idle.push(resolve);
      this.#sendNext();
    });
  }

  /** Nothing can be written any more: what waits here ends with `problem`. */
  fail(problem: Failure): void {
    this.#failure = problem;
    this.#sendNext();
  }

  #sendNext(): void {
    while (this.#maySend()) {
      const write = this.#waiting.shift();
      if (write === undefined) break;
      if (this.#failure === undefined) this.#send(write);
      else write.reject(errorOf(this.#failure));
    }
    if (this.#writes > 0 || this.#waiting.length > 0) return;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  #maySend(): boolean {
    if (this.#failure !== undefined) return true;
    if (this.#isPaused) return false;
    return this.#writes < this.#limits.writes && this.#bytes < this.#limits.bytes;
  }

  #send(write: Write): void {
    const { records, bytes } = write;
    this.#bytes += bytes;
    this.#writes += 1;
    const done = (problem: Failure | undefined): void => {
      this.#bytes -= bytes;
      this.#writes -= 1;
      if (problem === undefined) write.resolve();
      else if (problem.code === 'OVERLOADED') this.#sendAgain(write);
      else write.reject(errorOf(problem));
      this.#sendNext();
    };
    this.#kernel.ask(this.#store, 'applyMany', { records }, Infinity, done);
  }

  /** The store wrote nothing of it. Stamps decide who wins, so the order does not matter. */
  #sendAgain(write: Write): void {
    this.#waiting.push(write);
    if (this.#isPaused) return;
    this.#isPaused = true;
    setTimeout(() => {
      this.#isPaused = false;
      this.#sendNext();
    }, retryAfterMs);
  }
}
