// The engines that storage-bench compares, behind one interface: each used as its documentation
// says, with the same memory (64 MiB of write buffer, 64 MiB of cache) and the same durability. A
// package that cannot be loaded is an error that the bench reports as such.

import { createRequire } from 'node:module';
import { openStorage } from '../../cli/embedded/storage.ts';

export interface Pair {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** An open database. */
export interface Engine {
  readonly put: (key: Uint8Array, value: Uint8Array) => Promise<unknown>;
  /** One atomic batch. */
  readonly batch: (pairs: readonly Pair[]) => Promise<unknown>;
  readonly get: (key: Uint8Array) => Promise<Uint8Array | undefined>;
  /** Looks at every entry; how many there are. */
  readonly scan: () => Promise<number>;
  readonly close: () => Promise<unknown>;
}

/** `sync`: a write ends when it is durable. */
export type OpenEngine = (directory: string, sync: boolean) => Promise<Engine>;

const memoryBytes = 64 * 1024 * 1024;
const scanChunk = 1_000;

async function openKvd(directory: string, sync: boolean): Promise<Engine> {
  const storage = await openStorage({
    directory,
    durability: sync ? 'group' : 'none',
    // As docs/embedded.md advises where pauses count.
    backgroundPriority: 'idle',
    ownProcessor: true,
    settings: { memtableBytes: memoryBytes, blockCacheBytes: memoryBytes },
  });
  const { put, get, close } = storage;
  return {
    put,
    get,
    close,
    batch: (pairs) => storage.batch(pairs.map(({ key, value }) => ({ type: 'put', key, value }))),
    scan: async () => {
      let entries = 0;
      for await (const [key, value] of storage.iterate())
        if (key.length > 0 && value.length > 0) entries += 1;
      return entries;
    },
  };
}

async function openLevel(directory: string, sync: boolean): Promise<Engine> {
  const { ClassicLevel } = await import('classic-level');
  const encodings = { keyEncoding: 'view', valueEncoding: 'view' } as const;
  const db = new ClassicLevel<Uint8Array, Uint8Array>(directory, encodings);
  await db.open({ cacheSize: memoryBytes, writeBufferSize: memoryBytes });
  const options = { sync };
  return {
    put: (key, value) => db.put(key, value, options),
    get: (key) => db.get(key),
    close: () => db.close(),
    batch: (pairs) =>
      db.batch(
        pairs.map(({ key, value }) => ({ type: 'put', key, value })),
        options,
      ),
    scan: async () => {
      const iterator = db.iterator();
      let entries = 0;
      for (;;) {
        const chunk = await iterator.nextv(scanChunk);
        if (chunk.length === 0) break;
        entries += chunk.filter(([key, value]) => key.length > 0 && value.length > 0).length;
      }
      await iterator.close();
      return entries;
    },
  };
}

async function openLmdb(directory: string, sync: boolean): Promise<Engine> {
  const { open } = await import('lmdb');
  const db = open<Buffer, Buffer>({
    path: directory,
    encoding: 'binary',
    keyEncoding: 'binary',
    noSync: !sync,
  });
  const asBuffer = ({ buffer, byteOffset, length }: Uint8Array): Buffer =>
    Buffer.from(buffer, byteOffset, length);
  return {
    put: (key, value) => db.put(asBuffer(key), asBuffer(value)),
    get: (key) => Promise.resolve(db.get(asBuffer(key))),
    close: () => db.close(),
    batch: (pairs) =>
      db.transaction(() => {
        for (const { key, value } of pairs) void db.put(asBuffer(key), asBuffer(value));
      }),
    scan: () => {
      let entries = 0;
      for (const { key, value } of db.getRange())
        if (key.length > 0 && value.length > 0) entries += 1;
      return Promise.resolve(entries);
    },
  };
}

/** The interface of `rocksdb`, which has no types of its own. */
interface RocksDb {
  readonly open: (options: object, done: Done) => void;
  readonly put: (key: Buffer, value: Buffer, options: object, done: Done) => void;
  readonly get: (key: Buffer, done: (error: Error | null, value: Buffer) => void) => void;
  readonly batch: (operations: readonly object[], options: object, done: Done) => void;
  readonly close: (done: Done) => void;
  readonly iterator: () => {
    readonly next: (done: (error: Error | null, key?: Buffer, value?: Buffer) => void) => void;
    readonly end: (done: Done) => void;
  };
}
type Done = (error?: Error | null) => void;

/** Not among the packages of this project: `npm install --no-save rocksdb` puts it beside them. */
async function openRocks(directory: string, sync: boolean): Promise<Engine> {
  const open = createRequire(import.meta.url)('rocksdb') as (path: string) => RocksDb;
  const db = open(directory);
  const run = (work: (done: Done) => void): Promise<void> =>
    new Promise((resolve, reject) => {
      work((error) => (error instanceof Error ? reject(error) : resolve()));
    });
  const memory = { cacheSize: memoryBytes, writeBufferSize: memoryBytes };
  await run((done) => db.open({ createIfMissing: true, ...memory }, done));
  const asBuffer = ({ buffer, byteOffset, length }: Uint8Array): Buffer =>
    Buffer.from(buffer, byteOffset, length);
  const options = { sync };
  return {
    put: (key, value) => run((done) => db.put(asBuffer(key), asBuffer(value), options, done)),
    get: (key) =>
      new Promise((resolve) => {
        db.get(asBuffer(key), (error, value) => resolve(error === null ? value : undefined));
      }),
    close: () => run((done) => db.close(done)),
    batch: (pairs) =>
      run((done) =>
        db.batch(
          pairs.map(({ key, value }) => ({
            type: 'put',
            key: asBuffer(key),
            value: asBuffer(value),
          })),
          options,
          done,
        ),
      ),
    scan: async () => {
      const iterator = db.iterator();
      const next = (): Promise<boolean> =>
        new Promise((resolve, reject) => {
          iterator.next((error, key, value) => {
            if (error instanceof Error) reject(error);
            else resolve(key !== undefined && value !== undefined);
          });
        });
      let entries = 0;
      while (await next()) entries += 1;
      await run((done) => iterator.end(done));
      return entries;
    },
  };
}

export const engines: Readonly<Record<string, OpenEngine>> = {
  kvd: openKvd,
  'classic-level': openLevel,
  lmdb: openLmdb,
  rocksdb: openRocks,
};
