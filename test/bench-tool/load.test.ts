// The load of kvctl bench: shares, distributions, and latencies that count from the right moment.

import { expect } from 'chai';
import { createChooser } from '../../cli/bench/key-chooser.ts';
import { Latencies, plotLines } from '../../cli/bench/latencies.ts';
import { Load, type LoadOptions, type LoadResult, type Target } from '../../cli/bench/load.ts';
import { operationAt, workloads } from '../../cli/bench/workloads.ts';
import { Prng } from '../../runtime/prng.ts';

const base: LoadOptions = {
  workload: workloads.A,
  records: 100,
  operationsMax: 1000,
  durationMs: 60_000,
  clients: 8,
  rate: undefined,
  valueBytes: 10,
  prefix: 'p:',
  seed: 7,
};

function countingTarget(): { target: Target; reads: string[]; writes: string[]; scans: number[] } {
  const reads: string[] = [];
  const writes: string[] = [];
  const scans: number[] = [];
  const target: Target = {
    read: (key) => Promise.resolve(reads.push(key)),
    write: (key) => Promise.resolve(writes.push(key)),
    scan: (_from, rows) => Promise.resolve(scans.push(rows)),
  };
  return { target, reads, writes, scans };
}

describe('bench: load', () => {
  it('load: zipfian keys are few and hot, uniform ones even, the latest the newest', () => {
    const draws = 20_000;
    const records = 1000;
    const counts = (name: 'uniform' | 'zipfian' | 'latest'): number[] => {
      const chooser = createChooser(name, new Prng(1));
      const found = new Array<number>(records).fill(0);
      for (let i = 0; i < draws; i += 1) {
        const key = chooser.next(records);
        found[key] = (found[key] as number) + 1;
      }
      return found;
    };
    const top = (found: readonly number[]): number =>
      [...found]
        .sort((a, b) => b - a)
        .slice(0, 10)
        .reduce((sum, count) => sum + count, 0) / draws;
    expect(top(counts('uniform'))).to.be.below(0.03);
    // The ten most popular of 1,000 with exponent 0.99: 38 in 100.
    expect(top(counts('zipfian'))).to.be.within(0.33, 0.45);
    const latest = counts('latest');
    expect(latest.indexOf(Math.max(...latest))).to.equal(records - 1);
    expect(latest.slice(-10).reduce((sum, count) => sum + count, 0) / draws).to.be.within(
      0.33,
      0.45,
    );
  });

  it('load: choosers stay in range while records grow, from one on', () => {
    for (const name of ['uniform', 'zipfian', 'latest'] as const) {
      const chooser = createChooser(name, new Prng(3));
      for (let records = 1; records < 400; records += 1)
        expect(chooser.next(records)).to.be.within(0, records - 1);
    }
  });

  it('load: shares of a workload are those of its table', () => {
    const found = new Map<string, number>();
    for (let i = 0; i < 1000; i += 1) {
      const operation = operationAt(workloads.D, i / 1000);
      found.set(operation, (found.get(operation) ?? 0) + 1);
    }
    expect(Object.fromEntries(found)).to.deep.equal({ read: 950, insert: 50 });
  });

  it('load: fills each record once, then runs so many operations', async () => {
    const { target, reads, writes } = countingTarget();
    const load = new Load({ ...base, workload: workloads.F }, target);
    expect(await load.fill()).to.equal(100);
    expect(new Set(writes).size).to.equal(100);
    expect(writes[0]).to.equal('p:000000000000');
    writes.length = 0;
    const { done, failed, byOperation, all } = await load.run();
    expect([done, failed, reads.length]).to.deep.equal([1000, 0, 1000]);
    expect(all.summary().count).to.equal(1000);
    expect(byOperation.get('modify')?.summary().count).to.equal(writes.length);
  });

  it('load: inserts take new keys, scans 1 to 100 rows', async () => {
    const { target, writes, scans } = countingTarget();
    await new Load({ ...base, workload: workloads.E }, target).run();
    expect(writes.length + scans.length).to.equal(1000);
    expect(new Set(writes).size).to.equal(writes.length);
    expect(writes.every((key) => Number(key.slice(2)) >= 100)).to.equal(true);
    expect(Math.min(...scans)).to.be.at.least(1);
    expect(Math.max(...scans)).to.be.at.most(100);
  });

  it('load: failures are counted by code and have no latency', async () => {
    const refuse = (): Promise<never> =>
      Promise.reject(Object.assign(new Error('x'), { code: 'TIMEOUT' }));
    const target: Target = { read: refuse, write: refuse, scan: refuse };
    const result = await new Load({ ...base, operationsMax: 20 }, target).run();
    expect([result.done, result.failed, result.all.summary().count]).to.deep.equal([20, 20, 0]);
    expect([...result.failures]).to.deep.equal([['TIMEOUT', 20]]);
  });

  it('load: an open loop begins on time and drops what it may not begin', async () => {
    const held: (() => void)[] = [];
    let run: Promise<LoadResult> | undefined;
    const target: Target = {
      read: () => new Promise<void>((resolve) => held.push(resolve)),
      write: () => Promise.resolve(),
      scan: () => Promise.resolve(),
    };
    const options = { ...base, workload: workloads.C, rate: 1e6, clients: 5, operationsMax: 50 };
    const tooMany = (): Promise<never> => Promise.reject(new Error('more than five at once'));
    let ended = 0;
    const allEnded = new Promise<void>((resolve) => {
      const onProgress = (count: number): void => {
        ended = count;
        if (count === 45) resolve();
      };
      const read = (): Promise<unknown> => (held.length < 5 ? target.read('') : tooMany());
      run = new Load({ ...options, onProgress }, { ...target, read }).run();
    });
    await allEnded;
    expect(ended).to.equal(45);
    for (const release of held) release();
    const { done, dropped, failed } = (await run) as LoadResult;
    expect({ done, dropped, failed }).to.deep.equal({ done: 5, dropped: 45, failed: 0 });
  });
});

describe('bench: latencies', () => {
  it('latencies: percentiles of what was added, merged and empty', () => {
    const latencies = new Latencies();
    for (let ms = 1; ms <= 1000; ms += 1) latencies.add(ms);
    const { count, p50Ms, p99Ms, maxMs } = latencies.summary();
    expect(count).to.equal(1000);
    expect(p50Ms).to.be.closeTo(500, 1);
    expect(p99Ms).to.be.closeTo(990, 1);
    expect(maxMs).to.be.closeTo(1000, 1);
    const other = new Latencies();
    other.add(5000);
    latencies.merge(other);
    expect(latencies.summary().maxMs).to.be.closeTo(5000, 10);
    expect(new Latencies().summary()).to.include({ count: 0, p50Ms: 0, maxMs: 0 });
  });

  it('latencies: the plot has a line per percentile and bars that grow', () => {
    const latencies = new Latencies();
    for (const ms of [1, 2, 4, 8, 16, 32]) latencies.add(ms);
    const widths = plotLines(latencies).map((line) => line.split('█').length - 1);
    expect(widths).to.deep.equal([...widths].sort((a, b) => a - b));
    expect([widths[0], widths.at(-1)]).to.deep.equal([1, 48]);
    expect(plotLines(new Latencies()).length).to.equal(11);
  });
});
