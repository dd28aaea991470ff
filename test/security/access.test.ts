// Who may do what at a node, through its sockets: every route and every command with and without
// rights, wrong and hostile tokens, revocation, limits and the audit log.

import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { expect } from 'chai';
import { changed } from '../../actors/catalog/changes.ts';
import type { CatalogChange, RoleChange } from '../../actors/catalog/protocol.ts';
import { httpRoutes, pathsOf } from '../../actors/gateway/http-routes.ts';
import { respCommands } from '../../actors/gateway/resp-commands.ts';
import { routeRight } from '../../actors/gateway/route-rights.ts';
import { type CatalogDocument, firstDocument } from '../../actors/model/namespaces.ts';
import type { UserSettings } from '../../actors/model/users.ts';
import { mintToken, tokenBytes } from '../../runtime/access-token.ts';
import {
  type Answer,
  nowMs,
  problemOf,
  send,
  sendJson,
  startCluster,
  type TestCluster,
} from '../kit-gateway.ts';
import { command, exchange, RawConnection } from '../kit-resp.ts';

const names = ['root', 'ada', 'bob', 'cleo', 'off', 'old', 'slow', 'boot'] as const;
type Name = (typeof names)[number];
const minted = (name: Name) => mintToken(new Uint8Array(tokenBytes).fill(1 + names.indexOf(name)));
const bearer = (token: string): Record<string, string> => ({ authorization: `Bearer ${token}` });
const as = (name: Name): Record<string, string> => bearer(minted(name).text);

const user = (
  name: Name,
  settings: Partial<UserSettings>,
  roles: readonly RoleChange[],
  expiresMs = 0,
): CatalogChange => {
  const { id, hash } = minted(name);
  const token = { id, hash, expiresMs };
  return { kind: 'user-create', name, settings, roles, token, isFirst: false };
};
const inA = (role: string): RoleChange[] => [{ namespace: 'a', role }];

const changes: readonly CatalogChange[] = [
  { kind: 'create', name: 'a', settings: { owner: 'cleo' } },
  { kind: 'create', name: 'b', settings: {} },
  user('root', { isAdmin: true }, []),
  user('ada', {}, inA('write')),
  user('bob', {}, inA('read')),
  user('cleo', {}, []),
  user('off', { isDisabled: true }, inA('write')),
  user('old', {}, inA('write'), 1_000),
  user('slow', { operationsPerSecondMax: 2 }, inA('write')),
];
const document: CatalogDocument = changes.reduce(
  (known, change) => changed(known, change, nowMs),
  firstDocument,
);

const start = (more: object = {}, known = document): Promise<TestCluster> =>
  startCluster({
    access: { isRequired: true, operationsPerAddressMax: 0, document: known, ...more },
  });

const keysOfA = '/api/v1/namespaces/a/keys';

describe('security: access over HTTP', () => {
  let cluster: TestCluster;
  beforeEach(async () => {
    cluster = await start();
  });
  afterEach(() => cluster.close());

  const statusOf = async (
    method: string,
    path: string,
    headers: Record<string, string>,
  ): Promise<number> => (await send(cluster.port, method, path, { headers })).status;

  const walk = async (headers: Record<string, string>): Promise<Map<string, number>> => {
    const found = new Map<string, number>();
    for (const route of httpRoutes)
      for (const pattern of pathsOf(route)) {
        const path = pattern
          .replace(':namespace', 'a')
          .replace(':key', 'k')
          .replace(':name', 'b')
          .replaceAll(/:[a-z]+/g, '0');
        const key = pattern === route.path ? route.name : `${route.name} in a`;
        found.set(key, await statusOf(route.method, path, headers));
      }
    return found;
  };

  it('access: without a token every route but the open ones is refused (SE-13)', async () => {
    for (const [name, status] of await walk({})) {
      const isOpen = routeRight(name.replace(' in a', '')) === 'open';
      expect(status === 401, name).to.equal(!isOpen);
    }
  });

  it('access: open are health and documents that say nothing of the cluster (SE-30)', () => {
    const open = httpRoutes.filter(({ name }) => routeRight(name) === 'open');
    expect(open.map(({ name }) => name)).to.deep.equal(['livez', 'readyz', 'openapi', 'docs']);
  });

  it('access: a user with one role is refused whatever is not of it, on every route', async () => {
    const reading = new Set(['get', 'head', 'list', 'scan', 'watch', 'batch-get']);
    const everybody = new Set(['metrics', 'cluster-status', 'ring', 'namespaces']);
    for (const [name, status] of await walk(as('bob'))) {
      const route = name.replace(' in a', '');
      // Without a namespace the request is about `default`, in which he has no role.
      const may =
        (reading.has(route) && name !== route) ||
        everybody.has(route) ||
        routeRight(route) === 'open';
      expect(status === 403, `${name}: ${status}`).to.equal(!may);
    }
  });

  it('access: an administrator of the cluster is refused nowhere', async () => {
    for (const [name, status] of await walk(as('root')))
      expect([401, 403], name).to.not.include(status);
  });

  it('access: a refusal is a problem with its code; 401 says what is expected', async () => {
    const missing = await send(cluster.port, 'GET', `${keysOfA}/k`);
    expect(missing.status).to.equal(401);
    expect(missing.headers['www-authenticate']).to.equal('Bearer realm="kvd"');
    expect(problemOf(missing).code).to.equal('UNAUTHORIZED');
    const forbidden = await send(cluster.port, 'PUT', `${keysOfA}/k`, {
      headers: { ...as('bob'), 'content-type': 'application/json' },
      body: '{"value":1}',
    });
    expect([forbidden.status, problemOf(forbidden).code]).to.deep.equal([403, 'FORBIDDEN']);
    expect(cluster.backend.seen).to.deep.equal([]);
  });

  it('access: roles are of the namespace of the request, by header, path and batch', async () => {
    const put = (headers: Record<string, string>, path: string): Promise<Answer> =>
      sendJson(cluster.port, 'PUT', path, '{"value":1}', headers);
    expect((await put(as('ada'), `${keysOfA}/k`)).status).to.equal(200);
    const inHeader = { ...as('ada'), 'x-namespace': 'a' };
    expect((await put(inHeader, '/api/v1/keys/k')).status).to.equal(200);
    expect((await put(as('ada'), '/api/v1/keys/k')).status).to.equal(403);
    expect((await put(as('ada'), '/api/v1/namespaces/b/keys/k')).status).to.equal(403);
    const batch = '{"operations":[{"key":"k","value":1}]}';
    const inB = { ...as('ada'), 'x-namespace': 'b' };
    expect((await sendJson(cluster.port, 'POST', '/api/v1/batch/put', batch, inB)).status).to.equal(
      403,
    );
    // The owner has every right in it.
    expect((await put(as('cleo'), `${keysOfA}/k`)).status).to.equal(200);
  });

  it('access: a namespace without a role looks the same whether it is there or not (SE-14)', async () => {
    const there = await send(cluster.port, 'GET', '/api/v1/namespaces/b/keys/k', {
      headers: as('ada'),
    });
    const not = await send(cluster.port, 'GET', '/api/v1/namespaces/zzz/keys/k', {
      headers: as('ada'),
    });
    expect([there.status, not.status]).to.deep.equal([403, 403]);
    expect(there.text).to.equal(not.text);
    for (const wrong of [
      { 'consistency-level': 'nonsense' },
      { 'x-deadline-ms': 'x' },
      { 'x-session-token': 'x' },
      { 'x-explain': 'x' },
    ]) {
      const headers = { ...as('ada'), ...wrong };
      const texts = ['b', 'zzz'].map(
        async (name) =>
          (await send(cluster.port, 'GET', `/api/v1/namespaces/${name}/keys/k`, { headers })).text,
      );
      expect(new Set(await Promise.all(texts)).size, JSON.stringify(wrong)).to.equal(1);
    }
    const shown = await send(cluster.port, 'GET', '/api/v1/admin/namespaces', {
      headers: as('ada'),
    });
    expect(shown.text).to.contain('"a"').and.to.not.contain('"b"');
  });

  it('access: figures name the namespaces of who asks, and no others (SE-16)', async () => {
    for (const group of ['*', 'a', 'b', 'gone'])
      cluster.metrics.gauge('kvd_group_tables', 'tables', () => 1, { group });
    const groupsFor = async (name: Name): Promise<string[]> => {
      const { text } = await send(cluster.port, 'GET', '/metrics', { headers: as(name) });
      return [...text.matchAll(/^kvd_group_tables\{group="(.*)"\}/gm)].map(
        ([, group = '']) => group,
      );
    };
    expect(await groupsFor('root')).to.deep.equal(['*', 'a', 'b', 'gone']);
    for (const name of ['ada', 'bob', 'cleo'] as const)
      expect(await groupsFor(name), name).to.deep.equal(['*', 'a']);
  });

  it('access: wrong, disabled, expired and hostile tokens hear the same words', async () => {
    const wrong = minted('ada').text.replace(/.$/, 'x');
    const texts = new Set<string>();
    for (const token of [wrong, minted('off').text, minted('old').text, 'x'.repeat(9_000), '%00'])
      texts.add((await send(cluster.port, 'GET', `${keysOfA}/k`, { headers: bearer(token) })).text);
    expect(texts.size).to.equal(1);
    for (const scheme of ['Basic YTpi', 'Bearer', 'Bearer  ', `Token ${minted('ada').text}`]) {
      const headers = { authorization: scheme };
      expect(await statusOf('GET', `${keysOfA}/k`, headers), scheme).to.equal(401);
    }
  });

  it('access: who is wrong too often is held off; who was right before is not (SE-12)', async () => {
    expect(await statusOf('GET', `${keysOfA}/k`, as('ada'))).to.equal(404);
    const statuses: number[] = [];
    for (let i = 0; i < 14; i += 1)
      statuses.push(await statusOf('GET', `${keysOfA}/k`, bearer(`wrong${i}`)));
    expect(statuses.slice(0, 10)).to.deep.equal(Array(10).fill(401));
    expect(statuses.at(-1)).to.equal(429);
    // A right token that was not shown before has to wait as well.
    const held = await send(cluster.port, 'GET', `${keysOfA}/k`, { headers: as('bob') });
    expect([held.status, Number(held.headers['retry-after']) > 0]).to.deep.equal([429, true]);
    expect(await statusOf('GET', `${keysOfA}/k`, as('ada'))).to.equal(404);
    const refused = cluster.audit.filter(({ outcome }) => outcome === 'UNAUTHORIZED');
    expect(refused.length).to.be.within(10, 12);
  });

  it('access: who was right before is not held off after a change of namespaces or users (SE-12)', async () => {
    const root = as('root');
    const read = (headers: Record<string, string>): Promise<number> =>
      statusOf('GET', `${keysOfA}/k`, headers);
    for (const headers of [root, as('ada'), as('bob')]) expect(await read(headers)).to.equal(404);
    for (let i = 0; i < 14; i += 1) await read(bearer(`wrong${i}`));
    const made = await sendJson(
      cluster.port,
      'POST',
      '/api/v1/admin/namespaces',
      '{"name":"new"}',
      root,
    );
    expect(made.status).to.equal(200);
    expect(await read(as('ada'))).to.equal(404);
    const ada = '/api/v1/admin/users/ada';
    expect(
      (await sendJson(cluster.port, 'PUT', ada, '{"roles":{"a":null}}', root)).status,
    ).to.equal(200);
    // The token is the known one still, with the rights of now; one that is revoked is as any other.
    expect(await read(as('ada'))).to.equal(403);
    expect(await read(as('bob'))).to.equal(404);
    expect(await statusOf('DELETE', `${ada}/tokens/${minted('ada').id}`, root)).to.equal(200);
    expect([401, 429]).to.include(await read(as('ada')));
    expect(await read(as('bob'))).to.equal(404);
  });

  it('access: a user is created with a token that works, altered, revoked at once, deleted', async () => {
    const root = as('root');
    const body = '{"name":"dan","roles":{"a":"read"}}';
    const made = await sendJson(cluster.port, 'POST', '/api/v1/admin/users', body, root);
    expect(made.status).to.equal(200);
    expect(made.headers['cache-control']).to.equal('no-store');
    const { token } = JSON.parse(made.text) as { token: { id: string; token: string } };
    const dan = bearer(token.token);
    expect(await statusOf('GET', `${keysOfA}/k`, dan)).to.equal(404);
    expect(
      (await sendJson(cluster.port, 'PUT', `${keysOfA}/k`, '{"value":1}', dan)).status,
    ).to.equal(403);
    const path = '/api/v1/admin/users/dan';
    await sendJson(cluster.port, 'PUT', path, '{"roles":{"a":"write"}}', root);
    expect(
      (await sendJson(cluster.port, 'PUT', `${keysOfA}/k`, '{"value":1}', dan)).status,
    ).to.equal(200);
    const shown = await send(cluster.port, 'GET', path, { headers: dan });
    expect(shown.text).to.contain(token.id).and.to.not.contain(token.token);
    expect(shown.text).to.not.contain('hash');
    expect(await statusOf('DELETE', `${path}/tokens/${token.id}`, root)).to.equal(200);
    expect(await statusOf('GET', `${keysOfA}/k`, dan)).to.equal(401);
    const more = await sendJson(cluster.port, 'POST', `${path}/tokens`, '{}', root);
    const second = JSON.parse(more.text) as { token: { token: string } };
    expect(await statusOf('GET', `${keysOfA}/k`, bearer(second.token.token))).to.equal(200);
    await sendJson(cluster.port, 'PUT', path, '{"disabled":true}', root);
    expect(await statusOf('GET', `${keysOfA}/k`, bearer(second.token.token))).to.equal(401);
    expect(await statusOf('DELETE', path, root)).to.equal(200);
    expect(await statusOf('GET', path, root)).to.equal(404);
    expect(JSON.stringify(cluster.audit)).to.not.contain(token.token.slice(21));
    expect(
      cluster.audit
        .filter(({ outcome }) => outcome === 'done')
        .map(({ act, target }) => [act, target]),
    ).to.deep.equal([
      ['user-create', 'dan'],
      ['user-alter', 'dan'],
      ['token-revoke', 'dan'],
      ['token-add', 'dan'],
      ['user-alter', 'dan'],
      ['user-delete', 'dan'],
    ]);
  });

  it('access: an owner alters his namespace, not its owner or quotas', async () => {
    const alter = async (body: string): Promise<number> =>
      (await sendJson(cluster.port, 'PUT', '/api/v1/admin/namespaces/a', body, as('cleo'))).status;
    expect(await alter('{"max_ttl":60}')).to.equal(200);
    expect(await alter('{"owner":"ada"}')).to.equal(403);
    expect(await alter('{"quotas":{"keys":0}}')).to.equal(403);
  });

  it('access: what is refused is in the audit log, with who, from where and what', async () => {
    await send(cluster.port, 'GET', '/api/v1/namespaces/b/keys/secret-key', { headers: as('ada') });
    await send(cluster.port, 'POST', '/api/v1/admin/flush', { headers: as('ada') });
    expect(cluster.audit).to.deep.equal([
      { user: 'ada', address: '127.0.0.1', act: 'get', target: 'b', outcome: 'FORBIDDEN' },
      { user: 'ada', address: '127.0.0.1', act: 'flush', target: '', outcome: 'FORBIDDEN' },
    ]);
  });

  it('access: a missing token is in the audit log, on routes about keys too', async () => {
    await send(cluster.port, 'GET', `${keysOfA}/secret-key`);
    await send(cluster.port, 'GET', '/metrics');
    await send(cluster.port, 'POST', '/api/v1/admin/flush');
    const common = { user: '', address: '127.0.0.1', target: '', outcome: 'UNAUTHORIZED' };
    expect(cluster.audit).to.deep.equal(
      ['get', 'metrics', 'flush'].map((act) => ({ ...common, act })),
    );
  });

  it('access: who takes a table of a snapshot is in the audit log, once for its parts', async () => {
    const headers = as('root');
    const snapshots = '/api/v1/admin/snapshots';
    await sendJson(cluster.port, 'POST', snapshots, '{"name":"s"}', headers);
    for (const part of ['0/1?offset=0&length=2', '0/1?offset=2&length=2', '1/1?offset=1'])
      expect(await statusOf('GET', `${snapshots}/s/tables/${part}`, headers), part).to.equal(200);
    expect(await statusOf('GET', `${snapshots}/s/tables/0/1`, as('ada'))).to.equal(403);
    const line = { user: 'root', address: '127.0.0.1', target: 's', outcome: 'done' };
    const table = { ...line, act: 'snapshot-table' };
    expect(cluster.audit.slice(1)).to.deep.equal([
      table,
      table,
      { ...table, user: 'ada', outcome: 'FORBIDDEN' },
    ]);
  });

  it('access: a user has so many requests per second (limit=2)', async () => {
    const statuses: number[] = [];
    for (let i = 0; i < 4; i += 1) statuses.push(await statusOf('GET', `${keysOfA}/k`, as('slow')));
    expect(statuses.filter((status) => status === 404).length).to.be.within(2, 3);
    expect(statuses).to.include(429);
    expect(await statusOf('GET', `${keysOfA}/k`, as('bob'))).to.equal(404);
  });
});

describe('security: access, with all connections taken', () => {
  let cluster: TestCluster;
  let flood: Socket;
  afterEach(async () => {
    flood.destroy();
    await cluster.close();
  });

  async function fill(isRequired: boolean): Promise<void> {
    const access = { isRequired, operationsPerAddressMax: 0, document };
    cluster = await startCluster({ access, connectionLimits: { connections: 1 } });
    flood = connect({ port: cluster.port, host: '127.0.0.1' });
    flood.on('error', () => undefined);
    await once(flood, 'connect');
  }
  const ask = async (
    method: string,
    path: string,
    headers: Record<string, string> = {},
  ): Promise<Answer> => send(cluster.port, method, path, { headers });

  it('access: health and administrators are served, others are told to wait', async () => {
    await fill(true);
    for (const path of ['/livez', '/readyz']) expect((await ask('GET', path)).status).to.equal(200);
    expect((await ask('GET', `${keysOfA}/k`, as('root'))).status).to.equal(404);
    expect((await ask('GET', '/api/v1/admin/users', as('root'))).status).to.equal(200);
    const refused = await ask('GET', `${keysOfA}/k`, as('ada'));
    expect([refused.status, problemOf(refused).code]).to.deep.equal([429, 'OVERLOADED']);
    expect(problemOf(refused).detail).to.match(/for health and administrators/);
    expect(Number(refused.headers['retry-after'])).to.equal(1);
    expect(refused.headers.connection).to.equal('close');
    expect((await ask('GET', '/metrics', as('ada'))).status).to.equal(429);
    expect((await ask('GET', '/docs')).status).to.equal(429);
    for (const headers of [{}, bearer('wrong')])
      expect((await ask('GET', `${keysOfA}/k`, headers)).status).to.equal(401);
    expect(cluster.backend.seen.every(({ verb }) => verb === 'read')).to.equal(true);
    expect(cluster.backend.seen).to.have.length(1);
  });

  it('access: without users health and what is not about keys is served', async () => {
    await fill(false);
    for (const path of ['/livez', '/readyz', '/metrics', '/api/v1/admin/cluster/status'])
      expect((await ask('GET', path)).status, path).to.equal(200);
    expect((await ask('GET', '/api/v1/keys/k')).status).to.equal(429);
    expect((await ask('DELETE', '/api/v1/keys/k')).status).to.equal(429);
    expect(cluster.backend.seen).to.deep.equal([]);
  });
});

describe('security: access, how it begins', () => {
  let cluster: TestCluster;
  afterEach(() => cluster.close());

  it('access: the token of the file makes the first administrator and nothing else', async () => {
    const first = changed(firstDocument, { kind: 'create', name: 'a', settings: {} }, nowMs);
    cluster = await start({ bootstrapHash: minted('boot').hash }, first);
    const boot = as('boot');
    for (const path of ['/api/v1/keys/k', '/metrics', '/api/v1/admin/users', '/api/v1/ring'])
      expect((await send(cluster.port, 'GET', path, { headers: boot })).status, path).to.equal(403);
    const users = '/api/v1/admin/users';
    const plain = await sendJson(cluster.port, 'POST', users, '{"name":"x"}', boot);
    expect(plain.status).to.equal(400);
    const made = await sendJson(cluster.port, 'POST', users, '{"name":"r","admin":true}', boot);
    expect(made.status).to.equal(200);
    const { token } = JSON.parse(made.text) as { token: { token: string } };
    const again = await sendJson(cluster.port, 'POST', users, '{"name":"s","admin":true}', boot);
    expect(again.status).to.equal(401);
    const listed = await send(cluster.port, 'GET', users, { headers: bearer(token.token) });
    expect(listed.status).to.equal(200);
  });

  it('access: with no users asked for, an address is limited all the same (limit=2)', async () => {
    cluster = await start({ isRequired: false, operationsPerAddressMax: 2 });
    const statuses: number[] = [];
    for (let i = 0; i < 5; i += 1)
      statuses.push((await send(cluster.port, 'GET', '/api/v1/keys/k')).status);
    expect(statuses[0]).to.equal(404);
    expect(statuses).to.include(429);
    const answers = await exchange(
      cluster.respPort,
      ...[1, 2, 3, 4].map(() => command('GET', 'k')),
    );
    expect(answers).to.match(/^\$-1\r\n\$-1\r\n-BUSY OVERLOADED /);
    // Health is no operation.
    expect((await send(cluster.port, 'GET', '/livez')).status).to.equal(200);
  });
});

describe('security: access, an address that is too fast', () => {
  let cluster: TestCluster;
  beforeEach(async () => {
    cluster = await start({ operationsPerAddressMax: 2 });
  });
  afterEach(() => cluster.close());

  for (const [what, path, headers, first] of [
    ['documents for everybody', '/docs', {}, 200],
    ['the document of the face', '/api/v1/openapi.json', {}, 200],
    ['a missing token', `${keysOfA}/k`, {}, 401],
    ['a wrong token', `${keysOfA}/k`, bearer('wrong'), 401],
    ['a right token', `${keysOfA}/k`, as('ada'), 404],
  ] as const)
    it(`access: ${what} counts as an operation of an address, health does not (limit=2)`, async () => {
      const statuses: number[] = [];
      for (let i = 0; i < 5; i += 1)
        statuses.push((await send(cluster.port, 'GET', path, { headers })).status);
      expect(statuses[0]).to.equal(first);
      expect(new Set(statuses)).to.deep.equal(new Set([first, 429]));
      expect((await send(cluster.port, 'GET', '/livez')).status).to.equal(200);
      expect((await send(cluster.port, 'GET', '/readyz')).status).to.equal(200);
    });

  for (const [what, args, first] of [
    ['a command without a login', ['GET', 'k'], /^-NOAUTH /],
    ['AUTH', ['AUTH', 'wrong'], /^-WRONGPASS /],
    ['HELLO', ['HELLO', '3'], /^-NOAUTH /],
    ['an unknown command', ['NOSUCH'], /^-ERR unknown command/],
    ['a command with too few words', ['GET'], /^-ERR wrong number/],
  ] as const)
    it(`access: ${what} counts as an operation of an address, QUIT does not (limit=2)`, async () => {
      const commands = [...Array<readonly string[]>(4).fill(args), ['QUIT']];
      const answers = await exchange(cluster.respPort, ...commands.map((one) => command(...one)));
      const lines = answers.split('\r\n').slice(0, -1);
      expect(lines[0]).to.match(first);
      expect(lines[3]).to.match(/^-BUSY OVERLOADED an address may do 2 operations per second/);
      expect(lines[4]).to.equal('+OK');
    });
});

describe('security: access over the Redis protocol', () => {
  let cluster: TestCluster;
  beforeEach(async () => {
    cluster = await start();
  });
  afterEach(() => cluster.close());

  const run = async (
    ...commands: readonly (readonly (string | Uint8Array)[])[]
  ): Promise<string[]> =>
    (await exchange(cluster.respPort, ...commands.map((args) => command(...args))))
      .split('\r\n')
      .slice(0, -1);
  const login = (name: Name): string[] => ['AUTH', name, minted(name).text];
  const wrong = '-WRONGPASS invalid username-password pair or user is disabled.';
  const noAuth = '-NOAUTH Authentication required.';

  it('access: every command but AUTH, HELLO, RESET and QUIT needs a login', async () => {
    for (const { name, arity } of respCommands) {
      if (['auth', 'hello', 'reset', 'quit'].includes(name)) continue;
      const args = Array<string>(Math.abs(arity) - 1).fill('1');
      expect(await run([name, ...args]), name).to.deep.equal([noAuth]);
    }
  });

  it('access: a user without roles runs no command with keys and none of administrators', async () => {
    const free = new Set(
      'auth hello reset quit ping echo select client command time wait cluster info dbsize multi exec discard unwatch kv.consistency'.split(
        ' ',
      ),
    );
    for (const { name, arity } of respCommands) {
      if (free.has(name)) continue;
      const args = Array<string>(Math.abs(arity) - 1).fill('1');
      const [, answer] = await run(login('ada'), [name, ...args]);
      expect(answer, name).to.equal(
        `-NOPERM User ada has no permissions to run the '${name}' command`,
      );
    }
    expect(cluster.backend.seen).to.deep.equal([]);
  });

  it('access: AUTH with a token, with a user and a token, and as default', async () => {
    const { text } = minted('ada');
    for (const auth of [
      ['AUTH', text],
      ['AUTH', 'ada', text],
      ['AUTH', 'default', text],
    ])
      expect(await run(auth, ['PING'])).to.deep.equal(['+OK', '+PONG']);
    for (const auth of [
      ['AUTH', 'bob', text],
      ['AUTH', 'nobody', text],
      ['AUTH', `${text}x`],
      ['AUTH', minted('off').text],
      ['AUTH', 'old', minted('old').text],
    ])
      expect(await run(auth, ['PING'])).to.deep.equal([wrong, noAuth]);
    expect(await run(['AUTH', 'a', 'b', 'c'])).to.deep.equal(['-ERR syntax error']);
  });

  it('access: hostile tokens are wrong, huge and binary ones too', async () => {
    const binary = Uint8Array.from({ length: 256 }, (_, i) => i);
    expect(await run(['AUTH', binary], ['AUTH', binary, binary])).to.deep.equal([wrong, wrong]);
    expect(await run(['AUTH', 'x'.repeat(16_384)], ['PING'])).to.deep.equal([wrong, noAuth]);
  });

  const tooMany =
    '-ERR Protocol error: unauthenticated multibulk length: expected at most 10 words in a command before AUTH';
  const tooLong =
    '-ERR Protocol error: unauthenticated bulk length: expected words of at most 16384 bytes before AUTH';
  const keys = (count: number): string[] => ['DEL', ...Array<string>(count - 1).fill('k')];
  const largeSet = ['SET', 'k', 'x'.repeat(16_385)];

  it('access: who is not known sends up to 10 words of 16 KiB; one more ends his connection (SE-7)', async () => {
    expect(await run(keys(10), ['PING'])).to.deep.equal([noAuth, noAuth]);
    expect(await run(['PING'], keys(11), ['PING'])).to.deep.equal([noAuth, tooMany]);
    expect(await run(['SET', 'k', 'x'.repeat(16_384)])).to.deep.equal([noAuth]);
    expect(await run(['PING'], largeSet, ['PING'])).to.deep.equal([noAuth, tooLong]);
    expect(await run(['AUTH', `${minted('ada').text}x`], keys(11))).to.deep.equal([wrong, tooMany]);
    const inline = await exchange(cluster.respPort, `${keys(11).join(' ')}\r\nPING\r\n`);
    expect(inline).to.equal(`${tooMany}\r\n`);
  });

  it('access: what follows AUTH or HELLO in one write has the usual limits', async () => {
    const { text } = minted('root');
    const value = 'x'.repeat(16_385);
    for (const first of [
      ['AUTH', text],
      ['HELLO', '2', 'AUTH', 'root', text, 'SETNAME', 'me'],
    ]) {
      const said = await run(first, largeSet, ['GET', 'k'], keys(11));
      expect(said.slice(-4), first[0]).to.deep.equal(['+OK', '$16385', value, ':1']);
    }
  });

  it('access: after RESET, and with a token that was revoked, he is not known any more', async () => {
    const path = `/api/v1/admin/users/ada/tokens/${minted('ada').id}`;
    for (const leave of [
      (open: RawConnection) => open.ask('+RESET\r\n', 'RESET'),
      () => send(cluster.port, 'DELETE', path, { headers: as('root') }),
    ]) {
      const open = new RawConnection(cluster.respPort);
      expect(await open.ask('+OK\r\n', ...login('ada'))).to.equal('+OK\r\n');
      await leave(open);
      expect(await open.ask(`${noAuth}\r\n`, 'PING')).to.equal(`${noAuth}\r\n`);
      open.send(command(...keys(11)));
      expect(await open.take(1000)).to.equal(`${tooMany}\r\n`);
    }
  });

  it('access: nobody has to log in, so the usual limits hold from the beginning', async () => {
    await cluster.close();
    cluster = await start({ isRequired: false });
    expect(await run(largeSet, keys(11))).to.deep.equal(['+OK', ':1']);
  });

  it('access: a command without a login is in the audit log, HELLO too', async () => {
    await run(['GET', 'secret-key'], ['HELLO', '3'], ['AUTH', 'wrong']);
    const common = { user: '', address: '127.0.0.1', target: '', outcome: 'UNAUTHORIZED' };
    expect(cluster.audit).to.deep.equal(
      ['get', 'hello', 'auth'].map((act) => ({ ...common, act })),
    );
  });

  it('access: HELLO logs in and chooses the version; without a login it is refused', async () => {
    const [refused] = await run(['HELLO', '3']);
    expect(refused).to.match(/^-NOAUTH HELLO must be called with the client already authenticated/);
    const { text } = minted('ada');
    const greeted = await run(['HELLO', '3', 'AUTH', 'ada', text, 'SETNAME', 'me'], ['PING']);
    expect(greeted[0]).to.equal('%7');
    expect(greeted.at(-1)).to.equal('+PONG');
    expect(await run(['HELLO', '3', 'AUTH', 'ada', 'no'], ['PING'])).to.deep.equal([wrong, noAuth]);
  });

  it('access: roles are of the selected namespace; SELECT of another is refused', async () => {
    expect(
      await run(
        login('ada'),
        ['SET', 'k', 'v'],
        ['SELECT', '2'],
        ['SELECT', '9'],
        ['SELECT', '1'],
        ['SET', 'k', 'v'],
      ),
    ).to.deep.equal([
      '+OK',
      "-NOPERM User ada has no permissions to run the 'set' command",
      "-NOPERM User ada has no permissions to run the 'select' command",
      "-NOPERM User ada has no permissions to run the 'select' command",
      '+OK',
      '+OK',
    ]);
    expect(await run(login('bob'), ['SELECT', '1'], ['GET', 'k'], ['SET', 'k', 'w'])).to.deep.equal(
      [
        ...['+OK', '+OK', '$1', 'v'],
        "-NOPERM User bob has no permissions to run the 'set' command",
      ],
    );
  });

  it('access: what a transaction may not do is refused when it is queued, and nothing of it is done', async () => {
    const refused = "-NOPERM User bob has no permissions to run the 'set' command";
    expect(
      await run(
        login('bob'),
        ['SELECT', '1'],
        ['MULTI'],
        ['GET', '{t}k'],
        ['SET', '{t}k', 'v'],
        ['EXEC'],
      ),
    ).to.deep.equal([
      ...['+OK', '+OK', '+OK', '+QUEUED', refused],
      '-EXECABORT Transaction discarded because of previous errors.',
    ]);
    expect(await run(['MULTI'], ['SET', '{t}k', 'v'], ['EXEC'])).to.deep.equal([
      noAuth,
      noAuth,
      noAuth,
    ]);
    expect(cluster.backend.records.size).to.equal(0);
  });

  it('access: RESET logs out, after what came before it', async () => {
    expect(
      await run(
        login('ada'),
        ['SELECT', '1'],
        ['SET', 'k', 'v'],
        ['GET', 'k'],
        ['RESET'],
        ['GET', 'k'],
      ),
    ).to.deep.equal(['+OK', '+OK', '+OK', '$1', 'v', '+RESET', noAuth]);
  });

  it('access: FLUSHDB needs admin of the namespace and deletes its keys alone', async () => {
    await run(login('root'), ['SELECT', '1'], ['MSET', 'x', '1', 'y', '2']);
    const [, , refused] = await run(login('ada'), ['SELECT', '1'], ['FLUSHDB']);
    expect(refused).to.equal("-NOPERM User ada has no permissions to run the 'flushdb' command");
    expect(cluster.backend.records.size).to.equal(2);
    expect(
      await run(login('cleo'), ['FLUSHALL'], ['SELECT', '1'], ['FLUSHDB', 'ASYNC']),
    ).to.deep.equal([
      '+OK',
      "-NOPERM User cleo has no permissions to run the 'flushall' command",
      '+OK',
      '+OK',
    ]);
    expect(cluster.backend.records.size).to.equal(0);
    expect(cluster.audit.at(-1)).to.deep.equal({
      ...{ user: 'cleo', address: '127.0.0.1', act: 'flushdb', target: '1', outcome: 'done' },
    });
  });

  it('access: a revoked token ends the rights of connections that are open', async () => {
    const open = new RawConnection(cluster.respPort);
    open.send(command(...login('ada')));
    open.send(command('SELECT', '1'));
    open.send(command('SET', 'k', 'v'));
    expect(await open.take(15)).to.equal('+OK\r\n+OK\r\n+OK\r\n');
    const path = `/api/v1/admin/users/ada/tokens/${minted('ada').id}`;
    expect((await send(cluster.port, 'DELETE', path, { headers: as('root') })).status).to.equal(
      200,
    );
    open.send(command('GET', 'k'));
    expect(await open.take(noAuth.length + 2)).to.equal(`${noAuth}\r\n`);
    open.socket.destroy();
  });

  const users = '/api/v1/admin/users/ada';
  for (const [what, change, get, set] of [
    ['disabled', '{"disabled":true}', noAuth, noAuth],
    ['without a role', '{"roles":{"a":null}}', 'get', 'set'],
    ['a reader now', '{"roles":{"a":"read"}}', '$1', 'set'],
  ] as const)
    it(`access: a user who is ${what} hears it with the next command of an open connection`, async () => {
      const refusal = (name: string): string =>
        /^[a-z]+$/.test(name)
          ? `-NOPERM User ada has no permissions to run the '${name}' command`
          : name;
      const open = new RawConnection(cluster.respPort);
      for (const args of [login('ada'), ['SELECT', '1'], ['SET', 'k', 'v']])
        expect(await open.ask('+OK\r\n', ...args)).to.equal('+OK\r\n');
      const altered = await sendJson(cluster.port, 'PUT', users, change, as('root'));
      expect(altered.status).to.equal(200);
      const read = `${refusal(get)}\r\n${get === '$1' ? 'v\r\n' : ''}`;
      expect(await open.ask(read, 'GET', 'k')).to.equal(read);
      expect(await open.ask(`${refusal(set)}\r\n`, 'SET', 'k', 'w')).to.equal(
        `${refusal(set)}\r\n`,
      );
      open.close();
    });

  it('access: a user who is deleted is not known to his open connection any more', async () => {
    const open = new RawConnection(cluster.respPort);
    expect(await open.ask('+OK\r\n', ...login('ada'))).to.equal('+OK\r\n');
    await send(cluster.port, 'DELETE', users, { headers: as('root') });
    expect(await open.ask(`${noAuth}\r\n`, 'PING')).to.equal(`${noAuth}\r\n`);
    // AUTH says so as well, and HELLO.
    expect(await open.ask(`${wrong}\r\n`, ...login('ada'))).to.equal(`${wrong}\r\n`);
    expect(await open.ask('-NOAUTH', 'HELLO', '3')).to.equal('-NOAUTH');
    open.close();
  });

  it('access: rights that end between MULTI and EXEC end the transaction, and nothing of it is done', async () => {
    const refused = "-NOPERM User ada has no permissions to run the 'set' command\r\n";
    const open = new RawConnection(cluster.respPort);
    for (const args of [login('ada'), ['SELECT', '1'], ['MULTI']])
      expect(await open.ask('+OK\r\n', ...args)).to.equal('+OK\r\n');
    for (const args of [
      ['GET', '{t}k'],
      ['SET', '{t}k', 'v'],
    ])
      expect(await open.ask('+QUEUED\r\n', ...args)).to.equal('+QUEUED\r\n');
    await sendJson(cluster.port, 'PUT', users, '{"roles":{"a":"read"}}', as('root'));
    expect(await open.ask(refused, 'EXEC')).to.equal(refused);
    expect(cluster.backend.records.size).to.equal(0);
    expect(cluster.audit.at(-1)).to.deep.equal({
      ...{ user: 'ada', address: '127.0.0.1', act: 'set', target: '1', outcome: 'FORBIDDEN' },
    });
    // It is over, as after any EXEC.
    expect(await open.ask('$-1\r\n', 'GET', '{t}k')).to.equal('$-1\r\n');
    open.close();
  });

  it('access: users see their own connections, administrators all', async () => {
    const count = (lines: readonly string[]): number =>
      lines
        .join('\n')
        .split('\n')
        .filter((line) => line.includes('user=')).length;
    const other = new RawConnection(cluster.respPort);
    other.send(command(...login('root')));
    await other.take(5);
    expect(count(await run(login('ada'), ['CLIENT', 'LIST']))).to.equal(1);
    expect(count(await run(login('root'), ['CLIENT', 'LIST']))).to.equal(2);
    other.socket.destroy();
  });
});
