// A disk in memory for tests of pure storage modules: what is written is there, at once. Failures
// are asked for by `beforeWrite` and `beforeSync`; crashes belong to the simulator (sim/sim-disk.ts).

import type { Disk, DiskFile, OpenMode } from '../runtime/environment.ts';
import { KvError } from '../runtime/errors.ts';

interface Content {
  bytes: Uint8Array;
}

export class MemoryDisk implements Disk {
  readonly #files = new Map<string, Content>();
  /** May throw: nothing is written then. */
  beforeWrite: (path: string) => void = () => undefined;
  /** An error: what the sync ends with. */
  beforeSync: (path: string) => Error | undefined = () => undefined;

  readonly open = (path: string, mode: OpenMode): DiskFile => {
    const found = this.#files.get(path);
    if (mode === 'create') {
      if (found !== undefined) throw new KvError('CONFLICT', { file: path });
      const made = { bytes: new Uint8Array(0) };
      this.#files.set(path, made);
      return new MemoryFile(path, made, this);
    }
    if (found === undefined) throw new KvError('NOT_FOUND', { file: path });
    return new MemoryFile(path, found, this);
  };

  readonly read = (path: string): Uint8Array | undefined => this.#files.get(path)?.bytes.slice();

  /** What `replace` does, without a promise: tests make and damage files with it. */
  put(path: string, bytes: Uint8Array): void {
    this.#files.set(path, { bytes: bytes.slice() });
  }

  readonly replace = (path: string, bytes: Uint8Array): Promise<void> =>
    Promise.resolve().then(() => {
      this.beforeWrite(path);
      this.put(path, bytes);
    });

  /** Files and directories, as on a real disk; a directory is there when something is in it. */
  readonly list = (path: string): readonly string[] => {
    const prefix = path === '' ? '' : `${path}/`;
    const names = this.paths()
      .filter((name) => name.startsWith(prefix))
      .map((name) => name.slice(prefix.length).split('/', 1)[0] as string);
    return [...new Set(names)].sort();
  };

  /** All files, sorted. */
  paths(): string[] {
    return [...this.#files.keys()].sort();
  }

  /** Another disk with the same content. */
  copy(): MemoryDisk {
    const copy = new MemoryDisk();
    for (const [path, { bytes }] of this.#files) copy.put(path, bytes);
    return copy;
  }

  readonly makeDirectory = (): Promise<void> => Promise.resolve();
  readonly syncDirectory = (): Promise<void> => Promise.resolve();

  readonly rename = (from: string, to: string): void => {
    const found = this.#files.get(from);
    if (found === undefined) throw new KvError('NOT_FOUND', { file: from });
    this.#files.delete(from);
    this.#files.set(to, found);
  };

  readonly link = (from: string, to: string): void => {
    const found = this.#files.get(from);
    if (found === undefined) throw new KvError('NOT_FOUND', { file: from });
    if (this.#files.has(to)) throw new KvError('CONFLICT', { file: to });
    this.beforeWrite(to);
    this.#files.set(to, found);
  };

  readonly remove = (path: string): void => {
    this.#files.delete(path);
  };

  readonly exists = (path: string): boolean => this.#files.has(path);
  freeBytes = (): number => 2 ** 40;
}

class MemoryFile implements DiskFile {
  readonly path: string;
  readonly #content: Content;
  readonly #disk: MemoryDisk;

  constructor(path: string, content: Content, disk: MemoryDisk) {
    this.path = path;
    this.#content = content;
    this.#disk = disk;
  }

  readonly size = (): number => this.#content.bytes.length;

  readonly write = (bytes: Uint8Array, position: number): void => {
    this.#disk.beforeWrite(this.path);
    const end = position + bytes.length;
    if (end > this.size()) this.truncate(end);
    this.#content.bytes.set(bytes, position);
  };

  readonly read = (target: Uint8Array, position: number): number => {
    const part = this.#content.bytes.subarray(position, position + target.length);
    target.set(part);
    return part.length;
  };

  readonly sync = (done: (error?: Error) => void): void => {
    done(this.#disk.beforeSync(this.path));
  };

  readonly truncate = (size: number): void => {
    const resized = new Uint8Array(size);
    resized.set(this.#content.bytes.subarray(0, size));
    this.#content.bytes = resized;
  };

  readonly close = (): void => undefined;
}
