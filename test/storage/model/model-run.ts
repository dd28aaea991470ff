// The storage of one shard against a map: random puts, deletes, batches, flushes, merges, reads,
// pages, and crashes in the middle of all of it. Real actors on a simulated disk, so that a loss of
// power takes what was not synced, and a seed replays exactly.
//
// The keys lie in several namespaces, which choose their compaction and compression anew now and then;
// after a crash a shard may not know of it until it is told again.
//
// The map holds what was acknowledged. Of what was under way at a crash it knows that each write is
// there or not, that a batch is there as a whole or not at all, and that what one start has found
// stays so.

import {
  recordHlc,
  recordIsTombstone,
  recordKey,
  storageKey,
} from '../../../actors/model/record.ts';
import { lastWriteWins } from '../../../actors/model/resolve.ts';
import type { Store } from '../../../actors/storage/protocol.ts';
import type { BodyOf } from '../../../runtime/protocol.ts';
import { compareBytes, utf8 } from '../../../runtime/bytes.ts';
import { Prng } from '../../../runtime/prng.ts';
import { recordOf, ShardUnderTest } from '../../sim/shard-under-test.ts';
import { documentOf, drawChoices, toldOf } from '../groups-under-test.ts';
import type { CompactionStrategy } from '../../../actors/model/table-choices.ts';

/** How tables are packed. */
export const codecNames = ['none', 'lz4', 'zstd'] as const;
export type CodecName = (typeof codecNames)[number];

export interface ModelOptions {
  readonly seed: number;
  /** Records written and records compared, together. */
  readonly ops: number;
  readonly strategy: CompactionStrategy;
  /** Of tables; the values compress well, but with `none`. */
  readonly codec: CodecName;
  /** Different keys. Default 2,000. */
  readonly keyCount?: number;
  /** Namespaces that the keys lie in. Default 5. */
  readonly namespaces?: number;
  /** Called now and then. */
  readonly progress?: (done: number) => void;
}

export interface ModelReport {
  ops: number;
  written: number;
  compared: number;
  batches: number;
  flushes: number;
  merges: number;
  /** Times that a namespace was altered. */
  switches: number;
  crashes: number;
  /** Writes that a crash left without an answer, and those of them that were there. */
  unanswered: number;
  survived: number;
}

/** What one message of a client writes. */
interface Batch {
  readonly records: readonly Uint8Array[];
}

const noiseBytes = 64 * 1024;
const batchMax = 20;
const parallel = 16;
const pageLimit = 200;
const valueLengths = [0, 10, 100, 100, 400, 1_500] as const;

/** Throws an Error that names the seed, the operation and the key where shard and map differ. */
export async function runModel(options: ModelOptions): Promise<ModelReport> {
  const run = new ModelRun(options);
  await run.whole();
  return run.report;
}

class ModelRun {
  readonly #options: ModelOptions;
  readonly #shard: ShardUnderTest;
  readonly #random: Prng;
  readonly #noise: Uint8Array;
  readonly #keys: readonly string[];
  readonly #namespaces: number;
  #epoch = 0;
  #told: BodyOf<Store['namespacesChanged']> | undefined;
  /** The winner of each key that was ever written. */
  readonly #winners = new Map<string, Uint8Array>();
  readonly report: ModelReport = {
    ...{ ops: 0, written: 0, compared: 0, batches: 0, flushes: 0 },
    ...{ merges: 0, switches: 0, crashes: 0, unanswered: 0, survived: 0 },
  };

  constructor(options: ModelOptions) {
    const { seed, strategy: compaction, codec, keyCount = 2_000, namespaces = 5 } = options;
    this.#namespaces = namespaces;
    this.#options = options;
    const tunables = { l0TablesMax: 8 };
    this.#shard = new ShardUnderTest({ seed, compaction, compression: codec, copies: 1, tunables });
    this.#random = new Prng(seed).fork('model');
    const noise = this.#random.bytes(noiseBytes);
    this.#noise = codec === 'none' ? noise : noise.map((byte) => 97 + (byte % 4));
    this.#keys = Array.from(
      { length: keyCount },
      (_, i) => `${i % namespaces}:key:${String(i * 7919).padStart(9, '0')}`,
    );
  }

  whole(): Promise<void> {
    const { ops, progress } = this.#options;
    const { cluster } = this.#shard;
    return cluster.world.run(async () => {
      if (!(await cluster.startAll())) this.#wrong('the shard does not start');
      let told = 0;
      while (this.report.ops < ops) {
        await this.#step();
        // Also a short run has one.
        if (this.report.switches === 0 && this.report.ops > ops / 3) await this.#switch();
        if (this.report.ops - told < 10_000) continue;
        told = this.report.ops;
        progress?.(told);
      }
      await this.#compareAll();
      await this.#crash([]);
      await this.#compareAll();
      this.report.merges = this.#shard.reached('compaction installed');
    });
  }

  // ---- steps -------------------------------------------------------------------------------

  async #step(): Promise<void> {
    const random = this.#random;
    const { world } = this.#shard.cluster;
    const dice = random.float();
    if (dice < 0.62) await this.#write(this.#drawBatches());
    else if (dice < 0.9) await this.#readSome();
    else if (dice < 0.96) await this.#readPage();
    else if (dice < 0.977) await this.#flush();
    else if (dice < 0.983) await world.sleep(random.between(1, 3_000));
    else if (dice < 0.99) await this.#switch();
    else await this.#crash(this.#drawBatches());
  }

  #drawBatches(): Batch[] {
    const random = this.#random;
    const free = new Set<string>();
    return Array.from({ length: 1 + random.int(parallel) }, () => {
      const size = random.chance(0.7) ? 1 : 1 + random.int(batchMax);
      const records: Uint8Array[] = [];
      for (let i = 0; i < size; i += 1) {
        // No key twice at once: the map would not know which came first.
        const key = random.pick(this.#keys);
        if (free.has(key)) continue;
        free.add(key);
        records.push(this.#drawRecord(key));
      }
      return { records };
    }).filter(({ records }) => records.length > 0);
  }

  #drawRecord(key: string): Uint8Array {
    const random = this.#random;
    const length = random.pick(valueLengths);
    const from = random.int(noiseBytes - length);
    const value = random.chance(0.2) ? undefined : this.#noise.subarray(from, from + length);
    return recordOf(key, this.#shard.stamp(), value, namespaceIn(key));
  }

  /** The namespaces choose anew. */
  async #switch(): Promise<void> {
    this.#epoch += 1;
    const choices = drawChoices(this.#random, this.#namespaces);
    this.#told = toldOf(documentOf(this.#namespaces, choices, this.#epoch));
    await this.#tell();
    this.report.switches += 1;
  }

  async #tell(): Promise<void> {
    if (this.#told === undefined) return;
    const answer = await this.#shard.ask('namespacesChanged', this.#told);
    if (answer.kind !== 'reply') this.#wrong(`it cannot be told: ${JSON.stringify(answer)}`);
  }

  async #write(batches: readonly Batch[]): Promise<void> {
    const answers = await Promise.all(batches.map((batch) => this.#send(batch)));
    batches.forEach(({ records }, i) => {
      if (answers[i] !== true) this.#wrong(`a write of ${records.length} records is not answered`);
      for (const record of records) this.#acknowledged(record);
      if (records.length > 1) this.report.batches += 1;
    });
  }

  /** False: no answer, it may be there or not. */
  async #send({ records }: Batch): Promise<boolean> {
    for (;;) {
      const [record] = records;
      const isAlone = record !== undefined && records.length === 1;
      const answer = isAlone
        ? await this.#shard.ask('apply', { record })
        : await this.#shard.ask('applyMany', { records });
      if (answer.kind === 'reply') return true;
      if (answer.kind !== 'failure' || answer.failure.code !== 'OVERLOADED') return false;
      await this.#shard.cluster.world.sleep(20);
    }
  }

  #acknowledged(record: Uint8Array): void {
    const key = nameOf(record);
    const before = this.#winners.get(key);
    this.#winners.set(key, before === undefined ? record : lastWriteWins(before, record));
    this.report.written += 1;
    this.report.ops += 1;
  }

  async #flush(): Promise<void> {
    const answer = await this.#shard.ask('flush', {});
    if (answer.kind !== 'reply') this.#wrong(`a flush fails: ${JSON.stringify(answer)}`);
    this.report.flushes += 1;
  }

  // ---- crashes -----------------------------------------------------------------------------

  /** Ends the process at some call while these writes are under way, and settles what became of them. */
  async #crash(batches: readonly Batch[]): Promise<void> {
    const { cluster } = this.#shard;
    const kind = this.#random.chance(0.5) ? 'kill' : 'power-loss';
    cluster.crashAtCall('n1', 1 + this.#random.int(60), kind);
    const sent = batches.map((batch) => this.#send(batch));
    const flushed = this.#random.chance(0.5) ? this.#shard.ask('flush', {}) : undefined;
    const answers = await Promise.all(sent);
    await flushed;
    cluster.cancelPlannedCrash('n1');
    cluster.crash('n1', kind);
    if (!(await cluster.start('n1'))) {
      const said = cluster.log.last(4).join('\n');
      this.#wrong(`the shard does not start after a crash (${kind}):\n${said}`);
    }
    this.report.crashes += 1;
    if (this.#random.chance(0.7)) await this.#tell();
    for (const [i, batch] of batches.entries()) {
      if (answers[i] === true) for (const record of batch.records) this.#acknowledged(record);
      else await this.#settle(batch);
    }
    for (const { records } of batches)
      for (const record of records) await this.#compare(nameOf(record));
  }

  async #settle({ records }: Batch): Promise<void> {
    const fates = [];
    for (const record of records) fates.push(await this.#fateOf(record));
    this.report.unanswered += records.length;
    if (!fates.includes('there')) return;
    if (fates.includes('lost'))
      this.#wrong(`of ${records.length} records of a batch a crash left ${fates.join(', ')}`);
    this.report.survived += records.length;
    for (const record of records) this.#acknowledged(record);
  }

  /** The mark of a delete may be purged by then: what it deleted is gone all the same. */
  async #fateOf(record: Uint8Array): Promise<'there' | 'lost' | 'either'> {
    const name = nameOf(record);
    const held = await this.#shard.read(name, namespaceIn(name));
    if (held !== undefined) return recordHlc(held) === recordHlc(record) ? 'there' : 'lost';
    if (!recordIsTombstone(record)) return 'lost';
    return isSame(undefined, this.#winners.get(name)) ? 'either' : 'there';
  }

  // ---- comparisons -------------------------------------------------------------------------

  async #readSome(): Promise<void> {
    const keys = Array.from({ length: parallel }, () => this.#random.pick(this.#keys));
    await Promise.all(keys.map((key) => this.#compare(key)));
  }

  async #compare(key: string): Promise<void> {
    const held = await this.#shard.read(key, namespaceIn(key));
    const winner = this.#winners.get(key);
    this.report.compared += 1;
    this.report.ops += 1;
    if (isSame(held, winner)) return;
    this.#wrong(`${key} is ${shown(held)}, and should be ${shown(winner)}`);
  }

  async #readPage(): Promise<void> {
    const name = this.#random.pick(this.#keys);
    const from = storageKey(namespaceIn(name), utf8.encode(name));
    const body = { from, to: undefined, limit: pageLimit, bytes: 1 << 30 };
    const answer = await this.#shard.ask('range', body);
    if (answer.kind !== 'reply') this.#wrong(`no page: ${JSON.stringify(answer)}`);
    const { records, isDone } = answer.reply;
    const last = records[records.length - 1];
    const to = isDone || last === undefined ? undefined : recordKey(last);
    this.#compareLive(records, from, to);
  }

  async #compareAll(): Promise<void> {
    for (const key of this.#keys) await this.#compare(key);
    this.#compareLive(await this.#shard.all(), utf8.encode(''), undefined);
  }

  /** All live records from `from` up to `to`, included, in order. */
  #compareLive(records: readonly Uint8Array[], from: Uint8Array, to: Uint8Array | undefined): void {
    const isWithin = (record: Uint8Array): boolean =>
      compareBytes(recordKey(record), from) >= 0 &&
      (to === undefined || compareBytes(recordKey(record), to) <= 0);
    const expected = [...this.#winners.values()]
      .filter((record) => !recordIsTombstone(record) && isWithin(record))
      .sort((a, b) => compareBytes(recordKey(a), recordKey(b)));
    const found = records.filter((record) => !recordIsTombstone(record));
    const at = expected.findIndex((record, i) => !isSame(found[i], record));
    this.report.compared += found.length;
    this.report.ops += found.length;
    if (at >= 0) this.#wrong(`a page holds ${shown(found[at])} instead of ${shown(expected[at])}`);
    if (found.length !== expected.length)
      this.#wrong(`a page holds ${found.length} live records instead of ${expected.length}`);
  }

  #wrong(what: string): never {
    const { seed, strategy, codec } = this.#options;
    throw new Error(`${what} (seed=${seed}, ${strategy}, ${codec}, ops=${this.report.ops})`);
  }
}

/** Every key begins with the number of its namespace. */
const namespaceIn = (key: string): number => Number(key.slice(0, key.indexOf(':')));

const nameOf = (record: Uint8Array): string => utf8.decode(recordKey(record).subarray(4));

/** The mark of a delete may be there or not. */
function isSame(held: Uint8Array | undefined, winner: Uint8Array | undefined): boolean {
  const isGone = winner === undefined || recordIsTombstone(winner);
  if (held === undefined) return isGone;
  return winner !== undefined && compareBytes(held, winner) === 0;
}

function shown(record: Uint8Array | undefined): string {
  if (record === undefined) return 'nothing';
  const what = recordIsTombstone(record) ? 'deleted' : `${record.length} bytes`;
  return `${nameOf(record)} of ${recordHlc(record)} (${what})`;
}
