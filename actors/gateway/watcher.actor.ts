// Tells clients what changes: each node keeps a feed of what its stores take in, and the node that a
// client is connected to reads the feeds of all nodes and makes one stream of them. Nothing of this
// costs anything while nobody watches: a store tells of its records only after it was asked to, and
// until ten minutes after the last question.
//
// What is promised is in watch-positions.ts and docs/http.md: every change that is acknowledged at a
// quorum, or a newer one of its key, comes at least once, in the order of each key; or `reset`.

import {
  actor,
  type Call,
  type Context,
  type Deferred,
  type Later,
  type Ref,
  refTo,
} from '../../runtime/actor.ts';
import { noBytes, startsWith } from '../../runtime/bytes.ts';
import { errorOf, type Failure, failure, KvError } from '../../runtime/errors.ts';
import type { BodyOf, Handlers, ReplyOf, Tell } from '../../runtime/protocol.ts';
import type { CatalogBytes } from '../catalog/protocol.ts';
import { DroppedKeys } from '../model/dropped-keys.ts';
import { noSuchNamespace } from '../model/namespaces.ts';
import { recordKey, storageKey } from '../model/record.ts';
import type { Ring } from '../model/ring.ts';
import { Users } from '../model/users.ts';
import type { Store } from '../storage/protocol.ts';
import { refusalToReadOn, wrongCredentials } from './access.ts';
import { ChangeFeed } from './change-feed.ts';
import {
  type ChangesReply,
  type ChangesRequest,
  Watcher,
  type WatchReader,
  type WatchRequest,
} from './protocol.ts';
import { endEvent } from './watch-events.ts';
import { WatchStream } from './watch-stream.ts';

export interface WatcherOptions {
  readonly ring: Ring;
  /** Stores of this node by shard. */
  readonly stores: readonly Ref<Store>[];
  /** What the feed of this node may hold. */
  readonly bufferBytes: number;
  /** At the same time; of one user half of them. */
  readonly watchesMax: number;
}

type Changes = ReplyOf<Watcher['changes']>;
type Events = ReplyOf<Watcher['next']>;

interface Own {
  readonly tick: Tell<object>;
}

/** Somebody waits for a change. */
interface Parked {
  readonly request: ChangesRequest;
  readonly untilMs: number;
  readonly later: Deferred<Changes>;
}

interface OpenWatch {
  readonly id: number;
  readonly namespace: number;
  /** Undefined: everybody may read. */
  readonly reader: WatchReader | undefined;
  readonly stream: WatchStream;
  /** Until when a node is not asked: for ever while its answer is awaited, a while if it failed. */
  readonly asked: Map<string, number>;
  /** Answers to questions of an earlier beginning do not count any more. */
  generation: number;
  /** `lost`: too few feeds were found; another attempt is made at `retryMs`. */
  state: 'finding' | 'reading' | 'lost';
  retryMs: number;
  waiting: { readonly later: Deferred<Events>; readonly untilMs: number } | undefined;
  usedMs: number;
}

const tickMs = 250;
const waitMs = 1000;
const askMarginMs = 2000;
const findTimeoutMs = 1500;
const storeTimeoutMs = 5000;
const retryMs = 500;
const changesBytes = 128 * 1024;
const parkedMax = 4096;
/** A watch that nobody reads for so long has ended. */
const watchIdleMs = 30_000;
const feedIdleMs = 600_000;
const waitMsMax = 30_000;
const noEvents: Events = { bytes: new Uint8Array(0), isLast: true };

class WatcherActor implements Handlers<Watcher>, Handlers<Own> {
  readonly #ctx: Context<Own>;
  readonly #options: WatcherOptions;
  readonly #watches = new Map<number, OpenWatch>();
  readonly #dropped = new DroppedKeys();
  #feed: ChangeFeed | undefined;
  /** Number of the last record of each store that came; undefined: it does not tell yet. */
  #sequences: (number | undefined)[] = [];
  #whenFed: ((feed: ChangeFeed | undefined, problem: Failure | undefined) => void)[] = [];
  #parked: Parked[] = [];
  #nextWatch = 1;
  #askedMs = 0;
  /** Of watches that may not go on and whose client was busy: told when it asks. */
  readonly #lastWords = new Map<number, { readonly events: Events; readonly untilMs: number }>();
  #isTicking = false;
  #isDraining = false;

  constructor(ctx: Context<Own>, options: WatcherOptions) {
    this.#ctx = ctx;
    this.#options = options;
    const { metrics } = ctx;
    metrics.gauge('kvd_watch_open', 'Open watches of clients', () => this.#watches.size);
    metrics.gauge('kvd_watch_feed_bytes', 'Changes kept for watches', () => this.#feed?.bytes ?? 0);
  }

  // ---- the feed of this node -----------------------------------------------------------------

  committed({ shard, sequence, records }: BodyOf<Watcher['committed']>): void {
    const last = this.#sequences[shard];
    if (last === undefined || sequence <= last) return;
    this.#sequences[shard] = sequence;
    // Some were dropped on their way: whoever reads this feed has to know.
    if (this.#feed === undefined) return;
    if (last + records.length !== sequence) this.#feed = this.#newFeed();
    for (const record of records) this.#feed.add(record);
    this.#answerParked(records);
  }

  changes(request: ChangesRequest, call: Call): Later<Changes> {
    const later = this.#ctx.later<Changes>();
    this.#withFeed((feed, problem) => {
      if (feed === undefined) return later.fail(problem ?? failure('BUG'));
      const now = this.#ctx.clock.monotonicMs();
      const reply = feed.read(request, changesBytes);
      const isQuiet = reply.records.length === 0 && reply.isHead && !reply.isGap;
      const untilMs = Math.min(now + request.waitMs, call.deadlineMs - 100);
      if (!isQuiet || untilMs <= now || this.#parked.length >= parkedMax)
        return later.resolve(reply);
      // Nothing of what lies between is wanted: it waits behind it.
      this.#parked.push({ request: { ...request, after: reply.next }, untilMs, later });
      this.#startTicking();
    });
    return later;
  }

  #withFeed(run: (feed: ChangeFeed | undefined, problem: Failure | undefined) => void): void {
    this.#askedMs = this.#ctx.clock.monotonicMs();
    if (this.#feed !== undefined) return run(this.#feed, undefined);
    this.#whenFed.push(run);
    if (this.#whenFed.length > 1) return;
    const { stores } = this.#options;
    let open = stores.length;
    let problem: Failure | undefined;
    for (const [shard, store] of stores.entries())
      this.#ctx.ask(store, 'feed', { isOn: true }, storeTimeoutMs, (failed, reply) => {
        problem ??= failed;
        if (reply !== undefined) this.#sequences[shard] = reply.sequence;
        open -= 1;
        if (open === 0) this.#fed(problem);
      });
  }

  /** Every store tells, or one does not answer. */
  #fed(problem: Failure | undefined): void {
    if (problem === undefined) this.#feed = this.#newFeed();
    const waiting = this.#whenFed;
    this.#whenFed = [];
    for (const run of waiting) run(this.#feed, problem);
    this.#startTicking();
  }

  #newFeed(): ChangeFeed {
    const epoch = `${this.#ctx.random.int(2 ** 31).toString(36)}-${this.#ctx.random.int(2 ** 31).toString(36)}`;
    return new ChangeFeed(epoch, this.#options.bufferBytes, recordKey);
  }

  #answerParked(records: readonly Uint8Array[]): void {
    if (this.#parked.length === 0) return;
    const keys = records.map(recordKey);
    this.#parked = this.#parked.filter(({ request, later }) => {
      if (!keys.some((key) => startsWith(key, request.prefix))) return true;
      this.#answer(request, later);
      return false;
    });
  }

  #answer(request: ChangesRequest, later: Deferred<Changes>): void {
    if (this.#feed === undefined) later.fail(failure('UNAVAILABLE', { detail: 'the feed ended' }));
    else later.resolve(this.#feed.read(request, changesBytes));
  }

  // ---- watches of clients --------------------------------------------------------------------

  open(request: WatchRequest): Later<{ readonly watch: number }> {
    if (this.#isDraining) throw new KvError('DRAINING', { node: this.#ctx.node });
    const { ring } = this.#options;
    const { namespace, prefix, withValues, lastEventId, reader } = request;
    this.#refuseTooMany(reader);
    const refusal = this.#refusalOf({ namespace, reader }, new Users(this.#dropped.document));
    if (refusal !== undefined) throw errorOf(refusal);
    const stream = new WatchStream({
      ring,
      prefix: storageKey(namespace, prefix),
      withValues,
    });
    if (lastEventId !== '') stream.resume(lastEventId, this.#ctx.clock.monotonicMs());
    const watch: OpenWatch = {
      id: this.#nextWatch++,
      namespace,
      reader,
      stream,
      asked: new Map(),
      generation: 0,
      state: lastEventId === '' ? 'finding' : 'reading',
      retryMs: 0,
      waiting: undefined,
      usedMs: this.#ctx.clock.monotonicMs(),
    };
    this.#watches.set(watch.id, watch);
    this.#startTicking();
    const later = this.#ctx.later<{ readonly watch: number }>();
    if (watch.state === 'reading') later.resolve({ watch: watch.id });
    else
      this.#find(watch, undefined, (isFound) => {
        if (isFound) return later.resolve({ watch: watch.id });
        this.#watches.delete(watch.id);
        later.fail(failure('UNAVAILABLE', { detail: 'too few nodes answer to watch them' }));
      });
    return later;
  }

  next(
    { watch: id, waitMs: longest }: BodyOf<Watcher['next']>,
    call: Call,
  ): Later<Events> | Events {
    const watch = this.#watches.get(id);
    if (watch === undefined) return this.#lastOf(id);
    if (watch.waiting !== undefined) return noEvents;
    const now = this.#ctx.clock.monotonicMs();
    watch.usedMs = now;
    if (watch.stream.hasNews) {
      const bytes = watch.stream.drain();
      this.#readFeeds(watch);
      return { bytes, isLast: false };
    }
    const later = this.#ctx.later<Events>();
    const untilMs = Math.min(now + Math.min(longest, waitMsMax), call.deadlineMs - 100);
    watch.waiting = { later, untilMs };
    this.#readFeeds(watch);
    return later;
  }

  close({ watch: id }: { readonly watch: number }): void {
    this.#lastWords.delete(id);
    const watch = this.#watches.get(id);
    if (watch !== undefined) this.#end(watch);
  }

  namespacesChanged(known: CatalogBytes): object {
    if (!this.#dropped.changed(known)) return {};
    const users = new Users(this.#dropped.document);
    for (const watch of [...this.#watches.values()]) {
      const refusal = this.#refusalOf(watch, users);
      if (refusal !== undefined) this.#end(watch, refusal);
    }
    return {};
  }

  /** Why somebody may not watch. Who was let in by newer users than are known here is believed. */
  #refusalOf(
    { namespace, reader }: Pick<OpenWatch, 'namespace' | 'reader'>,
    users: Users,
  ): Failure | undefined {
    if (reader !== undefined && reader.epoch < users.epoch) {
      const refusal = refusalToReadOn(users, reader, namespace);
      if (refusal !== undefined) return refusal;
    }
    return this.#dropped.has(storageKey(namespace, noBytes))
      ? noSuchNamespace(namespace).toFailure()
      : undefined;
  }

  #lastOf(id: number): Events {
    const { events = noEvents } = this.#lastWords.get(id) ?? {};
    this.#lastWords.delete(id);
    return events;
  }

  /** A user may take half: one of them alone shall not keep the others from watching. */
  #refuseTooMany(reader: WatchReader | undefined): void {
    const { watchesMax } = this.#options;
    const open = [...this.#watches.values()];
    const share = Math.ceil(watchesMax / 2);
    if (open.length >= watchesMax)
      throw new KvError('OVERLOADED', { detail: `this node has ${watchesMax} open watches` });
    const isOwn = (watch: OpenWatch): boolean => watch.reader?.user === reader?.user;
    if (reader !== undefined && open.filter(isOwn).length >= share)
      throw new KvError('OVERLOADED', {
        detail: `this user has ${share} open watches at this node`,
      });
  }

  /** Ends all watches: their clients go on elsewhere. */
  drain(): void {
    this.#isDraining = true;
    for (const watch of this.#watches.values()) this.#end(watch);
  }

  /** `problem`: it may not go on, and its client hears why. Nothing else is told any more. */
  #end(watch: OpenWatch, problem?: Failure): void {
    const { id, waiting, reader } = watch;
    this.#watches.delete(id);
    watch.waiting = undefined;
    if (problem === undefined) return waiting?.later.resolve(noEvents);
    this.#ctx.log.info('watch.ended', { watch: id, user: reader?.user ?? '', code: problem.code });
    const events = { bytes: endEvent(problem), isLast: true };
    if (waiting !== undefined) return waiting.later.resolve(events);
    this.#lastWords.set(id, { events, untilMs: this.#ctx.clock.monotonicMs() + watchIdleMs });
  }

  /** Finds the ends of all feeds, and begins when enough of them are found. */
  #find(watch: OpenWatch, reason: string | undefined, done: (isFound: boolean) => void): void {
    const { stream } = watch;
    watch.state = 'finding';
    watch.generation += 1;
    watch.asked.clear();
    const { generation } = watch;
    let open = stream.nodes.length;
    for (const node of stream.nodes)
      this.#ask(node, { epoch: '', after: 0 }, watch, 0, (reply) => {
        if (watch.generation !== generation) return;
        if (reply !== undefined) stream.found(node, reply, this.#ctx.clock.monotonicMs());
        open -= 1;
        if (open > 0) return;
        if (stream.isEstablished) {
          watch.state = 'reading';
          stream.begin(reason);
          this.#tell(watch);
          this.#readFeeds(watch);
        }
        done(watch.state === 'reading');
      });
  }

  #ask(
    node: string,
    from: Pick<ChangesRequest, 'epoch' | 'after'>,
    { stream }: OpenWatch,
    longest: number,
    done: (reply: ChangesReply | undefined) => void,
  ): void {
    const { epoch, after } = from;
    const request = { epoch, after, prefix: stream.prefix, waitMs: longest };
    const timeoutMs = longest === 0 ? findTimeoutMs : longest + askMarginMs;
    this.#ctx.ask(refTo(Watcher, node), 'changes', request, timeoutMs, (_problem, reply) =>
      done(reply),
    );
  }

  /** Asks every feed that is not being asked, while there is room for what comes. */
  #readFeeds(watch: OpenWatch): void {
    const { stream, asked, generation } = watch;
    if (watch.state !== 'reading' || stream.isFull || !this.#watches.has(watch.id)) return;
    const now = this.#ctx.clock.monotonicMs();
    for (const node of stream.nodes) {
      if ((asked.get(node) ?? 0) > now) continue;
      asked.set(node, Infinity);
      this.#ask(node, stream.position(node), watch, waitMs, (reply) => {
        if (watch.generation !== generation) return;
        asked.set(node, reply === undefined ? this.#ctx.clock.monotonicMs() + retryMs : 0);
        if (reply !== undefined) this.#took(watch, node, reply);
      });
    }
  }

  #took(watch: OpenWatch, node: string, reply: ChangesReply): void {
    const monotonicMs = this.#ctx.clock.monotonicMs();
    if (watch.stream.take(node, reply, { wallMs: this.#nowMs(), monotonicMs })) {
      this.#tell(watch);
      return this.#readFeeds(watch);
    }
    this.#ctx.log.info('watch.reset', { watch: watch.id, node });
    this.#restart(watch);
  }

  #restart(watch: OpenWatch): void {
    watch.stream.restart();
    this.#find(watch, 'changes may be missing: list the keys again', (isFound) => {
      if (isFound) return;
      watch.state = 'lost';
      watch.retryMs = this.#ctx.clock.monotonicMs() + retryMs;
    });
  }

  #tell(watch: OpenWatch): void {
    const { waiting, stream } = watch;
    if (waiting === undefined || !stream.hasNews) return;
    watch.waiting = undefined;
    waiting.later.resolve({ bytes: stream.drain(), isLast: false });
  }

  #nowMs(): number {
    return Math.floor(this.#ctx.clock.wallMicros() / 1000);
  }

  // ---- time ----------------------------------------------------------------------------------

  #startTicking(): void {
    if (this.#isTicking) return;
    this.#isTicking = true;
    this.#ctx.after(tickMs, 'tick', {});
  }

  tick(): void {
    this.#isTicking = false;
    const now = this.#ctx.clock.monotonicMs();
    this.#parked = this.#parked.filter(({ request, untilMs, later }) => {
      if (untilMs > now) return true;
      this.#answer(request, later);
      return false;
    });
    for (const watch of [...this.#watches.values()]) this.#tend(watch, now);
    for (const [id, { untilMs }] of this.#lastWords) if (untilMs <= now) this.#lastWords.delete(id);
    if (now - this.#askedMs > feedIdleMs) this.#stopFeed();
    if (
      this.#watches.size + this.#lastWords.size > 0 ||
      this.#parked.length > 0 ||
      this.#feed !== undefined
    )
      this.#startTicking();
  }

  #tend(watch: OpenWatch, now: number): void {
    const { stream, waiting, reader } = watch;
    const expiresMs = reader?.expiresMs ?? 0;
    if (expiresMs !== 0 && expiresMs <= this.#nowMs()) return this.#end(watch, wrongCredentials);
    if (waiting === undefined && now - watch.usedMs > watchIdleMs) return this.#end(watch);
    stream.expire(this.#nowMs());
    this.#tell(watch);
    if (watch.state === 'lost' && watch.retryMs <= now) this.#restart(watch);
    this.#readFeeds(watch);
    if (watch.waiting !== undefined && watch.waiting.untilMs <= now) {
      watch.waiting.later.resolve({ bytes: stream.drain(), isLast: false });
      watch.waiting = undefined;
    }
  }

  /** Nobody watches any more: the stores need not tell. */
  #stopFeed(): void {
    this.#feed = undefined;
    this.#sequences = [];
    for (const store of this.#options.stores)
      this.#ctx.ask(store, 'feed', { isOn: false }, storeTimeoutMs, () => undefined);
  }
}

export const watcher = actor({
  protocol: Watcher,
  create: (ctx: Context<Own>, options: WatcherOptions) => new WatcherActor(ctx, options),
});
