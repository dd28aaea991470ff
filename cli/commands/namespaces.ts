// kvctl ns: namespaces of the cluster, through any node. A namespace is dropped with everything in
// it, so its name is asked for twice: as the argument and as --confirm.

import type { Command } from 'commander';
import type { HttpClient } from '../client/http-client.ts';
import { type Invoke, wholeNumber } from './data.ts';
import { ExitError, exitCodes, type Invocation } from './invocation.ts';
import { documentOf } from './snapshots.ts';

const root = '/api/v1/admin/namespaces';
const json = { 'content-type': 'application/json' };
const countMax = Number.MAX_SAFE_INTEGER;
const ttlMax = 315_360_000;

interface NamespaceRow {
  readonly name: string;
  readonly id: number;
  readonly owner: string;
  readonly default_consistency: { readonly read: string; readonly write: string };
  readonly conflicts: string;
  readonly default_ttl: number;
  readonly max_ttl: number;
  readonly quotas: {
    readonly bytes: number;
    readonly keys: number;
    readonly operations_per_second: number;
  };
  readonly compaction: string;
  readonly compression: string;
}

interface SettingOptions {
  readonly owner?: string;
  readonly readLevel?: string;
  readonly writeLevel?: string;
  readonly conflicts?: string;
  readonly defaultTtl?: number;
  readonly maxTtl?: number;
  readonly quotaBytes?: number;
  readonly quotaKeys?: number;
  readonly quotaOps?: number;
  readonly compaction?: string;
  readonly compression?: string;
}

export function addNamespaceCommands(program: Command, invoke: Invoke): void {
  const ns = program
    .command('ns')
    .description('namespaces: keys, defaults and quotas of their own');
  withSettings(ns.command('create <name>').description('create a namespace')).action(
    (name: string, options: SettingOptions, command: Command) =>
      change(invoke(command), 'POST', root, { name, ...membersOf(options) }),
  );
  ns.command('list')
    .description('all namespaces')
    .action((_options: object, command: Command) => list(invoke(command)));
  ns.command('get <name>')
    .description('the settings of a namespace')
    .action((name: string, _options: object, command: Command) => get(invoke(command), name));
  withSettings(
    ns.command('alter <name>').description('change settings; what is not named stays'),
  ).action((name: string, options: SettingOptions, command: Command) =>
    change(invoke(command), 'PUT', pathOf(name), membersOf(options)),
  );
  ns.command('drop <name>')
    .description('drop a namespace with all keys in it; they are out of reach at once')
    .requiredOption('--confirm <name>', 'the name once more')
    .action((name: string, { confirm }: { readonly confirm: string }, command: Command) =>
      drop(invoke(command), name, confirm),
    );
}

const withSettings = (command: Command): Command =>
  command
    .option('--owner <text>', 'who is responsible')
    .option('--read-level <level>', 'of reads that name none; empty: that of the nodes')
    .option('--write-level <level>', 'of writes that name none')
    .option('--conflicts <mode>', 'lww (the newest write wins) or siblings')
    .option('--default-ttl <seconds>', 'of values written without one, 0: none', count(ttlMax))
    .option('--max-ttl <seconds>', 'nothing is kept longer, 0: no limit', count(ttlMax))
    .option('--quota-bytes <n>', 'keys and values together, 0: no limit', count(countMax))
    .option('--quota-keys <n>', '0: no limit', count(countMax))
    .option('--quota-ops <n>', 'operations per second, 0: no limit', count(countMax))
    .option(
      '--compaction <strategy>',
      'leveled, size-tiered or time-window; empty: that of the nodes',
    )
    .option('--compression <codec>', 'auto, none, lz4 or zstd; empty: that of the nodes');

const count = (max: number): ((text: string) => number) => wholeNumber(0, max);

const pathOf = (name: string): string => `${root}/${encodeURIComponent(name)}`;

/** Members that are undefined are left out of the JSON. */
function membersOf(options: SettingOptions): object {
  const { owner, readLevel, writeLevel, conflicts, defaultTtl, maxTtl } = options;
  const { quotaBytes, quotaKeys, quotaOps, compaction, compression } = options;
  return {
    owner,
    default_consistency: whole({ read: readLevel, write: writeLevel }),
    conflicts,
    default_ttl: defaultTtl,
    max_ttl: maxTtl,
    quotas: whole({ bytes: quotaBytes, keys: quotaKeys, operations_per_second: quotaOps }),
    compaction,
    compression,
  };
}

/** Undefined where no member has a value. */
const whole = (members: Readonly<Record<string, unknown>>): object | undefined =>
  Object.values(members).some((value) => value !== undefined) ? members : undefined;

async function change(
  invocation: Invocation,
  method: 'POST' | 'PUT',
  path: string,
  members: object,
): Promise<void> {
  const form = invocation.form('table', ['table', 'json']);
  const body = Buffer.from(JSON.stringify(members));
  const terms = { isIdempotent: method === 'PUT', isWrite: true };
  const answer = await invocation.withClient(async (client) =>
    documentOf<{ readonly namespace: NamespaceRow }>(
      await client.call({ method, path, headers: json, body, ...terms }),
    ),
  );
  if (form === 'json') await invocation.json(answer.namespace);
  else if (!invocation.isQuiet) await table(invocation, [answer.namespace]);
}

async function list(invocation: Invocation): Promise<void> {
  const form = invocation.form('table');
  const { namespaces } = await invocation.withClient((client) =>
    read<{ readonly namespaces: readonly NamespaceRow[] }>(client, root),
  );
  if (form === 'json') await invocation.json(namespaces);
  else if (form === 'raw')
    await invocation.write(namespaces.map(({ name }) => `${name}\n`).join(''));
  else await table(invocation, namespaces);
}

async function get(invocation: Invocation, name: string): Promise<void> {
  const form = invocation.form('table', ['table', 'json']);
  const { namespace } = await invocation.withClient((client) =>
    read<{ readonly namespace: NamespaceRow }>(client, pathOf(name)),
  );
  if (form === 'json') await invocation.json(namespace);
  else await table(invocation, [namespace]);
}

async function drop(invocation: Invocation, name: string, confirm: string): Promise<void> {
  if (confirm !== name)
    throw new ExitError(exitCodes.usage, `ns drop: --confirm ${name} is needed, not ${confirm}`);
  const path = `${pathOf(name)}?confirm=${encodeURIComponent(confirm)}`;
  const terms = { isIdempotent: false, isWrite: true } as const;
  await invocation.withClient((client) => client.call({ method: 'DELETE', path, ...terms }));
  await invocation.say(`dropped ${name}`);
}

async function read<Document>(client: HttpClient, path: string): Promise<Document> {
  const terms = { isIdempotent: true, isWrite: false } as const;
  return documentOf<Document>(await client.call({ method: 'GET', path, ...terms }));
}

const head = [
  ...['id', 'name', 'owner', 'read', 'write', 'ttl', 'max ttl', 'bytes', 'keys', 'ops/s'],
  ...['conflicts', 'compaction', 'compression'],
];

const limit = (value: number): number | undefined => (value === 0 ? undefined : value);
const word = (value: string): string | undefined => (value === '' ? undefined : value);

function table(invocation: Invocation, rows: readonly NamespaceRow[]): Promise<void> {
  return invocation.table(
    head,
    rows.map((row) => [
      row.id,
      row.name,
      word(row.owner),
      word(row.default_consistency.read),
      word(row.default_consistency.write),
      limit(row.default_ttl),
      limit(row.max_ttl),
      limit(row.quotas.bytes),
      limit(row.quotas.keys),
      limit(row.quotas.operations_per_second),
      row.conflicts,
      word(row.compaction),
      word(row.compression),
    ]),
  );
}
