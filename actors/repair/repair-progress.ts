// What a repair has done so far, for whoever asks while it runs and after it. Each set ends in one
// of three ways, and the first word about it stands.

import type { ReplicaSets } from '../model/replica-sets.ts';
import type { RepairReport, SetOutcome } from './protocol.ts';

export class RepairProgress {
  phase = 'start';
  leavesDiffering = 0;
  keysCompared = 0;
  recordsScanned = 0;
  recordsSent = 0;
  bytesSent = 0;
  readonly #id: number;
  readonly #startedMs: number;
  readonly #startedAtMs: number;
  readonly #sets: ReplicaSets;
  readonly #outcomes = new Map<number, { outcome: SetOutcome | undefined; why: string }>();
  #tookMs: number | undefined;

  /** `at`: wall clock and monotonic milliseconds of the start. */
  constructor(
    id: number,
    at: { readonly wallMs: number; readonly monotonicMs: number },
    sets: ReplicaSets,
    wanted: readonly number[],
  ) {
    this.#id = id;
    this.#startedMs = at.wallMs;
    this.#startedAtMs = at.monotonicMs;
    this.#sets = sets;
    for (const set of wanted) this.#outcomes.set(set, { outcome: undefined, why: '' });
  }

  get isRunning(): boolean {
    return this.#tookMs === undefined;
  }

  /** The first reason stays. */
  failed(set: number, why: string): void {
    this.#end(set, 'failed', why);
  }

  partial(set: number, why: string): void {
    this.#end(set, 'partial', why);
  }

  complete(set: number): void {
    this.#end(set, 'complete', '');
  }

  /** Nothing has gone wrong with it so far. */
  isInOrder(set: number): boolean {
    return this.#outcomes.get(set)?.outcome === undefined;
  }

  sent(records: number, bytesEach: number): void {
    this.recordsSent += records;
    this.bytesSent += records * bytesEach;
  }

  ended(nowMs: number): void {
    this.phase = 'done';
    this.#tookMs = nowMs - this.#startedAtMs;
    for (const set of this.#outcomes.keys()) this.failed(set, 'the repair ended early');
  }

  count(outcome: SetOutcome): number {
    return [...this.#outcomes.values()].filter((one) => one.outcome === outcome).length;
  }

  report(nowMs: number): RepairReport {
    return {
      id: this.#id,
      startedMs: this.#startedMs,
      tookMs: Math.round(this.#tookMs ?? nowMs - this.#startedAtMs),
      isRunning: this.isRunning,
      phase: this.phase,
      setsWanted: this.#outcomes.size,
      sets: [...this.#outcomes].flatMap(([set, { outcome, why }]) =>
        outcome === undefined ? [] : [{ set: this.#sets.sets[set]?.id ?? '', outcome, why }],
      ),
      leavesDiffering: this.leavesDiffering,
      keysCompared: this.keysCompared,
      recordsScanned: this.recordsScanned,
      recordsSent: this.recordsSent,
      bytesSent: this.bytesSent,
    };
  }

  #end(set: number, outcome: SetOutcome, why: string): void {
    const known = this.#outcomes.get(set);
    if (known === undefined || known.outcome !== undefined) return;
    known.outcome = outcome;
    known.why = why;
  }
}
