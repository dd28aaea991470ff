// Figures as Prometheus reads them: the text exposition format, version 0.0.4
// (prometheus.io/docs/instrumenting/exposition_formats). Series of one name and labels that come
// from several threads are added up, since each thread counts for itself.

import { latencyBuckets, type Labels, type MetricSample } from '../../runtime/metrics.ts';

/** Adds up samples of the same series; the first one's help stays. */
export function mergeSamples(samples: Iterable<MetricSample>): readonly MetricSample[] {
  const merged = new Map<string, MetricSample>();
  for (const sample of samples) {
    const id = `${sample.name}${labelText(sample.labels)}`;
    const known = merged.get(id);
    merged.set(id, known === undefined ? sample : sum(known, sample));
  }
  return [...merged.values()];
}

function sum(a: MetricSample, b: MetricSample): MetricSample {
  const length = Math.max(a.buckets.length, b.buckets.length);
  return {
    ...a,
    value: a.value + b.value,
    sum: a.sum + b.sum,
    buckets: Array.from({ length }, (_, i) => (a.buckets[i] ?? 0) + (b.buckets[i] ?? 0)),
  };
}

/** The whole page: families by name, each with its help and type once. */
export function renderPrometheus(samples: Iterable<MetricSample>): string {
  const families = new Map<string, MetricSample[]>();
  for (const sample of mergeSamples(samples)) {
    const family = families.get(sample.name);
    if (family === undefined) families.set(sample.name, [sample]);
    else family.push(sample);
  }
  const names = [...families.keys()].sort();
  return names.map((name) => familyText(name, families.get(name) as MetricSample[])).join('');
}

function familyText(name: string, family: readonly MetricSample[]): string {
  const [first] = family;
  const help = (first?.help ?? '').replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
  const series = family.map((sample) =>
    sample.type === 'histogram'
      ? histogramText(sample)
      : `${name}${labelText(sample.labels)} ${numberText(sample.value)}\n`,
  );
  return `# HELP ${name} ${help}\n# TYPE ${name} ${first?.type ?? 'untyped'}\n${series.join('')}`;
}

function histogramText({ name, labels, buckets, sum: total }: MetricSample): string {
  let count = 0;
  let text = '';
  for (let i = 0; i <= latencyBuckets.length; i += 1) {
    count += buckets[i] ?? 0;
    const bound = latencyBuckets[i];
    const le = bound === undefined ? '+Inf' : numberText(bound);
    text += `${name}_bucket${labelText({ ...labels, le })} ${count}\n`;
  }
  const suffix = labelText(labels);
  return `${text}${name}_sum${suffix} ${numberText(total)}\n${name}_count${suffix} ${count}\n`;
}

function labelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(([label, value]) => `${label}="${escaped(value)}"`);
  return pairs.length === 0 ? '' : `{${pairs.sort().join(',')}}`;
}

const escaped = (value: string): string =>
  value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');

function numberText(value: number): string {
  if (value === Infinity) return '+Inf';
  if (value === -Infinity) return '-Inf';
  // 0.1 + 0.2 prints as 0.3: bucket bounds are sums of binary fractions.
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(12)));
}
