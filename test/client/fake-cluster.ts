// Three servers that answer what the test wants, and a ring over them as a cluster tells it.

import { ClientError } from '../../cli/client/kvd-client.ts';
import { parseTopology, replicaUrls, type Topology } from '../../cli/client/topology.ts';
import { type FakeServer, ok, type Reply, type SeenRequest, startFake } from '../kit-kvctl.ts';

const names = ['n1', 'n2', 'n3'];
export const written: Reply = {
  ...okReply({ key: 'k', version: 3, timestamp: 5 }),
  headers: { etag: '"e-1-1"' },
};
export const value: Reply = {
  ...okReply({ key: 'k', value: { a: [1] }, version: 3, timestamp: 5, ttl_remaining: 9 }),
  headers: { etag: '"e-1-1"' },
};

export function okReply(body: unknown): Exclude<Reply, 'never' | undefined> {
  return ok(body) as Exclude<Reply, 'never' | undefined>;
}

export class FakeCluster {
  readonly nodes: FakeServer[] = [];
  /** What each node answers to requests that are not about the ring. */
  readonly replies: ((request: SeenRequest) => Reply)[] = [];
  topology: Topology | undefined;

  static async start(): Promise<FakeCluster> {
    const cluster = new FakeCluster();
    for (let i = 0; i < names.length; i += 1) {
      cluster.replies.push(() => value);
      cluster.nodes.push(
        await startFake((request) =>
          request.url === '/api/v1/ring' ? ok(cluster.ring()) : cluster.replies[i]?.(request),
        ),
      );
    }
    cluster.topology = parseTopology(Buffer.from(JSON.stringify(cluster.ring())));
    return cluster;
  }

  ring(): object {
    const nodes = names.map((node_id, i) => ({
      node_id,
      address: this.nodes[i]?.url.slice('http://'.length) ?? null,
    }));
    return { members: names, virtual_nodes: 16, replication_factor: 2, nodes };
  }

  /** A key whose replicas are these nodes, by their places in the list. */
  keyAt(...order: number[]): string {
    for (let i = 0; ; i += 1) {
      const hosts = replicaUrls(this.topology as Topology, `k${i}`).map(({ host }) => host);
      const wanted = order.map((node) => this.nodes[node]?.url.slice('http://'.length));
      if (hosts.join() === wanted.join()) return `k${i}`;
    }
  }

  /** Requests about keys by node, as method and path. */
  asked(): string[][] {
    return this.nodes.map(({ seen }) =>
      seen.filter(({ url }) => url !== '/api/v1/ring').map(({ method }) => method),
    );
  }

  async close(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.close()));
  }
}

export async function failureOf(promise: Promise<unknown>): Promise<ClientError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof ClientError) return error;
    throw error;
  }
  throw new Error('expected a failure');
}
