// A table that was verified and cannot be opened a moment later: nothing that was readable before
// may be gone, in memory, in the readers, and in what the manifest says. And what a merge may purge.

import { expect } from 'chai';
import { batchLogNamespace, storageKey } from '../../actors/model/record.ts';
import type { GroupJob } from '../../actors/storage/compaction-groups.ts';
import { ManifestLog } from '../../actors/storage/manifest.ts';
import {
  Compactor,
  type FrozenTable,
  Memtable,
  type TableMeta,
  TableReader,
  WalWriter,
} from '../../actors/storage/protocol.ts';
import type { PurgeRule } from '../../actors/storage/purge-rule.ts';
import { compactTables, type StoreParts, writeTable } from '../../actors/storage/store-steps.ts';
import { tablePath } from '../../actors/storage/table-files.ts';
import { refTo, type Session } from '../../runtime/actor.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { BugError, KvError } from '../../runtime/errors.ts';
import { MemoryDisk } from '../kit-disk.ts';

const directory = 'shard-0';
const identity = { clusterName: 'test', node: 'n1', incarnation: 1, shard: 0 };
const parts: StoreParts = {
  wal: refTo(WalWriter, 'n1'),
  memtable: refTo(Memtable, 'n1'),
  tables: refTo(TableReader, 'n1'),
  compactor: refTo(Compactor, 'n1'),
  directory,
  tombstonePurge: 'at-once',
  tombstoneGraceMs: 0,
  reserveBytes: 0,
  flushSpaceBytes: 0,
  sectionBytesMin: 0,
};
const frozen: FrozenTable = { arena: 0, records: 3, bytes: 300, throughLsn: 7 };

const tableOf = (fileNumber: number, level: number): TableMeta => ({
  fileNumber,
  level,
  bytes: 100,
  records: 3,
  tombstones: 0,
  minHlc: 1,
  maxHlc: 9,
  maxExpiresAt: 0,
  checksum: 1,
  firstKey: utf8.encode('nnnna'),
  lastKey: utf8.encode('nnnnz'),
});

interface Change {
  readonly added: readonly TableMeta[];
  readonly dropped: readonly number[];
}

/** Actors that answer at once; the reader refuses to open so many times with `failure`. */
class Around {
  readonly disk = new MemoryDisk();
  readonly shown: Change[] = [];
  /** How many tables were opened to be shown, each time. */
  readonly opened: number[] = [];
  /** Rules of the merges. */
  readonly purges: (PurgeRule | undefined)[] = [];
  refusals = 1;
  failure = new KvError('NOT_FOUND', {});
  /** Called as it refuses. */
  refused: () => void = () => undefined;

  get session(): Session {
    const ask = (_to: unknown, name: string, body: unknown): Promise<unknown> => {
      if (name === 'flush') return Promise.resolve({ tables: [this.#fileOf(body, 0)] });
      if (name === 'compact') {
        this.purges.push((body as { readonly purge: PurgeRule | undefined }).purge);
        return Promise.resolve({ tables: [this.#fileOf(body, 1)], purged: 0 });
      }
      if (name === 'stats') return Promise.resolve({ minHlc: 1 });
      if (name !== 'replace' && name !== 'open')
        return Promise.reject(new Error(`nobody asks ${name}`));
      if (this.refusals > 0) {
        this.refusals -= 1;
        this.refused();
        return Promise.reject(this.failure);
      }
      if (name === 'open')
        this.opened.push((body as { readonly tables: TableMeta[] }).tables.length);
      else this.shown.push(body as Change);
      return Promise.resolve({ tables: 1 });
    };
    return { ask } as unknown as Session;
  }

  open(): Promise<ManifestLog> {
    return ManifestLog.open(this.disk, directory, identity);
  }

  /** What the next start would find. */
  async stored(): Promise<readonly unknown[]> {
    return stateOf(await ManifestLog.open(this.disk.copy(), directory, identity));
  }

  put(fileNumber: number): void {
    this.disk.put(tablePath(directory, fileNumber), new Uint8Array(100));
  }

  #fileOf(body: unknown, level: number): TableMeta {
    const [fileNumber = 0] = (body as { readonly fileNumbers: readonly number[] }).fileNumbers;
    this.put(fileNumber);
    return tableOf(fileNumber, level);
  }
}

/** A manifest with tables 1 and 2, and the merge of both. */
async function twoTables(around: Around): Promise<{ manifest: ManifestLog; job: GroupJob }> {
  const manifest = await around.open();
  const inputs = [tableOf(manifest.takeFileNumber(), 0), tableOf(manifest.takeFileNumber(), 0)];
  for (const { fileNumber } of inputs) around.put(fileNumber);
  await manifest.commit({ added: inputs, dropped: [], flushedThrough: 5 });
  const changes = { splitBytes: undefined, isMove: false, isCold: false, sections, group: 0 };
  return { manifest, job: { inputs, outputLevel: 1, ...changes } };
}

async function failureOf(work: Promise<unknown>): Promise<KvError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof KvError) return error;
    throw error;
  }
  throw new Error('it went well');
}

const stateOf = ({ state }: ManifestLog): readonly unknown[] => [
  [...state.tables.values()].map(({ fileNumber, level }) => `${fileNumber}@${level}`),
  state.flushedThrough,
];

const sections = [{ fromId: 0, compression: 'auto' }] as const;
const flush = { table: frozen, isRecovered: false, sections };

describe('store steps', () => {
  it('store steps: a flushed table that cannot be read is named by no manifest, and is CORRUPT', async () => {
    const around = new Around();
    const { session, disk } = around;
    const manifest = await around.open();
    const { code, fields } = await failureOf(writeTable(session, disk, parts, manifest, flush));
    expect([code, fields['file'], fields['offset']]).to.deep.equal([
      'CORRUPT',
      tablePath(directory, 1),
      0,
    ]);
    expect(stateOf(manifest)).to.deep.equal([[], 0]);
    expect(await around.stored()).to.deep.equal([[], 0]);
    // Tried again: another file.
    await writeTable(session, disk, parts, manifest, flush);
    expect(await around.stored()).to.deep.equal([['2@0'], 7]);
    expect(around.shown.map(({ added }) => added.length)).to.deep.equal([1]);
  });

  it('store steps: where the manifest does not take a flushed table, the reader forgets it', async () => {
    const around = new Around();
    around.refusals = 0;
    const { session, disk } = around;
    const manifest = await around.open();
    disk.beforeSync = () => new KvError('DISK_FAILED', {});
    const { code } = await failureOf(writeTable(session, disk, parts, manifest, flush));
    expect(code).to.equal('DISK_FAILED');
    expect(around.shown.map(({ dropped }) => dropped)).to.deep.equal([[], [1]]);
  });

  for (const code of ['NOT_FOUND', 'CORRUPT'] as const)
    it(`store steps: an output that cannot be read gives way to its inputs (code=${code})`, async () => {
      const around = new Around();
      const { session, disk } = around;
      const { manifest, job } = await twoTables(around);
      const place = { disk, wallMicros: 1_000_000, arcs: undefined };
      around.failure = new KvError(code, { file: tablePath(directory, 3), offset: 12 });
      const failed = await failureOf(compactTables(session, place, parts, manifest, job));
      expect([failed.code, failed.fields['file']]).to.deep.equal([
        'CORRUPT',
        tablePath(directory, 3),
      ]);
      expect(stateOf(manifest)).to.deep.equal([['1@0', '2@0'], 5]);
      expect(await around.stored()).to.deep.equal([['1@0', '2@0'], 5]);
      expect(disk.list(`${directory}/tables`).length).to.equal(2);
      await compactTables(session, place, parts, manifest, job);
      expect((await around.stored())[0]).to.deep.equal(['4@1']);
    });

  it('store steps: an output that cannot be read on a full disk costs no input', async () => {
    const around = new Around();
    const { session, disk } = around;
    const { manifest, job } = await twoTables(around);
    const place = { disk, wallMicros: 1_000_000, arcs: undefined };
    around.refused = () => {
      disk.beforeWrite = () => {
        throw new KvError('DISK_FULL');
      };
    };
    await failureOf(compactTables(session, place, parts, manifest, job));
    disk.beforeWrite = () => undefined;
    await writeTable(session, disk, parts, manifest, flush);
    expect(await around.stored()).to.deep.equal([['1@0', '2@0', '4@0'], 7]);
    expect(disk.list(`${directory}/tables`).length).to.equal(3);
  });

  it('store steps: where the manifest does not take outputs they are closed, and go with the next edit', async () => {
    const around = new Around();
    around.refusals = 0;
    const { session, disk } = around;
    const { manifest, job } = await twoTables(around);
    const place = { disk, wallMicros: 1_000_000, arcs: undefined };
    disk.beforeWrite = () => {
      throw new KvError('DISK_FULL');
    };
    const { code } = await failureOf(compactTables(session, place, parts, manifest, job));
    expect([code, around.opened, around.shown]).to.deep.equal(['DISK_FULL', [1, 0], []]);
    disk.beforeWrite = () => undefined;
    await writeTable(session, disk, parts, manifest, flush);
    expect(await around.stored()).to.deep.equal([['1@0', '2@0', '4@0'], 7]);
    expect(disk.list(`${directory}/tables`).length).to.equal(3);
  });

  it('store steps: where readers do not follow the manifest the node stops', async () => {
    const around = new Around();
    around.refusals = 0;
    const { session, disk } = around;
    const { manifest, job } = await twoTables(around);
    const place = { disk, wallMicros: 1_000_000, arcs: undefined };
    const ask = (to: never, name: string, ...rest: never[]): Promise<unknown> =>
      name === 'replace'
        ? Promise.reject(new KvError('OVERLOADED'))
        : (session.ask as (...all: unknown[]) => Promise<unknown>)(to, name, ...rest);
    const broken = { ask } as unknown as Session;
    let thrown: unknown;
    await compactTables(broken, place, parts, manifest, job).catch((error: unknown) => {
      thrown = error;
    });
    expect(thrown).to.be.instanceOf(BugError);
  });

  it('store steps: before any repair a merge may purge the log of batches, by age, and nothing else', async () => {
    const around = new Around();
    around.refusals = 0;
    const { session, disk } = around;
    const manifest = await around.open();
    const wallMicros = 10 * 3_600_000_000;
    const place = { disk, wallMicros, arcs: undefined };
    const repaired: StoreParts = { ...parts, tombstonePurge: 'after-repair' };
    const log = storageKey(batchLogNamespace, utf8.encode('m'));
    const own = { sections, group: 0 };
    const changes = { outputLevel: 1, splitBytes: undefined, isMove: false, isCold: false, ...own };
    for (const { lastKey, graceHours } of [
      { lastKey: utf8.encode('nnnnz'), graceHours: 4 },
      { lastKey: log, graceHours: 4 },
      { lastKey: log, graceHours: 0 },
    ]) {
      const input = { ...tableOf(manifest.takeFileNumber(), 0), lastKey };
      around.put(input.fileNumber);
      await manifest.commit({ added: [input], dropped: [], flushedThrough: 5 });
      const patient = { ...repaired, tombstoneGraceMs: graceHours * 3_600_000 };
      await compactTables(session, place, patient, manifest, { inputs: [input], ...changes });
    }
    const [users, batches, hasty] = around.purges;
    expect(users).to.equal(undefined);
    expect(batches?.arcs).to.deep.equal({ ends: [], hlcs: [] });
    expect(batches?.batchesBelowHlc).to.equal(6 * 3_600_000_000);
    expect(hasty?.batchesBelowHlc, 'an hour at least').to.equal(9 * 3_600_000_000);
  });
});
