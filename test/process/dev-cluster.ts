// A local cluster of real processes, as `kvd dev` starts it, on ports of its own and in a directory
// of its own; for process tests and benchmarks. Waits for the line that says it is ready.

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { kvdPath } from './run-program.ts';

export interface DevOptions {
  readonly nodes: number;
  readonly replication?: number;
  readonly dataDir?: string;
  readonly basePort?: number;
  readonly extra?: readonly string[];
}

export class DevCluster {
  readonly endpoints: readonly string[];
  readonly dataDir: string;
  readonly basePort: number;
  readonly #options: DevOptions;
  readonly #pids = new Map<string, number>();
  #child: ChildProcess | undefined;
  #output = '';

  private constructor(options: DevOptions, basePort: number) {
    this.#options = options;
    this.basePort = basePort;
    this.dataDir = options.dataDir ?? mkdtempSync(join(tmpdir(), 'kvd-test-'));
    this.endpoints = Array.from(
      { length: options.nodes },
      (_, i) => `http://127.0.0.1:${basePort + 10 * i}`,
    );
  }

  /** Ends when every node serves; rejects with the output when the launcher ends before. */
  static async start(options: DevOptions): Promise<DevCluster> {
    const cluster = new DevCluster(
      options,
      options.basePort ?? (await freeBasePort(options.nodes)),
    );
    await cluster.launch();
    return cluster;
  }

  get output(): string {
    return this.#output;
  }

  launch(): Promise<void> {
    const { nodes, replication, extra = [] } = this.#options;
    const child = spawn(process.execPath, [
      kvdPath,
      'dev',
      ...['--nodes', String(nodes), '--base-port', String(this.basePort)],
      ...['--data-dir', this.dataDir],
      ...(replication === undefined ? [] : ['--replication', String(replication)]),
      ...extra,
    ]);
    this.#child = child;
    this.#output = '';
    return new Promise((resolve, reject) => {
      let isReady = false;
      const heard = (chunk: Buffer): void => {
        this.#output += chunk.toString();
        if (isReady || !/^ready/m.test(this.#output) || !this.#output.includes('Ctrl-C')) return;
        for (const [, id, pid] of this.#output.matchAll(/^ {2}(n\d+) .* pid (\d+)$/gm))
          if (id !== undefined) this.#pids.set(id, Number(pid));
        isReady = true;
        resolve();
      };
      child.stdout.on('data', heard);
      child.stderr.on('data', heard);
      child.once('exit', (code) => {
        reject(new Error(`kvd dev ended with ${String(code)}:\n${this.#output}\n${this.logs()}`));
      });
    });
  }

  /** SIGKILL to one node that runs. */
  kill(node: string): void {
    process.kill(this.pid(node), 'SIGKILL');
    this.#pids.delete(node);
  }

  pid(node: string): number {
    const pid = this.#pids.get(node);
    if (pid === undefined) throw new Error(`no pid of ${node} in:\n${this.#output}`);
    return pid;
  }

  /** SIGKILL to every node; ends when the launcher has noticed. */
  async killAll(): Promise<void> {
    const ended = this.#ended();
    for (const node of [...this.#pids.keys()]) this.kill(node);
    await ended;
  }

  /** SIGTERM to the launcher; its exit code. */
  async stop(): Promise<number> {
    const ended = this.#ended();
    this.#child?.kill('SIGTERM');
    return ended;
  }

  logs(): string {
    return [...Array(this.#options.nodes).keys()]
      .map((i) => {
        try {
          return readFileSync(join(this.dataDir, `n${i + 1}`, 'kvd.log'), 'utf8').slice(-4_000);
        } catch {
          return '';
        }
      })
      .join('\n');
  }

  remove(): void {
    rmSync(this.dataDir, { recursive: true, force: true });
  }

  #ended(): Promise<number> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null) return Promise.resolve(0);
    return new Promise((resolve) => {
      child.once('exit', (code) => resolve(code ?? 1));
    });
  }
}

/** A port with room for the nodes after it; the launcher fails loudly if somebody is faster. */
export async function freeBasePort(nodes: number): Promise<number> {
  for (;;) {
    // Below the ports that systems give to outgoing connections: those come and go at any time.
    const base = 12_000 + Math.floor(Math.random() * 18_000);
    const wanted = Array.from({ length: 10 * nodes }, (_, i) => base + i);
    const areFree = await Promise.all(wanted.map(isFree));
    if (areFree.every(Boolean)) return base;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '127.0.0.1' }, () => server.close(() => resolve(true)));
  });
}
