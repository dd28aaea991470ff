// Commands on keys: put, get, del, exists, list, scan. Values are JSON texts, shown and stored as
// they are written; with --raw-bytes they are bytes.

import { buffer } from 'node:stream/consumers';
import { type Command, InvalidArgumentError } from 'commander';
import { utf8 } from '../../runtime/bytes.ts';
import { ClientError } from '../client/http-exchange.ts';
import { keyInJson, keyPath } from '../client/keys.ts';
import { type PageItem, type PageQuery, readPages } from '../client/pages.ts';
import { addConditions, type ConditionOptions, writeTerms } from './conditions.ts';
import { ExitError, exitCodes, type Invocation } from './invocation.ts';
import { Rows } from './rows.ts';

/** The invocation of a command that runs: made from the options of the whole line. */
export type Invoke = (command: Command) => Invocation;

const pageRows = 500;

/** For options that count: a whole number from `min`. */
export function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value;
    throw new InvalidArgumentError(`expected a whole number from ${min} to ${max}`);
  };
}

export function addDataCommands(program: Command, invoke: Invoke): void {
  const put = program
    .command('put <key> <value>')
    .description('write a value: JSON as it is, any other text as a JSON string, - from stdin')
    .option('--ttl <seconds>', 'expire after so many seconds', wholeNumber(1, 315_360_000))
    .option('--raw-bytes', 'store the bytes of the value, not JSON')
    .action((key: string, value: string, options: PutOptions, command: Command) =>
      putValue(invoke(command), { key, value, ...options }),
    );
  addConditions(put, true);
  program
    .command('get <key>')
    .description('print a value as it was stored')
    .action((key: string, _options: object, command: Command) => get(invoke(command), key));
  const remove = program
    .command('del <key...>')
    .description('delete keys; one that is not there is no error')
    .action((keys: string[], options: ConditionOptions, command: Command) =>
      del(invoke(command), keys, options),
    );
  addConditions(remove, false);
  program
    .command('exists <key>')
    .description('exit code 0 if the key exists, 4 if not')
    .action((key: string, _options: object, command: Command) => exists(invoke(command), key));
  program
    .command('list [prefix]')
    .description('keys in byte order; with a prefix, those that start with it')
    .option('--prefix <text>', 'the same as the argument')
    .option('--limit <count>', 'at most so many keys', wholeNumber(1, 1e12))
    .option('--values', 'with their values')
    .action((prefix: string | undefined, options: ListOptions, command: Command) =>
      list(invoke(command), '/api/v1/keys', { ...options, prefix: prefixOf(prefix, options) }),
    );
  program
    .command('scan')
    .description('all keys, each exactly once')
    .option('--limit <count>', 'at most so many keys', wholeNumber(1, 1e12))
    .option('--values', 'with their values')
    .action((options: ListOptions, command: Command) =>
      list(invoke(command), '/api/v1/scan', options),
    );
}

function prefixOf(prefix: string | undefined, options: ListOptions): string | undefined {
  if (prefix !== undefined && options.prefix !== undefined)
    throw new ExitError(exitCodes.usage, 'list: expected a prefix or --prefix, found both');
  return prefix ?? options.prefix;
}

interface PutOptions extends ConditionOptions {
  readonly ttl?: number;
  readonly rawBytes?: boolean;
}

interface PutArguments extends PutOptions {
  readonly key: string;
  readonly value: string;
}

/** A JSON text as it is; any other text becomes a JSON string. */
export function asJson(text: string): string {
  try {
    JSON.parse(text);
    return text;
  } catch {
    return JSON.stringify(text);
  }
}

async function putValue(
  invocation: Invocation,
  { key, value, ttl, rawBytes, ...conditions }: PutArguments,
): Promise<void> {
  const form = invocation.form('raw');
  const bytes = value === '-' ? await buffer(invocation.io.stdin) : Buffer.from(value);
  const isBytes = rawBytes === true;
  const body = isBytes ? bytes : jsonBody(bytes, ttl);
  const query = isBytes && ttl !== undefined ? { ttl } : {};
  const { headers, ...terms } = writeTerms(conditions, invocation.cluster().consistency);
  const answer = await invocation.withClient((client) =>
    client.call({
      method: 'PUT',
      path: keyPath(invocation.key(key), { query }),
      headers: {
        'content-type': isBytes ? 'application/octet-stream' : 'application/json',
        ...headers,
      },
      body,
      ...terms,
    }),
  );
  const { version } = JSON.parse(answer.body.toString()) as { version: number };
  if (form === 'json') await invocation.write(`${answer.body.toString()}\n`);
  else await invocation.say(`OK version ${version}`);
}

function jsonBody(bytes: Buffer, ttl: number | undefined): Buffer {
  const whole = utf8.decodeStrict(bytes);
  if (whole === undefined)
    throw new ExitError(exitCodes.usage, 'value: expected UTF-8; --raw-bytes stores any bytes');
  // The newline that a shell's echo adds is no part of a text.
  const text = asJson(whole.replace(/\r?\n$/, ''));
  return Buffer.from(`{"value":${text}${ttl === undefined ? '' : `,"ttl":${ttl}`}}`);
}

async function get(invocation: Invocation, key: string): Promise<void> {
  const form = invocation.form('raw');
  const answer = await invocation.withClient((client) =>
    client.call({
      method: 'GET',
      path: keyPath(invocation.key(key)),
      headers: { accept: form === 'json' ? 'application/json' : 'application/octet-stream' },
      isIdempotent: true,
      isWrite: false,
    }),
  );
  const { body, headers, status } = answer;
  if (status === 300) return severalValues(invocation, key, body);
  const isText = form === 'json' || headers['x-value-type'] !== 'bytes';
  if (form === 'table') {
    const figures = ['x-version', 'x-ttl-remaining'].map((name) => headers[name]?.toString());
    const row = [key, ...figures, isText ? oneLine(body).toString() : shownBytes(body)];
    await invocation.table(['key', 'version', 'ttl', 'value'], [row]);
  } else {
    await invocation.write(body);
    // Bytes leave as they are, for pipes and files.
    if (isText) await invocation.write('\n');
  }
}

/** They are JSON together with their context, whatever form was asked for. */
async function severalValues(invocation: Invocation, key: string, body: Buffer): Promise<void> {
  await invocation.write(`${body.toString()}\n`);
  const said = `${key} has several values; a write with --context takes their place`;
  invocation.io.stderr.write(`kvctl: ${said}\n`);
}

async function del(
  invocation: Invocation,
  keys: readonly string[],
  conditions: ConditionOptions,
): Promise<void> {
  const form = invocation.form('raw');
  let conflicts = 0;
  await invocation.withClient(async (client) => {
    for (const key of keys)
      try {
        const { body } = await client.call({
          method: 'DELETE',
          path: keyPath(invocation.key(key)),
          ...writeTerms(conditions, invocation.cluster().consistency),
        });
        const { deleted } = JSON.parse(body.toString()) as { deleted: boolean };
        if (form === 'json') await invocation.write(`${body.toString()}\n`);
        else await invocation.say(deleted ? 'deleted' : 'not there');
      } catch (error) {
        // Of one key: the others have a condition of their own.
        if (!isConflict(error)) throw error;
        conflicts += 1;
        invocation.io.stderr.write(`kvctl: ${key}: ${error.message}\n`);
      }
  });
  if (conflicts > 0) throw new ExitError(exitCodes.refused, '');
}

const isConflict = (error: unknown): error is ClientError =>
  error instanceof ClientError && error.code === 'CONFLICT' && !error.isOutcomeUnknown;

async function exists(invocation: Invocation, key: string): Promise<void> {
  const form = invocation.form('raw');
  const named = invocation.key(key);
  const path = keyPath(named);
  const isThere = await invocation.withClient(async (client) => {
    try {
      await client.call({ method: 'HEAD', path, isIdempotent: true, isWrite: false });
      return true;
    } catch (error) {
      if (error instanceof ClientError && error.code === 'NOT_FOUND') return false;
      throw error;
    }
  });
  if (form === 'json') await invocation.json({ key: keyInJson(named), exists: isThere });
  else await invocation.say(String(isThere));
  if (!isThere) throw new ExitError(exitCodes.notFound, '');
}

interface ListOptions {
  readonly prefix?: string | undefined;
  readonly limit?: number;
  readonly values?: boolean;
}

async function list(
  invocation: Invocation,
  path: PageQuery['path'],
  { prefix, limit = Infinity, values }: ListOptions,
): Promise<void> {
  const form = invocation.form('raw', ['table', 'json', 'jsonl', 'raw']);
  const withValues = values === true;
  const query: PageQuery = {
    path,
    pageRows: Math.min(limit, pageRows),
    withValues,
    ...(prefix === undefined ? {} : { prefix: invocation.key(prefix) }),
  };
  await invocation.withClient(async (client) => {
    const rows = new Rows(
      invocation,
      form,
      withValues ? ['key', 'version', 'ttl', 'value'] : ['key'],
    );
    let left = limit;
    for await (const page of readPages(client, query)) {
      const items = page.slice(0, left);
      left -= items.length;
      if (form !== 'raw') for (const item of items) await rows.add(cellsOf(item), jsonOf(item));
      else if (items.length > 0)
        await invocation.write(items.map((item) => `${rawLine(item)}\n`).join(''));
      if (left <= 0) break;
    }
    if (form !== 'raw') await rows.end();
  });
}

const cellsOf = (item: PageItem): (string | number | undefined)[] => [
  item.key,
  item.version,
  item.ttlRemaining,
  shownValue(item),
];

const jsonOf = (item: PageItem): string =>
  item.value === undefined ? item.keyText : recordLine(item).toString();

const rawLine = (item: PageItem): string =>
  item.value === undefined ? item.key : `${item.key}\t${shownValue(item)}`;

/** On one line: JSON as it is stored, bytes as `shownBytes` has them. */
function shownValue({ value, encoding }: PageItem): string {
  if (value === undefined) return '';
  if (encoding !== 'base64') return oneLine(value).toString();
  return shownBytes(Buffer.from(JSON.parse(value.toString()) as string, 'base64'));
}

/** Bytes on one line: their text, or `base64:` and so on where they are none that can be printed. */
export function shownBytes(bytes: Uint8Array): string {
  const text = utf8.decodeStrict(bytes);
  if (text !== undefined && !/\p{Cc}/u.test(text)) return text;
  return `base64:${Buffer.from(bytes).toString('base64')}`;
}

/** One item as a line that an import takes. */
export function recordLine({ keyText, value, encoding, ttlRemaining }: PageItem): Buffer {
  const rest = [
    encoding === undefined ? '' : `,"encoding":${JSON.stringify(encoding)}`,
    ttlRemaining === undefined ? '' : `,"ttl":${Math.max(1, ttlRemaining)}`,
  ];
  const text = oneLine(value ?? Buffer.from('null'));
  return Buffer.concat([
    Buffer.from(`{"key":${keyText},"value":`),
    text,
    Buffer.from(`${rest.join('')}}`),
  ]);
}

/** A newline in a JSON text is white space between tokens: a space says the same. */
export function oneLine(value: Buffer): Buffer {
  if (!value.includes(0x0a) && !value.includes(0x0d)) return value;
  return value.map((byte) => (byte === 0x0a || byte === 0x0d ? 0x20 : byte)) as Buffer;
}
