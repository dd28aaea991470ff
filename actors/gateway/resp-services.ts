// What the commands of the Redis protocol need of their gateway, and the form of their handlers. A
// handler looks at its call and answers it, now or later; the checks of the table (name, arity) have
// passed.

import type { Context, Ref } from '../../runtime/actor.ts';
import type { Gossiper } from '../membership/protocol.ts';
import type { Ring } from '../model/ring.ts';
import type { Coordinator } from '../replication/protocol.ts';
import type { GatewaySettings } from './http-requests.ts';
import type { NamespaceGuard } from './namespace-guard.ts';
import type { RespAccess } from './resp-access.ts';
import type { RespCall } from './resp-call.ts';
import type { RespConnection } from './resp-connection.ts';
import type { RespKeys } from './resp-keys.ts';
import type { SerialOperations } from './serial-operations.ts';

export interface RespServices {
  readonly ctx: Pick<Context, 'ask' | 'clock' | 'node' | 'random'>;
  readonly settings: GatewaySettings;
  readonly guard: NamespaceGuard;
  /** Absent: everybody may do everything, and nothing is written down. */
  readonly access: RespAccess | undefined;
  readonly ring: Ring;
  readonly gossiper: Ref<Gossiper>;
  /** The next coordinator of this node, for what concerns no single key. */
  readonly anyCoordinator: () => Ref<Coordinator>;
  readonly keys: RespKeys;
  readonly serial: SerialOperations;
  readonly connections: ReadonlyMap<number, RespConnection>;
  readonly commandsServed: () => number;
}

export type RespHandler = (call: RespCall, services: RespServices) => void;
export type RespHandlers = Readonly<Record<string, RespHandler>>;
