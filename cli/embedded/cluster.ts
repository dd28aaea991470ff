// `kvd/embedded`: a whole cluster inside the process that asks for it, for the tests of its users.
// The nodes are the real ones, each on a thread of its own with its own files and its own sockets on
// loopback; only the launcher is missing. Two things make it quick to start: small memtables, and
// gossip ten times a second.
//
//   const cluster = await createCluster({ nodes: 3 });
//   await cluster.client.put('a', 1);
//   await cluster.stop();

import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { KvError } from '../../runtime/errors.ts';
import { connect, type KvdClient } from '../client/kvd-client.ts';
import { loadConfig, type NodeConfig } from '../node/config.ts';
import type { NodeMessage } from './cluster-node.ts';

export interface ClusterOptions {
  /** 1 to 9. Default 3. */
  readonly nodes?: number;
  /** Copies of each key. Default 3, or the number of nodes if that is lower. */
  readonly replicationFactor?: number;
  /** Where the nodes keep their files. Default: a new directory that `stop` removes. */
  readonly directory?: string;
  /** Settings of docs/configuration.md. */
  readonly settings?: Readonly<Record<string, number>>;
  readonly durability?: 'group' | 'periodic' | 'none';
}

const quickSettings = { memtableBytes: 4 * 1024 * 1024, walSegmentBytes: 4 * 1024 * 1024 };
const gossipIntervalMs = 100;
const readyPollMs = 5;
const readyTimeoutMs = 30_000;

/** Starts a cluster and answers when every node knows of all others. */
export async function createCluster(options: ClusterOptions = {}): Promise<EmbeddedCluster> {
  const { nodes = 3, directory } = options;
  if (!Number.isInteger(nodes) || nodes < 1 || nodes > 9)
    throw new KvError('BAD_REQUEST', { field: 'nodes', detail: 'nodes: expected 1 to 9' });
  const isOwn = directory === undefined;
  const root = directory ?? mkdtempSync(join(tmpdir(), 'kvd-cluster-'));
  const configs = await configsOf(options, nodes, root);
  const members = configs.map((config) => new EmbeddedNode(config));
  try {
    await Promise.all(members.map((member) => member.start()));
    const client = await connect(members.map(({ url }) => url));
    const cluster = new EmbeddedCluster(members, client, isOwn ? root : undefined);
    await cluster.settled();
    return cluster;
  } catch (error) {
    for (const member of members) await member.kill();
    if (isOwn) rmSync(root, { recursive: true, force: true });
    throw error;
  }
}

async function configsOf(
  { replicationFactor, settings, durability = 'group' }: ClusterOptions,
  nodes: number,
  root: string,
): Promise<NodeConfig[]> {
  const ports = await freePorts(3 * nodes);
  const ids = Array.from({ length: nodes }, (_, i) => `n${i + 1}`);
  const seeds = ids.map((id, i) => `${id}@127.0.0.1:${ports[3 * i + 1] ?? 0}`).join(',');
  const set = {
    ...quickSettings,
    gossipIntervalMs,
    replicationFactor: replicationFactor ?? Math.min(3, nodes),
    ...settings,
  };
  return ids.map((nodeId, i) => {
    const flags = {
      nodeId,
      seeds,
      durability,
      clusterName: 'embedded',
      dataDir: join(root, nodeId),
      httpPort: ports[3 * i],
      internodePort: ports[3 * i + 1],
      respPort: ports[3 * i + 2],
      profile: 'single',
      shards: 1,
      logLevel: 'error',
    };
    return loadConfig({ file: undefined, environment: {}, flags, set });
  });
}

/** Ports that nobody uses now: all are open at the same time, so none comes twice. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports: number[] = [];
  for (const server of servers) {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(0, '127.0.0.1', resolve);
    });
    const address = server.address();
    ports.push(address !== null && typeof address === 'object' ? address.port : 0);
  }
  for (const server of servers)
    await new Promise((resolve) => {
      server.close(resolve);
    });
  return ports;
}

/** One node of the cluster, running or not. */
export class EmbeddedNode {
  readonly id: string;
  readonly url: string;
  /** For Redis clients: `redis://127.0.0.1:port`. */
  readonly redisUrl: string;
  readonly directory: string;
  readonly #config: NodeConfig;
  #worker: Worker | undefined;
  #failure: string | undefined;

  constructor(config: NodeConfig) {
    this.#config = config;
    this.id = config.nodeId;
    this.url = `http://${config.host}:${config.httpPort}`;
    this.redisUrl = `redis://${config.host}:${config.respPort ?? 0}`;
    this.directory = config.dataDir;
  }

  get isRunning(): boolean {
    return this.#worker !== undefined;
  }

  /** Why the node ended by itself; undefined where it did not. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** Starts the node on its files; the others see it when `settled` of the cluster says so. */
  async start(): Promise<void> {
    if (this.#worker !== undefined) return;
    this.#failure = undefined;
    const entry = new URL('./cluster-node.js', import.meta.url);
    const worker = new Worker(entry, { workerData: this.#config, execArgv: [], name: this.id });
    this.#worker = worker;
    await new Promise<void>((resolve, reject) => {
      const fail = (reason: string): void => {
        this.#failure = reason;
        this.#worker = undefined;
        reject(new KvError('UNAVAILABLE', { node: this.id, detail: `${this.id}: ${reason}` }));
        void worker.terminate();
      };
      worker.on('message', (message: NodeMessage) => {
        if (message.kind === 'ready') resolve();
        else if (message.kind === 'failed') fail(message.reason);
      });
      worker.once('error', (error) => fail(String(error)));
    });
  }

  /** As SIGTERM: finishes its requests, says goodbye, flushes. */
  async stop(): Promise<void> {
    const worker = this.#worker;
    if (worker === undefined) return;
    await new Promise<void>((resolve) => {
      worker.on('message', () => resolve());
      worker.once('exit', () => resolve());
      worker.postMessage('stop');
    });
    await this.kill();
  }

  /** As kill -9: nothing is finished, nobody is told; what was acknowledged is in its files. */
  async kill(): Promise<void> {
    const worker = this.#worker;
    this.#worker = undefined;
    await worker?.terminate();
  }
}

export class EmbeddedCluster {
  readonly nodes: readonly EmbeddedNode[];
  readonly client: KvdClient;
  readonly #ownRoot: string | undefined;

  constructor(nodes: readonly EmbeddedNode[], client: KvdClient, ownRoot: string | undefined) {
    this.nodes = nodes;
    this.client = client;
    this.#ownRoot = ownRoot;
  }

  /** Base URLs, for curl and other clients. */
  get endpoints(): readonly string[] {
    return this.nodes.map(({ url }) => url);
  }

  /** Returns when every running node takes every running node for alive; throws after 30 s. */
  async settled(): Promise<void> {
    const running = this.nodes.filter(({ isRunning }) => isRunning);
    const ids = running.map(({ id }) => id);
    const deadline = performance.now() + readyTimeoutMs;
    for (const { id, url } of running)
      while (!(await knows(url, ids))) {
        if (performance.now() > deadline)
          throw new KvError('TIMEOUT', { node: id, detail: `node ${id} does not see the others` });
        await sleep(readyPollMs);
      }
  }

  /** Stops every node, closes the client and removes the files if they are the cluster's own. */
  async stop(): Promise<void> {
    this.client.close();
    await Promise.all(this.nodes.map((node) => node.stop()));
    if (this.#ownRoot !== undefined) rmSync(this.#ownRoot, { recursive: true, force: true });
  }
}

interface Status {
  readonly nodes: readonly { readonly node_id: string; readonly status: string }[];
}

async function knows(url: string, ids: readonly string[]): Promise<boolean> {
  const ready = await fetch(`${url}/readyz`);
  await ready.arrayBuffer();
  if (ready.status !== 200) return false;
  const answer = await fetch(`${url}/api/v1/admin/cluster/status`);
  const { nodes } = (await answer.json()) as Status;
  const alive = nodes.filter(({ status }) => status === 'alive').map((node) => node.node_id);
  return ids.every((id) => alive.includes(id));
}
