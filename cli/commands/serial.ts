// Commands that are decided (docs/consistency.md, serial operations): cas and incr. Each call carries a request id, so that trying again after a lost answer
// gives the first result instead of a second effect (rule ID-2).

import { randomUUID } from 'node:crypto';
import type { Command } from 'commander';
import { keyPath } from '../client/keys.ts';
import { requestIdOption } from './conditions.ts';
import { asJson, type Invoke, wholeNumber } from './data.ts';
import { ExitError, exitCodes, type Invocation } from './invocation.ts';

const json = { 'content-type': 'application/json' };

interface CasOptions {
  readonly ifVersion?: number;
  readonly ifValue?: string;
  readonly ifEtag?: string;
  readonly ttl?: number;
  readonly requestId?: string;
}

export function addSerialCommands(program: Command, invoke: Invoke): void {
  program
    .command('cas <key> <value>')
    .description('write a value if the key is as expected; exit code 1 and CONFLICT if not')
    .option('--if-version <n>', '0: not there', wholeNumber(0, Number.MAX_SAFE_INTEGER))
    .option('--if-value <value>', 'the same JSON value, or the same text')
    .option('--if-etag <etag>', 'as an answer gave it')
    .option('--ttl <seconds>', 'expire after so many seconds', wholeNumber(1, 315_360_000))
    .addOption(requestIdOption())
    .action((key: string, value: string, options: CasOptions, command: Command) =>
      cas(invoke(command), key, value, options),
    );
  program
    .command('incr <key> [delta]')
    .description('add a whole number to a counter, 1 by default; print what it is then')
    .addOption(requestIdOption())
    .action((key: string, text: string | undefined, options: CasOptions, command: Command) =>
      increment(invoke(command), key, deltaOf(text), options),
    );
}

function deltaOf(text = '1'): number {
  const delta = /^[+-]?\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(delta))
    throw new ExitError(exitCodes.usage, `delta: expected a whole number, found ${text}`);
  return delta;
}

async function cas(
  invocation: Invocation,
  key: string,
  value: string,
  { ifVersion, ifValue, ifEtag, ttl, requestId }: CasOptions,
): Promise<void> {
  const form = invocation.form('raw');
  const expectations = [
    ifVersion === undefined ? [] : [`"expected_version":${ifVersion}`],
    ifValue === undefined ? [] : [`"expected_value":${asJson(ifValue)}`],
    ifEtag === undefined ? [] : [`"expected_etag":${JSON.stringify(ifEtag)}`],
  ].flat();
  if (expectations.length !== 1)
    throw new ExitError(
      exitCodes.usage,
      `cas: expected exactly one of --if-version, --if-value and --if-etag, found ${expectations.length}`,
    );
  const members = [...expectations, `"new_value":${asJson(value)}`];
  if (ttl !== undefined) members.push(`"ttl":${ttl}`);
  const path = keyPath(invocation.key(key), { verb: 'cas' });
  const body = await post(invocation, path, `{${members.join(',')}}`, requestId);
  const { new_version: version } = JSON.parse(body) as { new_version: number };
  if (form === 'json') await invocation.write(`${body}\n`);
  else await invocation.say(`OK version ${version}`);
}

async function increment(
  invocation: Invocation,
  key: string,
  delta: number,
  { requestId }: CasOptions,
): Promise<void> {
  const form = invocation.form('raw');
  const path = keyPath(invocation.key(key), { verb: 'incr' });
  const body = await post(invocation, path, `{"delta":${delta}}`, requestId);
  const { value } = JSON.parse(body) as { value: number };
  await invocation.write(form === 'json' ? `${body}\n` : `${value}\n`);
}

async function post(
  invocation: Invocation,
  path: string,
  body: string,
  requestId = randomUUID() as string,
): Promise<string> {
  const answer = await invocation.withClient((client) =>
    client.call({
      method: 'POST',
      path,
      headers: { ...json, 'x-request-id': requestId },
      body: Buffer.from(body),
      // Sent again with the same id it is done once.
      isIdempotent: true,
      isWrite: true,
    }),
  );
  return answer.body.toString();
}
