// Figures: one series per name and labels, buckets where Prometheus expects them.

import { expect } from 'chai';
import { latencyBuckets, MetricRegistry } from '../../runtime/metrics.ts';

describe('metrics', () => {
  it('metrics: the same name and labels are the same counter, in any order of labels', () => {
    const registry = new MetricRegistry();
    registry.counter('kvd_x_total', 'help', { a: '1', b: '2' }).add();
    registry.counter('kvd_x_total', 'help', { b: '2', a: '1' }).add(4);
    registry.counter('kvd_x_total', 'help', { a: '1' }).add(7);
    const values = registry.samples().map(({ labels, value }) => ({ labels, value }));
    expect(values).to.deep.equal([
      { labels: { a: '1', b: '2' }, value: 5 },
      { labels: { a: '1' }, value: 7 },
    ]);
  });

  it('metrics: a gauge is read when it is asked for, the last registration wins', () => {
    const registry = new MetricRegistry();
    let depth = 1;
    registry.gauge('kvd_depth', 'help', () => -1);
    registry.gauge('kvd_depth', 'help', () => depth);
    depth = 5;
    expect(registry.samples().map(({ value }) => value)).to.deep.equal([5]);
  });

  it('metrics: a value belongs to the first bucket whose bound it does not exceed', () => {
    const registry = new MetricRegistry();
    const histogram = registry.histogram('kvd_op_seconds', 'help');
    const first = latencyBuckets[0] as number;
    const third = latencyBuckets[2] as number;
    for (const value of [0, first, third, third * 1.01, 1e9]) histogram.record(value);
    const [sample] = registry.samples();
    const filled = (sample?.buckets ?? []).flatMap((count, i) => (count > 0 ? [[i, count]] : []));
    expect(filled).to.deep.equal([
      [0, 2],
      [2, 1],
      [3, 1],
      [latencyBuckets.length, 1],
    ]);
    expect(sample?.sum).to.be.closeTo(1e9 + first + third * 2.01, 1e-3);
  });

  it('metrics: samples are plain data and do not change afterwards', () => {
    const registry = new MetricRegistry();
    const histogram = registry.histogram('kvd_op_seconds', 'help');
    const [before] = registry.samples();
    histogram.record(1);
    expect(structuredClone(before)).to.deep.equal(before);
    expect(before?.sum).to.equal(0);
  });
});
