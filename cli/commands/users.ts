// kvctl user: who may do what, through any node. A token is printed once, when it is made, or goes
// into a new file that only its owner may read.

import { writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { HttpClient } from '../client/http-client.ts';
import type { UserDocument } from '../client/users.ts';
import { type Invoke, wholeNumber } from './data.ts';
import { ExitError, exitCodes, type Invocation } from './invocation.ts';
import { documentOf } from './snapshots.ts';

const root = '/api/v1/admin/users';
const json = { 'content-type': 'application/json' };
const secondsMax = 315_360_000;

interface UserAnswer {
  readonly user: UserDocument;
  readonly token?: { readonly id: string; readonly token: string };
}

interface UserOptions {
  readonly admin?: boolean;
  readonly role?: readonly string[];
  readonly opsPerSecond?: number;
  readonly disable?: boolean;
  readonly enable?: boolean;
}

interface TokenOptions {
  readonly expiresIn?: number;
  readonly saveToken?: string;
}

export function addUserCommands(program: Command, invoke: Invoke): void {
  const user = program.command('user').description('users, their roles and tokens');
  withToken(withRoles(user.command('create <name>').description('create a user with a token')))
    .option('--admin', 'administrator of the cluster')
    .action((name: string, options: UserOptions & TokenOptions, command: Command) =>
      create(invoke(command), name, options),
    );
  user
    .command('list')
    .description('all users')
    .action((_options: object, command: Command) => list(invoke(command)));
  user
    .command('get <name>')
    .description('a user: roles and tokens')
    .action((name: string, _options: object, command: Command) => get(invoke(command), name));
  withRoles(user.command('alter <name>').description('change what is named; the rest stays'))
    .option('--admin', 'administrator of the cluster')
    .option('--no-admin', 'no more')
    .option('--disable', 'none of the tokens counts')
    .option('--enable', 'they count again')
    .action((name: string, options: UserOptions, command: Command) =>
      alter(invoke(command), name, options),
    );
  user
    .command('delete <name>')
    .description('delete a user with all tokens')
    .action((name: string, _options: object, command: Command) => remove(invoke(command), name));
  const token = user.command('token').description('tokens of a user');
  withToken(token.command('add <name>').description('make another token')).action(
    (name: string, options: TokenOptions, command: Command) =>
      addToken(invoke(command), name, options),
  );
  token
    .command('revoke <name> <id>')
    .description('a token counts no more')
    .action((name: string, id: string, _options: object, command: Command) =>
      revoke(invoke(command), name, id),
    );
}

const withRoles = (command: Command): Command =>
  command
    .option('--role <namespace=role>', 'read, write, admin or none; * for all; repeatable', collect)
    .option(
      '--ops-per-second <n>',
      'requests and commands, 0: no limit',
      wholeNumber(0, Number.MAX_SAFE_INTEGER),
    );

const withToken = (command: Command): Command =>
  command
    .option('--expires-in <seconds>', 'of the token; default: never', wholeNumber(1, secondsMax))
    .option('--save-token <file>', 'put it into a new file instead of printing it');

const collect = (value: string, earlier: readonly string[] = []): string[] => [...earlier, value];

const pathOf = (name: string): string => `${root}/${encodeURIComponent(name)}`;

/** Members that are undefined are left out of the JSON. */
function membersOf({ admin, role, opsPerSecond, disable, enable }: UserOptions): object {
  if (disable === true && enable === true)
    throw new ExitError(exitCodes.usage, '--disable and --enable: expected one of them');
  return {
    admin,
    disabled: disable === true ? true : enable === true ? false : undefined,
    operations_per_second: opsPerSecond,
    roles: role === undefined ? undefined : Object.fromEntries(role.map(roleOf)),
  };
}

function roleOf(text: string): readonly [string, string | null] {
  const match = /^(\*|[A-Za-z0-9_-]{1,64})=(read|write|admin|none)$/.exec(text);
  if (match === null)
    throw new ExitError(
      exitCodes.usage,
      `--role ${text}: expected namespace=read, write, admin or none`,
    );
  const [, namespace = '', role = ''] = match;
  return [namespace, role === 'none' ? null : role];
}

async function send<Document>(
  invocation: Invocation,
  method: 'GET' | 'POST' | 'PUT' | 'DELETE',
  path: string,
  members?: object,
): Promise<Document> {
  const body = members === undefined ? {} : { headers: json, body: textOf(members) };
  const terms = { isIdempotent: method === 'GET' || method === 'PUT', isWrite: method !== 'GET' };
  return invocation.withClient(async (client: HttpClient) =>
    documentOf<Document>(await client.call({ method, path, ...body, ...terms })),
  );
}

const textOf = (members: object): Buffer => Buffer.from(JSON.stringify(members));

async function create(
  invocation: Invocation,
  name: string,
  options: UserOptions & TokenOptions,
): Promise<void> {
  const members = { name, ...membersOf(options), token_expires_seconds: options.expiresIn };
  await give(invocation, await send<UserAnswer>(invocation, 'POST', root, members), options);
}

async function addToken(
  invocation: Invocation,
  name: string,
  options: TokenOptions,
): Promise<void> {
  const members = { expires_seconds: options.expiresIn };
  const answer = await send<UserAnswer>(invocation, 'POST', `${pathOf(name)}/tokens`, members);
  await give(invocation, answer, options);
}

/** Whatever the form, a token that nobody got is lost: a file that cannot be made shows it. */
async function give(
  invocation: Invocation,
  { user, token }: UserAnswer,
  { saveToken }: TokenOptions,
): Promise<void> {
  const form = invocation.form('table', ['table', 'json', 'raw']);
  if (token === undefined) throw new ExitError(exitCodes.refused, 'the answer has no token');
  let problem: Error | undefined;
  if (saveToken !== undefined) {
    try {
      writeFileSync(saveToken, `${token.token}\n`, { mode: 0o600, flag: 'wx' });
      await invocation.say(`${user.name}: token ${token.id} is in ${saveToken}`);
      return;
    } catch (error) {
      problem = error as Error;
    }
  }
  if (form === 'json') await invocation.json({ user, token });
  else if (form === 'raw') await invocation.write(`${token.token}\n`);
  else await invocation.write(`${user.name}: token ${token.id}, shown once:\n${token.token}\n`);
  if (problem !== undefined) throw new ExitError(exitCodes.refused, problem.message);
}

async function list(invocation: Invocation): Promise<void> {
  const form = invocation.form('table');
  const { users } = await send<{ readonly users: readonly UserDocument[] }>(
    invocation,
    'GET',
    root,
  );
  if (form === 'json') await invocation.json(users);
  else if (form === 'raw') await invocation.write(users.map(({ name }) => `${name}\n`).join(''));
  else await table(invocation, users);
}

async function get(invocation: Invocation, name: string): Promise<void> {
  const form = invocation.form('table', ['table', 'json']);
  const { user } = await send<UserAnswer>(invocation, 'GET', pathOf(name));
  if (form === 'json') return invocation.json(user);
  await table(invocation, [user]);
  await invocation.table(
    ['token', 'created', 'expires'],
    user.tokens.map(({ id, created_ms: created, expires_ms: expires }) => [
      id,
      new Date(created).toISOString(),
      expires === null ? 'never' : new Date(expires).toISOString(),
    ]),
  );
}

async function alter(invocation: Invocation, name: string, options: UserOptions): Promise<void> {
  const form = invocation.form('table', ['table', 'json']);
  const { user } = await send<UserAnswer>(invocation, 'PUT', pathOf(name), membersOf(options));
  if (form === 'json') await invocation.json(user);
  else if (!invocation.isQuiet) await table(invocation, [user]);
}

async function remove(invocation: Invocation, name: string): Promise<void> {
  await send(invocation, 'DELETE', pathOf(name));
  await invocation.say(`deleted ${name}`);
}

async function revoke(invocation: Invocation, name: string, id: string): Promise<void> {
  await send(invocation, 'DELETE', `${pathOf(name)}/tokens/${encodeURIComponent(id)}`);
  await invocation.say(`${name}: revoked ${id}`);
}

function table(invocation: Invocation, rows: readonly UserDocument[]): Promise<void> {
  return invocation.table(
    ['name', 'roles', 'owns', 'ops/s', 'tokens', 'state'],
    rows.map((row) => [
      row.name,
      row.admin
        ? 'administrator'
        : Object.entries(row.roles)
            .map(([namespace, role]) => `${namespace}=${role}`)
            .join(' ') || undefined,
      row.owns.join(' ') || undefined,
      row.operations_per_second === 0 ? undefined : row.operations_per_second,
      row.tokens.length,
      row.disabled ? 'disabled' : 'enabled',
    ]),
  );
}
