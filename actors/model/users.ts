// Users: who may do what, as a part of the document that the cluster agrees on (namespaces.ts), and
// the questions that are asked of it. A user has roles in namespaces, by their ids, so that a name
// that is dropped and made again gives nobody a right; the owner of a namespace, by name, has the role
// `admin` in it. Tokens are stored as hashes only (runtime/access-token.ts).
//
// Roles are steps: who may write may read, who has `admin` of a namespace may write. The
// administrator of the cluster may do everything.

import { isTokenHash, isTokenId } from '../../runtime/access-token.ts';

export type Role = 'read' | 'write' | 'admin';
export const roles: readonly unknown[] = ['read', 'write', 'admin'];

/** As a number: a role contains those below it. */
export const rank = { none: 0, read: 1, write: 2, admin: 3 } as const;
export type Rank = (typeof rank)[keyof typeof rank];

export interface RoleGrant {
  /** Id of a namespace, or `everyNamespace`. */
  readonly namespace: number;
  readonly role: Role;
}

/** Stands for all namespaces, those of later too. */
export const everyNamespace = -1;

export interface UserToken {
  readonly id: string;
  /** SHA-256 in hex. */
  readonly hash: string;
  /** Milliseconds since 1970. */
  readonly createdMs: number;
  /** The same; 0: it does not expire. */
  readonly expiresMs: number;
}

export interface UserSettings {
  /** Administrator of the cluster. */
  readonly isAdmin: boolean;
  /** None of its tokens counts. */
  readonly isDisabled: boolean;
  /** Requests and commands per second; 0: no limit. */
  readonly operationsPerSecondMax: number;
}

export interface User extends UserSettings {
  readonly name: string;
  readonly createdMs: number;
  readonly roles: readonly RoleGrant[];
  readonly tokens: readonly UserToken[];
}

export const usersMax = 1000;
export const tokensMax = 8;
const namePattern = /^[A-Za-z0-9_-]{1,64}$/;
/** Names that clients use for something else: of Redis, of the file that begins it, of nobody. */
const reservedNames: readonly string[] = ['default', 'bootstrap', 'anonymous'];

export const plainUser: UserSettings = {
  isAdmin: false,
  isDisabled: false,
  operationsPerSecondMax: 0,
};

export const isUserName = (text: string): boolean =>
  namePattern.test(text) && !reservedNames.includes(text);

// ---- checks ----------------------------------------------------------------------------------

type Fields = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Fields => typeof value === 'object' && value !== null;

const isCount = (value: unknown): value is number =>
  Number.isSafeInteger(value) && (value as number) >= 0;

/** The users of a stored document; a text says why they are none. `nextId`: of namespaces. */
export function usersFrom(value: unknown, nextId: number): readonly User[] | string {
  if (!Array.isArray(value) || value.length > usersMax) return 'it has no list of users';
  const users: User[] = [];
  for (const each of value as readonly unknown[]) {
    const user = userFrom(each, nextId);
    if (typeof user === 'string') return user;
    users.push(user);
  }
  if (!isUnique(users.map(({ name }) => name))) return 'a user is in it twice';
  if (!isUnique(users.flatMap(({ tokens }) => tokens.map(({ id }) => id))))
    return 'a token is in it twice';
  return users;
}

const isUnique = (names: readonly string[]): boolean => new Set(names).size === names.length;

function userFrom(value: unknown, nextId: number): User | string {
  if (!isObject(value)) return 'a user is no object';
  const { name, createdMs, isAdmin, isDisabled, operationsPerSecondMax } = value;
  if (typeof name !== 'string' || !isUserName(name)) return 'a user has no name';
  const hasFlags = typeof isAdmin === 'boolean' && typeof isDisabled === 'boolean';
  if (!isCount(createdMs) || !hasFlags || !isCount(operationsPerSecondMax))
    return 'the settings of a user are not as they must be';
  const grants = rolesFrom(value['roles'], nextId);
  const tokens = tokensFrom(value['tokens']);
  if (grants === undefined) return 'the roles of a user are not as they must be';
  if (tokens === undefined) return 'the tokens of a user are not as they must be';
  const settings = { isAdmin, isDisabled, operationsPerSecondMax };
  return { name, createdMs, ...settings, roles: grants, tokens };
}

function rolesFrom(value: unknown, nextId: number): readonly RoleGrant[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const grants: RoleGrant[] = [];
  for (const each of value as readonly unknown[]) {
    if (!isObject(each)) return undefined;
    const { namespace, role } = each;
    const isPlace = namespace === everyNamespace || (isCount(namespace) && namespace < nextId);
    if (!isPlace || !roles.includes(role)) return undefined;
    grants.push({ namespace: namespace, role: role as Role });
  }
  return isUnique(grants.map(({ namespace }) => String(namespace))) ? grants : undefined;
}

function tokensFrom(value: unknown): readonly UserToken[] | undefined {
  if (!Array.isArray(value) || value.length > tokensMax) return undefined;
  const tokens: UserToken[] = [];
  for (const each of value as readonly unknown[]) {
    if (!isObject(each)) return undefined;
    const { id, hash, createdMs, expiresMs } = each;
    if (!isTokenId(id) || !isTokenHash(hash) || !isCount(createdMs) || !isCount(expiresMs))
      return undefined;
    tokens.push({ id, hash, createdMs, expiresMs });
  }
  return tokens;
}

// ---- questions -------------------------------------------------------------------------------

export const isExpired = ({ expiresMs }: UserToken, nowMs: number): boolean =>
  expiresMs !== 0 && expiresMs <= nowMs;

/** An administrator of the cluster who can show a token. */
export const hasUsableAdmin = (users: readonly User[], nowMs: number): boolean =>
  users.some(
    ({ isAdmin, isDisabled, tokens }) =>
      isAdmin && !isDisabled && tokens.some((token) => !isExpired(token, nowMs)),
  );

/** What a user may do, ready to be asked for every command. */
export class Rights {
  readonly isAdmin: boolean;
  readonly #every: Rank;
  readonly #byNamespace: ReadonlyMap<number, Rank>;

  constructor(isAdmin: boolean, grants: readonly RoleGrant[], owned: readonly number[]) {
    this.isAdmin = isAdmin;
    const byNamespace = new Map<number, Rank>();
    for (const { namespace, role } of grants) byNamespace.set(namespace, rank[role]);
    for (const id of owned) byNamespace.set(id, rank.admin);
    this.#every = byNamespace.get(everyNamespace) ?? rank.none;
    this.#byNamespace = byNamespace;
  }

  /** The role in a namespace. */
  in(namespace: number): Rank {
    if (this.isAdmin) return rank.admin;
    const own = this.#byNamespace.get(namespace) ?? rank.none;
    return own > this.#every ? own : this.#every;
  }

  /** Has a role in all namespaces, those that this node does not know too. */
  get isEverywhere(): boolean {
    return this.isAdmin || this.#every > rank.none;
  }
}

export const noRights = new Rights(false, [], []);

/** Holder of a token. */
export interface Holder {
  readonly user: User;
  readonly token: UserToken;
}

/** Users of a document, to look things up in. */
export class Users {
  readonly epoch: number;
  readonly #users: readonly User[];
  readonly #byName: ReadonlyMap<string, User>;
  readonly #byToken: ReadonlyMap<string, Holder>;
  readonly #owned: ReadonlyMap<string, readonly number[]>;

  constructor(document: {
    readonly epoch: number;
    readonly users: readonly User[];
    readonly namespaces: readonly { readonly id: number; readonly owner: string }[];
  }) {
    const { epoch, users, namespaces } = document;
    this.epoch = epoch;
    this.#users = users;
    this.#byName = new Map(users.map((user) => [user.name, user]));
    this.#byToken = new Map(
      users.flatMap((user) => user.tokens.map((token) => [token.id, { user, token }] as const)),
    );
    const owned = new Map<string, number[]>();
    for (const { id, owner } of namespaces) owned.set(owner, [...(owned.get(owner) ?? []), id]);
    this.#owned = owned;
  }

  named(name: string): User | undefined {
    return this.#byName.get(name);
  }

  /** Of a token that is there, whatever has become of it or its user. */
  holderOf(id: string): Holder | undefined {
    return this.#byToken.get(id);
  }

  rightsOf({ name, isAdmin, roles: grants }: User): Rights {
    return new Rights(isAdmin, grants, this.#owned.get(name) ?? []);
  }

  hasUsableAdmin(nowMs: number): boolean {
    return hasUsableAdmin(this.#users, nowMs);
  }
}
