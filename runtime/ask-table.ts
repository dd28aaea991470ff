// The open asks of one thread by number, and the wheel that ends them at their deadline. A bucket
// of the wheel holds numbers only; an ask that was answered is simply no longer in the table.

import type { Done } from './actor.ts';
import type { Cell } from './cell.ts';
import type { Link } from './envelope.ts';
import type { TimerHandle, Timers } from './environment.ts';

export interface PendingAsk {
  /** Undefined: asked from outside of any actor. */
  readonly cell: Cell | undefined;
  readonly incarnation: number;
  readonly name: string;
  readonly to: string;
  readonly trace: string;
  link: Link | undefined;
  /** The answer is handed over within the turn that gives it. */
  readonly isDirect: boolean;
  // The kernel moves replies of every type through this one table.
  readonly done: Done<never>;
}

/** Deadlines are met within this many milliseconds. */
const bucketMs = 16;

/**
 * An ask that may take an hour waits as long as its actors live and stands in no bucket: most asks
 * are answered at once, and their numbers would pile up until then.
 */
const unboundedMs = 3_600_000;

export class AskTable {
  readonly #timers: Timers;
  readonly #expired: (askId: number) => void;
  readonly #asks = new Map<number, PendingAsk>();
  readonly #buckets = new Map<number, number[]>();
  #nextId = 1;
  #timer: TimerHandle | undefined;
  #timerBucket = Infinity;

  constructor(timers: Timers, expired: (askId: number) => void) {
    this.#timers = timers;
    this.#expired = expired;
  }

  get size(): number {
    return this.#asks.size;
  }

  open(ask: PendingAsk, nowMs: number, deadlineMs: number): number {
    const id = this.#nextId;
    this.#nextId = id === 0xffff_ffff ? 1 : id + 1;
    this.#asks.set(id, ask);
    if (deadlineMs - nowMs >= unboundedMs) return id;
    const bucket = Math.ceil(deadlineMs / bucketMs);
    const ids = this.#buckets.get(bucket);
    if (ids === undefined) {
      this.#buckets.set(bucket, [id]);
      if (bucket < this.#timerBucket) this.#arm(bucket, nowMs);
    } else ids.push(id);
    return id;
  }

  get(id: number): PendingAsk | undefined {
    return this.#asks.get(id);
  }

  take(id: number): PendingAsk | undefined {
    const ask = this.#asks.get(id);
    if (ask !== undefined) this.#asks.delete(id);
    return ask;
  }

  /** The numbers of all open asks that `belongs` picks. */
  select(belongs: (ask: PendingAsk) => boolean): number[] {
    const ids: number[] = [];
    for (const [id, ask] of this.#asks) if (belongs(ask)) ids.push(id);
    return ids;
  }

  /** Ends what is due. */
  tick(nowMs: number): void {
    this.#timerBucket = Infinity;
    this.#timer = undefined;
    if (this.#asks.size === 0) {
      this.#buckets.clear();
      return;
    }
    const due = nowMs / bucketMs;
    let next = Infinity;
    const ended: number[] = [];
    for (const bucket of this.#buckets.keys()) {
      if (bucket <= due) ended.push(bucket);
      else if (bucket < next) next = bucket;
    }
    ended.sort((a, b) => a - b);
    for (const bucket of ended) {
      const ids = this.#buckets.get(bucket) ?? [];
      this.#buckets.delete(bucket);
      for (const id of ids) if (this.#asks.has(id)) this.#expired(id);
    }
    if (next < this.#timerBucket) this.#arm(next, nowMs);
  }

  onTimer: () => void = () => undefined;

  #arm(bucket: number, nowMs: number): void {
    this.#timer?.cancel();
    this.#timerBucket = bucket;
    const delayMs = Math.max(0, bucket * bucketMs - nowMs);
    this.#timer = this.#timers.after(delayMs, () => this.onTimer());
  }
}
