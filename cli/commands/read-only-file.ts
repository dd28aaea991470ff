// A plain file behind the interface that the readers of the storage formats take. It is opened for
// reading only and can do nothing else, so the offline tools cannot change what they look at, also
// while a node works in the same directory.

import fs from 'node:fs';
import type { DiskFile } from '../../runtime/environment.ts';
import { BugError, CorruptionError } from '../../runtime/errors.ts';

export class ReadOnlyFile implements DiskFile {
  readonly path: string;
  readonly #fd: number;
  readonly #size: number;
  #isClosed = false;

  /** Throws Node's own error where the file cannot be opened. */
  constructor(path: string) {
    this.path = path;
    this.#fd = fs.openSync(path, 'r');
    this.#size = fs.fstatSync(this.#fd).size;
  }

  /** As it was when the file was opened. */
  readonly size = (): number => this.#size;

  readonly read = (target: Uint8Array, position: number): number => {
    let filled = 0;
    while (filled < target.length) {
      const count = this.#readSome(target, filled, position);
      if (count === 0) break;
      filled += count;
    }
    return filled;
  };

  readonly write = (): never => this.#refuse();
  readonly sync = (): never => this.#refuse();
  readonly truncate = (): never => this.#refuse();

  readonly close = (): void => {
    if (!this.#isClosed) fs.closeSync(this.#fd);
    this.#isClosed = true;
  };

  #readSome(target: Uint8Array, filled: number, position: number): number {
    try {
      return fs.readSync(this.#fd, target, filled, target.length - filled, position + filled);
    } catch (error) {
      // One unreadable block says nothing of the others (FS-7).
      if ((error as NodeJS.ErrnoException).code !== 'EIO') throw error;
      throw new CorruptionError(this.path, position + filled, 'the device cannot read it (EIO)');
    }
  }

  #refuse(): never {
    throw new BugError(`${this.path} is open for reading only`);
  }
}
