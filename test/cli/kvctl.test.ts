// kvctl against servers that answer what the test wants, and against the real gateway.

import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { startCluster, type TestCluster } from '../kit-gateway.ts';
import {
  deadEndpoint,
  type FakeServer,
  kvctl,
  ok,
  problem,
  type Reply,
  startFake,
} from '../kit-kvctl.ts';
import { kvdPath } from '../process/run-program.ts';

const written = ok({ key: 'k', version: 3, timestamp: 1, status: 'success' });

describe('kvctl', () => {
  const servers: FakeServer[] = [];
  const fake = async (...replies: readonly Reply[]): Promise<FakeServer> => {
    const server = await startFake((_request, i) => replies[Math.min(i, replies.length - 1)]);
    servers.push(server);
    return server;
  };
  afterEach(async () => {
    for (const server of servers.splice(0)) await server.close();
  });

  // ---- exit codes --------------------------------------------------------------------------

  const exits: readonly (readonly [string, number, Reply])[] = [
    ['BAD_REQUEST', 1, problem(400, 'BAD_REQUEST')],
    ['TOO_LARGE', 1, problem(413, 'TOO_LARGE')],
    ['NOT_IMPLEMENTED', 1, problem(501, 'NOT_IMPLEMENTED')],
    ['NOT_FOUND', 4, problem(404, 'NOT_FOUND')],
  ];
  for (const [code, exit, reply] of exits)
    it(`kvctl: ${code} ends a put with ${exit}, its code on stderr, and no second attempt`, async () => {
      const server = await fake(reply);
      const run = await kvctl(['put', 'k', '1', '--endpoint', server.url]);
      expect([run.code, run.text]).to.deep.equal([exit, '']);
      expect(run.stderr).to.equal(`kvctl: ${code}: detail of ${code}\n`);
      expect(server.seen.length).to.equal(1);
    });

  it('kvctl: UNAVAILABLE is tried again until the deadline, then ends with 1', async () => {
    const server = await fake(problem(503, 'UNAVAILABLE'));
    const run = await kvctl(['put', 'k', '1', '--endpoint', server.url, '--timeout', '150']);
    expect(run.code).to.equal(1);
    expect(run.stderr).to.contain('UNAVAILABLE');
    expect(server.seen.length).to.be.greaterThan(1);
  });

  it('kvctl: no endpoint that can be reached ends with 3', async () => {
    const endpoints = [await deadEndpoint(), await deadEndpoint()];
    const run = await kvctl(['get', 'k', '--timeout', '100'], '', {
      KVCTL_ENDPOINT: endpoints.join(', '),
    });
    expect(run.code).to.equal(3);
    expect(run.stderr).to.match(/^kvctl: UNREACHABLE: .*ECONNREFUSED/);
  });

  it('kvctl: a write whose answers are lost ends with 5, a read with 3', async () => {
    const server = await fake(undefined);
    const put = await kvctl(['put', 'k', '1', '--endpoint', server.url, '--timeout', '100']);
    expect([put.code, put.stderr.includes('UNKNOWN_OUTCOME')]).to.deep.equal([5, true]);
    const get = await kvctl(['get', 'k', '--endpoint', server.url, '--timeout', '100']);
    expect(get.code).to.equal(3);
  });

  it('kvctl: an unknown outcome stays unknown, whatever a later attempt says', async () => {
    const server = await fake(problem(504, 'TIMEOUT'), problem(400, 'BAD_REQUEST'));
    const run = await kvctl(['put', 'k', '1', '--if-exists', '--endpoint', server.url]);
    expect([run.code, server.seen.length]).to.deep.equal([5, 2]);
  });

  for (const args of [
    ['put', 'k', '1'],
    ['put', 'k', '1', '--context', 'c'],
    ['put', 'k', '1', '--consistency', 'ALL'],
    ['del', 'k'],
  ])
    it(`kvctl: ${args.join(' ')} is sent once where its outcome is unknown`, async () => {
      for (const lost of [problem(504, 'TIMEOUT'), problem(504, 'UNKNOWN_OUTCOME'), undefined]) {
        const server = await fake(lost, written);
        const run = await kvctl([...args, '--endpoint', server.url]);
        expect([run.code, run.text]).to.deep.equal([5, '']);
        expect(server.seen.map(({ headers }) => headers['x-request-id'])).to.deep.equal([
          undefined,
        ]);
      }
    });

  for (const args of [
    ['put', 'k', '1', '--if-not-exists'],
    ['put', 'k', '1', '--consistency', 'serial'],
    ['put', 'k', '1', '--consistency', 'LOCAL_SERIAL', '--request-id', 'mine'],
    ['del', 'k', '--if-match', 'e'],
    ['del', 'k', '--consistency', 'SERIAL'],
  ])
    it(`kvctl: ${args.join(' ')} is sent again under its id (ID-2)`, async () => {
      const server = await fake(undefined, problem(504, 'TIMEOUT'), written);
      const run = await kvctl([...args, '--endpoint', server.url]);
      expect(run.code, run.stderr).to.equal(0);
      const ids = server.seen.map(({ headers }) => headers['x-request-id']);
      expect([ids.length, new Set(ids).size]).to.deep.equal([3, 1]);
      if (args.includes('mine')) expect(ids[0]).to.equal('mine');
      else expect(ids[0]).to.match(/^[0-9a-f-]{36}$/);
    });

  it('kvctl: a request id that would have no effect is refused, and nothing is sent', async () => {
    const server = await fake(written);
    for (const args of [
      ['put', 'k', '1'],
      ['del', 'k'],
      ['put', 'k', '1', '--consistency', 'ALL'],
    ]) {
      const run = await kvctl([...args, '--request-id', 'mine', '--endpoint', server.url]);
      expect(run.code).to.equal(2);
      expect(run.stderr).to.match(
        /^kvctl: --request-id: expected a condition or --consistency SER/,
      );
    }
    expect(server.seen).to.deep.equal([]);
  });

  for (const args of [
    ['nonsense'],
    ['put', 'k'],
    ['put', 'k', '1', '--ttl', '0'],
    ['put', 'k', '1', '--ttl', 'soon'],
    ['put', 'k', '1', '--unknown'],
    ['get', 'k', '-o', 'xml'],
    ['get', 'k', '-o', 'jsonl'],
    ['get', 'k', '--timeout', '-1'],
    ['get', 'k', '--endpoint', 'ftp://x'],
    ['get', 'k', '--endpoint', 'nonsense'],
    ['get', 'k', '--endpoint', 'http://127.0.0.1:1/api/v1'],
    ['get', 'k', '--endpoint', 'http://127.0.0.1:1/?a=1'],
    ['get', 'k', '--endpoint', 'http://ada:secret@127.0.0.1:1'],
    ['import', '/no/such/file'],
    ['import', '-', '--parallel', '0'],
    ['export', '/no/such/directory/file'],
  ])
    it(`kvctl: usage, exit code 2: ${JSON.stringify(args.join(' '))}`, async () => {
      const run = await kvctl(args);
      expect([run.code, run.text]).to.deep.equal([2, '']);
      expect(run.stderr).to.not.equal('');
    });

  for (const args of [
    ['--nonsense'],
    ['-x'],
    ['-o', 'json', '--nonsense'],
    ['-o', 'xml'],
    ['--ns'],
  ])
    it(`kvctl: without a command ${args.join(' ')} opens no prompt, but is refused`, async () => {
      const run = await kvctl(args, 'get a\n');
      expect([run.code, run.text]).to.deep.equal([2, '']);
      expect(run.stderr).to.match(/^error: /);
    });

  it('kvctl: says its version, which is that of the package and of kvd', async () => {
    const file = new URL('../../../package.json', import.meta.url);
    const { version } = JSON.parse(readFileSync(file, 'utf8')) as { readonly version: string };
    for (const flag of ['--version', '-V'])
      expect(await kvctl([flag])).to.include({ code: 0, text: `${version}\n`, stderr: '' });
    const { stdout } = await promisify(execFile)(process.execPath, [kvdPath, '--version']);
    expect(stdout).to.equal(`${version}\n`);
  });

  it('kvctl: help is no mistake, and a command of later says so', async () => {
    const help = await kvctl(['--help']);
    expect([help.code, help.text.includes('import [options] <file>')]).to.deep.equal([0, true]);
    for (const name of ['join', 'rebalance', 'replace']) {
      const run = await kvctl([name, 'a', '--b']);
      expect(run).to.include({
        code: 1,
        text: '',
        stderr: `kvctl: ${name}: not implemented yet\n`,
      });
    }
  });

  // ---- fail-over ---------------------------------------------------------------------------

  it('kvctl: an endpoint that refuses or has no replicas is passed over, by a read one that resets', async () => {
    const dead = await deadEndpoint();
    const resets = await fake(undefined);
    const unavailable = await fake(problem(503, 'UNAVAILABLE'));
    const good = await fake(written);
    const put = (...urls: readonly string[]): ReturnType<typeof kvctl> =>
      kvctl(['put', 'k', '1', ...urls.flatMap((url) => ['--endpoint', url])]);
    expect(await put(dead, unavailable.url, good.url)).to.include({
      code: 0,
      text: 'OK version 3\n',
    });
    for (const server of [unavailable, good]) expect(server.seen.length).to.equal(1);
    // A write may have been done there, a read does no harm elsewhere.
    expect((await put(resets.url, good.url)).code).to.equal(5);
    expect([resets.seen.length, good.seen.length]).to.deep.equal([1, 1]);
    const get = ['get', 'k', '--endpoint', resets.url, '--endpoint', good.url];
    expect((await kvctl(get)).code).to.equal(0);
    expect([resets.seen.length, good.seen.length]).to.deep.equal([2, 2]);
  });

  it('kvctl: an overloaded node is asked again, not the next one', async () => {
    const busy = await fake(problem(429, 'OVERLOADED'), written);
    const other = await fake(written);
    const run = await kvctl(['put', 'k', '1', '--endpoint', busy.url, '--endpoint', other.url]);
    expect([run.code, busy.seen.length, other.seen.length]).to.deep.equal([0, 2, 0]);
  });

  it('kvctl: level, namespace and deadline go out as headers', async () => {
    const server = await fake(written);
    const flags = ['--consistency', 'ALL', '--ns', 'default', '--timeout', '4000'];
    await kvctl(['put', 'k', '1', '--endpoint', server.url, ...flags]);
    const headers = server.seen[0]?.headers ?? {};
    expect(headers).to.include({ 'consistency-level': 'ALL', 'x-namespace': 'default' });
    expect(Number(headers['x-deadline-ms'])).to.be.within(1, 4000);
  });

  it('kvctl: watch and bench wait for an answer as long as --timeout says', async () => {
    const nodes = [{ node_id: 'n1', address: null }];
    const ring = ok({ members: ['n1'], virtual_nodes: 4, replication_factor: 1, nodes });
    let reply: Reply = 'never';
    const server = await startFake(({ url }) => (url === '/api/v1/ring' ? ring : reply));
    servers.push(server);
    const terms = ['--timeout', '777', '--endpoint', server.url];
    const watch = await kvctl(['watch', ...terms]);
    expect([watch.code, watch.stderr.includes('nothing was heard')]).to.deep.equal([3, true]);
    const load = ['--no-fill', '--operations', '1', '--clients', '1'];
    expect((await kvctl(['bench', '-w', 'get', ...load, ...terms])).code).to.equal(1);
    const asked = server.seen.filter(({ url }) => !url.startsWith('/api/v1/watch'));
    for (const { headers } of asked) expect(Number(headers['x-deadline-ms'])).to.be.within(1, 777);
    expect(asked.length).to.be.greaterThan(2);
    reply = problem(503, 'UNAVAILABLE');
    await kvctl(['bench', '-w', 'get', ...load, '--endpoint', server.url, '--timeout', '9000']);
    expect(Number(server.seen.at(-1)?.headers['x-deadline-ms'])).to.be.above(5000);
  });

  // ---- the real gateway --------------------------------------------------------------------

  describe('with a node', () => {
    let cluster: TestCluster;
    const run = (...args: readonly string[]): ReturnType<typeof kvctl> =>
      kvctl([...args, '--endpoint', `http://127.0.0.1:${cluster.port}`]);
    beforeEach(async () => {
      cluster = await startCluster();
    });
    afterEach(async () => {
      await cluster.close();
    });

    it('kvctl: a JSON value is stored as it is written, any other text as a string', async () => {
      for (const [value, stored] of [
        ['{"b": 1.0, "a":12345678901234567890}', '{"b": 1.0, "a":12345678901234567890}'],
        ['42', '42'],
        ['hello "you"', '"hello \\"you\\""'],
        ['"quoted"', '"quoted"'],
      ] as const) {
        expect((await run('put', 'a/b c', value)).code).to.equal(0);
        expect((await run('get', 'a/b c')).text).to.equal(`${stored}\n`);
      }
    });

    it('kvctl: odd keys survive the path (dots, percent, beyond ASCII, question mark)', async () => {
      for (const key of ['.', '..', '...', '100%', 'a?b=c#d', 'é 🔑', '+']) {
        expect((await run('put', key, JSON.stringify(key))).code, key).to.equal(0);
        expect((await run('get', key)).text).to.equal(`${JSON.stringify(key)}\n`);
      }
      expect(cluster.backend.records.size).to.equal(7);
    });

    it('kvctl: bytes from stdin come back as they were, with no newline added', async () => {
      const bytes = Buffer.from([0, 255, 10, 13, 10]);
      const endpoint = ['--endpoint', `http://127.0.0.1:${cluster.port}`];
      const put = await kvctl(['put', 'k', '-', '--raw-bytes', '--ttl', '9', ...endpoint], bytes);
      expect(put.code).to.equal(0);
      expect([...(await run('get', 'k')).stdout]).to.deep.equal([...bytes]);
      expect(JSON.parse((await run('get', 'k', '-o', 'json')).text)).to.include({
        value: bytes.toString('base64'),
        encoding: 'base64',
        ttl_remaining: 9,
      });
    });

    it('kvctl: what is no UTF-8 is stored with --raw-bytes alone', async () => {
      const args = ['put', 'k', '-', '--endpoint', `http://127.0.0.1:${cluster.port}`];
      const refused = await kvctl(args, Uint8Array.from([0x61, 0xff]));
      expect(refused).to.include({
        code: 2,
        stderr: 'kvctl: value: expected UTF-8; --raw-bytes stores any bytes\n',
      });
      expect(cluster.backend.records.size).to.equal(0);
    });

    it('kvctl: bytes are shown as their text, or named as base64', async () => {
      const endpoint = ['--endpoint', `http://127.0.0.1:${cluster.port}`];
      const put = (key: string, bytes: Uint8Array): Promise<unknown> =>
        kvctl(['put', key, '-', '--raw-bytes', ...endpoint], bytes);
      await put('a', Buffer.from('é x'));
      await put('b', Uint8Array.from([0x1b, 0x5b]));
      await put('c', Uint8Array.from([0xff]));
      expect((await run('list', '--values')).text).to.equal(
        'a\té x\nb\tbase64:G1s=\nc\tbase64:/w==\n',
      );
      const table = (await run('list', '--values', '-o', 'table')).text;
      expect(table)
        .to.match(/│ a .*│ é x +│/)
        .and.to.contain('base64:G1s=');
      expect((await run('get', 'b', '-o', 'table')).text).to.contain('│ base64:G1s= │');
      expect((await run('get', 'a', '-o', 'table')).text).to.contain('│ é x');
      expect([...(await run('get', 'b')).stdout]).to.deep.equal([0x1b, 0x5b]);
      await run('put', 'd\u001b', '{\n"a": 1}');
      const row = (await run('get', 'd\u001b', '-o', 'table')).text;
      expect(row).to.match(/│ d\\u001b │.*│ \{ "a": 1\} │/);
    });

    it('kvctl: del goes on after a key whose condition does not hold', async () => {
      const fakeCluster = await startFake(({ url }) =>
        url.endsWith('/b') ? problem(409, 'CONFLICT') : ok({ key: 'k', deleted: true, version: 1 }),
      );
      servers.push(fakeCluster);
      const args = ['del', 'a', 'b', 'c', '--if-exists', '--endpoint', fakeCluster.url];
      const result = await kvctl(args);
      expect(result).to.deep.include({ code: 1, text: 'deleted\ndeleted\n' });
      expect(result.stderr).to.equal('kvctl: b: CONFLICT: detail of CONFLICT\n');
    });

    it('kvctl: a value from stdin loses the one newline that echo adds', async () => {
      const endpoint = ['--endpoint', `http://127.0.0.1:${cluster.port}`];
      await kvctl(['put', 'k', '-', ...endpoint], 'plain text\n');
      expect((await run('get', 'k')).text).to.equal('"plain text"\n');
    });

    it('kvctl: get, exists and del of what is not there', async () => {
      const get = await run('get', 'none');
      expect([get.code, get.text]).to.deep.equal([4, '']);
      expect(get.stderr).to.equal('kvctl: NOT_FOUND: there is no such key\n');
      const exists = await run('exists', 'none');
      expect([exists.code, exists.text, exists.stderr]).to.deep.equal([4, 'false\n', '']);
      await run('put', 'k', '1');
      expect(await run('exists', 'k')).to.include({ code: 0, text: 'true\n' });
      expect(await run('del', 'k', 'none')).to.include({ code: 0, text: 'deleted\nnot there\n' });
    });

    it('kvctl: quiet says nothing but what was asked for', async () => {
      expect(await run('put', 'k', '1', '-q')).to.include({ code: 0, text: '', stderr: '' });
      expect((await run('get', 'k', '-q')).text).to.equal('1\n');
    });

    it('kvctl: list and scan go over all pages, and stop at a limit', async () => {
      for (let i = 0; i < 12; i += 1)
        await run('put', `p:${String(i).padStart(2, '0')}`, String(i));
      await run('put', 'q', '"other"');
      const keys = Array.from({ length: 12 }, (_, i) => `p:${String(i).padStart(2, '0')}`);
      expect((await run('list', '--prefix', 'p:')).text).to.equal(`${keys.join('\n')}\n`);
      expect((await run('scan')).text).to.equal(`${keys.join('\n')}\nq\n`);
      expect((await run('list', '--limit', '2', '--values')).text).to.equal('p:00\t0\np:01\t1\n');
      expect((await run('list', '--limit', '1', '-o', 'jsonl')).text).to.equal('"p:00"\n');
      for (const command of ['list', 'scan']) {
        const document = JSON.parse(
          (await run(command, '--values', '-o', 'json')).text,
        ) as object[];
        expect([document.length, document[1]]).to.deep.equal([13, { key: 'p:01', value: 1 }]);
      }
      expect((await run('list', 'none', '-o', 'json')).text).to.equal('[]\n');
      const both = await run('list', 'p:', '--prefix', 'q');
      expect([both.code, both.text]).to.deep.equal([2, '']);
      const table = (await run('list', '--prefix', 'q', '--values', '-o', 'table')).text;
      expect(table).to.match(/│ q +│ 1 +│ - +│ "other" +│/);
    });

    it('kvctl: status and ring as table, JSON and raw', async () => {
      const table = await run('status');
      expect(table.text).to.match(/│ n1 +│ 127\.0\.0\.1:7000 +│ alive/);
      expect(table.text).to.contain('about 100 keys, 1 copies of each, epoch 1');
      expect(JSON.parse((await run('status', '-o', 'json')).text)).to.include({ total_keys: 100 });
      expect((await run('ring', '-o', 'raw')).text).to.equal('n1\t127.0.0.1:7000\t100.00 %\n');
    });

    it('kvctl: the launcher runs as a program and hands on the exit code', async () => {
      const launcher = fileURLToPath(new URL('../../cli/kvctl.js', import.meta.url));
      const endpoint = ['--endpoint', `http://127.0.0.1:${cluster.port}`];
      const execute = promisify(execFile);
      await execute(process.execPath, [launcher, 'put', 'k', '[1]', ...endpoint]);
      const { stdout } = await execute(process.execPath, [launcher, 'get', 'k', ...endpoint]);
      expect(stdout).to.equal('[1]\n');
      const failed = execute(process.execPath, [launcher, 'get', 'none', ...endpoint]);
      const error = await failed.then(
        () => undefined,
        (reason: unknown) => (reason as { code: number }).code,
      );
      expect(error).to.equal(4);
    });
  });
});
