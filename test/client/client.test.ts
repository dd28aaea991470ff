// The client library against servers that answer what the test wants: which node is asked, what is
// sent again and what is not, and what the caller gets.

import { expect } from 'chai';
import { connect, type KvdClient } from '../../cli/client/kvd-client.ts';
import { deadEndpoint, ok, problem, type Reply } from '../kit-kvctl.ts';
import { FakeCluster, failureOf, okReply, written } from './fake-cluster.ts';

describe('client library', () => {
  let cluster: FakeCluster;
  let client: KvdClient;
  const open = async (options: object = {}): Promise<void> => {
    client.close();
    client = await connect(
      cluster.nodes.map(({ url }) => url),
      { hedgeAfterMs: 'off', ...options },
    );
  };

  beforeEach(async () => {
    cluster = await FakeCluster.start();
    client = await connect(cluster.nodes[0]?.url ?? '', { hedgeAfterMs: 'off' });
  });
  afterEach(async () => {
    client.close();
    await cluster.close();
  });

  it('client: a value comes back with its figures', async () => {
    expect(await client.get('k')).to.deep.equal({
      value: { a: [1] },
      version: 3,
      timestamp: 5,
      etag: 'e-1-1',
      ttlRemaining: 9,
    });
  });

  it('client: JSON goes as JSON, bytes as bytes, with time to live and level', async () => {
    const key = cluster.keyAt(0, 1);
    cluster.replies[0] = () => written;
    expect(await client.put(key, { n: 1 }, { ttlSeconds: 60, level: 'ALL' })).to.deep.equal({
      version: 3,
      timestamp: 5,
      etag: 'e-1-1',
    });
    await client.put(key, Uint8Array.from([1, 2]), { ttlSeconds: 7 });
    const [json, bytes] = cluster.nodes[0]?.seen.slice(1) ?? [];
    expect(json?.body).to.equal('{"value":{"n":1},"ttl":60}');
    expect(json?.headers).to.include({ 'consistency-level': 'ALL' });
    expect([bytes?.url, bytes?.headers['content-type']]).to.deep.equal([
      `/api/v1/keys/${key}?ttl=7`,
      'application/octet-stream',
    ]);
  });

  it('client: what is no key or no JSON is refused before anything is sent', async () => {
    for (const bad of ['', '\ud800']) {
      const { code } = await failureOf(client.put(bad, 1));
      expect(code).to.equal('BAD_REQUEST');
    }
    expect((await failureOf(client.put('k', undefined))).detail).to.contain('JSON value');
    expect(cluster.asked()).to.deep.equal([[], [], []]);
  });

  const circular: unknown[] = [];
  circular.push(circular);
  const any = (value: unknown): never => value as never;
  const refused: readonly (readonly [string, (kvd: KvdClient) => Promise<unknown>, RegExp])[] = [
    [
      'an option of put',
      (kvd) => kvd.put('k', 1, any({ ttl: 5 })),
      /^ttl: expected one of the opt/,
    ],
    [
      'an option of get',
      (kvd) => kvd.get('k', any({ lvl: 1 })),
      /^lvl: expected one of the options/,
    ],
    ['an option of list', (kvd) => kvd.list(any({ limit: 2 })).next(), /^limit: expected one of/],
    [
      'an option of scan',
      (kvd) => kvd.scan(any({ prefix: 'a' })).next(),
      /^prefix: expected one of/,
    ],
    [
      'an option of an operation',
      (kvd) => kvd.putMany([any({ key: 'k', value: 1, ttl: 5 })]),
      /^ttl: /,
    ],
    [
      'options that are none',
      (kvd) => kvd.get('k', any(5)),
      /^options: expected an object, found 5/,
    ],
    [
      'a key of undefined',
      (kvd) => kvd.get(any(undefined)),
      /^key: expected a string or a Uint8Array, found undefined/,
    ],
    ['a key of a batch', (kvd) => kvd.getMany([any(5)]), /^key: expected a string or .*found 5/],
    ['a key of floats', (kvd) => kvd.deleteMany([any(Float64Array.of(1))]), /^key: .* found Float/],
    [
      'an ArrayBuffer',
      (kvd) => kvd.put('k', new ArrayBuffer(3)),
      /ArrayBuffer has no form in JSON/,
    ],
    ['other arrays', (kvd) => kvd.put('k', { a: Uint16Array.of(1) }), /Uint16Array has no form/],
    [
      'no number',
      (kvd) => kvd.put('k', [Number.NaN]),
      /^value: expected a JSON value.*: NaN has no/,
    ],
    ['a Map', (kvd) => kvd.cas('k', { version: 0 }, new Map([[1, 2]])), /Map has no form in JSON/],
    ['a bigint', (kvd) => kvd.put('k', 5n), /^value: expected a JSON value or a Uint8Array: /],
    [
      'a circle',
      (kvd) => kvd.put('k', circular),
      /^value: expected a JSON value or a Uint8Array: /,
    ],
    [
      'nothing expected',
      (kvd) => kvd.cas('k', any(null), 1),
      /^cas: expected exactly one.*found null/,
    ],
    [
      'a deadline of text',
      (kvd) => kvd.get('k', any({ deadlineMs: 'x' })),
      /^deadlineMs: expected a n/,
    ],
    ['a deadline of 0', (kvd) => kvd.get('k', { deadlineMs: 0 }), /^deadlineMs: .*, found 0$/],
    [
      'a deadline before now',
      (kvd) => kvd.put('k', 1, { deadlineMs: -1 }),
      /^deadlineMs: .*, found -1/,
    ],
  ];
  for (const [what, call, detail] of refused)
    it(`client: ${what} is refused by name, and nothing is sent`, async () => {
      const failure = await failureOf(call(client));
      expect([failure.code, failure.status]).to.deep.equal(['BAD_REQUEST', 0]);
      expect(failure.detail).to.match(detail);
      expect(cluster.asked()).to.deep.equal([[], [], []]);
    });

  it('client: what looks like a value that JSON loses goes as it is', async () => {
    const key = cluster.keyAt(0, 1);
    cluster.replies[0] = () => written;
    const value = { a: null, b: {}, c: { '0': 1 }, d: [undefined], e: new Date(0) };
    await client.put(key, value);
    expect(cluster.nodes[0]?.seen.at(-1)?.body).to.equal(`{"value":${JSON.stringify(value)}}`);
  });

  it('client: options of connect that it does not know, or that are none, are refused', async () => {
    const url = cluster.nodes[0]?.url ?? '';
    for (const [options, detail] of [
      [{ foo: 1 }, /^foo: expected one of the options namespace, /],
      [{ attemptsMax: 0 }, /^attemptsMax: expected a number from 1 to/],
      [{ deadlineMs: Number.NaN }, /^deadlineMs: expected a number from 1 to/],
    ] as const) {
      const failure = await failureOf(connect(url, any(options)));
      expect([failure.code, detail.test(failure.detail)]).to.deep.equal(['BAD_REQUEST', true]);
    }
  });

  it('client: calls of a client that is closed are refused', async () => {
    client.close();
    for (const call of [client.get('k'), client.session().put('k', 1), client.watch().next()])
      expect((await failureOf(call)).detail).to.equal('the client is closed: connect again');
    expect(cluster.asked()).to.deep.equal([[], [], []]);
  });

  it('client: a request goes to the first replica of its key', async () => {
    await client.get(cluster.keyAt(1, 2));
    await client.get(cluster.keyAt(2, 0));
    await client.get(cluster.keyAt(0, 1));
    expect(cluster.asked()).to.deep.equal([['GET'], ['GET'], ['GET']]);
  });

  it('client: a read goes on to the next replica when its node is gone', async () => {
    const key = cluster.keyAt(1, 2);
    await cluster.nodes[1]?.close();
    expect((await client.get(key))?.version).to.equal(3);
    expect(cluster.asked()[2]).to.deep.equal(['GET']);
  });

  it('client: a node that fails again and again is left alone', async () => {
    const key = cluster.keyAt(1, 2);
    cluster.replies[1] = () => undefined;
    for (let i = 0; i < 8; i += 1) await client.get(key);
    expect(cluster.asked().map((asked) => asked.length)).to.deep.equal([0, 5, 8]);
  });

  it('ID-1: a write whose answer is lost is not sent again; one that was never sent is', async () => {
    const key = cluster.keyAt(1, 2);
    cluster.replies[1] = () => undefined;
    cluster.replies[2] = () => written;
    const lost = await failureOf(client.put(key, 1));
    expect([lost.code, lost.isOutcomeUnknown]).to.deep.equal(['UNKNOWN_OUTCOME', true]);
    expect(cluster.asked()).to.deep.equal([[], ['PUT'], []]);
    await cluster.nodes[1]?.close();
    expect((await client.put(key, 1)).version).to.equal(3);
    expect(cluster.asked()[2]).to.deep.equal(['PUT']);
  });

  it('ID-1: a refusal without effect is tried elsewhere, one that will not change is not', async () => {
    const key = cluster.keyAt(1, 2);
    cluster.replies[1] = () => problem(503, 'UNAVAILABLE');
    cluster.replies[2] = () => problem(413, 'TOO_LARGE');
    const { code, status } = await failureOf(client.put(key, 1));
    expect([code, status]).to.deep.equal(['TOO_LARGE', 413]);
    expect(cluster.asked()).to.deep.equal([[], ['PUT'], ['PUT']]);
  });

  it('client: nothing is found where the key is not there, and delete says whether it was', async () => {
    const key = cluster.keyAt(0, 1);
    cluster.replies[0] = ({ method }) =>
      method === 'DELETE' ? ok({ key, deleted: true, version: 4 }) : problem(404, 'NOT_FOUND');
    expect(await client.get(key)).to.equal(undefined);
    expect(await client.getRaw(key)).to.equal(undefined);
    expect(await client.exists(key)).to.equal(false);
    expect(await client.delete(key)).to.equal(true);
  });

  it('client: a key with several values is refused by get and getRaw, siblings gives them', async () => {
    const values = [
      { value: 'milk', version: 1 },
      { value: 'bread', version: 1 },
    ];
    const headers = { 'x-causal-context': 'c' };
    const key = cluster.keyAt(0, 1);
    cluster.replies[0] = () => ({ status: 300, body: { key, values, context: 'c' }, headers });
    for (const read of ['get', 'getRaw', 'getSerial'] as const) {
      const { code, detail } = await failureOf(client[read](key));
      expect([code, detail]).to.deep.equal([
        'BAD_REQUEST',
        `${key} has several values: read them with siblings()`,
      ]);
    }
    expect(await client.siblings(key)).to.deep.equal({ values: ['milk', 'bread'], context: 'c' });
  });

  it('client: keys that are no UTF-8 come as text that says so', async () => {
    const keys = ['a', { base64: '/w==' }];
    cluster.replies.fill(() => ok({ keys, cursor: null, has_more: false }));
    const listed: string[] = [];
    for await (const key of client.list()) listed.push(key);
    expect(listed).to.deep.equal(['a', '{"base64":"/w=="}']);
  });

  it('client: a slow read is sent to the second replica, and its answer counts', async () => {
    await open({ hedgeAfterMs: 1 });
    const key = cluster.keyAt(1, 2);
    cluster.replies[1] = () => 'never';
    expect((await client.get(key))?.version).to.equal(3);
    expect(client.figures.hedges).to.equal(1);
    expect(cluster.asked()).to.deep.equal([[], ['GET'], ['GET']]);
  });

  it('client: a write is never sent twice to be fast', async () => {
    await open({ hedgeAfterMs: 1 });
    const key = cluster.keyAt(1, 2);
    let onPut = (): void => undefined;
    const arrived = new Promise<void>((resolve) => {
      onPut = resolve;
    });
    cluster.replies[1] = () => {
      onPut();
      return 'never';
    };
    const controller = new AbortController();
    const write = client.put(key, 1, { signal: controller.signal }).catch(() => 'aborted');
    await arrived;
    // When a read that began later has been sent to a second node, the write has waited longer.
    await client.get(key);
    controller.abort();
    expect(await write).to.equal('aborted');
    expect(cluster.asked()).to.deep.equal([[], ['PUT', 'GET'], ['GET']]);
  });

  it('client: an abort ends the call with its reason', async () => {
    const key = cluster.keyAt(1, 2);
    const controller = new AbortController();
    cluster.replies[1] = () => {
      controller.abort(new Error('enough'));
      return 'never';
    };
    let reason: unknown;
    await client.get(key, { signal: controller.signal }).catch((error: unknown) => {
      reason = error;
    });
    expect((reason as Error).message).to.equal('enough');
    expect(cluster.asked()).to.deep.equal([[], ['GET'], []]);
  });

  it('client: a session sends the newest token, calls outside of it none', async () => {
    let count = 0;
    cluster.replies[0] = () => {
      count += 1;
      return {
        ...okReply({ key: 'k', value: 1, version: 1, timestamp: 1 }),
        headers: { 'x-session-token': `t${count}` },
      };
    };
    const key = cluster.keyAt(0, 1);
    const session = client.session();
    await session.put(key, 1);
    await session.get(key, { level: 'ONE' });
    await session.get(key);
    await client.get(key);
    const tokens = cluster.nodes[0]?.seen.slice(1).map(({ headers }) => headers['x-session-token']);
    expect(tokens).to.deep.equal([undefined, 't1', 't2', undefined]);
  });

  it('client: batches give each key its outcome', async () => {
    const any = (reply: Reply): void => {
      cluster.replies.fill(() => reply);
    };
    any(
      ok({
        results: [
          { key: 'a', version: 2 },
          { key: 'b', error: { code: 'TIMEOUT', detail: 'd' } },
        ],
      }),
    );
    const [a, b] = await client.putMany([
      { key: 'a', value: Uint8Array.from([0]), ttlSeconds: 3 },
      { key: 'b', value: null },
    ]);
    expect(a).to.deep.equal({ key: 'a', ok: true, result: { version: 2 } });
    expect(b?.ok === false && [b.error.code, b.error.isOutcomeUnknown]).to.deep.equal([
      'TIMEOUT',
      true,
    ]);
    const sent = cluster.nodes.flatMap(({ seen }) => seen).find(({ url }) => url.endsWith('/put'));
    expect(JSON.parse(sent?.body ?? '')).to.deep.equal({
      operations: [
        { key: 'a', value: 'AA==', encoding: 'base64', ttl: 3 },
        { key: 'b', value: null },
      ],
    });
    any(
      ok({
        results: [
          { key: 'a', found: true, value: 'AA==', encoding: 'base64', version: 1 },
          { key: 'b', found: false },
        ],
      }),
    );
    expect(await client.getMany(['a', 'b'])).to.deep.equal([
      { key: 'a', ok: true, result: { value: Buffer.from([0]), version: 1 } },
      { key: 'b', ok: true, result: undefined },
    ]);
    any(ok({ results: [{ key: 'a', deleted: true, version: 2 }] }));
    expect(await client.deleteMany(['a'])).to.deep.equal([{ key: 'a', ok: true, result: true }]);
  });

  it('client: lists page by page as keys are taken', async () => {
    const urls: string[] = [];
    cluster.replies.fill(({ url }) => {
      urls.push(url);
      return ok({
        keys: ['a', 'b'],
        cursor: url.includes('cursor=') ? null : 'c1',
        has_more: true,
      });
    });
    const taken: string[] = [];
    for await (const key of client.list({ prefix: 'p é', pageRows: 2 })) {
      taken.push(key);
      if (taken.length === 2) expect(urls.length).to.equal(1);
    }
    expect(taken).to.deep.equal(['a', 'b', 'a', 'b']);
    expect(urls[1]).to.equal('/api/v1/keys?limit=2&values=false&prefix=p+%C3%A9&cursor=c1');
  });

  it('client: nobody there is UNREACHABLE, and no endpoint or a bad one is refused', async () => {
    expect((await failureOf(connect(await deadEndpoint()))).code).to.equal('UNREACHABLE');
    expect((await failureOf(connect([]))).code).to.equal('BAD_REQUEST');
    expect((await failureOf(connect('ftp://x'))).detail).to.contain('expected http://host:port');
  });
});
