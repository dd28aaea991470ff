// Tables as sets of numbers, for tests and figures of the compaction picker: a merge costs nothing
// but is counted as what a real one would write.

import { storageKey } from '../../actors/model/record.ts';
import {
  bytesOf,
  type CompactionJob,
  pickCompaction,
  type PickerOptions,
} from '../../actors/storage/compaction-picker.ts';
import type { TableMeta } from '../../actors/storage/protocol.ts';
import { utf8 } from '../../runtime/bytes.ts';

const recordBytes = 100;

export const keyOf = (n: number): Uint8Array =>
  storageKey(1, utf8.encode(String(n).padStart(9, '0')));

/** A table over the keys of these numbers, which ascend. */
export function tableOver(
  fileNumber: number,
  numbers: readonly number[],
  changes: Partial<TableMeta> = {},
): TableMeta {
  return {
    fileNumber,
    level: 0,
    bytes: numbers.length * recordBytes,
    records: numbers.length,
    tombstones: 0,
    firstKey: keyOf(numbers[0] ?? 0),
    lastKey: keyOf(numbers[numbers.length - 1] ?? 0),
    minHlc: 1,
    maxHlc: 1,
    maxExpiresAt: 0,
    checksum: 0,
    ...changes,
  };
}

interface Content {
  readonly meta: TableMeta;
  readonly numbers: readonly number[];
}

/** All tables of a shard. */
export class SimulatedTables {
  readonly #options: PickerOptions;
  readonly #contents = new Map<number, Content>();
  #nextFileNumber = 1;
  flushedBytes = 0;
  compactedBytes = 0;
  jobs = 0;
  nowMs = 0;

  constructor(options: PickerOptions) {
    this.#options = options;
  }

  get tables(): TableMeta[] {
    return [...this.#contents.values()].map(({ meta }) => meta);
  }

  /** Bytes written to tables for each byte flushed. */
  get writeAmplification(): number {
    return (this.flushedBytes + this.compactedBytes) / this.flushedBytes;
  }

  numbers(): number[] {
    const all = new Set([...this.#contents.values()].flatMap(({ numbers }) => numbers));
    return [...all].sort((a, b) => a - b);
  }

  flush(numbers: readonly number[]): void {
    const sorted = [...new Set(numbers)].sort((a, b) => a - b);
    const stamp = this.nowMs * 1000;
    this.flushedBytes += this.#add(sorted, { minHlc: stamp, maxHlc: stamp });
  }

  /** Does the next job; undefined where there is none. */
  compact(damaged: ReadonlySet<number> = new Set()): CompactionJob | undefined {
    const state = { nowMs: this.nowMs, damaged };
    const job = pickCompaction(this.tables, this.#options, state);
    if (job === undefined) return undefined;
    this.jobs += 1;
    const inputs = job.inputs.map(({ fileNumber }) => this.#contents.get(fileNumber) as Content);
    for (const { meta } of inputs) this.#contents.delete(meta.fileNumber);
    if (job.isMove)
      for (const { meta, numbers } of inputs)
        this.#contents.set(meta.fileNumber, {
          meta: { ...meta, level: job.outputLevel },
          numbers,
        });
    else this.#merge(inputs, job);
    return job;
  }

  #merge(inputs: readonly Content[], { outputLevel, splitBytes = Infinity }: CompactionJob): void {
    const all = new Set(inputs.flatMap(({ numbers }) => numbers));
    const numbers = [...all].sort((a, b) => a - b);
    const each = Math.max(1, Math.ceil(splitBytes / recordBytes));
    const maxHlc = Math.max(...inputs.map(({ meta }) => meta.maxHlc));
    for (let at = 0; at < numbers.length; at += each)
      this.compactedBytes += this.#add(numbers.slice(at, at + each), {
        level: outputLevel,
        minHlc: Math.min(...inputs.map(({ meta }) => meta.minHlc)),
        maxHlc,
      });
  }

  #add(numbers: readonly number[], changes: Partial<TableMeta>): number {
    const meta = tableOver(this.#nextFileNumber, numbers, changes);
    this.#contents.set(this.#nextFileNumber, { meta, numbers });
    this.#nextFileNumber += 1;
    return bytesOf([meta]);
  }
}
