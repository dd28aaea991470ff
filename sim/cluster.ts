// A cluster inside one process: machines, their processes, and the network between them. Nodes run
// the same actors from the same plan as `kvd` does (kvd-program.ts), with a kernel each; only the
// host differs. A node that crashed comes back from its disk alone (rule SIM-4).
//
//   const cluster = new SimCluster({ world, names: ['n1'], program, ... });
//   await world.run(async () => { await cluster.startAll(); ... });

import type { Ref } from '../runtime/actor.ts';
import type { BlockCodecs } from '../runtime/environment.ts';
import { type Failure, failure } from '../runtime/errors.ts';
import { Kernel } from '../runtime/kernel.ts';
import type { MetricSample } from '../runtime/metrics.ts';
import type { Prng } from '../runtime/prng.ts';
import type {
  AskNames,
  BodyOf,
  Descriptor,
  Protocol,
  ReplyOf,
  TellNames,
} from '../runtime/protocol.ts';
import type { ActorSpec } from '../runtime/supervisor.ts';
import { SimCrash, SimProcess } from './process.ts';
import type { SimClock } from './sim-clock.ts';
import { SimHost, SimMachine, SimProbes } from './sim-host.ts';
import { SimLog } from './sim-log.ts';
import { type NetworkOptions, SimNetwork, type WireCodec } from './sim-network.ts';
import type { World } from './world.ts';

/** `kill`: the process dies, the machine goes on. `power-loss`: what was not synced may be gone. */
export type CrashKind = 'kill' | 'power-loss';

/** The wire format, and the copy that a message inside one node makes. */
export interface SimCodec extends WireCodec {
  readonly transcode: (descriptor: Descriptor, isReply: boolean, body: unknown) => unknown;
}

/** What the nodes of a cluster run. */
export interface NodeProgram {
  readonly protocols: readonly Protocol[];
  /** Bytes of each piece of shared memory of a machine. */
  readonly arenas: readonly number[];
  /** The actors of a node in start order; may prepare the disk first. */
  readonly actorsOf: (node: string, host: SimHost) => Promise<readonly ActorSpec[]>;
}

export interface ClusterOptions {
  readonly world: World;
  readonly names: readonly string[];
  readonly program: NodeProgram;
  readonly codec: SimCodec;
  readonly codecs: BlockCodecs;
  readonly network: NetworkOptions;
  /** Errors of the clocks by node; none where absent. */
  readonly clocks?: ReadonlyMap<string, { readonly offsetMs: number; readonly driftPpm: number }>;
  /** Wall clocks show multiples of this, microseconds. Default 1. */
  readonly clockGrainMicros?: number;
  /** Whether product code takes rare paths on purpose. Default false. */
  readonly hasBuggify?: boolean;
  /** Pause before a node that went down by itself is started again; undefined: it stays down. */
  readonly restartMs?: (node: string) => number | undefined;
  /** True: an actor that fails on this defect is no find; its supervisor decides. Default none. */
  readonly mayFail?: (node: string, message: string) => boolean;
  /** Called when a node ends itself; throw or fail the world where that is a find. */
  readonly onStop?: (node: string, reason: string) => void;
}

export type NodeCondition = 'down' | 'starting' | 'up';

interface SimNode {
  readonly name: string;
  readonly machine: SimMachine;
  condition: NodeCondition;
  process: SimProcess | undefined;
  host: SimHost | undefined;
  kernel: Kernel | undefined;
  /** Settles the start that is under way. */
  started: ((isUp: boolean) => void) | undefined;
  /** How the next crash of this process goes, where the crash was planned by call number. */
  plannedCrash: CrashKind;
}

export class SimCluster {
  readonly world: World;
  readonly names: readonly string[];
  readonly network: SimNetwork;
  readonly log: SimLog;
  readonly probes: SimProbes;
  readonly #options: ClusterOptions;
  readonly #members: ReadonlySet<string>;
  readonly #clients: Prng;
  readonly #nodes = new Map<string, SimNode>();
  /** Crashes and starts so far. */
  crashes = 0;
  starts = 0;

  constructor(options: ClusterOptions) {
    const { world, names, codec, network } = options;
    this.world = world;
    this.names = [...names].sort();
    this.#options = options;
    this.#members = new Set(names);
    this.#clients = world.random.fork('clients');
    this.network = new SimNetwork(world, codec, network);
    this.log = new SimLog(world);
    this.probes = new SimProbes(world.random.fork('buggify'), options.hasBuggify ?? false);
    for (const name of this.names) this.#nodes.set(name, this.#newNode(name));
  }

  condition(name: string): NodeCondition {
    return this.#node(name).condition;
  }

  clockOf(name: string): SimClock {
    return this.#node(name).machine.clock;
  }

  machineOf(name: string): SimMachine {
    return this.#node(name).machine;
  }

  /** The kernel of a running node. */
  kernelOf(name: string): Kernel | undefined {
    return this.#node(name).kernel;
  }

  /** The figures of a running node, as its metrics page shows them. */
  figuresOf(name: string): readonly MetricSample[] {
    const { kernel, host } = this.#node(name);
    return [...(kernel?.samples() ?? []), ...(host?.metrics.samples() ?? [])];
  }

  processOf(name: string): SimProcess | undefined {
    return this.#node(name).process;
  }

  // ---- life ----------------------------------------------------------------------------------

  /** Starts every node that is down; false where one did not come up. */
  async startAll(): Promise<boolean> {
    const down = this.names.filter((name) => this.condition(name) === 'down');
    const started = await Promise.all(down.map((name) => this.start(name)));
    return started.every(Boolean);
  }

  /**
   * Starts a node from what its disk holds. False where it crashed or stopped on the way; a defect
   * on the way fails the world.
   */
  start(name: string): Promise<boolean> {
    const node = this.#node(name);
    if (node.condition !== 'down') return Promise.resolve(node.condition === 'up');
    return new Promise((resolve) => {
      node.started = (isUp) => {
        node.started = undefined;
        resolve(isUp);
      };
      this.#begin(node);
    });
  }

  /** Ends a node's process now; nothing of it has an effect any more. */
  crash(name: string, kind: CrashKind): void {
    const node = this.#node(name);
    const { process } = node;
    if (process === undefined) return;
    this.world.trace.record(this.world.nowMicros, name, `crash.${kind}`, 0);
    this.log.add(name, 'sim', `crash.${kind}`, { calls: process.calls });
    this.crashes += 1;
    process.end();
    node.kernel?.stop();
    this.network.detach(name, kind === 'power-loss');
    if (kind === 'power-loss') {
      node.machine.storage.losePower();
      node.machine.archive.losePower();
    }
    node.condition = 'down';
    node.process = undefined;
    node.kernel = undefined;
    node.host = undefined;
    node.started?.(false);
  }

  /** Crashes the node at its n-th call of the environment from now. */
  crashAtCall(name: string, count: number, kind: CrashKind): void {
    const node = this.#node(name);
    node.plannedCrash = kind;
    node.process?.crashAtCall(node.process.calls + count);
  }

  cancelPlannedCrash(name: string): void {
    this.#node(name).process?.crashAtCall(Infinity);
  }

  /** The node stands still; clocks and the rest go on. */
  pause(name: string, delayMs: number): void {
    this.log.add(name, 'sim', 'pause', { delayMs });
    this.#node(name).process?.pause(delayMs);
  }

  #begin(node: SimNode): void {
    const { name, machine } = node;
    const { world, program, codec, codecs } = this.#options;
    const process = new SimProcess(name, world, () => this.#crashAsPlanned(node));
    const host = new SimHost({
      machine,
      process,
      log: this.log,
      probes: this.probes,
      codecs,
      onStop: (reason) => this.#stopped(node, reason),
      onDefect: (message) => {
        if (this.#options.mayFail?.(name, message) !== true)
          world.fail(new ProgramCrash(name, message));
      },
    });
    const kernel = new Kernel({
      node: name,
      thread: 'main',
      host,
      router: this.network.routerOf(process, this.#members),
      protocols: program.protocols,
      transcode: codec.transcode,
    });
    Object.assign(node, { process, host, kernel, condition: 'starting' });
    this.starts += 1;
    this.log.add(name, 'sim', 'start', undefined);
    this.network.attach({
      process,
      monotonicMs: machine.clock.monotonicMs,
      deliver: (envelope) => kernel.deliver(envelope),
      linkLost: (link) => kernel.linkLost(link),
    });
    this.#spawnAll(node, process, host, kernel).then(
      () => undefined,
      (error: unknown) => this.#refused(node, process, error),
    );
  }

  async #spawnAll(
    node: SimNode,
    process: SimProcess,
    host: SimHost,
    kernel: Kernel,
  ): Promise<void> {
    const specs = await this.#options.program.actorsOf(node.name, host);
    for (const spec of specs) {
      if (!process.isAlive) return;
      await kernel.spawn(spec);
    }
    if (!process.isAlive) return;
    node.condition = 'up';
    node.started?.(true);
  }

  /** The program says that it cannot start. */
  #refused(node: SimNode, process: SimProcess, error: unknown): void {
    if (error instanceof SimCrash || !process.isAlive) return;
    const message = error instanceof Error ? error.message : String(error);
    this.#stopped(node, `start refused: ${message}`);
  }

  #crashAsPlanned(node: SimNode): void {
    this.crash(node.name, node.plannedCrash);
    this.#restartLater(node);
  }

  #stopped(node: SimNode, reason: string): void {
    this.log.add(node.name, 'sim', 'stopped', { reason });
    this.crash(node.name, 'kill');
    this.#options.onStop?.(node.name, reason);
    this.#restartLater(node);
  }

  #restartLater(node: SimNode): void {
    const delayMs = this.#options.restartMs?.(node.name);
    if (delayMs === undefined) return;
    this.world.after(delayMs, undefined, 'restart', () => void this.start(node.name));
  }

  // ---- from outside ----------------------------------------------------------------------------

  /**
   * Asks an actor as a client on the network would: the way there and the way back take time.
   * `refused`: the node is down, nothing was sent. `lost`: it crashed or did not answer in time.
   */
  ask<P, K extends AskNames<P>>(
    ref: Ref<P>,
    name: K,
    body: BodyOf<P[K]>,
    timeoutMs: number,
  ): Promise<ClientAnswer<ReplyOf<P[K]>>> {
    const { world, network } = this;
    return new Promise((resolve) => {
      let isOpen = true;
      const answer = (outcome: ClientAnswer<ReplyOf<P[K]>>): void => {
        if (isOpen) resolve(outcome);
        isOpen = false;
      };
      world.after(timeoutMs, undefined, 'client.timeout', () => answer({ kind: 'lost' }));
      const isLost = this.#clients.chance(network.faults.lossRatio);
      const isRequestLost = isLost && this.#clients.chance(0.5);
      world.after(network.latencyMs(), undefined, 'client.request', () => {
        if (isRequestLost) return;
        const { kernel, process, condition } = this.#node(ref.node);
        if (kernel === undefined || process === undefined || condition !== 'up') {
          world.after(network.latencyMs(), undefined, 'client.refused', () =>
            answer({ kind: 'refused' }),
          );
          return;
        }
        world.after(0, process, 'client.arrived', () => {
          kernel.ask(ref, name, body, timeoutMs, (problem, reply) => {
            if (isLost) return;
            world.after(network.latencyMs(), undefined, 'client.answer', () =>
              answer(clientAnswer(problem, reply)),
            );
          });
        });
      });
    });
  }

  /** What the edge of a node tells an actor of it, at once; nothing where the node is down. */
  tell<P, K extends TellNames<P>>(ref: Ref<P>, name: K, body: BodyOf<P[K]>): void {
    const { kernel, process, condition } = this.#node(ref.node);
    if (kernel === undefined || process === undefined || condition !== 'up') return;
    this.#options.world.after(0, process, 'client.told', () => kernel.tell(ref, name, body));
  }

  #node(name: string): SimNode {
    const node = this.#nodes.get(name);
    if (node === undefined) throw new RangeError(`no node ${name} in this cluster`);
    return node;
  }

  #newNode(name: string): SimNode {
    const { world, program, clocks, clockGrainMicros } = this.#options;
    const { offsetMs, driftPpm } = clocks?.get(name) ?? { offsetMs: 0, driftPpm: 0 };
    const machine = new SimMachine(world, {
      name,
      arenas: program.arenas,
      clockOffsetMs: offsetMs,
      clockDriftPpm: driftPpm,
      clockGrainMicros,
    });
    return {
      name,
      machine,
      condition: 'down',
      process: undefined,
      host: undefined,
      kernel: undefined,
      started: undefined,
      plannedCrash: 'kill',
    };
  }
}

export type ClientAnswer<Reply> =
  | { readonly kind: 'reply'; readonly reply: Reply }
  | { readonly kind: 'failure'; readonly failure: Failure }
  | { readonly kind: 'refused' }
  | { readonly kind: 'lost' };

function clientAnswer<Reply>(
  problem: Failure | undefined,
  reply: Reply | undefined,
): ClientAnswer<Reply> {
  if (problem === undefined && reply !== undefined) return { kind: 'reply', reply };
  return { kind: 'failure', failure: problem ?? failure('BUG') };
}

/** An actor failed on a defect. */
export class ProgramCrash extends Error {
  constructor(node: string, message: string) {
    super(`${node}: ${message}`);
    this.name = 'ProgramCrash';
  }
}
