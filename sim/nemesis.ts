// Makes the faults of a run happen (rule 2.4): a stream of random events among the classes that
// the seed has drawn, each healed by itself after a while; at the end everything is healed.

import type { Prng } from '../runtime/prng.ts';
import type { CrashKind, SimCluster } from './cluster.ts';
import type { FaultClass, RunOptions } from './faults.ts';
import type { CutKind } from './sim-network.ts';

const eventful = new Set<FaultClass>([
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
  'clock-jump',
]);
/** Bytes that a disk has left when it is made full. */
const roomMax = 64 * 1024;

export class Nemesis {
  readonly #cluster: SimCluster;
  readonly #options: RunOptions;
  readonly #random: Prng;
  readonly #classes: readonly FaultClass[];
  #isActive = false;

  constructor(cluster: SimCluster, options: RunOptions) {
    this.#cluster = cluster;
    this.#options = options;
    this.#random = cluster.world.random.fork('nemesis');
    this.#classes = options.faults.filter((name) => eventful.has(name));
  }

  /** Pause before a node that went down by itself is started again. */
  restartMs(): number {
    return this.#random.logUniform(10, this.#isActive ? 10_000 : 500);
  }

  /** Faults begin; resolves after `durationMs`, with the faults still in place. */
  async rage(durationMs: number): Promise<void> {
    const { world } = this.#cluster;
    const { faultEveryMs } = this.#options;
    const endMs = world.nowMs + durationMs;
    this.#isActive = true;
    this.#startSteadyFaults();
    while (this.#classes.length > 0) {
      const pauseMs = this.#random.exponential(faultEveryMs);
      if (world.nowMs + pauseMs >= endMs) break;
      await world.sleep(pauseMs);
      this.#strike(this.#random.pick(this.#classes));
    }
    await world.sleep(Math.max(0, endMs - world.nowMs));
  }

  /** Ends every fault and starts every node. */
  async healAll(): Promise<void> {
    this.#isActive = false;
    const { network, names } = this.#cluster;
    network.healAll();
    network.faults.lossRatio = 0;
    network.faults.replayRatio = 0;
    for (const name of names) {
      const { storage, clock } = this.#cluster.machineOf(name);
      storage.faults.syncErrorRatio = 0;
      storage.faults.capacityBytes = Infinity;
      storage.faults.syncMs = 1;
      clock.correct();
      this.#cluster.cancelPlannedCrash(name);
    }
    while (!(await this.#cluster.startAll())) await this.#cluster.world.sleep(100);
  }

  #has(name: FaultClass): boolean {
    return this.#options.faults.includes(name);
  }

  #startSteadyFaults(): void {
    const { network, names } = this.#cluster;
    const { intensity } = this.#options;
    if (this.#has('loss'))
      network.faults.lossRatio = this.#random.logUniform(1e-4, 0.3 * intensity);
    if (this.#has('replay')) network.faults.replayRatio = this.#random.float() * 0.5 * intensity;
    for (const name of names)
      if (this.#has('sync-error') && this.#random.chance(0.5))
        this.#cluster.machineOf(name).storage.faults.syncErrorRatio = 0.002 * intensity;
  }

  #strike(name: FaultClass): void {
    const { log } = this.#cluster;
    const node = this.#random.pick(this.#cluster.names);
    log.add(node, 'sim', `fault.${name}`, undefined);
    switch (name) {
      case 'kill':
        return this.#crash(node, 'kill');
      case 'power-loss':
        // Mostly in the middle of something: a write that is on its way makes the difference.
        if (this.#random.chance(0.2)) return this.#crash(node, 'power-loss');
        return this.#cluster.crashAtCall(node, this.#random.between(1, 8), 'power-loss');
      case 'blackout':
        for (const each of this.#cluster.names) this.#crash(each, 'power-loss');
        return undefined;
      case 'crash-at-call':
        return this.#cluster.crashAtCall(node, this.#random.between(1, 200), this.#crashKind());
      case 'pause':
        return this.#cluster.pause(node, this.#random.logUniform(50, 20_000 * this.#strength));
      case 'cut':
        return this.#cut();
      case 'clog':
        return this.#clog(node);
      case 'reset':
        return this.#reset(node);
      default:
        return this.#strikeMachine(name, node);
    }
  }

  #strikeMachine(name: FaultClass, node: string): void {
    const { world } = this.#cluster;
    const { storage, clock } = this.#cluster.machineOf(node);
    const { faults } = storage;
    const delayMs = this.#random.exponential(5_000);
    if (name === 'clock-jump') {
      const sign = this.#random.chance(0.5) ? 1 : -1;
      clock.jump(sign * this.#random.logUniform(10, 300_000 * this.#strength));
    } else if (name === 'slow-disk') {
      faults.syncMs = this.#random.logUniform(5, 1_000 * this.#strength);
      world.after(delayMs, undefined, 'fault.end', () => {
        faults.syncMs = 1;
      });
    } else if (name === 'full-disk') {
      faults.capacityBytes = storage.usedBytes + this.#random.int(roomMax);
      world.after(delayMs, undefined, 'fault.end', () => {
        faults.capacityBytes = Infinity;
      });
    }
  }

  get #strength(): number {
    return Math.max(0.05, this.#options.intensity);
  }

  #crashKind(): CrashKind {
    return this.#random.chance(0.5) ? 'kill' : 'power-loss';
  }

  #crash(node: string, kind: CrashKind): void {
    if (this.#cluster.condition(node) === 'down') return;
    this.#cluster.crash(node, kind);
    const delayMs = this.restartMs();
    this.#cluster.world.after(delayMs, undefined, 'restart', () => {
      void this.#cluster.start(node);
    });
  }

  #clog(node: string): void {
    const delayMs = this.#random.exponential(5_000 * this.#strength);
    for (const other of this.#others(node))
      if (this.#random.chance(0.5)) this.#cluster.network.clog(node, other, delayMs);
      else this.#cluster.network.clog(other, node, delayMs);
  }

  #reset(node: string): void {
    for (const other of this.#others(node))
      if (this.#random.chance(0.5)) this.#cluster.network.reset(node, other);
  }

  #others(node: string): string[] {
    return this.#cluster.names.filter((name) => name !== node);
  }

  /** Cuts the directions of one shape, for a while. */
  #cut(): void {
    const { network, world, names } = this.#cluster;
    const kind: CutKind = this.#random.chance(0.5) ? 'hold' : 'drop';
    const isOneWay = this.#random.chance(0.5);
    const pairs: (readonly [string, string])[] = [];
    for (const [a, b] of separated(this.#random, names)) {
      pairs.push([a, b]);
      if (!isOneWay) pairs.push([b, a]);
    }
    for (const [from, to] of pairs) network.cut(from, to, kind);
    world.after(this.#random.logUniform(20, 15_000 * this.#strength), undefined, 'heal', () => {
      for (const [from, to] of pairs) network.heal(from, to);
    });
  }
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
