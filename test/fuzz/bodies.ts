// HTTP requests by the schemas of the OpenAPI document: bodies that are as they should be, and such
// with a member that is of another kind, missing or one too many.

import fc from 'fast-check';
import { type HttpRoute, httpRoutes, pathsOf } from '../../actors/gateway/http-routes.ts';
import {
  componentSchemas,
  querySchemas,
  routeSchemas,
  type Schema,
} from '../../actors/gateway/openapi-schemas.ts';

const depthMax = 4;
/** Work for the whole cluster, or for the disk: now and then only. */
const heavy: ReadonlySet<string> = new Set(['flush', 'repair', 'snapshot-create', 'watch']);

const anyJson: fc.Arbitrary<unknown> = fc.jsonValue({ maxDepth: 3 });
const word = fc.oneof(
  fc.constantFrom('fuzz', 'a', '', 'n1', 'default', 'ONE', '..', '__proto__', '\u0000', '"0-0-0"'),
  fc.string({ unit: 'binary', maxLength: 40 }),
);

/** By the bytes of its UTF-8: lone surrogates have none. */
const escaped = (text: string): string => encodeURIComponent(Buffer.from(text).toString());

/** Values of a schema, mostly; where it says little, anything. */
function valueOf(schema: Schema, depth = 0): fc.Arbitrary<unknown> {
  const { $ref, type, enum: words, const: only, anyOf, items, properties, maximum } = schema;
  if (depth > depthMax) return anyJson;
  if (typeof $ref === 'string') {
    const name = $ref.slice('#/components/schemas/'.length);
    return valueOf(componentSchemas[name] ?? {}, depth + 1);
  }
  if (only !== undefined) return fc.constant(only);
  if (Array.isArray(words)) return fc.constantFrom(...(words as unknown[]));
  if (Array.isArray(anyOf))
    return fc.oneof(...(anyOf as Schema[]).map((one) => valueOf(one, depth + 1)));
  if (type === 'string') return word;
  if (type === 'boolean') return fc.boolean();
  if (type === 'integer' || type === 'number') {
    const most = typeof maximum === 'number' ? maximum : Number.MAX_SAFE_INTEGER;
    return fc.oneof(
      fc.nat(9),
      fc.integer({ min: -1, max: Math.min(most + 1, 2 ** 31 - 1) }),
      fc.double(),
    );
  }
  if (type === 'array') return fc.array(valueOf(items as Schema, depth + 1), { maxLength: 8 });
  if (type !== 'object' || properties === undefined) return anyJson;
  const members = Object.entries(properties as Readonly<Record<string, Schema>>);
  return fc.record(
    Object.fromEntries(members.map(([name, one]) => [name, valueOf(one, depth + 1)])),
    { requiredKeys: [] },
  );
}

/** With one member that does not belong there, sometimes. */
const bodyOf = (schema: Schema): fc.Arbitrary<string> =>
  fc
    .tuple(valueOf(schema), fc.option(fc.tuple(word, anyJson), { freq: 3 }), fc.nat(9))
    .map(([value, more, cut]): string => {
      const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
      const whole = isObject && more !== null ? { ...value, [more[0]]: more[1] } : value;
      const text = JSON.stringify(whole);
      return cut === 0 ? text.slice(0, Math.floor(text.length / 2)) : text;
    });

const queryOf = ({ query }: HttpRoute): fc.Arbitrary<string> =>
  fc
    .record(Object.fromEntries(query.map((name) => [name, valueOf(querySchemas[name] ?? {})])), {
      requiredKeys: [],
    })
    .map((chosen) =>
      Object.entries(chosen)
        .map(([name, value]) => `${name}=${escaped(String(value))}`)
        .join('&'),
    );

const requestOf = (route: HttpRoute): fc.Arbitrary<Buffer> =>
  fc
    .record({
      path: fc.constantFrom(...pathsOf(route)),
      params: fc.array(word, { minLength: 4, maxLength: 4 }),
      query: queryOf(route),
      body:
        route.body === 'none' ? fc.constant('') : bodyOf(routeSchemas[route.name]?.request ?? {}),
      level: fc.option(fc.constantFrom('ONE', 'QUORUM', 'SERIAL', 'nonsense'), { freq: 2 }),
      type: fc.constantFrom('application/json', 'application/json', 'application/octet-stream', ''),
    })
    .map(({ path, params, query, body, level, type }) => {
      let next = 0;
      const filled = path.replaceAll(/:[a-z]+/g, () => {
        next += 1;
        return escaped(params[next % params.length] ?? '');
      });
      const head = [
        `${route.method} ${filled}${query === '' ? '' : `?${query}`} HTTP/1.1`,
        'host: a',
        'x-deadline-ms: 500',
        ...(level === null ? [] : [`consistency-level: ${level}`]),
        ...(type === '' ? [] : [`content-type: ${type}`]),
        ...(body === '' ? [] : [`content-length: ${Buffer.byteLength(body)}`]),
      ];
      return Buffer.from(`${head.join('\r\n')}\r\n\r\n${body}`);
    });

const weightOf = ({ name, path }: HttpRoute): number =>
  heavy.has(name) ? 1 : path.includes('/admin/') ? 5 : 50;

/** One request of any route. */
export const requestBySchema: fc.Arbitrary<Buffer> = fc.oneof(
  ...httpRoutes.map((route) => ({ weight: weightOf(route), arbitrary: requestOf(route) })),
);
