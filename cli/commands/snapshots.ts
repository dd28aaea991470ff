// kvctl snapshot: named sets of tables on the nodes, through any node. What some nodes refused is
// said after what the others did, and ends the command with 1.

import type { Command } from 'commander';
import { type ClientAnswer, ClientError } from '../client/http-exchange.ts';
import type { HttpClient } from '../client/http-client.ts';
import type { Invoke } from './data.ts';
import { ExitError, exitCodes, type Invocation } from './invocation.ts';

export const snapshotsPath = '/api/v1/admin/snapshots';
/** The nodes that a request is for; absent: all. */
export const nodesQuery = (nodes: string | undefined): string =>
  nodes === undefined ? '' : `?nodes=${encodeURIComponent(nodes)}`;
/** A flush of all shards may take a while. */
export const snapshotTimeoutMs = 60_000;
/** Pauses between two attempts to delete one. */
const pauseMsFirst = 250;
const pauseMsMax = 4_000;

export interface SnapshotRow {
  readonly name: string;
  readonly created_ms: number;
  readonly tables: number;
  readonly records: number;
  readonly bytes: number;
}

export interface NodesAnswer<Row> {
  readonly complete: boolean;
  readonly nodes: readonly (Partial<Row> & {
    readonly node: string;
    readonly error?: { readonly code: string; readonly detail: string };
  })[];
}

interface NodesOption {
  readonly nodes?: string;
}

export function addSnapshotCommands(program: Command, invoke: Invoke): void {
  const snapshot = program.command('snapshot').description('named copies of the tables of nodes');
  const nodes = ['--nodes <ids>', 'only these nodes, separated by commas'] as const;
  snapshot
    .command('create <name>')
    .description('take a snapshot: hard links, at once and without space at first')
    .option(...nodes)
    .action((name: string, options: NodesOption, command: Command) =>
      create(invoke(command), name, options),
    );
  snapshot
    .command('list')
    .description('the snapshots of all nodes')
    .option(...nodes)
    .action((options: NodesOption, command: Command) => list(invoke(command), options));
  snapshot
    .command('delete <name>')
    .description('delete a snapshot: its tables are freed')
    .option(...nodes)
    .action((name: string, options: NodesOption, command: Command) =>
      remove(invoke(command), name, options),
    );
}

/** Asks for a snapshot on all nodes, or on those named. */
export async function createSnapshot(
  client: HttpClient,
  name: string,
  nodes: readonly string[] | undefined,
): Promise<NodesAnswer<SnapshotRow>> {
  const answer = await client.call({
    method: 'POST',
    path: snapshotsPath,
    headers: { 'content-type': 'application/json' },
    body: Buffer.from(JSON.stringify({ name, nodes })),
    // Made twice it is a conflict.
    isIdempotent: false,
    isWrite: true,
  });
  return documentOf(answer);
}

/** Deletes it wherever it is. */
export async function deleteSnapshot(
  client: HttpClient,
  name: string,
  nodes: string | undefined,
): Promise<NodesAnswer<{ readonly deleted: boolean }>> {
  const path = `${snapshotsPath}/${encodeURIComponent(name)}${nodesQuery(nodes)}`;
  const terms = { isIdempotent: true, isWrite: true } as const;
  return documentOf(await client.call({ method: 'DELETE', path, ...terms }));
}

/** What the removal of a snapshot needs of its surroundings. */
export interface RemovalTools {
  /** Asks these nodes to delete it. */
  readonly remove: (nodes: readonly string[]) => Promise<NodesAnswer<object>>;
  readonly nowMs: () => number;
  readonly sleep: (delayMs: number) => Promise<unknown>;
  /** How long it is tried, milliseconds. */
  readonly timeoutMs: number;
}

/** Why a node holds a snapshot still. */
interface Refusal {
  readonly code: string;
  readonly detail: string;
}

/** Of a node that is making the snapshot, or is slow: it may delete it a little later. */
const passingCodes: readonly string[] = ['CONFLICT', 'TIMEOUT'];

/**
 * Deletes a snapshot on all these nodes, again where one is still making it. The nodes that hold it
 * in the end, each with the reason; none where it is gone.
 */
export async function removeEverywhere(
  nodes: readonly string[],
  { remove, nowMs, sleep, timeoutMs }: RemovalTools,
): Promise<ReadonlyMap<string, string>> {
  const endMs = nowMs() + timeoutMs;
  const held = new Map<string, string>();
  for (let left = nodes, pauseMs = pauseMsFirst; ; pauseMs = Math.min(2 * pauseMs, pauseMsMax)) {
    const refused = await refusedBy(left, remove);
    for (const node of left) held.delete(node);
    for (const [node, { detail }] of refused) held.set(node, detail);
    left = [...refused].flatMap(([node, { code }]) => (passingCodes.includes(code) ? node : []));
    if (left.length === 0 || nowMs() + pauseMs > endMs) return held;
    await sleep(pauseMs);
  }
}

async function refusedBy(
  nodes: readonly string[],
  remove: RemovalTools['remove'],
): Promise<ReadonlyMap<string, Refusal>> {
  try {
    const answer = await remove(nodes);
    return new Map(
      answer.nodes.flatMap(({ node, error }) => (error === undefined ? [] : [[node, error]])),
    );
  } catch (error) {
    const code = error instanceof ClientError ? error.code : '';
    if (code === 'NOT_FOUND') return new Map();
    const detail = error instanceof Error ? error.message : String(error);
    return new Map(nodes.map((node) => [node, { code, detail }]));
  }
}

export const documentOf = <Document>({ body }: ClientAnswer): Document =>
  JSON.parse(body.toString()) as Document;

const slow = { deadlineMs: snapshotTimeoutMs, attemptMs: snapshotTimeoutMs };
const head = ['node', 'name', 'taken', 'tables', 'records', 'bytes'];

/** What refused, node by node, as the end of a command. */
export function refusals(answer: NodesAnswer<object>): string {
  return answer.nodes
    .flatMap(({ node, error }) => (error === undefined ? [] : [`${node}: ${error.detail}`]))
    .join('\nkvctl: ');
}

async function create(invocation: Invocation, name: string, { nodes }: NodesOption): Promise<void> {
  const form = invocation.form('table');
  const answer = await invocation.withClient(
    (client) => createSnapshot(client, name, nodes?.split(',')),
    slow,
  );
  const rows = answer.nodes.filter(({ error }) => error === undefined).map(rowOf);
  await print(invocation, form, answer, rows);
}

async function list(invocation: Invocation, { nodes }: NodesOption): Promise<void> {
  const form = invocation.form('table');
  const answer = await invocation.withClient(async (client) => {
    const path = `${snapshotsPath}${nodesQuery(nodes)}`;
    const terms = { isIdempotent: true, isWrite: false } as const;
    const found = await client.call({ method: 'GET', path, ...terms });
    return documentOf<NodesAnswer<{ readonly snapshots: readonly SnapshotRow[] }>>(found);
  });
  const rows = answer.nodes.flatMap(({ node, snapshots = [] }) =>
    snapshots.map((snapshot) => rowOf({ node, ...snapshot })),
  );
  await print(invocation, form, answer, rows);
}

async function remove(invocation: Invocation, name: string, { nodes }: NodesOption): Promise<void> {
  const form = invocation.form('table');
  const answer = await invocation.withClient((client) => deleteSnapshot(client, name, nodes), slow);
  if (form === 'json') await invocation.json(answer);
  else
    for (const { node, deleted } of answer.nodes)
      if (deleted === true) await invocation.say(`${node}: deleted ${name}`);
  judge(answer);
}

const rowOf = (row: Partial<SnapshotRow> & { readonly node: string }): (string | number)[] => [
  row.node,
  row.name ?? '',
  new Date(row.created_ms ?? 0).toISOString(),
  row.tables ?? 0,
  row.records ?? 0,
  row.bytes ?? 0,
];

async function print(
  invocation: Invocation,
  form: string,
  answer: NodesAnswer<object>,
  rows: readonly (readonly (string | number)[])[],
): Promise<void> {
  if (form === 'json') await invocation.json(answer);
  else if (form === 'raw')
    await invocation.write(rows.map((row) => `${row.join('\t')}\n`).join(''));
  else if (rows.length > 0 || answer.complete) await invocation.table(head, rows);
  judge(answer);
}

function judge(answer: NodesAnswer<object>): void {
  if (!answer.complete) throw new ExitError(exitCodes.refused, refusals(answer));
}
