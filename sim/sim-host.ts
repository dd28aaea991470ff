// The host of one simulated node: what NodeHost is for a real one. A SimMachine is what survives a
// crash (storage, clocks, shared memory); a SimHost belongs to one process of it.
//
// Marks of the product are counted here: `reach` says that a rare branch ran (rule SIM-9), and
// `buggify` asks whether to take one (rule SIM-7). A site is active in a quarter of the runs, and
// then fires a quarter of the time (FoundationDB's figures).

import type {
  BlockCodecs,
  Capabilities,
  Clock,
  Host,
  Probe,
  Random,
  Tasks,
  Timers,
} from '../runtime/environment.ts';
import { MetricRegistry } from '../runtime/metrics.ts';
import type { Prng } from '../runtime/prng.ts';
import { coreTasks, runTask } from '../runtime/tasks.ts';
import type { SimProcess } from './process.ts';
import { SimClock } from './sim-clock.ts';
import { SimDisk, SimStorage } from './sim-disk.ts';
import type { SimLog } from './sim-log.ts';
import type { World } from './world.ts';

const buggifyRatio = 0.25;

/** Labels reached and rare paths chosen, for a whole world. */
export class SimProbes {
  readonly reached = new Map<string, number>();
  /** Hears of every label, at once. */
  onReach: ((node: string, label: string) => void) | undefined;
  readonly #random: Prng;
  readonly #isEnabled: boolean;
  readonly #active = new Map<string, boolean>();

  constructor(random: Prng, isEnabled: boolean) {
    this.#random = random;
    this.#isEnabled = isEnabled;
  }

  probeFor(node: string, random: Prng): Probe {
    return {
      reach: (label) => {
        this.reached.set(label, (this.reached.get(label) ?? 0) + 1);
        this.onReach?.(node, label);
      },
      buggify: (site) => this.#isActive(site) && random.chance(buggifyRatio),
    };
  }

  #isActive(site: string): boolean {
    if (!this.#isEnabled) return false;
    let active = this.#active.get(site);
    if (active === undefined) {
      active = this.#random.fork(site).chance(buggifyRatio);
      this.#active.set(site, active);
      if (active) this.reached.set(`buggify:${site}`, 1);
    }
    return active;
  }
}

export interface MachineOptions {
  readonly name: string;
  /** Bytes of each piece of shared memory. */
  readonly arenas: readonly number[];
  readonly clockOffsetMs: number;
  readonly clockDriftPpm: number;
  readonly clockGrainMicros?: number | undefined;
}

export class SimMachine {
  readonly name: string;
  readonly world: World;
  readonly clock: SimClock;
  readonly storage: SimStorage;
  /** Another disk of the same machine, for closed log segments. */
  readonly archive: SimStorage;
  readonly random: Prng;
  readonly secrets: Prng;
  /** Nothing clears them between two processes: a new one must not trust what it finds. */
  readonly arenas: readonly SharedArrayBuffer[];

  constructor(world: World, options: MachineOptions) {
    const { name } = options;
    this.name = name;
    this.world = world;
    this.random = world.random.fork(`product:${name}`);
    this.secrets = world.random.fork(`secrets:${name}`);
    this.storage = new SimStorage(world.random.fork(`disk:${name}`));
    this.archive = new SimStorage(world.random.fork(`archive:${name}`));
    this.clock = new SimClock(world, {
      offsetMs: options.clockOffsetMs,
      driftPpm: options.clockDriftPpm,
      grainMicros: options.clockGrainMicros ?? 1,
      start: world.random.fork(`clock:${name}`).float(),
    });
    this.arenas = options.arenas.map((bytes) => new SharedArrayBuffer(bytes));
  }
}

export interface SimHostOptions {
  readonly machine: SimMachine;
  readonly process: SimProcess;
  readonly log: SimLog;
  readonly probes: SimProbes;
  readonly codecs: BlockCodecs;
  /** The node wants to end. */
  readonly onStop: (reason: string) => void;
  /** An actor has failed on a defect: always a find. */
  readonly onDefect: (message: string) => void;
}

export class SimHost implements Host {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Host['log'];
  readonly probe: Probe;
  readonly metrics = new MetricRegistry();
  readonly capabilities: Capabilities;
  readonly stopNode: (reason: string) => void;

  constructor(options: SimHostOptions) {
    const { machine, process } = options;
    this.clock = machine.clock;
    this.timers = timersOf(machine, process);
    this.random = tracedRandom(machine);
    this.log = watchedLog(options);
    this.probe = options.probes.probeFor(machine.name, machine.random);
    this.capabilities = {
      disk: new SimDisk(machine.storage, process),
      archive: new SimDisk(machine.archive, process),
      codecs: options.codecs,
      tasks: tasksOf(machine, process, options.codecs),
      secrets: (length) => machine.secrets.bytes(length),
      arenas: machine.arenas,
    };
    this.stopNode = (reason) => {
      if (process.isAlive) options.onStop(reason);
    };
  }
}

function timersOf({ world, clock }: SimMachine, process: SimProcess): Timers {
  return {
    after: (delayMs, fire) => process.after(clock.worldDelayMs(delayMs), 'timer', fire),
    soon: (fire) => world.soon(process, fire),
    later: (fire) => world.later(process, 'later', fire),
  };
}

function tracedRandom({ world, random }: SimMachine): Random {
  const traced = (value: number): number => {
    world.trace.mix(value * 0x1_0000_0000);
    return value;
  };
  return {
    float: () => traced(random.float()),
    int: (bound) => Math.floor(traced(random.float()) * Math.max(0, bound)),
    bytes: (length) => random.bytes(length),
  };
}

function watchedLog({ machine, process, log, onDefect }: SimHostOptions): Host['log'] {
  const own = log.logOf(machine.name, () => process.isAlive);
  return {
    ...own,
    error: (event, fields) => {
      own.error(event, fields);
      if (event === 'actor.crashed' && process.isAlive)
        onDefect(String(fields?.['error'] ?? event));
    },
  };
}

/** Inline, but never before the next event: a pool answers later too. */
function tasksOf({ random }: SimMachine, process: SimProcess, codecs: BlockCodecs): Tasks {
  return {
    run: <Input, Output>(name: string, input: Input): Promise<Output> =>
      new Promise((resolve, reject) => {
        if (!process.arrive()) return;
        process.after(random.exponential(1), 'task', () => {
          try {
            resolve(runTask(coreTasks, codecs, name, input) as Output);
          } catch (error) {
            reject(error instanceof Error ? error : new Error(String(error)));
          }
        });
      }),
  };
}
