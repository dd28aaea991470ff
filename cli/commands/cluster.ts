// Commands on the cluster: status and ring. They print what one node knows; which node that is
// depends on the endpoint that answered.

import type { Command } from 'commander';
import type { Invoke } from './data.ts';
import type { Invocation } from './invocation.ts';

export interface NodeRow {
  readonly node_id: string;
  readonly address: string | null;
  readonly status: string;
  readonly phi: number;
  readonly shards: number;
  readonly keys_count: number;
  readonly memory_used_mb: number;
  readonly disk_used_mb: number;
}

export interface Status {
  readonly nodes: readonly NodeRow[];
  readonly total_keys: number;
  readonly replication_factor: number;
  readonly epoch: number;
  /** Absent: a node of before. */
  readonly answered_by?: { readonly node_id: string; readonly clock_off_ms?: number | null };
}

interface RingDocument {
  readonly members: readonly string[];
  readonly virtual_nodes: number;
  readonly replication_factor: number;
  readonly nodes: readonly {
    readonly node_id: string;
    readonly address: string | null;
    readonly share: number;
  }[];
}

export function addClusterCommands(program: Command, invoke: Invoke): void {
  program
    .command('status')
    .alias('nodes')
    .description('all nodes: state, load, suspicion')
    .action((_options: object, command: Command) => status(invoke(command)));
  program
    .command('ring')
    .description('members and the share of all keys that each one holds')
    .action((_options: object, command: Command) => ring(invoke(command)));
}

/** Fetches a document; prints it as it came where JSON is asked for, else gives it back. */
export async function fetched<Document>(invocation: Invocation, path: string): Promise<Document> {
  const { body } = await invocation.withClient((client) =>
    client.call({ method: 'GET', path, isIdempotent: true, isWrite: false }),
  );
  return JSON.parse(body.toString()) as Document;
}

async function status(invocation: Invocation): Promise<void> {
  const form = invocation.form('table');
  const document = await fetched<Status>(invocation, '/api/v1/admin/cluster/status');
  if (form === 'json') return invocation.json(document);
  const rows = document.nodes.map((node) => [
    node.node_id,
    node.address,
    node.status,
    node.phi,
    node.shards,
    node.keys_count,
    node.memory_used_mb,
    node.disk_used_mb,
  ]);
  if (form === 'raw') return invocation.write(rows.map((row) => `${row.join('\t')}\n`).join(''));
  const head = ['node', 'address', 'status', 'phi', 'shards', 'keys', 'memory MB', 'disk MB'];
  await invocation.table(head, rows);
  const { total_keys: keys, replication_factor: copies, epoch } = document;
  await invocation.say(`about ${keys} keys, ${copies} copies of each, epoch ${epoch}`);
  const { node_id: node, clock_off_ms: offMs } = document.answered_by ?? {};
  if (typeof offMs === 'number')
    await invocation.say(
      `the clock of ${node} is ${offMs} ms off those of most others: it coordinates no writes`,
    );
}

async function ring(invocation: Invocation): Promise<void> {
  const form = invocation.form('table');
  const document = await fetched<RingDocument>(invocation, '/api/v1/ring');
  if (form === 'json') return invocation.json(document);
  const rows = document.nodes.map(({ node_id: node, address, share }) => [
    node,
    address,
    `${(share * 100).toFixed(2)} %`,
  ]);
  if (form === 'raw') return invocation.write(rows.map((row) => `${row.join('\t')}\n`).join(''));
  await invocation.table(['node', 'address', 'holds of all keys'], rows);
  const { virtual_nodes: virtualNodes, replication_factor: copies } = document;
  await invocation.say(`${virtualNodes} virtual nodes per node, ${copies} copies of each key`);
}
