// redis-cli and redis-benchmark, the programs themselves, against a real node. Where one is not
// installed its tests are skipped and say so.

import { expect } from 'chai';
import { spawn, spawnSync } from 'node:child_process';
import { DevCluster } from './dev-cluster.ts';

const has = (program: string): boolean =>
  spawnSync(program, ['--version'], { stdio: 'ignore' }).error === undefined;
/** Of a benchmark on a busy machine, milliseconds. */
const benchmarkMs = 120_000;

interface Ran {
  readonly code: number;
  readonly said: string;
}

function run(program: string, args: readonly string[], stdin = ''): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args);
    let said = '';
    child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    child.on('error', reject);
    child.on('close', (code) => resolve({ code: code ?? 1, said }));
    child.stdin.end(stdin);
  });
}

describe('redis programs', function () {
  this.timeout(180_000);
  let cluster: DevCluster | undefined;
  let port = '';

  before(async () => {
    if (!has('redis-cli') && !has('redis-benchmark')) return;
    cluster = await DevCluster.start({ nodes: 1 });
    port = String(cluster.basePort + 1);
  });
  after(async () => {
    await cluster?.stop();
    cluster?.remove();
  });

  /** What it says to one command, without the last line break. */
  const cli = async (...args: readonly string[]): Promise<string> => {
    const { code, said } = await run('redis-cli', ['-p', port, ...args]);
    expect(code, said).to.equal(0);
    return said.trimEnd();
  };

  const withProgram = (program: string, title: string, work: () => Promise<void>): void => {
    if (has(program)) it(title, work);
    else it.skip(`${title}: ${program} is not installed`);
  };

  withProgram('redis-cli', 'redis-cli: commands one by one, in both versions', async () => {
    for (const version of ['-2', '-3']) {
      expect(await cli(version, 'SET', 'greeting', 'hello world', 'EX', '60')).to.equal('OK');
      expect(await cli(version, 'GET', 'greeting')).to.equal('hello world');
      expect(await cli(version, 'MSET', 'a', '1', 'b', '2')).to.equal('OK');
      expect(await cli(version, 'MGET', 'a', 'b', 'none')).to.equal('1\n2');
      expect(Number(await cli(version, 'TTL', 'greeting'))).to.be.within(1, 60);
      expect(await cli(version, 'INCR', 'a')).to.equal('2');
      expect(await cli(version, 'DEL', 'a', 'b', 'greeting')).to.equal('3');
      expect(await cli(version, 'NOSUCH')).to.match(/^ERR unknown command/);
      expect(await cli(version, 'INCR')).to.match(/^ERR wrong number of arguments/);
    }
  });

  withProgram('redis-cli', 'redis-cli: a script of lines, --scan and --pipe', async () => {
    const script = 'SET one 1\nGET one\nset "two words" "a\\x00b"\nSTRLEN "two words"\n';
    const { said } = await run('redis-cli', ['-p', port], script);
    expect(said.trimEnd().split('\n')).to.deep.equal(['OK', '1', 'OK', '3']);
    const lines = Array.from({ length: 500 }, (_, i) => `SET pipe:${i} ${i}\r\n`).join('');
    const piped = await run('redis-cli', ['-p', port, '--pipe'], lines);
    expect(piped.said).to.contain('errors: 0, replies: 500');
    const found = await cli('--scan', '--pattern', 'pipe:*');
    expect(new Set(found.split('\n')).size).to.equal(500);
  });

  withProgram('redis-benchmark', 'redis-benchmark: its tests of strings, pipelined', async () => {
    const args = [
      '-p',
      port,
      '-t',
      'ping,set,get,incr,mset',
      '-n',
      '2000',
      '-c',
      '20',
      '-r',
      '500',
    ];
    const { code, said } = await run('timeout', [
      ...[String(benchmarkMs / 1000), 'redis-benchmark'],
      ...[...args, '-P', '8', '--csv'],
    ]);
    expect(code, said).to.equal(0);
    const tests = said.split('\n').flatMap((line) => /^"([A-Z_]+[^"]*)","\d/.exec(line)?.[1] ?? []);
    expect(tests, said).to.include.members(['SET', 'GET', 'INCR', 'MSET (10 keys)']);
    expect(said.toLowerCase()).to.not.contain('error');
  });
});
