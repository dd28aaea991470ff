// The priority of the thread that flushes and merges, as the kernel has it.

import fs from 'node:fs';
import { spawnSync } from 'node:child_process';
import { expect } from 'chai';
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
  const without = spawnSync('chrt', ['-p', String(process.pid)]).status !== 0;

  for (const backgroundPriority of cpuPriorities)
    it(`background priority: ${backgroundPriority}, and the store works`, async function () {
      if (process.platform !== 'linux' || (without && backgroundPriority === 'idle')) {
        console.log('      skipped: no priorities of threads here');
        this.skip();
      }
      const expected = backgroundPriority === 'idle' ? `19/${idlePolicy}` : '19/0';
      const before = priorities();
      const storage = await opened({ backgroundPriority });
      const added = [...priorities()].filter(([tid]) => !before.has(tid));
      expect(added.filter(([, priority]) => priority === expected)).to.have.length(1);
      await storage.put('key', 'value');
      await storage.flush();
      expect((await storage.stats()).tables).to.equal(1);
    });

  it('background priority: another one is refused', async () => {
    const refused = opened({ backgroundPriority: 'high' as 'low' });
    expect(await codeRejectedBy(refused)).to.equal('BAD_REQUEST');
  });
});
