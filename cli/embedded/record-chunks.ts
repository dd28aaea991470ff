// Chunks that records on their way to the store are cut from, and that are used again: to V8 some MB
// of new arrays outside of its heap are an occasion to collect all of the heap (docs/performance.md).
//
// A chunk is held by every batch that has a record in it. When they are all acknowledged, the log has
// its own copy, but the memtable may still have to make one: inserts wait in its mailbox. So it is asked
// something, whose answer comes after the inserts: what was let go before the question is free then.
// One question is open at a time. What a batch that failed holds is never used again, since nobody
// knows who still reads it; nor is what a stopped memtable did not answer for.

import { wordAligned } from '../../runtime/bytes.ts';

/** Of records. Its bytes are anything: the encoder writes each of them. */
export interface RecordChunk {
  readonly bytes: Uint8Array;
  /** Batches that have records in it. */
  holds: number;
}

/** `answered` says whether everything that was written before the question is in the memtable. */
export type AskMemtable = (answered: (isInserted: boolean) => void) => void;

export interface ChunkSizes {
  readonly chunkBytes: number;
  /** Chunks that are kept for later; the others go to the collector. */
  readonly freeChunksMax: number;
}

const usualSizes: ChunkSizes = { chunkBytes: 64 * 1024, freeChunksMax: 64 };

export class RecordChunks {
  readonly #askMemtable: AskMemtable;
  readonly #sizes: ChunkSizes;
  #current: RecordChunk;
  #at = 0;
  /** They were left since the last claim, oldest first. */
  #left: RecordChunk[] = [];
  /** Nobody holds them; the memtable has not been asked since. */
  #letGo: RecordChunk[] = [];
  #isAsking = false;
  readonly #free: RecordChunk[] = [];

  constructor(askMemtable: AskMemtable, sizes = usualSizes) {
    this.#askMemtable = askMemtable;
    this.#sizes = sizes;
    this.#current = newChunk(sizes.chunkBytes);
  }

  /** Bytes for one record, whatever is in them; to be claimed before any call that may let go. */
  readonly take = (length: number): Uint8Array => {
    const { chunkBytes } = this.#sizes;
    // Made alone: it would leave too much of a chunk empty, or not fit.
    if (length > chunkBytes / 2) return new Uint8Array(length);
    if (this.#at + length > chunkBytes) this.#leave();
    const start = this.#at;
    this.#at += wordAligned(length);
    return this.#current.bytes.subarray(start, start + length);
  };

  /** What was taken since the last claim belongs to the batch whose chunks these are. */
  claim(held: RecordChunk[]): void {
    if (this.#left.length > 0) {
      for (const chunk of this.#left) hold(held, chunk);
      this.#left = [];
    }
    hold(held, this.#current);
  }

  /** The batch is acknowledged. */
  letGo(held: readonly RecordChunk[]): void {
    for (const chunk of held) {
      chunk.holds -= 1;
      if (chunk.holds === 0 && !this.#isOpen(chunk)) this.#letGo.push(chunk);
    }
    this.#ask();
  }

  /** Records are cut from it, or the batch that has the last of them does not hold it yet. */
  #isOpen(chunk: RecordChunk): boolean {
    return chunk === this.#current || this.#left.includes(chunk);
  }

  #leave(): void {
    this.#left.push(this.#current);
    this.#current = this.#free.pop() ?? newChunk(this.#sizes.chunkBytes);
    this.#at = 0;
  }

  #ask(): void {
    if (this.#isAsking || this.#letGo.length === 0) return;
    const chunks = this.#letGo;
    this.#letGo = [];
    this.#isAsking = true;
    this.#askMemtable((isInserted) => {
      this.#isAsking = false;
      const room = this.#sizes.freeChunksMax - this.#free.length;
      if (isInserted) this.#free.push(...chunks.slice(0, room));
      this.#ask();
    });
  }
}

const newChunk = (length: number): RecordChunk => ({
  bytes: new Uint8Array(length),
  holds: 0,
});

/** Chunks are claimed in the order of their use: one that is held already is the last. */
function hold(held: RecordChunk[], chunk: RecordChunk): void {
  if (held[held.length - 1] === chunk) return;
  held.push(chunk);
  chunk.holds += 1;
}
