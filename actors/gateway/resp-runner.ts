// Runs the batches of Redis connections: many commands at the same time, answers in the order of
// the commands. A command waits for earlier ones of its connection that touch the same key if one of
// the two writes it; all others overlap, which is what pipelining is for. A barrier (SCAN, KEYS)
// runs alone.
//
// Memory is bounded three ways: requests in flight of the whole gateway (a command of many keys makes
// many), answers of one batch (it ends early, the rest comes again), and fewer commands at the same
// time where answers are large.

import type { Deferred } from '../../runtime/actor.ts';
import { noBytes } from '../../runtime/bytes.ts';
import { Ring as Queue } from '../../runtime/mailbox.ts';
import {
  batchMsMax,
  flushTimeoutMs,
  type GatewayTimeouts,
  type RespAnswers,
  type RespCommand,
} from './protocol.ts';
import { RespCall } from './resp-call.ts';
import { type CommandSpec, commandSent, unknownCommand } from './resp-commands.ts';
import type { RespConnection } from './resp-connection.ts';
import { parallelMax } from './resp-keys.ts';
import { errorReply, type Reply, ReplyWriter } from './resp-replies.ts';

export interface RunnerOptions {
  /** Starts a command; it answers then or later. */
  readonly start: (call: RespCall) => void;
  readonly nowMs: () => number;
  /** Whether a connection may use the limits of those who have logged in. */
  readonly isLoggedIn: (connection: RespConnection) => boolean;
  readonly timeouts: GatewayTimeouts;
  /** To call `wake` in a turn of its own, soon. */
  readonly wakeSoon: () => void;
  /** Called when a command has its answer. */
  readonly onEnded: (call: RespCall, tookMs: number) => void;
  /** Called when the last open command has ended. */
  readonly onIdle: () => void;
}

/** Commands of one connection at the same time (limits table of the rules). */
const windowMax = 128;
/**
 * Requests of all connections. A coordinator takes 8,192 messages and 16,384 open requests; with so many at
 * once, though, most outlive a collection of young objects and are copied (docs/performance.md).
 */
const inFlightMax = 1024;
/** A batch with so many bytes of answers ends; twice that is aimed for at most. */
const replyBytesMax = 4 * 1024 * 1024;

export class RespBatchRun {
  readonly connection: RespConnection;
  readonly commands: readonly RespCommand[];
  readonly answer: Deferred<RespAnswers>;
  readonly startedMs: number;
  readonly #runner: RespRunner;
  readonly calls: RespCall[] = [];
  readonly specs: readonly CommandSpec[];
  /** Last users of each key; undefined where nothing is written beside other commands. */
  readonly keys: Map<number, KeyUse> | undefined;
  /** Blocked before, now free to start. */
  readonly ready: RespCall[] = [];
  running = 0;
  ended = 0;
  replyBytes = 0;
  largestReply = 0;
  barrier: RespCall | undefined;
  isPumping = false;
  isWaiting = false;
  isFinished = false;
  /** Ends before its last command: QUIT, or bounds. */
  isCut = false;
  /** The connection ends with it. */
  isLast = false;

  constructor(
    runner: RespRunner,
    connection: RespConnection,
    commands: readonly RespCommand[],
    answer: Deferred<RespAnswers>,
    startedMs: number,
  ) {
    this.#runner = runner;
    this.connection = connection;
    this.commands = commands;
    this.answer = answer;
    this.startedMs = startedMs;
    this.specs = commands.map(specOf);
    const mayConflict = commands.length > 1 && this.specs.some(({ verb }) => verb === 'write');
    this.keys = mayConflict ? new Map() : undefined;
  }

  settled(call: RespCall): void {
    this.#runner.ended(this, call);
  }
}

export class RespRunner {
  readonly #options: RunnerOptions;
  readonly #writer = new ReplyWriter();
  /** Batches that wait for others to make room. */
  readonly #waiting = new Queue<RespBatchRun>();
  #inFlight = 0;
  #open = 0;
  #isWakeDue = false;

  constructor(options: RunnerOptions) {
    this.#options = options;
  }

  /** Batches that are not answered yet. */
  get open(): number {
    return this.#open;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  run(
    connection: RespConnection,
    commands: readonly RespCommand[],
    answer: Deferred<RespAnswers>,
  ): void {
    const nowMs = this.#options.nowMs();
    const batch = new RespBatchRun(this, connection, commands, answer, nowMs);
    connection.lastMs = nowMs;
    this.#open += 1;
    this.#pump(batch);
  }

  /** A command has its answer. */
  ended(batch: RespBatchRun, call: RespCall): void {
    batch.running -= 1;
    batch.ended += 1;
    this.#inFlight -= weightOf(call);
    this.#options.onEnded(call, this.#options.nowMs() - call.startedMs);
    const size = sizeOf(call.reply);
    batch.replyBytes += size;
    if (size > batch.largestReply) batch.largestReply = size;
    for (const waiting of call.dependents ?? none) {
      waiting.blockers -= 1;
      if (waiting.blockers === 0) batch.ready.push(waiting);
    }
    if (batch.barrier === call) batch.barrier = undefined;
    if (batch.isPumping) return;
    if (isThrough(batch)) this.#finish(batch);
    else if (batch.ready.length > 0 || !isLaunched(batch)) this.#wait(batch);
    if (this.#waiting.length > 0 && !this.#isWakeDue) {
      // Not now: whoever has answered is in its turn, and what is started could not go straight on.
      this.#isWakeDue = true;
      this.#options.wakeSoon();
    }
  }

  /** Starts what has room now. */
  wake(): void {
    this.#isWakeDue = false;
    while (this.#inFlight < inFlightMax) {
      const batch = this.#waiting.shift();
      if (batch === undefined) break;
      batch.isWaiting = false;
      if (!batch.isPumping) this.#pump(batch);
    }
  }

  /** Starts what may start now; ends the batch when nothing of it is left. */
  #pump(batch: RespBatchRun): void {
    batch.isPumping = true;
    while (this.#hasRoom(batch)) {
      const call = batch.ready.shift() ?? this.#next(batch);
      if (call === undefined) break;
      // A blocked one comes back through `ready`.
      if (call.blockers === 0) this.#launch(batch, call);
    }
    batch.isPumping = false;
    if (isThrough(batch)) this.#finish(batch);
  }

  #launch(batch: RespBatchRun, call: RespCall): void {
    call.startedMs = this.#options.nowMs();
    // Many that wait for each other do not add their times up: the edge waits for all of them so long.
    const fromMs = Math.min(call.startedMs, batch.startedMs + batchMsMax);
    call.deadlineMs = fromMs + this.#timeoutOf(call.spec);
    batch.running += 1;
    this.#inFlight += weightOf(call);
    this.#options.start(call);
  }

  #hasRoom(batch: RespBatchRun): boolean {
    if (isLaunched(batch) && batch.ready.length === 0) return false;
    if (batch.running >= windowOf(batch.connection)) return false;
    if (this.#inFlight < inFlightMax) return true;
    this.#wait(batch);
    return false;
  }

  #wait(batch: RespBatchRun): void {
    if (batch.isWaiting) return;
    batch.isWaiting = true;
    this.#waiting.push(batch);
  }

  /** The next command of the batch, in its order; undefined where it has to wait or there is none. */
  #next(batch: RespBatchRun): RespCall | undefined {
    const { calls, commands, connection } = batch;
    if (batch.isCut || calls.length === commands.length || batch.barrier !== undefined)
      return undefined;
    const spec = batch.specs[calls.length] as CommandSpec;
    if (spec.isBarrier && batch.ended < calls.length) return undefined;
    if (calls.length > 0 && this.#isFull(batch)) {
      batch.isCut = true;
      return undefined;
    }
    // Made in the order of the commands: what earlier ones set (version, level) holds for it.
    const call = new RespCall(commands[calls.length] as RespCommand, spec, batch);
    calls.push(call);
    connection.lastCommand = spec.name;
    if (connection.replyMode === 'skip') connection.replyMode = 'on';
    if (spec.isBarrier) batch.barrier = call;
    block(batch.keys, call);
    return call;
  }

  /** Its answers are large or it takes long: what is left comes again. */
  #isFull({ replyBytes, startedMs }: RespBatchRun): boolean {
    return replyBytes > replyBytesMax || this.#options.nowMs() - startedMs > batchMsMax;
  }

  #timeoutOf({ verb }: CommandSpec): number {
    const { readTimeoutMs, writeTimeoutMs, scanTimeoutMs } = this.#options.timeouts;
    if (verb === 'flush') return flushTimeoutMs;
    return verb === 'scan' ? scanTimeoutMs : verb === 'write' ? writeTimeoutMs : readTimeoutMs;
  }

  #finish(batch: RespBatchRun): void {
    if (batch.isFinished) return;
    batch.isFinished = true;
    const { connection, calls, answer, largestReply, isLast } = batch;
    connection.largestReply = Math.max(largestReply, connection.largestReply >> 1);
    for (const call of calls)
      if (!call.isMuted)
        this.#writer.write(call.reply === undefined ? internalError : call.reply, call.version);
    this.#open -= 1;
    const isLoggedIn = this.#options.isLoggedIn(connection);
    answer.resolve({ bytes: this.#writer.take(), count: calls.length, isLast, isLoggedIn });
    if (this.#open === 0) this.#options.onIdle();
  }
}

/** All of its commands have been started, or wait in `ready`. */
const isLaunched = ({ isCut, calls, commands }: RespBatchRun): boolean =>
  isCut || calls.length === commands.length;

const isThrough = (batch: RespBatchRun): boolean =>
  isLaunched(batch) && batch.ended === batch.calls.length;

const internalError = errorReply('ERR no answer');

/** Requests to coordinators that it makes at the same time. */
function weightOf({ spec, args }: RespCall): number {
  if (spec.lastKey >= 0) return 1;
  return Math.max(1, Math.min(parallelMax, Math.ceil((args.length - 1) / spec.keyStep)));
}

/** Fewer commands at the same time where answers are large. */
function windowOf({ largestReply }: RespConnection): number {
  const fitting = Math.floor((2 * replyBytesMax) / Math.max(1, largestReply));
  return Math.max(1, Math.min(windowMax, fitting));
}

/** About the bytes of an answer: what counts is in strings and arrays. */
function sizeOf(reply: Reply | undefined): number {
  if (reply === undefined || reply === null || typeof reply === 'number') return 16;
  if (typeof reply === 'string' || reply instanceof Uint8Array) return reply.length + 16;
  const items = 'kind' in reply ? reply.items : reply;
  let size = 'kind' in reply ? reply.text.length + 16 : 16;
  for (const item of items) size += sizeOf(item);
  return size;
}

function specOf({ args }: RespCommand): CommandSpec {
  return commandSent(args[0] ?? noBytes) ?? unknownCommand;
}

// ---- keys in use ---------------------------------------------------------------------------

/** The last writer of a key, and who reads what it wrote. */
interface KeyUse {
  writer: RespCall | undefined;
  readers: RespCall[];
}

const none: readonly RespCall[] = [];

/** Makes the command wait for those before it that it must not overtake. */
function block(keys: Map<number, KeyUse> | undefined, call: RespCall): void {
  // What is queued touches no key yet.
  if (keys === undefined || call.spec.firstKey === 0 || call.transaction !== undefined) return;
  const isWrite = call.spec.verb === 'write';
  for (const hash of keyHashes(call.args, call.spec)) {
    const use = keys.get(hash) ?? { writer: undefined, readers: [] };
    keys.set(hash, use);
    if (use.writer !== undefined) waitFor(call, use.writer);
    if (isWrite) {
      for (const reader of use.readers) waitFor(call, reader);
      use.writer = call;
      use.readers = [];
    } else use.readers.push(call);
  }
}

/** A key named twice in one command does not make it wait for itself. */
function waitFor(call: RespCall, earlier: RespCall): void {
  if (earlier === call || earlier.reply !== undefined) return;
  earlier.dependents ??= [];
  earlier.dependents.push(call);
  call.blockers += 1;
}

function keyHashes(args: readonly Uint8Array[], spec: CommandSpec): readonly number[] {
  const { firstKey, lastKey, keyStep } = spec;
  const last = lastKey < 0 ? args.length + lastKey : Math.min(lastKey, args.length - 1);
  if (firstKey >= last) return firstKey < args.length ? [hashOf(args[firstKey] as Uint8Array)] : [];
  const hashes: number[] = [];
  for (let at = firstKey; at <= last; at += keyStep) hashes.push(hashOf(args[at] as Uint8Array));
  return hashes;
}

/** FNV-1a: equal keys have equal hashes; two keys that share one only wait for each other. */
function hashOf(key: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (const byte of key) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash;
}
