// Requests checked and turned into operations. Every refusal names the field and says what was
// expected; nothing is coerced, rounded or ignored. A request is checked as a whole before any of
// it runs: a batch with one bad operation has no effect at all.

import { base64url, latin1, noBytes, utf8 } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';
import type { Sealer } from '../../runtime/seal.ts';
import { isSerial, type Level, parseLevel } from '../model/consistency.ts';
import {
  defaultNamespace,
  isNamespaceName,
  type Namespace,
  type Namespaces,
  noSuchNamespace,
} from '../model/namespaces.ts';
import { type Etag, formatEtag, valueTypes } from '../model/record.ts';
import { decodeBase64 } from './base64.ts';
import { type CursorKind, type CursorScope, type CursorSeal, decodeCursor } from './cursor.ts';
import type { HttpRoute } from './http-routes.ts';
import { JsonReader, type Slice } from '../model/json-slices.ts';
import { type GatewayTimeouts, type HttpRequest, usualTimeouts } from './protocol.ts';
import { Session } from './session.ts';

export interface GatewayLimits {
  /** A key, bytes. Default 1,024. */
  readonly keyBytes: number;
  /** A value, bytes. Default 1 MiB. */
  readonly valueBytes: number;
  /** Operations of a batch. Default 1,000. */
  readonly batchOperations: number;
  /** Bytes of the values in the answer of a batch; the edge bounds the request. Default 16 MiB. */
  readonly batchBytes: number;
  /** Keys on a page. Default 1,000. */
  readonly scanRows: number;
  /** Longest time to live, seconds. Default ten years. */
  readonly ttlSecondsMax: number;
}

/** Levels and deadlines where the request names none. */
export interface GatewayDefaults extends GatewayTimeouts {
  readonly readLevel: Level;
  readonly writeLevel: Level;
}

export interface GatewaySettings {
  readonly defaults: GatewayDefaults;
  readonly limits: GatewayLimits;
}

export const defaultGatewaySettings: GatewaySettings = {
  defaults: {
    readLevel: 'QUORUM',
    writeLevel: 'QUORUM',
    ...usualTimeouts,
  },
  limits: {
    keyBytes: 1024,
    valueBytes: 1024 * 1024,
    batchOperations: 1000,
    batchBytes: 16 * 1024 * 1024,
    scanRows: 1000,
    ttlSecondsMax: 10 * 365 * 24 * 3600,
  },
};

/** Under which terms an operation on a key runs. */
export interface KeyTerms {
  readonly namespace: number;
  /** As asked: how many replicas; never SESSION, which only says that the token decides. */
  readonly level: Level;
  /** What the client knows; a new one where it sends no token. */
  readonly session: Session;
  /** The answer says how it was made. */
  readonly explain: boolean;
}

/** Under which terms a request runs. */
export interface Terms extends KeyTerms {
  /** Of an atomic batch: `level`, but the node's where that is a usual one that is decided. */
  readonly atomicLevel: Level;
  readonly timeoutMs: number;
}

export interface TermsSettings extends Omit<GatewaySettings, 'limits'> {
  readonly namespaces: Namespaces;
  readonly sealer: Sealer;
  /** Copies of each key. */
  readonly replicas: number;
  readonly nowMs: number;
}

/** `serial`: decided whatever the level says. */
export type TermsKind = 'read' | 'write' | 'scan' | 'serial';

/** A value to write. */
export interface ValueToPut {
  /** Only where there is no such key. */
  readonly ifNotExists: boolean;
  readonly value: Uint8Array;
  readonly valueType: number;
  /** 0: never expires. */
  readonly ttlMs: number;
}

export interface KeyedPut extends ValueToPut {
  readonly key: Uint8Array;
}

/** A page of a list or a scan. */
export interface PageRequest {
  readonly scope: CursorScope;
  readonly limit: number;
  readonly after: Uint8Array | undefined;
  readonly withValues: boolean;
}

const deadlineMsMax = 60_000;
const wholeNumber = /^(0|[1-9][0-9]{0,15})$/;
const loneSurrogate = /[\ud800-\udfff]/u;
const pageRows = 100;
const jsonType = 'application/json';
const bytesType = 'application/octet-stream';

function refuse(field: string, expected: string): never {
  throw new KvError('BAD_REQUEST', { field, detail: `${field}: expected ${expected}` });
}

// ---- headers and query ---------------------------------------------------------------------

/** Refuses query parameters that the route does not know, so that typos are not silent. */
export function checkQuery(route: HttpRoute, query: HttpRequest['query']): void {
  for (const name of Object.keys(query))
    if (!route.query.includes(name))
      refuse(
        name,
        route.query.length === 0
          ? 'no query parameters here'
          : `one of the query parameters ${route.query.join(', ')}`,
      );
}

/** `checkRight` throws where the caller has nothing to do with the namespace. */
export function parseTerms(
  request: HttpRequest,
  kind: TermsKind,
  { namespaces, defaults: ofNode, sealer, replicas, nowMs }: TermsSettings,
  checkRight: (namespace: number) => void,
): Terms {
  const { headers } = request;
  const found = namespaceOf(request, namespaces);
  const { id: namespace } = found;
  // Before the headers: what is wrong with them would tell that the namespace is there (SE-14).
  checkRight(namespace);
  const defaults = { ...ofNode, ...defaultLevels(found, ofNode, kind) };
  const named = headers['consistency-level'];
  const token = headers['x-session-token'];
  const timeoutMs = {
    read: defaults.readTimeoutMs,
    write: defaults.writeTimeoutMs,
    scan: defaults.scanTimeoutMs,
    serial: defaults.writeTimeoutMs,
  }[kind];
  const level = levelOf(named, kind, defaults);
  const plain = { ...defaults, writeLevel: countedLevel(defaults.writeLevel, ofNode.writeLevel) };
  return {
    namespace,
    level,
    atomicLevel: kind === 'write' ? levelOf(named, kind, plain) : level,
    session:
      token === undefined || token === ''
        ? new Session(namespace, replicas)
        : Session.open(token, sealer, { namespace, replicas, nowMs }),
    explain: parseFlag(headers['x-explain'], 'X-Explain'),
    timeoutMs: parseDeadline(headers['x-deadline-ms']) ?? timeoutMs,
  };
}

/** With SESSION a write runs at the usual level, and a read begins at one replica. */
function levelOf(text: string | undefined, kind: TermsKind, defaults: GatewayDefaults): Level {
  const usual = kind === 'write' ? defaults.writeLevel : defaults.readLevel;
  if (kind === 'serial') return 'SERIAL';
  const level = text === undefined ? usual : parseLevel(text);
  if (kind !== 'write' && level === 'EACH_QUORUM')
    refuse('Consistency-Level', 'a level of reads: EACH_QUORUM is one of writes');
  if (level !== 'SESSION') return level;
  return kind === 'write' ? defaults.writeLevel : 'ONE';
}

/** Of the path or of the header; a request that names two is a mistake. */
function namespaceOf({ headers, params }: HttpRequest, namespaces: Namespaces): Namespace {
  const { namespace: inPath } = params;
  const inHeader = headers['x-namespace'];
  if (inPath !== undefined && inHeader !== undefined && inPath !== inHeader)
    refuse('X-Namespace', 'the namespace of the path, or no header');
  const name = inPath ?? inHeader ?? defaultNamespace;
  if (!isNamespaceName(name)) refuse('X-Namespace', '1 to 64 of the characters A-Z a-z 0-9 _ -');
  const found = namespaces.named(name);
  if (found === undefined) throw noSuchNamespace(name);
  return found;
}

/** The level of what cannot be decided: that of the node in place of a serial one. */
export const countedLevel = (level: Level, ofNode: Level): Level =>
  isSerial(level) ? ofNode : level;

/** Levels of a namespace where it has its own. What is not about single keys is never decided. */
export function defaultLevels(
  { readLevel, writeLevel }: Namespace,
  ofNode: Pick<GatewayDefaults, 'readLevel' | 'writeLevel'>,
  kind: TermsKind,
): Pick<GatewayDefaults, 'readLevel' | 'writeLevel'> {
  const read = readLevel === '' ? ofNode.readLevel : (readLevel as Level);
  return {
    readLevel: kind === 'scan' ? countedLevel(read, ofNode.readLevel) : read,
    writeLevel: writeLevel === '' ? ofNode.writeLevel : (writeLevel as Level),
  };
}

function parseDeadline(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  return parseWhole(text, 'X-Deadline-Ms', 1, deadlineMsMax);
}

function parseWhole(text: string, field: string, min: number, max: number): number {
  const value = wholeNumber.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max)) refuse(field, `a whole number from ${min} to ${max}`);
  return value;
}

export function parseFlag(text: string | undefined, field: string): boolean {
  if (text === undefined || text === 'false' || text === '0') return false;
  if (text === 'true' || text === '1' || text === '') return true;
  return refuse(field, '1 or true, 0 or false');
}

const etagList = /^\s*(?:W\/)?"[^"]*"(?:\s*,\s*(?:W\/)?"[^"]*")*\s*$/;

/** If-None-Match of a read: whether an etag is one that the client has (RFC 9110, 13.1.2). */
export function parseEtags({ headers }: HttpRequest): (etag: Etag) => boolean {
  const text = headers['if-none-match'];
  if (text === undefined) return () => false;
  if (text.trim() === '*') return () => true;
  if (!etagList.test(text)) refuse('If-None-Match', '* or etags in double quotes, with commas');
  return (etag) => text.includes(`"${formatEtag(etag)}"`);
}

/** The media type without its parameters, in lower case; empty where there is none. */
function contentType(request: HttpRequest): string {
  const [essence = ''] = (request.headers['content-type'] ?? '').split(';', 1);
  return essence.trim().toLowerCase();
}

function unsupported(found: string, expected: string): never {
  const detail = `content-type: expected ${expected}, found ${found === '' ? 'none' : found}`;
  throw new KvError('UNSUPPORTED_MEDIA_TYPE', { detail });
}

export function wantsBytes(request: HttpRequest): boolean {
  return request.headers['accept']?.toLowerCase().includes(bytesType) ?? false;
}

// ---- keys and values -----------------------------------------------------------------------

/** The UTF-8 of a key, 1 byte to the limit. */
function parseKey(text: string, limits: GatewayLimits, field: string): Uint8Array {
  if (loneSurrogate.test(text)) refuse(field, 'text without lone surrogates');
  return checkKey(utf8.encode(text), limits, field);
}

function checkKey(key: Uint8Array, { keyBytes }: GatewayLimits, field: string): Uint8Array {
  if (key.length === 0) refuse(field, 'a key of at least one byte');
  if (key.length > keyBytes) tooLarge(field, key.length, keyBytes);
  return key;
}

/** How a key in a path or query is written; base64url is for any bytes (SE-6). */
type KeyEncoding = 'text' | 'base64url';

function parseKeyEncoding({ query }: HttpRequest): KeyEncoding {
  const { key_encoding: encoding = 'text' } = query;
  if (encoding === 'text' || encoding === 'base64url') return encoding;
  return refuse('key_encoding', 'text or base64url');
}

function parseWritten(
  text: string,
  encoding: KeyEncoding,
  limits: GatewayLimits,
  field: string,
): Uint8Array {
  if (encoding === 'text') return parseKey(text, limits, field);
  const key = base64url.decode(text);
  // Bits left over must be zero: one key, one path.
  if (key === undefined || base64url.encode(key) !== text)
    return refuse(field, 'base64url without padding');
  return checkKey(key, limits, field);
}

/** The key that the path names. */
export const keyOfPath = (request: HttpRequest, limits: GatewayLimits): Uint8Array =>
  parseWritten(request.params['key'] ?? '', parseKeyEncoding(request), limits, 'key');

/** Of the query; empty: of every key. */
export function parsePrefix(request: HttpRequest, limits: GatewayLimits): Uint8Array {
  const { prefix = '' } = request.query;
  const encoding = parseKeyEncoding(request);
  return prefix === '' ? noBytes : parseWritten(prefix, encoding, limits, 'prefix');
}

/** A key in JSON: text, or an object with its base64, as answers have it where it is no UTF-8. */
function readKey(
  reader: JsonReader,
  body: Uint8Array,
  limits: GatewayLimits,
  field: string,
): Uint8Array {
  if (reader.peek() !== openBrace) return parseKey(reader.text(), limits, field);
  let key: Uint8Array | undefined;
  reader.object((name) => {
    if (name !== 'base64' || reader.peek() !== quote) refuse(field, keyForms);
    key = parseBytes(body, reader.skip(), `${field}.base64`);
  });
  return key === undefined ? refuse(field, keyForms) : checkKey(key, limits, field);
}

const openBrace = 0x7b;
const quote = 0x22;
const keyForms = 'a key: text, or {"base64": "..."} with its bytes';

function tooLarge(field: string, bytes: number, limit: number): never {
  const detail = `${field}: ${bytes} bytes, at most ${limit} are taken`;
  throw new KvError('TOO_LARGE', { field, bytes, limit, detail });
}

/** Seconds as a JSON value to milliseconds; what is zero or below is refused (rule TTL-4). */
function parseTtl(value: unknown, { ttlSecondsMax }: GatewayLimits, field: string): number {
  const isValid = Number.isInteger(value) && (value as number) >= 1;
  if (!isValid || (value as number) > ttlSecondsMax)
    refuse(field, `a whole number of seconds from 1 to ${ttlSecondsMax}`);
  return (value as number) * 1000;
}

function parseBytes(bytes: Uint8Array, { start, end }: Slice, field: string): Uint8Array {
  const raw = bytes.subarray(start + 1, end - 1);
  // Some encoders escape the slash, which is a digit of base64.
  const text = raw.includes(0x5c)
    ? utf8.encode(JSON.parse(utf8.decode(bytes.subarray(start, end))) as string)
    : raw;
  return decodeBase64(text) ?? refuse(field, 'padded base64');
}

/** What one operation's members may hold; `key` only in a batch. */
interface Members {
  key?: Uint8Array;
  value?: Slice;
  isText?: boolean;
  ifNotExists?: boolean;
  ttl?: unknown;
  encoding?: unknown;
}

function readMember(reader: JsonReader, name: string, path: string, members: Members): void {
  if (name === 'value') {
    members.isText = reader.peek() === quote;
    members.value = reader.skip();
  } else if (name === 'ttl') members.ttl = reader.value();
  else if (name === 'encoding') members.encoding = reader.value();
  else if (name === 'if_not_exists') {
    const wanted = reader.value();
    if (typeof wanted !== 'boolean') refuse(`${path}if_not_exists`, 'true or false');
    members.ifNotExists = wanted;
  } else refuse(`${path}${name}`, 'one of the members value, ttl, encoding, if_not_exists');
}

function toValue(
  bytes: Uint8Array,
  members: Members,
  limits: GatewayLimits,
  path: string,
): ValueToPut {
  const { value: slice, isText, ttl, encoding } = members;
  if (slice === undefined) return refuse(`${path}value`, 'any JSON value');
  if (encoding !== undefined && encoding !== 'base64') refuse(`${path}encoding`, '"base64"');
  const isBase64 = encoding === 'base64';
  if (isBase64 && isText !== true) refuse(`${path}value`, 'a string of base64');
  const value = isBase64
    ? parseBytes(bytes, slice, `${path}value`)
    : bytes.subarray(slice.start, slice.end);
  checkValue(value, limits, `${path}value`);
  return {
    value,
    valueType: isBase64 ? valueTypes.bytes : valueTypes.json,
    ifNotExists: members.ifNotExists === true,
    ttlMs: ttl === undefined ? 0 : parseTtl(ttl, limits, `${path}ttl`),
  };
}

export function checkValue(value: Uint8Array, { valueBytes }: GatewayLimits, field: string): void {
  if (value.length > valueBytes) tooLarge(field, value.length, valueBytes);
}

/** A single put: a JSON document or, as octet-stream, the value itself. */
export function parsePut(request: HttpRequest, limits: GatewayLimits): ValueToPut {
  const { body, query } = request;
  const type = contentType(request);
  const ifNotExists = parseFlag(query['if_not_exists'], 'if_not_exists');
  if (type === bytesType) {
    checkValue(body, limits, 'value');
    const ttl = query['ttl'];
    const ttlMs = ttl === undefined ? 0 : parseWhole(ttl, 'ttl', 1, limits.ttlSecondsMax) * 1000;
    return { value: body, valueType: valueTypes.bytes, ttlMs, ifNotExists };
  }
  if (type !== jsonType) unsupported(type, `${jsonType} or ${bytesType}`);
  if (query['ttl'] !== undefined) refuse('ttl', 'it in the JSON body, not in the query');
  const reader = new JsonReader(body);
  const members: Members = {};
  reader.object((name) => readMember(reader, name, '', members));
  reader.end();
  const operation = toValue(body, members, limits, '');
  return ifNotExists ? { ...operation, ifNotExists } : operation;
}

// ---- batches -------------------------------------------------------------------------------

/** True: all of it or nothing; a read has no `atomic`. */
function readBatch(
  request: HttpRequest,
  { list, isRead }: { readonly list: string; readonly isRead: boolean },
  onElement: (reader: JsonReader) => void,
): boolean {
  const type = contentType(request);
  if (type !== jsonType) unsupported(type, jsonType);
  const reader = new JsonReader(request.body);
  const names: string[] = [];
  let isAtomic = false;
  reader.object((name) => {
    names.push(name);
    if (name === list) reader.array(() => onElement(reader));
    else if (name === 'atomic' && !isRead) {
      const atomic = reader.value();
      if (typeof atomic !== 'boolean') refuse('atomic', 'true or false');
      isAtomic = atomic;
    } else refuse(name, `one of the members ${isRead ? list : `${list}, atomic`}`);
  });
  reader.end();
  if (!names.includes(list)) refuse(list, 'a list');
  return isAtomic;
}

function checkCount(count: number, list: string, { batchOperations }: GatewayLimits): void {
  if (count > batchOperations)
    throw new KvError('TOO_LARGE', {
      field: list,
      limit: batchOperations,
      detail: `${list}: more than ${batchOperations} in one batch`,
    });
}

/** Refuses a key that two operations of a batch name: which one would win is anyone's guess. */
function checkFresh(seen: Set<string>, key: Uint8Array, field: string): void {
  const name = latin1(key);
  if (seen.has(name)) refuse(field, 'each key once in a batch of writes');
  seen.add(name);
}

/** What a batch of writes asks for. */
export interface ParsedBatch<Item> {
  readonly items: readonly Item[];
  /** All of it or nothing (BL-5). */
  readonly isAtomic: boolean;
}

export function parseBatchPut(request: HttpRequest, limits: GatewayLimits): ParsedBatch<KeyedPut> {
  const operations: KeyedPut[] = [];
  const seen = new Set<string>();
  const isAtomic = readBatch(request, { list: 'operations', isRead: false }, (reader) => {
    const path = `operations[${operations.length}].`;
    checkCount(operations.length + 1, 'operations', limits);
    const members: Members = {};
    reader.object((name) => {
      if (name === 'key') members.key = readKey(reader, request.body, limits, `${path}key`);
      else readMember(reader, name, path, members);
    });
    const { key } = members;
    if (key === undefined) return refuse(`${path}key`, keyForms);
    checkFresh(seen, key, `${path}key`);
    operations.push({ key, ...toValue(request.body, members, limits, path) });
  });
  const conditional = operations.findIndex(({ ifNotExists }) => isAtomic && ifNotExists);
  if (conditional >= 0)
    refuse(`operations[${conditional}].if_not_exists`, 'no condition in an atomic batch');
  return { items: operations, isAtomic };
}

export interface BatchKeysOptions {
  readonly limits: GatewayLimits;
  /** A read may ask for a key twice, a delete may not; and it has nothing to be atomic. */
  readonly isRead: boolean;
}

export function parseBatchKeys(
  request: HttpRequest,
  { limits, isRead }: BatchKeysOptions,
): ParsedBatch<Uint8Array> {
  const keys: Uint8Array[] = [];
  const seen = new Set<string>();
  const isAtomic = readBatch(request, { list: 'keys', isRead }, (reader) => {
    const field = `keys[${keys.length}]`;
    checkCount(keys.length + 1, 'keys', limits);
    const key = readKey(reader, request.body, limits, field);
    keys.push(key);
    if (!isRead) checkFresh(seen, key, field);
  });
  return { items: keys, isAtomic };
}

// ---- pages ---------------------------------------------------------------------------------

export function parsePage(
  request: HttpRequest,
  kind: CursorKind,
  {
    namespace,
    limits,
    ...seal
  }: CursorSeal & { readonly namespace: number; readonly limits: GatewayLimits },
): PageRequest {
  const { query } = request;
  const filter = parsePrefix(request, limits);
  const rows = kind === 'list' ? 'limit' : 'count';
  const limit = query[rows];
  const cursor = query['cursor'] ?? '';
  const scope: CursorScope = { kind, namespace, filter };
  return {
    scope,
    limit: limit === undefined ? pageRows : parseWhole(limit, rows, 1, limits.scanRows),
    after: cursor === '' ? undefined : decodeCursor(cursor, scope, seal),
    withValues: parseFlag(query['values'], 'values'),
  };
}
