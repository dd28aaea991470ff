// Writes one table file, streaming: sorted records in, blocks out in large writes (MF-3 step 1).
// The caller syncs file and directory afterwards; the footer, with the CRC of everything before
// it, is the last thing written, so a table that was cut short is recognised.

import { ByteWriter, crc32, sharedLength } from '../../runtime/bytes.ts';
import type { BlockCodecs, DiskFile } from '../../runtime/environment.ts';
import { assert } from '../../runtime/errors.ts';
import {
  recordExpiresAt,
  recordHash,
  recordHeaderBytes,
  recordHlc,
  recordIsTombstone,
  recordKey,
} from '../model/record.ts';
import { BloomFilter } from './bloom-filter.ts';
import { HashList } from './hash-list.ts';
import type { TableMeta } from './protocol.ts';
import {
  appendBlock,
  blockBytesDefault,
  blockBytesMax,
  blockSeed,
  type BlockPlace,
  type CodecName,
  encodeFooter,
  footerBytes,
  restartInterval,
} from './sstable-format.ts';
import { appendIndexEntry, appendTopEntry, indexBlockBytes } from './sstable-index.ts';
import { FigureCounter, writeFigures } from './table-figures.ts';
import { type TableProperties, writeProperties } from './table-meta.ts';

export interface SstableOptions {
  readonly codecs: BlockCodecs;
  /** For data blocks. Default lz4; none: they are stored as they are. */
  readonly codec?: CodecName;
  /** At least the records that will come, for the size of the filter; absent: they are counted. */
  readonly expectedRecords?: number | undefined;
  /** Records of a data block before compression, bytes. Default 16 KiB; 1 KiB to 1 MiB. */
  readonly blockBytes?: number;
  /** Default 0. */
  readonly level?: number;
  /** Gets each full block, valid during the call; it comes back by `writeBlock`, packed elsewhere. */
  readonly sealed?: (raw: Uint8Array, separator: Uint8Array) => void;
}

/** Bytes that are collected for one write. */
const writeBytes = 1024 * 1024;
/** A block is stored compressed where that saves at least one byte in this many. */
const worthwhileShare = 8;
/** Larger records keep their whole keys: they are handed out without being copied. */
const sharingBytesMax = 1024;

/** An index block that waits for the end of the data. */
interface IndexBlock {
  readonly separator: Uint8Array;
  readonly content: Uint8Array;
  readonly blocks: number;
  readonly dataOffset: number;
}

export class SstableWriter {
  readonly #file: DiskFile;
  readonly #fileNumber: number;
  readonly #codecs: BlockCodecs;
  readonly #codec: CodecName;
  readonly #blockBytes: number;
  readonly #level: number;
  readonly #handOut: SstableOptions['sealed'];
  readonly #filter: BloomFilter | undefined;
  /** Of the records so far, where there is no filter yet. */
  readonly #hashes = new HashList();
  readonly #block = new ByteWriter(2 * blockBytesDefault);
  /** Entries of the index block that is being filled. */
  readonly #index = new ByteWriter(2 * indexBlockBytes);
  readonly #indexBlocks: IndexBlock[] = [];
  readonly #output = new ByteWriter(writeBytes + 4 * blockBytesDefault);
  readonly #lastKey = new ByteWriter(256);
  #restarts: number[] = [];
  #blockRecords = 0;
  #separator = new Uint8Array(0);
  /** What the index block that is being filled begins with. */
  #indexStart: Omit<IndexBlock, 'content' | 'blocks'> | undefined;
  #indexedBlocks = 0;
  #dataBlocks = 0;
  /** Handed out and not come back yet. */
  #blocksOut = 0;
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
  readonly #figures = new FigureCounter();

  /** `file` is new and empty. */
  constructor(file: DiskFile, fileNumber: number, options: SstableOptions) {
    const {
      codecs,
      codec = 'lz4',
      expectedRecords,
      blockBytes = blockBytesDefault,
      level = 0,
    } = options;
    assert(blockBytes >= 1024 && blockBytes <= blockBytesMax, `blocks of ${blockBytes} bytes`);
    this.#file = file;
    this.#fileNumber = fileNumber;
    this.#codecs = codecs;
    this.#codec = codec;
    this.#blockBytes = blockBytes;
    this.#level = level;
    this.#handOut = options.sealed;
    if (expectedRecords !== undefined) this.#filter = BloomFilter.create(expectedRecords);
  }

  /** Keys come in strictly ascending order. DISK_FULL, DISK_FAILED: the file is of no use. */
  add(record: Uint8Array): void {
    const key = recordKey(record);
    const last = this.#lastKey.view();
    const shared = sharedLength(last, key);
    const isFirst = this.#records === 0;
    assert(!this.#isFinished, 'the table is finished');
    assert(isFirst || isAbove(key, last, shared), 'keys out of order');
    if (isFirst) this.#firstKey = key.slice();
    const block = this.#block;
    if (block.length > 0 && block.length + record.length > this.#blockBytes) this.#endBlock();
    if (block.length === 0) this.#separator = key.slice(0, isFirst ? key.length : shared + 1);
    this.#appendEntry(record, shared);
    this.#lastKey.truncate(shared);
    this.#lastKey.raw(key.subarray(shared));
    if (this.#filter === undefined) this.#hashes.add(recordHash(record));
    else this.#filter.add(recordHash(record));
    this.#count(record);
  }

  /** The record without what its key shares with the one before. */
  #appendEntry(record: Uint8Array, shared: number): void {
    const block = this.#block;
    const isRestart = this.#blockRecords % restartInterval === 0;
    if (isRestart) this.#restarts.push(block.length);
    this.#blockRecords += 1;
    if (isRestart || record.length > sharingBytesMax) {
      block.u16(0);
      block.raw(record);
    } else {
      block.u16(shared);
      block.raw(record.subarray(0, recordHeaderBytes));
      block.raw(record.subarray(recordHeaderBytes + shared));
    }
  }

  /** Bytes of the blocks that were written or wait for the next write to the file. */
  get dataBytes(): number {
    return this.#written + this.#output.length;
  }

  /** Hands out the block that is being filled, too. */
  sealLast(): void {
    if (this.#block.length > 0) this.#endBlock();
  }

  /**
   * A block that was handed out, in the same order; `packed` by the codec of this table, where that
   * made it shorter.
   */
  writeBlock(raw: Uint8Array, separator: Uint8Array, packed: Uint8Array | undefined): void {
    this.#blocksOut -= 1;
    this.#writeBlock(raw, separator, packed);
  }

  /** Writes the rest; does not sync. At least one record was added. */
  finish(): TableMeta {
    assert(this.#records > 0, 'a table without records');
    this.sealLast();
    assert(this.#blocksOut === 0, 'blocks that have not come back');
    this.#isFinished = true;
    const index = this.#appendIndex();
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
    writeFigures(writer, this.#figures.figures(this.#codec));
    const properties = this.#appendPlain(writer.view());
    this.#flush();
    const checksum = this.#checksum;
    const places = { fileNumber: table.fileNumber, index, filter, properties };
    const counts = { dataBlocks: this.#dataBlocks, indexBlocks: this.#indexBlocks.length };
    this.#file.write(encodeFooter({ ...places, ...counts, checksum }), this.#written);
    return { ...table, bytes: this.#written + footerBytes, checksum };
  }

  #finalFilter(): BloomFilter {
    if (this.#filter !== undefined) return this.#filter;
    const filter = BloomFilter.create(this.#hashes.length);
    this.#hashes.forEach((hash) => filter.add(hash));
    return filter;
  }

  #count(record: Uint8Array): void {
    const hlc = recordHlc(record);
    const expiresAt = recordExpiresAt(record);
    this.#records += 1;
    this.#figures.add(record);
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
    const separator = this.#separator;
    const codec = this.#codec;
    this.#figures.rawBytes += block.length;
    const raw = block.view();
    if (this.#handOut !== undefined) {
      this.#blocksOut += 1;
      this.#handOut(raw, separator);
    } else {
      const packed = codec === 'none' ? undefined : this.#codecs[codec].compress(raw);
      this.#writeBlock(raw, separator, packed);
    }
    this.#restarts = [];
    this.#blockRecords = 0;
    block.reset();
  }

  /** Packed only where that pays. */
  #writeBlock(raw: Uint8Array, separator: Uint8Array, packed: Uint8Array | undefined): void {
    const isWorthwhile =
      packed !== undefined && packed.length <= raw.length - raw.length / worthwhileShare;
    const place = isWorthwhile
      ? this.#append(raw.length, { codec: this.#codec, content: packed })
      : this.#append(raw.length, { codec: 'none', content: raw });
    this.#indexStart ??= { separator, dataOffset: place.offset };
    appendIndexEntry(this.#index, { separator, ...place });
    this.#indexedBlocks += 1;
    this.#dataBlocks += 1;
    if (this.#index.length >= indexBlockBytes) this.#endIndexBlock();
  }

  #endIndexBlock(): void {
    if (this.#indexStart === undefined) return;
    const blocks = this.#indexedBlocks;
    this.#indexBlocks.push({ ...this.#indexStart, content: this.#index.copy(), blocks });
    this.#indexStart = undefined;
    this.#indexedBlocks = 0;
    this.#index.reset();
  }

  /** All index blocks, then the top. */
  #appendIndex(): BlockPlace {
    this.#endIndexBlock();
    const top = new ByteWriter();
    for (const { separator, content, blocks, dataOffset } of this.#indexBlocks) {
      const place = this.#append(content.length, { codec: 'none', content });
      appendTopEntry(top, { separator, ...place }, { blocks, dataOffset });
    }
    return this.#appendPlain(top.view());
  }

  #appendPlain(content: Uint8Array): BlockPlace {
    const { offset, length } = this.#append(content.length, { codec: 'none', content });
    return { offset, length };
  }

  #append(
    rawLength: number,
    { codec, content }: { codec: CodecName; content: Uint8Array },
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

/** Whether `key` sorts behind `last`, with which it shares so many bytes. */
const isAbove = (key: Uint8Array, last: Uint8Array, shared: number): boolean =>
  shared < key.length &&
  (shared === last.length || (key[shared] as number) > (last[shared] as number));
