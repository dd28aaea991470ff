// The clocks of one simulated machine. Both run at the machine's own rate; the monotonic one never
// steps, the wall clock has an offset and may jump (rules HLC-8 and 2.2, "clock").

import type { Clock } from '../runtime/environment.ts';
import type { World } from './world.ts';

/** Wall time at the start of every world, microseconds since 1970: 2026-01-01. */
export const epochMicros = 1_767_225_600_000_000;
/** No machine of a world shows the same monotonic time. */
const monotonicSpreadMs = 1e6;

export interface ClockOptions {
  /** Constant error of the wall clock, milliseconds. */
  readonly offsetMs: number;
  /** Error of the rate, parts per million. */
  readonly driftPpm: number;
  /** The wall clock shows multiples of this, microseconds; default 1. */
  readonly grainMicros?: number;
  /** Monotonic time at the start of the world, 0 to 1. */
  readonly start: number;
}

export class SimClock implements Clock {
  readonly #world: World;
  readonly #rate: number;
  readonly #startMs: number;
  readonly #grainMicros: number;
  #offsetMs: number;
  #worstMs: number;

  constructor(world: World, { offsetMs, driftPpm, start, grainMicros = 1 }: ClockOptions) {
    this.#world = world;
    this.#rate = 1 + driftPpm / 1e6;
    this.#startMs = Math.floor(start * monotonicSpreadMs);
    this.#offsetMs = offsetMs;
    this.#grainMicros = grainMicros;
    this.#worstMs = Math.abs(offsetMs);
  }

  readonly monotonicMs = (): number => this.#startMs + this.#world.nowMs * this.#rate;

  readonly wallMicros = (): number => {
    const offsetMicros = Math.round(this.#offsetMs * 1000);
    const micros = epochMicros + this.#world.nowMicros * this.#rate + offsetMicros;
    return Math.floor(micros / this.#grainMicros) * this.#grainMicros;
  };

  /** Steps the wall clock. */
  jump(byMs: number): void {
    this.#offsetMs += byMs;
    this.#worstMs = Math.max(this.#worstMs, Math.abs(this.#offsetMs));
  }

  /** The wall clock was never further from the true time, milliseconds. */
  get worstErrorMs(): number {
    return this.#worstMs + Math.abs(this.#rate - 1) * this.#world.nowMs;
  }

  /** Right again: what a time service does in the end. */
  correct(): void {
    this.#offsetMs = 0;
  }

  /** World milliseconds until `delayMs` of this machine's time have passed. */
  worldDelayMs(delayMs: number): number {
    return delayMs / this.#rate;
  }
}
