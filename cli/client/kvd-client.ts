// The client library, `kvd/client`: keys and values of a cluster with types, sessions, deadlines,
// aborts and iterators. How requests find their node is the business of cluster-calls.ts.
//
//   const kvd = await connect(['http://127.0.0.1:7000']);
//   await kvd.put('user:1', { name: 'Ada' }, { ttlSeconds: 60 });
//   const entry = await kvd.get('user:1');
//
// Every failure is a ClientError: `code` is a word of docs/errors.md, or UNREACHABLE where no node
// could be reached, and `isOutcomeUnknown` says that a write may or may not have happened.

import type {
  BatchOptions,
  CallOptions,
  CasOptions,
  CasResult,
  Entry,
  Expected,
  ListedEntry,
  ListOptions,
  Outcome,
  PutOperation,
  PutOptions,
  RawEntry,
  Siblings,
  Value,
  WatchEvent,
  WatchOptions,
  WriteOptions,
  Written,
} from './client-types.ts';
import { ClusterCalls, type ClusterOptions } from './cluster-calls.ts';
import type { ClientWorld } from './client-world.ts';
import { ClientError } from './http-exchange.ts';
import {
  badRequest,
  checkedPath,
  checkExpected,
  checkKey,
  checkOptions,
  jsonText,
} from './given.ts';
import {
  etagOf,
  headerOf,
  isSerialLevel,
  KeyRequests,
  namespaceHeader,
  parse,
  putText,
  unless,
  valueOf,
} from './key-requests.ts';
import {
  jsonKey,
  type Key,
  keyInJson,
  namedKey,
  parsedKey,
  prefixQuery,
  shownKey,
} from './keys.ts';
import { NamespaceCalls } from './namespaces.ts';
import { parsePage } from './pages.ts';
import { UserCalls } from './users.ts';
import { watchKeys } from './watch.ts';

export { ClientError } from './http-exchange.ts';
export type { ClusterOptions } from './cluster-calls.ts';
export type * from './client-types.ts';
export type { Key, NamedKey } from './keys.ts';
export type { NewToken, UserCalls, UserInfo, UserSettings, UserToken } from './users.ts';
export type { NamespaceCalls, NamespaceInfo, NamespaceSettings } from './namespaces.ts';

export interface ConnectOptions extends Omit<ClusterOptions, 'endpoints'> {
  /** Where the keys are that calls are about. Default: `default`. */
  readonly namespace?: string;
}

/** Connects to a cluster through any of its nodes. UNREACHABLE where none of them answers. */
export async function connect(
  endpoints: string | readonly string[],
  options: ConnectOptions = {},
  world?: ClientWorld,
): Promise<KvdClient> {
  checkOptions('connect', options);
  const list = typeof endpoints === 'string' ? [endpoints] : endpoints;
  const { namespace, ...rest } = options;
  const calls = new ClusterCalls({ ...rest, endpoints: list }, world);
  try {
    await calls.connect();
  } catch (error) {
    calls.close();
    throw error;
  }
  return new KvdClient(calls, namespace);
}

/** Operations on keys, alone or within a session. */
export class Keys {
  readonly #requests: KeyRequests;

  constructor(calls: ClusterCalls, isSession: boolean, namespace: string | undefined) {
    this.#requests = new KeyRequests(calls, isSession, namespace);
  }

  /**
   * Writes a value: a Uint8Array as bytes, anything else as JSON. Under a condition that does not
   * hold: CONFLICT, and nothing was changed.
   */
  async put(key: Key, value: Value, options: PutOptions = {}): Promise<Written> {
    checkOptions('put', options);
    const { ttlSeconds } = options;
    const answer = await (value instanceof Uint8Array
      ? this.#requests.write('PUT', key, options, {
          query: ttlSeconds === undefined ? {} : { ttl: ttlSeconds },
          type: 'application/octet-stream',
          body: value,
        })
      : this.#requests.write('PUT', key, options, {
          query: {},
          type: 'application/json',
          body: Buffer.from(putText(value, ttlSeconds)),
        }));
    const { version, timestamp } = parse<{ version: number; timestamp: number }>(answer);
    return { version, timestamp, etag: etagOf(answer) };
  }

  /** The live value; undefined where there is none, BAD_REQUEST where there are several. */
  async get<V = Value>(key: Key, options: CallOptions = {}): Promise<Entry<V> | undefined> {
    checkOptions('read', options);
    const answer = await this.#requests.readOne(key, options, {});
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

  /** All values of a key that nobody has overwritten, in a namespace that keeps siblings. */
  async siblings<V = Value>(key: Key, options: CallOptions = {}): Promise<Siblings<V>> {
    checkOptions('read', options);
    const answer = await this.#requests.read(key, options, {});
    if (answer === undefined) return { values: [], context: '' };
    const document = parse<GetDocument & { values?: readonly GetDocument[] }>(answer);
    const { values = [document] } = document;
    const context = headerOf(answer, 'x-causal-context') ?? '';
    return { values: values.map(({ value, encoding }) => valueOf(value, encoding) as V), context };
  }

  /** As `get`, as stored byte for byte: numbers beyond 2^53 and the order of members stay. */
  async getRaw(key: Key, options: CallOptions = {}): Promise<RawEntry | undefined> {
    checkOptions('read', options);
    const bytes = { accept: 'application/octet-stream' };
    const answer = await this.#requests.readOne(key, options, bytes);
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
  async delete(key: Key, options: WriteOptions = {}): Promise<boolean> {
    checkOptions('delete', options);
    const answer = await this.#requests.write('DELETE', key, options, undefined);
    return parse<{ deleted: boolean }>(answer).deleted;
  }

  async exists(key: Key, options: CallOptions = {}): Promise<boolean> {
    checkOptions('read', options);
    return (
      (await this.#requests.found(
        this.#requests.request('HEAD', checkedPath(key), key, options),
      )) !== undefined
    );
  }

  // ---- serial operations -------------------------------------------------------------------

  /** Reads the latest decided value: level SERIAL. */
  getSerial<V = Value>(key: Key, options: CallOptions = {}): Promise<Entry<V> | undefined> {
    return this.get<V>(key, { ...options, level: 'SERIAL' });
  }

  /** Writes where there is no value; undefined where there is one, and nothing was changed. */
  putIfAbsent(
    key: Key,
    value: Value,
    options: Omit<PutOptions, 'ifExists' | 'ifMatch'> = {},
  ): Promise<Written | undefined> {
    return unless('CONFLICT', this.put(key, value, { ...options, ifNotExists: true }));
  }

  /** Deletes the value with this etag; false where there is another one or none. */
  async deleteIf(
    key: Key,
    etag: string,
    options: Omit<WriteOptions, 'ifExists' | 'ifMatch'> = {},
  ): Promise<boolean> {
    const deleted = this.delete(key, { ...options, ifMatch: etag });
    return (await unless('CONFLICT', deleted)) !== undefined;
  }

  /** Writes `value` if the key is as expected. */
  async cas<V = Value>(
    key: Key,
    expected: Expected,
    value: V,
    options: CasOptions = {},
  ): Promise<CasResult<V>> {
    checkOptions('cas', options);
    checkExpected(expected);
    const { ttlSeconds } = options;
    const ttl = ttlSeconds === undefined ? '' : `,"ttl":${JSON.stringify(ttlSeconds)}`;
    if (value instanceof Uint8Array)
      throw badRequest('cas: expected a JSON value; for bytes take put with ifMatch');
    const body = `{${expectationText(expected)},"new_value":${jsonText(value, 'value')}${ttl}}`;
    try {
      const answer = await this.#requests.decide(key, 'cas', body, options);
      const { new_version: version } = parse<{ new_version: number }>(answer);
      return { ok: true, version, etag: etagOf(answer) };
    } catch (error) {
      if (!(error instanceof ClientError) || error.code !== 'CONFLICT' || error.isOutcomeUnknown)
        throw error;
      const current = error.fields['current'] as CurrentDocument | null | undefined;
      if (current === null || current === undefined) return { ok: false, current: undefined };
      const { version, encoding } = current;
      return { ok: false, current: { version, value: valueOf(current.value, encoding) as V } };
    }
  }

  /** Adds a whole number to a counter, which begins at 0; WRONG_TYPE where the value is no integer. */
  async incr(
    key: Key,
    delta = 1,
    options: Omit<CasOptions, 'ttlSeconds'> = {},
  ): Promise<{ readonly value: number; readonly version: number }> {
    checkOptions('decide', options);
    const answer = await this.#requests.decide(key, 'incr', JSON.stringify({ delta }), options);
    const { value, version } = parse<{ value: number; version: number }>(answer);
    return { value, version };
  }

  /** Changes when a key expires, 0 for never; undefined where there is no value. */
  async setTtl(
    key: Key,
    ttlSeconds: number,
    options: Omit<CasOptions, 'ttlSeconds'> = {},
  ): Promise<{ readonly version: number; readonly etag: string } | undefined> {
    checkOptions('decide', options);
    const body = JSON.stringify({ ttl_seconds: ttlSeconds });
    const answer = await unless('NOT_FOUND', this.#requests.decide(key, 'ttl', body, options));
    if (answer === undefined) return undefined;
    return { version: parse<{ version: number }>(answer).version, etag: etagOf(answer) };
  }

  // ---- batches -----------------------------------------------------------------------------

  /** Each operation by itself unless `atomic` is set, in the order given; at most 1,000. */
  async putMany(
    operations: readonly PutOperation[],
    options: BatchOptions = {},
  ): Promise<Outcome<{ readonly version: number }>[]> {
    checkOptions('batch', options);
    const texts = operations.map((operation) => {
      checkOptions('operation', operation);
      const { key, value, ttlSeconds, ifNotExists } = operation;
      checkKey(key);
      const members = putText(value, ttlSeconds).slice(1);
      const condition = ifNotExists === true ? '"if_not_exists":true,' : '';
      return `{"key":${jsonKey(key)},${condition}${members}`;
    });
    const isSerial = operations.every(({ ifNotExists }) => ifNotExists === true);
    const body = `{${atomicText(options)}"operations":[${texts.join(',')}]}`;
    return this.#batch('put', body, { ...options, isSerial }, ({ version }) => ({
      version: version as number,
    }));
  }

  /** In the order asked; undefined for a key that is not there. */
  async getMany<V = Value>(
    keys: readonly Key[],
    options: CallOptions = {},
  ): Promise<Outcome<{ readonly value: V; readonly version: number } | undefined>[]> {
    checkOptions('read', options);
    for (const key of keys) checkKey(key);
    return this.#batch('get', JSON.stringify({ keys: keys.map(keyInJson) }), options, (row) => {
      if (row.found !== true) return undefined;
      return { value: valueOf(row.value, row.encoding) as V, version: row.version as number };
    });
  }

  /** True for each key that was there. */
  async deleteMany(keys: readonly Key[], options: BatchOptions = {}): Promise<Outcome<boolean>[]> {
    checkOptions('batch', options);
    for (const key of keys) checkKey(key);
    const body = `{${atomicText(options)}"keys":${JSON.stringify(keys.map(keyInJson))}}`;
    return this.#batch('delete', body, options, (row) => row.deleted === true);
  }

  async #batch<T>(
    verb: 'put' | 'get' | 'delete',
    body: string,
    options: BatchSettings,
    toResult: (row: BatchRow) => T,
  ): Promise<Outcome<T>[]> {
    const isWrite = verb !== 'get';
    const isSerial = options.isSerial === true || isSerialLevel(options.level);
    const answer = await this.#requests.batch(verb, body, options, isSerial);
    return parse<{ results: BatchRow[] }>(answer).results.map((row): Outcome<T> => {
      const { error } = row;
      const key = shownKey(parsedKey(row.key) ?? '');
      if (error === undefined) return { key, ok: true, result: toResult(row) };
      const isUnknown = error.code === 'TIMEOUT' || error.code === 'UNKNOWN_OUTCOME';
      const problem = new ClientError(error.code, 200, error.detail, isWrite && isUnknown);
      return { key, ok: false, error: problem };
    });
  }

  // ---- pages -------------------------------------------------------------------------------

  /**
   * Keys in byte order, page by page as they are taken. One that is no UTF-8 comes as the text
   * `{"base64":"..."}`; `entries` has its bytes, which every call takes.
   */
  async *list(options: ListOptions = {}): AsyncGenerator<string> {
    for await (const { key } of this.#pages('keys', options, false)) yield key;
  }

  /** The same with values. */
  async *entries(options: ListOptions = {}): AsyncGenerator<ListedEntry> {
    for await (const item of this.#pages('keys', options, true)) {
      const { value, encoding, version, ttlRemaining } = item;
      const text: unknown = value === undefined ? undefined : JSON.parse(value.toString());
      const rest = { value: valueOf(text, encoding), version: version ?? 0, ttlRemaining };
      yield { ...namedKey(item.keyBytes ?? item.key), ...rest };
    }
  }

  /** All keys, each that exists throughout exactly once; as `list` gives them. */
  async *scan(options: Omit<ListOptions, 'prefix'> = {}): AsyncGenerator<string> {
    for await (const { key } of this.#pages('scan', options, false)) yield key;
  }

  async *#pages(
    kind: 'keys' | 'scan',
    options: ListOptions,
    withValues: boolean,
  ): AsyncGenerator<ReturnType<typeof parsePage>['items'][number]> {
    checkOptions(kind === 'keys' ? 'list' : 'scan', options);
    const { prefix = '', pageRows = 100 } = options;
    let cursor: string | null = '';
    while (cursor !== null) {
      const rows = kind === 'keys' ? 'limit' : 'count';
      const query = new URLSearchParams({
        ...{ [rows]: String(pageRows), values: String(withValues) },
        ...prefixQuery(prefix),
      });
      if (cursor !== '') query.set('cursor', cursor);
      const path = `/api/v1/${kind}?${query.toString()}`;
      const page = parsePage(
        (await this.#requests.send(this.#requests.request('GET', path, undefined, options))).body,
      );
      yield* page.items;
      cursor = page.cursor;
    }
  }
}

export class KvdClient extends Keys {
  readonly #cluster: ClusterCalls;
  readonly #namespace: string | undefined;
  /** The namespaces of the cluster. */
  readonly namespaces: NamespaceCalls;
  /** Its users, for administrators. */
  readonly users: UserCalls;

  constructor(calls: ClusterCalls, namespace?: string) {
    const other = namespace === 'default' ? undefined : namespace;
    super(calls, false, other);
    this.#cluster = calls;
    this.#namespace = other;
    this.namespaces = new NamespaceCalls(calls);
    this.users = new UserCalls(calls);
  }

  /** The same cluster and connections, for the keys of another namespace. */
  inNamespace(namespace: string): KvdClient {
    return new KvdClient(this.#cluster, namespace);
  }

  /**
   * A session: reads its own writes and never goes back, at any level and through any node. Calls
   * that run at the same time know nothing of each other.
   */
  session(): Keys {
    return new Keys(this.#cluster, true, this.#namespace);
  }

  /**
   * Changes of keys as they happen: each that is acknowledged at QUORUM or above, or a newer one of
   * its key, at least once; or a `reset`. Goes on over lost connections until it is left or aborted.
   */
  watch(options: WatchOptions = {}): AsyncGenerator<WatchEvent> {
    checkOptions('watch', options);
    return watchKeys(this.#cluster, options, namespaceHeader(this.#namespace));
  }

  /** Calls so far, attempts beyond the first, reads that were sent to a second node. */
  get figures(): { readonly calls: number; readonly retries: number; readonly hedges: number } {
    return { ...this.#cluster.figures };
  }

  /** Closes the connections; calls under way fail, and so do those that follow. */
  close(): void {
    this.#cluster.close();
  }
}

interface CurrentDocument {
  readonly value: unknown;
  readonly encoding?: string;
  readonly version: number;
}

interface BatchSettings extends CallOptions {
  /** Every operation has a condition. */
  readonly isSerial?: boolean;
}

function expectationText({ version, etag, value }: Expected): string {
  const given = [
    version === undefined ? [] : [`"expected_version":${JSON.stringify(version)}`],
    etag === undefined ? [] : [`"expected_etag":${JSON.stringify(etag)}`],
    value === undefined ? [] : [`"expected_value":${jsonText(value, 'expected value')}`],
  ].flat();
  const [only] = given;
  if (only === undefined || given.length > 1)
    throw badRequest('cas: expected exactly one of version, etag and value');
  return only;
}

interface GetDocument {
  readonly value: unknown;
  readonly encoding?: string;
  readonly version: number;
  readonly timestamp: number;
  readonly ttl_remaining?: number;
}

interface BatchRow {
  readonly key: unknown;
  readonly error?: { readonly code: string; readonly detail: string };
  readonly version?: number;
  readonly deleted?: boolean;
  readonly found?: boolean;
  readonly value?: unknown;
  readonly encoding?: string;
}

const atomicText = ({ atomic }: BatchOptions): string => (atomic === true ? '"atomic":true,' : '');
