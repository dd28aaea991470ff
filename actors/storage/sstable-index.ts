// The index of a table, in two levels: index blocks say where data blocks lie, the top says where
// index blocks lie. The top stays in memory, index blocks come and go with the block cache, so a large
// table costs no more memory than what is read of it.
//
//   index block   entries of data blocks
//   top           entries of index blocks, each followed by u32 data blocks of it, u53 where the
//                 first of them lies
//   entry         u16 key length, separator, u53 offset, u32 length, u32 CRC of the block
//
// A separator is above every key of the block before and not above the first key of its own. Keys and
// places lie in columns: a table is a handful of objects. Invariant: blocks follow each other without
// a gap, and what a parent says of a child is what the child says.

import { type ByteWriter, ByteReader } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';

/** What an index says of one block. */
export interface IndexEntry {
  readonly separator: Uint8Array;
  readonly offset: number;
  readonly length: number;
  readonly crc: number;
}

/** What the top says beside that of one index block. */
export interface ChildFigures {
  /** Data blocks that it speaks of. */
  readonly blocks: number;
  /** Where the first of them lies. */
  readonly dataOffset: number;
}

/** Index blocks have this size, bytes: 50 to 150 data blocks. */
export const indexBlockBytes = 4096;
const entryBytesMin = 18;
const childBytes = 12;
/** Of an entry in columns. */
const columnBytes = 22;
/** Of an entry of the top in its own columns. */
const topColumnBytes = 16;

/** Entries in memory. */
export interface BlockIndex {
  readonly count: number;
  readonly bytes: Uint8Array;
  /** Place and length of each separator in `bytes`. */
  readonly keyAts: Uint32Array;
  readonly keyLengths: Uint16Array;
  readonly offsets: Float64Array;
  readonly lengths: Uint32Array;
  readonly crcs: Uint32Array;
  /** Bytes of memory. */
  readonly heldBytes: number;
}

/** The upper level. */
export interface TopIndex extends BlockIndex {
  /** Number of the first data block of each index block; behind the last one: of all. */
  readonly firstBlocks: Uint32Array;
  /** Where the first data block of each index block lies; behind the last one: where data ends. */
  readonly dataOffsets: Float64Array;
}

export function appendIndexEntry(writer: ByteWriter, entry: IndexEntry): void {
  writer.u16(entry.separator.length);
  writer.raw(entry.separator);
  writer.u53(entry.offset);
  writer.u32(entry.length);
  writer.u32(entry.crc);
}

export function appendTopEntry(writer: ByteWriter, entry: IndexEntry, child: ChildFigures): void {
  appendIndexEntry(writer, entry);
  writer.u32(child.blocks);
  writer.u53(child.dataOffset);
}

/** Where blocks must begin and end. */
interface Extent {
  readonly count: number;
  readonly from: number;
  readonly to: number;
}

/** BAD_REQUEST where the bytes are no index of this extent. They are kept, not copied. */
export function decodeIndex(bytes: Uint8Array, { count, from, to }: Extent): BlockIndex {
  const index = emptyIndex(bytes, count, entryBytesMin, columnBytes);
  const reader = new ByteReader(bytes);
  let end = from;
  for (let i = 0; i < count; i += 1) end = readEntry(reader, index, i, end);
  if (end !== to) throw badIndex('it ends elsewhere');
  if (reader.left !== 0) throw badIndex('too long');
  return index;
}

/**
 * BAD_REQUEST where the bytes are no top of `count` index blocks that end at `to` and speak of `blocks`
 * data blocks.
 */
export function decodeTop(
  bytes: Uint8Array,
  { count, blocks, to }: { readonly count: number; readonly blocks: number; readonly to: number },
): TopIndex {
  const held = columnBytes + topColumnBytes;
  const index = emptyIndex(bytes, count, entryBytesMin + childBytes, held);
  const firstBlocks = new Uint32Array(count + 1);
  const dataOffsets = new Float64Array(count + 1);
  const reader = new ByteReader(bytes);
  let end = -1;
  let block = 0;
  for (let i = 0; i < count; i += 1) {
    end = readEntry(reader, index, i, end);
    firstBlocks[i] = block;
    block += reader.u32();
    const dataOffset = reader.u53();
    if (i === 0 ? dataOffset !== 0 : dataOffset <= (dataOffsets[i - 1] as number))
      throw badIndex('data blocks out of order');
    dataOffsets[i] = dataOffset;
    if (block > blocks || block === firstBlocks[i]) throw badIndex('it counts other data blocks');
  }
  if (end !== to || block !== blocks || reader.left !== 0) throw badIndex('it ends elsewhere');
  firstBlocks[count] = blocks;
  dataOffsets[count] = index.offsets[0] as number;
  if ((dataOffsets[count - 1] as number) >= dataOffsets[count])
    throw badIndex('data blocks out of order');
  return { ...index, firstBlocks, dataOffsets };
}

/** The top of a table of version 1, which has one index block. */
export function topOfOne(entry: Omit<IndexEntry, 'separator'>, blocks: number): TopIndex {
  return {
    count: 1,
    bytes: new Uint8Array(0),
    keyAts: Uint32Array.of(0),
    keyLengths: Uint16Array.of(0),
    offsets: Float64Array.of(entry.offset),
    lengths: Uint32Array.of(entry.length),
    crcs: Uint32Array.of(entry.crc),
    heldBytes: columnBytes + topColumnBytes,
    firstBlocks: Uint32Array.of(0, blocks),
    dataOffsets: Float64Array.of(0, entry.offset),
  };
}

function emptyIndex(bytes: Uint8Array, count: number, least: number, held: number): BlockIndex {
  if (count < 1 || count * least > bytes.length) throw badIndex(`${count} entries`);
  return {
    count,
    bytes,
    keyAts: new Uint32Array(count),
    keyLengths: new Uint16Array(count),
    offsets: new Float64Array(count),
    lengths: new Uint32Array(count),
    crcs: new Uint32Array(count),
    heldBytes: bytes.length + count * held,
  };
}

/** Where the block of the entry ends. It begins at `from`; -1: anywhere. */
function readEntry(reader: ByteReader, index: BlockIndex, i: number, from: number): number {
  const keyLength = reader.u16();
  index.keyLengths[i] = keyLength;
  index.keyAts[i] = reader.at;
  reader.rawView(keyLength);
  const offset = reader.u53();
  if (from >= 0 && offset !== from) throw badIndex('blocks with a gap');
  index.offsets[i] = offset;
  const length = reader.u32();
  index.lengths[i] = length;
  index.crcs[i] = reader.u32();
  return offset + length;
}

const badIndex = (what: string): KvError =>
  new KvError('BAD_REQUEST', { detail: `index: ${what}` });

/** The only block that may hold `key`; -1 where the key is before the first. */
export function findBlock(index: BlockIndex, key: Uint8Array): number {
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

/** The index block that speaks of the data block with this number. */
export function childOf({ firstBlocks, count }: TopIndex, block: number): number {
  let low = 1;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((firstBlocks[middle] as number) <= block) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** A view of a separator. */
export function separatorOf({ bytes, keyAts, keyLengths }: BlockIndex, i: number): Uint8Array {
  const at = keyAts[i] as number;
  return bytes.subarray(at, at + (keyLengths[i] as number));
}

/** compareBytes of a part of `bytes` with `key`, without a view of it. */
function compareRange(bytes: Uint8Array, at: number, end: number, key: Uint8Array): number {
  const length = end - at;
  const shared = length < key.length ? length : key.length;
  for (let i = 0; i < shared; i += 1) {
    const difference = (bytes[at + i] as number) - (key[i] as number);
    if (difference !== 0) return difference;
  }
  return length - key.length;
}
