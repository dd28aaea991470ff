// Repair of one shard (anti-entropy: Demers et al., 1987; Merkle trees as in Dynamo, 2007). It lets
// a session sum up its shard and look at single keys, takes what the shard lacks, and keeps the
// horizons. On shard 0 it also runs repairs: by itself at intervals, on the member with the lowest
// id that is alive, and whenever it is asked to.
//
// Invariant: what lies at or below a purge horizon was seen by a repair of all members. A record
// that comes later, and is as old, sends the horizon back below it before it is written; so a
// tombstone goes only when no member can hold what it hides (TS-3, TS-7).

import { actor, type Context, type Later, type Ref, refTo } from '../../runtime/actor.ts';
import { type Failure, failure, KvError } from '../../runtime/errors.ts';
import type { BodyOf, Handlers, ReplyOf, Tell } from '../../runtime/protocol.ts';
import type { CatalogBytes } from '../catalog/protocol.ts';
import type { PeerState, PeerStates } from '../membership/protocol.ts';
import { DroppedKeys } from '../model/dropped-keys.ts';
import { checkRecord, recordIsSet, recordKey, recordToken } from '../model/record.ts';
import type { ReplicaSets } from '../model/replica-sets.ts';
import type { SumTree } from '../model/sum-tree.ts';
import { checkShard } from '../model/token.ts';
import { Acceptor, PaxosRepairer, Replica, type SiblingKeeper } from '../replication/protocol.ts';
import type { Store } from '../storage/protocol.ts';
import { Horizons } from './horizons.ts';
import { Repairer, type RepairReport, type RepairRequest } from './protocol.ts';
import { RepairMetrics } from './repair-metrics.ts';
import { RepairProgress } from './repair-progress.ts';
import { runRepair } from './repair-run.ts';
import { digestsOf, type ScanPlace, type ScanView, sumShard } from './shard-scan.ts';

export interface RepairOptions {
  readonly store: Ref<Store>;
  /** Takes sibling sets instead of the store. */
  readonly siblings: Ref<SiblingKeeper>;
  readonly sets: ReplicaSets;
  /** File of the horizons, in the data directory. */
  readonly path: string;
  /** Shards of this node. */
  readonly shards: number;
  /** Time between two repairs of everything, milliseconds; 0: only when asked to. */
  readonly intervalMs: number;
  /** Reading a shard, and sending what differs, is no faster. */
  readonly bytesPerSecond: number;
  /** A write is durable everywhere or given up within so long. */
  readonly lagMs: number;
}

interface Own {
  readonly started: Tell<{ readonly horizons: Horizons }>;
  readonly summed: Tell<{ readonly tree: SumTree | undefined; readonly session: number }>;
  readonly saved: Tell<{ readonly problem: Failure | undefined }>;
  readonly tick: Tell<object>;
  readonly ran: Tell<{ readonly progress: RepairProgress }>;
}

/** A session that looks at this shard. */
interface Hosted {
  readonly id: number;
  readonly view: ScanView;
  readonly horizon: number;
  /** By set: a late record has come; the horizon must stay below it. */
  readonly limits: Map<number, number>;
  tree: SumTree | undefined;
  /** Monotonic time of the last word of the session. */
  heardMs: number;
}

/** Waits until the horizons are on disk. */
interface Saver {
  readonly resolve: () => void;
  readonly fail: (problem: Failure) => void;
}

/** A session of which nothing was heard for so long is over; its runner holds it (repair-run.ts). */
const sessionIdleMs = 120_000;
const storeTimeoutMs = 30_000;
const surveyTimeoutMs = 5_000;
/** A peer that does not tell its horizons is asked again. */
const compareAgainMs = 10_000;

class RepairerActor implements Handlers<Repairer>, Handlers<Own> {
  readonly #ctx: Context<Own, 'disk'>;
  readonly #options: RepairOptions;
  readonly #metrics: RepairMetrics;
  #horizons: Horizons;
  #hosted: Hosted | undefined;
  readonly #dropped = new DroppedKeys();
  #peers: readonly PeerState[] = [];
  /** Peers whose horizons were compared with those of this node, or not before this monotonic time. */
  readonly #compared = new Map<string, number>();
  #isSaving = false;
  /** Wait for the save that begins next. */
  #savers: Saver[] = [];
  #saving: readonly Saver[] = [];
  #progress: RepairProgress | undefined;
  #runs = 0;

  constructor(ctx: Context<Own, 'disk'>, options: RepairOptions) {
    this.#ctx = ctx;
    this.#options = options;
    this.#horizons = new Horizons(options.sets, false);
    const own = options.sets.ofNode(ctx.node);
    const startedMs = ctx.clock.monotonicMs();
    this.#metrics = new RepairMetrics(ctx.metrics, ctx.shard, () => {
      const oldest = Math.min(...own.map((set) => this.#horizons.purgeOf(set)));
      // Never repaired: for as long as anybody can tell.
      if (oldest === 0) return (ctx.clock.monotonicMs() - startedMs) / 1000;
      return (ctx.clock.wallMicros() - oldest) / 1e6;
    });
  }

  start(): Later<void> {
    const { disk, toSelf, shard, random, after } = this.#ctx;
    const { path, sets, store, intervalMs } = this.#options;
    if (shard === 0 && intervalMs > 0) after(intervalMs * (0.5 + random.float() / 2), 'tick', {});
    return this.#ctx.session(async (session) => {
      const bytes = disk.read(path);
      if (bytes !== undefined)
        return toSelf('started', { horizons: Horizons.decode(bytes, path, sets) });
      const { records, newestHlc } = await session.ask(store, 'stats', {}, storeTimeoutMs);
      const horizons = new Horizons(sets, records === 0 && newestHlc === 0);
      await disk.replace(path, horizons.encode());
      toSelf('started', { horizons });
    });
  }

  started({ horizons }: { readonly horizons: Horizons }): void {
    this.#horizons = horizons;
    this.#tellStore();
  }

  // ---- a session looks at this shard ---------------------------------------------------------

  survey(): Later<ReplyOf<Repairer['survey']>> {
    const { store } = this.#options;
    const wallMicros = this.#ctx.clock.wallMicros();
    const horizons = this.#horizons.list();
    const { isFresh } = this.#horizons;
    return this.#ctx.session(async (session) => {
      const { records } = await session.ask(store, 'stats', {}, storeTimeoutMs);
      return { wallMicros, horizons, isFresh, records };
    });
  }

  begin(request: BodyOf<Repairer['begin']>): Later<{ readonly records: number }> {
    this.#dropIdle();
    if (this.#hosted !== undefined)
      throw new KvError('OVERLOADED', { detail: 'another repair is under way' });
    const { session: id, bits, nowMs, floors, purged, horizon, isFull = false } = request;
    this.#refuseOldDisk('a repair', purged);
    const { clock, node, shard, toSelf } = this.#ctx;
    const view: ScanView = { bits, nowMs, floors };
    const hosted: Hosted = {
      id,
      view,
      horizon,
      limits: new Map(),
      tree: undefined,
      heardMs: clock.monotonicMs(),
    };
    this.#hosted = hosted;
    const place = this.#place();
    const replica = refTo(Replica, node, shard);
    const acceptor = refTo(Acceptor, node, shard);
    const floor = this.floor();
    const isWanted = (): boolean => {
      hosted.heardMs = clock.monotonicMs();
      return this.#hosted === hosted;
    };
    return this.#ctx.session(async (session) => {
      // From here on these announce what comes late, and only then the shard is read.
      await session.ask(replica, 'repairFloor', floor, storeTimeoutMs);
      await session.ask(acceptor, 'repairFloor', floor, storeTimeoutMs);
      if (isFull) return { records: 0 };
      const tree = await sumShard(session, place, view, isWanted);
      toSelf('summed', { tree, session: id });
      if (tree === undefined) throw new KvError('CONFLICT', { detail: 'the session has ended' });
      return { records: tree.records };
    });
  }

  summed({ tree, session }: BodyOf<Own['summed']>): void {
    if (this.#hosted?.id === session) this.#hosted.tree = tree;
  }

  sums({ session, set, level, nodes }: BodyOf<Repairer['sums']>): {
    readonly sums: readonly number[];
  } {
    const { tree } = this.#session(session);
    if (tree === undefined) throw new KvError('CONFLICT', { detail: 'not summed up yet' });
    return { sums: tree.sums(set, level, nodes) };
  }

  digests(request: BodyOf<Repairer['digests']>): Later<ReplyOf<Repairer['digests']>> {
    const { session: id, after, sets, leaves } = request;
    const { view } = this.#session(id);
    const place = this.#place();
    const wanted = { after, sets: new Set(sets), leaves: new Set(leaves) };
    return this.#ctx.session((session) => digestsOf(session, place, view, wanted));
  }

  /** Not by way of the replica: a node that is being filled refuses readers, but holds what it holds. */
  read({ session, key, hash }: BodyOf<Repairer['read']>): Later<ReplyOf<Repairer['read']>> {
    this.#session(session);
    const later = this.#ctx.later<ReplyOf<Repairer['read']>>();
    if (this.#dropped.has(key)) {
      later.resolve({ record: undefined });
      return later;
    }
    const { store } = this.#options;
    this.#ctx.ask(store, 'read', { key, hash }, storeTimeoutMs, (problem, reply) => {
      if (reply === undefined) later.fail(problem ?? failure('BUG'));
      else later.resolve({ record: reply.record });
    });
    return later;
  }

  write({ session, record }: BodyOf<Repairer['write']>): Later<object> {
    checkRecord(record);
    this.#session(session);
    checkShard(recordToken(record), this.#ctx.shard, this.#options.shards);
    const later = this.#ctx.later<object>();
    // Its sender has not heard of the drop yet.
    if (this.#dropped.has(recordKey(record))) {
      later.resolve({});
      return later;
    }
    const done = (problem: Failure | undefined): void => {
      if (problem !== undefined) return later.fail(problem);
      this.#ctx.probe.reach('record repaired');
      later.resolve({});
    };
    const { siblings, store } = this.#options;
    if (recordIsSet(record)) this.#ctx.ask(siblings, 'merge', { record }, storeTimeoutMs, done);
    else this.#ctx.ask(store, 'apply', { record }, storeTimeoutMs, done);
    return later;
  }

  namespacesChanged(known: CatalogBytes): object {
    this.#dropped.changed(known);
    return {};
  }

  agree({ session, sets }: BodyOf<Repairer['agree']>): Later<object> {
    const { horizon } = this.#session(session);
    for (const set of sets) this.#horizons.agree(set, horizon);
    const own = this.#options.sets.ofNode(this.#ctx.node);
    if (own.every((set) => this.#horizons.agreedOf(set) > 0)) this.#horizons.isFresh = false;
    return this.#save();
  }

  confirm({ session, sets }: BodyOf<Repairer['confirm']>): Later<object> {
    const { horizon, limits } = this.#session(session);
    for (const set of sets) {
      const hlc = Math.min(horizon, limits.get(set) ?? horizon);
      if (hlc > this.#horizons.purgeOf(set)) this.#horizons.confirm(set, hlc);
    }
    this.#ctx.probe.reach('repair horizon moved');
    this.#tellStore();
    return this.#save();
  }

  hold({ session }: { readonly session: number }): object {
    this.#session(session);
    return {};
  }

  end({ session }: { readonly session: number }): object {
    if (this.#hosted?.id !== session) return {};
    this.#dropSession();
    const { node, shard } = this.#ctx;
    this.#ctx.tell(refTo(PaxosRepairer, node, shard), 'repaired', {});
    return {};
  }

  #session(id: number): Hosted {
    const hosted = this.#hosted;
    if (hosted?.id !== id)
      throw new KvError('CONFLICT', { detail: 'this repair has ended or was never begun here' });
    hosted.heardMs = this.#ctx.clock.monotonicMs();
    return hosted;
  }

  #dropIdle(): void {
    const heardMs = this.#hosted?.heardMs ?? Infinity;
    if (this.#ctx.clock.monotonicMs() - heardMs < sessionIdleMs) return;
    if (this.#hosted !== undefined) this.#dropSession();
  }

  #dropSession(): void {
    this.#hosted = undefined;
    const { node, shard } = this.#ctx;
    const { ask } = this.#ctx;
    const floor = this.floor();
    const ignore = (): void => undefined;
    ask(refTo(Replica, node, shard), 'repairFloor', floor, storeTimeoutMs, ignore);
    ask(refTo(Acceptor, node, shard), 'repairFloor', floor, storeTimeoutMs, ignore);
  }

  #place(): ScanPlace {
    const { store, sets, bytesPerSecond } = this.#options;
    const dropped = this.#dropped;
    const isDropped = (key: Uint8Array): boolean => dropped.has(key);
    return { store, sets, clock: this.#ctx.clock, bytesPerSecond, isDropped };
  }

  // ---- horizons ------------------------------------------------------------------------------

  floor(): { readonly hlc: number } {
    return { hlc: Math.max(this.#horizons.highest, this.#hosted?.horizon ?? 0) };
  }

  late({ token, hlc, isHint }: BodyOf<Repairer['late']>): Later<ReplyOf<Repairer['late']>> {
    const later = this.#ctx.later<ReplyOf<Repairer['late']>>();
    const set = this.#options.sets.indexOf(token);
    const hosted = this.#hosted;
    if (isHint && hlc <= this.#horizons.purgeOf(set)) {
      this.#ctx.probe.reach('hint overtaken by repair');
      later.resolve({ isOvertaken: true });
      return later;
    }
    if (hosted !== undefined && hlc <= hosted.horizon)
      hosted.limits.set(set, Math.min(hosted.limits.get(set) ?? Infinity, hlc - 1));
    if (!this.#horizons.retreat(set, hlc - 1)) {
      later.resolve({ isOvertaken: false });
      return later;
    }
    this.#ctx.probe.reach('repair horizon went back');
    this.#tellStore();
    this.#saveThen({
      resolve: () => later.resolve({ isOvertaken: false }),
      fail: (problem) => later.fail(problem),
    });
    return later;
  }

  #tellStore(): void {
    this.#ctx.tell(this.#options.store, 'purgeBelow', this.#horizons.arcs());
  }

  /** Answers when the horizons as they are now are on disk. */
  #save(): Later<object> {
    const later = this.#ctx.later<object>();
    this.#saveThen({ resolve: () => later.resolve({}), fail: (problem) => later.fail(problem) });
    return later;
  }

  #saveThen(saver: Saver): void {
    this.#savers.push(saver);
    this.#saveNext();
  }

  #saveNext(): void {
    if (this.#isSaving || this.#savers.length === 0) return;
    this.#isSaving = true;
    this.#saving = this.#savers;
    this.#savers = [];
    const { disk, toSelf } = this.#ctx;
    const { path } = this.#options;
    const bytes = this.#horizons.encode();
    this.#ctx.session(async () => {
      let problem: Failure | undefined;
      try {
        await disk.replace(path, bytes);
      } catch (error) {
        if (!(error instanceof KvError)) throw error;
        problem = error.toFailure();
      }
      toSelf('saved', { problem });
    });
  }

  saved({ problem }: { readonly problem: Failure | undefined }): void {
    this.#isSaving = false;
    for (const saver of this.#saving)
      if (problem === undefined) saver.resolve();
      else saver.fail(problem);
    this.#saving = [];
    this.#saveNext();
  }

  /** A member may have purged what this shard would bring back (TS-4). */
  #refuseOldDisk(who: string, purged: readonly number[]): void {
    if (this.#horizons.isFresh) return;
    const own = this.#options.sets.ofNode(this.#ctx.node);
    const behind = own.find((set) => (purged[set] ?? 0) > this.#horizons.agreedOf(set));
    if (behind === undefined) return;
    const { id } = this.#options.sets.sets[behind] ?? { id: '' };
    this.#ctx.stopNode(
      `DATA_REFUSED: the data directory is older than a repair that ${who} relies on (set ${id}): ` +
        'start with an empty data directory; repair fills it',
    );
  }

  peersChanged({ peers }: PeerStates): void {
    this.#peers = peers;
    this.#dropIdle();
    const nowMs = this.#ctx.clock.monotonicMs();
    for (const { node, condition } of peers) {
      if (node === this.#ctx.node || condition !== 'alive') continue;
      if (nowMs < (this.#compared.get(node) ?? 0)) continue;
      this.#compared.set(node, Infinity);
      this.#compareWith(node);
    }
  }

  #compareWith(peer: string): void {
    this.#ctx.ask(refTo(Repairer, peer), 'survey', {}, surveyTimeoutMs, (_, survey) => {
      if (survey === undefined) {
        this.#compared.set(peer, this.#ctx.clock.monotonicMs() + compareAgainMs);
        return;
      }
      const purged = this.#options.sets.sets.map(() => 0);
      for (const { set, purge } of survey.horizons) purged[set] = purge;
      this.#refuseOldDisk(peer, purged);
    });
  }

  // ---- running repairs -----------------------------------------------------------------------

  /** Everyone has a timer; the first of those that are alive does the work. */
  tick(): void {
    const { intervalMs } = this.#options;
    const { random, after, node } = this.#ctx;
    after(intervalMs * (0.9 + random.float() * 0.2), 'tick', {});
    const first = this.#peers.find(({ condition }) => condition !== 'dead');
    if (first?.node !== node || this.#progress?.isRunning === true) return;
    this.#begin({ set: undefined, isFull: false });
  }

  run(request: RepairRequest): RepairReport {
    if (this.#ctx.shard !== 0) throw new KvError('BAD_REQUEST', { detail: 'ask shard 0' });
    const nowMs = this.#ctx.clock.monotonicMs();
    if (this.#progress?.isRunning === true) return this.#progress.report(nowMs);
    return this.#begin(request).report(nowMs);
  }

  status(): { readonly report: RepairReport | undefined } {
    return { report: this.#progress?.report(this.#ctx.clock.monotonicMs()) };
  }

  #begin({ set, sets: some, isFull }: RepairRequest): RepairProgress {
    const { sets, bytesPerSecond, lagMs, shards } = this.#options;
    const { clock, random, log, toSelf, node } = this.#ctx;
    const ids = set === undefined ? some : [set];
    const named = ids === undefined ? undefined : new Set(ids);
    const wanted = [...sets.sets.keys()].filter(
      (i) => named === undefined || named.has(sets.sets[i]?.id ?? ''),
    );
    if (wanted.length === 0)
      throw new KvError('BAD_REQUEST', {
        field: 'set',
        detail: `no such set; one of ${sets.sets.map(({ id }) => id).join(' ')}`,
      });
    this.#runs += 1;
    const at = { wallMs: clock.wallMicros() / 1000, monotonicMs: clock.monotonicMs() };
    const progress = new RepairProgress(this.#runs, at, sets, wanted);
    this.#progress = progress;
    const alive = this.#peers.filter((peer) => peer.condition !== 'dead');
    const shardsOf = new Map(alive.map((peer) => [peer.node, peer.shards]));
    shardsOf.set(node, shards);
    const lagMicros = lagMs * 1000;
    const plan = {
      sets,
      wanted,
      isFull,
      shardsOf,
      lagMicros,
      bytesPerSecond,
      clock,
      random,
      log,
      progress,
    };
    log.info('repair.started', { id: this.#runs, sets: wanted.length, isFull });
    this.#ctx.session(async (session) => {
      await runRepair(session, plan);
      toSelf('ran', { progress });
    });
    return progress;
  }

  ran({ progress }: { readonly progress: RepairProgress }): void {
    const { id, tookMs, sets, ...figures } = progress.report(this.#ctx.clock.monotonicMs());
    const complete = progress.count('complete');
    this.#metrics.ran(complete === sets.length, progress);
    this.#ctx.log.info('repair.done', {
      id,
      tookMs,
      complete,
      sets: sets.length,
      leavesDiffering: figures.leavesDiffering,
      recordsSent: figures.recordsSent,
      bytesSent: figures.bytesSent,
    });
    this.#logIncomplete(sets);
    this.#ctx.probe.reach(complete === sets.length ? 'repair complete' : 'repair incomplete');
  }

  /** A line for each reason: one member that is away concerns hundreds of sets in a large cluster. */
  #logIncomplete(sets: RepairReport['sets']): void {
    const byReason = new Map<string, { count: number; readonly first: RepairReport['sets'][0] }>();
    for (const one of sets) {
      if (one.outcome === 'complete') continue;
      const reason = `${one.outcome} ${one.why}`;
      const group = byReason.get(reason);
      if (group === undefined) byReason.set(reason, { count: 1, first: one });
      else group.count += 1;
    }
    for (const { count, first } of byReason.values())
      this.#ctx.log.warn('repair.incomplete', { ...first, sets: count });
  }
}

export const repairer = actor({
  protocol: Repairer,
  needs: ['disk'],
  create: (ctx: Context<Own, 'disk'>, options: RepairOptions) => new RepairerActor(ctx, options),
});
