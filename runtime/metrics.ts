// Counters, gauges and latency histograms of one thread, counted in plain numbers and typed arrays
// (5 ns an add) and rendered only when somebody asks. Names follow the Prometheus conventions:
// kvd_<subsystem>_<thing>_<unit>, counters end in _total.

export type Labels = Readonly<Record<string, string>>;

export interface Counter {
  readonly add: (count?: number) => void;
  readonly value: () => number;
}

export interface Histogram {
  /** `value` in the unit of the metric's name. */
  readonly record: (value: number) => void;
}

/** One time series as plain data, so that it can cross threads. */
export interface MetricSample {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labels: Labels;
  /** Counter or gauge. */
  readonly value: number;
  /** Histogram: counts by bucket of `latencyBuckets`, the last one for what is above them all. */
  readonly buckets: readonly number[];
  readonly sum: number;
}

/** Upper bounds in seconds: 50 us to 26 s, doubling. */
export const latencyBuckets: readonly number[] = Array.from(
  { length: 20 },
  (_, i) => 0.00005 * 2 ** i,
);

interface Series {
  readonly sample: () => MetricSample;
}

export class MetricRegistry {
  readonly #series = new Map<string, Series & { counter?: Counter; histogram?: Histogram }>();

  counter(name: string, help: string, labels: Labels = {}): Counter {
    const id = seriesId(name, labels);
    const known = this.#series.get(id)?.counter;
    if (known !== undefined) return known;
    let total = 0;
    const counter: Counter = {
      add: (count = 1) => {
        total += count;
      },
      value: () => total,
    };
    const sample = (): MetricSample => plainSample(name, help, 'counter', total, labels);
    this.#series.set(id, { sample, counter });
    return counter;
  }

  /** `read` is called when somebody asks; a later registration replaces an earlier one. */
  gauge(name: string, help: string, read: () => number, labels: Labels = {}): void {
    const sample = (): MetricSample => plainSample(name, help, 'gauge', read(), labels);
    this.#series.set(seriesId(name, labels), { sample });
  }

  /** A counter that is kept elsewhere; `read` as of a gauge. */
  total(name: string, help: string, read: () => number, labels: Labels = {}): void {
    const sample = (): MetricSample => plainSample(name, help, 'counter', read(), labels);
    this.#series.set(seriesId(name, labels), { sample });
  }

  histogram(name: string, help: string, labels: Labels = {}): Histogram {
    const id = seriesId(name, labels);
    const known = this.#series.get(id)?.histogram;
    if (known !== undefined) return known;
    const buckets = new Float64Array(latencyBuckets.length + 1);
    let sum = 0;
    const histogram: Histogram = {
      record: (value) => {
        const bucket = bucketOf(value);
        buckets[bucket] = (buckets[bucket] as number) + 1;
        sum += value;
      },
    };
    const sample = (): MetricSample => ({
      ...plainSample(name, help, 'histogram', 0, labels),
      buckets: [...buckets],
      sum,
    });
    this.#series.set(id, { sample, histogram });
    return histogram;
  }

  samples(): MetricSample[] {
    return [...this.#series.values()].map((series) => series.sample());
  }
}

function bucketOf(value: number): number {
  let low = 0;
  let high = latencyBuckets.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((latencyBuckets[middle] as number) >= value) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** A counter or gauge as a sample, for figures that live outside of a registry. */
export function plainSample(
  name: string,
  help: string,
  type: MetricSample['type'],
  value: number,
  labels: Labels = {},
): MetricSample {
  return { name, help, labels, type, value, buckets: [], sum: 0 };
}

function seriesId(name: string, labels: Labels): string {
  const sorted = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  return `${name}{${sorted.map(([label, value]) => `${label}=${value}`).join(',')}}`;
}
