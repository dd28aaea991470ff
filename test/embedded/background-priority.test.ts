// The priority of the thread that flushes and merges, as the kernel has it.

import fs from 'node:fs';
import { spawnSync } from 'node:child_process';
import { expect } from 'chai';
import { cpuPriorities } from '../../runtime/host/priority.ts';
import { codeRejectedBy } from '../kit.ts';
import { storagesUnderTest } from './storages-under-test.ts';

/** SCHED_IDLE, sched(7). */
const idlePolicy = 5;

/** Of all threads of this process: `nice/policy`. Fields 19 and 41 of proc_pid_stat(5). */
function priorities(): string[] {
  return fs.readdirSync('/proc/self/task').map((tid) => {
    const stat = fs.readFileSync(`/proc/self/task/${tid}/stat`, 'utf8');
    // The name, field 2, may hold spaces.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return `${fields[19 - 3]}/${fields[41 - 3]}`;
  });
}

describe('background priority', () => {
  const { opened } = storagesUnderTest();
  const without = spawnSync('chrt', ['-p', String(process.pid)]).status !== 0;

  for (const backgroundPriority of cpuPriorities)
    it(`background priority: ${backgroundPriority}, and the store works`, async function () {
      if (process.platform !== 'linux' || (without && backgroundPriority === 'idle')) {
        console.log('      skipped: no priorities of threads here');
        this.skip();
      }
      const expected = backgroundPriority === 'idle' ? `19/${idlePolicy}` : '19/0';
      const counted = (): number => priorities().filter((one) => one === expected).length;
      const before = counted();
      const storage = await opened({ backgroundPriority });
      expect(counted()).to.equal(before + 1);
      await storage.put('key', 'value');
      await storage.flush();
      expect((await storage.stats()).tables).to.equal(1);
    });

  it('background priority: another one is refused', async () => {
    const refused = opened({ backgroundPriority: 'high' as 'low' });
    expect(await codeRejectedBy(refused)).to.equal('BAD_REQUEST');
  });
});
