// Decided requests over HTTP, on a real socket: compare-and-set, counters, conditions, times to
// live, level SERIAL; and what is refused, by field.

import { expect } from 'chai';
import { failure } from '../../runtime/errors.ts';
import {
  type Answer,
  problemOf,
  send,
  sendJson,
  type Sent,
  startCluster,
  type TestCluster,
} from '../kit-gateway.ts';

const keys = '/api/v1/keys';
const json = { 'content-type': 'application/json' };

describe('http serial', () => {
  let cluster: TestCluster;
  const call = (method: string, path: string, sent: Sent = {}): Promise<Answer> =>
    send(cluster.port, method, path, sent);
  const post = (path: string, body: string): Promise<Answer> =>
    sendJson(cluster.port, 'POST', `${keys}/${path}`, body);
  const put = (key: string, body: string, headers: Sent['headers'] = {}): Promise<Answer> =>
    call('PUT', `${keys}/${key}`, { body, headers: { ...json, ...headers } });
  const valueOf = async (key: string): Promise<unknown> =>
    (JSON.parse((await call('GET', `${keys}/${key}`)).text) as { value: unknown }).value;

  beforeEach(async () => {
    cluster = await startCluster({ limits: { valueBytes: 1000 } });
  });
  afterEach(async () => {
    await cluster.close();
  });

  // ---- compare-and-set ---------------------------------------------------------------------

  it('http serial: cas by version, from nothing on', async () => {
    const made = await post('a/cas', '{"expected_version":0,"new_value":{"n":1}}');
    expect([made.status, made.text]).to.deep.equal([200, '{"success":true,"new_version":1}']);
    expect(made.headers['x-consistency-level']).to.equal('SERIAL');
    expect(made.headers['x-coordinator']).to.equal('n1');
    const next = await post('a/cas', '{"expected_version":1,"new_value":2}');
    expect(next.text).to.equal('{"success":true,"new_version":2}');
    expect(next.headers['etag']).to.match(/^"[0-9a-z]+-[0-9a-z]+-[0-9a-z]+"$/);
  });

  it('http serial: cas that is not met answers 409 with what is there', async () => {
    await put('a', '{"value":"x"}');
    const answer = await post('a/cas', '{"expected_version":7,"new_value":2}');
    expect(answer.status).to.equal(409);
    expect(answer.headers['content-type']).to.equal('application/problem+json');
    const body = JSON.parse(answer.text) as Record<string, unknown>;
    expect(body['success']).to.equal(false);
    expect(body['code']).to.equal('CONFLICT');
    expect(body['current']).to.deep.include({ version: 1, value: 'x' });
    expect(await valueOf('a')).to.equal('x');
    const none = await post('b/cas', '{"expected_version":7,"new_value":2}');
    expect((JSON.parse(none.text) as Record<string, unknown>)['current']).to.equal(null);
  });

  it('http serial: cas by etag, with quotes or without', async () => {
    const etag = (await put('a', '{"value":1}')).headers['etag'] ?? '';
    const bare = etag.replaceAll('"', '');
    const body = (text: string): string =>
      `{"expected_etag":${JSON.stringify(text)},"new_value":2}`;
    const first = await post('a/cas', body(bare));
    expect(first.status).to.equal(200);
    expect((await post('a/cas', body(etag))).status).to.equal(409);
    expect((await post('a/cas', body(first.headers['etag'] ?? ''))).status).to.equal(200);
  });

  it('http serial: cas by value compares JSON, whatever its spaces and order', async () => {
    await put('a', '{"value":{"x":[1,2],"y":null}}');
    const right = await post('a/cas', '{"new_value":3,"expected_value":{"y":null, "x":[1, 2]}}');
    expect(right.status).to.equal(200);
    const wrong = await post('a/cas', '{"new_value":4,"expected_value":"3"}');
    expect(wrong.status).to.equal(409);
    expect(await valueOf('a')).to.equal(3);
  });

  it('http serial: cas with a time to live', async () => {
    await post('a/cas', '{"expected_version":0,"new_value":1,"ttl":60}');
    const { text } = await call('GET', `${keys}/a`);
    expect((JSON.parse(text) as { ttl_remaining: number }).ttl_remaining).to.equal(60);
  });

  for (const [what, body, field] of [
    ['no expectation', '{"new_value":1}', 'expected_version'],
    [
      'two expectations',
      '{"expected_version":1,"expected_value":1,"new_value":1}',
      'expected_value',
    ],
    ['no new value', '{"expected_version":1}', 'new_value'],
    ['a version that is no number', '{"expected_version":"1","new_value":1}', 'expected_version'],
    ['a version below 0', '{"expected_version":-1,"new_value":1}', 'expected_version'],
    ['a version with a part', '{"expected_version":1.5,"new_value":1}', 'expected_version'],
    ['a version beyond 2^53', '{"expected_version":1e16,"new_value":1}', 'expected_version'],
    ['an etag that is none', '{"expected_etag":"nonsense","new_value":1}', 'expected_etag'],
    ['an etag that is no text', '{"expected_etag":7,"new_value":1}', 'expected_etag'],
    ['a member that it does not know', '{"expected_version":1,"value":1}', 'value'],
    ['an unknown expectation', '{"expected_hash":1,"new_value":1}', 'expected_hash'],
    ['a time to live of 0', '{"expected_version":1,"new_value":1,"ttl":0}', 'ttl'],
  ] as const)
    it(`http serial: cas with ${what} is refused, and names ${field}`, async () => {
      const answer = await post('a/cas', body);
      expect([answer.status, problemOf(answer).field]).to.deep.equal([400, field]);
      expect(cluster.backend.serial).to.deep.equal([]);
    });

  it('http serial: a time to live that is none is refused with the range, 0 in it', async () => {
    const refused = problemOf(await post('a/ttl', '{"ttl_seconds":-1}'));
    expect(refused.detail).to.equal(
      'ttl_seconds: expected a whole number of seconds from 0 to 315360000, 0 for never',
    );
    const cas = await post('a/cas', '{"expected_version":0,"new_value":1,"ttl":-1}');
    expect(problemOf(cas).detail).to.contain('from 1 to 315360000');
  });

  it('http serial: bodies that are no JSON object are refused, and say where', async () => {
    for (const body of ['', '[', '7', '{"new_value":', '{"expected_version":1,"new_value":1}x'])
      for (const route of ['cas', 'incr', 'ttl'])
        expect((await post(`a/${route}`, body)).status, `${route} ${body}`).to.equal(400);
    const text = await call('POST', `${keys}/a/cas`, {
      body: '{"expected_version":0,"new_value":1}',
      headers: { 'content-type': 'text/plain' },
    });
    expect([text.status, problemOf(text).code]).to.deep.equal([415, 'UNSUPPORTED_MEDIA_TYPE']);
    expect(cluster.backend.serial).to.deep.equal([]);
  });

  it('http serial: a new value over the limit is refused before it is sent anywhere', async () => {
    const long = JSON.stringify('x'.repeat(1000));
    const answer = await post('a/cas', `{"expected_version":0,"new_value":${long}}`);
    expect([answer.status, problemOf(answer).field]).to.deep.equal([413, 'new_value']);
    expect(cluster.backend.serial).to.deep.equal([]);
  });

  // ---- counters ----------------------------------------------------------------------------

  it('http serial: a counter begins at 0, takes any whole delta, and is a JSON number', async () => {
    expect((await post('c/incr', '{"delta":5}')).text).to.equal(
      '{"key":"c","value":5,"version":1}',
    );
    expect((await post('c/incr', '{}')).text).to.equal('{"key":"c","value":6,"version":2}');
    expect((await post('c/incr', '{"delta":-10}')).text).to.equal(
      '{"key":"c","value":-4,"version":3}',
    );
    expect(await valueOf('c')).to.equal(-4);
  });

  for (const delta of ['1.5', '"1"', 'null', '9007199254740992', '1e400', '[]', 'true'])
    it(`http serial: a delta of ${delta} is refused`, async () => {
      const answer = await post('c/incr', `{"delta":${delta}}`);
      expect([answer.status, problemOf(answer).field]).to.deep.equal([400, 'delta']);
    });

  for (const [value, delta] of [
    ['"text"', 1],
    ['1.5', 1],
    ['{"n":1}', 1],
    ['9007199254740991', 1],
    ['-9007199254740991', -1],
  ] as const)
    it(`http serial: ${value} + ${delta} is 422, and nothing changes`, async () => {
      await put('c', `{"value":${value}}`);
      const answer = await post('c/incr', `{"delta":${delta}}`);
      expect([answer.status, problemOf(answer).code]).to.deep.equal([422, 'WRONG_TYPE']);
      expect(await valueOf('c')).to.deep.equal(JSON.parse(value));
    });

  it('http serial: the same request id is done once; with another request it is refused', async () => {
    const headers = { ...json, 'x-request-id': 'order-7' };
    const again = (): Promise<Answer> =>
      call('POST', `${keys}/c/incr`, { body: '{"delta":2}', headers });
    const [first, second] = [await again(), await again()];
    expect(second.text).to.equal(first.text);
    expect(await valueOf('c')).to.equal(2);
    const other = await call('POST', `${keys}/c/incr`, { body: '{"delta":3}', headers });
    expect([other.status, problemOf(other).code]).to.deep.equal([422, 'REQUEST_REUSED']);
    const tooLong = { ...json, 'x-request-id': 'x'.repeat(65) };
    const refused = await call('POST', `${keys}/c/incr`, { body: '{}', headers: tooLong });
    expect([refused.status, problemOf(refused).field]).to.deep.equal([400, 'X-Request-Id']);
  });

  // ---- conditions of puts and deletes --------------------------------------------------------

  it('http serial: if_not_exists and If-None-Match: * write only where there is nothing', async () => {
    expect((await put('a', '{"value":1,"if_not_exists":true}')).status).to.equal(200);
    const taken = await put('a', '{"value":2,"if_not_exists":true}');
    expect([taken.status, problemOf(taken).code]).to.deep.equal([409, 'CONFLICT']);
    expect(JSON.parse(taken.text)).to.include({ version: 1 });
    const header = { 'if-none-match': '*' };
    expect((await put('a', '{"value":3}', header)).status).to.equal(409);
    expect((await put('b', '{"value":3}', header)).status).to.equal(200);
    expect(await valueOf('a')).to.equal(1);
  });

  it('http serial: If-Match writes and deletes only what it names', async () => {
    const etag = (await put('a', '{"value":1}')).headers['etag'] ?? '';
    expect((await put('a', '{"value":2}', { 'if-match': etag })).status).to.equal(200);
    expect((await put('a', '{"value":3}', { 'if-match': etag })).status).to.equal(409);
    const stale = await call('DELETE', `${keys}/a`, { headers: { 'if-match': etag } });
    expect(stale.status).to.equal(409);
    const any = await call('DELETE', `${keys}/a`, { headers: { 'if-match': '*' } });
    expect([any.status, (JSON.parse(any.text) as { deleted: boolean }).deleted]).to.deep.equal([
      200,
      true,
    ]);
    expect((await put('a', '{"value":3}', { 'if-match': '*' })).status).to.equal(409);
  });

  it('http serial: conditions that cannot be are refused, and name their header', async () => {
    for (const [headers, field] of [
      [{ 'if-match': 'bare' }, 'If-Match'],
      [{ 'if-match': '"a-b"' }, 'If-Match'],
      [{ 'if-match': '"zzzzzzzzzzz-1-1"' }, 'If-Match'],
      [{ 'if-match': '*', 'if-none-match': '*' }, 'If-Match'],
      [{ 'if-none-match': '"1-1-1"' }, 'If-None-Match'],
    ] as const) {
      const answer = await put('a', '{"value":1}', headers);
      expect([answer.status, problemOf(answer).field]).to.deep.equal([400, field]);
    }
    expect(cluster.backend.serial).to.deep.equal([]);
  });

  it('http serial: bytes are put under a condition as they are', async () => {
    const headers = { 'content-type': 'application/octet-stream', 'if-none-match': '*' };
    const first = await call('PUT', `${keys}/raw`, { body: Uint8Array.of(0, 255, 7), headers });
    expect(first.status).to.equal(200);
    const found = await call('GET', `${keys}/raw`, {
      headers: { accept: 'application/octet-stream' },
    });
    expect([...found.bytes]).to.deep.equal([0, 255, 7]);
  });

  // ---- level SERIAL and times to live ------------------------------------------------------------

  it('http serial: level SERIAL sends reads, puts and deletes to the proposer', async () => {
    const level = { 'consistency-level': 'SERIAL' };
    expect((await put('a', '{"value":1}', level)).headers['x-consistency-level']).to.equal(
      'SERIAL',
    );
    const found = await call('GET', `${keys}/a`, { headers: level });
    expect(found.headers['x-consistency-level']).to.equal('SERIAL');
    expect((await call('HEAD', `${keys}/a`, { headers: level })).status).to.equal(200);
    expect((await call('DELETE', `${keys}/a`, { headers: level })).status).to.equal(200);
    expect((await call('GET', `${keys}/a`, { headers: level })).status).to.equal(404);
    const verbs = cluster.backend.serial.map(({ request }) => request.verb);
    expect(verbs).to.deep.equal(['write', 'read', 'read', 'delete', 'read']);
    expect(cluster.backend.seen).to.deep.equal([]);
  });

  it('http serial: a time to live is set, taken away, and needs a value', async () => {
    await put('a', '{"value":1}');
    const set = await post('a/ttl', '{"ttl_seconds":90}');
    expect(set.text).to.equal('{"key":"a","ttl_remaining":90,"version":2}');
    const none = await post('a/ttl', '{"ttl_seconds":0}');
    expect(none.text).to.equal('{"key":"a","ttl_remaining":null,"version":3}');
    expect((await post('gone/ttl', '{"ttl_seconds":5}')).status).to.equal(404);
    for (const seconds of ['-1', '1.5', '"1"', 'null'])
      expect((await post('a/ttl', `{"ttl_seconds":${seconds}}`)).status, seconds).to.equal(400);
    expect((await post('a/ttl', '{}')).status).to.equal(400);
  });

  // ---- plain writes of serial keys; failures -------------------------------------------------------

  it('http serial: a plain write that meets a serial key is decided instead (PX-18)', async () => {
    cluster.backend.failing.set('n1', failure('SERIAL_KEY'));
    const proposer = cluster.backend.serial;
    const answer = put('a', '{"value":1}');
    // The stand-in proposer fails in the same words: the client hears them, once, and no loop starts.
    expect(problemOf(await answer).code).to.equal('SERIAL_KEY');
    expect(proposer.map(({ request }) => request.verb)).to.deep.equal(['write']);
    expect(cluster.backend.seen.map(({ verb }) => verb)).to.deep.equal(['write']);
  });

  for (const [code, status] of [
    ['CONTENTION', 503],
    ['UNAVAILABLE', 503],
    ['TIMEOUT', 504],
    ['OVERLOADED', 429],
    ['FUTURE_VERSION', 503],
  ] as const)
    it(`http serial: ${code} of the proposer is heard as ${status}, after one attempt`, async () => {
      cluster.backend.failing.set('n1', failure(code));
      const answer = await post('a/incr', '{}');
      expect([answer.status, problemOf(answer).code]).to.deep.equal([status, code]);
      expect(cluster.backend.serial.length).to.equal(1);
    });
});
