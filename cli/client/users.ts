// The client's view of users: made, listed, changed and deleted through any node, by an administrator.
// A token is in the answer to its creation and can never be had again.

import type { ClusterCalls } from './cluster-calls.ts';
import { badRequest } from './given.ts';
import { parse, unless } from './key-requests.ts';

export interface UserSettings {
  /** Administrator of the cluster. */
  readonly admin?: boolean;
  /** None of the tokens counts. */
  readonly disabled?: boolean;
  /** Requests and commands; 0: no limit. */
  readonly operationsPerSecond?: number;
  /** By namespace, `*` for all; null takes a role away. What is not named stays. */
  readonly roles?: Readonly<Record<string, 'read' | 'write' | 'admin' | null>>;
}

export interface UserToken {
  readonly id: string;
  /** Milliseconds since 1970; null: it does not expire. */
  readonly expiresMs: number | null;
}

export interface UserInfo {
  readonly name: string;
  readonly admin: boolean;
  readonly disabled: boolean;
  readonly operationsPerSecond: number;
  readonly roles: Readonly<Record<string, string>>;
  /** Namespaces that name the user as their owner. */
  readonly owns: readonly string[];
  readonly tokens: readonly UserToken[];
}

/** To be kept: it is shown once. */
export interface NewToken {
  readonly id: string;
  readonly token: string;
}

/** As the nodes show a user. */
export interface UserDocument {
  readonly name: string;
  readonly admin: boolean;
  readonly disabled: boolean;
  readonly operations_per_second: number;
  readonly roles: Readonly<Record<string, string>>;
  readonly owns: readonly string[];
  readonly tokens: readonly {
    readonly id: string;
    readonly created_ms: number;
    readonly expires_ms: number | null;
  }[];
}

interface UserAnswer {
  readonly user: UserDocument;
  readonly token: NewToken;
}

const root = '/api/v1/admin/users';
const json = { 'content-type': 'application/json' };

export class UserCalls {
  readonly #calls: ClusterCalls;

  constructor(calls: ClusterCalls) {
    this.#calls = calls;
  }

  /** CONFLICT where there is one of this name. `expiresSeconds`: of the token; absent: never. */
  async create(
    name: string,
    settings: UserSettings & { readonly expiresSeconds?: number } = {},
  ): Promise<{ readonly user: UserInfo; readonly token: NewToken }> {
    const { expiresSeconds: seconds } = settings;
    const members = { name, ...membersOf(settings), token_expires_seconds: seconds };
    const { user, token } = await this.#send<UserAnswer>('POST', root, members);
    return { user: infoOf(user), token };
  }

  async list(): Promise<readonly UserInfo[]> {
    const { users } = await this.#send<{ readonly users: readonly UserDocument[] }>('GET', root);
    return users.map(infoOf);
  }

  /** Undefined where there is none. */
  async get(name: string): Promise<UserInfo | undefined> {
    const answer = await unless('NOT_FOUND', this.#send<UserAnswer>('GET', pathOf(name)));
    return answer === undefined ? undefined : infoOf(answer.user);
  }

  async alter(name: string, settings: UserSettings): Promise<UserInfo> {
    return infoOf((await this.#send<UserAnswer>('PUT', pathOf(name), membersOf(settings))).user);
  }

  /** With all tokens. */
  async delete(name: string): Promise<void> {
    await this.#send('DELETE', pathOf(name));
  }

  async addToken(name: string, expiresSeconds?: number): Promise<NewToken> {
    const members = { expires_seconds: expiresSeconds };
    return (await this.#send<UserAnswer>('POST', `${pathOf(name)}/tokens`, members)).token;
  }

  /** A token, by its id, counts no more. */
  async revoke(name: string, id: string): Promise<void> {
    await this.#send('DELETE', `${pathOf(name)}/tokens/${encodeURIComponent(id)}`);
  }

  async #send<Document>(
    method: 'GET' | 'POST' | 'PUT' | 'DELETE',
    path: string,
    members?: object,
  ): Promise<Document> {
    const body = members === undefined ? undefined : Buffer.from(JSON.stringify(members));
    const sent = body === undefined ? {} : { headers: json, body };
    const isIdempotent = method === 'GET' || method === 'PUT';
    const terms = { isIdempotent, isWrite: method !== 'GET' };
    return parse<Document>(await this.#calls.call({ method, path, ...sent, ...terms }));
  }
}

function pathOf(name: string): string {
  if (name === '') throw badRequest('user: expected a name');
  return `${root}/${encodeURIComponent(name)}`;
}

/** Members that are undefined are left out of the JSON. */
const membersOf = ({ admin, disabled, operationsPerSecond, roles }: UserSettings): object => ({
  admin,
  disabled,
  operations_per_second: operationsPerSecond,
  roles,
});

const infoOf = (user: UserDocument): UserInfo => ({
  name: user.name,
  admin: user.admin,
  disabled: user.disabled,
  operationsPerSecond: user.operations_per_second,
  roles: user.roles,
  owns: user.owns,
  tokens: user.tokens.map(({ id, expires_ms: expiresMs }) => ({ id, expiresMs })),
});
