// A merge of real tables: the winners come out, once, in tables of the size that was asked for;
// what fails leaves no file behind and no input changed; a tombstone goes only where the rule
// allows it (TS-2, TTL-2). And the table reader that takes over: one version or the other, whole.

import { expect } from 'chai';
import fc from 'fast-check';
import {
  batchLogNamespace,
  namespaceOf,
  recordHash,
  recordKey,
} from '../../actors/model/record.ts';
import { lastWriteWins } from '../../actors/model/resolve.ts';
import { ArenaTree } from '../../actors/storage/arena-tree.ts';
import { compactor } from '../../actors/storage/compactor.actor.ts';
import { byFirstKey, isRun } from '../../actors/storage/key-ranges.ts';
import { chainCursors } from '../../actors/storage/merge-iterator.ts';
import { Compactor, type TableMeta, TableReader } from '../../actors/storage/protocol.ts';
import { keeperOf, type PurgeRule } from '../../actors/storage/purge-rule.ts';
import { SstableReader } from '../../actors/storage/sstable-reader.ts';
import { SstableWriter } from '../../actors/storage/sstable-writer.ts';
import { tableReader } from '../../actors/storage/table-reader.actor.ts';
import { tablePath } from '../../actors/storage/table-files.ts';
import { refTo } from '../../runtime/actor.ts';
import type { Capabilities, Tasks } from '../../runtime/environment.ts';
import { KvError } from '../../runtime/errors.ts';
import { loadCodecModules } from '../../runtime/host/codec-modules.ts';
import { createCodecs } from '../../runtime/block-codecs.ts';
import type { BodyOf, ReplyOf } from '../../runtime/protocol.ts';
import { coreTasks, runTask } from '../../runtime/tasks.ts';
import { Kit, type Outcome } from '../kit.ts';
import { MemoryDisk } from '../kit-disk.ts';
import {
  cursorOf,
  drain,
  hexes,
  hexOf,
  makeRecord,
  naiveWinners,
  recordOf,
  writes,
} from './records-under-test.ts';
import type { Compression } from '../../actors/model/table-choices.ts';

const codecs = createCodecs(loadCodecModules());
const directory = 'shard-0';
const tasks: Tasks = {
  run: (name, input) => Promise.resolve(runTask(coreTasks, codecs, name, input) as never),
};
const target = refTo(Compactor, 'n1');
const reader = refTo(TableReader, 'n1');

/** Both actors on one disk in memory. */
class Bench {
  readonly disk = new MemoryDisk();
  readonly kit: Kit;
  #nextFileNumber = 1;

  constructor(changes: Partial<Capabilities> = {}) {
    const capabilities = { disk: this.disk, codecs, tasks, arenas: [], ...changes };
    this.kit = new Kit([Compactor, TableReader], capabilities);
  }

  async start(compression: Compression = 'auto'): Promise<this> {
    await this.kit.spawn(compactor, { directory, resolve: lastWriteWins, compression });
    const options = { directory, resolve: lastWriteWins, blockCacheBytes: 64 * 1024 };
    await this.kit.spawn(tableReader, options);
    return this;
  }

  table(records: readonly Uint8Array[], level = 0): TableMeta {
    const fileNumber = this.#nextFileNumber;
    this.#nextFileNumber += 1;
    const file = this.disk.open(tablePath(directory, fileNumber), 'create');
    const writer = new SstableWriter(file, fileNumber, { codecs, level });
    for (const record of records) writer.add(record);
    return writer.finish();
  }

  async compact(
    inputs: readonly TableMeta[],
    changes: Partial<BodyOf<Compactor['compact']>> = {},
  ): Promise<Outcome<ReplyOf<Compactor['compact']>>> {
    const fileNumbers = Array.from({ length: 100 }, (_, i) => 1000 + i);
    const rest = { purge: undefined, isCold: false };
    const defaults = { level: 1, splitBytes: undefined, fileNumbers, ...rest };
    const outcome = this.kit.ask(target, 'compact', { inputs, ...defaults, ...changes });
    await this.#until(outcome);
    return outcome;
  }

  async replace(
    added: readonly TableMeta[],
    dropped: readonly number[] = [],
  ): Promise<Outcome<{ readonly tables: number }>> {
    const outcome = this.kit.ask(reader, 'replace', { added, dropped });
    await this.#until(outcome);
    return outcome;
  }

  async open(tables: readonly TableMeta[]): Promise<Outcome<object>> {
    const outcome = this.kit.ask(reader, 'open', { tables });
    await this.#until(outcome);
    return outcome;
  }

  async get(record: Uint8Array, aboveHlc = 0): Promise<Uint8Array | undefined> {
    const request = { key: recordKey(record), hash: recordHash(record), aboveHlc };
    const outcome = this.kit.ask(reader, 'get', request);
    await this.#until(outcome);
    return outcome.reply?.record;
  }

  async range(from: Uint8Array, limit: number): Promise<readonly Uint8Array[]> {
    const request = { from, to: undefined, limit, bytes: 1 << 20 };
    const outcome = this.kit.ask(reader, 'range', request);
    await this.#until(outcome);
    return outcome.reply?.records ?? [];
  }

  recordsOf({ fileNumber }: TableMeta): Uint8Array[] {
    const file = this.disk.open(tablePath(directory, fileNumber), 'read');
    const table = SstableReader.open(file, fileNumber, codecs);
    table.verifyAll();
    return drain(table.cursor());
  }

  codecOf({ fileNumber }: TableMeta): string | undefined {
    const file = this.disk.open(tablePath(directory, fileNumber), 'read');
    return SstableReader.open(file, fileNumber, codecs).figures?.codec;
  }

  files(): readonly string[] {
    return this.disk.list(`${directory}/tables`);
  }

  async #until(outcome: Outcome<unknown>): Promise<void> {
    for (let round = 0; outcome.calls === 0 && round < 1000; round += 1)
      await this.kit.host.advance(0);
    expect(outcome.calls).to.equal(1);
  }
}

const bench = (): Promise<Bench> => new Bench().start();

/** Records of numbered keys whose values do not compress away. */
const numbered = (from: number, to: number, hlc: number): Uint8Array[] =>
  Array.from({ length: to - from }, (_, i) => {
    const n = from + i;
    const value = new Uint8Array(200).map((_byte, at) => Math.imul(n + 1, at + 7) >>> 3);
    return makeRecord(`user:${String(n).padStart(6, '0')}`, { hlc, value });
  });

describe('compactor', () => {
  it('compactor: the outputs hold the winner of every key, once (any tables)', async () => {
    const lists = fc.array(fc.array(writes, { minLength: 1, maxLength: 30 }), {
      minLength: 1,
      maxLength: 5,
    });
    await fc.assert(
      fc.asyncProperty(lists, async (batches) => {
        const shard = await bench();
        const tables = batches.map((list) => shard.table(naiveWinners(list.map(recordOf))));
        const { reply } = await shard.compact(tables);
        const outputs = reply?.tables ?? [];
        const expected = naiveWinners(batches.flat().map(recordOf));
        expect(hexes(outputs.flatMap((table) => shard.recordsOf(table)))).to.deep.equal(
          hexes(expected),
        );
        expect(reply?.purged).to.equal(0);
      }),
      { numRuns: 40 },
    );
  });

  for (const [compression, fresh, cold] of [
    ['auto', 'lz4', 'zstd'],
    ['none', 'none', 'none'],
    ['lz4', 'lz4', 'lz4'],
    ['zstd', 'zstd', 'zstd'],
  ] as const)
    it(`compactor: tables are packed as the setting says (compression=${compression})`, async () => {
      const shard = await new Bench().start(compression);
      const records = Array.from({ length: 200 }, (_, i) => makeRecord(`user:${1000 + i}`));
      const sizes: number[] = [];
      for (const [isCold, codec] of [
        [false, fresh],
        [true, cold],
      ] as const) {
        const { reply } = await shard.compact([shard.table(records)], { isCold });
        const [output] = reply?.tables ?? [];
        expect(output === undefined ? 'no output' : shard.codecOf(output)).to.equal(codec);
        expect(output === undefined ? [] : hexes(shard.recordsOf(output))).to.deep.equal(
          hexes(records),
        );
        sizes.push(output?.bytes ?? 0);
        shard.disk.remove(tablePath(directory, output?.fileNumber ?? 0));
      }
      // A table that is stored as it is takes more than the raw keys and values.
      const raw = records.reduce((sum, record) => sum + record.length - 12, 0);
      for (const size of sizes)
        expect(size, compression)[compression === 'none' ? 'above' : 'below'](raw * 0.8);
    });

  it('compactor: outputs are split near the size that was asked for, between keys, in order', async () => {
    const shard = await bench();
    const inputs = [
      shard.table(numbered(0, 2000, 1)),
      shard.table(numbered(500, 1000, 2), 1),
      shard.table(numbered(1000, 3000, 3), 1),
    ];
    const splitBytes = 64 * 1024;
    const { reply } = await shard.compact(inputs, { level: 2, splitBytes });
    const outputs = reply?.tables ?? [];
    expect(outputs.length).to.be.within(5, 12);
    expect(isRun([...outputs].sort(byFirstKey))).to.equal(true);
    expect(outputs).to.deep.equal([...outputs].sort(byFirstKey));
    for (const { bytes } of outputs.slice(0, -1))
      expect(bytes).to.be.within(splitBytes, splitBytes * 1.75);
    expect(outputs.every(({ level }) => level === 2)).to.equal(true);
    const records = outputs.flatMap((table) => shard.recordsOf(table));
    expect(records.length).to.equal(3000);
    expect(outputs.reduce((sum, table) => sum + table.records, 0)).to.equal(3000);
  });

  it('compactor: the last number takes all that is left', async () => {
    const shard = await bench();
    const inputs = [shard.table(numbered(0, 1000, 1)), shard.table(numbered(1000, 2000, 2))];
    const changes = { splitBytes: 32 * 1024, fileNumbers: [50, 51] };
    const { reply } = await shard.compact(inputs, changes);
    expect(reply?.tables.map(({ fileNumber }) => fileNumber)).to.deep.equal([50, 51]);
    expect((reply?.tables[1]?.bytes ?? 0) > 2 * 32 * 1024).to.equal(true);
  });

  it('compactor: a damaged input fails the job and is named; the inputs stay, no output does (CO-1)', async () => {
    const shard = await bench();
    const inputs = [shard.table(numbered(0, 500, 1)), shard.table(numbered(0, 500, 2))];
    const path = tablePath(directory, 2);
    const bytes = shard.disk.read(path) as Uint8Array;
    bytes[40_000] = (bytes[40_000] as number) ^ 1;
    shard.disk.put(path, bytes);
    const { failure } = await shard.compact(inputs, { splitBytes: 16 * 1024 });
    expect(failure).to.deep.include({ code: 'CORRUPT' });
    expect(failure?.fields['file']).to.equal(path);
    expect(shard.files()).to.deep.equal(['0000000001.sst', '0000000002.sst']);
  });

  it('compactor: another table under the number of an input is damage', async () => {
    const shard = await bench();
    const meta = shard.table(numbered(0, 10, 1));
    const { failure } = await shard.compact([{ ...meta, checksum: meta.checksum ^ 1 }]);
    expect(failure?.code).to.equal('CORRUPT');
  });

  for (const at of ['write', 'sync'] as const)
    it(`compactor: an output that fails leaves no file behind (at=${at})`, async () => {
      const shard = await bench();
      const inputs = [shard.table(numbered(0, 500, 1)), shard.table(numbered(500, 900, 2))];
      const isSecond = (path: string): boolean => path === tablePath(directory, 1001);
      if (at === 'write')
        shard.disk.beforeWrite = (path) => {
          if (isSecond(path)) throw new KvError('DISK_FULL', {});
        };
      else
        shard.disk.beforeSync = (path) =>
          isSecond(path) ? new KvError('DISK_FULL', {}) : undefined;
      const { failure } = await shard.compact(inputs, { splitBytes: 32 * 1024 });
      expect(failure?.code).to.equal('DISK_FULL');
      expect(shard.files()).to.deep.equal(['0000000001.sst', '0000000002.sst']);
    });

  it('compactor: a job of which nothing is left makes no table', async () => {
    const shard = await bench();
    const tombstone = (n: number): Uint8Array =>
      makeRecord(`key:${n}`, { isTombstone: true, hlc: 5, value: '' });
    const inputs = [
      shard.table([makeRecord('key:1', { hlc: 1 })]),
      shard.table([1, 2].map(tombstone)),
    ];
    const purge = { belowHlc: 6, expiredBeforeMs: 0, batchesBelowHlc: 0, others: [] };
    const { reply } = await shard.compact(inputs, { purge });
    expect(reply).to.deep.equal({ tables: [], purged: 2 });
    expect(shard.files().length).to.equal(2);
  });
});

describe('compactor: flushes beside a compaction', () => {
  /** With a memtable of one record; the first batch is packed when `release` is called. */
  const startHeld = async () => {
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let runs = 0;
    const slow: Tasks = {
      run: async (name, input) => {
        runs += 1;
        if (runs === 1) await held;
        return runTask(coreTasks, codecs, name, input) as never;
      },
    };
    const arena = new SharedArrayBuffer(1 << 20);
    const tree = ArenaTree.create(arena);
    tree.insert(makeRecord('fresh'), lastWriteWins);
    const shard = await new Bench({ tasks: slow, arenas: [arena] }).start();
    const table = { arena: 0, records: 1, bytes: tree.bytesUsed, throughLsn: 1 };
    return { shard, table, release: () => release() };
  };

  it('compactor: a flush ends while a compaction is still at work', async () => {
    // The first batch is the compaction's.
    const { shard, table, release } = await startHeld();
    const inputs = [shard.table(numbered(0, 100, 1))];
    const rest = { splitBytes: undefined, purge: undefined, isCold: false };
    const job = { inputs, level: 1, fileNumbers: [70], ...rest };
    const merged = shard.kit.ask(target, 'compact', job);
    await shard.kit.host.settle();
    const flushed = shard.kit.ask(target, 'flush', { table, fileNumbers: [71] });
    await shard.kit.host.settle();
    expect(flushed.reply?.tables[0]?.records).to.equal(1);
    expect(merged.calls).to.equal(0);
    release();
    await shard.kit.host.settle();
    expect(merged.reply?.tables[0]?.records).to.equal(100);
  });

  /** How long a merge of 32 batches takes, where nothing but its pauses takes time. */
  const mergeMs = async (shard: Bench, firstNumber: number): Promise<number> => {
    const { host } = shard.kit;
    const rest = { purge: undefined, isCold: false, level: 1 };
    const fileNumbers = Array.from({ length: 100 }, (_, i) => firstNumber + i);
    const inputs = [shard.table(numbered(0, 2000, 1))];
    const job = { inputs, fileNumbers, splitBytes: 64 * 1024, ...rest };
    const merged = shard.kit.ask(target, 'compact', job, 60_000);
    const startMs = host.nowMs;
    for (let ms = 0; merged.calls === 0 && ms < 10_000; ms += 1) await host.advance(1);
    expect(merged.reply?.tables.reduce((sum, { records }) => sum + records, 0)).to.equal(2000);
    return host.nowMs - startMs;
  };

  for (const compression of ['auto', 'none'] as const)
    it(`compactor: a merge pauses after each batch for as long as it is told (compression=${compression})`, async () => {
      const shard = await new Bench().start(compression);
      expect(await mergeMs(shard, 1000)).to.be.lessThan(10);
      shard.kit.kernel.tell(target, 'pace', { pauseMs: 20 });
      expect(await mergeMs(shard, 2000)).to.be.within(30 * 20, 40 * 20);
      shard.kit.kernel.tell(target, 'pace', { pauseMs: 0 });
      expect(await mergeMs(shard, 3000)).to.be.lessThan(10);
    });

  it('compactor: while a memtable is written a merge leaves most of the thread to that', async () => {
    // The first batch is the flush's.
    const { shard, table, release } = await startHeld();
    const flushed = shard.kit.ask(target, 'flush', { table, fileNumbers: [71] }, 60_000);
    await shard.kit.host.settle();
    expect(await mergeMs(shard, 4000)).to.be.within(30 * 50, 40 * 50);
    expect(flushed.calls).to.equal(0);
    release();
    await shard.kit.host.settle();
    expect(flushed.reply?.tables[0]?.records).to.equal(1);
    expect(await mergeMs(shard, 5000)).to.be.lessThan(10);
  });
});

describe('compactor: sections', () => {
  const inNamespace = (namespace: number, count: number, bytes: number): Uint8Array[] =>
    Array.from({ length: count }, (_, i) =>
      makeRecord(`key-${String(i).padStart(4, '0')}`, { namespace, value: 'v'.repeat(bytes) }),
    );
  const shown = (shard: Bench, tables: readonly TableMeta[]): string[] =>
    tables.map((table) => {
      const ids = [table.firstKey, table.lastKey].map((key) => namespaceOf(key));
      return `${[...new Set(ids)].join('-')} ${shard.codecOf(table) ?? ''} ${table.records}`;
    });

  it('compactor: a merge is cut where sections begin, each packed in its own way', async () => {
    const shard = await new Bench().start();
    const records = [0, 1, 2, 3, 0x8000_0001].flatMap((id) => inNamespace(id, 50, 400));
    const sections = [
      { fromId: 0, compression: 'auto' },
      { fromId: 1, compression: 'none' },
      { fromId: 2, compression: 'zstd' },
      { fromId: 3, compression: 'auto' },
    ] as const;
    const inputs = [shard.table(records.filter((_, i) => i % 2 === 0)), shard.table(records)];
    const merged = await shard.compact(inputs, { sections });
    const tables = merged.reply?.tables ?? [];
    expect(shown(shard, tables)).to.deep.equal([
      '0 lz4 50',
      '1 none 50',
      '2 zstd 50',
      '3-2147483649 lz4 100',
    ]);
    expect(hexes(tables.flatMap((table) => shard.recordsOf(table)))).to.deep.equal(hexes(records));
    const cold = await shard.compact(inputs, {
      ...{ sections: [sections[0]], isCold: true, fileNumbers: [3001] },
    });
    expect(shown(shard, cold.reply?.tables ?? [])).to.deep.equal(['0-2147483649 zstd 250']);
  });

  it('compactor: sizes and sections both cut, and there are numbers for all', async () => {
    const shard = await new Bench().start();
    const records = [0, 1, 2].flatMap((id) => inNamespace(id, 200, 400));
    const sections = [0, 1, 2].map((fromId) => ({ fromId, compression: 'none' as const }));
    const splitBytes = 16 * 1024;
    const enough = await shard.compact([shard.table(records)], { sections, splitBytes });
    const tables = enough.reply?.tables ?? [];
    expect(tables.length).to.be.greaterThan(6);
    for (const { firstKey, lastKey } of tables)
      expect(namespaceOf(firstKey)).to.equal(namespaceOf(lastKey));
    // With few numbers the sections are still cut, and the sizes are not.
    const fileNumbers = [2001, 2002, 2003, 2004];
    const few = await shard.compact([shard.table(records)], { sections, splitBytes, fileNumbers });
    const ends = (few.reply?.tables ?? []).map(({ firstKey }) => namespaceOf(firstKey));
    expect(ends).to.deep.equal([0, 0, 1, 2]);
  });

  it('compactor: a flush makes a table for each section that is not small', async () => {
    const arena = new SharedArrayBuffer(1 << 20);
    const tree = ArenaTree.create(arena);
    const sizes = [100, 0, 2, 3, 90, 1];
    for (const [id, count] of sizes.entries())
      for (const record of inNamespace(id, count, 400)) tree.insert(record, lastWriteWins);
    const shard = await new Bench({ arenas: [arena] }).start();
    const table = { arena: 0, records: 196, bytes: tree.bytesUsed, throughLsn: 1 };
    const sections = sizes.map((_, fromId) => ({ fromId, compression: 'none' as const }));
    const fileNumbers = [71, 72, 73, 74, 75, 76];
    const rest = { sections, sectionBytesMin: 10_000 };
    const outcome = shard.kit.ask(target, 'flush', { table, fileNumbers, ...rest });
    await shard.kit.host.settle();
    expect(shown(shard, outcome.reply?.tables ?? [])).to.deep.equal([
      '0 none 100',
      '2-3 lz4 5',
      '4 none 90',
      '5 none 1',
    ]);
  });
});

describe('purge rule', () => {
  const key = (name: string): Uint8Array => recordKey(makeRecord(name));
  const tombstone = makeRecord('m', { isTombstone: true, hlc: 100, value: '' });
  const rule = (changes: Partial<PurgeRule> = {}): PurgeRule => ({
    belowHlc: 200,
    expiredBeforeMs: 5_000,
    batchesBelowHlc: 150,
    others: [],
    ...changes,
  });
  const besides = (first: string, last: string, minHlc: number): PurgeRule =>
    rule({ others: [{ firstKey: key(first), lastKey: key(last), minHlc }] });

  const mark = (hlc: number, namespace = batchLogNamespace): Uint8Array =>
    makeRecord('m', { isTombstone: true, hlc, value: '', namespace });
  /** Nothing was ever repaired here. */
  const arcs = { ends: [], hlcs: [] };

  const cases: readonly (readonly [string, Uint8Array, PurgeRule | undefined, boolean])[] = [
    ['an old mark of the log of batches needs no repair', mark(149), rule({ arcs }), false],
    ['a tombstone of a user does', mark(149, 1), rule({ arcs }), true],
    ['a mark stays while its batch could be completed', mark(150), rule({ arcs }), true],
    ['so does one where there is a single copy', mark(150), rule(), true],
    ['an old mark stays where memory may hold its entry', mark(149), rule({ belowHlc: 149 }), true],
    [
      'an old mark stays where another table may hold its entry',
      mark(149),
      rule({ arcs, others: [{ firstKey: key('a'), lastKey: recordKey(mark(1)), minHlc: 148 }] }),
      true,
    ],
    [
      'a cursor that was once kept among the batches goes when it has expired and is as old',
      makeRecord('scan:1', { hlc: 149, expiresAt: 4_999, namespace: batchLogNamespace }),
      rule({ arcs }),
      false,
    ],
    [
      'an entry of the log stays',
      makeRecord('m', { hlc: 1, namespace: batchLogNamespace }),
      rule({ arcs }),
      true,
    ],
    ['a tombstone stays where nothing may be purged', tombstone, undefined, true],
    ['a tombstone that hides nothing goes', tombstone, rule(), false],
    ['a live record stays', makeRecord('m', { hlc: 100 }), rule(), true],
    ['a tombstone as new as what memory may hold stays', tombstone, rule({ belowHlc: 100 }), true],
    [
      'a tombstone stays where another table may hold an older record',
      tombstone,
      besides('a', 'z', 99),
      true,
    ],
    [
      'a tombstone stays where another table may hold a record of its stamp',
      tombstone,
      besides('m', 'm', 100),
      true,
    ],
    ['a tombstone goes where the other table is newer', tombstone, besides('a', 'z', 101), false],
    [
      'a tombstone goes where the other table ends before its key',
      tombstone,
      besides('a', 'l', 1),
      false,
    ],
    [
      'a tombstone goes where the other table begins after its key',
      tombstone,
      besides('n', 'z', 1),
      false,
    ],
    ['an expired record goes', makeRecord('m', { hlc: 100, expiresAt: 4_999 }), rule(), false],
    [
      'a record that has just expired stays',
      makeRecord('m', { hlc: 100, expiresAt: 5_000 }),
      rule(),
      true,
    ],
    [
      'an expired record stays where it may hide an older one',
      makeRecord('m', { hlc: 100, expiresAt: 4_999 }),
      besides('a', 'z', 50),
      true,
    ],
  ];
  for (const [what, record, given, stays] of cases)
    it(`purge: ${what}`, () => {
      expect(keeperOf(given)(record)).to.equal(stays);
    });
});

describe('table reader', () => {
  it('table reader: the winner is found at whatever level it is (any tables, MF-9)', async () => {
    const lists = fc.array(fc.array(writes, { minLength: 1, maxLength: 15 }), {
      minLength: 1,
      maxLength: 6,
    });
    await fc.assert(
      fc.asyncProperty(lists, fc.nat(15), async (batches, from) => {
        const shard = await bench();
        // Every table in a level of its own, so each of them is a run.
        const tables = batches.map((list, level) =>
          shard.table(naiveWinners(list.map(recordOf)), level),
        );
        await shard.replace(tables);
        const winners = naiveWinners(batches.flat().map(recordOf));
        for (const winner of winners)
          expect(hexOf((await shard.get(winner)) ?? new Uint8Array(0))).to.equal(hexOf(winner));
        const start = winners[from % winners.length] as Uint8Array;
        const rest = winners.slice(winners.indexOf(start));
        expect(hexes(await shard.range(recordKey(start), 1000))).to.deep.equal(hexes(rest));
      }),
      { numRuns: 40 },
    );
  });

  it('table reader: a run of many tables is searched and scanned across its tables', async () => {
    const shard = await bench();
    const all = numbered(0, 300, 1);
    const tables = Array.from({ length: 30 }, (_, i) =>
      shard.table(all.slice(i * 10, i * 10 + 10), 1),
    );
    await shard.replace(tables);
    for (const record of all)
      expect(hexOf((await shard.get(record)) ?? new Uint8Array(0))).to.equal(hexOf(record));
    expect(await shard.get(makeRecord('user:000005x'))).to.equal(undefined);
    const page = await shard.range(recordKey(all[95] as Uint8Array), 25);
    expect(hexes(page)).to.deep.equal(hexes(all.slice(95, 120)));
  });

  it('table reader: a change takes effect as one, and a table that moves stays readable', async () => {
    const shard = await bench();
    const old = [
      shard.table([makeRecord('a', { hlc: 1 })]),
      shard.table([makeRecord('b', { hlc: 2 })]),
    ];
    await shard.replace(old);
    const moved = { ...(old[1] as TableMeta), level: 1 };
    const { reply } = await shard.replace([moved], [1, 2]);
    expect(reply).to.deep.equal({ tables: 1 });
    expect(await shard.get(makeRecord('a'))).to.equal(undefined);
    expect(await shard.get(makeRecord('b'))).to.not.equal(undefined);
  });

  it('table reader: where one new table is damaged all is as before', async () => {
    const shard = await bench();
    const record = makeRecord('a', { hlc: 1 });
    await shard.replace([shard.table([record])]);
    const good = shard.table([makeRecord('b', { hlc: 2 })]);
    const bad = shard.table([makeRecord('c', { hlc: 3 })]);
    shard.disk.put(tablePath(directory, 3), new Uint8Array(10));
    const { failure } = await shard.replace([good, bad], [1]);
    expect(failure?.code).to.equal('CORRUPT');
    expect(await shard.get(record)).to.not.equal(undefined);
    expect(await shard.get(makeRecord('b'))).to.equal(undefined);
  });

  it('table reader: what was opened is not read before it is shown, which cannot fail then', async () => {
    const shard = await bench();
    const old = shard.table([makeRecord('a', { hlc: 1 })]);
    await shard.replace([old]);
    const next = shard.table([makeRecord('b', { hlc: 2 })], 1);
    expect((await shard.open([{ ...old, level: 1 }, next])).failure).to.equal(undefined);
    expect(await shard.get(makeRecord('b'))).to.equal(undefined);
    shard.disk.remove(tablePath(directory, next.fileNumber));
    expect((await shard.replace([next], [old.fileNumber])).reply).to.deep.equal({ tables: 1 });
    expect(await shard.get(makeRecord('b'))).to.not.equal(undefined);
    // Closed by the next call, and gone.
    const last = shard.table([makeRecord('c', { hlc: 3 })], 2);
    await shard.open([last]);
    await shard.open([]);
    shard.disk.remove(tablePath(directory, last.fileNumber));
    expect((await shard.replace([last])).failure?.code).to.equal('NOT_FOUND');
    expect((await shard.open([last])).failure?.code).to.equal('NOT_FOUND');
  });

  it('table reader: tables of a level that overlap are a defect', async () => {
    const shard = await bench();
    const tables = [shard.table(numbered(0, 10, 1), 1), shard.table(numbered(9, 20, 2), 1)];
    await shard.replace(tables);
    expect(shard.kit.host.stops.join()).to.match(/tables of level 1 overlap/);
  });
});

describe('chained cursors', () => {
  it('chain: cursors follow each other, and each is opened when it is its turn', () => {
    const opened: number[] = [];
    const parts = [['a', 'b'], [], ['c']].map((names, i) => () => {
      opened.push(i);
      return cursorOf(names.map((name) => makeRecord(name)));
    });
    const cursor = chainCursors(parts);
    expect(opened).to.deep.equal([]);
    cursor.next();
    expect(opened).to.deep.equal([0]);
    expect(drain(cursor).length).to.equal(2);
    expect(opened).to.deep.equal([0, 1, 2]);
  });
});
