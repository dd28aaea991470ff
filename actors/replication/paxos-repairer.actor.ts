// Paxos repair of a shard (PX-16): a round whose proposer died or ran out of time leaves an update
// that some replica has accepted, and it stays open until somebody has an operation on the same keys.
// This actor comes along instead, now and then (paxos-repair.ts). Every replica looks after its own
// states; that several of them may meet at one key costs a round, and harms nobody.

import { actor, type Context, type Later, type Ref, refTo } from '../../runtime/actor.ts';
import { describeFailure, KvError } from '../../runtime/errors.ts';
import type { Counter } from '../../runtime/metrics.ts';
import type { Handlers, Tell } from '../../runtime/protocol.ts';
import type { Store } from '../storage/protocol.ts';
import { repairStates } from './paxos-repair.ts';
import { PaxosRepairer, type PaxosRepairReport, type Proposer } from './protocol.ts';

export interface PaxosRepairOptions {
  readonly store: Ref<Store>;
  readonly proposer: Ref<Proposer>;
  /** Milliseconds between two passes; 0: only when asked for. */
  readonly intervalMs: number;
  readonly bytesPerSecond: number;
  /** Rounds have ended after so long, milliseconds. */
  readonly settledMs: number;
}

interface Own {
  readonly tick: Tell<object>;
  readonly ended: Tell<{ readonly report: PaxosRepairReport | undefined }>;
}

/** A pass with 100,000 open groups and nobody to ask would take this long at most. */
const passTimeoutMs = 3_600_000;

class PaxosRepairActor implements Handlers<PaxosRepairer>, Handlers<Own> {
  readonly #ctx: Context<Own>;
  readonly #options: PaxosRepairOptions;
  readonly #finished: Counter;
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
    const { store, proposer, bytesPerSecond, settledMs } = this.#options;
    return this.#ctx.session(async (session) => {
      let report: PaxosRepairReport | undefined;
      try {
        const parts = { session, clock, store, proposer, bytesPerSecond, settledMs };
        report = await repairStates(parts);
        return report;
      } finally {
        toSelf('ended', { report });
      }
    });
  }

  ended({ report }: { readonly report: PaxosRepairReport | undefined }): void {
    const { log, probe, shard } = this.#ctx;
    this.#isRunning = false;
    if (report === undefined) return;
    this.#left = report.left;
    this.#finished.add(report.finished);
    if (report.finished > 0) probe.reach('open updates ended by repair');
    if (report.finished > 0 || report.left > 0) log.info('paxos-repair.done', { shard, ...report });
  }

  tick(): void {
    const { node, shard, log } = this.#ctx;
    const self = refTo(PaxosRepairer, node, shard);
    this.#ctx.session(async (session) => {
      try {
        await session.ask(self, 'run', {}, passTimeoutMs);
      } catch (error) {
        if (!(error instanceof KvError)) throw error;
        log.warn('paxos-repair.failed', { shard, reason: describeFailure(error.toFailure()) });
      }
    });
    this.#scheduleNext();
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
