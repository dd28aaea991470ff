// Files as promises, for sessions: the one place beside the kernel that makes promises of
// callbacks.

import type { DiskFile } from './environment.ts';

/** fdatasync. Rejects with DISK_FAILED; the file is poisoned then (FS-6). */
export function syncFile(file: DiskFile): Promise<void> {
  return new Promise((resolve, reject) => {
    file.sync((error) => {
      if (error === undefined) resolve();
      else reject(error);
    });
  });
}
