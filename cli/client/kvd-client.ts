// The client library, `kvd/client`: keys and values of a cluster with types, sessions, deadlines,
// aborts and iterators. How requests find their node is the business of cluster-calls.ts.
//
//   const kvd = await connect(['http://127.0.0.1:7000']);
//   await kvd.put('user:1', { name: 'Ada' }, { ttlSeconds: 60 });
//   const entry = await kvd.get('user:1');
//
// Every failure is a ClientError: `code` is a word of docs/errors.md, or UNREACHABLE where no node
// could be reached, and `isOutcomeUnknown` says that a write may or may not have happened.

import { type Call, ClusterCalls, type ClusterOptions } from './cluster-calls.ts';
import { type ClientAnswer, ClientError } from './http-exchange.ts';
import { keyPath } from './key-path.ts';
import { parsePage } from './pages.ts';

export { ClientError } from './http-exchange.ts';
export type { ClusterOptions } from './cluster-calls.ts';

/** Any JSON value, or bytes as they are. */
export type Value = unknown;

export interface CallOptions {
  /** A level of docs/consistency.md; default: that of the cluster. */
  readonly level?: string;
  /** Over all attempts, milliseconds. */
  readonly deadlineMs?: number;
  readonly signal?: AbortSignal;
}

export interface PutOptions extends CallOptions {
  /** Whole seconds, 1 or more; default: never expires. */
  readonly ttlSeconds?: number;
}

export interface Written {
  readonly version: number;
  readonly etag: string;
  /** Milliseconds since 1970. */
  readonly timestamp: number;
}

export interface Entry<V = Value> {
  /** Bytes where bytes were put, else the JSON value. */
  readonly value: V;
  readonly version: number;
  readonly etag: string;
  readonly timestamp: number;
  /** Whole seconds left; undefined: never expires. */
  readonly ttlRemaining: number | undefined;
}

/** A stored value as its bytes: JSON text exactly as it was put, or the bytes. */
export interface RawEntry extends Omit<Entry, 'value'> {
  readonly bytes: Buffer;
  readonly isJson: boolean;
}

/** One operation of a batch: its outcome, or why there is none. */
export type Outcome<T> =
  | { readonly key: string; readonly ok: true; readonly result: T }
  | { readonly key: string; readonly ok: false; readonly error: ClientError };

export interface PutOperation {
  readonly key: string;
  readonly value: Value;
  readonly ttlSeconds?: number;
}

export interface ListOptions extends CallOptions {
  readonly prefix?: string;
  /** Keys asked for at a time, 1 to 1,000. Default 100. */
  readonly pageRows?: number;
}

export interface ListedEntry {
  readonly key: string;
  readonly value: Value;
  readonly version: number;
  readonly ttlRemaining: number | undefined;
}

/** Connects to a cluster through any of its nodes. UNREACHABLE where none of them answers. */
export async function connect(
  endpoints: string | readonly string[],
  options: Omit<ClusterOptions, 'endpoints'> = {},
): Promise<KvdClient> {
  const list = typeof endpoints === 'string' ? [endpoints] : endpoints;
  const calls = new ClusterCalls({ ...options, endpoints: list });
  try {
    await calls.connect();
  } catch (error) {
    calls.close();
    throw error;
  }
  return new KvdClient(calls);
}

/** Operations on keys, alone or within a session. */
export class Keys {
  readonly #calls: ClusterCalls;
  readonly #isSession: boolean;
  #token = '';

  constructor(calls: ClusterCalls, isSession: boolean) {
    this.#calls = calls;
    this.#isSession = isSession;
  }

  /** Writes a value: a Uint8Array as bytes, anything else as JSON. */
  async put(key: string, value: Value, options: PutOptions = {}): Promise<Written> {
    const { ttlSeconds } = options;
    const answer = await (value instanceof Uint8Array
      ? this.#write('PUT', key, options, {
          query: ttlSeconds === undefined ? '' : `?ttl=${ttlSeconds}`,
          type: 'application/octet-stream',
          body: value,
        })
      : this.#write('PUT', key, options, {
          query: '',
          type: 'application/json',
          body: Buffer.from(putText(value, ttlSeconds)),
        }));
    const { version, timestamp } = parse<{ version: number; timestamp: number }>(answer);
    return { version, timestamp, etag: etagOf(answer) };
  }

  /** The live value; undefined where there is none. */
  async get<V = Value>(key: string, options: CallOptions = {}): Promise<Entry<V> | undefined> {
    const answer = await this.#read(key, options, {});
    if (answer === undefined) return undefined;
    const document = parse<GetDocument>(answer);
    const { version, timestamp } = document;
    const value = valueOf(document.value, document.encoding) as V;
    return {
      value,
      version,
      timestamp,
      etag: etagOf(answer),
      ttlRemaining: document.ttl_remaining,
    };
  }

  /** The same as stored, byte for byte: numbers beyond 2^53 and the order of members stay. */
  async getRaw(key: string, options: CallOptions = {}): Promise<RawEntry | undefined> {
    const answer = await this.#read(key, options, { accept: 'application/octet-stream' });
    if (answer === undefined) return undefined;
    const ttl = headerOf(answer, 'x-ttl-remaining');
    return {
      bytes: answer.body,
      isJson: headerOf(answer, 'x-value-type') === 'json',
      version: Number(headerOf(answer, 'x-version')),
      timestamp: Number(headerOf(answer, 'x-timestamp')),
      etag: etagOf(answer),
      ttlRemaining: ttl === undefined ? undefined : Number(ttl),
    };
  }

  /** True where a live value was deleted, as the coordinating replica saw it. */
  async delete(key: string, options: CallOptions = {}): Promise<boolean> {
    const answer = await this.#write('DELETE', key, options, undefined);
    return parse<{ deleted: boolean }>(answer).deleted;
  }

  async exists(key: string, options: CallOptions = {}): Promise<boolean> {
    return (await this.#found(this.#request('HEAD', checkedPath(key), key, options))) !== undefined;
  }

  // ---- batches -----------------------------------------------------------------------------

  /** Each operation by itself, in the order given; at most 1,000. */
  async putMany(
    operations: readonly PutOperation[],
    options: CallOptions = {},
  ): Promise<Outcome<{ readonly version: number }>[]> {
    const texts = operations.map(({ key, value, ttlSeconds }) => {
      const members = putText(value, ttlSeconds).slice(1);
      return `{"key":${JSON.stringify(key)},${members}`;
    });
    return this.#batch('put', `{"operations":[${texts.join(',')}]}`, options, ({ version }) => ({
      version: version as number,
    }));
  }

  /** In the order asked; undefined for a key that is not there. */
  async getMany<V = Value>(
    keys: readonly string[],
    options: CallOptions = {},
  ): Promise<Outcome<{ readonly value: V; readonly version: number } | undefined>[]> {
    return this.#batch('get', JSON.stringify({ keys }), options, (row) => {
      if (row.found !== true) return undefined;
      return { value: valueOf(row.value, row.encoding) as V, version: row.version as number };
    });
  }

  /** True for each key that was there. */
  async deleteMany(
    keys: readonly string[],
    options: CallOptions = {},
  ): Promise<Outcome<boolean>[]> {
    return this.#batch('delete', JSON.stringify({ keys }), options, (row) => row.deleted === true);
  }

  async #batch<T>(
    verb: 'put' | 'get' | 'delete',
    body: string,
    options: CallOptions,
    toResult: (row: BatchRow) => T,
  ): Promise<Outcome<T>[]> {
    const isWrite = verb !== 'get';
    const answer = await this.#send({
      method: 'POST',
      path: `/api/v1/batch/${verb}`,
      headers: this.#headers(options, { 'content-type': 'application/json' }),
      body: Buffer.from(body),
      // The same values once more; only versions differ.
      isIdempotent: !isWrite,
      isWrite,
      ...limitsOf(options),
    });
    return parse<{ results: BatchRow[] }>(answer).results.map((row): Outcome<T> => {
      const { key, error } = row;
      if (error === undefined) return { key, ok: true, result: toResult(row) };
      const isUnknown = error.code === 'TIMEOUT' || error.code === 'UNKNOWN_OUTCOME';
      const problem = new ClientError(error.code, 200, error.detail, isWrite && isUnknown);
      return { key, ok: false, error: problem };
    });
  }

  // ---- pages -------------------------------------------------------------------------------

  /** Keys in byte order, page by page as they are taken. */
  async *list(options: ListOptions = {}): AsyncGenerator<string> {
    for await (const { key } of this.#pages('keys', options, false)) yield key;
  }

  /** The same with values. */
  async *entries(options: ListOptions = {}): AsyncGenerator<ListedEntry> {
    for await (const item of this.#pages('keys', options, true)) {
      const { key, value, encoding, version, ttlRemaining } = item;
      const text: unknown = value === undefined ? undefined : JSON.parse(value.toString());
      yield { key, value: valueOf(text, encoding), version: version ?? 0, ttlRemaining };
    }
  }

  /** All keys, each that exists throughout exactly once. */
  async *scan(options: Omit<ListOptions, 'prefix'> = {}): AsyncGenerator<string> {
    for await (const { key } of this.#pages('scan', options, false)) yield key;
  }

  async *#pages(
    kind: 'keys' | 'scan',
    options: ListOptions,
    withValues: boolean,
  ): AsyncGenerator<ReturnType<typeof parsePage>['items'][number]> {
    const { prefix = '', pageRows = 100 } = options;
    let cursor: string | null = '';
    while (cursor !== null) {
      const rows = kind === 'keys' ? 'limit' : 'count';
      const query = new URLSearchParams({ [rows]: String(pageRows), values: String(withValues) });
      if (prefix !== '') query.set('prefix', prefix);
      if (cursor !== '') query.set('cursor', cursor);
      const path = `/api/v1/${kind}?${query.toString()}`;
      const page = parsePage(
        (await this.#send(this.#request('GET', path, undefined, options))).body,
      );
      yield* page.items;
      cursor = page.cursor;
    }
  }

  // ---- requests ----------------------------------------------------------------------------

  #headers(
    { level }: CallOptions,
    more: Readonly<Record<string, string>> = {},
  ): Record<string, string> {
    return {
      ...more,
      ...(level === undefined ? {} : { 'consistency-level': level }),
      ...(this.#token === '' ? {} : { 'x-session-token': this.#token }),
    };
  }

  #request(
    method: 'GET' | 'HEAD',
    path: string,
    key: string | undefined,
    options: CallOptions,
  ): Call {
    const headers = this.#headers(options);
    return { method, path, key, headers, isIdempotent: true, isWrite: false, ...limitsOf(options) };
  }

  #read(
    key: string,
    options: CallOptions,
    headers: Readonly<Record<string, string>>,
  ): Promise<ClientAnswer | undefined> {
    const request = this.#request('GET', checkedPath(key), key, options);
    return this.#found({ ...request, headers: { ...request.headers, ...headers } });
  }

  async #found(request: Call): Promise<ClientAnswer | undefined> {
    try {
      return await this.#send(request);
    } catch (error) {
      if (error instanceof ClientError && error.code === 'NOT_FOUND') return undefined;
      throw error;
    }
  }

  #write(
    method: 'PUT' | 'DELETE',
    key: string,
    options: CallOptions,
    content: { query: string; type: string; body: Uint8Array } | undefined,
  ): Promise<ClientAnswer> {
    const type = content === undefined ? {} : { 'content-type': content.type };
    return this.#send({
      method,
      path: `${checkedPath(key)}${content?.query ?? ''}`,
      key,
      headers: this.#headers(options, type),
      ...(content === undefined ? {} : { body: content.body }),
      // Sent again it could overwrite what somebody else has written in between.
      isIdempotent: false,
      isWrite: true,
      ...limitsOf(options),
    });
  }

  async #send(call: Call): Promise<ClientAnswer> {
    const answer = await this.#calls.call(call);
    const token = headerOf(answer, 'x-session-token');
    if (this.#isSession && token !== undefined) this.#token = token;
    return answer;
  }
}

export class KvdClient extends Keys {
  readonly #cluster: ClusterCalls;

  constructor(calls: ClusterCalls) {
    super(calls, false);
    this.#cluster = calls;
  }

  /**
   * A session: reads its own writes and never goes back, at any level and through any node. Calls
   * that run at the same time know nothing of each other.
   */
  session(): Keys {
    return new Keys(this.#cluster, true);
  }

  /** Calls so far, attempts beyond the first, reads that were sent to a second node. */
  get figures(): { readonly calls: number; readonly retries: number; readonly hedges: number } {
    return { ...this.#cluster.figures };
  }

  /** Closes the connections; calls under way fail. */
  close(): void {
    this.#cluster.close();
  }
}

interface GetDocument {
  readonly value: unknown;
  readonly encoding?: string;
  readonly version: number;
  readonly timestamp: number;
  readonly ttl_remaining?: number;
}

interface BatchRow {
  readonly key: string;
  readonly error?: { readonly code: string; readonly detail: string };
  readonly version?: number;
  readonly deleted?: boolean;
  readonly found?: boolean;
  readonly value?: unknown;
  readonly encoding?: string;
}

const loneSurrogate = /[\ud800-\udfff]/u;

function checkedPath(key: string): string {
  if (key === '') throw new ClientError('BAD_REQUEST', 0, 'key: expected at least one byte', false);
  if (loneSurrogate.test(key))
    throw new ClientError('BAD_REQUEST', 0, 'key: expected no lone surrogates', false);
  return keyPath(key);
}

function putText(value: Value, ttlSeconds: number | undefined): string {
  const ttl = ttlSeconds === undefined ? '' : `,"ttl":${JSON.stringify(ttlSeconds)}`;
  if (value instanceof Uint8Array) {
    const text = Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64');
    return `{"value":"${text}","encoding":"base64"${ttl}}`;
  }
  const text = JSON.stringify(value) as string | undefined;
  if (text === undefined)
    throw new ClientError('BAD_REQUEST', 0, 'value: expected a JSON value or bytes', false);
  return `{"value":${text}${ttl}}`;
}

const valueOf = (value: unknown, encoding: string | undefined): unknown =>
  encoding === 'base64' && typeof value === 'string' ? Buffer.from(value, 'base64') : value;

const parse = <T>({ body }: ClientAnswer): T => JSON.parse(body.toString()) as T;

function headerOf({ headers }: ClientAnswer, name: string): string | undefined {
  const value = headers[name];
  return typeof value === 'string' ? value : undefined;
}

const etagOf = (answer: ClientAnswer): string =>
  (headerOf(answer, 'etag') ?? '').replaceAll('"', '');

function limitsOf({ deadlineMs, signal }: CallOptions): Pick<Call, 'deadlineMs' | 'signal'> {
  return { deadlineMs, signal };
}
