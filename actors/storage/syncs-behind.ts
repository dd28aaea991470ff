// Syncs of a log behind its answers (durability `periodic`): one after so much time, and one when so
// many bytes wait for it. While the kernel writes down what waits, it holds up writes of more, for
// the longer the more it is (docs/performance.md).

import type { DiskFile } from '../../runtime/environment.ts';

/** No more wait for a sync to begin, nor more than a quarter of a segment. */
const waitingBytesMax = 4 * 1024 * 1024;

export interface SyncListener {
  readonly synced: (throughLsn: number) => void;
  readonly failed: (problem: Error) => void;
}

export class SyncsBehind {
  readonly #waitingBytesMax: number;
  readonly #listener: SyncListener;
  #waitingBytes = 0;
  #isRunning = false;
  #isWanted = false;

  constructor(segmentBytes: number, listener: SyncListener) {
    this.#waitingBytesMax = Math.min(waitingBytesMax, segmentBytes / 4);
    this.#listener = listener;
  }

  /** One was due while another one ran, which may not cover what it was due for. */
  get isWanted(): boolean {
    return this.#isWanted;
  }

  /** Records up to `lastLsn` end with `bytes` that were just written. */
  wrote(file: DiskFile, bytes: number, lastLsn: number): void {
    this.#waitingBytes += bytes;
    if (this.#waitingBytes >= this.#waitingBytesMax) this.begin(file, lastLsn);
  }

  /** A sync of all records up to `throughLsn`; while one runs it is wanted. */
  begin(file: DiskFile, throughLsn: number): void {
    this.#isWanted = this.#isRunning;
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
