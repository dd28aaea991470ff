// Lets code outside of a simulated world wait for what happens in it. The world runs only while
// somebody waits, and stands still while that code runs: a test that waits for nothing else (no real
// timer, file or socket) meets the same world at the same moments in every run.
//
// One wait that ends stops the world after the event that ended it; then the waiting code runs to
// its next wait, outside of the guard that takes the real clock away from the simulated nodes.

import { KvError } from '../../runtime/errors.ts';
import type { World } from '../../sim/world.ts';

export class SimDriver {
  readonly #world: World;
  /** Calls that end a wait from outside, where the world has failed. */
  readonly #waits = new Set<(error: Error) => void>();
  #ended: (() => void)[] = [];
  #stopWorld: (() => void) | undefined;
  #isRunning = false;
  #failure: Error | undefined;

  constructor(world: World) {
    this.#world = world;
  }

  /** Why the world has ended by itself; undefined where it did not. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** `begin` runs in the world; the promise resolves outside of it, with what `done` is given. */
  wait<T>(begin: (done: (value: T) => void) => void): Promise<T> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise<T>((resolve, reject) => {
      this.#waits.add(reject);
      const done = (value: T): void => {
        if (!this.#waits.delete(reject)) return;
        this.#ended.push(() => resolve(value));
        this.#stopWorld?.();
      };
      this.#world.soon(undefined, () => begin(done));
      void this.#run();
    });
  }

  /** Ends every wait with `error`, and all later ones. */
  fail(error: Error): void {
    this.#failure ??= error;
    for (const reject of this.#waits) reject(this.#failure);
    this.#waits.clear();
    this.#stopWorld?.();
  }

  async #run(): Promise<void> {
    if (this.#isRunning) return;
    this.#isRunning = true;
    while (this.#waits.size > 0 || this.#ended.length > 0) {
      try {
        if (this.#ended.length === 0) await this.#world.run(() => this.#untilStopped());
      } catch (error) {
        this.fail(describe(error, this.#world));
      }
      const ended = this.#ended;
      this.#ended = [];
      for (const resume of ended) resume();
      // Everything that follows from it without real waiting comes before the world goes on.
      await new Promise(setImmediate);
    }
    this.#isRunning = false;
  }

  #untilStopped(): Promise<void> {
    return new Promise((resolve) => {
      this.#stopWorld = () => {
        this.#stopWorld = undefined;
        resolve();
      };
      if (this.#ended.length > 0 || this.#failure !== undefined) this.#stopWorld();
    });
  }
}

function describe(error: unknown, { seed, nowMs }: World): Error {
  const reason = error instanceof Error ? error.message : String(error);
  const detail = `the simulated cluster failed at ${nowMs} virtual ms, seed ${seed}: ${reason}`;
  return new KvError('BUG', { detail });
}
