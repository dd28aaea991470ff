// Decoded data blocks of the tables of one shard, bounded by bytes. Second chance: a block that was
// used since it was last looked at stays for another round, so one long scan does not empty the
// cache, and a hit costs one look-up and one store (Corbato, "A Paging Experiment", 1968).

import { assert } from '../../runtime/errors.ts';
import type { DataBlock } from './data-block.ts';

interface Entry {
  readonly block: DataBlock;
  wasUsed: boolean;
}

/** Block numbers of a table are below this. */
const blocksPerTableMax = 2 ** 26;

export class BlockCache {
  readonly #bytesMax: number;
  /** Oldest first. */
  readonly #entries = new Map<number, Entry>();
  #bytes = 0;
  #tables = 0;

  /** 0 keeps nothing. */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get blocks(): number {
    return this.#entries.size;
  }

  /** A number for a table's blocks; every open table has its own. */
  takeTable(): number {
    this.#tables += 1;
    return this.#tables;
  }

  get(table: number, block: number): DataBlock | undefined {
    const entry = this.#entries.get(table * blocksPerTableMax + block);
    if (entry === undefined) return undefined;
    entry.wasUsed = true;
    return entry.block;
  }

  /** A block larger than the whole cache is not kept. */
  put(table: number, block: number, content: DataBlock): void {
    assert(block < blocksPerTableMax, `block ${block} of a table`);
    const { length } = content.bytes;
    if (length > this.#bytesMax) return;
    const key = table * blocksPerTableMax + block;
    this.#remove(key);
    while (this.#bytes + length > this.#bytesMax) this.#evictOne();
    this.#entries.set(key, { block: content, wasUsed: false });
    this.#bytes += length;
  }

  /** The table is closed; it had `blocks` blocks. */
  drop(table: number, blocks: number): void {
    for (let block = 0; block < blocks; block += 1) this.#remove(table * blocksPerTableMax + block);
  }

  #evictOne(): void {
    for (const [key, entry] of this.#entries) {
      if (!entry.wasUsed) {
        this.#remove(key);
        return;
      }
      entry.wasUsed = false;
      this.#entries.delete(key);
      this.#entries.set(key, entry);
    }
  }

  #remove(key: number): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#bytes -= entry.block.bytes.length;
  }
}
