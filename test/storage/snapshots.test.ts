// Snapshots of a node: what is in them, what is left of them after a crash at any call of the
// environment, and what is refused.

import { expect } from 'chai';
import { recordKey, recordValue, userKey } from '../../actors/model/record.ts';
import { Snapshotter } from '../../actors/storage/protocol.ts';
import {
  decodeSnapshot,
  encodeSnapshot,
  snapshotDirectory,
  snapshotFile,
  type SnapshotManifest,
  snapshotPath,
  snapshotTablePath,
} from '../../actors/storage/snapshot-format.ts';
import { SstableReader } from '../../actors/storage/sstable-reader.ts';
import { refTo } from '../../runtime/actor.ts';
import { noBytes, utf8 } from '../../runtime/bytes.ts';
import { CorruptionError } from '../../runtime/errors.ts';
import type { CrashKind } from '../../sim/cluster.ts';
import { sharedCodecs } from '../../sim/kvd-program.ts';
import { copyOf, MachineUnderTest, nodeName } from './machine-under-test.ts';

const target = refTo(Snapshotter, nodeName);

/** Keys and values of a snapshot, read from its own files; each table is verified. */
function contentOf({ storage }: MachineUnderTest, name: string): ReadonlyMap<string, number> {
  const disk = copyOf(storage, [snapshotDirectory]);
  const manifest = decodeSnapshot('m', disk.read(snapshotPath(name)) ?? noBytes);
  const records = manifest.shards.flatMap(({ shard, tables }) =>
    tables.flatMap(({ fileNumber }) => {
      const file = disk.open(snapshotTablePath(name, shard, fileNumber), 'read');
      const reader = SstableReader.open(file, fileNumber, sharedCodecs());
      reader.verifyAll();
      return Array.from({ length: reader.blocks }, (_, i) => reader.recordsOf(i)).flat();
    }),
  );
  const found = new Map<string, number>();
  for (const record of records) {
    const key = utf8.decode(userKey(recordKey(record)));
    found.set(key, Math.max(found.get(key) ?? 0, Number(utf8.decode(recordValue(record)))));
  }
  return found;
}

/** Files of the directory that belong to no snapshot of `names`, and those that are missing. */
function strays({ storage }: MachineUnderTest, names: readonly string[]): string[] {
  const disk = copyOf(storage, [snapshotDirectory]);
  const expected = new Set(
    names.flatMap((name) => [
      snapshotPath(name),
      ...decodeSnapshot(name, disk.read(snapshotPath(name)) ?? noBytes).shards.flatMap(
        ({ shard, tables }) =>
          tables.map(({ fileNumber }) => snapshotTablePath(name, shard, fileNumber)),
      ),
    ]),
  );
  const found = disk.paths();
  return [
    ...found.filter((path) => !expected.has(path)),
    ...[...expected].filter((path) => !found.includes(path)),
  ];
}

interface Seen {
  /** Acknowledged before the request, by snapshot. */
  readonly before: Map<string, ReadonlyMap<string, number>>;
  readonly made: Set<string>;
  /** Their deletion was asked for, and was answered. */
  readonly unmade: Set<string>;
  readonly removed: Set<string>;
}

async function scenario(machine: MachineUnderTest, seen: Seen): Promise<void> {
  const create = async (name: string): Promise<void> => {
    seen.before.set(name, new Map(machine.acked));
    if ((await machine.snapshot(name)) !== undefined) seen.made.add(name);
  };
  await machine.write(10);
  await create('one');
  await machine.write(10);
  await machine.flush();
  // Compaction takes the tables of the first one.
  await machine.cluster.world.sleep(50);
  await create('two');
  seen.unmade.add('one');
  if ((await machine.remove('one'))?.isRemoved === true) seen.removed.add('one');
  await machine.write(5);
}

/** One run with one crash; the calls of a run without. */
async function play(kind: CrashKind, call: number): Promise<number> {
  const machine = new MachineUnderTest();
  const seen: Seen = {
    before: new Map(),
    made: new Set(),
    unmade: new Set(),
    removed: new Set(),
  };
  let calls = 0;
  await machine.cluster.world.run(async () => {
    await machine.start();
    const before = machine.calls;
    machine.plan({ kind, call });
    await scenario(machine, seen);
    calls = machine.calls - before;
    if (call === Infinity) machine.cluster.crash(nodeName, kind);
    expect(machine.isUp, `call ${call} was not reached`).to.equal(false);
    await machine.start();
    const names = await machine.snapshots();
    expect(strays(machine, names), `call ${call}`).to.deep.equal([]);
    // Of a deletion that was not answered nobody knows.
    for (const name of seen.made)
      if (!seen.unmade.has(name)) expect(names, `call ${call}`).to.include(name);
    for (const name of seen.removed) expect(names, `call ${call}`).to.not.include(name);
    for (const name of names) {
      const content = contentOf(machine, name);
      for (const [key, value] of seen.before.get(name) ?? [])
        expect(content.get(key), `call ${call}: ${key} in ${name}`).to.be.at.least(value);
    }
    await machine.expectAcked();
    // The names are free again where the snapshots are gone.
    await machine.remove('one');
    expect(await machine.snapshot('one')).to.include({ name: 'one' });
  });
  return calls;
}

describe('snapshots', function () {
  this.timeout(60_000);

  for (const kind of ['kill', 'power-loss'] as const)
    it(`snapshots: a crash at any call leaves whole ones and no garbage (kind=${kind})`, async () => {
      const calls = await play(kind, Infinity);
      expect(calls).to.be.above(100);
      for (let call = 1; call <= calls; call += 1)
        await play(kind, call).catch((error: unknown) => {
          throw new Error(`call ${call}`, { cause: error });
        });
    });

  it('snapshots: one holds what was acknowledged before it, whatever comes after', async () => {
    const machine = new MachineUnderTest();
    await machine.cluster.world.run(async () => {
      await machine.start();
      await machine.write(20);
      const before = new Map(machine.acked);
      const summary = await machine.snapshot('first');
      expect(summary).to.include({ name: 'first', tables: 1, records: 10 });
      for (let round = 0; round < 3; round += 1) {
        await machine.write(20);
        await machine.flush();
      }
      await machine.cluster.world.sleep(200);
      expect(contentOf(machine, 'first')).to.deep.equal(before);
      const listed = await machine.ask(target, 'list', {});
      expect(listed?.snapshots).to.deep.equal([summary]);
      const part = { name: 'first', shard: 0, fileNumber: 1, offset: 3, length: 7 };
      const read = await machine.ask(target, 'read', part);
      const file = machine.storage.find(snapshotTablePath('first', 0, 1))?.copy() ?? noBytes;
      expect(read).to.deep.equal({ bytes: file.slice(3, 10), size: file.length });
      expect((await machine.ask(target, 'read', { ...part, offset: 1e9 }))?.bytes.length).to.equal(
        0,
      );
    });
  });

  it('snapshots: what came after a flush that is under way is in one, too (rounds=20)', async () => {
    const machine = new MachineUnderTest();
    await machine.cluster.world.run(async () => {
      await machine.start();
      for (let round = 0; round < 20; round += 1) {
        await machine.write(5);
        const flushing = machine.flush();
        await machine.write(5);
        const before = new Map(machine.acked);
        await machine.snapshot(`round-${round}`);
        await flushing;
        expect(contentOf(machine, `round-${round}`)).to.deep.equal(before);
      }
    });
  });

  it('snapshots: an empty node has an empty one', async () => {
    const machine = new MachineUnderTest();
    await machine.cluster.world.run(async () => {
      await machine.start();
      expect(await machine.snapshot('empty')).to.include({ tables: 0, bytes: 0, maxHlc: 0 });
      expect(await machine.snapshots()).to.deep.equal(['empty']);
    });
  });

  it('snapshots: a name that is taken, a second one at a time and bad names are refused', async () => {
    const machine = new MachineUnderTest();
    const code = async (name: string): Promise<string> => {
      const answer = await machine.cluster.ask(target, 'create', { name }, 5_000);
      return answer.kind === 'reply' ? 'made' : JSON.stringify(answer);
    };
    await machine.cluster.world.run(async () => {
      await machine.start();
      await machine.write(10);
      const both = await Promise.all([code('a'), code('b')]);
      expect(both).to.include('made');
      expect(both.join()).to.contain('another snapshot is being made');
      const [made = ''] = await machine.snapshots();
      expect(await code(made)).to.contain(`there is a snapshot ${made} already`);
      for (const name of ['', '../a', 'a/b', 'a.b', 'x'.repeat(65)])
        expect(await code(name), name).to.contain('BAD_REQUEST');
      expect((await machine.remove('none'))?.isRemoved).to.equal(false);
    });
  });

  it('snapshots: one that is made only after its asker has given up is removed', async () => {
    const machine = new MachineUnderTest();
    await machine.cluster.world.run(async () => {
      await machine.start();
      await machine.write(10);
      const answer = await machine.cluster.ask(target, 'create', { name: 'late' }, 1);
      expect(answer.kind).to.equal('lost');
      const early = await machine.cluster.ask(target, 'remove', { name: 'late' }, 5_000);
      expect(JSON.stringify(early), 'it is being made').to.contain('another snapshot');
      await machine.cluster.world.sleep(5_000);
      expect(await machine.snapshots()).to.deep.equal([]);
      expect(strays(machine, [])).to.deep.equal([]);
      expect(await machine.snapshot('late')).to.include({ records: 10 });
    });
  });

  it('snapshots: a full disk refuses one, and nothing of it stays', async () => {
    const machine = new MachineUnderTest();
    await machine.cluster.world.run(async () => {
      await machine.start();
      await machine.write(10);
      const { faults, usedBytes } = machine.storage;
      faults.capacityBytes = usedBytes;
      expect(await machine.snapshot('full')).to.equal(undefined);
      expect(strays(machine, [])).to.deep.equal([]);
      faults.capacityBytes = Infinity;
      await machine.cluster.world.sleep(3_000);
      expect(await machine.snapshot('full')).to.include({ records: 10 });
    });
  });
});

describe('snapshot format', () => {
  const manifest: SnapshotManifest = {
    name: 'm',
    createdMs: 5,
    clusterName: 'c',
    node: 'n1',
    incarnation: 7,
    shape: { members: ['n1'], replicationFactor: 1, virtualNodes: 4, shards: 1 },
    shards: [
      {
        shard: 0,
        flushedThrough: 9,
        tables: [
          {
            fileNumber: 1,
            level: 0,
            bytes: 100,
            records: 2,
            tombstones: 1,
            firstKey: new Uint8Array([0, 255, 16]),
            lastKey: new Uint8Array([1]),
            minHlc: 1,
            maxHlc: 2,
            maxExpiresAt: 0,
            checksum: 0xffff_ffff,
          },
        ],
      },
    ],
  };

  it('snapshot format: what is written is read', () => {
    expect(decodeSnapshot('p', encodeSnapshot(manifest))).to.deep.equal(manifest);
  });

  it('snapshot format: every changed or missing byte is noticed', () => {
    const bytes = encodeSnapshot(manifest);
    for (let at = 0; at < bytes.length; at += 1) {
      const damaged = bytes.slice();
      damaged[at] = (damaged[at] as number) ^ 1;
      expect(() => decodeSnapshot('p', damaged), `byte ${at}`).to.throw(CorruptionError, 'p');
      expect(() => decodeSnapshot('p', bytes.slice(0, at)), `cut ${at}`).to.throw(CorruptionError);
    }
  });

  it('snapshot format: names that could be more than names are refused', () => {
    for (const changed of [
      { ...manifest, node: '../n1' },
      { ...manifest, name: 'a/b' },
      { ...manifest, shape: { ...manifest.shape, shards: 2 } },
      { ...manifest, shards: manifest.shards.map((one) => ({ ...one, shard: 3 })) },
    ])
      expect(() => decodeSnapshot('p', encodeSnapshot(changed))).to.throw(CorruptionError, 'p');
  });

  it('snapshot format: names of files say what they belong to', () => {
    expect(snapshotFile('a.json')).to.deep.equal({ name: 'a', isManifest: true });
    expect(snapshotFile('a.0.0000000001.sst')).to.deep.equal({ name: 'a', isManifest: false });
    for (const file of ['a', 'a.json.tmp', 'a.b.json', '.json', 'a.0.1.sst'])
      expect(snapshotFile(file), file).to.equal(undefined);
  });
});
