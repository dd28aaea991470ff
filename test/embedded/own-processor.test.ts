// The processor that the thread of a storage keeps for itself, as the kernel has it.

import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { expect } from 'chai';
import { utf8 } from '../../runtime/bytes.ts';
import { codeRejectedBy } from '../kit.ts';
import { storagesUnderTest } from './storages-under-test.ts';

/** Where each thread of this process may run, by its id: lists of proc_pid_status(5). */
function allowed(): Map<string, string> {
  const found = new Map<string, string>();
  for (const tid of fs.readdirSync('/proc/self/task')) {
    try {
      const status = fs.readFileSync(`/proc/self/task/${tid}/status`, 'utf8');
      found.set(tid, /^Cpus_allowed_list:\s*(\S+)$/m.exec(status)?.[1] ?? '');
    } catch {
      // A thread of another test that has ended meanwhile.
    }
  }
  return found;
}

const own = String(process.pid);

/** The processor of the calling thread, which no other thread may use. */
function expectKept(): void {
  const { [own]: mine, ...others } = Object.fromEntries(allowed());
  expect(mine, 'one processor').to.match(/^\d+$/);
  expect(Object.keys(others)).not.to.be.empty;
  const sharing = Object.values(others).filter((list) => includes(list, Number(mine)));
  expect(sharing, `lists with processor ${mine}`).to.be.empty;
}

const includes = (list: string, processor: number): boolean =>
  list.split(',').some((part) => {
    const [first = NaN, last = first] = part.split('-').map(Number);
    return first <= processor && processor <= last;
  });

describe('own processor', () => {
  const under = storagesUnderTest();
  const { PATH } = process.env;
  const hasTaskset = spawnSync('taskset', ['-p', own]).status === 0;
  let before: Map<string, string>;

  beforeEach(function () {
    before = hasTaskset ? allowed() : new Map<string, string>();
    if (!/[,-]/.test(before.get(own) ?? '')) {
      console.log('      skipped: one processor, or no taskset here');
      this.skip();
    }
  });

  afterEach(() => {
    process.env['PATH'] = PATH;
  });

  /** The threads of before are allowed what they were. */
  function expectAsBefore(): void {
    const now = allowed();
    const were = [...before].filter(([tid]) => now.has(tid));
    expect(were.map(([tid]) => [tid, now.get(tid)])).to.deep.equal(were);
  }

  it('own processor: as long as the storage is open, and everything is as before afterwards', async () => {
    const storage = await under.opened({ ownProcessor: true });
    expectKept();
    await storage.put('key', 'value');
    await storage.flush();
    expect(await storage.get('key')).to.deep.equal(utf8.encode('value'));
    await storage.close();
    expectAsBefore();
  });

  it('own processor: without the option nothing changes', async () => {
    await under.opened();
    expectAsBefore();
  });

  it('own processor: threads of a storage that is opened later leave it, and the last one gives it back', async () => {
    const second = path.join(under.directory, 'second');
    const third = path.join(under.directory, 'third');
    const first = await under.opened({ ownProcessor: true });
    const other = await under.opened({ directory: second, ownProcessor: true });
    await first.close();
    const plain = await under.opened({ directory: third });
    expectKept();
    await plain.close();
    expectKept();
    await other.close();
    expectAsBefore();
  });

  it('own processor: a thread that was begun meanwhile may run everywhere afterwards', async () => {
    const storage = await under.opened({ ownProcessor: true });
    const waiting = "require('node:worker_threads').parentPort.once('message', () => undefined)";
    const worker = new Worker(waiting, { eval: true });
    await once(worker, 'online');
    await storage.close();
    const lists = new Set([...allowed()].filter(([tid]) => !before.has(tid)).map(([, l]) => l));
    expect([...lists]).to.deep.equal([before.get(own)]);
    await worker.terminate();
  });

  it('own processor: without taskset nothing changes, and the store works', async () => {
    process.env['PATH'] = '';
    const storage = await under.opened({ ownProcessor: true });
    expectAsBefore();
    await storage.put('key', 'value');
    expect(await storage.get('key')).to.deep.equal(utf8.encode('value'));
  });

  it('own processor: anything but true and false is refused', async () => {
    const refused = under.opened({ ownProcessor: 'yes' as unknown as boolean });
    expect(await codeRejectedBy(refused)).to.equal('BAD_REQUEST');
  });
});
