// `npm run bench -- peers [--quick] [--rounds N]`: three nodes of kvd beside an etcd cluster of three
// members and a Redis server with two replicas, all of them on this machine, under the same load in
// turns: 50 connections, one request at a time on each, values of 100 bytes, 20,000 keys. A put is
// answered when it is on the disk of two of three: kvd at QUORUM with durability `group`; etcd as it
// is; Redis with `appendfsync always` everywhere and WAIT 1 after each SET, in one write. Connections
// are spread over kvd and etcd, once more all are at etcd's leader, those of Redis at its primary.
//
// Each client speaks the server's own protocol with prepared bytes (closed-loop.ts). The median of
// the rounds counts. Beside the rate stands the processor time of the servers for a request, which
// suffers least from whatever else the machine does. What is not installed is named and left out.

import { parseArgs } from 'node:util';
import { DevCluster } from '../process/dev-cluster.ts';
import { median } from './median.ts';
import { closedLoop, type LoadResult } from './closed-loop.ts';
import { bytesField, grpcLoad, prepareCall, type PreparedCall, trueField } from './grpc-load.ts';
import { askRedis, isInstalled, processorMs, Programs, startEtcd, startRedis } from './programs.ts';
import { pipelines, respConversation } from './resp-load.ts';

const connections = 50;
const keys = 20_000;
const value = 'x'.repeat(100);
/** One request in so many is a put where the load is mixed. */
const mixedPutEvery = 5;
const requestsMax = 4_000_000;
const waitMs = 5_000;

const kinds = ['put', 'get', 'get, weak', 'mixed 80:20'] as const;
type Kind = (typeof kinds)[number];

interface Target {
  readonly name: string;
  readonly notes: Readonly<Partial<Record<Kind, string>>>;
  readonly pids: readonly number[];
  /** Undefined where there is no such thing. */
  readonly run: (kind: Kind, limits: Limits) => Promise<LoadResult> | undefined;
  readonly fill: () => Promise<LoadResult>;
}

interface Limits {
  readonly requests: number;
  readonly durationMs?: number;
}

interface Measured extends LoadResult {
  /** Of the servers, for one request, microseconds. */
  readonly processorMicros: number;
}

const key = (n: number): string => `bench:${(n * 7919) % keys}`;
const isPut = (kind: Kind, n: number): boolean =>
  kind === 'put' || (kind === 'mixed 80:20' && n % mixedPutEvery === 0);

async function kvd(programs: Programs): Promise<Target> {
  const starting = DevCluster.start({ nodes: 3, extra: ['--durability', 'group'] });
  programs.add(async () => {
    const cluster = await starting;
    await cluster.stop();
    cluster.remove();
  });
  const cluster = await starting;
  const ports = [0, 1, 2].map((i) => cluster.basePort + 10 * i + 1);
  const puts = pipelines(keys, 1, (n) => ['SET', key(n), value]);
  const gets = pipelines(keys, 1, (n) => ['GET', key(n)]);
  const run = (kind: Kind, limits: Limits): Promise<LoadResult> => {
    const opening = ['KV.CONSISTENCY', kind === 'get, weak' ? 'ONE' : 'QUORUM'];
    const request = (n: number): Buffer => (isPut(kind, n) ? puts(n) : gets(n));
    const converse = () => respConversation(request, () => 1, opening);
    return closedLoop({ ports, connections, ...limits, converse });
  };
  return {
    name: 'kvd',
    notes: { put: 'QUORUM', get: 'QUORUM', 'get, weak': 'ONE', 'mixed 80:20': 'QUORUM' },
    pids: ['n1', 'n2', 'n3'].map((node) => cluster.pid(node)),
    run,
    fill: () => run('put', { requests: keys }),
  };
}

async function etcd(programs: Programs): Promise<readonly Target[]> {
  const { ports, leaderPort, pids } = await startEtcd(programs, 3);
  const service = '/etcdserverpb.KV';
  const each = (call: (n: number) => PreparedCall): readonly PreparedCall[] =>
    Array.from({ length: keys }, (_, n) => call(n));
  const range = (n: number, isSerializable: boolean): PreparedCall =>
    prepareCall({
      path: `${service}/Range`,
      message: Buffer.concat([bytesField(1, key(n)), ...(isSerializable ? [trueField(7)] : [])]),
      answerBytesMin: value.length,
    });
  const puts = each((n) =>
    prepareCall({
      path: `${service}/Put`,
      message: Buffer.concat([bytesField(1, key(n)), bytesField(2, value)]),
      answerBytesMin: 1,
    }),
  );
  const gets = each((n) => range(n, false));
  const weakGets = each((n) => range(n, true));
  const at = (name: string, places: readonly number[]): Target => {
    const run = (kind: Kind, limits: Limits): Promise<LoadResult> => {
      const reads = kind === 'get, weak' ? weakGets : gets;
      const call = (n: number): PreparedCall =>
        (isPut(kind, n) ? puts : reads)[n % keys] as PreparedCall;
      return grpcLoad({ ports: places, connections, ...limits, call });
    };
    const notes = {
      get: 'linearizable',
      'get, weak': 'serializable',
      'mixed 80:20': 'linearizable',
    };
    return { name, notes, pids, run, fill: () => run('put', { requests: keys }) };
  };
  return [at('etcd', ports), at('etcd, at its leader', [leaderPort])];
}

async function redis(programs: Programs): Promise<Target> {
  const { ports, pids } = await startRedis(programs, ['--appendfsync', 'always'], 2);
  const [port] = ports;
  const puts = pipelines(2 * keys, 2, (n) =>
    n % 2 === 0 ? ['SET', key(n / 2), value] : ['WAIT', '1', String(waitMs)],
  );
  const gets = pipelines(keys, 1, (n) => ['GET', key(n)]);
  const load = (kind: Kind, limits: Limits): Promise<LoadResult> => {
    const request = (n: number): Buffer => (isPut(kind, n) ? puts(n) : gets(n));
    const answersOf = (n: number): number => (isPut(kind, n) ? 2 : 1);
    const converse = () => respConversation(request, answersOf);
    return closedLoop({ ports: [port], connections, ...limits, converse });
  };
  return {
    name: 'redis',
    notes: { put: 'WAIT 1', get: 'at the primary', 'mixed 80:20': 'WAIT 1' },
    pids,
    run: (kind, limits) => (kind === 'get, weak' ? undefined : load(kind, limits)),
    fill: async () => {
      const result = await load('put', { requests: keys });
      const copies = await askRedis(port, `WAIT 1 ${waitMs}`);
      if (copies !== ':2\r\n') throw new Error(`replicas of redis lag behind: ${copies}`);
      return result;
    },
  };
}

async function measure(
  target: Target,
  kind: Kind,
  durationMs: number,
): Promise<Measured | undefined> {
  const before = processorMs(target.pids);
  const result = await target.run(kind, { requests: requestsMax, durationMs });
  if (result === undefined) return undefined;
  const after = processorMs(target.pids);
  const usedMs = before === undefined || after === undefined ? Number.NaN : after - before;
  return { ...result, processorMicros: (usedMs * 1000) / result.done };
}

const medianBy = <T>(values: readonly T[], of: (value: T) => number): number =>
  median(values.map(of));

const medianRound = (rounds: readonly Measured[]): Measured => ({
  perSecond: medianBy(rounds, (one) => one.perSecond),
  p50Ms: medianBy(rounds, (one) => one.p50Ms),
  p99Ms: medianBy(rounds, (one) => one.p99Ms),
  processorMicros: medianBy(rounds, (one) => one.processorMicros),
  done: rounds.reduce((sum, { done }) => sum + done, 0),
  errors: rounds.reduce((sum, { errors }) => sum + errors, 0),
});

type Figures = ReadonlyMap<Kind, ReadonlyMap<Target, Measured>>;

async function measureAll(
  targets: readonly Target[],
  rounds: number,
  durationMs: number,
): Promise<Figures> {
  const found = new Map(kinds.map((kind) => [kind, new Map<Target, Measured[]>()]));
  const cells = kinds.flatMap((kind) => targets.map((target) => [kind, target] as const));
  for (let round = 1; round <= rounds; round += 1)
    for (const [kind, target] of cells) {
      const one = await measure(target, kind, durationMs);
      if (one === undefined) continue;
      const cell = found.get(kind) as Map<Target, Measured[]>;
      cell.set(target, [...(cell.get(target) ?? []), one]);
      process.stdout.write(`round ${round}  ${line(kind, target, one)}\n`);
    }
  return new Map(
    [...found].map(([kind, cell]) => [
      kind,
      new Map([...cell].map(([target, all]) => [target, medianRound(all)])),
    ]),
  );
}

function line(kind: Kind, { name, notes }: Target, measured: Measured): string {
  const { perSecond, p50Ms, p99Ms, processorMicros, errors } = measured;
  const note = notes[kind];
  const what = `${kind.padEnd(11)}  ${`${name}${note === undefined ? '' : ` (${note})`}`.padEnd(34)}`;
  return (
    `${what} ${String(Math.round(perSecond)).padStart(7)} per second  ` +
    `p50 ${p50Ms.toFixed(2).padStart(6)} ms  p99 ${p99Ms.toFixed(2).padStart(6)} ms  ` +
    `processor ${processorMicros.toFixed(0).padStart(4)} us  errors ${errors}`
  );
}

function report(figures: Figures): void {
  process.stdout.write('\nmedians of the rounds\n');
  for (const [kind, cell] of figures)
    for (const [target, measured] of cell)
      process.stdout.write(`${line(kind, target, measured)}\n`);
  process.stdout.write('\nkvd beside the others: rate, p50, p99, processor time of a request\n');
  for (const [kind, cell] of figures) {
    const [own, ...others] = [...cell];
    if (own === undefined) continue;
    for (const [{ name }, theirs] of others) {
      const ratios = (['perSecond', 'p50Ms', 'p99Ms', 'processorMicros'] as const).map((figure) =>
        (own[1][figure] / theirs[figure]).toFixed(2).padStart(6),
      );
      process.stdout.write(`${kind.padEnd(11)}  kvd / ${name.padEnd(20)} ${ratios.join(' ')}\n`);
    }
  }
}

async function startAll(programs: Programs): Promise<readonly Target[]> {
  const targets = [await kvd(programs)];
  const left: string[] = [];
  if (isInstalled('etcd')) targets.push(...(await etcd(programs)));
  else left.push('no etcd in the PATH (Debian: etcd-server): its part is left out');
  if (isInstalled('redis-server')) targets.push(await redis(programs));
  else left.push('no redis-server in the PATH (Debian: redis-server): its part is left out');
  for (const one of left) process.stdout.write(`${one}\n`);
  return targets;
}

export async function benchPeers(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      quick: { type: 'boolean', default: false },
      rounds: { type: 'string', default: '3' },
    },
  });
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1)
    throw new Error('--rounds: a whole number from 1 on');
  const programs = new Programs();
  try {
    const targets = await startAll(programs);
    for (const target of targets) {
      const { errors } = await target.fill();
      if (errors > 0) throw new Error(`${target.name}: ${errors} puts failed`);
    }
    report(await measureAll(targets, rounds, values.quick ? 1_000 : 4_000));
  } finally {
    await programs.stop();
  }
}
