// The manifest on disk: a log of version edits, in files named by CURRENT (MF-1, MF-2).
//
// Each start and each roll-over begins a new file with a snapshot of the state, in several edits
// where it is large; only when that file and its directory are synced does CURRENT name it. A file
// takes as many bytes of edits as its snapshot has, or more: what is written stays in proportion
// to what changes. A commit is one record, appended and synced.
// Invariant: after an append or sync that failed, nothing is ever appended to that file again, for
// nobody knows what is in it (MF-5). After a full disk the next commit starts a new file with the
// state as it was before; after any other failure every commit fails and the node has to stop.
//
// Behind each synced edit follows a mark that proves it durable: should the edit rot, the next
// start sees damage and not a torn tail. The mark itself is not waited for.

import { ByteWriter, noBytes } from '../../runtime/bytes.ts';
import type { Disk, DiskFile } from '../../runtime/environment.ts';
import { assert, CorruptionError, KvError } from '../../runtime/errors.ts';
import { syncFile } from '../../runtime/files.ts';
import type { TableMeta } from './protocol.ts';
import { decodeSealedName, encodeSealedName } from './sealed-name.ts';
import { readSegment } from './segment-reader.ts';
import { tableNumber } from './table-files.ts';
import { decodeEdit, encodeEdit, ManifestState, type VersionEdit } from './version-edit.ts';
import {
  appendWalRecord,
  encodeSegmentHeader,
  type LogIdentity,
  segmentChain,
  segmentHeaderSpace,
  type WalRecordType,
  walRecordTypes,
} from './wal-format.ts';

/** A manifest of this size, and of twice its snapshot, is replaced before the next commit. */
const rollOverBytesDefault = 1024 * 1024;
/** No edit is larger. */
const editBytesMax = 16 * 1024 * 1024;
const snapshotEditBytesDefault = 8 * 1024 * 1024;
const currentName = 'CURRENT';

export interface ManifestOptions {
  /** Default 1 MiB. */
  readonly rollOverBytes?: number;
  /** A snapshot above is written as several edits. Default 8 MiB. */
  readonly snapshotEditBytes?: number;
  /**
   * Called with what the manifest says before this start writes anything: on a full disk the space
   * of what is left over may be needed first. May reserve file numbers; what it throws ends the
   * start.
   */
  readonly beforeWriting?: (state: StoredState) => void;
}

/** What the manifest says: it changes by commits. */
export type StoredState = Omit<ManifestState, 'apply'>;

export const manifestName = (number: number): string =>
  `MANIFEST-${String(number).padStart(10, '0')}`;

function manifestNumber(name: string): number | undefined {
  const match = /^MANIFEST-(\d{10})$/.exec(name);
  return match === null ? undefined : Number(match[1]);
}

export const encodeCurrent = (number: number): Uint8Array => encodeSealedName(manifestName(number));

/** The manifest's number; undefined where the bytes are damaged or cut short. */
export function decodeCurrent(bytes: Uint8Array): number | undefined {
  const name = decodeSealedName(bytes);
  return name === undefined ? undefined : manifestNumber(name);
}

export class ManifestLog {
  readonly #manifest: Manifest;
  /** Commits run one after the other. */
  #last: Promise<void> = Promise.resolve();

  private constructor(manifest: Manifest) {
    this.#manifest = manifest;
  }

  /**
   * The manifest of the shard in `directory`, which exists; a new one where there is none. What an
   * unsynced last edit left is cut. CorruptionError for damage, also where CURRENT is gone and
   * tables are not; DATA_REFUSED for the manifest of another node, shard or format.
   */
  static open(
    disk: Disk,
    directory: string,
    identity: LogIdentity,
    options: ManifestOptions = {},
  ): Promise<ManifestLog> {
    const place = placeOf({ disk, directory, identity }, options);
    return openManifest(place, options.beforeWriting).then((manifest) => new ManifestLog(manifest));
  }

  /**
   * A new manifest that names `tables`, which somebody else has put there. Only for a directory that
   * is no shard yet: what is in it is not looked at.
   */
  static create(
    disk: Disk,
    directory: string,
    identity: LogIdentity,
    tables: readonly TableMeta[],
    options: ManifestOptions = {},
  ): Promise<ManifestLog> {
    const place = placeOf({ disk, directory, identity }, options);
    const state = new ManifestState();
    state.apply({ added: tables, dropped: [] });
    return startLog(place, state).then(
      (log) => new ManifestLog({ place, state, log, uncertain: [] }),
    );
  }

  get state(): StoredState {
    return this.#manifest.state;
  }

  /** The number for a new file; used by nothing before. Durable with the next commit. */
  takeFileNumber(): number {
    const { state } = this.#manifest;
    const { nextFileNumber } = state;
    state.reserveFileNumber(nextFileNumber);
    return nextFileNumber;
  }

  /** True after a failure that no later commit can mend: the node has to stop (MF-5). */
  get hasFailed(): boolean {
    return this.#manifest.log.condition === 'failed';
  }

  /**
   * Durable when it resolves, with the numbers of the tables that no manifest names any more: what
   * it dropped, and what earlier commits that failed would have added. DISK_FULL, DISK_FAILED: the
   * edit may be there after a restart or not, so the files of both sides have to stay; the state is
   * as before.
   */
  commit(edit: VersionEdit): Promise<readonly number[]> {
    const turn = this.#last.then(() => commitEdit(this.#manifest, edit));
    this.#last = turn.then(
      () => undefined,
      () => undefined,
    );
    return turn;
  }

  close(): void {
    this.#manifest.log.file.close();
  }
}

/** Where a shard's manifest is, whose it is, and its sizes. */
interface Place {
  readonly disk: Disk;
  readonly directory: string;
  readonly identity: LogIdentity;
  readonly rollOverBytes: number;
  readonly snapshotEditBytes: number;
}

const placeOf = (
  where: Pick<Place, 'disk' | 'directory' | 'identity'>,
  { rollOverBytes, snapshotEditBytes }: ManifestOptions,
): Place => ({
  ...where,
  rollOverBytes: rollOverBytes ?? rollOverBytesDefault,
  snapshotEditBytes: snapshotEditBytes ?? snapshotEditBytesDefault,
});

/** The file that changes go to. */
interface OpenLog {
  readonly number: number;
  readonly file: DiskFile;
  size: number;
  /** Of this size it is replaced by a new one. */
  rollOverAt: number;
  chain: number;
  lastLsn: number;
  durableLsn: number;
  /** 'full': a new file may be started. 'failed': nothing may be written any more. */
  condition: 'good' | 'full' | 'failed';
}

interface Manifest {
  readonly place: Place;
  readonly state: ManifestState;
  log: OpenLog;
  /** Tables of edits that may or may not be in the file. */
  uncertain: readonly number[];
}

/**
 * What a replacement of a file of this directory left when its process ended. Nobody replaces any
 * here yet: storage starts before what else writes to the shard.
 */
function removeTemporary({ disk, directory }: Place): void {
  for (const name of disk.list(directory))
    if (name.endsWith('.tmp')) disk.remove(`${directory}/${name}`);
}

async function openManifest(
  place: Place,
  beforeWriting: ManifestOptions['beforeWriting'],
): Promise<Manifest> {
  removeTemporary(place);
  const { disk, directory } = place;
  const current = disk.read(`${directory}/${currentName}`);
  const state = current === undefined ? newState(place) : replay(place, current);
  beforeWriting?.(state);
  const log = await startLog(place, state);
  return { place, state, log, uncertain: [] };
}

/** No CURRENT: a new shard. Tables without it would be data that nobody finds any more. */
function newState(place: Place): ManifestState {
  const { disk, directory } = place;
  const tables = disk.list(`${directory}/tables`).filter((name) => tableNumber(name) !== undefined);
  if (tables.length > 0 || highestManifest(place) > 1)
    throw new CorruptionError(`${directory}/${currentName}`, 0, 'it is gone, its shard is not');
  // A first start that ended before CURRENT was written.
  disk.remove(`${directory}/${manifestName(1)}`);
  return new ManifestState();
}

function highestManifest({ disk, directory }: Place): number {
  return Math.max(0, ...disk.list(directory).map((name) => manifestNumber(name) ?? 0));
}

function replay({ disk, directory, identity }: Place, current: Uint8Array): ManifestState {
  const number = decodeCurrent(current);
  if (number === undefined)
    throw new CorruptionError(`${directory}/${currentName}`, 0, 'it names no manifest');
  const path = `${directory}/${manifestName(number)}`;
  const bytes = disk.read(path);
  if (bytes === undefined) throw new CorruptionError(path, 0, 'it is gone, CURRENT names it');
  const state = new ManifestState();
  let edits = 0;
  let wanted = 1;
  const expectations = {
    kind: 'manifest' as const,
    identity,
    segmentNumber: number,
    later: undefined,
    flushedThrough: 0,
    inFlightBytesMax: editBytesMax,
  };
  const verdict = readSegment(bytes, expectations, ({ payload, end }) => {
    const edit = applyStored(state, payload, { path, offset: end - payload.length });
    if (edits === 0) wanted = edit.snapshotEdits ?? 1;
    edits += 1;
  });
  if (verdict.kind === 'refused')
    throw new KvError('DATA_REFUSED', { file: path, detail: verdict.reason });
  if (verdict.kind === 'corrupt') throw new CorruptionError(path, verdict.offset, verdict.reason);
  // The snapshot was synced before CURRENT named the file.
  if (verdict.kind === 'unborn' || edits < wanted)
    throw new CorruptionError(path, segmentHeaderSpace, 'it does not start with a whole snapshot');
  return state;
}

/** An edit that was verified and still does not fit is damage that no checksum shows. */
function applyStored(
  state: ManifestState,
  payload: Uint8Array,
  { path, offset }: { readonly path: string; readonly offset: number },
): VersionEdit {
  let edit: VersionEdit;
  try {
    edit = decodeEdit(payload);
  } catch (error) {
    if (!(error instanceof KvError)) throw error;
    throw new CorruptionError(path, offset, error.message);
  }
  const problem = state.problemWith(edit);
  if (problem !== undefined) throw new CorruptionError(path, offset, `a version edit ${problem}`);
  state.apply(edit);
  return edit;
}

/** A new file with a snapshot of the state; durable, named by CURRENT; older ones are removed. */
async function startLog(place: Place, state: ManifestState): Promise<OpenLog> {
  const { disk, directory } = place;
  const previous = highestManifest(place);
  const number = previous + 1;
  const header = encodeSegmentHeader({
    kind: 'manifest',
    ...place.identity,
    segmentNumber: number,
    previousSegmentNumber: previous,
    previousLastLsn: 0,
    previousChain: 0,
  });
  const file = disk.open(`${directory}/${manifestName(number)}`, 'create');
  const start = { size: header.length, chain: segmentChain(header), lastLsn: 0, durableLsn: 0 };
  const log: OpenLog = { number, file, ...start, rollOverAt: 0, condition: 'good' };
  try {
    file.write(header, 0);
    for (const edit of state.snapshotEdits(place.snapshotEditBytes))
      append(log, walRecordTypes.edit, encodeEdit(edit));
    log.rollOverAt = Math.max(place.rollOverBytes, 2 * log.size - header.length);
    await syncFile(file);
    await disk.syncDirectory(directory);
    await disk.replace(`${directory}/${currentName}`, encodeCurrent(number));
  } catch (error) {
    file.close();
    throw error;
  }
  log.durableLsn = log.lastLsn;
  mark(log);
  for (const name of disk.list(directory)) {
    const other = manifestNumber(name);
    if (other !== undefined && other !== number) disk.remove(`${directory}/${name}`);
  }
  return log;
}

/** The numbers of tables that no manifest names any more. */
async function commitEdit(manifest: Manifest, edit: VersionEdit): Promise<readonly number[]> {
  const { state } = manifest;
  try {
    await writeEdit(manifest, edit);
  } catch (error) {
    manifest.uncertain = [...manifest.uncertain, ...edit.added.map((table) => table.fileNumber)];
    throw error;
  }
  // After a failed commit this one went to a new file, which has nothing of the failed one.
  const unnamed = [...manifest.uncertain, ...edit.dropped.map(({ fileNumber }) => fileNumber)];
  manifest.uncertain = [];
  return unnamed.filter((fileNumber) => !state.tables.has(fileNumber));
}

async function writeEdit(manifest: Manifest, edit: VersionEdit): Promise<void> {
  const { state } = manifest;
  const problem = state.problemWith(edit);
  assert(problem === undefined, `a version edit ${problem}`);
  const { condition, size, rollOverAt } = manifest.log;
  if (condition === 'failed')
    throw new KvError('DISK_FAILED', { detail: 'an earlier change of the manifest failed' });
  if (condition === 'full' || size >= rollOverAt) await rollOver(manifest);
  const { log } = manifest;
  const nextFileNumber = Math.max(edit.nextFileNumber ?? 0, state.nextFileNumber);
  const whole = { ...edit, nextFileNumber };
  try {
    append(log, walRecordTypes.edit, encodeEdit(whole));
    await syncFile(log.file);
  } catch (error) {
    log.condition = conditionAfter(error);
    throw error;
  }
  state.apply(whole);
  log.durableLsn = log.lastLsn;
  mark(log);
}

/** Where it fails, CURRENT may name either file: the old one gets no more edits. */
async function rollOver(manifest: Manifest): Promise<void> {
  const { log } = manifest;
  try {
    manifest.log = await startLog(manifest.place, manifest.state);
  } catch (error) {
    log.condition = conditionAfter(error);
    throw error;
  }
  log.file.close();
}

function append(log: OpenLog, type: WalRecordType, payload: Uint8Array): void {
  assert(payload.length <= editBytesMax, `a version edit of ${payload.length} bytes`);
  const writer = new ByteWriter(payload.length + 64);
  const lsn = log.lastLsn + 1;
  const crc = appendWalRecord(writer, {
    type,
    lsn,
    durableLsn: log.durableLsn,
    previousCrc: log.chain,
    segmentNumber: log.number,
    payload: [payload],
  });
  log.file.write(writer.view(), log.size);
  log.size += writer.length;
  log.chain = crc;
  log.lastLsn = lsn;
}

function mark(log: OpenLog): void {
  try {
    append(log, walRecordTypes.mark, noBytes);
  } catch (error) {
    // What was committed stays committed; the next commit sees the condition.
    log.condition = conditionAfter(error);
  }
}

const conditionAfter = (error: unknown): OpenLog['condition'] =>
  error instanceof KvError && error.code === 'DISK_FULL' ? 'full' : 'failed';
