// What recovery makes of the segments that it finds: judged by what each was written with, missing
// ones noticed. The segments are built in memory, the disk is one in memory.

import { expect } from 'chai';
import { newestFile, WalRecovery } from '../../actors/storage/wal-recovery.ts';
import { segmentName, type WrittenWith } from '../../actors/storage/wal-format.ts';
import { CorruptionError } from '../../runtime/errors.ts';
import { MemoryDisk } from '../kit-disk.ts';
import { buildLog, identity } from './log-under-test.ts';
import { makeRecord } from './records-under-test.ts';

const directory = 'wal';
const record = makeRecord('key', { value: 'v' });
const group: WrittenWith = { durability: 'group', inFlightBytesMax: 1 << 20 };
const none: WrittenWith = { durability: 'none', inFlightBytesMax: 1 << 20 };

/** Two segments of two records each, named by NEWEST. */
function twoSegments(writtenWith: WrittenWith): MemoryDisk {
  const disk = new MemoryDisk();
  const records = [1, 2, 3, 4].map((lsn) => ({ lsn, durableLsn: lsn - 1, payload: record }));
  const segments = buildLog([records.slice(0, 2), records.slice(2)], { writtenWith });
  for (const { number, bytes } of segments) disk.put(`${directory}/${segmentName(number)}`, bytes);
  const { path, bytes } = newestFile(directory, 2);
  disk.put(path, bytes);
  return disk;
}

interface Run {
  readonly flushedThrough?: number;
  readonly recoveredThrough?: number;
  readonly writtenWith?: WrittenWith;
  readonly acceptsLoss?: boolean;
}

function recover(disk: MemoryDisk, run: Run = {}): { records: number; losses: number } {
  const {
    flushedThrough = 0,
    recoveredThrough = 0,
    writtenWith = group,
    acceptsLoss = false,
  } = run;
  const { clusterName, node, shard } = identity;
  const recovery = new WalRecovery(
    { disk, directory, clusterName, node, shard },
    { flushedThrough, recoveredThrough, writtenWith, acceptsLoss },
  );
  for (let records = 0; ; ) {
    const part = recovery.next();
    records += part.records.length;
    if (part.isDone) return { records, losses: recovery.losses.length };
  }
}

function damageOf(disk: MemoryDisk, run: Run = {}): CorruptionError {
  try {
    recover(disk, run);
  } catch (error) {
    if (error instanceof CorruptionError) return error;
    throw error;
  }
  throw new Error('it was not refused');
}

describe('wal recovery', () => {
  it('wal: a whole log is read (records=4)', () => {
    expect(recover(twoSegments(group))).to.deep.equal({ records: 4, losses: 0 });
  });

  it('wal: a log of durability none may end before what is in tables, also when read with group', () => {
    expect(recover(twoSegments(none), { flushedThrough: 9 }).records).to.equal(0);
    expect(recover(twoSegments(none), { flushedThrough: 9, writtenWith: group }).records).to.equal(
      0,
    );
  });

  it('wal: a log of durability group that ends too early is corrupt, also when read with none', () => {
    const damage = damageOf(twoSegments(group), { flushedThrough: 9, writtenWith: none });
    expect(damage.message).to.contain('LSN 9 is in tables, the log ends at 4');
  });

  it('wal: a log may end before what tables were made of when it was recovered', () => {
    const disk = twoSegments(group);
    expect(recover(disk, { flushedThrough: 9, recoveredThrough: 9 }).records).to.equal(0);
    const damage = damageOf(disk, { flushedThrough: 9, recoveredThrough: 8 });
    expect(damage.message).to.contain('LSN 9 is in tables, the log ends at 4');
  });

  it('wal: bytes that may be in flight are those of the writer, not of the reader', () => {
    const small: WrittenWith = { durability: 'group', inFlightBytesMax: 64 };
    const cut = (writtenWith: WrittenWith): MemoryDisk => {
      const disk = twoSegments(writtenWith);
      const path = `${directory}/${segmentName(2)}`;
      const bytes = disk.read(path) as Uint8Array;
      bytes.fill(0xee, 4096);
      disk.put(path, bytes);
      return disk;
    };
    expect(recover(cut(group), { writtenWith: small }).records).to.equal(2);
    expect(damageOf(cut(small), { writtenWith: group }).message).to.contain('bytes are damaged');
  });

  it('wal: the newest segment is missed where it is gone whole, and named', () => {
    const disk = twoSegments(group);
    disk.remove(`${directory}/${segmentName(2)}`);
    expect(damageOf(disk)).to.include({ file: `${directory}/${segmentName(2)}` });
  });

  it('wal: all segments gone are missed by NEWEST, and without it by what is in tables', () => {
    const disk = twoSegments(group);
    for (const number of [1, 2]) disk.remove(`${directory}/${segmentName(number)}`);
    expect(damageOf(disk).message).to.contain('it is gone');
    disk.remove(newestFile(directory, 0).path);
    expect(damageOf(disk, { flushedThrough: 1 }).message).to.contain('the log is gone');
    expect(recover(disk)).to.deep.equal({ records: 0, losses: 0 });
  });

  it('wal: a NEWEST that was cut short is damage', () => {
    const disk = twoSegments(group);
    const { path, bytes } = newestFile(directory, 2);
    disk.put(path, bytes.slice(0, -1));
    expect(damageOf(disk)).to.include({ file: path });
  });

  it('wal: accepted loss gives what is left, and says what was lost', () => {
    const disk = twoSegments(group);
    disk.remove(`${directory}/${segmentName(2)}`);
    expect(recover(disk, { acceptsLoss: true })).to.deep.equal({ records: 2, losses: 1 });
    const damaged = twoSegments(group);
    const path = `${directory}/${segmentName(1)}`;
    const bytes = damaged.read(path) as Uint8Array;
    bytes[4096 + 40] = 0xff;
    damaged.put(path, bytes);
    expect(damageOf(damaged)).to.include({ file: path });
    expect(recover(damaged, { acceptsLoss: true })).to.deep.equal({ records: 2, losses: 1 });
  });
});
