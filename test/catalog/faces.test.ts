// Namespaces through every door of real nodes: REST by header and by path, kvctl, the Redis protocol,
// the client; sessions, cursors, lifetimes.

import { Redis } from 'ioredis';
import { expect } from 'chai';
import { ClientError, type KvdClient } from '../../cli/client/kvd-client.ts';
import { createCluster, type EmbeddedCluster } from '../../cli/embedded/cluster.ts';
import { kvctl } from '../kit-kvctl.ts';

interface Answer {
  readonly status: number;
  readonly code: string | undefined;
  readonly headers: Headers;
  readonly body: Record<string, unknown>;
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    return error instanceof ClientError ? error.code : (error as Error).message;
  }
  return 'none';
}

describe('catalog: the faces', function () {
  this.timeout(120_000);
  let cluster: EmbeddedCluster;
  let client: KvdClient;
  const api = (node: number): string => `${cluster.nodes[node]?.url ?? ''}/api/v1`;

  async function send(
    method: string,
    url: string,
    headers: Record<string, string> = {},
    body?: unknown,
  ): Promise<Answer> {
    const answer = await fetch(url, {
      method,
      headers: {
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    const document = text === '' ? {} : (JSON.parse(text) as Record<string, unknown>);
    const { status } = answer;
    return { status, code: document['code'] as string, headers: answer.headers, body: document };
  }

  const run = (...words: readonly string[]): ReturnType<typeof kvctl> =>
    kvctl(['--endpoint', cluster.nodes[0]?.url ?? '', ...words]);

  before(async () => {
    cluster = await createCluster({ nodes: 3 });
    client = cluster.client;
    await client.namespaces.create('shop');
    await client.namespaces.create('logs');
  });
  after(async () => {
    await cluster.stop();
  });

  it('catalog: REST takes the namespace from the header or from the path, not from two', async () => {
    const put = await send('PUT', `${api(0)}/namespaces/shop/keys/k`, {}, { value: 'shop' });
    expect(put.status).to.equal(200);
    await send('PUT', `${api(1)}/keys/k`, { 'x-namespace': 'logs' }, { value: 'logs' });
    const inShop = await send('GET', `${api(2)}/keys/k`, { 'x-namespace': 'shop' });
    const inLogs = await send('GET', `${api(2)}/namespaces/logs/keys/k`);
    expect([inShop.body['value'], inLogs.body['value']]).to.deep.equal(['shop', 'logs']);
    expect((await send('GET', `${api(0)}/keys/k`)).code).to.equal('NOT_FOUND');
    const both = await send('GET', `${api(0)}/namespaces/shop/keys/k`, { 'x-namespace': 'logs' });
    expect(both.code).to.equal('BAD_REQUEST');
    const same = await send('GET', `${api(0)}/namespaces/shop/keys/k`, { 'x-namespace': 'shop' });
    expect(same.status).to.equal(200);
    const unknown = await send('GET', `${api(0)}/namespaces/none/keys/k`);
    expect([unknown.status, unknown.code]).to.deep.equal([404, 'NO_SUCH_NAMESPACE']);
    const odd = await send('GET', `${api(0)}/namespaces/a%2Fb/keys/k`);
    expect(odd.code).to.equal('BAD_REQUEST');
    const batch = await send('POST', `${api(0)}/namespaces/logs/batch/get`, {}, { keys: ['k'] });
    expect(JSON.stringify(batch.body)).to.contain('"logs"');
    const list = await send('GET', `${api(0)}/namespaces/shop/keys`);
    expect(list.body['keys']).to.deep.equal(['k']);
  });

  it('catalog: tokens and cursors of one namespace are refused in another', async () => {
    const at = { 'x-namespace': 'shop' };
    for (const key of ['c1', 'c2']) await send('PUT', `${api(0)}/keys/${key}`, at, { value: 1 });
    const page = await send('GET', `${api(0)}/keys?limit=1`, at);
    const token = page.headers.get('x-session-token') ?? '';
    const cursor = String(page.body['cursor']);
    const elsewhere = { 'x-namespace': 'logs' };
    const crossed = await send('GET', `${api(0)}/keys/k`, {
      ...elsewhere,
      'x-session-token': token,
    });
    expect(crossed.body['detail']).to.contain('another namespace');
    const next = await send(
      'GET',
      `${api(0)}/keys?cursor=${encodeURIComponent(cursor)}`,
      elsewhere,
    );
    expect(next.body['detail']).to.contain('another namespace');
  });

  it('catalog: admin routes check what they are told, field by field', async () => {
    const path = `${api(0)}/admin/namespaces`;
    const refused = async (body: unknown): Promise<string> => {
      const { code, body: problem } = await send('POST', path, {}, body);
      return `${code} ${String(problem['detail'])}`;
    };
    expect(await refused({})).to.match(/^BAD_REQUEST name: /);
    expect(await refused({ name: '../x' })).to.match(/^BAD_REQUEST name: /);
    expect(await refused({ name: 'x', max_ttl: -1 })).to.match(/^BAD_REQUEST max_ttl: /);
    expect(await refused({ name: 'x', default_ttl: 9, max_ttl: 8 })).to.match(
      /^BAD_REQUEST default_ttl: expected at most max_ttl/,
    );
    expect(await refused({ name: 'x', quotas: { keys: 1.5 } })).to.match(
      /^BAD_REQUEST quotas.keys: /,
    );
    expect(await refused({ name: 'x', quotas: { rows: 1 } })).to.match(/^BAD_REQUEST quotas.rows/);
    expect(await refused({ name: 'x', default_consistency: { read: 'MOST' } })).to.match(
      /^BAD_REQUEST default_consistency.read: unknown consistency level/,
    );
    expect(await refused({ name: 'x', default_consistency: { read: 'EACH_QUORUM' } })).to.match(
      /^BAD_REQUEST default_consistency.read/,
    );
    expect(await refused({ name: 'x', color: 1 })).to.match(/^BAD_REQUEST color: /);
    expect(await refused({ name: 'x', owner: 'ä' })).to.match(/^BAD_REQUEST owner: /);
    expect(await refused({ name: 'x', compaction: 'tiered' })).to.match(
      /^BAD_REQUEST compaction: expected leveled, size-tiered, time-window, or empty/,
    );
    expect(await refused({ name: 'x', compression: 'gzip' })).to.match(
      /^BAD_REQUEST compression: expected auto, none, lz4, zstd, or empty/,
    );
    expect(await refused({ name: 'x', replication: 'y' })).to.match(/^NOT_IMPLEMENTED/);
    expect(await refused({ name: 'x', replication_factor: 2 })).to.match(/^NOT_IMPLEMENTED/);
    expect(await refused({ name: 'x', conflicts: 'crdt' })).to.match(/^BAD_REQUEST conflicts/);
    const drop = await send('DELETE', `${path}/logs`);
    expect(drop.body['detail']).to.contain('confirm: expected logs');
    expect((await send('DELETE', `${path}/default?confirm=default`)).code).to.equal('CONFLICT');
  });

  it('catalog: kvctl makes, shows, changes and drops; --ns is where keys are', async () => {
    const made = await run(
      '-o',
      'json',
      'ns',
      'create',
      'tmp',
      '--owner',
      'me',
      '--quota-keys',
      '5',
    );
    expect(JSON.parse(made.text)).to.deep.include({ name: 'tmp', owner: 'me' });
    expect((await run('--ns', 'tmp', 'put', 'k', '1')).code).to.equal(0);
    expect((await run('--ns', 'tmp', 'get', 'k')).text).to.equal('1\n');
    expect((await run('--ns', 'tmp', '-o', 'raw', 'list')).text).to.equal('k\n');
    const altered = await run('-o', 'json', 'ns', 'alter', 'tmp', '--max-ttl', '60');
    expect(JSON.parse(altered.text)).to.deep.include({ owner: 'me', max_ttl: 60 });
    const kept = ['--compaction', 'time-window', '--compression', 'zstd'];
    const chosen = await run('-o', 'json', 'ns', 'alter', 'tmp', ...kept);
    const tables = { compaction: 'time-window', compression: 'zstd' };
    expect(JSON.parse(chosen.text)).to.deep.include({ owner: 'me', ...tables });
    expect((await run('ns', 'list')).text).to.match(/tmp .*time-window.*zstd/);
    expect(await client.namespaces.get('tmp')).to.deep.include(tables);
    const back = await client.namespaces.alter('tmp', { compaction: '' });
    expect([back.compaction, back.compression]).to.deep.equal(['', 'zstd']);
    expect((await run('-o', 'raw', 'ns', 'list')).text.split('\n')).to.include('tmp');
    expect((await run('ns', 'get', 'tmp')).text).to.contain('60');
    expect((await run('ns', 'drop', 'tmp', '--confirm', 'tpm')).code).to.equal(2);
    expect((await run('ns', 'drop', 'tmp')).code).to.equal(2);
    expect((await run('ns', 'drop', 'tmp', '--confirm', 'tmp')).code).to.equal(0);
    expect((await run('ns', 'get', 'tmp')).code).to.equal(4);
    const gone = await run('--ns', 'tmp', 'get', 'k');
    expect([gone.code, gone.stderr.includes('no such namespace')]).to.deep.equal([4, true]);
  });

  it('catalog: kvctl export of one namespace goes into another', async () => {
    await run('--ns', 'shop', 'put', 'moved', '{"a":1}');
    const out = await run('--ns', 'shop', 'export', '-');
    const lines = out.text.split('\n').filter((line) => line.includes('moved'));
    expect(lines).to.have.length(1);
    const into = await kvctl(
      ['--endpoint', cluster.nodes[1]?.url ?? '', '--ns', 'logs', 'import', '-'],
      `${lines.join('\n')}\n`,
    );
    expect(into.code, into.stderr).to.equal(0);
    expect((await client.inNamespace('logs').get('moved'))?.value).to.deep.equal({ a: 1 });
    expect(await client.get('moved')).to.equal(undefined);
  });

  it('catalog: SELECT is a namespace by number, also in a pipeline; errors as in Redis', async () => {
    const made = await client.namespaces.create('redis');
    const redis = new Redis(cluster.nodes[1]?.redisUrl ?? '', { maxRetriesPerRequest: 0 });
    try {
      await redis.set('r', 'default');
      const replies = await redis
        .pipeline()
        .call('SELECT', String(made.id))
        .set('r', 'ns')
        .get('r')
        .keys('*')
        .call('SELECT', '0')
        .get('r')
        .exec();
      expect(replies?.map(([, value]) => value)).to.deep.equal([
        ...['OK', 'OK', 'ns', ['r'], 'OK', 'default'],
      ]);
      expect(await codeOf(redis.call('SELECT', '999'))).to.equal('ERR DB index is out of range');
      expect(await codeOf(redis.call('SELECT', '-1'))).to.equal('ERR DB index is out of range');
      expect(await codeOf(redis.call('SELECT', 'x'))).to.equal('ERR invalid DB index');
      await redis.call('SELECT', String(made.id));
      await client.namespaces.drop('redis');
      expect(await codeOf(redis.get('r'))).to.match(/^ERR NO_SUCH_NAMESPACE no such namespace/);
      expect(await codeOf(redis.call('SELECT', String(made.id)))).to.equal(
        'ERR DB index is out of range',
      );
      await redis.call('SELECT', '0');
      expect(await redis.get('r')).to.equal('default');
    } finally {
      redis.disconnect();
    }
  });

  it('catalog: lifetimes: the default where none is asked for, the longest for all', async () => {
    await client.namespaces.create('short', { defaultTtlSeconds: 100, maxTtlSeconds: 200 });
    const short = client.inNamespace('short');
    const left = async (key: string): Promise<number> =>
      (await short.get(key))?.ttlRemaining ?? Number.NaN;
    await short.put('usual', 1);
    expect(await left('usual')).to.be.within(95, 100);
    await short.put('longest', 1, { ttlSeconds: 200 });
    expect(await left('longest')).to.be.within(195, 200);
    expect(await codeOf(short.put('longer', 1, { ttlSeconds: 201 }))).to.equal('BAD_REQUEST');
    await short.put('decided', 1, { ifNotExists: true });
    expect(await left('decided')).to.be.within(95, 100);
    await short.incr('counter');
    expect(await left('counter')).to.be.within(95, 100);
    await short.setTtl('counter', 200);
    await short.incr('counter');
    expect(await left('counter')).to.be.within(195, 200);
    expect(await codeOf(short.setTtl('counter', 0))).to.equal('BAD_REQUEST');
    expect(await codeOf(short.setTtl('counter', 201))).to.equal('BAD_REQUEST');
    await short.putMany([{ key: 'many', value: 1 }]);
    expect(await left('many')).to.be.within(95, 100);
    await client.namespaces.alter('short', { defaultTtlSeconds: 0 });
    await short.put('usual', 2);
    expect(await left('usual')).to.be.within(195, 200);
  });

  it('catalog: a namespace has its own default levels', async () => {
    await client.namespaces.create('loose', { defaultConsistency: { read: 'ONE', write: 'ALL' } });
    const at = { 'x-namespace': 'loose' };
    const put = await send('PUT', `${api(0)}/keys/k`, at, { value: 1 });
    const get = await send('GET', `${api(0)}/keys/k`, at);
    const asked = await send('GET', `${api(0)}/keys/k`, { ...at, 'consistency-level': 'TWO' });
    const levels = [put, get, asked].map(({ headers }) => headers.get('x-consistency-level'));
    expect(levels).to.deep.equal(['ALL', 'ONE', 'TWO']);
  });

  it('catalog: a watch hears of its namespace alone and ends when that is dropped', async () => {
    await client.namespaces.create('seen');
    const seen = client.inNamespace('seen');
    const told: string[] = [];
    const watching = (async () => {
      for await (const event of seen.watch()) {
        told.push(event.type === 'put' ? event.key : event.type);
        if (event.type === 'ready')
          await client.put('elsewhere', 1).then(() => seen.put('here', 1));
        if (told.includes('here')) void client.namespaces.drop('seen');
      }
    })();
    expect(await codeOf(watching)).to.equal('NO_SUCH_NAMESPACE');
    expect(told).to.deep.equal(['ready', 'here']);
  });
});
