// Data blocks on their way through the task pool, a batch at a time. They lie one behind the other
// in memory that the pool's threads share, and come out packed in more of it: nothing is copied from
// thread to thread, and the memory is used again for the next batch. A merge hands over 64 blocks
// of 16 KiB for each megabyte; as arrays of their own they were a tenth of its time in messages and
// as much in collections (docs/performance.md).

import type { BlockCodecs, Tasks } from '../../runtime/environment.ts';
import type { PackInput } from '../../runtime/tasks.ts';
import { noBytes, wordAligned } from '../../runtime/bytes.ts';

type SharedBytes = Uint8Array<SharedArrayBuffer>;

const sharedBytes = (length: number): SharedBytes => new Uint8Array(new SharedArrayBuffer(length));

/** What a batch begins with: the usual one fits. */
const usualBytes = 1280 * 1024;
/** Larger ones, of large records, are not kept. */
const keptBytesMax = 4 * usualBytes;
/** Of those that are not in use. */
const keptBatches = 4;

export class BlockBatch {
  #raw = sharedBytes(usualBytes);
  #packed = sharedBytes(usualBytes);
  #ends: number[] = [];
  #packedEnds: readonly number[] = [];
  /** Of each block: above all keys before it, not above its own. */
  #separators: Uint8Array[] = [];
  #length = 0;

  get heldBytes(): number {
    return this.#raw.length;
  }

  get blocks(): number {
    return this.#ends.length;
  }

  /** Copies the block. */
  add(block: Uint8Array, separator: Uint8Array): void {
    const end = this.#length + block.length;
    const next = wordAligned(end);
    if (next > this.#raw.length) {
      const grown = sharedBytes(Math.max(next, this.#raw.length * 2));
      grown.set(this.#raw.subarray(0, this.#length));
      this.#raw = grown;
      this.#packed = sharedBytes(grown.length);
    }
    this.#raw.set(block, this.#length);
    this.#length = next;
    this.#ends.push(end);
    this.#separators.push(separator);
  }

  /** Ends when all blocks are packed. Until then, and if it fails, the memory is not ours. */
  pack(tasks: Tasks, codec: keyof BlockCodecs): Promise<void> {
    const raw = this.#raw.subarray(0, this.#length);
    const packed = this.#packed.subarray(0, this.#length);
    const input = { raw, ends: this.#ends, codec, packed };
    const done = tasks.run<PackInput, readonly number[]>('pack-blocks', input);
    return done.then((packedEnds) => {
      this.#packedEnds = packedEnds;
    });
  }

  /** Hands out each block, in order; `packed`: undefined where it is stored as it is. */
  forEach(
    use: (raw: Uint8Array, separator: Uint8Array, packed: Uint8Array | undefined) => void,
  ): void {
    let at = 0;
    let packedAt = 0;
    this.#ends.forEach((end, i) => {
      const packedEnd = this.#packedEnds[i] ?? packedAt;
      const packed = packedEnd > packedAt ? this.#packed.subarray(packedAt, packedEnd) : undefined;
      use(this.#raw.subarray(at, end), this.#separators[i] ?? noBytes, packed);
      at = wordAligned(end);
      packedAt = packedEnd;
    });
  }

  reset(): void {
    this.#ends = [];
    this.#packedEnds = [];
    this.#separators = [];
    this.#length = 0;
  }
}

/** Batches that are used again. */
export class BlockBatches {
  readonly #free: BlockBatch[] = [];

  take(): BlockBatch {
    return this.#free.pop() ?? new BlockBatch();
  }

  /** Nobody uses it any more. */
  give(batch: BlockBatch): void {
    if (batch.heldBytes > keptBytesMax || this.#free.length >= keptBatches) return;
    batch.reset();
    this.#free.push(batch);
  }
}
