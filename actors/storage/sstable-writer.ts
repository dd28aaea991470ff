// Writes one table file, streaming: sorted records in, blocks out in large writes (MF-3 step 1).
// The caller syncs file and directory afterwards; the footer, with the CRC of everything before
// it, is the last thing written, so a table that was cut short is recognised.

import { ByteWriter, compareBytes, crc32 } from '../../runtime/bytes.ts';
import type { DiskFile, Lz4 } from '../../runtime/environment.ts';
import { assert } from '../../runtime/errors.ts';
import {
  recordExpiresAt,
  recordHash,
  recordHlc,
  recordIsTombstone,
  recordKey,
} from '../model/record.ts';
import { BloomFilter } from './bloom-filter.ts';
import type { TableMeta } from './protocol.ts';
import {
  appendBlock,
  appendIndexEntry,
  blockBytesDefault,
  blockBytesMax,
  blockSeed,
  type BlockPlace,
  type Codec,
  codecs,
  encodeFooter,
  footerBytes,
  restartInterval,
} from './sstable-format.ts';
import { type TableProperties, writeProperties } from './table-meta.ts';

export interface SstableOptions {
  /** Undefined: blocks are stored as they are. */
  readonly lz4: Lz4 | undefined;
  /** At least the records that will come, for the size of the filter; absent: they are counted. */
  readonly expectedRecords?: number | undefined;
  /** Records of a data block before compression, bytes. Default 16 KiB; 1 KiB to 1 MiB. */
  readonly blockBytes?: number;
  /** Default 0. */
  readonly level?: number;
  /** Blocks are handed out by `takeBlocks` and come back by `writeBlocks`, packed elsewhere. */
  readonly isPackedElsewhere?: boolean;
}

/** A data block that is full and not written yet. */
export interface SealedBlock {
  readonly raw: Uint8Array;
  readonly firstKey: Uint8Array;
}

/** Bytes that are collected for one write. */
const writeBytes = 1024 * 1024;
/** A block is stored compressed where that saves at least one byte in this many. */
const worthwhileShare = 8;

export class SstableWriter {
  readonly #file: DiskFile;
  readonly #fileNumber: number;
  readonly #lz4: Lz4 | undefined;
  readonly #blockBytes: number;
  readonly #level: number;
  readonly #isPackedElsewhere: boolean;
  readonly #filter: BloomFilter | undefined;
  /** Of the records so far, where there is no filter yet. */
  readonly #hashes: number[] = [];
  readonly #block = new ByteWriter(2 * blockBytesDefault);
  readonly #index = new ByteWriter(16 * 1024);
  readonly #output = new ByteWriter(writeBytes + 4 * blockBytesDefault);
  readonly #lastKey = new ByteWriter(256);
  #restarts: number[] = [];
  #blockRecords = 0;
  #blockFirstKey = new Uint8Array(0);
  #dataBlocks = 0;
  #sealed: SealedBlock[] = [];
  #sealedBytes = 0;
  /** Bytes handed to the file. */
  #written = 0;
  #checksum = 0;
  #isFinished = false;
  // Properties of what was added.
  #firstKey = new Uint8Array(0);
  #records = 0;
  #tombstones = 0;
  #minHlc = Number.MAX_SAFE_INTEGER;
  #maxHlc = 0;
  #maxExpiresAt = 0;
  #neverExpires = false;

  /** `file` is new and empty. */
  constructor(file: DiskFile, fileNumber: number, options: SstableOptions) {
    const { lz4, expectedRecords, blockBytes = blockBytesDefault, level = 0 } = options;
    assert(blockBytes >= 1024 && blockBytes <= blockBytesMax, `blocks of ${blockBytes} bytes`);
    this.#file = file;
    this.#fileNumber = fileNumber;
    this.#lz4 = lz4;
    this.#blockBytes = blockBytes;
    this.#level = level;
    this.#isPackedElsewhere = options.isPackedElsewhere ?? false;
    if (expectedRecords !== undefined) this.#filter = BloomFilter.create(expectedRecords);
  }

  /** Keys come in strictly ascending order. DISK_FULL, DISK_FAILED: the file is of no use. */
  add(record: Uint8Array): void {
    const key = recordKey(record);
    const isFirst = this.#records === 0;
    assert(!this.#isFinished, 'the table is finished');
    assert(isFirst || compareBytes(this.#lastKey.view(), key) < 0, 'keys out of order');
    if (isFirst) this.#firstKey = key.slice();
    this.#lastKey.reset();
    this.#lastKey.raw(key);
    const block = this.#block;
    if (block.length > 0 && block.length + record.length > this.#blockBytes) this.#endBlock();
    if (block.length === 0) this.#blockFirstKey = key.slice();
    if (this.#blockRecords % restartInterval === 0) this.#restarts.push(block.length);
    this.#blockRecords += 1;
    block.raw(record);
    if (this.#filter === undefined) this.#hashes.push(recordHash(record));
    else this.#filter.add(recordHash(record));
    this.#count(record);
  }

  /** Bytes of the blocks that were written or wait for the next write to the file. */
  get dataBytes(): number {
    return this.#written + this.#output.length;
  }

  /** Bytes that `takeBlocks` would hand out. */
  get sealedBytes(): number {
    return this.#sealedBytes;
  }

  /** The full blocks, oldest first; with `andLast` also the one that is being filled. */
  takeBlocks(andLast: boolean): readonly SealedBlock[] {
    if (andLast && this.#block.length > 0) this.#endBlock();
    const blocks = this.#sealed;
    this.#sealed = [];
    this.#sealedBytes = 0;
    return blocks;
  }

  /** Blocks in the order in which they were taken, with their LZ4 forms. */
  writeBlocks(blocks: readonly SealedBlock[], packed: readonly Uint8Array[]): void {
    blocks.forEach(({ raw, firstKey }, i) => {
      this.#writeBlock(raw, firstKey, packed[i]);
    });
  }

  /** Writes the rest; does not sync. At least one record was added. */
  finish(): TableMeta {
    assert(this.#records > 0, 'a table without records');
    if (this.#block.length > 0) this.#endBlock();
    assert(this.#sealed.length === 0, 'blocks were taken by nobody');
    this.#isFinished = true;
    const index = this.#appendPlain(this.#index.view());
    const filter = this.#appendPlain(this.#finalFilter().encode());
    const table: TableProperties = {
      fileNumber: this.#fileNumber,
      level: this.#level,
      records: this.#records,
      tombstones: this.#tombstones,
      minHlc: this.#minHlc,
      maxHlc: this.#maxHlc,
      maxExpiresAt: this.#neverExpires ? 0 : this.#maxExpiresAt,
      firstKey: this.#firstKey,
      lastKey: this.#lastKey.copy(),
    };
    const writer = new ByteWriter();
    writeProperties(writer, table);
    const properties = this.#appendPlain(writer.view());
    this.#flush();
    const checksum = this.#checksum;
    const places = { index, filter, properties };
    const { dataBlocks, fileNumber } = {
      dataBlocks: this.#dataBlocks,
      fileNumber: table.fileNumber,
    };
    this.#file.write(encodeFooter({ fileNumber, ...places, dataBlocks, checksum }), this.#written);
    return { ...table, bytes: this.#written + footerBytes, checksum };
  }

  #finalFilter(): BloomFilter {
    if (this.#filter !== undefined) return this.#filter;
    const filter = BloomFilter.create(this.#hashes.length);
    for (const hash of this.#hashes) filter.add(hash);
    return filter;
  }

  #count(record: Uint8Array): void {
    const hlc = recordHlc(record);
    const expiresAt = recordExpiresAt(record);
    this.#records += 1;
    if (recordIsTombstone(record)) this.#tombstones += 1;
    if (hlc < this.#minHlc) this.#minHlc = hlc;
    if (hlc > this.#maxHlc) this.#maxHlc = hlc;
    if (expiresAt === 0) this.#neverExpires = true;
    else if (expiresAt > this.#maxExpiresAt) this.#maxExpiresAt = expiresAt;
  }

  #endBlock(): void {
    const block = this.#block;
    for (const restart of this.#restarts) block.u32(restart);
    block.u32(this.#restarts.length);
    const firstKey = this.#blockFirstKey;
    if (this.#isPackedElsewhere) {
      this.#sealed.push({ raw: block.copy(), firstKey });
      this.#sealedBytes += block.length;
    } else {
      const raw = block.view();
      this.#writeBlock(raw, firstKey, this.#lz4?.compress(raw));
    }
    this.#restarts = [];
    this.#blockRecords = 0;
    block.reset();
  }

  /** Packed only where that pays. */
  #writeBlock(raw: Uint8Array, firstKey: Uint8Array, packed: Uint8Array | undefined): void {
    const isWorthwhile =
      packed !== undefined && packed.length <= raw.length - raw.length / worthwhileShare;
    const encoded = isWorthwhile
      ? { codec: codecs.lz4, content: packed }
      : { codec: codecs.none, content: raw };
    const place = this.#append(raw.length, encoded);
    appendIndexEntry(this.#index, { firstKey, ...place });
    this.#dataBlocks += 1;
  }

  #appendPlain(content: Uint8Array): BlockPlace {
    const { offset, length } = this.#append(content.length, { codec: codecs.none, content });
    return { offset, length };
  }

  #append(
    rawLength: number,
    { codec, content }: { codec: Codec; content: Uint8Array },
  ): BlockPlace & { crc: number } {
    const before = this.#output.length;
    const offset = this.#written + before;
    const seed = blockSeed(this.#fileNumber, offset);
    const crc = appendBlock(this.#output, { codec, rawLength, content }, seed);
    const length = this.#output.length - before;
    if (this.#output.length >= writeBytes) this.#flush();
    return { offset, length, crc };
  }

  #flush(): void {
    const bytes = this.#output.view();
    this.#file.write(bytes, this.#written);
    this.#checksum = crc32(bytes, this.#checksum);
    this.#written += bytes.length;
    this.#output.reset();
  }
}
