// How a shard's storage starts: manifest -> tables -> log into memory -> memory into tables -> new
// log segment (WAL-12). On a full disk it stops before the last two steps: what the log holds stays
// in memory and in its segments, reads are answered, and the store goes on when there is space
// (FS-8).
//
// Invariant: the segments of the earlier run go only when everything in them is in tables.
// A table that the manifest names and that is not there, or cannot be opened, is lost data: it is
// refused, unless the operator accepts the loss (MF-6, CO-4).

import type { Session } from '../../runtime/actor.ts';
import type { Disk, Log } from '../../runtime/environment.ts';
import { CorruptionError, KvError } from '../../runtime/errors.ts';
import type { LogIdentity } from './wal-format.ts';
import { acceptHint } from './wal-recovery.ts';
import { ManifestLog, type ManifestOptions, type StoredState } from './manifest.ts';
import type { FrozenTable, TableMeta } from './protocol.ts';
import {
  internalTimeoutMs,
  removeStrangers,
  replayWal,
  type StoreParts,
  writeTable,
} from './store-steps.ts';
import { tableName, tablePath } from './table-files.ts';
import type { TableSection } from './table-sections.ts';

export interface RecoveryOptions extends StoreParts {
  readonly manifest?: ManifestOptions;
  /** Tables that are gone or cannot be opened are left out instead of refused. Default false. */
  readonly acceptDataLoss?: boolean;
}

/** What recovery is done with. */
export interface RecoveryTools {
  readonly session: Session;
  readonly disk: Disk;
  readonly log: Log;
  /** Of the groups that the node knew last. */
  readonly sections: readonly TableSection[];
  /** The table of this arena can be read from its file. */
  readonly release: (arena: number) => void;
}

export interface Recovered {
  readonly manifest: ManifestLog;
  /** Frozen tables that wait for space, oldest first. */
  readonly unflushed: readonly FrozenTable[];
  /** Highest LSN so far: the new segment begins after it. */
  readonly afterLsn: number;
  readonly records: number;
}

/** CorruptionError, DATA_REFUSED: nothing was changed that a later start would miss. */
export async function recoverStore(
  tools: RecoveryTools,
  options: RecoveryOptions,
  identity: LogIdentity,
): Promise<Recovered> {
  const { session, disk } = tools;
  const { directory, memtable, wal } = options;
  await disk.makeDirectory(`${directory}/tables`);
  let missing: readonly TableMeta[] = [];
  const manifest = await ManifestLog.open(disk, directory, identity, {
    ...options.manifest,
    beforeWriting: (state) => {
      missing = missingTables(tools, options, state);
      removeStrangers(disk, directory, state);
    },
  });
  await giveUp(tools, options, manifest, missing);
  await openAll(tools, options, manifest);
  let unflushed: FrozenTable[] = [];
  const flush = async (): Promise<void> => {
    const { table } = await session.ask(memtable, 'freeze', {}, internalTimeoutMs);
    if (table !== undefined) unflushed.push(table);
    unflushed = await writeInOrder(tools, options, manifest, unflushed);
  };
  const { records, lastLsn } = await replayWal(session, options, manifest, flush);
  try {
    await flush();
  } catch (error) {
    // No arena is free, because those that are frozen wait for space.
    if (!(error instanceof KvError) || unflushed.length === 0) throw error;
  }
  // They are read from memory until there is space: what a reader has seen may not go (WAL-8).
  if (unflushed.length > 0) await session.ask(wal, 'syncRecovered', {}, internalTimeoutMs);
  const afterLsn = Math.max(lastLsn, manifest.state.flushedThrough);
  return { manifest, unflushed, afterLsn, records };
}

/** What could not be written because the disk is full. */
async function writeInOrder(
  { session, disk, sections, release }: RecoveryTools,
  options: RecoveryOptions,
  manifest: ManifestLog,
  frozen: readonly FrozenTable[],
): Promise<FrozenTable[]> {
  for (const [i, table] of frozen.entries()) {
    try {
      await writeTable(session, disk, options, manifest, { table, isRecovered: true, sections });
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      return frozen.slice(i);
    }
    release(table.arena);
  }
  return [];
}

export const isDiskFull = (error: unknown): boolean =>
  error instanceof KvError && error.code === 'DISK_FULL';

/** Tables that are gone and may be: CorruptionError where they may not. */
function missingTables(
  { disk }: RecoveryTools,
  { directory, acceptDataLoss = false }: RecoveryOptions,
  state: StoredState,
): readonly TableMeta[] {
  const there = new Set(disk.list(`${directory}/tables`));
  const missing = [...state.tables.values()].filter(
    ({ fileNumber }) => !there.has(tableName(fileNumber)),
  );
  const [first] = missing;
  if (first === undefined) return [];
  const path = tablePath(directory, first.fileNumber);
  if (!acceptDataLoss)
    throw new CorruptionError(path, 0, `it is gone, the manifest names it; ${acceptHint}`);
  return missing;
}

/** The tables of the manifest become readable. */
async function openAll(
  tools: RecoveryTools,
  options: RecoveryOptions,
  manifest: ManifestLog,
): Promise<void> {
  const { session } = tools;
  const { tables, acceptDataLoss = false } = options;
  const show = (): Promise<unknown> => {
    const version = { added: [...manifest.state.tables.values()], dropped: [] };
    return session.ask(tables, 'replace', version, internalTimeoutMs);
  };
  try {
    await show();
  } catch (error) {
    if (!isDamage(error)) throw error;
    const { detail } = error.fields;
    const hint = `${String(detail)}; ${acceptHint}`;
    if (!acceptDataLoss) throw new KvError('CORRUPT', { ...error.fields, detail: hint });
    await giveUp(tools, options, manifest, await damagedTables(session, options, manifest));
    await show();
  }
}

const isDamage = (error: unknown): error is KvError =>
  error instanceof KvError && error.code === 'CORRUPT';

/** One by one: each that cannot be opened. */
async function damagedTables(
  session: Session,
  { tables }: RecoveryOptions,
  manifest: ManifestLog,
): Promise<readonly TableMeta[]> {
  const damaged: TableMeta[] = [];
  for (const table of manifest.state.tables.values()) {
    try {
      await session.ask(tables, 'open', { tables: [table] }, internalTimeoutMs);
    } catch (error) {
      if (!isDamage(error)) throw error;
      damaged.push(table);
    }
  }
  await session.ask(tables, 'open', { tables: [] }, internalTimeoutMs);
  return damaged;
}

/** No later start names them. The file of one that is damaged stays until then. */
async function giveUp(
  { log }: RecoveryTools,
  { directory }: RecoveryOptions,
  manifest: ManifestLog,
  lost: readonly TableMeta[],
): Promise<void> {
  if (lost.length === 0) return;
  for (const { fileNumber, records } of lost)
    log.error('store.loss-accepted', { file: tablePath(directory, fileNumber), records });
  const dropped = lost.map(({ level, fileNumber }) => ({ level, fileNumber }));
  await manifest.commit({ added: [], dropped });
}
