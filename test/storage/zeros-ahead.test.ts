// Zeros ahead of a log's records: they never touch a record, and most syncs find the file's bytes there.

import { expect } from 'chai';
import fc from 'fast-check';
import { segmentHeaderSpace, segmentName } from '../../actors/storage/wal-format.ts';
import { ZerosAhead } from '../../actors/storage/zeros-ahead.ts';
import type { DiskFile } from '../../runtime/environment.ts';
import { KvError } from '../../runtime/errors.ts';
import { codeThrownBy } from '../kit.ts';
import { MachineUnderTest } from './machine-under-test.ts';

const ahead = 1_000;

/** Only writes count; `refused` is thrown by each. */
function fileOf(writes: { from: number; end: number }[], refused?: KvError): DiskFile {
  const write = (bytes: Uint8Array, from: number): void => {
    if (refused !== undefined) throw refused;
    expect(bytes.every((byte) => byte === 0)).to.equal(true);
    writes.push({ from, end: from + bytes.length });
  };
  return { write } as unknown as DiskFile;
}

describe('storage: zeros ahead', () => {
  it('zeros ahead: behind the records, within the segment, and no more than these and one run', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 600 }), { maxLength: 60 }),
        fc.integer({ min: 0, max: 12_000 }),
        (sizes, endMax) => {
          const zeros = new ZerosAhead(ahead, endMax);
          const writes: { from: number; end: number }[] = [];
          const file = fileOf(writes);
          let end = 0;
          for (const bytes of sizes) {
            end += bytes;
            const before = writes.length;
            zeros.extend(file, end, bytes);
            for (const { from, end: to } of writes.slice(before)) {
              expect(from).to.equal(end);
              expect(to).to.be.at.most(Math.max(endMax, from));
            }
          }
          const written = writes.reduce((sum, one) => sum + one.end - one.from, 0);
          expect(written).to.be.at.most(end + ahead);
        },
      ),
    );
  });

  it('zeros ahead: small writes find the bytes there, large ones do without', () => {
    const writes: { from: number; end: number }[] = [];
    const zeros = new ZerosAhead(ahead, 1_000_000);
    const file = fileOf(writes);
    zeros.begin(4_096);
    for (let i = 1; i <= 30; i += 1) zeros.extend(file, 4_096 + 100 * i, 100);
    expect(writes).to.deep.equal([
      { from: 4_196, end: 5_196 },
      { from: 5_296, end: 6_296 },
      { from: 6_396, end: 7_396 },
    ]);
    writes.length = 0;
    for (let i = 1; i <= 30; i += 1) zeros.extend(file, 7_096 + 300 * i, 300);
    expect(writes).to.deep.equal([]);
  });

  it('zeros ahead: what was cut off is written again', () => {
    const writes: { from: number; end: number }[] = [];
    const zeros = new ZerosAhead(ahead, 1_000_000);
    const file = fileOf(writes);
    zeros.extend(file, 100, 100);
    zeros.begin(100);
    zeros.extend(file, 150, 50);
    expect(writes).to.deep.equal([
      { from: 100, end: 1_100 },
      { from: 150, end: 1_150 },
    ]);
  });

  it('zeros ahead: a full disk has none, any other failure is told', () => {
    const zeros = new ZerosAhead(ahead, 1_000_000);
    zeros.extend(fileOf([], new KvError('DISK_FULL')), 100, 100);
    const failing = fileOf([], new KvError('DISK_FAILED'));
    expect(codeThrownBy(() => zeros.extend(failing, 200, 100))).to.equal('DISK_FAILED');
  });

  it('zeros ahead: none are asked for', () => {
    const writes: { from: number; end: number }[] = [];
    new ZerosAhead(0, 1_000_000).extend(fileOf(writes), 100, 100);
    expect(writes).to.deep.equal([]);
  });

  it('zeros ahead: a node has as many as it is told to, on the disk with the records before them', async () => {
    const spaceWith = async (walAheadBytes: number): Promise<number> => {
      const machine = new MachineUnderTest(false, { walSegmentBytes: 1 << 20, walAheadBytes });
      let space = Number.NaN;
      await machine.cluster.world.run(async () => {
        await machine.start();
        await machine.write(5);
        const log = machine.storage.find(`shard-0/wal/${segmentName(1)}`);
        expect(log?.hasUnsynced).to.equal(false);
        space = log?.allocatedBytes ?? Number.NaN;
      });
      return space;
    };
    const without = await spaceWith(0);
    const first = await spaceWith(8_192);
    expect(without).to.be.below(segmentHeaderSpace + 2_048);
    expect(first).to.be.within(segmentHeaderSpace + 8_192, segmentHeaderSpace + 2 * 8_192);
  });
});
