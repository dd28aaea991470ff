// Tables: what is written is found, in order and by key; damage anywhere is a CorruptionError and
// never a missing record (CO-1).

import { expect } from 'chai';
import fc from 'fast-check';
import { recordHash, recordKey } from '../../actors/model/record.ts';
import { BlockCache } from '../../actors/storage/block-cache.ts';
import type { TableMeta } from '../../actors/storage/protocol.ts';
import { type CodecName, footerBytes, openBlock } from '../../actors/storage/sstable-format.ts';
import { SstableReader } from '../../actors/storage/sstable-reader.ts';
import { type SstableOptions, SstableWriter } from '../../actors/storage/sstable-writer.ts';
import { compareBytes, crc32, noBytes } from '../../runtime/bytes.ts';
import { BugError, CorruptionError, KvError } from '../../runtime/errors.ts';
import { loadCodecModules } from '../../runtime/host/codec-modules.ts';
import { createCodecs } from '../../runtime/block-codecs.ts';
import { Prng } from '../../runtime/prng.ts';
import { MemoryDisk } from '../kit-disk.ts';
import {
  drain,
  hexes,
  hexOf,
  makeRecord,
  naiveWinners,
  recordOf,
  writes,
} from './records-under-test.ts';

const codecs = createCodecs(loadCodecModules());
const path = 'tables/0000000007.sst';

interface Table {
  readonly disk: MemoryDisk;
  readonly meta: TableMeta;
}

function writeTable(records: readonly Uint8Array[], options: Partial<SstableOptions> = {}): Table {
  const disk = new MemoryDisk();
  const file = disk.open(path, 'create');
  const writer = new SstableWriter(file, 7, {
    codecs,
    expectedRecords: records.length,
    ...options,
  });
  for (const record of records) writer.add(record);
  return { disk, meta: writer.finish() };
}

const openTable = ({ disk }: Table, cache?: BlockCache): SstableReader =>
  SstableReader.open(disk.open(path, 'read'), 7, codecs, cache);

const getFrom = (reader: SstableReader, record: Uint8Array): Uint8Array | undefined =>
  reader.get(recordKey(record), recordHash(record));

const keyText = (i: number): string => `user:${String(i).padStart(6, '0')}`;

const numbered = (count: number, value = 'some text, some text'): Uint8Array[] =>
  Array.from({ length: count }, (_, i) =>
    makeRecord(keyText(i), { hlc: 100 + i, value: `${value} ${i}` }),
  );

describe('sstable', () => {
  for (const compression of ['none', 'lz4', 'zstd'] as const)
    it(`sstable: every record is found, in order and by key (${compression}, any records)`, () => {
      const property = fc.property(
        fc.array(writes, { minLength: 1, maxLength: 200 }),
        writes,
        fc.uint8Array({ maxLength: 12 }),
        (list, other, start) => {
          const records = naiveWinners(list.map(recordOf));
          const options = { blockBytes: 1024, codec: compression };
          const table = writeTable(records, options);
          const reader = openTable(table, new BlockCache(2048));
          expect(reader.meta).to.deep.equal(table.meta);
          expect(hexes(drain(reader.cursor()))).to.deep.equal(hexes(records));
          for (const record of records)
            expect(hexOf(getFrom(reader, record) ?? new Uint8Array(0))).to.equal(hexOf(record));
          for (const from of [recordKey(recordOf(other)), start]) {
            const rest = records.filter((record) => compareBytes(recordKey(record), from) >= 0);
            expect(hexes(drain(reader.cursor(from)))).to.deep.equal(hexes(rest));
          }
          for (const below of [recordKey(recordOf(other)), start]) {
            const rest = records.filter((record) => compareBytes(recordKey(record), below) < 0);
            const back = drain(reader.reverseCursor(below));
            expect(hexes(back)).to.deep.equal(hexes(rest.toReversed()));
          }
          expect(drain(reader.reverseCursor()).length).to.equal(records.length);
          const isThere = records.some(
            (record) => hexOf(recordKey(record)) === hexOf(recordKey(recordOf(other))),
          );
          expect(getFrom(reader, recordOf(other)) !== undefined).to.equal(isThere);
          reader.verifyAll();
        },
      );
      fc.assert(property, { numRuns: 100 });
    });

  it('sstable: a table of 3 MB in 16 KiB blocks (records=20000)', () => {
    const random = new Prng(5);
    const records = numbered(20_000, Buffer.from(random.bytes(40)).toString('base64'));
    const table = writeTable(records);
    const reader = openTable(table, new BlockCache(64 * 1024));
    expect(table.meta.records).to.equal(20_000);
    expect(table.meta.bytes).to.be.lessThan(1_800_000);
    for (let i = 0; i < 20_000; i += 7)
      expect(getFrom(reader, records[i] as Uint8Array)?.length).to.equal(records[i]?.length);
    expect(drain(reader.cursor()).length).to.equal(20_000);
    reader.verifyAll();
  });

  for (const codec of ['none', 'lz4', 'zstd'] as const)
    it(`sstable: what was given out stays as it is when blocks go and others come (${codec})`, () => {
      const random = new Prng(6);
      // Each hundredth is long enough to be given out as a view of its block.
      const records = numbered(4_000, Buffer.from(random.bytes(60)).toString('base64')).map(
        (record, i) =>
          i % 100 === 0 ? makeRecord(keyText(i), { value: 'x'.repeat(6_000) }) : record,
      );
      const cache = new BlockCache(4 * 17 * 1024);
      const reader = openTable(writeTable(records, { codec }), cache);
      const given: (readonly [Uint8Array | undefined, number])[] = [];
      for (let round = 0; round < 3_000; round += 1) {
        const n = random.int(records.length);
        const record = records[n] as Uint8Array;
        given.push([getFrom(reader, record), n]);
        if (round % 10 > 0) continue;
        // Cursors that take turns: where one brings a block, one of another goes.
        const walk = (): void => {
          const starts = [n, random.int(records.length), random.int(records.length)];
          const cursors = starts.map((i) => reader.cursor(recordKey(records[i] as Uint8Array)));
          const length = round % 100 === 0 ? 500 : 20;
          for (let step = 0; step < length; step += 1)
            for (const [c, start] of starts.entries())
              if (start + step < records.length) given.push([cursors[c]?.next(), start + step]);
        };
        if (round % 20 === 0) cache.scan(walk);
        else walk();
      }
      const changed = given.filter(
        ([bytes = noBytes, n]) => Buffer.compare(bytes, records[n] as Uint8Array) !== 0,
      );
      expect(changed.length, 'bytes that were given out').to.equal(0);
      expect(cache.figures.evictions).to.be.above(1_000);
    });

  for (const codec of ['none', 'lz4', 'zstd'] as const)
    it(`sstable: a merge gets every record, each as it is until the one after the next (${codec})`, () => {
      const long = (i: number): string =>
        i % 700 === 0 ? 'y'.repeat(40_000) : 'text'.repeat(i % 60);
      const records = Array.from({ length: 3_000 }, (_, i) =>
        makeRecord(keyText(i), { value: `${i} ${long(i)}` }),
      );
      const cursor = openTable(writeTable(records, { codec })).mergeCursor();
      let before: Uint8Array = noBytes;
      for (const [i, record] of records.entries()) {
        const next = cursor.next() ?? noBytes;
        expect(Buffer.compare(next, record)).to.equal(0);
        if (i > 0) expect(Buffer.compare(before, records[i - 1] as Uint8Array)).to.equal(0);
        before = next;
      }
      expect(cursor.next()).to.equal(undefined);
      expect(Buffer.compare(before, records.at(-1) as Uint8Array)).to.equal(0);
    });

  it('sstable: the index has two levels, of which one stays in memory (records=20000)', () => {
    const records = numbered(20_000, 'x'.repeat(100));
    const table = writeTable(records);
    const cache = new BlockCache(1 << 20);
    const reader = openTable(table, cache);
    const parts = reader.indexParts();
    expect(reader.blocks).to.be.above(150);
    expect(parts.length).to.be.above(1);
    expect(parts.map(({ firstBlock }) => firstBlock).slice(1)).to.deep.equal(
      parts.map(({ endBlock }) => endBlock).slice(0, -1),
    );
    expect(reader.heldBytes).to.be.below(20_000 * 1.3 + 1000);
    expect(cache.indexFigures.entries).to.equal(0);
    getFrom(reader, records[0] as Uint8Array);
    getFrom(reader, records[19_999] as Uint8Array);
    expect(cache.indexFigures).to.include({ entries: 2, misses: 2 });
    for (let i = 0; i < reader.blocks; i += 1) {
      const { firstKey, nextKey } = reader.spanOf(i);
      const keys = reader.recordsOf(i).map(recordKey);
      expect(compareBytes(firstKey, keys[0] as Uint8Array)).to.be.at.most(0);
      const last = keys[keys.length - 1] as Uint8Array;
      if (nextKey !== undefined) expect(compareBytes(last, nextKey)).to.be.below(0);
    }
    reader.close();
    expect([cache.blocks, cache.bytes]).to.deep.equal([0, 0]);
  });

  it('sstable: the properties tell of lifetimes and sizes', () => {
    const records = [
      makeRecord('a', { value: 'x'.repeat(1000), expiresAt: 9000 }),
      makeRecord('b', { value: 'y', expiresAt: 4000 }),
      makeRecord('c', { value: 'z' }),
    ];
    const { figures } = openTable(writeTable(records, { codec: 'zstd' }));
    const sizes = new Array<number>(25).fill(0);
    sizes[5] = 2;
    sizes[10] = 1;
    expect(figures).to.deep.equal({
      codec: 'zstd',
      expiring: 2,
      minExpiresAt: 4000,
      keyBytes: 15,
      valueBytes: 1002,
      rawBytes: 3 * 50 + 1002 + (5 + 1 + 1) + 8,
      sizes,
    });
  });

  it('sstable: a record larger than a block has one of its own (value of 3 MiB that does not compress)', () => {
    const large = makeRecord('b', { value: new Prng(1).bytes(3 << 20) });
    const records = [makeRecord('a'), large, makeRecord('c')];
    const reader = openTable(writeTable(records));
    expect(Buffer.compare(getFrom(reader, large) as Uint8Array, large)).to.equal(0);
    expect(drain(reader.cursor()).map((record) => record.length)).to.deep.equal(
      records.map((record) => record.length),
    );
    reader.verifyAll();
  });

  it('sstable: blocks that do not compress are stored as they are', () => {
    const random = new Prng(2);
    const records = Array.from({ length: 64 }, (_, i) =>
      makeRecord(random.bytes(200).with(0, i), { value: random.bytes(400) }),
    );
    const bytesWith = (codec: CodecName): number => writeTable(records, { codec }).meta.bytes;
    expect([bytesWith('lz4'), bytesWith('zstd')]).to.deep.equal([
      bytesWith('none'),
      bytesWith('none'),
    ]);
  });

  it('sstable: the figures of a table are those of its records', () => {
    const records = [
      makeRecord('a', { hlc: 30, expiresAt: 5000 }),
      makeRecord('b', { hlc: 10, isTombstone: true, expiresAt: 9000 }),
      makeRecord('c', { hlc: 20, expiresAt: 7000 }),
    ];
    const { meta, disk } = writeTable(records, { level: 2 });
    const bytes = disk.read(path) as Uint8Array;
    expect(meta).to.deep.equal({
      fileNumber: 7,
      level: 2,
      bytes: bytes.length,
      records: 3,
      tombstones: 1,
      firstKey: recordKey(records[0] as Uint8Array),
      lastKey: recordKey(records[2] as Uint8Array),
      minHlc: 10,
      maxHlc: 30,
      maxExpiresAt: 9000,
      checksum: crc32(bytes.subarray(0, bytes.length - footerBytes)),
    });
    const forever = writeTable([...records, makeRecord('d')]);
    expect(forever.meta.maxExpiresAt).to.equal(0);
  });

  it('sstable: keys out of order, twice, or after the end are a defect', () => {
    const make = (): SstableWriter => {
      const file = new MemoryDisk().open(path, 'create');
      const writer = new SstableWriter(file, 7, { codecs, expectedRecords: 3 });
      writer.add(makeRecord('b'));
      return writer;
    };
    expect(() => make().add(makeRecord('a'))).to.throw(BugError, 'out of order');
    expect(() => make().add(makeRecord('b', { hlc: 9 }))).to.throw(BugError, 'out of order');
    const finished = make();
    finished.finish();
    expect(() => finished.add(makeRecord('c'))).to.throw(BugError, 'finished');
    const file = new MemoryDisk().open(path, 'create');
    const empty = new SstableWriter(file, 7, { codecs, expectedRecords: 3 });
    expect(() => empty.finish()).to.throw(BugError, 'without records');
  });

  it('sstable: the filter spares reads of blocks (others=2000)', () => {
    const table = writeTable(numbered(500));
    const file = table.disk.open(path, 'read');
    let reads = 0;
    const counted = {
      ...file,
      read: (target: Uint8Array, position: number): number => {
        reads += 1;
        return file.read(target, position);
      },
    };
    const reader = SstableReader.open(counted, 7, codecs);
    reads = 0;
    for (let i = 0; i < 2000; i += 1)
      expect(getFrom(reader, makeRecord(`user:000100:${i}`))).to.equal(undefined);
    expect(reads).to.be.within(1, 60);
  });

  it('sstable: a cached block is read once, and closing the table gives it back', () => {
    const cache = new BlockCache(1 << 20);
    const table = writeTable(numbered(1000));
    const reader = openTable(table, cache);
    const other = openTable(table, cache);
    drain(reader.cursor());
    const { blocks, bytes } = cache;
    expect(bytes).to.be.greaterThan(70_000);
    drain(reader.cursor());
    expect(cache.blocks).to.equal(blocks);
    other.get(recordKey(numbered(1)[0] as Uint8Array), recordHash(numbered(1)[0] as Uint8Array));
    // One of data, one of the index.
    expect(cache.blocks).to.equal(blocks + 2);
    reader.close();
    expect(cache.blocks).to.equal(2);
    other.close();
    expect([cache.blocks, cache.bytes]).to.deep.equal([0, 0]);
  });
});

describe('sstable: damage', () => {
  const records = numbered(60, 'text text text');
  const table = writeTable(records, { blockBytes: 2048 });
  const good = table.disk.read(path) as Uint8Array;

  /** 'corrupt', or what was read where nothing was noticed. */
  function outcome(bytes: Uint8Array): string {
    table.disk.put(path, bytes);
    try {
      const reader = openTable(table);
      for (const record of records)
        if (hexOf(getFrom(reader, record) ?? new Uint8Array(0)) !== hexOf(record)) return 'wrong';
      return 'same';
    } catch (error) {
      if (error instanceof CorruptionError) return 'corrupt';
      throw error;
    }
  }

  it('sstable: any changed bit is a CorruptionError (every 5th bit)', () => {
    const unnoticed: string[] = [];
    for (let bit = 0; bit < good.length * 8; bit += 5) {
      const bytes = good.slice();
      bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
      const found = outcome(bytes);
      if (found !== 'corrupt') unnoticed.push(`bit ${bit}: ${found}`);
    }
    expect(unnoticed).to.deep.equal([]);
    expect(outcome(good)).to.equal('same');
  });

  it('sstable: a table cut short at any length is a CorruptionError', () => {
    for (let length = 0; length < good.length; length += 13)
      expect(outcome(good.slice(0, length)), String(length)).to.equal('corrupt');
    expect(outcome(new Uint8Array([...good, 0]))).to.equal('corrupt');
  });

  it('sstable: two blocks that changed places are noticed, whatever the index says (MF-7)', () => {
    // Each has a block of its own, and all of these have one length.
    const value = 'x'.repeat(1500);
    const equal = Array.from({ length: 40 }, (_, i) => makeRecord(`key:${100 + i}`, { value }));
    const plain = writeTable(equal, { blockBytes: 1024, codec: 'none' });
    const bytes = plain.disk.read(path) as Uint8Array;
    const spans = [0, 1].map((number) => openTable(plain).spanOf(number));
    const [end, second] = spans.map(({ length }) => length) as [number, number];
    expect(second).to.equal(end);
    const swapped = bytes.slice();
    swapped.set(bytes.subarray(end, 2 * end), 0);
    swapped.set(bytes.subarray(0, end), end);
    plain.disk.put(path, swapped);
    const reader = openTable(plain);
    for (const record of equal.slice(0, 2))
      expect(() => getFrom(reader, record)).to.throw(CorruptionError, 'checksum of a block');
    const stored = { fileNumber: 7, offset: end, bytes: bytes.subarray(end, 2 * end) };
    expect(openBlock(path, { ...stored, crc: undefined }, codecs).length).to.equal(end - 12);
    const otherCrc = { ...stored, crc: 1 };
    expect(() => openBlock(path, otherCrc, codecs)).to.throw(CorruptionError, 'another block');
    const otherFile = { ...stored, fileNumber: 8, crc: undefined };
    expect(() => openBlock(path, otherFile, codecs)).to.throw(
      CorruptionError,
      'checksum of a block',
    );
  });

  it('sstable: a table under the name of another is a CorruptionError', () => {
    table.disk.put(path, good);
    const open = (): SstableReader => SstableReader.open(table.disk.open(path, 'read'), 8, codecs);
    expect(open).to.throw(CorruptionError, 'it is table 7');
  });

  it('sstable: the error names the file and the offset', () => {
    const bytes = good.slice();
    bytes[20] = (bytes[20] as number) ^ 1;
    table.disk.put(path, bytes);
    const reader = openTable(table);
    try {
      getFrom(reader, records[0] as Uint8Array);
      expect.fail('damage was not noticed');
    } catch (error) {
      expect(error).to.be.instanceOf(CorruptionError);
      expect(error).to.include({ file: path, offset: 0 });
    }
    expect(() => reader.verifyAll()).to.throw(CorruptionError, 'checksum of the file');
  });

  it('sstable: a newer format is refused, not called damage', () => {
    const bytes = good.slice();
    const footer = bytes.subarray(bytes.length - footerBytes);
    footer[4] = 3;
    new DataView(footer.buffer, footer.byteOffset).setUint32(
      footerBytes - 4,
      crc32(footer.subarray(0, footerBytes - 4)),
      true,
    );
    table.disk.put(path, bytes);
    expect(() => openTable(table)).to.throw(KvError, 'table format 3; this program reads 1 to 2');
  });
});
