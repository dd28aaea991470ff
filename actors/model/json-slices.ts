// A strict JSON reader over bytes (RFC 8259) that finds where values are without decoding them: a
// stored value is the exact text that the client sent, so that integers beyond 2^53, key order and
// number forms survive byte for byte.
//
// The caller walks the structure it expects (object, array) and skips or decodes the values it
// meets; every byte is looked at once. Whatever is skipped is validated on the way: grammar, UTF-8
// (RFC 3629) and nesting, at most 32 deep within a value (rule SE-5). Names of the walked objects
// are refused when they repeat; `__proto__` is a name like any other, since nothing is assigned.

import { utf8 } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';

/** Part of a document: `start` included, `end` not. */
export interface Slice {
  readonly start: number;
  readonly end: number;
}

/** Objects and arrays inside of each other within one value. */
export const jsonDepthMax = 32;

const quote = 0x22;
const backslash = 0x5c;
const comma = 0x2c;
const colon = 0x3a;
const minus = 0x2d;
const plus = 0x2b;
const dot = 0x2e;
const digit0 = 0x30;
const digit9 = 0x39;
const openBracket = 0x5b;
const closeBracket = 0x5d;
const openBrace = 0x7b;
const closeBrace = 0x7d;
const letterU = 0x75;

/** What may follow a backslash, besides `u`: " \ / b f n r t. */
const escapes: ReadonlySet<number> = new Set([0x22, 0x5c, 0x2f, 0x62, 0x66, 0x6e, 0x72, 0x74]);

const literals: ReadonlyMap<number, Uint8Array> = new Map(
  ['true', 'false', 'null'].map((word) => [word.charCodeAt(0), utf8.encode(word)]),
);

const isDigit = (byte: number): boolean => byte >= digit0 && byte <= digit9;
const isExponent = (byte: number): boolean => byte === 0x65 || byte === 0x45;
const isSpace = (byte: number): boolean =>
  byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
const isHex = (byte: number): boolean =>
  isDigit(byte) || (byte >= 0x61 && byte <= 0x66) || (byte >= 0x41 && byte <= 0x46);
const isContinuation = (byte: number): boolean => (byte & 0xc0) === 0x80;

/** Reads one document from its start to its end; errors are BAD_REQUEST with the position. */
export class JsonReader {
  readonly #bytes: Uint8Array;
  readonly #field: string;
  #at = 0;

  /** `field`: how errors call the document. */
  constructor(bytes: Uint8Array, field = 'body') {
    this.#bytes = bytes;
    this.#field = field;
  }

  /** First byte of the next value, 0 at the end: tells objects from arrays from strings. */
  peek(): number {
    this.#space();
    return this.#byte();
  }

  /** Reads an object; `onMember` must read exactly one value, by any method of this reader. */
  object(onMember: (name: string) => void): void {
    this.#space();
    if (this.#byte() !== openBrace) this.#refuse('an object');
    this.#at += 1;
    const seen = new Set<string>();
    this.#space();
    if (this.#byte() === closeBrace) {
      this.#at += 1;
      return;
    }
    do {
      this.#space();
      const at = this.#at;
      const name = this.text();
      if (seen.has(name)) this.#refuseAt(at, `a name that is not there yet, not "${name}" again`);
      seen.add(name);
      this.#colon();
      onMember(name);
    } while (this.#goesOn(closeBrace, '"," or "}"'));
  }

  /** Reads an array; `onElement` must read exactly one value. */
  array(onElement: (index: number) => void): void {
    this.#space();
    if (this.#byte() !== openBracket) this.#refuse('an array');
    this.#at += 1;
    this.#space();
    if (this.#byte() === closeBracket) {
      this.#at += 1;
      return;
    }
    let index = 0;
    do {
      onElement(index);
      index += 1;
    } while (this.#goesOn(closeBracket, '"," or "]"'));
  }

  /** Reads a string and decodes it. */
  text(): string {
    this.#space();
    if (this.#byte() !== quote) this.#refuse('a string');
    const start = this.#at;
    const hasEscapes = this.#string();
    const raw = utf8.decode(this.#bytes.subarray(start, this.#at));
    return hasEscapes ? (JSON.parse(raw) as string) : raw.slice(1, -1);
  }

  /** Validates any value and steps over it. */
  skip(): Slice {
    this.#space();
    const start = this.#at;
    this.#value(0);
    return { start, end: this.#at };
  }

  /** Reads and decodes any value: for small members whose type is checked afterwards. */
  value(): unknown {
    const { start, end } = this.skip();
    return JSON.parse(utf8.decode(this.#bytes.subarray(start, end))) as unknown;
  }

  /** Nothing but white space may be left. */
  end(): void {
    this.#space();
    if (this.#at < this.#bytes.length) this.#refuse('the end');
  }

  /** Byte position of what comes next. */
  get position(): number {
    return this.#at;
  }

  // ---- grammar -----------------------------------------------------------------------------

  #byte(): number {
    return this.#bytes[this.#at] ?? 0;
  }

  #space(): void {
    while (this.#at < this.#bytes.length && isSpace(this.#byte())) this.#at += 1;
  }

  #colon(): void {
    this.#space();
    if (this.#byte() !== colon) this.#refuse('":"');
    this.#at += 1;
  }

  /** After an element: true for a comma, false for the close, which it steps over. */
  #goesOn(close: number, expected: string): boolean {
    this.#space();
    const byte = this.#byte();
    if (byte !== comma && byte !== close) this.#refuse(expected);
    this.#at += 1;
    return byte === comma;
  }

  #value(depth: number): void {
    this.#space();
    const byte = this.#byte();
    if (byte === quote) this.#string();
    else if (byte === openBrace || byte === openBracket) this.#container(byte, depth + 1);
    else if (byte === minus || isDigit(byte)) this.#number();
    else this.#literal(byte);
  }

  #container(open: number, depth: number): void {
    if (depth > jsonDepthMax) this.#refuse(`at most ${jsonDepthMax} levels of nesting`);
    const isObject = open === openBrace;
    const close = isObject ? closeBrace : closeBracket;
    this.#at += 1;
    this.#space();
    if (this.#byte() === close) {
      this.#at += 1;
      return;
    }
    do {
      if (isObject) {
        this.#space();
        if (this.#byte() !== quote) this.#refuse('a string');
        this.#string();
        this.#colon();
      }
      this.#value(depth);
    } while (this.#goesOn(close, isObject ? '"," or "}"' : '"," or "]"'));
  }

  #literal(first: number): void {
    const word = literals.get(first);
    if (word === undefined) this.#refuse('a value');
    for (const byte of word) {
      if (this.#byte() !== byte) this.#refuse(`"${utf8.decode(word)}"`);
      this.#at += 1;
    }
  }

  #number(): void {
    if (this.#byte() === minus) this.#at += 1;
    if (this.#byte() === digit0) this.#at += 1;
    else this.#digits();
    if (this.#byte() === dot) {
      this.#at += 1;
      this.#digits();
    }
    if (!isExponent(this.#byte())) return;
    this.#at += 1;
    if (this.#byte() === plus || this.#byte() === minus) this.#at += 1;
    this.#digits();
  }

  #digits(): void {
    if (!isDigit(this.#byte())) this.#refuse('a digit');
    while (isDigit(this.#byte())) this.#at += 1;
  }

  /** Steps over a string; true where it has escapes. */
  #string(): boolean {
    const bytes = this.#bytes;
    let hasEscapes = false;
    this.#at += 1;
    for (;;) {
      const byte = bytes[this.#at];
      if (byte === quote) {
        this.#at += 1;
        return hasEscapes;
      }
      if (byte === undefined) this.#refuse('the end of a string');
      if (byte === backslash) {
        hasEscapes = true;
        this.#escape();
      } else if (byte >= 0x80) this.#multiByte(byte);
      else if (byte < 0x20) this.#refuse('an escape for a control character');
      else this.#at += 1;
    }
  }

  #escape(): void {
    this.#at += 1;
    const byte = this.#byte();
    if (byte === letterU) {
      for (let i = 0; i < 4; i += 1) {
        this.#at += 1;
        if (!isHex(this.#byte())) this.#refuse('four hexadecimal digits');
      }
    } else if (!escapes.has(byte)) this.#refuse('one of "\\/bfnrtu after a backslash');
    this.#at += 1;
  }

  /** One character of two to four bytes, by the table of RFC 3629 section 4. */
  #multiByte(lead: number): void {
    const length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    const second = this.#bytes[this.#at + 1] ?? 0;
    let isValid =
      lead >= 0xc2 && lead <= 0xf4 && isContinuation(second) && isShortest(lead, second);
    for (let i = 2; i < length; i += 1) isValid &&= isContinuation(this.#bytes[this.#at + i] ?? 0);
    if (!isValid) this.#refuse('valid UTF-8');
    this.#at += length;
  }

  #refuse(expected: string): never {
    this.#refuseAt(this.#at, expected);
  }

  #refuseAt(position: number, expected: string): never {
    const found = position >= this.#bytes.length ? 'it ends' : `found ${this.#shown(position)}`;
    throw new KvError('BAD_REQUEST', {
      field: this.#field,
      position,
      detail: `not the JSON expected at byte ${position}: expected ${expected}, ${found}`,
    });
  }

  #shown(position: number): string {
    const byte = this.#bytes[position] ?? 0;
    const isPrintable = byte > 0x20 && byte < 0x7f;
    return isPrintable
      ? `"${String.fromCharCode(byte)}"`
      : `0x${byte.toString(16).padStart(2, '0')}`;
  }
}

/** Refuses overlong forms, surrogates and what is beyond U+10FFFF. */
function isShortest(lead: number, second: number): boolean {
  if (lead === 0xe0) return second >= 0xa0;
  if (lead === 0xed) return second < 0xa0;
  if (lead === 0xf0) return second >= 0x90;
  if (lead === 0xf4) return second < 0x90;
  return true;
}

/** The members of a document that is one object, by name in their order. */
export function memberSlices(bytes: Uint8Array, field = 'body'): ReadonlyMap<string, Slice> {
  const reader = new JsonReader(bytes, field);
  const members = new Map<string, Slice>();
  reader.object((name) => members.set(name, reader.skip()));
  reader.end();
  return members;
}

/** The elements of a document that is one array, in their order. */
export function elementSlices(bytes: Uint8Array, field = 'body'): readonly Slice[] {
  const reader = new JsonReader(bytes, field);
  const elements: Slice[] = [];
  reader.array(() => elements.push(reader.skip()));
  reader.end();
  return elements;
}
