// HTTP requests that are decided rather than counted: conditions, counters, changes of a time to
// live, and everything at level SERIAL. Each becomes one serial request and a way to show its reply.

import { utf8 } from '../../runtime/bytes.ts';
import { failure, KvError } from '../../runtime/errors.ts';
import { isSerial } from '../model/consistency.ts';
import { JsonReader } from '../model/json-slices.ts';
import { type Etag, formatEtag } from '../model/record.ts';
import {
  plainSerial,
  type ReadReply,
  type SerialCondition,
  type SerialReply,
  type SerialRequest,
  type WriteReply,
} from '../replication/protocol.ts';
import {
  casAnswer,
  deleteAnswer,
  incrementAnswer,
  putAnswer,
  ttlAnswer,
  unmetAnswer,
} from './http-answers.ts';
import {
  checkValue,
  type GatewayLimits,
  parsePut,
  type Terms,
  type ValueToPut,
} from './http-requests.ts';
import { problemAnswer } from './http-routes.ts';
import type { HttpAnswer, HttpRequest } from './protocol.ts';

/** What is to be run, and how its reply is shown. */
export interface SerialExchange {
  readonly request: SerialRequest;
  readonly render: (reply: SerialReply) => HttpAnswer;
}

export type KeyPlace = { readonly namespace: number; readonly key: Uint8Array };

const requestIdBytesMax = 64;

function refuse(field: string, expected: string): never {
  throw new KvError('BAD_REQUEST', { field, detail: `${field}: expected ${expected}` });
}

function basis({ headers }: HttpRequest, at: KeyPlace): Omit<SerialRequest, 'verb'> {
  const requestId = headers['x-request-id'] ?? '';
  if (utf8.encode(requestId).length > requestIdBytesMax)
    refuse('X-Request-Id', `at most ${requestIdBytesMax} bytes`);
  return { ...plainSerial, ...at, requestId };
}

// ---- reads, puts and deletes -----------------------------------------------------------------

export const serialRead = (at: KeyPlace): SerialRequest => ({
  ...plainSerial,
  ...at,
  verb: 'read',
});

/** Whoever does not ask to know sends nothing of it. */
export const explained = (request: SerialRequest, explain: boolean): SerialRequest =>
  explain ? { ...request, explain } : request;

/** A write of a batch or of a single put; undefined where a plain write does. */
export function serialWrite(
  request: HttpRequest,
  at: KeyPlace,
  operation: Pick<ValueToPut, 'value' | 'valueType' | 'ttlMs' | 'ifNotExists'> | undefined,
  { level }: Pick<Terms, 'level'>,
): SerialRequest | undefined {
  const condition =
    operation?.ifNotExists === true ? { kind: 'absent' as const } : conditionOf(request);
  if (condition.kind === 'none' && !isSerial(level)) return undefined;
  const common = { ...basis(request, at), condition };
  if (operation === undefined) return { ...common, verb: 'delete' };
  const { value, valueType, ttlMs } = operation;
  return { ...common, verb: 'write', value, valueType, ttlMs };
}

/** A put that needs a decision; the operation alone where a plain write does. */
export function preparePut(
  request: HttpRequest,
  at: KeyPlace,
  terms: Terms,
  limits: GatewayLimits,
): { readonly operation: ValueToPut; readonly serial: SerialExchange | undefined } {
  const operation = parsePut(request, limits);
  const serial = serialWrite(request, at, operation, terms);
  if (serial === undefined) return { operation, serial };
  const render = (reply: SerialReply): HttpAnswer =>
    reply.isApplied ? putAnswer(at.key, asWritten(reply)) : unmet(reply);
  return { operation, serial: { request: serial, render } };
}

export function prepareDelete(
  request: HttpRequest,
  at: KeyPlace,
  terms: Terms,
): SerialExchange | undefined {
  const serial = serialWrite(request, at, undefined, terms);
  if (serial === undefined) return undefined;
  const render = (reply: SerialReply): HttpAnswer =>
    reply.isApplied ? deleteAnswer(at.key, asWritten(reply)) : unmet(reply);
  return { request: serial, render };
}

/** As the reply of a plain read. */
export function asRead(reply: SerialReply): ReadReply {
  const { record, hlc, writer, incarnation, nowMs, coordinator, explanation } = reply;
  return { record, hlc, writer, incarnation, nowMs, coordinator, explanation };
}

/** As the reply of a plain write. */
export function asWritten(reply: SerialReply): WriteReply {
  const { version, hlc, writer, incarnation, expiresAt, before, coordinator, explanation } = reply;
  const etag = { hlc, writer, incarnation };
  const existed = before !== undefined;
  return { ...etag, version, expiresAt, existed, coordinator, explanation };
}

/** Why a conditional write of a batch was not done. */
export const unmetFailure = ({ version }: SerialReply): ReturnType<typeof failure> =>
  failure('CONFLICT', { version, detail: 'the key is not as the condition asks' });

const unmet = (reply: SerialReply): HttpAnswer => problemAnswer(unmetFailure(reply));

const etagForm = /^(?:W\/)?"([0-9a-z]{1,11})-([0-9a-z]{1,7})-([0-9a-z]{1,7})"$/;

/** If-Match and If-None-Match of a write (RFC 9110, 13.1). */
function conditionOf({ headers }: HttpRequest): SerialCondition {
  const match = headers['if-match']?.trim();
  const noneMatch = headers['if-none-match']?.trim();
  if (match !== undefined && noneMatch !== undefined)
    refuse('If-Match', 'it or If-None-Match, not both');
  if (noneMatch !== undefined) {
    if (noneMatch !== '*') refuse('If-None-Match', '* on a write');
    return { kind: 'absent' };
  }
  if (match === undefined) return plainSerial.condition;
  if (match === '*') return { kind: 'exists' };
  return { kind: 'etag', etag: etagOf(match, 'If-Match') };
}

function etagOf(text: string, field: string): Etag {
  const [, hlc = '', writer = '', incarnation = ''] = etagForm.exec(text) ?? [];
  const etag = {
    hlc: Number.parseInt(hlc, 36),
    writer: Number.parseInt(writer, 36),
    incarnation: Number.parseInt(incarnation, 36),
  };
  if (!Number.isSafeInteger(etag.hlc) || `"${formatEtag(etag)}"` !== text.replace(/^W\//, ''))
    return refuse(field, 'an etag as an answer gave it, in double quotes');
  return etag;
}

// ---- compare-and-set -------------------------------------------------------------------------

interface CasMembers {
  condition?: SerialCondition;
  value?: Uint8Array;
  ttlSeconds?: unknown;
}

export function prepareCas(
  request: HttpRequest,
  at: KeyPlace,
  limits: GatewayLimits,
): SerialExchange {
  const members: CasMembers = {};
  readObject(request, (reader, name) => readCasMember(request, reader, name, members));
  const { condition, value } = members;
  if (condition === undefined)
    return refuse('expected_version', 'one of expected_version, expected_value, expected_etag');
  if (value === undefined) return refuse('new_value', 'any JSON value');
  checkValue(value, limits, 'new_value');
  const ttlMs = ttlOf(members.ttlSeconds, 'ttl', limits);
  const serial: SerialRequest = { ...basis(request, at), verb: 'write', value, ttlMs, condition };
  return {
    request: serial,
    render: (reply) => (reply.isApplied ? casAnswer(reply) : unmetAnswer(reply)),
  };
}

function readCasMember(
  { body }: HttpRequest,
  reader: JsonReader,
  name: string,
  members: CasMembers,
): void {
  if (name === 'new_value') {
    const { start, end } = reader.skip();
    members.value = body.subarray(start, end);
    return;
  }
  if (name === 'ttl') {
    members.ttlSeconds = reader.value();
    return;
  }
  if (!name.startsWith('expected_') || members.condition !== undefined)
    refuse(
      name,
      'new_value, ttl and exactly one of expected_version, expected_value, expected_etag',
    );
  members.condition = expectationOf(body, reader, name);
}

function expectationOf(body: Uint8Array, reader: JsonReader, name: string): SerialCondition {
  if (name === 'expected_value') {
    const { start, end } = reader.skip();
    return { kind: 'value', value: body.subarray(start, end) };
  }
  const expected = reader.value();
  if (name === 'expected_version') {
    if (!Number.isSafeInteger(expected) || (expected as number) < 0)
      refuse(name, 'a version: a whole number, 0 for a key that is not there');
    return { kind: 'version', version: expected as number };
  }
  if (name !== 'expected_etag' || typeof expected !== 'string')
    return refuse(name, 'expected_version, expected_value or expected_etag');
  return {
    kind: 'etag',
    etag: etagOf(expected.startsWith('"') ? expected : `"${expected}"`, name),
  };
}

// ---- counters and times to live --------------------------------------------------------------

export function prepareIncrement(request: HttpRequest, at: KeyPlace): SerialExchange {
  let delta: unknown = 1;
  readObject(request, (reader, name) => {
    if (name !== 'delta') refuse(name, 'the member delta');
    delta = reader.value();
  });
  if (!Number.isSafeInteger(delta)) refuse('delta', 'a whole number within 2^53 - 1');
  const common = { ...basis(request, at), verb: 'increment' as const, keepTtl: true };
  return {
    request: { ...common, delta: delta as number },
    render: (reply) => incrementAnswer(at.key, reply),
  };
}

export function prepareTtl(
  request: HttpRequest,
  at: KeyPlace,
  limits: GatewayLimits,
): SerialExchange {
  let seconds: unknown;
  readObject(request, (reader, name) => {
    if (name !== 'ttl_seconds') refuse(name, 'the member ttl_seconds');
    seconds = reader.value();
  });
  const ttlMs = seconds === 0 ? 0 : ttlOf(seconds ?? '', 'ttl_seconds', limits, 0);
  return {
    request: { ...basis(request, at), verb: 'expire', ttlMs },
    render: (reply) =>
      reply.isApplied
        ? ttlAnswer(at.key, reply)
        : problemAnswer(failure('NOT_FOUND', { detail: 'there is no such key' })),
  };
}

/** `least`: what the refusal names, where 0 has a meaning of its own. */
function ttlOf(value: unknown, field: string, { ttlSecondsMax }: GatewayLimits, least = 1): number {
  if (value === undefined) return 0;
  if (!Number.isInteger(value) || (value as number) < 1 || (value as number) > ttlSecondsMax) {
    const never = least === 0 ? ', 0 for never' : '';
    refuse(field, `a whole number of seconds from ${least} to ${ttlSecondsMax}${never}`);
  }
  return (value as number) * 1000;
}

function readObject(
  { headers, body }: HttpRequest,
  onMember: (reader: JsonReader, name: string) => void,
): void {
  const [type = ''] = (headers['content-type'] ?? '').split(';', 1);
  if (type.trim().toLowerCase() !== 'application/json')
    throw new KvError('UNSUPPORTED_MEDIA_TYPE', {
      detail: `content-type: expected application/json, found ${type === '' ? 'none' : type}`,
    });
  const reader = new JsonReader(body);
  reader.object((name) => onMember(reader, name));
  reader.end();
}
