// Users over HTTP: create, list, show, alter, delete, and their tokens, through any node. What is
// shown is what the cluster has decided. A token is made here and is in the answer to its creation;
// nobody is ever told it again, and what travels between nodes is its hash.

import { type MintedToken, mintToken, tokenBytes } from '../../runtime/access-token.ts';
import { failure, KvError } from '../../runtime/errors.ts';
import type { CatalogBytes, RoleChange, UserChange } from '../catalog/protocol.ts';
import { JsonReader } from '../model/json-slices.ts';
import { type CatalogDocument, ttlSecondsLimit } from '../model/namespaces.ts';
import { everyNamespace, isUserName, type User, type UserSettings } from '../model/users.ts';
import { changeCatalog, lookAtCatalog } from './catalog-routes.ts';
import { jsonAnswer } from './http-answers.ts';
import { problemAnswer } from './http-routes.ts';
import {
  checkJson,
  type NodeExchange,
  type NodeHandlers,
  type NodeTools,
  refuseField,
} from './node-answers.ts';
import type { HttpAnswer, HttpRequest } from './protocol.ts';

export interface UserTools extends NodeTools {
  /** Random bytes that nobody can predict. */
  readonly secretBytes: (length: number) => Uint8Array;
  readonly nowMs: () => number;
  /** A document that the cluster has decided: this node acts by it before the client hears of it. */
  readonly changed: (known: CatalogBytes) => void;
}

/** Handlers by the names of their routes. */
export function userHandlers(tools: UserTools): NodeHandlers {
  return {
    users: (exchange) =>
      lookAtCatalog(tools, exchange, (document) => {
        const { epoch, users } = document;
        return jsonAnswer({ epoch, users: users.map((user) => membersOf(user, document)) });
      }),
    user: (exchange) => {
      const name = nameOf(exchange.request);
      lookAtCatalog(tools, exchange, (document) => oneAnswer(document, name));
    },
    'user-create': (exchange) => create(tools, exchange),
    'user-alter': (exchange) => {
      const name = nameOf(exchange.request);
      const { settings, roles } = parseUser(exchange.request, 'alter');
      const wanted = { kind: 'user-alter', name, settings, roles } as const;
      change(tools, exchange, wanted, (document) => oneAnswer(document, name));
    },
    'user-delete': (exchange) => {
      const name = nameOf(exchange.request);
      change(tools, exchange, { kind: 'user-delete', name }, ({ epoch }) =>
        jsonAnswer({ name, deleted: true, epoch }),
      );
    },
    'token-add': (exchange) => addToken(tools, exchange),
    'token-revoke': (exchange) => {
      const name = nameOf(exchange.request);
      const { id = '' } = exchange.request.params;
      change(tools, exchange, { kind: 'token-revoke', name, id }, (document) =>
        oneAnswer(document, name),
      );
    },
  };
}

function create(tools: UserTools, exchange: NodeExchange): void {
  const { name, settings, roles, expiresSeconds } = parseUser(exchange.request, 'create');
  const minted = mintToken(tools.secretBytes(tokenBytes));
  const token = recordOf(minted, expiresMsOf(tools, expiresSeconds));
  // Of the token of the file, which is no user's.
  const isFirst = exchange.login?.tokenId === '';
  const wanted = { kind: 'user-create', name, settings, roles, token, isFirst } as const;
  change(tools, exchange, wanted, (document) => oneAnswer(document, name, minted));
}

function addToken(tools: UserTools, exchange: NodeExchange): void {
  const name = nameOf(exchange.request);
  const { expiresSeconds } = parseUser(exchange.request, 'token');
  const minted = mintToken(tools.secretBytes(tokenBytes));
  const token = recordOf(minted, expiresMsOf(tools, expiresSeconds));
  change(tools, exchange, { kind: 'token-add', name, token }, (document) =>
    oneAnswer(document, name, minted),
  );
}

const recordOf = (
  { id, hash }: MintedToken,
  expiresMs: number,
): { id: string; hash: string; expiresMs: number } => ({ id, hash, expiresMs });

const expiresMsOf = ({ nowMs }: UserTools, seconds: number): number =>
  seconds === 0 ? 0 : Math.floor(nowMs()) + seconds * 1000;

function change(
  tools: UserTools,
  exchange: NodeExchange,
  wanted: UserChange,
  render: (document: CatalogDocument) => HttpAnswer,
): void {
  changeCatalog(tools, exchange, wanted, render, tools.changed);
}

function oneAnswer(document: CatalogDocument, name: string, minted?: MintedToken): HttpAnswer {
  const { epoch, users } = document;
  const user = users.find((each) => each.name === name);
  if (user === undefined)
    return problemAnswer(failure('NOT_FOUND', { detail: `no such user: ${name}` }));
  const shown = minted === undefined ? {} : { token: { id: minted.id, token: minted.text } };
  const answer = jsonAnswer({ epoch, user: membersOf(user, document), ...shown });
  // Nobody between here and the client may keep it (RFC 6750 section 5.3).
  return { ...answer, headers: { ...answer.headers, 'cache-control': 'no-store' } };
}

function membersOf(user: User, { namespaces }: CatalogDocument): object {
  const names = new Map(namespaces.map(({ id, name }) => [id, name]));
  names.set(everyNamespace, '*');
  return {
    name: user.name,
    admin: user.isAdmin,
    disabled: user.isDisabled,
    operations_per_second: user.operationsPerSecondMax,
    created_ms: user.createdMs,
    roles: Object.fromEntries(
      user.roles.map(({ namespace, role }) => [names.get(namespace) ?? '', role]),
    ),
    owns: namespaces.filter(({ owner }) => owner === user.name).map(({ name }) => name),
    tokens: user.tokens.map(({ id, createdMs, expiresMs }) => ({
      id,
      created_ms: createdMs,
      expires_ms: expiresMs === 0 ? null : expiresMs,
    })),
  };
}

// ---- requests ------------------------------------------------------------------------------

function nameOf({ params }: HttpRequest): string {
  const name = params['name'] ?? '';
  if (!isUserName(name)) throw new KvError('NOT_FOUND', { detail: 'no such user' });
  return name;
}

interface UserRequest {
  readonly name: string;
  readonly settings: Partial<UserSettings>;
  readonly roles: readonly RoleChange[];
  /** 0: never. */
  readonly expiresSeconds: number;
}

const expected = {
  create: 'name, admin, disabled, operations_per_second, roles, token_expires_seconds',
  alter: 'admin, disabled, operations_per_second, roles',
  token: 'expires_seconds',
} as const;

const settingNames: Readonly<Record<string, keyof UserSettings>> = {
  admin: 'isAdmin',
  disabled: 'isDisabled',
  operations_per_second: 'operationsPerSecondMax',
};

/** What the settings may be is checked with the whole (actors/catalog/user-changes.ts). */
function parseUser(request: HttpRequest, kind: keyof typeof expected): UserRequest {
  checkJson(request);
  const settings: Record<string, unknown> = {};
  const roles: RoleChange[] = [];
  let name = '';
  let expiresSeconds = 0;
  const reader = new JsonReader(request.body);
  reader.object((member) => {
    const setting = Object.hasOwn(settingNames, member) ? settingNames[member] : undefined;
    if (kind === 'token' ? member === 'expires_seconds' : member === 'token_expires_seconds') {
      if (kind === 'alter') refuseField(member, `one of the members ${expected[kind]}`);
      expiresSeconds = secondsOf(member, reader.value());
    } else if (kind === 'token') refuseField(member, `the member ${expected[kind]}`);
    else if (member === 'name' && kind === 'create') name = reader.text();
    else if (member === 'roles') roles.push(...readRoles(reader));
    else if (setting !== undefined) settings[setting] = reader.value();
    else refuseField(member, `one of the members ${expected[kind]}`);
  });
  reader.end();
  return { name, settings, roles, expiresSeconds };
}

/** An object of namespaces and roles; null takes a role away. */
function readRoles(reader: JsonReader): RoleChange[] {
  const roles: RoleChange[] = [];
  reader.object((namespace) => {
    const role = reader.value();
    if (role !== null && typeof role !== 'string')
      refuseField(`roles.${namespace}`, 'read, write, admin or null');
    roles.push({ namespace, role: role ?? 'none' });
  });
  return roles;
}

function secondsOf(field: string, value: unknown): number {
  if (!Number.isSafeInteger(value) || (value as number) < 1 || (value as number) > ttlSecondsLimit)
    refuseField(field, `a whole number of seconds from 1 to ${ttlSecondsLimit}`);
  return value as number;
}
