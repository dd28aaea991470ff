// Rotations of the log that do not succeed: what is written to the old segment afterwards is not lost
// when the new one, which was removed, is there again.

import { expect } from 'chai';
import { segmentName } from '../../actors/storage/wal-format.ts';
import { fillWhenCreated, MachineUnderTest, nodeName } from './machine-under-test.ts';

const walDirectory = 'shard-0/wal';

describe('wal rotation', function () {
  this.timeout(60_000);

  it('wal: a full disk ends a rotation, the old segment goes on, and power is lost before the removal is durable (runs=16)', async () => {
    let found = 0;
    for (let run = 0; run < 16; run += 1) {
      const machine = new MachineUnderTest(true, { walSegmentBytes: 1 << 20 });
      const { world } = machine.cluster;
      await world.run(async () => {
        await machine.start();
        await machine.write(5);
        const { storage } = machine;
        // The new segment is durable then, NEWEST does not name it.
        fillWhenCreated(storage, /wal\/NEWEST[.]tmp$/, 0);
        while (storage.faults.capacityBytes === Infinity) await world.sleep(1);
        await world.sleep(20);
        expect(storage.list(walDirectory)).to.deep.equal([segmentName(1), 'NEWEST']);
        storage.faults.capacityBytes = Infinity;
        for (let more = 0; more <= run % 4; more += 1) await machine.write(5);
        await world.sleep(150 + run);
        machine.cluster.crash(nodeName, 'power-loss');
        if (storage.list(walDirectory).includes(segmentName(2))) found += 1;
        await machine.start();
        await machine.expectAcked();
      });
    }
    expect(found, 'removals that were not durable').to.be.greaterThan(0);
  });
});
