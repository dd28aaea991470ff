// A shard of a real node on a disk that fills up: by its own writes, under a running node and before
// its start. Nothing that was acknowledged is lost, reads go on, and writes come back by themselves
// (FS-8).

import { expect } from 'chai';
import { tablePath } from '../../actors/storage/table-files.ts';
import { Prng } from '../../runtime/prng.ts';
import { hexOf } from '../storage/records-under-test.ts';
import { recordOf, ShardUnderTest } from './shard-under-test.ts';

const kiB = 1024;
/** Bytes that do not compress. */
const valueOf = (count: number): Uint8Array => new Prng(count).bytes(4 * kiB);

class FullDisk {
  readonly shard: ShardUnderTest;
  readonly written = new Map<string, Uint8Array>();
  #count = 0;

  constructor(seed: number, reserveBytes = 0) {
    this.shard = new ShardUnderTest({
      seed,
      compaction: 'leveled',
      copies: 1,
      tunables: { reserveBytes },
    });
  }

  /** The code that it ended with; undefined: written. */
  async write(): Promise<string | undefined> {
    const key = `key-${(this.#count += 1)}`;
    const record = recordOf(key, this.shard.stamp(), valueOf(this.#count));
    const answer = await this.shard.ask('apply', { record });
    if (answer.kind === 'reply') this.written.set(key, record);
    return answer.kind === 'failure' ? answer.failure.code : undefined;
  }

  /** Writes until one is refused for another reason than load, at most `limit` times. */
  async fill(limit: number): Promise<string | undefined> {
    for (let i = 0; i < limit; i += 1) {
      const code = await this.write();
      if (code !== undefined && code !== 'OVERLOADED') return code;
      if (code !== undefined) await this.sleep(100);
    }
    return undefined;
  }

  sleep(forMs: number): Promise<void> {
    return this.shard.cluster.world.sleep(forMs);
  }

  async checkAll(): Promise<void> {
    for (const [key, record] of this.written) {
      const held = await this.shard.read(key);
      expect(held === undefined ? 'nothing' : hexOf(held), key).to.equal(hexOf(record));
    }
  }

  get storage(): { usedBytes: number; faults: { capacityBytes: number; errorRatio: number } } {
    return this.shard.cluster.machineOf('n1').storage;
  }

  run(steps: () => Promise<void>): Promise<void> {
    return this.shard.cluster.world.run(async () => {
      expect(await this.shard.cluster.startAll()).to.equal(true);
      await steps();
    });
  }
}

describe('sim disk full', () => {
  for (const seed of [1, 2, 3])
    it(`disk full: a disk that writes have filled can still flush all of memory (seed=${seed})`, async () => {
      const disk = new FullDisk(seed);
      await disk.run(async () => {
        disk.storage.faults.capacityBytes = 4_096 * kiB;
        expect(await disk.fill(2_000)).to.equal('DISK_FULL');
        const flushed = await disk.shard.ask('flush', {});
        expect(flushed.kind).to.equal('reply');
        await disk.checkAll();
        expect((await disk.shard.stats()).memtableBytes).to.be.lessThan(8 * kiB);
        disk.storage.faults.capacityBytes = 64 * 1024 * kiB;
        await disk.sleep(10_000);
        expect(await disk.write()).to.equal(undefined);
        await disk.checkAll();
      });
    }).timeout(60_000);

  for (const kind of ['kill', 'power-loss'] as const)
    it(`disk full: a node starts on a full disk, serves reads and takes writes when there is space (crash=${kind})`, async () => {
      const disk = new FullDisk(5);
      const { cluster } = disk.shard;
      await disk.run(async () => {
        for (let i = 0; i < 12; i += 1) expect(await disk.write()).to.equal(undefined);
        await disk.shard.ask('flush', {});
        for (let i = 0; i < 12; i += 1) expect(await disk.write()).to.equal(undefined);
        cluster.crash('n1', kind);
        // Room for what a start notes of itself, none for a table or a segment.
        disk.storage.faults.capacityBytes = disk.storage.usedBytes + 32 * kiB;
        expect(await cluster.start('n1')).to.equal(true);
        await disk.checkAll();
        expect(await disk.write()).to.equal('DISK_FULL');
        await disk.sleep(5_000);
        await disk.checkAll();
        // And once more, with nothing gained.
        cluster.crash('n1', kind);
        expect(await cluster.start('n1')).to.equal(true);
        await disk.checkAll();
        disk.storage.faults.capacityBytes = 64 * 1024 * kiB;
        await disk.sleep(10_000);
        expect(await disk.write()).to.equal(undefined);
        cluster.crash('n1', 'power-loss');
        expect(await cluster.start('n1')).to.equal(true);
        await disk.checkAll();
      });
    }).timeout(60_000);
});

describe('sim disk full and broken', () => {
  it('disk full: a log that cannot be begun when there is space again stops the node', async () => {
    const disk = new FullDisk(6);
    const { cluster } = disk.shard;
    await disk.run(async () => {
      for (let i = 0; i < 3; i += 1) expect(await disk.write()).to.equal(undefined);
      cluster.crash('n1', 'kill');
      disk.storage.faults.capacityBytes = disk.storage.usedBytes + 32 * kiB;
      expect(await cluster.start('n1')).to.equal(true);
      expect(await disk.write()).to.equal('DISK_FULL');
      disk.storage.faults.capacityBytes = 64 * 1024 * kiB;
      // What was recovered goes to a table first.
      const { storage } = cluster.machineOf('n1');
      const segments = (): number => storage.list('shard-0/wal').length;
      for (const before = segments(); segments() === before; ) await disk.sleep(0.1);
      disk.storage.faults.errorRatio = 1;
      await disk.sleep(3_000);
      // It went on for ever, refusing writes, over the segment that it had begun itself.
      expect(cluster.condition('n1')).to.equal('down');
      disk.storage.faults.errorRatio = 0;
      expect(await cluster.start('n1')).to.equal(true);
      expect(await disk.write()).to.equal(undefined);
      await disk.checkAll();
    });
  });
});

describe('sim lost files', () => {
  it('lost files: a table that the manifest names and that is gone is refused by its name', async () => {
    const disk = new FullDisk(8);
    const { cluster } = disk.shard;
    await disk.run(async () => {
      expect(await disk.write()).to.equal(undefined);
      await disk.shard.ask('flush', {});
      cluster.crash('n1', 'kill');
      const [name = ''] = disk.shard.tableFiles();
      cluster.machineOf('n1').storage.remove(`shard-0/tables/${name}`);
      expect(await cluster.start('n1')).to.equal(false);
      const said = cluster.log.last(3).join('\n');
      expect(said).to.contain(tablePath('shard-0', 1));
      expect(said).to.contain('it is gone, the manifest names it');
    });
  });
});
