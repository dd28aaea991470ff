// One node of an embedded cluster, on a worker thread of its own with all its actors. Messages to
// the parent: `ready`, `failed` with a reason, `stopped`; from it: `stop`. To kill it the parent
// ends the thread: nothing of it goes on, as after kill -9.

import { resolve } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { assert } from '../../runtime/errors.ts';
import { lockDirectory } from '../../runtime/host/directory-lock.ts';
import { createNodeLog } from '../../runtime/host/node-log.ts';
import type { NodeConfig } from '../node/config.ts';
import { startFailure } from '../node/exit-codes.ts';
import { threadSeeds } from '../node/node-process.ts';
import { createThreadRuntime } from '../node/thread-runtime.ts';

export type NodeMessage =
  | { readonly kind: 'ready' | 'stopped' }
  | { readonly kind: 'failed'; readonly reason: string };

const config = workerData as NodeConfig;
const tell = (message: NodeMessage): void => parentPort?.postMessage(message);

async function run(): Promise<void> {
  const { nodeId: node, logLevel: level, logFormat: format } = config;
  const root = resolve(config.dataDir);
  const lock = await lockDirectory(root);
  const log = createNodeLog({ node, thread: 'main', level, format });
  const [seed] = await threadSeeds(config, root);
  assert(seed !== undefined, 'a node has at least one thread');
  const runtime = createThreadRuntime(seed, log, (reason) => tell({ kind: 'failed', reason }));
  await runtime.start();
  parentPort?.once('message', () => {
    void runtime
      .drain()
      .then(() => runtime.kernel.drain())
      .then(() => runtime.stop())
      .then(() => lock.release())
      .then(
        () => tell({ kind: 'stopped' }),
        (error: unknown) => tell({ kind: 'failed', reason: String(error) }),
      );
  });
  tell({ kind: 'ready' });
}

run().catch((error: unknown) => tell({ kind: 'failed', reason: startFailure(error).line }));
