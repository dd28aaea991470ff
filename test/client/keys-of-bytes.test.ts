// Keys that are no UTF-8, as the Redis protocol writes them: every call of the client, each REST path and
// kvctl take them, and what is exported, watched or backed up has them as they are.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import type { KvdClient, ListedEntry, WatchEvent } from '../../cli/client/kvd-client.ts';
import { createCluster, type EmbeddedCluster } from '../../cli/embedded/cluster.ts';
import { kvctl, type KvctlRun } from '../kit-kvctl.ts';
import { type Argument, RawConnection } from '../kit-resp.ts';
import { codeOf } from '../kit-client.ts';

const bytes = (...all: readonly number[]): Uint8Array => Uint8Array.from(all);
const base64 = (key: Uint8Array): string => Buffer.from(key).toString('base64');
const shown = (key: Uint8Array): string => JSON.stringify({ base64: base64(key) });

describe('keys of bytes', () => {
  let cluster: EmbeddedCluster;
  let client: KvdClient;
  let scratch = '';
  before(async () => {
    scratch = mkdtempSync(join(tmpdir(), 'kvd-bytes-'));
    cluster = await createCluster({ nodes: 3 });
    ({ client } = cluster);
  });
  after(async () => {
    await cluster.stop();
    rmSync(scratch, { recursive: true });
  });
  afterEach(async () => {
    for await (const { key, keyBytes } of client.entries()) await client.delete(keyBytes ?? key);
  });

  const run = (...args: readonly string[]): Promise<KvctlRun> =>
    kvctl([...args, '--endpoint', cluster.endpoints[0] ?? '']);
  async function redis(expected: string, ...words: readonly Argument[]): Promise<void> {
    const connection = new RawConnection(Number(new URL(cluster.nodes[1]?.redisUrl ?? '').port));
    expect(await connection.ask(expected, ...words)).to.equal(expected);
    connection.close();
  }
  const path = (key: string, encoding = 'base64url'): string =>
    `${cluster.endpoints[2] ?? ''}/api/v1/keys/${key}?key_encoding=${encoding}`;

  const samples = [
    bytes(0),
    bytes(0xff),
    bytes(0x61, 0xff, 0xfe),
    bytes(0xed, 0xa0, 0x80),
    bytes(0x2e, 0x2e, 0x2f, 0xc0),
    new Uint8Array(1024).fill(0xfb),
  ];
  for (const key of samples)
    it(`keys of bytes: ${key.length} from 0x${(key[0] ?? 0).toString(16)} by every call of the client and over Redis`, async () => {
      await client.put(key, { n: 1 });
      expect((await client.get(key))?.value).to.deep.equal({ n: 1 });
      await redis('$7\r\n{"n":1}\r\n', 'GET', key);
      expect(await client.exists(key)).to.equal(true);
      expect((await client.cas(key, { value: { n: 1 } }, 5)).ok).to.equal(true);
      expect((await client.incr(key, 2)).value).to.equal(7);
      expect(await client.setTtl(key, 100)).to.include({ version: 4 });
      await client.put(key, bytes(1, 2), { ttlSeconds: 50 });
      const raw = await client.getRaw(key);
      expect([[...(raw?.bytes ?? [])], raw?.ttlRemaining]).to.deep.equal([[1, 2], 50]);
      expect(await client.delete(key)).to.equal(true);
      expect(await client.get(key)).to.equal(undefined);
      await redis(':0\r\n', 'EXISTS', key);
    });

  it('keys of bytes: batches, lists by prefix and entries have them beside text', async () => {
    const [one, two] = [bytes(0x61, 0xff, 1), bytes(0x61, 0xff, 2)];
    const put = await client.putMany([one, 'a', two].map((key) => ({ key, value: 1 })));
    expect(put.map(({ key, ok }) => [key, ok])).to.deep.equal([
      [shown(one), true],
      ['a', true],
      [shown(two), true],
    ]);
    const found = await client.getMany([two, 'a', bytes(0xff)]);
    expect(found.map((row) => row.ok && row.result?.value)).to.deep.equal([1, 1, undefined]);
    const entries: ListedEntry[] = [];
    for await (const entry of client.entries({ prefix: bytes(0x61, 0xff) })) entries.push(entry);
    expect(entries.map(({ key, keyBytes = bytes() }) => [key, [...keyBytes]])).to.deep.equal([
      [shown(one), [...one]],
      [shown(two), [...two]],
    ]);
    const deleted = await client.deleteMany([one, two, 'a']);
    expect(deleted.map((row) => row.ok && row.result)).to.deep.equal([true, true, true]);
  });

  it('keys of bytes: a watch of their prefix tells them as every call takes them', async () => {
    const controller = new AbortController();
    const events: WatchEvent[] = [];
    const prefix = bytes(0xfe);
    const watching = (async () => {
      for await (const event of client.watch({ prefix, signal: controller.signal })) {
        if (event.type === 'ready') {
          await client.put('other', 1);
          await client.put(bytes(0xfe, 0), 2);
        } else events.push(event);
        if (event.type === 'put') return;
      }
    })();
    await watching;
    controller.abort();
    const [event] = events;
    expect(event).to.include({ type: 'put', key: shown(bytes(0xfe, 0)), value: 2 });
    expect(event !== undefined && 'keyBytes' in event && [...(event.keyBytes ?? [])]).to.deep.equal(
      [0xfe, 0],
    );
  });

  it('keys of bytes: text and its bytes are one key, whichever way a request writes it', async () => {
    await client.put('é', 1);
    expect((await client.get(Buffer.from('é')))?.value).to.equal(1);
    expect(await (await fetch(path('w6k'))).json()).to.include({ key: 'é', value: 1 });
    expect((await fetch(path('w6k', 'text'))).status).to.equal(404);
    const twice = client.putMany(['é', Buffer.from('é')].map((key) => ({ key, value: 2 })));
    expect(await codeOf(twice)).to.equal('BAD_REQUEST');
  });

  it('keys of bytes: what is none is refused, and what is too long', async () => {
    for (const key of [bytes(), '', 7, null, new Float64Array(1)])
      expect(await codeOf(client.get(key as string))).to.equal('BAD_REQUEST');
    expect(await codeOf(client.get(new Uint8Array(1025)))).to.equal('TOO_LARGE');
  });

  it('keys of bytes: kvctl takes and shows them with --base64-keys', async () => {
    const key = base64(bytes(0x61, 0xff));
    const byKey = (...args: readonly string[]): Promise<KvctlRun> => run(...args, '--base64-keys');
    expect((await byKey('put', key, '41')).text).to.equal('OK version 1\n');
    expect((await byKey('incr', key)).text).to.equal('42\n');
    expect((await byKey('cas', key, '43', '--if-value', '42')).code).to.equal(0);
    expect((await byKey('get', key)).text).to.equal('43\n');
    expect((await byKey('ttl', key, '60')).text).to.equal('60\n');
    expect(JSON.parse((await byKey('exists', key, '-o', 'json')).text)).to.deep.equal({
      key: { base64: key },
      exists: true,
    });
    const explained = JSON.parse((await byKey('explain', key, '-o', 'json')).text) as object;
    expect(explained).to.deep.include({ key: { base64: key }, version: 4 });
    expect((await byKey('list', base64(bytes(0x61)))).text).to.equal(
      `${JSON.stringify({ base64: key })}\n`,
    );
    const rows = await kvctl(
      ['batch', 'get', '-', '--base64-keys', '--endpoint', cluster.endpoints[0] ?? ''],
      `${key}\nAA==\n`,
    );
    expect(rows.text).to.match(/"key":\{"base64":"Yf8="\},.*"found":true.*\n.*"found":false/);
    expect((await byKey('del', key)).text).to.equal('deleted\n');
    expect(await byKey('get', 'no base64')).to.include({
      code: 2,
      stderr: 'kvctl: --base64-keys: expected padded base64, found no base64\n',
    });
  });

  it('keys of bytes: what is exported is imported, below a prefix too', async () => {
    const keys = [bytes(0xff), bytes(0x61, 0xc0), 'text', '{"base64":"/w=="}'];
    for (const [i, key] of keys.entries()) await client.put(key, i);
    const file = join(scratch, 'all.jsonl');
    expect((await run('export', file)).code).to.equal(0);
    await client.deleteMany(keys);
    expect(await run('import', file, '-q')).to.include({ code: 0 });
    const back = await client.getMany(keys);
    expect(back.map((row) => row.ok && row.result?.value)).to.deep.equal([0, 1, 2, 3]);
    expect(await run('import', file, '--prefix', 'p', '-q')).to.include({ code: 0 });
    expect((await client.get(bytes(0x70, 0xff)))?.value).to.equal(0);
    expect((await client.get('ptext'))?.value).to.equal(2);
    const under = await run(
      'export',
      '-',
      '--prefix',
      base64(bytes(0x70, 0xff)),
      '--base64-keys',
      '-q',
    );
    expect(under.text).to.equal('{"key":{"base64":"cP8="},"value":0}\n');
    expect(await run('import', file, '--prefix', '/w==', '--base64-keys', '-q')).to.include({
      code: 0,
    });
    expect((await client.get(bytes(0xff, 0x74, 0x65, 0x78, 0x74)))?.value).to.equal(2);
  });

  it('keys of bytes: --base64-keys changes no key of an import, and none of its names', async () => {
    const log = join(scratch, 'acks');
    const lines = ['{"key":"plain","value":1}', '{"key":{"base64":"w6k="},"value":2}'];
    const broken = ['{"key":"x\\ud800","value":1}', '{"key":"x\\ud801","value":2}'];
    for (const flag of [[], ['--base64-keys']]) {
      const args = ['import', '-', '--ack-log', log, '-q', ...flag];
      const endpoint = ['--endpoint', cluster.endpoints[0] ?? ''];
      const { code, stderr } = await kvctl(
        [...args, ...endpoint],
        [...lines, ...broken, ''].join('\n'),
      );
      expect(code).to.equal(1);
      expect(stderr).to.match(/line 3: key: .*surrogates\n.*line 4: key: .*surrogates\n/);
      expect(readFileSync(log, 'utf8')).to.equal('plain\né\n');
    }
    expect((await run('list')).text).to.equal('plain\né\n');
  });

  it('keys of bytes: one key written in two ways in a file is one, and the later line wins', async () => {
    const lines = ['{"key":"é","value":1}', '{"key":{"base64":"w6k="},"value":2}', ''];
    const endpoint = ['--endpoint', cluster.endpoints[0] ?? '', '-q', '-o', 'json'];
    const { text } = await kvctl(['import', '-', '--batch', '2', ...endpoint], lines.join('\n'));
    expect(JSON.parse(text)).to.include({ records: 2, retries: 0, failed: 0 });
    expect((await client.get('é'))?.value).to.equal(2);
  });

  it('keys of bytes: a line of a batch that is no base64 is named', async () => {
    const args = ['batch', 'get', '-', '--base64-keys', '--endpoint', cluster.endpoints[0] ?? ''];
    expect(await kvctl(args, 'YQ==\nzz\n')).to.include({
      code: 2,
      stderr: 'kvctl: line 2: --base64-keys: expected padded base64, found zz\n',
    });
  });

  const wrong = ['{"base64":7}', '{"base64":"_w"}', '{"hex":"ff"}', '7', 'null', '[]'];
  for (const key of wrong)
    it(`keys of bytes: a line whose key is ${key} is named by an import`, async () => {
      const endpoint = ['--endpoint', cluster.endpoints[0] ?? '', '-q'];
      const { code, stderr } = await kvctl(
        ['import', '-', ...endpoint],
        `{"key":${key},"value":1}\n`,
      );
      expect(code).to.equal(1);
      expect(stderr).to.contain(
        'kvctl: line 1: key: expected text, or {"base64": "..."} with its bytes\n',
      );
    });
});
