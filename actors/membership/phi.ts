// Phi accrual failure detection (Hayashibara et al., 2004) in the exponential form that Cassandra
// uses (FD-1): phi = log10(e) * silence / mean interval. Phi 1 means: one chance in ten that the
// node is alive all the same; phi 8, one in a hundred million.

const log10OfE = Math.LOG10E;
/** Intervals kept per node. */
const windowLength = 1_000;

export class ArrivalWindow {
  readonly #maxIntervalMs: number;
  #lastMs: number;
  #sumMs: number;
  #intervals: number[];
  #next = 0;

  /** `expectedMs`: heartbeat interval; twice that is the first sample. */
  constructor(nowMs: number, expectedMs: number) {
    this.#lastMs = nowMs;
    this.#maxIntervalMs = expectedMs * 8;
    this.#intervals = [expectedMs * 2];
    this.#sumMs = expectedMs * 2;
  }

  /** A beat. The interval that ended a suspected silence is no example of a usual one (FD-1). */
  heard(nowMs: number, endsSuspicion = false): void {
    const intervalMs = nowMs - this.#lastMs;
    this.#lastMs = nowMs;
    if (endsSuspicion || intervalMs <= 0 || intervalMs > this.#maxIntervalMs) return;
    if (this.#intervals.length < windowLength) this.#intervals.push(intervalMs);
    else {
      this.#sumMs -= this.#intervals[this.#next] as number;
      this.#intervals[this.#next] = intervalMs;
      this.#next = (this.#next + 1) % windowLength;
    }
    this.#sumMs += intervalMs;
  }

  get meanMs(): number {
    return this.#sumMs / this.#intervals.length;
  }

  silenceMs(nowMs: number): number {
    return nowMs - this.#lastMs;
  }

  phi(nowMs: number): number {
    return (log10OfE * this.silenceMs(nowMs)) / this.meanMs;
  }

  /** Forgives a pause of this process: while it lasted nobody was silent, we were deaf (FD-3). */
  forgive(pausedMs: number, nowMs: number): void {
    this.#lastMs = Math.min(nowMs, this.#lastMs + pausedMs);
  }
}
