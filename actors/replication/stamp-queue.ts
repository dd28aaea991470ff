// Writes that need a stamp: they get one at once, or wait until the clock bound that covers it is
// durable (stamper.ts). A bound is extended ahead of need, so as a rule nobody waits.

import type { Clock, Disk } from '../../runtime/environment.ts';
import { errorOf, type Failure, failure, KvError } from '../../runtime/errors.ts';
import { encodeBound, type Stamper } from './stamper.ts';
import { withoutEffect } from './write-path.ts';

export interface AwaitsStamp {
  /** Monotonic: later it is not sent any more. */
  readonly deadlineMs: number;
  /** May ask the stamper for a stamp. A KvError refuses. */
  readonly proceed: (wallMicros: number) => void;
  readonly fail: (problem: Failure) => void;
}

export interface StampTools {
  readonly clock: Clock;
  readonly disk: Disk;
  /** File of the bound, in the data directory. */
  readonly boundPath: string;
  /** Runs in the background; what it finds out comes back by `extended` or `notExtended`. */
  readonly inBackground: (work: () => Promise<void>) => void;
  readonly onExtended: (bound: number) => void;
  readonly onNotExtended: (problem: Failure) => void;
  /** Why no stamp is given any more; undefined: one is. */
  readonly refusal: () => Failure | undefined;
}

export class StampQueue {
  readonly #stamper: Stamper;
  readonly #tools: StampTools;
  #isExtending = false;
  #waiting: AwaitsStamp[] = [];

  constructor(stamper: Stamper, tools: StampTools) {
    this.#stamper = stamper;
    this.#tools = tools;
  }

  /** Proceeds now, or when the bound allows another stamp. */
  take(write: AwaitsStamp): void {
    const { clock, refusal } = this.#tools;
    if (write.deadlineMs <= clock.monotonicMs())
      return write.fail(failure('UNAVAILABLE', { detail: 'no time was left to send the write' }));
    const refused = refusal();
    if (refused !== undefined) return write.fail(refused);
    const wallMicros = clock.wallMicros();
    if (!this.#isReady(wallMicros)) {
      this.#waiting.push(write);
      return;
    }
    try {
      write.proceed(wallMicros);
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      write.fail(error.toFailure());
    }
  }

  /**
   * A stamp above `floor`; undefined: the bound is being extended. FUTURE_VERSION beyond the skew, or
   * the refusal.
   */
  tryStamp(floor: number): { readonly hlc: number; readonly nowMs: number } | undefined {
    const refused = this.#tools.refusal();
    if (refused !== undefined) throw errorOf(refused);
    const wallMicros = this.#tools.clock.wallMicros();
    if (!this.#isReady(wallMicros)) return undefined;
    return { hlc: this.#stamper.stamp(wallMicros, floor), nowMs: Math.floor(wallMicros / 1000) };
  }

  /** The bound is durable. Each write looks at the clock again: it may be beyond the new bound. */
  extended(bound: number): void {
    this.#isExtending = false;
    this.#stamper.extended(bound);
    for (const write of this.#takeWaiting()) this.take(write);
  }

  /** The next write tries to extend the bound again. */
  notExtended(problem: Failure): void {
    this.#isExtending = false;
    for (const write of this.#takeWaiting()) write.fail(withoutEffect(problem));
  }

  /** Extends the bound ahead of need. */
  #isReady(wallMicros: number): boolean {
    const bound = this.#stamper.nextBound(wallMicros);
    if (bound !== undefined) this.#extend(bound);
    return this.#stamper.isReady(wallMicros);
  }

  #extend(bound: number): void {
    if (this.#isExtending) return;
    this.#isExtending = true;
    const { disk, boundPath, inBackground, onExtended, onNotExtended } = this.#tools;
    inBackground(async () => {
      try {
        await disk.replace(boundPath, encodeBound(bound));
        onExtended(bound);
      } catch (error) {
        if (!(error instanceof KvError)) throw error;
        onNotExtended(error.toFailure());
      }
    });
  }

  #takeWaiting(): readonly AwaitsStamp[] {
    const waiting = this.#waiting;
    this.#waiting = [];
    return waiting;
  }
}
