// The priority of the thread that flushes and merges, as the kernel has it.

import fs from 'node:fs';
import { availableParallelism } from 'node:os';
import { spawnSync } from 'node:child_process';
import { setImmediate } from 'node:timers/promises';
import { expect } from 'chai';
import { utf8 } from '../../runtime/bytes.ts';
import { cpuPriorities } from '../../runtime/host/priority.ts';
import { codeRejectedBy } from '../kit.ts';
import { storagesUnderTest } from './storages-under-test.ts';

/** SCHED_IDLE, sched(7). */
const idlePolicy = 5;

/** Of each thread of this process, by its id: `nice/policy`. Fields 19 and 41 of proc_pid_stat(5). */
function priorities(): Map<string, string> {
  const found = new Map<string, string>();
  for (const tid of fs.readdirSync('/proc/self/task')) {
    try {
      const stat = fs.readFileSync(`/proc/self/task/${tid}/stat`, 'utf8');
      // The name, field 2, may hold spaces.
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      found.set(tid, `${fields[19 - 3]}/${fields[41 - 3]}`);
    } catch {
      // A thread of another test that has ended meanwhile.
    }
  }
  return found;
}

describe('background priority', () => {
  const { opened } = storagesUnderTest();
  const hasChrt = spawnSync('chrt', ['-p', String(process.pid)]).status === 0;
  const { PATH } = process.env;
  let before: Map<string, string>;

  beforeEach(function () {
    if (process.platform !== 'linux') {
      console.log('      skipped: no priorities of threads here');
      this.skip();
    }
    before = priorities();
  });

  afterEach(() => {
    process.env['PATH'] = PATH;
  });

  /** How many threads with this priority began since the test did. */
  const begun = (priority: string): number =>
    [...priorities()].filter(([tid, one]) => !before.has(tid) && one === priority).length;

  for (const backgroundPriority of cpuPriorities)
    it(`background priority: ${backgroundPriority}, and the store works`, async function () {
      if (!hasChrt && backgroundPriority === 'idle') {
        console.log('      skipped: no chrt here');
        this.skip();
      }
      const expected = backgroundPriority === 'idle' ? `19/${idlePolicy}` : '19/0';
      const storage = await opened({ backgroundPriority });
      expect(begun(expected)).to.equal(1);
      await storage.put('key', 'value');
      await storage.flush();
      expect((await storage.stats()).tables).to.equal(1);
    });

  it('background priority: without chrt idle is low, and the store works', async () => {
    process.env['PATH'] = '';
    const storage = await opened({ backgroundPriority: 'idle' });
    expect(begun('19/0')).to.equal(1);
    await storage.put('key', 'value');
    expect(await storage.get('key')).to.deep.equal(utf8.encode('value'));
  });

  it('background priority: where there are two processors a flush with LZ4 begins no further thread', async function () {
    if (availableParallelism() > 2) {
      console.log('      skipped: more than two processors');
      this.skip();
    }
    const storage = await opened({ compression: 'lz4' });
    await storage.put('key', 'x'.repeat(100_000));
    const seen = { isFlushed: false };
    const flush = storage.flush().then(() => {
      seen.isFlushed = true;
    });
    // A thread of the pool ends with its work.
    let most = 0;
    while (!seen.isFlushed) {
      most = Math.max(most, begun('19/0'));
      await setImmediate();
    }
    await flush;
    expect(most).to.equal(1);
  });

  it('background priority: another one is refused', async () => {
    const refused = opened({ backgroundPriority: 'high' as 'low' });
    expect(await codeRejectedBy(refused)).to.equal('BAD_REQUEST');
  });
});
