// Reads the files of a shard without a node: tables, log segments, manifests. Everything it knows of
// their bytes comes from the readers that the node itself uses (actors/storage), so both always
// agree. It judges and never mends: nothing is written.
//
// A node may run meanwhile. Tables never change, but one may be in the making: what the manifest does
// not name is no damage (MF-6). A log may grow while it is read, so that its end is newer than its
// middle: what looks corrupt is read again. A manifest may be replaced: it is looked for again.

import fs from 'node:fs';
import path from 'node:path';
import { recordBytesMax } from '../../actors/model/record.ts';
import { settingRows } from '../../actors/node/settings.ts';
import { decodeCurrent, manifestName } from '../../actors/storage/manifest.ts';
import type { TableMeta } from '../../actors/storage/protocol.ts';
import { readSegment, type SegmentVerdict } from '../../actors/storage/segment-reader.ts';
import { decodeFooter, footerBytes } from '../../actors/storage/sstable-format.ts';
import { type BlockSpan, SstableReader } from '../../actors/storage/sstable-reader.ts';
import { tableName, tableNumber } from '../../actors/storage/table-files.ts';
import { decodeEdit, ManifestState, type VersionEdit } from '../../actors/storage/version-edit.ts';
import {
  decodeSegmentHeader,
  type SegmentHeader,
  segmentHeaderSpace,
  segmentNumberOf,
  splitPayload,
  type WalRecord,
  walRecordLength,
} from '../../actors/storage/wal-format.ts';
import type { BlockCodecs } from '../../runtime/environment.ts';
import { CorruptionError, KvError } from '../../runtime/errors.ts';
import { loadCodecModules } from '../../runtime/host/codec-modules.ts';
import { createCodecs } from '../../runtime/block-codecs.ts';
import { ReadOnlyFile } from './read-only-file.ts';

/** More bytes than this never wait for a sync in a node with the default settings. */
const inFlightBytesMax = recordBytesMax + 4 * 1024 * 1024 + settingRows.walAheadBytes.default;
/** CURRENT and the manifest it names are replaced by a node that runs: tries to see both. */
const manifestAttempts = 5;
const rereads = 3;

/** `place` itself where it is a file, else all files below it that `isWanted`, by name. */
export function filesAt(place: string, isWanted: (name: string) => boolean): readonly string[] {
  if (!fs.statSync(place).isDirectory()) return [place];
  return fs
    .readdirSync(place, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && isWanted(entry.name))
    .map((entry) => path.join(entry.parentPath, entry.name))
    .sort();
}

export const isTableFile = (name: string): boolean => tableNumber(name) !== undefined;
export const isSegmentFile = (name: string): boolean => segmentNumberOf(name) !== undefined;
export const isCurrentFile = (name: string): boolean => name === 'CURRENT';

// ---- tables --------------------------------------------------------------------------------

/** A part of a table that is not what was written. */
export interface Damage {
  readonly offset: number;
  readonly reason: string;
  /** Keys that it holds: from `first` on, to below `below` or up to `last`. Undefined: unknown. */
  readonly keys:
    | { readonly first: Uint8Array; readonly below: Uint8Array }
    | { readonly first: Uint8Array; readonly last: Uint8Array }
    | undefined;
}

export interface TableReport {
  readonly file: string;
  readonly bytes: number;
  /** Undefined: too damaged to be opened. */
  readonly meta: TableMeta | undefined;
  /** Records in blocks that are whole. */
  readonly records: number;
  readonly damage: readonly Damage[];
  /** Not whole, and the manifest does not name it: in the making, or left by a crash. */
  readonly isUnused: boolean;
}

/**
 * Reads everything of a table again. With `isFound` it was found in a directory: then a manifest
 * beside it may know that it does not count. DATA_REFUSED: this program does not know its format.
 */
export function verifyTable(file: string, isFound: boolean): TableReport {
  const report = verifyFile(file);
  if (!isFound || report.damage.length === 0) return report;
  const isNamed = isNamedByManifest(file);
  // Where it is named now it may have been finished since.
  return isNamed === true ? verifyFile(file) : { ...report, isUnused: isNamed === false };
}

/** Undefined: there is no manifest that could tell. */
function isNamedByManifest(file: string): boolean | undefined {
  const tables = path.dirname(path.resolve(file));
  try {
    const { state, verdict } = readManifest(path.dirname(tables));
    const isReadable = verdict.kind === 'end' || verdict.kind === 'torn';
    return isReadable ? state.tables.has(tableNumber(path.basename(file)) ?? 0) : undefined;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (error instanceof CorruptionError || error instanceof KvError || code === 'ENOENT')
      return undefined;
    throw error;
  }
}

function verifyFile(file: string): TableReport {
  const damage: Damage[] = [];
  const opened = new ReadOnlyFile(file);
  const bytes = opened.size();
  let records = 0;
  try {
    const reader = openTable(opened);
    for (const number of readableBlocks(reader, damage))
      noting(damage, keysOf(reader, reader.spanOf(number)), () => {
        records += reader.verifyBlock(number);
      });
    if (damage.length === 0) {
      const { firstKey: first, lastKey: last } = reader.meta;
      noting(damage, { first, last }, () => reader.verifyChecksum());
      noting(damage, { first, last }, () => refuseCount(file, records, reader.meta));
    }
    return { file, bytes, meta: reader.meta, records, damage, isUnused: false };
  } catch (error) {
    if (!(error instanceof CorruptionError)) throw error;
    const damaged = [damageOf(error, undefined)];
    return { file, bytes, meta: undefined, records, damage: damaged, isUnused: false };
  } finally {
    opened.close();
  }
}

/**
 * Hands out the records of a table in key order, a block at a time, until `onRecords` gives false;
 * damaged blocks are passed over. The damage that was met. CorruptionError where the table is too
 * damaged to be opened.
 */
export async function readTable(
  file: string,
  onRecords: (records: readonly Uint8Array[]) => Promise<boolean>,
): Promise<readonly Damage[]> {
  const damage: Damage[] = [];
  const opened = new ReadOnlyFile(file);
  try {
    const reader = openTable(opened);
    for (const number of readableBlocks(reader, damage)) {
      let records: readonly Uint8Array[] = [];
      noting(damage, keysOf(reader, reader.spanOf(number)), () => {
        records = reader.recordsOf(number);
      });
      if (!(await onRecords(records))) break;
    }
    return damage;
  } finally {
    opened.close();
  }
}

/** A file with a name of its own may be any table: its footer says which. */
function openTable(file: ReadOnlyFile): SstableReader {
  const named = tableNumber(path.basename(file.path));
  const size = file.size();
  const bytes = new Uint8Array(footerBytes);
  if (named !== undefined || size < footerBytes)
    return SstableReader.open(file, named ?? 0, codecs());
  file.read(bytes, size - footerBytes);
  return SstableReader.open(file, decodeFooter(file.path, size, bytes).fileNumber, codecs());
}

let sharedCodecs: BlockCodecs | undefined;

function codecs(): BlockCodecs {
  sharedCodecs ??= createCodecs(loadCodecModules());
  return sharedCodecs;
}

/** Numbers of the data blocks that the index still knows; what is damaged of it is noted. */
function* readableBlocks(reader: SstableReader, damage: Damage[]): Iterable<number> {
  for (const part of reader.indexParts()) {
    const before = damage.length;
    noting(damage, keysOf(reader, part), () => reader.verifyIndexOf(part.firstBlock));
    if (damage.length > before) continue;
    for (let number = part.firstBlock; number < part.endBlock; number += 1) yield number;
  }
}

function keysOf(reader: SstableReader, { firstKey: first, nextKey }: BlockSpan): Damage['keys'] {
  return nextKey === undefined ? { first, last: reader.meta.lastKey } : { first, below: nextKey };
}

function refuseCount(file: string, records: number, meta: TableMeta): void {
  if (records !== meta.records)
    throw new CorruptionError(file, 0, `${records} records of ${meta.records}`);
}

function noting(damage: Damage[], keys: Damage['keys'], work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof CorruptionError)) throw error;
    damage.push(damageOf(error, keys));
  }
}

function damageOf(error: CorruptionError, keys: Damage['keys']): Damage {
  const { file, offset, message } = error;
  const prefix = `corrupt data in ${file} at byte ${offset}: `;
  const reason = message.startsWith(prefix) ? message.slice(prefix.length) : message;
  return { offset, reason, keys };
}

// ---- log segments --------------------------------------------------------------------------

/** A record of the log as it lies in its segment. */
export interface LogEntry extends WalRecord {
  readonly offset: number;
  /** Of a data record: the model records in it, as one unit. */
  readonly records: readonly Uint8Array[];
}

export interface SegmentReport {
  readonly file: string;
  readonly bytes: number;
  /** Undefined: damaged. */
  readonly header: SegmentHeader | undefined;
  readonly entries: readonly LogEntry[];
  readonly verdict: SegmentVerdict;
}

/**
 * Reads one segment and judges it as a start of its node would, by the bytes of the log alone: the
 * segment behind it in the same directory says how far it has to go. What tables hold is not asked.
 */
export function readLogSegment(file: string): SegmentReport {
  return steady(() => readSegmentFile(file));
}

/** What looks corrupt the same way twice is not being written. */
function steady<Report extends { readonly verdict: SegmentVerdict }>(read: () => Report): Report {
  let report = read();
  for (let again = 0; again < rereads && report.verdict.kind === 'corrupt'; again += 1) {
    const { offset } = report.verdict;
    report = read();
    if (report.verdict.kind === 'corrupt' && report.verdict.offset === offset) break;
  }
  return report;
}

function readSegmentFile(file: string): SegmentReport {
  const behind = headerBehind(file);
  const bytes = fs.readFileSync(file);
  const header = headerOf(file, bytes);
  const entries: LogEntry[] = [];
  const number = segmentNumberOf(path.basename(file)) ?? header?.segmentNumber ?? 0;
  const take = (record: WalRecord, records: readonly Uint8Array[]): void => {
    const offset = record.end - walRecordLength(record.payload.length);
    entries.push({ ...record, offset, records });
  };
  const verdict = readSegment(
    bytes,
    {
      kind: 'wal',
      identity: header ?? { clusterName: '', node: '', shard: 0 },
      segmentNumber: number,
      later: behind?.previousSegmentNumber === number ? behind : undefined,
      flushedThrough: 0,
      inFlightBytesMax,
    },
    (record) => take(record, splitPayload(record.payload)),
    (record) => take(record, []),
  );
  return { file, bytes: bytes.length, header, entries, verdict };
}

/** The header of the next segment of the directory, where it is whole. */
function headerBehind(file: string): SegmentHeader | undefined {
  const number = segmentNumberOf(path.basename(file));
  if (number === undefined) return undefined;
  const directory = path.dirname(file);
  const next = fs
    .readdirSync(directory)
    .filter((name) => (segmentNumberOf(name) ?? 0) > number)
    .sort()[0];
  if (next === undefined) return undefined;
  const bytes = new Uint8Array(segmentHeaderSpace);
  const place = path.join(directory, next);
  // Removed since it was listed: by then this one was not needed any more either.
  if (!fs.existsSync(place)) return undefined;
  const opened = new ReadOnlyFile(place);
  try {
    return headerOf(opened.path, bytes.subarray(0, opened.read(bytes, 0)));
  } finally {
    opened.close();
  }
}

/** The same; DATA_REFUSED names the file. */
function headerOf(file: string, bytes: Uint8Array): SegmentHeader | undefined {
  try {
    return decodeSegmentHeader(bytes);
  } catch (error) {
    if (!(error instanceof KvError)) throw error;
    throw new KvError(error.code, { ...error.fields, file });
  }
}

// ---- manifests -----------------------------------------------------------------------------

export interface ManifestEntry {
  readonly offset: number;
  readonly lsn: number;
  readonly edit: VersionEdit;
}

/** A table that counts, and what lies under its name. */
export interface NamedTable {
  readonly meta: TableMeta;
  /** Undefined: there is no such file. */
  readonly fileBytes: number | undefined;
}

export interface ManifestReport {
  readonly file: string;
  readonly entries: readonly ManifestEntry[];
  readonly state: Omit<ManifestState, 'apply'>;
  readonly tables: readonly NamedTable[];
  readonly verdict: SegmentVerdict;
}

/** Reads the manifest that the CURRENT of a shard's directory names. CorruptionError, ENOENT. */
export function readManifest(directory: string): ManifestReport {
  return steady(() => readManifestFile(directory));
}

function readManifestFile(directory: string): ManifestReport {
  const { file, number, bytes } = findManifest(directory);
  const { entries, state, verdict } = replayManifest(file, number, bytes);
  const tables = [...state.tables.values()].map((meta) => {
    const stats = fs.statSync(path.join(directory, 'tables', tableName(meta.fileNumber)), {
      throwIfNoEntry: false,
    });
    return { meta, fileBytes: stats?.size };
  });
  return { file, entries, state, tables, verdict };
}

/** The edits of a manifest's bytes up to where they end or stop making sense. */
export function replayManifest(
  file: string,
  number: number,
  bytes: Uint8Array,
): Pick<ManifestReport, 'entries' | 'state' | 'verdict'> {
  const header = headerOf(file, bytes);
  const entries: ManifestEntry[] = [];
  const state = new ManifestState();
  let misfit: SegmentVerdict | undefined;
  const verdict = readSegment(
    bytes,
    {
      kind: 'manifest',
      identity: header ?? { clusterName: '', node: '', shard: 0 },
      segmentNumber: number,
      later: undefined,
      flushedThrough: 0,
      inFlightBytesMax,
    },
    ({ payload, lsn, end }) => {
      if (misfit !== undefined) return;
      const offset = end - walRecordLength(payload.length);
      const edit = editOf(payload);
      const reason = typeof edit === 'string' ? edit : state.problemWith(edit);
      if (typeof edit === 'string' || reason !== undefined) {
        misfit = { kind: 'corrupt', offset, reason: `a version edit: ${reason ?? ''}` };
        return;
      }
      state.apply(edit);
      entries.push({ offset, lsn, edit });
    },
  );
  return { entries, state, verdict: misfit ?? withSnapshot(verdict, entries) };
}

/** The edit, or why the bytes are none. */
function editOf(payload: Uint8Array): VersionEdit | string {
  try {
    return decodeEdit(payload);
  } catch (error) {
    if (!(error instanceof KvError)) throw error;
    return error.message;
  }
}

/** CURRENT names a manifest only when its snapshot is durable: without one it is damaged. */
function withSnapshot(verdict: SegmentVerdict, entries: readonly ManifestEntry[]): SegmentVerdict {
  const wanted = entries[0]?.edit.snapshotEdits ?? 1;
  if (entries.length >= wanted || verdict.kind === 'corrupt' || verdict.kind === 'refused')
    return verdict;
  const reason = 'it does not start with a whole snapshot';
  return { kind: 'corrupt', offset: segmentHeaderSpace, reason };
}

function findManifest(directory: string): { file: string; number: number; bytes: Uint8Array } {
  const current = path.join(directory, 'CURRENT');
  for (let attempt = 1; ; attempt += 1) {
    const number = decodeCurrent(fs.readFileSync(current));
    if (number === undefined) throw new CorruptionError(current, 0, 'it names no manifest');
    const file = path.join(directory, manifestName(number));
    try {
      return { file, number, bytes: fs.readFileSync(file) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      if (attempt === manifestAttempts)
        throw new CorruptionError(file, 0, 'it is gone, CURRENT names it');
    }
  }
}
