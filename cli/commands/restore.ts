// kvctl restore: the data directory of one node from a backup, offline; or the live records of a
// backup into a cluster of any shape, as new writes. With --wal-archive the archived log comes on
// top, up to --until. What one of these ways has no use for is refused.
//
// A restored node keeps its id and shards and gets a new cluster name: a node of the cluster that was
// backed up never talks to it. Restoring under the old name is for a cluster all of whose nodes are
// gone, and has to be said.

import { existsSync } from 'node:fs';
import path from 'node:path';
import type { Command } from 'commander';
import {
  recordExpiresAt,
  recordUserKey,
  recordValue,
  recordValueType,
  valueTypes,
} from '../../actors/model/record.ts';
import { type CatalogDocument, defaultNamespace } from '../../actors/model/namespaces.ts';
import { createCodecs } from '../../runtime/block-codecs.ts';
import { loadCodecModules } from '../../runtime/host/codec-modules.ts';
import { lockDirectory } from '../../runtime/host/directory-lock.ts';
import { createNodeDisk } from '../../runtime/host/node-disk.ts';
import {
  type BackupList,
  bytesOf,
  createdMsOf,
  readLists,
  tablesOf,
  verifyTable,
} from '../backup/backup-format.ts';
import { catalogOf, liveRecords } from '../backup/live-records.ts';
import { type RestoreFigures, snapshotOfNode } from '../backup/restore.ts';
import {
  chooseBackup,
  endMicrosOf,
  isoOf,
  restoreFromDirectory,
  restoreFromTar,
  type RestorePlan,
} from '../backup/restore-from.ts';
import { Importer } from '../client/import-records.ts';
import { jsonKey, keyOfBytes } from '../client/keys.ts';
import { type Invoke, wholeNumber } from './data.ts';
import { refuseOthers } from './given-options.ts';
import { guarded } from './guarded.ts';
import { ExitError, exitCodes, type Invocation } from './invocation.ts';
import { startProgress } from './progress.ts';

interface RestoreArguments {
  readonly dataDir?: string;
  readonly node?: string;
  readonly clusterName?: string;
  readonly sameCluster?: boolean;
  readonly backup?: string;
  readonly walArchive?: string;
  readonly until?: string;
  readonly list?: boolean;
  readonly check?: boolean;
  readonly intoCluster?: boolean;
  readonly parallel: number;
}

export function addRestoreCommand(program: Command, invoke: Invoke): void {
  program
    .command('restore <place>')
    .description('make the data directory of a node from a backup; - reads a tar from stdin')
    .option('--data-dir <dir>', 'the new data directory, empty or not there')
    .option('--node <id>', 'the node whose data it becomes; needed where there are several')
    .option('--cluster-name <name>', 'of the new cluster; not that of the backup')
    .option('--same-cluster', 'keep the name: no node of the old cluster runs or will run again')
    .option('--backup <id>', 'which backup; default: the newest, or the newest before --until')
    .option('--wal-archive <dir>', 'put the archived log on top, up to --until')
    .option(
      '--until <time>',
      'a time such as 2026-01-31T12:00:00Z, or latest; with --into-cluster: only chooses the backup',
    )
    .option('--list', 'print the backups in the directory')
    .option('--check', 'read the whole backup and compare all checksums; restore nothing')
    .option(
      '--into-cluster',
      'write the live records of a namespace (--ns) to the cluster of --endpoint instead',
    )
    .option(
      '--parallel <count>',
      'with --into-cluster: requests at a time',
      wholeNumber(1, 1024),
      16,
    )
    .action((place: string, options: RestoreArguments, command: Command) =>
      guarded(() => {
        refuseUnused(command, place, options);
        return restore(invoke(command), place, options);
      }),
    );
}

async function restore(
  invocation: Invocation,
  place: string,
  options: RestoreArguments,
): Promise<void> {
  if (options.list === true) return listBackups(invocation, place);
  if (options.check === true) return checkBackup(invocation, place, options);
  if (options.intoCluster === true) return intoCluster(invocation, place, options);
  return intoDirectory(invocation, place, options);
}

function refuseUnused(command: Command, place: string, options: RestoreArguments): void {
  const { list, check, intoCluster: isIntoCluster, dataDir, backup } = options;
  if (list === true) refuseOthers(command, '--list', []);
  else if (check === true) refuseOthers(command, '--check', ['--backup']);
  else if (isIntoCluster === true)
    refuseOthers(command, '--into-cluster', ['--backup', '--until', '--parallel']);
  else if (dataDir !== undefined) {
    const ofDirectory = ['--node', '--cluster-name', '--same-cluster', '--backup'];
    refuseOthers(command, '--data-dir', [...ofDirectory, '--wal-archive', '--until']);
    if (place === '-' && backup !== undefined)
      throw usage('--backup: expected none with -, a stream holds one backup');
  }
}

const usage = (text: string): ExitError => new ExitError(exitCodes.usage, text);

function directoryOf(place: string): ReturnType<typeof createNodeDisk> {
  if (place === '-') throw usage('this reads a directory of backups: unpack the stream first');
  return createNodeDisk(existing(place));
}

/** A disk makes its directory: reading must not. */
function existing(place: string): string {
  const full = path.resolve(place);
  if (!existsSync(full)) throw new ExitError(exitCodes.notFound, `${place}: not there`);
  return full;
}

// ---- looking -------------------------------------------------------------------------------

async function listBackups(invocation: Invocation, place: string): Promise<void> {
  const form = invocation.form('table', ['table', 'json', 'raw']);
  const rows = readLists(directoryOf(place)).map((list) => {
    const tables = tablesOf(list);
    return {
      id: list.id,
      taken: new Date(createdMsOf(list)).toISOString(),
      cluster: list.nodes[0]?.clusterName ?? '',
      nodes: list.nodes.map(({ node }) => node).join(','),
      tables: tables.length,
      bytes: bytesOf(tables),
    };
  });
  if (form === 'json') return invocation.json(rows);
  const cells = rows.map((row) => Object.values(row));
  if (form === 'raw') return invocation.write(cells.map((row) => `${row.join('\t')}\n`).join(''));
  await invocation.table(['backup', 'taken', 'cluster', 'nodes', 'tables', 'bytes'], cells);
}

async function checkBackup(
  invocation: Invocation,
  place: string,
  { backup }: RestoreArguments,
): Promise<void> {
  const disk = directoryOf(place);
  const codecs = createCodecs(loadCodecModules());
  const lists = readLists(disk).filter(({ id }) => backup === undefined || id === backup);
  if (lists.length === 0) throw new ExitError(exitCodes.notFound, `${place}: no such backup`);
  const tables = new Map(lists.flatMap(tablesOf).map((table) => [table.path, table]));
  const progress = progressOf(invocation, bytesOf([...tables.values()]));
  try {
    for (const table of tables.values()) {
      verifyTable(disk, table.path, table.meta, codecs);
      progress.onBytes(table.meta.bytes);
    }
  } finally {
    progress.stop();
  }
  await invocation.say(`${lists.length} backups, ${tables.size} tables: all checksums match`);
}

function progressOf(
  invocation: Invocation,
  totalBytes: number | undefined,
): { readonly onBytes: (bytes: number) => void; readonly stop: () => void } {
  const { isQuiet, io } = invocation;
  const progress = startProgress({ stream: io.stderr, totalBytes, isQuiet, unit: 'bytes' });
  let done = 0;
  const onBytes = (bytes: number): void => {
    done += bytes;
    progress.update(done, done);
  };
  return { onBytes, stop: () => progress.stop() };
}

// ---- a data directory ----------------------------------------------------------------------

/** Microseconds; Infinity where nothing bounds it. */
function untilOf({ until }: RestoreArguments): number {
  if (until === undefined || until === 'latest') return Infinity;
  const time = /^\d{4}-\d{2}-\d{2}T.*(Z|[+-]\d{2}:\d{2})$/.test(until) ? Date.parse(until) : NaN;
  if (Number.isNaN(time))
    throw usage('--until: expected a time with its zone, such as 2026-01-31T12:00:00Z, or latest');
  return time * 1000;
}

async function intoDirectory(
  invocation: Invocation,
  place: string,
  options: RestoreArguments,
): Promise<void> {
  const form = invocation.form('table', ['table', 'json']);
  const { dataDir, until, walArchive } = options;
  if (dataDir === undefined) throw usage('--data-dir: expected the new data directory');
  if (until !== undefined && walArchive === undefined)
    throw usage('--until needs --wal-archive: a backup alone is of one point in time');
  const untilMicros = untilOf(options);
  const lock = await lockDirectory(path.resolve(dataDir));
  const startedMs = performance.now();
  try {
    const planFor = planner(options, { dataDir, untilMicros });
    const { figures, plan, list } = await run(invocation, place, options, planFor, untilMicros);
    const seconds = Math.round(performance.now() - startedMs) / 1000;
    const words = { backup: list.id, node: plan.node, cluster_name: plan.clusterName };
    if (form === 'json')
      return await invocation.json({ ...words, ...documentOf(figures), seconds });
    const newest = figures.maxHlc === 0 ? 'empty' : `newest record ${isoOf(figures.maxHlc)}`;
    await invocation.say(
      `restored ${plan.node} of backup ${list.id} into ${dataDir} as cluster ${plan.clusterName}: ` +
        `${figures.tables} tables, ${figures.bytes} bytes, ${figures.replayed} records of the log, ` +
        `${newest}; ${seconds} s`,
    );
  } finally {
    await lock.release();
  }
}

const documentOf = ({ tables, bytes, replayed, maxHlc }: RestoreFigures): object => ({
  tables,
  bytes,
  replayed,
  max_hlc: maxHlc,
});

type Planner = (list: BackupList) => Omit<RestorePlan, 'onBytes'>;

function planner(
  { node, clusterName, sameCluster, walArchive }: RestoreArguments,
  { dataDir, untilMicros }: { readonly dataDir: string; readonly untilMicros: number },
): Planner {
  return (list) => {
    const [only, ...others] = list.nodes;
    if (node === undefined && others.length > 0)
      throw usage(`--node: expected one of ${list.nodes.map((one) => one.node).join(', ')}`);
    const snapshot = snapshotOfNode(list, node ?? only?.node ?? '');
    const before = snapshot.clusterName;
    checkEnd(list, untilMicros);
    return {
      target: createNodeDisk(path.resolve(dataDir)),
      node: snapshot.node,
      clusterName: newName(before, clusterName, sameCluster === true),
      nowMs: Date.now(),
      codecs: createCodecs(loadCodecModules()),
      replay:
        walArchive === undefined
          ? undefined
          : { archive: createNodeDisk(existing(walArchive)), untilMicros },
    };
  };
}

function checkEnd(list: BackupList, untilMicros: number): void {
  const endMicros = endMicrosOf(list);
  if (endMicros <= untilMicros) return;
  throw usage(`backup ${list.id} holds writes up to ${isoOf(endMicros)}, --until is before that`);
}

/** BK-3: an old node that comes back must not find the restored ones. */
function newName(before: string, name: string | undefined, isSame: boolean): string {
  if (isSame) {
    if (name !== undefined && name !== before)
      throw usage(`--same-cluster keeps the name ${before}: leave --cluster-name out`);
    return before;
  }
  if (name === undefined || name === before)
    throw usage(
      `--cluster-name: expected another name than ${before}, the same for all restored nodes; ` +
        '--same-cluster keeps it where no node of the old cluster will ever run again',
    );
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(name))
    throw usage('--cluster-name: expected 1 to 64 letters, digits, hyphens or underscores');
  return name;
}

interface Restored {
  readonly figures: RestoreFigures;
  readonly plan: Omit<RestorePlan, 'onBytes'>;
  readonly list: BackupList;
}

async function run(
  invocation: Invocation,
  place: string,
  { backup }: RestoreArguments,
  planFor: Planner,
  untilMicros: number,
): Promise<Restored> {
  if (place === '-') {
    const progress = progressOf(invocation, undefined);
    let seen: Omit<Restored, 'figures'> | undefined;
    try {
      const figures = await restoreFromTar(invocation.io.stdin, (list) => {
        const plan = planFor(list);
        seen = { plan, list };
        return { ...plan, onBytes: progress.onBytes };
      });
      if (seen === undefined) throw usage('the stream holds no backup');
      return { figures, ...seen };
    } finally {
      progress.stop();
    }
  }
  const source = directoryOf(place);
  const list = chooseBackup(source, { id: backup, untilMicros });
  const plan = planFor(list);
  const wanted = tablesOf({ id: list.id, nodes: [snapshotOfNode(list, plan.node)] });
  const progress = progressOf(invocation, bytesOf(wanted));
  try {
    const { onBytes } = progress;
    const figures = await restoreFromDirectory(source, list, { ...plan, onBytes });
    return { figures, plan, list };
  } finally {
    progress.stop();
  }
}

// ---- a cluster -----------------------------------------------------------------------------

async function intoCluster(
  invocation: Invocation,
  place: string,
  options: RestoreArguments,
): Promise<void> {
  const form = invocation.form('table', ['table', 'json']);
  const { backup, parallel } = options;
  const untilMicros = untilOf(options);
  const disk = directoryOf(place);
  const list = chooseBackup(disk, { id: backup, untilMicros });
  checkEnd(list, untilMicros);
  const nowMs = Date.now();
  const codecs = createCodecs(loadCodecModules());
  const { namespace: name = defaultNamespace } = invocation;
  // The number of `default` is known, also where the backup has no list of namespaces.
  const isDefault = name === defaultNamespace;
  const namespace = isDefault ? 0 : namespaceIn(catalogOf(disk, list, codecs), name);
  const progress = progressOf(invocation, undefined);
  const lines = async function* (): AsyncGenerator<Buffer> {
    for (const record of liveRecords(disk, list, { codecs, nowMs, namespace })) {
      const line = lineOf(record, nowMs);
      progress.onBytes(line.length);
      yield await Promise.resolve(line);
    }
  };
  const figures = await invocation
    .withClient(
      (client) =>
        new Importer({
          client,
          lines: lines(),
          keyField: undefined,
          prefix: '',
          parallel,
          batchRecords: 100,
        }).run(),
      { deadlineMs: 60_000, attemptsMax: 40, connectionsMax: parallel },
    )
    .finally(() => progress.stop());
  const { records, failed, unknown, problems } = figures;
  for (const { key, detail } of problems) invocation.io.stderr.write(`kvctl: ${key}: ${detail}\n`);
  if (form === 'json') await invocation.json({ backup: list.id, records, failed, unknown });
  else await invocation.say(`backup ${list.id}: ${records} records written, ${failed} failed`);
  if (unknown > 0) throw new ExitError(exitCodes.outcomeUnknown, `${unknown} outcomes unknown`);
  if (failed > 0) throw new ExitError(exitCodes.refused, `${failed} records were not stored`);
}

/** The number in the backup of a namespace that is named. */
function namespaceIn({ namespaces }: CatalogDocument, name: string): number {
  const found = namespaces.find((each) => each.name === name);
  if (found === undefined) {
    const known = namespaces.map((each) => each.name).join(', ');
    throw new ExitError(exitCodes.notFound, `--ns ${name}: the backup has ${known}`);
  }
  if (found.conflicts === 'siblings')
    throw usage(`--ns ${name} keeps siblings, and --into-cluster writes one value for each key`);
  return found.id;
}

/** As an import takes it; the value as it is stored, byte for byte. */
function lineOf(record: Uint8Array, nowMs: number): Buffer {
  const key = keyOfBytes(recordUserKey(record));
  const value = Buffer.from(recordValue(record));
  const isJson = recordValueType(record) === valueTypes.json;
  const shown = isJson ? value : Buffer.from(JSON.stringify(value.toString('base64')));
  const expiresAt = recordExpiresAt(record);
  const seconds = Math.max(1, Math.ceil((expiresAt - nowMs) / 1000));
  const rest = [isJson ? '' : ',"encoding":"base64"', expiresAt === 0 ? '' : `,"ttl":${seconds}`];
  return Buffer.concat([
    Buffer.from(`{"key":${jsonKey(key)},"value":`),
    shown,
    Buffer.from(`${rest.join('')}}`),
  ]);
}
