// The open asks of one thread by number, and the wheel that ends them at their deadline. A bucket
// of the wheel holds numbers only; an ask that was answered is simply no longer in the table.
//
// The table is an array of slots and no Map: a Map that entries come to and go from is copied again
// and again, and in V8 each old copy points to the next one and to what it held. The first copy that
// has grown old keeps all later ones alive, so every ask that ever was is moved to the old
// generation (measured: a third of the time of writes went into that; docs/performance.md).

import type { Done } from './actor.ts';
import type { Cell } from './cell.ts';
import type { Link } from './envelope.ts';
import { high32 } from './bytes.ts';
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
/** A power of two. */
const slotsMin = 64;

const newSlots = (count: number): (PendingAsk | undefined)[] =>
  new Array<PendingAsk | undefined>(count).fill(undefined);

export class AskTable {
  readonly #timers: Timers;
  readonly #expired: (askId: number) => void;
  /** By the low bits of its number; at most half of the slots are taken. */
  #slots: (PendingAsk | undefined)[] = newSlots(slotsMin);
  /** The number of the ask in each slot. */
  #ids = new Uint32Array(slotsMin);
  #size = 0;
  readonly #buckets = new Map<number, number[]>();
  #nextId = 1;
  #timer: TimerHandle | undefined;
  #timerBucket = Infinity;

  constructor(timers: Timers, expired: (askId: number) => void) {
    this.#timers = timers;
    this.#expired = expired;
  }

  get size(): number {
    return this.#size;
  }

  open(ask: PendingAsk, nowMs: number, deadlineMs: number): number {
    if (this.#size * 2 >= this.#slots.length) this.#grow();
    const id = this.#takeId();
    const slot = id & (this.#slots.length - 1);
    this.#slots[slot] = ask;
    this.#ids[slot] = id;
    this.#size += 1;
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
    const slot = id & (this.#slots.length - 1);
    return this.#ids[slot] === id ? this.#slots[slot] : undefined;
  }

  take(id: number): PendingAsk | undefined {
    const ask = this.get(id);
    if (ask === undefined) return undefined;
    this.#slots[id & (this.#slots.length - 1)] = undefined;
    this.#size -= 1;
    return ask;
  }

  /** The numbers of all open asks that `belongs` picks, oldest first. */
  select(belongs: (ask: PendingAsk) => boolean): number[] {
    const ids: number[] = [];
    this.#slots.forEach((ask, slot) => {
      if (ask !== undefined && belongs(ask)) ids.push(this.#ids[slot] as number);
    });
    const ageOf = (id: number): number => (this.#nextId - id + high32) % high32;
    return ids.sort((a, b) => ageOf(b) - ageOf(a));
  }

  /** The next number whose slot is free: what waits for long is stepped over. */
  #takeId(): number {
    for (;;) {
      const id = this.#nextId;
      this.#nextId = id === 0xffff_ffff ? 1 : id + 1;
      if (this.#slots[id & (this.#slots.length - 1)] === undefined) return id;
    }
  }

  /** Numbers that had slots of their own have them in twice as many. */
  #grow(): void {
    const { length } = this.#slots;
    const slots = newSlots(length * 2);
    const ids = new Uint32Array(length * 2);
    this.#slots.forEach((ask, slot) => {
      if (ask === undefined) return;
      const id = this.#ids[slot] as number;
      slots[id & (length * 2 - 1)] = ask;
      ids[id & (length * 2 - 1)] = id;
    });
    this.#slots = slots;
    this.#ids = ids;
  }

  /** Ends what is due. */
  tick(nowMs: number): void {
    this.#timerBucket = Infinity;
    this.#timer = undefined;
    if (this.#size === 0) {
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
      for (const id of ids) if (this.get(id) !== undefined) this.#expired(id);
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
