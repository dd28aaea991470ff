// What compaction has done and still owes, for people: counters of jobs and bytes, and gauges of
// the debt. The store's decisions use none of it.

import type { Counter, Labels, MetricRegistry } from '../../runtime/metrics.ts';
import type { CompactionOutcome } from './store-steps.ts';

export class CompactionFigures {
  readonly #jobs: Counter;
  readonly #failures: Counter;
  readonly #read: Counter;
  readonly #written: Counter;
  /** Bytes of tables above the targets of the strategy. */
  debtBytes = 0;
  /** Levels that hold tables. */
  levels = 0;

  constructor(metrics: MetricRegistry, labels: Labels) {
    const named = (name: string, help: string): Counter =>
      metrics.counter(`kvd_compaction_${name}_total`, help, labels);
    this.#jobs = named('jobs', 'Compactions done');
    this.#failures = named('failures', 'Compactions that failed and are tried again');
    this.#read = named('read_bytes', 'Bytes of tables that compactions read');
    this.#written = named('written_bytes', 'Bytes of tables that compactions wrote');
    const debt = (): number => this.debtBytes;
    metrics.gauge('kvd_compaction_debt_bytes', 'Bytes of tables above the targets', debt, labels);
    metrics.gauge('kvd_store_levels', 'Levels that hold tables', () => this.levels, labels);
  }

  done({ readBytes, writtenBytes }: CompactionOutcome): void {
    this.#jobs.add();
    this.#read.add(readBytes);
    this.#written.add(writtenBytes);
  }

  failed(): void {
    this.#failures.add();
  }
}
