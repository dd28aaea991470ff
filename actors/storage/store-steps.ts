// What the store does over several messages, as functions of a session: recovery, and the two ways
// in which tables change. Both end in the same order: files durable and verified, one edit of the
// manifest durable, the new version readable, and only then are files removed that no version
// names (MF-3, MF-4). Ended anywhere on the way, the next start finds one version or the other, and
// removes what it does not name (MF-6).

import type { Ref, Session } from '../../runtime/actor.ts';
import type { Disk } from '../../runtime/environment.ts';
import { BugError, KvError } from '../../runtime/errors.ts';
import type { DroppedNamespaces } from '../model/dropped-keys.ts';
import type { GroupJob } from './compaction-groups.ts';
import { bytesOf } from './compaction-picker.ts';
import { rangesOverlap, unionOf } from './key-ranges.ts';
import type { ManifestLog, StoredState } from './manifest.ts';
import type {
  Compactor,
  FrozenTable,
  Memtable,
  StoreStats,
  TableMeta,
  TableReader,
  WalWriter,
} from './protocol.ts';
import {
  expiryGraceMs,
  readInputs,
  mayHoldBatches,
  type PurgeArcs,
  type PurgeBounds,
  type PurgeRule,
  type TombstonePurge,
} from './purge-rule.ts';
import { tableName, tableNumber, tablePath } from './table-files.ts';
import type { TableSection } from './table-sections.ts';
import { encodeEdit, type VersionEdit } from './version-edit.ts';

/** The parts of a store that its steps work with. */
export interface StoreParts {
  readonly wal: Ref<WalWriter>;
  readonly memtable: Ref<Memtable>;
  readonly tables: Ref<TableReader>;
  readonly compactor: Ref<Compactor>;
  /** Directory of this shard inside the data directory. */
  readonly directory: string;
  readonly tombstonePurge: TombstonePurge;
  /**
   * With several copies: tombstones and expired records stay for so long at least; marks of the log
   * of batches always do. No atomic batch that is as old is completed.
   */
  readonly tombstoneGraceMs: number;
  /** Less of a group than this shares a table of a flush with its small neighbours. */
  readonly sectionBytesMin: number;
  /** Stays free beside what a flush needs; writes are let in again above twice that (FS-8). */
  readonly reserveBytes: number;
  /** Beside the reserve, so much has to stay free for the flush of memory and the next segment. */
  readonly flushSpaceBytes: number;
}

export interface CompactionOutcome {
  readonly inputs: number;
  readonly outputs: number;
  /** The tables that were written; one that only changed its level is none. */
  readonly written: readonly TableMeta[];
  readonly outputLevel: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
  /** Records that a newer one had replaced, and those that were purged. */
  readonly superseded: number;
  readonly purged: number;
}

/** Nothing inside the node waits longer; callers have deadlines of their own. */
export const internalTimeoutMs = 24 * 3600 * 1000;

/** What a start writes before it removes what nothing names: identity, clock bound, manifest. */
const startNotesBytes = 64 * 1024;

export interface FlushPlan {
  readonly table: FrozenTable;
  readonly isRecovered: boolean;
  readonly sections: readonly TableSection[];
}

/**
 * A frozen memtable becomes tables that count (MF-3): written, verified, readable, named. It is
 * readable before the manifest names it, while memory still holds the same records: a table that
 * cannot be read is nobody's only copy, and the flush is tried again. `isRecovered`: its records
 * are those of an earlier run's log, and no segment of this run has begun.
 */
export async function writeTable(
  session: Session,
  disk: Disk,
  parts: StoreParts,
  manifest: ManifestLog,
  { table, isRecovered, sections }: FlushPlan,
): Promise<readonly TableMeta[]> {
  const { compactor, tables } = parts;
  // A try that ends in a crash leaves its file until the next start, which has notes to write first.
  if (disk.freeBytes() < startNotesBytes)
    throw new KvError('DISK_FULL', { detail: 'no space for a table' });
  const fileNumbers = sections.map(() => manifest.takeFileNumber());
  const { throughLsn } = table;
  const request = { table, fileNumbers, sections, sectionBytesMin: parts.sectionBytesMin };
  const { tables: added } = await session.ask(compactor, 'flush', request, internalTimeoutMs);
  await showTables(session, parts, added);
  const edit = {
    ...{ added, dropped: [], flushedThrough: throughLsn },
    ...(isRecovered ? { recoveredThrough: throughLsn } : {}),
  };
  try {
    removeUnnamed(disk, parts, await manifest.commit(edit));
  } catch (error) {
    // Not named, or nobody knows: the records are still in memory.
    const change = { added: [], dropped: numbersOf(added) };
    await session.ask(tables, 'replace', change, internalTimeoutMs);
    throw error;
  }
  return added;
}

/**
 * Outputs take the place of their inputs. They are opened before the manifest names them: a table
 * that cannot be read never becomes the only one to hold its records. CORRUPT names the output.
 */
async function changeTables(
  session: Session,
  disk: Disk,
  parts: StoreParts,
  manifest: ManifestLog,
  {
    inputs,
    outputs,
  }: { readonly inputs: readonly TableMeta[]; readonly outputs: readonly TableMeta[] },
): Promise<void> {
  const dropped = placesOf(inputs);
  const own = new Set(dropped.map(({ fileNumber }) => fileNumber));
  try {
    await openTables(session, parts, outputs);
  } catch (error) {
    const made = outputs.filter(({ fileNumber }) => !own.has(fileNumber));
    removeUnnamed(disk, parts, numbersOf(made));
    throw error;
  }
  let unnamed: readonly number[];
  try {
    unnamed = await manifest.commit({ added: outputs, dropped });
  } catch (error) {
    // Nobody knows which of both it names: the files of both stay, the inputs are read.
    await openTables(session, parts, []);
    throw error;
  }
  const change = { added: outputs, dropped: numbersOf(inputs) };
  try {
    await session.ask(parts.tables, 'replace', change, internalTimeoutMs);
  } catch (error) {
    // Readers that do not follow the manifest would show for ever what it no longer names.
    throw new BugError(`tables that were opened are not read: ${String(error)}`);
  }
  // The compactor has closed its inputs, the readers of what was dropped are closed now.
  removeUnnamed(disk, parts, unnamed);
}

const numbersOf = (tables: readonly TableMeta[]): readonly number[] =>
  tables.map(({ fileNumber }) => fileNumber);

const placesOf = (tables: readonly TableMeta[]): VersionEdit['dropped'] =>
  tables.map(({ level, fileNumber }) => ({ level, fileNumber }));

/** Readable from here on; CORRUPT where a table that was just written cannot be read. */
const showTables = (
  session: Session,
  { tables, directory }: StoreParts,
  added: readonly TableMeta[],
): Promise<unknown> =>
  asCorrupt(
    session.ask(tables, 'replace', { added, dropped: [] }, internalTimeoutMs),
    directory,
    added,
  );

/** Can be shown from here on; CORRUPT as above. */
const openTables = (
  session: Session,
  { tables, directory }: StoreParts,
  written: readonly TableMeta[],
): Promise<unknown> =>
  asCorrupt(
    session.ask(tables, 'open', { tables: written }, internalTimeoutMs),
    directory,
    written,
  );

/** A table that was just written is gone: NOT_FOUND is no answer to that. */
async function asCorrupt(
  opening: Promise<unknown>,
  directory: string,
  [first]: readonly TableMeta[],
): Promise<void> {
  try {
    await opening;
  } catch (error) {
    if (!(error instanceof KvError) || error.code !== 'NOT_FOUND') throw error;
    const file = tablePath(directory, first?.fileNumber ?? 0);
    throw new KvError('CORRUPT', {
      offset: 0,
      detail: 'a table that was just written is gone',
      ...error.fields,
      file: String(error.fields['file'] ?? file),
    });
  }
}

function removeUnnamed(disk: Disk, { directory }: StoreParts, unnamed: readonly number[]): void {
  for (const fileNumber of unnamed) disk.remove(tablePath(directory, fileNumber));
}

/** One job of the picker, from reading to removing. Errors: nothing has changed. */
export async function compactTables(
  session: Session,
  place: PurgeMoment & {
    readonly disk: Disk;
    /** Namespaces that are gone. */
    readonly dropped?: DroppedNamespaces | undefined;
  },
  parts: StoreParts,
  manifest: ManifestLog,
  job: GroupJob,
): Promise<CompactionOutcome> {
  const { inputs, outputLevel } = job;
  const { disk, dropped } = place;
  const purge = await purgeRuleOf(session, parts, manifest, inputs, place);
  const isWorthPurging = purge !== undefined && inputs.some(({ tombstones }) => tombstones > 0);
  const isMove = job.mustMove === true || (job.isMove && !isWorthPurging);
  const merged = isMove ? [] : readInputs(purge, inputs);
  const { tables, purged } = isMove
    ? { tables: inputs.map((table) => ({ ...table, level: outputLevel })), purged: 0 }
    : await mergeTables(session, disk, parts, manifest, { ...job, inputs: merged, purge, dropped });
  const purgedWhole = isMove ? 0 : recordsOf(inputs) - recordsOf(merged);
  await changeTables(session, disk, parts, manifest, { inputs, outputs: tables });
  return {
    inputs: inputs.length,
    outputs: tables.length,
    written: isMove ? [] : tables,
    outputLevel,
    readBytes: bytesOf(merged),
    writtenBytes: isMove ? 0 : bytesOf(tables),
    superseded: recordsOf(inputs) - recordsOf(tables) - purged - purgedWhole,
    purged: purged + purgedWhole,
  };
}

async function mergeTables(
  session: Session,
  disk: Disk,
  { compactor, reserveBytes, flushSpaceBytes }: StoreParts,
  manifest: ManifestLog,
  {
    inputs,
    outputLevel,
    splitBytes,
    isCold,
    sections,
    purge,
    dropped,
  }: GroupJob & {
    readonly purge: PurgeRule | undefined;
    readonly dropped?: DroppedNamespaces | undefined;
  },
): Promise<{ readonly tables: readonly TableMeta[]; readonly purged: number }> {
  // All of them have expired.
  if (inputs.length === 0) return { tables: [], purged: 0 };
  const bytes = bytesOf(inputs);
  // Space for writes comes first: what is merged is readable as it is.
  if (disk.freeBytes() < bytes + reserveBytes + flushSpaceBytes)
    throw new KvError('DISK_FULL', { detail: 'no space for the outputs of a compaction' });
  // Packed less tightly than the inputs they may be several times as large.
  const bySize = splitBytes === undefined ? 1 : Math.ceil((4 * bytes) / splitBytes) + 1;
  const outputs = bySize + sections.length - 1;
  const fileNumbers = Array.from({ length: outputs }, () => manifest.takeFileNumber());
  const rules = { purge, dropped, isCold, sections };
  const request = { inputs, level: outputLevel, splitBytes, fileNumbers, ...rules };
  return session.ask(compactor, 'compact', request, internalTimeoutMs);
}

const noArcs: PurgeArcs = { ends: [], hlcs: [] };

/** When a job begins, and what the store knew of repairs then. */
export interface PurgeMoment {
  readonly wallMicros: number;
  /** Horizons of repair; undefined: none were ever told. */
  readonly arcs: PurgeArcs | undefined;
}

/**
 * Of the rule for what begins now; undefined: nothing may be purged. `hasBatches`: what is purged
 * without a repair may be there as well.
 */
export async function purgeBoundsOf(
  session: Session,
  { memtable, tombstonePurge, tombstoneGraceMs }: StoreParts,
  { wallMicros, arcs }: PurgeMoment,
  hasBatches = false,
): Promise<PurgeBounds | undefined> {
  const isRepaired = tombstonePurge === 'after-repair';
  const hasHorizon = arcs?.hlcs.some((hlc) => hlc > 0) === true;
  if (isRepaired && !hasHorizon && !hasBatches) return undefined;
  const graceMs = tombstonePurge === 'at-once' ? 0 : tombstoneGraceMs;
  const { minHlc } = await session.ask(memtable, 'stats', {}, internalTimeoutMs);
  return {
    belowHlc: Math.min(minHlc, Math.floor(wallMicros) - graceMs * 1000),
    expiredBeforeMs: Math.floor(wallMicros / 1000) - Math.max(expiryGraceMs, graceMs),
    batchesBelowHlc: Math.floor(wallMicros) - Math.max(expiryGraceMs, tombstoneGraceMs) * 1000,
    arcs: isRepaired ? (arcs ?? noArcs) : undefined,
  };
}

/**
 * Memory is asked first and the manifest is read when the answer is there: a table that is being
 * flushed is seen in at least one of the two.
 */
async function purgeRuleOf(
  session: Session,
  parts: StoreParts,
  manifest: ManifestLog,
  inputs: readonly TableMeta[],
  now: PurgeMoment,
): Promise<PurgeRule | undefined> {
  const bounds = await purgeBoundsOf(session, parts, now, mayHoldBatches(inputs));
  if (bounds === undefined) return undefined;
  const range = unionOf(inputs);
  const own = new Set(inputs.map(({ fileNumber }) => fileNumber));
  const others = [...manifest.state.tables.values()].filter(
    (table) => !own.has(table.fileNumber) && rangesOverlap(table, range),
  );
  return {
    ...bounds,
    others: others.map((table) => ({
      firstKey: table.firstKey,
      lastKey: table.lastKey,
      minHlc: table.minHlc,
    })),
  };
}

const recordsOf = (tables: readonly TableMeta[]): number =>
  tables.reduce((sum, { records }) => sum + records, 0);

/** The records that an earlier run left in its WAL go into memory, oldest first. */
export async function replayWal(
  session: Session,
  { wal, memtable }: StoreParts,
  manifest: ManifestLog,
  flush: () => Promise<void>,
): Promise<{ records: number; lastLsn: number }> {
  const { flushedThrough, recoveredThrough } = manifest.state;
  const evidence = { flushedThrough, recoveredThrough };
  let records = 0;
  for (;;) {
    const part = await session.ask(wal, 'recover', evidence, internalTimeoutMs);
    let rest = part.records;
    let isFresh = false;
    while (rest.length > 0) {
      const lsn = part.lastLsn;
      const { loaded } = await session.ask(
        memtable,
        'load',
        { records: rest, lsn },
        internalTimeoutMs,
      );
      if (loaded === 0 && isFresh)
        throw new KvError('DATA_REFUSED', {
          bytes: rest[0]?.length ?? 0,
          detail: 'the log holds a record that does not fit into a memtable: raise memtableBytes',
        });
      records += loaded;
      rest = rest.slice(loaded);
      isFresh = rest.length > 0;
      if (isFresh) await flush();
    }
    if (part.isDone) return { records, lastLsn: part.lastLsn };
  }
}

/** Table files that the manifest does not name: outputs of a run that ended too early (MF-6). */
export function removeStrangers(disk: Disk, directory: string, state: StoredState): void {
  const known = new Set([...state.tables.keys()].map((number) => tableName(number)));
  for (const name of disk.list(`${directory}/tables`)) {
    const number = tableNumber(name);
    if (number !== undefined) state.reserveFileNumber(number);
    if (!known.has(name)) disk.remove(`${directory}/tables/${name}`);
  }
}

/**
 * A second name for every table that counts; the edit that makes this state. The files of the state
 * are there between any two turns: they are durable before their edit is, and go after it.
 */
export function linkTables(
  disk: Disk,
  { directory }: StoreParts,
  { state }: ManifestLog,
  prefix: string,
): Uint8Array {
  for (const fileNumber of state.tables.keys())
    disk.link(tablePath(directory, fileNumber), `${prefix}${tableName(fileNumber)}`);
  return encodeEdit(state.snapshotEdit()).slice();
}

/** What the parts of a store say of themselves. */
export async function statsOf(
  session: Session,
  { wal, memtable, tables }: StoreParts,
  newestHlc: number,
): Promise<StoreStats> {
  const log = await session.ask(wal, 'stats', {}, internalTimeoutMs);
  const recent = await session.ask(memtable, 'stats', {}, internalTimeoutMs);
  const stored = await session.ask(tables, 'stats', {}, internalTimeoutMs);
  return {
    records: recent.records + stored.records,
    memtableBytes: recent.bytes,
    tables: stored.tables,
    tableBytes: stored.bytes,
    tableIndexBytes: stored.indexBytes,
    walBytes: log.bytes,
    newestHlc,
  };
}
