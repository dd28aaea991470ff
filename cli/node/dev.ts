// `kvd dev`: a local cluster for trying things, one process per node as in production. It prints
// where everything listens once every node serves, keeps each node's log in its directory, and
// stops all of them on Ctrl-C or SIGTERM. A node that ends by itself or is killed stays down (that
// is what one tries here); the command to start it again is printed.

import { type ChildProcess, fork } from 'node:child_process';
import { existsSync, mkdirSync, openSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { identityFile } from '../../actors/node/identity.ts';
import { KvError } from '../../runtime/errors.ts';
import { runKvctl } from '../commands/program.ts';
import { loadConfig } from './config.ts';
import { exitCodes } from './exit-codes.ts';

interface DevNode {
  readonly id: string;
  readonly httpPort: number;
  readonly respPort: number;
  readonly internodePort: number;
  readonly directory: string;
  process: ChildProcess | undefined;
}

interface DevOptions {
  readonly nodes: number;
  readonly basePort: number;
  readonly dataDir: string;
  readonly replication: number;
  /** Options of every node that were given: the environment has the others, or the node. */
  readonly given: Readonly<Record<string, string>>;
  readonly set: Readonly<Record<string, number>>;
  readonly load: string | undefined;
  readonly keyField: string | undefined;
  readonly prefix: string;
}

const host = '127.0.0.1';
/** Options of `kvd dev` that are options of a node. */
const handedOn = [
  ...['durability', 'compaction', 'compression', 'walArchive'],
  ...['auth', 'authBootstrapTokenFile'],
];
const portsPerNode = 10;
const stopTimeoutMs = 15_000;
/** A second signal after this ends the nodes without a drain. */
const impatientAfterMs = 1_000;
/** A cluster that does not come together is shown all the same: `kvctl status` says why. */
const meetTimeoutMs = 15_000;
const meetCheckMs = 50;

/** Ends when every node has ended. BAD_REQUEST for options that do not fit. */
export async function runDev(raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = readOptions(raw);
  const nodes = planNodes(options);
  checkBefore(options, nodes);
  const cluster = new DevCluster(nodes, options);
  const stop = (): void => void cluster.stop();
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  const isServing = await cluster.start();
  if (isServing) {
    process.stdout.write(cluster.welcome());
    if (options.load !== undefined) await load(options, nodes);
  }
  process.exitCode = await cluster.ended();
}

function readOptions(raw: Readonly<Record<string, unknown>>): DevOptions {
  const nodes = whole(raw['nodes'], 'nodes', 1, 64);
  const replication =
    raw['replication'] === undefined
      ? Math.min(3, nodes)
      : whole(raw['replication'], 'replication', 1, Math.min(nodes, 9));
  const load = raw['load'] as string | undefined;
  const keyField = raw['keyField'] as string | undefined;
  if (load !== undefined && keyField === undefined)
    throw new KvError('BAD_REQUEST', { field: 'key-field', detail: '--load needs --key-field' });
  const set = raw['set'] as Record<string, number>;
  if (Object.hasOwn(set, 'replicationFactor'))
    throw new KvError('BAD_REQUEST', {
      field: 'set',
      detail: '--set replicationFactor: expected --replication, which kvd dev sets it from',
    });
  return {
    nodes,
    basePort: whole(raw['basePort'], 'base-port', 1, 65_535 - nodes * portsPerNode),
    dataDir: String(raw['dataDir']),
    replication,
    given: givenOf(raw),
    set,
    load,
    keyField,
    prefix: (raw['prefix'] as string | undefined) ?? '',
  };
}

function givenOf(raw: Readonly<Record<string, unknown>>): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of handedOn) {
    const value = raw[name];
    if (typeof value === 'string') found[name] = value;
  }
  return found;
}

function whole(value: unknown, field: string, low: number, high: number): number {
  const number = Number(value);
  if (!Number.isInteger(number) || number < low || number > high)
    throw new KvError('BAD_REQUEST', {
      field,
      detail: `--${field}: expected a whole number from ${low} to ${high}`,
    });
  return number;
}

function planNodes({ nodes, basePort, dataDir }: DevOptions): DevNode[] {
  return Array.from({ length: nodes }, (_, i) => ({
    id: `n${i + 1}`,
    httpPort: basePort + portsPerNode * i,
    respPort: basePort + portsPerNode * i + 1,
    internodePort: basePort + portsPerNode * i + 2,
    directory: join(dataDir, `n${i + 1}`),
    process: undefined,
  }));
}

/** Everything that would keep a node from starting for the same reason everywhere. */
function checkBefore({ dataDir, ...options }: DevOptions, nodes: readonly DevNode[]): void {
  for (const node of nodes) {
    const { flags, set } = nodeOptions(node, nodes, options);
    const { auth } = loadConfig({ file: undefined, environment: process.env, flags, set });
    if (options.load !== undefined && auth !== 'off')
      throw new KvError('BAD_REQUEST', {
        field: 'load',
        detail: '--load needs --auth off: with users, load with kvctl import',
      });
  }
  const found = existsSync(dataDir)
    ? readdirSync(dataDir).filter((name) => existsSync(join(dataDir, name, identityFile)))
    : [];
  if (found.length > 0 && found.length !== nodes.length)
    throw new KvError('DATA_REFUSED', {
      directory: dataDir,
      detail: `${dataDir} holds a cluster of ${found.length} nodes: start it with --nodes ${found.length}, or choose another --data-dir`,
    });
}

/** What `kvd` is told for this node. */
function nodeOptions(
  { id, httpPort, respPort, internodePort, directory }: DevNode,
  nodes: readonly DevNode[],
  { given, replication, set }: Omit<DevOptions, 'dataDir'>,
): { readonly flags: Record<string, string>; readonly set: Record<string, number> } {
  const seeds = nodes.map((node) => `${node.id}@${host}:${node.internodePort}`).join(',');
  return {
    flags: {
      nodeId: id,
      clusterName: 'dev',
      dataDir: directory,
      httpPort: String(httpPort),
      respPort: String(respPort),
      internodePort: String(internodePort),
      seeds,
      ...given,
    },
    set: { ...set, replicationFactor: replication },
  };
}

const flagOf = (name: string): string =>
  `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

class DevCluster {
  readonly #nodes: readonly DevNode[];
  readonly #options: DevOptions;
  #isStopping = false;
  #stoppingSinceMs = 0;
  #exitCode: number = exitCodes.ok;
  #allEnded: (() => void) | undefined;

  constructor(nodes: readonly DevNode[], options: DevOptions) {
    this.#nodes = nodes;
    this.#options = options;
  }

  /** True when every node serves; false when one of them ended before that. */
  async start(): Promise<boolean> {
    process.stdout.write(`starting ${this.#nodes.length} nodes in ${this.#options.dataDir}\n`);
    const serving = await Promise.all(this.#nodes.map((node) => this.#spawn(node)));
    if (serving.every(Boolean)) {
      await this.#meet();
      return true;
    }
    await this.stop();
    return false;
  }

  /** Until every node has heard of all others: before that a quorum may be refused. */
  async #meet(): Promise<void> {
    const untilMs = performance.now() + meetTimeoutMs;
    const strangers = new Set(this.#nodes);
    while (strangers.size > 0 && performance.now() < untilMs) {
      for (const node of strangers) if (await this.#knowsAll(node)) strangers.delete(node);
      if (strangers.size > 0) await sleep(meetCheckMs);
    }
  }

  async #knowsAll({ httpPort }: DevNode): Promise<boolean> {
    try {
      const answer = await fetch(`http://${host}:${httpPort}/api/v1/admin/cluster/status`);
      // With users nobody may look without a token: whoever asks next tries again by himself.
      if (answer.status === 401) return true;
      const { nodes } = (await answer.json()) as { nodes?: readonly { status: string }[] };
      return nodes?.filter(({ status }) => status === 'alive').length === this.#nodes.length;
    } catch {
      return false;
    }
  }

  welcome(): string {
    const lines = this.#nodes.map(
      ({ id, httpPort, respPort, process: child }) =>
        `  ${id}  http://${host}:${httpPort}  redis://${host}:${respPort}  pid ${child?.pid ?? 0}`,
    );
    const [first] = this.#nodes;
    const endpoint = `http://${host}:${first?.httpPort ?? 0}`;
    const isDefault = first?.httpPort === 7000;
    const flag = isDefault ? '' : ` --endpoint ${endpoint}`;
    return [
      `ready: ${this.#nodes.length} nodes, ${this.#options.replication} copies of each key`,
      ...lines,
      'try next, in another terminal:',
      `  npm run --silent kvctl -- put greeting '"hello"'${flag}`,
      `  npm run --silent kvctl -- get greeting${flag}`,
      `  npm run --silent kvctl -- status${flag}`,
      `  curl ${endpoint}/api/v1/keys/greeting`,
      `  redis-cli -p ${first?.respPort ?? 0} set greeting hello`,
      'Ctrl-C stops all nodes; the data stays and is there at the next start.',
      '',
    ].join('\n');
  }

  /** Asks every node to stop; ends those that do not within 15 seconds. */
  async stop(): Promise<void> {
    if (this.#isStopping) {
      // Ctrl-C and a supervisor may both signal: only a second wish is a wish to end at once.
      if (performance.now() - this.#stoppingSinceMs < impatientAfterMs) return;
      for (const { process: child } of this.#nodes) child?.kill('SIGKILL');
      return;
    }
    this.#isStopping = true;
    this.#stoppingSinceMs = performance.now();
    process.stdout.write('stopping\n');
    for (const { process: child } of this.#nodes) child?.kill('SIGTERM');
    const late = setTimeout(() => {
      for (const { process: child } of this.#nodes) child?.kill('SIGKILL');
    }, stopTimeoutMs);
    await this.ended();
    clearTimeout(late);
  }

  ended(): Promise<number> {
    return new Promise((resolve) => {
      const before = this.#allEnded;
      this.#allEnded = () => {
        before?.();
        resolve(this.#exitCode);
      };
      this.#checkEnded();
    });
  }

  #checkEnded(): void {
    if (this.#nodes.every(({ process: child }) => child === undefined)) this.#allEnded?.();
  }

  #spawn(node: DevNode): Promise<boolean> {
    mkdirSync(node.directory, { recursive: true, mode: 0o700 });
    const log = openSync(join(node.directory, 'kvd.log'), 'a', 0o600);
    const child = fork(kvdPath(), this.#arguments(node), {
      stdio: ['ignore', log, log, 'ipc'],
    });
    node.process = child;
    let lastLine = '';
    return new Promise((resolve) => {
      child.on('message', (message: { ready?: boolean; failed?: string }) => {
        if (message.ready === true) resolve(true);
        if (message.failed !== undefined) lastLine = message.failed;
      });
      child.on('exit', (code, signal) => {
        node.process = undefined;
        resolve(false);
        this.#nodeEnded(node, lastLine, code, signal);
      });
    });
  }

  #nodeEnded(node: DevNode, line: string, code: number | null, signal: string | null): void {
    const isAsked = this.#isStopping && code === 0;
    if (!isAsked) {
      const how = signal ?? `exit code ${code ?? 0}`;
      // A node names its own option; here all ports follow from one.
      const why =
        line === '' ? '' : `: ${line.replace(/--(http|resp|internode)-port\b/, '--base-port')}`;
      process.stdout.write(`${node.id} ended (${how})${why}\n`);
      if (!this.#isStopping && line === '')
        process.stdout.write(
          `  start it again: npm run --silent kvd -- ${this.#arguments(node).join(' ')}\n`,
        );
      if (code !== null || !this.#isStopping) this.#exitCode = code ?? exitCodes.crash;
    }
    this.#checkEnded();
  }

  #arguments(node: DevNode): string[] {
    const { flags, set } = nodeOptions(node, this.#nodes, this.#options);
    return [
      ...Object.entries(flags).flatMap(([name, value]) => [flagOf(name), value]),
      ...Object.entries(set).flatMap(([name, value]) => ['--set', `${name}=${value}`]),
    ];
  }
}

function kvdPath(): string {
  return fileURLToPath(new URL('../kvd.js', import.meta.url));
}

/** The same import as `kvctl import`, with its progress bar. */
async function load(options: DevOptions, nodes: readonly DevNode[]): Promise<void> {
  const { load: file, keyField, prefix } = options;
  if (file === undefined || keyField === undefined) return;
  const endpoints = nodes.flatMap(({ httpPort }) => ['--endpoint', `http://${host}:${httpPort}`]);
  await runKvctl(['import', file, '--key-field', keyField, '--prefix', prefix, ...endpoints], {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
  });
}
