// kvctl backup: the tables of all nodes into a directory, where only what is new is copied, or as a
// tar stream. It takes a snapshot on every node, copies from each node what is missing, reads it
// back, and deletes the snapshot again. (Cassandra's snapshots with medusa, and etcdctl's
// `snapshot save`, are the models.)

import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { loadCodecModules } from '../../runtime/host/codec-modules.ts';
import { lockDirectory } from '../../runtime/host/directory-lock.ts';
import { createNodeDisk } from '../../runtime/host/node-disk.ts';
import { createCodecs } from '../../runtime/block-codecs.ts';
import {
  type BackupFigures,
  type BackupSource,
  backupToDirectory,
  backupToTar,
  newTar,
  pruneBackups,
} from '../backup/backup.ts';
import { type BackupList, bytesOf, tablesOf } from '../backup/backup-format.ts';
import { RemoteSnapshot } from '../backup/remote.ts';
import { type Invoke, wholeNumber } from './data.ts';
import { refuseOthers } from './given-options.ts';
import { guarded } from './guarded.ts';
import { ExitError, exitCodes, type Invocation } from './invocation.ts';
import { startProgress } from './progress.ts';
import {
  createSnapshot,
  deleteSnapshot,
  refusals,
  removeEverywhere,
  snapshotTimeoutMs,
} from './snapshots.ts';

interface BackupOptions {
  readonly snapshot?: string;
  readonly nodes?: string;
  readonly parallel: number;
  readonly verify?: boolean;
  readonly keep?: number;
}

export function addBackupCommand(program: Command, invoke: Invoke): void {
  program
    .command('backup <place>')
    .description('copy the tables of all nodes into a directory; - writes a tar to stdout')
    .option('--snapshot <name>', 'of this snapshot, which stays; default: one made for it')
    .option('--nodes <ids>', 'only these nodes, separated by commas')
    .option('--parallel <count>', 'tables copied at the same time', wholeNumber(1, 64), 4)
    .option('--verify', 'read back what earlier backups in the directory hold, too')
    .option('--keep <count>', 'then delete older backups than so many', wholeNumber(1, 1e6))
    .action((place: string, options: BackupOptions, command: Command) =>
      guarded(() => {
        // A stream is written table by table, holds one backup, and nothing of it can be read back.
        if (place === '-') refuseOthers(command, '-', ['--snapshot', '--nodes']);
        return inPlace(place, () => backup(invoke(command), place, options));
      }),
    );
}

/** One at a time in a directory: each would take the files of the other for left over. */
async function inPlace(place: string, work: () => Promise<void>): Promise<void> {
  if (place === '-') return work();
  const lock = await lockDirectory(path.resolve(place), 'backup directory');
  try {
    await work();
  } finally {
    await lock.release();
  }
}

async function backup(
  invocation: Invocation,
  place: string,
  options: BackupOptions,
): Promise<void> {
  const form = invocation.form('table', ['table', 'json']);
  const id = timestamp(new Date());
  const name = options.snapshot ?? `backup-${id}-${process.pid}`;
  const nodes = options.nodes?.split(',') ?? (await membersOf(invocation));
  const urls = await addressesOf(invocation, nodes);
  const isOwn = options.snapshot === undefined;
  const remote = new RemoteSnapshot(name, urls, invocation.terms());
  const startedMs = performance.now();
  const make = async (): Promise<void> => {
    // Where it fails, or nobody answers, some nodes may have made it.
    if (isOwn) await takeSnapshot(invocation, name, nodes);
    const list = { id, nodes: await Promise.all(nodes.map((node) => remote.manifestOf(node))) };
    const figures = await copy(invocation, place, list, remote, options);
    await report(invocation, form, { id, place, figures, seconds: secondsSince(startedMs) });
    if (options.keep !== undefined) await prune(invocation, place, options.keep);
  };
  // A place that cannot be made costs no snapshot.
  if (place !== '-') createNodeDisk(path.resolve(place));
  const { interrupted, release } = interruption(invocation);
  let isDropped = true;
  try {
    await Promise.race([make(), interrupted]);
  } finally {
    remote.close();
    if (isOwn) isDropped = await dropSnapshot(invocation, name, nodes);
    release();
  }
  // The backup is there; what was not deleted has been said.
  if (!isDropped) throw new ExitError(exitCodes.refused, '');
}

/** `interrupted` is rejected where the command is told to end, until `release` is called. */
function interruption({ io: { onInterrupt } }: Invocation): {
  readonly interrupted: Promise<never>;
  readonly release: () => void;
} {
  let release = (): void => {};
  const interrupted = new Promise<never>((_, reject) => {
    const end = (why: string): void =>
      reject(new ExitError(exitCodes.refused, `no backup was made: ${why}`));
    if (onInterrupt !== undefined) release = onInterrupt(end);
  });
  return { interrupted, release: () => release() };
}

const secondsSince = (startedMs: number): number =>
  Math.round(performance.now() - startedMs) / 1000;

/** Sorts by time, and is a name for a file. */
const timestamp = (time: Date): string => time.toISOString().replaceAll(/[-:.]/g, '');

interface RingDocument {
  readonly nodes: readonly { readonly node_id: string; readonly address: string | null }[];
}

async function ringOf(invocation: Invocation): Promise<RingDocument> {
  const { body } = await invocation.withClient((client) =>
    client.call({ method: 'GET', path: '/api/v1/ring', isIdempotent: true, isWrite: false }),
  );
  return JSON.parse(body.toString()) as RingDocument;
}

const membersOf = async (invocation: Invocation): Promise<readonly string[]> =>
  (await ringOf(invocation)).nodes.map(({ node_id: node }) => node);

async function addressesOf(
  invocation: Invocation,
  nodes: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const { protocol } = new URL(invocation.cluster().endpoints[0] ?? '');
  const known = new Map(
    (await ringOf(invocation)).nodes.map(({ node_id: node, address }) => [node, address]),
  );
  return new Map(
    nodes.map((node) => {
      const address = known.get(node);
      if (address === undefined) throw new ExitError(exitCodes.usage, `${node} is no member`);
      if (address === null)
        throw new ExitError(
          exitCodes.unreachable,
          `nobody knows where ${node} listens: start it, or name the others with --nodes`,
        );
      return [node, `${protocol}//${address}`];
    }),
  );
}

const slow = { deadlineMs: snapshotTimeoutMs, attemptMs: snapshotTimeoutMs, attemptsMax: 1 };

async function takeSnapshot(
  invocation: Invocation,
  name: string,
  nodes: readonly string[],
): Promise<void> {
  const answer = await invocation.withClient((client) => createSnapshot(client, name, nodes), slow);
  if (answer.complete) return;
  throw new ExitError(
    exitCodes.refused,
    `${refusals(answer)}\nkvctl: no backup was made; --nodes backs up the others`,
  );
}

/** What cannot be deleted is said: it keeps space on its nodes. False: some hold it still. */
async function dropSnapshot(
  invocation: Invocation,
  name: string,
  nodes: readonly string[],
): Promise<boolean> {
  const remove = (left: readonly string[]): ReturnType<typeof deleteSnapshot> =>
    invocation.withClient((client) => deleteSnapshot(client, name, left.join(',')), slow);
  const timeoutMs = invocation.timeoutMs ?? snapshotTimeoutMs;
  const nowMs = (): number => performance.now();
  const held = await removeEverywhere(nodes, { remove, nowMs, sleep, timeoutMs });
  if (held.size === 0) return true;
  const reasons = [...held].map(([node, reason]) => `${node} (${reason})`).join(', ');
  const command = `kvctl snapshot delete ${name} --nodes ${[...held.keys()].join(',')}`;
  invocation.io.stderr.write(`kvctl: snapshot ${name} may still be on ${reasons}: ${command}\n`);
  return false;
}

async function copy(
  invocation: Invocation,
  place: string,
  list: BackupList,
  remote: RemoteSnapshot,
  { parallel, verify }: BackupOptions,
): Promise<BackupFigures> {
  const tables = tablesOf(list);
  const progress = startProgress({
    stream: invocation.io.stderr,
    totalBytes: bytesOf(tables),
    isQuiet: invocation.isQuiet,
    unit: 'bytes',
  });
  let done = 0;
  const source: BackupSource = {
    chunks: (table) => remote.chunks(table),
    onBytes: (bytes) => {
      done += bytes;
      progress.update(done, done);
    },
    parallel,
    verifiesAll: verify === true,
    codecs: createCodecs(loadCodecModules()),
  };
  try {
    if (place !== '-')
      return await backupToDirectory(createNodeDisk(path.resolve(place)), list, source);
    const tar = newTar();
    const chunks = tar as unknown as AsyncIterable<Uint8Array>;
    const [figures] = await Promise.all([
      backupToTar(tar, list, source),
      pipeline(chunks, invocation.io.stdout, { end: false }),
    ]);
    return figures;
  } finally {
    progress.stop();
  }
}

async function prune(invocation: Invocation, place: string, keep: number): Promise<void> {
  const { backups, tables } = await pruneBackups(createNodeDisk(path.resolve(place)), keep);
  if (!invocation.isQuiet && backups > 0)
    invocation.io.stderr.write(`deleted ${backups} older backups, ${tables} tables\n`);
}

async function report(
  invocation: Invocation,
  form: string,
  done: {
    readonly id: string;
    readonly place: string;
    readonly figures: BackupFigures;
    readonly seconds: number;
  },
): Promise<void> {
  const { id, place, figures, seconds } = done;
  const { tables, bytes, copiedTables, copiedBytes } = figures;
  const members = {
    id,
    tables,
    bytes,
    copied_tables: copiedTables,
    copied_bytes: copiedBytes,
    seconds,
  };
  const text =
    form === 'json'
      ? `${JSON.stringify(members, null, 2)}\n`
      : `backup ${id}: ${tables} tables, ${bytes} bytes; ${copiedTables} tables, ${copiedBytes} bytes copied in ${seconds} s\n`;
  // The standard output is the tar's.
  if (place === '-') {
    if (!invocation.isQuiet) invocation.io.stderr.write(text);
  } else if (form === 'json') await invocation.write(text);
  else await invocation.say(text.trimEnd());
}
