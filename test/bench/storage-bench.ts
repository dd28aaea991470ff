// `npm run bench -- storage`: this engine as a library beside LevelDB, LMDB and RocksDB, as a program sees
// them. One run, the same data, the same order of work and the same durability; each engine in a
// process of its own, so that memory can be compared. Every figure is an awaited call. A second table
// has the processor time of the whole process: all that means something on a machine with other work,
// where an engine with more threads gets more of it. Of the longest collections of garbage it says what
// was work (collections.ts).
//
//   npm run bench -- storage [--records 200000] [--value-bytes 100]
//     [--file packages.jsonl.gz --key-field name] [--engines kvd,lmdb] [--json bench-storage.json]

import { execFile } from 'node:child_process';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createHistogram } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { assert } from '../../runtime/errors.ts';
import { Prng } from '../../runtime/prng.ts';
import { clockMicros, collectionsIn, longestWithin, type Span, tracingTo } from './collections.ts';
import { type Engine, engines, type OpenEngine, type Pair } from './storage-engines.ts';
import { Pairs } from './pairs.ts';

export interface StorageBenchOptions {
  readonly records: number;
  readonly valueBytes: number;
  /** Lines of JSON, perhaps packed with gzip, instead of records made here. */
  readonly file?: string | undefined;
  readonly keyField?: string | undefined;
}

type Figure = Record<string, number>;
/** Figures of one engine by row name; a text says why there are none. */
type Figures = Readonly<Figure> | string;
/** What a process prints at its end. */
interface Report {
  readonly figures: Readonly<Figure>;
  /** When it did work of which collections of garbage are of interest. */
  readonly spans: Readonly<Record<string, readonly Span[]>>;
}
/** Before the name of a row: the processor time of its work. */
const cpuPrefix = 'cpu: ';

const batchRecords = 100;
const concurrent = 64;
const hotKeys = 1_000;
const coldGets = 5_000;
const warmRecords = 20_000;
/** Records that are written again while reads are timed. */
const churnMs = 8_000;
/** A kind of work ends after so long, milliseconds, if it has not done all by then. */
const workMs = 2_500;

// ---- data ----------------------------------------------------------------------------------

/** Distinct keys of 20 bytes in random order, with values like short JSON documents. */
function makePairs({ records, valueBytes }: StorageBenchOptions): Pairs {
  const random = new Prng(1);
  const words = Array.from({ length: 512 }, () => random.int(36 ** 5).toString(36));
  const pairs = new Pairs();
  for (let i = 0; i < records; i += 1) {
    const scattered = (Math.imul(i, 0x9e37_79b1) >>> 0).toString(16).padStart(16, '0');
    let text = `{"id":${random.int(1e6)},"name":"`;
    while (text.length < valueBytes) text += `${words[random.int(words.length)] ?? ''} `;
    pairs.add(Buffer.from(`user${scattered}`), Buffer.from(text.slice(0, valueBytes)));
  }
  return pairs;
}

function pairsOfFile(path: string, keyField: string, records: number): Pairs {
  const bytes = readFileSync(path);
  const text = (path.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString();
  const lines = new Map<string, string>();
  for (const line of text.split('\n')) {
    if (line === '') continue;
    lines.set(String((JSON.parse(line) as Record<string, unknown>)[keyField]), line);
  }
  const pairs = new Pairs();
  for (const [name, line] of [...lines].slice(0, records))
    pairs.add(Buffer.from(name).subarray(0, 1024), Buffer.from(line));
  return pairs;
}

const pairsFor = (options: StorageBenchOptions): Pairs =>
  options.file === undefined
    ? makePairs(options)
    : pairsOfFile(options.file, options.keyField ?? 'name', options.records);

// ---- work ----------------------------------------------------------------------------------

interface Measured {
  readonly perSecond: number;
  /** Of all threads of the process, for one operation: other programs change it little. */
  readonly cpuMicros: number;
}

/** Of `work`, called with 0 to `count` - 1, so many at a time, for `workMs` at most. */
async function measure(
  count: number,
  inFlight: number,
  work: (n: number) => Promise<unknown>,
  forMs = workMs,
): Promise<Measured> {
  const cpu = process.cpuUsage();
  const startMs = performance.now();
  const endMs = startMs + forMs;
  let next = 0;
  let done = 0;
  const worker = async (): Promise<void> => {
    while (next < count && performance.now() < endMs) {
      const n = next;
      next += 1;
      await work(n);
      done += 1;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, worker));
  const ms = performance.now() - startMs;
  const { user, system } = process.cpuUsage(cpu);
  return { perSecond: (done / ms) * 1_000, cpuMicros: (user + system) / done };
}

/** `each`: records of one operation. */
function note(figures: Figure, row: string, { perSecond, cpuMicros }: Measured, each = 1): void {
  figures[row] = perSecond * each;
  figures[`${cpuPrefix}${row}`] = cpuMicros / each;
}

/** The `n`th hundred. */
const slice = (pairs: Pairs, n: number): readonly Pair[] =>
  pairs.from(n * batchRecords, (n + 1) * batchRecords);

/** A put of the records in turn. */
const putting =
  (engine: Engine, pairs: Pairs) =>
  (n: number): Promise<unknown> =>
    engine.put(pairs.key(n % pairs.length), pairs.value(n % pairs.length));

async function durableWrites(engine: Engine, pairs: Pairs, figures: Figure): Promise<void> {
  const put = putting(engine, pairs);
  note(figures, 'put, fsync, 1 in flight', await measure(Infinity, 1, put));
  note(figures, 'put, fsync, 64 in flight', await measure(Infinity, concurrent, put));
  const batches = Math.floor(pairs.length / batchRecords);
  const batch = (n: number): Promise<unknown> => engine.batch(slice(pairs, n % batches));
  note(figures, 'batch of 100, fsync', await measure(Infinity, 1, batch), batchRecords);
}

async function reads(engine: Engine, pairs: Pairs, figures: Figure): Promise<void> {
  const random = new Prng(2);
  const orders = Array.from({ length: pairs.length }, () => random.int(pairs.length));
  const get = async (n: number): Promise<void> => {
    const found = await engine.get(pairs.key(n));
    assert(found !== undefined, 'a record is missing');
  };
  const any = (n: number): number => orders[n % orders.length] as number;
  note(figures, 'get, right after opening', await measure(coldGets, 1, (n) => get(any(n))));
  note(figures, 'get, all keys', await measure(pairs.length * 2, 1, (n) => get(any(n))));
  note(
    figures,
    'get, 1,000 hot keys',
    await measure(pairs.length * 2, 1, (n) => get(any(n) % hotKeys)),
  );
  note(
    figures,
    'get, 64 in flight',
    await measure(pairs.length * 2, concurrent, (n) => get(any(n))),
  );
  const absent = await measure(pairs.length, 1, async (n) => {
    const found = await engine.get(pairs.absentKey(any(n)));
    assert(found === undefined, 'a record too many');
  });
  note(figures, 'get, missing keys', absent);
  const scans = await measure(20, 1, async () => {
    assert((await engine.scan()) === pairs.length, 'a scan that misses records');
  });
  note(figures, 'scan', scans, pairs.length);
}

async function mixed(engine: Engine, pairs: Pairs): Promise<Measured> {
  const random = new Prng(3);
  return measure(pairs.length * 2, concurrent, (n) => {
    const i = random.int(pairs.length);
    return n % 5 === 0 ? engine.put(pairs.key(i), pairs.value(i)) : engine.get(pairs.key(i));
  });
}

/** When `work` was done: the process that started this one looks up its collections of garbage. */
async function during(work: () => Promise<unknown>): Promise<Span> {
  const fromMicros = clockMicros();
  await work();
  return [fromMicros, clockMicros()];
}

/** How long reads take while everything is written again, so that tables are merged all the time. */
async function readsUnderChurn(engine: Engine, pairs: Pairs, figures: Figure): Promise<Span> {
  const random = new Prng(4);
  const histogram = createHistogram();
  const endMs = performance.now() + churnMs;
  let written = 0;
  const writer = async (): Promise<void> => {
    const batches = Math.floor(pairs.length / batchRecords);
    for (let n = 0; performance.now() < endMs; n += 1) {
      await engine.batch(slice(pairs, (n * 7919) % batches));
      written += batchRecords;
    }
  };
  const reader = async (): Promise<void> => {
    while (performance.now() < endMs) {
      const key = pairs.key(random.int(pairs.length));
      const startMs = performance.now();
      await engine.get(key);
      histogram.record(Math.max(1, Math.round((performance.now() - startMs) * 1e3)));
    }
  };
  const span = await during(() => Promise.all([writer(), reader()]));
  figures['written meanwhile'] = (written / churnMs) * 1e3;
  figures['read meanwhile'] = (histogram.count / churnMs) * 1e3;
  figures['get meanwhile, p50, us'] = histogram.percentile(50);
  figures['get meanwhile, p99.9, us'] = histogram.percentile(99.9);
  return span;
}

/**
 * Some of each kind of work in a directory of its own: afterwards code is compiled, as in a program
 * that has run for a while, and each row says what an operation costs.
 */
async function warmUp(open: OpenEngine, root: string, pairs: Pairs): Promise<void> {
  const records = Math.min(pairs.length, warmRecords);
  for (const isDurable of [true, false]) {
    const directory = join(root, `warm-${isDurable}`);
    const engine = await open(directory, isDurable);
    await measure(records, 1, putting(engine, pairs));
    await measure(records, concurrent, putting(engine, pairs));
    for (let n = 0; n < records / batchRecords; n += 1) await engine.batch(slice(pairs, n));
    await engine.close();
    const again = await open(directory, isDurable);
    await measure(records, 1, (n) => again.get(pairs.key(n)));
    await measure(records, concurrent, (n) => again.get(pairs.absentKey(n)));
    await again.scan();
    await again.close();
  }
}

/** All the work with one engine below `root`. */
async function benchEngine(
  open: OpenEngine,
  root: string,
  options: StorageBenchOptions,
): Promise<Report> {
  const pairs = pairsFor(options);
  const figures: Record<string, number> = {};
  await warmUp(open, root, pairs);
  const durable = await open(join(root, 'durable'), true);
  await durableWrites(durable, pairs, figures);
  await durable.close();
  const quick = await open(join(root, 'quick'), false);
  const put = putting(quick, pairs);
  const puts = await during(async () => {
    note(figures, 'put, no fsync, 1 in flight', await measure(pairs.length, 1, put));
    note(figures, 'put, no fsync, 64 in flight', await measure(pairs.length, concurrent, put));
  });
  await quick.close();
  const directory = join(root, 'data');
  const filled = await open(directory, false);
  const batches = Math.floor(pairs.length / batchRecords);
  const fill = (n: number): Promise<unknown> => filled.batch(slice(pairs, n));
  const filling = await during(async () => {
    // All of it, however long it takes: what follows reads it.
    const measured = await measure(batches, 1, fill, Infinity);
    note(figures, 'fill, batches of 100, no fsync', measured, batchRecords);
    await filled.batch(pairs.from(batches * batchRecords));
  });
  await filled.close();
  // Opened again, every engine reads from its files.
  const engine = await open(directory, false);
  const reading = await during(() => reads(engine, pairs, figures));
  figures['resident memory, MB'] = process.memoryUsage.rss() / 1e6;
  figures['size on disk, MB'] = diskBytes(directory) / 1e6;
  const mix = await during(async () => {
    note(figures, '80 % get, 20 % put, no fsync', await mixed(engine, pairs));
  });
  const meanwhile = await readsUnderChurn(engine, pairs, figures);
  await engine.close();
  return {
    figures,
    spans: {
      meanwhile: [meanwhile],
      'while filling': [puts, filling],
      'while reading': [reading],
      'in the mix': [mix],
    },
  };
}

/** Allocated bytes: files that are extended ahead have holes. */
function diskBytes(directory: string): number {
  return readdirSync(directory, { recursive: true })
    .map((file) => statSync(join(directory, String(file))))
    .reduce((sum, { blocks }) => sum + blocks * 512, 0);
}

// ---- one process per engine ----------------------------------------------------------------

const self = fileURLToPath(import.meta.url);
/** As docs/embedded.md advises where pauses count; for all engines. */
const shortPauses = ['--no-parallel-scavenge', '--v8-pool-size=1', '--heap-growing-percent=400'];

function run(args: readonly string[]): Promise<Report | string> {
  return new Promise((resolve) => {
    execFile(process.execPath, args, (error, stdout, stderr) => {
      if (error === null) resolve(JSON.parse(stdout) as Report);
      else resolve(/^\w*Error.*$/m.exec(stderr)?.[0] ?? error.message);
    });
  });
}

async function inProcess(engine: string, options: StorageBenchOptions): Promise<Figures> {
  const { records, valueBytes, file, keyField } = options;
  const directory = mkdtempSync(join(tmpdir(), 'kvd-bench-trace-'));
  const trace = join(directory, 'trace.json');
  const args = [...shortPauses, ...tracingTo(trace), self, '--alone', engine];
  args.push('--records', String(records), '--value-bytes', String(valueBytes));
  if (file !== undefined) args.push('--file', file, '--key-field', keyField ?? 'name');
  try {
    const report = await run(args);
    return typeof report === 'string' ? report : withCollections(report, trace);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function withCollections({ figures, spans }: Report, trace: string): Figures {
  const collections = collectionsIn(trace);
  const all: Figure = { ...figures };
  for (const [when, ofWork] of Object.entries(spans)) {
    const { wallMicros, workMicros } = longestWithin(collections, ofWork);
    all[`longest collection ${when}, us`] = wallMicros;
    all[`most work of a collection ${when}, us`] = workMicros;
  }
  return all;
}

async function runEngine(name: string, options: StorageBenchOptions): Promise<void> {
  const open = engines[name];
  assert(open !== undefined, `no engine ${name}`);
  const root = mkdtempSync(join(tmpdir(), 'kvd-bench-'));
  try {
    process.stdout.write(JSON.stringify(await benchEngine(open, root, options)));
  } finally {
    if (existsSync(root)) rmSync(root, { recursive: true });
  }
}

// ---- table ---------------------------------------------------------------------------------

/** An engine that could not run has no figures. */
const orNone = (number: number, text: string): string => (Number.isNaN(number) ? '-' : text);
const shown = (number: number): string => orNone(number, Math.round(number).toLocaleString('en'));
const ratioOf = (number: number): string => orNone(number, number.toFixed(2));

/** Rates: how many times as fast kvd is. Sizes and times: how many times as large. */
function table(all: ReadonlyMap<string, Figures>, isCpu: boolean): string {
  const own = all.get('kvd');
  const others = [...all.keys()].filter((name) => name !== 'kvd');
  const what = isCpu ? 'processor time of one operation, us' : 'per second';
  const header = [what, ...all.keys(), ...others.map((name) => `kvd / ${name}`)];
  const rows = Object.entries(typeof own === 'object' ? own : {})
    .filter(([row]) => row.startsWith(cpuPrefix) === isCpu)
    .map(([row, figure]) => {
      const of = (name: string): number => {
        const figures = all.get(name);
        return (typeof figures === 'object' ? figures[row] : undefined) ?? NaN;
      };
      const cells = [...all.keys()].map((name) => (isCpu ? ratioOf(of(name)) : shown(of(name))));
      const ratios = others.map((name) => ratioOf(figure / of(name)));
      return [isCpu ? row.slice(cpuPrefix.length) : row, ...cells, ...ratios];
    });
  const lines = [header, header.map(() => '---'), ...rows];
  return lines.map((row) => `| ${row.join(' | ')} |`).join('\n');
}

/** About a minute and a half with the default of 200,000 records of 100 bytes. */
export async function benchStorage(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      records: { type: 'string', default: '200000' },
      'value-bytes': { type: 'string', default: '100' },
      file: { type: 'string' },
      'key-field': { type: 'string', default: 'name' },
      json: { type: 'string', default: 'bench-storage.json' },
      engines: { type: 'string', default: Object.keys(engines).join() },
      alone: { type: 'string' },
    },
  });
  const options = {
    records: Number(values.records),
    valueBytes: Number(values['value-bytes']),
    file: values.file,
    keyField: values['key-field'],
  };
  assert(options.records >= batchRecords && options.valueBytes > 0, 'too few records or bytes');
  if (values.alone !== undefined) return runEngine(values.alone, options);
  const names = values.engines.split(',');
  const isKnown = names.every((name) => name in engines) && names.includes('kvd');
  assert(isKnown, `--engines: expected kvd and others of ${Object.keys(engines).join(', ')}`);
  const all = new Map<string, Figures>();
  for (const name of names) all.set(name, await inProcess(name, options));
  const result = { ...options, node: process.version, engines: Object.fromEntries(all) };
  for (const [name, figures] of all)
    if (typeof figures === 'string') process.stdout.write(`${name} could not run: ${figures}\n`);
  const tables = `${table(all, false)}\n\n${table(all, true)}`;
  process.stdout.write(`${tables}\n${JSON.stringify(result)}\n`);
  writeFileSync(values.json, `${JSON.stringify(result, null, 2)}\n`);
}

if (process.argv[1] === self) await benchStorage(process.argv.slice(2));
