// Figures of the node. A monitor sits on every thread and answers for it; whoever renders them asks
// all of them and adds up.

import type { MetricSample } from '../../runtime/metrics.ts';
import { ask, protocol } from '../../runtime/protocol.ts';

/** Its shard number is the thread's index. */
export const Monitor = protocol('monitor', 50, {
  samples: ask<object, { readonly samples: readonly MetricSample[] }>(1, { lane: 'background' }),
});
export type Monitor = typeof Monitor.messages;
