// What the commands of the Redis protocol need of their gateway, and the form of their handlers. A
// handler looks at its call and answers it, now or later; the checks of the table (name, arity) have
// passed.

import type { Context, Ref } from '../../runtime/actor.ts';
import type { Gossiper } from '../membership/protocol.ts';
import type { Ring } from '../model/ring.ts';
import type { CommandResult, Coordinator, TransactionCommand } from '../replication/protocol.ts';
import type { GatewaySettings } from './http-requests.ts';
import type { KeyCalls } from './key-calls.ts';
import type { NamespaceGuard } from './namespace-guard.ts';
import type { RespAccess } from './resp-access.ts';
import type { RespCall } from './resp-call.ts';
import type { RespConnection } from './resp-connection.ts';
import type { RespKeys } from './resp-keys.ts';
import type { SlowCommands } from './resp-slow.ts';
import type { SerialOperations } from './serial-operations.ts';

/** Reads and writes of keys: of the cluster, or collected for a transaction. */
export type KeyAccess = Pick<
  RespKeys,
  'read' | 'readAll' | 'readFrom' | 'write' | 'writeAll' | 'writeAllTo' | 'writeTo'
>;

/** Several operations on keys of one hash tag as one; a failure ends the command with its error. */
export type Atomic = (
  call: RespCall,
  command: TransactionCommand,
  done: (result: CommandResult, nowMs: number) => void,
) => void;

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
  readonly calls: KeyCalls;
  readonly keys: KeyAccess;
  readonly serial: SerialOperations;
  readonly atomic: Atomic;
  /** Commands that took long. */
  readonly slow: SlowCommands;
  /** Behind which key RANDOMKEY goes on, by namespace. */
  readonly places: Map<number, Uint8Array>;
  /** Runs the handler of a command. */
  readonly handle: RespHandler;
  readonly connections: ReadonlyMap<number, RespConnection>;
  readonly commandsServed: () => number;
}

export type RespHandler = (call: RespCall, services: RespServices) => void;
export type RespHandlers = Readonly<Record<string, RespHandler>>;
