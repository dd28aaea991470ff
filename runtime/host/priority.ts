// Scheduling of background threads. On Linux a priority belongs to a thread, not to its process,
// and os.setPriority takes a thread id too; nice 19 keeps foreground p99 near its idle value while
// compaction runs (docs/performance.md).

import fs from 'node:fs';
import os from 'node:os';

/** Puts the calling thread at nice 19. False where the platform has no priorities per thread. */
export function lowerThreadPriority(): boolean {
  try {
    // A link to <pid>/task/<tid>.
    const tid = Number(fs.readlinkSync('/proc/thread-self').split('/').pop());
    os.setPriority(tid, os.constants.priority.PRIORITY_LOW);
    return true;
  } catch {
    return false;
  }
}
