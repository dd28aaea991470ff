// A simulated disk: the same interface as the real one, with a crash model (rules 2.2, FS-*).
//
// SimStorage is the platter and the page cache of one machine and outlives its processes. File
// contents are durable after a sync (sim-file.ts), directory entries only after a sync of their
// directory: a created, renamed or removed name that was not synced may come out either way after
// a power loss, each by itself. When only the process dies, everything that it issued stays.
//
// SimDisk is the handle of one process; its calls end with the process (process.ts).

import { crc32 } from '../runtime/bytes.ts';
import type { Disk, DiskFile, OpenMode } from '../runtime/environment.ts';
import { assert, CorruptionError, KvError } from '../runtime/errors.ts';
import type { Prng } from '../runtime/prng.ts';
import { SimCrash, type SimProcess } from './process.ts';
import { type PowerLossMode, SimFile } from './sim-file.ts';
import { textHash } from './trace.ts';

type EntryChange =
  | { readonly kind: 'link'; readonly name: string; readonly file: SimFile }
  | { readonly kind: 'unlink'; readonly name: string }
  | {
      readonly kind: 'rename';
      readonly from: string;
      readonly name: string;
      readonly file: SimFile;
    };

export interface DiskFaults {
  /** Mean latency of a sync, milliseconds. */
  syncMs: number;
  /** Chance that a sync or a write fails with EIO, 0 to 1. */
  errorRatio: number;
  /** Chance that a block of a table cannot be read, 0 to 1. */
  readErrorRatio: number;
  /** The next sync takes this much longer, milliseconds. */
  stuckMs: number;
  /** Syncs answer and do nothing. */
  isLying: boolean;
  /** What the next sync of a file does to one of its sectors. */
  nextSync: 'lost-write' | 'misdirected-write' | undefined;
  /** Bytes that all files may hold together. */
  capacityBytes: number;
}

const noFaults: DiskFaults = {
  syncMs: 1,
  errorRatio: 0,
  readErrorRatio: 0,
  stuckMs: 0,
  isLying: false,
  nextSync: undefined,
  capacityBytes: Infinity,
};

/** Which files rot strikes: tables, or what the node needs to start. */
export type DamageFile = 'table' | 'log';
const isTable = (name: string): boolean => name.endsWith('.sst');

export class SimStorage {
  readonly faults: DiskFaults = { ...noFaults };
  readonly random: Prng;
  /** Its own stream: what is damaged does not move what is drawn for others. */
  readonly #damage: Prng;
  #entries = new Map<string, SimFile>();
  readonly #durable = new Map<string, SimFile>();
  readonly #changes = new Map<string, EntryChange[]>();
  readonly #directories = new Set<string>(['']);
  readonly #durableDirectories = new Set<string>(['']);

  constructor(random: Prng) {
    this.random = random;
    this.#damage = random.fork('damage');
  }

  get usedBytes(): number {
    let used = 0;
    // A file with two names is there once.
    for (const file of new Set(this.#entries.values())) used += file.allocatedBytes;
    return used;
  }

  endFaults(): void {
    Object.assign(this.faults, noFaults);
  }

  /** Everything is gone, as on a new disk. The machine must be off. */
  wipe(): void {
    this.#entries.clear();
    this.#durable.clear();
    this.#changes.clear();
    for (const directories of [this.#directories, this.#durableDirectories]) {
      directories.clear();
      directories.add('');
    }
  }

  /**
   * Flips a bit of one synced sector in each of `count` equal parts of all sectors of this kind of
   * file; `place`, 0 to 1, says where in its part.
   */
  rot(kind: DamageFile, place: number, count = 1): void {
    const names = [...this.#entries.keys()].filter((name) => isTable(name) === (kind === 'table'));
    const sectors = names.sort().flatMap((name) => {
      const file = this.#entries.get(name) as SimFile;
      return file.syncedSectors().map((sector) => ({ file, sector }));
    });
    for (let part = 0; part < count; part += 1) {
      const chosen = sectors[Math.floor(((part + place) / count) * sectors.length)];
      chosen?.file.flipBit(chosen.sector, this.#damage);
    }
  }

  /** A sync of `file` ends well, or seems to. */
  endSync(file: SimFile, mark: number): void {
    const { faults } = this;
    if (faults.isLying) return;
    const { nextSync } = faults;
    faults.nextSync = undefined;
    if (nextSync !== undefined)
      file.damageUnsynced(this.#damage, mark, nextSync === 'lost-write' ? 'lost' : 'misdirected');
    file.endSync(mark);
  }

  /** True: this read of a table fails. */
  drawReadError(name: string): boolean {
    const { readErrorRatio } = this.faults;
    return readErrorRatio > 0 && isTable(name) && this.#damage.chance(readErrorRatio);
  }

  /** How long a sync that starts now takes, milliseconds. */
  drawSyncMs(): number {
    const { faults } = this;
    const stuckMs = faults.stuckMs;
    faults.stuckMs = 0;
    return stuckMs + this.random.exponential(faults.syncMs);
  }

  /** Power is gone: unsynced contents and names are kept or lost, each by itself. */
  losePower(): void {
    const { random } = this;
    const mode: PowerLossMode = random.chance(0.5) ? 'drop' : 'torn';
    this.#loseNames();
    this.#entries = new Map(this.#durable);
    const files = new Set<SimFile>();
    for (const name of [...this.#entries.keys()].sort()) {
      const file = this.#entries.get(name);
      if (file === undefined || files.has(file)) continue;
      files.add(file);
      file.losePower(random, mode);
    }
  }

  #loseNames(): void {
    const { random } = this;
    for (const directory of [...this.#changes.keys()].sort()) {
      const isWhole = random.chance(0.1);
      for (const change of this.#changes.get(directory) ?? [])
        if (isWhole || random.chance(0.5)) apply(this.#durable, change);
    }
    this.#changes.clear();
    for (const directory of [...this.#directories])
      if (!this.#durableDirectories.has(directory)) this.#directories.delete(directory);
    for (const name of [...this.#durable.keys()])
      if (!this.#directories.has(parentOf(name))) this.#durable.delete(name);
  }

  find(name: string): SimFile | undefined {
    return this.#entries.get(name);
  }

  create(name: string): SimFile {
    const file = new SimFile();
    this.#change(parentOf(name), { kind: 'link', name, file });
    return file;
  }

  link(name: string, file: SimFile): void {
    this.#change(parentOf(name), { kind: 'link', name, file });
  }

  remove(name: string): void {
    if (this.#entries.has(name)) this.#change(parentOf(name), { kind: 'unlink', name });
  }

  rename(from: string, name: string, file: SimFile): void {
    const directory = parentOf(name);
    if (parentOf(from) === directory) {
      this.#change(directory, { kind: 'rename', from, name, file });
      return;
    }
    this.#change(directory, { kind: 'link', name, file });
    this.#change(parentOf(from), { kind: 'unlink', name: from });
  }

  hasDirectory(name: string): boolean {
    return this.#directories.has(name);
  }

  addDirectory(name: string): void {
    this.#directories.add(name);
  }

  list(directory: string): string[] {
    const names: string[] = [];
    for (const name of this.#entries.keys()) if (parentOf(name) === directory) names.push(name);
    for (const name of this.#directories)
      if (name !== '' && parentOf(name) === directory) names.push(name);
    return names.map((name) => name.slice(name.lastIndexOf('/') + 1)).sort();
  }

  /** Starts a sync of a directory; the result ends it: all changes from before are durable. */
  beginDirectorySync(directory: string): () => void {
    const covered = [...(this.#changes.get(directory) ?? [])];
    const children = [...this.#directories].filter((name) => parentOf(name) === directory);
    return () => {
      const left = this.#changes.get(directory) ?? [];
      for (const change of covered) {
        const at = left.indexOf(change);
        if (at < 0) continue;
        left.splice(at, 1);
        apply(this.#durable, change);
      }
      for (const name of children) this.#durableDirectories.add(name);
    };
  }

  #change(directory: string, change: EntryChange): void {
    apply(this.#entries, change);
    const changes = this.#changes.get(directory);
    if (changes === undefined) this.#changes.set(directory, [change]);
    else changes.push(change);
  }
}

function apply(entries: Map<string, SimFile>, change: EntryChange): void {
  if (change.kind === 'unlink') {
    entries.delete(change.name);
    return;
  }
  if (change.kind === 'rename' && entries.get(change.from) === change.file)
    entries.delete(change.from);
  entries.set(change.name, change.file);
}

function parentOf(name: string): string {
  const slash = name.lastIndexOf('/');
  return slash < 0 ? '' : name.slice(0, slash);
}

export class SimDisk implements Disk {
  readonly #storage: SimStorage;
  readonly #process: SimProcess;
  readonly #random: Prng;

  constructor(storage: SimStorage, process: SimProcess) {
    this.#storage = storage;
    this.#process = process;
    this.#random = storage.random;
  }

  readonly open = (name: string, mode: OpenMode): DiskFile => {
    const path = this.#enter('disk.open', name);
    let file = this.#storage.find(path);
    if (mode === 'create') {
      if (file !== undefined) throw new KvError('CONFLICT', { file: name });
      if (!this.#storage.hasDirectory(parentOf(path)))
        throw new KvError('NOT_FOUND', { file: name });
      file = this.#storage.create(path);
    }
    if (file === undefined) throw new KvError('NOT_FOUND', { file: name });
    return new SimHandle(name, file, this.#process, this.#storage);
  };

  readonly read = (name: string): Uint8Array | undefined => {
    const path = this.#enter('disk.read', name);
    return this.#storage.find(path)?.copy();
  };

  /** Two replaces of one path run one after the other, as on the real disk. */
  readonly #replacing = new Map<string, Promise<void>>();

  readonly replace = (name: string, bytes: Uint8Array): Promise<void> => {
    const copy = bytes.slice();
    const before = this.#replacing.get(name) ?? Promise.resolve();
    const turn = before.catch(() => undefined).then(() => this.#replace(name, copy));
    this.#replacing.set(name, turn);
    return turn;
  };

  readonly list = (name: string): readonly string[] =>
    this.#storage.list(this.#enter('disk.list', name));

  readonly makeDirectory = (name: string): Promise<void> =>
    this.#unlessEnded(async () => {
      const path = normal(name);
      const parts = path === '' ? [] : path.split('/');
      for (let i = 0; i < parts.length; i += 1) {
        this.#enter('disk.mkdir', name);
        this.#storage.addDirectory(parts.slice(0, i + 1).join('/'));
        await this.syncDirectory(parts.slice(0, i).join('/'));
      }
    });

  readonly syncDirectory = (name: string): Promise<void> =>
    this.#unlessEnded(
      () =>
        new Promise((resolve, reject) => {
          const path = this.#enter('disk.sync-directory', name);
          if (!this.#storage.hasDirectory(path)) throw new KvError('NOT_FOUND', { file: name });
          const end = this.#storage.beginDirectorySync(path);
          this.#process.after(this.#storage.drawSyncMs(), 'disk.directory-synced', () => {
            if (this.#random.chance(this.#storage.faults.errorRatio)) {
              reject(deviceError(name));
              return;
            }
            if (!this.#storage.faults.isLying) end();
            if (this.#process.arrive()) resolve();
          });
        }),
    );

  readonly rename = (from: string, to: string): void => {
    const source = this.#enter('disk.rename', from);
    const file = this.#storage.find(source);
    if (file === undefined) throw new KvError('NOT_FOUND', { file: from });
    this.#storage.rename(source, normal(to), file);
  };

  readonly link = (from: string, to: string): void => {
    const file = this.#storage.find(this.#enter('disk.link', from));
    const target = normal(to);
    if (file === undefined) throw new KvError('NOT_FOUND', { file: from });
    if (this.#storage.find(target) !== undefined) throw new KvError('CONFLICT', { file: to });
    if (!this.#storage.hasDirectory(parentOf(target))) throw new KvError('NOT_FOUND', { file: to });
    this.#storage.link(target, file);
  };

  readonly remove = (name: string): void => {
    this.#storage.remove(this.#enter('disk.remove', name));
  };

  readonly exists = (name: string): boolean => {
    const path = this.#enter('disk.exists', name);
    return this.#storage.find(path) !== undefined || this.#storage.hasDirectory(path);
  };

  readonly freeBytes = (): number => {
    this.#process.enter();
    const { faults, usedBytes } = this.#storage;
    return Math.max(0, Math.min(faults.capacityBytes, 2 ** 50) - usedBytes);
  };

  async #replace(name: string, bytes: Uint8Array): Promise<void> {
    await this.#unlessEnded(async () => {
      const temporary = `${name}.tmp`;
      this.remove(temporary);
      const file = this.open(temporary, 'create');
      try {
        file.write(bytes, 0);
        await new Promise<void>((resolve, reject) => {
          file.sync((error) => (error === undefined ? resolve() : reject(error)));
        });
        file.close();
        this.rename(temporary, name);
      } catch (error) {
        if (!(error instanceof SimCrash)) this.remove(temporary);
        throw error;
      }
      await this.syncDirectory(parentOf(normal(name)));
    });
  }

  /** What a process waits for when it ends never comes. */
  async #unlessEnded(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (error instanceof SimCrash) await new Promise<never>(() => undefined);
      throw error;
    }
  }

  #enter(kind: string, name: string): string {
    this.#process.enter();
    const { world, name: node } = this.#process;
    world.trace.record(world.nowMicros, node, kind, textHash(name));
    return normal(name);
  }
}

function normal(name: string): string {
  const parts = name === '' || name === '.' ? [] : name.split('/');
  for (const part of parts)
    assert(
      part !== '' && part !== '.' && part !== '..' && !part.includes('\0'),
      `the path ${JSON.stringify(name)} does not stay below the data directory`,
    );
  return parts.join('/');
}

function deviceError(name: string): KvError {
  return new KvError('DISK_FAILED', { file: name, cause: 'EIO' });
}

class SimHandle implements DiskFile {
  readonly path: string;
  readonly #file: SimFile;
  readonly #process: SimProcess;
  readonly #storage: SimStorage;
  #isClosed = false;
  #poison: KvError | undefined;

  constructor(path: string, file: SimFile, process: SimProcess, storage: SimStorage) {
    this.path = path;
    this.#file = file;
    this.#process = process;
    this.#storage = storage;
  }

  readonly size = (): number => this.#file.size;

  readonly write = (bytes: Uint8Array, position: number): void => {
    this.#enter('disk.write', crc32(bytes, position >>> 0));
    const { capacityBytes, errorRatio } = this.#storage.faults;
    if (errorRatio > 0 && this.#storage.random.chance(errorRatio)) {
      this.#poison = deviceError(this.path);
      throw this.#poison;
    }
    if (capacityBytes !== Infinity) {
      const growth = Math.max(0, position + bytes.length - this.#file.allocatedBytes);
      const room = Math.max(0, capacityBytes - this.#storage.usedBytes);
      if (growth > room) {
        // As measured on a full tmpfs: a part is written, then ENOSPC.
        this.#file.write(bytes.subarray(0, Math.max(0, bytes.length - growth + room)), position);
        throw new KvError('DISK_FULL', { file: this.path });
      }
    }
    this.#file.write(bytes, position);
  };

  readonly read = (target: Uint8Array, position: number): number => {
    this.#process.enter();
    assert(!this.#isClosed, `${this.path} is used after it was closed`);
    if (this.#storage.drawReadError(this.path))
      throw new CorruptionError(this.path, position, 'the device cannot read this block');
    return this.#file.read(target, position);
  };

  readonly sync = (done: (error?: Error) => void): void => {
    this.#enter('disk.sync', 0);
    const { faults, random } = this.#storage;
    const mark = this.#file.beginSync();
    this.#process.after(this.#storage.drawSyncMs(), 'disk.synced', () => {
      if (random.chance(faults.errorRatio)) {
        this.#poison = deviceError(this.path);
        this.#file.failSync(random.chance(0.5));
        done(this.#poison);
        return;
      }
      this.#storage.endSync(this.#file, mark);
      if (this.#process.arrive()) done();
    });
  };

  readonly truncate = (size: number): void => {
    this.#enter('disk.truncate', size >>> 0);
    this.#file.truncate(size);
  };

  readonly close = (): void => {
    this.#isClosed = true;
  };

  #enter(kind: string, payload: number): void {
    this.#process.enter();
    assert(!this.#isClosed, `${this.path} is used after it was closed`);
    if (this.#poison !== undefined) throw this.#poison;
    const { world, name } = this.#process;
    world.trace.record(world.nowMicros, name, kind, (payload ^ textHash(this.path)) >>> 0);
  }
}
