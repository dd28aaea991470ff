// The scrubber in a real node: it finds what rots on the disk, names it, and everything else goes on.

import { expect } from 'chai';
import { storageKey } from '../../actors/model/record.ts';
import { Scrubber, type ScrubStatus } from '../../actors/storage/protocol.ts';
import { refTo } from '../../runtime/actor.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { fingerprint32 } from '../../runtime/hash.ts';
import { Prng } from '../../runtime/prng.ts';
import { hexOf } from '../storage/records-under-test.ts';
import { recordOf, ShardUnderTest } from './shard-under-test.ts';

const kiB = 1024;
const keyOf = (i: number): string => `key-${String(i).padStart(3, '0')}`;

class Scrubbed {
  readonly shard: ShardUnderTest;
  readonly written = new Map<string, Uint8Array>();

  constructor(scrubBytesPerSecond: number) {
    const tunables = { scrubIntervalMs: 20_000, scrubBytesPerSecond, memtableBytes: 512 * kiB };
    this.shard = new ShardUnderTest({ seed: 3, compaction: 'leveled', copies: 1, tunables });
  }

  async write(count: number): Promise<void> {
    for (let i = 0; i < count; i += 1) {
      const record = recordOf(keyOf(i), this.shard.stamp(), new Prng(i).bytes(2 * kiB));
      expect(await this.shard.apply(record)).to.equal(true);
      this.written.set(keyOf(i), record);
    }
  }

  async status(): Promise<ScrubStatus> {
    const answer = await this.shard.cluster.ask(refTo(Scrubber, 'n1'), 'status', {}, 60_000);
    if (answer.kind !== 'reply') throw new Error(JSON.stringify(answer));
    return answer.reply;
  }

  sleep(forMs: number): Promise<void> {
    return this.shard.cluster.world.sleep(forMs);
  }

  /** Another byte at this place of the file. */
  rot(path: string, offset: number): void {
    const file = this.shard.cluster.machineOf('n1').storage.find(path);
    if (file === undefined) throw new Error(`no file ${path}`);
    const before = file.copy()[offset] ?? 0;
    file.write(new Uint8Array([before ^ 0xff]), offset);
  }

  run(steps: () => Promise<void>): Promise<void> {
    return this.shard.cluster.world.run(async () => {
      expect(await this.shard.cluster.startAll()).to.equal(true);
      await steps();
    });
  }
}

describe('sim scrubber', () => {
  it('scrubber: a pass reads every table, at its rate, and says when', async () => {
    const scrubbed = new Scrubbed(64 * kiB);
    await scrubbed.run(async () => {
      await scrubbed.write(150);
      await scrubbed.shard.ask('flush', {});
      expect((await scrubbed.status()).ageMs).to.be.lessThan(0);
      // 300 kB at 64 KiB a second, in slices of 256 KiB: the first wait takes 4 s.
      await scrubbed.sleep(20_000);
      const early = await scrubbed.status();
      expect(early.passes).to.equal(0);
      expect(early.bytes).to.be.within(256 * kiB, 290 * kiB);
      await scrubbed.sleep(10_000);
      const { passes, tables, damageCount, ageMs } = await scrubbed.status();
      expect({ passes, tables, damageCount }).to.deep.equal({
        passes: 1,
        tables: 1,
        damageCount: 0,
      });
      expect(ageMs).to.be.within(0, 10_000);
    });
  });

  it('scrubber: a damaged block is named with its keys; reads of them are CORRUPT, others go on', async () => {
    const scrubbed = new Scrubbed(1024 * kiB);
    const { shard } = scrubbed;
    await scrubbed.run(async () => {
      await scrubbed.write(150);
      await shard.ask('flush', {});
      const [name = ''] = shard.tableFiles();
      const path = `shard-0/tables/${name}`;
      scrubbed.rot(path, 100 * kiB);
      await scrubbed.sleep(45_000);
      const { damages, damageCount } = await scrubbed.status();
      expect(damageCount).to.equal(1);
      const [damage] = damages;
      expect(damage?.file).to.equal(path);
      expect(damage?.offset).to.be.within(80 * kiB, 100 * kiB);
      const range = [damage?.firstKey ?? '', damage?.lastKey ?? ''].map(
        (key) => JSON.parse(key.slice(2)) as string,
      );
      let corrupt = 0;
      for (const [key, record] of scrubbed.written) {
        const stored = storageKey(1, utf8.encode(key));
        const answer = await shard.ask('read', { key: stored, hash: fingerprint32(stored) });
        const isInRange = key >= (range[0] ?? '') && key < (range[1] ?? '');
        if (isInRange) {
          expect(answer.kind === 'failure' ? answer.failure.code : answer.kind).to.equal('CORRUPT');
          corrupt += 1;
        } else if (answer.kind === 'reply')
          expect(hexOf(answer.reply.record as Uint8Array)).to.equal(hexOf(record));
        else throw new Error(`${key}: ${JSON.stringify(answer)}`);
      }
      expect(corrupt).to.be.within(1, 10);
      expect(shard.cluster.log.last(1_000).join('\n')).to.contain('scrub.damage');
    });
  });

  it('scrubber: a damaged closed segment of the log is named, and its records go to a table', async () => {
    const scrubbed = new Scrubbed(1024 * kiB);
    const { shard } = scrubbed;
    await scrubbed.run(async () => {
      await scrubbed.write(60);
      expect(shard.tableFiles()).to.deep.equal([]);
      scrubbed.rot('shard-0/wal/0000000001.wal', 20 * kiB);
      await scrubbed.sleep(25_000);
      const { damages } = await scrubbed.status();
      expect(damages.map(({ file }) => file)).to.deep.equal(['shard-0/wal/0000000001.wal']);
      expect(shard.tableFiles().length).to.equal(1);
      shard.cluster.crash('n1', 'power-loss');
      expect(await shard.cluster.start('n1')).to.equal(true);
      for (const [key, record] of scrubbed.written)
        expect(hexOf((await shard.read(key)) as Uint8Array), key).to.equal(hexOf(record));
    });
  });

  it('scrubber: a table that went away under a compaction is no damage', async () => {
    const scrubbed = new Scrubbed(64 * kiB);
    const { shard } = scrubbed;
    await scrubbed.run(async () => {
      for (let round = 0; round < 12; round += 1) {
        await scrubbed.write(40);
        await shard.ask('flush', {});
        await scrubbed.sleep(3_000);
      }
      expect(shard.reached('compaction installed')).to.be.greaterThan(1);
      expect(shard.reached('scrub pass')).to.be.greaterThan(0);
      expect(shard.reached('scrub found damage')).to.equal(0);
    });
  });
});
