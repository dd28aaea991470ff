// Reads one table file. Opening verifies the footer, the top of the index, the filter and the
// properties; every other block is verified when it comes from the disk (MF-7). Damage is a
// CorruptionError, never "not found" (CO-1).
//
// What it returns are bytes of a pool that nobody else has, or, of a long record, a view of a block that
// is never used for another one.

import { BytePool } from '../../runtime/byte-pool.ts';
import {
  ByteReader,
  compareBytes,
  crc32,
  noBytes,
  ownBytes,
  type TakeBytes,
} from '../../runtime/bytes.ts';
import type { BlockCodecs, Disk, DiskFile } from '../../runtime/environment.ts';
import { CorruptionError } from '../../runtime/errors.ts';
import { checkRecord, recordHash, recordKey } from '../model/record.ts';
import type { RecordCursor } from '../model/record-pages.ts';
import { BlockCache } from './block-cache.ts';
import { BlockIterator } from './block-iterator.ts';
import { BloomFilter } from './bloom-filter.ts';
import { DataBlock, type EntryForm } from './data-block.ts';
import type { TableMeta } from './protocol.ts';
import {
  type BlockPlace,
  crcBytes,
  decodeFooter,
  type Footer,
  footerBytes,
  openBlock,
  orCorrupt,
  usualBlockBytes,
} from './sstable-format.ts';
import {
  type BlockIndex,
  childOf,
  decodeIndex,
  decodeTop,
  findBlock,
  separatorOf,
  type TopIndex,
  topOfOne,
} from './sstable-index.ts';
import { readFigures, type TableFigures } from './table-figures.ts';
import { tablePath } from './table-files.ts';
import { readProperties } from './table-meta.ts';

/** One read of the whole-file check. */
const verifyBytes = 1024 * 1024;
/** Larger blocks get a buffer of their own. */
const scratchBytes = 32 * 1024;

export interface TablePlace {
  readonly disk: Disk;
  readonly codecs: BlockCodecs;
  /** Directory of the shard. */
  readonly directory: string;
  readonly cache?: BlockCache;
}

/** Opens the very table that the manifest names: CorruptionError where it is another one. */
export function openTable(
  { disk, codecs, directory, cache }: TablePlace,
  { fileNumber, checksum }: TableMeta,
): SstableReader {
  const file = disk.open(tablePath(directory, fileNumber), 'read');
  try {
    const reader = SstableReader.open(file, fileNumber, codecs, cache);
    if (reader.meta.checksum !== checksum)
      throw new CorruptionError(file.path, 0, 'not the table that the manifest names');
    return reader;
  } catch (error) {
    file.close();
    throw error;
  }
}

/** Where a data block lies and which keys it holds. */
export interface BlockSpan extends BlockPlace {
  /** No key of the block is below this one. */
  readonly firstKey: Uint8Array;
  /** All keys of the block are below this one; undefined: it is the last block. */
  readonly nextKey: Uint8Array | undefined;
}

/** What one index block speaks of; known without reading it. */
export interface IndexPart extends BlockSpan {
  /** Numbers of its data blocks: from the first one on, up to and without the second. */
  readonly firstBlock: number;
  readonly endBlock: number;
}

/** What the index says of a block. */
interface IndexedBlock extends BlockPlace {
  readonly crc: number;
}

export class SstableReader {
  readonly meta: TableMeta;
  /** Undefined for tables of version 1, which tell no more than `meta`. */
  readonly figures: TableFigures | undefined;
  readonly formatVersion: number;
  readonly #file: DiskFile;
  readonly #codecs: BlockCodecs;
  readonly #cache: BlockCache;
  readonly #cacheTable: number;
  readonly #top: TopIndex;
  readonly #filter: BloomFilter;
  readonly #pool = new BytePool();
  /** The index block of the last look-up by number, for those that go through all blocks. */
  #current: { readonly child: number; readonly index: BlockIndex } | undefined;
  /** Blocks are read to here; only what they decode to is kept. */
  #scratch = noBytes;

  private constructor(file: DiskFile, footer: Footer, codecs: BlockCodecs, cache: BlockCache) {
    const { path } = file;
    const plain = (place: BlockPlace): Uint8Array => readBlock(file, footer, place, codecs);
    const filter = plain(footer.filter);
    const properties = new ByteReader(plain(footer.properties));
    this.#file = file;
    this.#codecs = codecs;
    this.#cache = cache;
    this.#cacheTable = cache.takeTable();
    this.#top = readTop(file, footer, codecs);
    this.#filter = orCorrupt(path, footer.filter.offset, () => BloomFilter.decode(filter));
    const [table, figures] = orCorrupt(path, footer.properties.offset, () => [
      readProperties(properties),
      footer.version === 1 ? undefined : readFigures(properties),
    ]);
    if (table.fileNumber !== footer.fileNumber || properties.left !== 0)
      throw new CorruptionError(path, footer.properties.offset, 'properties of another table');
    this.meta = { ...table, bytes: file.size(), checksum: footer.checksum };
    this.figures = figures;
    this.formatVersion = footer.version;
  }

  /** CorruptionError where anything but a data block is damaged; DATA_REFUSED: newer format. */
  static open(
    file: DiskFile,
    fileNumber: number,
    codecs: BlockCodecs,
    cache: BlockCache = new BlockCache(0),
  ): SstableReader {
    const size = file.size();
    if (size < footerBytes) throw new CorruptionError(file.path, 0, `a table of ${size} bytes`);
    const footer = decodeFooter(file.path, size, readAt(file, size - footerBytes, footerBytes));
    if (footer.fileNumber !== fileNumber)
      throw new CorruptionError(file.path, 0, `it is table ${footer.fileNumber}`);
    return new SstableReader(file, footer, codecs, cache);
  }

  /** Data blocks, numbered from 0. */
  get blocks(): number {
    return this.#top.firstBlocks[this.#top.count] as number;
  }

  /** What it holds in memory as long as it is open, bytes: the top of the index and the filter. */
  get heldBytes(): number {
    return this.#top.heldBytes + this.#filter.heldBytes;
  }

  /** The record of this storage key; `hash` is the hash that a record of it carries. */
  get(key: Uint8Array, hash: number): Uint8Array | undefined {
    if (!this.#filter.mayHold(hash)) return undefined;
    const child = findBlock(this.#top, key);
    if (child < 0) return undefined;
    const index = this.#child(child);
    const i = findBlock(index, key);
    if (i < 0) return undefined;
    return this.#block(child, index, i).get(key, this.#pool);
  }

  /** Records in key order, from the first that is not below `from`. */
  cursor(from?: Uint8Array): RecordCursor {
    const number = from === undefined ? 0 : this.#numberOf(from);
    const block = this.#iterator(number);
    if (from !== undefined) block.seek(from);
    return this.#forwards(number, block, (next) => this.#iterator(next));
  }

  /**
   * All records in key order, past the cache. A record stays as it is after the next one was asked
   * for, not longer: blocks are decoded to two arrays in turn, where new ones would keep the collector
   * of a merge busy.
   */
  mergeCursor(): RecordCursor {
    const arrays: Uint8Array[] = [noBytes, noBytes];
    let turn = 0;
    const take = (length: number): Uint8Array => {
      turn = 1 - turn;
      let array = arrays[turn] as Uint8Array;
      if (array.length < length) {
        array = new Uint8Array(Math.max(length, usualBlockBytes));
        arrays[turn] = array;
      }
      return array.subarray(0, length);
    };
    const iterator = (number: number): BlockIterator =>
      new BlockIterator(this.#readBlock(this.#placeOf(number), take), this.#pool);
    return this.#forwards(0, iterator(0), iterator);
  }

  #forwards(
    first: number,
    start: BlockIterator,
    iterator: (number: number) => BlockIterator,
  ): RecordCursor {
    let number = first;
    let block = start;
    const next = (): Uint8Array | undefined => {
      for (;;) {
        const record = block.next();
        if (record !== undefined || number + 1 >= this.blocks) return record;
        number += 1;
        block = iterator(number);
      }
    };
    return { next };
  }

  /** Records in descending key order, from the last that is below `below`. */
  reverseCursor(below?: Uint8Array): RecordCursor {
    let number = below === undefined ? this.blocks - 1 : this.#numberOf(below);
    let block = this.#iterator(number);
    if (below === undefined) block.seekToEnd();
    else block.seekBefore(below);
    const next = (): Uint8Array | undefined => {
      for (;;) {
        const record = block.previous();
        if (record !== undefined || number === 0) return record;
        number -= 1;
        block = this.#iterator(number);
        block.seekToEnd();
      }
    };
    return { next };
  }

  /** What the index says of a data block. CorruptionError where that part of it is damaged. */
  spanOf(number: number): BlockSpan {
    const { offset, length } = this.#placeOf(number);
    const nextKey = number + 1 < this.blocks ? this.#separator(number + 1) : undefined;
    return { offset, length, firstKey: this.#separator(number), nextKey };
  }

  /** The parts of the index, in key order. Where one is damaged its data blocks cannot be found. */
  indexParts(): readonly IndexPart[] {
    const top = this.#top;
    return Array.from({ length: top.count }, (_, child) => ({
      offset: top.offsets[child] as number,
      length: top.lengths[child] as number,
      firstKey: child === 0 ? this.meta.firstKey : separatorOf(top, child),
      nextKey: child + 1 < top.count ? separatorOf(top, child + 1) : undefined,
      firstBlock: top.firstBlocks[child] as number,
      endBlock: top.firstBlocks[child + 1] as number,
    }));
  }

  /** Reads the index block that speaks of this data block again. CorruptionError. */
  verifyIndexOf(number: number): void {
    this.#readChild(childOf(this.#top, number));
  }

  /** The records of one data block, read from the file. CorruptionError where it is damaged. */
  recordsOf(number: number): readonly Uint8Array[] {
    const block = new BlockIterator(this.#readBlock(this.#placeOf(number)), this.#pool);
    const records: Uint8Array[] = [];
    for (;;) {
      const record = block.next();
      if (record === undefined) return records;
      records.push(record);
    }
  }

  /** Reads everything again: the whole-file CRC, each block, each record, their order and number. */
  verifyAll(): void {
    this.verifyChecksum();
    let records = 0;
    for (const { firstBlock } of this.indexParts()) this.verifyIndexOf(firstBlock);
    for (let number = 0; number < this.blocks; number += 1) records += this.verifyBlock(number);
    if (records !== this.meta.records)
      throw new CorruptionError(this.#file.path, 0, `${records} records of ${this.meta.records}`);
  }

  /** Compares the CRC of the whole file with the one in its footer. */
  verifyChecksum(): void {
    const content = this.meta.bytes - footerBytes;
    let checksum = 0;
    for (let at = 0; at < content; at += verifyBytes) {
      const bytes = readAt(this.#file, at, Math.min(verifyBytes, content - at));
      checksum = crc32(bytes, checksum);
    }
    if (checksum !== this.meta.checksum)
      throw new CorruptionError(this.#file.path, 0, 'the checksum of the file does not match');
  }

  /** Reads one data block again, with each record and their order; the number of its records. */
  verifyBlock(number: number): number {
    const place = this.#placeOf(number);
    const { path } = this.#file;
    const corrupt = (what: string): CorruptionError =>
      new CorruptionError(path, place.offset, what);
    const block = this.#readBlock(place);
    const iterator = new BlockIterator(block, this.#pool);
    checkRestarts(block, corrupt);
    let records = 0;
    let last: Uint8Array | undefined;
    for (; ; records += 1) {
      const record = iterator.next();
      if (record === undefined) return records;
      orCorrupt(path, place.offset, () => checkRecord(record));
      const key = recordKey(record);
      if (last !== undefined && compareBytes(last, key) >= 0) throw corrupt('keys out of order');
      if (this.#numberOf(key) !== number) throw corrupt('a key of another block');
      if (!this.#filter.mayHold(recordHash(record))) throw corrupt('the filter denies a key');
      last = key;
    }
  }

  close(): void {
    this.#cache.drop(this.#cacheTable, this.blocks, this.#top.count);
    this.#current = undefined;
    this.#file.close();
  }

  /** The number of the only data block that may hold `key`; the first where it is before all. */
  #numberOf(key: Uint8Array): number {
    const child = Math.max(findBlock(this.#top, key), 0);
    const index = this.#childAgain(child);
    return (this.#top.firstBlocks[child] as number) + Math.max(findBlock(index, key), 0);
  }

  #separator(number: number): Uint8Array {
    const child = childOf(this.#top, number);
    return separatorOf(this.#childAgain(child), number - (this.#top.firstBlocks[child] as number));
  }

  #placeOf(number: number): IndexedBlock {
    const child = childOf(this.#top, number);
    const i = number - (this.#top.firstBlocks[child] as number);
    return placeIn(this.#childAgain(child), i);
  }

  #iterator(number: number): BlockIterator {
    const child = childOf(this.#top, number);
    const i = number - (this.#top.firstBlocks[child] as number);
    const block = this.#block(child, this.#childAgain(child), i);
    // Nobody says when a cursor is done with it, but for those of a range read.
    if (!this.#cache.isScanning) block.isLent = true;
    return new BlockIterator(block, this.#pool);
  }

  /** An index block, which the next call asks for again as a rule. */
  #childAgain(child: number): BlockIndex {
    if (this.#current?.child !== child) this.#current = { child, index: this.#child(child) };
    return this.#current.index;
  }

  #child(child: number): BlockIndex {
    const cached = this.#cache.getIndex(this.#cacheTable, child);
    if (cached !== undefined) return cached;
    const index = this.#readChild(child);
    this.#cache.putIndex(this.#cacheTable, child, index);
    return index;
  }

  #readChild(child: number): BlockIndex {
    const top = this.#top;
    const { offset, length, crc } = placeIn(top, child);
    const bytes = readAt(this.#file, offset, length);
    const { path } = this.#file;
    const { fileNumber } = this.meta;
    const content = openBlock(path, { fileNumber, offset, bytes, crc }, this.#codecs);
    return orCorrupt(path, offset, () =>
      decodeIndex(content, {
        count: (top.firstBlocks[child + 1] as number) - (top.firstBlocks[child] as number),
        from: top.dataOffsets[child] as number,
        to: top.dataOffsets[child + 1] as number,
      }),
    );
  }

  /** The data block at `i` of an index block. */
  #block(child: number, index: BlockIndex, i: number): DataBlock {
    const number = (this.#top.firstBlocks[child] as number) + i;
    const cached = this.#cache.get(this.#cacheTable, number);
    if (cached !== undefined) return cached;
    const place = placeIn(index, i);
    const content = this.#readContent(place, this.#cache.takeArray);
    const block = this.#cache.blockOf(this.#file.path, place.offset, content, this.#entryForm);
    this.#cache.put(this.#cacheTable, number, block);
    return block;
  }

  get #entryForm(): EntryForm {
    return this.formatVersion === 1 ? 'plain' : 'prefixed';
  }

  #readBlock(place: IndexedBlock, take = ownBytes): DataBlock {
    const content = this.#readContent(place, take);
    return new DataBlock(this.#file.path, place.offset, content, this.#entryForm);
  }

  #readContent({ offset, length, crc }: IndexedBlock, take: TakeBytes): Uint8Array {
    const { path } = this.#file;
    const { fileNumber } = this.meta;
    if (this.#scratch.length === 0) this.#scratch = new Uint8Array(scratchBytes);
    const { buffer } = this.#scratch;
    const bytes = readAt(this.#file, offset, length, this.#scratch);
    let content = openBlock(path, { fileNumber, offset, bytes, crc }, this.#codecs, take);
    // A block that is not compressed is still where it was read to.
    if (content.buffer === buffer) {
      const kept = take(content.length);
      kept.set(content);
      content = kept;
    }
    return content;
  }
}

const placeIn = (index: BlockIndex, i: number): IndexedBlock => ({
  offset: index.offsets[i] as number,
  length: index.lengths[i] as number,
  crc: index.crcs[i] as number,
});

/** Version 1 has one index block where the top is now; it becomes the only child of a top. */
function readTop(file: DiskFile, footer: Footer, codecs: BlockCodecs): TopIndex {
  const { path } = file;
  const { version, index, dataBlocks, indexBlocks } = footer;
  const { offset, length } = index;
  const bytes = readBlock(file, footer, index, codecs);
  if (version > 1)
    return orCorrupt(path, offset, () =>
      decodeTop(bytes, { count: indexBlocks, blocks: dataBlocks, to: offset }),
    );
  const crc = new ByteReader(readAt(file, offset + length - crcBytes, crcBytes)).u32();
  orCorrupt(path, offset, () => decodeIndex(bytes, { count: dataBlocks, from: 0, to: offset }));
  return topOfOne({ offset, length, crc }, dataBlocks);
}

/** Each restart is the place of an entry. */
function checkRestarts(block: DataBlock, corrupt: (what: string) => CorruptionError): void {
  let index = 0;
  for (let at = 0; at < block.end; at = block.nextAt(at)) {
    if (index === block.restarts || block.restart(index) !== at) continue;
    if (block.sharedAt(at) !== 0) throw corrupt('an offset of a record that is not whole');
    index += 1;
  }
  if (index !== block.restarts) throw corrupt('an offset of no record');
}

/** The verified content of a block that no index names. */
function readBlock(
  file: DiskFile,
  { fileNumber }: Footer,
  { offset, length }: BlockPlace,
  codecs: BlockCodecs,
): Uint8Array {
  const bytes = readAt(file, offset, length);
  return openBlock(file.path, { fileNumber, offset, bytes, crc: undefined }, codecs);
}

/** Bytes of the file; in `scratch` where they fit. CorruptionError where there are not as many. */
function readAt(
  file: DiskFile,
  offset: number,
  length: number,
  scratch: Uint8Array = noBytes,
): Uint8Array {
  if (offset + length > file.size())
    throw new CorruptionError(file.path, offset, 'beyond the end of the file');
  const bytes = length <= scratch.length ? scratch.subarray(0, length) : new Uint8Array(length);
  const count = file.read(bytes, offset);
  if (count !== length) throw new CorruptionError(file.path, offset, 'the file is cut short');
  return bytes;
}
