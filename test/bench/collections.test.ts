// What the bench reads of collections of garbage, by a program that collects when it is told to.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { collectionsIn, longestWithin, tracingTo } from './collections.ts';

const programOfTwo = `
  const { Worker } = require('node:worker_threads');
  const micros = () => Number(process.hrtime.bigint() / 1000n);
  const before = micros();
  gc({ type: 'minor' });
  const between = micros();
  gc();
  const after = micros();
  new Worker('for (let i = 0; i < 20; i += 1) gc();', { eval: true }).on('exit', () => {
    process.stdout.write(JSON.stringify([before, between, after]));
  });
`;

/** Keeps objects, so that V8 marks step by step before it collects all of them. */
const programThatKeeps = `
  const kept = [];
  for (let n = 0; n < 3e5; n += 1) kept.push({ n, before: kept[n >> 1] });
`;

describe('collections of garbage in a trace', () => {
  let scratch = '';

  before(() => {
    scratch = mkdtempSync(join(tmpdir(), 'kvd-collections-'));
  });

  after(() => rmSync(scratch, { recursive: true }));

  it('have the time that they took and what of it was work, of the main thread alone', () => {
    const path = join(scratch, 'trace.json');
    const args = ['--expose-gc', ...tracingTo(path), '-e', programOfTwo];
    const printed = execFileSync(process.execPath, args, { encoding: 'utf8' });
    const [first, second, end] = JSON.parse(printed) as [number, number, number];
    const all = collectionsIn(path);
    const forced = all.filter(({ startMicros: at }) => at >= first && at <= end);
    expect(forced).to.have.length(2);
    for (const { wallMicros, workMicros } of forced)
      expect(workMicros)
        .to.be.greaterThan(0)
        .and.at.most(wallMicros + 1);
    // The other thread collects after that.
    expect(all.filter(({ startMicros }) => startMicros > end)).to.have.length.below(10);
    const young = longestWithin(forced, [[first, second]]);
    const whole = longestWithin(forced, [[second, end]]);
    expect([young.wallMicros, whole.wallMicros]).to.deep.equal(
      forced.map(({ wallMicros }) => wallMicros),
    );
    expect(longestWithin(forced, [])).to.deep.equal({ wallMicros: 0, workMicros: 0 });
  });

  it('count the steps of marking before a whole one', () => {
    const path = join(scratch, 'steps.json');
    const flags = ['--stress-incremental-marking', '--no-concurrent-marking'];
    execFileSync(process.execPath, [...flags, ...tracingTo(path), '-e', programThatKeeps]);
    const { traceEvents } = JSON.parse(readFileSync(path, 'utf8')) as {
      readonly traceEvents: readonly { readonly name: string; readonly dur: number }[];
    };
    const steps = traceEvents.filter(({ name }) => name === 'V8.GCIncrementalMarking');
    expect(steps).to.not.be.empty;
    const longest = Math.max(...steps.map(({ dur }) => dur));
    expect(collectionsIn(path).map(({ wallMicros }) => wallMicros)).to.include(longest);
  });
});
