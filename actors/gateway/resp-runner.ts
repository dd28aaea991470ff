// Runs the batches of Redis connections: many commands at the same time, answers in the order of
// the commands. Commands of one connection that touch the same key run one after the other if one
// of them writes it; others overlap, which is what pipelining is for. A barrier (SCAN, KEYS) runs
// alone.
//
// Memory is bounded three ways: commands in flight of the whole gateway, answers of one batch (it
// ends early, the rest comes again), and fewer at the same time where answers are large.

import type { Deferred } from '../../runtime/actor.ts';
import { noBytes } from '../../runtime/bytes.ts';
import { Ring as Queue } from '../../runtime/mailbox.ts';
import type { RespAnswers, RespCommand } from './protocol.ts';
import { RespCall, wordOf } from './resp-call.ts';
import { type CommandSpec, commandNamed, unknownCommand } from './resp-commands.ts';
import type { RespConnection } from './resp-connection.ts';
import { errorReply, type Reply, ReplyWriter } from './resp-replies.ts';

export interface RunnerOptions {
  /** Starts a command; it answers then or later. */
  readonly start: (call: RespCall) => void;
  readonly nowMs: () => number;
  readonly timeouts: {
    readonly readTimeoutMs: number;
    readonly writeTimeoutMs: number;
    readonly scanTimeoutMs: number;
  };
  /** Called when the last open command has ended. */
  readonly onIdle: () => void;
}

/** Commands of one connection at the same time (limits table of the rules). */
const windowMax = 128;
/** Of all connections: a coordinator takes 8,192 messages and 16,384 open requests. */
const inFlightMax = 4096;
/** A batch with so many bytes of answers ends; twice that is aimed for at most. */
const replyBytesMax = 4 * 1024 * 1024;
/** A batch that runs longer starts no more commands. */
const batchMsMax = 10_000;

export class RespBatchRun {
  readonly connection: RespConnection;
  readonly commands: readonly RespCommand[];
  readonly answer: Deferred<RespAnswers>;
  readonly startedMs: number;
  readonly #runner: RespRunner;
  readonly calls: RespCall[] = [];
  /** Running commands by key: readers, or -1 for a writer. Empty where nothing is written. */
  readonly keys = new Map<number, number>();
  readonly tracksKeys: boolean;
  next: RespCall | undefined;
  running = 0;
  replyBytes = 0;
  largestReply = 0;
  barrier: RespCall | undefined;
  isPumping = false;
  isWaiting = false;
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
    this.tracksKeys = commands.length > 1;
  }

  ended(call: RespCall): void {
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
  #isWaking = false;

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
    this.#inFlight -= 1;
    const size = sizeOf(call.reply);
    batch.replyBytes += size;
    if (size > batch.largestReply) batch.largestReply = size;
    if (call.keyHashes !== undefined) release(batch, call.keyHashes);
    if (batch.barrier === call) batch.barrier = undefined;
    if (!batch.isPumping) this.#pump(batch);
    this.#wake();
  }

  /** Starts what may start now; ends the batch when nothing of it is left. */
  #pump(batch: RespBatchRun): void {
    batch.isPumping = true;
    while (this.#mayStart(batch)) {
      const call = this.#nextOf(batch);
      if (!canRun(batch, call)) break;
      batch.next = undefined;
      call.deadlineMs = this.#options.nowMs() + this.#timeoutOf(call.spec);
      batch.calls.push(call);
      batch.running += 1;
      this.#inFlight += 1;
      this.#options.start(call);
    }
    batch.isPumping = false;
    const isThrough = batch.isCut || batch.calls.length === batch.commands.length;
    if (isThrough && batch.running === 0) this.#finish(batch);
  }

  #mayStart(batch: RespBatchRun): boolean {
    if (batch.isCut || batch.calls.length === batch.commands.length) return false;
    if (batch.barrier !== undefined || batch.running >= windowOf(batch.connection)) return false;
    const isFull =
      batch.replyBytes > replyBytesMax || this.#options.nowMs() - batch.startedMs > batchMsMax;
    if (isFull && batch.calls.length > 0) {
      batch.isCut = true;
      return false;
    }
    if (this.#inFlight < inFlightMax) return true;
    if (!batch.isWaiting) {
      batch.isWaiting = true;
      this.#waiting.push(batch);
    }
    return false;
  }

  #wake(): void {
    if (this.#isWaking) return;
    this.#isWaking = true;
    while (this.#inFlight < inFlightMax) {
      const batch = this.#waiting.shift();
      if (batch === undefined) break;
      batch.isWaiting = false;
      if (!batch.isPumping) this.#pump(batch);
    }
    this.#isWaking = false;
  }

  /** Made when its turn comes: what earlier commands set (version, muting) holds for it. */
  #nextOf(batch: RespBatchRun): RespCall {
    if (batch.next !== undefined) return batch.next;
    const command = batch.commands[batch.calls.length] as RespCommand;
    const name = wordOf(command.args[0] ?? noBytes);
    const spec = commandNamed(name) ?? unknownCommand;
    const call = new RespCall(command, spec, batch);
    const { connection } = batch;
    connection.lastCommand = spec.name;
    if (connection.replyMode === 'skip') connection.replyMode = 'on';
    batch.next = call;
    return call;
  }

  #timeoutOf({ verb }: CommandSpec): number {
    const { readTimeoutMs, writeTimeoutMs, scanTimeoutMs } = this.#options.timeouts;
    return verb === 'scan' ? scanTimeoutMs : verb === 'write' ? writeTimeoutMs : readTimeoutMs;
  }

  #finish(batch: RespBatchRun): void {
    const { connection, calls, answer, largestReply, isLast } = batch;
    connection.largestReply = Math.max(largestReply, connection.largestReply >> 1);
    for (const call of calls)
      if (!call.isMuted)
        this.#writer.write(call.reply === undefined ? internalError : call.reply, call.version);
    this.#open -= 1;
    answer.resolve({ bytes: this.#writer.take(), count: calls.length, isLast });
    if (this.#open === 0) this.#options.onIdle();
  }
}

const internalError = errorReply('ERR no answer');

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

// ---- keys in use ---------------------------------------------------------------------------

/** Takes the keys of the command; false: one that runs is in its way. */
function canRun(batch: RespBatchRun, call: RespCall): boolean {
  const { spec } = call;
  if (spec.isBarrier) {
    if (batch.running > 0) return false;
    batch.barrier = call;
    return true;
  }
  if (!batch.tracksKeys || spec.firstKey === 0) return true;
  return takeKeys(batch, call);
}

function takeKeys(batch: RespBatchRun, call: RespCall): boolean {
  const hashes = keyHashes(call.args, call.spec);
  const isWrite = call.spec.verb === 'write';
  for (const hash of hashes) {
    const users = batch.keys.get(hash) ?? 0;
    if (users < 0 || (isWrite && users > 0)) return false;
  }
  for (const hash of hashes) batch.keys.set(hash, isWrite ? -1 : (batch.keys.get(hash) ?? 0) + 1);
  call.keyHashes = hashes;
  return true;
}

function release(batch: RespBatchRun, hashes: readonly number[]): void {
  for (const hash of hashes) {
    const users = batch.keys.get(hash) ?? 0;
    if (users <= 1) batch.keys.delete(hash);
    else batch.keys.set(hash, users - 1);
  }
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
