// One seed, from its options to its verdict: start, load without faults, chaos, a core that must
// work while some nodes are gone for good, heal, quiesce, final reads, checks (rules 2.4, 2.6).
// Nothing here looks at the real clock, so a result depends on the decisions and the program alone.

import { Ring } from '../actors/model/ring.ts';
import { hashKey, shardOf } from '../actors/model/token.ts';
import { noBytes, utf8 } from '../runtime/bytes.ts';
import { invalidLoad } from './checkers/load.ts';
import { inspectDisk, inspectRing } from './checkers/structure.ts';
import { formatViolation, type Violation } from './checkers/violation.ts';
import { type Evidence, evidenceOf } from './checker.ts';
import { SimCluster } from './cluster.ts';
import { calmed, type Decisions } from './decisions.ts';
import { describeOptions, nodeNames, optionsOf, type RunOptions } from './faults.ts';
import { NondeterminismError } from './guard.ts';
import { History, nameOf, type Operation, type Phase } from './history.ts';
import { kvdCodec, kvdProgram, sharedCodecs } from './kvd-program.ts';
import { Nemesis } from './nemesis.ts';
import { SimProcess } from './process.ts';
import { checkers } from './registry.ts';
import { drawSchedule, type Schedule } from './schedule.ts';
import { SimDisk } from './sim-disk.ts';
import { ClusterSettlement, LivenessError, settleMs } from './settlement.ts';
import type { TraceWindow } from './trace.ts';
import type { Workload } from './workload.ts';
import { HttpClient } from './workloads/http-client.ts';
import { LivelockError, StuckError, World } from './world.ts';

export type Verdict = 'passed' | 'invalid' | 'crash' | 'safety' | 'liveness' | 'nondeterminism';

export interface SeedResult {
  readonly seed: number;
  readonly verdict: Verdict;
  /** What was broken, without times and names: a shrunk run must break the same. */
  readonly property: string;
  /** What was wrong, for people. */
  readonly problems: readonly string[];
  readonly options: string;
  /** Hash of everything that happened. */
  readonly hash: string;
  readonly checkpoints: readonly number[];
  readonly traceLines: readonly string[];
  /** The last lines that the nodes logged, where the seed did not pass. */
  readonly log: readonly string[];
  readonly events: number;
  readonly acknowledged: number;
  readonly crashes: number;
  readonly virtualMs: number;
  readonly reached: readonly (readonly [string, number])[];
  /** How much each checker could judge. */
  readonly judged: readonly (readonly [string, number])[];
  /** The faults that were planned. */
  readonly schedule: Schedule;
  /** Names of the operations that were started, where the seed did not pass; see `nameOf`. */
  readonly operations: readonly string[];
}

export interface SeedSettings {
  /** Length of load and chaos together, virtual seconds. */
  readonly seconds: number;
  readonly traceWindow?: TraceWindow | undefined;
  /** Keeps the whole history of a run that did not pass. */
  readonly onHistory?: (operations: readonly Operation[]) => void;
}

/** Old messages and asks are gone after this time. */
const quiesceMs = 20_000;
/** Failure detectors have noticed by then who is gone. */
const coreMs = 5_000;
/** Nobody asks for anything for so long before the end. */
const idleMs = 10_000;
/** Longer than anything takes that a node does for itself, and how often to look. */
const ownWorkMs = 12_000;
const lookMs = 50;
/** What figures of a node may be at most then; gossip goes on. */
const idleFloors: ReadonlyMap<string, number> = new Map([
  ['kvd_mailbox_depth', 8],
  ['kvd_store_in_flight_bytes', 0],
  ['kvd_coordinator_open_reads', 0],
  ['kvd_serial_waiting', 0],
  ['kvd_siblings_keys_in_change', 0],
]);
/** The same where every node is there. */
const wholeFloors: ReadonlyMap<string, number> = new Map([['kvd_batch_waiting', 0]]);
const logLines = 200;
const stackLines = 9;
const problemsMax = 5;
const loadFloor = { beforeFaults: 10, duringFaults: 10 };
const diskReasons = /DISK_FULL|DISK_FAILED/;
const lostGeneration = /with a newer generation/;

class UnexpectedStop extends Error {}
class DataRefused extends UnexpectedStop {}

/** A run as the seed draws it. */
export async function runSeed(seed: number, settings: SeedSettings): Promise<SeedResult> {
  return runDecisions({ seed, seconds: settings.seconds }, settings);
}

/** A run with some of its decisions made explicitly (rule RP-5). */
export async function runDecisions(
  decisions: Decisions,
  settings: Omit<SeedSettings, 'seconds'> = {},
): Promise<SeedResult> {
  return new SeedRun(decisions, settings).play();
}

class SeedRun {
  readonly #options: RunOptions;
  readonly #schedule: Schedule;
  readonly #settings: Omit<SeedSettings, 'seconds'>;
  readonly #world: World;
  readonly #cluster: SimCluster;
  readonly #history = new History();
  readonly #workloads: readonly Workload[];
  readonly #probe: HttpClient;
  readonly #nemesis: Nemesis;
  readonly #ring: Ring;
  readonly #diskProblems = new Map<string, readonly string[]>();
  #disksInspected = 0;
  #settlement: ClusterSettlement | undefined;
  #judged: (readonly [string, number])[] = [];

  constructor(decisions: Decisions, settings: Omit<SeedSettings, 'seconds'>) {
    const { seed: drawnSeed, seconds, with: forced } = decisions;
    const options = calmed(optionsOf(drawnSeed, seconds, forced), decisions);
    this.#options = options;
    this.#settings = settings;
    this.#schedule = decisions.schedule ?? drawSchedule(options);
    const { seed, ties, gridMicros, nodes, shards, compaction, compression, tunables } = options;
    const names = nodeNames(nodes);
    this.#world = new World({ seed, ties, gridMicros, traceWindow: settings.traceWindow });
    this.#cluster = new SimCluster({
      world: this.#world,
      names,
      program: kvdProgram({
        names,
        shards,
        durability: 'group',
        compaction,
        compression,
        tunables,
      }),
      codec: kvdCodec(),
      codecs: sharedCodecs(),
      network: options.network,
      clocks: options.clocks,
      clockGrainMicros: options.clockGrainMicros,
      hasBuggify: options.hasBuggify,
      restartMs: (node) => this.#nemesis.restartMs(node),
      // A table that cannot be read right after it was written: the node stops.
      mayFail: (node, message) => this.#isDamaged(node) && message.includes('CORRUPT'),
      onStop: (node, reason) => this.#nodeStopped(node, reason),
    });
    const { virtualNodes, replicationFactor } = tunables;
    this.#ring = new Ring({ members: names, virtualNodes, replicationFactor });
    this.#workloads = this.#createWorkloads(decisions);
    this.#probe = new HttpClient(this.#cluster, this.#history, 'probe');
    this.#nemesis = new Nemesis(this.#cluster, this.#schedule);
  }

  #createWorkloads({ operations }: Decisions): Workload[] {
    const kept = operations === undefined ? undefined : new Set(operations);
    return this.#options.workloads.map(({ name, pace, create }) =>
      create({
        cluster: this.#cluster,
        history: this.#history,
        random: this.#world.random.fork(`workload:${name}`),
        replicas: this.#ring.replicationFactor,
        pace,
        replicasOf: (key) => this.#ring.replicasOf(hashKey(key).token),
        shardAt: (node, key) => shardOf(hashKey(key).token, this.#options.shards.get(node) ?? 1),
        isKept: (client, turn) => kept?.has(nameOf({ workload: name, client, turn })) ?? true,
      }),
    );
  }

  async play(): Promise<SeedResult> {
    try {
      await this.#world.run(() => this.#scenario());
    } catch (error) {
      const verdict = verdictOf(error);
      return this.#result(verdict, propertyOf(verdict, error), [describe(error)]);
    }
    const violations = this.#violations();
    const [first] = violations;
    if (first !== undefined) {
      const shown = violations.slice(0, problemsMax).map(formatViolation);
      return this.#result('safety', `${first.rule} ${first.what}`, shown);
    }
    const invalid = invalidLoad(this.#history.operations, loadFloor);
    if (invalid !== undefined) return this.#result('invalid', 'load', [invalid]);
    return this.#result('passed', '', []);
  }

  /**
   * A node may end itself for a failed or full disk, and one whose data was damaged for that; every
   * other reason is a find. A node that calls its own data damaged has lost it or is wrong, where no
   * fault of the seed damages what was synced.
   */
  #nodeStopped(node: string, reason: string): void {
    const { faults } = this.#options;
    const isDiskBad = faults.includes('disk-error') || faults.includes('full-disk');
    if (isDiskBad && diskReasons.test(reason)) return;
    if (this.#isDamaged(node) && /CORRUPT|DATA_REFUSED|corrupt data/.test(reason)) {
      this.#cluster.probes.reached.set('sim: damage refused', 1);
      return;
    }
    // Its generations went with its disk, and a clock was ahead before: the next start is above them.
    if (
      this.#isDamaged(node) &&
      this.#options.damage.includes('wiped-disk') &&
      lostGeneration.test(reason)
    ) {
      this.#cluster.probes.reached.set('sim: lost generation found', 1);
      return;
    }
    const what = `${node} ended itself: ${reason}`;
    this.#world.fail(reason.includes('CORRUPT') ? new DataRefused(what) : new UnexpectedStop(what));
  }

  #isDamaged(node: string): boolean {
    const { damage, victim } = this.#options;
    return damage.length > 0 && (victim === undefined || victim === node);
  }

  // ---- phases --------------------------------------------------------------------------------

  async #scenario(): Promise<void> {
    const { loadMs, chaosMs, damage, victim } = this.#options;
    if (!(await this.#cluster.startAll())) throw new LivenessError('a new node did not start');
    const clients = Promise.all(this.#workloads.map((workload) => workload.run()));
    await this.#world.sleep(loadMs);
    this.#enter('chaos');
    await this.#nemesis.rage(chaosMs);
    for (const workload of this.#workloads) workload.stop();
    await clients;
    const isAnywhere = damage.length > 0 && victim === undefined;
    // Where the data of all nodes may be damaged nothing has to work, only to be right.
    if (isAnywhere) return;
    if (this.#schedule.core !== undefined) await this.#playCore(this.#schedule.core.gone);
    await this.#settle(new Set(victim === undefined ? [] : [victim]));
  }

  /** Some nodes are gone for good: every other one serves writes and reads at a quorum. */
  async #playCore(gone: readonly string[]): Promise<void> {
    const { core } = this.#schedule;
    if (core === undefined) return;
    this.#enter('core');
    await this.#within(this.#nemesis.keepCore(core), 'the nodes of the core did not start again');
    await this.#world.sleep(coreMs);
    const nodes = this.#cluster.names.filter((name) => !gone.includes(name));
    await this.#serve(this.#newSettlement(nodes, false), 'core');
    this.#cluster.probes.reached.set('sim: core without a minority', 1);
  }

  async #settle(without: ReadonlySet<string>): Promise<void> {
    await this.#within(this.#nemesis.healAll(without), 'the nodes did not start again');
    await this.#world.sleep(quiesceMs);
    this.#enter('final');
    const nodes = this.#cluster.names.filter((name) => !without.has(name));
    const settlement = this.#newSettlement(nodes, without.size === 0);
    this.#settlement = settlement;
    for (const workload of this.#workloads) await workload.settle?.(settlement);
    await this.#serve(settlement, 'fresh');
    await this.#world.sleep(idleMs);
    const floors = without.size === 0 ? new Map([...idleFloors, ...wholeFloors]) : idleFloors;
    for (const node of nodes) await this.#demandIdle(node, floors);
    this.#inspect(nodes);
  }

  /**
   * Without clients nothing may be left waiting: queues and open work drain (rule 2.6 e). What the
   * node does for itself (a look at the catalog, Paxos repair) is over within its deadline.
   */
  async #demandIdle(node: string, floors: ReadonlyMap<string, number>): Promise<void> {
    for (let leftMs = ownWorkMs; this.#busyOf(node, floors) !== undefined; leftMs -= lookMs) {
      if (leftMs <= 0)
        throw new LivenessError(
          `${node}: ${this.#busyOf(node, floors)} after ${(idleMs + ownWorkMs) / 1000} s without clients`,
        );
      await this.#world.sleep(lookMs);
    }
  }

  /** A figure that is above its floor. */
  #busyOf(node: string, floors: ReadonlyMap<string, number>): string | undefined {
    for (const { name, labels, value } of this.#cluster.figuresOf(node)) {
      const most = floors.get(name);
      if (most !== undefined && value > most) return `${name}${JSON.stringify(labels)} is ${value}`;
    }
    return undefined;
  }

  /** The files of the nodes, as they are (CK-13). */
  #inspect(nodes: readonly string[]): void {
    for (const node of nodes) {
      const reader = new SimProcess(node, this.#world, () => undefined);
      const disk = new SimDisk(this.#cluster.machineOf(node).storage, reader);
      const problems = inspectDisk(disk, sharedCodecs());
      if (problems.length > 0) this.#diskProblems.set(node, problems);
      this.#disksInspected += 1;
    }
    const copies = Math.min(this.#options.tunables.replicationFactor, this.#cluster.names.length);
    const tokens = this.#history.operations.map(({ key }) => hashKey(utf8.encode(key)).token);
    const wrong = inspectRing(this.#ring, tokens, copies);
    if (wrong.length > 0) this.#diskProblems.set('ring', wrong);
  }

  /** Each node that is asked takes a write and gives it back. */
  async #serve(settlement: ClusterSettlement, prefix: string): Promise<void> {
    const asker = { process: -1, client: -1, turn: -1 };
    await settlement.forEach(settlement.nodes, async (node) => {
      for (const kind of ['put', 'get'] as const) {
        const key = `${prefix}-${node}`;
        const value = kind === 'put' ? noBytes : undefined;
        const request = { kind, key, node, level: 'QUORUM', value, timeoutMs: 5_000 };
        await settlement.untilOk(
          `${kind} ${key}`,
          async () => (await this.#probe.perform(asker, request)).operation,
        );
      }
    });
  }

  #newSettlement(nodes: readonly string[], isWhole: boolean): ClusterSettlement {
    const { shards } = this.#options;
    return new ClusterSettlement({
      cluster: this.#cluster,
      ring: this.#ring,
      shards,
      nodes,
      isWhole,
    });
  }

  #enter(phase: Phase): void {
    this.#probe.phase = phase;
    for (const workload of this.#workloads) workload.enter(phase);
  }

  async #within(work: Promise<void>, what: string): Promise<void> {
    let isDone = false;
    this.#world.after(settleMs, undefined, 'liveness', () => {
      if (!isDone) this.#world.fail(new LivenessError(`${what} within ${settleMs / 1000} s`));
    });
    await work;
    isDone = true;
  }

  // ---- verdict -------------------------------------------------------------------------------

  #violations(): Violation[] {
    const evidence = this.#evidence();
    return checkers.flatMap(({ id, check }) => {
      const { judged, violations } = check(evidence);
      this.#judged = [...this.#judged, [id, judged]];
      return violations;
    });
  }

  #evidence(): Evidence {
    const errors = this.#cluster.names.map(
      (name) => [name, this.#cluster.clockOf(name).worstErrorMs] as const,
    );
    return evidenceOf(this.#history.operations, {
      replicas: this.#ring.replicationFactor,
      lostCopies: this.#options.lostCopies,
      isRefilled: this.#options.isRefilled,
      copies: this.#settlement?.copies ?? new Map(),
      clockErrorMs: Math.max(...errors.map(([, errorMs]) => errorMs)),
      clockErrorsMs: new Map(errors),
      starts: this.#cluster.starts,
      diskProblems: this.#diskProblems,
      disksInspected: this.#disksInspected,
    });
  }

  /** Labels of the product, and what the simulator has seen itself. */
  #reached(): (readonly [string, number])[] {
    const { network, probes } = this.#cluster;
    const own: readonly (readonly [string, number])[] = [
      ['sim: flipped bit noticed', network.corrupted],
      ['sim: old bytes refused', network.refused],
    ];
    return [...probes.reached, ...own.filter(([, count]) => count > 0)];
  }

  #result(verdict: Verdict, property: string, problems: readonly string[]): SeedResult {
    const { trace, events, nowMs } = this.#world;
    const { operations } = this.#history;
    const hasFailed = verdict !== 'passed';
    if (hasFailed) this.#settings.onHistory?.(operations);
    return {
      seed: this.#options.seed,
      verdict,
      property: property === '' ? '' : `${verdict}: ${property}`,
      problems,
      options: describeOptions(this.#options),
      hash: trace.text,
      checkpoints: trace.checkpoints,
      traceLines: trace.lines,
      log: hasFailed ? this.#cluster.log.last(logLines) : [],
      events,
      acknowledged: this.#history.count('ok'),
      crashes: this.#cluster.crashes,
      virtualMs: nowMs,
      reached: this.#reached(),
      judged: this.#judged,
      schedule: this.#schedule,
      operations: hasFailed ? operations.filter(({ turn }) => turn >= 0).map(nameOf) : [],
    };
  }
}

function verdictOf(error: unknown): Verdict {
  if (error instanceof LivenessError || error instanceof StuckError) return 'liveness';
  if (error instanceof LivelockError) return 'liveness';
  if (error instanceof NondeterminismError) return 'nondeterminism';
  if (error instanceof DataRefused) return 'safety';
  return 'crash';
}

/** The kind of the error, without what differs between two runs. */
function propertyOf(verdict: Verdict, error: unknown): string {
  if (error instanceof LivelockError) return 'livelock';
  if (verdict === 'liveness') return 'did not settle';
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/[0-9]+/g, '#').slice(0, 100);
}

function describe(error: unknown): string {
  if (error instanceof LivenessError || error instanceof LivelockError) return error.message;
  if (error instanceof UnexpectedStop) return error.message;
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return text.split('\n', stackLines).join('\n    ');
}
