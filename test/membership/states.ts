// Node states for the tests of membership.

import type { NodeState } from '../../actors/membership/protocol.ts';

/** What `node` says of itself; generation 1, heartbeat 0 where nothing else is said. */
export function nodeState(node: string, changes: Partial<NodeState> = {}): NodeState {
  return {
    node,
    generation: 1,
    heartbeat: 0,
    status: 'serving',
    host: '127.0.0.1',
    internodePort: 7002,
    httpPort: 7000,
    shards: 2,
    load: { keys: 0, memoryBytes: 0, diskBytes: 0 },
    ...changes,
  };
}
