// The archive of closed log segments: nothing that was acknowledged is missing in it or in the log,
// whenever the node ends, and one data directory's log never mixes with another's.

import { expect } from 'chai';
import { recordKey, recordValue, userKey } from '../../actors/model/record.ts';
import { archiveDirectory, lineagePath, readCovered } from '../../actors/storage/archive-format.ts';
import { replayShard } from '../../cli/backup/log-replay.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { WalArchiver } from '../../actors/storage/protocol.ts';
import { walArchiver } from '../../actors/storage/wal-archiver.actor.ts';
import { refTo } from '../../runtime/actor.ts';
import type { OpenMode } from '../../runtime/environment.ts';
import { readSegment } from '../../actors/storage/segment-reader.ts';
import { encodeSegmentHeader, segmentName, splitPayload } from '../../actors/storage/wal-format.ts';
import { CorruptionError, KvError } from '../../runtime/errors.ts';
import type { CrashKind } from '../../sim/cluster.ts';
import { Prng } from '../../runtime/prng.ts';
import { Kit } from '../kit.ts';
import { MemoryDisk } from '../kit-disk.ts';
import { copyOf, fillWhenCreated, MachineUnderTest, nodeName } from './machine-under-test.ts';

const place = archiveDirectory('sim', nodeName, 0);
const walDirectory = 'shard-0/wal';
const identity = { clusterName: 'new', node: nodeName, incarnation: 1, shard: 0 };
const fromStart = { clusterName: 'sim', node: nodeName, shard: 0, flushedThrough: 0 };

const archiveOf = (machine: MachineUnderTest): MemoryDisk =>
  copyOf(machine.cluster.machineOf(nodeName).archive, [place]);

/** The newest value of each key in the log that a replay writes. */
async function replayed(
  archive: MemoryDisk,
  untilMicros = Infinity,
  from: typeof fromStart = fromStart,
): Promise<ReadonlyMap<string, number>> {
  const target = new MemoryDisk();
  const replay = { archive, untilMicros };
  const { records } = await replayShard(target, 'wal', { identity, from, replay });
  const found = new Map<string, number>();
  let read = 0;
  let later;
  for (const path of target.paths().reverse()) {
    const bytes = target.read(path) ?? new Uint8Array(0);
    const number = Number(/(\d+)[.]wal$/.exec(path)?.[1]);
    const expectations = {
      kind: 'wal' as const,
      identity,
      segmentNumber: number,
      later,
      flushedThrough: 0,
      inFlightBytesMax: 0,
    };
    const verdict = readSegment(bytes, expectations, ({ payload }) => {
      for (const record of splitPayload(payload)) {
        read += 1;
        const key = utf8.decode(userKey(recordKey(record)));
        const value = Number(utf8.decode(recordValue(record)));
        found.set(key, Math.max(found.get(key) ?? 0, value));
      }
    });
    expect(verdict.kind, path).to.equal('end');
  }
  expect(read).to.equal(records);
  return found;
}

async function refusal(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'done';
  } catch (error) {
    if (error instanceof KvError || error instanceof CorruptionError) return error.message;
    throw error;
  }
}

async function scenario(machine: MachineUnderTest): Promise<void> {
  for (let round = 0; round < 3; round += 1) {
    await machine.write(20);
    await machine.flush();
    await machine.cluster.world.sleep(60);
  }
  await machine.write(5);
}

async function play(kind: CrashKind, call: number): Promise<number> {
  const machine = new MachineUnderTest(true);
  let calls = 0;
  await machine.cluster.world.run(async () => {
    await machine.start();
    const before = machine.calls;
    machine.plan({ kind, call });
    await scenario(machine);
    calls = machine.calls - before;
    if (call === Infinity) machine.cluster.crash(nodeName, kind);
    expect(machine.isUp, `call ${call} was not reached`).to.equal(false);
    const acked = new Map(machine.acked);
    await machine.start();
    await machine.expectAcked();
    // What the crash left goes to the archive; then time covers it.
    await machine.cluster.world.sleep(8_000);
    const archive = archiveOf(machine);
    // One that is being replaced now is gone a moment later.
    const halves = archive.paths().filter((path) => path.endsWith('.tmp'));
    await machine.cluster.world.sleep(100);
    const left = archiveOf(machine).paths();
    expect(halves.filter((path) => left.includes(path))).to.deep.equal([]);
    const found = await replayed(archive);
    for (const [key, value] of acked)
      expect(found.get(key), `call ${call}: ${key}`).to.be.at.least(value);
    const segments = machine.storage.list(walDirectory).filter((name) => name.endsWith('.wal'));
    expect(segments.length, 'segments that stay').to.equal(1);
  });
  return calls;
}

/** False: the second start was done before it came to this call. */
async function endSecondStart(kind: CrashKind, call: number): Promise<boolean> {
  const machine = new MachineUnderTest(true);
  let isEnded = false;
  await machine.cluster.world.run(async () => {
    await machine.start();
    await machine.write(5);
    machine.cluster.crash(nodeName, kind);
    const second = machine.cluster.start(nodeName);
    machine.plan({ kind, call });
    await second;
    await machine.cluster.world.sleep(100);
    isEnded = !machine.isUp;
    if (!isEnded) return;
    await machine.start();
    await machine.expectAcked();
  });
  return isEnded;
}

describe('wal archive', function () {
  this.timeout(60_000);

  for (const kind of ['kill', 'power-loss'] as const)
    it(`wal archive: a crash at any call loses no acknowledged record of it (kind=${kind})`, async () => {
      const calls = await play(kind, Infinity);
      expect(calls).to.be.above(200);
      // A third of the calls: their places move with every step of the node.
      for (let call = 1; call <= calls; call += 3)
        await play(kind, call).catch((error: unknown) => {
          throw new Error(`call ${call}`, { cause: error });
        });
    });

  async function archived(work: (machine: MachineUnderTest) => Promise<void>): Promise<void> {
    const machine = new MachineUnderTest(true);
    await machine.cluster.world.run(async () => {
      await machine.start();
      await work(machine);
    });
  }

  for (const kind of ['kill', 'power-loss'] as const)
    it(`wal archive: a crash at any call of the next start does not make the one after it refuse (kind=${kind})`, async () => {
      let call = 1;
      while (await endSecondStart(kind, call)) call += 2;
      expect(call).to.be.greaterThan(100);
    });

  it('wal archive: segments with records are closed in time, and time alone is covered', () =>
    archived(async (machine) => {
      await machine.write(5);
      await machine.cluster.world.sleep(500);
      expect(await replayed(archiveOf(machine))).to.deep.equal(machine.acked);
      const early = readCovered(archiveOf(machine), place);
      const segments = archiveOf(machine).list(place).length;
      await machine.cluster.world.sleep(10_000);
      const late = readCovered(archiveOf(machine), place);
      expect(late?.throughLsn).to.equal(early?.throughLsn);
      expect((late?.atMicros ?? 0) - (early?.atMicros ?? 0)).to.be.within(9e6, 11e6);
      expect(archiveOf(machine).list(place).length).to.equal(segments);
    }));

  it('wal archive: while writes come steadily segments are closed in time as well', async () => {
    const machine = new MachineUnderTest(true, { walSegmentBytes: 1 << 20 });
    const { world } = machine.cluster;
    await world.run(async () => {
      await machine.start();
      machine.storage.faults.syncMs = 10;
      const endMs = world.nowMs + 3_000;
      const write = async (): Promise<void> => {
        while (world.nowMs < endMs) await machine.write(5);
      };
      const writers = Array.from({ length: 12 }, write);
      while (world.nowMs < endMs - 600) {
        const acked = new Map(machine.acked);
        await world.sleep(500);
        const found = await replayed(archiveOf(machine));
        for (const [key, value] of acked) expect(found.get(key), key).to.be.at.least(value);
      }
      await Promise.all(writers);
      // Closed by time alone.
      expect(machine.storage.list(walDirectory).length).to.be.within(2, 20);
    });
  });

  it('wal archive: a replay ends at the time that was asked for', () =>
    archived(async (machine) => {
      await machine.write(10);
      await machine.cluster.world.sleep(500);
      const then = new Map(machine.acked);
      const untilMicros = machine.cluster.machineOf(nodeName).clock.wallMicros();
      await machine.cluster.world.sleep(500);
      await machine.write(10);
      await machine.cluster.world.sleep(1_000);
      expect(await replayed(archiveOf(machine), untilMicros)).to.deep.equal(then);
      expect(await replayed(archiveOf(machine))).to.deep.equal(machine.acked);
      const future = untilMicros + 60e6;
      expect(await refusal(replayed(archiveOf(machine), future))).to.contain('is complete up to');
    }));

  it('wal archive: a changed bit is refused by the name of its file, or is harmless (flips=150)', () =>
    archived(async (machine) => {
      for (let round = 0; round < 4; round += 1) {
        await machine.write(10);
        await machine.cluster.world.sleep(500);
      }
      const archive = archiveOf(machine);
      const random = new Prng(4);
      const outcomes = { refused: 0, harmless: 0 };
      for (let i = 0; i < 150; i += 1) {
        const path = random.pick(archive.paths());
        const copy = archive.copy();
        const bytes = copy.read(path) ?? new Uint8Array(0);
        const at = random.int(bytes.length);
        bytes[at] = (bytes[at] ?? 0) ^ (1 << random.int(8));
        copy.put(path, bytes);
        try {
          const found = await replayed(copy);
          expect(found, `byte ${at} of ${path}`).to.deep.equal(machine.acked);
          outcomes.harmless += 1;
        } catch (error) {
          if (!(error instanceof CorruptionError || error instanceof KvError)) throw error;
          expect(error.message, `byte ${at} of ${path}`).to.contain(path);
          outcomes.refused += 1;
        }
      }
      // What says whose archive it is, and the zeros of headers, are not part of what is replayed.
      expect(outcomes.refused).to.be.greaterThan(100);
    }));

  it('wal archive: what is missing or damaged is named, and nothing is passed over', () =>
    archived(async (machine) => {
      for (let round = 0; round < 4; round += 1) {
        await machine.write(10);
        await machine.cluster.world.sleep(500);
      }
      const archive = archiveOf(machine);
      const segments = archive.paths().filter((path) => path.endsWith('.wal'));
      expect(segments.length).to.be.at.least(4);
      const [first = '', second = ''] = segments;
      const last = segments.at(-1) ?? '';
      const without = (path: string): MemoryDisk => {
        const copy = archive.copy();
        copy.remove(path);
        return copy;
      };
      expect(await refusal(replayed(without(first)))).to.contain(`gap in the archive at ${second}`);
      expect(await refusal(replayed(without(second)))).to.contain(
        `gap in the archive at ${segments[2] ?? ''}: segment 2 before it is missing`,
      );
      expect(await refusal(replayed(without(last)))).to.contain('it ends at LSN');
      expect(await refusal(replayed(new MemoryDisk()))).to.contain('nothing complete');
      for (const path of segments) {
        const copy = archive.copy();
        const bytes = copy.read(path) ?? new Uint8Array(0);
        bytes[4096 + 40] = (bytes[4096 + 40] as number) ^ 1;
        copy.put(path, bytes);
        const said = await refusal(replayed(copy));
        expect(said, path).to.match(/^corrupt data in|it ends at LSN/);
        if (path !== last) expect(said).to.contain(path);
      }
      // The tables hold what the first segments do: those are not needed.
      const from = { ...fromStart, flushedThrough: 22 };
      const rest = await replayed(without(first), Infinity, from);
      expect(Math.max(...rest.values())).to.equal(40);
    }));

  it('wal archive: the log of another data directory is refused', async () => {
    const machine = new MachineUnderTest(true);
    await machine.cluster.world.run(async () => {
      const { archive } = machine.cluster.machineOf(nodeName);
      await machine.start();
      await machine.write(5);
      machine.cluster.crash(nodeName, 'kill');
      const file = archive.find(lineagePath(place));
      file?.write(utf8.encode('another'), 0);
      expect(await machine.cluster.start(nodeName)).to.equal(false);
      expect(machine.cluster.log.last(20).join('\n')).to.contain('log of another data directory');
    });
  });

  it('wal archive: segments stay while the archive is full, and go when it has space', () =>
    archived(async (machine) => {
      const { archive } = machine.cluster.machineOf(nodeName);
      archive.faults.capacityBytes = archive.usedBytes + 100;
      await machine.write(30);
      await machine.flush();
      await machine.cluster.world.sleep(1_000);
      const waiting = machine.storage.list(walDirectory).length;
      expect(waiting).to.be.above(2);
      expect(machine.cluster.log.last(200).join('\n')).to.contain('wal.archive-failed');
      archive.faults.capacityBytes = Infinity;
      await machine.cluster.world.sleep(20_000);
      expect(machine.storage.list(walDirectory).length).to.be.below(waiting);
      expect(await replayed(archiveOf(machine))).to.deep.equal(machine.acked);
      expect(archiveOf(machine).exists(`${place}/${segmentName(1)}`)).to.equal(true);
    }));

  it('wal archive: it goes on after a start that a full disk held up', () =>
    archived(async (machine) => {
      await machine.write(5);
      machine.cluster.crash(nodeName, 'kill');
      const { storage } = machine;
      fillWhenCreated(storage, /wal\/\d+[.]wal$/, 100);
      await machine.start();
      await machine.cluster.world.sleep(3_500);
      expect(storage.list(walDirectory), 'no new segment').to.include(segmentName(1));
      storage.faults.capacityBytes = Infinity;
      await machine.cluster.world.sleep(5_000);
      await machine.write(20);
      await machine.flush();
      await machine.cluster.world.sleep(10_000);
      const logged = machine.cluster.log.last(1_000).join('\n');
      expect(logged).to.not.include('archive-failed');
      expect(storage.list(walDirectory)).to.not.include(segmentName(1));
    }));

  it('wal archive: a copy that is there counts only when its name is durable', async () => {
    const [disk, archive] = [new MemoryDisk(), new MemoryDisk()];
    const kit = new Kit([WalArchiver], { disk, archive });
    await kit.spawn(walArchiver, { directory: 'wal', archiveDirectory: 'archive' });
    const written = new Uint8Array(8192).fill(1);
    const own = { clusterName: 'sim', node: nodeName, incarnation: 1, shard: 0 };
    const begins = { previousSegmentNumber: 0, previousLastLsn: 0, previousChain: 0 };
    written.set(encodeSegmentHeader({ ...own, ...begins, kind: 'wal', segmentNumber: 1 }));
    disk.put('wal/1', written);
    // The node ended between the rename and the sync of the directory.
    archive.put(`archive/${segmentName(1)}`, written);
    const synced: string[] = [];
    let failure: KvError | undefined = new KvError('DISK_FAILED', {});
    const syncDirectory = (path: string): Promise<void> => {
      synced.push(path);
      return failure === undefined ? Promise.resolve() : Promise.reject(failure);
    };
    Object.assign(archive, { syncDirectory });
    const keep = () =>
      kit.ask(refTo(WalArchiver, 'n1'), 'keep', {
        ...{ path: 'wal/1', number: 1, bytes: written.length, covered: undefined },
      });
    const failed = keep();
    await kit.host.advance(0);
    expect([failed.failure?.code, synced]).to.deep.equal(['DISK_FAILED', ['archive']]);
    failure = undefined;
    const kept = keep();
    await kit.host.advance(0);
    expect([kept.reply, synced]).to.deep.equal([{}, ['archive', 'archive']]);
  });

  it('wal archive: a slow copy is made once, whoever asks for it again, and others wait', async () => {
    const [disk, archive] = [new MemoryDisk(), new MemoryDisk()];
    const kit = new Kit([WalArchiver], { disk, archive });
    await kit.spawn(walArchiver, { directory: 'wal', archiveDirectory: 'archive' });
    const header = { clusterName: 'sim', node: nodeName, incarnation: 1, shard: 0 };
    const begins = { previousSegmentNumber: 0, previousLastLsn: 0, previousChain: 0 };
    const bytes = 3 * 1024 * 1024;
    for (const number of [1, 2]) {
      const written = new Uint8Array(bytes).fill(number);
      const own = { ...header, ...begins, kind: 'wal' as const, segmentNumber: number };
      written.set(encodeSegmentHeader(own));
      disk.put(`wal/${number}`, written);
    }
    const made: string[] = [];
    const { open } = archive;
    Object.assign(archive, {
      open: (path: string, mode: OpenMode) => {
        if (mode === 'create') made.push(path);
        return open(path, mode);
      },
    });
    const ask = (number: number) =>
      kit.ask(refTo(WalArchiver, 'n1'), 'keep', {
        ...{ path: `wal/${number}`, number, bytes, covered: undefined },
      });
    const first = ask(1);
    await kit.host.settle();
    const [again, other] = [ask(1), ask(2)];
    await kit.host.settle();
    const copyOfFirst = `archive/${segmentName(1)}`;
    expect(made).to.deep.equal([`${copyOfFirst}.tmp`]);
    await kit.host.advance(0);
    expect([first, again, other].map(({ reply }) => reply)).to.deep.equal([{}, {}, {}]);
    expect(made).to.deep.equal([`${copyOfFirst}.tmp`, `archive/${segmentName(2)}.tmp`]);
    expect(archive.read(copyOfFirst)).to.deep.equal(disk.read('wal/1'));
    // A failure is for all who wait, and the next ask is a copy of its own.
    archive.remove(copyOfFirst);
    archive.beforeSync = () => new KvError('DISK_FAILED', {});
    const failed = [ask(1), ask(1)];
    await kit.host.advance(0);
    const codes = failed.map(({ failure }) => failure?.code);
    expect(codes).to.deep.equal(['DISK_FAILED', 'DISK_FAILED']);
    archive.beforeSync = () => undefined;
    const last = ask(1);
    await kit.host.advance(0);
    expect(last.reply).to.deep.equal({});
  });
});
