// `npm run bench -- hot [--quick]`: many clients read one key at three nodes at QUORUM over the Redis
// protocol, with and without joined reads (docs/decisions/0025). Two clusters run at the same time and
// have the load in turns, so that other work of the machine meets both; what it prints is processor
// time of all three nodes per read. The same with reads of many keys shows what joining costs them.

import { DevCluster } from '../process/dev-cluster.ts';
import { median } from './median.ts';
import { processorMs } from './programs.ts';
import { pipelines, respLoad } from './resp-load.ts';

interface Side {
  readonly name: string;
  readonly cluster: DevCluster;
  readonly rounds: { readonly load: string; readonly micros: number; readonly perSecond: number }[];
}

const keys = 20_000;
const loads = [
  { name: 'one key, no pipelining', depth: 1, keysRead: 1 },
  { name: 'one key, pipelines of 16', depth: 16, keysRead: 1 },
  { name: 'many keys, no pipelining', depth: 1, keysRead: keys },
  { name: 'many keys, pipelines of 16', depth: 16, keysRead: keys },
] as const;
const connections = 50;
const value = 'x'.repeat(100);

async function start(name: string, settings: readonly string[]): Promise<Side> {
  const extra = ['--durability', 'periodic', ...settings];
  const cluster = await DevCluster.start({ nodes: 3, extra });
  const ports = [cluster.basePort + 1];
  const pipeline = pipelines(keys / 50, 50, (n) => ['SET', `bench:${n}`, value]);
  await respLoad({ ports, connections: 8, depth: 50, requests: keys, pipeline });
  return { name, cluster, rounds: [] };
}

async function measureAll(sides: readonly Side[], durationMs: number): Promise<void> {
  for (const load of loads) for (const side of sides) await measure(side, load, durationMs);
}

async function measure(
  side: Side,
  load: (typeof loads)[number],
  durationMs: number,
): Promise<void> {
  const { cluster, rounds } = side;
  const { name, depth, keysRead } = load;
  const pids = ['n1', 'n2', 'n3'].map((node) => cluster.pid(node));
  const ports = [0, 1, 2].map((i) => cluster.basePort + 10 * i + 1);
  const pipeline = pipelines(256, depth, (n) => ['GET', `bench:${(n * 7919) % keysRead}`]);
  const before = processorMs(pids);
  const requests = 10_000_000;
  const result = await respLoad({ ports, connections, depth, requests, durationMs, pipeline });
  const reads = result.done * depth;
  const after = processorMs(pids);
  if (before === undefined || after === undefined)
    throw new Error('processor times of other processes: expected a /proc file system');
  if (result.errors > 0) throw new Error(`${name}: expected no errors, had ${result.errors}`);
  const { perSecond } = result;
  rounds.push({ load: name, micros: ((after - before) * 1000) / reads, perSecond });
}

export async function benchHot(args: readonly string[]): Promise<void> {
  const isQuick = args.includes('--quick');
  const rounds = isQuick ? 3 : 7;
  const durationMs = isQuick ? 1_000 : 3_000;
  const sides: Side[] = [];
  try {
    sides.push(await start('joined', []));
    sides.push(await start('apart', ['--set', 'joinReadsAbove=65535']));
    for (let round = 0; round < rounds; round += 1) {
      // Whoever goes first in one round goes second in the next.
      const order = round % 2 === 0 ? sides : [...sides].reverse();
      await measureAll(order, durationMs);
    }
    for (const { name } of loads) show(name, sides);
  } finally {
    for (const { cluster } of sides) {
      await cluster.stop();
      cluster.remove();
    }
  }
}

function show(load: string, sides: readonly Side[]): void {
  const figures = sides.map(({ name, rounds }) => {
    const own = rounds.filter((round) => round.load === load);
    const micros = median(own.map((round) => round.micros));
    const perSecond = median(own.map((round) => round.perSecond));
    return { micros, text: `${name} ${micros.toFixed(1)} us, ${Math.round(perSecond)} per second` };
  });
  const [joined, apart] = figures.map(({ micros }) => micros);
  const ratio = (joined ?? Number.NaN) / (apart ?? Number.NaN);
  const texts = figures.map(({ text }) => text.padEnd(40)).join('');
  process.stdout.write(`${load.padEnd(28)} ${texts}ratio ${ratio.toFixed(2)}\n`);
}
