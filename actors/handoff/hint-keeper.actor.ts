// Keeps what replicas have missed while they were down or slow, and brings it to them when they are
// back (Dynamo, DeCandia et al., 2007, section 4.6, as amended by rules HH-1 to HH-9). A hint never
// counts for a write's level; it only makes a replica complete sooner than repair would.
//
//   keep     appended to a file for that node, synced within 100 ms
//   replay   when the node is alive: one batch at a time, no faster than the rate, each record
//            through the normal write path; a file goes when its last hint was acknowledged
//   bounds   all hints of the shard together, and their age: beyond the window no hint is kept and
//            old ones are dropped, counted; the next repair brings what they would have brought.
//            One that somebody counts on stays as long as its record cannot bring back the dead

import { actor, type Context, type Deferred, type Later, refTo } from '../../runtime/actor.ts';
import { noBytes } from '../../runtime/bytes.ts';
import { type Failure, failure, KvError } from '../../runtime/errors.ts';
import { syncFile } from '../../runtime/files.ts';
import type { Counter } from '../../runtime/metrics.ts';
import type { BodyOf, Handlers, Tell } from '../../runtime/protocol.ts';
import type { PeerState, PeerStates } from '../membership/protocol.ts';
import { recordHlc, recordToken } from '../model/record.ts';
import { shardOf } from '../model/token.ts';
import { Replica } from '../replication/protocol.ts';
import { HintFiles, type HintSize, type OpenHintFile, parseHintFile } from './hint-files.ts';
import { type Hint, hintBytes } from './hint-format.ts';
import { HintKeeper, type HintsOfNode } from './protocol.ts';

export interface HintOptions {
  /** Directory of this shard's hints inside the data directory. */
  readonly directory: string;
  /** No hints for a node that has been away longer, none delivered that is older; 0: none at all. */
  readonly windowMs: number;
  /** A hint that something counts on is brought until its record is so old. */
  readonly countedMs: number;
  /** Bytes of all hints of the shard. */
  readonly bytesMax: number;
  /** Replay of this shard is no faster, for each node. */
  readonly bytesPerSecond: number;
  /** Below this free space no hint is kept. */
  readonly reserveBytes: number;
}

interface Own {
  readonly sync: Tell<{ readonly node: string }>;
  readonly synced: Tell<{ readonly node: string; readonly hasFailed: boolean }>;
  readonly replay: Tell<{ readonly node: string }>;
}

type DropReason = 'window' | 'expired' | 'full' | 'disk' | 'damaged' | 'refused';
const dropReasons = ['window', 'expired', 'full', 'disk', 'damaged', 'refused'] as const;

/** Hints of the file that is being replayed. */
interface Replay {
  readonly hints: readonly Hint[];
  next: number;
  /** Of the batch that is on its way. */
  open: number;
  failed: boolean;
  readonly startedMs: number;
  bytes: number;
}

interface Waiting {
  readonly file: OpenHintFile;
  readonly later: Deferred<object>;
}

interface Target {
  readonly files: HintFiles;
  peer: PeerState | undefined;
  /** Wall clock, milliseconds; undefined: it is alive, as far as is known. */
  downSinceMs: number | undefined;
  /** The window has closed: no more hints until it is alive. */
  isClosed: boolean;
  /** A sync is under way or will begin soon. */
  isSyncing: boolean;
  syncing: OpenHintFile | undefined;
  /** Those who want to hear when their hint is on disk: after the next sync, and after this one. */
  waiting: Waiting[];
  covered: Waiting[];
  isReplaying: boolean;
  replay: Replay | undefined;
  delivered: number;
}

const syncAfterMs = 100;
const batchHints = 32;
const batchBytes = 256 * 1024;
const hintTimeoutMs = 5_000;
const retryMs = 1_000;
/** Nodes that are back do not hear from everyone in the same moment. */
const replayJitterMs = 500;
/** What the disk has said of its free space holds for so long. */
const freeMs = 1_000;

class HintKeeperActor implements Handlers<HintKeeper>, Handlers<Own> {
  readonly #ctx: Context<Own, 'disk'>;
  readonly #options: HintOptions;
  readonly #targets = new Map<string, Target>();
  /** Of all targets. */
  readonly #total: HintSize = { hints: 0, bytes: 0 };
  /** Free space of the disk, less what was written since it was asked; when that was, monotonic. */
  #free = { bytes: 0, askedMs: -Infinity };
  readonly #stored: Counter;
  readonly #delivered: Counter;
  readonly #dropped: Readonly<Record<DropReason, Counter>>;

  constructor(ctx: Context<Own, 'disk'>, options: HintOptions) {
    this.#ctx = ctx;
    this.#options = options;
    const { metrics } = ctx;
    const labels = { shard: String(ctx.shard) };
    this.#stored = metrics.counter('kvd_hints_stored_total', 'Hints written', labels);
    this.#delivered = metrics.counter('kvd_hints_delivered_total', 'Hints acknowledged', labels);
    const help = 'Hints that were not kept or not delivered; repair finds what they held';
    this.#dropped = Object.fromEntries(
      dropReasons.map((reason) => [
        reason,
        metrics.counter('kvd_hints_dropped_total', help, { ...labels, reason }),
      ]),
    ) as Record<DropReason, Counter>;
    const waiting = (): number => this.#total.hints;
    metrics.gauge('kvd_hints_waiting', 'Hints that wait', waiting, labels);
    const bytes = (): number => this.#total.bytes;
    metrics.gauge('kvd_hints_waiting_bytes', 'Bytes of hints that wait', bytes, labels);
  }

  start(): Later<void> {
    const { disk, log } = this.#ctx;
    const { directory } = this.#options;
    for (const name of disk.list(directory)) {
      const file = parseHintFile(name);
      if (file !== undefined) this.#target(file.node).files.found(file.number);
      else if (name.endsWith('.closed'))
        this.#target(name.slice(0, -'.closed'.length)).isClosed = true;
    }
    for (const [node, target] of this.#targets) {
      const { files } = target;
      // It was away when the oldest was written, and nobody has said since that it is back (HH-3).
      target.downSinceMs = files.isEmpty ? undefined : files.oldestMs;
      if (files.damaged > 0) this.#dropped.damaged.add(files.damaged);
      if (!files.isEmpty) log.info('hints.found', { peer: node, hints: files.hints });
    }
    return this.#ctx.session(() => disk.makeDirectory(directory));
  }

  // ---- keeping -------------------------------------------------------------------------------

  keep({ node, record }: BodyOf<HintKeeper['keep']>): void {
    if (this.#options.windowMs === 0) return;
    const target = this.#target(node);
    const file = this.#append(target, record, false);
    if (typeof file === 'string') this.#dropped[file].add();
    else this.#syncSoon(target, syncAfterMs);
  }

  keepSynced({ node, record }: BodyOf<HintKeeper['keepSynced']>): Later<object> {
    const refuse = (reason: string): KvError =>
      new KvError('UNAVAILABLE', { reason, detail: `no hint for ${node} is kept` });
    if (this.#options.windowMs === 0) throw refuse('no hints');
    const target = this.#target(node);
    const file = this.#append(target, record, true);
    if (typeof file === 'string') throw refuse(file);
    const later = this.#ctx.later<object>();
    target.waiting.push({ file, later });
    this.#syncSoon(target, 0);
    return later;
  }

  /** The file that the hint was written to, or why it was not. */
  #append(target: Target, record: Uint8Array, isCounted: boolean): OpenHintFile | DropReason {
    const createdMs = Math.floor(this.#ctx.clock.wallMicros() / 1000);
    const refused = this.#refusal(target, createdMs, hintBytes(record));
    if (refused !== undefined) return refused;
    let file: OpenHintFile;
    try {
      file = target.files.append({ createdMs, isCounted, record });
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      return 'disk';
    }
    this.#free.bytes -= hintBytes(record);
    this.#stored.add();
    this.#ctx.probe.reach('hint kept');
    return file;
  }

  #syncSoon(target: Target, delayMs: number): void {
    if (target.isSyncing) return;
    target.isSyncing = true;
    this.#ctx.after(delayMs, 'sync', { node: target.files.node });
  }

  /** Why no hint is kept; undefined where one is. */
  #refusal(target: Target, nowMs: number, bytes: number): DropReason | undefined {
    const { windowMs, bytesMax, reserveBytes } = this.#options;
    if (target.peer?.condition === 'dead') target.downSinceMs ??= nowMs;
    if (nowMs - (target.downSinceMs ?? nowMs) > windowMs) this.#close(target);
    if (target.isClosed) return 'window';
    if (this.#total.bytes + bytes > bytesMax) return 'full';
    return this.#freeBytes() < reserveBytes ? 'disk' : undefined;
  }

  /** The disk is asked at most once a second: there may be a hint for every write. */
  #freeBytes(): number {
    const { clock, disk } = this.#ctx;
    const nowMs = clock.monotonicMs();
    if (nowMs - this.#free.askedMs >= freeMs)
      this.#free = { bytes: disk.freeBytes(), askedMs: nowMs };
    return this.#free.bytes;
  }

  sync({ node }: { readonly node: string }): void {
    const target = this.#target(node);
    const { files } = target;
    const open = files.beginSync();
    target.covered = target.waiting;
    target.waiting = [];
    if (open === undefined) {
      target.isSyncing = false;
      settleCovered(target, undefined);
      return;
    }
    const { disk, toSelf, log } = this.#ctx;
    const { directory } = this.#options;
    this.#ctx.session(async () => {
      let hasFailed = false;
      try {
        await syncFile(open.file);
        if (!open.isNamed) await disk.syncDirectory(directory);
      } catch (error) {
        hasFailed = true;
        log.warn('hints.sync-failed', { peer: node, reason: String(error) });
      }
      toSelf('synced', { node, hasFailed });
    });
    target.syncing = open;
  }

  synced({ node, hasFailed }: BodyOf<Own['synced']>): void {
    const target = this.#target(node);
    target.isSyncing = false;
    settleCovered(target, hasFailed ? undefined : target.syncing);
    if (target.syncing !== undefined) target.files.endSync(target.syncing, hasFailed);
    target.syncing = undefined;
    if (target.waiting.length > 0) this.#syncSoon(target, 0);
  }

  /** It has been away for longer than hints may be old; the mark survives a restart (HH-3). */
  #close(target: Target): void {
    if (target.isClosed) return;
    target.isClosed = true;
    this.#ctx.probe.reach('hint window closed');
    const { disk, log } = this.#ctx;
    const { node } = target.files;
    log.warn('hints.window-closed', { peer: node, windowMs: this.#options.windowMs });
    const path = this.#closedPath(node);
    this.#ctx.session(async () => {
      try {
        await disk.replace(path, noBytes);
      } catch (error) {
        log.warn('hints.mark-failed', { peer: node, reason: String(error) });
      }
    });
  }

  #closedPath(node: string): string {
    return `${this.#options.directory}/${node}.closed`;
  }

  // ---- replay --------------------------------------------------------------------------------

  peersChanged({ peers }: PeerStates): void {
    const nowMs = Math.floor(this.#ctx.clock.wallMicros() / 1000);
    for (const peer of peers) {
      const target = this.#target(peer.node);
      target.peer = peer;
      if (peer.condition === 'alive') this.#isBack(target);
      else if (peer.condition === 'dead') target.downSinceMs ??= nowMs;
    }
  }

  #isBack(target: Target): void {
    const { files } = target;
    target.downSinceMs = undefined;
    if (target.isClosed) {
      target.isClosed = false;
      this.#ctx.disk.remove(this.#closedPath(files.node));
    }
    if (files.isEmpty || target.isReplaying) return;
    target.isReplaying = true;
    const delayMs = this.#ctx.random.float() * replayJitterMs;
    this.#ctx.after(delayMs, 'replay', { node: files.node });
  }

  /** One batch; called again until nothing is left or the node is gone. */
  replay({ node }: { readonly node: string }): void {
    const target = this.#target(node);
    const { files } = target;
    if (target.peer?.condition !== 'alive') return this.#pause(target);
    if (target.replay === undefined) {
      if (files.isEmpty) return this.#finish(target);
      target.replay = {
        hints: files.readFirst(),
        next: 0,
        open: 0,
        failed: false,
        startedMs: this.#ctx.clock.monotonicMs(),
        bytes: 0,
      };
    }
    const batch = this.#takeBatch(target.replay);
    if (batch.length === 0) {
      files.removeFirst();
      target.replay = undefined;
      this.#ctx.toSelfLater('replay', { node });
      return;
    }
    this.#send(target, target.replay, batch);
  }

  /** The next hints that are young enough. */
  #takeBatch(replay: Replay): Hint[] {
    const nowMs = this.#ctx.clock.wallMicros() / 1000;
    const batch: Hint[] = [];
    let bytes = 0;
    while (batch.length < batchHints && bytes < batchBytes) {
      const hint = replay.hints[replay.next + batch.length];
      if (hint === undefined) break;
      if (this.#isYoung(hint, nowMs)) {
        batch.push(hint);
        bytes += hint.record.length;
        continue;
      }
      // Those before it go first.
      if (batch.length > 0) break;
      this.#dropped.expired.add();
      replay.next += 1;
    }
    replay.bytes += bytes;
    return batch;
  }

  /** Stamps of records are what tombstones are purged by (HH-4). */
  #isYoung({ createdMs, isCounted, record }: Hint, nowMs: number): boolean {
    const { windowMs, countedMs } = this.#options;
    if (isCounted) return nowMs - recordHlc(record) / 1000 <= countedMs;
    return nowMs - createdMs <= windowMs;
  }

  #send(target: Target, replay: Replay, batch: readonly Hint[]): void {
    const { node } = target.files;
    const shards = target.peer?.shards ?? 1;
    replay.open = batch.length;
    replay.failed = false;
    for (const { record, isCounted } of batch) {
      const replica = refTo(Replica, node, shardOf(recordToken(record), shards));
      const name = isCounted ? 'countedHint' : 'hint';
      this.#ctx.ask(replica, name, { record }, hintTimeoutMs, (problem) => {
        if (problem === undefined) this.#delivered.add();
        else if (isHopeless(problem)) this.#dropped.refused.add();
        else replay.failed = true;
        replay.open -= 1;
        if (replay.open === 0) this.#batchDone(target, replay, batch.length);
      });
    }
  }

  /** A batch with a failure is sent again as a whole: what was applied stays as it is. */
  #batchDone(target: Target, replay: Replay, length: number): void {
    const { node } = target.files;
    if (target.replay !== replay) return;
    if (replay.failed) {
      this.#ctx.probe.reach('hint batch sent again');
      this.#ctx.after(retryMs, 'replay', { node });
      return;
    }
    replay.next += length;
    target.delivered += length;
    const dueMs = replay.startedMs + (replay.bytes / this.#options.bytesPerSecond) * 1000;
    this.#ctx.after(Math.max(0, dueMs - this.#ctx.clock.monotonicMs()), 'replay', { node });
  }

  /** It is gone again: the file is read anew when it is back. */
  #pause(target: Target): void {
    target.replay = undefined;
    target.isReplaying = false;
  }

  #finish(target: Target): void {
    const { delivered } = target;
    this.#pause(target);
    target.delivered = 0;
    this.#ctx.probe.reach('hints delivered');
    const { node } = target.files;
    this.#ctx.log.info('hints.delivered', { peer: node, hints: delivered, shard: this.#ctx.shard });
  }

  // ---- figures -------------------------------------------------------------------------------

  stats(): { readonly nodes: readonly HintsOfNode[] } {
    const nodes = [...this.#targets.values()]
      .filter(({ files }) => !files.isEmpty)
      .map(({ files: { node, hints, bytes, oldestMs } }) => ({ node, hints, bytes, oldestMs }))
      .sort((a, b) => (a.node < b.node ? -1 : 1));
    return { nodes };
  }

  #target(node: string): Target {
    let target = this.#targets.get(node);
    if (target === undefined) {
      const { directory } = this.#options;
      target = {
        files: new HintFiles(this.#ctx.disk, directory, node, this.#total),
        peer: undefined,
        downSinceMs: undefined,
        isClosed: false,
        isSyncing: false,
        syncing: undefined,
        waiting: [],
        covered: [],
        isReplaying: false,
        replay: undefined,
        delivered: 0,
      };
      this.#targets.set(node, target);
    }
    return target;
  }
}

/** A file that was left for another one in the meantime may not have been synced. */
function settleCovered(target: Target, synced: OpenHintFile | undefined): void {
  for (const { file, later } of target.covered)
    if (file === synced) later.resolve({});
    else later.fail(failure('DISK_FAILED', { detail: 'the hint may not be on disk' }));
  target.covered = [];
}

/** Sending it again would not help. */
const isHopeless = ({ code }: Failure): boolean => code === 'BAD_REQUEST' || code === 'TOO_LARGE';

export const hintKeeper = actor({
  protocol: HintKeeper,
  needs: ['disk'],
  create: (ctx: Context<Own, 'disk'>, options: HintOptions) => new HintKeeperActor(ctx, options),
});
