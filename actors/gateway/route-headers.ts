// Which routes take the request headers that not all routes about keys take: what a route has no use
// for is refused, so that nobody believes that his condition was looked at. The OpenAPI document says
// the same, from the same table.

import { KvError } from '../../runtime/errors.ts';
import { type HttpRoute, pathsOf } from './http-routes.ts';
import { parseFlag } from './http-requests.ts';
import type { HttpRequest } from './protocol.ts';

interface Selective {
  /** Names of the routes that take it. */
  readonly routes: ReadonlySet<string>;
  /** What a refusal says. */
  readonly expected: string;
}

const routes = (...names: readonly string[]): ReadonlySet<string> => new Set(names);

const selective: Readonly<Record<string, Selective>> = {
  'X-Explain': {
    routes: routes('put', 'get', 'head', 'delete', 'cas', 'incr', 'ttl'),
    expected: 'it on a request about one key only',
  },
  'If-Match': {
    routes: routes('put', 'delete'),
    expected: 'it on a put or delete of one key only',
  },
  'If-None-Match': {
    routes: routes('put', 'get', 'head', 'delete'),
    expected: 'it on a put, read or delete of one key only',
  },
};

export const takesHeader = ({ name }: HttpRoute, header: string): boolean =>
  selective[header]?.routes.has(name) ?? true;

/** BAD_REQUEST for a header that the route would have to ignore. */
export function checkHeaders(route: HttpRoute, { headers }: HttpRequest): void {
  for (const [header, { expected }] of Object.entries(selective)) {
    const value = headers[header.toLowerCase()];
    if (value === undefined || takesHeader(route, header)) continue;
    // Caches and browsers send conditions on their own: to what is not about keys they mean nothing.
    const isMeant = header === 'X-Explain' ? parseFlag(value, header) : pathsOf(route).length > 1;
    if (isMeant)
      throw new KvError('BAD_REQUEST', {
        field: header,
        detail: `${header}: expected ${expected}`,
      });
  }
}
