// kvctl repair and flush. A repair goes on in the cluster whether or not anybody watches: the
// command starts it, or joins the one that runs, shows how far it is, and ends with its report. It
// ends with 1 where some set of replicas could not be compared as a whole.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { HttpClient } from '../client/http-client.ts';
import type { Invoke } from './data.ts';
import { ExitError, exitCodes, type Invocation } from './invocation.ts';
import {
  documentOf,
  type NodesAnswer,
  nodesQuery,
  refusals,
  snapshotTimeoutMs,
} from './snapshots.ts';

const repairPath = '/api/v1/admin/repair';
const flushPath = '/api/v1/admin/flush';
/** Between two looks at a repair that runs. */
const lookEveryMs = 250;

interface Report {
  readonly id: number;
  readonly took_ms: number;
  readonly running: boolean;
  readonly phase: string;
  readonly sets_wanted: number;
  readonly sets: readonly {
    readonly set: string;
    readonly outcome: string;
    readonly why: string;
  }[];
  readonly leaves_differing: number;
  readonly keys_compared: number;
  readonly records_scanned: number;
  readonly records_sent: number;
  readonly bytes_sent: number;
}

interface NodeReport {
  readonly node: string;
  readonly repair: Report | null;
}

interface RepairOptions {
  readonly set?: string;
  readonly full?: boolean;
  readonly detach?: boolean;
}

export function addRepairCommands(program: Command, invoke: Invoke): void {
  const repair = program
    .command('repair')
    .description('compare all replicas and send each one what it lacks')
    .option('--set <ids>', 'only the ranges of these replicas, separated by commas')
    .option('--full', 'compare every key, not only below parts that differ')
    .option('--detach', 'start it and do not wait')
    .action((options: RepairOptions, command: Command) => run(invoke(command), options));
  repair
    .command('status')
    .description('the last repair that each node ran, or runs')
    .action((_options: object, command: Command) => status(invoke(command)));
  program
    .command('flush')
    .description('write memory to tables')
    .option('--nodes <ids>', 'only these nodes, separated by commas')
    .action((options: { readonly nodes?: string }, command: Command) =>
      flush(invoke(command), options),
    );
}

async function run(invocation: Invocation, options: RepairOptions): Promise<void> {
  const form = invocation.form('table', ['table', 'json']);
  const report = await invocation.withClient(async (client) => {
    const begun = await start(client, options);
    if (options.detach === true) return begun.repair;
    return follow(invocation, client, begun);
  });
  if (form === 'json') await invocation.json(report);
  else await invocation.say(wordsOf(report));
  const bad = report.sets.filter(({ outcome }) => outcome !== 'complete');
  if (bad.length > 0)
    throw new ExitError(
      exitCodes.refused,
      bad.map(({ set, outcome, why }) => `${set}: ${outcome}: ${why}`).join('\nkvctl: '),
    );
}

async function start(
  client: HttpClient,
  { set, full }: RepairOptions,
): Promise<NodeReport & { readonly repair: Report }> {
  const answer = await client.call({
    method: 'POST',
    path: repairPath,
    headers: { 'content-type': 'application/json' },
    body: Buffer.from(JSON.stringify({ set, full })),
    // Asked twice it joins the one that runs.
    isIdempotent: true,
    isWrite: true,
  });
  return documentOf<NodeReport & { readonly repair: Report }>(answer);
}

async function reportsOf(client: HttpClient, nodes?: string): Promise<NodesAnswer<NodeReport>> {
  const terms = { isIdempotent: true, isWrite: false } as const;
  const answer = await client.call({
    method: 'GET',
    path: `${repairPath}${nodesQuery(nodes)}`,
    ...terms,
  });
  return documentOf<NodesAnswer<NodeReport>>(answer);
}

/** Until it has ended. A node that was restarted meanwhile has forgotten it. */
async function follow(
  invocation: Invocation,
  client: HttpClient,
  { node, repair }: NodeReport & { readonly repair: Report },
): Promise<Report> {
  let report = repair;
  let shown = '';
  while (report.running) {
    const line = `${report.phase}, ${report.sets.length} of ${report.sets_wanted} sets, ${report.records_scanned} records read, ${report.records_sent} sent`;
    if (line !== shown && !invocation.isQuiet) invocation.io.stderr.write(`${line}\n`);
    shown = line;
    await sleep(lookEveryMs);
    const { nodes } = await reportsOf(client, node);
    const next = nodes[0]?.repair;
    if (next === undefined || next === null || next.id !== repair.id)
      throw new ExitError(exitCodes.outcomeUnknown, `${node} no longer knows this repair`);
    report = next;
  }
  return report;
}

function wordsOf(report: Report): string {
  if (report.sets_wanted === 0)
    return 'nothing to repair: this cluster keeps one replica of each key';
  const complete = report.sets.filter(({ outcome }) => outcome === 'complete').length;
  const seconds = (report.took_ms / 1000).toFixed(1);
  const state = report.running ? `runs since ${seconds} s` : `done in ${seconds} s`;
  return [
    `repair ${state}: ${complete} of ${report.sets_wanted} sets complete`,
    `${report.records_scanned} records read, ${report.leaves_differing} parts differ, ${report.keys_compared} keys compared`,
    `${report.records_sent} records sent, ${report.bytes_sent} bytes`,
  ].join('\n');
}

async function status(invocation: Invocation): Promise<void> {
  const form = invocation.form('table', ['table', 'json']);
  const answer = await invocation.withClient((client) => reportsOf(client));
  if (form === 'json') await invocation.json(answer);
  else {
    const head = ['node', 'state', 'sets complete', 'seconds', 'records read', 'records sent'];
    const rows = answer.nodes
      .filter(({ error }) => error === undefined)
      .map(({ node, repair }) => [node, ...cellsOf(repair)]);
    await invocation.table(head, rows);
  }
  if (!answer.complete) throw new ExitError(exitCodes.refused, refusals(answer));
}

function cellsOf(report: Report | null | undefined): readonly (string | number | null)[] {
  if (report === undefined || report === null)
    return ['none since its start', null, null, null, null];
  const complete = report.sets.filter(({ outcome }) => outcome === 'complete').length;
  return [
    report.running ? report.phase : 'done',
    `${complete} of ${report.sets_wanted}`,
    (report.took_ms / 1000).toFixed(1),
    report.records_scanned,
    report.records_sent,
  ];
}

async function flush(
  invocation: Invocation,
  { nodes }: { readonly nodes?: string },
): Promise<void> {
  const form = invocation.form('table', ['table', 'json']);
  const answer = await invocation.withClient(
    async (client) => {
      const answer = await client.call({
        method: 'POST',
        path: flushPath,
        headers: { 'content-type': 'application/json' },
        body: Buffer.from(JSON.stringify({ nodes: nodes?.split(',') })),
        isIdempotent: true,
        isWrite: true,
      });
      return documentOf<NodesAnswer<{ readonly tables: number }>>(answer);
    },
    { deadlineMs: snapshotTimeoutMs, attemptMs: snapshotTimeoutMs },
  );
  if (form === 'json') await invocation.json(answer);
  else
    for (const { node, tables } of answer.nodes)
      if (tables !== undefined) await invocation.say(`${node}: ${tables} tables`);
  if (!answer.complete) throw new ExitError(exitCodes.refused, refusals(answer));
}
