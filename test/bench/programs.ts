// Other servers that a bench starts beside kvd, on free ports of loopback, with their data in a
// temporary folder. All of them are stopped by their pid and the folder goes, also after a failure,
// Ctrl-C or SIGTERM.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freeBasePort } from '../process/dev-cluster.ts';

const startTimeoutMs = 20_000;
const stopTimeoutMs = 10_000;

export const isInstalled = (program: string): boolean =>
  spawnSync(program, ['--version'], { stdio: 'ignore' }).error === undefined;

export class Programs {
  readonly directory = mkdtempSync(join(tmpdir(), 'kvd-bench-'));
  readonly #stops: (() => Promise<unknown>)[] = [];
  readonly #onSignal = (): void => {
    void this.stop().finally(() => process.exit(130));
  };
  #stopped: Promise<void> | undefined;

  constructor() {
    process.once('SIGINT', this.#onSignal);
    process.once('SIGTERM', this.#onSignal);
  }

  /** Its pid. What it says at the end is in the error when it cannot be started. */
  spawn(program: string, args: readonly string[]): ChildProcess {
    const child = spawn(program, args, { stdio: 'ignore' });
    // Without it a program that cannot be started would end the bench before the others are stopped.
    child.on('error', () => undefined);
    this.#stops.push(() => ended(child));
    return child;
  }

  /** Something else that has to be stopped, after what is added later. */
  add(stop: () => Promise<unknown>): void {
    this.#stops.push(stop);
  }

  /** Stops everything, the last one first, each even where another one failed. */
  stop(): Promise<void> {
    this.#stopped ??= (async (): Promise<void> => {
      process.off('SIGINT', this.#onSignal);
      process.off('SIGTERM', this.#onSignal);
      for (const stop of this.#stops.reverse()) await stop().catch(() => undefined);
      rmSync(this.directory, { recursive: true, force: true });
    })();
    return this.#stopped;
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exit = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  const late = setTimeout(() => child.kill('SIGKILL'), stopTimeoutMs);
  await exit;
  clearTimeout(late);
}

/** Asks again and again until `probe` is true; throws when the time is over or a program has ended. */
export async function started(
  what: string,
  children: readonly ChildProcess[],
  probe: () => Promise<boolean>,
): Promise<void> {
  const endMs = performance.now() + startTimeoutMs;
  while (!(await probe().catch(() => false))) {
    const dead = children.find(({ exitCode, pid }) => exitCode !== null || pid === undefined);
    if (dead !== undefined || performance.now() > endMs) throw new Error(`${what} did not start`);
    await sleep(50);
  }
}

/** What a Redis server says to one line, so far as it has come with the first piece. */
export function askRedis(port: number, line: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.setTimeout(1_000, () => socket.destroy(new Error('no answer')));
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('closed')));
    socket.once('data', (chunk) => {
      resolve(chunk.toString());
      socket.destroy();
    });
    socket.write(`${line}\r\n`);
  });
}

export interface RedisServers {
  /** The first one is the one to write to. */
  readonly ports: readonly [number, ...number[]];
  readonly pids: readonly number[];
}

/** redis-server with its log on, and replicas of it; ends when all of them are in line. */
export async function startRedis(
  programs: Programs,
  log: readonly string[],
  replicas = 0,
): Promise<RedisServers> {
  const port = await freeBasePort(1);
  const ports: [number, ...number[]] = [
    port,
    ...Array.from({ length: replicas }, (_, i) => port + 1 + i),
  ];
  const children = ports.map((own, i) =>
    programs.spawn('redis-server', [
      ...['--port', String(own), '--bind', '127.0.0.1', '--dir', programs.directory],
      ...['--dbfilename', `redis-${i}.rdb`, '--appenddirname', `redis-${i}`],
      ...['--save', '', '--appendonly', 'yes', ...log, '--repl-diskless-sync-delay', '0'],
      ...(i === 0 ? [] : ['--replicaof', `127.0.0.1 ${port}`]),
    ]),
  );
  await started('redis-server', children, async () => {
    const said = await askRedis(port, replicas === 0 ? 'PING' : 'INFO replication');
    return replicas === 0
      ? said.startsWith('+PONG')
      : (said.match(/state=online/g) ?? []).length === replicas;
  });
  return { ports, pids: children.map(({ pid }) => pid as number) };
}

export interface EtcdServers {
  readonly ports: readonly number[];
  readonly leaderPort: number;
  readonly pids: readonly number[];
}

/** An etcd cluster of so many members; ends when it has a leader that all of them know. */
export async function startEtcd(programs: Programs, members: number): Promise<EtcdServers> {
  const base = await freeBasePort(members);
  const ports = Array.from({ length: members }, (_, i) => base + 10 * i);
  const url = (port: number): string => `http://127.0.0.1:${port}`;
  const cluster = ports.map((port, i) => `e${i}=${url(port + 1)}`).join(',');
  const children = ports.map((port, i) =>
    programs.spawn('etcd', [
      ...['--name', `e${i}`, '--data-dir', join(programs.directory, `etcd-${i}`)],
      ...['--listen-client-urls', url(port), '--advertise-client-urls', url(port)],
      ...['--listen-peer-urls', url(port + 1), '--initial-advertise-peer-urls', url(port + 1)],
      ...['--initial-cluster', cluster, '--initial-cluster-state', 'new', '--log-level', 'error'],
    ]),
  );
  let leaderPort = 0;
  await started('etcd', children, async () => {
    const statuses = await Promise.all(ports.map((port) => etcdStatus(url(port))));
    leaderPort = ports[statuses.findIndex(({ leader, self }) => leader === self)] ?? 0;
    return leaderPort !== 0 && new Set(statuses.map(({ leader }) => leader)).size === 1;
  });
  return { ports, leaderPort, pids: children.map(({ pid }) => pid as number) };
}

async function etcdStatus(url: string): Promise<{ leader: string | undefined; self: string }> {
  const init = { method: 'POST', body: '{}', signal: AbortSignal.timeout(2_000) };
  const answer = await fetch(`${url}/v3/maintenance/status`, init);
  const status = (await answer.json()) as { leader?: string; header: { member_id: string } };
  return { leader: status.leader, self: status.header.member_id };
}

/** Processor time that these processes have used so far, milliseconds; undefined where no /proc is. */
export function processorMs(pids: readonly number[]): number | undefined {
  try {
    return pids.map(processorMsOf).reduce((sum, ms) => sum + ms, 0);
  } catch {
    return undefined;
  }
}

/** Hundredths of a second, whatever the machine: the unit that Linux shows to programs. */
const tickMs = 10;

function processorMsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The name in parentheses may hold spaces.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * tickMs;
}
