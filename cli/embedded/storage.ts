// The storage engine as a library, `kvd/storage`: an ordered map of bytes in one directory, with the
// same log, memtables, tables and recovery as a node (docs/embedded.md). No server, no cluster.
//
// Reads take their turns on the calling thread at once, since memory and the page cache answer in
// microseconds; writes wait for the log. Stamps come from the clock of this process, always above
// every stored one, so the last call wins.

import { resolve } from 'node:path';
import { nextHlc } from '../../actors/model/hlc.ts';
import {
  encodeRecord,
  isLive,
  recordKey,
  recordUserKey,
  recordValue,
  valueTypes,
} from '../../actors/model/record.ts';
import { hashKey } from '../../actors/model/token.ts';
import { openIdentity } from '../../actors/node/identity.ts';
import { memoryBytesMin, splitMemory } from '../../actors/node/memory-budget.ts';
import { arenaCount } from '../../actors/node/plan.ts';
import { arenaBytes } from '../../actors/node/sizes.ts';
import {
  type Durability,
  durabilities,
  type Tunables,
  tunablesFrom,
} from '../../actors/node/settings.ts';
import {
  Memtable,
  ownRecordBytesMax,
  Store,
  type StoreStats,
} from '../../actors/storage/protocol.ts';
import { type Outcome, refTo } from '../../runtime/actor.ts';
import { justAfter, noBytes } from '../../runtime/bytes.ts';
import { assert, errorOf, type Failure, failure, KvError } from '../../runtime/errors.ts';
import { type CodecModules, createCodecs } from '../../runtime/block-codecs.ts';
import { fingerprint32Text } from '../../runtime/hash.ts';
import { type DirectoryLock, lockDirectory } from '../../runtime/host/directory-lock.ts';
import { loadCodecModules } from '../../runtime/host/codec-modules.ts';
import { createNodeDisk } from '../../runtime/host/node-disk.ts';
import { createNodeLog, type LogLevel } from '../../runtime/host/node-log.ts';
import { clearProcessor, keepProcessor, shareProcessor } from '../../runtime/host/own-processor.ts';
import { cpuPriorities, type CpuPriority } from '../../runtime/host/priority.ts';
import {
  createThreadMesh,
  doorbellsOf,
  startThreads,
  type ThreadHandle,
  type ThreadPart,
} from '../../runtime/host/threads.ts';
import type { Log } from '../../runtime/environment.ts';
import type { Kernel } from '../../runtime/kernel.ts';
import { createRing } from '../../transport/thread-link.ts';
import type { BackgroundData } from './background-thread.ts';
import { BytePool } from '../../runtime/byte-pool.ts';
import { spareArenas } from './spare-memory.ts';
import {
  type Bytes,
  bytesOf,
  checkedKey,
  type IterateOptions,
  type KeyRange,
  rangeOf,
} from './storage-keys.ts';
import {
  callingThread,
  createStorageThread,
  type StorageSeed,
  storagePlacement,
  type StorageThread,
  workerThread,
} from './storage-thread.ts';
import {
  type Entry,
  openSnapshot,
  removeOldSnapshots,
  snapshotDirectory,
  type StorageSnapshot,
} from './storage-snapshot.ts';
import { RecordChunks } from './record-chunks.ts';
import { WriteQueue } from './write-queue.ts';
import { type Compression, compressions } from '../../actors/model/table-choices.ts';

export type { Bytes, IterateOptions } from './storage-keys.ts';
export type { Entry, StorageSnapshot } from './storage-snapshot.ts';

export interface StorageOptions {
  /** Made where it does not exist; one process at a time may have it open. */
  readonly directory: string;
  /**
   * When a write is acknowledged: `group` (default) after an fdatasync that covers it, `periodic`
   * when it is in the page cache, synced every second or 4 MiB, `none` the same, synced only where a
   * log file is full.
   */
  readonly durability?: Durability;
  /** How tables are packed: `auto` (default: LZ4, Zstd where they are rarely written again), `none`, `lz4`, `zstd`. */
  readonly compression?: Compression;
  /**
   * Of the thread that flushes and merges: `low` (default) is nice 19; `idle` gives way at once to
   * whoever wants its processor, and stands still where others want all of them (Linux, by `chrt`).
   */
  readonly backgroundPriority?: CpuPriority;
  /**
   * As long as it is open the calling thread stays on the processor where it is, and every other
   * thread of the process leaves that one (Linux, by `taskset`); for one thread of a process at a
   * time. Threads and processes that it begins meanwhile begin there. Default false.
   */
  readonly ownProcessor?: boolean;
  /** Memory for memtables, records and blocks together, bytes, at least 32 MiB. Default: by the settings. */
  readonly memoryBytes?: number;
  /** Single settings by name (docs/configuration.md); they win over `memoryBytes`. */
  readonly settings?: Partial<Tunables>;
  /** What is written to the standard error. Default `warn`. */
  readonly logLevel?: LogLevel;
}

export type Operation =
  | { readonly type: 'put'; readonly key: Bytes; readonly value: Bytes }
  | { readonly type: 'del'; readonly key: Bytes };

export type StorageStats = Omit<StoreStats, 'newestHlc'>;

/** An open directory. Errors are KvErrors with a code of docs/errors.md. */
export interface Storage {
  /** A copy of the value; undefined where there is none. */
  readonly get: (key: Bytes) => Promise<Uint8Array | undefined>;
  /** The same within the call: memory or a few disk reads, no waiting. */
  readonly getSync: (key: Bytes) => Uint8Array | undefined;
  /** Key: 1 to 1,024 bytes; value: up to the setting `valueBytesMax`. Ends as `durability` says. */
  readonly put: (key: Bytes, value: Bytes) => Promise<void>;
  /** No error where there is no such key. */
  readonly delete: (key: Bytes) => Promise<void>;
  /**
   * All operations or none, also after a crash; of two for one key the later counts. TOO_LARGE
   * above the setting `inFlightBytes`, where an operation counts about 150 bytes beside its own.
   */
  readonly batch: (operations: readonly Operation[]) => Promise<void>;
  /**
   * Entries by key bytes. Ascending there is no snapshot: each page of up to 1,024 is as of its
   * reading. With `reverse` it is one, which ends with the iteration.
   */
  readonly iterate: (options?: IterateOptions) => AsyncIterableIterator<Entry>;
  /**
   * This moment, for reads that do not see what is written later: everything that was acknowledged,
   * and batches as a whole. It flushes, and keeps table files until it is closed.
   */
  readonly snapshot: () => Promise<StorageSnapshot>;
  /** Writes what is in memory to a table file; ends when it is durable. */
  readonly flush: () => Promise<void>;
  readonly stats: () => Promise<StorageStats>;
  /** Finishes writes, flushes, and lets the directory go. Later calls are refused: DRAINING. */
  readonly close: () => Promise<void>;
}

const name = 'embedded';
const ringBytes = 1024 * 1024;
const startTimeoutMs = 600_000;
const stopTimeoutMs = 10_000;
const pageRecords = 1_024;
const pageBytes = 1024 * 1024;
const pageSlack = 32;
/** One read in so many lets the event loop go on: a loop of awaited reads must not stop it. */
const readsPerLoop = 64;
/** While writes are under way: they need turns of the loop to get on. */
const readsPerLoopWriting = 16;

/**
 * Opens a directory, recovers it, and starts its background thread. Errors: CONFLICT where it is in
 * use, DATA_REFUSED where it is a cluster node's, CORRUPT where acknowledged data is damaged,
 * BAD_REQUEST for an option.
 */
export async function openStorage(options: StorageOptions): Promise<Storage> {
  const { durability = 'group', compression = 'auto', logLevel = 'warn' } = options;
  const { backgroundPriority = 'low', ownProcessor = false } = options;
  checkOneOf(durabilities, durability, 'durability');
  checkOneOf(compressions, compression, 'compression');
  checkOneOf(cpuPriorities, backgroundPriority, 'backgroundPriority');
  if (typeof (ownProcessor as unknown) !== 'boolean')
    throw refusal('ownProcessor', 'expected true or false');
  const tunables = tunablesFrom({ ...fromMemory(options.memoryBytes), ...options.settings });
  const directory = resolve(checkedPath(options.directory));
  const lock = await lockDirectory(directory);
  const storage = new OpenStorage(lock, tunables, logLevel);
  try {
    const incarnation = await identify(directory);
    const own = { durability, compression, tunables };
    const settings = { node: name, clusterName: name, incarnation, ...own };
    await storage.start({ settings, directory, backgroundPriority });
    if (ownProcessor) storage.keepProcessor();
    return storage;
  } catch (error) {
    await storage.abandon();
    throw error;
  }
}

const refusal = (field: string, expected: string): KvError =>
  new KvError('BAD_REQUEST', { field, detail: `${field}: ${expected}` });

function checkOneOf(allowed: readonly string[], value: string, field: string): void {
  if (!allowed.includes(value)) throw refusal(field, `expected one of ${allowed.join(', ')}`);
}

const rejection = (error: unknown): Promise<never> =>
  Promise.reject(error instanceof Error ? error : new Error(String(error)));

function checkedPath(directory: unknown): string {
  if (typeof directory === 'string' && directory !== '') return directory;
  throw refusal('directory', 'expected a path');
}

function fromMemory(memoryBytes: number | undefined): Partial<Tunables> {
  if (memoryBytes === undefined) return {};
  if (!Number.isInteger(memoryBytes) || memoryBytes < memoryBytesMin)
    throw refusal('memoryBytes', `expected a whole number from ${memoryBytesMin}`);
  return splitMemory(memoryBytes, 1);
}

/** Marks the directory as an embedded store's; the incarnation of this opening. */
async function identify(directory: string): Promise<number> {
  const identity = {
    clusterName: name,
    node: name,
    members: [name],
    replicationFactor: 1,
    virtualNodes: 1,
    shards: 1,
  };
  const opened = await openIdentity(createNodeDisk(directory), identity, Date.now() / 1000);
  return opened.incarnation;
}

/** What the options say of a seed. */
type ChosenSeed = Pick<StorageSeed, 'settings' | 'directory' | 'backgroundPriority'>;

class OpenStorage implements Storage {
  readonly #lock: DirectoryLock;
  readonly #tunables: Tunables;
  readonly #logLevel: LogLevel;
  readonly #log: Log;
  readonly #store = refTo(Store, name);
  readonly #writer = fingerprint32Text(name);
  readonly #pool = new BytePool();
  readonly #chunks = new RecordChunks((answered) => this.#askMemtable(answered));
  #incarnation = 0;
  #lastHlc = 0;
  #own: StorageThread | undefined;
  #background: ThreadHandle | undefined;
  #writes: WriteQueue | undefined;
  /** The operations of a batch are being read. */
  #isEncoding = false;
  /** Why nothing works any more, or not yet. */
  #closed: Failure | undefined = failure('DRAINING', { detail: 'the store is not open yet' });
  #closing: Promise<void> | undefined;
  #reads = 0;
  #directory = '';
  #arenas: readonly SharedArrayBuffer[] = [];
  #snapshotsTaken = 0;
  #hasProcessor = false;
  readonly #snapshots = new Set<StorageSnapshot>();

  constructor(lock: DirectoryLock, tunables: Tunables, logLevel: LogLevel) {
    this.#lock = lock;
    this.#tunables = tunables;
    this.#logLevel = logLevel;
    this.#log = createNodeLog({ node: name, thread: 'storage', level: logLevel, to: 2 });
  }

  // ---- life --------------------------------------------------------------------------------

  async start(chosen: ChosenSeed): Promise<void> {
    const { settings, directory } = chosen;
    this.#directory = directory;
    removeOldSnapshots(createNodeDisk(directory));
    const { tunables } = settings;
    const sizes = Array.from({ length: arenaCount(tunables, 1) }, () => arenaBytes(tunables));
    this.#arenas = sizes.map((bytes) => spareArenas.take(bytes));
    const seeds = seedsOf(chosen, this.#arenas);
    const fatal = (reason: string): void => this.#fail(reason);
    const [background] = startThreads({
      threads: storagePlacement.threads,
      entry: new URL('./background-thread.js', import.meta.url),
      nameOf: storagePlacement.nameOf,
      dataFor: (thread) =>
        ({ seed: seeds(thread), logLevel: this.#logLevel }) satisfies BackgroundData,
      transferFor: (thread) => doorbellsOf(seeds(thread).part),
      onFatal: fatal,
    });
    this.#background = background;
    // Another storage of this thread may keep the processor: the new thread leaves it.
    clearProcessor();
    const own = createStorageThread(callingThread, seeds(callingThread), this.#log, fatal);
    this.#own = own;
    // Background first: recovery flushes through it.
    await background?.start(startTimeoutMs);
    await own.start();
    const { inFlightBytes, mailboxMessages } = this.#tunables;
    const limits = { bytes: inFlightBytes / 2, writes: Math.ceil(mailboxMessages / 2) };
    this.#writes = new WriteQueue(own.kernel, this.#store, limits, this.#chunks);
    this.#incarnation = settings.incarnation;
    this.#lastHlc = (await this.#stats(own.kernel)).newestHlc;
    this.#closed = undefined;
  }

  /** When its threads have begun. */
  keepProcessor(): void {
    this.#hasProcessor = keepProcessor();
    if (!this.#hasProcessor) this.#log.warn('storage.processor-not-kept');
  }

  readonly close = (): Promise<void> => {
    this.#closing ??= this.#close();
    return this.#closing;
  };

  async #close(): Promise<void> {
    if (this.#closed === undefined) {
      this.#closed = failure('DRAINING', { detail: 'the store is closed' });
      for (const snapshot of this.#snapshots) await snapshot.close();
      await this.#writes?.settled();
      await this.#own?.kernel.drain();
    }
    await this.abandon();
  }

  /** Lets everything go as it is: what was acknowledged is in the log. */
  async abandon(): Promise<void> {
    try {
      await this.#own?.stop(this.#closed);
      await this.#background?.stop(stopTimeoutMs).catch(() => undefined);
      for (const arena of this.#arenas) spareArenas.giveBack(arena);
      this.#arenas = [];
    } finally {
      if (this.#hasProcessor) shareProcessor();
      this.#hasProcessor = false;
      await this.#lock.release();
    }
  }

  /** The engine stopped itself: nobody is left waiting, and nothing is taken any more. */
  #fail(reason: string): void {
    const code = /disk|sync/i.test(reason) ? 'DISK_FAILED' : 'BUG';
    this.#closed = failure(code, { detail: `the store had to stop: ${reason}` });
    this.#own?.kernel.stop(this.#closed);
    this.#writes?.fail(this.#closed);
  }

  /** The kernel of a store that is open. */
  #kernel(): Kernel {
    const own = this.#own;
    if (this.#closed !== undefined || own === undefined)
      throw errorOf(this.#closed ?? failure('DRAINING'));
    return own.kernel;
  }

  // ---- writes ------------------------------------------------------------------------------

  // A refusal is a rejection, as of every other failure: no call throws.

  readonly put = (key: Bytes, value: Bytes): Promise<void> => {
    try {
      return this.#queue().write(this.#putRecord(key, value));
    } catch (error) {
      return rejection(error);
    }
  };

  readonly delete = (key: Bytes): Promise<void> => {
    try {
      return this.#queue().write(this.#record(key));
    } catch (error) {
      return rejection(error);
    }
  };

  readonly batch = (operations: readonly Operation[]): Promise<void> => {
    try {
      const queue = this.#queue();
      const records = this.#recordsOf(operations);
      return records.length === 0 ? Promise.resolve() : queue.writeAll(records);
    } catch (error) {
      return rejection(error);
    }
  };

  #queue(): WriteQueue {
    this.#kernel();
    if (this.#isEncoding)
      throw refusal('operations', 'expected none that write when they are read');
    assert(this.#writes !== undefined, 'an open store has a queue of writes');
    return this.#writes;
  }

  /** In the lane of requests, which comes after that of inserts. */
  #askMemtable(answered: (isInserted: boolean) => void): void {
    const memtable = refTo(Memtable, name);
    const done = (problem: Failure | undefined): void => answered(problem === undefined);
    this.#own?.kernel.ask(memtable, 'stats', {}, Infinity, done);
  }

  /** Until the batch has claimed them, no other write may claim what its records are cut from. */
  #recordsOf(operations: readonly Operation[]): Uint8Array[] {
    this.#isEncoding = true;
    try {
      return operations.map((operation) => this.#recordOf(operation));
    } finally {
      this.#isEncoding = false;
    }
  }

  #recordOf(operation: Operation): Uint8Array {
    const { type, key } = operation;
    if (type === 'put') return this.#putRecord(key, operation.value);
    if ((type as unknown) === 'del') return this.#record(key);
    throw refusal('type', 'expected put or del');
  }

  #putRecord(key: Bytes, value: Bytes): Uint8Array {
    const bytes = bytesOf(value, 'value');
    const max = this.#tunables.valueBytesMax;
    if (bytes.length > max)
      throw new KvError('TOO_LARGE', { field: 'value', bytes: bytes.length, max });
    return this.#record(key, bytes);
  }

  /** Without a value it says that the key is deleted. */
  #record(key: Bytes, value?: Uint8Array): Uint8Array {
    const stored = checkedKey(key);
    const { token, hash } = hashKey(stored);
    this.#lastHlc = nextHlc(this.#lastHlc, Date.now() * 1000);
    const fields = {
      key: stored,
      value: value ?? noBytes,
      valueType: valueTypes.bytes,
      isTombstone: value === undefined,
      hlc: this.#lastHlc,
      writer: this.#writer,
      incarnation: this.#incarnation,
      version: 1,
      expiresAt: 0,
      token,
      hash,
    };
    return encodeRecord(fields, this.#chunks.take);
  }

  // ---- reads -------------------------------------------------------------------------------

  readonly get = async (key: Bytes): Promise<Uint8Array | undefined> => {
    const value = this.getSync(key);
    this.#reads += 1;
    const isWriting = this.#writes?.isIdle === false;
    if (this.#reads % (isWriting ? readsPerLoopWriting : readsPerLoop) === 0) await nextLoop();
    return value;
  };

  readonly getSync = (key: Bytes): Uint8Array | undefined => {
    const kernel = this.#kernel();
    const stored = checkedKey(key);
    const { hash } = hashKey(stored);
    const { record } = replyOf(kernel.askAhead(this.#store, 'read', { key: stored, hash }));
    if (record === undefined || !isLive(record, 0)) return undefined;
    return this.#given(recordValue(record), record);
  };

  /** A part of a record that was read, for the caller. */
  #given(part: Uint8Array, record: Uint8Array): Uint8Array {
    // A long one may lie in a block of the cache, which must not be changed, nor kept alive by it.
    return record.length <= ownRecordBytesMax ? part : this.#pool.copy(part);
  }

  readonly iterate = (options: IterateOptions = {}): AsyncIterableIterator<Entry> => {
    this.#kernel();
    const range = rangeOf(options);
    return range.isReverse ? this.#reversed(options) : this.#entries(range);
  };

  async *#reversed(options: IterateOptions): AsyncGenerator<Entry, void, undefined> {
    const snapshot = await this.snapshot();
    try {
      yield* snapshot.iterate(options);
    } finally {
      await snapshot.close();
    }
  }

  async *#entries(range: KeyRange): AsyncGenerator<Entry, void, undefined> {
    const { to } = range;
    let { from, limit: left } = range;
    while (left > 0) {
      // Some more than asked for: deleted keys may stand among them.
      const limit = Math.min(left + pageSlack, pageRecords);
      const request = { from, to, limit, bytes: pageBytes };
      const page = replyOf(this.#kernel().askNow(this.#store, 'range', request));
      const last = page.records[page.records.length - 1];
      // Before the records are the caller's, who may change them.
      if (last !== undefined) from = justAfter(recordKey(last));
      for (const record of page.records) {
        if (!isLive(record, 0)) continue;
        if (left === 0) return;
        yield [
          this.#given(recordUserKey(record), record),
          this.#given(recordValue(record), record),
        ];
        left -= 1;
      }
      if (page.isDone || last === undefined) return;
      await nextLoop();
    }
  }

  // ---- the rest ----------------------------------------------------------------------------

  readonly snapshot = async (): Promise<StorageSnapshot> => {
    this.#snapshotsTaken += 1;
    const number = this.#snapshotsTaken;
    const disk = createNodeDisk(this.#directory);
    await this.#writes?.settled();
    // The first may end with a flush that was under way, which has not all that was acknowledged.
    await this.flush();
    await this.flush();
    await disk.makeDirectory(snapshotDirectory);
    const prefix = `${snapshotDirectory}/${number}-`;
    const edit = await this.#linkTables(prefix);
    const snapshot = openSnapshot({
      disk,
      codecs: createCodecs(codecModules()),
      prefix,
      edit,
      onClose: (closed) => this.#snapshots.delete(closed),
    });
    this.#snapshots.add(snapshot);
    return snapshot;
  };

  #linkTables(prefix: string): Promise<Uint8Array> {
    const kernel = this.#kernel();
    return new Promise((done, reject) => {
      kernel.ask(this.#store, 'linkTables', { prefix }, Infinity, (problem, reply) => {
        if (reply === undefined) reject(errorOf(problem ?? failure('BUG')));
        else done(reply.edit);
      });
    });
  }

  readonly flush = async (): Promise<void> => {
    const kernel = this.#kernel();
    await new Promise<void>((done, reject) => {
      kernel.ask(this.#store, 'flush', {}, Infinity, (problem) => {
        if (problem === undefined) done();
        else reject(errorOf(problem));
      });
    });
  };

  readonly stats = async (): Promise<StorageStats> => {
    const { records, memtableBytes, walBytes, ...stored } = await this.#stats(this.#kernel());
    const { tables, tableBytes, tableIndexBytes } = stored;
    return { records, memtableBytes, tables, tableBytes, tableIndexBytes, walBytes };
  };

  #stats(kernel: Kernel): Promise<StoreStats> {
    return new Promise((done, reject) => {
      kernel.ask(this.#store, 'stats', {}, Infinity, (problem, stats) => {
        if (stats === undefined) reject(errorOf(problem ?? failure('BUG')));
        else done(stats);
      });
    });
  }
}

/** What each of the two threads is built from. */
function seedsOf(
  chosen: ChosenSeed,
  arenas: readonly SharedArrayBuffer[],
): (thread: number) => StorageSeed {
  const parts = createThreadMesh(workerThread + 1, ringBytes, createRing);
  return (thread) => ({
    ...chosen,
    codecModules: codecModules(),
    arenas,
    part: parts[thread] as ThreadPart,
  });
}

/** Reads end within their turns: an answer that is not there means that the store has stopped. */
function replyOf<Reply>(outcome: Outcome<Reply> | undefined): Reply {
  if (outcome?.reply !== undefined) return outcome.reply;
  throw errorOf(outcome?.problem ?? failure('BUG', { detail: 'the store gave no answer' }));
}

let loadedModules: CodecModules | undefined;
/** Compiled once per process. */
const codecModules = (): CodecModules => (loadedModules ??= loadCodecModules());

const nextLoop = (): Promise<void> =>
  new Promise((done) => {
    setImmediate(done);
  });
