// One run of a node's program, from its start to its crash (rule SIM-4). JavaScript cannot kill a
// coroutine, so every call of the environment goes through the process that it was given to: after
// the crash such a call throws SimCrash or never settles, and has no effect.
//
// Calls are counted, so that a test can crash a process at its n-th call, for every n (rule 2.5).

import type { EventOwner, Scheduled, World } from './world.ts';

/** Unwinds the program at the call where its process ended. Never an error of the program. */
export class SimCrash extends Error {
  constructor(node: string) {
    super(`the process of ${node} has ended`);
    this.name = 'SimCrash';
  }
}

export class SimProcess implements EventOwner {
  readonly name: string;
  readonly world: World;
  #isAlive = true;
  #pausedUntilMicros = 0;
  #calls = 0;
  #crashAt = Infinity;
  readonly #onCrash: () => void;

  /** `onCrash` is called when the process reaches the call of `crashAtCall`; it must call `end`. */
  constructor(name: string, world: World, onCrash: () => void) {
    this.name = name;
    this.world = world;
    this.#onCrash = onCrash;
  }

  get isAlive(): boolean {
    return this.#isAlive;
  }

  get pausedUntilMicros(): number {
    return this.#pausedUntilMicros;
  }

  /** Calls of the environment so far. */
  get calls(): number {
    return this.#calls;
  }

  /** Crashes at the start of call number `count`, counted from the start of the process, from 1. */
  crashAtCall(count: number): void {
    this.#crashAt = count;
  }

  end(): void {
    this.#isAlive = false;
  }

  /** Its events wait; clocks and the rest of the world go on. */
  pause(delayMs: number): void {
    const untilMicros = this.world.nowMicros + Math.round(delayMs * 1000);
    this.#pausedUntilMicros = Math.max(this.#pausedUntilMicros, untilMicros);
  }

  /** Every call of the environment starts here; throws SimCrash where the process has ended. */
  enter(): void {
    if (!this.arrive()) throw new SimCrash(this.name);
  }

  /** The same for a call-back of the environment: false where it must not happen any more. */
  arrive(): boolean {
    if (this.#isAlive) {
      this.#calls += 1;
      if (this.#calls >= this.#crashAt) this.#onCrash();
    }
    return this.#isAlive;
  }

  /** An event of this process: dropped when the process has ended by then. */
  after(delayMs: number, kind: string, fire: () => void): Scheduled {
    return this.world.after(delayMs, this, kind, fire);
  }
}
