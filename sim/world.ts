// Virtual time: one queue of events ordered by (time, priority, sequence), one event at a time
// (rule SIM-2). After each event all promise reactions run, then the next event is taken; nothing
// else decides about order, so one seed is one run.
//
// Between two events the world goes through the microtask queue to its end and through Node's
// tick queue, not through the event loop: Node drains microtasks completely before the next tick,
// and a tick costs a tenth of a macrotask. The event loop gets a turn every few thousand events.
//
// Time is counted in whole microseconds. Priorities are 0 (first come, first served) or random
// (rule SW-4), so that different seeds try different orders of simultaneous events.

import { Prng } from '../runtime/prng.ts';
import { Guard } from './guard.ts';
import { SimCrash } from './process.ts';
import { Trace, type TraceWindow } from './trace.ts';

/** Whose event it is: events of the dead are dropped, those of the paused wait. */
export interface EventOwner {
  readonly name: string;
  readonly isAlive: boolean;
  /** World time until which this owner stands still, microseconds. */
  readonly pausedUntilMicros: number;
}

export interface WorldOptions {
  readonly seed: number;
  /** Order of events of the same microsecond. Default `fifo`. */
  readonly ties?: 'fifo' | 'random';
  /** Times are rounded up to a multiple of this: a coarse grid makes ties. Default 1. */
  readonly gridMicros?: number;
  readonly traceWindow?: TraceWindow | undefined;
}

export interface Scheduled {
  readonly cancel: () => void;
}

interface Event {
  timeMicros: number;
  readonly priority: number;
  readonly sequence: number;
  readonly owner: EventOwner | undefined;
  readonly kind: string;
  fire: (() => void) | undefined;
}

interface Soon {
  readonly owner: EventOwner | undefined;
  readonly fire: () => void;
}

/** After so many events the real event loop gets a turn. */
const eventsPerTurn = 4_096;
/** More events than this in one microsecond are actors that keep each other busy for ever. */
const eventsPerMomentMax = 200_000;
const lastPriority = 0x1_0000_0000;
const nextTick = process.nextTick.bind(process);
const yieldToLoop = setImmediate;

export class World {
  readonly seed: number;
  /** Fork it by name; never draw from it (rule SIM-6). */
  readonly random: Prng;
  readonly trace: Trace;
  readonly #ties: Prng | undefined;
  readonly #gridMicros: number;
  readonly #guard: Guard;
  readonly #heap: Event[] = [];
  readonly #soon: Soon[] = [];
  #soonHead = 0;
  #sequence = 0;
  #nowMicros = 0;
  #events = 0;
  /** Events so far when the time last moved. */
  #eventsBefore = 0;
  #failure: Error | undefined;
  #isRunning = false;

  constructor({ seed, ties = 'fifo', gridMicros = 1, traceWindow }: WorldOptions) {
    this.seed = seed;
    this.random = new Prng(seed);
    this.trace = new Trace(traceWindow);
    this.#ties = ties === 'random' ? this.random.fork('sched') : undefined;
    this.#gridMicros = gridMicros;
    this.#guard = new Guard((error) => this.fail(error));
  }

  get nowMicros(): number {
    return this.#nowMicros;
  }

  get nowMs(): number {
    return this.#nowMicros / 1000;
  }

  /** Events that ran. */
  get events(): number {
    return this.#events;
  }

  /** Ends the run with `error`; the first one counts. */
  fail(error: Error): void {
    this.#failure ??= error;
  }

  /** Runs `fire` at least one microsecond and `delayMs` milliseconds from now. */
  after(delayMs: number, owner: EventOwner | undefined, kind: string, fire: () => void): Scheduled {
    const micros = Math.floor(Math.max(0, delayMs) * 1000) + 1;
    return this.#add(this.#nowMicros + micros, this.#ties?.u32() ?? 0, owner, kind, fire);
  }

  /** Runs `fire` after the current event, before any other. */
  soon(owner: EventOwner | undefined, fire: () => void): void {
    this.#soon.push({ owner, fire });
  }

  /** Runs `fire` after all events that wait for this moment. */
  later(owner: EventOwner | undefined, kind: string, fire: () => void): void {
    this.#add(this.#nowMicros, lastPriority, owner, kind, fire);
  }

  /** For scenarios: resolves when `delayMs` have passed. */
  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.after(delayMs, undefined, 'sleep', resolve));
  }

  /**
   * Runs events until `scenario` has ended; rejects with its error, or as soon as the world fails
   * (also by a rejection that nobody handles) or has no event left while the scenario still waits.
   */
  run<T>(scenario: () => Promise<T>): Promise<T> {
    if (this.#isRunning) throw new Error('this world runs already');
    this.#isRunning = true;
    return new Promise<T>((resolve, reject) => {
      let ended: (() => void) | undefined;
      const rejected = (reason: unknown): void => this.fail(errorOf(reason));
      const finish = (end: () => void): void => {
        this.#guard.disarm();
        this.#isRunning = false;
        // The event loop once more: rejections that nobody handles are told before the end.
        yieldToLoop(() => {
          process.off('unhandledRejection', rejected);
          if (this.#failure === undefined) end();
          else reject(this.#failure);
        });
      };
      const step = (): void => {
        if (this.#failure !== undefined) return finish(() => undefined);
        if (ended !== undefined) return finish(ended);
        if (!this.#runOne()) return finish(() => reject(new StuckError(this.nowMs)));
        this.#next(step);
      };
      process.on('unhandledRejection', rejected);
      this.#guard.arm();
      this.#soon.push({
        owner: undefined,
        fire: () => {
          scenario().then(
            (value) => {
              ended = () => resolve(value);
            },
            (error: unknown) => {
              ended = () => reject(errorOf(error));
            },
          );
        },
      });
      step();
    });
  }

  #next(step: () => void): void {
    if (this.#events % eventsPerTurn === 0) {
      queueMicrotask(() => {
        nextTick(() => {
          this.#guard.disarm();
          yieldToLoop(() => {
            this.#guard.arm();
            step();
          });
        });
      });
    } else queueMicrotask(() => nextTick(step));
  }

  /** False: there is nothing to run. */
  #runOne(): boolean {
    this.#events += 1;
    const fire = this.#takeSoon() ?? this.#takeEvent();
    if (fire === undefined) return false;
    if (this.#events - this.#eventsBefore > eventsPerMomentMax)
      this.fail(new LivelockError(this.nowMs));
    try {
      fire();
    } catch (error) {
      // A process that ended in the middle of its event is no failure of the run.
      if (!(error instanceof SimCrash)) this.fail(errorOf(error));
    }
    return true;
  }

  #takeSoon(): (() => void) | undefined {
    while (this.#soonHead < this.#soon.length) {
      const { owner, fire } = this.#soon[this.#soonHead] as Soon;
      this.#soonHead += 1;
      if (this.#soonHead === this.#soon.length) {
        this.#soon.length = 0;
        this.#soonHead = 0;
      }
      if (owner === undefined || owner.isAlive) return fire;
    }
    return undefined;
  }

  #takeEvent(): (() => void) | undefined {
    for (;;) {
      const event = this.#pop();
      if (event === undefined) return undefined;
      const { owner, fire } = event;
      if (fire === undefined || owner?.isAlive === false) continue;
      if (event.timeMicros > this.#nowMicros) {
        this.#nowMicros = event.timeMicros;
        this.#eventsBefore = this.#events;
      }
      if (owner !== undefined && owner.pausedUntilMicros > this.#nowMicros) {
        event.timeMicros = owner.pausedUntilMicros;
        this.#push(event);
        continue;
      }
      event.fire = undefined;
      this.trace.record(this.#nowMicros, owner?.name ?? '', event.kind, 0);
      return fire;
    }
  }

  #add(
    timeMicros: number,
    priority: number,
    owner: EventOwner | undefined,
    kind: string,
    fire: () => void,
  ): Scheduled {
    const grid = this.#gridMicros;
    const rounded = grid === 1 ? timeMicros : Math.ceil(timeMicros / grid) * grid;
    const sequence = this.#sequence++;
    const event: Event = { timeMicros: rounded, priority, sequence, owner, kind, fire };
    this.#push(event);
    return {
      cancel: () => {
        event.fire = undefined;
      },
    };
  }

  // A binary heap; the least event is at index 0.

  #push(event: Event): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent] as Event;
      if (!isBefore(event, above)) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = event;
  }

  #pop(): Event | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= heap.length) break;
      const right = heap[child + 1];
      if (right !== undefined && isBefore(right, heap[child] as Event)) child += 1;
      const below = heap[child] as Event;
      if (!isBefore(below, last)) break;
      heap[at] = below;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

function errorOf(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

function isBefore(a: Event, b: Event): boolean {
  if (a.timeMicros !== b.timeMicros) return a.timeMicros < b.timeMicros;
  if (a.priority !== b.priority) return a.priority < b.priority;
  return a.sequence < b.sequence;
}

/** Somebody waits and nothing can ever happen again: a lost wake-up (style rule 1.11). */
export class StuckError extends Error {
  constructor(nowMs: number) {
    super(`nothing is left to run at ${nowMs} virtual ms, but the scenario still waits`);
    this.name = 'StuckError';
  }
}

/** Events follow events and time does not move: actors keep each other busy for ever. */
export class LivelockError extends Error {
  constructor(nowMs: number) {
    super(`more than ${eventsPerMomentMax} events at ${nowMs} virtual ms`);
    this.name = 'LivelockError';
  }
}
