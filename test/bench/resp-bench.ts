// `npm run bench -- resp [--quick] [--one] [--three]`: the Redis face of one node beside redis-server,
// in one run: pipelines of 1, 16 and 64 commands, values of 100 bytes and 1 KiB, GET, SET, and MGET
// and MSET of ten keys. Both write a log that is synced in the background (kvd `--durability
// periodic`, redis `appendfsync everysec`). Every cell has a time and no count, so that a slow one
// does not hold up the rest: under five minutes, with `--quick` under two. Then GET and SET at half of
// the rate that they just reached, however long answers take (an open loop): what a request takes when
// a node is busy, not full. `--one`: kvd alone; `--three`: three nodes with group commit as well. Where
// no redis-server is, its part is left out.

import { DevCluster } from '../process/dev-cluster.ts';
import type { LoadResult } from './closed-loop.ts';
import { isInstalled, Programs, startRedis } from './programs.ts';
import { pipelines, respLoad } from './resp-load.ts';

interface Target {
  readonly name: string;
  readonly port: number;
  readonly stop: () => Promise<void>;
}

interface Cell {
  readonly verb: 'SET' | 'GET' | 'MSET' | 'MGET';
  readonly depth: number;
  readonly valueBytes: number;
}

const connections = 50;
const keys = 20_000;
/** Keys of one MGET or MSET. */
const keysTogether = 10;
/** Different pipelines of a cell, used in turn. */
const preparedCommands = 4096;
const commandsMax = 10_000_000;
const valueSizes = [100, 1024] as const;
const cells: readonly Cell[] = valueSizes.flatMap((valueBytes) =>
  [1, 16, 64].flatMap((depth) =>
    (['SET', 'GET', 'MSET', 'MGET'] as const).map((verb) => ({ verb, depth, valueBytes })),
  ),
);

const key = (n: number): string => `bench:${(n * 7919) % keys}`;

function commandOf({ verb, valueBytes }: Cell, n: number): readonly string[] {
  const value = 'x'.repeat(valueBytes);
  if (verb === 'GET') return [verb, key(n)];
  if (verb === 'SET') return [verb, key(n), value];
  const together = Array.from({ length: keysTogether }, (_, i) => key(n * keysTogether + i));
  return verb === 'MGET' ? [verb, ...together] : [verb, ...together.flatMap((one) => [one, value])];
}

async function kvd(nodes: number, durability: string): Promise<Target> {
  const cluster = await DevCluster.start({ nodes, extra: ['--durability', durability] });
  const stop = async (): Promise<void> => {
    await cluster.stop();
    cluster.remove();
  };
  const name = `kvd, ${nodes} node${nodes > 1 ? 's' : ''}, ${durability}`;
  return { name, port: cluster.basePort + 1, stop };
}

async function redis(): Promise<Target> {
  const programs = new Programs();
  try {
    const { ports } = await startRedis(programs, ['--appendfsync', 'everysec']);
    const [port] = ports;
    return { name: 'redis-server, AOF everysec', port, stop: () => programs.stop() };
  } catch (error) {
    await programs.stop();
    throw error;
  }
}

async function measure(target: Target, durationMs: number): Promise<ReadonlyMap<Cell, LoadResult>> {
  const results = new Map<Cell, LoadResult>();
  const see = async (cell: Cell, limits: Limits): Promise<LoadResult> => {
    const result = await load(target, cell, limits);
    const name = limits.perSecond === undefined ? target.name : `${target.name}, half load`;
    process.stdout.write(`${line(name, cell, result)}\n`);
    return result;
  };
  for (const valueBytes of valueSizes) {
    await fill(target, valueBytes);
    const alike = cells.filter((cell) => cell.valueBytes === valueBytes);
    for (const cell of alike) results.set(cell, await see(cell, { durationMs }));
    for (const cell of alike.filter(({ verb }) => !verb.startsWith('M'))) {
      const peak = results.get(cell)?.perSecond ?? Number.NaN;
      await see(cell, { durationMs, perSecond: peak / 2 });
    }
  }
  return results;
}

async function fill({ port }: Target, valueBytes: number): Promise<void> {
  const value = 'x'.repeat(valueBytes);
  const pipeline = pipelines(keys / 50, 50, (n) => ['SET', `bench:${n}`, value]);
  await respLoad({ ports: [port], connections: 8, depth: 50, requests: keys, pipeline });
}

interface Limits {
  readonly durationMs: number;
  /** Commands are due at this rate. */
  readonly perSecond?: number;
}

function load({ port }: Target, cell: Cell, limits: Limits): Promise<LoadResult> {
  const { verb, depth } = cell;
  const count = Math.ceil(preparedCommands / (verb.startsWith('M') ? keysTogether : 1) / depth);
  const pipeline = pipelines(count, depth, (n) => commandOf(cell, n));
  const options = { ports: [port], connections, depth, requests: commandsMax, pipeline };
  return respLoad({ ...options, ...limits });
}

const line = (
  name: string,
  { verb, depth, valueBytes }: Cell,
  { perSecond, p50Ms, p99Ms, errors }: LoadResult,
): string =>
  `${name.padEnd(38)} ${String(valueBytes).padStart(4)} B  -P ${String(depth).padEnd(2)} ${verb.padEnd(4)} ${String(Math.round(perSecond)).padStart(8)} per second  p50 ${p50Ms.toFixed(2)} ms  p99 ${p99Ms.toFixed(2)} ms  errors ${errors}`;

async function measureAll(
  start: () => Promise<Target>,
  durationMs: number,
): Promise<ReadonlyMap<Cell, LoadResult>> {
  const target = await start();
  try {
    return await measure(target, durationMs);
  } finally {
    await target.stop();
  }
}

export async function benchResp(args: readonly string[]): Promise<void> {
  const cellMs = args.includes('--quick') ? 1000 : 3000;
  const ours = await measureAll(() => kvd(1, 'periodic'), cellMs);
  if (args.includes('--three')) await measureAll(() => kvd(3, 'group'), cellMs);
  if (args.includes('--one')) return;
  if (!isInstalled('redis-server')) {
    process.stdout.write('no redis-server in the PATH: the comparison is left out\n');
    return;
  }
  const theirs = await measureAll(redis, cellMs);
  process.stdout.write('\nrate of kvd / rate of redis\n');
  for (const [cell, { perSecond }] of ours) {
    const { verb, depth, valueBytes } = cell;
    const ratio = perSecond / (theirs.get(cell)?.perSecond ?? Number.NaN);
    process.stdout.write(
      `${String(valueBytes).padStart(4)} B  -P ${String(depth).padEnd(2)} ${verb.padEnd(4)} ${ratio.toFixed(2)}\n`,
    );
  }
}
