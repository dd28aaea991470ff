// The manifest: what was committed is there after a restart, a torn last edit is cut, damage is
// never ignored, and after a failure nothing is appended to the same file again (MF-1..MF-6).

import { expect } from 'chai';
import fc from 'fast-check';
import { recordKey } from '../../actors/model/record.ts';
import {
  decodeCurrent,
  encodeCurrent,
  ManifestLog,
  manifestName,
  type ManifestOptions,
} from '../../actors/storage/manifest.ts';
import type { TableMeta } from '../../actors/storage/protocol.ts';
import {
  decodeEdit,
  encodeEdit,
  ManifestState,
  type VersionEdit,
} from '../../actors/storage/version-edit.ts';
import { segmentHeaderSpace } from '../../actors/storage/wal-format.ts';
import { replayManifest } from '../../cli/commands/storage-files.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { BugError, CorruptionError, KvError } from '../../runtime/errors.ts';
import { codeRejectedBy, codeThrownBy } from '../kit.ts';
import { MemoryDisk } from '../kit-disk.ts';
import { identity } from './log-under-test.ts';
import { makeRecord } from './records-under-test.ts';

const directory = 'shard-2';
const current = `${directory}/CURRENT`;

const tableOf = (fileNumber: number, level = 0): TableMeta => ({
  fileNumber,
  level,
  bytes: 1000 + fileNumber,
  records: 10,
  tombstones: 1,
  firstKey: recordKey(makeRecord('a')),
  lastKey: recordKey(makeRecord('z')),
  minHlc: 5,
  maxHlc: 2 ** 45,
  maxExpiresAt: 0,
  checksum: 0xffff_ffff,
});

const adding = (...tables: readonly TableMeta[]): VersionEdit => ({ added: tables, dropped: [] });

const openOn = (disk: MemoryDisk, options: ManifestOptions = {}): Promise<ManifestLog> =>
  ManifestLog.open(disk, directory, identity, options);

const tablesOf = ({ state }: ManifestLog): number[] => [...state.tables.keys()];
const manifestsOn = (disk: MemoryDisk): readonly string[] =>
  disk.list(directory).filter((name) => name.startsWith('MANIFEST'));
const currentPath = (disk: MemoryDisk): string => `${directory}/${manifestName(numberOn(disk))}`;

/** A manifest with tables 1 and 2, closed. */
async function diskWithTwoTables(): Promise<MemoryDisk> {
  const disk = new MemoryDisk();
  const manifest = await openOn(disk);
  await manifest.commit({ ...adding(tableOf(1)), flushedThrough: 10 });
  await manifest.commit({ ...adding(tableOf(2)), flushedThrough: 20 });
  manifest.close();
  return disk;
}

const numbered = (from: number, to: number): TableMeta[] =>
  Array.from({ length: to - from + 1 }, (_, i) => tableOf(from + i));

const numberOn = (disk: MemoryDisk): number =>
  decodeCurrent(disk.read(current) as Uint8Array) as number;

/** A manifest of 40 tables that begins with a snapshot of several edits, closed. */
async function diskWithLargeSnapshot(): Promise<MemoryDisk> {
  const disk = new MemoryDisk();
  const manifest = await openOn(disk);
  await manifest.commit({ ...adding(...numbered(1, 40)), flushedThrough: 9 });
  manifest.close();
  (await openOn(disk, { snapshotEditBytes: 300 })).close();
  return disk;
}

/** The thrown or rejecting CorruptionError's message. */
async function corruptionOf(opening: Promise<unknown>): Promise<string> {
  try {
    await opening;
  } catch (error) {
    if (error instanceof CorruptionError) return error.message;
    throw error;
  }
  return 'none';
}

describe('version-edit', () => {
  it('version-edit: an edit reads back (any edits)', () => {
    const u53 = fc.maxSafeNat();
    const tables = fc.record({
      fileNumber: u53,
      level: fc.nat(7),
      bytes: u53,
      records: u53,
      tombstones: u53,
      firstKey: fc.uint8Array({ maxLength: 30 }),
      lastKey: fc.uint8Array({ maxLength: 30 }),
      minHlc: u53,
      maxHlc: u53,
      maxExpiresAt: u53,
      checksum: fc.nat({ max: 0xffff_ffff }),
    });
    const edits = fc.record(
      {
        added: fc.array(tables, { maxLength: 4 }),
        dropped: fc.array(fc.record({ level: fc.nat(7), fileNumber: u53 }), { maxLength: 4 }),
        flushedThrough: u53,
        nextFileNumber: u53,
      },
      { requiredKeys: ['added', 'dropped'] },
    );
    fc.assert(
      fc.property(edits, (edit) => {
        expect(decodeEdit(encodeEdit(edit))).to.deep.equal(edit);
      }),
    );
  });

  it('version-edit: cut or unknown bytes are refused', () => {
    const bytes = encodeEdit(adding(tableOf(1)));
    for (let length = 1; length < bytes.length; length += 1)
      expect(codeThrownBy(() => decodeEdit(bytes.subarray(0, length)))).to.equal('BAD_REQUEST');
    expect(codeThrownBy(() => decodeEdit(new Uint8Array([9])))).to.equal('BAD_REQUEST');
  });

  it('version-edit: a snapshot makes the same state', () => {
    const state = new ManifestState();
    state.apply({ ...adding(tableOf(3), tableOf(5, 1)), flushedThrough: 9, nextFileNumber: 12 });
    state.apply({ added: [tableOf(7, 1)], dropped: [{ level: 0, fileNumber: 3 }] });
    const copy = new ManifestState();
    copy.apply(decodeEdit(encodeEdit(state.snapshotEdit())));
    expect([...copy.tables]).to.deep.equal([...state.tables]);
    expect([...copy.tables.keys()]).to.deep.equal([5, 7]);
    expect([copy.flushedThrough, copy.nextFileNumber]).to.deep.equal([9, 12]);
  });

  it('version-edit: an edit that does not fit changes nothing; marks never go back', () => {
    const state = new ManifestState();
    state.apply({ ...adding(tableOf(3)), flushedThrough: 9 });
    const wrong: VersionEdit[] = [
      adding(tableOf(3)),
      adding(tableOf(4), tableOf(4)),
      { added: [], dropped: [{ level: 1, fileNumber: 3 }] },
      { added: [tableOf(8)], dropped: [{ level: 0, fileNumber: 4 }] },
    ];
    for (const edit of wrong) expect(() => state.apply(edit)).to.throw(BugError, 'version edit');
    state.apply({
      added: [tableOf(3, 1)],
      dropped: [{ level: 0, fileNumber: 3 }],
      flushedThrough: 2,
    });
    expect([...state.tables.values()]).to.deep.equal([tableOf(3, 1)]);
    expect([state.flushedThrough, state.nextFileNumber]).to.deep.equal([9, 4]);
  });
});

describe('manifest: CURRENT', () => {
  it('manifest: CURRENT reads back, and no part or changed bit of it does', () => {
    const bytes = encodeCurrent(42);
    expect(utf8.decode(bytes)).to.match(/^MANIFEST-0000000042 [0-9a-f]{8}\n$/);
    expect(decodeCurrent(bytes)).to.equal(42);
    for (let length = 0; length < bytes.length; length += 1)
      expect(decodeCurrent(bytes.subarray(0, length))).to.equal(undefined);
    for (let bit = 0; bit < bytes.length * 8; bit += 1) {
      const changed = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
      expect(decodeCurrent(bytes.with(bit >> 3, changed)), `bit ${bit}`).to.equal(undefined);
    }
  });
});

describe('manifest', () => {
  it('manifest: a new shard starts empty, durably', async () => {
    const disk = new MemoryDisk();
    const synced: string[] = [];
    disk.beforeSync = (path) => {
      synced.push(path);
      return undefined;
    };
    const manifest = await openOn(disk);
    expect(tablesOf(manifest)).to.deep.equal([]);
    expect([manifest.state.flushedThrough, manifest.state.nextFileNumber]).to.deep.equal([0, 1]);
    expect(synced).to.deep.equal([`${directory}/${manifestName(1)}`]);
    expect(decodeCurrent(disk.read(current) as Uint8Array)).to.equal(1);
  });

  it('manifest: what was committed is there after each of three restarts', async () => {
    const disk = await diskWithTwoTables();
    for (const restart of [1, 2, 3]) {
      const manifest = await openOn(disk);
      expect([...manifest.state.tables.values()].slice(0, 2)).to.deep.equal([
        tableOf(1),
        tableOf(2),
      ]);
      expect(tablesOf(manifest).length).to.equal(1 + restart);
      expect(manifest.state.flushedThrough).to.equal(19 + restart);
      const next = tableOf(manifest.takeFileNumber());
      await manifest.commit({ ...adding(next), flushedThrough: 20 + restart });
      manifest.close();
      expect(manifestsOn(disk)).to.deep.equal([manifestName(1 + restart)]);
    }
  });

  it('manifest: a commit says which tables no version names any more, but not those that moved', async () => {
    const disk = await diskWithTwoTables();
    const manifest = await openOn(disk);
    const dropped = [1, 2].map((fileNumber) => ({ fileNumber, level: 0 }));
    expect(await manifest.commit({ added: [tableOf(2, 1)], dropped })).to.deep.equal([1]);
    expect((await openOn(disk)).state.tables.get(2)?.level).to.equal(1);
  });

  it('manifest: file numbers are never given twice, across restarts too', async () => {
    const disk = new MemoryDisk();
    const manifest = await openOn(disk, {
      beforeWriting: (state) => {
        expect(disk.paths()).to.deep.equal([]);
        for (const strange of [9, 4]) state.reserveFileNumber(strange);
      },
    });
    expect(manifest.takeFileNumber()).to.equal(10);
    expect(manifest.takeFileNumber()).to.equal(11);
    await manifest.commit(adding(tableOf(11)));
    expect((await openOn(disk)).takeFileNumber()).to.equal(12);
  });

  it('manifest: commits that are asked for at once are written one after the other (20)', async () => {
    const disk = new MemoryDisk();
    const manifest = await openOn(disk);
    await Promise.all(
      Array.from({ length: 20 }, (_, i) => manifest.commit(adding(tableOf(i + 1)))),
    );
    expect(tablesOf(await openOn(disk)).length).to.equal(20);
  });

  it('manifest: rolls over to a new file with a snapshot, which replaces the old one', async () => {
    const disk = new MemoryDisk();
    const manifest = await openOn(disk, { rollOverBytes: segmentHeaderSpace + 1500 });
    for (let n = 1; n <= 60; n += 1) {
      const dropped = n > 5 ? [{ level: 0, fileNumber: n - 5 }] : [];
      await manifest.commit({ added: [tableOf(n)], dropped, flushedThrough: n });
    }
    expect(manifestsOn(disk).length).to.equal(1);
    expect(decodeCurrent(disk.read(current) as Uint8Array)).to.be.greaterThan(5);
    const again = await openOn(disk);
    expect(tablesOf(again)).to.deep.equal([56, 57, 58, 59, 60]);
    expect(again.state.flushedThrough).to.equal(60);
  });

  it('manifest: one that is large is replaced when it has doubled, not at every commit', async () => {
    const disk = new MemoryDisk();
    const manifest = await openOn(disk, { rollOverBytes: segmentHeaderSpace + 1500 });
    await manifest.commit(adding(...numbered(1, 100)));
    for (let n = 101; n <= 400; n += 1) await manifest.commit(adding(tableOf(n)));
    // An edit with its mark takes more than a table of a snapshot: it grows by 60 % each time.
    expect(numberOn(disk)).to.equal(5);
    expect(tablesOf(await openOn(disk)).length).to.equal(400);
  });

  it('manifest: a large snapshot is several edits, which count together (tables=40, 300 bytes)', async () => {
    const disk = await diskWithLargeSnapshot();
    for (const options of [{ snapshotEditBytes: 300 }, {}, { snapshotEditBytes: 1 }]) {
      const bytes = disk.read(currentPath(disk)) as Uint8Array;
      const { entries, verdict } = replayManifest('manifest', numberOn(disk), bytes);
      expect(verdict.kind).to.equal('end');
      if (options.snapshotEditBytes === 300) expect(entries.length).to.be.greaterThan(10);
      const manifest = await openOn(disk, options);
      expect([...manifest.state.tables.values()]).to.deep.equal(numbered(1, 40));
      expect([manifest.state.flushedThrough, manifest.state.nextFileNumber]).to.deep.equal([9, 41]);
      manifest.close();
    }
    const manifest = await openOn(disk, { snapshotEditBytes: 300 });
    await manifest.commit({ added: [tableOf(41)], dropped: [{ level: 0, fileNumber: 2 }] });
    expect(tablesOf(await openOn(disk))).to.deep.equal(tablesOf(manifest));
  });

  it('manifest: a new one names the tables that are there, however many', async () => {
    const disk = new MemoryDisk();
    const options = { snapshotEditBytes: 300 };
    (await ManifestLog.create(disk, directory, identity, numbered(1, 40), options)).close();
    const { state } = await openOn(disk);
    expect([...state.tables.values()]).to.deep.equal(numbered(1, 40));
    expect(state.nextFileNumber).to.equal(41);
  });

  it('manifest: an edit that does not fit is a defect and is not written', async () => {
    const disk = await diskWithTwoTables();
    const manifest = await openOn(disk);
    const before = disk.read(currentPath(disk))?.length;
    let thrown: unknown;
    await manifest.commit(adding(tableOf(2))).catch((error: unknown) => {
      thrown = error;
    });
    expect(thrown).to.be.instanceOf(BugError);
    expect(disk.read(currentPath(disk))?.length).to.equal(before);
    await manifest.commit(adding(tableOf(3)));
    expect(tablesOf(await openOn(disk))).to.deep.equal([1, 2, 3]);
  });
});

describe('manifest: damage', () => {
  it('manifest: a torn last edit is cut, at whatever byte; the edits before it stay', async () => {
    const disk = await diskWithTwoTables();
    const path = currentPath(disk);
    const bytes = disk.read(path) as Uint8Array;
    const files = { current: disk.read(current) as Uint8Array };
    // Behind the edit of table 2 lies a mark of 32 bytes.
    const edit =
      32 + encodeEdit({ ...adding(tableOf(2)), flushedThrough: 20, nextFileNumber: 3 }).length;
    const from = bytes.length - 32 - ((edit + 7) & ~7);
    for (let length = from; length < bytes.length; length += 1) {
      const crashed = new MemoryDisk();
      crashed.put(current, files.current);
      crashed.put(path, bytes.slice(0, length));
      const isWhole = length >= bytes.length - 32;
      expect(tablesOf(await openOn(crashed)), String(length)).to.deep.equal(isWhole ? [1, 2] : [1]);
    }
  });

  it('manifest: any changed bit of an edit is a CorruptionError (every 3rd bit)', async () => {
    const disk = await diskWithTwoTables();
    const path = currentPath(disk);
    const bytes = disk.read(path) as Uint8Array;
    const files = { current: disk.read(current) as Uint8Array };
    const markAt = bytes.length - 32;
    for (let bit = segmentHeaderSpace * 8; bit < bytes.length * 8; bit += 3) {
      const damaged = new MemoryDisk();
      damaged.put(current, files.current);
      damaged.put(path, bytes.with(bit >> 3, (bytes[bit >> 3] as number) ^ (1 << (bit & 7))));
      if (bit < markAt * 8)
        expect(await corruptionOf(openOn(damaged)), `bit ${bit}`).to.include('durable');
      else expect(tablesOf(await openOn(damaged))).to.deep.equal([1, 2]);
    }
  });

  it('manifest: a part of a large snapshot is none, wherever it is cut or damaged (every 7th byte)', async () => {
    const disk = await diskWithLargeSnapshot();
    const path = currentPath(disk);
    const bytes = disk.read(path) as Uint8Array;
    const markAt = bytes.length - 32;
    for (let at = segmentHeaderSpace; at < markAt; at += 7) {
      const zeros = new Uint8Array(bytes.length);
      zeros.set(bytes.subarray(0, at));
      const unmarked = bytes.slice(0, markAt);
      unmarked[at] = (unmarked[at] as number) ^ 1;
      for (const damaged of [bytes.slice(0, at), zeros, unmarked]) {
        disk.put(path, damaged);
        expect(await corruptionOf(openOn(disk)), `byte ${at}`).to.not.equal('none');
        const { verdict } = replayManifest('manifest', numberOn(disk), damaged);
        expect(verdict.kind, `byte ${at}`).to.equal('corrupt');
      }
    }
  });

  it('manifest: without its header, its file or its snapshot it is corrupt', async () => {
    const disk = await diskWithTwoTables();
    const path = currentPath(disk);
    const bytes = disk.read(path) as Uint8Array;
    disk.put(path, bytes.with(9, 1));
    expect(await corruptionOf(openOn(disk))).to.include('header');
    disk.put(path, bytes.slice(0, segmentHeaderSpace));
    expect(await corruptionOf(openOn(disk))).to.include('snapshot');
    disk.put(path, bytes.slice(0, 100));
    expect(await corruptionOf(openOn(disk))).to.include('snapshot');
    disk.remove(path);
    expect(await corruptionOf(openOn(disk))).to.include('it is gone');
  });

  it('manifest: a damaged or missing CURRENT is corrupt where the shard has data', async () => {
    const disk = await diskWithTwoTables();
    const bytes = disk.read(current) as Uint8Array;
    disk.put(current, bytes.slice(0, bytes.length - 1));
    expect(await corruptionOf(openOn(disk))).to.include('names no manifest');
    disk.remove(current);
    disk.put(`${directory}/tables/0000000001.sst`, new Uint8Array(1));
    expect(await corruptionOf(openOn(disk))).to.include('its shard is not');
  });

  it('manifest: a first start that ended before CURRENT begins again', async () => {
    const disk = new MemoryDisk();
    disk.put(`${directory}/${manifestName(1)}`, new Uint8Array(77));
    const manifest = await openOn(disk);
    expect(tablesOf(manifest)).to.deep.equal([]);
    expect(manifestsOn(disk)).to.deep.equal([manifestName(1)]);
  });

  it('manifest: another shard is refused', async () => {
    const disk = await diskWithTwoTables();
    const opening = ManifestLog.open(disk, directory, { ...identity, shard: 3 });
    expect(await codeRejectedBy(opening)).to.equal('DATA_REFUSED');
  });
});

describe('manifest: failures (MF-5)', () => {
  it('manifest: after a failed sync every commit fails, and nothing is appended', async () => {
    const disk = await diskWithTwoTables();
    const manifest = await openOn(disk);
    disk.beforeSync = () => new KvError('DISK_FAILED');
    expect(await codeRejectedBy(manifest.commit(adding(tableOf(3))))).to.equal('DISK_FAILED');
    disk.beforeSync = () => undefined;
    const length = disk.read(currentPath(disk))?.length;
    expect(await codeRejectedBy(manifest.commit(adding(tableOf(4))))).to.equal('DISK_FAILED');
    expect(disk.read(currentPath(disk))?.length).to.equal(length);
    expect(tablesOf(manifest)).to.deep.equal([1, 2]);
    expect(manifest.hasFailed).to.equal(true);
    // The edit whose sync failed may be there after a restart; here it is.
    expect(tablesOf(await openOn(disk))).to.deep.equal([1, 2, 3]);
  });

  it('manifest: after a full disk the next commit goes to a new file, without the failed edit', async () => {
    const disk = await diskWithTwoTables();
    const manifest = await openOn(disk);
    const before = currentPath(disk);
    disk.beforeWrite = () => {
      throw new KvError('DISK_FULL');
    };
    expect(await codeRejectedBy(manifest.commit(adding(tableOf(3))))).to.equal('DISK_FULL');
    expect(await codeRejectedBy(manifest.commit(adding(tableOf(4))))).to.equal('DISK_FULL');
    disk.beforeWrite = () => undefined;
    // Nothing names the tables of the failed edits any more; until now something might have.
    expect(await manifest.commit(adding(tableOf(5)))).to.deep.equal([3, 4]);
    expect(currentPath(disk)).not.to.equal(before);
    expect(manifestsOn(disk).length).to.equal(1);
    expect(tablesOf(await openOn(disk))).to.deep.equal([1, 2, 5]);
  });

  it('manifest: a roll-over that fails while CURRENT is written leaves no file in use', async () => {
    const disk = await diskWithTwoTables();
    const manifest = await openOn(disk, { rollOverBytes: 1 });
    for (const n of [11, 12]) await manifest.commit(adding(tableOf(n)));
    const written: string[] = [];
    disk.beforeWrite = (path) => {
      written.push(path);
      if (path === current) throw new KvError('DISK_FULL');
    };
    const before = currentPath(disk);
    expect(await codeRejectedBy(manifest.commit(adding(tableOf(3))))).to.equal('DISK_FULL');
    disk.beforeWrite = (path) => {
      written.push(path);
    };
    await manifest.commit(adding(tableOf(4)));
    expect(written).not.to.include(before);
    expect(tablesOf(await openOn(disk))).to.deep.equal([1, 2, 11, 12, 4]);
  });
});
