// Writes on their way to the store. Those of one turn of the program travel together: one message,
// one log record, one promise that all their callers get. A program with many writes in flight pays
// for a batch then, and not for each of them (docs/performance.md).
//
// What the store refuses because it is busy (memory waits for its flush, tables for their merge) is
// no error for a program that has the engine inside: its writes wait here and are sent again, so a
// loop of puts runs as fast as the disk takes them. How much may wait here is up to the caller, who
// waits for the promises.

import type { Store } from '../../actors/storage/protocol.ts';
import type { Ref } from '../../runtime/actor.ts';
import { errorOf, type Failure } from '../../runtime/errors.ts';
import type { Kernel } from '../../runtime/kernel.ts';
import { Ring } from '../../runtime/mailbox.ts';
import type { RecordChunk, RecordChunks } from './record-chunks.ts';

/** Records that reach the store as one unit: all of them or none. */
class Batch {
  readonly records: Uint8Array[] = [];
  readonly chunks: RecordChunk[] = [];
  bytes = 0;
  readonly written: Promise<void>;
  resolve: () => void = nothing;
  reject: (error: Error) => void = nothing;

  constructor() {
    this.written = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }
}

const nothing = (): void => undefined;

export interface WriteLimits {
  /** Bytes of records at the store; one batch of any size always goes. */
  readonly bytes: number;
  /** Batches at the store: below the capacity of its mailbox. */
  readonly writes: number;
}

/** The store is asked again after so long, milliseconds. */
const retryAfterMs = 2;
/** Writes of one turn are one batch up to so many bytes and records; a longer one is its own. */
const batchBytesMax = 256 * 1024;
const batchRecordsMax = 1_024;

export class WriteQueue {
  readonly #kernel: Kernel;
  readonly #store: Ref<Store>;
  readonly #limits: WriteLimits;
  readonly #chunks: RecordChunks;
  readonly #batchBytesMax: number;
  readonly #waiting = new Ring<Batch>();
  /** The last one that waits, where it takes more. */
  #open: Batch | undefined;
  #isScheduled = false;
  /** At the store. */
  #bytes = 0;
  #writes = 0;
  #isPaused = false;
  #failure: Failure | undefined;
  #idle: (() => void)[] = [];

  /** Records have to be cut from `chunks`, one call's after the other's. */
  constructor(kernel: Kernel, store: Ref<Store>, limits: WriteLimits, chunks: RecordChunks) {
    this.#kernel = kernel;
    this.#store = store;
    this.#limits = limits;
    this.#chunks = chunks;
    this.#batchBytesMax = Math.min(batchBytesMax, limits.bytes / 2);
  }

  /** No write is open. */
  get isIdle(): boolean {
    return this.#writes === 0 && this.#waiting.length === 0;
  }

  /** Ends when the record is acknowledged. */
  write(record: Uint8Array): Promise<void> {
    const batch = this.#batchFor(record.length, 1);
    batch.records.push(record);
    batch.bytes += record.length;
    this.#chunks.claim(batch.chunks);
    return batch.written;
  }

  /** All records or none; ends when they are acknowledged. */
  writeAll(records: readonly Uint8Array[]): Promise<void> {
    let bytes = 0;
    for (const record of records) bytes += record.length;
    const batch = this.#batchFor(bytes, records.length);
    for (const record of records) batch.records.push(record);
    batch.bytes += bytes;
    this.#chunks.claim(batch.chunks);
    return batch.written;
  }

  /** Ends when no write is open. */
  settled(): Promise<void> {
    return new Promise((resolve) => {
      this.#idle.push(resolve);
      this.#sendNext();
    });
  }

  /** Nothing can be written any more: what waits here ends with `problem`. */
  fail(problem: Failure): void {
    this.#failure = problem;
    this.#sendNext();
  }

  #batchFor(bytes: number, records: number): Batch {
    const open = this.#open;
    if (
      open !== undefined &&
      open.bytes + bytes <= this.#batchBytesMax &&
      open.records.length + records <= batchRecordsMax
    )
      return open;
    const batch = new Batch();
    this.#waiting.push(batch);
    this.#open = batch;
    if (!this.#isScheduled) {
      this.#isScheduled = true;
      // When everything that goes on in this turn has had its say.
      process.nextTick(this.#sendScheduled);
    }
    return batch;
  }

  readonly #sendScheduled = (): void => {
    this.#isScheduled = false;
    this.#sendNext();
  };

  #sendNext(): void {
    while (this.#maySend()) {
      const batch = this.#waiting.shift();
      if (batch === undefined) break;
      if (batch === this.#open) this.#open = undefined;
      if (this.#failure === undefined) this.#send(batch);
      else batch.reject(errorOf(this.#failure));
    }
    if (!this.isIdle) return;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  #maySend(): boolean {
    if (this.#failure !== undefined) return true;
    if (this.#isPaused) return false;
    return this.#writes < this.#limits.writes && this.#bytes < this.#limits.bytes;
  }

  #send(batch: Batch): void {
    const { records, bytes } = batch;
    this.#bytes += bytes;
    this.#writes += 1;
    const done = (problem: Failure | undefined): void => {
      this.#bytes -= bytes;
      this.#writes -= 1;
      if (problem === undefined) this.#acknowledged(batch);
      else if (problem.code === 'OVERLOADED') this.#sendAgain(batch);
      else batch.reject(errorOf(problem));
      this.#sendNext();
    };
    this.#kernel.ask(this.#store, 'applyMany', { records }, Infinity, done);
  }

  #acknowledged(batch: Batch): void {
    this.#chunks.letGo(batch.chunks);
    batch.resolve();
  }

  /** The store wrote nothing of it. Stamps decide who wins, so the order does not matter. */
  #sendAgain(batch: Batch): void {
    this.#waiting.push(batch);
    this.#open = undefined;
    if (this.#isPaused) return;
    this.#isPaused = true;
    setTimeout(() => {
      this.#isPaused = false;
      this.#sendNext();
    }, retryAfterMs);
  }
}
