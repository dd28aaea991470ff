// Bytes of a table file, version 2 (docs/storage-format.md): sorted records that never change.
//
//   file     data blocks | index blocks | top index block | filter block | properties block | footer
//   block    u8 codec (0 none, 1 LZ4, 2 Zstd) | 3 zeros | u32 raw length | content | u32 CRC
//   data     data-block.ts           index    sstable-index.ts
//   filter   bloom-filter.ts         properties    table-meta.ts, then table-figures.ts
//   footer   80 bytes: magic, version, file number, place of the last three blocks, count of data
//            blocks, CRC of everything before the footer, count of index blocks, CRC of the footer
//
// A block's CRC is seeded with its file number and offset, so a block in the wrong place fails; an
// index repeats the CRC of each block that it names (MF-7). Little-endian throughout. Version 1 is
// read as well: its records are whole, and its one index block is where the top is now.

import { ByteReader, ByteWriter, crc32, type TakeBytes } from '../../runtime/bytes.ts';
import type { BlockCodecs } from '../../runtime/environment.ts';
import { CorruptionError, KvError } from '../../runtime/errors.ts';
import { recordBytesMax } from '../model/record.ts';

export const blockBytesDefault = 16 * 1024;
/** Room for a block of that size with its restarts. */
export const usualBlockBytes = blockBytesDefault + 512;
export const blockBytesMax = 1024 * 1024;
/** A data block's content: one record of any size, or a block of the largest size; and offsets. */
export const rawBlockBytesMax = recordBytesMax + blockBytesMax;
/** Offsets are kept for every record of this number. */
export const restartInterval = 16;
export const blockHeaderBytes = 8;
export const crcBytes = 4;
export const footerBytes = 80;
/** What is written, and what can be read. */
const formatVersion = 2;
const formatVersionMin = 1;
const magic = 0x4b56_5354;

export const codecNumbers = { none: 0, lz4: 1, zstd: 2 } as const;
export type CodecName = keyof typeof codecNumbers;
export type CodecNumber = (typeof codecNumbers)[CodecName];

const codecNames: readonly CodecName[] = ['none', 'lz4', 'zstd'];

/** Undefined: there is no such codec. */
export const codecNameOf = (number: number): CodecName | undefined => codecNames[number];

/** Where a block lies in its file: header, content and CRC. */
export interface BlockPlace {
  readonly offset: number;
  readonly length: number;
}

export interface Footer {
  readonly version: number;
  readonly fileNumber: number;
  /** The top of the index; in version 1 all of it. */
  readonly index: BlockPlace;
  readonly filter: BlockPlace;
  readonly properties: BlockPlace;
  readonly dataBlocks: number;
  /** Index blocks below the top; 0 in version 1. */
  readonly indexBlocks: number;
  /** CRC-32 of everything before the footer. */
  readonly checksum: number;
}

/** Appends a block; gives its CRC. It will lie at `offset` of the file `fileNumber`. */
export function appendBlock(
  writer: ByteWriter,
  { codec, rawLength, content }: { codec: CodecName; rawLength: number; content: Uint8Array },
  seed: number,
): number {
  const at = writer.length;
  writer.u8(codecNumbers[codec]);
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

/**
 * A verified block's content; a view of `bytes` where it is not compressed, else in an array from
 * `take`, or of its own. CorruptionError.
 */
export function openBlock(
  path: string,
  block: StoredBlock,
  codecs: BlockCodecs,
  take?: TakeBytes,
): Uint8Array {
  const { fileNumber, offset, bytes } = block;
  const corrupt = (what: string): CorruptionError => new CorruptionError(path, offset, what);
  if (bytes.length < blockHeaderBytes + crcBytes) throw corrupt('no room for a block');
  const crcAt = bytes.length - crcBytes;
  const stored = new ByteReader(bytes, crcAt).u32();
  const crc = crc32(bytes.subarray(0, crcAt), blockSeed(fileNumber, offset));
  if (crc !== stored) throw corrupt('the checksum of a block does not match');
  if (block.crc !== undefined && block.crc !== crc) throw corrupt('the index names another block');
  const codec = codecNameOf(bytes[0] as number);
  if (codec === undefined) throw corrupt(`codec ${bytes[0] ?? ''}`);
  const rawLength = new ByteReader(bytes, 4).u32();
  const content = bytes.subarray(blockHeaderBytes, crcAt);
  if (codec === 'none') {
    if (content.length !== rawLength) throw corrupt(`${content.length} bytes of ${rawLength}`);
    return content;
  }
  if (rawLength > rawBlockBytesMax) throw corrupt(`a block of ${rawLength} bytes`);
  return orCorrupt(path, offset, () => codecs[codec].decompress(content, rawLength, take));
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

export function encodeFooter(footer: Omit<Footer, 'version'>): Uint8Array {
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
  writer.u32(footer.indexBlocks);
  writer.u32(crc32(writer.view()));
  return writer.view();
}

/** CorruptionError where it is damaged, DATA_REFUSED for a format version that is not known. */
export function decodeFooter(path: string, fileBytes: number, bytes: Uint8Array): Footer {
  const offset = fileBytes - footerBytes;
  const corrupt = (what: string): CorruptionError => new CorruptionError(path, offset, what);
  const reader = new ByteReader(bytes);
  if (reader.u32() !== magic) throw corrupt('no table footer');
  const crcAt = footerBytes - crcBytes;
  if (crc32(bytes.subarray(0, crcAt)) !== new ByteReader(bytes, crcAt).u32())
    throw corrupt('the checksum of the footer does not match');
  const version = reader.u32();
  if (version < formatVersionMin || version > formatVersion)
    throw new KvError('DATA_REFUSED', {
      file: path,
      detail: `table format ${version}; this program reads ${formatVersionMin} to ${formatVersion}`,
    });
  const fileNumber = reader.u53();
  const place = (): BlockPlace => ({ offset: reader.u53(), length: reader.u53() });
  const [index, filter, properties] = [place(), place(), place()];
  const dataBlocks = reader.u32();
  const checksum = reader.u32();
  const indexBlocks = reader.u32();
  let end = index.offset;
  for (const { offset: at, length } of [index, filter, properties]) {
    if (at !== end) throw corrupt('blocks do not follow each other');
    end = at + length;
  }
  if (end !== offset) throw corrupt(`the file has ${fileBytes} bytes`);
  if (dataBlocks === 0 || (indexBlocks === 0) !== (version === 1)) throw corrupt('an empty table');
  return { version, fileNumber, index, filter, properties, dataBlocks, indexBlocks, checksum };
}
