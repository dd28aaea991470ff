// When which fault happens to whom, drawn as a whole before the run (rule 2.4): a Poisson stream over
// the classes that the seed has. As data it can be printed, replayed and cut down (RP-5).
//
// Each event is one flat record; what `amount` means is said at its kind in nemesis.ts. An event
// heals by itself after `durationMs`; at the end of the run everything is healed.

import type { Prng } from '../runtime/prng.ts';
import { type DamageClass, type FaultClass, nodeNames, type RunOptions } from './faults.ts';

export type EventKind = FaultClass | DamageClass;

export interface FaultEvent {
  /** Since the beginning of chaos, virtual milliseconds. */
  readonly atMs: number;
  readonly kind: EventKind;
  readonly node: string;
  /** How long it lasts, or how long the node stays down. */
  readonly durationMs: number;
  readonly amount: number;
  /** Calls of the environment from then on until it happens. */
  readonly calls?: number;
  /** How a process ends, where `how` means something else. */
  readonly crash?: 'kill' | 'power-loss';
  /** Of something that repeats, milliseconds. */
  readonly periodMs?: number;
  /** Directions that are cut. */
  readonly pairs?: readonly (readonly [string, string])[];
  /** A variant: of a cut, of a crash, of the files, or a label. */
  readonly how?: string;
}

/** Faults that go on from the beginning of chaos to its end. */
export interface SteadyFaults {
  readonly lossRatio: number;
  readonly replayRatio: number;
  readonly corruptRatio: number;
  /** Chance of a sync or a write that fails, by node. */
  readonly diskErrors: Readonly<Record<string, number>>;
}

/** After chaos these nodes are gone for good, and the others must work (rule 2.6). */
export interface Core {
  readonly gone: readonly string[];
  readonly how: 'down' | 'cut';
}

export interface Schedule {
  readonly steady: SteadyFaults;
  readonly events: readonly FaultEvent[];
  /** Undefined: everything is healed at once. */
  readonly core?: Core;
}

const eventful = new Set<EventKind>([
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
  'clock-jump',
  'clock-strobe',
  'rot',
  'lying-sync',
  'lost-write',
  'misdirected-write',
  'wiped-disk',
  'read-error',
]);
/** Damage is rarer: one event in so many is of a damage class where the seed has one. */
const damageEvery = 3;
/** Places where a crash is worth more than elsewhere (rule 2.4, targeted events). */
export const crashLabels = [
  'flush began',
  'memtable flushed',
  'compaction installed',
  'blocking read repair',
  'torn tail cut',
] as const;

/** Everything that will go wrong in a run with these options. */
export function drawSchedule(options: RunOptions): Schedule {
  const random = options.random.fork('nemesis');
  const steady = drawSteady(random.fork('steady'), options);
  const events = drawEvents(random.fork('events'), options);
  const core = drawCore(random.fork('core'), options);
  return { steady, events, ...(core === undefined ? {} : { core }) };
}

function drawSteady(random: Prng, { faults, intensity, nodes }: RunOptions): SteadyFaults {
  const has = (name: FaultClass): boolean => faults.includes(name);
  const diskErrors: Record<string, number> = {};
  for (const name of nodeNames(nodes))
    if (random.chance(0.5) && has('disk-error')) diskErrors[name] = 0.002 * intensity;
  return {
    lossRatio: has('loss') ? random.fork('loss').logUniform(1e-4, 0.3 * intensity) : 0,
    replayRatio: has('replay') ? random.fork('replay').float() * 0.5 * intensity : 0,
    corruptRatio: has('corrupt-frame') ? random.fork('corrupt').logUniform(1e-5, 1e-3) : 0,
    diskErrors,
  };
}

function drawEvents(random: Prng, options: RunOptions): FaultEvent[] {
  const faults = options.faults.filter((name) => eventful.has(name));
  const damages = options.damage.filter((name) => eventful.has(name));
  const events: FaultEvent[] = [];
  if (faults.length + damages.length === 0) return events;
  let atMs = random.exponential(options.faultEveryMs);
  for (let number = 0; atMs < options.chaosMs; number += 1) {
    // Its own stream: one event more or less in a class changes nothing of the others.
    const own = random.fork(`event-${number}`);
    const isDamage = damages.length > 0 && (faults.length === 0 || number % damageEvery === 0);
    const kind: EventKind = isDamage ? own.pick(damages) : own.pick(faults);
    events.push(drawEvent(own, { kind, atMs: Math.round(atMs) }, options));
    atMs += random.exponential(options.faultEveryMs);
  }
  return events;
}

interface Struck {
  readonly kind: EventKind;
  readonly atMs: number;
}

function drawEvent(random: Prng, { kind, atMs }: Struck, options: RunOptions): FaultEvent {
  const names = nodeNames(options.nodes);
  const anywhere = random.pick(names);
  const isDamage = (options.damage as readonly EventKind[]).includes(kind);
  const node = isDamage ? (options.victim ?? anywhere) : anywhere;
  const durationMs = Math.round(random.logUniform(10, 10_000));
  const base = { atMs, kind, node, durationMs, amount: 0 };
  const strength = Math.max(0.05, options.intensity);
  return (
    drawCrash(random, base) ??
    drawNetworkEvent(random, base, { names, strength }) ??
    drawMachineEvent(random, base, strength)
  );
}

/** Undefined: an event of another kind. */
function drawCrash(random: Prng, base: FaultEvent): FaultEvent | undefined {
  switch (base.kind) {
    case 'power-loss':
      // Mostly in the middle of something: a write that is on its way makes the difference.
      return { ...base, amount: random.chance(0.2) ? 0 : random.between(1, 8) };
    case 'blackout':
      return { ...base, amount: random.chance(0.3) ? 0 : random.logUniform(5, 1_000) };
    case 'crash-at-call': {
      const how = random.chance(0.5) ? 'kill' : 'power-loss';
      return { ...base, amount: random.between(1, 200), how };
    }
    case 'crash-at-label':
      return {
        ...base,
        amount: random.between(0, 3),
        calls: Math.round(random.logUniform(1, 60)),
        crash: random.chance(0.5) ? 'kill' : 'power-loss',
        how: random.pick(crashLabels),
      };
    default:
      return undefined;
  }
}

function drawNetworkEvent(
  random: Prng,
  base: FaultEvent,
  { names, strength }: { readonly names: readonly string[]; readonly strength: number },
): FaultEvent | undefined {
  const { kind, node } = base;
  const others = names.filter((other) => other !== node);
  const aWhileMs = Math.round(random.exponential(5_000 * strength));
  switch (kind) {
    case 'cut':
    case 'flap':
      return {
        ...base,
        how: random.chance(0.5) ? 'hold' : 'drop',
        durationMs: Math.round(random.logUniform(20, 15_000 * strength)),
        periodMs: kind === 'flap' ? Math.round(random.logUniform(20, 5_000)) : 0,
        pairs: directionsOf(random, names),
      };
    case 'clog': {
      const pairs = others.map((other) => (random.chance(0.5) ? [node, other] : [other, node]));
      return { ...base, durationMs: aWhileMs, pairs: pairs as [string, string][] };
    }
    case 'reset': {
      const reached = others.filter(() => random.chance(0.5));
      return { ...base, pairs: reached.map((other) => [node, other] as const) };
    }
    default:
      return undefined;
  }
}

function drawMachineEvent(random: Prng, base: FaultEvent, strength: number): FaultEvent {
  const sign = random.chance(0.5) ? 1 : -1;
  const aWhileMs = Math.round(random.exponential(5_000 * strength));
  switch (base.kind) {
    case 'pause':
      return { ...base, durationMs: Math.round(random.logUniform(50, 20_000 * strength)) };
    case 'slow-disk':
      return { ...base, durationMs: aWhileMs, amount: random.logUniform(5, 1_000 * strength) };
    case 'stuck-disk':
      return { ...base, durationMs: Math.round(random.logUniform(500, 30_000 * strength)) };
    case 'full-disk':
      return { ...base, durationMs: aWhileMs, amount: random.int(roomMax) };
    case 'clock-jump':
      return { ...base, amount: sign * drawJumpMs(random, strength) };
    case 'clock-strobe':
      return {
        ...base,
        durationMs: Math.round(random.logUniform(100, 32_000 * strength)),
        periodMs: Math.round(random.logUniform(5, 1_000)),
        amount: sign * random.logUniform(4, 262_000 * strength),
      };
    case 'rot':
      return { ...base, amount: random.float(), how: random.pick(['table', 'table', 'log']) };
    case 'lying-sync':
    case 'read-error':
      return { ...base, durationMs: aWhileMs, amount: random.logUniform(0.01, 1) };
    default:
      return base;
  }
}

/** Bytes that a disk has left when it is made full. */
const roomMax = 64 * 1024;
const dayMs = 86_400_000;

function drawJumpMs(random: Prng, strength: number): number {
  if (random.chance(0.01)) return random.pick([dayMs, 365 * dayMs]);
  return random.logUniform(10, 300_000 * strength);
}

/** The directions of one shape; half of the cuts are one-way. */
function directionsOf(random: Prng, names: readonly string[]): (readonly [string, string])[] {
  const isOneWay = random.chance(0.5);
  return separated(random, names).flatMap(([a, b]) =>
    isOneWay ? [[a, b] as const] : [[a, b] as const, [b, a] as const],
  );
}

/** As many nodes as may be gone while each range keeps a majority of its copies. */
function drawCore(random: Prng, options: RunOptions): Core | undefined {
  const { nodes, faults, tunables, victim } = options;
  const copies = Math.min(tunables.replicationFactor, nodes);
  const most = Math.floor((copies - 1) / 2);
  if (faults.length === 0 || most === 0 || random.chance(0.5)) return undefined;
  const names = random.shuffled(nodeNames(nodes));
  // A node whose disk was damaged counts as gone: its copies may be.
  const gone = victim === undefined ? names.slice(0, random.between(1, most)) : [victim];
  return { gone: [...gone].sort(), how: random.chance(0.5) ? 'down' : 'cut' };
}

/** Pairs that cannot talk, in one of four shapes (Jepsen's partitioners). */
export function separated(random: Prng, names: readonly string[]): (readonly [string, string])[] {
  const mixed = random.shuffled(names);
  const shape = random.pick(['one', 'halves', 'bridge', 'ring'] as const);
  const half = shape === 'one' ? 1 : Math.floor(mixed.length / 2);
  const pairs: (readonly [string, string])[] = [];
  const count = mixed.length;
  mixed.forEach((a, i) => {
    mixed.forEach((b, j) => {
      if (i >= j) return;
      const isRingNeighbour = j - i === 1 || (i === 0 && j === count - 1);
      const isBridge = shape === 'bridge' && (i === half || j === half);
      const isCut = shape === 'ring' ? !isRingNeighbour : i < half && j >= half && !isBridge;
      if (isCut) pairs.push([a, b]);
    });
  });
  return pairs;
}

/** One event in a line, for people. */
export function formatEvent(event: FaultEvent): string {
  const { atMs, kind, node, durationMs, amount, calls, periodMs, pairs, how } = event;
  const cut = pairs?.map(([from, to]) => `${from}>${to}`).join(',');
  return [
    `${atMs} ms ${kind} ${node} for ${durationMs} ms`,
    amount === 0 ? '' : `amount=${amount}`,
    calls === undefined ? '' : `calls=${calls}`,
    periodMs === undefined ? '' : `period=${periodMs}ms`,
    cut === undefined ? '' : `cut=${cut}`,
    how === undefined ? '' : `how=${how}`,
  ]
    .filter((part) => part !== '')
    .join(' ');
}
