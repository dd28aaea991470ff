// Writes that belong together or stand side by side, over real nodes: keys that keep siblings, and
// atomic batches.

import { Redis } from 'ioredis';
import { expect } from 'chai';
import { createCluster, type EmbeddedCluster } from '../../cli/embedded/cluster.ts';
import { kvctl } from '../kit-kvctl.ts';

interface Answer {
  readonly status: number;
  readonly code: string | undefined;
  readonly context: string;
  readonly level: string;
  readonly body: Record<string, unknown>;
}

let cluster: EmbeddedCluster;

async function send(
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
  node = 0,
): Promise<Answer> {
  const json = body === undefined ? {} : { 'content-type': 'application/json' };
  const answer = await fetch(`${cluster.nodes[node]?.url ?? ''}/api/v1${path}`, {
    method,
    headers: { ...json, ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await answer.text();
  const document = text === '' ? {} : (JSON.parse(text) as Record<string, unknown>);
  const { status } = answer;
  const context = answer.headers.get('x-causal-context') ?? '';
  const level = answer.headers.get('x-consistency-level') ?? '';
  return { status, code: document['code'] as string, context, level, body: document };
}

before(async function () {
  this.timeout(120_000);
  cluster = await createCluster({ nodes: 3 });
  await cluster.client.namespaces.create('carts', { conflicts: 'siblings' });
});
after(async () => {
  await cluster.stop();
});

describe('conflicts: siblings over REST', function () {
  this.timeout(60_000);
  const cart = (key: string): string => `/namespaces/carts/keys/${key}`;
  const put = (key: string, value: unknown, context = '', node = 0): Promise<Answer> =>
    send('PUT', cart(key), { value }, context === '' ? {} : { 'x-causal-context': context }, node);
  const valuesOf = ({ body }: Answer): unknown[] =>
    (body['values'] as { readonly value: unknown }[]).map(({ value }) => value).sort();

  it('siblings: concurrent writes are all there, with 300, until somebody who has read them writes', async () => {
    const [one, two] = await Promise.all([put('a', ['milk'], '', 0), put('a', ['bread'], '', 1)]);
    expect([one.status, two.status]).to.deep.equal([200, 200]);
    const both = await send('GET', cart('a'), undefined, {}, 2);
    expect(both.status).to.equal(300);
    expect(valuesOf(both)).to.deep.equal([['bread'], ['milk']]);
    expect(both.context).to.equal(both.body['context']);
    const merged = await put('a', ['bread', 'milk'], both.context, 2);
    expect(merged.body).to.deep.include({ siblings: 1, existed: true });
    const read = await send('GET', cart('a'), undefined, {}, 0);
    expect([read.status, read.body['value']]).to.deep.equal([200, ['bread', 'milk']]);
  });

  it('siblings: a write with an old context stands beside what it has not seen', async () => {
    const { context } = await put('b', 1);
    await put('b', 2, context);
    expect((await put('b', 3, context, 1)).body['siblings']).to.equal(2);
    expect(valuesOf(await send('GET', cart('b')))).to.deep.equal([2, 3]);
  });

  it('siblings: a delete removes what its context has seen, and nothing without one', async () => {
    const { context } = await put('c', 1);
    await put('c', 2);
    await send('DELETE', cart('c'), undefined, { 'x-causal-context': context }, 1);
    const left = await send('GET', cart('c'), undefined, {}, 2);
    expect([left.status, left.body['value']]).to.deep.equal([200, 2]);
    await send('DELETE', cart('c'));
    expect((await send('GET', cart('c'))).body['value']).to.equal(2);
    await send('DELETE', cart('c'), undefined, { 'x-causal-context': left.context });
    expect((await send('GET', cart('c'))).code).to.equal('NOT_FOUND');
    const keys = await send('GET', '/namespaces/carts/keys?prefix=c');
    expect(keys.body['keys']).to.deep.equal([]);
  });

  it('siblings: values expire one by one', async () => {
    await send('PUT', cart('d'), { value: 'short', ttl: 1 });
    await put('d', 'long');
    const both = await send('GET', cart('d'));
    expect(valuesOf(both)).to.deep.equal(['long', 'short']);
    for (;;) {
      const { status, body } = await send('GET', cart('d'));
      if (status === 300) continue;
      expect([status, body['value']]).to.deep.equal([200, 'long']);
      break;
    }
  });

  it('siblings: a forged context, conditions, serial levels and routes of single values are refused', async () => {
    const { context } = await put('e', 1);
    const forged = `${context.startsWith('B') ? 'C' : 'B'}${context.slice(1)}`;
    const refused = [
      put('e', 2, forged),
      put('other', 2, context),
      put('e', 2, 'no base64!'),
      send('PUT', cart('e'), { value: 2, if_not_exists: true }),
      send('PUT', cart('e'), { value: 2 }, { 'if-match': '"x"' }),
      send('PUT', cart('e'), { value: 2 }, { 'consistency-level': 'SERIAL' }),
      send('PUT', cart('e'), { value: 2 }, { 'x-explain': '1' }),
      send('DELETE', cart('e'), undefined, { 'consistency-level': 'SERIAL' }),
      send('GET', cart('e'), undefined, { 'consistency-level': 'SERIAL' }),
      send('GET', cart('e'), undefined, { 'consistency-level': 'LOCAL_SERIAL' }),
      send('POST', `${cart('e')}/incr`, { delta: 1 }),
      send('POST', `${cart('e')}/cas`, { expected_value: 1, new_value: 2 }),
      send('POST', `${cart('e')}/ttl`, { ttl_seconds: 5 }),
      send('POST', '/namespaces/carts/batch/put', { operations: [{ key: 'e', value: 1 }] }),
      send('GET', '/namespaces/carts/keys?values=true'),
      send('GET', '/namespaces/carts/watch'),
    ];
    for (const { status, code } of await Promise.all(refused))
      expect([status, code]).to.deep.equal([400, 'BAD_REQUEST']);
    const head = await send('HEAD', cart('e'), undefined, { 'consistency-level': 'SERIAL' });
    expect(head.status).to.equal(400);
    expect((await send('GET', cart('e'))).body['value']).to.equal(1);
  });

  it('siblings: HEAD says what GET says, without the values', async () => {
    await put('h', 1);
    const head = (): Promise<Response> =>
      fetch(`${cluster.nodes[0]?.url ?? ''}/api/v1${cart('h')}`, { method: 'HEAD' });
    const one = await head();
    expect([one.status, one.headers.get('x-value-type')]).to.deep.equal([200, 'json']);
    expect(one.headers.get('x-causal-context')).to.equal((await send('GET', cart('h'))).context);
    const { context } = await put('h', 2);
    const two = await head();
    expect([two.status, two.headers.get('x-value-type')]).to.deep.equal([300, null]);
    expect(two.headers.get('x-causal-context')).to.equal(context);
    expect(two.headers.get('x-version')).to.equal('2');
    expect(two.headers.get('etag')).to.not.equal(one.headers.get('etag'));
  });

  it('siblings: such a namespace has no serial usual levels', async () => {
    for (const [levels, field] of [
      [{ read: 'SERIAL' }, 'default_consistency.read'],
      [{ write: 'LOCAL_SERIAL' }, 'default_consistency.write'],
    ] as const) {
      const settings = { default_consistency: levels };
      const detail = `${field}: expected no serial level with conflicts: siblings`;
      const made = await send('POST', '/admin/namespaces', {
        ...{ name: 'both', conflicts: 'siblings', ...settings },
      });
      expect([made.status, made.body['detail']]).to.deep.equal([400, detail]);
      const altered = await send('PUT', '/admin/namespaces/carts', settings);
      expect([altered.status, altered.body['detail']]).to.deep.equal([400, detail]);
    }
  });

  it('siblings: the Redis protocol does not enter such a namespace', async () => {
    const redis = new Redis(cluster.nodes[0]?.redisUrl ?? '', { lazyConnect: true });
    redis.on('error', () => undefined);
    await redis.connect();
    const said = await redis.select(1).catch((error: unknown) => (error as Error).message);
    redis.disconnect();
    expect(said).to.contain('keeps siblings');
  });
});

describe('conflicts: atomic batches over REST', function () {
  this.timeout(60_000);
  const batch = (verb: 'put' | 'delete', body: object, headers = {}): Promise<Answer> =>
    send('POST', `/batch/${verb}`, body, headers, 1);
  const get = async (key: string): Promise<unknown> =>
    (await send('GET', `/keys/${key}`, undefined, {}, 2)).body['value'];

  it('atomic: all keys are written at once, with one stamp', async () => {
    const keys = ['x1', 'x2', 'x3'];
    const operations = keys.map((key, i) => ({ key, value: i, ttl: 1_000 }));
    // Whether a key was there is what one replica says: with ALL every one of them knows.
    const all = { 'consistency-level': 'ALL' };
    const { status, body } = await batch('put', { operations, atomic: true }, all);
    expect([status, body['success_count'], body['failed_keys']]).to.deep.equal([200, 3, []]);
    expect(await Promise.all(keys.map(get))).to.deep.equal([0, 1, 2]);
    const times = await Promise.all(keys.map((key) => send('GET', `/keys/${key}`)));
    expect(new Set(times.map(({ body: read }) => read['timestamp'])).size).to.equal(1);
    const gone = await batch('delete', { keys: ['x1', 'x3', 'never'], atomic: true });
    expect((gone.body['results'] as object[]).map((one) => ({ ...one, version: 0 }))).to.deep.equal(
      [
        { key: 'x1', deleted: true, version: 0 },
        { key: 'x3', deleted: true, version: 0 },
        { key: 'never', deleted: false, version: 0 },
      ],
    );
    expect(await Promise.all(keys.map(get))).to.deep.equal([undefined, 1, undefined]);
  });

  it('atomic: one bad operation refuses the whole batch', async () => {
    await send('POST', '/keys/counted/incr', { delta: 5 });
    // A batch looks at one replica of a key, and a decision is answered when a majority has it.
    await send('GET', '/keys/counted', undefined, { 'consistency-level': 'ALL' });
    const good = { key: 'y1', value: 1 };
    const refusals: [object, Record<string, string>, string][] = [
      [{ operations: [good, { key: 'counted', value: 1 }] }, {}, 'SERIAL_KEY'],
      [{ operations: [good, { key: 'y1', value: 2 }] }, {}, 'BAD_REQUEST'],
      [{ operations: [good, { key: '', value: 2 }] }, {}, 'BAD_REQUEST'],
      [{ operations: [] }, {}, 'BAD_REQUEST'],
      [{ operations: [good, { key: 'y2', value: 2, if_not_exists: true }] }, {}, 'BAD_REQUEST'],
      [{ operations: [good] }, { 'consistency-level': 'SERIAL' }, 'BAD_REQUEST'],
      [{ operations: [good] }, { 'if-match': '"x"' }, 'BAD_REQUEST'],
    ];
    for (const [body, headers, code] of refusals)
      expect((await batch('put', { ...body, atomic: true }, headers)).code).to.equal(code);
    expect(await get('y1')).to.equal(undefined);
    expect(await get('counted')).to.equal(5);
  });
});

describe('conflicts: a namespace whose usual levels are serial', function () {
  this.timeout(60_000);
  before(async () => {
    const levels = { read: 'SERIAL', write: 'SERIAL' } as const;
    await cluster.client.namespaces.create('decided', { defaultConsistency: levels });
  });
  const inDecided = (method: string, path: string, body?: unknown, level = ''): Promise<Answer> =>
    send(
      method,
      `/namespaces/decided${path}`,
      body,
      level === '' ? {} : { 'consistency-level': level },
    );

  it('levels: an atomic batch that names no level takes that of the node there', async () => {
    const batch = (keys: readonly string[], level = ''): Promise<Answer> => {
      const operations = keys.map((key) => ({ key, value: 1 }));
      return inDecided('POST', '/batch/put', { operations, atomic: true }, level);
    };
    const made = await batch(['a1', 'a2']);
    expect([made.status, made.level]).to.deep.equal([200, 'QUORUM']);
    expect((await batch(['a3'], 'SESSION')).status).to.equal(200);
    expect((await batch(['a4'], 'SERIAL')).code).to.equal('BAD_REQUEST');
    // Others are decided as ever.
    const plain = await inDecided('POST', '/batch/put', { operations: [{ key: 'b', value: 1 }] });
    expect([plain.status, plain.level]).to.deep.equal([200, 'SERIAL']);
    const gone = await inDecided('POST', '/batch/delete', { keys: ['a1'], atomic: true });
    expect([gone.status, gone.level]).to.deep.equal([200, 'QUORUM']);
  });

  it('levels: SCAN, KEYS, RANDOMKEY and FLUSHDB are served there', async () => {
    const { namespaces } = cluster.client;
    const redis = new Redis(cluster.nodes[1]?.redisUrl ?? '', { lazyConnect: true });
    await redis.connect();
    await redis.select((await namespaces.get('decided'))?.id ?? -1);
    await redis.flushdb();
    await redis.set('k1', 'v');
    for (const level of ['', 'SERIAL', 'LOCAL_SERIAL']) {
      if (level !== '') await redis.call('KV.CONSISTENCY', level);
      expect(await redis.scan('0')).to.deep.equal(['0', ['k1']]);
      expect(await redis.keys('*')).to.deep.equal(['k1']);
      expect(await redis.randomkey()).to.equal('k1');
      expect(await redis.get('k1')).to.equal('v');
    }
    expect(await redis.flushdb()).to.equal('OK');
    expect(await redis.keys('*')).to.deep.equal([]);
    redis.disconnect();
  });
});

describe('conflicts: client and kvctl', function () {
  this.timeout(60_000);
  const run = (words: readonly string[], input = ''): ReturnType<typeof kvctl> =>
    kvctl(['--endpoint', cluster.nodes[0]?.url ?? '', ...words], input);

  it('conflicts: the client reads siblings and takes their place', async () => {
    const carts = cluster.client.inNamespace('carts');
    expect(await carts.siblings('k')).to.deep.equal({ values: [], context: '' });
    await carts.put('k', 'one');
    await carts.put('k', Uint8Array.of(1, 2));
    const { values, context } = await carts.siblings('k');
    expect(values).to.have.lengthOf(2);
    expect(values).to.include('one');
    const several = await carts.get('k').catch((error: unknown) => (error as Error).message);
    expect(several).to.contain('siblings()');
    await carts.put('k', 'both', { context });
    expect((await carts.get('k'))?.value).to.equal('both');
    const last = await carts.siblings('k');
    await carts.delete('k', { context: last.context });
    expect(await carts.get('k')).to.equal(undefined);
  });

  it('conflicts: kvctl shows several values and takes their place', async () => {
    const here = (...words: string[]): ReturnType<typeof kvctl> => run(['--ns', 'carts', ...words]);
    for (const value of ['1', '2']) await here('put', 'k2', value);
    const { code, text, stderr } = await here('get', 'k2');
    expect([code, stderr]).to.deep.equal([
      0,
      'kvctl: k2 has several values; a write with --context takes their place\n',
    ]);
    const { values, context } = JSON.parse(text) as { values: object[]; context: string };
    expect(values).to.have.lengthOf(2);
    await here('put', 'k2', '3', '--context', context);
    expect((await here('get', 'k2')).text).to.equal('3\n');
    const only = JSON.parse((await here('-o', 'json', 'get', 'k2')).text) as { context: string };
    expect((await here('del', 'k2', '--context', only.context)).text).to.equal('deleted\n');
    expect((await here('get', 'k2')).code).to.equal(4);
  });

  it('conflicts: the client and kvctl write atomic batches', async () => {
    const { client } = cluster;
    await client.putMany(
      [
        { key: 'm1', value: 1 },
        { key: 'm2', value: 2 },
      ],
      { atomic: true, level: 'ALL' },
    );
    const outcomes = await client.deleteMany(['m1', 'm3'], { atomic: true });
    expect(outcomes.map((outcome) => outcome.ok && outcome.result)).to.deep.equal([true, false]);
    await client.incr('decided');
    await client.get('decided', { level: 'ALL' });
    const refused = await client
      .putMany(
        [
          { key: 'm4', value: 1 },
          { key: 'decided', value: 1 },
        ],
        { atomic: true },
      )
      .catch((error: unknown) => (error as { code: string }).code);
    expect(refused).to.equal('SERIAL_KEY');
    const lines = '{"key":"n1","value":1}\n{"key":"n2","value":2}\n';
    expect((await run(['batch', 'put', '-', '--atomic'], lines)).text).to.equal('OK 2\n');
    const many = Array.from({ length: 1001 }, (_, i) => `{"key":"z${i}","value":1}`).join('\n');
    const tooMany = await run(['batch', 'put', '-', '--atomic'], many);
    expect([tooMany.code, tooMany.stderr]).to.deep.equal([
      2,
      'kvctl: --atomic takes at most 1000 lines, found 1001\n',
    ]);
    expect(await client.exists('z0')).to.equal(false);
    expect((await run(['batch', 'get', '-', '--atomic'], 'n1\n')).code).to.equal(2);
  });
});
