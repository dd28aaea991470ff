// Import and export: every record, byte for byte, and an honest account of what failed.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect } from 'chai';
import fc from 'fast-check';
import { linesOf, unpacked } from '../../cli/client/lines.ts';
import { recordValue } from '../../actors/model/record.ts';
import { startCluster, type TestCluster } from '../kit-gateway.ts';
import { type FakeServer, kvctl, type KvctlRun, ok, problem, startFake } from '../kit-kvctl.ts';

async function* chunksOf(bytes: Buffer, sizes: readonly number[]): AsyncGenerator<Buffer> {
  let at = 0;
  for (let i = 0; at < bytes.length; i += 1) {
    const size = Math.max(1, sizes[i % Math.max(1, sizes.length)] ?? 7);
    yield await Promise.resolve(bytes.subarray(at, at + size));
    at += size;
  }
}

interface Operations {
  readonly operations: readonly { readonly key: string; readonly value: unknown }[];
}

const operationsOf = (body: string): Operations['operations'] =>
  (JSON.parse(body) as Operations).operations;

/** An answer to a batch: `codeOf` a key's error, undefined for success. */
function batchReply(body: string, codeOf: (key: string) => string | undefined): unknown {
  const results = operationsOf(body).map(({ key }) => {
    const code = codeOf(key);
    return code === undefined ? { key, version: 1 } : { key, error: { code, detail: 'refused' } };
  });
  return { success_count: 0, failed_keys: [], results };
}

describe('transfer', () => {
  let directory: string;
  let cluster: TestCluster;
  const servers: FakeServer[] = [];
  const file = (name: string, content: string | Uint8Array): string => {
    const path = join(directory, name);
    writeFileSync(path, content);
    return path;
  };
  const run = (args: readonly string[], stdin: string | Uint8Array = ''): Promise<KvctlRun> =>
    kvctl([...args, '--endpoint', `http://127.0.0.1:${cluster.port}`], stdin);
  const stored = (key: string): string =>
    Buffer.from(recordValue(cluster.backend.records.get(key) as Uint8Array)).toString();

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'kvctl-'));
    cluster = await startCluster();
  });
  afterEach(async () => {
    await cluster.close();
    for (const server of servers.splice(0)) await server.close();
    rmSync(directory, { recursive: true });
  });

  it('lines: any text in any chunks, plain or gzip, gives the lines of a naive split', async () => {
    const line = fc.string({ unit: fc.constantFrom('a', 'é', ' ', '{', '\r'), maxLength: 12 });
    const sizes = fc.array(fc.integer({ min: 1, max: 9 }), { maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(fc.array(line), sizes, fc.boolean(), async (list, chunks, isPacked) => {
        const text = Buffer.from(list.join('\n'));
        const bytes = isPacked ? gzipSync(text) : text;
        const found: string[] = [];
        for await (const one of linesOf(unpacked(chunksOf(bytes, chunks))))
          found.push(one.toString());
        const naive = text.toString().split('\n');
        if (naive.at(-1) === '') naive.pop();
        expect(found).to.deep.equal(naive.map((one) => one.replace(/\r$/, '')));
      }),
    );
  });

  it('import: each line of a gzip file is stored byte for byte under its key (records=2,500)', async () => {
    const lines = Array.from(
      { length: 2500 },
      (_, i) => `{ "size":${i}.50, "name":"pkg-${i}", "big":9007199254740993${i}, "é":"\\u00e9"}`,
    );
    const path = file('records.jsonl.gz', gzipSync(lines.join('\n')));
    const acks = join(directory, 'acks');
    const flags = ['--key-field', 'name', '--prefix', 'p/', '--ack-log', acks];
    const result = await run(['import', path, ...flags]);
    expect([result.code, result.stderr]).to.deep.equal([0, '']);
    const bytes = lines.reduce((sum, one) => sum + Buffer.byteLength(one), 0);
    expect(result.text).to.match(
      new RegExp(
        `^2500 records, ${bytes} bytes in [0-9.]+ s \\(\\d+ records/s\\), 0 retries, 0 failed`,
      ),
    );
    expect(cluster.backend.records.size).to.equal(2500);
    lines.forEach((one, i) => expect(stored(`p/pkg-${i}`)).to.equal(one));
    const acked = readFileSync(acks, 'utf8').trimEnd().split('\n');
    expect(acked.sort()).to.deep.equal(lines.map((_, i) => `p/pkg-${i}`).sort());
    expect((await run(['get', 'p/pkg-7'])).text).to.equal(`${lines[7] as string}\n`);
  });

  it('import: stdin, blank lines, a missing last newline, and whole numbers as keys', async () => {
    const text = '{"id":1}\r\n\n{"id":"two"}\n{"id":3}';
    const result = await run(['import', '-', '--key-field', 'id', '-q'], text);
    expect([result.code, result.text]).to.deep.equal([0, '']);
    expect([...cluster.backend.records.keys()].sort()).to.deep.equal(['1', '3', 'two']);
    expect(stored('1')).to.equal('{"id":1}');
  });

  it('import: of lines with one key the last one stays, as in the file (lines=300)', async () => {
    const lines = Array.from({ length: 300 }, (_, i) => `{"k":"${i % 7}","i":${i}}`);
    const path = file('repeats.jsonl', lines.join('\n'));
    expect((await run(['import', path, '--key-field', 'k', '--batch', '5'])).code).to.equal(0);
    for (let key = 0; key < 7; key += 1) {
      const last = lines.filter((one) => one.startsWith(`{"k":"${key}"`)).at(-1);
      expect(stored(String(key))).to.equal(last);
    }
  });

  it('import: bad lines are named with their numbers, the others are stored', async () => {
    const lines = [
      '{"k":"a"}',
      'nonsense',
      '{"other":1}',
      '{"k":""}',
      '{"k":null}',
      '[1]',
      '{"k":"b"}',
    ];
    const result = await run(['import', file('bad.jsonl', lines.join('\n')), '--key-field', 'k']);
    expect(result.code).to.equal(1);
    for (const line of [2, 3, 4, 5, 6]) expect(result.stderr).to.contain(`kvctl: line ${line}: `);
    expect(result.stderr).to.contain('no text or whole number under "k"');
    expect(result.stderr).to.contain('5 records were not stored');
    expect([...cluster.backend.records.keys()].sort()).to.deep.equal(['a', 'b']);
  });

  it('import: one record that the server refuses does not take its batch with it', async () => {
    const deep = `{"k":"deep","v":${'['.repeat(40)}${']'.repeat(40)}}`;
    const lines = Array.from({ length: 9 }, (_, i) => `{"k":"${i}"}`).toSpliced(4, 0, deep);
    const result = await run(['import', file('deep.jsonl', lines.join('\n')), '--key-field', 'k']);
    expect(result.code).to.equal(1);
    expect(result.stderr).to.contain('kvctl: line 5 (deep): BAD_REQUEST: not the JSON expected');
    expect(cluster.backend.records.size).to.equal(9);
  });

  it('import: only the keys that failed are sent again', async () => {
    const refusedOnce = new Set(['b', 'd']);
    const server = await startFake(({ body }) =>
      ok(batchReply(body, (key) => (refusedOnce.delete(key) ? 'OVERLOADED' : undefined))),
    );
    servers.push(server);
    const text = ['a', 'b', 'c', 'd'].map((k) => `{"k":"${k}"}`).join('\n');
    const args = ['import', '-', '--key-field', 'k', '-o', 'json', '--endpoint', server.url];
    const result = await kvctl(args, text);
    expect(result.code).to.equal(0);
    expect(JSON.parse(result.text)).to.include({ records: 4, retries: 1, failed: 0, unknown: 0 });
    const sent = server.seen.map(({ body }) => operationsOf(body).map(({ key }) => key));
    expect(sent).to.deep.equal([
      ['a', 'b', 'c', 'd'],
      ['b', 'd'],
    ]);
  });

  it('import: a record that is never acknowledged is exit 1, or 5 if it may have happened', async () => {
    const outcome = async (code: string): Promise<KvctlRun> => {
      const server = await startFake(({ body }) =>
        ok(batchReply(body, (key) => (key === 'bad' ? code : undefined))),
      );
      servers.push(server);
      const text = '{"k":"good"}\n{"k":"bad"}';
      return kvctl(['import', '-', '--key-field', 'k', '--endpoint', server.url], text);
    };
    const refused = await outcome('TOO_LARGE');
    expect(refused.code).to.equal(1);
    expect(refused.text).to.contain('1 records, 12 bytes');
    expect(refused.stderr).to.contain('kvctl: line 2 (bad): TOO_LARGE: refused');
    const unknown = await startFake(() => undefined);
    servers.push(unknown);
    const lost = await kvctl(
      ['import', '-', '--key-field', 'k', '--endpoint', unknown.url, '--timeout', '100'],
      '{"k":"x"}',
    );
    expect(lost.code).to.equal(5);
    expect(lost.stderr).to.contain('kvctl: line 1 (x): UNKNOWN_OUTCOME');
  });

  it('import: goes on at the next endpoint when a node is gone', async () => {
    const sick = await startFake((_request, i) =>
      i % 2 === 0 ? undefined : problem(503, 'DRAINING'),
    );
    servers.push(sick);
    const text = Array.from({ length: 50 }, (_, i) => `{"k":"${i}"}`).join('\n');
    const flags = ['--key-field', 'k', '--batch', '10', '--endpoint', sick.url];
    const result = await run(['import', '-', ...flags], text);
    expect([result.code, cluster.backend.records.size]).to.deep.equal([0, 50]);
  });

  it('import: a file that breaks off stores what was read, says so and fails', async () => {
    const text = Array.from({ length: 4000 }, (_, i) => `{"k":"${i}","r":"${i * 7919}"}`).join(
      '\n',
    );
    const packed = gzipSync(text);
    const path = file('cut.jsonl.gz', packed.subarray(0, packed.length >> 1));
    const result = await run(['import', path, '--key-field', 'k']);
    expect(result.code).to.equal(1);
    expect(result.stderr).to.contain('unexpected end of file');
    expect(result.text).to.match(/^\d+ records/);
    expect(cluster.backend.records.size).to.equal(Number(/^\d+/.exec(result.text)?.[0]));
  });

  it('export: what import stored comes back, as records and as the lines themselves', async () => {
    const lines = Array.from(
      { length: 1200 },
      (_, i) => `{"k":"${String(i).padStart(4, '0')}", "x":${i}.0}`,
    );
    await run(['import', file('in.jsonl', `${lines.join('\n')}\n`), '--key-field', 'k']);
    const raw = await run(['export', '-', '-o', 'raw', '-q']);
    expect(raw.text).to.equal(`${lines.join('\n')}\n`);
    const path = join(directory, 'out.jsonl');
    expect((await run(['export', path, '--prefix', '11'])).stderr).to.contain('100 records');
    const exported = readFileSync(path, 'utf8').trimEnd().split('\n');
    expect(exported[0]).to.equal(`{"key":"1100","value":${lines[1100] as string}}`);
    expect(exported.length).to.equal(100);
  });

  it('export: keys that are no UTF-8 go on into an import as they are', async () => {
    const key = { base64: '/v8=' };
    const item = { key, value: 2 };
    const server = await startFake(({ method, body }) =>
      method === 'GET'
        ? ok({ keys: [key], items: [item], cursor: null, has_more: false })
        : ok(batchReply(body, () => undefined)),
    );
    servers.push(server);
    const endpoint = ['--endpoint', server.url, '-q'];
    const exported = await kvctl(['export', '-', ...endpoint]);
    expect(exported).to.include({ text: `${JSON.stringify(item)}\n`, stderr: '' });
    const { code } = await kvctl(['import', '-', ...endpoint], exported.text);
    expect([code, server.seen.length]).to.deep.equal([0, 2]);
    expect(JSON.parse(server.seen[1]?.body ?? '')).to.deep.equal({ operations: [item] });
    const raw = await kvctl(['export', '-', '-o', 'raw', ...endpoint]);
    expect([raw.text, raw.stderr]).to.deep.equal(['2\n', '']);
  });

  it('export: an import of it gives the same records (bytes, time to live, newlines)', async () => {
    await run(['put', 'bytes', '-', '--raw-bytes', '--ttl', '77'], Uint8Array.from([255, 0]));
    await run(['put', 'pretty', '{\n  "a": [\r\n1 ]\n}']);
    const { text } = await run(['export', '-']);
    expect(text.split('\n').length).to.equal(3);
    const before = new Map(cluster.backend.records);
    cluster.backend.records.clear();
    expect((await run(['import', '-', '--prefix', 'copy/'], text)).code).to.equal(0);
    expect(stored('copy/pretty')).to.equal('{   "a": [  1 ] }');
    const copy = cluster.backend.records.get('copy/bytes') as Uint8Array;
    expect([...recordValue(copy)]).to.deep.equal([255, 0]);
    expect(copy.subarray(32, 40)).to.deep.equal(before.get('bytes')?.subarray(32, 40));
  });
});
