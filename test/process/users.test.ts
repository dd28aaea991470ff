// Users over real processes: begun with the token of a file, used through both faces of two nodes, a
// token revoked at one node and refused at the other, all of it known after kill -9.

import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { connect, type KvdClient } from '../../cli/client/kvd-client.ts';
import { kvctl } from '../kit-kvctl.ts';
import { command, exchange } from '../kit-resp.ts';
import { DevCluster } from './dev-cluster.ts';
import { kvdPath, runProgram } from './run-program.ts';
import { codeOf } from '../kit-client.ts';

describe('process: users', function () {
  this.timeout(120_000);
  const directory = mkdtempSync(join(tmpdir(), 'kvd-users-'));
  const file = (name: string): string => join(directory, name);
  let cluster: DevCluster;

  before(async () => {
    const made = await runProgram(kvdPath, ['token', '--out', file('boot')]);
    expect(made.code, made.stderr).to.equal(0);
    expect(statSync(file('boot')).mode & 0o077).to.equal(0);
    const auth = ['--auth', 'required', '--auth-bootstrap-token-file', file('boot')];
    cluster = await DevCluster.start({ nodes: 2, extra: auth });
  });
  after(async () => {
    await cluster.stop();
    cluster.remove();
    rmSync(directory, { recursive: true, force: true });
  });

  const tokenIn = (name: string): string => readFileSync(file(name), 'utf8').trim();
  const run = async (name: string, ...args: readonly string[]) => {
    const [endpoint = ''] = cluster.endpoints;
    return kvctl(['--endpoint', endpoint, '--token-file', file(name), ...args]);
  };
  async function withClient<T>(
    node: number,
    name: string,
    work: (client: KvdClient) => Promise<T>,
  ): Promise<T> {
    const options = { token: tokenIn(name), namespace: 'a' };
    const client = await connect(cluster.endpoints[node] ?? '', options);
    try {
      return await work(client);
    } finally {
      client.close();
    }
  }
  const redis = (node: number, name: string, ...args: readonly string[]): Promise<string> =>
    exchange(
      cluster.basePort + 10 * node + 1,
      command('AUTH', tokenIn(name)),
      command('SELECT', '1'),
      command(...args),
    );

  it('process: users are made with kvctl, and a token that is revoked at one node counts at none', async () => {
    const endpoint = cluster.endpoints[0] ?? '';
    expect((await kvctl(['--endpoint', endpoint, 'get', 'k'])).stderr).to.match(/Bearer/);
    expect((await run('boot', 'get', 'k')).code).to.equal(1);
    const first = await run(
      'boot',
      'user',
      'create',
      'root',
      '--admin',
      '--save-token',
      file('root'),
    );
    expect(first.code, first.stderr).to.equal(0);
    expect(first.text).to.not.contain(tokenIn('root'));
    expect((await run('boot', 'user', 'create', 'more', '--admin')).code).to.equal(1);
    expect((await run('root', 'ns', 'create', 'a')).code).to.equal(0);
    const ada = await run(
      ...([
        'root',
        'user',
        'create',
        'ada',
        '--role',
        'a=write',
        '--save-token',
        file('ada'),
      ] as const),
    );
    expect(ada.code, ada.stderr).to.equal(0);

    await withClient(1, 'ada', async (client) => {
      await client.put('k', 'v');
      expect(await codeOf(client.inNamespace('default').get('k'))).to.equal('FORBIDDEN');
      expect(await codeOf(client.namespaces.create('b'))).to.equal('FORBIDDEN');
    });
    expect(await redis(1, 'ada', 'GET', 'k')).to.equal('+OK\r\n+OK\r\n$3\r\n"v"\r\n');

    const shown = await run('root', '-o', 'json', 'user', 'get', 'ada');
    const { tokens } = JSON.parse(shown.text) as { tokens: { id: string }[] };
    expect(
      (await run('root', 'user', 'token', 'revoke', 'ada', tokens[0]?.id ?? '')).code,
    ).to.equal(0);
    // Both nodes are there, so both act by it when the command returns.
    for (const node of [0, 1])
      expect(await redis(node, 'ada', 'GET', 'k')).to.match(
        /^-WRONGPASS .*\r\n-NOAUTH .*\r\n-NOAUTH/,
      );
    expect(await codeOf(withClient(1, 'ada', (client) => client.get('k')))).to.equal(
      'UNAUTHORIZED',
    );

    await cluster.killAll();
    await cluster.launch();
    expect(await codeOf(withClient(1, 'ada', (client) => client.get('k')))).to.equal(
      'UNAUTHORIZED',
    );
    await withClient(1, 'root', async (client) => {
      expect((await client.get('k'))?.value).to.equal('v');
    });
    const audit = readFileSync(
      join(cluster.dataDir, 'n1', 'audit', 'audit-00000001.jsonl'),
      'utf8',
    );
    expect(audit).to.match(
      /"user":"root","address":"127.0.0.1","act":"token-revoke","target":"ada","outcome":"done"/,
    );
    expect(audit).to.match(
      /"user":"bootstrap".*"act":"user-create","target":"root","outcome":"done"/,
    );
    const logs = cluster.logs() + audit;
    for (const name of ['boot', 'root', 'ada'])
      expect(logs).to.not.contain(tokenIn(name).slice(21));
  });

  it('process: a file of a token that others may read is said to be one', async () => {
    const said = `kvctl: ${file('root')} may be read by others: chmod 600 ${file('root')}\n`;
    chmodSync(file('root'), 0o640);
    try {
      expect((await run('root', 'status')).stderr).to.equal(said);
      expect((await run('root', '-q', 'status')).stderr).to.equal('');
    } finally {
      chmodSync(file('root'), 0o600);
    }
    expect((await run('root', 'status')).stderr).to.equal('');
  });
});
