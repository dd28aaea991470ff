// Runs a load against anything that reads and writes keys.
//
//   closed loop  so many clients, each sends its next request when the last one is answered: shows
//                the highest rate, and hides how long requests would have waited
//   open loop    requests begin at fixed times, whether or not earlier ones are answered; a latency
//                counts from the time at which its request should have begun, so a stall of the
//                server shows in all requests that it held up (Tene, "coordinated omission")

import { setTimeout as sleep } from 'node:timers/promises';
import { Prng } from '../../runtime/prng.ts';
import { createChooser, type KeyChooser, type KeyDistribution } from './key-chooser.ts';
import { Latencies } from './latencies.ts';
import { type Operation, operationAt, type Workload } from './workloads.ts';

/** What the load runs against; a rejected promise is a failed operation. */
export interface Target {
  readonly read: (key: string) => Promise<unknown>;
  readonly write: (key: string, value: Uint8Array) => Promise<unknown>;
  readonly scan: (from: string, rows: number) => Promise<unknown>;
}

export interface LoadOptions {
  readonly workload: Workload;
  readonly keys?: KeyDistribution;
  /** Records that are there when it begins. */
  readonly records: number;
  /** Ends after so many operations or so long, whichever comes first. */
  readonly operationsMax: number;
  readonly durationMs: number;
  /** Requests at the same time; in the open loop the most that may wait. */
  readonly clients: number;
  /** Operations per second of the open loop; undefined: closed loop. */
  readonly rate: number | undefined;
  readonly valueBytes: number;
  readonly prefix: string;
  readonly seed: number;
  /** Called with the operations that are done or dropped. */
  readonly onProgress?: (done: number) => void;
}

export interface LoadResult {
  readonly seconds: number;
  readonly done: number;
  readonly failed: number;
  /** Requests that the open loop could not begin: `clients` were already under way. */
  readonly dropped: number;
  readonly all: Latencies;
  readonly byOperation: ReadonlyMap<Operation, Latencies>;
  /** Failures by code. */
  readonly failures: ReadonlyMap<string, number>;
}

const scanRowsMax = 100;
const keyDigits = 12;

export class Load {
  readonly #options: LoadOptions;
  readonly #target: Target;
  readonly #random: Prng;
  readonly #chooser: KeyChooser;
  readonly #value: Uint8Array;
  readonly #all = new Latencies();
  readonly #byOperation = new Map<Operation, Latencies>();
  readonly #failures = new Map<string, number>();
  #records: number;
  #begun = 0;
  #done = 0;
  #failed = 0;
  #dropped = 0;
  #isStopped = false;

  constructor(options: LoadOptions, target: Target) {
    this.#options = options;
    this.#target = target;
    this.#random = new Prng(options.seed);
    this.#records = options.records;
    this.#chooser = createChooser(options.keys ?? options.workload.keys, this.#random);
    this.#value = randomBytes(new Prng(options.seed + 1), options.valueBytes);
  }

  /** Ends the run early; what is under way is waited for. */
  stop(): void {
    this.#isStopped = true;
  }

  /** Writes the records that the workload starts from. */
  async fill(): Promise<number> {
    let next = 0;
    const client = async (): Promise<void> => {
      while (next < this.#options.records && !this.#isStopped) {
        const record = next;
        next += 1;
        await this.#target.write(this.keyOf(record), this.#value);
        this.#options.onProgress?.(record + 1);
      }
    };
    await Promise.all(Array.from({ length: this.#options.clients }, client));
    return next;
  }

  async run(): Promise<LoadResult> {
    const startedMs = performance.now();
    const endMs = startedMs + this.#options.durationMs;
    const { rate } = this.#options;
    if (rate === undefined) await this.#closedLoop(endMs);
    else await this.#openLoop(startedMs, endMs, rate);
    return {
      seconds: (performance.now() - startedMs) / 1000,
      done: this.#done,
      failed: this.#failed,
      dropped: this.#dropped,
      all: this.#all,
      byOperation: this.#byOperation,
      failures: this.#failures,
    };
  }

  keyOf(record: number): string {
    return `${this.#options.prefix}${String(record).padStart(keyDigits, '0')}`;
  }

  async #closedLoop(endMs: number): Promise<void> {
    const client = async (): Promise<void> => {
      while (this.#mayBegin(endMs)) {
        this.#begun += 1;
        await this.#operate(performance.now());
      }
    };
    await Promise.all(Array.from({ length: this.#options.clients }, client));
  }

  async #openLoop(startedMs: number, endMs: number, rate: number): Promise<void> {
    const underWay = new Set<Promise<void>>();
    while (this.#mayBegin(endMs)) {
      const dueMs = startedMs + (this.#begun * 1000) / rate;
      const nowMs = performance.now();
      if (dueMs > nowMs) {
        await sleep(dueMs - nowMs);
        continue;
      }
      this.#begun += 1;
      if (underWay.size >= this.#options.clients) {
        this.#dropped += 1;
        this.#options.onProgress?.(this.#done + this.#dropped);
        continue;
      }
      const one: Promise<void> = this.#operate(dueMs).finally(() => underWay.delete(one));
      underWay.add(one);
      // Answers are read between requests, also when the load is behind.
      if (this.#begun % 64 === 0) await sleep(0);
    }
    await Promise.all(underWay);
  }

  #mayBegin(endMs: number): boolean {
    return (
      !this.#isStopped && this.#begun < this.#options.operationsMax && performance.now() < endMs
    );
  }

  async #operate(fromMs: number): Promise<void> {
    const operation = operationAt(this.#options.workload, this.#random.float());
    try {
      await this.#perform(operation);
      const ms = performance.now() - fromMs;
      this.#all.add(ms);
      this.#latenciesOf(operation).add(ms);
    } catch (error) {
      this.#failed += 1;
      const { code } = error as { readonly code?: unknown };
      const name = typeof code === 'string' ? code : String(error);
      this.#failures.set(name, (this.#failures.get(name) ?? 0) + 1);
    }
    this.#done += 1;
    this.#options.onProgress?.(this.#done + this.#dropped);
  }

  async #perform(operation: Operation): Promise<void> {
    const { read, write, scan } = this.#target;
    if (operation === 'insert') {
      // Counted before it is there: the next insert takes the next number.
      this.#records += 1;
      await write(this.keyOf(this.#records - 1), this.#value);
      return;
    }
    const key = this.keyOf(this.#chooser.next(this.#records));
    if (operation === 'scan') await scan(key, 1 + this.#random.int(scanRowsMax));
    else if (operation === 'update') await write(key, this.#value);
    else {
      await read(key);
      if (operation === 'modify') await write(key, this.#value);
    }
  }

  #latenciesOf(operation: Operation): Latencies {
    let latencies = this.#byOperation.get(operation);
    if (latencies === undefined) {
      latencies = new Latencies();
      this.#byOperation.set(operation, latencies);
    }
    return latencies;
  }
}

/** Half of it repeats, so that compression has about as much to do as with real values. */
function randomBytes(random: Prng, count: number): Uint8Array {
  return Uint8Array.from({ length: count }, (_, i) => (i % 2 === 0 ? random.int(256) : 0x61));
}
