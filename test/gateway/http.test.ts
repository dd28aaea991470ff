// The HTTP face from outside: a real socket, the real edge and gateway, stand-in coordinators.

import { expect } from 'chai';
import { connect } from 'node:net';
import { refTo } from '../../runtime/actor.ts';
import { utf8 } from '../../runtime/bytes.ts';
import type { ErrorCode } from '../../runtime/errors.ts';
import { httpRoutes } from '../../actors/gateway/http-routes.ts';
import { HttpGateway } from '../../actors/gateway/protocol.ts';
import { recordValue, recordValueType, valueTypes } from '../../actors/model/record.ts';
import { HttpEdge } from '../../transport/edge-http.ts';
import {
  type Answer,
  type Sent,
  nowMs,
  problemOf,
  send,
  sendJson,
  startCluster,
  type TestCluster,
} from '../kit-gateway.ts';

const keys = '/api/v1/keys';
const batch = '/api/v1/batch';
const octets = { 'content-type': 'application/octet-stream' };
const json = { 'content-type': 'application/json' };

/** Bytes on the socket as they are; the answer until the other side closes. */
function sendRaw(port: number, bytes: string | Uint8Array): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes));
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
    });
    socket.on('error', reject);
    socket.on('close', () => resolve(text));
  });
}

describe('http gateway', () => {
  let cluster: TestCluster;
  const call = (method: string, path: string, sent: Sent = {}): Promise<Answer> =>
    send(cluster.port, method, path, sent);
  const post = (path: string, body: string): Promise<Answer> =>
    sendJson(cluster.port, 'POST', path, body);
  const put = (key: string, body: string): Promise<Answer> =>
    sendJson(cluster.port, 'PUT', `${keys}/${key}`, body);

  beforeEach(async () => {
    cluster = await startCluster({ limits: { valueBytes: 1000, batchBytes: 3000 } });
  });
  afterEach(async () => {
    await cluster.close();
  });

  // ---- single keys -------------------------------------------------------------------------

  it('http: a put answers version, time and etag, and names level and coordinator', async () => {
    const answer = await put('a', '{"value":1}');
    expect(answer.status).to.equal(200);
    expect(JSON.parse(answer.text)).to.deep.equal({
      key: 'a',
      version: 1,
      timestamp: nowMs,
      status: 'success',
    });
    const etag = `"${(nowMs * 1000 + 1).toString(36)}-7-2"`;
    expect(answer.headers).to.include({
      etag,
      'x-coordinator': 'n1',
      'x-consistency-level': 'QUORUM',
      'content-type': 'application/json',
    });
  });

  it('http: a value comes back byte for byte (integer beyond 2^53, order, spaces)', async () => {
    const value = '{"z": 12345678901234567890, "a":1.0,"10":[ ],"2":"\\u00e9é"}';
    await put('exact', `{ "value" : ${value} , "ttl": 60 }`);
    const answer = await call('GET', `${keys}/exact`);
    expect(answer.text).to.equal(
      `{"key":"exact","value":${value},"version":1,"timestamp":${nowMs},"ttl_remaining":60}`,
    );
    const raw = await call('GET', `${keys}/exact`, {
      headers: { accept: 'application/octet-stream' },
    });
    expect(raw.text).to.equal(value);
    expect(raw.headers).to.include({
      'content-type': 'application/octet-stream',
      'x-version': '1',
      'x-timestamp': String(nowMs),
      'x-value-type': 'json',
      'x-ttl-remaining': '60',
    });
  });

  it('http: SS-3: a read behind its session is asked of more replicas, then refused', async () => {
    const written = await put('mine', '{"value":1}');
    const token = String(written.headers['x-session-token']);
    const headers = { 'x-session-token': token, 'consistency-level': 'SESSION' };
    const read = await call('GET', `${keys}/mine`, { headers });
    expect([read.status, read.headers['x-consistency-level']]).to.deep.equal([200, 'ONE']);
    cluster.backend.records.clear();
    cluster.backend.seen.length = 0;
    const behind = await call('GET', `${keys}/mine`, { headers });
    expect([behind.status, problemOf(behind).code]).to.deep.equal([503, 'SESSION_UNSATISFIED']);
    const asked = cluster.backend.seen.map(({ request }) => request.level);
    expect(asked).to.deep.equal(['ONE']);
    // The token lives on through the refusal; without it there is no key.
    const next = { 'x-session-token': String(behind.headers['x-session-token']) };
    expect((await call('HEAD', `${keys}/mine`, { headers: next })).status).to.equal(503);
    expect((await call('GET', `${keys}/mine`)).status).to.equal(404);
  });

  it('http: SS-2: a serial read that does not see what its session wrote asks all, and is refused', async () => {
    const written = await put('mine', '{"value":1}');
    const token = String(written.headers['x-session-token']);
    const headers = { 'x-session-token': token, 'consistency-level': 'SERIAL' };
    expect((await call('GET', `${keys}/mine`, { headers })).status).to.equal(200);
    cluster.backend.records.clear();
    cluster.backend.seen.length = 0;
    const behind = await call('GET', `${keys}/mine`, { headers });
    expect([behind.status, problemOf(behind).code]).to.deep.equal([503, 'SESSION_UNSATISFIED']);
    const asked = cluster.backend.seen.map(({ request }) => request.level);
    expect(asked).to.deep.equal(['ALL']);
    // What is decided within the session is stamped above what it knows.
    const json = { 'content-type': 'application/json' };
    await call('PUT', `${keys}/mine`, { body: '{"value":2}', headers: { ...headers, ...json } });
    expect(cluster.backend.serial.at(-1)?.request.afterHlc).to.be.at.least(nowMs * 1000);
  });

  it('http: a session writes above what it knows, and sees its delete', async () => {
    const first = await put('own', '{"value":1}');
    const token = String(first.headers['x-session-token']);
    const headers = { 'x-session-token': token };
    const gone = await call('DELETE', `${keys}/own`, { headers });
    expect(cluster.backend.seen.at(-1)?.request).to.include({ afterHlc: nowMs * 1000 + 1 });
    const after = { 'x-session-token': String(gone.headers['x-session-token']) };
    expect((await call('GET', `${keys}/own`, { headers: after })).status).to.equal(404);
  });

  it('http: SS-5: a token of nobody is refused, not ignored', async () => {
    for (const token of ['nonsense', 'A'.repeat(60), '*'])
      expect(
        (await call('GET', `${keys}/a`, { headers: { 'x-session-token': token } })).status,
        token,
      ).to.equal(400);
  });

  it('http: if-none-match answers 304 for the etag that the client has', async () => {
    const { headers } = await put('known', '{"value":1}');
    const etag = String(headers['etag']);
    const read = (value: string): Promise<Answer> =>
      call('GET', `${keys}/known`, { headers: { 'if-none-match': value } });
    const unchanged = await read(`"other", ${etag}`);
    expect([unchanged.status, unchanged.text]).to.deep.equal([304, '']);
    expect(unchanged.headers['etag']).to.equal(etag);
    expect((await read('*')).status).to.equal(304);
    expect((await read('"other"')).status).to.equal(200);
    expect(problemOf(await read('bare')).detail).to.contain('If-None-Match');
  });

  it('http: X-Explain: 1 brings how it was made, on reads and writes, and nothing else does', async () => {
    const headers = { 'x-explain': '1' };
    expect((await put('plain', '{"value":1}')).headers['x-explain']).to.equal(undefined);
    const read = await call('GET', `${keys}/plain`, { headers });
    expect(read.headers['x-explain']).to.equal('{"steps":[]}');
    expect((await call('DELETE', `${keys}/plain`, { headers })).headers['x-explain']).to.be.a(
      'string',
    );
    const serial = { ...headers, 'consistency-level': 'SERIAL' };
    for (const method of ['PUT', 'GET', 'DELETE']) {
      const body = method === 'PUT' ? { body: '{"value":1}' } : {};
      const sent = { headers: { ...json, ...serial }, ...body };
      const decided = await call(method, `${keys}/decided`, sent);
      expect(decided.headers['x-explain'], method).to.equal('{"level":"SERIAL"}');
    }
    const bad = await call('GET', `${keys}/plain`, { headers: { 'x-explain': 'please' } });
    expect(problemOf(bad).detail).to.contain('X-Explain: expected 1 or true, 0 or false');
  });

  it('http: EACH_QUORUM is a level of writes', async () => {
    const headers = { 'consistency-level': 'EACH_QUORUM' };
    const answer = await call('GET', `${keys}/a`, { headers });
    expect(problemOf(answer).detail).to.contain('EACH_QUORUM is one of writes');
  });

  it('http: raw bytes go in and out as they are, and as base64 in JSON', async () => {
    const body = Uint8Array.from([0, 255, 128, 10, 13, 0]);
    const path = `${keys}/bytes`;
    expect((await call('PUT', `${path}?ttl=5`, { headers: octets, body })).status).to.equal(200);
    const read = JSON.parse((await call('GET', path)).text) as Record<string, unknown>;
    expect(read).to.deep.equal({
      key: 'bytes',
      value: Buffer.from(body).toString('base64'),
      encoding: 'base64',
      version: 1,
      timestamp: nowMs,
      ttl_remaining: 5,
    });
    const raw = await call('GET', path, { headers: { accept: 'application/octet-stream' } });
    expect([...raw.bytes]).to.deep.equal([...body]);
    expect(raw.headers['x-value-type']).to.equal('bytes');
  });

  it('http: base64 in a JSON put is stored as the bytes, escaped slashes too', async () => {
    expect((await put('b', '{"value":"\\/\\/79","encoding":"base64"}')).status).to.equal(200);
    const record = cluster.backend.records.get('b') as Uint8Array;
    expect([...recordValue(record)]).to.deep.equal([255, 254, 253]);
    expect(recordValueType(record)).to.equal(valueTypes.bytes);
  });

  it('http: an empty octet-stream is an empty value', async () => {
    const answer = await call('PUT', `${keys}/empty`, { headers: octets, body: '' });
    expect(answer.status).to.equal(200);
    expect(recordValue(cluster.backend.records.get('empty') as Uint8Array).length).to.equal(0);
  });

  it('http: keys are percent-decoded once (slash, NUL, percent, beyond ASCII, dots)', async () => {
    const names = [
      'a/b',
      'a\0b',
      '100%25',
      'schlüssel 🔑',
      '..',
      '__proto__',
      'x'.repeat(1024),
      'é'.repeat(512),
    ];
    for (const name of names) {
      const path = `${keys}/${encodeURIComponent(name).replaceAll('.', '%2E')}`;
      const answer = await sendJson(
        cluster.port,
        'PUT',
        path,
        `{"value":${JSON.stringify(name.slice(0, 100))}}`,
      );
      expect(answer.status, name).to.equal(200);
      expect((JSON.parse(answer.text) as { key: string }).key).to.equal(name);
      expect(JSON.parse((await call('GET', path)).text)).to.include({
        key: name,
        value: name.slice(0, 100),
      });
    }
    expect(cluster.backend.records.size).to.equal(names.length);
  });

  it('http: delete says whether there was something, and is no error twice', async () => {
    await put('gone', '{"value":null}');
    const first = await call('DELETE', `${keys}/gone`);
    expect(JSON.parse(first.text)).to.deep.equal({ key: 'gone', deleted: true, version: 2 });
    const second = await call('DELETE', `${keys}/gone`);
    expect(JSON.parse(second.text)).to.deep.equal({ key: 'gone', deleted: false, version: 1 });
    expect(second.headers['etag']).to.match(/^"[0-9a-z-]+"$/);
  });

  it('http: head answers as get does, without a body', async () => {
    await put('h', '{"value":"x"}');
    const there = await call('HEAD', `${keys}/h`);
    expect([there.status, there.text, there.headers['x-version']]).to.deep.equal([200, '', '1']);
    const absent = await call('HEAD', `${keys}/none`);
    expect([absent.status, absent.text]).to.deep.equal([404, '']);
  });

  it('http: the level and the namespace of a request reach the coordinator', async () => {
    await call('GET', `${keys}/k`, { headers: { 'consistency-level': 'strong' } });
    const answer = await call('PUT', `${keys}/k`, {
      headers: { ...json, 'consistency-level': 'one', 'x-namespace': 'default' },
      body: '{"value":1}',
    });
    expect(answer.headers['x-consistency-level']).to.equal('ONE');
    const levels = cluster.backend.seen.map(({ request }) => request.level);
    expect(levels).to.deep.equal(['ALL', 'ONE']);
  });

  // ---- refusals ----------------------------------------------------------------------------

  interface Refusal {
    readonly what: string;
    readonly call: readonly [string, string, Sent?];
    readonly status: number;
    readonly code: ErrorCode;
    readonly detail: string;
  }

  const refuse = (
    what: string,
    request: readonly [string, string, Sent?],
    [status, code]: readonly [number, ErrorCode],
    detail: string,
  ): Refusal => ({ what, call: request, status, code, detail });
  const bad = [400, 'BAD_REQUEST'] as const;
  const tooLarge = [413, 'TOO_LARGE'] as const;
  const unsupported = [415, 'UNSUPPORTED_MEDIA_TYPE'] as const;
  const putting = (body: string, headers = {}): readonly [string, string, Sent] => [
    'PUT',
    `${keys}/k`,
    { headers: { ...json, ...headers }, body },
  ];
  const batching = (verb: string, body: string): readonly [string, string, Sent] => [
    'POST',
    `${batch}/${verb}`,
    { headers: json, body },
  ];
  const getting = (headers: Record<string, string>): readonly [string, string, Sent] => [
    'GET',
    `${keys}/k`,
    { headers },
  ];
  const list = (query: string): readonly [string, string] => ['GET', `${keys}?${query}`];

  // biome-ignore format: a table
  const refusals: readonly Refusal[] = [
    refuse('empty key', ['GET', `${keys}/`], bad, 'key: expected a key of at least one byte'),
    refuse('key of 1,025 bytes', ['GET', `${keys}/${'x'.repeat(1025)}`], tooLarge, 'key: 1025 bytes, at most 1024'),
    refuse('key of 1,026 bytes in 513 letters', ['GET', `${keys}/${'%C3%A9'.repeat(513)}`], tooLarge, 'key: 1026 bytes'),
    refuse('key that is no UTF-8', ['GET', `${keys}/%ff`], bad, 'path: expected valid percent-encoded UTF-8'),
    refuse('unknown encoding of a key', ['GET', `${keys}/k?key_encoding=hex`], bad, 'key_encoding: expected text or base64url'),
    refuse('unknown encoding of no prefix', list('key_encoding=hex'), bad, 'key_encoding: expected text or base64url'),
    refuse('unknown encoding of no prefix of a watch', ['GET', '/api/v1/watch?key_encoding=hex'], bad, 'key_encoding: expected text or base64url'),
    refuse('key with padding', ['GET', `${keys}/_w==?key_encoding=base64url`], bad, 'key: expected base64url without padding'),
    refuse('key in another base64', ['GET', `${keys}/%2Fw?key_encoding=base64url`], bad, 'key: expected base64url without padding'),
    refuse('key with bits left over', ['GET', `${keys}/_x?key_encoding=base64url`], bad, 'key: expected base64url without padding'),
    refuse('key of 1,025 bytes in base64url', ['GET', `${keys}/${Buffer.alloc(1025).toString('base64url')}?key_encoding=base64url`], tooLarge, 'key: 1025 bytes, at most 1024'),
    refuse('prefix in another base64', list('prefix=%2Fw&key_encoding=base64url'), bad, 'prefix: expected base64url without padding'),
    refuse('encoding of a key of a batch', ['POST', `${batch}/get?key_encoding=base64url`, { headers: json, body: '{"keys":[]}' }], bad, 'key_encoding: '),
    refuse('key of a batch as a number', batching('get', '{"keys":[{"base64":7}]}'), bad, 'keys[0]: expected a key: text, or {"base64": "..."}'),
    refuse('key of a batch without base64', batching('get', '{"keys":[{}]}'), bad, 'keys[0]: expected a key: text, or {"base64": "..."}'),
    refuse('key of a batch in hex', batching('get', '{"keys":[{"hex":"ff"}]}'), bad, 'keys[0]: expected a key: text, or {"base64": "..."}'),
    refuse('key of a batch in base64url', batching('get', '{"keys":[{"base64":"_w=="}]}'), bad, 'keys[0].base64: expected padded base64'),
    refuse('empty key of a batch in base64', batching('get', '{"keys":[{"base64":""}]}'), bad, 'keys[0]: expected a key of at least one byte'),
    refuse('key of a batch of 1,025 bytes', batching('get', `{"keys":[{"base64":"${Buffer.alloc(1025).toString('base64')}"}]}`), tooLarge, 'keys[0]: 1025 bytes, at most 1024'),
    refuse('operation without a key', batching('put', '{"operations":[{"value":1}]}'), bad, 'operations[0].key: expected a key: text, or {"base64": "..."}'),
    refuse('key as text and as bytes in a batch of writes', batching('put', '{"operations":[{"key":"a","value":1},{"key":{"base64":"YQ=="},"value":1}]}'), bad, 'operations[1].key: expected each key once'),
    refuse('broken percent-encoding', ['GET', `${keys}/%zz`], bad, 'path: expected valid percent-encoded UTF-8'),
    refuse('broken percent-encoding in the query', ['GET', `${keys}?prefix=%f`], bad, 'query: expected'),
    refuse('no JSON', putting('{"value":nope}'), bad, 'at byte 10: expected "null", found "o"'),
    refuse('cut JSON', putting('{"value":1'), bad, 'at byte 10: expected "," or "}", it ends'),
    refuse('JSON with a trailer', putting('{"value":1} 2'), bad, 'at byte 12: expected the end'),
    refuse('JSON that is no UTF-8', ['PUT', `${keys}/k`, { headers: json, body: Uint8Array.from([...utf8.encode('{"value":"'), 0xff]) }], bad, 'at byte 10: expected valid UTF-8'),
    refuse('body that is no object', putting('[1]'), bad, 'at byte 0: expected an object'),
    refuse('empty JSON body', putting(''), bad, 'at byte 0: expected an object, it ends'),
    refuse('body without value', putting('{"ttl":1}'), bad, 'value: expected any JSON value'),
    refuse('unknown member', putting('{"value":1,"tll":1}'), bad, 'tll: expected one of the members value, ttl'),
    refuse('member named __proto__', putting('{"value":1,"__proto__":{}}'), bad, '__proto__: expected one of the members'),
    refuse('repeated member', putting('{"value":1,"value":2}'), bad, 'not "value" again'),
    refuse('nesting of 33', putting(`{"value":${'['.repeat(33)}${']'.repeat(33)}}`), bad, 'at most 32 levels'),
    refuse('negative ttl', putting('{"value":1,"ttl":-1}'), bad, 'ttl: expected a whole number of seconds from 1 to 315360000'),
    refuse('zero ttl', putting('{"value":1,"ttl":0}'), bad, 'ttl: expected'),
    refuse('fractional ttl', putting('{"value":1,"ttl":1.5}'), bad, 'ttl: expected'),
    refuse('huge ttl', putting('{"value":1,"ttl":1e300}'), bad, 'ttl: expected'),
    refuse('ttl of ten years and a second', putting('{"value":1,"ttl":315360001}'), bad, 'ttl: expected'),
    refuse('ttl as text', putting('{"value":1,"ttl":"60"}'), bad, 'ttl: expected'),
    refuse('ttl of null', putting('{"value":1,"ttl":null}'), bad, 'ttl: expected'),
    refuse('ttl in the query of a JSON put', ['PUT', `${keys}/k?ttl=5`, { headers: json, body: '{"value":1}' }], bad, 'ttl: expected it in the JSON body'),
    refuse('negative ttl of bytes', ['PUT', `${keys}/k?ttl=-5`, { headers: octets, body: 'x' }], bad, 'ttl: expected a whole number from 1 to'),
    refuse('unknown encoding', putting('{"value":"x","encoding":"hex"}'), bad, 'encoding: expected "base64"'),
    refuse('base64 that is none', putting('{"value":"x","encoding":"base64"}'), bad, 'value: expected padded base64'),
    refuse('base64 of a number', putting('{"value":12,"encoding":"base64"}'), bad, 'value: expected a string of base64'),
    refuse('if_not_exists of text', putting('{"value":1,"if_not_exists":"no"}'), bad, 'if_not_exists: expected true or false'),
    refuse('if-match', putting('{"value":1}', { 'if-match': '"x"' }), bad, 'If-Match: expected an etag as an answer gave it'),
    refuse('if-none-match', putting('{"value":1}', { 'if-none-match': '"x"' }), bad, 'If-None-Match: expected * on a write'),
    refuse('both conditions', putting('{"value":1}', { 'if-match': '*', 'if-none-match': '*' }), bad, 'not both'),
    refuse('if-match of a read', getting({ 'if-match': '"x"' }), bad, 'If-Match: expected it on a put or delete of one key only'),
    refuse('if-none-match of a list', ['GET', keys, { headers: { 'if-none-match': '*' } }], bad, 'If-None-Match: expected it on a put, read or delete of one key only'),
    refuse('if-match of a batch', ['POST', `${batch}/put`, { headers: { ...json, 'if-match': '*' }, body: '{"operations":[]}' }], bad, 'If-Match: expected it on a put or delete of one key only'),
    refuse('if-none-match of a batch of reads', ['POST', `${batch}/get`, { headers: { ...json, 'if-none-match': '*' }, body: '{"keys":[]}' }], bad, 'If-None-Match: expected it'),
    ...['cas', 'incr', 'ttl'].flatMap((name) =>
      ['If-Match', 'If-None-Match'].map((header) =>
        refuse(`${header} of ${name}`, ['POST', `${keys}/k/${name}`, { headers: { ...json, [header]: '*' }, body: '{}' }], bad, `${header}: expected it on a put`),
      ),
    ),
    ...[['GET', keys], ['GET', '/api/v1/scan'], ['GET', '/api/v1/watch'], ['GET', '/api/v1/ring'], ['GET', '/metrics']].map(([method = '', path = '']) =>
      refuse(`an explanation of ${path}`, [method, path, { headers: { 'x-explain': '1' } }], bad, 'X-Explain: expected it on a request about one key only'),
    ),
    ...['put', 'get', 'delete'].map((name) =>
      refuse(`an explanation of a batch of ${name}`, ['POST', `${batch}/${name}`, { headers: { ...json, 'x-explain': '1' }, body: '{}' }], bad, 'X-Explain: expected it'),
    ),
    refuse('atomic in a batch of reads', batching('get', '{"keys":["a"],"atomic":true}'), bad, 'atomic: expected one of the members keys'),
    refuse('value over the limit', putting(`{"value":"${'x'.repeat(999)}"}`), tooLarge, 'value: 1001 bytes, at most 1000'),
    refuse('bytes over the limit', ['PUT', `${keys}/k`, { headers: octets, body: 'x'.repeat(1001) }], tooLarge, 'value: 1001 bytes, at most 1000'),
    refuse('body over the limit of the path', putting(`{"value":"${'x'.repeat(2_000_000)}"}`), tooLarge, 'the body is over the limit of this path, 1576960 bytes'),
    refuse('text/plain', ['PUT', `${keys}/k`, { headers: { 'content-type': 'text/plain' }, body: 'x' }], unsupported, 'expected application/json or application/octet-stream'),
    refuse('no content type', ['PUT', `${keys}/k`, { body: '{"value":1}' }], unsupported, 'expected application/json or application/octet-stream'),
    refuse('no content type and no body', ['PUT', `${keys}/k`], unsupported, 'expected application/json or application/octet-stream, found none'),
    refuse('octet-stream for a batch', ['POST', `${batch}/get`, { headers: octets, body: '{}' }], unsupported, 'expected application/json, found application/octet-stream'),
    refuse('unknown level', getting({ 'consistency-level': 'MOST' }), bad, 'unknown consistency level; expected one of ANY, ONE, TWO'),
    refuse('unknown namespace', getting({ 'x-namespace': 'other' }), [404, 'NO_SUCH_NAMESPACE'], 'no such namespace: other'),
    refuse('namespace named __proto__', getting({ 'x-namespace': '__proto__' }), [404, 'NO_SUCH_NAMESPACE'], 'no such namespace'),
    refuse('namespace of odd characters', getting({ 'x-namespace': '../x' }), bad, 'X-Namespace: expected 1 to 64'),
    refuse('deadline of zero', getting({ 'x-deadline-ms': '0' }), bad, 'X-Deadline-Ms: expected a whole number from 1 to 60000'),
    refuse('deadline over a minute', getting({ 'x-deadline-ms': '60001' }), bad, 'X-Deadline-Ms: expected'),
    refuse('deadline of text', getting({ 'x-deadline-ms': 'soon' }), bad, 'X-Deadline-Ms: expected'),
    refuse('deadline with a fraction', getting({ 'x-deadline-ms': '1.5' }), bad, 'X-Deadline-Ms: expected'),
    refuse('limit of zero', list('limit=0'), bad, 'limit: expected a whole number from 1 to 1000'),
    refuse('limit of 1,001', list('limit=1001'), bad, 'limit: expected'),
    refuse('limit of 1e2', list('limit=1e2'), bad, 'limit: expected'),
    refuse('unknown query parameter', list('limt=5'), bad, 'limt: expected one of the query parameters prefix, limit, cursor, values'),
    refuse('query where there is none', ['GET', '/api/v1/ring?x=1'], bad, 'x: expected no query parameters here'),
    refuse('query that is none of a read', ['GET', `${keys}/k?x=1`], bad, 'x: expected one of the query parameters key_encoding'),
    refuse('a query parameter that is there twice', list('limit=1&limit=2'), bad, 'limit: expected it once in the query'),
    refuse('a level of a watch', ['GET', '/api/v1/watch', { headers: { 'consistency-level': 'ONE' } }], bad, 'Consistency-Level: expected none on a watch'),
    refuse('a context where there are no siblings', putting('{"value":1}', { 'x-causal-context': 'AA' }), bad, 'X-Causal-Context: expected none, this namespace keeps no siblings'),
    refuse('a context of a delete where there are no siblings', ['DELETE', `${keys}/k`, { headers: { 'x-causal-context': 'AA' } }], bad, 'X-Causal-Context: expected none'),
    refuse('a key with slashes', ['PUT', `${keys}/a/b/c`, { headers: json, body: '{"value":1}' }], [404, 'NOT_FOUND'], 'there is nothing under /api/v1/keys/a/b/c; a slash in a key is %2F'),
    refuse('values of maybe', list('values=maybe'), bad, 'values: expected 1 or true, 0 or false'),
    refuse('cursor that is none', list('cursor=abc'), bad, 'cursor: it is not a cursor'),
    refuse('count of zero', ['GET', '/api/v1/scan?count=0'], bad, 'count: expected'),
    refuse('body of a get', ['GET', `${keys}/k`, { headers: json, body: '{}' }], bad, 'GET takes no body here'),
    refuse('body of a delete', ['DELETE', `${keys}/k`, { headers: json, body: '{}' }], bad, 'DELETE takes no body here'),
    refuse('a condition in an atomic batch', batching('put', '{"operations":[{"key":"a","value":1,"if_not_exists":true}],"atomic":true}'), bad, 'operations[0].if_not_exists: expected no condition in an atomic batch'),
    refuse('atomic of text', batching('delete', '{"keys":[],"atomic":"no"}'), bad, 'atomic: expected true or false'),
    refuse('batch without its list', batching('put', '{"atomic":false}'), bad, 'operations: expected a list'),
    refuse('batch whose list is an object', batching('get', '{"keys":{}}'), bad, 'at byte 8: expected an array'),
    refuse('batch of other members', batching('get', '{"key":"x"}'), bad, 'key: expected one of the members keys'),
    refuse('operation without a key', batching('put', '{"operations":[{"value":1}]}'), bad, 'operations[0].key: expected a key'),
    refuse('operation without a value', batching('put', '{"operations":[{"key":"a","value":1},{"key":"b"}]}'), bad, 'operations[1].value: expected any JSON value'),
    refuse('operation with a typo', batching('put', '{"operations":[{"key":"a","valu":1}]}'), bad, 'operations[0].valu: expected one of'),
    refuse('operation that is a number', batching('put', '{"operations":[1]}'), bad, 'at byte 15: expected an object'),
    refuse('key that is a number', batching('delete', '{"keys":[1]}'), bad, 'at byte 9: expected a string'),
    refuse('key with a lone surrogate', batching('get', '{"keys":["\\ud800"]}'), bad, 'keys[0]: expected text without lone surrogates'),
    refuse('two puts of one key', batching('put', '{"operations":[{"key":"a","value":1},{"key":"\\u0061","value":2}]}'), bad, 'operations[1].key: expected each key once'),
    refuse('1,001 operations', batching('delete', `{"keys":[${Array.from({ length: 1001 }, (_, i) => `"${i}"`).join(',')}]}`), tooLarge, 'keys: more than 1000 in one batch'),
    refuse('unknown path', ['GET', '/api/v2/keys'], [404, 'NOT_FOUND'], 'there is nothing under /api/v2/keys'),
    refuse('unknown method', ['PATCH', `${keys}/k`, { headers: json, body: '{}' }], [405, 'METHOD_NOT_ALLOWED'], 'PATCH is not taken here; PUT, GET, DELETE, HEAD would be'),
    refuse('post on a health path', ['POST', '/livez', { headers: { 'content-type': 'text/plain' }, body: 'x' }], [405, 'METHOD_NOT_ALLOWED'], 'POST is not taken here; GET would be'),
  ];

  for (const { what, call: request, status, code, detail } of refusals)
    it(`http: refused with ${status} ${code}: ${what}`, async () => {
      const answer = await call(...request);
      expect(answer.headers['content-type']).to.equal('application/problem+json');
      expect(answer.headers['x-coordinator']).to.equal('n1');
      const problem = problemOf(answer);
      expect([answer.status, problem.status, problem.code]).to.deep.equal([status, status, code]);
      expect(problem.detail).to.contain(detail);
      expect(problem.type).to.equal(`urn:kvd:problem:${code.toLowerCase().replaceAll('_', '-')}`);
      expect(problem.title).to.be.a('string').and.not.equal('');
      expect(cluster.backend.seen).to.deep.equal([]);
    });

  it('http: what sits at a limit is taken (value, ttl, deadline, 1,000 operations)', async () => {
    expect((await put('k', `{"value":"${'x'.repeat(998)}","ttl":315360000}`)).status).to.equal(200);
    const headers = { 'x-deadline-ms': '60000' };
    expect((await call('GET', `${keys}/k`, { headers })).status).to.equal(200);
    const thousand = Array.from({ length: 1000 }, (_, i) => `"${i}"`).join(',');
    const answer = await post(`${batch}/delete`, `{"keys":[${thousand}]}`);
    expect((JSON.parse(answer.text) as { success_count: number }).success_count).to.equal(1000);
    expect((await call('GET', `${keys}?limit=1000`)).status).to.equal(200);
  });

  it('http: every row that is not served answers 501 and names itself', async () => {
    const rows = httpRoutes.filter(({ isServed }) => !isServed);
    expect(rows.length).to.be.greaterThan(8);
    for (const { method, path } of rows) {
      const actual = path.replaceAll(/:[a-z]+/g, 'x').replace('*', 'keys/k');
      const problem = problemOf(await call(method, actual));
      expect(problem.code, path).to.equal('NOT_IMPLEMENTED');
      expect(problem.detail).to.equal(`${method} ${path} is not there yet`);
    }
  });

  it('http: what is no HTTP gets a problem document and the connection ends', async () => {
    const text = await sendRaw(cluster.port, 'HELLO\r\n\r\n');
    expect(text).to.match(/^HTTP\/1\.1 400 /);
    expect(text).to.contain('"code":"BAD_REQUEST"');
    const headers = `GET /livez HTTP/1.1\r\nhost: x\r\nbig: ${'x'.repeat(20_000)}\r\n\r\n`;
    const overflow = await sendRaw(cluster.port, headers);
    expect(overflow).to.match(/^HTTP\/1\.1 431 /);
    expect(overflow).to.contain('"code":"TOO_LARGE"');
  });

  it('http: two lengths, or a length and chunks, are refused (request smuggling)', async () => {
    const head = `PUT ${keys}/k HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n`;
    for (const lengths of [
      'content-length: 5\r\ncontent-length: 6\r\n',
      'content-length: 5\r\ntransfer-encoding: chunked\r\n',
    ]) {
      const text = await sendRaw(cluster.port, `${head}${lengths}\r\n0\r\n\r\n`);
      expect(text, lengths).to.match(/^HTTP\/1\.1 400 /);
    }
    expect(cluster.backend.seen).to.deep.equal([]);
  });

  it('http: a body in chunks is counted while it comes', async () => {
    const chunk = `10000\r\n${'x'.repeat(0x10000)}\r\n`;
    const head = `PUT ${keys}/k HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n`;
    const text = await sendRaw(cluster.port, head + chunk.repeat(40));
    expect(text).to.match(/^HTTP\/1\.1 413 /);
    expect(text).to.contain('"code":"TOO_LARGE"');
    expect(cluster.backend.seen).to.deep.equal([]);
  });

  it('http: a connection serves on after a refusal', async () => {
    const requests = [
      `GET ${keys}/%zz HTTP/1.1\r\nhost: x\r\n\r\n`,
      `GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n`,
      `GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`,
    ];
    const text = await sendRaw(cluster.port, requests.join(''));
    const statuses = [...text.matchAll(/HTTP\/1\.1 (\d+) /g)].map(([, status]) => status);
    expect(statuses).to.deep.equal(['400', '404', '200']);
  });

  // ---- batches -----------------------------------------------------------------------------

  it('http: a batch put answers each key in the order asked', async () => {
    await put('b', '{"value":0}');
    const answer = await post(
      `${batch}/put`,
      '{"operations":[{"key":"a","value":{"x": 1e400}},{"value":[ ],"key":"b","ttl":9}],"atomic":false}',
    );
    expect(JSON.parse(answer.text)).to.deep.equal({
      success_count: 2,
      failed_keys: [],
      results: [
        { key: 'a', version: 1 },
        { key: 'b', version: 2 },
      ],
    });
    expect((await call('GET', `${keys}/a`)).text).to.contain('"value":{"x": 1e400},');
    expect((await call('GET', `${keys}/b`)).text).to.contain('"value":[ ],"version":2');
  });

  it('http: a batch get answers in the order asked, also what is not there or asked twice', async () => {
    await put('a', '{"value":"A"}');
    const answer = await post(`${batch}/get`, '{"keys":["none","a","a"]}');
    const found = { key: 'a', value: 'A', version: 1, timestamp: nowMs, found: true };
    expect(JSON.parse(answer.text)).to.deep.equal({
      results: [{ key: 'none', found: false }, found, found],
    });
    expect((await post(`${batch}/get`, '{"keys":[]}')).text).to.equal('{"results":[]}');
  });

  it('http: a batch get stops giving values at its limit and says for which keys', async () => {
    const value = 'x'.repeat(900);
    for (const key of ['a', 'b', 'c', 'd']) await put(key, `{"value":"${value}"}`);
    const { results } = JSON.parse(
      (await post(`${batch}/get`, '{"keys":["a","b","c","d"]}')).text,
    ) as { results: { key: string; found: boolean; value?: string; error?: { code: string } }[] };
    expect(results.map(({ found }) => found)).to.deep.equal([true, true, true, true]);
    expect(results.map((row) => row.error?.code ?? 'value')).to.deep.equal([
      'value',
      'value',
      'value',
      'TOO_LARGE',
    ]);
  });

  it('http: a batch delete says which keys were there', async () => {
    await put('a', '{"value":1}');
    const answer = await post(`${batch}/delete`, '{"keys":["a","b"]}');
    expect(JSON.parse(answer.text)).to.deep.equal({
      success_count: 2,
      failed_keys: [],
      results: [
        { key: 'a', deleted: true, version: 2 },
        { key: 'b', deleted: false, version: 1 },
      ],
    });
  });

  it('http: keys of a batch fail one by one', async () => {
    cluster.backend.failing.set('n1', { code: 'DISK_FULL', fields: { free: 0 } });
    const answer = await post(`${batch}/put`, '{"operations":[{"key":"a","value":1}]}');
    expect(answer.status).to.equal(200);
    expect(JSON.parse(answer.text)).to.deep.equal({
      success_count: 0,
      failed_keys: ['a'],
      results: [
        {
          key: 'a',
          error: { code: 'DISK_FULL', detail: 'The disk is full; reads go on. (free=0)' },
        },
      ],
    });
  });

  // ---- pages -------------------------------------------------------------------------------

  it('http: a list goes on by cursor, within its prefix, in key order', async () => {
    for (const key of ['u:3', 'u:1', 'v:1', 'u:2', 't:9']) await put(key, '{"value":true}');
    const first = JSON.parse((await call('GET', `${keys}?prefix=u:&limit=2`)).text) as {
      keys: string[];
      cursor: string;
      has_more: boolean;
    };
    expect([first.keys, first.has_more]).to.deep.equal([['u:1', 'u:2'], true]);
    const path = `${keys}?prefix=u%3A&limit=2&cursor=${first.cursor}`;
    expect(JSON.parse((await call('GET', path)).text)).to.deep.equal({
      keys: ['u:3'],
      cursor: null,
      has_more: false,
    });
    const elsewhere = problemOf(await call('GET', `${keys}?prefix=v:&cursor=${first.cursor}`));
    expect(elsewhere.detail).to.contain('it belongs to another prefix');
  });

  it('http: a list with values carries all that a get answers', async () => {
    await put('k', '{"value":{"n": 1.50}}');
    const answer = await call('GET', `${keys}?values=true`);
    expect(answer.text).to.equal(
      `{"keys":["k"],"items":[{"key":"k","value":{"n": 1.50},"version":1,"timestamp":${nowMs}}],"cursor":null,"has_more":false}`,
    );
  });

  it('http: a scan gives each key once, page by page', async () => {
    const names = Array.from({ length: 25 }, (_, i) => `k${String(i).padStart(2, '0')}`);
    for (const key of names) await put(key, '{"value":1}');
    const seen: string[] = [];
    let cursor: string | null = '';
    while (cursor !== null) {
      const answer: Answer = await call('GET', `/api/v1/scan?count=10&cursor=${cursor}`);
      const page = JSON.parse(answer.text) as {
        keys: string[];
        next_cursor: string | null;
        done: boolean;
      };
      expect(page.done).to.equal(page.next_cursor === null);
      seen.push(...page.keys);
      cursor = page.next_cursor;
    }
    expect(seen).to.deep.equal(names);
  });

  // ---- the node ----------------------------------------------------------------------------

  it('http: the metrics page counts requests by route and status', async () => {
    await put('k', '{"value":1}');
    await call('GET', `${keys}/none`);
    const { text, headers } = await call('GET', '/metrics');
    expect(headers['content-type']).to.equal('text/plain; version=0.0.4; charset=utf-8');
    expect(text).to.contain('kvd_mailbox_handled_total{actor="http-gateway",shard="0"}');
    expect(text).to.contain('kvd_monitor_silent_threads 0\n');
    expect(text).to.contain('kvd_http_requests_total{route="put",status="200"} 1\n');
    expect(text).to.contain('kvd_http_requests_total{route="get",status="404"} 1\n');
    expect(text).to.contain('kvd_http_request_seconds_count{route="put"} 1\n');
  });

  it('http: the health paths answer, and readiness ends when draining starts', async () => {
    expect((await call('GET', '/livez')).text).to.equal(
      '{"status":"alive","node":"n1","durability":"group"}',
    );
    expect((await call('GET', '/readyz')).text).to.equal(
      '{"status":"ready","node":"n1","durability":"group"}',
    );
    await new Promise((resolve) => {
      cluster.kernel.ask(refTo(HttpGateway, 'n1'), 'startDraining', {}, 1000, resolve);
    });
    for (const path of ['/readyz', `${keys}/k`]) {
      const answer = await call('GET', path);
      expect([answer.status, problemOf(answer).code]).to.deep.equal([503, 'DRAINING']);
      expect(answer.headers['retry-after']).to.equal('1');
    }
    expect((await call('GET', '/livez')).status).to.equal(200);
  });

  it('http: draining ends when the last open request is answered', async () => {
    cluster.backend.hanging.add('slow');
    const slow = put('slow', '{"value":1}');
    while (cluster.backend.held.length === 0) await new Promise(setImmediate);
    const order: string[] = [];
    const drained = new Promise<void>((resolve) => {
      cluster.kernel.ask(refTo(HttpGateway, 'n1'), 'startDraining', {}, 1000, (problem) => {
        expect(problem).to.equal(undefined);
        order.push('drained');
        resolve();
      });
    });
    expect((await call('GET', '/readyz')).status).to.equal(503);
    order.push('answer');
    const etag = { hlc: 1, writer: 1, incarnation: 1 };
    cluster.backend.held[0]?.resolve({
      ...etag,
      version: 4,
      expiresAt: 0,
      existed: false,
      coordinator: 'n1',
      explanation: undefined,
    });
    expect((await slow).status).to.equal(200);
    await drained;
    expect(order).to.deep.equal(['answer', 'drained']);
  });

  it('http: a deadline ends a request with 504, naming an unknown effect as such', async () => {
    cluster.backend.hanging.add('k');
    const headers = { ...json, 'x-deadline-ms': '40' };
    const answer = await call('PUT', `${keys}/k`, { headers, body: '{"value":1}' });
    expect([answer.status, problemOf(answer).code]).to.deep.equal([504, 'TIMEOUT']);
    expect(answer.headers['x-consistency-level']).to.equal('QUORUM');
  });

  it('http: a port that is taken is an error that says what to do', async () => {
    const second = new HttpEdge({
      node: 'n1',
      host: '127.0.0.1',
      port: cluster.port,
      ask: () => undefined,
    });
    let message = '';
    try {
      await second.listen();
    } catch (error) {
      message = (error as Error).message;
    }
    expect(message).to.contain(`port ${cluster.port} of 127.0.0.1 is taken by another process`);
    await second.close();
  });
});
