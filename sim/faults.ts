// The fault model, and the options that each seed draws from it (swarm testing: Groce et al.,
// ISSTA 2012; rules SW-1 to SW-3). Each class of faults is in half of the seeds; one seed in
// twenty has none, one in twenty has a single class at full strength.
//
//   network   latency, slow tail, loss in three ways, old bytes again, clogs, cuts (one node,
//             halves, bridge, ring; one way only), resets, short queues
//   process   kill, power loss, power loss of all, pause, crash at a call of the environment
//   disk      slow, full, sync errors; unsynced data lost or torn at a power loss
//   clock     offset, drift, jumps
//
// Not in this version: changes of the topology, rot, lost and misdirected writes. Within the model
// the promise is whole: with durability `group` no acknowledged write may be lost by any of it.

import { settingRows, type Tunables } from '../actors/node/settings.ts';
import {
  type CompactionStrategy,
  compactionStrategies,
} from '../actors/storage/compaction-picker.ts';
import { Prng } from '../runtime/prng.ts';
import type { NetworkOptions } from './sim-network.ts';
import type { RegisterOptions } from './workloads/registers.ts';

export const faultClasses = [
  'loss',
  'replay',
  'cut',
  'clog',
  'reset',
  'kill',
  'power-loss',
  'blackout',
  'crash-at-call',
  'pause',
  'slow-disk',
  'full-disk',
  'sync-error',
  'clock-offset',
  'clock-drift',
  'clock-jump',
] as const;
export type FaultClass = (typeof faultClasses)[number];

export interface RunOptions {
  readonly seed: number;
  readonly nodes: number;
  readonly shards: number;
  readonly compaction: CompactionStrategy;
  readonly tunables: Tunables;
  readonly faults: readonly FaultClass[];
  /** Strength of the faults, above 0 to 1. */
  readonly intensity: number;
  readonly network: NetworkOptions;
  readonly clocks: ReadonlyMap<string, { readonly offsetMs: number; readonly driftPpm: number }>;
  readonly ties: 'fifo' | 'random';
  readonly gridMicros: number;
  readonly hasBuggify: boolean;
  readonly workload: RegisterOptions;
  /** Mean time between two faults, milliseconds. */
  readonly faultEveryMs: number;
  /** Lengths of the phases, virtual milliseconds. */
  readonly loadMs: number;
  readonly chaosMs: number;
}

export const nodeNames = (count: number): string[] =>
  Array.from({ length: count }, (_, i) => `n${i + 1}`);

/** All options of a seed; `seconds` is the length of the run in virtual seconds, without the end. */
export function optionsOf(seed: number, seconds: number): RunOptions {
  const random = new Prng(seed).fork('options');
  const nodes = random.pick([1, 2, 3, 3, 3, 3, 4, 5, 5]);
  const { faults, intensity } = drawFaults(random.fork('faults'));
  const loadMs = Math.min(8_000, (seconds * 1000) / 5);
  const names = nodeNames(nodes);
  return {
    seed,
    nodes,
    shards: random.pick([1, 1, 1, 2]),
    compaction: random.fork('compaction').pick(compactionStrategies),
    tunables: drawTunables(random.fork('tunables')),
    faults,
    intensity,
    network: drawNetwork(random.fork('network')),
    clocks: drawClocks(random.fork('clocks'), names, faults, intensity),
    ties: random.pick(['fifo', 'random']),
    gridMicros: random.pick([1, 1, 1_000]),
    hasBuggify: random.chance(0.5),
    workload: drawWorkload(random.fork('workload')),
    faultEveryMs: random.logUniform(500, 5_000),
    loadMs,
    chaosMs: Math.max(1_000, seconds * 1000 - loadMs),
  };
}

function drawFaults(random: Prng): { faults: FaultClass[]; intensity: number } {
  const kind = random.float();
  if (kind < 0.05) return { faults: [], intensity: 0.5 };
  if (kind < 0.1) return { faults: [random.pick(faultClasses)], intensity: 1 };
  const faults = faultClasses.filter(() => random.chance(0.5));
  return { faults, intensity: random.logUniform(0.05, 1) };
}

const kiB = 1024;

function drawTunables(random: Prng): Tunables {
  const values = Object.fromEntries(
    Object.entries(settingRows).map(([name, row]) => [name, row.default]),
  ) as Record<keyof Tunables, number>;
  const drawn: Partial<Tunables> = {
    replicationFactor: random.pick([1, 2, 3, 3, 3]),
    virtualNodes: random.pick([1, 4, 16, 256]),
    memtableBytes: random.pick([64 * kiB, 64 * kiB, 128 * kiB, 1024 * kiB]),
    inFlightBytes: random.pick([64 * kiB, 256 * kiB]),
    arenasPerShard: random.pick([2, 3, 3]),
    walSegmentBytes: random.pick([64 * kiB, 256 * kiB, 4096 * kiB]),
    blockCacheBytes: random.pick([64 * kiB, 1024 * kiB]),
    reserveBytes: 16 * kiB,
    valueBytesMax: 8 * kiB,
    readTimeoutMs: random.pick([500, 2_000, 5_000]),
    writeTimeoutMs: random.pick([500, 2_000, 5_000]),
    speculateAfterMs: random.pick([5, 20, 100, 1_000]),
    gossipIntervalMs: random.pick([100, 300, 1_000]),
    suspectAfterMs: random.pick([2_000, 10_000]),
    deadAfterMs: random.pick([5_000, 30_000]),
    mailboxMessages: random.pick([64, 1_024, 8_192]),
    l0Tables: random.pick([2, 2, 4]),
    l0TablesMax: random.pick([5, 20]),
    tableBytes: random.pick([16 * kiB, 64 * kiB, 1024 * kiB]),
    timeWindowMs: random.pick([5_000, 20_000, 86_400_000]),
    rowCacheBytes: random.pick([0, 32 * kiB, 64 * kiB, 1024 * kiB]),
    foregroundDelayMs: random.pick([0, 1, 5]),
  };
  return Object.assign(values, drawn);
}

function drawNetwork(random: Prng): NetworkOptions {
  const isLocal = random.chance(0.6);
  return {
    minMs: isLocal ? random.float() * 2 : random.float() * 30,
    meanMs: isLocal ? 0.2 + random.float() * 2 : 5 + random.float() * 50,
    hasSlowTail: random.chance(0.5),
    queueLengthMax: random.chance(0.1) ? random.between(2, 20) : 1_000,
    keepAliveMs: random.logUniform(500, 15_000),
  };
}

function drawClocks(
  random: Prng,
  names: readonly string[],
  faults: readonly FaultClass[],
  intensity: number,
): Map<string, { offsetMs: number; driftPpm: number }> {
  const sign = (): number => (random.chance(0.5) ? 1 : -1);
  const maxOffsetMs = Math.max(2, 5_000 * intensity);
  const offset = (): number => sign() * random.logUniform(1, maxOffsetMs);
  const drift = (): number => sign() * random.float() * 2_000 * (random.chance(0.01) ? 10 : 1);
  return new Map(
    names.map((name) => [
      name,
      {
        offsetMs: faults.includes('clock-offset') ? offset() : 0,
        driftPpm: faults.includes('clock-drift') ? drift() : 0,
      },
    ]),
  );
}

function drawWorkload(random: Prng): RegisterOptions {
  const keys = random.pick([1, 4, 4, 64, 64, 1_000]);
  const reads = 0.05 + random.float() * 0.9;
  const deletes = random.chance(0.3) ? 0 : random.float() * 0.3;
  const levels = ['ONE', 'QUORUM', 'QUORUM', 'QUORUM', 'ALL'].filter(
    (level) => level === 'QUORUM' || random.chance(0.7),
  );
  return {
    clients: random.between(2, 8),
    keys: Array.from({ length: keys }, (_, i) => `key-${i}`),
    valueBytes: random.pick([
      [100],
      [20, 100, 5_000],
      [5_000],
      [0, 1, 100],
      [0, 1, 20, 100, 5_000],
    ]),
    levels,
    weights: { get: reads, delete: (1 - reads) * deletes, put: (1 - reads) * (1 - deletes) },
    thinkMs: random.logUniform(20, 400),
    timeoutMs: random.pick([300, 1_000, 3_000]),
  };
}

/** The options in one line, for the report of a failing seed. */
export function describeOptions(options: RunOptions): string {
  const { nodes, shards, tunables, faults, intensity, ties, gridMicros, workload } = options;
  const { replicationFactor, virtualNodes, memtableBytes, gossipIntervalMs } = tunables;
  const { l0Tables, tableBytes } = tunables;
  return [
    `nodes=${nodes} rf=${replicationFactor} vnodes=${virtualNodes} shards=${shards}`,
    `memtable=${memtableBytes} gossip=${gossipIntervalMs}ms ties=${ties} grid=${gridMicros}us`,
    `compaction=${options.compaction} l0=${l0Tables} table=${tableBytes}`,
    `clients=${workload.clients} keys=${workload.keys.length} levels=${workload.levels.join('/')}`,
    `faults=${faults.join('+') || 'none'} intensity=${intensity.toFixed(2)}`,
  ].join(' ');
}
