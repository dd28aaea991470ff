// Rights on the HTTP face: who shows the bearer token of a request, and whether he may do what it
// asks. Throws what the client hears: 401 where it is not known who asks, 403 where he may not, 429
// where he is too fast. A namespace in which a user has no role looks the same whether it is there or
// not (rule SE-14).

import { errorOf, type Failure, KvError } from '../../runtime/errors.ts';
import { JsonReader } from '../model/json-slices.ts';
import { rank } from '../model/users.ts';
import {
  type Access,
  type Audit,
  bootstrapUser,
  forbidden,
  isFailure,
  type Login,
} from './access.ts';
import type { HttpRoute } from './http-routes.ts';
import type { NamespaceGuard } from './namespace-guard.ts';
import type { HttpAnswer, HttpRequest } from './protocol.ts';
import { routeRight } from './route-rights.ts';

const scheme = /^bearer +(\S+) *$/i;

export class HttpAccess {
  readonly access: Access;
  readonly #guard: NamespaceGuard;
  readonly #audit: Audit;

  constructor(access: Access, guard: NamespaceGuard, audit: Audit) {
    this.access = access;
    this.#guard = guard;
    this.#audit = audit;
  }

  /** The first that is done of a request: its address may be too fast. Health is no operation. */
  admit({ client = '' }: HttpRequest, { name }: HttpRoute): void {
    if (name === 'livez' || name === 'readyz') return;
    const tooFast = this.access.admitAddress(client);
    if (tooFast !== undefined) throw errorOf(tooFast);
  }

  /** Who asks, before anything else of a request is done; undefined: nobody has to say. */
  identify(request: HttpRequest, route: HttpRoute): Login | undefined {
    const isAsked = this.access.isRequired && routeRight(route.name) !== 'open';
    return isAsked ? this.#loginOf(request, route) : undefined;
  }

  /** Whether the request may go on; one about keys is checked again when its namespace is known. */
  enter(login: Login | undefined, route: HttpRoute, request: HttpRequest): void {
    const right = routeRight(route.name);
    if (right === 'open' || login === undefined) return;
    const tooFast = this.access.admitUser(login);
    if (tooFast !== undefined) throw errorOf(tooFast);
    if (right === 'read' || right === 'write') return;
    if (!this.#mayEnter(login, route, request)) throw this.#refused(login, route, request);
  }

  #loginOf(request: HttpRequest, route: HttpRoute): Login {
    const { headers, client = '' } = request;
    const { authorization } = headers;
    if (authorization === undefined)
      throw new KvError('UNAUTHORIZED', { detail: 'expected Authorization: Bearer with a token' });
    const token = scheme.exec(authorization)?.[1];
    const found = this.access.login(token ?? '', client);
    if (!isFailure(found)) return found;
    // While somebody is held off, he is not written down again and again.
    if (found.code === 'UNAUTHORIZED' && !isAdministrative(route))
      this.#audit({ user: '', address: client, act: route.name, target: '', outcome: found.code });
    throw errorOf(found);
  }

  #mayEnter(login: Login, { name }: HttpRoute, { params }: HttpRequest): boolean {
    const { rights } = login;
    const named = params['name'] ?? '';
    switch (routeRight(name)) {
      case 'login':
        return login.user !== bootstrapUser;
      case 'self':
        return rights.isAdmin || login.user === named;
      case 'first':
        return rights.isAdmin || login.tokenId === '';
      case 'named-read':
        return this.#roleIn(login, named) >= rank.read;
      case 'named-admin':
        return this.#roleIn(login, named) >= rank.admin;
      default:
        return rights.isAdmin;
    }
  }

  #roleIn({ rights }: Login, name: string): number {
    const namespace = this.#guard.known.named(name);
    // One that is not known here is asked for where he could see it.
    if (namespace !== undefined) return rights.in(namespace.id);
    return rights.isEverywhere ? rank.admin : rank.none;
  }

  /** A request about keys, now that its namespace is known. */
  checkKeys(login: Login | undefined, route: HttpRoute, request: HttpRequest, id: number): void {
    if (login === undefined) return;
    const needed = routeRight(route.name) === 'read' ? rank.read : rank.write;
    if (login.rights.in(id) < needed) throw this.#refused(login, route, request);
  }

  /** What somebody hears who asked for a namespace that is not there. */
  hidden(
    login: Login | undefined,
    problem: Failure,
    route: HttpRoute,
    request: HttpRequest,
  ): Failure {
    if (login === undefined || problem.code !== 'NO_SUCH_NAMESPACE') return problem;
    return login.rights.isEverywhere ? problem : this.#refused(login, route, request).toFailure();
  }

  #refused({ user }: Login, route: HttpRoute, request: HttpRequest): KvError {
    const { name: act } = route;
    // What is administrative is written down when it ends.
    if (!isAdministrative(route)) {
      const target = targetOf(route, request);
      this.#audit({ user, address: request.client ?? '', act, target, outcome: 'FORBIDDEN' });
    }
    return errorOf(forbidden(user, act));
  }

  /** After an administrative request: what was done or why not. */
  ended(
    login: Login | undefined,
    route: HttpRoute,
    request: HttpRequest,
    answer: HttpAnswer,
  ): void {
    if (!isAdministrative(route)) return;
    const outcome = answer.status < 300 ? 'done' : codeOf(answer);
    if (outcome === 'OVERLOADED') return;
    const target = targetOf(route, request);
    const user = login?.user ?? '';
    this.#audit({ user, address: request.client ?? '', act: route.name, target, outcome });
  }
}

/** What changes the cluster, or takes its data out of it. */
const isAdministrative = ({ method, path, name }: HttpRoute): boolean =>
  (method !== 'GET' && path.includes('/admin/')) || name === 'snapshot';

/** The name that a request is about; never anything else of its body. */
function targetOf(route: HttpRoute, { params, body, headers }: HttpRequest): string {
  const { name, namespace } = params;
  if (name !== undefined) return name;
  if (!isAdministrative(route)) return namespace ?? headers['x-namespace'] ?? '';
  return textIn(body, 'name') ?? '';
}

/** Of a problem document. */
const codeOf = ({ status, body }: HttpAnswer): string => textIn(body, 'code') ?? `HTTP_${status}`;

/** A text of a JSON object; undefined where there is none, or up to there it is no JSON. */
function textIn(body: Uint8Array, wanted: string): string | undefined {
  let found: string | undefined;
  try {
    const reader = new JsonReader(body);
    reader.object((member) => {
      if (member === wanted) found = reader.text();
      else reader.skip();
    });
  } catch (error) {
    if (!(error instanceof KvError)) throw error;
  }
  return found;
}
