// kvctl watch: changes as they happen, one line each, until Ctrl-C or --count. With `-o jsonl` a
// line has the event's id, with which --after goes on.

import type { Command } from 'commander';
import { connect, type WatchEvent } from '../client/kvd-client.ts';
import { keyInJson } from '../client/keys.ts';
import { type Invoke, shownBytes, wholeNumber } from './data.ts';
import type { Invocation } from './invocation.ts';

interface WatchArguments {
  readonly after?: string;
  readonly values?: boolean;
  readonly count?: number;
}

export function addWatchCommand(program: Command, invoke: Invoke): void {
  program
    .command('watch [prefix]')
    .description(
      'changes as they happen: puts, deletes, expiries; `reset` where some may be missing',
    )
    .option('--after <id>', 'go on after this event')
    .option('--no-values', 'without the values')
    .option('--count <n>', 'end after so many changes', wholeNumber(1, 1e12))
    .action((prefix: string | undefined, options: WatchArguments, command: Command) =>
      watch(invoke(command), prefix ?? '', options),
    );
}

async function watch(
  invocation: Invocation,
  prefix: string,
  { after, values = true, count = Infinity }: WatchArguments,
): Promise<void> {
  const form = invocation.form('raw', ['raw', 'jsonl', 'json']);
  const client = await connect(invocation.cluster().endpoints, invocation.terms());
  try {
    let left = count;
    const options = {
      prefix: invocation.key(prefix),
      values,
      ...(after === undefined ? {} : { after }),
    };
    for await (const event of client.watch(options)) {
      const isChange = event.type !== 'ready' && event.type !== 'reset';
      if (isChange || form !== 'raw' || !invocation.isQuiet)
        await invocation.write(
          form === 'raw' ? rawLine(event) : `${JSON.stringify(shown(event))}\n`,
        );
      if (isChange) left -= 1;
      if (left === 0) return;
    }
  } finally {
    client.close();
  }
}

function rawLine(event: WatchEvent): string {
  if (event.type === 'ready') return 'ready\n';
  if (event.type === 'reset') return `reset ${event.reason}\n`;
  if (event.type !== 'put' || event.value === undefined) return `${event.type} ${event.key}\n`;
  const { key, value } = event;
  const text = value instanceof Uint8Array ? shownBytes(value) : JSON.stringify(value);
  return `put ${key} ${text}\n`;
}

/** Bytes as base64. */
function shown(event: WatchEvent): object {
  if (event.type === 'ready' || event.type === 'reset') return event;
  const { keyBytes, ...told } = event;
  const named = { ...told, key: keyInJson(keyBytes ?? event.key) };
  if (event.type !== 'put' || !(event.value instanceof Uint8Array)) return named;
  return { ...named, value: Buffer.from(event.value).toString('base64'), encoding: 'base64' };
}
