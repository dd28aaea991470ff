// Reads and writes of keys for the commands of the Redis protocol: one key or many, at the level of
// the connection. A failure ends the command with its error; the callbacks hear of success only.

import type { Done } from '../../runtime/actor.ts';
import { errorTable, type Failure, failure, toFailure } from '../../runtime/errors.ts';
import type { Level } from '../model/consistency.ts';
import { isLive, valueTypes } from '../model/record.ts';
import type { ReadReply, WriteReply } from '../replication/protocol.ts';
import type { KeyCalls } from './key-calls.ts';
import type { SessionCalls } from './session-calls.ts';
import type { RespCall } from './resp-call.ts';
import { failureReply } from './resp-replies.ts';

export interface RespKeysOptions {
  readonly calls: KeyCalls;
  readonly sessions: SessionCalls;
  readonly limits: RespKeysLimits;
}

export interface RespKeysLimits {
  readonly keyBytes: number;
  readonly valueBytes: number;
}

/** Where a key lies, and how many of its replicas are asked. */
export interface Place {
  readonly namespace: number;
  readonly level: Level;
}

/** Keys of one command at the same time. */
export const parallelMax = 64;
/** Bytes of values in the answer of one command. */
export const answerBytesMax = 64 * 1024 * 1024;

export interface NewValue {
  readonly key: Uint8Array;
  /** Absent: delete. */
  readonly value: Uint8Array | undefined;
  readonly valueType: number;
  /** Milliseconds from now; 0: never expires. */
  readonly ttlMs: number;
}

/** What has become of several writes. */
export interface WrittenAll {
  /** Of one that failed; where one of them may have happened all the same, of that one. */
  readonly problem: Failure | undefined;
  readonly count: number;
  /** How many of the keys existed before. */
  readonly existed: number;
}

type WriteOne = (item: NewValue, done: Done<WriteReply>) => void;

export const bytesValue = (key: Uint8Array, value: Uint8Array, ttlMs = 0): NewValue => ({
  key,
  value,
  valueType: valueTypes.bytes,
  ttlMs,
});

export const removal = (key: Uint8Array): NewValue => ({
  key,
  value: undefined,
  valueType: valueTypes.bytes,
  ttlMs: 0,
});

/** Of the terms of a session: explanations are of HTTP alone. */
const unexplained = { explain: false };

export class RespKeys {
  readonly #options: RespKeysOptions;

  constructor(options: RespKeysOptions) {
    this.#options = options;
  }

  /** `found` gets the live record or undefined, and the clock that decided. */
  read(
    call: RespCall,
    key: Uint8Array,
    found: (record: Uint8Array | undefined, nowMs: number) => void,
  ): void {
    if (!this.#keyHolds(call, key)) return;
    this.#read(call, key, (problem, reply) => {
      if (reply === undefined) return fail(call, problem);
      found(liveRecord(reply), reply.nowMs);
    });
  }

  /** At the level of the connection, within its session where it has one. */
  #read(call: RespCall, key: Uint8Array, done: Done<ReadReply>): void {
    const { namespace, readLevel: level, session, deadlineMs } = call;
    const { calls, sessions } = this.#options;
    if (session !== undefined)
      return sessions.read({ ...unexplained, namespace, level, session }, key, deadlineMs, done);
    calls.run('read', { namespace, key, level, explain: false }, deadlineMs, done);
  }

  /** The same in another namespace, of a key of the gateway's own. */
  readFrom(
    call: RespCall,
    { namespace, level }: Place,
    key: Uint8Array,
    found: (record: Uint8Array | undefined, nowMs: number) => void,
  ): void {
    const body = { namespace, key, level, explain: false };
    this.#options.calls.run('read', body, call.deadlineMs, (problem, reply) => {
      if (reply === undefined) return fail(call, problem);
      found(liveRecord(reply), reply.nowMs);
    });
  }

  write(call: RespCall, item: NewValue, written: (reply: WriteReply) => void): void {
    if (!this.#keyHolds(call, item.key) || !this.#valueHolds(call, item.value)) return;
    this.#writeHere(call, item, (problem, reply) => {
      if (reply === undefined) return fail(call, problem);
      written(reply);
    });
  }

  #writeHere(call: RespCall, item: NewValue, done: Done<WriteReply>): void {
    const { namespace, writeLevel: level, session, deadlineMs } = call;
    if (session === undefined) return this.#write(call, { namespace, level }, item, done);
    const terms = { ...unexplained, namespace, level, session };
    this.#options.sessions.write(terms, { ...item, namespace }, deadlineMs, done);
  }

  /** The same in another namespace, of a key of the gateway's own. */
  writeTo(
    call: RespCall,
    place: Place,
    item: NewValue,
    written: (reply: WriteReply) => void,
  ): void {
    this.#write(call, place, item, (problem, reply) => {
      if (reply === undefined) return fail(call, problem);
      written(reply);
    });
  }

  #write(
    call: RespCall,
    { namespace, level }: Place,
    { key, value, valueType, ttlMs }: NewValue,
    done: Done<WriteReply>,
  ): void {
    const body = { namespace, key, value, valueType, ttlMs, afterHlc: 0, level, explain: false };
    this.#options.calls.run('write', body, call.deadlineMs, done);
  }

  /** Live records in the order of the keys. */
  readAll(
    call: RespCall,
    keys: readonly Uint8Array[],
    found: (records: readonly (Uint8Array | undefined)[]) => void,
  ): void {
    for (const key of keys) if (!this.#keyHolds(call, key)) return;
    const records: (Uint8Array | undefined)[] = [];
    let bytes = 0;
    const read = (index: number, next: (problem?: Failure) => void): void => {
      this.#read(call, keys[index] as Uint8Array, (problem, reply) => {
        const record = reply === undefined ? undefined : liveRecord(reply);
        records[index] = record;
        bytes += record === undefined ? 0 : record.length;
        next(reply === undefined ? (problem ?? failure('BUG')) : tooMany(bytes));
      });
    };
    inParallel(keys.length, read, (problem) => {
      if (problem === undefined) found(records);
      else fail(call, problem);
    });
  }

  /** All are tried; `written` hears how many of the keys existed before. */
  writeAll(call: RespCall, items: readonly NewValue[], written: (existed: number) => void): void {
    for (const { key, value } of items)
      if (!this.#keyHolds(call, key) || !this.#valueHolds(call, value)) return;
    const one: WriteOne = (item, done) => this.#writeHere(call, item, done);
    writeEach(items, one, ({ problem, count, existed }) => {
      if (problem === undefined) written(existed);
      else fail(call, partial(problem, count, items.length));
    });
  }

  /** The same in another namespace; `ended` hears of failures too. */
  writeAllTo(
    call: RespCall,
    place: Place,
    items: readonly NewValue[],
    ended: (written: WrittenAll) => void,
  ): void {
    writeEach(items, (item, done) => this.#write(call, place, item, done), ended);
  }

  #keyHolds(call: RespCall, key: Uint8Array): boolean {
    return this.#holds(call, keyProblem(this.#options.limits, key));
  }

  #valueHolds(call: RespCall, value: Uint8Array | undefined): boolean {
    return this.#holds(call, valueProblem(this.#options.limits, value));
  }

  #holds(call: RespCall, problem: Failure | undefined): boolean {
    if (problem !== undefined) fail(call, problem);
    return problem === undefined;
  }
}

/** All are tried. */
function writeEach(
  items: readonly NewValue[],
  one: WriteOne,
  ended: (written: WrittenAll) => void,
): void {
  let existed = 0;
  let count = 0;
  let problem: Failure | undefined;
  const write = (index: number, next: () => void): void =>
    one(items[index] as NewValue, (failed, reply) => {
      if (reply === undefined) problem = worse(problem, failed ?? failure('BUG'));
      else count += 1;
      existed += reply?.existed === true ? 1 : 0;
      next();
    });
  inParallel(items.length, write, () => ended({ problem, count, existed }));
}

/** The first of two failures, or the one of which nobody can tell whether it had an effect. */
function worse(first: Failure | undefined, second: Failure): Failure {
  if (first === undefined) return second;
  const isCertain = errorTable[first.code].effect === 'none';
  return isCertain && errorTable[second.code].effect === 'unknown' ? second : first;
}

/** Why key or value are not taken. */
export const refusalOf = (
  limits: RespKeysLimits,
  key: Uint8Array,
  value?: Uint8Array,
): Failure | undefined => keyProblem(limits, key) ?? valueProblem(limits, value);

function keyProblem({ keyBytes }: RespKeysLimits, { length }: Uint8Array): Failure | undefined {
  if (length > 0 && length <= keyBytes) return undefined;
  const detail = `key: expected 1 to ${keyBytes} bytes`;
  return failure(length === 0 ? 'BAD_REQUEST' : 'TOO_LARGE', { detail });
}

function valueProblem(
  { valueBytes }: RespKeysLimits,
  value: Uint8Array | undefined,
): Failure | undefined {
  if (value === undefined || value.length <= valueBytes) return undefined;
  return failure('TOO_LARGE', { detail: `value: expected at most ${valueBytes} bytes` });
}

/** Ends the command with the error of a failure. */
export function fail(call: RespCall, problem: Failure | undefined): void {
  call.answer(failureReply(problem ?? failure('BUG')));
}

/** Ends the command with what was thrown at it; a defect goes on to the actor. */
export function failThrown(call: RespCall, error: unknown): void {
  const problem = toFailure(error);
  if (problem.code === 'BUG') throw error;
  fail(call, problem);
}

function liveRecord({ record, nowMs }: ReadReply): Uint8Array | undefined {
  return record !== undefined && isLive(record, nowMs) ? record : undefined;
}

function tooMany(bytes: number): Failure | undefined {
  if (bytes <= answerBytesMax) return undefined;
  const detail = `the values are over ${answerBytesMax} bytes together: ask for fewer keys`;
  return failure('TOO_LARGE', { detail });
}

/** Some were written: then nobody may take the failure for one without effect. */
function partial(first: Failure, done: number, count: number): Failure {
  if (done === 0 || count === 1) return first;
  const detail = `${done} of ${count} keys were written, then ${first.code}`;
  return failure('UNKNOWN_OUTCOME', { ...first.fields, detail });
}

/** Runs `step` for 0 to `count - 1`, some at a time; after a problem no more begin. */
export function inParallel(
  count: number,
  step: (index: number, next: (problem?: Failure) => void) => void,
  done: (problem: Failure | undefined) => void,
): void {
  let started = 0;
  let running = 0;
  let first: Failure | undefined;
  let isStepping = false;
  const advance = (): void => {
    if (isStepping) return;
    isStepping = true;
    while (first === undefined && started < count && running < parallelMax) {
      running += 1;
      const index = started;
      started += 1;
      step(index, (problem) => {
        running -= 1;
        first ??= problem;
        advance();
      });
    }
    isStepping = false;
    if (running === 0 && (first !== undefined || started === count)) done(first);
  };
  advance();
}
