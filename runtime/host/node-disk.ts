// The real disk under one directory. Reads and writes are synchronous calls, because the page
// cache answers in a few microseconds; only waiting for the device (fdatasync) goes through the
// thread pool.
//
// Invariants: nothing outside of the directory is touched; a file that failed to write or sync is
// poisoned for good, since the kernel may have dropped its dirty pages (rule FS-6; Rebello et al.,
// "Can Applications Recover from fsync Failures?", 2020); files are for their owner only (SE-22).

import fs from 'node:fs';
import path from 'node:path';
import type { Disk, DiskFile, OpenMode } from '../environment.ts';
import { assert, CorruptionError, KvError } from '../errors.ts';

const fileMode = 0o600;
const directoryMode = 0o700;
/** Removed files that may wait for their close. */
const closingMax = 16;
const flags = { create: 'wx+', read: 'r', modify: 'r+' } as const satisfies Record<
  OpenMode,
  string
>;

/** `root` is made, with its parents, where it does not exist yet. */
export function createNodeDisk(root: string): Disk {
  const top = path.resolve(root);
  fs.mkdirSync(top, { recursive: true, mode: directoryMode });
  return new NodeDisk(top);
}

class NodeDisk implements Disk {
  readonly #root: string;
  /** The last replace of each path: two of one path run one after the other (rule FS-5). */
  readonly #replacing = new Map<string, Promise<void>>();
  /** Removed files whose space is still to be given back; the first one's is. */
  readonly #closing: number[] = [];

  constructor(root: string) {
    this.#root = root;
  }

  readonly open = (name: string, mode: OpenMode): DiskFile => {
    const full = this.#resolve(name);
    return told(name, () => new NodeFile(name, fs.openSync(full, flags[mode], fileMode)));
  };

  readonly read = (name: string): Uint8Array | undefined => {
    const full = this.#resolve(name);
    return ifThere(name, () => {
      const bytes = fs.readFileSync(full);
      return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    });
  };

  readonly replace = async (name: string, bytes: Uint8Array): Promise<void> => {
    const before = this.#replacing.get(name) ?? Promise.resolve();
    const copy = bytes.slice();
    const turn = before.catch(() => undefined).then(() => this.#replace(name, copy));
    this.#replacing.set(name, turn);
    try {
      await turn;
    } finally {
      if (this.#replacing.get(name) === turn) this.#replacing.delete(name);
    }
  };

  readonly list = (name: string): readonly string[] => {
    const full = this.#resolve(name);
    return ifThere(name, () => fs.readdirSync(full).sort()) ?? [];
  };

  readonly makeDirectory = async (name: string): Promise<void> => {
    let made = '';
    for (const part of segments(name)) {
      const full = this.#resolve(path.posix.join(made, part));
      told(name, () => {
        if (!fs.existsSync(full)) fs.mkdirSync(full, directoryMode);
      });
      // Also where it existed: who made it may have ended before its sync.
      await this.syncDirectory(made);
      made = path.posix.join(made, part);
    }
  };

  readonly syncDirectory = async (name: string): Promise<void> => {
    const full = this.#resolve(name);
    const fd = told(name, () => fs.openSync(full, 'r'));
    try {
      await new Promise<void>((resolve, reject) => {
        fs.fsync(fd, (error) => (error === null ? resolve() : reject(diskError(error, name))));
      });
    } finally {
      fs.closeSync(fd);
    }
  };

  readonly rename = (from: string, to: string): void => {
    const source = this.#resolve(from);
    const target = this.#resolve(to);
    told(from, () => fs.renameSync(source, target));
  };

  readonly link = (from: string, to: string): void => {
    const source = this.#resolve(from);
    const target = this.#resolve(to);
    told(to, () => fs.linkSync(source, target));
  };

  /**
   * The name is gone when this returns, the space of a large file soon after it: giving it back can
   * take tens of milliseconds, which the last close of the file pays, in the thread pool.
   */
  readonly remove = (name: string): void => {
    const full = this.#resolve(name);
    // Not for any number of files: descriptors are few, and the rest waits here instead.
    const fd = this.#closing.length < closingMax ? openOrNot(full) : undefined;
    try {
      ifThere(name, () => fs.unlinkSync(full));
    } finally {
      if (fd !== undefined) this.#closeLater(fd);
    }
  };

  /** One at a time for each disk: the syncs of logs need the pool, too. */
  #closeLater(fd: number): void {
    this.#closing.push(fd);
    if (this.#closing.length === 1) this.#closeNext();
  }

  #closeNext(): void {
    const fd = this.#closing[0];
    if (fd === undefined) return;
    fs.close(fd, () => {
      this.#closing.shift();
      this.#closeNext();
    });
  }

  readonly exists = (name: string): boolean => fs.existsSync(this.#resolve(name));

  readonly freeBytes = (): number => {
    const { bavail, bsize } = told('', () => fs.statfsSync(this.#root));
    return bavail * bsize;
  };

  async #replace(name: string, bytes: Uint8Array): Promise<void> {
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
      file.close();
      fs.rmSync(this.#resolve(temporary), { force: true });
      throw error;
    }
    await this.syncDirectory(path.posix.dirname(name));
  }

  #resolve(name: string): string {
    return path.join(this.#root, ...segments(name));
  }
}

class NodeFile implements DiskFile {
  readonly path: string;
  readonly #fd: number;
  #size: number;
  #isClosed = false;
  #syncs = 0;
  /** A file that was cut needs fsync, where one that only grew needs fdatasync (rule FS-1). */
  #isCut = false;
  #poison: KvError | undefined;

  constructor(name: string, fd: number) {
    this.path = name;
    this.#fd = fd;
    this.#size = fs.fstatSync(fd).size;
  }

  readonly size = (): number => this.#size;

  readonly write = (bytes: Uint8Array, position: number): void => {
    this.#checkUsable();
    try {
      let written = 0;
      while (written < bytes.length) {
        const left = bytes.length - written;
        written += fs.writeSync(this.#fd, bytes, written, left, position + written);
      }
    } catch (error) {
      throw this.#failed(error);
    }
    this.#size = Math.max(this.#size, position + bytes.length);
  };

  readonly read = (target: Uint8Array, position: number): number => {
    assert(!this.#isClosed, `${this.path} is used after it was closed`);
    try {
      let filled = 0;
      while (filled < target.length) {
        const left = target.length - filled;
        const count = fs.readSync(this.#fd, target, filled, left, position + filled);
        if (count === 0) break;
        filled += count;
      }
      return filled;
    } catch (error) {
      // An unreadable block is a rotten block, not a dead disk (rule FS-7).
      if (codeOf(error) === 'EIO')
        throw new CorruptionError(this.path, position, 'the device cannot read it (EIO)');
      throw diskError(error, this.path);
    }
  };

  readonly sync = (done: (error?: Error) => void): void => {
    this.#checkUsable();
    this.#syncs += 1;
    const ended = (error: NodeJS.ErrnoException | null): void => {
      this.#syncs -= 1;
      if (this.#isClosed && this.#syncs === 0) fs.closeSync(this.#fd);
      if (error === null) done();
      else done(this.#failed(error));
    };
    if (this.#isCut) {
      this.#isCut = false;
      fs.fsync(this.#fd, ended);
    } else fs.fdatasync(this.#fd, ended);
  };

  readonly truncate = (size: number): void => {
    this.#checkUsable();
    this.#isCut = true;
    try {
      fs.ftruncateSync(this.#fd, size);
    } catch (error) {
      throw this.#failed(error);
    }
    this.#size = size;
  };

  /** Its number is given back when the last sync has ended: a new file must not get that sync. */
  readonly close = (): void => {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#syncs === 0) fs.closeSync(this.#fd);
  };

  #checkUsable(): void {
    assert(!this.#isClosed, `${this.path} is used after it was closed`);
    if (this.#poison !== undefined) throw this.#poison;
  }

  /** A full disk may get room again; every other failure is for good. */
  #failed(error: unknown): KvError {
    const problem = diskError(error, this.path);
    if (problem.code === 'DISK_FAILED') this.#poison = problem;
    return problem;
  }
}

/** Undefined where it is no file that can be opened, whatever the reason. */
function openOrNot(full: string): number | undefined {
  const { O_RDONLY, O_NONBLOCK, O_NOFOLLOW } = fs.constants;
  try {
    // A pipe that somebody put there must not be waited for.
    return fs.openSync(full, O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
  } catch {
    return undefined;
  }
}

/** The parts of a path below the root. Paths come from this program, so a bad one is a defect. */
function segments(name: string): string[] {
  const parts = name === '' || name === '.' ? [] : name.split('/');
  for (const part of parts)
    assert(
      part !== '' && part !== '.' && part !== '..' && !part.includes('\0'),
      `the path ${JSON.stringify(name)} does not stay below the data directory`,
    );
  return parts;
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? 'unknown';
}

function diskError(error: unknown, name: string): KvError {
  const cause = codeOf(error);
  if (cause === 'ENOSPC' || cause === 'EDQUOT') return new KvError('DISK_FULL', { file: name });
  if (cause === 'ENOENT') return new KvError('NOT_FOUND', { file: name });
  if (cause === 'EEXIST') return new KvError('CONFLICT', { file: name });
  return new KvError('DISK_FAILED', { file: name, cause });
}

function told<T>(name: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw diskError(error, name);
  }
}

/** Undefined where there is nothing under this name. */
function ifThere<T>(name: string, work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw diskError(error, name);
  }
}
