// Changes of users as functions from one document to the next. Pure. Two rules beside what each
// change says: no change takes the last administrator who can show a token away, and what began the
// cluster (the token of a file) makes an administrator only while there is none.

import { KvError } from '../../runtime/errors.ts';
import { type CatalogDocument, noSuchNamespace } from '../model/namespaces.ts';
import {
  everyNamespace,
  hasUsableAdmin,
  isExpired,
  isUserName,
  plainUser,
  type Role,
  type RoleGrant,
  roles,
  tokensMax,
  type User,
  type UserSettings,
  usersMax,
  type UserToken,
} from '../model/users.ts';
import type { RoleChange, UserChange } from './protocol.ts';

/** The document after a change, its epoch not yet raised. A KvError says why it cannot be made. */
export function usersChanged(
  document: CatalogDocument,
  change: UserChange,
  nowMs: number,
): CatalogDocument {
  const { users } = document;
  const hadAdmin = hasUsableAdmin(users, nowMs);
  const next = { ...document, ...after(document, change, nowMs) };
  if (hadAdmin && !hasUsableAdmin(next.users, nowMs))
    throw conflict(`user ${change.name} is the last administrator: make another one first`);
  return next;
}

type Changed = Pick<CatalogDocument, 'users'> & Partial<CatalogDocument>;

function after(document: CatalogDocument, change: UserChange, nowMs: number): Changed {
  const { users, namespaces } = document;
  if (change.kind === 'user-create') return { users: created(document, change, nowMs) };
  const old = users.find(({ name }) => name === change.name);
  if (old === undefined) throw noSuchUser(change.name);
  const replaced = (user: User): Changed => ({
    users: users.map((each) => (each === old ? user : each)),
  });
  switch (change.kind) {
    case 'user-alter':
      return replaced({
        ...old,
        ...checked(change.settings),
        roles: rolesAfter(document, old.roles, change.roles),
      });
    case 'user-delete':
      // Who gets the name later owns nothing by it.
      return {
        users: users.filter((each) => each !== old),
        namespaces: namespaces.map((each) =>
          each.owner === old.name ? { ...each, owner: '' } : each,
        ),
      };
    case 'token-add':
      return replaced({ ...old, tokens: added(old, change.token, nowMs) });
    case 'token-revoke': {
      const tokens = old.tokens.filter(({ id }) => id !== change.id);
      if (tokens.length === old.tokens.length)
        throw new KvError('NOT_FOUND', { detail: `user ${old.name} has no token ${change.id}` });
      return replaced({ ...old, tokens });
    }
  }
}

function created(
  document: CatalogDocument,
  change: Extract<UserChange, { kind: 'user-create' }>,
  nowMs: number,
): readonly User[] {
  const { name, settings, roles: wanted, token, isFirst } = change;
  const { users } = document;
  if (!isUserName(name))
    refuse('name', '1 to 64 of the characters A-Z a-z 0-9 _ -, and no word of the protocols');
  if (isFirst && hasUsableAdmin(users, nowMs))
    throw new KvError('FORBIDDEN', {
      detail: 'there is an administrator: the token of the file counts no more',
    });
  if (isFirst && settings.isAdmin !== true) refuse('admin', 'true: the first user is one');
  if (users.some((each) => each.name === name)) throw conflict(`user ${name} exists`);
  if (users.length >= usersMax)
    throw new KvError('TOO_LARGE', { limit: usersMax, detail: `more than ${usersMax} users` });
  const user: User = {
    name,
    createdMs: nowMs,
    ...plainUser,
    ...checked(settings),
    roles: rolesAfter(document, [], wanted),
    tokens: [{ ...token, createdMs: nowMs }],
  };
  return [...users, user];
}

/** Tokens that have expired make room. */
function added(
  { name, tokens }: User,
  token: Omit<UserToken, 'createdMs'>,
  nowMs: number,
): UserToken[] {
  const living = tokens.filter((each) => !isExpired(each, nowMs));
  if (living.length >= tokensMax)
    throw new KvError('TOO_LARGE', {
      limit: tokensMax,
      detail: `user ${name} has ${tokensMax} tokens: revoke one first`,
    });
  return [...living, { ...token, createdMs: nowMs }];
}

/** What is not named stays; a role `none` is taken away. */
function rolesAfter(
  { namespaces }: CatalogDocument,
  before: readonly RoleGrant[],
  changes: readonly RoleChange[],
): readonly RoleGrant[] {
  const grants = new Map(before.map(({ namespace, role }) => [namespace, role]));
  for (const { namespace: name, role } of changes) {
    const found = namespaces.find((each) => each.name === name);
    if (found === undefined && name !== '*') throw noSuchNamespace(name);
    const id = found?.id ?? everyNamespace;
    if (role === 'none') grants.delete(id);
    else if (roles.includes(role)) grants.set(id, role as Role);
    else refuse(`roles.${name}`, 'read, write, admin or none');
  }
  return [...grants].map(([namespace, role]) => ({ namespace, role }));
}

function checked(settings: Partial<UserSettings>): Partial<UserSettings> {
  const { isAdmin, isDisabled, operationsPerSecondMax: limit } = settings;
  if (isAdmin !== undefined && typeof isAdmin !== 'boolean') refuse('admin', 'true or false');
  if (isDisabled !== undefined && typeof isDisabled !== 'boolean')
    refuse('disabled', 'true or false');
  if (limit !== undefined && !(Number.isSafeInteger(limit) && limit >= 0))
    refuse('operations_per_second', 'a whole number up to 2^53 - 1, 0 for no limit');
  return settings;
}

const noSuchUser = (name: string): KvError =>
  new KvError('NOT_FOUND', { detail: `no such user: ${name}` });

const conflict = (detail: string): KvError => new KvError('CONFLICT', { detail });

function refuse(field: string, expected: string): never {
  throw new KvError('BAD_REQUEST', { field, detail: `${field}: expected ${expected}` });
}
