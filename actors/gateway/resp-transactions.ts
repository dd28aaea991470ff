// MULTI, EXEC, DISCARD, WATCH and UNWATCH: commands on keys of one hash tag, decided as one by the
// proposer of the tag (docs/decisions/0021). Commands are queued here, on the connection; EXEC lets
// each handler run against a collector instead of the cluster: what it would read and write becomes a
// command of the transaction, and its answer is made when the decision is known.
//
// Invariants: nothing is sent before EXEC; EXEC ends the transaction and all watches whatever becomes
// of it. What a queued command is refused for when it comes, ends the whole of it (EXECABORT); what it
// fails with when it runs, only itself.
//
// References: redis.io "Transactions", commands EXEC and WATCH; errors are those of Redis 7.

import { arrayOverheadBytes, latin1 } from '../../runtime/bytes.ts';
import { type Failure, failure, KvError } from '../../runtime/errors.ts';
import { placementBytes } from '../model/hash-tag.ts';
import { recordExpiresAt, storageKey } from '../model/record.ts';
import {
  type TransactionCommand,
  type TransactionReply,
  type Watched,
} from '../replication/protocol.ts';
import { RespCall } from './resp-call.ts';
import { Collector, endWith } from './resp-collected.ts';
import { type CommandSpec, keysOf } from './resp-commands.ts';
import { fail, failThrown, inParallel, refusalOf } from './resp-keys.ts';
import {
  errorReply,
  failureReply,
  nilArray,
  ok,
  type Reply,
  status,
  tooLargeReply,
} from './resp-replies.ts';
import { keyIdOf } from './session.ts';
import type { Atomic, RespHandler, RespHandlers, RespServices } from './resp-services.ts';

interface Queued {
  readonly spec: CommandSpec;
  readonly args: readonly Uint8Array[];
}

/** Commands of a connection between MULTI and EXEC. */
export class CommandQueue {
  readonly commands: Queued[] = [];
  bytes = 0;
  /** One of them was refused: EXEC drops all. */
  isBroken = false;
  /** What its keys have in common; undefined: it has none yet. */
  group: string | undefined;
}

/** Keys that a connection watches, all of one group. */
export interface Watches {
  readonly group: string;
  /** By key. */
  readonly keys: Map<string, Watched>;
}

/** Commands of one transaction, and what their arguments take in memory. */
export const queuedMax = 1000;
export const queuedBytesMax = 4 * 1024 * 1024;
export const watchedMax = 1000;

const queued = status('QUEUED');
export const crossSlot = errorReply(
  "CROSSSLOT Keys in request don't hash to the same slot: a transaction takes keys of one hash tag, such as {user1}:a and {user1}:b",
);
const aborted = errorReply('EXECABORT Transaction discarded because of previous errors.');

/** These act at once, also between MULTI and EXEC. */
const neverQueued: ReadonlySet<string> = new Set([
  ...['multi', 'exec', 'discard', 'watch', 'reset', 'quit'],
]);
/** Without keys, and of use in a transaction all the same. */
const keylessQueued: ReadonlySet<string> = new Set(['ping', 'echo', 'time', 'unwatch']);
const ownQueued: ReadonlySet<string> = new Set(['string', 'generic']);

function mayBeQueued({ name, group, firstKey }: CommandSpec): boolean {
  if (name === 'kv.cas' || keylessQueued.has(name)) return true;
  return firstKey > 0 && ownQueued.has(group);
}

/** Equal for keys of one namespace with one hash tag. */
const groupName = (namespace: number, key: Uint8Array): string =>
  latin1(placementBytes(storageKey(namespace, key)));

/** Undefined where they differ. */
export function commonGroup(namespace: number, keys: readonly Uint8Array[]): string | undefined {
  const [first, ...others] = keys.map((key) => groupName(namespace, key));
  return others.every((group) => group === first) ? first : undefined;
}

/**
 * True: the command was queued, or refused as one to be queued. `refusal`: what it would be refused
 * with anyway.
 */
export function queueCommand(call: RespCall, refusal: Reply | undefined): boolean {
  const { spec, transaction: queue } = call;
  if (queue === undefined || neverQueued.has(spec.name)) return false;
  const problem = refusal ?? problemOf(queue, call) ?? keepProblemOf(call);
  if (problem !== undefined) {
    queue.isBroken = true;
    call.answer(problem);
    return true;
  }
  // What came with it may lie in memory that is used again.
  const args = call.args.map((arg) => arg.slice());
  queue.commands.push({ spec, args });
  queue.bytes += sizeOf(args);
  call.answer(queued);
  return true;
}

const sizeOf = (args: readonly Uint8Array[]): number =>
  args.reduce((sum, { length }) => sum + length + arrayOverheadBytes, 0);

const noRoom = errorReply(
  'OOM too many bytes of queued commands and watched keys are kept on this node',
);

/** Counts what is queued. */
const keepProblemOf = ({ connection, args }: RespCall): Reply | undefined =>
  connection.keepQueued(sizeOf(args)) ? undefined : noRoom;

/** A watched key: as bytes, as a name, and what is known of it. */
const watchedSizeOf = (keys: readonly Uint8Array[]): number => 2 * sizeOf(keys);

function problemOf(queue: CommandQueue, call: RespCall): Reply | undefined {
  const { spec, args, namespace } = call;
  if (!mayBeQueued(spec))
    return errorReply(`ERR ${spec.name.toUpperCase()} is not allowed inside a transaction`);
  if (queue.commands.length >= queuedMax)
    return tooLargeReply(`a transaction takes ${queuedMax} commands`);
  if (queue.bytes + sizeOf(args) > queuedBytesMax)
    return tooLargeReply(`the commands of a transaction have at most ${queuedBytesMax} bytes`);
  const keys = keysOf(spec, args);
  if (keys.length === 0) return undefined;
  const group = commonGroup(namespace, keys);
  queue.group ??= call.connection.watches?.group ?? group;
  return group === undefined || group !== queue.group ? crossSlot : undefined;
}

const multi: RespHandler = (call) => {
  const { connection } = call;
  if (connection.transaction !== undefined)
    return call.answer(errorReply('ERR MULTI calls can not be nested'));
  connection.transaction = new CommandQueue();
  call.answer(ok);
};

const discard: RespHandler = (call) => {
  const { connection } = call;
  if (connection.transaction === undefined)
    return call.answer(errorReply('ERR DISCARD without MULTI'));
  connection.endTransaction();
  call.answer(ok);
};

const unwatch: RespHandler = (call) => {
  call.connection.endWatches();
  call.answer(ok);
};

/**
 * Every key as a quorum holds it when it is answered: what is read afterwards is that or newer, and so
 * is what EXEC finds. A serial read would also show what only one replica has yet.
 */
const watch: RespHandler = (call, services) => {
  const { connection, namespace } = call;
  if (connection.transaction !== undefined)
    return call.answer(errorReply('ERR WATCH inside MULTI is not allowed'));
  const { limits } = services.settings;
  const keys = call.args.slice(1);
  for (const key of keys) {
    const refusal = refusalOf(limits, key);
    if (refusal !== undefined) return fail(call, refusal);
  }
  const group = commonGroup(namespace, keys);
  const watches = connection.watches ?? { group: group ?? '', keys: new Map<string, Watched>() };
  if (group === undefined || watches.group !== group) return call.answer(crossSlot);
  const wanted = new Map(keys.map((key) => [latin1(key), key.slice()]));
  // A key that is watched already stays as it was first seen.
  const added = [...wanted].filter(([name]) => !watches.keys.has(name));
  if (watches.keys.size + added.length > watchedMax)
    return call.answer(tooLargeReply(`a connection watches at most ${watchedMax} keys`));
  if (!connection.keepWatched(watchedSizeOf(added.map(([, key]) => key))))
    return call.answer(noRoom);
  const level = connection.readLevel === 'ALL' ? 'ALL' : 'QUORUM';
  const read = (index: number, next: (problem?: Failure) => void): void => {
    const [name, key] = added[index] as (typeof added)[number];
    const body = { namespace, key, level, explain: false };
    services.calls.run('read', body, call.deadlineMs, (problem, reply) => {
      if (reply === undefined) return next(problem ?? failure('BUG'));
      const { hlc, writer, incarnation, record } = reply;
      const etag = { hlc, writer, incarnation };
      watches.keys.set(name, { key, etag, isLive: record !== undefined });
      next();
    });
  };
  inParallel(added.length, read, (problem) => {
    if (problem !== undefined) {
      const kept = connection.watches?.keys;
      const left = added.filter(([name]) => kept?.has(name) !== true);
      connection.dropWatched(watchedSizeOf(left.map(([, key]) => key)));
      return fail(call, problem);
    }
    connection.watches = watches;
    call.answer(ok);
  });
};

const exec: RespHandler = (call, services) => {
  const { connection, namespace } = call;
  const { transaction: queue, watches } = connection;
  if (queue === undefined) return call.answer(errorReply('ERR EXEC without MULTI'));
  connection.endTransaction();
  if (queue.isBroken) return call.answer(aborted);
  const refusal = forbiddenOf(queue, call, services);
  if (refusal !== undefined) return call.answer(refusal);
  const watched = [...(watches?.keys.values() ?? [])];
  const [first] = watched;
  // SELECT between the two.
  if (first !== undefined && groupName(namespace, first.key) !== watches?.group)
    return call.answer(crossSlot);
  const collector = new Collector(services.settings.limits);
  const collecting = collector.servicesFor(services);
  const calls = queue.commands.map(({ spec, args }) => begun(call, spec, args, collecting));
  const answer = ({ isApplied, ...reply }: TransactionReply): void => {
    if (!isApplied) return call.answer(nilArray);
    collector.settle(reply);
    // Nil is an answer.
    const unanswered = failureReply(failure('BUG'));
    call.answer(calls.map(({ reply: given }) => (given === undefined ? unanswered : given)));
  };
  const { commands } = collector;
  if (commands.length > 0 || watched.length > 0)
    return transact(call, services, commands, watched, answer);
  answer({ isApplied: true, results: [], nowMs: 0, coordinator: '' });
};

/** Why the user may not run a queued command any more, of the first one. */
function forbiddenOf(
  queue: CommandQueue,
  call: RespCall,
  { access }: RespServices,
): Reply | undefined {
  if (access === undefined) return undefined;
  for (const { spec } of queue.commands) {
    const refusal = access.refusalOfQueued(call, spec);
    if (refusal !== undefined) return refusal;
  }
  return undefined;
}

/** A queued command, which has answered or asked for something when it is returned. */
function begun(
  { connection, batch, deadlineMs }: RespCall,
  spec: CommandSpec,
  args: readonly Uint8Array[],
  services: RespServices,
): RespCall {
  const settled = (): void => undefined;
  const part = { connection, settled, isCut: batch.isCut, isLast: batch.isLast };
  const call = new RespCall({ args, isTooLarge: false }, spec, part);
  call.deadlineMs = deadlineMs;
  try {
    services.handle(call, services);
  } catch (error) {
    if (!(error instanceof KvError)) throw error;
    failThrown(call, error);
  }
  return call;
}

function transact(
  call: RespCall,
  { calls }: RespServices,
  commands: readonly TransactionCommand[],
  watches: readonly Watched[],
  done: (reply: TransactionReply) => void,
): void {
  const key = watches[0]?.key ?? keyOf(commands);
  if (key === undefined) return fail(call, failure('BUG'));
  const request = { namespace: call.namespace, key, watches, commands };
  calls.transact(request, call.deadlineMs, (problem, reply) => {
    if (reply === undefined) return fail(call, problem ?? failure('BUG'));
    remember(call, commands, reply);
    done(reply);
  });
}

/** The session of a connection learns what a transaction has found and left. */
function remember(
  { session, namespace }: RespCall,
  commands: readonly TransactionCommand[],
  { results }: TransactionReply,
): void {
  if (session === undefined) return;
  results.forEach(({ steps }, i) =>
    steps.forEach(({ stored, record }, j) => {
      const key = commands[i]?.operations[j]?.key;
      if (key === undefined || stored.hlc === 0) return;
      const deadFromMs = record === undefined ? 1 : recordExpiresAt(record);
      session.wrote(keyIdOf(storageKey(namespace, key)), stored, deadFromMs, 'QUORUM');
    }),
  );
}

const keyOf = (commands: readonly TransactionCommand[]): Uint8Array | undefined =>
  commands.flatMap(({ operations }) => operations.map(({ key }) => key))[0];

/** A command on several keys of one hash tag, as a transaction of its own. */
export const atomicOf =
  (services: () => RespServices): Atomic =>
  (call, command, done) => {
    const keys = [
      ...command.conditions.map(({ key }) => key),
      ...command.operations.map(({ key }) => key),
    ];
    for (const key of keys) {
      const refusal = refusalOf(services().settings.limits, key);
      if (refusal !== undefined) return fail(call, refusal);
    }
    if (commonGroup(call.namespace, keys) === undefined) return call.answer(crossSlot);
    transact(call, services(), [command], [], ({ results, nowMs, coordinator }) => {
      endWith(call, results[0], coordinator, (result) => done(result, nowMs));
    });
  };

export const transactionHandlers: RespHandlers = { multi, exec, discard, watch, unwatch };
