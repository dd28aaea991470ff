// Snapshots of a node: named sets of tables that never change. The memtables of all shards are
// flushed, each store gives its tables a second name in one turn, and a manifest of the snapshot's
// own is written last: only then is the snapshot there. Compaction goes on beside it; a table lives
// as long as one of its names (MF-3 step 8, BK-1). Cassandra's `nodetool snapshot` is the model.
//
// Invariant: what has no manifest is garbage of a run that ended too early, and the next start
// removes it. Removing a snapshot takes its manifest first, durably.

import {
  actor,
  type Call,
  type Context,
  type Later,
  type Ref,
  type Session,
} from '../../runtime/actor.ts';
import type { Disk, Log } from '../../runtime/environment.ts';
import { CorruptionError, KvError } from '../../runtime/errors.ts';
import type { BodyOf, Handlers, ReplyOf, Tell } from '../../runtime/protocol.ts';
import { isMarkedWhole, notWhole } from '../model/wholeness.ts';
import { Snapshotter, type SnapshotSummary, type Store } from './protocol.ts';
import {
  checkSnapshotName,
  type ClusterShape,
  decodeSnapshot,
  encodeSnapshot,
  snapshotDirectory,
  snapshotFile,
  type SnapshotManifest,
  snapshotPath,
  snapshotPrefix,
  type SnapshotShard,
  snapshotTablePath,
  summaryOf,
} from './snapshot-format.ts';
import { internalTimeoutMs } from './store-steps.ts';
import { decodeEdit } from './version-edit.ts';

export interface SnapshotterOptions {
  /** By shard. */
  readonly stores: readonly Ref<Store>[];
  readonly identity: {
    readonly clusterName: string;
    readonly node: string;
    readonly incarnation: number;
  };
  readonly shape: ClusterShape;
  /** Of the data directory: what has lost something is not snapshotted (CO-4). Absent: it is whole. */
  readonly birth?: number | undefined;
}

interface Own {
  readonly ended: Tell<object>;
}

/** Each one may keep a whole copy of the node's tables from being freed. */
const snapshotsMax = 64;
/** Of one read. */
const readBytesMax = 1024 * 1024;

class SnapshotterActor implements Handlers<Snapshotter>, Handlers<Own> {
  readonly #ctx: Context<Own, 'disk'>;
  readonly #options: SnapshotterOptions;
  /** One change at a time. */
  #isBusy = false;
  #count = 0;

  constructor(ctx: Context<Own, 'disk'>, options: SnapshotterOptions) {
    this.#ctx = ctx;
    this.#options = options;
    ctx.metrics.gauge('kvd_snapshots', 'Snapshots on this node', () => this.#count);
  }

  start(): void {
    const { disk, log, toSelf } = this.#ctx;
    removeIncomplete(disk, log);
    const names = namesIn(disk);
    for (const file of disk.list(snapshotDirectory)) {
      const part = snapshotFile(file);
      if (part === undefined ? file.endsWith('.tmp') : !names.has(part.name))
        disk.remove(`${snapshotDirectory}/${file}`);
    }
    toSelf('ended', {});
  }

  /** One that is made only after its asker has stopped waiting is removed: nobody knows of it. */
  create({ name }: BodyOf<Snapshotter['create']>, { deadlineMs }: Call): Later<SnapshotSummary> {
    checkSnapshotName(name);
    const { disk, log, clock, node } = this.#ctx;
    const { birth } = this.#options;
    if (birth !== undefined && !isMarkedWhole(disk, birth)) throw notWhole(node);
    const names = namesIn(disk);
    if (names.has(name))
      throw new KvError('CONFLICT', { detail: `there is a snapshot ${name} already` });
    if (names.size >= snapshotsMax)
      throw new KvError('CONFLICT', {
        detail: `there are ${names.size} snapshots on this node: delete some first`,
      });
    const createdMs = Math.floor(clock.wallMicros() / 1000);
    const { identity, shape, stores } = this.#options;
    return this.#change(async (session) => {
      try {
        await disk.makeDirectory(snapshotDirectory);
        const shards = await all(
          stores.map((store, shard) => takeShard(session, store, { name, shard })),
        );
        await disk.syncDirectory(snapshotDirectory);
        const manifest = { name, createdMs, ...identity, shape, shards };
        await disk.replace(snapshotPath(name), encodeSnapshot(manifest));
        if (clock.monotonicMs() >= deadlineMs) {
          await unmake(disk, name);
          log.info('snapshot.given-up', { name });
          throw new KvError('TIMEOUT', { detail: `snapshot ${name} came too late: it is removed` });
        }
        const summary = summaryOf(manifest);
        const { tables, bytes } = summary;
        log.info('snapshot.created', { name, tables, bytes });
        return summary;
      } catch (error) {
        // Of a manifest whose write failed nobody knows whether it is there.
        disk.remove(snapshotPath(name));
        removeTables(disk, name);
        throw error;
      }
    });
  }

  list(): ReplyOf<Snapshotter['list']> {
    const { disk, log } = this.#ctx;
    const snapshots: SnapshotSummary[] = [];
    for (const name of namesIn(disk)) {
      try {
        snapshots.push(summaryOf(readSnapshot(disk, name)));
      } catch (error) {
        if (!(error instanceof CorruptionError || error instanceof KvError)) throw error;
        log.warn('snapshot.unreadable', { name, reason: error.message });
      }
    }
    return { snapshots };
  }

  remove({ name }: BodyOf<Snapshotter['remove']>): Later<{ readonly isRemoved: boolean }> {
    checkSnapshotName(name);
    const { disk, log } = this.#ctx;
    return this.#change(async () => {
      const isRemoved = disk.exists(snapshotPath(name));
      if (!isRemoved) return { isRemoved };
      await unmake(disk, name);
      log.info('snapshot.removed', { name });
      return { isRemoved };
    });
  }

  describe({ name }: BodyOf<Snapshotter['describe']>): { readonly manifest: Uint8Array } {
    checkSnapshotName(name);
    return { manifest: encodeSnapshot(readSnapshot(this.#ctx.disk, name)) };
  }

  read(request: BodyOf<Snapshotter['read']>): ReplyOf<Snapshotter['read']> {
    const { name, shard, fileNumber, offset, length } = request;
    checkSnapshotName(name);
    const file = this.#ctx.disk.open(snapshotTablePath(name, shard, fileNumber), 'read');
    try {
      const size = file.size();
      const bytes = new Uint8Array(Math.max(0, Math.min(length, readBytesMax, size - offset)));
      return { bytes: bytes.subarray(0, file.read(bytes, offset)), size };
    } finally {
      file.close();
    }
  }

  flush(): Later<{ readonly tables: number }> {
    const { stores } = this.#options;
    return this.#ctx.session(async (session) => {
      const done = await all(
        stores.map((store) => session.ask(store, 'flush', {}, internalTimeoutMs)),
      );
      return { tables: done.reduce((sum, { tables }) => sum + tables, 0) };
    });
  }

  ended(): void {
    this.#isBusy = false;
    this.#count = namesIn(this.#ctx.disk).size;
  }

  #change<Reply>(work: (session: Session) => Promise<Reply>): Later<Reply> {
    if (this.#isBusy)
      throw new KvError('CONFLICT', { detail: 'another snapshot is being made or deleted' });
    this.#isBusy = true;
    const { toSelf } = this.#ctx;
    return this.#ctx.session(async (session) => {
      try {
        return await work(session);
      } finally {
        toSelf('ended', {});
      }
    });
  }
}

/** Second names for the tables of one shard, after all that it acknowledged has become tables. */
async function takeShard(
  session: Session,
  store: Ref<Store>,
  { name, shard }: { readonly name: string; readonly shard: number },
): Promise<SnapshotShard> {
  await session.ask(store, 'flush', {}, internalTimeoutMs);
  const prefix = snapshotPrefix(name, shard);
  const { edit } = await session.ask(store, 'linkTables', { prefix }, internalTimeoutMs);
  const { added: tables, flushedThrough = 0 } = decodeEdit(edit);
  return { shard, flushedThrough, tables };
}

/** What all came to, once none is under way any more: a failure must not leave work behind it. */
async function all<Result>(works: readonly Promise<Result>[]): Promise<readonly Result[]> {
  const outcomes = await Promise.allSettled(works);
  const failed = outcomes.find(({ status }) => status === 'rejected');
  if (failed?.status === 'rejected') throw failed.reason;
  return outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
}

/** Names with a manifest, in order. */
function namesIn(disk: Disk): ReadonlySet<string> {
  const names = new Set<string>();
  for (const file of disk.list(snapshotDirectory)) {
    const part = snapshotFile(file);
    if (part?.isManifest === true) names.add(part.name);
  }
  return names;
}

function readSnapshot(disk: Disk, name: string): SnapshotManifest {
  const path = snapshotPath(name);
  const bytes = disk.read(path);
  if (bytes === undefined)
    throw new KvError('NOT_FOUND', { detail: `there is no snapshot ${name}` });
  return decodeSnapshot(path, bytes);
}

/**
 * A manifest whose tables are not all there: its deletion was under way when the power went. One
 * that cannot be read stays: somebody may want to look at it.
 */
function removeIncomplete(disk: Disk, log: Log): void {
  const files = new Set(disk.list(snapshotDirectory));
  for (const name of namesIn(disk)) {
    const missing = missingTables(disk, name, files);
    if (missing === 0) continue;
    log.warn('snapshot.incomplete', { name, missing });
    disk.remove(snapshotPath(name));
  }
}

function missingTables(disk: Disk, name: string, files: ReadonlySet<string>): number {
  try {
    return readSnapshot(disk, name)
      .shards.flatMap(({ shard, tables }) =>
        tables.map(({ fileNumber }) => snapshotTablePath(name, shard, fileNumber)),
      )
      .filter((path) => !files.has(path.slice(snapshotDirectory.length + 1))).length;
  } catch (error) {
    if (!(error instanceof CorruptionError || error instanceof KvError)) throw error;
    return 0;
  }
}

async function unmake(disk: Disk, name: string): Promise<void> {
  disk.remove(snapshotPath(name));
  await disk.syncDirectory(snapshotDirectory);
  removeTables(disk, name);
}

function removeTables(disk: Disk, name: string): void {
  for (const file of disk.list(snapshotDirectory)) {
    const part = snapshotFile(file);
    if (part?.name === name && !part.isManifest) disk.remove(`${snapshotDirectory}/${file}`);
  }
}

export const snapshotter = actor({
  protocol: Snapshotter,
  needs: ['disk'],
  create: (ctx: Context<Own, 'disk'>, options: SnapshotterOptions) =>
    new SnapshotterActor(ctx, options),
});
