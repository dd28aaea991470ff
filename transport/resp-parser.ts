// Commands out of the bytes of a Redis connection: arrays of bulk strings and inline commands, cut
// anywhere. Incremental: no byte is looked at twice, whatever the chunks are, and a half command
// holds its own bytes only.
//
// Every length is checked before anything is kept for it (rule SE-7). A bulk or a command over the
// limit is passed over byte by byte and handed out marked, so that its client gets an error and goes
// on; what is no protocol at all ends the connection (`problem`).
//
// Arguments of up to 64 bytes are copied, longer ones are views: bytes that were handed out are never
// written again. Reference: redis/redis src/networking.c (processMultibulkBuffer, limits, words of
// the errors) and redis.io "Redis serialization protocol specification".

import { arrayOverheadBytes, noBytes } from '../runtime/bytes.ts';

export interface ParsedCommand {
  /** Its name, then its arguments. */
  readonly args: readonly Uint8Array[];
  /** An argument was over its limit and left out. */
  readonly isTooLarge: boolean;
}

export interface RespLimits {
  /** Longest argument that is kept, bytes. */
  readonly bulkBytes: number;
  /** Longest command that is kept, all arguments together, bytes. */
  readonly commandBytes: number;
  /** Most arguments of a command; more is a protocol error. */
  readonly arguments: number;
  /** Of a client that has not said who it is: an argument over the limit ends the connection. */
  readonly isBeforeLogin?: boolean;
}

/** AUTH and HELLO with a token fit, and little else: those of Redis for who is not known. */
export const limitsBeforeLogin = {
  bulkBytes: 16 * 1024,
  commandBytes: 10 * 16 * 1024,
  arguments: 10,
  isBeforeLogin: true,
} as const satisfies RespLimits;

/** Longest line of an inline command, bytes. */
export const inlineBytesMax = 64 * 1024;
/** A longer argument is not even passed over: `proto-max-bulk-len` of Redis. */
export const bulkBytesHardMax = 512 * 1024 * 1024;
/** Digits of a length: none that is taken has more. */
const digitsMax = 10;
const copiedBytesMax = 64;
/** Names of commands come again and again: the last ones are handed out again. */
const keptNameBytesMax = 16;
const keptNames = 256;
/** Of a buffer that a half command grows in. */
const bufferBytesMin = 16 * 1024;

const cr = 0x0d;
const lf = 0x0a;
const star = 0x2a;
const dollar = 0x24;
const zero = 0x30;

/** A length that has not arrived yet. */
const incomplete = -1;
const invalid = -2;

export class RespParser {
  /** Of the next command. */
  #limits: RespLimits;
  /** Of the command that is being read. */
  #commandLimits: RespLimits;
  #bytes: Uint8Array = noBytes;
  #at = 0;
  #end = 0;
  /** The bytes are in a buffer of the parser's own, free from #end on. */
  #isOwn = false;
  /** Of the command that is being read; 0: none is. */
  #argumentsLeft = 0;
  #arguments: Uint8Array[] = [];
  #argumentBytes = 0;
  #isTooLarge = false;
  /** Length of the argument whose bytes come next; -1: its header does. */
  #bulk = -1;
  /** Bytes to pass over, of an argument over the limit. */
  #skip = 0;
  /** No line end between #at and here. */
  #searched = 0;
  #problem: string | undefined;

  constructor(limits: RespLimits) {
    this.#limits = limits;
    this.#commandLimits = limits;
  }

  /** Other limits, from the next command on. */
  limit(limits: RespLimits): void {
    this.#limits = limits;
  }

  /** What made the stream unreadable, in the words of Redis; nothing is read after it. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** What waits to become a command: bytes, and what its arguments cost beside theirs. */
  get heldBytes(): number {
    const argumentsCost = this.#argumentBytes + this.#arguments.length * arrayOverheadBytes;
    return this.#end - this.#at + argumentsCost;
  }

  /** Takes the next bytes of the stream. They are kept by reference: nobody may change them. */
  feed(chunk: Uint8Array): void {
    const left = this.#end - this.#at;
    if (left === 0) {
      this.#bytes = chunk;
      this.#at = 0;
      this.#end = chunk.length;
      this.#searched = 0;
      this.#isOwn = false;
      return;
    }
    const needed = left + chunk.length;
    if (!this.#isOwn || this.#end + chunk.length > this.#bytes.length) {
      // Doubles, so that a large argument in small chunks is copied a few times and not each time.
      const grown = new Uint8Array(Math.max(bufferBytesMin, needed * 2));
      grown.set(this.#bytes.subarray(this.#at, this.#end));
      this.#searched -= this.#at;
      this.#bytes = grown;
      this.#at = 0;
      this.#end = left;
      this.#isOwn = true;
    }
    this.#bytes.set(chunk, this.#end);
    this.#end += chunk.length;
  }

  /** The next command; undefined where more bytes are needed or after a problem. */
  read(): ParsedCommand | undefined {
    while (this.#problem === undefined) {
      if (this.#argumentsLeft > 0) return this.#readArguments();
      if (this.#at === this.#end) return undefined;
      if (this.#bytes[this.#at] !== star) {
        const command = this.#readInline();
        if (command !== 'empty') return command;
      } else if (!this.#beginArray()) return undefined;
    }
    return undefined;
  }

  /** False: its header is not complete or not valid. */
  #beginArray(): boolean {
    const count = this.#readLength();
    if (count === incomplete) return false;
    const limits = this.#limits;
    if (count === invalid || count > limits.arguments)
      return this.#fail(
        count !== invalid && limits.isBeforeLogin === true
          ? tooManyBeforeLogin
          : 'invalid multibulk length',
      );
    this.#commandLimits = limits;
    this.#argumentsLeft = count;
    this.#arguments = [];
    this.#argumentBytes = 0;
    this.#isTooLarge = false;
    return true;
  }

  #readArguments(): ParsedCommand | undefined {
    while (this.#argumentsLeft > 0) {
      if (this.#skip > 0 && !this.#passOver()) return undefined;
      if (this.#argumentsLeft === 0) break;
      if (this.#bulk < 0) {
        if (!this.#beginArgument()) return undefined;
        if (this.#skip > 0) continue;
      }
      const start = this.#at;
      const end = start + this.#bulk;
      if (end + 2 > this.#end) return undefined;
      if (this.#bytes[end] !== cr || this.#bytes[end + 1] !== lf) {
        this.#fail('expected CRLF after an argument');
        return undefined;
      }
      this.#arguments.push(this.#cut(start, end));
      this.#argumentBytes += this.#bulk;
      this.#at = end + 2;
      this.#bulk = -1;
      this.#argumentsLeft -= 1;
    }
    const command = { args: this.#arguments, isTooLarge: this.#isTooLarge };
    this.#arguments = [];
    this.#argumentBytes = 0;
    return command;
  }

  /** Reads `$<length>`; false: it is not complete or not valid. */
  #beginArgument(): boolean {
    if (this.#at === this.#end) return false;
    const byte = this.#bytes[this.#at] as number;
    if (byte !== dollar) return this.#fail(`expected '$', got '${printable(byte)}'`);
    const length = this.#readLength();
    if (length === incomplete) return false;
    if (length === invalid || length > bulkBytesHardMax) return this.#fail('invalid bulk length');
    const { bulkBytes, commandBytes, isBeforeLogin } = this.#commandLimits;
    if (length > bulkBytes || this.#argumentBytes + length > commandBytes) {
      if (isBeforeLogin === true) return this.#fail(tooLongBeforeLogin);
      // The rest of the command is of no use either, but its name and key may be.
      this.#isTooLarge = true;
      this.#skip = length + 2;
    } else this.#bulk = length;
    return true;
  }

  /** Passes over what is here of a too large argument; false: more of it is to come. */
  #passOver(): boolean {
    const step = Math.min(this.#skip, this.#end - this.#at);
    this.#skip -= step;
    this.#at += step;
    if (this.#skip > 0) return false;
    this.#argumentsLeft -= 1;
    return true;
  }

  /** The number after the type byte: digits without sign or leading zeros, then CRLF. */
  #readLength(): number {
    const bytes = this.#bytes;
    let at = this.#at + 1;
    let value = 0;
    const limit = Math.min(this.#end, at + digitsMax + 1);
    while (at < limit) {
      const byte = bytes[at] as number;
      if (byte === cr) break;
      const digit = byte - zero;
      if (digit < 0 || digit > 9) return invalid;
      value = value * 10 + digit;
      at += 1;
    }
    return this.#endLength(at, value);
  }

  /** Checks what was read as a length up to `at`, where its CR should be. */
  #endLength(at: number, value: number): number {
    const first = this.#at + 1;
    const digits = at - first;
    const hasLeadingZero = digits > 1 && this.#bytes[first] === zero;
    if (digits > digitsMax || hasLeadingZero) return invalid;
    if (at === this.#end) return incomplete;
    if (digits === 0) return invalid;
    if (at + 1 === this.#end) return incomplete;
    if (this.#bytes[at + 1] !== lf) return invalid;
    this.#at = at + 2;
    return value;
  }

  #cut(start: number, end: number): Uint8Array {
    const length = end - start;
    const bytes = this.#bytes;
    if (this.#arguments.length === 0 && length <= keptNameBytesMax && length > 0)
      return keptName(bytes, start, end);
    if (length > copiedBytesMax)
      return new Uint8Array(bytes.buffer, bytes.byteOffset + start, length);
    // A small array of its own lives in the heap; a view never does, and holds the whole chunk.
    const copy = new Uint8Array(length);
    for (let i = 0; i < length; i += 1) copy[i] = bytes[start + i] as number;
    return copy;
  }

  #readInline(): ParsedCommand | 'empty' | undefined {
    const from = Math.max(this.#at, this.#searched);
    const found = this.#bytes.indexOf(lf, from);
    const end = found >= 0 && found < this.#end ? found : -1;
    this.#searched = this.#end;
    if ((end < 0 ? this.#end : end) - this.#at > inlineBytesMax) {
      this.#fail('too big inline request');
      return undefined;
    }
    if (end < 0) return undefined;
    const line = this.#bytes.subarray(this.#at, this.#bytes[end - 1] === cr ? end - 1 : end);
    const args = line.length === 0 ? [] : splitInline(line, this.#limits);
    this.#at = end + 1;
    this.#searched = this.#at;
    if (typeof args === 'string') {
      this.#fail(args);
      return undefined;
    }
    return args.length === 0 ? 'empty' : { args, isTooLarge: false };
  }

  #fail(problem: string): false {
    this.#problem = `Protocol error: ${problem}`;
    // Nothing of it is of use any more.
    this.#bytes = noBytes;
    this.#at = 0;
    this.#end = 0;
    this.#arguments = [];
    this.#argumentBytes = 0;
    return false;
  }
}

/** The first words are those of Redis. */
const tooManyBeforeLogin = `unauthenticated multibulk length: expected at most ${limitsBeforeLogin.arguments} words in a command before AUTH`;
const tooLongBeforeLogin = `unauthenticated bulk length: expected words of at most ${limitsBeforeLogin.bulkBytes} bytes before AUTH`;

const namesKept: (Uint8Array | undefined)[] = new Array<undefined>(keptNames);

function keptName(bytes: Uint8Array, start: number, end: number): Uint8Array {
  const ends = (bytes[start] as number) * 31 + (bytes[end - 1] as number) * 7;
  const place = (ends + end - start) & (keptNames - 1);
  const kept = namesKept[place];
  if (kept?.length === end - start) {
    let at = 0;
    while (at < kept.length && kept[at] === bytes[start + at]) at += 1;
    if (at === kept.length) return kept;
  }
  const name = new Uint8Array(end - start);
  for (let i = 0; i < name.length; i += 1) name[i] = bytes[start + i] as number;
  namesKept[place] = name;
  return name;
}

const printable = (byte: number): string =>
  byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : `\\x${byte.toString(16)}`;

// ---- inline commands -----------------------------------------------------------------------

const space = 0x20;
const doubleQuote = 0x22;
const singleQuote = 0x27;
const backslash = 0x5c;
const letterX = 0x78;
const isSpace = (byte: number): boolean => byte === space || (byte >= 0x09 && byte <= 0x0d);

const escapes: ReadonlyMap<number, number> = new Map([
  [0x6e, lf],
  [0x72, cr],
  [0x74, 0x09],
  [0x62, 0x08],
  [0x61, 0x07],
]);

function hexDigit(byte: number | undefined): number {
  if (byte === undefined) return -1;
  if (byte >= zero && byte <= 0x39) return byte - zero;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}

/**
 * Words of a line, quoted as in sdssplitargs of Redis; else what is wrong with it. A line bounds its
 * words by itself, so its limits count before a login only.
 */
function splitInline(line: Uint8Array, limits: RespLimits): Uint8Array[] | string {
  const words: Uint8Array[] = [];
  const word: number[] = [];
  for (let at = wordFrom(line, 0); at < line.length; at = wordFrom(line, at)) {
    if (limits.isBeforeLogin === true && words.length >= limits.arguments)
      return tooManyBeforeLogin;
    word.length = 0;
    at = readWord(line, at, word);
    if (at < 0) return 'unbalanced quotes in request';
    if (limits.isBeforeLogin === true && word.length > limits.bulkBytes) return tooLongBeforeLogin;
    words.push(Uint8Array.from(word));
  }
  return words;
}

function wordFrom(line: Uint8Array, from: number): number {
  let at = from;
  while (at < line.length && isSpace(line[at] as number)) at += 1;
  return at;
}

/** Reads into `word`; where it goes on after it, or -1. */
function readWord(line: Uint8Array, start: number, word: number[]): number {
  let at = start;
  while (at < line.length && !isSpace(line[at] as number)) {
    const byte = line[at] as number;
    if (byte !== doubleQuote && byte !== singleQuote) {
      word.push(byte);
      at += 1;
      continue;
    }
    at = readQuoted(line, at, word);
    // A closing quote ends the word.
    if (at < 0 || (at < line.length && !isSpace(line[at] as number))) return -1;
  }
  return at;
}

/** Reads from the quote at `start` into `word`; where it goes on after the closing quote, or -1. */
function readQuoted(line: Uint8Array, start: number, word: number[]): number {
  const quote = line[start];
  const isDouble = quote === doubleQuote;
  let at = start + 1;
  while (at < line.length) {
    const byte = line[at] as number;
    if (byte === quote) return at + 1;
    if (byte !== backslash || at + 1 >= line.length) {
      word.push(byte);
      at += 1;
    } else if (isDouble) at = readEscape(line, at, word);
    else {
      // In single quotes only the quote itself is escaped.
      const isQuote = line[at + 1] === singleQuote;
      word.push(isQuote ? singleQuote : byte);
      at += isQuote ? 2 : 1;
    }
  }
  return -1;
}

function readEscape(line: Uint8Array, at: number, word: number[]): number {
  const next = line[at + 1] as number;
  const high = hexDigit(line[at + 2]);
  const low = hexDigit(line[at + 3]);
  if (next === letterX && high >= 0 && low >= 0) {
    word.push(high * 16 + low);
    return at + 4;
  }
  word.push(escapes.get(next) ?? next);
  return at + 2;
}
