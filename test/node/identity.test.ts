// Whose data directory this is, and how often it was started (FS-11, GO-1).

import { expect } from 'chai';
import { crc32, utf8 } from '../../runtime/bytes.ts';
import type { Disk } from '../../runtime/environment.ts';
import { CorruptionError, KvError } from '../../runtime/errors.ts';
import { encodeHeardGeneration, heardGenerationFile } from '../../actors/model/heard-generation.ts';
import { sealText } from '../../actors/model/sealed-text.ts';
import { encodeWhole, wholeFile } from '../../actors/model/wholeness.ts';
import { type Identity, openIdentity } from '../../actors/node/identity.ts';
import { codeRejectedBy } from '../kit.ts';
import { MemoryDisk } from '../kit-disk.ts';

const file = 'identity.json';
const now = 1_700_000_000;
const identity: Identity = {
  clusterName: 'kvd',
  node: 'n1',
  members: ['n1', 'n2', 'n3'],
  replicationFactor: 3,
  virtualNodes: 256,
  shards: 2,
};

const others: { readonly [K in keyof Identity]: Identity[K] } = {
  clusterName: 'other',
  node: 'n2',
  members: ['n1', 'n2', 'n3', 'n4'],
  replicationFactor: 2,
  virtualNodes: 128,
  shards: 4,
};

const bytesOf = (disk: Disk): Uint8Array => disk.read(file) ?? new Uint8Array(0);

/** A disk whose top directory lists what a test says. */
class ListedDisk extends MemoryDisk {
  names: readonly string[] = [];
  override readonly list = (): readonly string[] => this.names;
}

async function problemOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => 'nothing was thrown',
    (error: unknown) => error,
  );
}

describe('identity', () => {
  it('identity: a new directory is marked, with the time as its first incarnation', async () => {
    const disk = new MemoryDisk();
    expect(await openIdentity(disk, identity, now + 0.9)).to.include({
      incarnation: now,
      birth: now,
    });
    const text = utf8.decode(bytesOf(disk)).split('\n')[0] ?? '';
    expect(JSON.parse(text)).to.deep.equal({
      ...identity,
      ...{ formatVersion: 1, incarnation: now, birth: now },
    });
  });

  it('identity: a restart has a higher incarnation, at least the time', async () => {
    const disk = new MemoryDisk();
    await openIdentity(disk, identity, now);
    expect(await openIdentity(disk, identity, now + 60)).to.include({
      incarnation: now + 60,
      birth: now,
    });
  });

  it('identity: it rises also within one second and with the clock set back', async () => {
    const disk = new MemoryDisk();
    await openIdentity(disk, identity, now);
    const found: number[] = [];
    for (const seconds of [now, now, now - 86_400, 0, now])
      found.push((await openIdentity(disk, identity, seconds)).incarnation - now);
    expect(found).to.deep.equal([1, 2, 3, 4, 5]);
  });

  it('identity: a new directory starts above what others were heard to know', async () => {
    const disk = new MemoryDisk();
    await disk.replace(heardGenerationFile, encodeHeardGeneration(now + 29));
    expect(await openIdentity(disk, identity, now)).to.include({ incarnation: now + 30 });
    expect(disk.exists(heardGenerationFile), 'it is in the identity now').to.equal(false);
    await disk.replace(heardGenerationFile, utf8.encode('99999999999\n1\n'));
    expect(await openIdentity(disk, identity, now), 'damaged').to.include({
      incarnation: now + 31,
    });
  });

  it('identity: the incarnation is durable before anybody learns it', async () => {
    const disk = new MemoryDisk();
    disk.beforeWrite = () => {
      throw new KvError('DISK_FULL');
    };
    expect(await codeRejectedBy(openIdentity(disk, identity, now))).to.equal('DISK_FULL');
    expect(disk.exists(file)).to.equal(false);
  });

  for (const field of Object.keys(others) as (keyof Identity)[])
    it(`identity: another value than before is refused by name and changes nothing (field=${field})`, async () => {
      const disk = new MemoryDisk();
      await openIdentity(disk, identity, now);
      const before = bytesOf(disk);
      const changed = { ...identity, [field]: others[field] };
      const problem = await problemOf(openIdentity(disk, changed, now + 60));
      expect(problem).to.be.instanceOf(KvError);
      const { code, fields } = problem as KvError;
      expect(code).to.equal('DATA_REFUSED');
      expect(fields['field']).to.equal(field);
      expect(fields['detail']).to.equal(
        `the data directory has ${field} ${JSON.stringify(identity[field])}, this node was started with ${JSON.stringify(others[field])}`,
      );
      expect(bytesOf(disk)).to.deep.equal(before);
    });

  it('identity: every flipped bit is found, and never taken for a new directory', async () => {
    const disk = new MemoryDisk();
    await openIdentity(disk, identity, now);
    const bytes = bytesOf(disk);
    for (let bit = 0; bit < bytes.length * 8; bit += 1) {
      const damaged = bytes.slice();
      damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7));
      disk.put(file, damaged);
      // After the checksum there is only the last line feed: damage there harms nobody.
      if (bit >> 3 === bytes.length - 1) continue;
      const problem = await problemOf(openIdentity(disk, identity, now));
      expect(problem, `bit=${bit}`).to.be.instanceOf(CorruptionError);
      expect((problem as CorruptionError).file).to.equal(file);
    }
  });

  it('identity: an empty or cut file is damage', async () => {
    const disk = new MemoryDisk();
    await openIdentity(disk, identity, now);
    const bytes = bytesOf(disk);
    for (let length = 0; length < bytes.length - 1; length += 1) {
      disk.put(file, bytes.slice(0, length));
      const problem = await problemOf(openIdentity(disk, identity, now));
      expect(problem, `length=${length}`).to.be.instanceOf(CorruptionError);
    }
  });

  it('identity: a directory with data but without identity is refused (FS-11)', async () => {
    const disk = new ListedDisk();
    disk.names = ['lost+found', 'shard-0'];
    const problem = await problemOf(openIdentity(disk, identity, now));
    expect((problem as KvError).code).to.equal('DATA_REFUSED');
    expect((problem as KvError).fields['field']).to.equal('identity');
    expect(disk.exists(file)).to.equal(false);
    disk.names = ['kvd.pid', 'lost+found'];
    expect(await openIdentity(disk, identity, now)).to.include({ incarnation: now, birth: now });
  });

  it('identity: a directory of another format version is refused', async () => {
    const disk = new MemoryDisk();
    await openIdentity(disk, identity, now);
    const newer = new MemoryDisk();
    const text = (utf8.decode(bytesOf(disk)).split('\n')[0] ?? '').replace(
      '"formatVersion":1',
      '"formatVersion":2',
    );
    newer.put(file, utf8.encode(`${text}\n${crc32(utf8.encode(text))}\n`));
    const problem = await problemOf(openIdentity(newer, identity, now));
    expect((problem as KvError).fields['field']).to.equal('formatVersion');
  });

  it('identity: a new directory is whole where nobody else could know better, or it was told', async () => {
    const disk = new MemoryDisk();
    const { birth, isWhole } = await openIdentity(disk, identity, now);
    expect([birth, isWhole]).to.deep.equal([now, false]);
    await disk.replace(wholeFile, encodeWhole(birth));
    expect(await openIdentity(disk, identity, now + 9)).to.include({ birth: now, isWhole: true });
    // The mark of another directory, and one that is damaged, count for nothing.
    for (const mark of [encodeWhole(now + 1), utf8.encode(`${now}\n1\n`)]) {
      await disk.replace(wholeFile, mark);
      expect((await openIdentity(disk, identity, now)).isWhole).to.equal(false);
    }
    const alone = await openIdentity(new MemoryDisk(), { ...identity, members: ['n1'] }, now);
    expect(alone.isWhole).to.equal(true);
  });

  it('identity: a directory from before births were written down is whole', async () => {
    const disk = new MemoryDisk();
    const before = { ...identity, formatVersion: 1, incarnation: now };
    await disk.replace(file, sealText(JSON.stringify(before)));
    for (const seconds of [now + 5, now + 6]) {
      const opened = await openIdentity(disk, identity, seconds);
      expect(opened).to.deep.equal({ incarnation: seconds, birth: now + 5, isWhole: true });
    }
  });
});
