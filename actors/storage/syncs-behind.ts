// Syncs of a log behind its answers (durability `periodic`): one after so much time, and one when so
// many bytes wait for it. While the kernel writes down what waits, it holds up writes of more, for the
// longer the more it is: 64 MB of a second for 20 ms and above (docs/performance.md).

import type { DiskFile } from '../../runtime/environment.ts';

/** A few milliseconds' work for a disk. */
const waitingBytesMax = 4 * 1024 * 1024;

interface Listener {
  readonly synced: (throughLsn: number) => void;
  readonly failed: (problem: Error) => void;
}

export class SyncsBehind {
  readonly #listener: Listener;
  #waitingBytes = 0;
  #isRunning = false;

  constructor(listener: Listener) {
    this.#listener = listener;
  }

  /** Records up to `lastLsn` end with `bytes` that were just written. */
  wrote(file: DiskFile, bytes: number, lastLsn: number): void {
    this.#waitingBytes += bytes;
    if (this.#waitingBytes >= waitingBytesMax) this.begin(file, lastLsn);
  }

  /** A sync of all records up to `throughLsn`, unless one runs: the next one will cover them. */
  begin(file: DiskFile, throughLsn: number): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#waitingBytes = 0;
    file.sync((problem) => {
      this.#isRunning = false;
      if (problem === undefined) this.#listener.synced(throughLsn);
      else this.#listener.failed(problem);
    });
  }
}
