// All that a node sees of the world (rule SIM-1). The Node host (runtime/host) and the simulator
// (sim) each implement these interfaces; actors get them as capabilities of their context and
// have no other way out.

import type { TakeBytes } from './bytes.ts';
import type { MetricRegistry } from './metrics.ts';

export interface Clock {
  /** Milliseconds, fractional, never stepping; its zero means nothing. For intervals. */
  readonly monotonicMs: () => number;
  /** Microseconds since 1970, may step. For HLC and TTL only (rule HLC-8). */
  readonly wallMicros: () => number;
}

export interface TimerHandle {
  readonly cancel: () => void;
}

export interface Timers {
  /** Runs `fire` once, `delayMs` of monotonic time from now. */
  readonly after: (delayMs: number, fire: () => void) => TimerHandle;
  /** Runs `fire` after the current event and before the next one. */
  readonly soon: (fire: () => void) => void;
  /** Runs `fire` after events that are already waiting (sockets get their turn). */
  readonly later: (fire: () => void) => void;
}

export interface Random {
  /** From 0 to below 1. */
  readonly float: () => number;
  /** A whole number from 0 to below `bound`. */
  readonly int: (bound: number) => number;
  readonly bytes: (length: number) => Uint8Array;
}

export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

export interface Log {
  /** `event`: a dotted name, such as `wal.recovered`; the sentence is in its fields. */
  readonly debug: (event: string, fields?: LogFields) => void;
  readonly info: (event: string, fields?: LogFields) => void;
  readonly warn: (event: string, fields?: LogFields) => void;
  readonly error: (event: string, fields?: LogFields) => void;
}

/**
 * One open file. Reads and writes are synchronous: the page cache answers in microseconds where a
 * thread pool takes tens (docs/performance.md). Only `sync` waits for the device.
 *
 * Errors: DISK_FULL (nothing of this write counts; the caller cuts the file back), DISK_FAILED
 * (the file is poisoned: FS-6), CorruptionError for a block that cannot be read (FS-7). Use after
 * closing is a BugError; closing twice is not.
 */
export interface DiskFile {
  readonly path: string;
  /** Bytes, as far as this handle wrote or found at opening. */
  readonly size: () => number;
  /** Writes all of `bytes` at `position`; loops over short writes. */
  readonly write: (bytes: Uint8Array, position: number) => void;
  /** Fills `target` from `position`; the number of bytes read, short only at the end of file. */
  readonly read: (target: Uint8Array, position: number) => number;
  /** fdatasync: when `done` gets no error, all that was written before this call is durable. */
  readonly sync: (done: (error?: Error) => void) => void;
  /** Cuts or extends (with zeros) to `size` bytes. */
  readonly truncate: (size: number) => void;
  readonly close: () => void;
}

export type OpenMode =
  /** Must not exist (O_EXCL); for writing and reading. */
  | 'create'
  /** Must exist; for reading. */
  | 'read'
  /** Must exist; for writing and reading. */
  | 'modify';

/** Paths are relative to the node's data directory, with forward slashes; '' is the directory. */
export interface Disk {
  /** NOT_FOUND where the file (or for `create` its directory) is missing, CONFLICT where it exists. */
  readonly open: (path: string, mode: OpenMode) => DiskFile;
  /** The whole file; undefined where there is none. */
  readonly read: (path: string) => Uint8Array | undefined;
  /** Atomic and durable: `path.tmp`, fdatasync, rename, directory sync (rule FS-4). */
  readonly replace: (path: string, bytes: Uint8Array) => Promise<void>;
  /** Names in a directory, sorted; empty where there is none. */
  readonly list: (path: string) => readonly string[];
  /** With its parents; each durable (rule FS-3). */
  readonly makeDirectory: (path: string) => Promise<void>;
  readonly syncDirectory: (path: string) => Promise<void>;
  readonly rename: (from: string, to: string) => void;
  /**
   * A second name for the same file, durable when its directory is synced; the content lives until
   * its last name goes. NOT_FOUND without the file or the directory, CONFLICT where `to` exists,
   * DISK_FAILED where the file system has no hard links.
   */
  readonly link: (from: string, to: string) => void;
  /** No error where there is no such file. Its space may be free only some time later. */
  readonly remove: (path: string) => void;
  readonly exists: (path: string) => boolean;
  /** Bytes that may still be written. */
  readonly freeBytes: () => number;
}

/** Packs and unpacks blocks. Neither call may see bytes whose checksum was not verified first. */
export interface BlockCodec {
  /** A view of the compressed block, valid until the next call. */
  readonly compress: (bytes: Uint8Array) => Uint8Array;
  /**
   * Exactly `length` bytes, in an array of that length from `take`, or of their own. CORRUPT where
   * the block does not hold that many; nothing is taken then.
   */
  readonly decompress: (block: Uint8Array, length: number, take?: TakeBytes) => Uint8Array;
}

export type Lz4 = BlockCodec;

/** What blocks of tables may be packed with. */
export interface BlockCodecs {
  /** Fast. */
  readonly lz4: Lz4;
  /** Smaller, for what is seldom read or written again. */
  readonly zstd: BlockCodec;
}

/** Pure functions by name, run in a pool of threads; inline in the simulator. */
export interface Tasks {
  readonly run: <Input, Output>(name: string, input: Input) => Promise<Output>;
}

/** Marks for the simulator; free of effect outside of it (rules SIM-7, SIM-9). */
export interface Probe {
  /** This rare branch was reached. */
  readonly reach: (label: string) => void;
  /** True where the simulator wants the rare path taken here; false in production. */
  readonly buggify: (site: string) => boolean;
}

/** What a kernel needs from its host. */
export interface Host {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  readonly probe: Probe;
  readonly metrics: MetricRegistry;
  /** Ends the node: the last line of its log says why, the exit code is not zero. */
  readonly stopNode: (reason: string) => void;
  readonly capabilities: Capabilities;
}

/** What an actor may list in `needs`. */
export interface Capabilities {
  readonly disk: Disk;
  /** Where closed log segments are kept; another directory, better on another device. */
  readonly archive?: Disk | undefined;
  readonly codecs: BlockCodecs;
  readonly tasks: Tasks;
  /** Bytes that nobody can predict, for what gives access; `Random` is for everything else. */
  readonly secrets: (length: number) => Uint8Array;
  /** Shared memory for memtables, the same on every thread of the node; messages name an index. */
  readonly arenas: readonly SharedArrayBuffer[];
  /** A long array for as long as the node runs, with anything in it. Default: new ones, zeros. */
  readonly takeMemory?: TakeBytes | undefined;
}

export type Need = keyof Capabilities;
