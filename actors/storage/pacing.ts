// How much background work holds back for requests. While a merge runs, the store sends
// itself one message after the other as a client would, and measures how long each waited: the delay
// that requests see. The rule, once for each window of 100 such figures or one second:
//
//   p99 above the target            the pause after each batch of a merge doubles, from 1 to 64 ms
//   p99 below half of the target    in three windows in a row: it halves, and below 1 ms it is none
//   between the two                 it stays
//
// The floor: with half of the tables that would stop writes waiting, pauses shrink in proportion,
// and with all of them they are none; a flush never pauses. So a merge never falls below one batch
// (1 MiB) in 64 ms, and debt does not grow because of pauses. The next merge begins with the pause
// of the last one.
// The shape, a quick reaction and a slow return, is that of TCP's congestion control (RFC 5681).

export interface PacerOptions {
  /** The p99 of the delay that requests may have, milliseconds; 0: nothing is held back. */
  readonly targetMs: number;
}

export const pauseMsMax = 64;
const pauseMsMin = 1;
const figuresPerWindow = 100;
const windowMsMax = 1_000;
/** Quiet windows before the pause is halved. */
const quietWindows = 3;
/** From this part of the limit on debt takes the pauses away. */
const debtFrom = 0.5;

export class Pacer {
  readonly #targetMs: number;
  #figures: number[] = [];
  #windowStartMs = 0;
  #pauseMs = 0;
  #quiet = 0;
  #p99Ms = 0;

  constructor({ targetMs }: PacerOptions) {
    this.#targetMs = targetMs;
  }

  get isOn(): boolean {
    return this.#targetMs > 0;
  }

  /** The p99 of the last full window, milliseconds. */
  get p99Ms(): number {
    return this.#p99Ms;
  }

  /** Background work begins: nothing is known of the time before. */
  begin(nowMs: number): void {
    this.#figures = [];
    this.#windowStartMs = nowMs;
  }

  /** A request waited so long. True: a window has ended, the pause may be another one. */
  measured(delayMs: number, nowMs: number): boolean {
    this.#figures.push(delayMs);
    const isFull = this.#figures.length >= figuresPerWindow;
    if (!isFull && nowMs - this.#windowStartMs < windowMsMax) return false;
    const sorted = this.#figures.sort((a, b) => a - b);
    this.#p99Ms = sorted[Math.ceil(sorted.length * 0.99) - 1] ?? 0;
    this.begin(nowMs);
    this.#decide();
    return true;
  }

  /** Milliseconds after each batch of a merge; `debt`: of what would stop writes, 0 to 1. */
  pauseMs(debt: number): number {
    const part = Math.min(Math.max((1 - debt) / (1 - debtFrom), 0), 1);
    return this.#pauseMs * part;
  }

  #decide(): void {
    if (this.#p99Ms > this.#targetMs) {
      this.#quiet = 0;
      this.#pauseMs = Math.min(Math.max(this.#pauseMs * 2, pauseMsMin), pauseMsMax);
    } else if (this.#p99Ms >= this.#targetMs / 2) this.#quiet = 0;
    else {
      this.#quiet += 1;
      if (this.#quiet < quietWindows) return;
      this.#quiet = 0;
      this.#pauseMs = this.#pauseMs > pauseMsMin ? this.#pauseMs / 2 : 0;
    }
  }
}
