// The log without its store: what it does where a segment is full and the disk is, too.

import { expect } from 'chai';
import { WalWriter } from '../../actors/storage/protocol.ts';
import {
  decodeSegmentHeader,
  segmentHeaderSpace,
  segmentName,
} from '../../actors/storage/wal-format.ts';
import { walWriter, type WalOptions } from '../../actors/storage/wal-writer.actor.ts';
import { refTo } from '../../runtime/actor.ts';
import type { DiskFile } from '../../runtime/environment.ts';
import { KvError } from '../../runtime/errors.ts';
import { Kit } from '../kit.ts';
import { MemoryDisk } from '../kit-disk.ts';
import { makeRecord } from './records-under-test.ts';

const writer = refTo(WalWriter, 'n1');
const pathOf = (number: number): string => `wal/${segmentName(number)}`;

/** A log with one record in it; by default each of its segments holds one. */
async function begun(
  durability: WalOptions['durability'],
  sizes: Partial<Pick<WalOptions, 'segmentBytes' | 'aheadBytes'>> = {},
  disk = new MemoryDisk(),
): Promise<{ kit: Kit; disk: MemoryDisk }> {
  const kit = new Kit([WalWriter], { disk });
  await kit.spawn(walWriter, {
    directory: 'wal',
    identity: { clusterName: 'test', node: 'n1', incarnation: 1 },
    segmentBytes: segmentHeaderSpace + 200,
    aheadBytes: 0,
    ...sizes,
    durability,
    syncIntervalMs: 60_000,
    inFlightBytes: 1 << 20,
  });
  kit.ask(writer, 'recover', { flushedThrough: 0, recoveredThrough: 0 });
  await kit.host.settle();
  const begin = kit.ask(writer, 'begin', { afterLsn: 0 });
  await kit.host.settle();
  expect(begin.reply).to.deep.equal({});
  const first = kit.ask(writer, 'append', { record: recordOf('a') });
  await kit.host.settle();
  expect(first.reply).to.deep.equal({ lsn: 1 });
  return { kit, disk };
}

const mebibyte = makeRecord('m', { value: 'm'.repeat(1 << 20) });
const recordOf = (key: string): Uint8Array => makeRecord(key, { value: key.repeat(60) });

/** The code of a sync of this segment. */
const failSyncOf = (disk: MemoryDisk, number: number): void => {
  disk.beforeSync = (path) => (path === pathOf(number) ? new KvError('DISK_FULL') : undefined);
};

/** A disk whose files do some things in another way. */
function diskWhere(changed: (file: DiskFile) => Partial<DiskFile>): MemoryDisk {
  const disk = new MemoryDisk();
  const { open } = disk;
  const openChanged: MemoryDisk['open'] = (path, mode) => {
    const file = open(path, mode);
    return { ...file, ...changed(file) };
  };
  return Object.assign(disk, { open: openChanged });
}

/** A disk that is full for whatever is all zeros; says so. */
const withoutZeros = (refused: () => void): MemoryDisk =>
  diskWhere((file) => ({
    write: (bytes, position) => {
      if (bytes.every((byte) => byte === 0)) {
        refused();
        throw new KvError('DISK_FULL');
      }
      file.write(bytes, position);
    },
  }));

/** A disk whose syncs of the first segment end when they are told to, with or without an error. */
function withHeldSyncs(): { disk: MemoryDisk; held: ((error?: Error) => void)[] } {
  const held: ((error?: Error) => void)[] = [];
  const disk = diskWhere((file) => {
    let isFirst = true;
    return {
      sync: (done) => {
        // The one that begins the segment is let through.
        if (file.path !== pathOf(1) || isFirst) file.sync(done);
        else held.push(done);
        isFirst = false;
      },
    };
  });
  return { disk, held };
}

describe('wal writer', () => {
  for (const durability of ['group', 'periodic', 'none'] as const) {
    it(`wal writer: a segment that cannot be synced when it is full stops the node (durability=${durability})`, async () => {
      const { kit, disk } = await begun(durability);
      failSyncOf(disk, 1);
      const second = kit.ask(writer, 'append', { record: recordOf('b') });
      await kit.host.settle();
      expect(kit.host.stops.join()).to.match(/^disk: the log could not be synced: DISK_FULL/);
      disk.beforeSync = () => undefined;
      kit.ask(writer, 'append', { record: recordOf('c') });
      await kit.host.settle();
      expect([second.reply, disk.list('wal').includes(segmentName(2))]).to.deep.equal([
        undefined,
        false,
      ]);
    });

    it(`wal writer: without space for a new segment writes are refused until there is (durability=${durability})`, async () => {
      const { kit, disk } = await begun(durability);
      failSyncOf(disk, 2);
      const refused = kit.ask(writer, 'append', { record: recordOf('b') });
      await kit.host.settle();
      expect([refused.failure?.code, kit.host.stops]).to.deep.equal(['DISK_FULL', []]);
      disk.beforeSync = () => undefined;
      const taken = kit.ask(writer, 'append', { record: recordOf('c') });
      await kit.host.settle();
      expect(taken.reply).to.deep.equal({ lsn: 2 });
    });
  }

  it('wal writer: a record is kept where the disk has no room for the zeros behind it', async () => {
    let refusals = 0;
    const disk = withoutZeros(() => {
      refusals += 1;
    });
    const { kit } = await begun('group', { segmentBytes: 1 << 20, aheadBytes: 8_192 }, disk);
    const second = kit.ask(writer, 'append', { record: recordOf('b') });
    await kit.host.settle();
    expect([second.reply, refusals, kit.host.stops]).to.deep.equal([{ lsn: 2 }, 2, []]);
  });

  it('wal writer: a segment says that its zeros may be torn, too (WAL-10 d)', async () => {
    const boundOf = async (aheadBytes: number): Promise<number | undefined> => {
      const { disk } = await begun('group', { segmentBytes: 1 << 20, aheadBytes });
      const bytes = disk.read(pathOf(1)) ?? new Uint8Array();
      return decodeSegmentHeader(bytes)?.writtenWith?.inFlightBytesMax;
    };
    expect(await boundOf(8_192)).to.equal(((await boundOf(0)) ?? Number.NaN) + 8_192);
  });

  it('wal writer: behind the answers a sync begins when 4 MiB wait for it (durability=periodic)', async () => {
    const { kit, disk } = await begun('periodic', { segmentBytes: 64 << 20 });
    let syncs = 0;
    disk.beforeSync = (path) => {
      if (path === pathOf(1)) syncs += 1;
      return undefined;
    };
    const counts: number[] = [];
    for (let i = 0; i < 9; i += 1) {
      kit.ask(writer, 'append', { record: mebibyte });
      await kit.host.settle();
      counts.push(syncs);
    }
    expect(counts).to.deep.equal([0, 0, 0, 1, 1, 1, 1, 2, 2]);
  });

  it('wal writer: one sync behind the answers at a time, and what came due meanwhile follows it', async () => {
    const { disk, held } = withHeldSyncs();
    const { kit } = await begun('periodic', { segmentBytes: 64 << 20 }, disk);
    const begin: number[] = [];
    for (let i = 0; i < 9; i += 1) {
      kit.ask(writer, 'append', { record: mebibyte });
      await kit.host.settle();
      begin.push(held.length);
    }
    expect(begin).to.deep.equal([0, 0, 0, 1, 1, 1, 1, 1, 1]);
    held[0]?.();
    await kit.host.settle();
    expect(held.length).to.equal(2);
    held[1]?.();
    await kit.host.settle();
    expect(held.length).to.equal(2);
  });

  it('wal writer: after a sync behind the answers that failed nothing is acknowledged (FS-6)', async () => {
    const { disk, held } = withHeldSyncs();
    const { kit } = await begun('periodic', { segmentBytes: 64 << 20 }, disk);
    for (let i = 0; i < 4; i += 1) kit.ask(writer, 'append', { record: mebibyte });
    await kit.host.settle();
    held[0]?.(new KvError('DISK_FULL'));
    await kit.host.settle();
    expect(kit.host.stops.join()).to.match(/^disk: the log could not be synced: DISK_FULL/);
    const after = kit.ask(writer, 'append', { record: recordOf('z') });
    await kit.host.settle();
    expect([after.reply, held.length]).to.deep.equal([undefined, 1]);
  });
});
