// The worker of threads.test.ts. Its data says how it behaves.

import type { MessagePort } from 'node:worker_threads';
import { endNode, serveThread, threadData } from '../../runtime/host/thread-control.ts';

export interface Behaviour {
  readonly onDrain: 'end' | 'hang' | 'throw' | 'exit' | 'reject-elsewhere' | 'end-node';
  readonly ring?: SharedArrayBuffer;
  readonly doorbell?: MessagePort;
}

const { data, name } = threadData<Behaviour>();

const drains: Record<Behaviour['onDrain'], () => Promise<void>> = {
  end: () => Promise.resolve(),
  hang: () => new Promise(() => undefined),
  throw: () => Promise.reject(new Error('drain failed')),
  exit: () => process.exit(3),
  'reject-elsewhere': () => {
    void Promise.reject(new TypeError('nobody caught this'));
    return new Promise(() => undefined);
  },
  'end-node': () => endNode('the disk failed'),
};

serveThread({
  start: () => {
    if (data.ring !== undefined) new Uint8Array(data.ring)[0] = 7;
    data.doorbell?.postMessage(name);
    return Promise.resolve();
  },
  drain: () => drains[data.onDrain](),
  stop: () => Promise.resolve(),
  samples: () => Promise.resolve([]),
});
