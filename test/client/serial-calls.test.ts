// Serial operations of the client library against servers that answer what the test wants: what is
// sent, what is sent again under the same id, and when an outcome counts as known.

import { expect } from 'chai';
import { connect, type KvdClient } from '../../cli/client/kvd-client.ts';
import { ok, problem, type Reply, type SeenRequest } from '../kit-kvctl.ts';
import { FakeCluster, failureOf, okReply, written } from './fake-cluster.ts';

const unmet = (current: unknown): Reply => ({
  status: 409,
  body: { success: false, current, code: 'CONFLICT', status: 409, detail: 'not as expected' },
});

describe('client library: serial operations', () => {
  let cluster: FakeCluster;
  let client: KvdClient;
  let key: string;
  const reply = (first: Reply, second: Reply = first): void => {
    cluster.replies[0] = () => first;
    cluster.replies[1] = () => second;
  };
  /** Requests about the key, in the order of the nodes. */
  const sent = (): SeenRequest[] =>
    cluster.nodes.flatMap(({ seen }) => seen.filter(({ url }) => url !== '/api/v1/ring'));
  const ids = (): (string | string[] | undefined)[] =>
    sent().map(({ headers }) => headers['x-request-id']);

  beforeEach(async () => {
    cluster = await FakeCluster.start();
    client = await connect(cluster.nodes[0]?.url ?? '', { hedgeAfterMs: 'off' });
    key = cluster.keyAt(0, 1);
  });
  afterEach(async () => {
    client.close();
    await cluster.close();
  });

  it('cas: each kind of expectation is sent as it is, with a time to live and an id', async () => {
    reply({ ...okReply({ success: true, new_version: 7 }), headers: { etag: '"e-1-2"' } });
    const result = await client.cas(key, { version: 6 }, { a: 1 }, { ttlSeconds: 9 });
    expect(result).to.deep.equal({ ok: true, version: 7, etag: 'e-1-2' });
    await client.cas(key, { etag: 'e-1-1' }, null);
    await client.cas(key, { value: [1] }, 2, { requestId: 'mine' });
    expect(sent().map(({ method, url, body }) => [method, url, body])).to.deep.equal([
      ['POST', `/api/v1/keys/${key}/cas`, '{"expected_version":6,"new_value":{"a":1},"ttl":9}'],
      ['POST', `/api/v1/keys/${key}/cas`, '{"expected_etag":"e-1-1","new_value":null}'],
      ['POST', `/api/v1/keys/${key}/cas`, '{"expected_value":[1],"new_value":2}'],
    ]);
    expect(ids()[2]).to.equal('mine');
    expect(new Set(ids()).size).to.equal(3);
  });

  it('cas: not as expected is no error but tells what is there', async () => {
    reply(unmet({ version: 8, value: 'other' }));
    expect(await client.cas(key, { version: 6 }, 1)).to.deep.equal({
      ok: false,
      current: { version: 8, value: 'other' },
    });
    reply(unmet(null));
    expect(await client.cas(key, { version: 6 }, 1)).to.deep.equal({
      ok: false,
      current: undefined,
    });
  });

  it('cas: no expectation, two of them, bytes or what is no JSON are refused unsent', async () => {
    for (const expected of [{}, { version: 1, etag: 'e' }])
      expect((await failureOf(client.cas(key, expected, 1))).detail).to.contain('exactly one');
    expect((await failureOf(client.cas(key, { version: 1 }, new Uint8Array(1)))).detail).to.contain(
      'ifMatch',
    );
    expect((await failureOf(client.cas(key, { version: 1 }, undefined))).code).to.equal(
      'BAD_REQUEST',
    );
    expect(
      (await failureOf(client.put(key, 1, { ifExists: true, ifMatch: 'e' }))).detail,
    ).to.contain('not several');
    expect(sent()).to.deep.equal([]);
  });

  it('ID-2: a serial operation whose answer is lost is sent again under the same id', async () => {
    reply(undefined, ok({ key, value: 5, version: 2 }));
    expect(await client.incr(key, 5)).to.deep.equal({ value: 5, version: 2 });
    const [first, second] = ids();
    expect([ids().length, first === second, typeof first]).to.deep.equal([2, true, 'string']);
  });

  it('ID-2: conditions and level SERIAL make a put repeatable, a plain one it does not', async () => {
    const calls = [
      () => client.put(key, 1, { ifMatch: 'e' }),
      () => client.put(key, 1, { ifExists: true }),
      () => client.put(key, 1, { level: 'SERIAL' }),
      () => client.putIfAbsent(key, 1),
    ];
    for (const call of calls) {
      reply(undefined, written);
      expect((await call())?.version).to.equal(3);
    }
    const conditions = sent().map(({ headers }) => headers['if-match'] ?? headers['if-none-match']);
    expect(conditions.slice(0, 4)).to.deep.equal(['"e"', '*', undefined, '*']);
    const before = sent().length;
    expect((await failureOf(client.put(key, 1, { requestId: 'x' }))).code).to.equal(
      'UNKNOWN_OUTCOME',
    );
    expect(sent().length).to.equal(before + 1);
  });

  it('ID-3: a condition that was judged under the id of a lost attempt is a known outcome', async () => {
    reply(undefined, unmet({ version: 8, value: 1 }));
    expect((await client.cas(key, { version: 6 }, 1)).ok).to.equal(false);
    reply(undefined, problem(409, 'CONFLICT'));
    expect(await client.putIfAbsent(key, 1)).to.equal(undefined);
    expect(await client.deleteIf(key, 'e-1-1')).to.equal(false);
  });

  it('ID-1: another refusal after a lost attempt leaves the outcome unknown', async () => {
    reply(undefined, problem(422, 'WRONG_TYPE'));
    const failure = await failureOf(client.incr(key));
    expect([failure.code, failure.isOutcomeUnknown]).to.deep.equal(['WRONG_TYPE', true]);
  });

  it('serial: reads, deletes, times to live and batches are sent as such', async () => {
    reply(ok({ key, value: 1, version: 3, timestamp: 5 }));
    expect((await client.getSerial(key))?.value).to.equal(1);
    reply({ ...okReply({ key, deleted: true, version: 4 }), headers: { etag: '"e-2-1"' } });
    expect(await client.deleteIf(key, 'e-1-1')).to.equal(true);
    expect(await client.setTtl(key, 0)).to.deep.equal({ version: 4, etag: 'e-2-1' });
    reply(problem(404, 'NOT_FOUND'));
    expect(await client.setTtl(key, 5)).to.equal(undefined);
    expect(
      sent().map(({ method, headers }) => [
        method,
        headers['consistency-level'] ?? headers['if-match'],
      ]),
    ).to.deep.equal([
      ['GET', 'SERIAL'],
      ['DELETE', '"e-1-1"'],
      ['POST', undefined],
      ['POST', undefined],
    ]);
    cluster.replies.fill(() => ok({ results: [{ key, version: 1 }] }));
    await client.putMany([{ key, value: 1, ifNotExists: true }]);
    const batch = sent().find(({ url }) => url === '/api/v1/batch/put');
    expect(batch?.body).to.equal(
      `{"operations":[{"key":"${key}","if_not_exists":true,"value":1}]}`,
    );
    expect(batch?.headers['x-request-id']).to.be.a('string');
  });
});
