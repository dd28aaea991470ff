// Offline commands on the files of a node: sst dump, sst verify, wal dump, manifest dump. They need
// no node and disturb none (storage-files.ts); damage ends them with 1, after all that is whole was
// printed.

import type { Command } from 'commander';
import {
  recordExpiresAt,
  recordHlc,
  recordIncarnation,
  recordIsTombstone,
  recordKey,
  recordValue,
  recordValueType,
  recordVersion,
  recordWriter,
  namespaceBytes,
  namespaceOf,
  userKey,
  valueTypes,
} from '../../actors/model/record.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { guarded } from './guarded.ts';
import { type Invoke, oneLine, wholeNumber } from './data.ts';
import { ExitError, exitCodes, type Invocation, type OutputForm } from './invocation.ts';
import { Rows } from './rows.ts';
import {
  type Damage,
  filesAt,
  isCurrentFile,
  isSegmentFile,
  isTableFile,
  type LogEntry,
  type ManifestReport,
  readLogSegment,
  readManifest,
  readTable,
  type SegmentReport,
  type TableReport,
  verifyTable,
} from './storage-files.ts';

const forms: readonly OutputForm[] = ['table', 'json', 'jsonl'];
/** Of a value in a table. */
const cellCharacters = 60;

export function addStorageCommands(program: Command, invoke: Invoke): void {
  const sst = program.command('sst').description('table files, offline');
  sst
    .command('dump <file>')
    .description('print the records of a table; damaged blocks are passed over and named')
    .option('--keys', 'only the keys')
    .option('--limit <count>', 'at most so many records', wholeNumber(1, 1e12))
    .action((file: string, options: DumpOptions, command: Command) =>
      guarded(() => dumpTable(invoke(command), file, options)),
    );
  sst
    .command('verify <place...>')
    .description('read tables again, all bytes: files, or directories with everything below')
    .action((places: string[], _options: object, command: Command) =>
      guarded(() => verifyTables(invoke(command), places)),
    );
  program
    .command('wal')
    .description('log segments, offline')
    .command('dump <place...>')
    .description('print the records of log segments and how each one ends')
    .action((places: string[], _options: object, command: Command) =>
      guarded(() => dumpLogs(invoke(command), places)),
    );
  program
    .command('manifest')
    .description('manifests, offline')
    .command('dump <directory>')
    .description("print the edits of a shard's manifest and the tables that count")
    .action((directory: string, _options: object, command: Command) =>
      guarded(() => dumpManifests(invoke(command), directory)),
    );
}

/** The files that `places` name; NOT_FOUND where a directory holds none. */
function wanted(
  places: readonly string[],
  isWanted: (name: string) => boolean,
  what: string,
): readonly string[] {
  return places.flatMap((place) => {
    const files = filesAt(place, isWanted);
    if (files.length === 0)
      throw new ExitError(exitCodes.notFound, `${place}: no ${what} here or below`);
    return files;
  });
}

/** A node that runs may remove a file that was found in a directory: that is no damage. */
function unlessGone<Report>(
  file: string,
  named: readonly string[],
  read: (file: string) => Report,
): Report | undefined {
  try {
    return read(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' && !named.includes(file))
      return undefined;
    throw error;
  }
}

// ---- how things are shown ------------------------------------------------------------------

/** As it is where a line can hold it, else as a JSON string; bytes that are no text as hex. */
function shownText(bytes: Uint8Array): string {
  const text = utf8.decodeStrict(bytes);
  if (text === undefined) return `0x${Buffer.from(bytes).toString('hex')}`;
  return /[\p{Cc}\p{Zl}\p{Zp}]/u.test(text) || text === '' ? JSON.stringify(text) : text;
}

/** A storage key: the namespace's number is named where it is not the default one. */
function shownKey(key: Uint8Array): string {
  if (key.length < namespaceBytes) return shownText(key);
  const namespace = namespaceOf(key);
  return `${namespace === 0 ? '' : `${namespace}/`}${shownText(userKey(key))}`;
}

function shownValue(record: Uint8Array): string {
  const text = shownText(recordValue(record));
  return text.length <= cellCharacters ? text : `${text.slice(0, cellCharacters - 1)}…`;
}

const shownTime = (unixMs: number): string | undefined => {
  if (unixMs === 0) return undefined;
  const time = new Date(unixMs);
  return Number.isNaN(time.getTime()) ? String(unixMs) : time.toISOString();
};

/** Members of a key: bytes that are no text are in base64, and said so. */
function keyMembers(key: Uint8Array): Record<string, unknown> {
  if (key.length < namespaceBytes) return { key: Buffer.from(key).toString('base64') };
  const user = userKey(key);
  const text = utf8.decodeStrict(user);
  return {
    namespace: namespaceOf(key),
    key: text ?? Buffer.from(user).toString('base64'),
    ...(text === undefined ? { key_encoding: 'base64' } : {}),
  };
}

function recordMembers(record: Uint8Array): Record<string, unknown> {
  return {
    ...keyMembers(recordKey(record)),
    version: recordVersion(record),
    hlc: recordHlc(record),
    writer: recordWriter(record),
    incarnation: recordIncarnation(record),
    tombstone: recordIsTombstone(record),
    expires_at: recordExpiresAt(record) || null,
  };
}

/** The record as a line of JSON; a JSON value stands in it as it is stored. */
function recordJson(record: Uint8Array): string {
  const members = JSON.stringify(recordMembers(record)).slice(0, -1);
  if (recordIsTombstone(record)) return `${members}}`;
  const value = Buffer.from(recordValue(record));
  if (recordValueType(record) === valueTypes.json)
    return `${members},"value":${oneLine(value).toString()}}`;
  return `${members},"value":${JSON.stringify(value.toString('base64'))},"encoding":"base64"}`;
}

// ---- sst -----------------------------------------------------------------------------------

interface DumpOptions {
  readonly keys?: boolean;
  readonly limit?: number;
}

async function dumpTable(
  invocation: Invocation,
  file: string,
  { keys = false, limit = Infinity }: DumpOptions,
): Promise<void> {
  const head = ['key', 'version', 'hlc', 'writer', 'deleted', 'expires', 'bytes', 'value'];
  const form = invocation.form('table', forms);
  const rows = new Rows(invocation, form, keys ? ['key'] : head);
  let left = limit;
  const damage = await readTable(file, async (records) => {
    for (const record of records.slice(0, left)) {
      if (keys) await rows.add([shownKey(recordKey(record))], keyJson(record));
      else await rows.add(recordRow(record), recordJson(record));
      left -= 1;
    }
    return left > 0;
  });
  await rows.end();
  if (damage.length > 0)
    throw new ExitError(exitCodes.refused, damageLines(file, damage).join('\nkvctl: '));
}

const keyJson = (record: Uint8Array): string => JSON.stringify(keyMembers(recordKey(record)));

function recordRow(record: Uint8Array): (string | number | undefined)[] {
  const isTombstone = recordIsTombstone(record);
  return [
    shownKey(recordKey(record)),
    recordVersion(record),
    recordHlc(record),
    recordWriter(record),
    isTombstone ? 'yes' : 'no',
    shownTime(recordExpiresAt(record)),
    recordValue(record).length,
    isTombstone ? undefined : shownValue(record),
  ];
}

/** Which keys a damaged part holds, for people. */
function shownRange(keys: Damage['keys']): string {
  if (keys === undefined) return 'its keys are unknown';
  const end = 'below' in keys ? `to below ${shownKey(keys.below)}` : `to ${shownKey(keys.last)}`;
  return `keys from ${shownKey(keys.first)} ${end}`;
}

const damageLines = (file: string, damage: readonly Damage[]): string[] =>
  damage.map(
    ({ offset, reason, keys }) =>
      `${file}: damaged at byte ${offset}: ${reason}; ${shownRange(keys)}`,
  );

async function verifyTables(invocation: Invocation, places: readonly string[]): Promise<void> {
  const form = invocation.form('table', forms);
  const rows = new Rows(invocation, form, ['file', 'state', 'records', 'bytes', 'first', 'last']);
  const problems: string[] = [];
  for (const file of wanted(places, isTableFile, 'table')) {
    const report = unlessGone(file, places, (name) => verifyTable(name, !places.includes(name)));
    if (report === undefined) continue;
    const { bytes, meta, records, damage } = report;
    const range = meta === undefined ? [] : [shownKey(meta.firstKey), shownKey(meta.lastKey)];
    const row = [file, tableState(report), records, bytes, range[0], range[1]];
    await rows.add(row, JSON.stringify(tableMembers(report)));
    if (!report.isUnused) problems.push(...damageLines(file, damage));
  }
  await rows.end();
  if (problems.length > 0) throw new ExitError(exitCodes.refused, problems.join('\nkvctl: '));
}

function tableState({ damage, isUnused }: TableReport): 'ok' | 'damaged' | 'unused' {
  if (damage.length === 0) return 'ok';
  return isUnused ? 'unused' : 'damaged';
}

function tableMembers(report: TableReport): object {
  const { file, bytes, meta, records, damage } = report;
  return {
    file,
    state: tableState(report),
    records,
    bytes,
    ...(meta === undefined
      ? {}
      : { first: keyMembers(meta.firstKey), last: keyMembers(meta.lastKey) }),
    damage: damage.map(({ offset, reason, keys }) => ({ offset, reason, ...rangeMembers(keys) })),
  };
}

function rangeMembers(keys: Damage['keys']): object {
  if (keys === undefined) return {};
  const first = keyMembers(keys.first);
  return 'below' in keys
    ? { first, below: keyMembers(keys.below) }
    : { first, last: keyMembers(keys.last) };
}

// ---- wal -----------------------------------------------------------------------------------

const logHead = [
  'offset',
  'lsn',
  'durable lsn',
  'key',
  'version',
  'hlc',
  'deleted',
  'expires',
  'bytes',
];

async function dumpLogs(invocation: Invocation, places: readonly string[]): Promise<void> {
  const form = invocation.form('table', forms);
  const problems: string[] = [];
  const rows = new Rows(invocation, form, logHead);
  for (const file of wanted(places, isSegmentFile, 'log segment')) {
    const report = unlessGone(file, places, readLogSegment);
    if (report === undefined) continue;
    await rows.note(`${file}: ${shownHeader(report)}`, JSON.stringify(headerMembers(report)));
    for (const entry of report.entries) await addEntry(rows, entry);
    const { verdict } = report;
    const text = shownVerdict(report);
    await rows.note(
      `${file}: ${text}`,
      JSON.stringify({ kind: 'verdict', file, ...verdictMembers(verdict) }),
    );
    if (isDamaged(verdict)) problems.push(`${file}: ${text}`);
  }
  await rows.end();
  if (problems.length > 0) throw new ExitError(exitCodes.refused, problems.join('\nkvctl: '));
}

async function addEntry(rows: Rows, { offset, lsn, durableLsn, records }: LogEntry): Promise<void> {
  const place = { lsn, durable_lsn: durableLsn, offset };
  if (records.length === 0)
    await rows.add([offset, lsn, durableLsn, '(mark)'], JSON.stringify({ kind: 'mark', ...place }));
  for (const record of records)
    await rows.add(
      [
        offset,
        lsn,
        durableLsn,
        shownKey(recordKey(record)),
        recordVersion(record),
        recordHlc(record),
        recordIsTombstone(record) ? 'yes' : 'no',
        shownTime(recordExpiresAt(record)),
        recordValue(record).length,
      ],
      JSON.stringify({
        kind: 'record',
        ...place,
        ...recordMembers(record),
        bytes: recordValue(record).length,
      }),
    );
}

function shownHeader({ header, bytes }: SegmentReport): string {
  if (header === undefined) return `${bytes} bytes without a readable header`;
  const { segmentNumber, clusterName, node, shard, incarnation } = header;
  const { previousSegmentNumber, previousLastLsn } = header;
  const before = previousSegmentNumber === 0 ? 'no segment' : `segment ${previousSegmentNumber}`;
  return (
    `segment ${segmentNumber} of shard ${shard} of ${node} in ${clusterName}, incarnation ` +
    `${incarnation}, ${bytes} bytes; follows ${before}, LSN ${previousLastLsn}`
  );
}

function headerMembers({ file, header, bytes }: SegmentReport): object {
  if (header === undefined) return { kind: 'segment', file, bytes, header: null };
  return {
    kind: 'segment',
    file,
    bytes,
    segment: header.segmentNumber,
    cluster: header.clusterName,
    node: header.node,
    shard: header.shard,
    incarnation: header.incarnation,
    previous_segment: header.previousSegmentNumber,
    previous_last_lsn: header.previousLastLsn,
  };
}

type Verdict = SegmentReport['verdict'];

const isDamaged = ({ kind }: Verdict): boolean => kind === 'corrupt' || kind === 'refused';

function shownVerdict({ verdict }: Pick<SegmentReport, 'verdict'>): string {
  switch (verdict.kind) {
    case 'end':
      return `clean end at byte ${verdict.offset}, last LSN ${verdict.lastLsn}`;
    case 'torn':
      return `torn at byte ${verdict.offset}: ${verdict.reason}, nothing of it was acknowledged; last LSN ${verdict.lastLsn}`;
    case 'unborn':
      return `never used: ${verdict.reason}, and there is no record`;
    case 'corrupt':
      return `corrupt at byte ${verdict.offset}: ${verdict.reason}`;
    case 'refused':
      return `not readable from byte ${verdict.offset} on: ${verdict.reason}`;
  }
}

function verdictMembers(verdict: Verdict): object {
  const names = {
    end: 'clean',
    torn: 'torn',
    unborn: 'unused',
    corrupt: 'corrupt',
    refused: 'refused',
  };
  return {
    verdict: names[verdict.kind],
    ...('offset' in verdict ? { offset: verdict.offset } : {}),
    ...('reason' in verdict ? { reason: verdict.reason } : {}),
    ...('lastLsn' in verdict ? { last_lsn: verdict.lastLsn } : {}),
  };
}

// ---- manifest ------------------------------------------------------------------------------

async function dumpManifests(invocation: Invocation, place: string): Promise<void> {
  const form = invocation.form('table', ['table', 'json']);
  const problems: string[] = [];
  for (const current of wanted([place], isCurrentFile, 'CURRENT')) {
    const report = readManifest(current.slice(0, -'CURRENT'.length) || '.');
    if (form === 'json') await invocation.json(manifestMembers(report));
    else await showManifest(invocation, report);
    if (isDamaged(report.verdict)) problems.push(`${report.file}: ${shownVerdict(report)}`);
  }
  if (problems.length > 0) throw new ExitError(exitCodes.refused, problems.join('\nkvctl: '));
}

async function showManifest(invocation: Invocation, report: ManifestReport): Promise<void> {
  const { file, entries, state, tables } = report;
  await invocation.table(
    ['offset', 'lsn', 'adds', 'drops', 'flushed through', 'next file'],
    entries.map(({ offset, lsn, edit }) => [
      offset,
      lsn,
      edit.added.map(({ fileNumber, level }) => `${fileNumber} (level ${level})`).join(', '),
      edit.dropped.map(({ fileNumber, level }) => `${fileNumber} (level ${level})`).join(', '),
      edit.flushedThrough,
      edit.nextFileNumber,
    ]),
  );
  await invocation.table(
    ['table', 'level', 'records', 'deleted', 'bytes', 'first', 'last', 'file'],
    tables.map(({ meta, fileBytes }) => [
      meta.fileNumber,
      meta.level,
      meta.records,
      meta.tombstones,
      meta.bytes,
      shownKey(meta.firstKey),
      shownKey(meta.lastKey),
      fileState(meta.bytes, fileBytes),
    ]),
  );
  const { flushedThrough, nextFileNumber } = state;
  await invocation.say(
    `${file}: ${tables.length} tables, flushed through LSN ${flushedThrough}, next file ${nextFileNumber}`,
  );
  await invocation.say(`${file}: ${shownVerdict(report)}`);
}

function fileState(bytes: number, fileBytes: number | undefined): string {
  if (fileBytes === undefined) return 'missing';
  return fileBytes === bytes ? 'there' : `${fileBytes} bytes`;
}

function manifestMembers({ file, entries, state, tables, verdict }: ManifestReport): object {
  return {
    file,
    edits: entries.map(({ offset, lsn, edit }) => ({
      offset,
      lsn,
      added: edit.added.map(({ fileNumber, level }) => ({ table: fileNumber, level })),
      dropped: edit.dropped.map(({ fileNumber, level }) => ({ table: fileNumber, level })),
      flushed_through: edit.flushedThrough,
      next_file_number: edit.nextFileNumber,
    })),
    tables: tables.map(({ meta, fileBytes }) => ({
      table: meta.fileNumber,
      level: meta.level,
      records: meta.records,
      tombstones: meta.tombstones,
      bytes: meta.bytes,
      checksum: meta.checksum,
      min_hlc: meta.minHlc,
      max_hlc: meta.maxHlc,
      max_expires_at: meta.maxExpiresAt,
      first: keyMembers(meta.firstKey),
      last: keyMembers(meta.lastKey),
      file_bytes: fileBytes ?? null,
    })),
    flushed_through: state.flushedThrough,
    next_file_number: state.nextFileNumber,
    ...verdictMembers(verdict),
  };
}
