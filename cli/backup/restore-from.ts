// Where a restore reads from: a directory of backups, or a tar stream with the list in front. Both
// end in the same steps (restore.ts); what a stream holds beside the wanted tables is passed over.

import { extract } from 'tar-stream';
import type { Readable } from 'node:stream';
import type { Disk } from '../../runtime/environment.ts';
import { CorruptionError, KvError } from '../../runtime/errors.ts';
import {
  type BackupList,
  chunksOf,
  decodeList,
  listIdOf,
  listsDirectory,
  readLists,
  tablesOf,
} from './backup-format.ts';
import { Restore, type RestoreFigures, type RestoreOptions } from './restore.ts';

export interface RestorePlan extends RestoreOptions {
  /** The data directory that is made. */
  readonly target: Disk;
  readonly onBytes: (bytes: number) => void;
}

/** Longest list that is taken from a stream, bytes. */
const listBytesMax = 256 * 1024 * 1024;

/** Options for the list at hand: which node, into which cluster. */
export type PlanFor = (list: BackupList) => RestorePlan;

/** The newest backup without a write after `untilMicros`, or the one of this id. */
export function chooseBackup(
  disk: Disk,
  { id, untilMicros }: { readonly id: string | undefined; readonly untilMicros: number },
): BackupList {
  const lists = readLists(disk);
  if (lists.length === 0)
    throw new KvError('NOT_FOUND', {
      detail: `there is no complete backup (${listsDirectory}/*.json)`,
    });
  if (id !== undefined) {
    const found = lists.find((list) => list.id === id);
    if (found !== undefined) return found;
    const ids = lists.map((list) => list.id).join(', ');
    throw new KvError('NOT_FOUND', { detail: `there is no backup ${id}; there are ${ids}` });
  }
  const found = lists.findLast((list) => endMicrosOf(list) <= untilMicros);
  if (found !== undefined) return found;
  const [oldest] = lists;
  throw new KvError('NOT_FOUND', {
    detail: `the oldest backup holds writes up to ${isoOf(oldest === undefined ? 0 : endMicrosOf(oldest))}: --until cannot be before that`,
  });
}

/** No write in it is newer: microseconds since 1970. */
export const endMicrosOf = (list: BackupList): number =>
  tablesOf(list).reduce((end, { meta }) => Math.max(end, meta.maxHlc), 0);

export const isoOf = (micros: number): string => new Date(Math.ceil(micros / 1000)).toISOString();

export async function restoreFromDirectory(
  source: Disk,
  list: BackupList,
  plan: RestorePlan,
): Promise<RestoreFigures> {
  const restore = await Restore.begin(plan.target, list, plan);
  for (const [path, { meta }] of restore.wanted) {
    await restore.put(path, counted(chunksOf(source, path, meta.bytes), plan.onBytes));
  }
  return restore.finish();
}

/** The list comes first, as `kvctl backup -` and `tar` write it. */
export async function restoreFromTar(stream: Readable, planFor: PlanFor): Promise<RestoreFigures> {
  const entries = stream.pipe(extract());
  stream.once('error', (error) => entries.destroy(error));
  const restoring: Restoring = { restore: undefined, onBytes: () => undefined };
  try {
    for await (const entry of entries) await takeEntry(entry, restoring, planFor);
  } catch (error) {
    if (error instanceof Error && error.message === 'Unexpected end of data')
      throw new CorruptionError('-', 0, 'the stream ends in the middle');
    throw error;
  }
  if (restoring.restore === undefined)
    throw new KvError('BAD_REQUEST', {
      detail: `the stream does not begin with the list of a backup (${listsDirectory}/ID.json)`,
    });
  return restoring.restore.finish();
}

/** What has come of a stream so far. */
interface Restoring {
  restore: Restore | undefined;
  onBytes: (bytes: number) => void;
}

interface Entry {
  readonly header: { readonly name: string; readonly size: number };
  readonly resume: () => unknown;
}

async function takeEntry(entry: Entry, restoring: Restoring, planFor: PlanFor): Promise<void> {
  const { name, size } = entry.header;
  const content = entry as unknown as AsyncIterable<Uint8Array>;
  const path = name.replace(/^[.]\//, '');
  const { restore } = restoring;
  if (listIdOf(path) !== undefined) {
    if (restore !== undefined)
      throw new KvError('BAD_REQUEST', {
        detail: 'the stream holds several backups: unpack it and restore from the directory',
      });
    const list = decodeList(path, await wholeOf(content, path, size));
    const plan = planFor(list);
    restoring.onBytes = plan.onBytes;
    restoring.restore = await Restore.begin(plan.target, list, plan);
  } else if (restore?.wants(path) === true)
    await restore.put(path, counted(content, restoring.onBytes));
  else entry.resume();
}

async function wholeOf(
  entry: AsyncIterable<Uint8Array>,
  path: string,
  size: number,
): Promise<Uint8Array> {
  if (size > listBytesMax) throw new CorruptionError(path, 0, `a list of ${size} bytes`);
  const parts: Uint8Array[] = [];
  for await (const part of entry) parts.push(part);
  return new Uint8Array(Buffer.concat(parts));
}

async function* counted(
  chunks: AsyncIterable<Uint8Array>,
  onBytes: (bytes: number) => void,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    yield chunk;
    onBytes(chunk.length);
  }
}
