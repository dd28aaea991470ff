// What serial operations do, as a pure function of what the keys of a group hold: conditions,
// increments, new records. A round carries many of them at once, one after the other, and
// transactions among them, which are done as one or not at all; each operation that writes takes the
// next stamp after the round's ballot, so that every etag that is given out stands for one value.

import { KvError } from '../../runtime/errors.ts';
import { fingerprint32 } from '../../runtime/hash.ts';
import { equalBytes, latin1, noBytes, utf8 } from '../../runtime/bytes.ts';
import { sumText } from '../model/decimal.ts';
import {
  compareEtags,
  encodeRecord,
  type Etag,
  isLive,
  noEtag,
  recordEtag,
  recordExpiresAt,
  recordKey,
  recordValue,
  recordValueType,
  recordVersion,
  storageKey,
  valueTypes,
} from '../model/record.ts';
import type {
  CommandResult,
  ExpiryWord,
  SerialCondition,
  SerialRequest,
  TransactionCommand,
  TransactionReply,
  TransactionRequest,
  TransactionStep,
  Watched,
} from './protocol.ts';
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
  | { readonly transaction: Pick<TransactionReply, 'isApplied' | 'results'> }
  /** The operation cannot be done on what is there. */
  | { readonly refusal: KvError };

/** A group of keys, and its place (acceptor-state.ts). */
export interface GroupFacts {
  readonly key: Uint8Array;
  readonly token: number;
}

/** What all operations of one round share. */
export interface RoundFacts extends GroupFacts {
  readonly ballot: Ballot;
  /** Decides about expiry, milliseconds since 1970 (PX-8). */
  readonly nowMs: number;
  readonly history: SerialHistory;
  /** Longest value. */
  readonly valueBytesMax: number;
  /** Records of one decision together, where it writes several keys; at most `decisionBytesMax`. */
  readonly decisionBytes?: number;
  /** False: the ballot lies too far in the future for anything to be stamped with it (HLC-5). */
  readonly mayStamp: boolean;
}

export interface RoundResult {
  readonly outcomes: readonly Evaluated[];
  /** The last record that the round wrote of each key; empty: it changed nothing. */
  readonly records: readonly Uint8Array[];
  readonly kept: readonly KeptResult[];
}

/** One request of a round. */
export type RoundRequest = SerialRequest | TransactionRequest;

/** Records that one decision writes, where it writes more than one. */
export const decisionBytesMax = 8 * 1024 * 1024;

export const isTransaction = (request: RoundRequest): request is TransactionRequest =>
  'commands' in request;

/** The requests read and change nothing. */
export const isReadOnly = (requests: readonly RoundRequest[]): boolean =>
  requests.every((request) => operationsOf(request).every(({ verb }) => verb === 'read'));

export const operationsOf = (request: RoundRequest): readonly SerialRequest[] =>
  isTransaction(request) ? request.commands.flatMap(({ operations }) => operations) : [request];

/** Keys that have to be as a transaction wants them. */
const conditionsOf = (request: RoundRequest): readonly { readonly key: Uint8Array }[] =>
  isTransaction(request)
    ? [...request.watches, ...request.commands.flatMap(({ conditions }) => conditions)]
    : [];

/** Storage keys that the requests look at, each once. */
export function keysOfRound(requests: readonly RoundRequest[]): Uint8Array[] {
  const found = new Map<string, Uint8Array>();
  const add = (namespace: number, key: Uint8Array): void => {
    const stored = storageKey(namespace, key);
    found.set(latin1(stored), stored);
  };
  for (const request of requests) {
    const { namespace } = request;
    for (const { key } of conditionsOf(request)) add(namespace, key);
    for (const { key, from } of operationsOf(request)) {
      add(namespace, key);
      if (from !== undefined) add(namespace, from);
    }
  }
  return [...found.values()];
}

/** Evaluates the requests in their order on the newest records, live or not. */
export function evaluateRound(
  requests: readonly RoundRequest[],
  before: readonly Uint8Array[],
  facts: RoundFacts,
): RoundResult {
  const round = new Evaluation(before, facts);
  const outcomes = requests.map((request) => round.evaluate(request));
  return { outcomes, records: round.written, kept: round.kept };
}

/** The keys of a group, as the operations of a round leave them one after the other. */
class Evaluation {
  readonly #facts: RoundFacts;
  #records: Map<string, Uint8Array>;
  /** Keys whose record in `#records` the round has written. */
  #written = new Set<string>();
  #writes = 0;
  readonly kept: KeptResult[] = [];

  constructor(before: readonly Uint8Array[], facts: RoundFacts) {
    this.#records = new Map(before.map((record) => [latin1(recordKey(record)), record]));
    this.#facts = facts;
  }

  get written(): Uint8Array[] {
    return [...this.#written].map((name) => this.#records.get(name) as Uint8Array);
  }

  evaluate(request: RoundRequest): Evaluated {
    const undo = this.#savepoint();
    const evaluated = isTransaction(request) ? this.#transact(request) : this.#single(request);
    if (!this.#isTooMuch()) return evaluated;
    undo();
    const limit = this.#decisionBytes;
    return {
      refusal:
        this.#written.size > 0
          ? new KvError('OVERLOADED', {
              limit,
              detail: 'too much is written to these keys at once',
            })
          : new KvError('TOO_LARGE', { limit, detail: 'the transaction writes too much' }),
    };
  }

  /** Goes back to here, as if nothing had come since; the stamps that it took stay unused. */
  #savepoint(): () => void {
    const records = new Map(this.#records);
    const written = new Set(this.#written);
    return () => {
      this.#records = records;
      this.#written = written;
    };
  }

  get #decisionBytes(): number {
    return Math.min(decisionBytesMax, this.#facts.decisionBytes ?? decisionBytesMax);
  }

  #isTooMuch(): boolean {
    if (this.#written.size < 2) return false;
    return this.written.reduce((sum, { length }) => sum + length, 0) > this.#decisionBytes;
  }

  #single(request: SerialRequest): Evaluated {
    const id = this.#idOf(request);
    const repeated = id === undefined ? undefined : this.#repeated(id, request);
    if (repeated !== undefined) return repeated;
    return caught(() => {
      const outcome = this.#apply(request);
      if (id !== undefined) this.#keep(id, request, outcome);
      return { outcome };
    });
  }

  /** Keys of one group share a list of results: the key is part of the name. */
  #idOf({ requestId, namespace, key }: SerialRequest): number | undefined {
    if (requestId === '') return undefined;
    const isAlone = equalBytes(storageKey(namespace, key), this.#facts.key);
    return requestIdOf(isAlone ? requestId : `${requestId}\n${latin1(key)}`);
  }

  // ---- transactions ------------------------------------------------------------------------

  #transact({ namespace, watches, commands }: TransactionRequest): Evaluated {
    if (!this.#facts.mayStamp && commands.some(writesSomething)) return { refusal: this.#ahead() };
    if (watches.some((watched) => this.#hasChanged(namespace, watched)))
      return { transaction: { isApplied: false, results: [] } };
    const results = commands.map((command) => this.#command(namespace, command));
    return { transaction: { isApplied: true, results } };
  }

  #hasChanged(namespace: number, { key, etag, isLive: wasLive }: Watched): boolean {
    const name = latin1(storageKey(namespace, key));
    const stored = this.#records.get(name);
    const isSame = compareEtags(stored === undefined ? noEtag : recordEtag(stored), etag) === 0;
    return !isSame || (this.#live(name) !== undefined) !== wasLive;
  }

  /** A problem of one operation ends its command, and changes nothing of it. */
  #command(namespace: number, { conditions, operations }: TransactionCommand): CommandResult {
    const unmet = conditions.findIndex(
      ({ key, condition }) => !holds(condition, this.#live(latin1(storageKey(namespace, key))), 0),
    );
    if (unmet >= 0) return { isApplied: false, unmet, steps: [], problem: undefined };
    const undo = this.#savepoint();
    const steps: TransactionStep[] = [];
    try {
      for (const operation of operations) {
        const { isApplied, before, record } = this.#apply(operation);
        const stored = this.#records.get(latin1(storageKey(namespace, operation.key)));
        const etag = stored === undefined ? noEtag : recordEtag(stored);
        steps.push({ isApplied, before, record, stored: etag });
      }
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      undo();
      return { isApplied: false, unmet: undefined, steps: [], problem: error.toFailure() };
    }
    return { isApplied: true, unmet: undefined, steps, problem: undefined };
  }

  // ---- operations --------------------------------------------------------------------------

  #live(name: string): Uint8Array | undefined {
    const record = this.#records.get(name);
    return record !== undefined && isLive(record, this.#facts.nowMs) ? record : undefined;
  }

  #liveOf({ namespace, key }: Pick<SerialRequest, 'namespace' | 'key'>): Uint8Array | undefined {
    return this.#live(latin1(storageKey(namespace, key)));
  }

  #apply(request: SerialRequest): SerialOutcome {
    const live = this.#liveOf(request);
    const unchanged = { record: live, written: undefined, before: live, number: undefined };
    if (!holds(request.condition, live, this.#expiryOf(request, live)))
      return { ...unchanged, isApplied: false };
    switch (request.verb) {
      case 'read':
        return { ...unchanged, isApplied: true, ...this.#mark(request) };
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
      case 'copy':
        return this.#copy(request);
    }
  }

  #mark({ namespace, key }: SerialRequest): Pick<SerialOutcome, 'mark'> {
    const stored = this.#records.get(latin1(storageKey(namespace, key)));
    return stored === undefined ? {} : { mark: recordEtag(stored) };
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

  /** Of a key that is not there: nothing is done. */
  #copy(request: SerialRequest): SerialOutcome {
    const { namespace, from = noBytes } = request;
    const source = this.#liveOf({ namespace, key: from });
    const record = this.#liveOf(request);
    if (source === undefined)
      return { isApplied: false, record, written: undefined, before: record, number: undefined };
    const expiresAt = recordExpiresAt(source);
    const life = { ttlMs: 0, keepTtl: false, expiresAt };
    return this.#write({ ...request, ...life }, recordValue(source), recordValueType(source));
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
    const sum = utf8.encode(sumText(text, request.delta));
    return { ...this.#write(request, sum, valueType), number };
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
    const { token, ballot, mayStamp } = this.#facts;
    if (!mayStamp) throw this.#ahead();
    if (value !== undefined) this.#checkBytes(value.length);
    const key = storageKey(request.namespace, request.key);
    const name = latin1(key);
    const hash = fingerprint32(key);
    const stored = this.#records.get(name);
    const before = this.#live(name);
    const etag = { ...ballot, hlc: ballot.hlc + this.#writes };
    const version = (stored === undefined ? 0 : recordVersion(stored)) + 1;
    const expiresAt = value === undefined ? 0 : this.#expiryOf(request, before);
    const isTombstone = value === undefined;
    const body = { key, token, hash, value: value ?? new Uint8Array(0), valueType, isTombstone };
    const record = encodeRecord({ ...etag, ...body, version, expiresAt, isSerial: true });
    this.#writes += 1;
    this.#records.set(name, record);
    this.#written.add(name);
    const written = { ...etag, version, expiresAt };
    return { isApplied: true, record: this.#live(name), written, before, number: undefined };
  }

  #ahead(): KvError {
    return new KvError('FUTURE_VERSION', {
      stored: this.#facts.ballot.hlc,
      detail: 'the key was used under a clock that was further ahead than clocks may differ',
    });
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
    const record = this.#liveOf(request);
    return { outcome: { isApplied, record, written, before: record, number } };
  }

  #keep(id: number, request: SerialRequest, { isApplied, written, number }: SerialOutcome): void {
    if (request.verb === 'read') return;
    const { hlc, writer, incarnation, version } = written ?? none;
    const etag = { hlc, writer, incarnation };
    this.kept.push({ id, request: fingerprintOf(request), isApplied, version, number, ...etag });
  }
}

/** What `work` gives, or why it could not be done. */
function caught(work: () => Evaluated): Evaluated {
  try {
    return work();
  } catch (error) {
    if (error instanceof KvError) return { refusal: error };
    throw error;
  }
}

const writesSomething = ({ operations }: TransactionCommand): boolean =>
  operations.some(({ verb }) => verb !== 'read');

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
