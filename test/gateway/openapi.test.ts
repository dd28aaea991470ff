// The OpenAPI document: valid, complete, and true. The same examples go to the real gateway through
// a socket and through the schemas of the document.

import { Validator } from '@seriousme/openapi-schema-validator';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { expect } from 'chai';
import { httpRoutes, pathsOf } from '../../actors/gateway/http-routes.ts';
import {
  componentSchemas,
  headerSchemas,
  querySchemas,
  routeSchemas,
  type Schema,
} from '../../actors/gateway/openapi-schemas.ts';
import { docsPage, openApiDocument } from '../../actors/gateway/openapi.ts';
import { errorTable } from '../../runtime/errors.ts';
import { problemOf, send, sendJson, startCluster, type TestCluster } from '../kit-gateway.ts';

const ajv = new Ajv2020({ strict: false });
ajv.addSchema({ $id: 'doc', components: { schemas: componentSchemas } });

function problemsOf(schema: Schema, value: unknown): string {
  const rooted = JSON.parse(JSON.stringify(schema).replaceAll('"#/', '"doc#/')) as Schema;
  return ajv.validate(rooted, value) ? '' : ajv.errorsText();
}

const served = httpRoutes.filter(({ isServed }) => isServed);

describe('openapi', () => {
  let cluster: TestCluster;
  before(async () => {
    cluster = await startCluster();
  });
  after(() => cluster.close());

  it('openapi: the document is valid OpenAPI 3.1, and the service serves it', async () => {
    const answer = await send(cluster.port, 'GET', '/api/v1/openapi.json');
    const document = JSON.parse(answer.text) as Record<string, unknown>;
    expect(document).to.deep.equal(JSON.parse(JSON.stringify(openApiDocument('1'))));
    const { valid, errors } = await new Validator().validate(document);
    expect(valid, JSON.stringify(errors)).to.equal(true);
  });

  it('openapi: every served route has its schema, every query parameter and header its own', () => {
    const missing = served.filter(({ name }) => routeSchemas[name] === undefined);
    expect(missing.map(({ name }) => name)).to.deep.equal([]);
    const unknown = Object.keys(routeSchemas).filter(
      (name) => !served.some((route) => route.name === name),
    );
    expect(unknown).to.deep.equal([]);
    const bare = served
      .flatMap(({ query }) => query)
      .filter((name) => querySchemas[name] === undefined);
    expect(bare).to.deep.equal([]);
    const paths = openApiDocument('1')['paths'] as Record<string, Record<string, Schema>>;
    const ids = Object.values(paths).flatMap((operations) => Object.values(operations));
    const count = httpRoutes.flatMap(pathsOf).length;
    expect(ids.length).to.equal(count);
    expect(new Set(ids.map(({ operationId }) => operationId)).size).to.equal(count);
    expect(Object.keys(headerSchemas)).to.include('X-Session-Token');
  });

  it('openapi: each route declares the headers that it takes, and no other', () => {
    const paths = openApiDocument('1')['paths'] as Record<string, Record<string, Schema>>;
    const declared = (path: string, method: string): string[] =>
      (paths[path]?.[method]?.['parameters'] as { name: string; in: string }[])
        .filter((parameter) => parameter.in === 'header')
        .map(({ name }) => name)
        .filter((name) => /^(If-|Last-|X-Namespace|X-Explain|X-Causal)/.test(name))
        .sort();
    const all = ['If-Match', 'If-None-Match', 'X-Causal-Context', 'X-Explain', 'X-Namespace'];
    const key = '/api/v1/keys/{key}';
    expect(declared(key, 'put')).to.deep.equal(all);
    expect(declared(key, 'delete')).to.deep.equal(all);
    expect(declared(key, 'get')).to.deep.equal(['If-None-Match', 'X-Explain', 'X-Namespace']);
    expect(declared(`${key}/cas`, 'post')).to.deep.equal(['X-Explain', 'X-Namespace']);
    expect(declared('/api/v1/batch/put', 'post')).to.deep.equal(['X-Namespace']);
    expect(declared('/api/v1/keys', 'get')).to.deep.equal(['X-Namespace']);
    expect(declared('/api/v1/watch', 'get')).to.deep.equal(['Last-Event-ID', 'X-Namespace']);
  });

  it('openapi: a watch has values by default, a list has none; a node may be draining', () => {
    const paths = openApiDocument('1')['paths'] as Record<string, { get: Schema }>;
    const valuesOf = (path: string): unknown =>
      (paths[path]?.get['parameters'] as { name: string; schema: Schema }[]).find(
        ({ name }) => name === 'values',
      )?.schema;
    expect(valuesOf('/api/v1/watch')).to.deep.equal({ type: 'boolean', default: true });
    expect(valuesOf('/api/v1/keys')).to.deep.equal({ type: 'boolean', default: false });
    const status = { node_id: 'n1', status: 'draining' };
    const nodes = (routeSchemas['cluster-status']?.answer as { properties: { nodes: Schema } })
      .properties.nodes;
    expect(problemsOf(nodes, [status])).to.equal('');
    expect(problemsOf(nodes, [{ ...status, status: 'gone' }])).to.not.equal('');
  });

  const bodies: Readonly<Record<string, { good: readonly unknown[]; bad: readonly unknown[] }>> = {
    put: {
      good: [
        { value: null },
        { value: { a: [1] }, ttl: 1 },
        { value: 'AA==', encoding: 'base64' },
        { value: 1, if_not_exists: false },
      ],
      bad: [
        {},
        { value: 1, ttl: 0 },
        { value: 1, ttl: 1.5 },
        { value: 1, ttl: 'x' },
        { value: 1, encoding: 'hex' },
        { value: 1, more: 1 },
        [],
        5,
      ],
    },
    'batch-put': {
      good: [{ operations: [] }, { operations: [{ key: 'a', value: 1, ttl: 5 }], atomic: false }],
      bad: [
        {},
        { operations: {} },
        { operations: [{ key: 'a' }] },
        { operations: [{ key: '', value: 1 }] },
        { operations: [], more: 1 },
      ],
    },
    'batch-get': {
      good: [{ keys: [] }, { keys: ['a', 'a'] }],
      bad: [{}, { keys: 'a' }, { keys: [1] }, { keys: [''] }],
    },
    'snapshot-create': {
      good: [{ name: 'a' }, { name: 'b', nodes: ['n1'] }],
      bad: [{}, { name: 1 }, { name: 'a', nodes: 'n1' }, { name: 'a', more: 1 }, { nodes: [] }],
    },
    repair: {
      good: [{}, { set: 'n1,n2,n3', full: true }],
      bad: [{ set: 1 }, { full: 'yes' }, { more: 1 }, []],
    },
    flush: {
      good: [{}, { nodes: ['n1'] }],
      bad: [{ nodes: 'n1' }, { nodes: [1] }, { more: 1 }],
    },
    'batch-delete': { good: [{ keys: ['a'] }], bad: [{ keys: [null] }, { keys: [], atomic: 1 }] },
  };

  for (const [name, { good, bad }] of Object.entries(bodies)) {
    const route = httpRoutes.find((one) => one.name === name);
    const path = route?.path.replace(':key', 'k') ?? '';
    const request = routeSchemas[name]?.request ?? {};
    it(`openapi: what the schema takes the gateway takes, and its answer fits (${name})`, async () => {
      for (const body of good) {
        const text = JSON.stringify(body);
        expect(problemsOf(request, body), text).to.equal('');
        const answer = await sendJson(cluster.port, route?.method ?? '', path, text);
        const status = routeSchemas[name]?.answerStatus ?? 200;
        expect(answer.status, `${text}: ${answer.text}`).to.equal(status);
        expect(problemsOf(routeSchemas[name]?.answer ?? {}, JSON.parse(answer.text))).to.equal('');
      }
    });
    it(`openapi: what the schema refuses the gateway refuses (${name})`, async () => {
      for (const body of bad) {
        const text = JSON.stringify(body);
        expect(problemsOf(request, body), text).to.not.equal('');
        const answer = await sendJson(cluster.port, route?.method ?? '', path, text);
        expect(answer.status, text).to.equal(400);
        const problem = problemOf(answer);
        expect(problemsOf(componentSchemas['Problem'] ?? {}, problem)).to.equal('');
        expect(errorTable[problem.code].status).to.equal(400);
      }
    });
  }

  it('openapi: answers without a body fit their schemas', async () => {
    await sendJson(cluster.port, 'PUT', '/api/v1/keys/seen', '{"value":1,"ttl":9}');
    const requests = {
      get: '/api/v1/keys/seen',
      list: '/api/v1/keys?values=true',
      scan: '/api/v1/scan?count=1',
      'cluster-status': '/api/v1/admin/cluster/status',
      ring: '/api/v1/ring',
      snapshots: '/api/v1/admin/snapshots',
      'repair-status': '/api/v1/admin/repair',
      livez: '/livez',
      readyz: '/readyz',
    };
    for (const [name, path] of Object.entries(requests)) {
      const answer = await send(cluster.port, 'GET', path);
      expect(answer.status, path).to.equal(200);
      const problems = problemsOf(routeSchemas[name]?.answer ?? {}, JSON.parse(answer.text));
      expect(problems, `${path}: ${answer.text}`).to.equal('');
    }
    const removed = await send(cluster.port, 'DELETE', '/api/v1/keys/seen');
    expect(problemsOf(routeSchemas['delete']?.answer ?? {}, JSON.parse(removed.text))).to.equal('');
  });

  it('openapi: the page names every route, takes nothing from elsewhere and runs no script', async () => {
    const answer = await send(cluster.port, 'GET', '/docs');
    expect(answer.headers['content-type']).to.equal('text/html; charset=utf-8');
    expect(answer.text).to.equal(docsPage());
    for (const { path } of httpRoutes) expect(answer.text).to.contain(`<code>${path}</code>`);
    expect(answer.text).to.not.match(/<script|https?:\/\//);
  });
});
