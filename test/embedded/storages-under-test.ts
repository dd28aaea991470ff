// Storages of one directory for the tests of a `describe`: a new directory for each test, and what was
// opened there is closed after it.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { openStorage, type Storage, type StorageOptions } from '../../cli/embedded/storage.ts';

export interface StoragesUnderTest {
  /** Of the test that runs. */
  readonly directory: string;
  readonly opened: (options?: Partial<StorageOptions>) => Promise<Storage>;
}

/** To be called in the `describe`. */
export function storagesUnderTest(): StoragesUnderTest {
  let directory = '';
  const open: Storage[] = [];

  beforeEach(() => {
    directory = fs.mkdtempSync(path.join(os.tmpdir(), 'kvd-embedded-'));
  });

  afterEach(async () => {
    for (const storage of open.splice(0)) await storage.close();
    fs.rmSync(directory, { recursive: true, force: true });
  });

  return {
    get directory() {
      return directory;
    },
    opened: async (options = {}) => {
      const storage = await openStorage({ directory, logLevel: 'error', ...options });
      open.push(storage);
      return storage;
    },
  };
}
