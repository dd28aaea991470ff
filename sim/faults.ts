// The fault model, and the options that each seed draws from it (swarm testing: Groce et al.,
// ISSTA 2012; rules SW-1 to SW-3). Each class of faults is in half of the seeds; one seed in
// twenty has none, one in twenty has a single class at full strength.
//
// The classes and what they do are in the table of docs/simulation.md, by the rows of rule 2.2.
//
// Faults hurt nothing that was synced: with durability `group` no acknowledged write may be lost by
// any of them. Damage does, and is drawn apart, in one seed of five: mostly to one node only, so that
// every record keeps a clean copy (the fault atlas of TigerBeetle); where that cannot be, or in one
// seed of twenty of these, only wrong answers are a find.

import { settingRows, type Tunables } from '../actors/node/settings.ts';
import { Prng } from '../runtime/prng.ts';
import type { NetworkOptions } from './sim-network.ts';
import { withinBudget } from './load.ts';
import { workloadKinds } from './registry.ts';
import type { PacedWorkload } from './workload.ts';
import { batchWorkloadName } from './workloads/batches.ts';
import {
  type CompactionStrategy,
  type Compression,
  compactionStrategies,
  compressions,
} from '../actors/model/table-choices.ts';

export const faultClasses = [
  'loss',
  'replay',
  'corrupt-frame',
  'cut',
  'flap',
  'clog',
  'reset',
  'kill',
  'power-loss',
  'blackout',
  'crash-at-call',
  'crash-at-label',
  'pause',
  'slow-disk',
  'stuck-disk',
  'full-disk',
  'disk-error',
  'clock-offset',
  'clock-drift',
  'clock-jump',
  'clock-strobe',
] as const;
export type FaultClass = (typeof faultClasses)[number];

export const damageClasses = [
  /** Bits of synced sectors flip. */
  'rot',
  /** Blocks that cannot be read, for a while. */
  'read-error',
  /** Syncs that answer and do nothing. */
  'lying-sync',
  /** A sector of a synced write keeps its old content. */
  'lost-write',
  /** A sector of a synced write lands elsewhere in the file. */
  'misdirected-write',
  /** The node comes back with an empty disk. */
  'wiped-disk',
] as const;
export type DamageClass = (typeof damageClasses)[number];
/** Damage that checksums show; the others may take records away without a trace. */
const detectable = new Set<DamageClass>(['rot', 'read-error']);

export interface RunOptions {
  readonly seed: number;
  /** Fork it by name. */
  readonly random: Prng;
  readonly nodes: number;
  /** By node. */
  readonly shards: ReadonlyMap<string, number>;
  readonly compaction: CompactionStrategy;
  readonly compression: Compression;
  readonly tunables: Tunables;
  readonly faults: readonly FaultClass[];
  /** Strength of the faults, above 0 to 1. */
  readonly intensity: number;
  readonly damage: readonly DamageClass[];
  /** The node that damage strikes; undefined: any, so that nothing is promised about data. */
  readonly victim: string | undefined;
  /** Copies of a record that the damage may take: 0, 1, or all. */
  readonly lostCopies: number;
  /** What a quorum has acknowledged is there all the same: the node knows what it has lost (CO-4). */
  readonly isRefilled: boolean;
  readonly network: NetworkOptions;
  readonly clocks: ReadonlyMap<string, { readonly offsetMs: number; readonly driftPpm: number }>;
  /** Wall clocks show multiples of this, so that nodes give equal stamps; microseconds. */
  readonly clockGrainMicros: number;
  readonly ties: 'fifo' | 'random';
  readonly gridMicros: number;
  readonly hasBuggify: boolean;
  readonly workloads: readonly PacedWorkload[];
  /** Mean time between two faults, milliseconds. */
  readonly faultEveryMs: number;
  /** Lengths of the phases, virtual milliseconds. */
  readonly loadMs: number;
  readonly chaosMs: number;
}

export const nodeNames = (count: number): string[] =>
  Array.from({ length: count }, (_, i) => `n${i + 1}`);

/**
 * All options of a seed; `seconds` is the length of the run in virtual seconds, without the end.
 * `forced` classes are there in any case; damage only where every record can keep a clean copy.
 */
export function optionsOf(
  seed: number,
  seconds: number,
  forced: readonly (FaultClass | DamageClass)[] = [],
): RunOptions {
  const random = new Prng(seed).fork('options');
  const nodes = random.pick([1, 2, 3, 3, 3, 3, 4, 5, 5]);
  const drawn = drawFaults(random.fork('faults'));
  const faults = faultClasses.filter(
    (name) => drawn.faults.includes(name) || forced.includes(name),
  );
  const { intensity } = drawn;
  const loadMs = Math.min(8_000, (seconds * 1000) / 5);
  const names = nodeNames(nodes);
  const drawnTunables = drawTunables(random.fork('tunables'));
  // With wrong clocks on purpose the check would leave nobody to write, and hide what they do.
  const hasWrongClocks = faults.some((name) => name.startsWith('clock-'));
  const usual = hasWrongClocks ? { ...drawnTunables, clockOffsetMaxMs: 0 } : drawnTunables;
  const { replicationFactor } = usual;
  const facts = { nodes, replicationFactor };
  const prepared = workloadKinds.flatMap(
    (kind) => kind.prepare(random.fork(`workload:${kind.name}`), facts) ?? [],
  );
  // Nothing comes late where there are neither batches nor hints: what is purged is gone at once.
  const isPurgedAtOnce =
    Math.min(replicationFactor, nodes) === 1 &&
    !prepared.some(({ name }) => name === batchWorkloadName);
  const tunables = isPurgedAtOnce ? { ...usual, tombstoneGraceMs: 0, hintWindowMs: 0 } : usual;
  return {
    seed,
    random,
    nodes,
    shards: drawShards(names, random.pick([1, 1, 1, 2]), random.fork('shards')),
    compaction: random.fork('compaction').pick(compactionStrategies),
    compression: random.fork('compression').pick(compressions),
    tunables,
    faults,
    intensity,
    ...drawDamage(random.fork('damage'), names, replicationFactor, forced),
    network: drawNetwork(random.fork('network')),
    clocks: drawClocks(random.fork('clocks'), names, faults, intensity),
    clockGrainMicros: random.fork('grain').pick([1, 1, 1, 1_000, 250_000]),
    ties: random.pick(['fifo', 'random']),
    gridMicros: random.pick([1, 1, 1_000]),
    hasBuggify: random.chance(0.5),
    workloads: withinBudget(prepared, random.fork('load')),
    faultEveryMs: random.logUniform(400, 4_000),
    loadMs,
    chaosMs: Math.max(1_000, seconds * 1000 - loadMs),
  };
}

/** Mostly as many at each node; the shards of unlike nodes hold unlike parts of what they share. */
function drawShards(
  names: readonly string[],
  usual: number,
  random: Prng,
): ReadonlyMap<string, number> {
  const isUneven = random.chance(0.2);
  return new Map(names.map((name) => [name, isUneven ? random.pick([1, 2, 3]) : usual]));
}

function drawFaults(random: Prng): { faults: FaultClass[]; intensity: number } {
  const kind = random.float();
  if (kind < 0.05) return { faults: [], intensity: 0.5 };
  if (kind < 0.1) return { faults: [random.pick(faultClasses)], intensity: 1 };
  const faults = faultClasses.filter(() => random.chance(0.5));
  return { faults, intensity: random.logUniform(0.05, 1) };
}

type Damage = Pick<RunOptions, 'damage' | 'victim' | 'lostCopies' | 'isRefilled'>;

function drawDamage(
  random: Prng,
  names: readonly string[],
  replicationFactor: number,
  forced: readonly string[],
): Damage {
  const none: Damage = { damage: [], victim: undefined, lostCopies: 0, isRefilled: false };
  const wanted = damageClasses.filter((name) => forced.includes(name));
  const copies = Math.min(replicationFactor, names.length);
  if (wanted.length > 0) return copies < 3 ? none : damageTo(random.pick(names), wanted);
  if (!random.chance(0.2)) return none;
  const first = random.pick(damageClasses);
  const damage = random.chance(0.7) ? [first] : [...new Set([first, random.pick(damageClasses)])];
  if (copies < 3 || random.chance(0.05))
    return { damage, victim: undefined, lostCopies: copies, isRefilled: false };
  return damageTo(random.pick(names), damage);
}

function damageTo(victim: string, damage: readonly DamageClass[]): Damage {
  const hidden = damage.filter((name) => !detectable.has(name));
  const isRefilled = hidden.length > 0 && hidden.every((name) => name === 'wiped-disk');
  return { damage, victim, lostCopies: hidden.length === 0 ? 0 : 1, isRefilled };
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
    backgroundRepairsPerSecond: random.pick([0, 5, 20]),
    gossipIntervalMs: random.pick([100, 300, 1_000]),
    suspectAfterMs: random.pick([2_000, 10_000]),
    deadAfterMs: random.pick([5_000, 30_000]),
    mailboxMessages: random.pick([64, 1_024, 8_192]),
    l0Tables: random.pick([2, 2, 4]),
    l0TablesMax: random.pick([5, 20]),
    tableBytes: random.pick([16 * kiB, 64 * kiB, 1024 * kiB]),
    timeWindowMs: random.pick([5_000, 20_000, 86_400_000]),
    rowCacheBytes: random.pick([0, 32 * kiB, 64 * kiB, 1024 * kiB]),
    hintWindowMs: random.pick([0, 5_000, 10_800_000, 10_800_000]),
    hintBytesMax: random.pick([64 * kiB, 1024 * kiB]),
    hintBytesPerSecond: random.pick([16 * kiB, 4096 * kiB]),
    scrubIntervalMs: 20_000,
    repairIntervalMs: random.pick([0, 5_000, 20_000]),
    foregroundDelayMs: random.pick([0, 1, 5]),
    joinReadsAbove: random.pick([0, 1, 8]),
    serialKeptMs: random.pick([20_000, 86_400_000]),
    repairBytesPerSecond: random.pick([64 * kiB, 32 * 1024 * kiB, 32 * 1024 * kiB]),
    walAheadBytes: random.pick([0, 4 * kiB, 64 * kiB]),
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

const describeWorkload = ({ name, summary, pace }: PacedWorkload): string =>
  `${name}(${summary}${pace === 1 ? '' : `, pauses times ${pace.toFixed(2)}`})`;

/** The options in one line, for the report of a failing seed. */
export function describeOptions(options: RunOptions): string {
  const { nodes, shards, tunables, faults, intensity, ties, gridMicros } = options;
  const { replicationFactor, virtualNodes, memtableBytes, gossipIntervalMs } = tunables;
  const { l0Tables, tableBytes, repairBytesPerSecond } = tunables;
  return [
    `nodes=${nodes} rf=${replicationFactor} vnodes=${virtualNodes} shards=${[...shards.values()].join('+')}`,
    `memtable=${memtableBytes} repair=${repairBytesPerSecond}/s gossip=${gossipIntervalMs}ms ties=${ties} grid=${gridMicros}us clock=${options.clockGrainMicros}us`,
    `compaction=${options.compaction} compression=${options.compression} l0=${l0Tables} table=${tableBytes}`,
    ...options.workloads.map(describeWorkload),
    `faults=${faults.join('+') || 'none'} intensity=${intensity.toFixed(2)}`,
    ...(options.damage.length === 0
      ? []
      : [`damage=${options.damage.join('+')} to ${options.victim ?? 'any node'}`]),
  ].join(' ');
}
