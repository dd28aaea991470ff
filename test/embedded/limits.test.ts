// The limits that docs/http.md, docs/redis.md and docs/namespaces.md name, each at its value and one
// beyond it, through the sockets of a real node. Limits of connections: test/security/limits.test.ts.

import { expect } from 'chai';
import { connect } from 'node:net';
import { createCluster, type EmbeddedCluster } from '../../cli/embedded/cluster.ts';
import { type Answer, problemOf, send, type Sent } from '../kit-gateway.ts';
import { command, exchange, RawConnection } from '../kit-resp.ts';

const keys = '/api/v1/keys';
const json = { 'content-type': 'application/json' };
const octets = { 'content-type': 'application/octet-stream' };
const valueBytes = 1024 * 1024;
const tenYears = 315_360_000;

const x = (bytes: number): string => 'x'.repeat(bytes);
/** A JSON string of so many bytes, with its quotes. */
const jsonText = (bytes: number): string => `"${x(bytes - 2)}"`;
/** A JSON document of so many bytes: spaces before its end. */
const padded = (document: string, bytes: number): string =>
  `${document.slice(0, -1)}${' '.repeat(bytes - document.length)}}`;
const portOf = (url: string): number => Number(new URL(url).port);

type Request = readonly [method: string, path: string, sent?: Sent];
interface Limit {
  readonly what: string;
  readonly limit: number;
  readonly at: (size: number) => Request;
  /** Of the answer beyond the limit. */
  readonly beyond: number;
  /** Words of the refusal. */
  readonly says: string;
}

const put = (key: string, body: string): Request => [
  'PUT',
  `${keys}/${key}`,
  { headers: json, body },
];
const post = (path: string, body: string): Request => [
  'POST',
  `/api/v1${path}`,
  { headers: json, body },
];
const get = (path: string, headers: Sent['headers'] = {}): Request => ['GET', path, { headers }];
const list = (count: number, item: (i: number) => string): string =>
  `[${Array.from({ length: count }, (_, i) => item(i)).join(',')}]`;
const operations = (count: number, more = ''): string =>
  `{"operations":${list(count, (i) => `{"key":"{b}${i}","value":1}`)}${more}}`;
const keyList = (count: number): string => `{"keys":${list(count, (i) => `"{b}${i}"`)}}`;
const megabyte64 = (bytes: number): string => Buffer.alloc(bytes, 1).toString('base64');

/** One that is too large is refused by its length: it is not sent, for it would not be read. */
const wholeBatch = (bytes: number): Request =>
  bytes <= 16 * valueBytes
    ? post('/batch/get', padded('{"keys":["a"]}', bytes))
    : ['POST', '/api/v1/batch/get', { headers: { ...json, 'content-length': String(bytes) } }];

// biome-ignore format: a table
const httpLimits: readonly Limit[] = [
  { what: 'a key', limit: 1024, at: (n) => put(x(n), '{"value":1}'), beyond: 413, says: 'key: 1025 bytes, at most 1024' },
  { what: 'a key beyond ASCII', limit: 1024, at: (n) => put(encodeURIComponent(`${'é'.repeat(511)}${x(n - 1022)}`), '{"value":1}'), beyond: 413, says: 'key: 1025 bytes' },
  { what: 'a key of a batch', limit: 1024, at: (n) => post('/batch/get', `{"keys":["${x(n)}"]}`), beyond: 413, says: 'keys[0]: 1025 bytes' },
  { what: 'a prefix of a list', limit: 1024, at: (n) => get(`${keys}?prefix=${x(n)}`), beyond: 413, says: 'prefix: 1025 bytes' },
  { what: 'a JSON value', limit: valueBytes, at: (n) => put('v', `{"value":${jsonText(n)}}`), beyond: 413, says: 'value: 1048577 bytes, at most 1048576' },
  { what: 'a value of raw bytes', limit: valueBytes, at: (n) => ['PUT', `${keys}/v`, { headers: octets, body: x(n) }], beyond: 413, says: 'value: 1048577 bytes' },
  { what: 'a value in base64', limit: valueBytes, at: (n) => put('v', `{"value":"${megabyte64(n)}","encoding":"base64"}`), beyond: 413, says: 'value: 1048577 bytes' },
  { what: 'a value of a batch', limit: valueBytes, at: (n) => post('/batch/put', `{"operations":[{"key":"v","value":${jsonText(n)}}]}`), beyond: 413, says: 'operations[0].value: 1048577 bytes' },
  { what: 'a value of a compare-and-set', limit: valueBytes, at: (n) => post('/keys/cas-absent/cas', `{"expected_version":0,"new_value":${jsonText(n)}}`), beyond: 413, says: '1048577' },
  { what: 'a time to live', limit: tenYears, at: (n) => put('t', `{"value":1,"ttl":${n}}`), beyond: 400, says: 'ttl: expected a whole number of seconds from 1 to 315360000' },
  { what: 'a time to live of raw bytes', limit: tenYears, at: (n) => ['PUT', `${keys}/t?ttl=${n}`, { headers: octets, body: 'x' }], beyond: 400, says: 'ttl: expected' },
  { what: 'a time to live that is set', limit: tenYears, at: (n) => post('/keys/there/ttl', `{"ttl_seconds":${n}}`), beyond: 400, says: 'ttl_seconds: expected' },
  { what: 'operations of a batch', limit: 1000, at: (n) => post('/batch/put', operations(n)), beyond: 413, says: 'operations: more than 1000 in one batch' },
  { what: 'operations of an atomic batch', limit: 1000, at: (n) => post('/batch/put', operations(n, ',"atomic":true')), beyond: 413, says: 'operations: more than 1000' },
  { what: 'keys of a batch of reads', limit: 1000, at: (n) => post('/batch/get', keyList(n)), beyond: 413, says: 'keys: more than 1000' },
  { what: 'keys of a batch of deletes', limit: 1000, at: (n) => post('/batch/delete', keyList(n)), beyond: 413, says: 'keys: more than 1000' },
  { what: 'the body of a batch', limit: 16 * valueBytes, at: wholeBatch, beyond: 413, says: 'the body is over the limit' },
  { what: 'the body of an increment', limit: 65_536, at: (n) => post('/keys/count/incr', padded('{"delta":1}', n)), beyond: 413, says: 'the body is over the limit' },
  { what: 'the body of a route of administration', limit: 65_536, at: (n) => post('/admin/flush', padded('{"nodes":["n1"]}', n)), beyond: 413, says: 'the body is over the limit' },
  { what: 'rows of a list', limit: 1000, at: (n) => get(`${keys}?limit=${n}`), beyond: 400, says: 'limit: expected a whole number from 1 to 1000' },
  { what: 'rows of a scan', limit: 1000, at: (n) => get(`/api/v1/scan?count=${n}`), beyond: 400, says: 'count: expected a whole number from 1 to 1000' },
  { what: 'X-Deadline-Ms', limit: 60_000, at: (n) => get(`${keys}/there`, { 'x-deadline-ms': String(n) }), beyond: 400, says: 'X-Deadline-Ms: expected a whole number from 1 to 60000' },
  { what: 'X-Request-Id', limit: 64, at: (n) => ['POST', `${keys}/count/incr`, { headers: { ...json, 'x-request-id': x(n) }, body: '{"delta":3}' }], beyond: 400, says: 'X-Request-Id' },
  { what: 'a part of a table of a snapshot', limit: valueBytes, at: (n) => get(`/api/v1/admin/snapshots/first/tables/0/1?length=${n}`), beyond: 400, says: 'length: expected a whole number up to 1048576' },
  { what: 'the name of a snapshot', limit: 64, at: (n) => post('/admin/snapshots', `{"name":"${x(n)}"}`), beyond: 400, says: 'name: expected 1 to 64' },
  { what: 'the name of a namespace', limit: 64, at: (n) => post('/admin/namespaces', `{"name":"${x(n)}"}`), beyond: 400, says: 'name: expected 1 to 64' },
  { what: 'the owner of a namespace', limit: 128, at: (n) => ['PUT', '/api/v1/admin/namespaces/carts', { headers: json, body: `{"owner":"${x(n)}"}` }], beyond: 400, says: 'owner: expected up to 128' },
  { what: 'the default time to live of a namespace', limit: tenYears, at: (n) => ['PUT', '/api/v1/admin/namespaces/carts', { headers: json, body: `{"default_ttl":${n}}` }], beyond: 400, says: 'default_ttl: expected' },
  { what: 'siblings of a key', limit: 100, at: (n) => ['PUT', `${keys}/sibling`, { headers: { ...json, 'x-namespace': 'carts' }, body: `{"value":${n}}` }], beyond: 409, says: 'too many values stand beside each other' },
];

describe('limits of the faces', function () {
  this.timeout(120_000);
  let cluster: EmbeddedCluster;
  let http = 0;
  let resp = 0;

  // Large values fill the small memtables: who is told that they wait for their flush asks again.
  const call = async ([method, path, sent]: Request): Promise<Answer> => {
    for (;;) {
      const answer = await send(http, method, path, sent);
      if (answer.status !== 429 || problemOf(answer).code !== 'OVERLOADED') return answer;
    }
  };
  const ask = async (...args: readonly (string | Uint8Array)[]): Promise<string> => {
    for (;;) {
      const answer = await exchange(resp, command(...args));
      if (!answer.startsWith('-BUSY OVERLOADED')) return answer;
    }
  };

  before(async () => {
    cluster = await createCluster({ nodes: 1, durability: 'none' });
    const [node] = cluster.nodes;
    http = portOf(node?.url ?? '');
    resp = portOf(node?.redisUrl ?? '');
    for (const request of [
      put('there', '{"value":1}'),
      post('/admin/namespaces', '{"name":"carts","conflicts":"siblings"}'),
      post('/admin/flush', '{}'),
      post('/admin/snapshots', '{"name":"first"}'),
    ])
      expect((await call(request)).status).to.equal(200);
    const sibling = httpLimits.find(({ what }) => what === 'siblings of a key') as Limit;
    for (let i = 1; i < sibling.limit; i += 1)
      expect((await call(sibling.at(i))).status).to.equal(200);
  });
  after(() => cluster.stop());

  for (const { what, limit, at, beyond, says } of httpLimits)
    it(`limits: HTTP: ${what} (limit=${limit})`, async () => {
      const taken = await call(at(limit));
      expect(taken.status, taken.text.slice(0, 300)).to.equal(200);
      const refused = await call(at(limit + 1));
      expect(refused.status, refused.text.slice(0, 300)).to.equal(beyond);
      expect(problemOf(refused).detail).to.contain(says);
    });

  it('limits: HTTP: what may not be 0 (ttl, limit, count, X-Deadline-Ms)', async () => {
    const zeros: readonly Request[] = [
      put('t', '{"value":1,"ttl":0}'),
      get(`${keys}?limit=0`),
      get('/api/v1/scan?count=0'),
      get(`${keys}/there`, { 'x-deadline-ms': '0' }),
    ];
    for (const request of zeros) expect((await call(request)).status).to.equal(400);
  });

  it('limits: HTTP: a value at its limit comes back as it was put', async () => {
    const text = jsonText(valueBytes);
    await call(put('whole', `{"value":${text}}`));
    const headers = { accept: 'application/octet-stream' };
    expect((await call(['GET', `${keys}/whole`, { headers }])).text === text).to.equal(true);
  });

  it('limits: HTTP: headers of 16 KiB, and one byte more', async () => {
    const first = 'GET /livez HTTP/1.1\r\n';
    const headersOf = (bytes: number): string => {
      const rest = 'host: a\r\nconnection: close\r\nx: ';
      return `${first}${rest}${x(bytes - rest.length - '\r\n\r\n'.length)}\r\n\r\n`;
    };
    const said = async (bytes: number): Promise<string> =>
      (await exchange(http, headersOf(bytes))).slice(0, 12);
    let bytes = 16 * 1024 - 64;
    while ((await said(bytes)) === 'HTTP/1.1 200') bytes += 1;
    expect(await said(bytes)).to.equal('HTTP/1.1 431');
    // Node counts names and values and what is between them in its own way: some bytes of it.
    expect(bytes).to.be.within(16 * 1024 - 63, 16 * 1024 + 64);
  });

  it('limits: HTTP: 100 headers are taken, 101 are not', async () => {
    const withHeaders = (count: number): Promise<string> => {
      const lines = Array.from({ length: count - 3 }, (_, i) => `h${i}: 1`);
      const all = ['host: a', 'connection: close', ...lines, 'consistency-level: NONSENSE'];
      return exchange(http, `GET ${keys}/there HTTP/1.1\r\n${all.join('\r\n')}\r\n\r\n`);
    };
    expect((await withHeaders(100)).slice(0, 12)).to.equal('HTTP/1.1 400');
    expect((await withHeaders(101)).slice(0, 12)).to.equal('HTTP/1.1 431');
  });

  it('limits: HTTP: watches of a node (limit=64)', async () => {
    const open = (): Promise<{ status: string; end: () => void }> =>
      new Promise((resolve, reject) => {
        const socket = connect({ port: http, host: '127.0.0.1' });
        socket.once('data', (chunk) =>
          resolve({ status: chunk.toString('latin1', 9, 12), end: () => socket.destroy() }),
        );
        socket.once('error', reject);
        socket.write('GET /api/v1/watch HTTP/1.1\r\nhost: a\r\n\r\n');
      });
    const watches = [];
    for (let i = 0; i < 65; i += 1) watches.push(await open());
    const statuses = watches.map(({ status }) => status);
    for (const { end } of watches) end();
    expect(statuses.slice(0, 64).every((status) => status === '200')).to.equal(true);
    expect(statuses[64]).to.equal('429');
  });

  // biome-ignore format: a table
  const respLimits: readonly [what: string, at: readonly string[], taken: string | RegExp, beyond: readonly string[], refused: RegExp][] = [
    ['a key', ['SET', x(1024), 'v'], '+OK\r\n', ['SET', x(1025), 'v'], /^-ERR TOO_LARGE key/],
    ['a key of several', ['MGET', 'a', x(1024)], '*2\r\n$-1\r\n$1\r\nv\r\n', ['MGET', 'a', x(1025)], /^-ERR TOO_LARGE/],
    ['a value', ['SET', 'v', x(valueBytes)], '+OK\r\n', ['SET', 'v', x(valueBytes + 1)], /^-ERR TOO_LARGE an argument of 'set' is over its limit/],
    ['a value that is asked for only where it is new', ['SET', 'nx', x(valueBytes), 'NX'], '+OK\r\n', ['SETNX', 'nx', x(valueBytes + 1)], /^-ERR TOO_LARGE/],
    ['a value that grows', ['APPEND', 'grown', 'y'], `:${valueBytes}\r\n`, ['APPEND', 'grown', 'y'], /^-ERR TOO_LARGE/],
    ['a value that is written beyond its end', ['SETRANGE', 'range', String(valueBytes - 1), 'y'], `:${valueBytes}\r\n`, ['SETRANGE', 'range', String(valueBytes), 'y'], /^-ERR/],
    ['a time to live in seconds', ['SET', 't', 'v', 'EX', String(tenYears)], '+OK\r\n', ['SET', 't', 'v', 'EX', String(tenYears + 1)], /^-ERR invalid expire time/],
    ['a time to live in milliseconds', ['PSETEX', 't', String(tenYears * 1000), 'v'], '+OK\r\n', ['PSETEX', 't', String(tenYears * 1000 + 1), 'v'], /^-ERR invalid expire time/],
    ['a time to live that is set', ['EXPIRE', 't', String(tenYears)], ':1\r\n', ['EXPIRE', 't', String(tenYears + 1)], /^-ERR invalid expire time/],
    ['a counter that goes up', ['INCR', 'most'], ':9007199254740991\r\n', ['INCR', 'most'], /^-ERR.*overflow/],
    ['a counter that goes down', ['DECR', 'least'], ':-9007199254740991\r\n', ['DECR', 'least'], /^-ERR.*overflow/],
    ['an inline command', [], /^-ERR unknown command/, [], /^-ERR Protocol error: too big inline request/],
  ];

  for (const [what, at, taken, beyond, refused] of respLimits)
    it(`limits: Redis: ${what}`, async () => {
      await ask('SET', 'grown', x(valueBytes - 1));
      await ask('SET', 'most', '9007199254740990');
      await ask('SET', 'least', '-9007199254740990');
      const sent = at.length === 0 ? `${x(65_536)}\n` : command(...at);
      const answer = await exchange(resp, sent);
      if (typeof taken === 'string') expect(answer.slice(0, 200)).to.equal(taken);
      else expect(answer.slice(0, 200)).to.match(taken);
      const more = beyond.length === 0 ? `${x(65_537)}\n` : command(...beyond);
      if (at[0] === 'INCR' || at[0] === 'DECR' || at[0] === 'APPEND' || at.length === 0) {
        expect((await exchange(resp, more)).slice(0, 300)).to.match(refused);
        return;
      }
      // The connection goes on after the refusal.
      const [refusal, next] = (await exchange(resp, more, command('PING'))).split('\r\n');
      expect(refusal).to.match(refused);
      expect(next).to.equal('+PONG');
    });

  it('limits: Redis: arguments of a command (limit=1048576)', async () => {
    const withArguments = (count: number): Promise<string> =>
      exchange(resp, `*${count}\r\n$4\r\nPING\r\n`, '$1\r\na\r\n'.repeat(count - 1));
    expect(await withArguments(1_048_576)).to.equal(
      "-ERR wrong number of arguments for 'ping' command\r\n",
    );
    expect(await withArguments(1_048_577)).to.equal(
      '-ERR Protocol error: invalid multibulk length\r\n',
    );
  });

  it('limits: Redis: bytes of a command (limit=16777216)', async () => {
    const withBytes = (bytes: number): Promise<string> => {
      const last = bytes - 'MSET'.length - 15 * valueBytes - 15;
      const pairs = Array.from({ length: 15 }, () => ['k', x(valueBytes)]).flat();
      // A last key and its value take the rest.
      return ask('MSET', ...pairs, 'k', x(last - 1));
    };
    expect(await withBytes(16 * valueBytes)).to.equal('+OK\r\n');
    expect(await withBytes(16 * valueBytes + 1)).to.match(/^-ERR TOO_LARGE an argument of 'mset'/);
  });

  it('limits: Redis: keys that KEYS gives (limit=100000)', async () => {
    const connection = new RawConnection(resp);
    try {
      for (let at = 0; at < 100_000; at += 1000) {
        const pairs = Array.from({ length: 1000 }, (_, i) => [`keys:${at + i}`, '']).flat();
        expect(await connection.ask('+OK\r\n', 'MSET', ...pairs)).to.equal('+OK\r\n');
      }
    } finally {
      connection.close();
    }
    expect((await ask('KEYS', 'keys:*')).slice(0, 9)).to.equal('*100000\r\n');
    await ask('SET', 'keys:more', '');
    expect(await ask('KEYS', 'keys:*')).to.match(/^-ERR TOO_LARGE more than 100000 keys match/);
  });
});

describe('limits of the faces: the largest value that can be set', function () {
  this.timeout(120_000);
  const largest = 16_777_216;

  it('limits: valueBytesMax at its highest holds for both faces, and one byte more is refused', async () => {
    const sizes = { memtableBytes: 2 * largest, walSegmentBytes: 4 * largest };
    const settings = { valueBytesMax: largest, ...sizes };
    const cluster = await createCluster({ nodes: 1, durability: 'none', settings });
    try {
      const [node] = cluster.nodes;
      const http = portOf(node?.url ?? '');
      const resp = portOf(node?.redisUrl ?? '');
      const raw = (bytes: number): Promise<Answer> =>
        send(http, 'PUT', `${keys}/v`, { headers: octets, body: x(bytes) });
      expect((await raw(largest)).status).to.equal(200);
      expect((await raw(largest + 1)).status).to.equal(413);
      const text = await send(http, 'PUT', `${keys}/j`, {
        headers: json,
        body: `{"value":${jsonText(largest)}}`,
      });
      expect(text.status).to.equal(200);
      // A decision needs room for the vote beside the value.
      const decide = (bytes: number): Promise<Answer> =>
        send(http, 'POST', `${keys}/d${bytes}/cas`, {
          headers: json,
          body: `{"expected_version":0,"new_value":${jsonText(bytes)}}`,
        });
      const decided = await decide(largest - 128 * 1024);
      expect(decided.status, decided.text).to.equal(200);
      const refused = await decide(largest - 128 * 1024 + 1);
      expect(refused.status).to.equal(413);
      expect(problemOf(refused).detail).to.equal(
        'value: 16646145 bytes, at most 16646144 are decided',
      );
      expect(await exchange(resp, command('SET', 'r', x(largest)))).to.equal('+OK\r\n');
      expect(await exchange(resp, command('SET', 'r', x(largest + 1)))).to.match(/^-ERR TOO_LARGE/);
      expect((await exchange(resp, command('GET', 'v'))).length).to.equal(largest + 13);
      const headers = { accept: 'application/octet-stream' };
      expect((await send(http, 'GET', `${keys}/r`, { headers })).bytes.length).to.equal(largest);
    } finally {
      await cluster.stop();
    }
  });
});
