// Events of a watch as the text of a stream of server-sent events (WHATWG HTML, 9.2). A stored JSON
// text goes out as it is; its line breaks, which only stand between tokens, part it into several
// `data:` lines, which a reader joins again.

import { noBytes, utf8 } from '../../runtime/bytes.ts';
import type { Failure } from '../../runtime/errors.ts';
import {
  formatEtag,
  recordEtag,
  recordExpiresAt,
  recordHlc,
  recordIsTombstone,
  recordUserKey,
  recordVersion,
} from '../model/record.ts';
import { problemAnswer } from './http-routes.ts';
import { joined, keyText, millis, type Part, recordParts, ttlRemaining } from './http-answers.ts';

const lineFeed = 0x0a;
const carriageReturn = 0x0d;
/** The first byte of `id: `. */
const idStart = 0x69;
const dataField = utf8.encode('\ndata: ');

/** A put or a delete; `nowMs` counts for the time to live that is left. */
export function changeEvent(record: Uint8Array, withValues: boolean, nowMs: number): Uint8Array {
  if (recordIsTombstone(record)) return event('delete', figures(record));
  const expiresAt = recordExpiresAt(record);
  const expiry = expiresAt === 0 ? [] : [`,"expires_at":${expiresAt}`];
  const ttl = ttlRemaining(record, nowMs);
  const left = ttl === undefined ? '' : `,"ttl_remaining":${ttl}`;
  const parts = withValues
    ? [
        '{',
        `"key":${keyOf(record)},`,
        etagOf(record),
        ...recordParts(record, nowMs),
        ...expiry,
        '}',
      ]
    : [...figures(record).slice(0, -1), left, ...expiry, '}'];
  return event('put', parts);
}

/** `record` without its value: its time to live is over. */
export const expiryEvent = (record: Uint8Array): Uint8Array => event('expire', figures(record));

/** Events after this one are whole again: nothing before it can be relied on. */
export const resetEvent = (reason: string): Uint8Array =>
  event('reset', [JSON.stringify({ reason })]);

/** The last one: the watch may not go on, for this reason. It is told as a problem document. */
export const endEvent = (problem: Failure): Uint8Array =>
  event('end', [problemAnswer(problem).body]);

/** The watch has begun: whatever is acknowledged from now on is told. */
export const readyEvent = (): Uint8Array => event('ready', ['{}']);

/**
 * Events with the place from which a watch goes on after them: it belongs to the last one, which may
 * have its own. Without events it is a sign of life.
 */
export function withId(events: readonly Uint8Array[], id: string): Uint8Array {
  const whole = events.filter(({ length }) => length > 0);
  const last = whole.pop() ?? utf8.encode('\n');
  const hasOwnId = last[0] === idStart;
  return joined([...whole, hasOwnId ? '' : `id: ${id}\n`, last]);
}

const keyOf = (record: Uint8Array): string => keyText(recordUserKey(record));
const etagOf = (record: Uint8Array): string => `"etag":"${formatEtag(recordEtag(record))}",`;

function figures(record: Uint8Array): Part[] {
  const version = `"version":${recordVersion(record)}`;
  const timestamp = `"timestamp":${millis(recordHlc(record))}`;
  return [`{"key":${keyOf(record)},`, etagOf(record), `${version},${timestamp}`, '}'];
}

function event(name: string, data: readonly Part[]): Uint8Array {
  return joined([`event: ${name}\ndata: `, onLines(joined(data)), '\n\n']);
}

function onLines(data: Uint8Array): Uint8Array {
  let start = 0;
  const parts: Part[] = [];
  for (let i = 0; i < data.length; i += 1) {
    if (data[i] !== lineFeed && data[i] !== carriageReturn) continue;
    parts.push(data.subarray(start, i), dataField);
    start = i + 1;
  }
  if (start === 0) return data;
  parts.push(start < data.length ? data.subarray(start) : noBytes);
  return joined(parts);
}
