// The figures of a cache as metrics, one set of names for all caches: kvd_cache_* with the labels
// `cache` and `shard`.

import type { Labels, MetricRegistry } from '../../runtime/metrics.ts';

export interface CacheFigures {
  readonly hits: number;
  readonly misses: number;
  /** Entries that went to make room. */
  readonly evictions: number;
  readonly entries: number;
  /** With what entries and index cost. */
  readonly bytes: number;
}

/** `read` is called when somebody asks for the metrics. */
export function registerCache(
  metrics: MetricRegistry,
  labels: Labels & { readonly cache: 'rows' | 'blocks' | 'index' },
  read: () => CacheFigures,
): void {
  metrics.total(
    'kvd_cache_hits_total',
    'Look-ups that a cache answered',
    () => read().hits,
    labels,
  );
  metrics.total('kvd_cache_misses_total', 'Look-ups beyond a cache', () => read().misses, labels);
  metrics.total(
    'kvd_cache_evictions_total',
    'Entries that made room',
    () => read().evictions,
    labels,
  );
  metrics.gauge('kvd_cache_entries', 'Entries in a cache', () => read().entries, labels);
  metrics.gauge(
    'kvd_cache_bytes',
    'Bytes of a cache, overhead included',
    () => read().bytes,
    labels,
  );
}
