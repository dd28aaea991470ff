// Backups and restores at every point where they may end early, with every kind of damage, and that
// only what is new is copied.

import { Readable } from 'node:stream';
import { expect } from 'chai';
import { openIdentity } from '../../actors/node/identity.ts';
import { ManifestLog } from '../../actors/storage/manifest.ts';
import { tablePath } from '../../actors/storage/table-files.ts';
import { backupToDirectory, backupToTar, newTar, pruneBackups } from '../../cli/backup/backup.ts';
import {
  decodeList,
  encodeList,
  listPath,
  readLists,
  tablesOf,
  verifyTable,
} from '../../cli/backup/backup-format.ts';
import { liveRecords } from '../../cli/backup/live-records.ts';
import {
  chooseBackup,
  endMicrosOf,
  restoreFromDirectory,
  restoreFromTar,
  type RestorePlan,
} from '../../cli/backup/restore-from.ts';
import { recordKey, recordValue, userKey } from '../../actors/model/record.ts';
import { noBytes, utf8 } from '../../runtime/bytes.ts';
import type { Disk } from '../../runtime/environment.ts';
import { CorruptionError, KvError } from '../../runtime/errors.ts';
import { Prng } from '../../runtime/prng.ts';
import { sharedCodecs } from '../../sim/kvd-program.ts';
import { SimProcess } from '../../sim/process.ts';
import { SimDisk, SimStorage } from '../../sim/sim-disk.ts';
import { World } from '../../sim/world.ts';
import { MemoryDisk } from '../kit-disk.ts';
import { type Taken, twoSnapshots } from './backup-under-test.ts';

const nowMs = 1_800_000_000_000;
const identity = {
  clusterName: 'fresh',
  node: 'n1',
  members: ['n1'],
  replicationFactor: 1,
  virtualNodes: 4,
  shards: 1,
};

const planTo = (target: Disk): RestorePlan => ({
  target,
  node: 'n1',
  clusterName: 'fresh',
  nowMs,
  codecs: sharedCodecs(),
  onBytes: () => undefined,
});

async function refusal(work: () => Promise<unknown>): Promise<string> {
  try {
    await work();
    return 'done';
  } catch (error) {
    if (error instanceof KvError || error instanceof CorruptionError) return error.message;
    throw error;
  }
}

/** Opens what a restore made, as a node does, and reads every table back. */
async function expectRestored(disk: Disk, { list }: Taken): Promise<void> {
  const { incarnation } = await openIdentity(disk, identity, 5);
  expect(incarnation).to.be.above(nowMs / 1000);
  const shard = { clusterName: 'fresh', node: 'n1', incarnation, shard: 0 };
  const manifest = await ManifestLog.open(disk, 'shard-0', shard);
  const wanted = tablesOf(list);
  expect(manifest.state.flushedThrough).to.equal(0);
  expect([...manifest.state.tables.values()]).to.have.deep.members(wanted.map(({ meta }) => meta));
  for (const { meta } of wanted)
    verifyTable(disk, tablePath('shard-0', meta.fileNumber), meta, sharedCodecs());
  manifest.close();
  expect(disk.exists('restore-in-progress')).to.equal(false);
}

/**
 * Runs `work` on a disk that loses its power at the n-th call, for every n, and hands what is left
 * to `judge`; ends with the number of calls.
 */
async function crashEverywhere(
  work: (disk: Disk) => Promise<unknown>,
  judge: (disk: Disk, isDone: boolean) => Promise<void>,
  prepare: (disk: Disk) => Promise<unknown> = () => Promise.resolve(),
): Promise<number> {
  for (let call = 1; ; call += 1) {
    const world = new World({ seed: call });
    const storage = new SimStorage(new Prng(call));
    const first: SimProcess = new SimProcess('p', world, () => first.end());
    const state = { isDone: false };
    await world.run(async () => {
      const disk = new SimDisk(storage, first);
      await prepare(disk);
      first.crashAtCall(first.calls + call);
      void work(disk).then(
        () => {
          state.isDone = true;
        },
        () => undefined,
      );
      await world.sleep(5_000);
      first.end();
      storage.losePower();
      const second: SimProcess = new SimProcess('p', world, () => second.end());
      await judge(new SimDisk(storage, second), state.isDone).catch((error: unknown) => {
        throw new Error(`call ${call}`, { cause: error });
      });
    });
    if (state.isDone) return call;
  }
}

describe('backup', function () {
  this.timeout(60_000);
  let one: Taken;
  let two: Taken;

  beforeEach(async () => {
    [one, two] = await twoSnapshots();
  });

  it('backup: the second one copies only the tables that are new', async () => {
    const disk = new MemoryDisk();
    const first = await backupToDirectory(disk, one.list, one.source);
    expect(first).to.include({ tables: 1, copiedTables: 1 });
    const second = await backupToDirectory(disk, two.list, two.source);
    expect(second).to.include({ tables: 2, copiedTables: 1 });
    expect(two.copied).to.deep.equal([tablesOf(two.list)[1]?.path]);
    expect(readLists(disk)).to.deep.equal([one.list, two.list]);
    expect(disk.list('tables').length).to.equal(2);
    for (const { path, meta } of tablesOf(two.list)) verifyTable(disk, path, meta, sharedCodecs());
  });

  it('backup: where a table is gone again before the end, nothing is listed', async () => {
    const disk = new MemoryDisk();
    await backupToDirectory(disk, one.list, one.source);
    const [shared = '', added = ''] = tablesOf(two.list).map(({ path }) => path);
    for (const damage of [() => disk.remove(shared), () => disk.put(shared, new Uint8Array(9))]) {
      const before = disk.read(shared) as Uint8Array;
      disk.remove(added);
      const chunks: typeof two.source.chunks = (table) => {
        damage();
        return two.source.chunks(table);
      };
      const source = { ...two.source, parallel: 1, chunks };
      const said = await refusal(() => backupToDirectory(disk, two.list, source));
      expect(said).to.contain(`${shared} is gone, somebody else`);
      expect(readLists(disk)).to.deep.equal([one.list]);
      disk.put(shared, before);
    }
    await backupToDirectory(disk, two.list, two.source);
    expect(readLists(disk)).to.deep.equal([one.list, two.list]);
  });

  it('backup: a table that rotted in the directory is copied again when it is read back', async () => {
    const disk = new MemoryDisk();
    await backupToDirectory(disk, one.list, one.source);
    const [table] = tablesOf(one.list);
    const path = table?.path ?? '';
    flip(disk, path, 50);
    const figures = await backupToDirectory(disk, two.list, { ...two.source, verifiesAll: true });
    expect(figures.copiedTables).to.equal(2);
    if (table !== undefined) verifyTable(disk, path, table.meta, sharedCodecs());
  });

  it('backup: bytes that are damaged on their way are not taken, and nothing is listed', async () => {
    const disk = new MemoryDisk();
    const chunks: typeof one.source.chunks = async function* (table) {
      for await (const chunk of one.source.chunks(table)) {
        const damaged = chunk.slice();
        damaged[9] = (damaged[9] as number) ^ 4;
        yield damaged;
      }
    };
    const said = await refusal(() => backupToDirectory(disk, one.list, { ...one.source, chunks }));
    expect(said).to.contain('corrupt data in tables/n1.0.0000000001-');
    expect(disk.paths()).to.deep.equal([]);
  });

  it('backup: older ones go with the tables that nobody else needs', async () => {
    const disk = new MemoryDisk();
    await backupToDirectory(disk, two.list, two.source);
    await backupToDirectory(disk, one.list, one.source);
    disk.put('tables/left-over.sst', noBytes);
    // Of two, the one with the later snapshot is the newer one.
    expect(await pruneBackups(disk, 2)).to.deep.equal({ backups: 0, tables: 1 });
    expect(await pruneBackups(disk, 1)).to.deep.equal({ backups: 1, tables: 0 });
    expect(disk.paths()).to.deep.equal([
      'backups/b.json',
      ...tablesOf(two.list).map(({ path }) => path),
    ]);
  });

  it('backup: another cluster, or a list that is there, is refused', async () => {
    const disk = new MemoryDisk();
    await backupToDirectory(disk, one.list, one.source);
    expect(await refusal(() => backupToDirectory(disk, one.list, one.source))).to.contain(
      'there is a backup a already',
    );
    const nodes = two.list.nodes.map((node) => ({ ...node, clusterName: 'other' }));
    const said = await refusal(() => backupToDirectory(disk, { id: 'b', nodes }, two.source));
    expect(said).to.contain('holds backups of cluster sim, this is other');
  });

  it('backup: lost power at any call leaves complete backups only, and the next one goes on', async () => {
    const calls = await crashEverywhere(
      (disk) => backupToDirectory(disk, two.list, two.source),
      async (disk, isDone) => {
        const found = readLists(disk);
        if (isDone) expect(found.length).to.equal(2);
        for (const list of found)
          for (const { path, meta } of tablesOf(list))
            verifyTable(disk, path, meta, sharedCodecs());
        if (found.length === 2) return;
        await backupToDirectory(disk, two.list, two.source);
        expect(readLists(disk).length).to.equal(2);
        expect(disk.list('tables').length).to.equal(2);
        for (const { path, meta } of tablesOf(two.list))
          verifyTable(disk, path, meta, sharedCodecs());
      },
      (disk) => backupToDirectory(disk, one.list, one.source),
    );
    expect(calls).to.be.above(20);
  });
});

function flip(disk: MemoryDisk, path: string, at: number): void {
  const bytes = disk.read(path) ?? noBytes;
  bytes[at] = (bytes[at] as number) ^ 1;
  disk.put(path, bytes);
}

async function tarOf({ list, source }: Taken): Promise<Buffer> {
  const stream = newTar();
  const parts: Uint8Array[] = [];
  const reading = (async () => {
    for await (const part of stream as unknown as AsyncIterable<Uint8Array>) parts.push(part);
  })();
  await Promise.all([backupToTar(stream, list, source), reading]);
  return Buffer.concat(parts);
}

describe('restore', function () {
  this.timeout(60_000);
  let two: Taken;
  let backup: MemoryDisk;

  before(async () => {
    const [one, next] = await twoSnapshots();
    two = next;
    backup = new MemoryDisk();
    await backupToDirectory(backup, one.list, one.source);
    await backupToDirectory(backup, two.list, two.source);
  });

  it('restore: a directory of a backup becomes a data directory of its node', async () => {
    const target = new MemoryDisk();
    const figures = await restoreFromDirectory(backup, two.list, planTo(target));
    expect(figures).to.include({ tables: 2, replayed: 0 });
    await expectRestored(target, two);
  });

  it('restore: a tar stream does the same', async () => {
    const tar = await tarOf(two);
    const target = new MemoryDisk();
    await restoreFromTar(Readable.from([tar]), () => planTo(target));
    await expectRestored(target, two);
  });

  it('restore: a stream that is cut or damaged anywhere makes no data directory', async () => {
    const tar = await tarOf(two);
    const restored = async (bytes: Buffer): Promise<string> => {
      const target = new MemoryDisk();
      const said = await refusal(() =>
        restoreFromTar(Readable.from([bytes]), () => planTo(target)),
      ).catch((error: unknown) => (error as Error).message);
      expect(target.exists('identity.json'), said).to.equal(said === 'done');
      return said;
    };
    // The last 1,024 bytes only say that it ends here.
    for (let length = 0; length < tar.length - 1024; length += 256)
      expect(await restored(tar.subarray(0, length)), `cut at ${length}`).to.not.equal('done');
    for (let at = 512; at < tar.length - 1024; at += 97) {
      const damaged = Buffer.from(tar);
      damaged[at] = (damaged[at] as number) ^ 1;
      // Padding and what tar says of owners and times mean nothing.
      const said = await restored(damaged);
      if (said !== 'done') continue;
      const target = new MemoryDisk();
      await restoreFromTar(Readable.from([damaged]), () => planTo(target));
      await expectRestored(target, two);
    }
  });

  it('restore: every damaged or missing file is named, and nothing becomes a data directory', async () => {
    for (const { path } of tablesOf(two.list)) {
      const size = backup.read(path)?.length ?? 0;
      for (let at = 0; at < size; at += 7) {
        const damaged = backup.copy();
        flip(damaged, path, at);
        const target = new MemoryDisk();
        const said = await refusal(() => restoreFromDirectory(damaged, two.list, planTo(target)));
        expect(said, `byte ${at}`).to.contain(`corrupt data in ${path}`);
        expect(target.exists('identity.json')).to.equal(false);
      }
      const missing = backup.copy();
      missing.remove(path);
      const said = await refusal(() =>
        restoreFromDirectory(missing, two.list, planTo(new MemoryDisk())),
      );
      expect(said).to.contain(`corrupt data in ${path} at byte 0: the file is missing`);
    }
    const damaged = backup.copy();
    flip(damaged, listPath('b'), 30);
    expect(() => readLists(damaged)).to.throw(CorruptionError, listPath('b'));
  });

  it('restore: a directory that holds anything is refused, an unfinished restore is not', async () => {
    const target = new MemoryDisk();
    await restoreFromDirectory(backup, two.list, planTo(target));
    const again = (disk: Disk): Promise<string> =>
      refusal(() => restoreFromDirectory(backup, two.list, planTo(disk)));
    expect(await again(target)).to.contain('the data directory holds identity.json');
    const other = new MemoryDisk();
    other.put('notes.txt', noBytes);
    expect(await again(other)).to.contain('the data directory holds notes.txt');
  });

  it('restore: lost power at any call leaves a whole data directory or none', async () => {
    const calls = await crashEverywhere(
      (disk) => restoreFromDirectory(backup, two.list, planTo(disk)),
      async (disk, isDone) => {
        if (!disk.exists('identity.json')) {
          expect(isDone).to.equal(false);
          await restoreFromDirectory(backup, two.list, planTo(disk));
        }
        await expectRestored(disk, two);
      },
    );
    expect(calls).to.be.above(50);
  });

  it('restore: the backup that is chosen is the newest before the time asked for', () => {
    const choose = (id: string | undefined, untilMicros: number): string => {
      try {
        return chooseBackup(backup, { id, untilMicros }).id;
      } catch (error) {
        return (error as Error).message;
      }
    };
    const [first, second] = readLists(backup).map(endMicrosOf);
    expect(choose(undefined, Infinity)).to.equal('b');
    expect(choose('a', Infinity)).to.equal('a');
    expect(choose('c', Infinity)).to.contain('there are a, b');
    expect(choose(undefined, second ?? 0)).to.equal('b');
    expect(choose(undefined, (second ?? 0) - 1)).to.equal('a');
    expect(choose(undefined, (first ?? 0) - 1)).to.contain('the oldest backup holds');
  });

  it('restore: the live records of all tables are each key once, the newest value', () => {
    const found = [
      ...liveRecords(backup, two.list, { codecs: sharedCodecs(), nowMs, namespace: 0 }),
    ].map((record) => [
      utf8.decode(userKey(recordKey(record))),
      Number(utf8.decode(recordValue(record))),
    ]);
    const expected = Array.from({ length: 10 }, (_, i) => [
      `key-${i}`,
      i === 0 ? 10 : i <= 5 ? 10 + i : i,
    ]);
    expect(found).to.deep.equal(expected);
    const missing = backup.copy();
    const path = tablesOf(two.list)[1]?.path ?? '';
    missing.remove(path);
    const read = (): unknown => [
      ...liveRecords(missing, two.list, { codecs: sharedCodecs(), nowMs, namespace: 0 }),
    ];
    expect(read).to.throw(CorruptionError, path);
  });

  it('backup format: every changed byte of a list is noticed', () => {
    const bytes = encodeList(two.list);
    expect(decodeList('l', bytes)).to.deep.equal(two.list);
    for (let at = 0; at < bytes.length; at += 1) {
      const damaged = bytes.slice();
      damaged[at] = (damaged[at] as number) ^ 1;
      expect(() => decodeList('l', damaged), `byte ${at}`).to.throw(CorruptionError);
    }
  });
});
