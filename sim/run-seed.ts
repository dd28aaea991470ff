// One seed, from its options to its verdict: start, load without faults, chaos, heal, quiesce,
// final reads, checks (rule 2.4). Nothing here looks at the real clock, so a result depends on the
// seed, the length and the program alone.

import { Replica } from '../actors/replication/protocol.ts';
import { storageKey } from '../actors/model/record.ts';
import { Ring } from '../actors/model/ring.ts';
import { hashKey, shardOf } from '../actors/model/token.ts';
import { refTo } from '../runtime/actor.ts';
import { crc32, noBytes, utf8 } from '../runtime/bytes.ts';
import { invalidLoad } from './checkers/load.ts';
import { checkQuorumFloor } from './checkers/quorum-floor.ts';
import { checkConvergence, checkDurability, type ReplicaCopy } from './checkers/settled.ts';
import { checkValues } from './checkers/values.ts';
import { formatViolation, type Violation } from './checkers/violation.ts';
import { SimCluster } from './cluster.ts';
import { describeOptions, nodeNames, optionsOf, type RunOptions } from './faults.ts';
import { NondeterminismError } from './guard.ts';
import { History, type OperationKind } from './history.ts';
import { kvdCodec, kvdProgram, sharedLz4 } from './kvd-program.ts';
import { Nemesis } from './nemesis.ts';
import type { TraceWindow } from './trace.ts';
import { Registers } from './workloads/registers.ts';
import { StuckError, World } from './world.ts';

export type Verdict = 'passed' | 'invalid' | 'crash' | 'safety' | 'liveness' | 'nondeterminism';

export interface SeedResult {
  readonly seed: number;
  readonly verdict: Verdict;
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
}

export interface SeedSettings {
  /** Length of load and chaos together, virtual seconds. */
  readonly seconds: number;
  readonly traceWindow?: TraceWindow;
}

/** After faults have ended, everything must work again within this time. */
const settleMs = 60_000;
/** Old messages and asks are gone after this time. */
const quiesceMs = 20_000;
const finalReaders = 8;
const logLines = 200;
const stackLines = 9;
const diskReasons = /DISK_FULL|DISK_FAILED/;

/** The cluster did not come back, or an operation did not succeed, though nothing is wrong. */
export class LivenessError extends Error {
  constructor(what: string) {
    super(what);
    this.name = 'LivenessError';
  }
}

class UnexpectedStop extends Error {}
class DataRefused extends UnexpectedStop {}

export async function runSeed(seed: number, settings: SeedSettings): Promise<SeedResult> {
  const run = new SeedRun(optionsOf(seed, settings.seconds), settings.traceWindow);
  return run.play();
}

class SeedRun {
  readonly #options: RunOptions;
  readonly #world: World;
  readonly #cluster: SimCluster;
  readonly #history = new History();
  readonly #registers: Registers;
  readonly #nemesis: Nemesis;
  readonly #ring: Ring;
  readonly #copies = new Map<string, ReplicaCopy[]>();

  constructor(options: RunOptions, traceWindow: TraceWindow | undefined) {
    this.#options = options;
    const { seed, ties, gridMicros, nodes, shards, compaction, tunables } = options;
    const names = nodeNames(nodes);
    this.#world = new World({ seed, ties, gridMicros, traceWindow });
    this.#cluster = new SimCluster({
      world: this.#world,
      names,
      program: kvdProgram({ names, shards, durability: 'group', compaction, tunables }),
      codec: kvdCodec(),
      lz4: sharedLz4(),
      network: options.network,
      clocks: options.clocks,
      hasBuggify: options.hasBuggify,
      restartMs: () => this.#nemesis.restartMs(),
      onStop: (node, reason) => this.#nodeStopped(node, reason),
    });
    this.#registers = new Registers(this.#cluster, this.#history, options.workload);
    this.#nemesis = new Nemesis(this.#cluster, options);
    const { virtualNodes, replicationFactor } = tunables;
    this.#ring = new Ring({ members: names, virtualNodes, replicationFactor });
  }

  async play(): Promise<SeedResult> {
    try {
      await this.#world.run(() => this.#scenario());
    } catch (error) {
      return this.#result(verdictOf(error), [describe(error)]);
    }
    const violations = this.#violations();
    if (violations.length > 0)
      return this.#result('safety', violations.slice(0, 5).map(formatViolation));
    const invalid = invalidLoad(this.#history.operations, { beforeFaults: 10, duringFaults: 10 });
    if (invalid !== undefined) return this.#result('invalid', [invalid]);
    return this.#result('passed', []);
  }

  /**
   * A node may end itself for a failed or full disk; every other reason is a find. One that calls
   * its own data damaged has lost it or is wrong: no fault of this model damages what was synced.
   */
  #nodeStopped(node: string, reason: string): void {
    const { faults } = this.#options;
    const isDiskBad = faults.includes('sync-error') || faults.includes('full-disk');
    if (isDiskBad && diskReasons.test(reason)) return;
    const what = `${node} ended itself: ${reason}`;
    this.#world.fail(reason.includes('CORRUPT') ? new DataRefused(what) : new UnexpectedStop(what));
  }

  // ---- phases --------------------------------------------------------------------------------

  async #scenario(): Promise<void> {
    const { loadMs, chaosMs } = this.#options;
    if (!(await this.#cluster.startAll())) throw new LivenessError('a new node did not start');
    const clients = this.#registers.run();
    await this.#world.sleep(loadMs);
    this.#registers.phase = 'chaos';
    await this.#nemesis.rage(chaosMs);
    this.#registers.stop();
    await clients;
    await this.#within(this.#nemesis.healAll(), 'the nodes did not start again');
    await this.#world.sleep(quiesceMs);
    this.#registers.phase = 'final';
    const keys = [...new Set(this.#history.operations.map(({ key }) => key))].sort();
    await this.#forEach(keys, (key) => this.#finalReads(key));
    await this.#forEach(this.#cluster.names, async (node) => {
      await this.#untilOk('put', `fresh-${node}`, 'QUORUM', node);
    });
  }

  async #finalReads(key: string): Promise<void> {
    await this.#untilOk('get', key, 'QUORUM');
    await this.#untilOk('get', key, 'ALL');
    await this.#dump(key);
  }

  /** Tries until it works: it must, now that nothing is wrong any more. */
  async #untilOk(kind: OperationKind, key: string, level: string, at?: string): Promise<void> {
    const { names } = this.#cluster;
    const endMs = this.#world.nowMs + settleMs;
    let code: string | undefined;
    for (let attempt = 0; this.#world.nowMs < endMs; attempt += 1) {
      const node = at ?? names[(attempt + key.length) % names.length] ?? '';
      const value = kind === 'put' ? noBytes : undefined;
      const request = { kind, key, node, level, value, timeoutMs: 5_000 };
      const operation = await this.#registers.perform(-1, request);
      if (operation.outcome === 'ok') return;
      code = operation.code;
      await this.#world.sleep(200);
    }
    throw new LivenessError(
      `${kind} ${key} at ${level} did not succeed within ${settleMs / 1000} s after all faults had ended (${code ?? 'no answer'})`,
    );
  }

  /** What every replica holds of a key. */
  async #dump(key: string): Promise<void> {
    const stored = storageKey(0, utf8.encode(key));
    const { token, hash } = hashKey(stored);
    const shard = shardOf(token, this.#options.shards);
    for (const node of this.#ring.replicasOf(token)) {
      const copy = await this.#readReplica(node, shard, stored, hash);
      this.#copies.set(key, [...(this.#copies.get(key) ?? []), copy]);
    }
  }

  async #readReplica(
    node: string,
    shard: number,
    key: Uint8Array,
    hash: number,
  ): Promise<ReplicaCopy> {
    for (let attempt = 0; attempt < 20; attempt += 1) {
      const to = refTo(Replica, node, shard);
      const answer = await this.#cluster.ask(to, 'read', { key, hash, digest: false }, 5_000);
      if (answer.kind === 'reply') {
        const { record, hlc, writer, incarnation } = answer.reply;
        const content = record === undefined ? 0 : crc32(record);
        return { node, etag: hlc === 0 ? undefined : { hlc, writer, incarnation }, content };
      }
      await this.#world.sleep(200);
    }
    throw new LivenessError(`the replica on ${node} does not answer though nothing is wrong`);
  }

  async #forEach<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < items.length) {
        const item = items[next] as T;
        next += 1;
        await work(item);
      }
    };
    await Promise.all(Array.from({ length: finalReaders }, worker));
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
    const { operations } = this.#history;
    const replicas = this.#ring.replicationFactor;
    return [
      ...checkDurability(operations, replicas),
      ...checkValues(operations),
      ...checkQuorumFloor(operations, replicas),
      ...checkConvergence(this.#copies),
    ];
  }

  #result(verdict: Verdict, problems: readonly string[]): SeedResult {
    const { trace, events, nowMs } = this.#world;
    return {
      seed: this.#options.seed,
      verdict,
      problems,
      options: describeOptions(this.#options),
      hash: trace.text,
      checkpoints: trace.checkpoints,
      traceLines: trace.lines,
      log: verdict === 'passed' ? [] : this.#cluster.log.last(logLines),
      events,
      acknowledged: this.#history.count('ok'),
      crashes: this.#cluster.crashes,
      virtualMs: nowMs,
      reached: [...this.#cluster.probes.reached],
    };
  }
}

function verdictOf(error: unknown): Verdict {
  if (error instanceof LivenessError || error instanceof StuckError) return 'liveness';
  if (error instanceof NondeterminismError) return 'nondeterminism';
  if (error instanceof DataRefused) return 'safety';
  return 'crash';
}

function describe(error: unknown): string {
  if (error instanceof LivenessError) return error.message;
  if (error instanceof UnexpectedStop) return error.message;
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return text.split('\n', stackLines).join('\n    ');
}
