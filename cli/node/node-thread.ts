// Entry of a node's worker threads: builds the thread's runtime and lets the main thread control
// it. A failure here ends the whole node (TR-5).

import { createNodeLog, type LogFormat, type LogLevel } from '../../runtime/host/node-log.ts';
import { endNode, serveThread, threadData } from '../../runtime/host/thread-control.ts';
import { createThreadRuntime, type ThreadSeed } from './thread-runtime.ts';

interface NodeThreadData {
  readonly seed: ThreadSeed;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
}

const { name, data } = threadData<NodeThreadData>();
const log = createNodeLog({
  node: data.seed.settings.node,
  thread: name,
  level: data.logLevel,
  format: data.logFormat,
});
serveThread(
  createThreadRuntime(data.seed, log, (reason) => {
    log.error('node.failed', { reason });
    endNode(reason);
  }),
);
