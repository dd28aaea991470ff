// One command on its way: arguments, connection, and the answer that it waits for. And the small
// tools that read arguments: words, whole numbers.

import type { Level } from '../model/consistency.ts';
import type { RespCommand } from './protocol.ts';
import type { CommandSpec } from './resp-commands.ts';
import type { RespConnection } from './resp-connection.ts';
import type { Reply, RespVersion } from './resp-replies.ts';
import type { Session } from './session.ts';
import type { CommandQueue } from './resp-transactions.ts';

/** What a command is a part of: a batch of its connection, or a transaction. */
export interface CallScope {
  readonly connection: RespConnection;
  /** Nothing after the command is run; and the connection ends. */
  isCut: boolean;
  isLast: boolean;
  readonly settled: (call: RespCall) => void;
}

export class RespCall {
  /** Its name, then its arguments. */
  readonly args: readonly Uint8Array[];
  /** An argument was over its limit: to be refused. */
  readonly isTooLarge: boolean;
  readonly spec: CommandSpec;
  readonly connection: RespConnection;
  readonly batch: CallScope;
  /** Monotonic milliseconds; known when it starts. */
  deadlineMs = 0;
  startedMs = 0;
  /** Of the answer; HELLO changes its own. */
  version: RespVersion;
  /** CLIENT REPLY: nothing is sent. */
  isMuted: boolean;
  /** As earlier commands of the connection left them. */
  readonly namespace: number;
  readonly readLevel: Level;
  readonly writeLevel: Level;
  /** At level SESSION: what its connection has seen and written. */
  readonly session: Session | undefined;
  /** It came between MULTI and EXEC. */
  readonly transaction: CommandQueue | undefined;
  /** Earlier commands that it waits for, and later ones that wait for it. */
  blockers = 0;
  dependents: RespCall[] | undefined;
  reply: Reply | undefined;

  constructor({ args, isTooLarge }: RespCommand, spec: CommandSpec, batch: CallScope) {
    this.args = args;
    this.isTooLarge = isTooLarge;
    this.spec = spec;
    this.batch = batch;
    this.connection = batch.connection;
    this.version = batch.connection.version;
    this.isMuted = batch.connection.replyMode !== 'on';
    this.namespace = batch.connection.namespace;
    this.session = batch.connection.session;
    this.transaction = batch.connection.transaction;
    this.readLevel = batch.connection.levelOfReads;
    this.writeLevel = batch.connection.writeLevel;
    this.dependents = undefined;
    this.reply = undefined;
  }

  /** Ends the command: once, later calls have no effect. */
  answer(reply: Reply): void {
    if (this.reply !== undefined) return;
    this.reply = reply;
    this.batch.settled(this);
  }

  /** The argument at `index`, 0 being the name; only where the arity guarantees it. */
  arg(index: number): Uint8Array {
    return this.args[index] as Uint8Array;
  }
}

const wordLengthMax = 64;
const minus = 0x2d;
const zero = 0x30;

/** A command's name or an option in lower case; longer than any known one: empty. */
export function wordOf(bytes: Uint8Array): string {
  if (bytes.length > wordLengthMax) return '';
  let word = '';
  for (const byte of bytes)
    word += String.fromCharCode(byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte);
  return word;
}

/** Bytes as text for messages: what is not printable as \x.., cut at 128. */
export function printableOf(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes.subarray(0, 128))
    text +=
      byte >= 0x20 && byte < 0x7f
        ? String.fromCharCode(byte)
        : `\\x${byte.toString(16).padStart(2, '0')}`;
  return text;
}

/**
 * A whole number as Redis takes it: an optional minus, digits, no leading zeros, no `-0`. Undefined
 * for all else and beyond 2^53.
 */
export function integerOf(bytes: Uint8Array): number | undefined {
  const isNegative = bytes[0] === minus;
  const start = isNegative ? 1 : 0;
  const digits = bytes.length - start;
  if (digits < 1 || digits > 16) return undefined;
  if (bytes[start] === zero && (digits > 1 || isNegative)) return undefined;
  let value = 0;
  for (let i = start; i < bytes.length; i += 1) {
    const digit = (bytes[i] as number) - zero;
    if (digit < 0 || digit > 9) return undefined;
    value = value * 10 + digit;
  }
  if (!Number.isSafeInteger(value)) return undefined;
  return isNegative ? -value : value;
}
