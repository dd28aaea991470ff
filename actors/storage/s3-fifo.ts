// Which entry of a full cache goes: three queues in order of arrival (S3-FIFO; Yang et al., "FIFO
// Queues are All You Need for Cache Eviction", SOSP 2023). What is new waits in a small queue of a
// tenth of the bytes; used there, it moves on to the main queue, else it goes and only its
// fingerprint is remembered. What comes back soon enters the main queue at once. At the end of the
// main queue, what was used goes round again, up to three times.
//
// So a scan passes through the small queue and leaves the rest alone, and a hit only counts: no
// list is changed. Where entries lie is the business of the cache (row-cache.ts, block-cache.ts).

import { assert } from '../../runtime/errors.ts';

export const smallQueue = 0;
export const mainQueue = 1;
export type QueueName = typeof smallQueue | typeof mainQueue;

/** Uses of an entry are counted up to this. */
export const usesMax = 3;
/** Part of a cache's bytes that the small queue has. */
const smallPart = 0.1;

export const smallBytesOf = (bytes: number): number => Math.floor(bytes * smallPart);

/** A cache as its policy sees it; `Entry` names one of its entries. */
export interface QueueStore<Entry> {
  /** The queue whose oldest entry has to make room for so many bytes; undefined: they fit. */
  readonly crowded: (queue: QueueName, bytes: number) => QueueName | undefined;
  /** Undefined: the queue is empty. */
  readonly oldest: (queue: QueueName) => Entry | undefined;
  /** 0 to `usesMax`; 0 for what no longer counts. */
  readonly usesOf: (entry: Entry) => number;
  /** A whole number of 32 bits that stands for the entry's key. */
  readonly fingerprintOf: (entry: Entry) => number;
  /** Moves an entry of the small queue to the end of the main one, as never used. */
  readonly promote: (entry: Entry) => void;
  /** Moves the oldest entry of the main queue to its end, used once less. */
  readonly recycle: (entry: Entry) => void;
  readonly drop: (entry: Entry) => void;
}

export class S3Fifo<Entry> {
  readonly #store: QueueStore<Entry>;
  readonly #ghosts: Int32Array;

  /** `ghosts`: about so many fingerprints are remembered, 4 bytes each. */
  constructor(store: QueueStore<Entry>, ghosts: number) {
    this.#store = store;
    this.#ghosts = new Int32Array(powerOfTwo(ghosts));
  }

  get ghostBytes(): number {
    return this.#ghosts.byteLength;
  }

  /** The queue that a new entry enters; it is no longer remembered. */
  queueFor(fingerprint: number): QueueName {
    const slot = fingerprint & (this.#ghosts.length - 1);
    if (this.#ghosts[slot] !== ghostOf(fingerprint)) return smallQueue;
    this.#ghosts[slot] = 0;
    return mainQueue;
  }

  /** Entries go until `bytes` fit into the queue; an empty cache must be able to hold as many. */
  makeRoom(queue: QueueName, bytes: number): void {
    for (;;) {
      const crowded = this.#store.crowded(queue, bytes);
      if (crowded === undefined) return;
      this.#moveOldest(crowded);
    }
  }

  #moveOldest(queue: QueueName): void {
    const store = this.#store;
    const entry = store.oldest(queue);
    assert(entry !== undefined, 'an entry larger than the cache');
    const isUsed = store.usesOf(entry) > 0;
    if (queue === mainQueue) {
      if (isUsed) store.recycle(entry);
      else store.drop(entry);
    } else if (isUsed) store.promote(entry);
    else {
      const fingerprint = store.fingerprintOf(entry);
      this.#ghosts[fingerprint & (this.#ghosts.length - 1)] = ghostOf(fingerprint);
      store.drop(entry);
    }
  }
}

/** Never 0, which is an empty slot. */
const ghostOf = (fingerprint: number): number => fingerprint | 0 || -1;

/** The smallest power of two from 16 on that is not below `count`. */
export function powerOfTwo(count: number): number {
  let power = 16;
  while (power < count) power *= 2;
  return power;
}
