// Latencies of a load in an HDR histogram (Node's own: microseconds, three digits), and the picture
// of it for a terminal.

import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';

export interface LatencySummary {
  readonly count: number;
  readonly meanMs: number;
  readonly p50Ms: number;
  readonly p95Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
  readonly maxMs: number;
}

const highestUs = 3_600_000_000;

export class Latencies {
  readonly #histogram: RecordableHistogram = createHistogram({ highest: highestUs, figures: 3 });

  add(ms: number): void {
    this.#histogram.record(Math.min(highestUs, Math.max(1, Math.round(ms * 1000))));
  }

  merge(other: Latencies): void {
    this.#histogram.add(other.#histogram);
  }

  percentileMs(percent: number): number {
    return this.#histogram.count === 0 ? 0 : this.#histogram.percentile(percent) / 1000;
  }

  summary(): LatencySummary {
    const { count, mean, max } = this.#histogram;
    return {
      count,
      meanMs: count === 0 ? 0 : rounded(mean / 1000),
      p50Ms: rounded(this.percentileMs(50)),
      p95Ms: rounded(this.percentileMs(95)),
      p99Ms: rounded(this.percentileMs(99)),
      p999Ms: rounded(this.percentileMs(99.9)),
      maxMs: count === 0 ? 0 : rounded(max / 1000),
    };
  }
}

const rounded = (ms: number): number => Math.round(ms * 1000) / 1000;

const plotPercents = [0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99, 100];
const barWidth = 48;

/** One line per percentile; bars grow with the logarithm, so that tail and median both show. */
export function plotLines(latencies: Latencies): string[] {
  const values = plotPercents.map((percent) => latencies.percentileMs(Math.max(percent, 0.001)));
  const low = Math.log(Math.max(0.001, values[0] ?? 0));
  const high = Math.log(Math.max(0.001, values.at(-1) ?? 0));
  const span = high - low || 1;
  return plotPercents.map((percent, i) => {
    const ms = values[i] as number;
    const share = (Math.log(Math.max(0.001, ms)) - low) / span;
    const bar = '█'.repeat(1 + Math.round(share * (barWidth - 1)));
    return `${`p${percent}`.padStart(7)} ${bar} ${ms < 10 ? ms.toFixed(2) : ms.toFixed(1)} ms`;
  });
}
