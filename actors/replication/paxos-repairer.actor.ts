// Paxos repair of a shard (PX-16): a round whose proposer died or ran out of time leaves an update
// that some replica has accepted, and it stays open until somebody has an operation on the same keys.
// This actor comes along instead, now and then (paxos-repair.ts). Every replica looks after its own
// states; that several of them may meet at one key costs a round, and harms nobody. After its pass
// the one of shard 0 sees to it that old states can be forgotten (paxos-forget.ts).

import { actor, type Context, type Later, type Ref, refTo } from '../../runtime/actor.ts';
import { describeFailure, KvError } from '../../runtime/errors.ts';
import type { Counter } from '../../runtime/metrics.ts';
import type { BodyOf, Handlers, ReplyOf, Tell } from '../../runtime/protocol.ts';
import type { PeerStates } from '../membership/protocol.ts';
import type { ReplicaSets } from '../model/replica-sets.ts';
import type { Store } from '../storage/protocol.ts';
import { moveFloors } from './paxos-forget.ts';
import { type PassResult, repairStates } from './paxos-repair.ts';
import {
  type Acceptor,
  PaxosRepairer,
  type PaxosRepairReport,
  type Proposer,
  type SetBounds,
} from './protocol.ts';

export interface PaxosRepairOptions {
  readonly store: Ref<Store>;
  readonly proposer: Ref<Proposer>;
  /** Milliseconds between two passes; 0: only after repairs that were asked for. */
  readonly intervalMs: number;
  readonly bytesPerSecond: number;
  /** Rounds have ended after so long, milliseconds. */
  readonly settledMs: number;
  readonly acceptor: Ref<Acceptor>;
  readonly sets: ReplicaSets;
  /** Of this node. */
  readonly shards: number;
  /** States are kept for so long, milliseconds. */
  readonly keptMs: number;
}

interface Own {
  readonly tick: Tell<object>;
  readonly ended: Tell<{ readonly result: PassResult | undefined }>;
}

/** A pass with 100,000 open groups and nobody to ask would take this long at most. */
const passTimeoutMs = 3_600_000;

class PaxosRepairActor implements Handlers<PaxosRepairer>, Handlers<Own> {
  readonly #ctx: Context<Own>;
  readonly #options: PaxosRepairOptions;
  readonly #finished: Counter;
  readonly #forgotten: Counter;
  /** By number of a set, as the last pass found it. */
  #settled: ReadonlyMap<number, number> = new Map();
  /** By number of a set: all members have settled so far. */
  readonly #forgetBelow = new Map<number, number>();
  /** Shards of the members that are alive. */
  #shards: ReadonlyMap<string, number> = new Map();
  #isRunning = false;
  #left = 0;

  constructor(ctx: Context<Own>, options: PaxosRepairOptions) {
    this.#ctx = ctx;
    this.#options = options;
    const labels = { shard: String(ctx.shard) };
    this.#finished = ctx.metrics.counter(
      'kvd_serial_repaired_total',
      'Open updates of serial operations that Paxos repair has ended',
      labels,
    );
    this.#forgotten = ctx.metrics.counter(
      'kvd_serial_forgotten_total',
      'States of old serial operations that were forgotten',
      labels,
    );
    ctx.metrics.gauge(
      'kvd_serial_unfinished',
      'Open updates that the last pass of Paxos repair could not end',
      () => this.#left,
      labels,
    );
  }

  start(): void {
    this.#scheduleNext();
  }

  run(): Later<PaxosRepairReport> {
    if (this.#isRunning) throw new KvError('OVERLOADED', { detail: 'a pass is under way' });
    this.#isRunning = true;
    const { clock, toSelf } = this.#ctx;
    const forgetBelow = new Map(this.#forgetBelow);
    const options = this.#options;
    return this.#ctx.session(async (session) => {
      let result: PassResult | undefined;
      try {
        result = await repairStates({ session, clock, ...options, forgetBelow });
        return result.report;
      } finally {
        toSelf('ended', { result });
      }
    });
  }

  ended({ result }: BodyOf<Own['ended']>): void {
    const { log, probe, shard } = this.#ctx;
    this.#isRunning = false;
    if (result === undefined) return;
    const { report, settled } = result;
    this.#settled = settled;
    this.#left = report.left;
    this.#finished.add(report.finished);
    this.#forgotten.add(report.forgotten);
    if (report.finished > 0) probe.reach('open updates ended by repair');
    if (report.finished > 0 || report.left > 0 || report.forgotten > 0)
      log.info('paxos-repair.done', { shard, ...report });
  }

  settled({ sets }: BodyOf<PaxosRepairer['settled']>): ReplyOf<PaxosRepairer['settled']> {
    const hlcs = sets.map((set) => this.#settled.get(set) ?? 0);
    const { shards } = this.#options;
    return { sets, hlcs, wallMicros: this.#ctx.clock.wallMicros(), shards };
  }

  forget({ sets, hlcs }: SetBounds): object {
    sets.forEach((set, i) => {
      this.#forgetBelow.set(set, Math.max(this.#forgetBelow.get(set) ?? 0, hlcs[i] ?? 0));
    });
    return {};
  }

  peersChanged({ peers }: PeerStates): void {
    const alive = peers.filter(({ condition }) => condition !== 'dead');
    this.#shards = new Map(alive.map(({ node, shards }) => [node, shards]));
  }

  tick(): void {
    this.#pass();
    this.#scheduleNext();
  }

  /** By itself this one never comes along where repairs do not either: so it does with those. */
  repaired(): void {
    if (this.#options.intervalMs === 0 && !this.#isRunning) this.#pass();
  }

  #pass(): void {
    const { node, shard, log } = this.#ctx;
    const { sets, keptMs } = this.#options;
    const self = refTo(PaxosRepairer, node, shard);
    const shardsOf = this.#shards;
    this.#ctx.session(async (session) => {
      try {
        await session.ask(self, 'run', {}, passTimeoutMs);
        if (shard === 0) await moveFloors({ session, node, sets, shardsOf, keptMs });
      } catch (error) {
        if (!(error instanceof KvError)) throw error;
        log.warn('paxos-repair.failed', { shard, reason: describeFailure(error.toFailure()) });
      }
    });
  }

  /** At another time than the other replicas. */
  #scheduleNext(): void {
    const { intervalMs } = this.#options;
    if (intervalMs > 0)
      this.#ctx.after(intervalMs * (0.75 + this.#ctx.random.float() / 2), 'tick', {});
  }
}

export const paxosRepairer = actor({
  protocol: PaxosRepairer,
  create: (ctx: Context<Own>, options: PaxosRepairOptions) => new PaxosRepairActor(ctx, options),
});
