// Rights on the HTTP face: who shows the bearer token of a request, and whether he may do what it
// asks. Throws what the client hears: 401 where it is not known who asks, 403 where he may not, 429
// where he is too fast. A namespace in which a user has no role looks the same whether it is there or
// not (rule SE-14).

import { errorOf, type Failure, KvError } from '../../runtime/errors.ts';
import type { Clock } from '../../runtime/environment.ts';
import { dropOldest } from '../model/drop-oldest.ts';
import { JsonReader } from '../model/json-slices.ts';
import { rank } from '../model/users.ts';
import type { AuditEntry } from '../security/protocol.ts';
import {
  type Access,
  type Audit,
  bootstrapUser,
  forbidden,
  isFailure,
  type Login,
  roleIn,
} from './access.ts';
import type { HttpRoute } from './http-routes.ts';
import type { NamespaceGuard } from './namespace-guard.ts';
import type { HttpAnswer, HttpRequest } from './protocol.ts';
import { routeRight } from './route-rights.ts';

/** A table is taken in many parts: a line of the audit log tells of all within this time. */
const downloadMs = 60_000;
const downloadsMax = 1024;
const tablePart = 'snapshot-table';

const scheme = /^bearer +(\S+) *$/i;

export class HttpAccess {
  readonly access: Access;
  readonly #guard: NamespaceGuard;
  readonly #audit: Audit;
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  /** When the line about a download was written, by who takes which table. */
  readonly #downloads = new Map<string, number>();

  constructor(
    access: Access,
    { guard, audit, clock }: Readonly<{ guard: NamespaceGuard; audit: Audit; clock: Clock }>,
  ) {
    this.access = access;
    this.#guard = guard;
    this.#audit = audit;
    this.#clock = clock;
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
    if (authorization === undefined) {
      this.#unknown(route, client);
      throw new KvError('UNAUTHORIZED', { detail: 'expected Authorization: Bearer with a token' });
    }
    const token = scheme.exec(authorization)?.[1];
    const found = this.access.login(token ?? '', client);
    if (!isFailure(found)) return found;
    // While somebody is held off, he is not written down again and again.
    if (found.code === 'UNAUTHORIZED') this.#unknown(route, client);
    throw errorOf(found);
  }

  /** What is administrative is written down when it ends. */
  #unknown(route: HttpRoute, address: string): void {
    if (isAdministrative(route)) return;
    this.#audit({ user: '', address, act: route.name, target: '', outcome: 'UNAUTHORIZED' });
  }

  /** A further part of a table of which a line has told lately. */
  #isContinued(
    { name }: HttpRoute,
    { params }: HttpRequest,
    { user, address, target }: Omit<AuditEntry, 'act'>,
  ): boolean {
    if (name !== tablePart) return false;
    const download = JSON.stringify([user, address, target, params['shard'], params['table']]);
    const nowMs = this.#clock.monotonicMs();
    const writtenMs = this.#downloads.get(download);
    if (writtenMs !== undefined && nowMs - writtenMs < downloadMs) return true;
    this.#downloads.delete(download);
    this.#downloads.set(download, nowMs);
    dropOldest(this.#downloads, downloadsMax);
    return false;
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
        return roleIn(login, named, this.#guard.known) >= rank.read;
      case 'named-admin':
        return roleIn(login, named, this.#guard.known) >= rank.admin;
      default:
        return rights.isAdmin;
    }
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
    const entry = { user: login?.user ?? '', address: request.client ?? '', target, outcome };
    if (outcome === 'done' && this.#isContinued(route, request, entry)) return;
    this.#audit({ ...entry, act: route.name });
  }
}

/** What changes the cluster, or takes its data out of it. */
const isAdministrative = ({ method, path, name }: HttpRoute): boolean =>
  (method !== 'GET' && path.includes('/admin/')) || downloads.has(name);

const downloads: ReadonlySet<string> = new Set(['snapshot', tablePart]);

/** The name that a request is about; never anything else of its body. */
function targetOf(route: HttpRoute, { params, body, headers }: HttpRequest): string {
  const { name, namespace } = params;
  if (name !== undefined) return name;
  if (!isAdministrative(route)) return namespace ?? headers['x-namespace'] ?? '';
  return textIn(body, 'name') ?? '';
}

/** Of a problem document. */
export const codeOf = ({ status, body }: HttpAnswer): string =>
  textIn(body, 'code') ?? `HTTP_${status}`;

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
