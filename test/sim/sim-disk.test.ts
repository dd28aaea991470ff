// The crash model of the simulated disk, by example.

import { expect } from 'chai';
import { KvError } from '../../runtime/errors.ts';
import type { DiskFile } from '../../runtime/environment.ts';
import { Prng } from '../../runtime/prng.ts';
import { SimCrash, SimProcess } from '../../sim/process.ts';
import { SimDisk, SimStorage } from '../../sim/sim-disk.ts';
import { sectorBytes } from '../../sim/sim-file.ts';
import { World } from '../../sim/world.ts';

interface Bench {
  readonly world: World;
  readonly storage: SimStorage;
  readonly process: SimProcess;
  readonly disk: SimDisk;
}

function bench(seed: number): Bench {
  const world = new World({ seed });
  const storage = new SimStorage(new Prng(seed));
  const process: SimProcess = new SimProcess('n1', world, () => process.end());
  return { world, storage, process, disk: new SimDisk(storage, process) };
}

const synced = (file: DiskFile): Promise<void> =>
  new Promise((resolve, reject) => {
    file.sync((error) => (error === undefined ? resolve() : reject(error)));
  });

const filled = (length: number, byte: number): Uint8Array => new Uint8Array(length).fill(byte);

const seeds = Array.from({ length: 40 }, (_, i) => i + 1);

/** A file with `old` durable in it, under a durable name. */
async function durableFile({ disk }: Bench, old: Uint8Array): Promise<DiskFile> {
  const file = disk.open('f', 'create');
  file.write(old, 0);
  await synced(file);
  await disk.syncDirectory('');
  return file;
}

describe('sim disk', () => {
  it('disk: what was synced under a synced name survives every power loss (seeds=40)', async () => {
    for (const seed of seeds) {
      const it = bench(seed);
      await it.world.run(async () => {
        const file = await durableFile(it, filled(1_300, 7));
        file.write(filled(2_000, 9), 1_300);
      });
      it.storage.losePower();
      const bytes = it.storage.find('f')?.copy() ?? new Uint8Array(0);
      expect(bytes.length).to.be.at.least(1_300);
      expect([...bytes.subarray(0, 1_300)].every((byte) => byte === 7)).to.equal(true);
    }
  });

  it('disk: unsynced writes are kept in some power losses, lost in some, torn in some (seeds=40)', async () => {
    const outcomes = new Set<string>();
    for (const seed of seeds) {
      const it = bench(seed);
      await it.world.run(async () => {
        const file = await durableFile(it, filled(sectorBytes * 4, 1));
        file.write(filled(sectorBytes * 4, 2), 0);
      });
      it.storage.losePower();
      const bytes = it.storage.find('f')?.copy() ?? new Uint8Array(0);
      const kinds = new Set(bytes);
      if (kinds.size === 1) outcomes.add(kinds.has(1) ? 'lost' : 'kept');
      else outcomes.add([...kinds].every((byte) => byte === 1 || byte === 2) ? 'mixed' : 'garbage');
    }
    expect([...outcomes].sort()).to.deep.equal(['garbage', 'kept', 'lost', 'mixed']);
  });

  it('disk: a process that dies alone loses nothing that it wrote', async () => {
    const it = bench(3);
    await it.world.run(async () => {
      it.disk.open('f', 'create').write(filled(700, 5), 0);
      await Promise.resolve();
    });
    it.process.end();
    expect(it.storage.find('f')?.copy()).to.deep.equal(filled(700, 5));
  });

  it('disk: a sync covers only what was written before it started (seeds=40)', async () => {
    let lost = 0;
    for (const seed of seeds) {
      const it = bench(seed);
      await it.world.run(async () => {
        const file = await durableFile(it, filled(sectorBytes, 1));
        file.write(filled(sectorBytes, 2), 0);
        const first = synced(file);
        file.write(filled(sectorBytes, 3), 0);
        await first;
      });
      it.storage.losePower();
      const bytes = it.storage.find('f')?.copy() ?? new Uint8Array(0);
      // Version 2 is durable: what is left is 2, 3 or a torn mixture, but never version 1.
      expect(bytes.includes(1) && !bytes.includes(2) && !bytes.includes(3)).to.equal(false);
      if (bytes.every((byte) => byte === 2)) lost += 1;
    }
    expect(lost).to.be.greaterThan(0);
  });

  it('disk: a created name that was not synced comes out either way (seeds=40)', async () => {
    const found = new Set<boolean>();
    for (const seed of seeds) {
      const it = bench(seed);
      await it.world.run(async () => {
        const file = it.disk.open('f', 'create');
        file.write(filled(10, 1), 0);
        await synced(file);
      });
      it.storage.losePower();
      found.add(it.storage.find('f') !== undefined);
    }
    expect(found.size).to.equal(2);
  });

  it('disk: a removed or renamed name that was not synced comes out either way (seeds=40)', async () => {
    const names = new Set<string>();
    for (const seed of seeds) {
      const it = bench(seed);
      await it.world.run(async () => {
        await durableFile(it, filled(10, 1));
        it.disk.rename('f', 'g');
      });
      it.storage.losePower();
      names.add(it.storage.list('').join());
    }
    expect([...names].sort()).to.deep.equal(['f', 'g']);
  });

  it('disk: replace leaves the old or the new content, whole, at every call it can crash at', async () => {
    const outcomes = new Set<string>();
    for (const seed of seeds.slice(0, 10))
      for (let call = 1; call < 12; call += 1) {
        const it = bench(seed);
        await it.world.run(async () => {
          await it.disk.replace('f', filled(1_000, 1));
          it.process.crashAtCall(it.process.calls + call);
          void it.disk.replace('f', filled(1_200, 2)).catch(() => undefined);
          await it.world.sleep(1_000);
        });
        it.storage.losePower();
        const bytes = it.storage.find('f')?.copy() ?? new Uint8Array(0);
        expect(new Set(bytes).size).to.equal(1);
        expect(bytes.length).to.equal(bytes[0] === 1 ? 1_000 : 1_200);
        outcomes.add(String(bytes[0]));
      }
    expect([...outcomes].sort()).to.deep.equal(['1', '2']);
  });

  it('disk: after a failed sync the file is poisoned and a power loss takes its writes for sure', async () => {
    for (const seed of seeds) {
      const it = bench(seed);
      let problem: unknown;
      await it.world.run(async () => {
        const file = await durableFile(it, filled(sectorBytes, 1));
        file.write(filled(sectorBytes, 2), 0);
        it.storage.faults.errorRatio = 1;
        await synced(file).catch((error: unknown) => {
          problem = error;
        });
        expect(() => file.write(filled(1, 3), 0)).to.throw(KvError, 'DISK_FAILED');
      });
      expect((problem as KvError).code).to.equal('DISK_FAILED');
      it.storage.losePower();
      expect(it.storage.find('f')?.copy()).to.deep.equal(filled(sectorBytes, 1));
    }
  });

  it('disk: a full disk refuses with DISK_FULL after a part, and has no free bytes', async () => {
    const it = bench(1);
    await it.world.run(async () => {
      const file = await durableFile(it, filled(1_000, 1));
      it.storage.faults.capacityBytes = 1_100;
      expect(it.disk.freeBytes()).to.equal(100);
      expect(() => file.write(filled(300, 2), 1_000)).to.throw(KvError, 'DISK_FULL');
      expect(file.size()).to.equal(1_100);
      file.truncate(1_000);
      expect(it.disk.freeBytes()).to.equal(100);
    });
  });

  it('disk: calls of an ended process throw SimCrash or never settle, and change nothing', async () => {
    const it = bench(1);
    let isSettled = false;
    await it.world.run(async () => {
      const file = await durableFile(it, filled(10, 1));
      void synced(file).then(() => {
        isSettled = true;
      });
      it.process.end();
      expect(() => file.write(filled(10, 2), 0)).to.throw(SimCrash);
      expect(() => it.disk.remove('f')).to.throw(SimCrash);
      void it.disk.replace('f', filled(5, 3)).finally(() => {
        isSettled = true;
      });
      await it.world.sleep(1_000);
    });
    expect(isSettled).to.equal(false);
    expect(it.storage.find('f')?.copy()).to.deep.equal(filled(10, 1));
  });

  it('disk: directories survive once made, their files once synced (FS-3)', async () => {
    const it = bench(5);
    await it.world.run(async () => {
      await it.disk.makeDirectory('a/b');
      await it.disk.replace('a/b/c', filled(3, 1));
    });
    it.storage.losePower();
    expect(it.storage.list('')).to.deep.equal(['a']);
    expect(it.storage.list('a')).to.deep.equal(['b']);
    expect(it.storage.list('a/b')).to.deep.equal(['c']);
  });
});
