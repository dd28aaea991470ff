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

/** Headers that are refused elsewhere. */
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

/** Of the headers that other routes know nothing of: who sends one there has no use for it. */
const known: Readonly<Record<string, ReadonlySet<string>>> = {
  'X-Causal-Context': routes('put', 'delete'),
  'X-Request-Id': routes('put', 'delete', 'cas', 'incr', 'ttl', 'batch-put', 'batch-delete'),
  'Last-Event-ID': routes('watch'),
};
const ofWatches: ReadonlySet<string> = routes('X-Namespace', 'Last-Event-ID');

/** Whether a header means something on a route; all but a few do on every route about keys. */
export function takesHeader(route: HttpRoute, header: string): boolean {
  if (pathsOf(route).length < 2) return false;
  if (route.name === 'watch') return ofWatches.has(header);
  return (selective[header]?.routes ?? known[header])?.has(route.name) ?? true;
}

/** BAD_REQUEST for a header that the route would have to ignore. */
export function checkHeaders(route: HttpRoute, { headers }: HttpRequest): void {
  if (route.name === 'watch' && headers['consistency-level'] !== undefined)
    refuse('Consistency-Level', 'none on a watch: it tells what is acknowledged at QUORUM');
  for (const [header, { expected }] of Object.entries(selective)) {
    const value = headers[header.toLowerCase()];
    if (value === undefined || takesHeader(route, header)) continue;
    // Caches and browsers send conditions on their own: to what is not about keys they mean nothing.
    const isMeant = header === 'X-Explain' ? parseFlag(value, header) : pathsOf(route).length > 1;
    if (isMeant) refuse(header, expected);
  }
}

function refuse(field: string, expected: string): never {
  throw new KvError('BAD_REQUEST', { field, detail: `${field}: expected ${expected}` });
}
