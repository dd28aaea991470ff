// Slows merges down for the sake of requests: while one runs, the store measures how long a message
// as of a client waits for its turn, and tells the compactor how long to pause after each batch. How
// long that is, is decided in pacing.ts.

import { type Context, type Ref, refTo } from '../../runtime/actor.ts';
import type { Tell } from '../../runtime/protocol.ts';
import { Pacer } from './pacing.ts';
import { type Compactor, Store } from './protocol.ts';
import { internalTimeoutMs } from './store-steps.ts';

/** Between two measurements of how long requests wait, while a merge runs. */
const measureEveryMs = 10;

type MeasuringContext = Pick<
  Context<{ readonly measure: Tell<object> }>,
  'after' | 'ask' | 'clock' | 'metrics' | 'node' | 'probe' | 'shard' | 'tell'
>;

export class MergePace {
  readonly #ctx: MeasuringContext;
  readonly #compactor: Ref<Compactor>;
  readonly #foregroundDelayMs: number;
  readonly #pacer: Pacer;
  #isMerging = false;
  #isMeasuring = false;
  /** Tables that wait for their merge, as a part of those that stop writes. */
  #debt = 0;
  #toldPauseMs = 0;

  /** `foregroundDelayMs`: of the p99 of requests, above which merges pause; 0: never. */
  constructor(ctx: MeasuringContext, compactor: Ref<Compactor>, foregroundDelayMs: number) {
    this.#ctx = ctx;
    this.#compactor = compactor;
    this.#foregroundDelayMs = foregroundDelayMs;
    this.#pacer = new Pacer({ targetMs: foregroundDelayMs });
    const { metrics } = ctx;
    const labels = { shard: String(ctx.shard) };
    const delay = (): number => this.#pacer.p99Ms / 1000;
    metrics.gauge('kvd_foreground_delay_seconds', 'p99 while merging', delay, labels);
    const pause = (): number => this.#toldPauseMs / 1000;
    metrics.gauge('kvd_compaction_pause_seconds', 'Pause after each batch', pause, labels);
  }

  mergeBegins(): void {
    this.#isMerging = true;
    if (this.#isMeasuring || !this.#pacer.isOn) return;
    this.#isMeasuring = true;
    this.#pacer.begin(this.#ctx.clock.monotonicMs());
    this.#ctx.after(measureEveryMs, 'measure', {});
  }

  mergeEnds(): void {
    this.#isMerging = false;
  }

  /** `debt`: tables that wait for their merge, as a part of those that stop writes. */
  owes(debt: number): void {
    this.#debt = debt;
    this.#tell();
  }

  /** One message as of a client: until it is handled, so long do requests wait. */
  measure(): void {
    this.#isMeasuring = this.#isMerging;
    if (!this.#isMerging) return;
    const { ask, after, clock, probe, node, shard } = this.#ctx;
    const sentMs = clock.monotonicMs();
    ask(refTo(Store, node, shard), 'ping', {}, internalTimeoutMs, (problem) => {
      const nowMs = clock.monotonicMs();
      // A full mailbox refuses at once: that is no short wait.
      const isSlow = problem !== undefined || probe.buggify('requests wait');
      const delayMs = isSlow ? this.#foregroundDelayMs * 2 : nowMs - sentMs;
      if (this.#pacer.measured(delayMs, nowMs)) this.#tell();
      after(measureEveryMs, 'measure', {});
    });
  }

  #tell(): void {
    const pauseMs = Math.round(this.#pacer.pauseMs(this.#debt));
    if (pauseMs === this.#toldPauseMs) return;
    if (pauseMs > this.#toldPauseMs) this.#ctx.probe.reach('merges slowed down');
    this.#toldPauseMs = pauseMs;
    this.#ctx.tell(this.#compactor, 'pace', { pauseMs });
  }
}
