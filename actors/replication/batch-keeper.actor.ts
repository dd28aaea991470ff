// Holds the log of atomic batches for their writers, on two nodes each, and completes those whose
// writer did not (BL-2 to BL-4). An entry is a record of a private namespace in the store of shard 0:
// its log makes it durable, and a restart finds it there.
//
//   kept   until the writer says that all replicas that it needs have it, for `afterMs` at most; then
//   replay every record goes to every replica as it is stamped; who cannot be reached gets a hint
//          that is synced; when every copy is on a disk the entry goes
//   old    what is older than hints may be is not written any more, but reported: a tombstone that
//          hides it may be gone
//
// Who forgets a batch leaves a tombstone with a later stamp, so an entry that comes late has no effect.
// A compaction drops it when it is older than what is still completed (storage/purge-rule.ts).

import {
  actor,
  type Call,
  type Context,
  type Later,
  type Ref,
  refTo,
  type Session,
} from '../../runtime/actor.ts';
import { ByteWriter, compareBytes, justAfter, noBytes } from '../../runtime/bytes.ts';
import type { Log } from '../../runtime/environment.ts';
import {
  describeFailure,
  type ErrorCode,
  type Failure,
  KvError,
  toFailure,
} from '../../runtime/errors.ts';
import { fingerprint32 } from '../../runtime/hash.ts';
import type { Counter } from '../../runtime/metrics.ts';
import type { BodyOf, Handlers, Tell } from '../../runtime/protocol.ts';
import { HintKeeper } from '../handoff/protocol.ts';
import type { PeerStates } from '../membership/protocol.ts';
import {
  batchLogNamespace,
  encodeRecord,
  type Etag,
  isLive,
  recordEtag,
  recordIsTombstone,
  recordKey,
  recordToken,
  recordValue,
  storageKey,
  valueTypes,
} from '../model/record.ts';
import type { RecordPage } from '../model/record-pages.ts';
import type { Ring } from '../model/ring.ts';
import { shardOf } from '../model/token.ts';
import { tryAgain } from '../model/try-again.ts';
import type { RangeRequest, Store } from '../storage/protocol.ts';
import { BatchDelivery } from './batch-delivery.ts';
import { byToken, writeTogether } from './batch-write.ts';
import { type BatchEntry, decodeBatchEntry } from './batch-log-format.ts';
import { BatchKeeper, type Replica } from './protocol.ts';
import { ReplicaView } from './replica-view.ts';

export interface BatchKeeperOptions {
  readonly ring: Ring;
  /** Of shard 0. */
  readonly store: Ref<Store>;
  readonly shards: number;
  /** A batch that its writer has not ended by then is completed here, milliseconds. */
  readonly afterMs: number;
  /** Older batches are reported and forgotten, milliseconds. */
  readonly oldMs: number;
}

interface Own {
  /** Entries to watch: one of a writer, or what an earlier run has left. */
  readonly found: Tell<{ readonly waiting: readonly Found[]; readonly isEarlier: boolean }>;
  readonly tick: Tell<object>;
  readonly replayed: Tell<{ readonly name: string; readonly outcome: ReplayOutcome }>;
}

/** An entry that the store holds. */
interface Found {
  readonly etag: Etag;
  readonly bytes: number;
}

/** `gone`: somebody has forgotten it; `again`: some copy is nowhere yet. */
type ReplayOutcome = 'done' | 'old' | 'damaged' | 'gone' | 'again';

interface Waiting extends Found {
  /** Monotonic. */
  dueMs: number;
  isReplaying: boolean;
  /** Some replica may have a record of it from here. */
  hasBegun: boolean;
}

/** What one replay works with. */
interface Replay {
  readonly node: string;
  readonly session: Session;
  readonly key: Uint8Array;
  readonly store: Ref<Store>;
  readonly replicasOf: (token: number) => readonly string[];
  readonly replica: (node: string, token: number) => Ref<Replica>;
  readonly hints: (token: number) => Ref<HintKeeper>;
  readonly isTooOld: (createdMs: number) => boolean;
}

const bytesMax = 256 * 1024 * 1024;
const tickMs = 500;
const againMs = 5_000;
const replaysAtOnce = 4;
const askTimeoutMs = 5_000;
const storeTimeoutMs = 60_000;
const pageRows = 1_024;
const pageBytes = 8 * 1024 * 1024;

const nameOf = ({ hlc, writer, incarnation }: Etag): string => `${hlc}.${writer}.${incarnation}`;

function keyOf({ hlc, writer, incarnation }: Etag): Uint8Array {
  const name = new ByteWriter(16);
  name.u53(hlc);
  name.u32(writer);
  name.u32(incarnation);
  return storageKey(batchLogNamespace, name.copy());
}

/** Cursors of `SCAN` were once kept in this namespace too: they are not named by their stamp. */
const isOfBatch = (record: Uint8Array): boolean =>
  compareBytes(recordKey(record), keyOf(recordEtag(record))) === 0;

/** Without an entry: the mark that it was forgotten, which wins over it. */
function recordOf(etag: Etag, entry: Uint8Array | undefined): Uint8Array {
  const key = keyOf(etag);
  const hash = fingerprint32(key);
  return encodeRecord({
    key,
    value: entry ?? noBytes,
    valueType: valueTypes.bytes,
    isTombstone: entry === undefined,
    hlc: entry === undefined ? etag.hlc + 1 : etag.hlc,
    writer: etag.writer,
    incarnation: etag.incarnation,
    version: entry === undefined ? 2 : 1,
    expiresAt: 0,
    token: hash,
    hash,
  });
}

class BatchKeeperActor implements Handlers<BatchKeeper>, Handlers<Own> {
  readonly #ctx: Context<Own>;
  readonly #options: BatchKeeperOptions;
  readonly #view: ReplicaView;
  readonly #waiting = new Map<string, Waiting>();
  readonly #ended: Readonly<Record<'done' | 'old' | 'damaged', Counter>>;
  #bytes = 0;

  constructor(ctx: Context<Own>, options: BatchKeeperOptions) {
    this.#ctx = ctx;
    this.#options = options;
    this.#view = new ReplicaView(options.ring, { node: ctx.node, shards: options.shards });
    const { metrics } = ctx;
    const help = 'Batches that the log has completed, or given up';
    const counter = (outcome: string): Counter =>
      metrics.counter('kvd_batch_replays_total', help, { outcome });
    this.#ended = { done: counter('done'), old: counter('old'), damaged: counter('damaged') };
    metrics.gauge('kvd_batch_waiting', 'Batches in the log', () => this.#waiting.size);
    metrics.gauge('kvd_batch_waiting_bytes', 'Bytes of the log', () => this.#bytes);
  }

  start(): void {
    this.#ctx.after(tickMs, 'tick', {});
    this.#findEarlier();
  }

  /**
   * What an earlier run has left waits its time again: its writer may still be at it. Nobody waits
   * until all of it is found: whether a batch that is called off is there is read in the store.
   */
  #findEarlier(): void {
    const { store } = this.#options;
    const { toSelf, log } = this.#ctx;
    this.#ctx.session(async (session) => {
      let batches = 0;
      let others = 0;
      let from: Uint8Array | undefined = storageKey(batchLogNamespace, noBytes);
      while (from !== undefined) {
        const page: RecordPage = await pageFrom(session, store, from, log);
        const entries = page.records.filter((record) => !recordIsTombstone(record));
        const own = entries.filter(isOfBatch);
        const waiting = own.map((one) => ({ etag: recordEtag(one), bytes: one.length }));
        if (waiting.length > 0) toSelf('found', { waiting, isEarlier: true });
        batches += own.length;
        others += entries.length - own.length;
        const last = page.records.at(-1);
        from = page.isDone || last === undefined ? undefined : justAfter(recordKey(last));
      }
      if (others > 0) log.warn('batches.others-in-log', { records: others });
      if (batches > 0) log.info('batches.found', { batches });
    });
  }

  /** The earlier run may have begun to complete what it has left. */
  found({ waiting, isEarlier }: BodyOf<Own['found']>): void {
    for (const found of waiting) this.#add(found, isEarlier);
  }

  peersChanged(states: PeerStates): void {
    this.#view.changed(states);
  }

  stats(): { readonly batches: number; readonly bytes: number } {
    return { batches: this.#waiting.size, bytes: this.#bytes };
  }

  // ---- for writers ---------------------------------------------------------------------------

  keep({ entry }: { readonly entry: Uint8Array }, call: Call): Later<object> {
    if (this.#bytes + entry.length > bytesMax)
      throw new KvError('OVERLOADED', { bytes: this.#bytes, max: bytesMax });
    const [first] = decodeFromWire(entry).records;
    const etag = first === undefined ? undefined : recordEtag(first);
    if (etag === undefined) throw new KvError('BAD_REQUEST', { detail: 'a batch without records' });
    const { store } = this.#options;
    const { toSelf, clock } = this.#ctx;
    const record = recordOf(etag, entry);
    const leftMs = call.deadlineMs - clock.monotonicMs();
    return this.#ctx.session(async (session) => {
      // Also one whose answer is lost may be in the store, so it is watched from now on.
      toSelf('found', { waiting: [{ etag, bytes: record.length }], isEarlier: false });
      await session.ask(store, 'apply', { record }, leftMs);
      return {};
    });
  }

  forget({ hlc, writer, incarnation }: Etag, call: Call): Later<object> {
    const etag = { hlc, writer, incarnation };
    const { store } = this.#options;
    const leftMs = call.deadlineMs - this.#ctx.clock.monotonicMs();
    const { toSelf } = this.#ctx;
    return this.#ctx.session(async (session) => {
      await session.ask(store, 'apply', { record: recordOf(etag, undefined) }, leftMs);
      toSelf('replayed', { name: nameOf(etag), outcome: 'gone' });
      return {};
    });
  }

  /** A holder may have begun when the writer's time is long: then the batch cannot be undone. */
  callOff({ hlc, writer, incarnation }: Etag, call: Call): Later<object> {
    const etag = { hlc, writer, incarnation };
    const name = nameOf(etag);
    const one = this.#waiting.get(name);
    const refusal = new KvError('CONFLICT', { detail: 'the batch is being completed' });
    if (one?.hasBegun === true) throw refusal;
    // Nothing begins while the mark is on its way to the disk.
    if (one !== undefined) one.isReplaying = true;
    const { store } = this.#options;
    const { clock, toSelf } = this.#ctx;
    const leftMs = (): number => call.deadlineMs - clock.monotonicMs();
    const key = keyOf(etag);
    return this.#ctx.session(async (session) => {
      let outcome: ReplayOutcome = 'again';
      try {
        const read = { key, hash: fingerprint32(key) };
        const { record } = await session.ask(store, 'read', read, leftMs());
        if (one === undefined && record !== undefined) throw refusal;
        await session.ask(store, 'apply', { record: recordOf(etag, undefined) }, leftMs());
        outcome = 'gone';
        return {};
      } finally {
        toSelf('replayed', { name, outcome });
      }
    });
  }

  #add(found: Found, hasBegun: boolean): void {
    const name = nameOf(found.etag);
    if (this.#waiting.has(name)) return;
    const dueMs = this.#ctx.clock.monotonicMs() + this.#options.afterMs;
    this.#waiting.set(name, { ...found, dueMs, isReplaying: false, hasBegun });
    this.#bytes += found.bytes;
  }

  #drop(name: string): void {
    const found = this.#waiting.get(name);
    if (found === undefined) return;
    this.#waiting.delete(name);
    this.#bytes -= found.bytes;
  }

  // ---- completing ----------------------------------------------------------------------------

  tick(): void {
    const nowMs = this.#ctx.clock.monotonicMs();
    let running = [...this.#waiting.values()].filter((one) => one.isReplaying).length;
    for (const [name, one] of this.#waiting) {
      if (running >= replaysAtOnce) break;
      if (one.isReplaying || one.dueMs > nowMs) continue;
      one.isReplaying = true;
      one.hasBegun = true;
      running += 1;
      this.#replay(name, one);
    }
    this.#ctx.after(tickMs, 'tick', {});
  }

  #replay(name: string, { etag }: Waiting): void {
    const { store, shards, oldMs } = this.#options;
    const { node, clock, log, toSelf } = this.#ctx;
    const view = this.#view;
    this.#ctx.session(async (session) => {
      let outcome: ReplayOutcome = 'again';
      try {
        outcome = await replayBatch({
          session,
          node,
          key: keyOf(etag),
          store,
          replicasOf: (token) => view.replicasOf(token),
          replica: (other, token) => view.replica(other, token),
          hints: (token) => refTo(HintKeeper, node, shardOf(token, shards)),
          isTooOld: (createdMs) => clock.wallMicros() / 1000 - createdMs > oldMs,
        });
        if (outcome !== 'again' && outcome !== 'gone')
          await session.ask(store, 'apply', { record: recordOf(etag, undefined) }, storeTimeoutMs);
      } catch (error) {
        const problem = toFailure(error);
        log.warn('batches.replay-failed', { batch: name, reason: describeFailure(problem) });
        outcome = 'again';
      }
      toSelf('replayed', { name, outcome });
    });
  }

  /** A batch that has ended, here or with its writer, or that has to be tried again. */
  replayed({ name, outcome }: BodyOf<Own['replayed']>): void {
    const one = this.#waiting.get(name);
    if (one === undefined) return;
    if (outcome === 'again') {
      one.isReplaying = false;
      one.dueMs = this.#ctx.clock.monotonicMs() + againMs;
      return;
    }
    if (outcome !== 'gone') {
      if (outcome === 'done') this.#ctx.probe.reach('batch completed by its log');
      this.#ended[outcome].add();
      if (outcome !== 'done') this.#ctx.log.error('batches.given-up', { batch: name, outcome });
    }
    this.#drop(name);
  }
}

/** The next page of the log, however often it has to be asked for. */
function pageFrom(
  session: Session,
  store: Ref<Store>,
  from: Uint8Array,
  log: Log,
): Promise<RecordPage> {
  const to = storageKey(batchLogNamespace + 1, noBytes);
  const range: RangeRequest = { from, to, limit: pageRows, bytes: pageBytes };
  const ask = (): Promise<RecordPage> => session.ask(store, 'range', range, storeTimeoutMs);
  return tryAgain(session, { firstMs: againMs, longestMs: againMs }, ask, (error) => {
    log.warn('batches.search-failed', { reason: describeFailure(toFailure(error)) });
    return true;
  });
}

/** Brings every copy of a batch to its replica, or to a hint that is on disk here. */
async function replayBatch(replay: Replay): Promise<ReplayOutcome> {
  const { session, key, store, isTooOld, replicasOf } = replay;
  const body = { key, hash: fingerprint32(key) };
  const { record } = await session.ask(store, 'read', body, storeTimeoutMs);
  if (record === undefined || !isLive(record, 0)) return 'gone';
  let entry: BatchEntry;
  try {
    entry = decodeBatchEntry(recordValue(record), 'batch log');
  } catch {
    return 'damaged';
  }
  if (isTooOld(entry.createdMs)) return 'old';
  const { records } = entry;
  const delivery = new BatchDelivery(records.map((one) => replicasOf(recordToken(one))));
  for (const [token, places] of byToken(records))
    await deliver(replay, delivery, { token, places, records });
  return delivery.isSettled ? 'done' : 'again';
}

/** The records of one token, to each replica together, as their writer does it. */
async function deliver(
  { session, node: self, replica, hints }: Replay,
  delivery: BatchDelivery,
  {
    token,
    places,
    records,
  }: {
    readonly token: number;
    readonly places: readonly number[];
    readonly records: readonly Uint8Array[];
  },
): Promise<void> {
  const [first = 0] = places;
  const together = places.map((i) => records[i] as Uint8Array);
  await Promise.all(
    delivery.openOf(first).map(async (node) => {
      const to = replica(node, token);
      const problem = await writeTogether(session, to, together, () => askTimeoutMs);
      // Its namespace was dropped, say: nobody will ever take it.
      if (problem === undefined || isHopeless(problem)) {
        for (const i of places) delivery.delivered(i, node);
        return;
      }
      // Nobody brings a node its own hints: the entry stays.
      if (node === self) return;
      const keep = (record: Uint8Array): Promise<object> =>
        session.ask(hints(token), 'keepSynced', { node, record }, askTimeoutMs);
      await Promise.all(together.map(keep))
        .then(() => {
          for (const i of places) delivery.hintSynced(i, node);
        })
        .catch((error: unknown) => {
          // Then the entry stays, and it is tried again.
          if (!(error instanceof KvError)) throw error;
        });
    }),
  );
}

/** Nobody will ever take it; a shard that is not the key's says WRONG_SHARD, which a later try mends. */
const hopeless: readonly ErrorCode[] = ['BAD_REQUEST', 'TOO_LARGE', 'NO_SUCH_NAMESPACE'];
const isHopeless = ({ code }: Failure): boolean => hopeless.includes(code);

function decodeFromWire(entry: Uint8Array): BatchEntry {
  try {
    return decodeBatchEntry(entry, 'message');
  } catch (error) {
    throw new KvError('BAD_REQUEST', { detail: toFailure(error).code });
  }
}

export const batchKeeper = actor({
  protocol: BatchKeeper,
  create: (ctx: Context<Own>, options: BatchKeeperOptions) => new BatchKeeperActor(ctx, options),
});
