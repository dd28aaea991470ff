// Answers of the Redis protocol: plain values with a few shapes around them, and the writer that
// turns them into bytes of version 2 or 3. What version 2 lacks (maps, null, verbatim text) goes out
// as Redis sends it there: flat arrays, nil, bulk strings.
//
// Reference: redis.io "Redis serialization protocol specification".

import { noBytes, utf8 } from '../../runtime/bytes.ts';
import { describeFailure, errorTable, type Failure, failure } from '../../runtime/errors.ts';

export type RespVersion = 2 | 3;

/**
 * number: integer; string and bytes: bulk string; null: nil; array: array. A status (`+OK`), an error,
 * a map and verbatim text are objects.
 */
export type Reply = number | string | Uint8Array | null | readonly Reply[] | Shaped;

export interface Shaped {
  readonly kind: 'status' | 'error' | 'map' | 'verbatim' | 'nil-array';
  readonly text: string;
  /** Of a map: keys and values in turn. */
  readonly items: readonly Reply[];
}

const none: readonly Reply[] = [];
export const status = (text: string): Shaped => ({ kind: 'status', text, items: none });
/** `text`: prefix and sentence, such as `ERR syntax error`. Line ends are taken out of it. */
export const errorReply = (text: string): Shaped => ({ kind: 'error', text, items: none });
export const mapReply = (items: readonly Reply[]): Shaped => ({ kind: 'map', text: '', items });
export const verbatim = (text: string): Shaped => ({ kind: 'verbatim', text, items: none });
/** The nil of an answer that would be an array: version 2 has one of its own. */
export const nilArray: Shaped = { kind: 'nil-array', text: '', items: none };

export const ok = status('OK');
export const syntaxError = errorReply('ERR syntax error');
export const notInteger = errorReply('ERR value is not an integer or out of range');

/** Codes that Redis clients know by their sentence. */
const wordless: ReadonlySet<string> = new Set(['BAD_REQUEST', 'NOT_IMPLEMENTED', 'WRONG_TYPE']);

/** The failure as Redis clients hear it: the prefix of its row, and its code where that says more. */
export function failureReply(problem: Failure): Shaped {
  const { code } = problem;
  const sentence = describeFailure(problem);
  const word = wordless.has(code) ? '' : `${code} `;
  const text = code === 'NOT_IMPLEMENTED' ? `not implemented: ${sentence}` : sentence;
  return errorReply(`${errorTable[code].resp} ${word}${text}`);
}

/** Where a command brings, or asks for, more than it may. */
export const tooLargeReply = (detail: string): Shaped =>
  failureReply(failure('TOO_LARGE', { detail }));

const cr = 0x0d;
const lf = 0x0a;
const zero = 0x30;
const colon = 0x3a;
const dollar = 0x24;
const star = 0x2a;
const percent = 0x25;
const equals = 0x3d;
const plus = 0x2b;
const minus = 0x2d;
const underscore = 0x5f;
const asciiMax = 0x7f;
const digitsMax = 20;
const lineEnds = /[\r\n]+/g;

/** Most bytes of a buffer that is kept for the next batch. */
const keptBytesMax = 64 * 1024;

export class ReplyWriter {
  #bytes: Uint8Array = new Uint8Array(4096);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** What was written, as an array of its own; the writer is empty afterwards. */
  take(): Uint8Array {
    const taken = this.#length === 0 ? noBytes : this.#bytes.slice(0, this.#length);
    if (this.#bytes.length > keptBytesMax) this.#bytes = new Uint8Array(4096);
    this.#length = 0;
    return taken;
  }

  write(reply: Reply, version: RespVersion): void {
    if (typeof reply === 'number') this.#number(colon, reply);
    else if (reply === null) this.#nil(version);
    else if (typeof reply === 'string') this.#text(dollar, reply);
    else if (reply instanceof Uint8Array) this.#bulk(reply);
    else if (isList(reply)) {
      this.#number(star, reply.length);
      for (const item of reply) this.write(item, version);
    } else this.#shaped(reply, version);
  }

  #shaped({ kind, text, items }: Shaped, version: RespVersion): void {
    if (kind === 'status') this.#line(plus, text);
    else if (kind === 'error') this.#line(minus, text.replace(lineEnds, ' '));
    else if (kind === 'nil-array') this.#line(version === 3 ? underscore : star, nilText(version));
    else if (kind === 'verbatim') {
      if (version === 3) this.#text(equals, `txt:${text}`);
      else this.#text(dollar, text);
    } else {
      if (version === 3) this.#number(percent, items.length / 2);
      else this.#number(star, items.length);
      for (const item of items) this.write(item, version);
    }
  }

  #nil(version: RespVersion): void {
    this.#line(version === 3 ? underscore : dollar, nilText(version));
  }

  #number(type: number, value: number): void {
    const bytes = this.#room(digitsMax + 3);
    let at = this.#length;
    bytes[at] = type;
    at += 1;
    at = writeDigits(bytes, at, value);
    bytes[at] = cr;
    bytes[at + 1] = lf;
    this.#length = at + 2;
  }

  #bulk(content: Uint8Array): void {
    this.#number(dollar, content.length);
    const bytes = this.#room(content.length + 2);
    const at = this.#length;
    bytes.set(content, at);
    const end = at + content.length;
    bytes[end] = cr;
    bytes[end + 1] = lf;
    this.#length = end + 2;
  }

  #text(type: number, text: string): void {
    const encoded = utf8.encode(text);
    this.#number(type, encoded.length);
    const bytes = this.#room(encoded.length + 2);
    bytes.set(encoded, this.#length);
    const end = this.#length + encoded.length;
    bytes[end] = cr;
    bytes[end + 1] = lf;
    this.#length = end + 2;
  }

  #line(type: number, text: string): void {
    const bytes = this.#room(text.length * 3 + 3);
    let at = this.#length;
    bytes[at] = type;
    at += 1;
    for (let i = 0; i < text.length; i += 1) {
      const code = text.charCodeAt(i);
      if (code > asciiMax) {
        const rest = utf8.encode(text.slice(i));
        bytes.set(rest, at);
        at += rest.length;
        break;
      }
      bytes[at] = code;
      at += 1;
    }
    bytes[at] = cr;
    bytes[at + 1] = lf;
    this.#length = at + 2;
  }

  #room(count: number): Uint8Array {
    const needed = this.#length + count;
    if (needed > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
      grown.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = grown;
    }
    return this.#bytes;
  }
}

const isList = (reply: Shaped | readonly Reply[]): reply is readonly Reply[] =>
  Array.isArray(reply);
const nilText = (version: RespVersion): string => (version === 3 ? '' : '-1');

/** A whole number, digit by digit; where the next byte goes. */
function writeDigits(bytes: Uint8Array, start: number, value: number): number {
  let at = start;
  let rest = value;
  if (rest < 0) {
    bytes[at] = minus;
    at += 1;
    rest = -rest;
  }
  let end = at + 1;
  for (let left = rest; left >= 10; left = Math.floor(left / 10)) end += 1;
  for (let i = end - 1; i >= at; i -= 1) {
    bytes[i] = zero + (rest % 10);
    rest = Math.floor(rest / 10);
  }
  return end;
}
