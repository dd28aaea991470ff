// What serial operations do, as a pure function of what a key holds: conditions, increments, new
// records. A round carries many of them at once, one after the other; each that writes takes the
// next stamp after the round's ballot, so that every etag that is given out stands for one value.

import { KvError } from '../../runtime/errors.ts';
import { equalBytes, noBytes, utf8 } from '../../runtime/bytes.ts';
import {
  compareEtags,
  encodeRecord,
  type Etag,
  isLive,
  recordEtag,
  recordExpiresAt,
  recordValue,
  recordValueType,
  recordVersion,
  valueTypes,
} from '../model/record.ts';
import type { ExpiryWord, SerialCondition, SerialRequest } from './protocol.ts';
import { type Ballot, type KeptResult, requestIdOf, type SerialHistory } from './serial-history.ts';

export interface SerialOutcome {
  /** False: the condition did not hold, and nothing was changed. */
  readonly isApplied: boolean;
  /** The key as the operation left or found it, live; undefined: nothing there. */
  readonly record: Uint8Array | undefined;
  /** Of the record that the operation wrote. */
  readonly written: (Etag & { readonly version: number; readonly expiresAt: number }) | undefined;
  readonly before: Uint8Array | undefined;
  /** Of an increment. */
  readonly number: number | undefined;
  /** Of a read that finds nothing: the mark of a delete, or what has expired. */
  readonly mark?: Etag;
}

export type Evaluated =
  | { readonly outcome: SerialOutcome }
  /** The operation cannot be done on what is there. */
  | { readonly refusal: KvError };

export interface KeyFacts {
  /** Storage key, its place and hash. */
  readonly key: Uint8Array;
  readonly token: number;
  readonly hash: number;
}

/** What all operations of one round share. */
export interface RoundFacts extends KeyFacts {
  readonly ballot: Ballot;
  /** Decides about expiry, milliseconds since 1970 (PX-8). */
  readonly nowMs: number;
  readonly history: SerialHistory;
  /** Longest value. */
  readonly valueBytesMax: number;
  /** False: the ballot lies too far in the future for anything to be stamped with it (HLC-5). */
  readonly mayStamp: boolean;
}

export interface RoundResult {
  readonly outcomes: readonly Evaluated[];
  /** The last record that the round wrote; undefined: it changed nothing. */
  readonly record: Uint8Array | undefined;
  readonly kept: readonly KeptResult[];
}

/** Evaluates the operations in their order on the newest record, live or not. */
export function evaluateRound(
  requests: readonly SerialRequest[],
  before: Uint8Array | undefined,
  facts: RoundFacts,
): RoundResult {
  const round = new Evaluation(before, facts);
  const outcomes = requests.map((request) => round.evaluate(request));
  return { outcomes, record: round.written, kept: round.kept };
}

class Evaluation {
  readonly #facts: RoundFacts;
  #record: Uint8Array | undefined;
  #writes = 0;
  written: Uint8Array | undefined;
  readonly kept: KeptResult[] = [];

  constructor(before: Uint8Array | undefined, facts: RoundFacts) {
    this.#record = before;
    this.#facts = facts;
  }

  evaluate(request: SerialRequest): Evaluated {
    const id = request.requestId === '' ? undefined : requestIdOf(request.requestId);
    const repeated = id === undefined ? undefined : this.#repeated(id, request);
    if (repeated !== undefined) return repeated;
    try {
      const outcome = this.#apply(request);
      if (id !== undefined) this.#keep(id, request, outcome);
      return { outcome };
    } catch (error) {
      if (error instanceof KvError) return { refusal: error };
      throw error;
    }
  }

  #live(): Uint8Array | undefined {
    return this.#record !== undefined && isLive(this.#record, this.#facts.nowMs)
      ? this.#record
      : undefined;
  }

  #apply(request: SerialRequest): SerialOutcome {
    const live = this.#live();
    const unchanged = { record: live, written: undefined, before: live, number: undefined };
    if (!holds(request.condition, live, this.#expiryOf(request, live)))
      return { ...unchanged, isApplied: false };
    switch (request.verb) {
      case 'read':
        return { ...unchanged, isApplied: true, ...this.#mark() };
      case 'write':
        return this.#write(
          request,
          this.#isOver(request) ? undefined : request.value,
          request.valueType,
        );
      case 'delete':
        return live === undefined
          ? { ...unchanged, isApplied: true }
          : this.#write(request, undefined, valueTypes.bytes);
      case 'expire':
        if (live === undefined) return { ...unchanged, isApplied: false };
        return this.#write(
          request,
          this.#isOver(request) ? undefined : recordValue(live),
          recordValueType(live),
        );
      case 'increment':
        return this.#increment(request, live);
      case 'add':
        return this.#add(request, live);
      case 'append':
      case 'overwrite':
        return this.#splice(request, live);
    }
  }

  #mark(): Pick<SerialOutcome, 'mark'> {
    return this.#record === undefined ? {} : { mark: recordEtag(this.#record) };
  }

  /** When what the request writes would expire; 0: never. */
  #expiryOf(
    { keepTtl, ttlMs, expiresAt = 0 }: SerialRequest,
    live: Uint8Array | undefined,
  ): number {
    if (keepTtl && live !== undefined) return recordExpiresAt(live);
    if (expiresAt > 0) return expiresAt;
    return ttlMs === 0 ? 0 : this.#facts.nowMs + ttlMs;
  }

  /** The request names a moment that has passed. */
  #isOver({ keepTtl, expiresAt = 0 }: SerialRequest): boolean {
    return !keepTtl && expiresAt > 0 && expiresAt <= this.#facts.nowMs;
  }

  #increment(request: SerialRequest, live: Uint8Array | undefined): SerialOutcome {
    const number = (live === undefined ? 0 : integerOf(live)) + request.delta;
    if (!Number.isSafeInteger(number))
      throw new KvError('WRONG_TYPE', { detail: 'increment or decrement would overflow' });
    const valueType = live === undefined ? request.valueType : recordValueType(live);
    return { ...this.#write(request, utf8.encode(String(number)), valueType), number };
  }

  #add(request: SerialRequest, live: Uint8Array | undefined): SerialOutcome {
    const text = live === undefined ? '0' : utf8.decode(recordValue(live));
    const number = (float.test(text) ? Number(text) : Number.NaN) + request.delta;
    if (!Number.isFinite(number))
      throw new KvError('WRONG_TYPE', { detail: 'value is not a valid float' });
    const valueType = live === undefined ? request.valueType : recordValueType(live);
    return { ...this.#write(request, utf8.encode(String(number)), valueType), number };
  }

  #splice(request: SerialRequest, live: Uint8Array | undefined): SerialOutcome {
    const { value = noBytes, verb, valueType } = request;
    const old = live === undefined ? noBytes : recordValue(live);
    const offset = verb === 'append' ? old.length : request.offset;
    const bytes = Math.max(old.length, offset + value.length);
    this.#checkBytes(bytes);
    const joined = new Uint8Array(bytes);
    joined.set(old);
    joined.set(value, offset);
    return this.#write(request, joined, live === undefined ? valueType : recordValueType(live));
  }

  #write(request: SerialRequest, value: Uint8Array | undefined, valueType: number): SerialOutcome {
    const { key, token, hash, ballot, mayStamp } = this.#facts;
    if (!mayStamp)
      throw new KvError('FUTURE_VERSION', {
        stored: ballot.hlc,
        detail: 'the key was used under a clock that was further ahead than clocks may differ',
      });
    if (value !== undefined) this.#checkBytes(value.length);
    const before = this.#live();
    const etag = { ...ballot, hlc: ballot.hlc + this.#writes };
    const version = (this.#record === undefined ? 0 : recordVersion(this.#record)) + 1;
    const expiresAt = value === undefined ? 0 : this.#expiryOf(request, before);
    const isTombstone = value === undefined;
    const body = { key, token, hash, value: value ?? new Uint8Array(0), valueType, isTombstone };
    const record = encodeRecord({ ...etag, ...body, version, expiresAt, isSerial: true });
    this.#writes += 1;
    this.#record = record;
    this.written = record;
    const written = { ...etag, version, expiresAt };
    return { isApplied: true, record: this.#live(), written, before, number: undefined };
  }

  #checkBytes(bytes: number): void {
    const limit = this.#facts.valueBytesMax;
    const detail = `value: ${bytes} bytes, at most ${limit} are decided`;
    if (bytes > limit) throw new KvError('TOO_LARGE', { bytes, limit, detail });
  }

  /** The result of the first time; REQUEST_REUSED where the id was another request's. */
  #repeated(id: number, request: SerialRequest): Evaluated | undefined {
    const first = this.#facts.history.find(id) ?? this.kept.find((one) => one.id === id);
    if (first === undefined) return undefined;
    if (first.request !== fingerprintOf(request)) {
      const detail = 'this request id was used for another request on this key';
      return { refusal: new KvError('REQUEST_REUSED', { detail }) };
    }
    const { isApplied, version, number, hlc, writer, incarnation } = first;
    const written = hlc === 0 ? undefined : { hlc, writer, incarnation, version, expiresAt: 0 };
    return {
      outcome: { isApplied, record: this.#live(), written, before: this.#live(), number },
    };
  }

  #keep(id: number, request: SerialRequest, { isApplied, written, number }: SerialOutcome): void {
    if (request.verb === 'read') return;
    const { hlc, writer, incarnation, version } = written ?? none;
    const etag = { hlc, writer, incarnation };
    this.kept.push({ id, request: fingerprintOf(request), isApplied, version, number, ...etag });
  }
}

const none = { hlc: 0, writer: 0, incarnation: 0, version: 0 };

/** `expiresAt`: when the record that the operation writes would expire; 0: never. */
function holds(
  condition: SerialCondition,
  live: Uint8Array | undefined,
  expiresAt: number,
): boolean {
  switch (condition.kind) {
    case 'none':
      return true;
    case 'absent':
      return live === undefined;
    case 'exists':
      return live !== undefined;
    case 'version':
      return (live === undefined ? 0 : recordVersion(live)) === condition.version;
    case 'etag':
      return live !== undefined && compareEtags(recordEtag(live), condition.etag) === 0;
    case 'value':
      return live !== undefined && equalValues(live, condition.value);
    case 'expiry':
      return live !== undefined && allowsExpiry(condition.words, recordExpiresAt(live), expiresAt);
  }
}

/** Whether every word lets the expiry `before` (0: never) become `after`. */
function allowsExpiry(words: readonly ExpiryWord[], before: number, after: number): boolean {
  const isLater = after === 0 ? before !== 0 : before !== 0 && after > before;
  const isEarlier = after !== 0 && (before === 0 || after < before);
  return words.every((word) => {
    if (word === 'nx') return before === 0;
    if (word === 'xx') return before !== 0;
    return word === 'gt' ? isLater : isEarlier;
  });
}

/** Equal bytes, or JSON texts of equal values. */
function equalValues(record: Uint8Array, expected: Uint8Array): boolean {
  if (equalBytes(recordValue(record), expected)) return true;
  if (recordValueType(record) !== valueTypes.json) return false;
  const found = utf8.decodeStrict(recordValue(record));
  const wanted = utf8.decodeStrict(expected);
  if (found === undefined || wanted === undefined) return false;
  return canonical(found) === canonical(wanted);
}

const strings = /"(?:[^"\\]|\\.)*"/g;
/** Numbers that a double may not tell from their neighbours: 16 digits and more, large exponents. */
const inexact = /\d{16}|[\d.]{17}|[eE][+-]?\d{3}/;

function canonical(text: string): string {
  if (inexact.test(text.replace(strings, ''))) return text;
  try {
    return JSON.stringify(JSON.parse(text), (_name, value: unknown) =>
      typeof value === 'object' && value !== null && !Array.isArray(value)
        ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
        : value,
    );
  } catch {
    return text;
  }
}

const float = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;
const integer = /^-?(0|[1-9][0-9]{0,15})$/;

function integerOf(record: Uint8Array): number {
  const text = utf8.decode(recordValue(record));
  const value = integer.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value))
    throw new KvError('WRONG_TYPE', { detail: 'value is not an integer or out of range' });
  return value;
}

/** What makes two requests the same: everything but id and deadline. */
function fingerprintOf(request: SerialRequest): number {
  const { verb, valueType, ttlMs, keepTtl, delta, offset, condition, value } = request;
  const { expiresAt = 0 } = request;
  const bytes = value === undefined ? '' : (utf8.decodeStrict(value) ?? value.join());
  const terms = { verb, valueType, ttlMs, keepTtl, delta, offset, condition, bytes };
  const text = JSON.stringify(expiresAt === 0 ? terms : { ...terms, expiresAt });
  return requestIdOf(text) % 0x1_0000_0000;
}
