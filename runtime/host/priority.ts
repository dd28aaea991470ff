// Scheduling of background threads. On Linux a priority belongs to a thread, not to its process,
// and os.setPriority takes a thread id too; nice 19 keeps foreground p99 near its idle value while
// compaction runs (docs/performance.md). A thread that has begun its slice of some 3 ms ends it
// before one that wakes up, also at nice 19 (EEVDF, Linux 6.6): only one of SCHED_IDLE gives way at
// once, sched(7). Node has no call for that, so chrt of util-linux does it.

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';

export const cpuPriorities = ['low', 'idle'] as const;
/** `low`: nice 19. `idle`: SCHED_IDLE as well, a thread that runs only where nobody else wants to. */
export type CpuPriority = (typeof cpuPriorities)[number];

/** Of the calling thread, as the kernel has it. Linux; throws elsewhere. */
export function threadId(): string {
  // A link to <pid>/task/<tid>.
  return fs.readlinkSync('/proc/thread-self').split('/').pop() as string;
}

/**
 * Gives the calling thread a lower priority. False where the platform has none per thread, or
 * nothing that sets `idle`: it has nice 19 then, if it can.
 */
export function lowerThreadPriority(to: CpuPriority = 'low'): boolean {
  try {
    const tid = threadId();
    os.setPriority(Number(tid), os.constants.priority.PRIORITY_LOW);
    if (to === 'idle') execFileSync('chrt', ['-i', '-p', '0', tid], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
