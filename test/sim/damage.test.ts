// Faults that take synced data away, and the other rows of the fault table, each by example.

import { expect } from 'chai';
import type { DiskFile } from '../../runtime/environment.ts';
import { CorruptionError, KvError } from '../../runtime/errors.ts';
import { Prng } from '../../runtime/prng.ts';
import { damageClasses, type DamageClass, faultClasses, optionsOf } from '../../sim/faults.ts';
import { noticesFlip } from '../../sim/kvd-program.ts';
import { SimProcess } from '../../sim/process.ts';
import { drawSchedule, formatEvent } from '../../sim/schedule.ts';
import { epochMicros, SimClock } from '../../sim/sim-clock.ts';
import { SimDisk, SimStorage } from '../../sim/sim-disk.ts';
import { sectorBytes } from '../../sim/sim-file.ts';
import { LivelockError, World } from '../../sim/world.ts';

interface Bench {
  readonly world: World;
  readonly storage: SimStorage;
  readonly disk: SimDisk;
}

function bench(seed: number): Bench {
  const world = new World({ seed });
  const storage = new SimStorage(new Prng(seed));
  const process: SimProcess = new SimProcess('n1', world, () => process.end());
  return { world, storage, disk: new SimDisk(storage, process) };
}

const synced = (file: DiskFile): Promise<void> =>
  new Promise((resolve, reject) => {
    file.sync((error) => (error === undefined ? resolve() : reject(error)));
  });

/** Sectors of 1, 2, 3 and so on. */
function numbered(sectors: number): Uint8Array {
  return new Uint8Array(sectors * sectorBytes).map((_, i) => Math.floor(i / sectorBytes) + 1);
}

async function durableFile(disk: SimDisk, name: string, bytes: Uint8Array): Promise<DiskFile> {
  const file = disk.open(name, 'create');
  file.write(bytes, 0);
  await synced(file);
  await disk.syncDirectory('');
  return file;
}

const contentOf = ({ storage }: Bench, name: string): Uint8Array =>
  storage.find(name)?.copy() ?? new Uint8Array(0);

const bitsBetween = (a: Uint8Array, b: Uint8Array): number =>
  a.reduce((sum, byte, i) => {
    let differing = byte ^ (b[i] ?? 0);
    let bits = 0;
    for (; differing !== 0; differing &= differing - 1) bits += 1;
    return sum + bits;
  }, 0);

describe('sim damage', () => {
  it('damage: rot flips one bit of a synced sector of its kind of file, for good (sectors=4)', async () => {
    for (const place of [0, 0.3, 0.6, 0.99]) {
      const it = bench(1);
      await it.world.run(async () => {
        await durableFile(it.disk, 't.sst', numbered(4));
        await durableFile(it.disk, 'wal', numbered(4));
      });
      it.storage.rot('table', place);
      expect(bitsBetween(contentOf(it, 't.sst'), numbered(4))).to.equal(1);
      expect(bitsBetween(contentOf(it, 'wal'), numbered(4))).to.equal(0);
      it.storage.rot('log', place);
      it.storage.losePower();
      expect(bitsBetween(contentOf(it, 't.sst'), numbered(4))).to.equal(1);
      expect(bitsBetween(contentOf(it, 'wal'), numbered(4))).to.equal(1);
    }
  });

  it('damage: rot finds nothing where nothing is synced', async () => {
    const it = bench(1);
    await it.world.run(async () => {
      const file = await durableFile(it.disk, 'wal', numbered(1));
      file.write(numbered(3), 0);
    });
    it.storage.rot('log', 0.5);
    expect(contentOf(it, 'wal')).to.deep.equal(numbered(3));
  });

  it('damage: what a lying sync confirmed is at risk, until a true one', async () => {
    const outcomes = new Set<string>();
    for (let seed = 1; seed <= 40; seed += 1)
      for (const isHealed of [false, true]) {
        const it = bench(seed);
        await it.world.run(async () => {
          const file = await durableFile(it.disk, 'f', new Uint8Array(sectorBytes));
          it.storage.faults.isLying = true;
          file.write(numbered(1), 0);
          await synced(file);
          it.storage.faults.isLying = false;
          if (isHealed) await synced(file);
        });
        it.storage.losePower();
        outcomes.add(`${isHealed ? 'healed' : 'lied'} ${contentOf(it, 'f')[0] ?? 0}`);
      }
    expect([...outcomes]).to.include.members(['lied 0', 'lied 1', 'healed 1']);
    expect([...outcomes]).to.not.include('healed 0');
  });

  it('damage: a lost write leaves the old content of one sector behind a sync that went well', async () => {
    const it = bench(3);
    await it.world.run(async () => {
      const file = await durableFile(it.disk, 'f', new Uint8Array(4 * sectorBytes));
      it.storage.faults.nextSync = 'lost-write';
      file.write(numbered(4), 0);
      await synced(file);
      file.write(numbered(1), 0);
      await synced(file);
    });
    it.storage.losePower();
    const sectors = [0, 1, 2, 3].map((at) => contentOf(it, 'f')[at * sectorBytes]);
    expect(sectors.filter((byte) => byte === 0).length).to.be.at.most(1);
    expect(it.storage.faults.nextSync).to.equal(undefined);
  });

  it('damage: a misdirected write has its content in another sector, and not in its own (seeds=20)', async () => {
    let misdirected = 0;
    for (let seed = 1; seed <= 20; seed += 1) {
      const it = bench(seed);
      await it.world.run(async () => {
        const file = await durableFile(it.disk, 'f', numbered(8));
        it.storage.faults.nextSync = 'misdirected-write';
        file.write(new Uint8Array(sectorBytes).fill(99), 2 * sectorBytes);
        await synced(file);
      });
      const sectors = Array.from({ length: 8 }, (_, at) => contentOf(it, 'f')[at * sectorBytes]);
      expect(sectors.filter((byte) => byte === 99)).to.have.length(1);
      if (sectors[2] === 3) misdirected += 1;
    }
    expect(misdirected).to.be.greaterThan(10);
  });

  it('damage: a wiped disk has no names and no directories', async () => {
    const it = bench(1);
    await it.world.run(async () => {
      await it.disk.makeDirectory('a/b');
      await durableFile(it.disk, 'f', numbered(1));
    });
    it.storage.wipe();
    it.storage.losePower();
    expect([it.disk.list(''), it.disk.exists('a'), it.disk.exists('f')]).to.deep.equal([
      [],
      false,
      false,
    ]);
  });

  it('damage: a block that cannot be read is a CorruptionError of tables only', async () => {
    const it = bench(1);
    await it.world.run(async () => {
      const table = await durableFile(it.disk, 't.sst', numbered(1));
      const log = await durableFile(it.disk, 'wal', numbered(1));
      it.storage.faults.readErrorRatio = 1;
      const target = new Uint8Array(4);
      expect(() => table.read(target, 0)).to.throw(CorruptionError, 'cannot read this block');
      expect(log.read(target, 0)).to.equal(4);
      it.storage.endFaults();
      expect(table.read(target, 0)).to.equal(4);
    });
  });

  it('disk: a write that fails with EIO poisons its file; a stuck sync ends late, the next does not', async () => {
    const it = bench(1);
    await it.world.run(async () => {
      const file = await durableFile(it.disk, 'f', numbered(1));
      it.storage.faults.stuckMs = 5_000;
      const startMs = it.world.nowMs;
      await synced(file);
      expect(it.world.nowMs - startMs).to.be.greaterThan(5_000);
      await synced(file);
      expect(it.world.nowMs - startMs).to.be.lessThan(5_200);
      it.storage.faults.errorRatio = 1;
      expect(() => file.write(numbered(1), 0)).to.throw(KvError, 'DISK_FAILED');
      it.storage.endFaults();
      expect(() => file.write(numbered(1), 0)).to.throw(KvError, 'DISK_FAILED');
    });
  });

  it('network: a flipped bit anywhere in a frame is noticed (places=400)', () => {
    const bytes = new Prng(5).bytes(200);
    for (let i = 0; i < 400; i += 1) expect(noticesFlip(bytes, i / 400)).to.equal(true);
  });

  it('clock: coarse clocks show multiples of their grain and know how wrong they were', () => {
    const world = new World({ seed: 1 });
    const clock = new SimClock(world, { offsetMs: 3, driftPpm: 0, start: 0, grainMicros: 20_000 });
    expect(clock.wallMicros() % 20_000).to.equal(0);
    expect(clock.wallMicros()).to.equal(epochMicros);
    clock.jump(-500);
    clock.correct();
    expect(clock.worstErrorMs).to.equal(497);
  });

  it('world: events without end at one moment fail the run', async () => {
    const world = new World({ seed: 1 });
    let problem: unknown;
    const again = (): void => world.soon(undefined, again);
    await world
      .run(async () => {
        world.soon(undefined, again);
        await world.sleep(1);
      })
      .catch((error: unknown) => {
        problem = error;
      });
    expect(problem).to.be.instanceOf(LivelockError);
  });
});

describe('sim schedule', () => {
  const drawn = Array.from({ length: 1_000 }, (_, i) => optionsOf(i + 1, 60));

  it('schedule: each class of faults happens in some seed, at its time, to a node that exists', () => {
    const seen = new Set<string>();
    for (const options of drawn.slice(0, 200)) {
      const { events } = drawSchedule(options);
      let atMs = 0;
      for (const event of events) {
        seen.add(event.kind);
        expect(event.atMs).to.be.within(atMs, options.chaosMs);
        expect(formatEvent(event)).to.include(event.kind);
        ({ atMs } = event);
      }
    }
    const steady = ['loss', 'replay', 'corrupt-frame', 'disk-error', 'clock-offset', 'clock-drift'];
    expect([...seen].sort()).to.deep.equal(
      [...faultClasses, ...damageClasses].filter((name) => !steady.includes(name)).sort(),
    );
  });

  it('schedule: one seed has one schedule, plain data', () => {
    const schedule = drawSchedule(optionsOf(9, 60));
    expect(drawSchedule(optionsOf(9, 60))).to.deep.equal(schedule);
    expect(JSON.parse(JSON.stringify(schedule))).to.deep.equal(schedule);
  });

  it('schedule: a core keeps a majority of the copies of every key (rule 2.6)', () => {
    let cores = 0;
    for (const options of drawn) {
      const { core } = drawSchedule(options);
      if (core === undefined) continue;
      cores += 1;
      const copies = Math.min(options.tunables.replicationFactor, options.nodes);
      expect(core.gone.length).to.be.within(1, Math.floor((copies - 1) / 2));
      if (options.victim !== undefined) expect(core.gone).to.deep.equal([options.victim]);
    }
    expect(cores).to.be.greaterThan(200);
  });

  it('schedule: damage is in a fifth of the seeds, each class in some, to one node where copies are left', () => {
    const damaged = drawn.filter(({ damage }) => damage.length > 0);
    expect(damaged.length / drawn.length).to.be.within(0.15, 0.25);
    for (const name of damageClasses)
      expect(damaged.filter(({ damage }) => damage.includes(name)).length).to.be.greaterThan(15);
    for (const { damage, victim, lostCopies, tunables, nodes } of damaged) {
      const isShown = damage.every((name) => name === 'rot' || name === 'read-error');
      const copies = Math.min(tunables.replicationFactor, nodes);
      expect(lostCopies).to.equal(victim === undefined ? copies : isShown ? 0 : 1);
      if (copies < 3) expect(victim).to.equal(undefined);
    }
  });

  it('schedule: a forced class is in every seed, damage where a clean copy is left', () => {
    const forced: readonly DamageClass[] = ['rot'];
    for (let seed = 1; seed <= 100; seed += 1) {
      const options = optionsOf(seed, 60, [...forced, 'kill']);
      expect(options.faults).to.include('kill');
      const copies = Math.min(options.tunables.replicationFactor, options.nodes);
      expect(options.damage).to.deep.equal(copies < 3 ? [] : ['rot']);
      expect(options.lostCopies).to.equal(0);
    }
  });
});
