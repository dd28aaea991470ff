// `npm run bench -- resp [--one]`: the Redis face of one node and of three, pipelines of 1, 16 and
// 64 commands; beside it redis-server, with and without a file that is synced each second, when one
// is in the PATH (`--one`: one node of kvd only). Group commit is on for kvd: a SET is on disk when it is answered.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DevCluster, freeBasePort } from '../process/dev-cluster.ts';
import { pipelines, respLoad } from './resp-load.ts';

interface Target {
  readonly name: string;
  readonly port: number;
  readonly stop: () => Promise<void>;
}

const connections = 50;
const keys = 20_000;
const value = 'x'.repeat(100);
const depths = [1, 16, 64] as const;
const requests: Readonly<Record<(typeof depths)[number], number>> = {
  1: 60_000,
  16: 300_000,
  64: 400_000,
};
const key = (n: number): string => `bench:${(n * 7919) % keys}`;

async function kvd(nodes: number): Promise<Target> {
  const cluster = await DevCluster.start({ nodes });
  const stop = async (): Promise<void> => {
    await cluster.stop();
    cluster.remove();
  };
  return { name: `kvd, ${nodes} node${nodes > 1 ? 's' : ''}`, port: cluster.basePort + 1, stop };
}

async function redis(name: string, args: readonly string[]): Promise<Target> {
  const port = await freeBasePort(1);
  const directory = mkdtempSync(join(tmpdir(), 'kvd-redis-'));
  const child: ChildProcess = spawn(
    'redis-server',
    ['--port', String(port), '--bind', '127.0.0.1', '--dir', directory, '--save', '', ...args],
    { stdio: 'ignore' },
  );
  while (!(await answers(port)));
  const stop = async (): Promise<void> => {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    await ended;
    rmSync(directory, { recursive: true, force: true });
  };
  return { name, port, stop };
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.on('error', () => setTimeout(() => resolve(false), 20));
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
  });
}

async function measure({ name, port }: Target): Promise<void> {
  const fill = pipelines(keys / 100, 100, (n) => ['SET', `bench:${n}`, value]);
  await respLoad({ port, connections: 20, depth: 100, requests: keys, pipeline: fill });
  for (const depth of depths)
    for (const verb of ['SET', 'GET'] as const) {
      const pipeline = pipelines(Math.ceil(keys / depth), depth, (n) =>
        verb === 'SET' ? [verb, key(n), value] : [verb, key(n)],
      );
      const options = { port, connections, depth, requests: requests[depth], pipeline };
      const { perSecond, p50Ms, p99Ms, errors } = await respLoad(options);
      process.stdout.write(
        `${name.padEnd(26)} -P ${String(depth).padEnd(3)} ${verb}  ${String(Math.round(perSecond)).padStart(8)} per second  p50 ${p50Ms.toFixed(2)} ms  p99 ${p99Ms.toFixed(2)} ms  errors ${errors}\n`,
      );
    }
}

export async function benchResp(args: readonly string[]): Promise<void> {
  const hasRedis = spawnSync('redis-server', ['--version']).status === 0;
  const starts = [() => kvd(1)];
  if (!args.includes('--one')) {
    starts.push(() => kvd(3));
    if (hasRedis) {
      starts.push(() => redis('redis-server, in memory', []));
      starts.push(() =>
        redis('redis-server, AOF everysec', ['--appendonly', 'yes', '--appendfsync', 'everysec']),
      );
      starts.push(() =>
        redis('redis-server, AOF always', ['--appendonly', 'yes', '--appendfsync', 'always']),
      );
    }
  }
  for (const start of starts) {
    const target = await start();
    try {
      await measure(target);
    } finally {
      await target.stop();
    }
  }
}
