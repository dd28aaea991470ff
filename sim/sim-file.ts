// The content of one simulated file: what the page cache shows, and what a power loss may leave
// of it (rules 2.2, "unsynced data"; after FoundationDB's AsyncFileNonDurable).
//
// Writes go to the cache. Between two syncs lies a layer; it keeps the old content of each 512-byte
// sector that was written meanwhile. A sync closes the layer and, when it ends, forgets it: what
// was written before its start is durable. A power loss picks for every sector of the layers that
// are left between old, new, an in-between state, and torn. Bytes that did not change since the
// last sync are never hurt: only unsynced data is at risk. Behind the end of a file all bytes are 0.

import type { Prng } from '../runtime/prng.ts';

export const sectorBytes = 512;
/** Never written to. */
const zeroSector = new Uint8Array(sectorBytes);

interface Layer {
  readonly id: number;
  /** Size of the file when the layer began. */
  readonly sizeBytes: number;
  /** Content of each touched sector before its first write in this layer. */
  readonly before: Map<number, Uint8Array>;
}

/** `drop`: a sector is old or new. `torn`: it may also be cut, zeroed or filled with garbage. */
export type PowerLossMode = 'drop' | 'torn';

export class SimFile {
  #bytes = new Uint8Array(sectorBytes * 8);
  #size = 0;
  /** Up to here the file takes space: what was written, not what it was merely extended to. */
  #allocated = 0;
  #durableSize = 0;
  #layers: Layer[] = [];
  #nextLayer = 1;
  /** Sectors whose write the device refused: the cache shows them, the disk never had them. */
  readonly #refused = new Map<number, Uint8Array>();

  constructor() {
    this.#openLayer();
  }

  get size(): number {
    return this.#size;
  }

  /** Space that the file takes, bytes: less than its size where it was extended with zeros. */
  get allocatedBytes(): number {
    return Math.min(this.#allocated, this.#size);
  }

  /** There is something that a power loss could take. */
  get hasUnsynced(): boolean {
    return (
      this.#size !== this.#durableSize ||
      this.#refused.size > 0 ||
      this.#layers.some(({ before }) => before.size > 0)
    );
  }

  write(bytes: Uint8Array, position: number): void {
    const end = position + bytes.length;
    this.#reserve(end);
    // A hole between the old end and the position reads as zeros.
    this.#keep(Math.min(position, this.#size), end);
    this.#bytes.set(bytes, position);
    this.#size = Math.max(this.#size, end);
    this.#allocated = Math.max(this.allocatedBytes, end);
  }

  read(target: Uint8Array, position: number): number {
    const count = Math.max(0, Math.min(target.length, this.#size - position));
    target.set(this.#bytes.subarray(position, position + count));
    return count;
  }

  copy(): Uint8Array {
    return this.#bytes.slice(0, this.#size);
  }

  truncate(size: number): void {
    this.#reserve(size);
    // Beyond the end there are zeros already: growing changes no sector.
    if (size < this.#size) {
      this.#keep(size, this.#size);
      this.#bytes.fill(0, size, this.#size);
      this.#allocated = Math.min(this.#allocated, size);
    }
    this.#size = size;
  }

  /** A sync starts; the mark is for its end. */
  beginSync(): number {
    const mark = this.#nextLayer - 1;
    this.#openLayer();
    return mark;
  }

  /**
   * The device damages one sector of what a sync is about to make durable. `lost`: it keeps its old
   * content. `misdirected`: another sector gets the new content, too.
   */
  damageUnsynced(random: Prng, mark: number, kind: 'lost' | 'misdirected'): void {
    const written = this.#oldest(mark);
    const sectors = [...written.keys()].sort((a, b) => a - b);
    if (sectors.length === 0) return;
    const sector = random.pick(sectors);
    const content = this.#sector(sector).slice();
    this.#putSector(sector, written.get(sector) as Uint8Array);
    if (kind === 'lost') return;
    const count = Math.ceil(this.#size / sectorBytes);
    this.#putSector(random.int(Math.max(1, count)), content);
    this.#bytes.fill(0, this.#size);
  }

  /** Sectors whose content is durable and complete, in order. */
  syncedSectors(): number[] {
    const unsynced = this.#oldest();
    const count = Math.floor(Math.min(this.#size, this.#durableSize) / sectorBytes);
    const sectors: number[] = [];
    for (let at = 0; at < count; at += 1)
      if (!unsynced.has(at) && !this.#refused.has(at)) sectors.push(at);
    return sectors;
  }

  /** Flips one bit for good; the sector must be one of `syncedSectors`. */
  flipBit(sector: number, random: Prng): void {
    const at = sector * sectorBytes + random.int(sectorBytes);
    this.#bytes[at] = (this.#bytes[at] ?? 0) ^ (1 << random.int(8));
  }

  /** It went well: all that was written before its start is durable. */
  endSync(mark: number): void {
    const rest = this.#layers.filter(({ id }) => id > mark);
    const next = rest[0];
    // A later sync that ended first has covered this one.
    if (rest.length === this.#layers.length || next === undefined) return;
    this.#durableSize = next.sizeBytes;
    this.#layers = rest;
  }

  /**
   * It failed: the pages count as clean now, though the device has none of them (rule FS-6). The
   * cache shows the new content, or with `keepNew` false the old one again.
   */
  failSync(keepNew: boolean): void {
    const oldest = this.#oldest();
    if (!keepNew) {
      for (const [sector, before] of oldest) this.#putSector(sector, before);
      this.#size = this.#durableSize;
    } else for (const [sector, before] of oldest) this.#refused.set(sector, before);
    this.#layers = [];
    this.#openLayer();
  }

  /** Power is gone: what is on the platter becomes the content. */
  losePower(random: Prng, mode: PowerLossMode): void {
    const touched = random.chance(0.1) ? new Map<number, Uint8Array>() : this.#oldest();
    const isAllDurable = touched.size === 0 && this.#size === this.#durableSize;
    const size = isAllDurable ? this.#size : this.#sizeAfterLoss(random);
    for (const sector of [...touched.keys()].sort((a, b) => a - b)) {
      const before = touched.get(sector) as Uint8Array;
      const after = this.#sector(sector);
      this.#putSector(sector, sectorAfterLoss({ before, after, random, mode }));
    }
    for (const [sector, before] of this.#refused) this.#putSector(sector, before);
    this.#refused.clear();
    this.#reserve(size);
    this.#bytes.fill(0, size);
    this.#size = size;
    this.#durableSize = size;
    this.#layers = [];
    this.#openLayer();
  }

  #sizeAfterLoss(random: Prng): number {
    if (random.chance(0.4)) return this.#size;
    if (random.chance(0.5)) return this.#durableSize;
    const low = Math.min(this.#size, this.#durableSize);
    return random.between(low, Math.max(this.#size, this.#durableSize));
  }

  #openLayer(): void {
    this.#layers.push({ id: this.#nextLayer, sizeBytes: this.#size, before: new Map() });
    this.#nextLayer += 1;
  }

  /** The durable content of every sector that changed since, up to the layer `last`. */
  #oldest(last = Infinity): Map<number, Uint8Array> {
    const oldest = new Map<number, Uint8Array>();
    for (const { before } of this.#layers.filter(({ id }) => id <= last))
      for (const [sector, bytes] of before) if (!oldest.has(sector)) oldest.set(sector, bytes);
    return oldest;
  }

  /** Remembers the sectors from `from` to below `to` before they change. */
  #keep(from: number, to: number): void {
    const { before } = this.#layers[this.#layers.length - 1] as Layer;
    for (let at = Math.floor(from / sectorBytes); at * sectorBytes < to; at += 1) {
      if (before.has(at)) continue;
      const isBeyondEnd = at * sectorBytes >= this.#size;
      const old = isBeyondEnd ? zeroSector : this.#sector(at).slice();
      before.set(at, this.#refused.get(at) ?? old);
      this.#refused.delete(at);
    }
  }

  #sector(index: number): Uint8Array {
    this.#reserve((index + 1) * sectorBytes);
    return this.#bytes.subarray(index * sectorBytes, (index + 1) * sectorBytes);
  }

  #putSector(index: number, bytes: Uint8Array): void {
    this.#reserve((index + 1) * sectorBytes);
    this.#bytes.set(bytes, index * sectorBytes);
  }

  #reserve(size: number): void {
    if (size <= this.#bytes.length) return;
    let capacity = this.#bytes.length * 2;
    while (capacity < size) capacity *= 2;
    const grown = new Uint8Array(capacity);
    grown.set(this.#bytes);
    this.#bytes = grown;
  }
}

interface SectorLoss {
  readonly before: Uint8Array;
  readonly after: Uint8Array;
  readonly random: Prng;
  readonly mode: PowerLossMode;
}

function sectorAfterLoss({ before, after, random, mode }: SectorLoss): Uint8Array {
  const fate = random.float();
  if (fate < 0.4) return before;
  if (fate < 0.8 || mode === 'drop') return after.slice();
  const first = before.findIndex((byte, i) => byte !== after[i]);
  if (first < 0) return before;
  let end = sectorBytes;
  while (before[end - 1] === after[end - 1]) end -= 1;
  const torn = after.slice();
  const cut = random.between(first, end - 1);
  const kind = random.int(4);
  if (kind === 0) torn.set(before.subarray(cut, end), cut);
  else if (kind === 1) torn.set(before.subarray(first, cut), first);
  else if (kind === 2) torn.fill(0, first, end);
  else for (let i = first; i < end; i += 1) torn[i] = random.int(256);
  return torn;
}
