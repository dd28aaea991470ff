// kvctl explain KEY: the owners of a key in the order of the ring and what each of them holds, seen
// by a read that asks them all; kvctl ttl KEY. The read repairs what it finds to differ, as every
// read does. Where not all answer, it asks as many as a quorum, then one.

import { randomUUID } from 'node:crypto';
import type { Command } from 'commander';
import { type ClientAnswer, ClientError } from '../client/http-exchange.ts';
import type { HttpClient } from '../client/http-client.ts';
import { type Key, keyInJson, keyPath } from '../client/keys.ts';
import { parseTopology, replicaNames } from '../client/topology.ts';
import { type Invoke, wholeNumber } from './data.ts';
import { ExitError, exitCodes, type Invocation } from './invocation.ts';

interface Step {
  readonly node: string;
  readonly ask: string;
  readonly answeredMs?: number;
  /** Null: it holds nothing. */
  readonly etag?: string | null;
  readonly failed?: string;
}

interface Explanation {
  readonly coordinator: string;
  readonly level: string;
  readonly steps: readonly Step[];
}

export function addExplainCommands(program: Command, invoke: Invoke): void {
  program
    .command('explain <key>')
    .description('who holds the key, and which version each of them has')
    .action((key: string, _options: object, command: Command) => explain(invoke(command), key));
  program
    .command('ttl <key> [seconds]')
    .description('seconds left, `never` without an end; with seconds: sets them, 0 for never')
    .action((key: string, text: string | undefined, _options: object, command: Command) =>
      ttl(invoke(command), key, text),
    );
}

async function explain(invocation: Invocation, key: string): Promise<void> {
  const form = invocation.form('table');
  if (invocation.cluster().consistency !== undefined)
    throw new ExitError(
      exitCodes.usage,
      '--consistency: explain reads at the highest level that is answered',
    );
  const named = invocation.key(key);
  const { owners, read } = await invocation.withClient(async (client) => ({
    owners: await ownersOf(client, named, invocation.namespace),
    read: await readAll(client, named),
  }));
  const { coordinator, level, steps } = read.explanation;
  const rows = owners.map((node) => ({ node, ...holdingOf(steps, node) }));
  const { version, values } = read;
  if (form === 'json') {
    const found = { key: keyInJson(named), version: version ?? null, values };
    return invocation.json({ ...found, level, coordinator, replicas: rows });
  }
  const cells = rows.map(({ node, etag, ms }) => [node, etag, ms]);
  if (form === 'raw') return invocation.write(cells.map((row) => `${row.join('\t')}\n`).join(''));
  await invocation.table(['replica', 'holds', 'answered after ms'], cells);
  const several = values > 1 ? `, ${values} values` : '';
  const found = version === undefined ? 'no live value' : `version ${version}${several}`;
  await invocation.say(`${found}, read at ${level} through ${coordinator}`);
}

async function ownersOf(
  client: HttpClient,
  key: Key,
  namespace: string | undefined,
): Promise<readonly string[]> {
  const terms = { method: 'GET', isIdempotent: true, isWrite: false } as const;
  const { body } = await client.call({ ...terms, path: '/api/v1/ring' });
  const topology = parseTopology(body);
  if (topology === undefined)
    throw new ClientError('HTTP_200', 200, 'the ring is of a form that kvctl does not know', false);
  if (namespace === undefined) return replicaNames(topology, key);
  // Where a key lies depends on the number of its namespace too.
  const path = `/api/v1/admin/namespaces/${encodeURIComponent(namespace)}`;
  const found = JSON.parse((await client.call({ ...terms, path })).body.toString()) as {
    readonly namespace: { readonly id: number };
  };
  return replicaNames(topology, key, found.namespace.id);
}

interface Read {
  /** Undefined: there is no live value. */
  readonly version: number | undefined;
  /** More than one: siblings. */
  readonly values: number;
  readonly explanation: Explanation;
}

/** At the highest level that is answered. */
async function readAll(client: HttpClient, key: Key): Promise<Read> {
  const levels = ['ALL', 'QUORUM', 'ONE'];
  for (const level of levels)
    try {
      return await readAt(client, key, level);
    } catch (error) {
      const isShort = error instanceof ClientError && levels.at(-1) !== level;
      if (!isShort || !['UNAVAILABLE', 'TIMEOUT'].includes(error.code)) throw error;
    }
  throw new ClientError('UNAVAILABLE', 0, 'no replica answers', false);
}

async function readAt(client: HttpClient, key: Key, level: string): Promise<Read> {
  const headers = { 'consistency-level': level, 'x-explain': '1', 'x-deadline-ms': '2000' };
  const call = { path: keyPath(key), headers, isIdempotent: true, isWrite: false };
  // That there is no such key is explained too.
  const answer = await client.call({ method: 'GET', ...call }).catch((error: unknown) => {
    if (error instanceof ClientError && error.answer?.headers['x-explain'] !== undefined)
      return error.answer;
    throw error;
  });
  return { ...foundIn(answer), explanation: explanationOf(answer) };
}

function foundIn({ status, body }: ClientAnswer): Pick<Read, 'version' | 'values'> {
  if (status !== 200 && status !== 300) return { version: undefined, values: 0 };
  const { version, values = [undefined] } = JSON.parse(body.toString()) as {
    readonly version: number;
    readonly values?: readonly unknown[];
  };
  // All siblings deleted: an empty list with a context.
  return { version: values.length === 0 ? undefined : version, values: values.length };
}

function explanationOf({ headers }: ClientAnswer): Explanation {
  return JSON.parse(String(headers['x-explain'])) as Explanation;
}

function holdingOf(
  steps: readonly Step[],
  node: string,
): { readonly etag: string; readonly ms: number | null } {
  const own = steps.filter((step) => step.node === node);
  const first = own.find(({ etag }) => etag !== undefined) ?? own[0];
  if (first === undefined) return { etag: 'not asked', ms: null };
  const etag = first.etag === null ? 'nothing' : (first.etag ?? first.failed ?? 'no answer');
  return { etag, ms: first.answeredMs ?? null };
}

// ---- time to live ----------------------------------------------------------------------------

async function ttl(invocation: Invocation, key: string, text: string | undefined): Promise<void> {
  const form = invocation.form('raw');
  const seconds = text === undefined ? undefined : wholeNumber(0, 315_360_000)(text);
  const left =
    seconds === undefined ? await readTtl(invocation, key) : await setTtl(invocation, key, seconds);
  const named = keyInJson(invocation.key(key));
  if (form === 'json') return invocation.json({ key: named, ttl_remaining: left ?? null });
  await invocation.write(`${left ?? 'never'}\n`);
}

async function readTtl(invocation: Invocation, key: string): Promise<number | undefined> {
  const path = keyPath(invocation.key(key));
  const call = { path, isIdempotent: true, isWrite: false };
  const { status, headers } = await invocation.withClient((client) =>
    client.call({ ...call, method: 'HEAD' }).catch((error: unknown) => {
      if (!(error instanceof ClientError) || error.code !== 'NOT_FOUND') throw error;
      // An answer without a body does not say what it is that is not there.
      return client.call({ ...call, method: 'GET' });
    }),
  );
  if (status === 300)
    throw new ExitError(exitCodes.refused, `${key} has several values, each with its own end`);
  const left = headers['x-ttl-remaining'];
  return left === undefined ? undefined : Number(left);
}

async function setTtl(
  invocation: Invocation,
  key: string,
  seconds: number,
): Promise<number | undefined> {
  const { body } = await invocation.withClient((client) =>
    client.call({
      method: 'POST',
      path: keyPath(invocation.key(key), { verb: 'ttl' }),
      headers: { 'content-type': 'application/json', 'x-request-id': randomUUID() },
      body: Buffer.from(JSON.stringify({ ttl_seconds: seconds })),
      isIdempotent: true,
      isWrite: true,
    }),
  );
  const { ttl_remaining: left } = JSON.parse(body.toString()) as {
    readonly ttl_remaining?: number | null;
  };
  return left ?? undefined;
}
