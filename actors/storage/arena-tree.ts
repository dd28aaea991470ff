// Ordered map from storage key to record, a B+tree in one arena of shared memory: no object per
// record, so nothing for the garbage collector, and a frozen tree is read from another thread
// without a copy. Everything, also root and counts, lives in the arena's own header.
//
//   header   16 words: magic, root, height, tail, records, first leaf
//   node     count, next leaf, length of its prefix, then columns of 32 words: the 12 key bytes behind
//            the prefix as three signed words of the same order, place of the record; inner nodes also
//            their children
//   record   its bytes (actors/model/record.ts), padded to 8
//
// Entries compare by the columns; only where all three tie are the keys themselves read, each from
// another place of the memory. An inner node's entry i > 0 is a lower bound of child i; its key is
// read from a record, and records never move. So a node lies between two keys of those above it, and
// what these begin with alike, its prefix, whoever comes down to it begins with as well: columns leave
// it out. Nodes and records are taken from the front of the arena, upwards; nothing is given back.
// References: Bayer and McCreight, "Organization and Maintenance of Large Ordered Indices", 1972;
// Bayer and Unterauer, "Prefix B-Trees", 1977. The layout is measured in docs/performance.md.

import { BytePool } from '../../runtime/byte-pool.ts';
import { high32, sharedLength, wordAligned } from '../../runtime/bytes.ts';
import { assert } from '../../runtime/errors.ts';
import { recordHeaderBytes, recordKeyLength, recordLengthAt } from '../model/record.ts';
import { lastWriteWins, type Resolve } from '../model/resolve.ts';

export type InsertOutcome = 'inserted' | 'replaced' | 'kept' | 'full';

const magic = 0x4b56_4d31;
const headerWords = 16;
const rootWord = 1;
const heightWord = 2;
const tailWord = 3;
const recordsWord = 4;
const firstLeafWord = 5;

const fanOut = 32;
/** A node in words: where its parts are. */
const nextPart = 1;
const prefixPart = 2;
const highPart = 3;
const middlePart = highPart + fanOut;
const lowPart = middlePart + fanOut;
const placePart = lowPart + fanOut;
const childPart = placePart + fanOut;
const leafWords = childPart;
const innerWords = childPart + fanOut;
const nodeBytesMax = innerWords * 4;
/** Enough for 16^16 entries. */
const heightMax = 16;
/** Places are bytes in a signed word. */
const arenaBytesMax = 0x7fff_fff8;
/** Flips the sign, so that signed comparison orders unsigned words. */
const signBit = 0x8000_0000;
const columnKeyBytes = 12;
/** A prefix that would grow by less stays: the columns see far enough. */
const prefixStepBytes = 4;

export class ArenaTree {
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #pool = new BytePool();
  /** The last descent: node and child index per level below the root. */
  readonly #pathNodes = new Int32Array(heightMax);
  readonly #pathIndexes = new Int32Array(heightMax);
  // The key that is looked for, and its columns behind a prefix of so many bytes; -1: of none yet.
  #probe: Uint8Array;
  #probeAt = 0;
  #probeEnd = 0;
  #prefix = -1;
  #high = 0;
  #middle = 0;
  #low = 0;

  private constructor(memory: SharedArrayBuffer) {
    const size = memory.byteLength;
    assert(size >= 4096 && size <= arenaBytesMax, `an arena of ${size} bytes`);
    this.#words = new Int32Array(memory, 0, size >> 2);
    this.#bytes = new Uint8Array(memory);
    this.#view = new DataView(memory);
    this.#probe = this.#bytes;
  }

  /** An empty tree in `memory` (4 KiB to 2 GiB); what was there before is gone. */
  static create(memory: SharedArrayBuffer): ArenaTree {
    const tree = new ArenaTree(memory);
    const words = tree.#words;
    words.fill(0, 0, headerWords);
    words[tailWord] = headerWords * 4;
    const leaf = tree.#allocateNode(leafWords);
    words[rootWord] = leaf;
    words[heightWord] = 1;
    words[firstLeafWord] = leaf;
    words[0] = magic;
    return tree;
  }

  /** The tree that another thread made here and no longer changes. */
  static open(memory: SharedArrayBuffer): ArenaTree {
    const tree = new ArenaTree(memory);
    assert(tree.#words[0] === magic, 'there is no tree in this arena');
    return tree;
  }

  /** Keys in the tree. */
  get records(): number {
    return this.#word(recordsWord);
  }

  /** Bytes of the arena in use, replaced records and nodes included. */
  get bytesUsed(): number {
    return this.#word(tailWord);
  }

  get capacity(): number {
    return this.#bytes.length;
  }

  /**
   * Adds a record, or keeps the winner of it and the one with the same key. 'full': nothing
   * changed. Cursors made before are no longer valid.
   */
  insert(record: Uint8Array, resolve: Resolve): InsertOutcome {
    this.#setProbe(record, recordHeaderBytes, recordHeaderBytes + recordKeyLength(record));
    const leaf = this.#descend();
    const index = this.#lowerBound(leaf);
    if (index < this.#word(leaf) && this.#compareAt(leaf, index) === 0)
      return this.#replace(leaf, index, record, resolve);
    const height = this.#word(heightWord);
    const needed = wordAligned(record.length) + (height + 1) * nodeBytesMax;
    if (this.#word(tailWord) + needed > this.capacity) return 'full';
    this.#add(leaf, index, this.#append(record));
    this.#words[recordsWord] = this.records + 1;
    return 'inserted';
  }

  /** A copy of the record of this storage key. */
  get(key: Uint8Array): Uint8Array | undefined {
    this.#setProbe(key, 0, key.length);
    const leaf = this.#descend();
    const index = this.#lowerBound(leaf);
    if (index >= this.#word(leaf) || this.#compareAt(leaf, index) !== 0) return undefined;
    return this.#copy(this.#word(leaf + placePart + index));
  }

  /** Copies of the records in key order, from the first that is not below `from`. */
  cursor(from?: Uint8Array): ArenaCursor {
    if (from === undefined) return this.#cursorAt(this.#word(firstLeafWord), 0);
    this.#setProbe(from, 0, from.length);
    const leaf = this.#descend();
    return this.#cursorAt(leaf, this.#lowerBound(leaf));
  }

  #cursorAt(firstLeaf: number, firstIndex: number): ArenaCursor {
    let leaf = firstLeaf;
    let index = firstIndex;
    const next = (): Uint8Array | undefined => {
      while (leaf !== 0 && index >= this.#word(leaf)) {
        leaf = this.#word(leaf + nextPart);
        index = 0;
      }
      if (leaf === 0) return undefined;
      const place = this.#word(leaf + placePart + index);
      index += 1;
      return this.#copy(place);
    };
    return { next };
  }

  #word(at: number): number {
    return this.#words[at] as number;
  }

  // ---- comparing -----------------------------------------------------------------------------

  #setProbe(bytes: Uint8Array, at: number, end: number): void {
    this.#probe = bytes;
    this.#probeAt = at;
    this.#probeEnd = end;
    this.#prefix = -1;
  }

  /** Before the probe is compared with entries of this node. */
  #enter(node: number): void {
    const prefix = this.#word(node + prefixPart);
    if (prefix === this.#prefix) return;
    const at = this.#probeAt + prefix;
    this.#prefix = prefix;
    this.#high = columnOf(this.#probe, at, this.#probeEnd);
    this.#middle = columnOf(this.#probe, at + 4, this.#probeEnd);
    this.#low = columnOf(this.#probe, at + 8, this.#probeEnd);
  }

  /** The first entry that is not below the probe. */
  #lowerBound(node: number): number {
    this.#enter(node);
    let low = 0;
    let high = this.#word(node);
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#compareAt(node, middle) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The child whose range holds the probe. */
  #childIndex(node: number): number {
    this.#enter(node);
    let low = 1;
    let high = this.#word(node);
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#compareAt(node, middle) <= 0) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** Negative, zero or positive as the entry sorts before, with or after the probe. */
  #compareAt(node: number, index: number): number {
    const words = this.#words;
    const at = node + index;
    const high = words[at + highPart] as number;
    if (high !== this.#high) return high < this.#high ? -1 : 1;
    const middle = words[at + middlePart] as number;
    if (middle !== this.#middle) return middle < this.#middle ? -1 : 1;
    const low = words[at + lowPart] as number;
    if (low !== this.#low) return low < this.#low ? -1 : 1;
    return this.#compareKey(words[at + placePart] as number);
  }

  /** Columns are padded with zeros, so a key that ends within them is compared from the prefix on. */
  #compareKey(place: number): number {
    const bytes = this.#bytes;
    const probe = this.#probe;
    const length = this.#keyLengthAt(place);
    const probeLength = this.#probeEnd - this.#probeAt;
    const shared = length < probeLength ? length : probeLength;
    const keyAt = place + recordHeaderBytes;
    const compared = this.#prefix + columnKeyBytes;
    for (let i = shared < compared ? this.#prefix : compared; i < shared; i += 1) {
      const difference = (bytes[keyAt + i] as number) - (probe[this.#probeAt + i] as number);
      if (difference !== 0) return difference;
    }
    return length - probeLength;
  }

  /** The leaf that holds the probe or would; the way there is in the path. */
  #descend(): number {
    let node = this.#word(rootWord);
    const levels = this.#word(heightWord) - 1;
    for (let level = 0; level < levels; level += 1) {
      const index = this.#childIndex(node);
      this.#pathNodes[level] = node;
      this.#pathIndexes[level] = index;
      node = this.#word(node + childPart + index);
    }
    return node;
  }

  #keyLengthAt(place: number): number {
    return this.#view.getUint16(place, true);
  }

  /** A view of the key of the record at `place`. */
  #keyAt(place: number): Uint8Array {
    const at = place + recordHeaderBytes;
    return this.#bytes.subarray(at, at + this.#keyLengthAt(place));
  }

  // ---- records -------------------------------------------------------------------------------

  #append(record: Uint8Array): number {
    const place = this.#word(tailWord);
    this.#bytes.set(record, place);
    this.#words[tailWord] = place + wordAligned(record.length);
    return place;
  }

  #copy(place: number): Uint8Array {
    const end = place + recordLengthAt(this.#bytes, place);
    return this.#pool.copy(this.#bytes.subarray(place, end));
  }

  #replace(leaf: number, index: number, record: Uint8Array, resolve: Resolve): InsertOutcome {
    const place = this.#word(leaf + placePart + index);
    let winner = record;
    const order = resolve === lastWriteWins ? this.#compareStamps(place, record) : 0;
    if (order > 0) return 'kept';
    if (order === 0) {
      const stored = this.#copy(place);
      winner = resolve(stored, record);
      if (winner === stored) return 'kept';
    }
    // In place where it fits: a hot key must not fill the arena. The key stays where it is.
    if (wordAligned(winner.length) <= wordAligned(recordLengthAt(this.#bytes, place))) {
      this.#bytes.set(winner, place);
      return 'replaced';
    }
    if (this.#word(tailWord) + wordAligned(winner.length) > this.capacity) return 'full';
    this.#words[leaf + placePart + index] = this.#append(winner);
    return 'replaced';
  }

  /** Stored against new by hlc, writer, incarnation, without a copy; 0 where these are equal. */
  #compareStamps(place: number, record: Uint8Array): number {
    const view = this.#view;
    const other = new DataView(record.buffer, record.byteOffset, recordHeaderBytes);
    const hlc = view.getUint32(place + 12, true) * high32 + view.getUint32(place + 8, true);
    const otherHlc = other.getUint32(12, true) * high32 + other.getUint32(8, true);
    return (
      hlc - otherHlc ||
      view.getUint32(place + 16, true) - other.getUint32(16, true) ||
      view.getUint32(place + 20, true) - other.getUint32(20, true)
    );
  }

  // ---- nodes ---------------------------------------------------------------------------------

  #allocateNode(words: number): number {
    const at = this.#word(tailWord);
    this.#words[tailWord] = at + words * 4;
    const node = at >> 2;
    this.#words[node] = 0;
    this.#words[node + nextPart] = 0;
    this.#words[node + prefixPart] = 0;
    return node;
  }

  /** Adds the probe, whose record is at `place`, at `index` of a leaf; splits on the way up. */
  #add(leaf: number, index: number, place: number): void {
    let node = leaf;
    let at = index;
    if (this.#word(leaf) === fanOut) {
      const isLast = this.#word(leaf + nextPart) === 0;
      // Ascending keys leave full leaves behind.
      const keep = isLast && index === fanOut ? fanOut : fanOut >> 1;
      const right = this.#split(leaf, keep, leafWords);
      this.#words[right + nextPart] = this.#word(leaf + nextPart);
      this.#words[leaf + nextPart] = right;
      if (keep === fanOut || index > keep) {
        node = right;
        at = index - keep;
      }
      this.#insertEntry(node, at, place);
      this.#deepen(this.#word(heightWord) - 1, leaf, right);
      this.#addChild(right);
    } else this.#insertEntry(node, at, place);
  }

  /** A new right neighbour with the entries from `keep` on. */
  #split(node: number, keep: number, words: number): number {
    const right = this.#allocateNode(words);
    const moved = this.#word(node) - keep;
    const source = node + highPart + keep;
    for (let column = 0; column < words - highPart; column += fanOut)
      for (let i = 0; i < moved; i += 1)
        this.#words[right + highPart + column + i] = this.#word(source + column + i);
    this.#words[right + prefixPart] = this.#word(node + prefixPart);
    this.#words[right] = moved;
    this.#words[node] = keep;
    return right;
  }

  /**
   * Two neighbours of this level that were one, at the end of the path, lie closer between the keys
   * around them than it did: their prefixes may be longer. Its parents are still as they were.
   */
  #deepen(level: number, left: number, right: number): void {
    const separator = this.#keyAt(this.#word(right + placePart));
    const [lower, upper] = this.#boundsOf(level);
    if (lower !== 0) this.#setPrefix(left, sharedLength(this.#keyAt(lower), separator));
    if (upper !== 0) this.#setPrefix(right, sharedLength(separator, this.#keyAt(upper)));
  }

  /** Records with the keys between which the node of this level in the path lies; 0: there is none. */
  #boundsOf(level: number): readonly [lower: number, upper: number] {
    let lower = 0;
    let upper = 0;
    for (let above = level - 1; above >= 0 && (lower === 0 || upper === 0); above -= 1) {
      const node = this.#pathNodes[above] as number;
      const index = this.#pathIndexes[above] as number;
      if (lower === 0 && index > 0) lower = this.#word(node + placePart + index);
      if (upper === 0 && index + 1 < this.#word(node))
        upper = this.#word(node + placePart + index + 1);
    }
    return [lower, upper];
  }

  #setPrefix(node: number, prefix: number): void {
    if (prefix < this.#word(node + prefixPart) + prefixStepBytes) return;
    this.#words[node + prefixPart] = prefix;
    const count = this.#word(node);
    for (let index = 0; index < count; index += 1)
      this.#writeColumns(node, index, this.#word(node + placePart + index));
  }

  /** Those of the key of the record at `place`, behind the prefix of the node. */
  #writeColumns(node: number, index: number, place: number): void {
    const words = this.#words;
    const bytes = this.#bytes;
    const keyAt = place + recordHeaderBytes;
    const at = keyAt + this.#word(node + prefixPart);
    const end = keyAt + this.#keyLengthAt(place);
    words[node + highPart + index] = columnOf(bytes, at, end);
    words[node + middlePart + index] = columnOf(bytes, at + 4, end);
    words[node + lowPart + index] = columnOf(bytes, at + 8, end);
  }

  /** Makes room at `index` and writes the probe's columns there. */
  #insertEntry(node: number, index: number, place: number): void {
    const words = this.#words;
    const count = this.#word(node);
    this.#enter(node);
    this.#shift(node + highPart, index, count);
    this.#shift(node + middlePart, index, count);
    this.#shift(node + lowPart, index, count);
    this.#shift(node + placePart, index, count);
    words[node + highPart + index] = this.#high;
    words[node + middlePart + index] = this.#middle;
    words[node + lowPart + index] = this.#low;
    words[node + placePart + index] = place;
    words[node] = count + 1;
  }

  #shift(column: number, index: number, count: number): void {
    const words = this.#words;
    for (let i = column + count; i > column + index; i -= 1) words[i] = words[i - 1] as number;
  }

  /** Makes `newChild`, the right neighbour of the leaf at the end of the path, reachable. */
  #addChild(newChild: number): void {
    let child = newChild;
    let separator = child;
    const isLast = this.#word(newChild + nextPart) === 0;
    for (let level = this.#word(heightWord) - 2; level >= 0; level -= 1) {
      const node = this.#pathNodes[level] as number;
      const index = (this.#pathIndexes[level] as number) + 1;
      if (this.#word(node) < fanOut) {
        this.#insertChild(node, index, separator, child);
        return;
      }
      const keep = isLast ? fanOut : fanOut >> 1;
      const right = this.#split(node, keep, innerWords);
      if (isLast || index > keep) this.#insertChild(right, index - keep, separator, child);
      else this.#insertChild(node, index, separator, child);
      this.#deepen(level, node, right);
      child = right;
      separator = right;
    }
    this.#growRoot(separator, child);
  }

  #growRoot(separator: number, child: number): void {
    const root = this.#allocateNode(innerWords);
    this.#insertChild(root, 0, separator, this.#word(rootWord));
    this.#insertChild(root, 1, separator, child);
    this.#words[rootWord] = root;
    const height = this.#word(heightWord) + 1;
    assert(height <= heightMax, 'the tree is too high');
    this.#words[heightWord] = height;
  }

  /** Its lower bound is entry 0 of the node `separator`. */
  #insertChild(node: number, index: number, separator: number, child: number): void {
    const words = this.#words;
    const count = this.#word(node);
    for (let column = highPart; column < innerWords; column += fanOut)
      this.#shift(node + column, index, count);
    const place = this.#word(separator + placePart);
    this.#writeColumns(node, index, place);
    words[node + placePart + index] = place;
    words[node + childPart + index] = child;
    words[node] = count + 1;
  }
}

/** Four bytes of a key as a signed word that orders as they do; zeros beyond its end. */
function columnOf(bytes: Uint8Array, at: number, end: number): number {
  if (at + 4 <= end)
    return (
      (((bytes[at] as number) << 24) |
        ((bytes[at + 1] as number) << 16) |
        ((bytes[at + 2] as number) << 8) |
        (bytes[at + 3] as number)) ^
      signBit
    );
  let word = 0;
  for (let i = at; i < at + 4; i += 1) word = (word << 8) | (i < end ? (bytes[i] as number) : 0);
  return word ^ signBit;
}

/** Records in key order; undefined after the last. */
export interface ArenaCursor {
  readonly next: () => Uint8Array | undefined;
}
