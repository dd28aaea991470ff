// The text format of Prometheus, read back by a parser of a few lines.

import { expect } from 'chai';
import fc from 'fast-check';
import { mergeSamples, renderPrometheus } from '../../actors/observability/prometheus-text.ts';
import { latencyBuckets, MetricRegistry, type MetricSample } from '../../runtime/metrics.ts';

const gauge = (value: number, labels: Record<string, string> = {}): MetricSample => ({
  name: 'kvd_test_bytes',
  help: 'Bytes of a test',
  type: 'gauge',
  labels,
  value,
  buckets: [],
  sum: 0,
});

/** Value by series, the series as it is written. */
function seriesOf(text: string): Map<string, string> {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => [
      line.slice(0, line.lastIndexOf(' ')),
      line.slice(line.lastIndexOf(' ') + 1),
    ]),
  );
}

function unescaped(text: string): string {
  return text.replaceAll(/\\([\\"n])/g, (_, escape: string) => (escape === 'n' ? '\n' : escape));
}

describe('prometheus', () => {
  it('prometheus: a family has its help and type once and its series in one block', () => {
    const text = renderPrometheus([gauge(1, { b: '2', a: '1' }), gauge(2.5, { a: '2' })]);
    expect(text).to.equal(
      [
        '# HELP kvd_test_bytes Bytes of a test',
        '# TYPE kvd_test_bytes gauge',
        'kvd_test_bytes{a="1",b="2"} 1',
        'kvd_test_bytes{a="2"} 2.5',
        '',
      ].join('\n'),
    );
  });

  it('prometheus: any label value survives, on one line', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('a', '\\', '"', '\n', '}', ' ', 'é') }),
        (value) => {
          const [series] = [...seriesOf(renderPrometheus([gauge(1, { v: value })])).keys()];
          const match = /^kvd_test_bytes\{v="(.*)"\}$/.exec(series ?? '');
          expect(unescaped(match?.[1] ?? 'none')).to.equal(value);
        },
      ),
    );
  });

  it('prometheus: buckets are cumulative and end with the count (values=any)', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 60, noNaN: true })), (values) => {
        const registry = new MetricRegistry();
        const histogram = registry.histogram('kvd_test_seconds', 'Time', { route: 'get' });
        for (const value of values) histogram.record(value);
        const series = seriesOf(renderPrometheus(registry.samples()));
        for (const bound of latencyBuckets) {
          const le = String(Number(bound.toPrecision(12)));
          const expected = values.filter((value) => value <= bound).length;
          const found = series.get(`kvd_test_seconds_bucket{le="${le}",route="get"}`);
          expect(found).to.equal(String(expected));
        }
        const count = String(values.length);
        expect(series.get('kvd_test_seconds_bucket{le="+Inf",route="get"}')).to.equal(count);
        expect(series.get('kvd_test_seconds_count{route="get"}')).to.equal(count);
      }),
    );
  });

  it('prometheus: samples of several threads add up, whatever the order of their labels', () => {
    const merged = mergeSamples([
      gauge(1, { a: '1', b: '2' }),
      gauge(4, { b: '2', a: '1' }),
      gauge(8),
    ]);
    expect(merged.map(({ value }) => value)).to.deep.equal([5, 8]);
    const registry = new MetricRegistry();
    registry.histogram('kvd_test_seconds', 'Time').record(0.00004);
    const [sum] = mergeSamples([...registry.samples(), ...registry.samples()]);
    expect(sum?.buckets[0]).to.equal(2);
    expect(sum?.sum).to.be.closeTo(0.00008, 1e-12);
  });

  it('prometheus: infinities are spelled as the format wants them', () => {
    expect(renderPrometheus([gauge(Infinity)])).to.contain('kvd_test_bytes +Inf\n');
    expect(renderPrometheus([gauge(-Infinity)])).to.contain('kvd_test_bytes -Inf\n');
    expect(renderPrometheus([gauge(Number.NaN)])).to.contain('kvd_test_bytes NaN\n');
  });
});
