// What a caller of the client library gives, checked before anything is sent: a program without
// types that misspells an option, or stores what JSON has no form for, is told so. Every refusal is a
// ClientError BAD_REQUEST that says what was expected.

import type { CallOptions, Expected, Value } from './client-types.ts';
import { ClientError } from './http-exchange.ts';
import { hasLoneSurrogate, type Key, keyPath } from './keys.ts';

export const badRequest = (detail: string): ClientError =>
  new ClientError('BAD_REQUEST', 0, detail, false);

// ---- options ---------------------------------------------------------------------------------

const call = ['level', 'deadlineMs', 'signal'];
const write = [...call, 'ifExists', 'ifMatch', 'requestId', 'context'];
const page = [...call, 'pageRows'];

/** The options of each call; those that share a row are checked in one place. */
const optionNames = {
  connect: [
    ...['namespace', 'deadlineMs', 'attemptMs', 'attemptsMax', 'connectionsMax', 'idleMs'],
    ...['hedgeAfterMs', 'refreshMs', 'headers', 'tls', 'token'],
  ],
  read: call,
  put: [...write, 'ttlSeconds', 'ifNotExists'],
  delete: write,
  cas: [...call, 'ttlSeconds', 'requestId'],
  decide: [...call, 'requestId'],
  batch: [...call, 'atomic'],
  operation: ['key', 'value', 'ttlSeconds', 'ifNotExists'],
  list: [...page, 'prefix'],
  scan: page,
  watch: ['prefix', 'values', 'after', 'signal'],
} as const satisfies Readonly<Record<string, readonly string[]>>;

/** BAD_REQUEST for a name that the call does not know: it would be ignored. */
export function checkOptions(of: keyof typeof optionNames, options: unknown): void {
  if (typeof options !== 'object' || options === null)
    throw badRequest(`options: expected an object, found ${nameOf(options)}`);
  const known: readonly string[] = optionNames[of];
  const unknown = Object.keys(options).find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw badRequest(`${unknown}: expected one of the options ${known.join(', ')}`);
}

const deadlineMsMax = 2 ** 31 - 1;

/** How long a call may take, and what ends it. */
export function limitsOf({ deadlineMs, signal }: CallOptions): {
  readonly deadlineMs: number | undefined;
  readonly signal: AbortSignal | undefined;
} {
  if (deadlineMs !== undefined) checkNumber('deadlineMs', deadlineMs, deadlineMsMax);
  return { deadlineMs, signal };
}

/** Of numbers from 1 on. */
export function checkNumber(name: string, value: unknown, max: number): void {
  if (typeof value === 'number' && value >= 1 && value <= max) return;
  throw badRequest(`${name}: expected a number from 1 to ${max}, found ${String(value)}`);
}

export function checkExpected(expected: Expected): void {
  if (typeof expected !== 'object' || (expected as unknown) === null)
    throw badRequest(
      `cas: expected exactly one of version, etag and value, found ${nameOf(expected)}`,
    );
}

// ---- keys and values -------------------------------------------------------------------------

export function checkKey(key: unknown): void {
  if (typeof key !== 'string' && !(key instanceof Uint8Array))
    throw badRequest(`key: expected a string or a Uint8Array, found ${nameOf(key)}`);
  if (key.length === 0) throw badRequest('key: expected at least one byte');
  if (hasLoneSurrogate(key)) throw badRequest('key: expected no lone surrogates');
}

export function checkedPath(key: Key, more?: Parameters<typeof keyPath>[1]): string {
  checkKey(key);
  return keyPath(key, more);
}

/** Undefined for what JSON leaves out: `undefined`, functions, symbols. */
const toJson: (value: unknown) => string | undefined = JSON.stringify;
/** What JSON makes of values that it has no form for, somewhere in a text. */
const suspect = /null|\{\}|\{"0":/;

/** BAD_REQUEST where it is no JSON value, or JSON would make another one of it. */
export function jsonText(value: Value, name: string): string {
  let text: string | undefined;
  try {
    text = toJson(value);
    // A second look costs; most values need none.
    if (text !== undefined && suspect.test(text)) JSON.stringify(value, refuseLost);
  } catch (error) {
    throw badRequest(`${name}: expected a JSON value or a Uint8Array: ${(error as Error).message}`);
  }
  if (text === undefined)
    throw badRequest(`${name}: expected a JSON value or a Uint8Array, found ${nameOf(value)}`);
  return text;
}

function refuseLost(_name: string, value: unknown): unknown {
  const isLost =
    (typeof value === 'number' && !Number.isFinite(value)) ||
    ArrayBuffer.isView(value) ||
    value instanceof ArrayBuffer ||
    value instanceof Map ||
    value instanceof Set;
  if (isLost) throw new Error(`${nameOf(value)} has no form in JSON`);
  return value;
}

function nameOf(value: unknown): string {
  if (typeof value === 'number') return String(value);
  if (typeof value !== 'object' || value === null) return value === null ? 'null' : typeof value;
  return (
    (value as { readonly constructor?: { readonly name: string } }).constructor?.name ?? 'object'
  );
}
