// The latencies of the last requests, for deciding when one is slow: a fixed window, sorted again
// only now and then, since the answer need not be exact.

const windowSize = 256;
const sortEvery = 32;

export class LatencyWindow {
  readonly #values = new Float64Array(windowSize);
  #count = 0;
  #sorted = new Float64Array(0);

  add(ms: number): void {
    this.#values[this.#count % windowSize] = ms;
    this.#count += 1;
    if (this.#count % sortEvery === 0)
      this.#sorted = this.#values.slice(0, Math.min(this.#count, windowSize)).sort();
  }

  /** `share` from 0 to 1; undefined before there is enough to go by. */
  percentile(share: number): number | undefined {
    const { length } = this.#sorted;
    return length === 0
      ? undefined
      : this.#sorted[Math.min(length - 1, Math.floor(share * length))];
  }
}
