// Every route of the OpenAPI document with every status that it names, over a socket: those with a
// cause that a client can make against a real node, with all of its actors and files; the others (a
// full queue, a defect, too few nodes, no answer in time) against the HTTP edge with a gateway that
// answers so. An operation or a status that this file has no cause for fails the test.

import { Ajv2020 } from 'ajv/dist/2020.js';
import { expect } from 'chai';
import { request as httpRequest } from 'node:http';
import { httpRoutes, pathsOf, type HttpRoute } from '../../actors/gateway/http-routes.ts';
import { componentSchemas, type Schema } from '../../actors/gateway/openapi-schemas.ts';
import { openApiDocument } from '../../actors/gateway/openapi.ts';
import { createCluster, type EmbeddedCluster } from '../../cli/embedded/cluster.ts';
import { type ErrorCode, errorTable, failure } from '../../runtime/errors.ts';
import { HttpEdge } from '../../transport/edge-http.ts';
import type { Problem } from '../kit-gateway.ts';

interface Cause {
  /** Of the path; what is missing is taken from `usualParams`. */
  readonly params?: Readonly<Record<string, string>>;
  readonly query?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly json?: unknown;
  readonly body?: string;
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly text: string;
}

interface Operation {
  readonly id: string;
  readonly route: HttpRoute;
  readonly path: string;
  readonly statuses: readonly number[];
}

type Responses = Readonly<Record<string, { readonly content?: Readonly<Record<string, Schema>> }>>;

const paths = openApiDocument('1')['paths'] as Readonly<
  Record<string, Readonly<Record<string, { readonly responses: Responses }>>>
>;
const responsesOf = ({ route, path }: Operation): Responses => {
  const shown = path.replaceAll(/:([a-z]+)/g, '{$1}');
  return paths[shown]?.[route.method.toLowerCase()]?.responses ?? {};
};
const operations: readonly Operation[] = httpRoutes.flatMap((route) =>
  pathsOf(route).map((path) => {
    const bare = { id: `${route.method} ${path}`, route, path, statuses: [] };
    return { ...bare, statuses: Object.keys(responsesOf(bare)).map(Number) };
  }),
);

const ajv = new Ajv2020({ strict: false });
ajv.addSchema({ $id: 'doc', components: { schemas: componentSchemas } });

function problemsOf(schema: Schema, value: unknown): string {
  const rooted = JSON.parse(JSON.stringify(schema).replaceAll('"#/', '"doc#/')) as Schema;
  return ajv.validate(rooted, value) ? '' : ajv.errorsText();
}

/** Statuses whose causes are not the client's. */
const ofTheNode: ReadonlySet<number> = new Set([429, 500, 503, 504]);
/** Those of nodes where users have to say who they are: test/security/access.test.ts. */
const ofRights: ReadonlySet<number> = new Set([401, 403]);
const seen = 'seen';
const namespace = 'shop';
const usualParams: Readonly<Record<string, string>> = {
  namespace,
  key: seen,
  name: namespace,
  shard: '0',
  table: '1',
  id: 'n1',
  dc: 'dc1',
};
const isAboutKeys = ({ route }: Operation): boolean => pathsOf(route).length > 1;
const inPath = ({ path }: Operation): boolean => path.includes(':namespace');

/** In this namespace, by the path where it has one. */
const within = (operation: Operation, name: string, cause: Cause = {}): Cause =>
  inPath(operation)
    ? { ...cause, params: { ...cause.params, namespace: name } }
    : { ...cause, headers: { ...cause.headers, 'x-namespace': name } };

const key = { key: 'fresh' };
/** A request that is done, by the name of its route. */
const done: Readonly<Record<string, Cause>> = {
  put: { json: { value: 1 } },
  cas: { params: { key: 'new' }, json: { expected_version: 0, new_value: 1 } },
  incr: { params: { key: 'counter' }, json: {} },
  ttl: { json: { ttl_seconds: 100 } },
  'batch-put': { json: { operations: [{ key: 'b', value: 1 }] } },
  'batch-get': { json: { keys: [seen] } },
  'batch-delete': { json: { keys: ['b'] } },
  delete: { params: { key: 'gone' } },
  'snapshot-create': { json: { name: 'second' } },
  'snapshot-delete': { params: { name: 'second' } },
  snapshot: { params: { name: 'first' } },
  'snapshot-table': { params: { name: 'first' } },
  repair: { json: {} },
  flush: { json: {} },
  'namespace-create': { json: { name: 'made' } },
  'namespace-alter': { json: { owner: 'me' } },
  'namespace-drop': { params: { name: 'made' }, query: 'confirm=made' },
  'user-create': { json: { name: 'made', roles: { [namespace]: 'read' } } },
  user: { params: { name: 'ada' } },
  'user-alter': { params: { name: 'ada' }, json: { operations_per_second: 5 } },
  'user-delete': { params: { name: 'made' } },
  'token-add': { params: { name: 'ada' }, json: { expires_seconds: 60 } },
  'token-revoke': { params: { name: 'ada' } },
};
/** Ids of the tokens that were made first, by user. */
const tokens = new Map<string, string>();

/** Refusals and other answers that are of one route, by its name and their status. */
const particular: Readonly<Record<string, (operation: Operation) => Cause>> = {
  'get 300': (operation) => within(operation, 'carts', { params: { key: 'two' } }),
  'head 300': (operation) => within(operation, 'carts', { params: { key: 'two' } }),
  'get 304': () => ({ headers: { 'if-none-match': '*' } }),
  'head 304': () => ({ headers: { 'if-none-match': '*' } }),
  'put 409': () => ({ headers: { 'if-none-match': '*' }, json: { value: 1 } }),
  'put 422': () => ({
    ...{ params: key, json: { value: 1 } },
    headers: { 'x-request-id': 'used', 'consistency-level': 'SERIAL' },
  }),
  'delete 409': () => ({ headers: { 'if-match': '"0-0-0"' } }),
  'delete 422': () => ({ params: key, headers: { 'x-request-id': 'used', 'if-match': '*' } }),
  'cas 409': () => ({ json: { expected_version: 999, new_value: 1 } }),
  'cas 422': () => ({
    ...{ params: key, headers: { 'x-request-id': 'used' } },
    json: { expected_version: 7, new_value: 1 },
  }),
  'incr 422': () => ({ params: { key: 'text' }, json: {} }),
  'ttl 422': () => ({
    ...{ params: key, headers: { 'x-request-id': 'used' } },
    json: { ttl_seconds: 9 },
  }),
  'batch-put 409': () => ({
    json: {
      operations: [
        { key: 'counter', value: 1 },
        { key: 'b', value: 1 },
      ],
      atomic: true,
    },
  }),
  'batch-delete 409': () => ({ json: { keys: ['counter', 'b'], atomic: true } }),
  'snapshot-create 409': () => ({ json: { name: 'first', nodes: ['n1'] } }),
  'snapshot-delete 404': () => ({ params: { name: 'none' } }),
  'snapshot 404': () => ({ params: { name: 'none' } }),
  'snapshot-table 404': () => ({ params: { name: 'none' } }),
  'namespace-create 409': () => ({ json: { name: namespace } }),
  'namespace-create 501': () => ({ json: { name: 'other', replication: 5 } }),
  'namespace 404': () => ({ params: { name: 'none' } }),
  'namespace-alter 404': () => ({ params: { name: 'none' }, json: { owner: 'me' } }),
  'namespace-alter 409': () => ({ json: { conflicts: 'siblings' } }),
  'namespace-alter 501': () => ({ json: { replication: 5 } }),
  'namespace-drop 404': () => ({ params: { name: 'none' }, query: 'confirm=none' }),
  'namespace-drop 409': () => ({ params: { name: 'default' }, query: 'confirm=default' }),
  'user-create 404': () => ({ json: { name: 'other', roles: { none: 'read' } } }),
  'user-create 409': () => ({ json: { name: 'ada' } }),
  'user 404': () => ({ params: { name: 'none' } }),
  'user-alter 404': () => ({ params: { name: 'none' }, json: {} }),
  'user-alter 409': () => ({ params: { name: 'boss' }, json: { disabled: true } }),
  'user-delete 404': () => ({ params: { name: 'none' } }),
  'user-delete 409': () => ({ params: { name: 'boss' } }),
  'token-add 404': () => ({ params: { name: 'none' }, json: {} }),
  'token-revoke 404': () => ({ params: { name: 'ada', id: 'none' } }),
  'token-revoke 409': () => tokenOf('boss'),
  'token-revoke 200': () => tokenOf('ada'),
};

const tokenOf = (name: string): Cause => ({ params: { name, id: tokens.get(name) ?? '' } });

const longText = 'x'.repeat(9_000);

/** What makes a real node answer so; undefined where nobody has said. */
function causeOf(operation: Operation, status: number): Cause | undefined {
  const { route, path } = operation;
  const own = particular[`${route.name} ${status}`];
  if (own !== undefined) return own(operation);
  const usual = done[route.name] ?? {};
  if (!route.isServed)
    return status === 501 ? { ...(route.body === 'none' ? {} : { json: {} }) } : undefined;
  if (status === 400) return { ...usual, query: 'nonsense=1' };
  if (status === 404 && isAboutKeys(operation)) return within(operation, 'nowhere', usual);
  if (status === 413 && route.query.includes('prefix')) return { query: `prefix=${longText}` };
  if (status === 413) {
    const [, param] = /:([a-z]+)/.exec(path) ?? [];
    if (param !== undefined) return { ...usual, params: { ...usual.params, [param]: longText } };
    // No more than the length is sent: it is enough to be refused.
    return { headers: { 'content-type': 'application/json', 'content-length': '17000000' } };
  }
  if (status === 415)
    return { ...usual, json: undefined, body: 'x', headers: { 'content-type': 'text/plain' } };
  return status < 300 ? usual : undefined;
}

function ask(base: string, operation: Operation, cause: Cause): Promise<Answer> {
  const {
    params,
    query,
    headers = {},
    json,
    body = json === undefined ? undefined : JSON.stringify(json),
  } = cause;
  const own = { ...usualParams, ...params };
  const path = operation.path.replaceAll(/:([a-z]+)/g, (_, name: string) => own[name] ?? '');
  const type = json === undefined ? {} : { 'content-type': 'application/json' };
  const length = body === undefined ? {} : { 'content-length': Buffer.byteLength(body) };
  return new Promise((resolve, reject) => {
    const url = `${base}${path}${query === undefined ? '' : `?${query}`}`;
    const { method } = operation.route;
    const all = { ...type, ...length, ...headers };
    const request = httpRequest(url, { method, headers: all, agent: false });
    let isAnswered = false;
    request.on('response', (response) => {
      isAnswered = true;
      const chunks: Buffer[] = [];
      const settle = (): void => {
        const { statusCode: status = 0 } = response;
        const found = response.headers['content-type'] ?? '';
        resolve({ status, type: found, text: Buffer.concat(chunks).toString() });
        request.destroy();
      };
      // A stream has no end: its beginning is the answer.
      if (response.headers['content-type'] === 'text/event-stream') return settle();
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', settle);
    });
    // A body that is refused before its end breaks the connection under what is still written.
    request.on('error', (error) => {
      if (!isAnswered) reject(error);
    });
    request.end(body);
  });
}

function check(operation: Operation, status: number, answer: Answer): void {
  const what = `${operation.id} ${status}: ${answer.text.slice(0, 300)}`;
  expect(answer.status, what).to.equal(status);
  const content = responsesOf(operation)[status]?.content;
  if (operation.route.method === 'HEAD' || content === undefined) {
    expect(answer.text, what).to.equal('');
    return;
  }
  const [type = ''] = answer.type.split(';');
  expect(Object.keys(content), what).to.include(type);
  if (!type.endsWith('json')) return;
  const schema = content[type]?.['schema'] as Schema;
  const document = JSON.parse(answer.text) as Problem;
  expect(problemsOf(schema, document), what).to.equal('');
  if (status < 400) return;
  expect(document.status, what).to.equal(status);
  expect(errorTable[document.code].status, what).to.equal(status);
}

describe('openapi: statuses', function () {
  this.timeout(120_000);
  let cluster: EmbeddedCluster;
  let base = '';
  const operation = (id: string): Operation =>
    operations.find((one) => one.route.name === id && !inPath(one)) as Operation;

  before(async () => {
    cluster = await createCluster({ nodes: 2 });
    base = cluster.endpoints[0] ?? '';
    const make = async (name: string, cause: Cause): Promise<string> => {
      const answer = await ask(base, operation(name), cause);
      expect(answer.status, `${name}: ${answer.text}`).to.be.within(200, 299);
      return answer.text;
    };
    for (const [name, admin] of [
      ['ada', false],
      ['boss', true],
    ] as const) {
      const made = await make('user-create', { json: { name, admin } });
      tokens.set(name, (JSON.parse(made) as { token: { id: string } }).token.id);
    }
    await make('namespace-create', { json: { name: namespace } });
    await make('namespace-create', { json: { name: 'carts', conflicts: 'siblings' } });
    const carts = { headers: { 'x-namespace': 'carts' }, params: { key: 'two' } };
    for (const value of [1, 2]) await make('put', { ...carts, json: { value } });
    for (const each of ['default', namespace]) {
      const headers = { 'x-namespace': each };
      for (const name of [seen, 'gone', 'text'])
        await make('put', { headers, params: { key: name }, json: { value: 'text' } });
      await make('incr', { headers, params: { key: 'counter' }, json: {} });
      const used = { ...headers, 'x-request-id': 'used' };
      await make('incr', { headers: used, params: { key: 'used' }, json: {} });
      const another = { ...key, key: 'fresh' };
      await make('incr', { headers: used, params: another, json: { delta: 5 } });
      await make('delete', { headers, params: another });
    }
    await make('flush', { json: {} });
    await make('snapshot-create', { json: { name: 'first' } });
  });
  after(() => cluster.stop());

  it('openapi: each status of each operation has a cause here, and none is left over', () => {
    const without = operations.flatMap((one) =>
      one.statuses
        .filter((status) => !ofRights.has(status))
        .filter((status) => !(one.route.isServed && ofTheNode.has(status)))
        .filter((status) => causeOf(one, status) === undefined)
        .map((status) => `${one.id} ${status}`),
    );
    expect(without).to.deep.equal([]);
    const known = new Set(
      operations.flatMap(({ route, statuses }) => statuses.map((each) => `${route.name} ${each}`)),
    );
    expect(Object.keys(particular).filter((name) => !known.has(name))).to.deep.equal([]);
  });

  for (const one of operations)
    it(`openapi: a real node answers as documented: ${one.id}`, async () => {
      const statuses = one.statuses.filter((status) => causeOf(one, status) !== undefined);
      for (const status of [...statuses].sort((a, b) => b - a))
        check(one, status, await ask(base, one, causeOf(one, status) as Cause));
    });

  it('openapi: what only a node can cause is answered as documented, with every code', async () => {
    let code: ErrorCode = 'BUG';
    const edge = new HttpEdge({
      ...{ node: 'n1', host: '127.0.0.1', port: 0 },
      ask: (_request, _timeoutMs, _trace, answered) => answered(failure(code), undefined),
    });
    const { port } = await edge.listen();
    try {
      const codes = (Object.keys(errorTable) as ErrorCode[]).filter((each) =>
        ofTheNode.has(errorTable[each].status),
      );
      for (const one of operations.filter(({ route }) => route.isServed))
        for (code of codes) {
          const answer = await ask(`http://127.0.0.1:${port}`, one, done[one.route.name] ?? {});
          check(one, errorTable[code].status, answer);
        }
    } finally {
      await edge.close();
    }
  });
});
