// The real host: clocks, timers, randomness, stopNode, and the log's lines.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { expect } from 'chai';
import sinon from 'sinon';
import type { Capabilities } from '../../runtime/environment.ts';
import { createClock, createNodeHost, nodeTimers } from '../../runtime/host/node-host.ts';
import { createNodeLog, prettyLine } from '../../runtime/host/node-log.ts';
import { ManualHost } from '../kit.ts';

const quiet = new ManualHost().log;
const nothing = {} as Capabilities;

describe('node host', () => {
  it('node host: monotonic times of two threads can be compared', async () => {
    const clock = createClock();
    const hostFile = new URL('../../runtime/host/node-host.js', import.meta.url).href;
    const source = `import { createClock } from ${JSON.stringify(hostFile)};
      import { parentPort } from 'node:worker_threads';
      parentPort.postMessage(createClock().monotonicMs());`;
    const before = clock.monotonicMs();
    const url = new URL(`data:text/javascript,${encodeURIComponent(source)}`);
    const worker = new Worker(url);
    const there = await new Promise<number>((resolve, reject) => {
      worker.once('message', resolve).once('error', reject);
    });
    expect(there).to.be.within(before, clock.monotonicMs());
    await worker.terminate();
  });

  it('node host: wall time is whole microseconds of now', () => {
    const before = Date.now() * 1000;
    const micros = createClock().wallMicros();
    expect(micros).to.be.within(before, Date.now() * 1000);
    expect(Number.isSafeInteger(micros)).to.equal(true);
  });

  it('node host: soon comes before later, and a cancelled timer never', async () => {
    const order: string[] = [];
    nodeTimers.after(0, () => order.push('cancelled')).cancel();
    await new Promise<void>((resolve) => {
      nodeTimers.after(5, () => {
        order.push('after');
        resolve();
      });
      nodeTimers.later(() => order.push('later'));
      nodeTimers.soon(() => order.push('soon'));
    });
    expect(order).to.deep.equal(['soon', 'later', 'after']);
  });

  it('node host: a timer of months fires once, at its time, and may be cancelled on the way', () => {
    const clock = sinon.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const fired: string[] = [];
      const dayMs = 24 * 3600 * 1000;
      nodeTimers.after(60 * dayMs, () => fired.push('60'));
      const other = nodeTimers.after(90 * dayMs, () => fired.push('90'));
      clock.tick(60 * dayMs - 1);
      expect(fired).to.deep.equal([]);
      clock.tick(1);
      expect(fired).to.deep.equal(['60']);
      other.cancel();
      clock.tick(365 * dayMs);
      expect(fired).to.deep.equal(['60']);
      expect(clock.countTimers()).to.equal(0);
    } finally {
      clock.restore();
    }
  });

  it('node host: two hosts draw different numbers', () => {
    const draw = (): number[] => {
      const { random } = createNodeHost({ log: quiet, capabilities: nothing, onStop: () => 0 });
      return [random.float(), random.int(1_000_000), ...random.bytes(4)];
    };
    expect(draw()).to.not.deep.equal(draw());
  });

  it('node host: the first reason to stop is the one that counts', () => {
    const reasons: string[] = [];
    const onStop = (reason: string): void => void reasons.push(reason);
    const host = createNodeHost({ log: quiet, capabilities: nothing, onStop });
    host.stopNode('first');
    host.stopNode('second');
    expect(reasons).to.deep.equal(['first']);
  });
});

describe('node log', () => {
  it('node log: a JSON line has level, time, node, thread, event and fields', () => {
    const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'kvd-log-')), 'log');
    const log = createNodeLog({ node: 'n1', thread: 'control', to: file });
    log.debug('not.shown');
    log.warn('disk.low', { actor: 'store/0', freeBytes: 5 });
    const lines = fs.readFileSync(file, 'utf8').trimEnd().split('\n');
    expect(lines).to.have.lengthOf(1);
    const { time, ...rest } = JSON.parse(lines[0] ?? '') as Record<string, unknown>;
    expect(new Date(String(time)).toISOString()).to.equal(time);
    expect(rest).to.deep.equal({
      level: 'warn',
      node: 'n1',
      thread: 'control',
      actor: 'store/0',
      freeBytes: 5,
      event: 'disk.low',
    });
  });

  it('node log: a pretty line is one readable line', () => {
    const line = prettyLine({
      level: 'info',
      time: '2026-01-02T03:04:05.678Z',
      node: 'n1',
      thread: 'shard-0',
      event: 'wal.recovered',
      records: 10,
      reason: 'two words',
    });
    expect(line).to.equal(
      '03:04:05.678 INFO  n1/shard-0 wal.recovered records=10 reason="two words"\n',
    );
  });
});
