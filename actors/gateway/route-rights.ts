// What each route of the HTTP face asks of a user, where users are asked who they are (rule SE-13). A
// route that is not in the table is for administrators of the cluster. Routes about keys are decided
// when their namespace is known.

export type RouteRight =
  /** Of everybody: says nothing about the cluster. */
  | 'open'
  /** Of every user, also of one without any role. */
  | 'login'
  /** In the namespace of the request. */
  | 'read'
  | 'write'
  /** In the namespace that the path names. */
  | 'named-read'
  | 'named-admin'
  /** Administrators of the cluster, and each user about himself. */
  | 'self'
  /** Administrators of the cluster, and the token of the file while there is none. */
  | 'first'
  | 'admin';

const rights: Readonly<Record<string, RouteRight>> = {
  livez: 'open',
  readyz: 'open',
  openapi: 'open',
  docs: 'open',
  metrics: 'login',
  'cluster-status': 'login',
  ring: 'login',
  namespaces: 'login',
  get: 'read',
  head: 'read',
  list: 'read',
  scan: 'read',
  watch: 'read',
  'batch-get': 'read',
  put: 'write',
  delete: 'write',
  cas: 'write',
  incr: 'write',
  ttl: 'write',
  'batch-put': 'write',
  'batch-delete': 'write',
  namespace: 'named-read',
  'namespace-alter': 'named-admin',
  user: 'self',
  'user-create': 'first',
};

export const routeRight = (name: string): RouteRight =>
  Object.hasOwn(rights, name) ? (rights[name] as RouteRight) : 'admin';

/**
 * Whether a request may use one of the last connections of its port. `isAdmin`: whether who asks is
 * an administrator; undefined: it is not known who asks. Without users these are for everything but
 * keys, which is what floods.
 */
export function mayUseReserve(
  name: string,
  isAdmin: boolean | undefined,
  isRequired: boolean,
): boolean {
  if (name === 'livez' || name === 'readyz' || isAdmin === true) return true;
  return !isRequired && !['open', 'read', 'write'].includes(routeRight(name));
}
