// kvctl top: the nodes with their load and the requests and Redis commands that each answers in a
// second, again and again on a terminal, or so many times as --count says. Rates are differences of
// two looks at the metrics of the nodes, so the first screen has none.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { fetched, type NodeRow, type Status } from './cluster.ts';
import { type Invoke, wholeNumber } from './data.ts';
import type { Invocation } from './invocation.ts';

interface TopArguments {
  readonly interval: number;
  readonly count?: number;
}

interface Look {
  readonly atMs: number;
  readonly requests: number;
}

const homeAndClear = '\u001b[H\u001b[2J';
const metricsTimeoutMs = 1000;
/** Of both faces; commands of the Redis protocol are one series. */
const requestLine = /^kvd_(?:http_requests|resp_commands)_total(?:\{[^}]*\})? (\d+)$/gm;

export function addTopCommand(program: Command, invoke: Invoke): void {
  program
    .command('top')
    .description('nodes, load and requests per second, until Ctrl-C')
    .option('--interval <ms>', 'between two looks', wholeNumber(100, 3_600_000), 2000)
    .option(
      '--count <n>',
      'end after so many; default: 1 where the output is no terminal',
      wholeNumber(1, 1e9),
    )
    .action((options: TopArguments, command: Command) => top(invoke(command), options));
}

async function top(invocation: Invocation, { interval, count }: TopArguments): Promise<void> {
  const form = invocation.form('table', ['table', 'json']);
  const { isTTY } = invocation.io.stdout as { readonly isTTY?: boolean };
  const isLive = isTTY === true && form === 'table';
  const last = count ?? (isTTY === true ? Infinity : 1);
  let looks: ReadonlyMap<string, Look> = new Map();
  for (let i = 0; i < last; i += 1) {
    if (i > 0) await sleep(interval);
    const { nodes } = await fetched<Status>(invocation, '/api/v1/admin/cluster/status');
    const next = await lookAt(invocation, nodes);
    const rows = nodes.map((node) => rowOf(node, looks.get(node.node_id), next.get(node.node_id)));
    looks = next;
    if (isLive) await invocation.write(homeAndClear);
    if (form === 'json') await invocation.json(rows);
    else
      await invocation.table(
        Object.keys(rows[0] ?? {}),
        rows.map((row) => Object.values(row)),
      );
  }
}

type Row = Readonly<Record<string, string | number | null>>;

function rowOf(node: NodeRow, before: Look | undefined, now: Look | undefined): Row {
  const seconds = before === undefined || now === undefined ? 0 : (now.atMs - before.atMs) / 1000;
  const requests = (now?.requests ?? 0) - (before?.requests ?? 0);
  return {
    node: node.node_id,
    status: node.status,
    'requests/s': seconds > 0 && requests >= 0 ? Math.round(requests / seconds) : null,
    keys: node.keys_count,
    'memory MB': node.memory_used_mb,
    'disk MB': node.disk_used_mb,
    phi: node.phi,
  };
}

/** Requests and commands that each node has answered; one that does not answer now is left out. */
async function lookAt(
  invocation: Invocation,
  nodes: readonly NodeRow[],
): Promise<ReadonlyMap<string, Look>> {
  // All nodes have TLS or none has.
  const { protocol } = new URL(invocation.cluster().endpoints[0] ?? '');
  const looks = new Map<string, Look>();
  await Promise.all(
    nodes.map(async ({ node_id: node, address }) => {
      if (address === null) return;
      const call = { method: 'GET', path: '/metrics', isIdempotent: true, isWrite: false } as const;
      const answer = await invocation
        .withClient((client) => client.call(call), {
          endpoints: [`${protocol}//${address}`],
          deadlineMs: metricsTimeoutMs,
          attemptsMax: 1,
        })
        .catch(() => undefined);
      if (answer === undefined) return;
      const counts = [...answer.body.toString().matchAll(requestLine)];
      const requests = counts.reduce((sum, [, text]) => sum + Number(text), 0);
      looks.set(node, { atMs: performance.now(), requests });
    }),
  );
  return looks;
}
