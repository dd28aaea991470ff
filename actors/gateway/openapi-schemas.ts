// Shapes of requests and answers as JSON Schema (2020-12, as OpenAPI 3.1 takes it), by the names of
// the routes. Requests are checked by http-requests.ts, which reads bytes and builds no objects;
// the tests hold the two against each other with the same examples.

import { compactionStrategies, compressions } from '../model/table-choices.ts';

export type Schema = Readonly<Record<string, unknown>>;

export interface RouteSchema {
  /** Of the JSON body. */
  readonly request?: Schema;
  /** The body may be raw bytes instead, both ways. */
  readonly takesBytes?: boolean;
  /** Query parameters that are not as querySchemas has them. */
  readonly query?: Readonly<Record<string, Schema>>;
  /** Of the answer, where it is not 200. */
  readonly answerStatus?: number;
  /** Of the answer when all is well; absent: no body, or not JSON. */
  readonly answer?: Schema;
  /** Of an answer that is not JSON. */
  readonly answerType?: string;
  /** Other answers when all is well, by status; null: without a body. */
  readonly others?: Readonly<Record<number, Schema | null>>;
  /** Refusals beyond those that follow from the route's path and body, by status. */
  readonly refusals?: readonly number[];
}

const text: Schema = { type: 'string' };
const flag: Schema = { type: 'boolean' };
const count: Schema = { type: 'integer', minimum: 0 };
const anyJson: Schema = { description: 'Any JSON value.' };
const ref = (name: string): Schema => ({ $ref: `#/components/schemas/${name}` });
const listOf = (items: Schema, more: Schema = {}): Schema => ({ type: 'array', items, ...more });

/** All members required, except those named; nothing else allowed where it is a request. */
function object(properties: Schema, optional: readonly string[] = [], isOpen = true): Schema {
  const required = Object.keys(properties).filter((name) => !optional.includes(name));
  return {
    type: 'object',
    properties,
    required,
    ...(isOpen ? {} : { additionalProperties: false }),
  };
}

const key: Schema = {
  description: 'Up to 1,024 bytes: text, or the base64 of any bytes.',
  anyOf: [{ ...text, minLength: 1 }, object({ base64: { ...text, minLength: 1 } }, [], false)],
};
const ttl: Schema = {
  type: 'integer',
  minimum: 1,
  maximum: 315_360_000,
  description: 'Whole seconds until it expires.',
};
const encoding: Schema = { const: 'base64', description: 'The value is a string of base64.' };
const keyList = listOf(key, { maxItems: 1000 });
const shownKey: Schema = {
  description: 'The key; one that is no UTF-8 as its base64.',
  anyOf: [text, object({ base64: text })],
};
const stored = {
  value: anyJson,
  encoding,
  version: { ...count, description: 'Grows with each write of the key.' },
  timestamp: { ...count, description: 'Milliseconds since 1970.' },
  ttl_remaining: { ...count, description: 'Seconds; absent: never expires.' },
};
const storedOptional = ['encoding', 'ttl_remaining'];
const batchError = object({ code: text, detail: text });

const namespaceName: Schema = { ...text, pattern: '^[A-Za-z0-9_-]{1,64}$' };
const seconds: Schema = {
  type: 'integer',
  minimum: 0,
  maximum: 315_360_000,
  description: 'Whole seconds; 0: none.',
};
const quota: Schema = { ...count, description: '0: no limit.' };
const level: Schema = { ...text, description: 'Empty: as the node is configured.' };
const namespaceSettings = {
  owner: { ...text, maxLength: 128 },
  default_consistency: object({ read: level, write: level }, ['read', 'write'], false),
  conflicts: { enum: ['lww', 'siblings'], description: 'What becomes of concurrent writes.' },
  default_ttl: seconds,
  max_ttl: seconds,
  quotas: object(
    { bytes: quota, keys: quota, operations_per_second: quota },
    ['bytes', 'keys', 'operations_per_second'],
    false,
  ),
  compaction: {
    enum: ['', ...compactionStrategies],
    description: 'How its tables are merged. Empty: as the nodes are configured.',
  },
  compression: {
    enum: ['', ...compressions],
    description: 'How its tables are packed. Empty: as the nodes are configured.',
  },
};
const perSecond: Schema = { ...count, description: 'Requests and commands; 0: no limit.' };
const userName: Schema = { ...text, pattern: '^[A-Za-z0-9_-]{1,64}$' };
const expiresSeconds: Schema = { type: 'integer', minimum: 1, maximum: 315_360_000 };
const userSettings = {
  admin: { ...flag, description: 'Administrator of the cluster.' },
  disabled: { ...flag, description: 'None of its tokens counts.' },
  operations_per_second: perSecond,
  roles: {
    type: 'object',
    additionalProperties: { enum: ['read', 'write', 'admin', null] },
    description: 'By namespace, * for all; null takes a role away.',
  },
};
const oneUser = { epoch: count, user: ref('User') };
const userWithToken = object({ ...oneUser, token: object({ id: text, token: text }) });
const oneNamespace = object({ epoch: count, namespace: ref('Namespace') });

export const componentSchemas: Readonly<Record<string, Schema>> = {
  Problem: {
    ...object({ type: text, title: text, status: count, detail: text, code: text }),
    description: 'RFC 9457; `code` is a word of the table of errors.',
  },
  Namespace: object({
    name: namespaceName,
    id: { ...count, description: 'Never given out again.' },
    created_ms: count,
    ...namespaceSettings,
  }),
  User: object({
    name: userName,
    created_ms: count,
    ...userSettings,
    owns: listOf(text),
    tokens: listOf(
      object({ id: text, created_ms: count, expires_ms: { type: ['integer', 'null'] } }),
    ),
  }),
  Entry: object({ key: shownKey, ...stored }, storedOptional),
  Siblings: object({
    key: shownKey,
    version: count,
    values: listOf(object(stored, storedOptional)),
    context: { ...text, description: 'For X-Causal-Context of the write that replaces them.' },
  }),
  Put: object(
    { value: anyJson, ttl, encoding, if_not_exists: flag },
    ['ttl', 'encoding', 'if_not_exists'],
    false,
  ),
  Written: object({
    key: shownKey,
    version: count,
    timestamp: count,
    status: { const: 'success' },
  }),
};

const batchWritten = object({
  success_count: count,
  failed_keys: listOf(shownKey),
  results: listOf(
    object({ key: shownKey, version: count, deleted: flag, error: batchError }, [
      'version',
      'deleted',
      'error',
    ]),
  ),
});
const batchRow = object({ key: shownKey, found: flag, ...stored, error: batchError }, [
  ...Object.keys(stored),
  'error',
]);
const items = listOf(ref('Entry'));
const status = object({ status: text });

const nodeError = object({ code: text, detail: text });
const snapshot = {
  name: text,
  created_ms: { ...count, description: 'Milliseconds since 1970.' },
  tables: count,
  records: count,
  bytes: count,
  max_hlc: { ...count, description: 'No record in it is newer; microseconds since 1970.' },
};
const perNode = (members: Schema): Schema =>
  listOf(object({ node: text, error: nodeError, ...members }, ['error', ...Object.keys(members)]));

const repairReport = object({
  id: { ...count, description: 'Number of this repair on its node.' },
  started_ms: { ...count, description: 'Milliseconds since 1970.' },
  took_ms: count,
  running: flag,
  phase: text,
  sets_wanted: { ...count, description: 'Sets of replicas to compare.' },
  sets: listOf(
    object({
      set: { ...text, description: 'Its members, with commas.' },
      outcome: { enum: ['complete', 'partial', 'failed'] },
      why: text,
    }),
  ),
  leaves_differing: count,
  keys_compared: count,
  records_scanned: count,
  records_sent: count,
  bytes_sent: count,
});

export const routeSchemas: Readonly<Record<string, RouteSchema>> = {
  put: {
    request: ref('Put'),
    takesBytes: true,
    answer: ref('Written'),
    refusals: [409, 422],
  },
  get: { takesBytes: true, answer: ref('Entry'), others: { 300: ref('Siblings'), 304: null } },
  head: { others: { 300: null, 304: null } },
  delete: {
    answer: object({ key: shownKey, deleted: flag, version: count }),
    refusals: [409, 422],
  },
  cas: {
    request: {
      ...object(
        {
          expected_version: count,
          expected_value: anyJson,
          expected_etag: text,
          new_value: anyJson,
          ttl,
        },
        ['expected_version', 'expected_value', 'expected_etag', 'ttl'],
        false,
      ),
      oneOf: ['expected_version', 'expected_value', 'expected_etag'].map((name) => ({
        required: [name],
      })),
    },
    answer: object({ success: { const: true }, new_version: count }),
    refusals: [409, 422],
  },
  incr: {
    request: object({ delta: { type: 'integer' } }, ['delta'], false),
    answer: object({ key: shownKey, value: { type: 'integer' }, version: count }),
    refusals: [422],
  },
  ttl: {
    request: object({ ttl_seconds: { ...ttl, minimum: 0 } }, [], false),
    answer: object({ key: shownKey, ttl_remaining: { type: ['integer', 'null'] }, version: count }),
    refusals: [422],
  },
  list: {
    answer: object(
      { keys: listOf(shownKey), items, cursor: { type: ['string', 'null'] }, has_more: flag },
      ['items'],
    ),
  },
  scan: {
    answer: object(
      { keys: listOf(shownKey), items, next_cursor: { type: ['string', 'null'] }, done: flag },
      ['items'],
    ),
  },
  watch: {
    answerType: 'text/event-stream',
    query: { values: { ...flag, default: true, description: 'With the values of puts.' } },
  },
  'batch-put': {
    request: object(
      {
        operations: listOf(
          object(
            { key, value: anyJson, ttl, encoding, if_not_exists: flag },
            ['ttl', 'encoding', 'if_not_exists'],
            false,
          ),
          { maxItems: 1000 },
        ),
        atomic: flag,
      },
      ['atomic'],
      false,
    ),
    answer: batchWritten,
    refusals: [409],
  },
  'batch-get': {
    request: object({ keys: keyList }, [], false),
    answer: object({ results: listOf(batchRow) }),
  },
  'batch-delete': {
    request: object({ keys: keyList, atomic: flag }, ['atomic'], false),
    answer: batchWritten,
    refusals: [409],
  },
  'cluster-status': {
    answer: object({
      nodes: listOf(
        object({
          node_id: text,
          status: { enum: ['alive', 'suspected', 'dead', 'unknown', 'draining'] },
        }),
      ),
      total_keys: count,
      replication_factor: count,
      epoch: count,
      answered_by: object({
        node_id: text,
        durability: text,
        clock_off_ms: { type: ['number', 'null'] },
      }),
    }),
  },
  ring: {
    answer: object({
      members: listOf(text),
      virtual_nodes: count,
      replication_factor: count,
      nodes: listOf(
        object({ node_id: text, address: { type: ['string', 'null'] }, share: { type: 'number' } }),
      ),
    }),
  },
  snapshots: {
    answer: object({
      complete: flag,
      nodes: perNode({ snapshots: listOf(object(snapshot)) }),
    }),
  },
  'snapshot-create': {
    request: object({ name: text, nodes: listOf(text) }, ['nodes'], false),
    answer: object({ name: text, complete: flag, nodes: perNode(snapshot) }),
    refusals: [409],
  },
  'snapshot-delete': {
    answer: object({ name: text, complete: flag, nodes: perNode({ deleted: flag }) }),
    refusals: [404],
  },
  snapshot: { answerType: 'application/octet-stream', refusals: [404] },
  'snapshot-table': { answerType: 'application/octet-stream', refusals: [404] },
  repair: {
    request: object({ set: text, full: flag }, ['set', 'full'], false),
    answer: object({ node: text, repair: repairReport }),
    answerStatus: 202,
  },
  'repair-status': {
    answer: object({
      complete: flag,
      nodes: perNode({ repair: { anyOf: [repairReport, { type: 'null' }] } }),
    }),
  },
  flush: {
    request: object({ nodes: listOf(text) }, ['nodes'], false),
    answer: object({ complete: flag, nodes: perNode({ tables: count }) }),
  },
  namespaces: { answer: object({ epoch: count, namespaces: listOf(ref('Namespace')) }) },
  'namespace-create': {
    request: object(
      { name: namespaceName, ...namespaceSettings },
      Object.keys(namespaceSettings),
      false,
    ),
    answer: oneNamespace,
    refusals: [409, 501],
  },
  namespace: { answer: oneNamespace, refusals: [404] },
  'namespace-alter': {
    request: object(namespaceSettings, Object.keys(namespaceSettings), false),
    answer: oneNamespace,
    refusals: [404, 409, 501],
  },
  'namespace-drop': {
    answer: object({ name: text, dropped: flag, epoch: count }),
    refusals: [404, 409],
  },
  users: { answer: object({ epoch: count, users: listOf(ref('User')) }) },
  'user-create': {
    request: object(
      { name: userName, ...userSettings, token_expires_seconds: expiresSeconds },
      [...Object.keys(userSettings), 'token_expires_seconds'],
      false,
    ),
    answer: userWithToken,
    refusals: [404, 409],
  },
  user: { answer: object(oneUser), refusals: [404] },
  'user-alter': {
    request: object(userSettings, Object.keys(userSettings), false),
    answer: object(oneUser),
    refusals: [404, 409],
  },
  'user-delete': {
    answer: object({ name: text, deleted: flag, epoch: count }),
    refusals: [404, 409],
  },
  'token-add': {
    request: object({ expires_seconds: expiresSeconds }, ['expires_seconds'], false),
    answer: userWithToken,
    refusals: [404],
  },
  'token-revoke': { answer: object(oneUser), refusals: [404, 409] },
  livez: { answer: status },
  readyz: { answer: object({ status: text, node: text }) },
  metrics: { answerType: 'text/plain' },
  openapi: { answer: { type: 'object' } },
  docs: { answerType: 'text/html' },
};

/** Of query parameters, by name. */
export const querySchemas: Readonly<Record<string, Schema>> = {
  ttl: { ...ttl, description: 'With raw bytes: whole seconds until it expires.' },
  if_not_exists: { ...flag, description: 'Write only where there is no such key.' },
  key_encoding: {
    enum: ['text', 'base64url'],
    default: 'text',
    description: 'How the key in the path, or the prefix, is written.',
  },
  prefix: {
    ...text,
    description: 'Only keys that start with it; text, or bytes as `key_encoding` says.',
  },
  limit: { type: 'integer', minimum: 1, maximum: 1000, default: 100 },
  count: { type: 'integer', minimum: 1, maximum: 1000, default: 100 },
  cursor: { ...text, description: 'From the page before; it belongs to the same question.' },
  confirm: { ...text, description: 'The name once more: what is dropped is gone.' },
  nodes: { ...text, description: 'Node ids, separated by commas; absent: all members.' },
  last_event_id: { ...text, description: 'Go on after this event; as the header Last-Event-ID.' },
  offset: { ...count, default: 0, description: 'First byte.' },
  length: { ...count, default: 262_144, maximum: 1_048_576 },
  values: { ...flag, default: false, description: 'With values, as `items`.' },
};

/** Of request headers that mean something, by name. */
export const headerSchemas: Readonly<Record<string, Schema>> = {
  'Consistency-Level': { ...text, examples: ['ONE', 'QUORUM', 'ALL'] },
  'X-Session-Token': { ...text, description: 'From the answer before: a session.' },
  'X-Causal-Context': { ...text, description: 'Of a read of this key, where siblings are kept.' },
  'X-Explain': { enum: ['0', '1'], description: 'The answer says how it was made.' },
  'X-Deadline-Ms': { type: 'integer', minimum: 1, maximum: 60_000 },
  'X-Request-Id': {
    ...text,
    maxLength: 64,
    description: 'A decided operation with the same id is done once.',
  },
  'X-Namespace': { ...text, default: 'default' },
  'If-Match': { ...text, description: 'Only where the etag is this one; `*`: where there is one.' },
  'If-None-Match': {
    ...text,
    description: 'Of a write `*`: only where there is no value. Of a read etags: 304 for these.',
  },
  'Last-Event-ID': { ...text, description: 'Go on after this event.' },
};
