// The HTTP face as an OpenAPI 3.1 document, made from the table of routes and their schemas: what is
// served is in it, and what is in it is served or says 501. Also the page that shows it.

import { errorTable } from '../../runtime/errors.ts';
import { type HttpRoute, httpRoutes, pathsOf } from './http-routes.ts';
import { takesHeader } from './route-headers.ts';
import { routeRight } from './route-rights.ts';
import {
  componentSchemas,
  headerSchemas,
  querySchemas,
  routeSchemas,
  type RouteSchema,
  type Schema,
} from './openapi-schemas.ts';

const bytesType = 'application/octet-stream';

/** The document, as plain data. */
export function openApiDocument(version: string): Schema {
  const paths: Record<string, Record<string, Schema>> = {};
  for (const route of httpRoutes)
    for (const each of pathsOf(route)) {
      const path = each.replaceAll(/:([a-z]+)/g, '{$1}').replace('*', '{path}');
      const operations = paths[path] ?? {};
      operations[route.method.toLowerCase()] = operationOf(route, each);
      paths[path] = operations;
    }
  return {
    openapi: '3.1.0',
    info: {
      title: 'kvd',
      version,
      description:
        'A distributed key-value store. What cannot be read as a request is refused before it is ' +
        'one of these: with 400, 408 (too slow) or 431 (headers); another method with 405.',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: '/' }],
    paths,
    components: {
      schemas: componentSchemas,
      securitySchemes: {
        token: {
          type: 'http',
          scheme: 'bearer',
          description: 'Where users have to say who they are (--auth required).',
        },
      },
    },
  };
}

function operationOf(route: HttpRoute, path: string): Schema {
  const schema = routeSchemas[route.name] ?? {};
  const parameters = parametersOf(route, path);
  const body = requestOf(route, schema);
  return {
    operationId: path === route.path ? route.name : `${route.name}-in-namespace`,
    summary: route.what,
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === undefined ? {} : { requestBody: body }),
    responses: responsesOf(route, path, schema),
    // Without a token too, where the node asks nobody who he is.
    ...(routeRight(route.name) === 'open' ? {} : { security: [{}, { token: [] }] }),
  };
}

const keyInPath = 'Percent-encoded text, or any bytes as `key_encoding` says.';

function parametersOf(route: HttpRoute, path: string): Schema[] {
  const inPath = [...path.matchAll(/:([a-z]+)|(\*)/g)].map(([, name = 'path']) => ({
    name,
    in: 'path',
    required: true,
    ...(name === 'key' ? { description: keyInPath } : {}),
    schema: { type: 'string' },
  }));
  const inQuery = route.query.map((name) => {
    const own = routeSchemas[route.name]?.query?.[name];
    const { description, ...schema } = own ?? querySchemas[name] ?? { type: 'string' };
    const words = description === undefined ? {} : { description };
    return { name, in: 'query', ...words, schema };
  });
  const inHeader = Object.entries(headerSchemas)
    .filter(([name]) => takesHeader(route, name))
    .map(([name, schema]) => ({ name, in: 'header', schema }));
  return [...inPath, ...inQuery, ...inHeader];
}

function requestOf(route: HttpRoute, { request, takesBytes }: RouteSchema): Schema | undefined {
  if (!route.isServed || request === undefined) return undefined;
  const bytes = takesBytes === true ? { [bytesType]: {} } : {};
  return { required: true, content: { 'application/json': { schema: request }, ...bytes } };
}

/** Of every route: a defect, a full queue, too few nodes, no answer in time. */
const refusalsOfAll = [400, 429, 500, 503, 504];

/** Where users have to say who they are. */
const rightsOf = ({ name }: HttpRoute): readonly number[] =>
  routeRight(name) === 'open' ? [] : [401, 403];

function responsesOf(route: HttpRoute, path: string, schema: RouteSchema): Schema {
  if (!route.isServed)
    return Object.fromEntries([...rightsOf(route), 501].map((status) => [status, refusal(status)]));
  const { answerStatus = 200, others = {}, refusals = [] } = schema;
  const isAboutKeys = pathsOf(route).length > 1;
  const hasLimits = path.includes(':') || route.query.includes('prefix');
  const statuses = [
    ...refusalsOfAll,
    ...rightsOf(route),
    ...refusals,
    ...(isAboutKeys ? [404] : []),
    ...(route.body === 'none' ? [] : [413, 415]),
    ...(hasLimits ? [413] : []),
  ];
  return {
    [answerStatus]: successOf(schema),
    ...Object.fromEntries(Object.entries(others).map(([status, one]) => [status, otherOf(one)])),
    ...Object.fromEntries(statuses.map((status) => [status, refusal(status)])),
  };
}

const otherOf = (schema: Schema | null): Schema =>
  schema === null
    ? { description: 'Unchanged.' }
    : { description: 'Several values.', content: { 'application/json': { schema } } };

function successOf({ answer, answerType, takesBytes }: RouteSchema): Schema {
  const description = 'Done.';
  if (answer === undefined && answerType === undefined) return { description };
  const bytes = takesBytes === true ? { [bytesType]: {} } : {};
  const content =
    answer === undefined
      ? { [answerType ?? '']: { schema: { type: 'string' } } }
      : { 'application/json': { schema: answer }, ...bytes };
  return { description, content };
}

/** The codes that a status may carry, from the table of errors. */
function refusal(status: number): Schema {
  const codes = Object.entries(errorTable).filter(([, row]) => row.status === status);
  return {
    description: codes.map(([code, { title }]) => `${code}: ${title}`).join(' ') || 'Refused.',
    content: {
      'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } },
    },
  };
}

// ---- the page ------------------------------------------------------------------------------

const escapes: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
};
const escaped = (text: string): string => text.replaceAll(/[&<>"]/g, (one) => escapes[one] ?? one);

/** The routes to browse, without a script and without anything from elsewhere. */
export function docsPage(): string {
  const rows = httpRoutes.map((route) => {
    const { method, path, what, query, isServed, name } = route;
    const schema = routeSchemas[name] ?? {};
    const shapes = [
      ...(schema.request === undefined ? [] : [['request', schema.request] as const]),
      ...(schema.answer === undefined ? [] : [['answer', schema.answer] as const]),
    ].map(
      ([label, shape]) => `<p>${label}</p><pre>${escaped(JSON.stringify(shape, null, 2))}</pre>`,
    );
    const parameters = query.length === 0 ? '' : `<p>query: ${query.join(', ')}</p>`;
    const state = isServed ? '' : ' <em>not implemented yet</em>';
    return `<details><summary><b>${method}</b> <code>${escaped(path)}</code> ${escaped(what)}${state}</summary>${parameters}${shapes.join('')}</details>`;
  });
  const shared = Object.entries(componentSchemas).map(
    ([name, shape]) =>
      `<details><summary><code>${name}</code></summary><pre>${escaped(JSON.stringify(shape, null, 2))}</pre></details>`,
  );
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>kvd: HTTP</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}
summary{cursor:pointer;padding:.2rem 0}pre{overflow:auto;padding:.5rem;border:1px solid #8884}b{display:inline-block;min-width:4.5rem}</style></head>
<body><h1>kvd over HTTP</h1><p>As OpenAPI 3.1: <a href="/api/v1/openapi.json">/api/v1/openapi.json</a></p>
${rows.join('\n')}
<h2>Shapes</h2>
${shared.join('\n')}
</body></html>
`;
}
