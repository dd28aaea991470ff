// Bytes of a table file, version 1 (docs/storage-format.md): sorted records that never change.
//
//   file     data blocks | index block | filter block | properties block | footer
//   block    u8 codec (0 none, 1 LZ4) | 3 zeros | u32 raw length | content | u32 CRC
//   data     records as they are, in key order | u32 offset of every 8th | u32 count of offsets
//   index    per data block: key length u16, first key, u53 offset, u32 length, u32 CRC
//   filter   actors/storage/bloom-filter.ts
//   footer   80 bytes: magic, version, file number, place of the three blocks, count of data
//            blocks, CRC of everything before the footer, CRC of the footer
//
// A block's CRC is seeded with its file number and offset, so a block in the wrong place fails;
// the index repeats the CRC of each data block (MF-7). Little-endian throughout.

import { ByteReader, ByteWriter, crc32 } from '../../runtime/bytes.ts';
import type { Lz4 } from '../../runtime/environment.ts';
import { CorruptionError, KvError } from '../../runtime/errors.ts';
import { recordBytesMax } from '../model/record.ts';

export const blockBytesDefault = 16 * 1024;
export const blockBytesMax = 1024 * 1024;
/** A data block's content: one record of any size, or a block of the largest size; and offsets. */
export const rawBlockBytesMax = recordBytesMax + blockBytesMax;
/** Offsets are kept for every record of this number. */
export const restartInterval = 8;
export const blockHeaderBytes = 8;
export const crcBytes = 4;
export const footerBytes = 80;
const formatVersion = 1;
const magic = 0x4b56_5354;

export const codecs = { none: 0, lz4: 1 } as const;
export type Codec = (typeof codecs)[keyof typeof codecs];

/** Where a block lies in its file: header, content and CRC. */
export interface BlockPlace {
  readonly offset: number;
  readonly length: number;
}

export interface Footer {
  readonly fileNumber: number;
  readonly index: BlockPlace;
  readonly filter: BlockPlace;
  readonly properties: BlockPlace;
  readonly dataBlocks: number;
  /** CRC-32 of everything before the footer. */
  readonly checksum: number;
}

/** Appends a block; gives its CRC. It will lie at `offset` of the file `fileNumber`. */
export function appendBlock(
  writer: ByteWriter,
  { codec, rawLength, content }: { codec: Codec; rawLength: number; content: Uint8Array },
  seed: number,
): number {
  const at = writer.length;
  writer.u8(codec);
  writer.u8(0);
  writer.u16(0);
  writer.u32(rawLength);
  writer.raw(content);
  const crc = crc32(writer.view().subarray(at), seed);
  writer.u32(crc);
  return crc;
}

/** What the CRC of the block at `offset` starts from. */
export function blockSeed(fileNumber: number, offset: number): number {
  const writer = new ByteWriter(16);
  writer.u53(fileNumber);
  writer.u53(offset);
  return crc32(writer.view());
}

export interface StoredBlock {
  readonly fileNumber: number;
  readonly offset: number;
  /** Header, content and CRC. */
  readonly bytes: Uint8Array;
  /** What the index says of it; undefined where nothing does. */
  readonly crc: number | undefined;
}

/** A verified block's content; a view of `bytes` where it is not compressed. CorruptionError. */
export function openBlock(path: string, block: StoredBlock, lz4: Lz4): Uint8Array {
  const { fileNumber, offset, bytes } = block;
  const corrupt = (what: string): CorruptionError => new CorruptionError(path, offset, what);
  if (bytes.length < blockHeaderBytes + crcBytes) throw corrupt('no room for a block');
  const crcAt = bytes.length - crcBytes;
  const stored = new ByteReader(bytes, crcAt).u32();
  const crc = crc32(bytes.subarray(0, crcAt), blockSeed(fileNumber, offset));
  if (crc !== stored) throw corrupt('the checksum of a block does not match');
  if (block.crc !== undefined && block.crc !== crc) throw corrupt('the index names another block');
  const codec = bytes[0];
  const rawLength = new ByteReader(bytes, 4).u32();
  const content = bytes.subarray(blockHeaderBytes, crcAt);
  if (codec === codecs.none) {
    if (content.length !== rawLength) throw corrupt(`${content.length} bytes of ${rawLength}`);
    return content;
  }
  if (codec !== codecs.lz4) throw corrupt(`codec ${codec}`);
  if (rawLength > rawBlockBytesMax) throw corrupt(`a block of ${rawLength} bytes`);
  return orCorrupt(path, offset, () => lz4.decompress(content, rawLength));
}

/** Bytes whose checksum is right and that still make no sense: what they are part of is corrupt. */
export function orCorrupt<T>(path: string, offset: number, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof KvError)) throw error;
    throw new CorruptionError(path, offset, error.message);
  }
}

export function encodeFooter(footer: Footer): Uint8Array {
  const writer = new ByteWriter(footerBytes);
  writer.u32(magic);
  writer.u32(formatVersion);
  writer.u53(footer.fileNumber);
  for (const place of [footer.index, footer.filter, footer.properties]) {
    writer.u53(place.offset);
    writer.u53(place.length);
  }
  writer.u32(footer.dataBlocks);
  writer.u32(footer.checksum);
  writer.u32(0);
  writer.u32(crc32(writer.view()));
  return writer.view();
}

/** CorruptionError where it is damaged, DATA_REFUSED for another format version. */
export function decodeFooter(path: string, fileBytes: number, bytes: Uint8Array): Footer {
  const offset = fileBytes - footerBytes;
  const corrupt = (what: string): CorruptionError => new CorruptionError(path, offset, what);
  const reader = new ByteReader(bytes);
  if (reader.u32() !== magic) throw corrupt('no table footer');
  const crcAt = footerBytes - crcBytes;
  if (crc32(bytes.subarray(0, crcAt)) !== new ByteReader(bytes, crcAt).u32())
    throw corrupt('the checksum of the footer does not match');
  const version = reader.u32();
  if (version !== formatVersion)
    throw new KvError('DATA_REFUSED', {
      file: path,
      detail: `table format ${version}; this program reads ${formatVersion}`,
    });
  const fileNumber = reader.u53();
  const place = (): BlockPlace => ({ offset: reader.u53(), length: reader.u53() });
  const [index, filter, properties] = [place(), place(), place()];
  const footer = { fileNumber, index, filter, properties, dataBlocks: reader.u32() };
  let end = index.offset;
  for (const { offset: at, length } of [index, filter, properties]) {
    if (at !== end) throw corrupt('blocks do not follow each other');
    end = at + length;
  }
  if (end !== offset) throw corrupt(`the file has ${fileBytes} bytes`);
  return { ...footer, checksum: reader.u32() };
}

/** What the index says of one data block. */
export interface IndexEntry extends BlockPlace {
  readonly firstKey: Uint8Array;
  readonly crc: number;
}

export function appendIndexEntry(writer: ByteWriter, entry: IndexEntry): void {
  writer.u16(entry.firstKey.length);
  writer.raw(entry.firstKey);
  writer.u53(entry.offset);
  writer.u32(entry.length);
  writer.u32(entry.crc);
}

/** The index in memory: columns, so that a large table is a handful of objects. */
export interface TableIndex {
  readonly count: number;
  readonly bytes: Uint8Array;
  /** Place and length of each first key in `bytes`. */
  readonly keyAts: Uint32Array;
  readonly keyLengths: Uint16Array;
  readonly offsets: Float64Array;
  readonly lengths: Uint32Array;
  readonly crcs: Uint32Array;
}

const indexEntryBytesMin = 18;

/** BAD_REQUEST where the bytes are no index of `count` blocks. They are kept, not copied. */
export function decodeIndex(bytes: Uint8Array, count: number): TableIndex {
  if (count * indexEntryBytesMin > bytes.length) throw badIndex('too short');
  const index: TableIndex = {
    count,
    bytes,
    keyAts: new Uint32Array(count),
    keyLengths: new Uint16Array(count),
    offsets: new Float64Array(count),
    lengths: new Uint32Array(count),
    crcs: new Uint32Array(count),
  };
  const reader = new ByteReader(bytes);
  let end = 0;
  for (let i = 0; i < count; i += 1) {
    const keyLength = reader.u16();
    index.keyLengths[i] = keyLength;
    index.keyAts[i] = reader.at;
    reader.rawView(keyLength);
    const offset = reader.u53();
    if (offset !== end) throw badIndex('data blocks with a gap');
    index.offsets[i] = offset;
    const length = reader.u32();
    index.lengths[i] = length;
    index.crcs[i] = reader.u32();
    end = offset + length;
  }
  if (reader.left !== 0) throw badIndex('too long');
  return index;
}

const badIndex = (what: string): KvError =>
  new KvError('BAD_REQUEST', { detail: `index: ${what}` });

/** The only block that may hold `key`; -1 where the key is before the first. */
export function findBlock(index: TableIndex, key: Uint8Array): number {
  let low = 0;
  let high = index.count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const at = index.keyAts[middle] as number;
    const end = at + (index.keyLengths[middle] as number);
    if (compareRange(index.bytes, at, end, key) <= 0) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** compareBytes of a part of `bytes` with `key`, without a view of it. */
export function compareRange(bytes: Uint8Array, at: number, end: number, key: Uint8Array): number {
  const length = end - at;
  const shared = length < key.length ? length : key.length;
  for (let i = 0; i < shared; i += 1) {
    const difference = (bytes[at + i] as number) - (key[i] as number);
    if (difference !== 0) return difference;
  }
  return length - key.length;
}
