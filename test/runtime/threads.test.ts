// Threads of a node: control over comlink, what happens when one dies (TR-5), and the mesh.

import { once } from 'node:events';
import { expect } from 'chai';
import {
  createThreadMesh,
  doorbellsOf,
  startThreads,
  type ThreadHandle,
  watchStalls,
} from '../../runtime/host/threads.ts';
import { codeRejectedBy, ManualHost } from '../kit.ts';
import type { Behaviour } from './thread-under-test.ts';

const entry = new URL('./thread-under-test.js', import.meta.url);
const patienceMs = 10_000;

interface Started {
  readonly handle: ThreadHandle;
  /** The first reason that the thread gave for ending the node. */
  readonly fatal: Promise<string>;
}

function start(onDrain: Behaviour['onDrain']): Started {
  let tell: (reason: string) => void = () => undefined;
  const fatal = new Promise<string>((resolve) => {
    tell = resolve;
  });
  const data: Behaviour = { onDrain };
  const [handle] = startThreads({
    threads: 2,
    entry,
    nameOf: (thread) => `shard-${thread - 1}`,
    dataFor: () => data,
    transferFor: () => [],
    onFatal: tell,
  });
  if (handle === undefined) throw new Error('no thread was started');
  return { handle, fatal };
}

describe('threads', () => {
  it('threads: start, report, samples, drain and stop are answered', async () => {
    const { handle } = start('end');
    await handle.start(patienceMs);
    const report = await handle.report(patienceMs);
    expect(report.heapBytes).to.be.within(1, report.heapLimitBytes);
    expect(report.utilization).to.be.within(0, 1);
    expect(await handle.samples(patienceMs)).to.deep.equal([]);
    await handle.drain(patienceMs);
    await handle.stop(patienceMs);
    expect(await codeRejectedBy(handle.report(patienceMs))).to.equal('UNREACHABLE');
  });

  it('threads: an error of a call comes back with its message', async () => {
    const { handle } = start('throw');
    const message = await handle.drain(patienceMs).catch((error: unknown) => String(error));
    expect(message).to.equal('Error: drain failed');
    await handle.stop(patienceMs);
  });

  it('threads: a call without an answer ends at its time limit (timeoutMs=50)', async () => {
    const { handle } = start('hang');
    await handle.start(patienceMs);
    expect(await codeRejectedBy(handle.drain(50))).to.equal('TIMEOUT');
    await handle.stop(patienceMs);
  });

  const deaths: [Behaviour['onDrain'], string][] = [
    ['exit', 'thread shard-0 ended: exit code 3'],
    ['reject-elsewhere', 'thread shard-0 ended: TypeError: nobody caught this'],
    ['end-node', 'thread shard-0 ended: the disk failed'],
  ];
  for (const [onDrain, reason] of deaths)
    it(`threads: a thread that ends unasked ends its calls and the node (by=${onDrain})`, async () => {
      const { handle, fatal } = start(onDrain);
      await handle.start(patienceMs);
      expect(await codeRejectedBy(handle.drain(patienceMs))).to.equal('UNREACHABLE');
      expect(await fatal).to.equal(reason);
    });

  it('threads: an entry that cannot be loaded ends the node with the reason', async () => {
    const reason = await new Promise<string>((resolve) => {
      startThreads({
        threads: 2,
        entry: new URL('./no-such-file.js', import.meta.url),
        nameOf: () => 'shard-0',
        dataFor: () => ({}),
        transferFor: () => [],
        onFatal: resolve,
      });
    });
    expect(reason).to.match(/^thread shard-0 ended: Error: Cannot find module/);
  });

  it('threads: the mesh joins every two threads both ways (threads=3)', async () => {
    const made: SharedArrayBuffer[] = [];
    const parts = createThreadMesh(3, 64, (bytes) => {
      made.push(new SharedArrayBuffer(bytes));
      return made[made.length - 1] as SharedArrayBuffer;
    });
    expect(made).to.have.lengthOf(6);
    for (const [a, b] of [[0, 1] as const, [0, 2] as const, [1, 2] as const]) {
      const there = parts[a]?.rings[b];
      const back = parts[b]?.rings[a];
      expect(there?.outgoing).to.equal(back?.incoming);
      expect(there?.incoming).to.equal(back?.outgoing);
      expect(there?.outgoing).to.not.equal(there?.incoming);
      const heard = once(back?.doorbell as never, 'message');
      there?.doorbell.postMessage('ring');
      expect(((await heard) as [unknown])[0]).to.equal('ring');
    }
    for (const part of parts) {
      expect(doorbellsOf(part)).to.have.lengthOf(2);
      for (const doorbell of doorbellsOf(part)) doorbell.close();
    }
  });

  it('threads: rings are shared and doorbells handed over with the data', async () => {
    const parts = createThreadMesh(2, 8, (bytes) => new SharedArrayBuffer(bytes));
    const own = parts[0]?.rings[1];
    const theirs = parts[1]?.rings[0];
    if (own === undefined || theirs === undefined) throw new Error('the mesh is not joined');
    const data: Behaviour = { onDrain: 'end', ring: theirs.outgoing, doorbell: theirs.doorbell };
    const [handle] = startThreads({
      threads: 2,
      entry,
      nameOf: () => 'background',
      dataFor: () => data,
      transferFor: () => [theirs.doorbell],
      onFatal: (reason) => expect.fail(reason),
    });
    const rung = once(own.doorbell as never, 'message');
    await handle?.start(patienceMs);
    expect(((await rung) as [unknown])[0]).to.equal('background');
    expect(new Uint8Array(own.incoming)[0]).to.equal(7);
    own.doorbell.close();
    await handle?.stop(patienceMs);
  });

  it('threads: a stalled thread is logged by name', async () => {
    const { log, logged } = new ManualHost();
    const report = {
      heapBytes: 1,
      heapLimitBytes: 2,
      externalBytes: 0,
      eventLoopDelayMs: 1500,
      utilization: 1,
    };
    const stalled = { name: 'shard-0', report: () => Promise.resolve(report) };
    const fine = {
      name: 'shard-1',
      report: () => Promise.resolve({ ...report, eventLoopDelayMs: 900 }),
    };
    const end = watchStalls([stalled, fine] as unknown as ThreadHandle[], log, 1);
    const own = await new Promise<unknown>((resolve) => {
      const look = (): void => {
        const found = logged.find(({ fields }) => fields['thread'] !== 'main');
        if (found === undefined) setImmediate(look);
        else resolve(found);
      };
      look();
    });
    end();
    expect(own).to.deep.equal({
      level: 'warn',
      event: 'thread.stalled',
      fields: { thread: 'shard-0', eventLoopDelayMs: 1500 },
    });
  });
});
