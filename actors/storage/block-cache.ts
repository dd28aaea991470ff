// Decoded blocks of the tables of one shard, data and index, bounded by bytes with what an entry costs
// beside its block. Which block goes is decided in s3-fifo.ts, so one long scan does not empty the cache;
// and of a range read only the first blocks are kept at all, and the last one it saw, where its next
// page goes on.
//
// A block of the usual size is decoded into an array that is used again when the block goes, with the
// objects around it, unless somebody may still look at it (`isLent`): new ones are work for the collector.
// What goes during a range read is used again after it: its cursors may stand in these blocks.
//
// What open tables keep in memory for good, tops of indexes and filters, counts against the same
// bound: a quarter of it is always left to blocks. Index blocks are entries like those of data; a
// range read keeps all that it reads of them, since each speaks of many of its blocks.

import { ownBytes, type TakeBytes } from '../../runtime/bytes.ts';
import { assert } from '../../runtime/errors.ts';
import type { CacheFigures } from './cache-figures.ts';
import { DataBlock, type EntryForm } from './data-block.ts';
import { EntryQueue, EntryTable } from './entry-table.ts';
import {
  mainQueue,
  type QueueName,
  type QueueStore,
  S3Fifo,
  smallBytesOf,
  smallQueue,
  usesMax,
} from './s3-fifo.ts';
import { usualBlockBytes } from './sstable-format.ts';
import type { BlockIndex } from './sstable-index.ts';

interface Entry {
  /** Data blocks have keys from 0 on, index blocks keys below. */
  key: number;
  readonly block: DataBlock | BlockIndex;
  bytes: number;
  queue: QueueName;
  uses: number;
  chained: Entry | undefined;
  older: Entry | undefined;
  newer: Entry | undefined;
}

/** Block numbers of a table are below this. */
const blocksPerTableMax = 2 ** 26;
/** Of an entry beside the bytes of its block: the objects around them and a place in a map. */
export const entryOverheadBytes = 400;
/** Ghosts are planned for blocks of this size. */
const typicalBlockBytes = 16 * 1024;
/** A block that would leave more of the array empty gets one of its own. */
const arrayBytesMin = 0.9 * usualBlockBytes;
/** Arrays that may wait for a block beside a full cache. */
const spareArraysMin = 64;
/** Of a range read so many blocks are kept as those of a look-up are. */
const scanBlocksKept = 4;
/** The part of the bound that indexes and filters do not take. */
const blocksPartMin = 0.25;

export class BlockCache {
  readonly #bytesMax: number;
  /** Of the bound: what indexes and filters leave. */
  #blockBytesMax: number;
  readonly #entries = new EntryTable<Entry>();
  readonly #queues: readonly [EntryQueue<Entry>, EntryQueue<Entry>] = [
    new EntryQueue(),
    new EntryQueue(),
  ];
  readonly #queueBytes: [number, number] = [0, 0];
  readonly #policy: S3Fifo<Entry>;
  #tables = 0;
  #hits = 0;
  #misses = 0;
  #evictions = 0;
  #indexHits = 0;
  #indexMisses = 0;
  #indexEvictions = 0;
  #indexBlocks = 0;
  #indexBytes = 0;
  /** Blocks that the range read in progress has taken from the disk; -1: there is none. */
  #scanned = -1;
  /** What went, or was not kept at all, since it began. */
  readonly #passed: Entry[] = [];
  /** Of data blocks that have gone; their arrays are as long as they can be. */
  readonly #spare: Entry[] = [];
  /** The one whose array was taken last. */
  #taken: Entry | undefined;
  /** Arrays of shared memory that were ever made. */
  #sharedArrays = 0;
  /** The last block that a range read saw and that is not kept. */
  #lastScanned: Entry | undefined;

  /** 0 keeps nothing. */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
    this.#blockBytesMax = bytesMax;
    this.#policy = new S3Fifo(this.#store(), bytesMax / typicalBlockBytes);
  }

  /** Of blocks, with what their entries cost. */
  get bytes(): number {
    return this.#queueBytes[smallQueue] + this.#queueBytes[mainQueue];
  }

  get blocks(): number {
    return this.#entries.size;
  }

  /** Of data blocks. */
  get figures(): CacheFigures {
    return {
      hits: this.#hits,
      misses: this.#misses,
      evictions: this.#evictions,
      entries: this.blocks - this.#indexBlocks,
      bytes: this.bytes - this.#indexBytes,
    };
  }

  /** Of index blocks. */
  get indexFigures(): CacheFigures {
    return {
      hits: this.#indexHits,
      misses: this.#indexMisses,
      evictions: this.#indexEvictions,
      entries: this.#indexBlocks,
      bytes: this.#indexBytes,
    };
  }

  /** What open tables hold in memory beside their blocks; blocks make room for it. */
  setTableBytes(bytes: number): void {
    const least = Math.floor(this.#bytesMax * blocksPartMin);
    this.#blockBytesMax = Math.max(this.#bytesMax - bytes, least);
    this.#policy.makeRoom(smallQueue, 0);
    this.#trimSpare();
  }

  /** A number for a table's blocks; every open table has its own. */
  takeTable(): number {
    this.#tables += 1;
    return this.#tables;
  }

  get(table: number, block: number): DataBlock | undefined {
    const key = table * blocksPerTableMax + block;
    const entry = this.#entries.get(key);
    if (entry === undefined) {
      if (this.#lastScanned?.key === key) return this.#lastScanned.block as DataBlock;
      this.#misses += 1;
      return undefined;
    }
    this.#hits += 1;
    if (entry.uses < usesMax && !this.isScanning) entry.uses += 1;
    return entry.block as DataBlock;
  }

  /** The index block with this number. */
  getIndex(table: number, block: number): BlockIndex | undefined {
    const entry = this.#entries.get(indexKey(table, block));
    if (entry === undefined) {
      this.#indexMisses += 1;
      return undefined;
    }
    this.#indexHits += 1;
    if (entry.uses < usesMax) entry.uses += 1;
    return entry.block as BlockIndex;
  }

  putIndex(table: number, block: number, content: BlockIndex): void {
    assert(block < blocksPerTableMax, `index block ${block} of a table`);
    this.#put(indexKey(table, block), content);
  }

  /** Where a block is decoded to that will be put here. */
  readonly takeArray: TakeBytes = (length) => {
    if (length > usualBlockBytes || length < arrayBytesMin) return ownBytes(length);
    this.#taken = this.#spare.pop();
    const array = this.#taken?.block.bytes ?? this.#newArray();
    return array.subarray(0, length);
  };

  /** The block whose content was decoded into `content`, perhaps the array that was taken last. */
  blockOf(path: string, offset: number, content: Uint8Array, form: EntryForm): DataBlock {
    const spare = this.#taken?.block;
    if (!(spare instanceof DataBlock) || spare.bytes.buffer !== content.buffer)
      return new DataBlock(path, offset, content, form);
    spare.become(path, offset, content.length, form);
    return spare;
  }

  /**
   * Shared memory is no reason for the collector to run, so a cache that fills is no work for it: as
   * many arrays as the cache holds are of that kind. No more, for it would not run either when nobody
   * needs them any longer.
   */
  #newArray(): Uint8Array {
    if ((this.#sharedArrays + 1) * usualBlockBytes > this.#bytesMax)
      return new Uint8Array(usualBlockBytes);
    this.#sharedArrays += 1;
    return new Uint8Array(new SharedArrayBuffer(usualBlockBytes));
  }

  /** It is not in the cache any more. */
  #letGo(entry: Entry): void {
    if (this.isScanning) this.#passed.push(entry);
    else this.#reclaim(entry);
  }

  #reclaim(entry: Entry): void {
    const { block } = entry;
    if (!(block instanceof DataBlock) || block.isLent) return;
    const { buffer, length } = block.bytes;
    if (buffer.byteLength !== usualBlockBytes || this.#spare.length >= this.#spareArraysMax) return;
    if (length < usualBlockBytes) block.bytes = new Uint8Array(buffer);
    this.#spare.push(entry);
  }

  /** Many come together when a table is closed: they may fill what the cache has room for. */
  get #spareArraysMax(): number {
    const room = Math.floor((this.#blockBytesMax - this.bytes) / usualBlockBytes);
    return Math.max(room, spareArraysMin);
  }

  /** Blocks of other sizes, or tables, have taken the room. */
  #trimSpare(): void {
    if (this.#spare.length <= spareArraysMin) return;
    this.#spare.length = Math.min(this.#spare.length, this.#spareArraysMax);
  }

  /** A block larger than the cache is not kept, nor are most of a range read. */
  put(table: number, block: number, content: DataBlock): void {
    assert(block < blocksPerTableMax, `block ${block} of a table`);
    const key = table * blocksPerTableMax + block;
    if (this.isScanning) {
      this.#scanned += 1;
      if (this.#scanned > scanBlocksKept) {
        this.#setLastScanned(this.#entryFor(key, content));
        return;
      }
    }
    this.#put(key, content);
  }

  #put(key: number, content: DataBlock | BlockIndex): void {
    this.#remove(key);
    const bytes = content.heldBytes + entryOverheadBytes;
    if (bytes > this.#blockBytesMax) return;
    const queue = this.#policy.queueFor(fingerprintOf(key));
    this.#policy.makeRoom(queue, bytes);
    const entry = this.#entryFor(key, content);
    entry.bytes = bytes;
    entry.queue = queue;
    entry.uses = 0;
    this.#enter(entry);
    this.#trimSpare();
  }

  #entryFor(key: number, content: DataBlock | BlockIndex): Entry {
    const taken = this.#taken;
    this.#taken = undefined;
    const entry = taken?.block === content ? taken : newEntry(content);
    entry.key = key;
    return entry;
  }

  #setLastScanned(entry: Entry | undefined): void {
    const before = this.#lastScanned;
    this.#lastScanned = entry;
    if (before !== undefined) this.#letGo(before);
  }

  /** Whether `scan` is at work. */
  get isScanning(): boolean {
    return this.#scanned >= 0;
  }

  /**
   * What `work` reads is of a range: it does not count as used, and little of it is kept. No cursor
   * of it may be used afterwards, nor may `work` use one from before, or scan itself.
   */
  scan<Result>(work: () => Result): Result {
    assert(!this.isScanning, 'a range read within a range read');
    this.#scanned = 0;
    try {
      return work();
    } finally {
      this.#scanned = -1;
      for (const entry of this.#passed) this.#reclaim(entry);
      this.#passed.length = 0;
    }
  }

  /** The table is closed; it had so many blocks of data and of the index. */
  drop(table: number, blocks: number, indexBlocks: number): void {
    const first = table * blocksPerTableMax;
    for (let block = 0; block < indexBlocks; block += 1) this.#remove(indexKey(table, block));
    for (let block = 0; block < blocks; block += 1) this.#remove(first + block);
    const last = this.#lastScanned?.key ?? -1;
    if (last >= first && last < first + blocks) this.#setLastScanned(undefined);
  }

  /** As long as there is room, the small queue may be larger than its part. */
  #crowded(bytes: number): QueueName | undefined {
    if (this.bytes + bytes <= this.#blockBytesMax) return undefined;
    const [small, main] = this.#queueBytes;
    const isSmallFull = small > smallBytesOf(this.#blockBytesMax);
    return main === 0 || (small > 0 && isSmallFull) ? smallQueue : mainQueue;
  }

  #enter(entry: Entry): void {
    this.#entries.add(entry);
    this.#append(entry);
  }

  #append(entry: Entry): void {
    this.#queues[entry.queue].push(entry);
    this.#queueBytes[entry.queue] += entry.bytes;
    if (entry.key < 0) this.#countIndex(1, entry.bytes);
  }

  #countIndex(blocks: number, bytes: number): void {
    this.#indexBlocks += blocks;
    this.#indexBytes += bytes;
  }

  #unqueue(entry: Entry): void {
    this.#queues[entry.queue].remove(entry);
    this.#queueBytes[entry.queue] -= entry.bytes;
    if (entry.key < 0) this.#countIndex(-1, -entry.bytes);
  }

  #remove(key: number): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.remove(entry);
    this.#unqueue(entry);
    this.#letGo(entry);
  }

  #store(): QueueStore<Entry> {
    const requeue = (entry: Entry, uses: number): void => {
      this.#unqueue(entry);
      entry.queue = mainQueue;
      entry.uses = uses;
      this.#append(entry);
    };
    return {
      crowded: (_queue, bytes) => this.#crowded(bytes),
      oldest: (queue) => this.#queues[queue].oldest,
      usesOf: ({ uses }) => uses,
      fingerprintOf: ({ key }) => fingerprintOf(key),
      promote: (entry) => requeue(entry, 0),
      recycle: (entry) => requeue(entry, entry.uses - 1),
      drop: ({ key }) => {
        this.#remove(key);
        if (key < 0) this.#indexEvictions += 1;
        else this.#evictions += 1;
      },
    };
  }
}

const newEntry = (block: DataBlock | BlockIndex): Entry => ({
  key: 0,
  block,
  bytes: 0,
  queue: smallQueue,
  uses: 0,
  chained: undefined,
  older: undefined,
  newer: undefined,
});

const indexKey = (table: number, block: number): number => -1 - (table * blocksPerTableMax + block);

/** Neighbours of a table in neighbouring slots, tables far from each other. */
const fingerprintOf = (key: number): number =>
  (key % blocksPerTableMax) + Math.imul(Math.floor(key / blocksPerTableMax), 0x9e37_79b1);
