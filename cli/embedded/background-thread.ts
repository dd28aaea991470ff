// Entry of the worker thread of an embedded store: flushes and merges. A failure here makes the
// store unusable in the program that opened it; what was acknowledged is in the log.

import { createNodeLog, type LogLevel } from '../../runtime/host/node-log.ts';
import { endNode, serveThread, threadData } from '../../runtime/host/thread-control.ts';
import { createStorageThread, type StorageSeed, workerThread } from './storage-thread.ts';

export interface BackgroundData {
  readonly seed: StorageSeed;
  readonly logLevel: LogLevel;
}

const { name, data } = threadData<BackgroundData>();
const { seed, logLevel } = data;
const log = createNodeLog({ node: seed.settings.node, thread: name, level: logLevel, to: 2 });
const thread = createStorageThread(workerThread, seed, log, (reason) => {
  log.error('storage.failed', { reason });
  endNode(reason);
});
serveThread({
  start: () => thread.start(),
  drain: () => Promise.resolve(),
  stop: () => thread.stop(),
  samples: () => Promise.resolve(thread.kernel.samples()),
});
