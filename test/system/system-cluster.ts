// Real `kvd` processes whose connections to each other all run through proxies: node i reaches node
// j only by the proxy (i, j), so the network between any two can be bent without the rest.

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Prng } from '../../runtime/prng.ts';
import { TcpProxy } from './tcp-proxy.ts';

const kvdPath = fileURLToPath(new URL('../../cli/kvd.js', import.meta.url));
/** Ports of one node: REST, then one per thread that others may dial. */
const portsPerNode = 8;
const dialledThreads = 2;
const readyTimeoutMs = 60_000;
const pollMs = 50;

export class SystemCluster {
  readonly nodes: readonly string[];
  readonly directory: string;
  readonly #basePort: number;
  readonly #processes = new Map<string, ChildProcess>();
  readonly #proxies = new Map<string, TcpProxy[]>();

  private constructor(count: number, basePort: number) {
    this.nodes = Array.from({ length: count }, (_, i) => `n${i + 1}`);
    this.#basePort = basePort;
    this.directory = mkdtempSync(join(tmpdir(), 'kvd-system-'));
  }

  /** Starts all nodes and waits until each sees every other. */
  static async start(count: number, basePort: number): Promise<SystemCluster> {
    const cluster = new SystemCluster(count, basePort);
    try {
      await cluster.#openProxies();
      for (const node of cluster.nodes) cluster.startNode(node);
      await cluster.whole();
      return cluster;
    } catch (error) {
      // What listens would keep the process of the test alive.
      await cluster.stop();
      cluster.remove();
      throw error;
    }
  }

  url(node: string): string {
    return `http://127.0.0.1:${this.#port(node)}`;
  }

  /** That of a node drawn from all, also of one that is down. */
  anyUrl(random: Prng): string {
    return this.url(random.pick(this.nodes));
  }

  /** Proxies by which `from` reaches `to`. */
  proxies(from: string, to: string): readonly TcpProxy[] {
    return this.#proxies.get(`${from}>${to}`) ?? [];
  }

  isRunning(node: string): boolean {
    return this.#processes.has(node);
  }

  startNode(node: string): void {
    if (this.#processes.has(node)) return;
    const seeds = this.nodes.map((other) => {
      const port = other === node ? this.#port(node) + 2 : this.#proxyPort(node, other);
      return `${other}@127.0.0.1:${port}`;
    });
    const out = openSync(join(this.directory, `${node}.log`), 'a');
    const child = spawn(
      process.execPath,
      [
        kvdPath,
        ...['--node-id', node, '--cluster-name', 'system', '--seeds', seeds.join(',')],
        ...['--data-dir', join(this.directory, node)],
        ...[
          '--resp-port',
          'off',
          '--http-port',
          String(this.#port(node)),
          '--internode-port',
          String(this.#port(node) + 2),
        ],
        ...['--profile', 'small', '--log-format', 'json'],
        // Small files, so that flushes, compactions and recoveries come often.
        ...['--set', 'memtableBytes=262144', '--set', 'walSegmentBytes=262144'],
        ...[
          '--set',
          'gossipIntervalMs=200',
          '--set',
          'deadAfterMs=5000',
          '--set',
          'suspectAfterMs=2000',
        ],
      ],
      { stdio: ['ignore', out, out] },
    );
    this.#processes.set(node, child);
    child.once('exit', () => {
      if (this.#processes.get(node) === child) this.#processes.delete(node);
    });
  }

  /** SIGKILL; ends when the process is gone. */
  async kill(node: string): Promise<void> {
    const child = this.#processes.get(node);
    if (child === undefined) return;
    const gone = new Promise<void>((resolve) => {
      child.once('exit', () => resolve());
    });
    child.kill('SIGKILL');
    await gone;
  }

  signal(node: string, signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#processes.get(node)?.kill(signal);
  }

  healNetwork(): void {
    for (const proxies of this.#proxies.values()) for (const proxy of proxies) proxy.heal();
  }

  /** Ends when every node runs, is ready and sees every other alive; throws after a minute. */
  async whole(): Promise<void> {
    const deadline = performance.now() + readyTimeoutMs;
    for (const node of this.nodes)
      while (!(await this.#seesAll(node))) {
        if (performance.now() > deadline)
          throw new Error(`${node} does not see the others:\n${this.logTail(node)}`);
        await sleep(pollMs);
      }
  }

  logTail(node: string): string {
    return readFileSync(join(this.directory, `${node}.log`), 'utf8').slice(-4000);
  }

  async stop(): Promise<void> {
    for (const node of this.nodes) await this.kill(node);
    for (const proxies of this.#proxies.values()) for (const proxy of proxies) await proxy.close();
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }

  async #openProxies(): Promise<void> {
    for (const from of this.nodes)
      for (const to of this.nodes) {
        if (from === to) continue;
        const proxies: TcpProxy[] = [];
        this.#proxies.set(`${from}>${to}`, proxies);
        for (let thread = 0; thread < dialledThreads; thread += 1) {
          const proxy = new TcpProxy(this.#port(to) + 2 + thread);
          await proxy.listen(this.#proxyPort(from, to) + thread);
          proxies.push(proxy);
        }
      }
  }

  #port(node: string): number {
    return this.#basePort + portsPerNode * this.nodes.indexOf(node);
  }

  #proxyPort(from: string, to: string): number {
    const { length } = this.nodes;
    const pair = this.nodes.indexOf(from) * length + this.nodes.indexOf(to);
    return this.#basePort + portsPerNode * length + dialledThreads * pair;
  }

  async #seesAll(node: string): Promise<boolean> {
    try {
      const signal = AbortSignal.timeout(1000);
      const answer = await fetch(`${this.url(node)}/api/v1/admin/cluster/status`, { signal });
      const { nodes } = (await answer.json()) as { nodes?: readonly { status: string }[] };
      return nodes?.filter(({ status }) => status === 'alive').length === this.nodes.length;
    } catch {
      return false;
    }
  }
}
