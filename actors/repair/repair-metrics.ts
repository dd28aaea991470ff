// Figures of repair, for one shard; those of runs belong to shard 0. The age of the oldest horizon
// is the one to watch: while it grows no tombstone is purged (AE-7).

import type { Counter, MetricRegistry } from '../../runtime/metrics.ts';
import type { RepairProgress } from './repair-progress.ts';

export class RepairMetrics {
  readonly #complete: Counter;
  readonly #incomplete: Counter;
  readonly #keys: Counter;
  readonly #records: Counter;
  readonly #bytes: Counter;

  /** `horizonAge`: seconds since the oldest horizon of the shard; 0 where there is none. */
  constructor(metrics: MetricRegistry, shard: number, horizonAge: () => number) {
    const labels = { shard: String(shard) };
    const runs = 'Repairs that this node ran';
    const name = 'kvd_repair_runs_total';
    this.#complete = metrics.counter(name, runs, { ...labels, outcome: 'complete' });
    this.#incomplete = metrics.counter(name, runs, { ...labels, outcome: 'incomplete' });
    this.#keys = metrics.counter('kvd_repair_keys_compared_total', 'Keys compared', labels);
    this.#records = metrics.counter('kvd_repair_records_sent_total', 'Records sent', labels);
    this.#bytes = metrics.counter('kvd_repair_sent_bytes_total', 'Bytes of records sent', labels);
    const help =
      'Age of the oldest horizon of repair; where a set was never repaired whole, of this process';
    metrics.gauge('kvd_repair_horizon_age_seconds', help, horizonAge, labels);
  }

  ran(isComplete: boolean, { keysCompared, recordsSent, bytesSent }: RepairProgress): void {
    (isComplete ? this.#complete : this.#incomplete).add();
    this.#keys.add(keysCompared);
    this.#records.add(recordsSent);
    this.#bytes.add(bytesSent);
  }
}
