// Answers put together as bytes: a stored JSON text goes into the document as it is, never parsed
// and printed again, so numbers and key order leave as they came. Raw bytes travel as base64 in
// JSON, or as they are with their figures in headers when the client accepts octet-stream.

import { concatBytes, noBytes, utf8 } from '../../runtime/bytes.ts';
import { describeFailure, errorTable, type Failure } from '../../runtime/errors.ts';
import {
  type Etag,
  formatEtag,
  recordEtag,
  recordExpiresAt,
  recordHlc,
  recordUserKey,
  recordValue,
  recordValueLength,
  recordValueType,
  recordVersion,
  valueTypes,
} from '../model/record.ts';
import type { ReadReply, SerialReply, WriteReply } from '../replication/protocol.ts';
import { encodeBase64 } from './base64.ts';
import { type CursorScope, type CursorSeal, encodeCursor } from './cursor.ts';
import type { HttpAnswer } from './protocol.ts';

export type Part = string | Uint8Array;

/** Outcome of one operation of a batch. */
export type Outcome<Reply> = { readonly failure: Failure } | { readonly reply: Reply };

export const jsonHeaders = { 'content-type': 'application/json' };

export function jsonAnswer(value: unknown, status = 200): HttpAnswer {
  return { status, headers: jsonHeaders, body: utf8.encode(JSON.stringify(value)) };
}

export function textAnswer(text: string, contentType: string): HttpAnswer {
  return { status: 200, headers: { 'content-type': contentType }, body: utf8.encode(text) };
}

export const joined = (parts: readonly Part[]): Uint8Array =>
  concatBytes(parts.map((part) => (typeof part === 'string' ? utf8.encode(part) : part)));

/** A key as JSON text; one that is no UTF-8 (it came by another door) as {"base64": ...}. */
export function keyText(key: Uint8Array): string {
  const text = utf8.decodeStrict(key);
  return JSON.stringify(text ?? { base64: utf8.decode(encodeBase64(key)) });
}

export const millis = (hlc: number): number => Math.floor(hlc / 1000);
export const etagHeader = (etag: Etag): string => `"${formatEtag(etag)}"`;

/** Whole seconds left, rounded up, 0 where it is over; undefined where the record never expires. */
export function ttlRemaining(record: Uint8Array, nowMs: number): number | undefined {
  const expiresAt = recordExpiresAt(record);
  return expiresAt === 0 ? undefined : Math.max(0, Math.ceil((expiresAt - nowMs) / 1000));
}

/** `"value":...,"version":...` and the rest of a live record, without braces. */
export function recordParts(record: Uint8Array, nowMs: number): Part[] {
  const isJson = recordValueType(record) === valueTypes.json;
  const value = recordValue(record);
  const ttl = ttlRemaining(record, nowMs);
  const figures = `"version":${recordVersion(record)},"timestamp":${millis(recordHlc(record))}`;
  const rest = ttl === undefined ? figures : `${figures},"ttl_remaining":${ttl}`;
  return isJson
    ? ['"value":', value, `,${rest}`]
    : ['"value":"', encodeBase64(value), `","encoding":"base64",${rest}`];
}

// ---- one key -------------------------------------------------------------------------------

export function putAnswer(key: Uint8Array, reply: WriteReply): HttpAnswer {
  const { version, hlc } = reply;
  const text = `{"key":${keyText(key)},"version":${version},"timestamp":${millis(hlc)},"status":"success"}`;
  return {
    status: 200,
    headers: { ...jsonHeaders, etag: etagHeader(reply) },
    body: utf8.encode(text),
  };
}

export function deleteAnswer(key: Uint8Array, reply: WriteReply): HttpAnswer {
  const text = `{"key":${keyText(key)},"deleted":${reply.existed},"version":${reply.version}}`;
  return {
    status: 200,
    headers: { ...jsonHeaders, etag: etagHeader(reply) },
    body: utf8.encode(text),
  };
}

export function getAnswer(key: Uint8Array, record: Uint8Array, nowMs: number): HttpAnswer {
  const body = joined([`{"key":${keyText(key)},`, ...recordParts(record, nowMs), '}']);
  return { status: 200, headers: { ...jsonHeaders, etag: etagHeader(recordEtag(record)) }, body };
}

/** The value itself: for JSON its text, for bytes the bytes. */
export function rawAnswer(record: Uint8Array, nowMs: number): HttpAnswer {
  const headers = { 'content-type': 'application/octet-stream', ...figureHeaders(record, nowMs) };
  return { status: 200, headers, body: recordValue(record) };
}

export function headAnswer(record: Uint8Array, nowMs: number): HttpAnswer {
  return { status: 200, headers: figureHeaders(record, nowMs), body: new Uint8Array(0) };
}

/** The client has this very record: its figures, no body. */
export function unchangedAnswer(record: Uint8Array, nowMs: number): HttpAnswer {
  return { status: 304, headers: figureHeaders(record, nowMs), body: noBytes };
}

function figureHeaders(record: Uint8Array, nowMs: number): Record<string, string> {
  const ttl = ttlRemaining(record, nowMs);
  return {
    etag: etagHeader(recordEtag(record)),
    'x-version': String(recordVersion(record)),
    'x-timestamp': String(millis(recordHlc(record))),
    'x-value-type': recordValueType(record) === valueTypes.json ? 'json' : 'bytes',
    ...(ttl === undefined ? {} : { 'x-ttl-remaining': String(ttl) }),
  };
}

// ---- decided operations --------------------------------------------------------------------

/** The new version of a compare-and-set that was done. */
export function casAnswer(reply: SerialReply): HttpAnswer {
  const body = utf8.encode(`{"success":true,"new_version":${reply.version}}`);
  return { status: 200, headers: { ...jsonHeaders, etag: etagHeader(reply) }, body };
}

/** One that was not done: what is there instead, null for nothing. */
export function unmetAnswer({ record, nowMs }: SerialReply): HttpAnswer {
  const current = record === undefined ? ['null'] : ['{', ...recordParts(record, nowMs), '}'];
  const title = JSON.stringify(errorTable.CONFLICT.title);
  const problem = `"type":"urn:kvd:problem:conflict","title":${title},"status":409,"code":"CONFLICT","detail":"the key is not as expected"`;
  const body = joined([`{"success":false,"current":`, ...current, `,${problem}}`]);
  const etag = record === undefined ? {} : { etag: etagHeader(recordEtag(record)) };
  return { status: 409, headers: { 'content-type': 'application/problem+json', ...etag }, body };
}

export function incrementAnswer(key: Uint8Array, reply: SerialReply): HttpAnswer {
  const { number = 0, version } = reply;
  const text = `{"key":${keyText(key)},"value":${number},"version":${version}}`;
  const headers = { ...jsonHeaders, etag: etagHeader(reply) };
  return { status: 200, headers, body: utf8.encode(text) };
}

export function ttlAnswer(key: Uint8Array, reply: SerialReply): HttpAnswer {
  const { record, nowMs, version } = reply;
  const ttl = record === undefined ? undefined : ttlRemaining(record, nowMs);
  const text = `{"key":${keyText(key)},"ttl_remaining":${ttl ?? null},"version":${version}}`;
  const headers = { ...jsonHeaders, etag: etagHeader(reply) };
  return { status: 200, headers, body: utf8.encode(text) };
}

// ---- batches -------------------------------------------------------------------------------

function errorText(failure: Failure): string {
  return JSON.stringify({ code: failure.code, detail: describeFailure(failure) });
}

/** Answer of a batch of puts or deletes, in the order asked. */
export function batchWriteAnswer(
  keys: readonly Uint8Array[],
  outcomes: readonly Outcome<WriteReply>[],
  isDelete: boolean,
): HttpAnswer {
  const failed: string[] = [];
  const results = outcomes.map((outcome, i) => {
    const key = keyText(keys[i] as Uint8Array);
    if ('failure' in outcome) {
      failed.push(key);
      return `{"key":${key},"error":${errorText(outcome.failure)}}`;
    }
    const { version, existed } = outcome.reply;
    return `{"key":${key},${isDelete ? `"deleted":${existed},` : ''}"version":${version}}`;
  });
  const text = `{"success_count":${outcomes.length - failed.length},"failed_keys":[${failed.join(',')}],"results":[${results.join(',')}]}`;
  return { status: 200, headers: jsonHeaders, body: utf8.encode(text) };
}

/**
 * Answer of a batch of gets, in the order asked. Values are given until `bytesMax` of them; a key
 * beyond that carries TOO_LARGE: ask for it again in a smaller batch.
 */
export function batchGetAnswer(
  keys: readonly Uint8Array[],
  outcomes: readonly Outcome<ReadReply>[],
  bytesMax: number,
): HttpAnswer {
  const parts: Part[] = ['{"results":['];
  let bytes = 0;
  outcomes.forEach((outcome, i) => {
    parts.push(`${i === 0 ? '' : ','}{"key":${keyText(keys[i] as Uint8Array)},`);
    const record = 'reply' in outcome ? outcome.reply.record : undefined;
    bytes += record === undefined ? 0 : recordValueLength(record);
    if ('failure' in outcome) parts.push(`"found":false,"error":${errorText(outcome.failure)}}`);
    else if (record === undefined) parts.push('"found":false}');
    else if (bytes > bytesMax) {
      const detail = `the values of this batch are over ${bytesMax} bytes; ask for fewer keys`;
      parts.push(`"found":true,"error":${errorText({ code: 'TOO_LARGE', fields: { detail } })}}`);
    } else parts.push(...recordParts(record, outcome.reply.nowMs), ',"found":true}');
  });
  parts.push(']}');
  return { status: 200, headers: jsonHeaders, body: joined(parts) };
}

// ---- pages ---------------------------------------------------------------------------------

export interface Page {
  /** Live records in key order. */
  readonly records: readonly Uint8Array[];
  /** The last key given out, where there is more. */
  readonly next: Uint8Array | undefined;
  readonly nowMs: number;
  readonly withValues: boolean;
}

/** `keys` always; with values also `items`, one object per key with all that a get answers. */
export function pageAnswer(
  { records, next, nowMs, withValues }: Page,
  scope: CursorScope,
  seal: CursorSeal,
): HttpAnswer {
  const keys = records.map((record) => keyText(recordUserKey(record)));
  const parts: Part[] = [`{"keys":[${keys.join(',')}]`];
  if (withValues) {
    parts.push(',"items":[');
    records.forEach((record, i) => {
      parts.push(`${i === 0 ? '' : ','}{"key":${keys[i] as string},`);
      parts.push(...recordParts(record, nowMs), '}');
    });
    parts.push(']');
  }
  const cursor = next === undefined ? 'null' : `"${encodeCursor(scope, next, seal)}"`;
  const isDone = next === undefined;
  parts.push(
    scope.kind === 'list'
      ? `,"cursor":${cursor},"has_more":${!isDone}}`
      : `,"next_cursor":${cursor},"done":${isDone}}`,
  );
  return { status: 200, headers: jsonHeaders, body: joined(parts) };
}
