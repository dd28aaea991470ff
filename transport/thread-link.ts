// The link between two threads of a node: a ring in shared memory for each direction, one writer
// and one reader, and a message port that only says "look" (Lamport, "Proving the Correctness of
// Multiprocess Programs", 1977, for the ring; docs/performance.md for why not postMessage).
//
// Entries are u32 length + bytes, 4-byte aligned; the top bit says that the entry goes on in the
// next one, so an envelope may be larger than the ring. A zero length sends the reader back to the
// start. The writer publishes its tail once per flush and rings only if the reader sleeps; the
// reader says that it sleeps, looks once more, and returns: exactly one doorbell per batch.
//
// When the ring is full, entries wait in a bounded queue; beyond that the link refuses.

import { ByteWriter, concatBytes } from '../runtime/bytes.ts';
import type { Clock } from '../runtime/environment.ts';
import type { Envelope, Link } from '../runtime/envelope.ts';
import type { Codec } from './codec.ts';

export interface Doorbell {
  readonly postMessage: (message: unknown) => void;
}

// Int32 words in front of the data; writer's and reader's words on cache lines of their own.
const tailWord = 0;
const headWord = 16;
const sleepingWord = 32;
const headerBytes = 256;
const moreBit = 0x8000_0000;
const lengthMask = 0x7fff_ffff;
/** Bytes that may wait when the ring is full. */
const overflowBytesMax = 64 * 1024 * 1024;
/** What errors may wait beyond that. */
const errorRoomBytes = 1024 * 1024;
/** A buffer that grew beyond this for one large message is not kept. */
const keptScratchBytes = 1024 * 1024;
/** Entries handled before what they caused may leave. */
const drainEntries = 64;

/** `bytes`: room for entries, a multiple of 8, at least 4 KiB. */
export function createRing(bytes: number): SharedArrayBuffer {
  const ring = new SharedArrayBuffer(headerBytes + bytes);
  new Int32Array(ring)[sleepingWord] = 1;
  return ring;
}

class RingView {
  readonly words: Int32Array;
  readonly data: Uint8Array;
  readonly lengths: Uint32Array;
  readonly size: number;

  constructor(ring: SharedArrayBuffer) {
    this.words = new Int32Array(ring, 0, headerBytes / 4);
    this.data = new Uint8Array(ring, headerBytes);
    this.lengths = new Uint32Array(ring, headerBytes);
    this.size = this.data.length;
  }
}

export interface ThreadLinkOptions {
  readonly name: string;
  readonly ring: SharedArrayBuffer;
  readonly doorbell: Doorbell;
  readonly codec: Codec;
  readonly clock: Clock;
}

/** The writing end. */
export class ThreadLink implements Link {
  readonly name: string;
  readonly #options: ThreadLinkOptions;
  readonly #ring: RingView;
  #scratch = new ByteWriter(64 * 1024);
  #tail: number;
  /** Waits for room; the parts of one envelope follow each other. */
  #overflow: { readonly bytes: Uint8Array; readonly isLast: boolean }[] = [];
  #overflowBytes = 0;
  #isDirty = false;
  #isFlushing = false;

  constructor(options: ThreadLinkOptions) {
    this.name = options.name;
    this.#options = options;
    this.#ring = new RingView(options.ring);
    this.#tail = Atomics.load(this.#ring.words, tailWord);
  }

  send(envelope: Envelope): boolean {
    const roomBytes = envelope.kind === 'error' ? errorRoomBytes : 0;
    if (this.#overflowBytes >= overflowBytesMax + roomBytes) return false;
    const { codec, clock } = this.#options;
    this.#scratch.reset();
    codec.encodeEnvelope(this.#scratch, envelope, clock.monotonicMs());
    const bytes = this.#scratch.view();
    this.#isDirty = true;
    const fits = bytes.length <= this.#entryMax;
    if (this.#overflow.length > 0 || !fits || !this.#writeEntry(bytes, 0))
      this.#hold(bytes.slice());
    if (bytes.length > keptScratchBytes) this.#scratch = new ByteWriter(64 * 1024);
    this.#flushSoon();
    return true;
  }

  /** Makes what was sent visible and wakes the reader if it sleeps. */
  flush(): void {
    if (!this.#isDirty) return;
    this.#isDirty = false;
    this.#drainOverflow();
    const { words } = this.#ring;
    Atomics.store(words, tailWord, this.#tail);
    if (Atomics.compareExchange(words, sleepingWord, 1, 0) === 1)
      this.#options.doorbell.postMessage(0);
    if (this.#overflow.length > 0) {
      this.#isDirty = true;
      this.#flushSoon();
    }
  }

  get #entryMax(): number {
    return this.#ring.size / 4;
  }

  #hold(bytes: Uint8Array): void {
    const max = this.#entryMax;
    for (let at = 0; at < bytes.length; at += max)
      this.#overflow.push({
        bytes: bytes.subarray(at, at + max),
        isLast: at + max >= bytes.length,
      });
    this.#overflowBytes += bytes.length;
  }

  #drainOverflow(): void {
    let taken = 0;
    for (const { bytes, isLast } of this.#overflow) {
      if (!this.#writeEntry(bytes, isLast ? 0 : moreBit)) break;
      this.#overflowBytes -= bytes.length;
      taken += 1;
    }
    if (taken > 0) this.#overflow.splice(0, taken);
  }

  /**
   * The kernel flushes after its turns; this is for what is sent outside of them (an edge that
   * asks, a promise that settles) and for what found no room.
   */
  #flushSoon(): void {
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    setImmediate(() => {
      this.#isFlushing = false;
      this.flush();
    });
  }

  #writeEntry(bytes: Uint8Array, flags: number): boolean {
    const { data, lengths, words, size } = this.#ring;
    const needed = 4 + ((bytes.length + 3) & ~3);
    const head = Atomics.load(words, headWord);
    let tail = this.#tail;
    if (tail >= head) {
      // The last word of the data stays free for the mark that sends the reader back.
      if (size - tail < needed + 4) {
        if (head <= needed) return false;
        lengths[tail >>> 2] = 0;
        tail = 0;
      }
    }
    if (tail < head && head - tail <= needed) return false;
    lengths[tail >>> 2] = (bytes.length | flags) >>> 0;
    data.set(bytes, tail + 4);
    this.#tail = tail + needed;
    return true;
  }
}

export interface ThreadReceiverOptions {
  readonly ring: SharedArrayBuffer;
  /** Its messages say that there is something in the ring. */
  readonly doorbell: {
    readonly on: (event: 'message', listener: () => void) => unknown;
    readonly close: () => void;
  };
  /** One envelope: a view of shared memory that is valid during the call. */
  readonly received: (bytes: Uint8Array) => void;
}

/** The reading end. */
export class ThreadReceiver {
  readonly #options: ThreadReceiverOptions;
  readonly #ring: RingView;
  #head: number;
  #parts: Uint8Array[] = [];
  #isClosed = false;

  constructor(options: ThreadReceiverOptions) {
    this.#options = options;
    this.#ring = new RingView(options.ring);
    this.#head = Atomics.load(this.#ring.words, headWord);
    options.doorbell.on('message', () => this.#drain());
    // What was sent before this end existed.
    this.#drain();
  }

  close(): void {
    this.#isClosed = true;
    this.#options.doorbell.close();
  }

  readonly #drain = (): void => {
    if (this.#isClosed) return;
    const { words } = this.#ring;
    for (let entries = 0; entries < drainEntries; entries += 1) {
      if (this.#readEntry()) continue;
      Atomics.store(words, headWord, this.#head);
      Atomics.store(words, sleepingWord, 1);
      // Something may have come between the last look and going to sleep.
      if (Atomics.load(words, tailWord) === this.#head) return;
      if (Atomics.compareExchange(words, sleepingWord, 1, 0) !== 1) return;
    }
    Atomics.store(words, headWord, this.#head);
    setImmediate(this.#drain);
  };

  #readEntry(): boolean {
    const { words, lengths, data } = this.#ring;
    if (Atomics.load(words, tailWord) === this.#head) return false;
    let length = lengths[this.#head >>> 2] as number;
    if (length === 0) {
      this.#head = 0;
      if (Atomics.load(words, tailWord) === 0) return false;
      length = lengths[0] as number;
    }
    const size = length & lengthMask;
    const bytes = data.subarray(this.#head + 4, this.#head + 4 + size);
    this.#head += 4 + ((size + 3) & ~3);
    if ((length & moreBit) !== 0) this.#parts.push(bytes.slice());
    else this.#deliver(bytes);
    return true;
  }

  #deliver(bytes: Uint8Array): void {
    if (this.#parts.length === 0) return this.#options.received(bytes);
    const whole = concatBytes([...this.#parts, bytes]);
    this.#parts = [];
    this.#options.received(whole);
  }
}
