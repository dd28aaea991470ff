// kvctl batch put|get|delete FILE: many operations from a file or a pipe, up to 1,000 in a request
// of its own outcome each. A put is a line as REST takes it, `{"key": ..., "value": ..., "ttl": ...}`,
// sent byte for byte; a get or delete is a key a line, with --base64-keys its base64. What failed goes to the standard error.

import { createReadStream } from 'node:fs';
import type { Command } from 'commander';
import { utf8 } from '../../runtime/bytes.ts';
import { jsonKey } from '../client/keys.ts';
import { linesOf, unpacked } from '../client/lines.ts';
import { type Invoke, wholeNumber } from './data.ts';
import { ExitError, exitCodes, type Invocation } from './invocation.ts';

interface Row {
  readonly key: unknown;
  readonly error?: { readonly code: string; readonly detail: string };
  readonly found?: boolean;
}

type Verb = 'put' | 'get' | 'delete';

const what: Readonly<Record<Verb, string>> = {
  put: 'one JSON object a line: key, value, ttl?, if_not_exists?; - reads stdin',
  get: 'one key a line; prints one JSON object a line, in this order',
  delete: 'one key a line',
};

const operationsMax = 1_000;

export function addBatchCommand(program: Command, invoke: Invoke): void {
  const batch = program.command('batch').description('many operations from a file, - is stdin');
  for (const verb of ['put', 'get', 'delete'] as const)
    batch
      .command(`${verb} <file>`)
      .description(what[verb])
      .option('--batch <count>', 'operations in one request', wholeNumber(1, 1000), 100)
      .option('--atomic', 'all of the file is written, or nothing: at most 1,000 lines', false)
      .action((file: string, options: BatchFlags, command: Command) =>
        run(invoke(command), verb, file, options),
      );
}

interface BatchFlags {
  readonly batch: number;
  readonly atomic: boolean;
}

async function run(
  invocation: Invocation,
  verb: Verb,
  file: string,
  { batch, atomic }: BatchFlags,
): Promise<void> {
  if (atomic && verb === 'get')
    throw new ExitError(exitCodes.usage, '--atomic is for put and delete');
  const lines = linesIn(invocation, file);
  const groups = atomic
    ? onlyGroup(invocation, lines, verb)
    : groupsOf(invocation, lines, verb, batch);
  const form = invocation.form('raw', ['raw', 'jsonl', 'json']);
  let done = 0;
  let failed = 0;
  for await (const group of groups) {
    const rows = await send(invocation, verb, group, atomic);
    for (const row of rows) {
      if (row.error !== undefined) {
        failed += 1;
        const key = JSON.stringify(row.key);
        invocation.io.stderr.write(`kvctl: ${key}: ${row.error.code}: ${row.error.detail}\n`);
      } else done += 1;
      if (verb === 'get' || form !== 'raw') await invocation.write(`${JSON.stringify(row)}\n`);
    }
  }
  if (verb !== 'get' && form === 'raw') await invocation.say(`OK ${done}`);
  if (failed > 0) throw new ExitError(exitCodes.refused, `${failed} of ${done + failed} failed`);
}

function linesIn(invocation: Invocation, file: string): AsyncIterable<Buffer> {
  const chunks = file === '-' ? invocation.io.stdin : createReadStream(file);
  return linesOf(unpacked(chunks as AsyncIterable<Buffer>));
}

/** Texts of the members of a request; a line that is no operation ends everything before it runs. */
async function* groupsOf(
  invocation: Invocation,
  lines: AsyncIterable<Buffer>,
  verb: Verb,
  size: number,
): AsyncGenerator<string[]> {
  let group: string[] = [];
  let number = 0;
  for await (const line of lines) {
    number += 1;
    const text = utf8.decodeStrict(line);
    if (text === undefined) throw new ExitError(exitCodes.usage, `line ${number}: expected UTF-8`);
    if (text.trim() === '') continue;
    group.push(
      verb === 'put' ? checkedPut(text, number) : jsonKey(invocation.key(text, `line ${number}: `)),
    );
    if (group.length < size) continue;
    yield group;
    group = [];
  }
  if (group.length > 0) yield group;
}

/** All lines; with more than a batch may have nothing is sent. */
async function* onlyGroup(
  invocation: Invocation,
  lines: AsyncIterable<Buffer>,
  verb: Verb,
): AsyncGenerator<string[]> {
  const all: string[] = [];
  for await (const group of groupsOf(invocation, lines, verb, operationsMax)) all.push(...group);
  if (all.length > operationsMax)
    throw new ExitError(
      exitCodes.usage,
      `--atomic takes at most ${operationsMax} lines, found ${all.length}`,
    );
  if (all.length > 0) yield all;
}

function checkedPut(text: string, number: number): string {
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)) return text;
  } catch {
    // Said below.
  }
  throw new ExitError(exitCodes.usage, `line ${number}: expected a JSON object`);
}

async function send(
  invocation: Invocation,
  verb: Verb,
  group: readonly string[],
  atomic: boolean,
): Promise<readonly Row[]> {
  const member = verb === 'put' ? 'operations' : 'keys';
  const { body } = await invocation.withClient((client) =>
    client.call({
      method: 'POST',
      path: `/api/v1/batch/${verb}`,
      headers: { 'content-type': 'application/json' },
      body: Buffer.from(`{${atomic ? '"atomic":true,' : ''}"${member}":[${group.join(',')}]}`),
      isIdempotent: verb === 'get',
      isWrite: verb !== 'get',
    }),
  );
  return (JSON.parse(body.toString()) as { readonly results: readonly Row[] }).results;
}
