// `npm run bench -- curve`: the engine as a library while its data grows. One store is filled from
// point to point, in random order of keys, and at each point it is looked at: how fast it took the
// data, what reads cost, what was written to the disk for it, and what it takes on the disk and in
// memory. No fsync, so that the curve is that of the engine. The directory is removed at the end.
//
//   npm run bench -- curve [--max-gb 5] [--value-bytes 500] [--minutes 30] [--directory DIR]
//     [--compression auto] [--json bench-curve.json]

import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { compressions } from '../../actors/model/table-choices.ts';
import { openStorage, type Storage } from '../../cli/embedded/storage.ts';
import { assert } from '../../runtime/errors.ts';
import { Prng } from '../../runtime/prng.ts';

interface Point {
  readonly rawMb: number;
  readonly records: number;
  readonly fillPerSecond: number;
  /** The slowest batch of 100 since the point before, milliseconds. */
  readonly slowestBatchMs: number;
  /** Until merges had come to rest, seconds. */
  readonly restSeconds: number;
  readonly hotGetPerSecond: number;
  readonly coldGetPerSecond: number;
  readonly absentGetPerSecond: number;
  readonly scanPerSecond: number;
  /** Bytes written to files for each raw byte, since the start; the log counts too. */
  readonly writeAmplification: number;
  readonly diskMb: number;
  readonly tables: number;
  readonly residentMb: number;
  readonly heapMb: number;
  readonly indexMb: number;
}

const pointsGb = [0.1, 0.3, 1, 3, 5];
const keyBytes = 20;
const batchRecords = 100;
const hotKeys = 1_000;
/** Each kind of read, milliseconds. */
const readMs = 2_000;
const restMsMax = 120_000;
const restPollMs = 250;
/** Polls in a row that find the same tables. */
const restPolls = 8;
const noiseBytes = 4 * 1024 * 1024;

// ---- data ----------------------------------------------------------------------------------

/** Records by number: the keys of all numbers below 2^32 differ, and come in no order. */
class Records {
  readonly #noise: Buffer;
  readonly #random = new Prng(2);
  readonly #valueBytes: number;

  constructor(valueBytes: number) {
    const random = new Prng(1);
    const words = Array.from({ length: 512 }, () => random.int(36 ** 5).toString(36));
    const parts: string[] = [];
    for (let bytes = 0; bytes < noiseBytes + valueBytes; ) {
      const word = `${random.pick(words)} `;
      parts.push(word);
      bytes += word.length;
    }
    this.#noise = Buffer.from(parts.join(''));
    this.#valueBytes = valueBytes;
  }

  keyOf(n: number): string {
    return `user${(Math.imul(n, 0x9e37_79b1) >>> 0).toString(16).padStart(keyBytes - 4, '0')}`;
  }

  value(): Uint8Array {
    const from = this.#random.int(noiseBytes);
    return this.#noise.subarray(from, from + this.#valueBytes);
  }
}

// ---- work ----------------------------------------------------------------------------------

interface Filling {
  readonly perSecond: number;
  readonly slowestBatchMs: number;
}

async function fill(
  storage: Storage,
  records: Records,
  { from, to }: { readonly from: number; readonly to: number },
): Promise<Filling> {
  const startMs = performance.now();
  let slowestBatchMs = 0;
  for (let n = from; n < to; n += batchRecords) {
    const count = Math.min(batchRecords, to - n);
    const operations = Array.from({ length: count }, (_, i) => ({
      type: 'put' as const,
      key: records.keyOf(n + i),
      value: records.value(),
    }));
    const sentMs = performance.now();
    await storage.batch(operations);
    slowestBatchMs = Math.max(slowestBatchMs, performance.now() - sentMs);
  }
  return { perSecond: ((to - from) / (performance.now() - startMs)) * 1_000, slowestBatchMs };
}

/** Flushes, then waits until merges change nothing any more; seconds. */
async function rest(storage: Storage): Promise<number> {
  const startMs = performance.now();
  // The first may end with one that was under way, which has not all of it.
  await storage.flush();
  await storage.flush();
  let last = '';
  let same = 0;
  while (same < restPolls && performance.now() - startMs < restMsMax) {
    const { tables, tableBytes } = await storage.stats();
    const now = `${tables} ${tableBytes}`;
    same = now === last ? same + 1 : 0;
    last = now;
    await new Promise((resolve) => setTimeout(resolve, restPollMs));
  }
  return (performance.now() - startMs - same * restPollMs) / 1_000;
}

/** Gets per second, one after the other. */
async function gets(storage: Storage, keyOf: () => string, isThere: boolean): Promise<number> {
  const startMs = performance.now();
  let done = 0;
  while (performance.now() - startMs < readMs) {
    const found = await storage.get(keyOf());
    assert((found !== undefined) === isThere, 'a get finds what is not there, or misses what is');
    done += 1;
  }
  return (done / (performance.now() - startMs)) * 1_000;
}

async function scan(storage: Storage): Promise<number> {
  const startMs = performance.now();
  let entries = 0;
  for await (const [key] of storage.iterate()) {
    assert(key.length === keyBytes, 'a key of another length');
    entries += 1;
    if (entries % 1_000 === 0 && performance.now() - startMs > readMs) break;
  }
  return (entries / (performance.now() - startMs)) * 1_000;
}

// ---- figures -------------------------------------------------------------------------------

/** Bytes that this process has handed to the files of the system; NaN where nobody counts them. */
function writtenBytes(): number {
  try {
    return Number(/^wchar: (\d+)$/m.exec(readFileSync('/proc/self/io', 'utf8'))?.[1]);
  } catch {
    return NaN;
  }
}

/** Allocated bytes: files that are extended ahead have holes. */
function diskBytes(directory: string): number {
  return readdirSync(directory, { recursive: true })
    .map((file) => statSync(join(directory, String(file)), { throwIfNoEntry: false }))
    .reduce((sum, stat) => sum + (stat?.blocks ?? 0) * 512, 0);
}

function residentBytes(): number {
  globalThis.gc?.();
  return process.memoryUsage.rss();
}

interface Place {
  readonly storage: Storage;
  readonly records: Records;
  readonly directory: string;
  readonly rawBytesOf: (records: number) => number;
  /** Of the process before the first record. */
  readonly writtenBefore: number;
}

async function measure(
  { storage, records, directory, rawBytesOf, writtenBefore }: Place,
  { from, to }: { readonly from: number; readonly to: number },
): Promise<Point> {
  const filling = await fill(storage, records, { from, to });
  const restSeconds = await rest(storage);
  const writeAmplification = (writtenBytes() - writtenBefore) / rawBytesOf(to);
  const random = new Prng(to);
  const hot = (): string => records.keyOf(random.int(Math.min(hotKeys, to)));
  const cold = (): string => records.keyOf(random.int(to));
  const absent = (): string => records.keyOf(to + random.int(1_000_000));
  const hotGetPerSecond = await gets(storage, hot, true);
  const coldGetPerSecond = await gets(storage, cold, true);
  const absentGetPerSecond = await gets(storage, absent, false);
  const scanPerSecond = await scan(storage);
  const { tables, tableIndexBytes } = await storage.stats();
  return {
    rawMb: rawBytesOf(to) / 1e6,
    records: to,
    fillPerSecond: filling.perSecond,
    slowestBatchMs: filling.slowestBatchMs,
    restSeconds,
    ...{ hotGetPerSecond, coldGetPerSecond, absentGetPerSecond, scanPerSecond },
    writeAmplification,
    diskMb: diskBytes(directory) / 1e6,
    tables,
    residentMb: residentBytes() / 1e6,
    heapMb: process.memoryUsage().heapUsed / 1e6,
    indexMb: tableIndexBytes / 1e6,
  };
}

const shown = (number: number, digits = 0): string =>
  number.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });

const columns: readonly (readonly [string, (point: Point) => string])[] = [
  ['raw, MB', ({ rawMb }) => shown(rawMb)],
  ['records', ({ records }) => shown(records)],
  ['fill/s', ({ fillPerSecond }) => shown(fillPerSecond)],
  ['slowest batch, ms', ({ slowestBatchMs }) => shown(slowestBatchMs)],
  ['at rest after, s', ({ restSeconds }) => shown(restSeconds, 1)],
  ['hot get/s', ({ hotGetPerSecond }) => shown(hotGetPerSecond)],
  ['cold get/s', ({ coldGetPerSecond }) => shown(coldGetPerSecond)],
  ['absent get/s', ({ absentGetPerSecond }) => shown(absentGetPerSecond)],
  ['scan/s', ({ scanPerSecond }) => shown(scanPerSecond)],
  ['written/raw', ({ writeAmplification }) => shown(writeAmplification, 2)],
  ['disk, MB', ({ diskMb }) => shown(diskMb)],
  ['tables', ({ tables }) => shown(tables)],
  ['resident, MB', ({ residentMb }) => shown(residentMb)],
  ['index and filters, MB', ({ indexMb }) => shown(indexMb, 2)],
  ['the same per million keys, MB', ({ indexMb, records }) => shown((indexMb / records) * 1e6, 2)],
];

const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |\n`;

/** Resident growth for a million keys, from the first point to the last, megabytes. */
function growthPerMillion(points: readonly Point[]): number {
  const [first, last] = [points[0], points[points.length - 1]];
  if (first === undefined || last === undefined || first === last) return NaN;
  return ((last.residentMb - first.residentMb) / (last.records - first.records)) * 1e6;
}

async function curve(
  directory: string,
  options: {
    readonly gigabytes: number;
    readonly valueBytes: number;
    readonly minutes: number;
    readonly compression: (typeof compressions)[number];
  },
): Promise<readonly Point[]> {
  const { gigabytes, valueBytes, minutes, compression } = options;
  const records = new Records(valueBytes);
  const writtenBefore = writtenBytes();
  const storage = await openStorage({ directory, durability: 'none', compression });
  const rawBytesOf = (count: number): number => count * (keyBytes + valueBytes);
  const place = { storage, records, directory, rawBytesOf, writtenBefore };
  const points: Point[] = [];
  const startMs = performance.now();
  try {
    let from = 0;
    for (const gb of pointsGb.filter((each) => each <= gigabytes)) {
      const to = Math.round((gb * 1e9) / rawBytesOf(1));
      const last = points[points.length - 1];
      const usedMs = performance.now() - startMs;
      // As it went so far, the next point may not end in time.
      if (last !== undefined && (usedMs * to) / from > minutes * 60_000) {
        process.stdout.write(`stopped before ${gb} GB: it would take longer than --minutes\n`);
        break;
      }
      const point = await measure(place, { from, to });
      points.push(point);
      process.stdout.write(line(columns.map(([, cell]) => cell(point))));
      from = to;
    }
  } finally {
    await storage.close();
  }
  return points;
}

/** About 20 s a gigabyte and 10 s a point on a quiet machine with two cores. */
export async function benchCurve(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      'max-gb': { type: 'string', default: '5' },
      'value-bytes': { type: 'string', default: '500' },
      minutes: { type: 'string', default: '30' },
      directory: { type: 'string', default: tmpdir() },
      compression: { type: 'string', default: 'auto' },
      json: { type: 'string' },
    },
  });
  const numberOf = (name: 'max-gb' | 'value-bytes' | 'minutes', min: number): number => {
    const number = Number(values[name]);
    if (!(number >= min)) throw new Error(`--${name}: expected a number from ${min}`);
    return number;
  };
  const compression = compressions.find((each) => each === values.compression);
  if (compression === undefined)
    throw new Error(`--compression: expected one of ${compressions.join(', ')}`);
  const options = {
    gigabytes: numberOf('max-gb', 0.1),
    valueBytes: numberOf('value-bytes', 1),
    minutes: numberOf('minutes', 1),
    compression,
  };
  const directory = mkdtempSync(join(values.directory, 'kvd-curve-'));
  try {
    process.stdout.write(line(columns.map(([name]) => name)) + line(columns.map(() => '---')));
    const points = await curve(join(directory, 'data'), options);
    process.stdout.write(`resident growth: ${shown(growthPerMillion(points), 1)} MB`);
    process.stdout.write(' per million keys from the first point to the last\n');
    const result = { ...options, node: process.version, points };
    if (values.json !== undefined)
      writeFileSync(values.json, `${JSON.stringify(result, null, 2)}\n`);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
