// `kvctl bench`: a load of known shape against a running cluster, and how long its answers took. The
// load itself is cli/bench/; here are its options and how figures are shown.

import { type Command, InvalidArgumentError, Option } from 'commander';
import { type KeyDistribution, keyDistributions } from '../bench/key-chooser.ts';
import { type Latencies, plotLines } from '../bench/latencies.ts';
import { Load, type LoadOptions, type LoadResult, type Target } from '../bench/load.ts';
import { operations, type WorkloadName, workloads } from '../bench/workloads.ts';
import { connect, type KvdClient } from '../client/kvd-client.ts';
import { type Invoke, wholeNumber } from './data.ts';
import { ExitError, exitCodes, type Invocation } from './invocation.ts';

interface BenchArguments {
  readonly workload: WorkloadName;
  readonly records: number;
  readonly operations: number;
  readonly duration: number;
  readonly clients: number;
  readonly rate?: number;
  readonly keys?: KeyDistribution;
  readonly valueBytes: number;
  readonly prefix: string;
  readonly seed: number;
  readonly fill: boolean;
}

export function addBenchCommand(program: Command, invoke: Invoke): void {
  const described = Object.entries(workloads).map(([name, { what }]) => `${name}: ${what}`);
  program
    .command('bench')
    .description('measure a running cluster; it writes keys under --prefix and leaves them there')
    .addOption(
      new Option('-w, --workload <name>', described.join('; '))
        .choices(Object.keys(workloads))
        .default('A'),
    )
    .option('--records <count>', 'records that it starts from', wholeNumber(1, 1e9), 10_000)
    .option('--operations <count>', 'end after so many', wholeNumber(1, 1e12), 1e12)
    .option('--duration <seconds>', 'end after so long', wholeNumber(1, 1e6), 10)
    .option('--clients <count>', 'requests at the same time', wholeNumber(1, 4096), 64)
    .option('--rate <count>', 'open loop: so many operations begin per second', positive)
    .addOption(
      new Option('--keys <distribution>', "default: the workload's").choices(keyDistributions),
    )
    .option('--value-bytes <count>', 'size of a value', wholeNumber(1, 16 * 1024 * 1024), 100)
    .option('--prefix <text>', 'put before every key', 'bench:')
    .option('--seed <number>', 'the same seed chooses the same keys', wholeNumber(0, 2 ** 31), 1)
    .option('--no-fill', 'the records are there already')
    .action((options: BenchArguments, command: Command) => bench(invoke(command), options));
}

function positive(text: string): number {
  const value = Number(text);
  if (value > 0 && value <= 1e7) return value;
  throw new InvalidArgumentError('expected a number above 0, at most 10,000,000');
}

async function bench(invocation: Invocation, options: BenchArguments): Promise<void> {
  const form = invocation.form('table', ['table', 'json']);
  const { consistency, endpoints } = invocation.cluster();
  const level = consistency === undefined ? {} : { level: consistency };
  const { timeoutMs } = invocation;
  const terms = invocation.terms();
  const client = await connect(endpoints, {
    connectionsMax: options.clients,
    hedgeAfterMs: 'off',
    attemptsMax: 1,
    ...terms,
    // The one attempt has all the time.
    ...(timeoutMs === undefined ? {} : { attemptMs: timeoutMs }),
  });
  try {
    const target = targetOf(client, level);
    const { stderr } = invocation.io;
    const note = (text: string): void => {
      if (!invocation.isQuiet) stderr.write(`${text}\n`);
    };
    if (options.fill) {
      note(`writing ${options.records} records of ${options.valueBytes} bytes`);
      await fill(options, endpoints, { level, ...terms });
    }
    note(`workload ${options.workload}: ${workloads[options.workload].what}`);
    const load = new Load(loadOptions(options), target);
    const result = await load.run();
    await (form === 'json'
      ? invocation.json(documentOf(options, result))
      : print(invocation, options, result));
    if (result.done === result.failed)
      throw new ExitError(exitCodes.refused, 'no operation succeeded');
  } finally {
    client.close();
  }
}

type FillTerms = ReturnType<Invocation['terms']> & { readonly level: { readonly level?: string } };

/** With retries: every record has to be there. */
async function fill(
  options: BenchArguments,
  endpoints: readonly string[],
  { level, ...terms }: FillTerms,
): Promise<void> {
  const client = await connect(endpoints, { connectionsMax: options.clients, ...terms });
  try {
    await new Load(loadOptions(options), targetOf(client, level)).fill();
  } finally {
    client.close();
  }
}

function loadOptions(options: BenchArguments): LoadOptions {
  const { workload, keys, operations: operationsMax, duration, rate, ...rest } = options;
  return {
    ...rest,
    rate,
    operationsMax,
    durationMs: duration * 1000,
    workload: workloads[workload],
    ...(keys === undefined ? {} : { keys }),
  };
}

function targetOf(client: KvdClient, level: { readonly level?: string }): Target {
  return {
    read: (key) => client.getRaw(key, level),
    write: (key, value) => client.put(key, value, level),
    scan: async (from, rows) => {
      // Keys are numbers of fixed length: those that share all but two digits are at most 100.
      const prefix = from.slice(0, -2);
      let count = 0;
      for await (const entry of client.entries({ prefix, pageRows: rows, ...level })) {
        count += entry.key === '' ? 0 : 1;
        if (count >= rows) break;
      }
      return count;
    },
  };
}

function documentOf(options: BenchArguments, result: LoadResult): object {
  const { seconds, done, failed, dropped, all, byOperation, failures } = result;
  const { workload, records, clients, rate, valueBytes, seed } = options;
  return {
    workload,
    records,
    clients,
    loop: rate === undefined ? 'closed' : 'open',
    rate: rate ?? null,
    value_bytes: valueBytes,
    seed,
    seconds: Math.round(seconds * 1000) / 1000,
    operations: done,
    failed,
    dropped,
    operations_per_second: Math.round((done - failed) / seconds),
    latency: all.summary(),
    by_operation: Object.fromEntries(
      [...byOperation].map(([name, latencies]) => [name, latencies.summary()]),
    ),
    failures: Object.fromEntries(failures),
  };
}

async function print(
  invocation: Invocation,
  { rate, clients }: BenchArguments,
  { seconds, done, failed, dropped, all, byOperation, failures }: LoadResult,
): Promise<void> {
  const rows = operations.flatMap((name): { name: string; latencies: Latencies }[] => {
    const latencies = byOperation.get(name);
    return latencies === undefined ? [] : [{ name: name, latencies }];
  });
  if (rows.length > 1) rows.push({ name: 'all', latencies: all });
  const figures = rows.map(({ name, latencies }) => {
    const { count, meanMs, p50Ms, p95Ms, p99Ms, p999Ms, maxMs } = latencies.summary();
    const perSecond = Math.round(count / seconds);
    return [name, count, perSecond, meanMs, p50Ms, p95Ms, p99Ms, p999Ms, maxMs];
  });
  await invocation.table(
    ['operation', 'count', 'per s', 'mean ms', 'p50', 'p95', 'p99', 'p99.9', 'max'],
    figures,
  );
  await invocation.write(`${plotLines(all).join('\n')}\n`);
  const loop =
    rate === undefined
      ? `closed loop, ${clients} clients`
      : `open loop, ${rate} per second asked, ${dropped} could not begin`;
  await invocation.say(`${done} operations in ${seconds.toFixed(1)} s (${loop}), ${failed} failed`);
  for (const [code, count] of failures) await invocation.say(`  ${code}: ${count}`);
}
