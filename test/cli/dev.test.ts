// `kvd dev` as a program: which of its options and of the environment's reach the nodes, and what it
// refuses before it starts any.

import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { DevCluster } from '../process/dev-cluster.ts';
import { kvdPath, runProgram } from '../process/run-program.ts';

type Variables = Readonly<Record<string, string>>;

describe('kvd dev', function () {
  this.timeout(60_000);
  let scratch = '';
  before(() => {
    scratch = mkdtempSync(join(tmpdir(), 'kvd-dev-'));
  });
  after(() => rmSync(scratch, { recursive: true }));

  /** A start that is refused; one that is not is stopped after a while. */
  const refused = (args: readonly string[], env: Variables = {}): Promise<[number, string]> =>
    new Promise((resolve) => {
      const words = [kvdPath, 'dev', '--nodes', '1', '--data-dir', join(scratch, 'no'), ...args];
      const options = { env: { ...process.env, ...env }, timeout: 10_000 };
      execFile(process.execPath, words, options, (error, _stdout, stderr) =>
        resolve([Number(error?.code ?? 0), stderr]),
      );
    });

  /** One node; the launcher hands its environment on. */
  async function withNode(
    extra: readonly string[],
    env: Variables,
    work: (url: string) => Promise<void>,
  ): Promise<void> {
    const own = process.env;
    process.env = { ...own, ...env };
    const cluster = await DevCluster.start({ nodes: 1, extra }).finally(() => {
      process.env = own;
    });
    try {
      await work(cluster.endpoints[0] ?? '');
    } finally {
      await cluster.stop();
      cluster.remove();
    }
  }

  const durabilityAt = async (url: string): Promise<unknown> =>
    ((await (await fetch(`${url}/livez`)).json()) as { readonly durability?: unknown }).durability;

  it('kvd dev: options of the environment hold where no option says something else', async () => {
    const env = { KVD_DURABILITY: 'periodic', KVD_AUTH: 'required' };
    await withNode([], env, async (url) => {
      expect(await durabilityAt(url)).to.equal('periodic');
      expect((await fetch(`${url}/api/v1/keys/k`)).status).to.equal(401);
    });
    await withNode(['--durability', 'none', '--auth', 'off'], env, async (url) => {
      expect(await durabilityAt(url)).to.equal('none');
      expect((await fetch(`${url}/api/v1/keys/k`)).status).to.equal(404);
    });
  });

  for (const name of ['DURABILITY', 'COMPACTION', 'COMPRESSION', 'AUTH'])
    it(`kvd dev: KVD_${name} is looked at`, async () => {
      const [code, said] = await refused([], { [`KVD_${name}`]: 'nonsense' });
      expect(said).to.contain(`${name.toLowerCase()}: expected one of`);
      expect(code).to.equal(2);
    });

  it('kvd dev: users of the environment count for --load too', async () => {
    const load = ['--load', join(scratch, 'none.jsonl'), '--key-field', 'id'];
    const [code, said] = await refused(load, { KVD_AUTH: 'required' });
    expect(said).to.contain('--load needs --auth off');
    expect(code).to.equal(2);
  });

  it('kvd dev: --set replicationFactor is refused with the option that counts', async () => {
    const [code, said] = await refused(['--set', 'replicationFactor=1']);
    expect(said).to.contain('--set replicationFactor: expected --replication');
    expect(code).to.equal(2);
  });

  it('kvd dev: a port that is taken is told with the option that all ports follow from', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const { port } = taken.address() as AddressInfo;
    const words = ['dev', '--nodes', '1', '--data-dir', join(scratch, 'taken')];
    const run = await runProgram(kvdPath, [...words, '--base-port', String(port)]);
    taken.close();
    const said = run.stdout.toString();
    expect(said).to.contain(`port ${port} of 127.0.0.1 is taken`).and.to.contain('--base-port');
    expect(said).to.not.contain('--http-port');
    expect(run.code).to.not.equal(0);
  });
});
