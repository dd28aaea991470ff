// Real processes: `kvd dev` with three nodes, kvctl against it, kill -9 in the middle of an import,
// kill -9 of everything, and what must be there afterwards. With the shared package records where
// they exist (KVD_RECORDS names the file), else with records made here.

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { expect } from 'chai';
import { connect } from '../../cli/client/kvd-client.ts';
import { DevCluster } from './dev-cluster.ts';
import { kvctlPath, kvdPath, type Ran, runProgram } from './run-program.ts';

type Result = Omit<Ran, 'stdout'> & { readonly stdout: string };

async function run(
  path: string,
  args: readonly string[],
  onOutput?: (text: string) => void,
): Promise<Result> {
  const ran = await runProgram(path, args, { onOutput });
  return { ...ran, stdout: ran.stdout.toString() };
}

function madeRecords(count: number): string[] {
  return Array.from({ length: count }, (_, i) =>
    JSON.stringify({ name: `record-${i}`, size: i, text: 'käse'.repeat(1 + (i % 40)) }),
  );
}

/** Up to `count` lines of real records, or made ones. */
function recordLines(count: number): string[] {
  const shared = process.env['KVD_RECORDS'] ?? '../shared/data/packages.jsonl.gz';
  if (!existsSync(shared)) return madeRecords(count);
  return gunzipSync(readFileSync(shared)).toString().split('\n').filter(Boolean).slice(0, count);
}

const nameOf = (line: string): string => (JSON.parse(line) as { name: string }).name;

describe('process: three nodes', function () {
  this.timeout(180_000);
  let cluster: DevCluster;
  let scratch: string;
  const lines = recordLines(12_000);
  const everyEndpoint = (): string[] => cluster.endpoints.flatMap((url) => ['--endpoint', url]);
  const kvctl = (...args: string[]): Promise<Result> =>
    run(kvctlPath, [...args, ...everyEndpoint()]);

  before(async () => {
    scratch = mkdtempSync(join(tmpdir(), 'kvd-records-'));
    writeFileSync(join(scratch, 'records.jsonl'), `${lines.join('\n')}\n`);
    cluster = await DevCluster.start({ nodes: 3 });
  });

  after(async () => {
    await cluster.stop();
    cluster.remove();
    rmSync(scratch, { recursive: true, force: true });
  });

  /** Reads every key of the list through a live node and compares with its line. */
  async function expectAll(acked: readonly string[], endpoint: string): Promise<void> {
    const expected = new Map(lines.map((line) => [`pkg:${nameOf(line)}`, line]));
    const missing: string[] = [];
    for (let i = 0; i < acked.length; i += 500) {
      const keys = acked.slice(i, i + 500);
      const answer = await fetch(`${endpoint}/api/v1/batch/get`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ keys }),
      });
      expect(answer.status).to.equal(200);
      const { results } = (await answer.json()) as {
        results: { key: string; value: unknown; found: boolean; error?: unknown }[];
      };
      expect(results.filter(({ error }) => error !== undefined)).to.deep.equal([]);
      for (const { key, value, found } of results)
        if (!found || JSON.stringify(value) !== expected.get(key)) missing.push(key);
    }
    expect(missing).to.deep.equal([]);
  }

  it('cluster: put, get, exists, list, del through any node', async () => {
    expect(await kvctl('put', 'greeting', '"hello"')).to.include({ code: 0 });
    expect(await kvctl('get', 'greeting')).to.deep.include({ code: 0, stdout: '"hello"\n' });
    expect(await kvctl('exists', 'greeting')).to.include({ code: 0 });
    expect(await kvctl('del', 'greeting')).to.include({ code: 0 });
    expect(await kvctl('get', 'greeting')).to.include({ code: 4 });
  });

  it('cluster: an import survives kill -9 of one node, and of all (records=12,000)', async () => {
    const ackLog = join(scratch, 'acked');
    const killed = { done: false };
    const importing = kvctl(
      ...['import', join(scratch, 'records.jsonl'), '--key-field', 'name'],
      ...['--prefix', 'pkg:', '--ack-log', ackLog],
    );
    // The kill comes once some records are acknowledged and most are not.
    const watch = setInterval(() => {
      if (killed.done || !existsSync(ackLog)) return;
      if (readFileSync(ackLog).length < 20_000) return;
      killed.done = true;
      cluster.kill('n2');
    }, 5);
    const result = await importing;
    clearInterval(watch);
    expect(killed.done, 'the node was killed during the import').to.equal(true);
    expect(result.code, result.stderr + result.stdout).to.equal(0);
    const acked = readFileSync(ackLog, 'utf8').split('\n').filter(Boolean);
    expect(new Set(acked).size).to.equal(new Set(lines.map(nameOf)).size);
    await expectAll(acked, cluster.endpoints[0] as string);

    await cluster.killAll();
    await cluster.launch();
    await expectAll(acked, cluster.endpoints[1] as string);
  });

  it('cluster: a record equals its line byte for byte; lists are in key order', async () => {
    const line = lines[Math.floor(lines.length / 2)] as string;
    const got = await kvctl('get', `pkg:${nameOf(line)}`);
    expect(got.stdout).to.equal(`${line}\n`);
    const listed = await kvctl('list', 'pkg:', '--limit', '5', '-o', 'raw');
    expect(listed.code).to.equal(0);
    const keys = listed.stdout.trim().split('\n');
    const sorted = lines.map((record) => `pkg:${nameOf(record)}`).sort(byBytes);
    expect(keys).to.deep.equal(sorted.slice(0, 5));
  });

  it('cluster: the client library finds the replicas, in a session and without', async () => {
    const client = await connect(cluster.endpoints[0] ?? '');
    try {
      const session = client.session();
      for (let i = 0; i < 50; i += 1) {
        await session.put(`client:${i}`, { i }, { level: 'ONE' });
        expect((await session.get(`client:${i}`, { level: 'SESSION' }))?.value).to.deep.equal({
          i,
        });
      }
      const outcomes = await client.putMany([
        { key: 'client:bytes', value: Buffer.from('raw') },
        { key: 'client:text', value: 'käse', ttlSeconds: 500 },
      ]);
      expect(outcomes.every(({ ok }) => ok)).to.equal(true);
      expect((await client.get('client:bytes'))?.value).to.deep.equal(Buffer.from('raw'));
      expect((await client.getRaw('client:text'))?.bytes.toString()).to.equal('"käse"');
      const listed: string[] = [];
      for await (const key of client.list({ prefix: 'client:', pageRows: 20 })) listed.push(key);
      expect(listed.length).to.equal(52);
      expect(listed).to.deep.equal([...listed].sort());
      expect(await client.delete('client:text')).to.equal(true);
      expect(await client.exists('client:text')).to.equal(false);
    } finally {
      client.close();
    }
  });

  it('cluster: kvctl bench fills, runs its operations and prints figures', async () => {
    const args = ['--records', '300', '--operations', '600', '--prefix', 'load:', '-o', 'json'];
    const result = await kvctl('bench', '-w', 'F', ...args);
    expect(result.code, result.stderr).to.equal(0);
    const figures = JSON.parse(result.stdout) as Record<string, unknown>;
    expect(figures).to.include({ workload: 'F', operations: 600, failed: 0, loop: 'closed' });
    const keys = await kvctl('list', 'load:');
    expect(keys.stdout.trim().split('\n').length).to.equal(300);
  });

  it('cluster: a second process on the same data or port is refused with one line', async () => {
    const dataDir = join(cluster.dataDir, 'n1');
    const busy = await run(kvdPath, ['--data-dir', dataDir, '--http-port', '0']);
    expect(busy.code).to.equal(3);
    expect(busy.stderr.trim().split('\n')).to.have.length(1);
    const port = String(cluster.basePort);
    const taken = await run(kvdPath, [
      ...['--data-dir', join(scratch, 'other'), '--http-port', port],
      ...['--internode-port', String(cluster.basePort + 7)],
    ]);
    expect(taken.code).to.equal(2);
    expect(taken.stderr).to.include(port);
  });

  it('cluster: the launcher refuses what no node would take, before it makes anything', async () => {
    const fresh = join(scratch, 'fresh');
    const bad = await run(kvdPath, ['dev', '--data-dir', fresh, '--durability', 'weekly']);
    expect([bad.code, existsSync(fresh)]).to.deep.equal([2, false]);
    expect(bad.stderr).to.contain('durability: expected one of group, periodic, none');
    const fewer = await run(kvdPath, ['dev', '--data-dir', cluster.dataDir, '--nodes', '2']);
    expect(fewer.code).to.equal(3);
    expect(fewer.stderr).to.contain('start it with --nodes 3');
  });

  it('cluster: SIGTERM ends everything with exit code 0, and another cluster is refused the data', async () => {
    expect(await cluster.stop()).to.equal(0);
    const refused = await run(kvdPath, [
      ...['--data-dir', join(cluster.dataDir, 'n1'), '--cluster-name', 'another'],
      ...['--http-port', '0', '--internode-port', String(cluster.basePort + 2)],
    ]);
    expect(refused.code).to.equal(3);
    expect(refused.stderr).to.include('clusterName');
    await cluster.launch();
    const line = lines[7] as string;
    expect((await kvctl('get', `pkg:${nameOf(line)}`)).stdout).to.equal(`${line}\n`);
  });
});

function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
