// Reads one table file. Opening verifies the footer, the index, the filter and the properties;
// every data block is verified when it comes from the disk (MF-7). Damage is a CorruptionError,
// never "not found" (CO-1).
//
// What it returns are views of blocks that never change.

import { ByteReader, crc32, noBytes } from '../../runtime/bytes.ts';
import type { Disk, DiskFile, Lz4 } from '../../runtime/environment.ts';
import { CorruptionError } from '../../runtime/errors.ts';
import { checkRecord, recordHash, recordLengthAt } from '../model/record.ts';
import type { RecordCursor } from '../model/record-pages.ts';
import { BlockCache } from './block-cache.ts';
import { BloomFilter } from './bloom-filter.ts';
import { DataBlock } from './data-block.ts';
import type { TableMeta } from './protocol.ts';
import {
  type BlockPlace,
  decodeFooter,
  decodeIndex,
  findBlock,
  type Footer,
  footerBytes,
  openBlock,
  orCorrupt,
  type TableIndex,
} from './sstable-format.ts';
import { tablePath } from './table-files.ts';
import { readProperties } from './table-meta.ts';

/** One read of the whole-file check. */
const verifyBytes = 1024 * 1024;
/** Larger blocks get a buffer of their own. */
const scratchBytes = 32 * 1024;

export interface TablePlace {
  readonly disk: Disk;
  readonly lz4: Lz4;
  /** Directory of the shard. */
  readonly directory: string;
  readonly cache?: BlockCache;
}

/** Opens the very table that the manifest names: CorruptionError where it is another one. */
export function openTable(
  { disk, lz4, directory, cache }: TablePlace,
  { fileNumber, checksum }: TableMeta,
): SstableReader {
  const file = disk.open(tablePath(directory, fileNumber), 'read');
  try {
    const reader = SstableReader.open(file, fileNumber, lz4, cache);
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
  readonly firstKey: Uint8Array;
  /** All keys of the block are below this one; undefined: it is the last block. */
  readonly nextKey: Uint8Array | undefined;
}

export class SstableReader {
  readonly meta: TableMeta;
  readonly #file: DiskFile;
  readonly #lz4: Lz4;
  readonly #cache: BlockCache;
  readonly #cacheTable: number;
  readonly #index: TableIndex;
  readonly #filter: BloomFilter;
  /** Blocks are read to here; only what they decode to is kept. */
  #scratch = noBytes;

  private constructor(file: DiskFile, footer: Footer, lz4: Lz4, cache: BlockCache) {
    const { path } = file;
    const plain = (place: BlockPlace): Uint8Array => readBlock(file, footer, place, lz4);
    const index = plain(footer.index);
    const filter = plain(footer.filter);
    const properties = plain(footer.properties);
    const { offset } = footer.index;
    this.#file = file;
    this.#lz4 = lz4;
    this.#cache = cache;
    this.#cacheTable = cache.takeTable();
    this.#index = orCorrupt(path, offset, () => decodeIndex(index, footer.dataBlocks));
    this.#filter = orCorrupt(path, footer.filter.offset, () => BloomFilter.decode(filter));
    const table = orCorrupt(path, footer.properties.offset, () =>
      readProperties(new ByteReader(properties)),
    );
    if (table.fileNumber !== footer.fileNumber || footer.dataBlocks === 0)
      throw new CorruptionError(path, footer.properties.offset, 'properties of another table');
    this.meta = { ...table, bytes: file.size(), checksum: footer.checksum };
  }

  /** CorruptionError where anything but a data block is damaged; DATA_REFUSED: newer format. */
  static open(
    file: DiskFile,
    fileNumber: number,
    lz4: Lz4,
    cache: BlockCache = new BlockCache(0),
  ): SstableReader {
    const size = file.size();
    if (size < footerBytes) throw new CorruptionError(file.path, 0, `a table of ${size} bytes`);
    const footer = decodeFooter(file.path, size, readAt(file, size - footerBytes, footerBytes));
    if (footer.fileNumber !== fileNumber)
      throw new CorruptionError(file.path, 0, `it is table ${footer.fileNumber}`);
    return new SstableReader(file, footer, lz4, cache);
  }

  /** The record of this storage key; `hash` is the hash that a record of it carries. */
  get(key: Uint8Array, hash: number): Uint8Array | undefined {
    if (!this.#filter.mayHold(hash)) return undefined;
    const number = findBlock(this.#index, key);
    if (number < 0) return undefined;
    const block = this.#block(number);
    const at = block.lowerBound(key);
    const record = block.recordAt(at);
    return record !== undefined && block.compareAt(at, key) === 0 ? record : undefined;
  }

  /** Records in key order, from the first that is not below `from`. */
  cursor(from?: Uint8Array): RecordCursor {
    let number = from === undefined ? 0 : Math.max(findBlock(this.#index, from), 0);
    let block = this.#block(number);
    let at = from === undefined ? 0 : block.lowerBound(from);
    const next = (): Uint8Array | undefined => {
      let record = block.recordAt(at);
      while (record === undefined) {
        if (number + 1 >= this.#index.count) return undefined;
        number += 1;
        block = this.#block(number);
        at = 0;
        record = block.recordAt(at);
      }
      at += record.length;
      return record;
    };
    return { next };
  }

  /** Data blocks, numbered from 0. */
  get blocks(): number {
    return this.#index.count;
  }

  /** What the index says of a data block. */
  spanOf(number: number): BlockSpan {
    const offset = this.#index.offsets[number] as number;
    const length = this.#index.lengths[number] as number;
    const firstKey = this.#firstKey(number) as Uint8Array;
    return { offset, length, firstKey, nextKey: this.#firstKey(number + 1) };
  }

  /** The records of one data block, read from the file. CorruptionError where it is damaged. */
  recordsOf(number: number): readonly Uint8Array[] {
    const block = this.#readBlock(number);
    const records: Uint8Array[] = [];
    for (let at = 0; ; ) {
      const record = block.recordAt(at);
      if (record === undefined) return records;
      records.push(record);
      at += record.length;
    }
  }

  /** Reads everything again: the whole-file CRC, each block, each record, their order and number. */
  verifyAll(): void {
    this.verifyChecksum();
    let records = 0;
    for (let number = 0; number < this.#index.count; number += 1)
      records += this.verifyBlock(number);
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
    const offset = this.#index.offsets[number] as number;
    const block = this.#readBlock(number);
    const corrupt = (what: string): CorruptionError =>
      new CorruptionError(this.#file.path, offset, what);
    let records = 0;
    let last = -1;
    for (let at = 0; ; records += 1) {
      const record = block.recordAt(at);
      if (record === undefined) break;
      orCorrupt(this.#file.path, offset, () => checkRecord(record));
      if (last >= 0 && block.compareAt(last, block.keyAt(at)) >= 0)
        throw corrupt('keys out of order');
      if (findBlock(this.#index, block.keyAt(at)) !== number)
        throw corrupt('a key of another block');
      if (!this.#filter.mayHold(recordHash(record))) throw corrupt('the filter denies a key');
      last = at;
      at += recordLengthAt(record, 0);
    }
    return records;
  }

  close(): void {
    this.#cache.drop(this.#cacheTable, this.#index.count);
    this.#file.close();
  }

  #firstKey(number: number): Uint8Array | undefined {
    if (number >= this.#index.count) return undefined;
    const at = this.#index.keyAts[number] as number;
    return this.#index.bytes.subarray(at, at + (this.#index.keyLengths[number] as number));
  }

  #block(number: number): DataBlock {
    const cached = this.#cache.get(this.#cacheTable, number);
    if (cached !== undefined) return cached;
    const block = this.#readBlock(number);
    this.#cache.put(this.#cacheTable, number, block);
    return block;
  }

  #readBlock(number: number): DataBlock {
    const { path } = this.#file;
    const { fileNumber } = this.meta;
    const offset = this.#index.offsets[number] as number;
    const length = this.#index.lengths[number] as number;
    const crc = this.#index.crcs[number];
    if (this.#scratch.length === 0) this.#scratch = new Uint8Array(scratchBytes);
    const { buffer } = this.#scratch;
    const bytes = readAt(this.#file, offset, length, this.#scratch);
    const content = openBlock(path, { fileNumber, offset, bytes, crc }, this.#lz4);
    // A block that is not compressed is still where it was read to.
    const kept = content.buffer === buffer ? content.slice() : content;
    return new DataBlock(path, offset, kept);
  }
}

/** The verified content of a block that no index names. */
function readBlock(
  file: DiskFile,
  { fileNumber }: Footer,
  { offset, length }: BlockPlace,
  lz4: Lz4,
): Uint8Array {
  const bytes = readAt(file, offset, length);
  return openBlock(file.path, { fileNumber, offset, bytes, crc: undefined }, lz4);
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
