// Requests about keys as the client library sends them: paths, headers, bodies, the token of a
// session, and what may be sent again.
//
// A plain write is not repeated after a lost answer: it could overwrite what somebody else has
// written in between. A serial operation carries a request id, with which it is done once however
// often it arrives (rules ID-2 and ID-3), so it is repeated like a read.

import type { CallOptions, PutOptions, Value, WriteOptions } from './client-types.ts';
import type { Call, ClusterCalls } from './cluster-calls.ts';
import { type ClientAnswer, ClientError } from './http-exchange.ts';
import { badRequest, checkedPath, jsonText, limitsOf } from './given.ts';
import { type Key, shownKey } from './keys.ts';

export interface WriteContent {
  readonly query: Readonly<Record<string, string | number>>;
  readonly type: string;
  readonly body: Uint8Array;
}

export class KeyRequests {
  readonly #calls: ClusterCalls;
  readonly #isSession: boolean;
  readonly #namespace: string | undefined;
  #token = '';

  /** `namespace`: undefined for `default`. */
  constructor(calls: ClusterCalls, isSession: boolean, namespace: string | undefined) {
    this.#calls = calls;
    this.#isSession = isSession;
    this.#namespace = namespace;
  }

  /** A read; `key` says whose replica is asked. */
  request(method: 'GET' | 'HEAD', path: string, key: Key | undefined, options: CallOptions): Call {
    const headers = this.headers(options);
    return { method, path, key, headers, isIdempotent: true, isWrite: false, ...limitsOf(options) };
  }

  read(
    key: Key,
    options: CallOptions,
    headers: Readonly<Record<string, string>>,
  ): Promise<ClientAnswer | undefined> {
    const request = this.request('GET', checkedPath(key), key, options);
    return this.found({ ...request, headers: { ...request.headers, ...headers } });
  }

  /** The same; BAD_REQUEST where several values stand beside each other. */
  async readOne(...request: Parameters<KeyRequests['read']>): Promise<ClientAnswer | undefined> {
    const answer = await this.read(...request);
    if (answer?.status === 300)
      throw badRequest(`${shownKey(request[0])} has several values: read them with siblings()`);
    return answer;
  }

  /** Undefined where the answer is that there is no such key. */
  found(request: Call): Promise<ClientAnswer | undefined> {
    return unless('NOT_FOUND', this.send(request));
  }

  write(
    method: 'PUT' | 'DELETE',
    key: Key,
    options: PutOptions,
    content: WriteContent | undefined,
  ): Promise<ClientAnswer> {
    const type = content === undefined ? {} : { 'content-type': content.type };
    const conditions = conditionsOf(options);
    const isSerial = Object.keys(conditions).length > 0 || isSerialLevel(options.level);
    const { requestId = isSerial ? this.#calls.newId() : undefined, context = '' } = options;
    const id = requestId === undefined ? {} : { 'x-request-id': requestId };
    const seen = context === '' ? {} : { 'x-causal-context': context };
    return this.send({
      method,
      path: checkedPath(key, { query: content?.query ?? {} }),
      key,
      headers: this.headers(options, { ...type, ...conditions, ...id, ...seen }),
      ...(content === undefined ? {} : { body: content.body }),
      isIdempotent: isSerial,
      isWrite: true,
      ...limitsOf(options),
    });
  }

  /** A serial operation of its own path: `cas`, `incr` or `ttl`. */
  decide(
    key: Key,
    verb: 'cas' | 'incr' | 'ttl',
    body: string,
    options: CallOptions & { readonly requestId?: string },
  ): Promise<ClientAnswer> {
    const { requestId = this.#calls.newId() } = options;
    return this.send({
      method: 'POST',
      path: checkedPath(key, { verb }),
      key,
      headers: this.headers(options, {
        'content-type': 'application/json',
        'x-request-id': requestId,
      }),
      body: Buffer.from(body),
      isIdempotent: true,
      isWrite: true,
      ...limitsOf(options),
    });
  }

  /** Many keys in one request; `isSerial`: each operation of it is decided. */
  batch(
    verb: 'put' | 'get' | 'delete',
    body: string,
    options: CallOptions,
    isSerial: boolean,
  ): Promise<ClientAnswer> {
    const isWrite = verb !== 'get';
    const id = isWrite && isSerial ? { 'x-request-id': this.#calls.newId() } : {};
    return this.send({
      method: 'POST',
      path: `/api/v1/batch/${verb}`,
      headers: this.headers(options, { 'content-type': 'application/json', ...id }),
      body: Buffer.from(body),
      isIdempotent: !isWrite || isSerial,
      isWrite,
      ...limitsOf(options),
    });
  }

  headers(
    { level }: CallOptions,
    more: Readonly<Record<string, string>> = {},
  ): Record<string, string> {
    return {
      ...more,
      ...namespaceHeader(this.#namespace),
      ...(level === undefined ? {} : { 'consistency-level': level }),
      ...(this.#token === '' ? {} : { 'x-session-token': this.#token }),
    };
  }

  async send(call: Call): Promise<ClientAnswer> {
    // Which nodes hold a key depends on the number of its namespace, which only they know.
    const { key, ...rest } = call;
    const isPlaced = this.#namespace === undefined && key !== undefined;
    const answer = await this.#calls.call(isPlaced ? call : rest);
    const token = headerOf(answer, 'x-session-token');
    if (this.#isSession && token !== undefined) this.#token = token;
    return answer;
  }
}

export const namespaceHeader = (namespace: string | undefined): Record<string, string> =>
  namespace === undefined ? {} : { 'x-namespace': namespace };

/** As the nodes read it: case does not matter. */
export const isSerialLevel = (level: string | undefined): boolean =>
  /^\s*(local_)?serial\s*$/i.test(level ?? '');

function conditionsOf({
  ifNotExists,
  ifExists,
  ifMatch,
}: PutOptions & WriteOptions): Record<string, string> {
  const given = [ifNotExists === true, ifExists === true, ifMatch !== undefined];
  if (given.filter(Boolean).length > 1)
    throw badRequest('one of ifNotExists, ifExists and ifMatch, not several');
  if (ifNotExists === true) return { 'if-none-match': '*' };
  if (ifExists === true) return { 'if-match': '*' };
  return ifMatch === undefined ? {} : { 'if-match': `"${ifMatch.replaceAll('"', '')}"` };
}

/** Undefined where the call fails with exactly this code. */
export async function unless<T>(code: string, answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof ClientError && error.code === code && !error.isOutcomeUnknown)
      return undefined;
    throw error;
  }
}

// ---- forms -----------------------------------------------------------------------------------

export function putText(value: Value, ttlSeconds: number | undefined): string {
  const ttl = ttlSeconds === undefined ? '' : `,"ttl":${JSON.stringify(ttlSeconds)}`;
  if (value instanceof Uint8Array) {
    const text = Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64');
    return `{"value":"${text}","encoding":"base64"${ttl}}`;
  }
  return `{"value":${jsonText(value, 'value')}${ttl}}`;
}

export const valueOf = (value: unknown, encoding: string | undefined): unknown =>
  encoding === 'base64' && typeof value === 'string' ? Buffer.from(value, 'base64') : value;

export const parse = <T>({ body }: ClientAnswer): T => JSON.parse(body.toString()) as T;

export function headerOf({ headers }: ClientAnswer, name: string): string | undefined {
  const value = headers[name];
  return typeof value === 'string' ? value : undefined;
}

export const etagOf = (answer: ClientAnswer): string =>
  (headerOf(answer, 'etag') ?? '').replaceAll('"', '');
