// The bytes of the storage formats, compared with files that were written once (test/golden/*.hex).
// A difference means that older data cannot be read any more: raise the format's version instead.
// KVD_REWRITE_GOLDEN=1 writes the files anew.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { recordHash, recordKey } from '../../actors/model/record.ts';
import { ManifestLog, manifestName } from '../../actors/storage/manifest.ts';
import { decodeSnapshot, encodeSnapshot } from '../../actors/storage/snapshot-format.ts';
import { SstableReader } from '../../actors/storage/sstable-reader.ts';
import { SstableWriter } from '../../actors/storage/sstable-writer.ts';
import { decodeSegmentHeader } from '../../actors/storage/wal-format.ts';
import { decodeList, encodeList, tablesOf } from '../../cli/backup/backup-format.ts';
import { concatBytes } from '../../runtime/bytes.ts';
import { loadCodecModules } from '../../runtime/host/codec-modules.ts';
import { createCodecs } from '../../runtime/block-codecs.ts';
import { MemoryDisk } from '../kit-disk.ts';
import { buildLog, identity, readLog } from './log-under-test.ts';
import { byKey, drain, hexes, hexOf, makeRecord } from './records-under-test.ts';

const codecs = createCodecs(loadCodecModules());

const records = [
  makeRecord('alpha', { hlc: 1_700_000_000_000_001, value: 'first' }),
  makeRecord('beta', { hlc: 1_700_000_000_000_002, value: '', isTombstone: true }),
  makeRecord('gamma', { expiresAt: 1_800_000_000_000, value: 'long enough '.repeat(12) }),
  makeRecord('delta', { namespace: 2, value: '{"a":1}', valueType: 1, version: 3 }),
];

/** Keys with much in common, in several blocks. */
const neighbours = Array.from({ length: 70 }, (_, i) =>
  makeRecord(`user:${String(i * 3).padStart(6, '0')}`, { hlc: 5_000 + i, value: `value ${i}` }),
);

/** Hex in lines of 64 digits. */
const linesOf = (bytes: Uint8Array): string => (hexOf(bytes).match(/.{1,64}/g) ?? []).join('\n');

function golden(name: string): string | undefined {
  const file = path.join(process.cwd(), 'test', 'golden', name);
  return existsSync(file) ? readFileSync(file, 'utf8').trim() : undefined;
}

/** The bytes of the golden file, after what is written now was compared with it. */
function compareWithGolden(name: string, bytes: Uint8Array): Uint8Array {
  if (process.env['KVD_REWRITE_GOLDEN'] === '1')
    writeFileSync(path.join(process.cwd(), 'test', 'golden', name), `${linesOf(bytes)}\n`);
  const text = golden(name);
  expect(linesOf(bytes)).to.equal(text);
  return new Uint8Array(Buffer.from((text ?? '').replaceAll('\n', ''), 'hex'));
}

describe('golden', () => {
  for (const version of [1, 2] as const)
    it(`golden: a WAL segment has the bytes it always had, and is read (version=${version})`, () => {
      const group = { durability: 'group', inFlightBytesMax: 20_971_520 } as const;
      const writtenWith = version === 1 ? undefined : group;
      const [segment] = buildLog(
        [
          [
            { lsn: 1, durableLsn: 0, payload: concatBytes(records.slice(0, 2)) },
            { lsn: 2, durableLsn: 1, payload: records[2] as Uint8Array },
            { lsn: 3, durableLsn: 2, payload: new Uint8Array(0), isMark: true },
          ],
        ],
        { firstNumber: 5, ...(writtenWith === undefined ? {} : { writtenWith }) },
      );
      const file = `wal-segment-v${version}.hex`;
      const bytes = compareWithGolden(file, segment?.bytes as Uint8Array);
      const { verdict, payloads } = readLog([{ number: 5, bytes }]);
      expect(verdict).to.include({ kind: 'end', lastLsn: 3 });
      expect(hexOf(concatBytes(payloads))).to.equal(hexOf(concatBytes(records.slice(0, 3))));
      expect(decodeSegmentHeader(bytes)?.writtenWith).to.deep.equal(writtenWith);
    });

  for (const codec of ['none', 'lz4', 'zstd'] as const)
    it(`golden: a table has the bytes it always had, and is read (${codec})`, () => {
      const disk = new MemoryDisk();
      const file = disk.open('table', 'create');
      const many = [...records, ...neighbours].sort(byKey);
      const options = { codecs, codec, expectedRecords: many.length, blockBytes: 2048, level: 2 };
      const writer = new SstableWriter(file, 9, options);
      for (const record of many) writer.add(record);
      const meta = writer.finish();
      const written = disk.read('table') as Uint8Array;
      disk.put('stored', compareWithGolden(`sstable-v2-${codec}.hex`, written));
      const reader = SstableReader.open(disk.open('stored', 'read'), 9, codecs);
      expect(reader.formatVersion).to.equal(2);
      expect(reader.meta).to.deep.equal(meta);
      expect(reader.figures).to.deep.include({
        codec,
        expiring: 1,
        minExpiresAt: 1_800_000_000_000,
      });
      expect(hexes(drain(reader.cursor()))).to.deep.equal(hexes(many));
      expect(hexes(drain(reader.reverseCursor()))).to.deep.equal(hexes(many.toReversed()));
      reader.verifyAll();
    });

  it('golden: a table of version 1 is read', () => {
    const disk = new MemoryDisk();
    disk.put(
      'stored',
      new Uint8Array(Buffer.from((golden('sstable-v1.hex') ?? '').replaceAll('\n', ''), 'hex')),
    );
    const reader = SstableReader.open(disk.open('stored', 'read'), 9, codecs);
    expect([reader.formatVersion, reader.figures, reader.blocks]).to.deep.equal([1, undefined, 1]);
    expect(hexes(drain(reader.cursor()))).to.deep.equal(hexes(records));
    expect(hexes(drain(reader.reverseCursor()))).to.deep.equal(hexes(records.toReversed()));
    for (const record of records) {
      const found = reader.get(recordKey(record), recordHash(record));
      expect(found && hexOf(found)).to.equal(hexOf(record));
    }
    expect(reader.get(recordKey(makeRecord('a')), recordHash(records[0] as Uint8Array))).to.equal(
      undefined,
    );
    reader.verifyAll();
  });

  it('golden: a manifest has the bytes it always had, and is read', async () => {
    const disk = new MemoryDisk();
    const manifest = await ManifestLog.open(disk, 'shard', identity);
    const table = {
      fileNumber: 3,
      level: 0,
      bytes: 4096,
      records: 4,
      tombstones: 1,
      firstKey: recordKey(records[0] as Uint8Array),
      lastKey: recordKey(records[3] as Uint8Array),
      minHlc: 1_000,
      maxHlc: 1_700_000_000_000_002,
      maxExpiresAt: 0,
      checksum: 0x0102_0304,
    };
    await manifest.commit({ added: [table], dropped: [], flushedThrough: 77 });
    const moved = { ...table, level: 1 };
    await manifest.commit({ added: [moved], dropped: [{ level: 0, fileNumber: 3 }] });
    const name = `shard/${manifestName(1)}`;
    const stored = compareWithGolden('manifest-v1.hex', disk.read(name) as Uint8Array);
    disk.put(
      'shard/CURRENT',
      compareWithGolden('current-v1.hex', disk.read('shard/CURRENT') as Uint8Array),
    );
    disk.put(name, stored);
    const { state } = await ManifestLog.open(disk, 'shard', identity);
    expect([...state.tables.values()]).to.deep.equal([moved]);
    expect([state.flushedThrough, state.nextFileNumber]).to.deep.equal([77, 4]);
  });

  it('golden: lists of snapshots and backups have the bytes they always had, and are read', () => {
    const table = {
      fileNumber: 3,
      level: 1,
      bytes: 4096,
      records: 4,
      tombstones: 1,
      firstKey: recordKey(records[0] as Uint8Array),
      lastKey: recordKey(records[3] as Uint8Array),
      minHlc: 1_000,
      maxHlc: 1_700_000_000_000_002,
      maxExpiresAt: 0,
      checksum: 0x0102_0304,
    };
    const snapshot = {
      name: 'before-upgrade',
      createdMs: 1_700_000_000_123,
      clusterName: 'kvd',
      node: 'n1',
      incarnation: 1_700_000_000,
      shape: { members: ['n1', 'n2'], replicationFactor: 2, virtualNodes: 256, shards: 1 },
      shards: [{ shard: 0, flushedThrough: 77, tables: [table] }],
    };
    const bytes = compareWithGolden('snapshot-v1.hex', encodeSnapshot(snapshot));
    expect(decodeSnapshot('s', bytes)).to.deep.equal(snapshot);
    const list = { id: '20260131T120000000Z', nodes: [snapshot] };
    const listed = compareWithGolden('backup-v1.hex', encodeList(list));
    expect(decodeList('l', listed)).to.deep.equal(list);
    expect(tablesOf(list)[0]?.path).to.equal('tables/n1.0.0000000003-01020304.sst');
  });
});
