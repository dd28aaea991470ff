// The winning record of keys that are read often, or that there is none: a hit needs no look at
// memory and tables (model.md section 5). All of it lies in one buffer, with the index in columns
// beside it: no object and no garbage per entry, and the bound in bytes is exact.
//
// Two rings, the queues of s3-fifo.ts: an entry is written at the tail and goes at the head, so
// nothing is fragmented and nothing is searched.
//
//   entry    u32 bytes | i32 hash | i32 next entry of the same bucket | u16 uses | u16 state |
//            record, padded to 16; where there is no record, a header with the key's length, and key
//
// Invariant: an entry is never older than what was durable and visible when it is read. Writes
// change an entry in the turn in which they become visible; a fill that began before a write of a
// key with the same low bits of its hash is not kept.

import { ownBytes, type TakeBytes } from '../../runtime/bytes.ts';
import type { CacheFigures } from './cache-figures.ts';
import { recordHeaderBytes, recordKeyLength, recordLengthAt } from '../model/record.ts';
import type { Resolve } from '../model/resolve.ts';
import {
  mainQueue,
  powerOfTwo,
  type QueueName,
  type QueueStore,
  S3Fifo,
  smallBytesOf,
  smallQueue,
  usesMax,
} from './s3-fifo.ts';

/** What a look-up found: a copy of the record, that there is none, or nothing at all. */
export type CachedRow = Uint8Array | 'absent' | undefined;

const entryHeaderBytes = 16;
/** In words from the start of an entry. */
const bytesWord = 0;
const hashWord = 1;
const nextWord = 2;
const stateWord = 3;
const usesMask = 3;
const absentBit = 4;
/** No longer in the index: its bytes are free when the ring comes by. */
const deadBit = 8;
/** Buckets and ghosts are planned for entries of this size. */
const typicalEntryBytes = 256;
/** Larger records stay where they are. */
const entryBytesMax = 16 * 1024;
const writeMarks = 1_024;
/** Less than this is not worth an index. */
const bytesMin = 32 * 1024;
/** Places are signed words. */
const roomMax = 0x7fff_fff0;
const none = 0;
/** Entries start here: no entry is at place 0. */
const firstPlace = 16;

/** A gap at the end of a ring has room for a header of its own. */
const padded = (bytes: number): number => (bytes + 15) & ~15;

interface Ring {
  readonly start: number;
  readonly end: number;
  head: number;
  tail: number;
  /** With the gap that is left at the end where an entry does not fit in one piece. */
  used: number;
}

export class RowCache {
  readonly #bytesMax: number;
  readonly #resolve: Resolve;
  readonly #copyOf: (bytes: Uint8Array) => Uint8Array;
  readonly #bytes: Uint8Array;
  readonly #words: Int32Array;
  /** By the low bits of the hash: the first entry of the bucket. */
  readonly #buckets: Int32Array;
  /** By the low bits of the hash: how many writes became visible. */
  readonly #marks = new Uint32Array(writeMarks);
  readonly #rings: readonly [Ring, Ring];
  readonly #policy: S3Fifo<number>;
  #hits = 0;
  #misses = 0;
  #evictions = 0;
  #entries = 0;

  /**
   * `bytesMax`: all of it, index included; too little for a few records keeps nothing. `copyOf`
   * makes the copies that a look-up gives away, `take` has the memory, with anything in it.
   */
  constructor(
    bytesMax: number,
    resolve: Resolve,
    copyOf: (bytes: Uint8Array) => Uint8Array,
    take: TakeBytes = ownBytes,
  ) {
    const isUsable = bytesMax >= bytesMin;
    const slots = powerOfTwo(isUsable ? bytesMax / typicalEntryBytes / 2 : 0);
    const index = slots * 8 + writeMarks * 4;
    const room = isUsable ? Math.min(bytesMax - index, roomMax) & ~15 : firstPlace;
    const smallEnd = firstPlace + (smallBytesOf(room) & ~15);
    this.#bytesMax = isUsable ? bytesMax : 0;
    this.#resolve = resolve;
    this.#copyOf = copyOf;
    this.#bytes = take(room);
    this.#words = new Int32Array(this.#bytes.buffer);
    this.#buckets = new Int32Array(slots);
    this.#rings = [ringOf(firstPlace, smallEnd), ringOf(smallEnd, room)];
    this.#policy = new S3Fifo(this.#queues(), slots);
  }

  get figures(): CacheFigures {
    const [small, main] = this.#rings;
    const fixed = this.#buckets.byteLength + this.#policy.ghostBytes + this.#marks.byteLength;
    return {
      hits: this.#hits,
      misses: this.#misses,
      evictions: this.#evictions,
      entries: this.#entries,
      bytes: this.#bytesMax === 0 ? 0 : small.used + main.used + fixed,
    };
  }

  // ---- reads ---------------------------------------------------------------------------------

  get(key: Uint8Array, hash: number): CachedRow {
    const place = this.#find(key, 0, key.length, hash);
    if (place === none) {
      this.#misses += 1;
      return undefined;
    }
    this.#hits += 1;
    const words = this.#words;
    const at = (place >> 2) + stateWord;
    const state = words[at] as number;
    if ((state & usesMask) < usesMax) words[at] = state + 1;
    return (state & absentBit) === 0 ? this.#copyOf(this.#recordAt(place)) : 'absent';
  }

  /** To be taken before a look into memory and tables, and given to `fill` with what was found. */
  ticket(hash: number): number {
    return this.#marks[hash & (writeMarks - 1)] as number;
  }

  /** Keeps what a look found, unless a write has become visible since its ticket was taken. */
  fill(key: Uint8Array, hash: number, record: Uint8Array | undefined, ticket: number): void {
    if (this.#bytesMax === 0 || ticket !== this.ticket(hash)) return;
    const content = record === undefined ? recordHeaderBytes + key.length : record.length;
    const bytes = padded(entryHeaderBytes + content);
    const [{ start, end }] = this.#rings;
    if (bytes > Math.min(entryBytesMax, end - start)) return;
    const known = this.#find(key, 0, key.length, hash);
    if (known !== none) this.#forget(known);
    const queue = this.#policy.queueFor(hash);
    this.#policy.makeRoom(queue, bytes);
    const place = this.#append(queue, bytes);
    this.#link(place, hash, record === undefined ? absentBit : 0);
    const at = place + entryHeaderBytes;
    if (record !== undefined) {
      this.#bytes.set(record, at);
      return;
    }
    this.#bytes.fill(0, at, at + recordHeaderBytes);
    this.#bytes[at] = key.length;
    this.#bytes[at + 1] = key.length >>> 8;
    this.#bytes.set(key, at + recordHeaderBytes);
  }

  // ---- writes --------------------------------------------------------------------------------

  /** A record has become visible: what is kept of its key is the winner from now on. */
  written(record: Uint8Array, hash: number): void {
    const mark = hash & (writeMarks - 1);
    this.#marks[mark] = (this.#marks[mark] as number) + 1;
    const keyEnd = recordHeaderBytes + recordKeyLength(record);
    const place = this.#find(record, recordHeaderBytes, keyEnd, hash);
    if (place === none) return;
    const words = this.#words;
    const at = place >> 2;
    const isAbsent = ((words[at + stateWord] as number) & absentBit) !== 0;
    const kept = this.#recordAt(place);
    if (!isAbsent && this.#resolve(kept, record) === kept) return;
    if (padded(entryHeaderBytes + record.length) > (words[at + bytesWord] as number)) {
      this.#forget(place);
      return;
    }
    this.#bytes.set(record, place + entryHeaderBytes);
    words[at + stateWord] = (words[at + stateWord] as number) & ~absentBit;
  }

  /** Nothing is known any more, also not what is being looked up right now. */
  clear(): void {
    for (let i = 0; i < writeMarks; i += 1) this.#marks[i] = (this.#marks[i] as number) + 1;
    this.#buckets.fill(none);
    for (const ring of this.#rings) {
      ring.head = ring.start;
      ring.tail = ring.start;
      ring.used = 0;
    }
    this.#entries = 0;
  }

  // ---- index ---------------------------------------------------------------------------------

  /** The entry whose key is `bytes` from `at` to `end`. */
  #find(bytes: Uint8Array, at: number, end: number, hash: number): number {
    const words = this.#words;
    const hashed = hash | 0;
    let place = this.#buckets[hash & (this.#buckets.length - 1)] as number;
    while (place !== none) {
      const word = place >> 2;
      if (words[word + hashWord] === hashed && this.#hasKey(place, bytes, at, end)) return place;
      place = words[word + nextWord] as number;
    }
    return none;
  }

  #hasKey(place: number, bytes: Uint8Array, at: number, end: number): boolean {
    const own = this.#bytes;
    const length = end - at;
    const header = place + entryHeaderBytes;
    if (((own[header] as number) | ((own[header + 1] as number) << 8)) !== length) return false;
    const keyAt = header + recordHeaderBytes;
    for (let i = 0; i < length; i += 1) if (own[keyAt + i] !== bytes[at + i]) return false;
    return true;
  }

  #recordAt(place: number): Uint8Array {
    const at = place + entryHeaderBytes;
    return this.#bytes.subarray(at, at + recordLengthAt(this.#bytes, at));
  }

  #link(place: number, hash: number, state: number): void {
    const words = this.#words;
    const bucket = hash & (this.#buckets.length - 1);
    const word = place >> 2;
    words[word + hashWord] = hash;
    words[word + nextWord] = this.#buckets[bucket] as number;
    words[word + stateWord] = state;
    this.#buckets[bucket] = place;
    this.#entries += 1;
  }

  #forget(place: number): void {
    const words = this.#words;
    const word = place >> 2;
    this.#replaceLink(place, words[word + nextWord] as number);
    words[word + stateWord] = deadBit;
    this.#entries -= 1;
  }

  /** Whoever points to `place` points to `other` from now on. */
  #replaceLink(place: number, other: number): void {
    const words = this.#words;
    const bucket = (words[(place >> 2) + hashWord] as number) & (this.#buckets.length - 1);
    let before = this.#buckets[bucket] as number;
    if (before === place) {
      this.#buckets[bucket] = other;
      return;
    }
    for (;;) {
      const next = (before >> 2) + nextWord;
      if (words[next] === place) {
        words[next] = other;
        return;
      }
      before = words[next] as number;
    }
  }

  // ---- rings ---------------------------------------------------------------------------------

  #queues(): QueueStore<number> {
    const words = this.#words;
    const stateOf = (place: number): number => words[(place >> 2) + stateWord] as number;
    return {
      crowded: (queue, bytes) => (placeFor(this.#rings[queue], bytes) === none ? queue : undefined),
      oldest: (queue) => {
        const { head, used } = this.#rings[queue];
        return used === 0 ? undefined : head;
      },
      usesOf: (place) => ((stateOf(place) & deadBit) === 0 ? stateOf(place) & usesMask : 0),
      fingerprintOf: (place) => words[(place >> 2) + hashWord] as number,
      promote: (place) => {
        this.#policy.makeRoom(mainQueue, words[place >> 2] as number);
        this.#move(place, smallQueue, 0);
      },
      recycle: (place) => this.#move(place, mainQueue, (stateOf(place) & usesMask) - 1),
      drop: (place) => {
        const queue = place < this.#rings[mainQueue].start ? smallQueue : mainQueue;
        if ((stateOf(place) & deadBit) === 0) {
          this.#forget(place);
          this.#evictions += 1;
        }
        takeHead(this.#rings[queue], words);
      },
    };
  }

  /** The oldest entry of a queue to the end of the main one. */
  #move(place: number, from: QueueName, uses: number): void {
    const words = this.#words;
    const bytes = words[place >> 2] as number;
    const isAbsent = (words[(place >> 2) + stateWord] as number) & absentBit;
    const target = this.#rings[mainQueue];
    takeHead(this.#rings[from], words);
    // At the seam of the ring there may be room on both sides and not enough on either.
    if (placeFor(target, bytes) === none) {
      this.#forget(place);
      this.#evictions += 1;
      return;
    }
    // The new place may overlap the old one, so the entry is whole again only after the copy.
    const next = this.#nextPlace(target, bytes);
    this.#replaceLink(place, next);
    this.#bytes.copyWithin(next, place, place + bytes);
    words[(next >> 2) + stateWord] = isAbsent | uses;
    target.tail = next + bytes;
    target.used += bytes;
  }

  #append(queue: QueueName, bytes: number): number {
    const ring = this.#rings[queue];
    const place = this.#nextPlace(ring, bytes);
    this.#words[place >> 2] = bytes;
    ring.tail = place + bytes;
    ring.used += bytes;
    return place;
  }

  /** Where the next entry goes; the gap before the seam becomes an entry that does not count. */
  #nextPlace(ring: Ring, bytes: number): number {
    const place = placeFor(ring, bytes);
    const gap = ring.end - ring.tail;
    if (place === ring.tail || gap === 0) return place;
    const word = ring.tail >> 2;
    this.#words[word + bytesWord] = gap;
    this.#words[word + stateWord] = deadBit;
    ring.used += gap;
    return place;
  }
}

function ringOf(start: number, end: number): Ring {
  return { start, end, head: start, tail: start, used: 0 };
}

/** Where so many bytes in one piece are free at the tail or beyond the seam; 0: nowhere. */
function placeFor({ start, end, head, tail, used }: Ring, bytes: number): number {
  const isWrapped = used > 0 && tail <= head;
  if (isWrapped) return head - tail >= bytes ? tail : none;
  if (end - tail >= bytes) return tail;
  return head - start >= bytes ? start : none;
}

/** The oldest entry's bytes are free. */
function takeHead(ring: Ring, words: Int32Array): void {
  const bytes = words[(ring.head >> 2) + bytesWord] as number;
  ring.used -= bytes;
  ring.head += bytes;
  if (ring.head === ring.end) ring.head = ring.start;
  if (ring.used > 0) return;
  ring.head = ring.start;
  ring.tail = ring.start;
}
