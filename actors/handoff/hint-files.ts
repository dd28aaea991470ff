// The hints for one node on disk: a list of files, of which the last one may be open and grow. They
// are read from the first on, one whole file at a time, and a file goes when all of its hints have
// been acknowledged by the node that they are for (HH-6). A crash before that sends some of them
// again, which changes nothing: a record is applied at most once.
//
// Files are small, so that reading one is one turn, and little is sent twice.

import { noBytes } from '../../runtime/bytes.ts';
import { CorruptionError, KvError } from '../../runtime/errors.ts';
import type { Disk, DiskFile } from '../../runtime/environment.ts';
import { decodeHints, encodeHint, type Hint } from './hint-format.ts';

/** An open file of this size is closed. */
const fileBytesMax = 1024 * 1024;
const pattern = /^([A-Za-z0-9_-]+)\.(\d{10})\.hints$/;

/** So many hints, and their bytes. */
export interface HintSize {
  hints: number;
  bytes: number;
}

interface HintFile extends HintSize {
  readonly path: string;
  oldestMs: number;
}

/** The file that grows. */
export interface OpenHintFile {
  readonly file: DiskFile;
  /** Its directory was synced since it was created. */
  isNamed: boolean;
  isSyncing: boolean;
}

/** Node and number of a file of hints; undefined for any other name. */
export function parseHintFile(name: string): { node: string; number: number } | undefined {
  const match = pattern.exec(name);
  if (match?.[1] === undefined) return undefined;
  return { node: match[1], number: Number(match[2]) };
}

export class HintFiles {
  readonly node: string;
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #total: HintSize;
  readonly #size: HintSize = { hints: 0, bytes: 0 };
  #files: HintFile[] = [];
  #open: (OpenHintFile & { readonly info: HintFile }) | undefined;
  #nextNumber = 1;
  /** Frames found at the start that could not be read. */
  damaged = 0;

  /** `total`: of the hints for all nodes; what is here is counted there too. */
  constructor(disk: Disk, directory: string, node: string, total: HintSize) {
    this.#disk = disk;
    this.#directory = directory;
    this.node = node;
    this.#total = total;
  }

  get hints(): number {
    return this.#size.hints;
  }

  get bytes(): number {
    return this.#size.bytes;
  }

  get isEmpty(): boolean {
    return this.#files.length === 0;
  }

  /** Milliseconds since 1970; 0: there is none. */
  get oldestMs(): number {
    return this.#files[0]?.oldestMs ?? 0;
  }

  /** A file of an earlier run; in the order of their numbers. */
  found(number: number): void {
    this.#nextNumber = number + 1;
    const path = this.#path(number);
    const { hints, damaged } = this.#read(path);
    this.damaged += damaged;
    const [first] = hints;
    if (first === undefined) return this.#disk.remove(path);
    const bytes = hints.reduce((sum, { record }) => sum + record.length, 0);
    this.#files.push({ path, hints: hints.length, bytes, oldestMs: first.createdMs });
    this.#count(hints.length, bytes);
  }

  /**
   * Writes a hint; the file that it is in, where it is durable after a sync of that file. DISK_FULL,
   * DISK_FAILED: nothing has changed.
   */
  append(hint: Hint): OpenHintFile {
    const frame = encodeHint(hint);
    if (this.#open !== undefined && this.#open.info.bytes >= fileBytesMax) this.close();
    const open = (this.#open ??= this.#create(hint.createdMs));
    const { info, file } = open;
    try {
      file.write(frame, info.bytes);
    } catch (error) {
      // What this write left behind would hide what comes after it.
      this.close();
      throw error;
    }
    info.hints += 1;
    info.bytes += frame.length;
    this.#count(1, frame.length);
    return open;
  }

  /** The open file, which stays open until `endSync`; undefined where there is none. */
  beginSync(): OpenHintFile | undefined {
    if (this.#open !== undefined) this.#open.isSyncing = true;
    return this.#open;
  }

  /** After a failed sync the next hint goes to another file: what is in this one may be lost. */
  endSync(synced: OpenHintFile, hasFailed: boolean): void {
    synced.isSyncing = false;
    if (this.#open !== synced) synced.file.close();
    else if (hasFailed) this.close();
    else synced.isNamed = true;
  }

  /** The next hint goes to a new file. */
  close(): void {
    if (this.#open?.isSyncing === false) this.#open.file.close();
    this.#open = undefined;
    // A file whose only write failed holds nothing.
    for (const { path } of this.#files.filter(({ hints }) => hints === 0)) this.#disk.remove(path);
    this.#files = this.#files.filter(({ hints }) => hints > 0);
  }

  /** The hints of the first file; `removeFirst` when they are done. */
  readFirst(): readonly Hint[] {
    const [first] = this.#files;
    if (first === undefined) return [];
    if (this.#open?.info === first) this.close();
    return this.#read(first.path).hints;
  }

  removeFirst(): void {
    const first = this.#files.shift();
    if (first === undefined) return;
    this.#count(-first.hints, -first.bytes);
    this.#disk.remove(first.path);
  }

  #count(hints: number, bytes: number): void {
    for (const size of [this.#size, this.#total]) {
      size.hints += hints;
      size.bytes += bytes;
    }
  }

  /** A file that the disk cannot give back is one damaged frame. */
  #read(path: string): ReturnType<typeof decodeHints> {
    try {
      return decodeHints(this.#disk.read(path) ?? noBytes);
    } catch (error) {
      if (error instanceof KvError || error instanceof CorruptionError)
        return { hints: [], damaged: 1 };
      throw error;
    }
  }

  #create(createdMs: number): OpenHintFile & { readonly info: HintFile } {
    const path = this.#path(this.#nextNumber);
    this.#nextNumber += 1;
    const file = this.#disk.open(path, 'create');
    const info: HintFile = { path, hints: 0, bytes: 0, oldestMs: createdMs };
    this.#files.push(info);
    return { info, file, isNamed: false, isSyncing: false };
  }

  #path(number: number): string {
    return `${this.#directory}/${this.node}.${String(number).padStart(10, '0')}.hints`;
  }
}
