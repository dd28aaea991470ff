// The log without its store: what it does where a segment is full and the disk is, too.

import { expect } from 'chai';
import { WalWriter } from '../../actors/storage/protocol.ts';
import { segmentHeaderSpace, segmentName } from '../../actors/storage/wal-format.ts';
import { walWriter, type WalOptions } from '../../actors/storage/wal-writer.actor.ts';
import { refTo } from '../../runtime/actor.ts';
import { KvError } from '../../runtime/errors.ts';
import { Kit } from '../kit.ts';
import { MemoryDisk } from '../kit-disk.ts';
import { makeRecord } from './records-under-test.ts';

const writer = refTo(WalWriter, 'n1');
const pathOf = (number: number): string => `wal/${segmentName(number)}`;

/** A log with segments for one record each, and one record in it. */
async function begun(
  durability: WalOptions['durability'],
): Promise<{ kit: Kit; disk: MemoryDisk }> {
  const disk = new MemoryDisk();
  const kit = new Kit([WalWriter], { disk });
  await kit.spawn(walWriter, {
    directory: 'wal',
    identity: { clusterName: 'test', node: 'n1', incarnation: 1 },
    segmentBytes: segmentHeaderSpace + 200,
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

const recordOf = (key: string): Uint8Array => makeRecord(key, { value: key.repeat(60) });

/** The code of a sync of this segment. */
const failSyncOf = (disk: MemoryDisk, number: number): void => {
  disk.beforeSync = (path) => (path === pathOf(number) ? new KvError('DISK_FULL') : undefined);
};

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
});
