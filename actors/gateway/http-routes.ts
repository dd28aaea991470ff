// The HTTP face as a table: what the edge registers, what the gateway answers, what a client may
// ask. Rows of the contract that nothing serves yet are here too and answer 501, so that the table
// always shows the whole face. Also the form of a problem (RFC 9457), which edge and gateway share.

import { utf8 } from '../../runtime/bytes.ts';
import { errorTable, type Failure } from '../../runtime/errors.ts';
import type { HttpAnswer } from './protocol.ts';

export type HttpMethod = 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE';

/** `value`: a JSON document or the raw bytes of a value; `none`: a body is refused. */
export type BodyKind = 'none' | 'json' | 'value';

export interface HttpRoute {
  readonly name: string;
  readonly method: HttpMethod;
  /** Pattern as fastify takes it: `:name` is one percent-decoded segment. */
  readonly path: string;
  readonly body: BodyKind;
  /** Query parameters that it knows; any other is refused by name. */
  readonly query: readonly string[];
  /** False: the answer is 501 NOT_IMPLEMENTED. */
  readonly isServed: boolean;
  /** One sentence for the documentation. */
  readonly what: string;
}

export const apiPrefix = '/api/v1';

function served(
  name: string,
  [method, path]: readonly [HttpMethod, string],
  [body, query]: readonly [BodyKind, readonly string[]],
  what: string,
): HttpRoute {
  return { name, method, path, body, query, isServed: true, what };
}

function planned(name: string, method: HttpMethod, path: string, what: string): HttpRoute {
  const body: BodyKind = method === 'POST' || method === 'PUT' ? 'json' : 'none';
  return { name, method, path, body, query: [], isServed: false, what };
}

const key = `${apiPrefix}/keys/:key`;
const batch = `${apiPrefix}/batch`;
const admin = `${apiPrefix}/admin`;

// biome-ignore format: a table
export const httpRoutes: readonly HttpRoute[] = [
  served('put', ['PUT', key], ['value', ['ttl', 'if_not_exists', 'key_encoding']], 'Writes a value.'),
  served('get', ['GET', key], ['none', ['key_encoding']], 'Reads a value.'),
  served('delete', ['DELETE', key], ['none', ['key_encoding']], 'Deletes a key.'),
  served('head', ['HEAD', key], ['none', ['key_encoding']], 'Says whether a key exists.'),
  served('cas', ['POST', `${key}/cas`], ['value', ['key_encoding']], 'Writes if the key is as expected.'),
  served('incr', ['POST', `${key}/incr`], ['json', ['key_encoding']], 'Adds to an integer.'),
  served('ttl', ['POST', `${key}/ttl`], ['json', ['key_encoding']], 'Changes when a key expires.'),
  served('list', ['GET', `${apiPrefix}/keys`], ['none', ['prefix', 'limit', 'cursor', 'values', 'key_encoding']], 'Keys in byte order, by prefix.'),
  served('scan', ['GET', `${apiPrefix}/scan`], ['none', ['cursor', 'count', 'values']], 'All keys, each exactly once.'),
  served('watch', ['GET', `${apiPrefix}/watch`], ['none', ['prefix', 'values', 'last_event_id', 'key_encoding']], 'A stream of changes (server-sent events).'),
  served('batch-put', ['POST', `${batch}/put`], ['json', []], 'Writes many values, each by itself.'),
  served('batch-get', ['POST', `${batch}/get`], ['json', []], 'Reads many values, in the order asked.'),
  served('batch-delete', ['POST', `${batch}/delete`], ['json', []], 'Deletes many keys, each by itself.'),
  served('cluster-status', ['GET', `${admin}/cluster/status`], ['none', []], 'All nodes: state, load, suspicion.'),
  served('ring', ['GET', `${apiPrefix}/ring`], ['none', []], 'Members, virtual nodes, replication, shares.'),
  served('snapshots', ['GET', `${admin}/snapshots`], ['none', ['nodes']], 'Snapshots of all nodes, or of those named.'),
  served('snapshot-create', ['POST', `${admin}/snapshots`], ['json', []], 'Takes a snapshot on all nodes, or on those named.'),
  served('snapshot-delete', ['DELETE', `${admin}/snapshots/:name`], ['none', ['nodes']], 'Deletes a snapshot.'),
  served('snapshot', ['GET', `${admin}/snapshots/:name`], ['none', []], 'The manifest of a snapshot on the node that is asked.'),
  served('snapshot-table', ['GET', `${admin}/snapshots/:name/tables/:shard/:table`], ['none', ['offset', 'length']], 'A part of a table of a snapshot on the node that is asked.'),
  served('repair', ['POST', `${admin}/repair`], ['json', []], 'Compares all replicas and sends each one what it lacks.'),
  served('repair-status', ['GET', `${admin}/repair`], ['none', ['nodes']], 'The last repair that each node ran, or runs.'),
  served('flush', ['POST', `${admin}/flush`], ['json', []], 'Writes memory to tables, on all nodes or on those named.'),
  served('namespaces', ['GET', `${admin}/namespaces`], ['none', []], 'All namespaces.'),
  served('namespace-create', ['POST', `${admin}/namespaces`], ['json', []], 'Creates a namespace.'),
  served('namespace', ['GET', `${admin}/namespaces/:name`], ['none', []], 'A namespace.'),
  served('namespace-alter', ['PUT', `${admin}/namespaces/:name`], ['json', []], 'Changes settings of a namespace.'),
  served('namespace-drop', ['DELETE', `${admin}/namespaces/:name`], ['none', ['confirm']], 'Drops a namespace with all that is in it.'),
  served('users', ['GET', `${admin}/users`], ['none', []], 'All users.'),
  served('user-create', ['POST', `${admin}/users`], ['json', []], 'Creates a user, with a token.'),
  served('user', ['GET', `${admin}/users/:name`], ['none', []], 'A user.'),
  served('user-alter', ['PUT', `${admin}/users/:name`], ['json', []], 'Changes roles and settings of a user.'),
  served('user-delete', ['DELETE', `${admin}/users/:name`], ['none', []], 'Deletes a user with all tokens.'),
  served('token-add', ['POST', `${admin}/users/:name/tokens`], ['json', []], 'Makes another token of a user; it is shown once.'),
  served('token-revoke', ['DELETE', `${admin}/users/:name/tokens/:id`], ['none', []], 'Revokes a token.'),
  served('livez', ['GET', '/livez'], ['none', []], 'The process answers.'),
  served('readyz', ['GET', '/readyz'], ['none', []], 'The node serves; 503 while it starts or stops.'),
  served('metrics', ['GET', '/metrics'], ['none', []], 'Figures for Prometheus.'),
  served('openapi', ['GET', `${apiPrefix}/openapi.json`], ['none', []], 'This face as OpenAPI 3.1.'),
  served('docs', ['GET', '/docs'], ['none', []], 'This face, to browse.'),

  planned('node-add', 'POST', `${admin}/cluster/nodes`, 'Adds a node.'),
  planned('node-remove', 'DELETE', `${admin}/cluster/nodes/:id`, 'Removes a node.'),
  planned('node-replace', 'POST', `${admin}/cluster/nodes/:id/replace`, 'Replaces a node.'),
  planned('rebalance', 'POST', `${admin}/cluster/rebalance`, 'Evens out the shares.'),
  planned('operation', 'GET', `${admin}/operations/:id`, 'Progress of an operation.'),
  planned('compact', 'POST', `${admin}/compact`, 'Merges tables.'),
  planned('snapshot-restore', 'POST', `${admin}/snapshots/:name/restore`, 'Goes back to a snapshot.'),
  planned('promote', 'POST', `${admin}/dc/:dc/promote`, 'Makes a passive datacenter active.'),
  planned('dashboard', 'GET', '/dashboard', 'The cluster, to watch.'),
];

/** Routes that are about keys, and so about those of one namespace. */
const aboutKeys: ReadonlySet<string> = new Set([
  ...['put', 'get', 'delete', 'head', 'cas', 'incr', 'ttl', 'list', 'scan', 'watch'],
  ...['batch-put', 'batch-get', 'batch-delete'],
]);

/** The paths of a route: its own, and the one that names a namespace where it is about keys. */
export const pathsOf = ({ name, path }: HttpRoute): readonly string[] =>
  aboutKeys.has(name)
    ? [path, path.replace(apiPrefix, `${apiPrefix}/namespaces/:namespace`)]
    : [path];

export const routesByName: ReadonlyMap<string, HttpRoute> = new Map(
  httpRoutes.map((route) => [route.name, route]),
);

/** The request headers that mean something here; the edge passes these on and no others. */
export const requestHeaders: readonly string[] = [
  'accept',
  'authorization',
  'consistency-level',
  'content-type',
  'if-match',
  'if-none-match',
  'last-event-id',
  'x-deadline-ms',
  'x-causal-context',
  'x-explain',
  'x-namespace',
  'x-request-id',
  'x-session-token',
];

export interface BodyLimits {
  /** A value, bytes. Default 1 MiB. */
  readonly valueBytes: number;
  /** The body of a batch, bytes. Default 16 MiB. */
  readonly batchBytes: number;
}

export const defaultBodyLimits: BodyLimits = {
  valueBytes: 1024 * 1024,
  batchBytes: 16 * 1024 * 1024,
};

const adminBytes = 64 * 1024;
/** Around a value: names, spaces, time to live. */
const documentBytes = 4096;

/** What the edge accepts on a route before it stops reading (rule SE-4). */
export function bodyBytesMax(route: HttpRoute, { valueBytes, batchBytes }: BodyLimits): number {
  // A value over its limit by a little is still read, for an error that names the value; base64
  // makes it a third longer.
  if (route.body === 'value') return Math.ceil(valueBytes * 1.5) + documentBytes;
  return route.name.startsWith('batch-') ? batchBytes : adminBytes;
}

/**
 * A failure as a problem document. `status` only where it is not that of the code's row. 429 and
 * 503 come with Retry-After, in seconds.
 */
export function problemAnswer({ code, fields }: Failure, status?: number): HttpAnswer {
  const row = errorTable[code];
  const actual = status ?? row.status;
  const { detail, ...figures } = fields;
  const document = {
    ...figures,
    type: `urn:kvd:problem:${code.toLowerCase().replaceAll('_', '-')}`,
    title: row.title,
    status: actual,
    detail: detail ?? row.title,
    code,
  };
  const headers: Record<string, string> = { 'content-type': 'application/problem+json' };
  if (code === 'UNAUTHORIZED') headers['www-authenticate'] = 'Bearer realm="kvd"';
  if (actual === 429 || actual === 503) headers['retry-after'] = String(fields['retry_after'] ?? 1);
  return { status: actual, headers, body: utf8.encode(JSON.stringify(document)) };
}
