// Keeps the sibling sets of one shard: joins what comes from other replicas with what is here, and
// adds the writes that this replica counts (DV-1 to DV-5). A change reads the stored set, joins and
// stores the result, which is why a key is changed by one at a time. A write goes to other replicas
// only when it is durable here: so whatever another replica knows of our counting, we know too.
//
// A store whose answer was lost may have stored the set or not. What follows on that key contains
// it (`#doubts`), so that the log never holds two sets of which neither contains the other.

import {
  actor,
  type Call,
  type Context,
  type Deferred,
  type Later,
  type Ref,
} from '../../runtime/actor.ts';
import { latin1 } from '../../runtime/bytes.ts';
import { errorTable, type Failure, failure, KvError } from '../../runtime/errors.ts';
import type { BodyOf, Handlers, Tell } from '../../runtime/protocol.ts';
import { isLive, recordHash, recordHlc, recordIsSet, recordKey } from '../model/record.ts';
import {
  addEvent,
  type Clock,
  type ClockEntry,
  counterOf,
  decodeContext,
  joinRecords,
  liveSiblings,
  recordOfSet,
  setOf,
  type SiblingActor,
  type SiblingContent,
  siblingsMax,
} from '../model/siblings.ts';
import type { Store } from '../storage/protocol.ts';
import { KeyTurns } from './key-turns.ts';
import { type SiblingEvent, type SiblingEventReply, SiblingKeeper } from './protocol.ts';
import { storedEpoch, storeEpoch } from './sibling-epoch.ts';
import { withoutEffect } from './write-path.ts';

export interface SiblingKeeperOptions {
  readonly store: Ref<Store>;
  /** fingerprint32 of this node's id. */
  readonly writer: number;
  /** File of the epoch, in the data directory. */
  readonly epochPath: string;
  /** Acknowledged writes survive every crash: only then an epoch goes on at the next start. */
  readonly isStateKept: boolean;
}

interface Own {
  readonly renewed: Tell<{ readonly epoch: number }>;
  readonly notRenewed: Tell<Failure>;
}

interface Change {
  readonly key: Uint8Array;
  readonly hash: number;
  readonly deadlineMs: number;
  /** The set to be stored, or what is there where nothing changes. A KvError refuses. */
  readonly next: (base: Uint8Array | undefined) => Uint8Array;
  readonly done: (problem: Failure | undefined, stored: Stored | undefined) => void;
}

interface Stored {
  readonly record: Uint8Array;
  readonly lsn: number;
}

/** A key's turn lasts until the store has answered, also when its caller gave up. */
const storeTimeoutMs = 60_000;
/** Keys whose last store is in doubt; with more than that the disk is not usable. */
const doubtsMax = 4_096;

class SiblingKeeperActor implements Handlers<SiblingKeeper>, Handlers<Own> {
  readonly #ctx: Context<Own, 'disk'>;
  readonly #options: SiblingKeeperOptions;
  readonly #turns = new KeyTurns();
  readonly #doubts = new Map<string, Uint8Array>();
  /** Actors of this node from here on are ours; undefined: it is not chosen or not durable yet. */
  #epoch: number | undefined;
  /** Of the last run, or the newest that was tried. */
  #lastEpoch = 0;
  #isRenewing = false;
  /** Events that wait for the epoch. */
  #waiting: ((problem: Failure | undefined) => void)[] = [];

  constructor(ctx: Context<Own, 'disk'>, options: SiblingKeeperOptions) {
    this.#ctx = ctx;
    this.#options = options;
    const labels = { shard: String(ctx.shard) };
    const help = 'Keys whose sibling set is being changed';
    ctx.metrics.gauge('kvd_siblings_keys_in_change', help, () => this.#turns.taken, labels);
  }

  start(): void {
    const { epochPath, isStateKept } = this.#options;
    const stored = storedEpoch(this.#ctx.disk, epochPath);
    this.#lastEpoch = stored?.epoch ?? 0;
    if (stored?.isKept === true && isStateKept) this.#epoch = stored.epoch;
  }

  merge({ record }: BodyOf<SiblingKeeper['merge']>, call: Call): Later<{ readonly lsn: number }> {
    if (!recordIsSet(record))
      throw new KvError('BAD_REQUEST', { detail: 'expected a sibling set' });
    const incoming = setOf(record);
    const later = this.#ctx.later<{ readonly lsn: number }>();
    this.#change({
      key: recordKey(record),
      hash: recordHash(record),
      deadlineMs: call.deadlineMs,
      next: (base) => {
        if (this.#isBehind(base, incoming.clock)) this.#giveUp(incoming.clock);
        return base === undefined ? record : joinRecords(base, record);
      },
      done: (problem, stored) => {
        if (stored === undefined) later.fail(problem ?? failure('BUG'));
        else later.resolve({ lsn: stored.lsn });
      },
    });
    return later;
  }

  event(event: BodyOf<SiblingKeeper['event']>, { deadlineMs }: Call): Later<SiblingEventReply> {
    const context = decodeContext(event.context, event.hash);
    const later = this.#ctx.later<SiblingEventReply>();
    const run = (): void => {
      let existed = false;
      this.#change({
        key: event.key,
        hash: event.hash,
        deadlineMs,
        next: (base) => {
          existed = base !== undefined && isLive(base, this.#nowMs());
          return this.#withEvent(base, event, context);
        },
        done: (problem, stored) => this.#answer(later, problem, stored, existed),
      });
    };
    if (this.#epoch !== undefined) run();
    else {
      this.#waiting.push((problem) => {
        if (problem === undefined) run();
        else later.fail(problem);
      });
      this.#renew(event.stamp);
    }
    return later;
  }

  #answer(
    later: Deferred<SiblingEventReply>,
    problem: Failure | undefined,
    stored: Stored | undefined,
    existed: boolean,
  ): void {
    if (stored === undefined) later.fail(problem ?? failure('BUG'));
    else later.resolve({ record: stored.record, existed });
  }

  #withEvent(
    base: Uint8Array | undefined,
    event: SiblingEvent & { readonly aboveHlc: number },
    context: Clock,
  ): Uint8Array {
    const set = setOf(base);
    const floor = Math.max(event.aboveHlc, base === undefined ? 0 : recordHlc(base));
    const hlc = Math.max(event.stamp, floor + 1);
    const next = addEvent(
      set,
      this.#actorFor(set.clock, context, event.stamp),
      context,
      this.#contentOf(event, hlc),
    );
    const live = liveSiblings(next, this.#nowMs()).length;
    if (event.value !== undefined && context.length === 0 && live > siblingsMax)
      throw new KvError('CONFLICT', {
        siblings: live - 1,
        max: siblingsMax,
        detail: 'too many values stand beside each other: read the key and write with its context',
      });
    if (live > 1) this.#ctx.probe.reach('siblings side by side');
    return recordOfSet(event, next, hlc);
  }

  #contentOf({ value, valueType, ttlMs }: SiblingEvent, hlc: number): SiblingContent | undefined {
    if (value === undefined) return undefined;
    return { hlc, expiresAt: ttlMs === 0 ? 0 : this.#nowMs() + ttlMs, valueType, value };
  }

  // ---- one change of a key -------------------------------------------------------------------

  #change(change: Change): void {
    this.#turns.take(change.key, (release) => {
      const finish: Change['done'] = (problem, stored) => {
        release();
        change.done(problem, stored);
      };
      const body = { key: change.key, hash: change.hash };
      const leftMs = change.deadlineMs - this.#ctx.clock.monotonicMs();
      if (leftMs <= 0)
        return finish(failure('UNAVAILABLE', { detail: 'no time was left' }), undefined);
      this.#ctx.ask(this.#options.store, 'read', body, leftMs, (problem, reply) => {
        if (reply === undefined) finish(withoutEffect(problem ?? failure('BUG')), undefined);
        else this.#storeNext(change, reply.record, finish);
      });
    });
  }

  #storeNext(change: Change, read: Uint8Array | undefined, finish: Change['done']): void {
    const name = latin1(change.key);
    const doubt = this.#doubts.get(name);
    const base =
      read === undefined || doubt === undefined ? (read ?? doubt) : joinRecords(read, doubt);
    if (base === read) this.#doubts.delete(name);
    let record: Uint8Array;
    try {
      if (doubt === undefined && this.#doubts.size >= doubtsMax)
        throw new KvError('DISK_FAILED', { detail: 'the store does not answer' });
      record = change.next(base);
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      return finish(error.toFailure(), undefined);
    }
    if (record === read) return finish(undefined, { record, lsn: 0 });
    this.#ctx.ask(this.#options.store, 'apply', { record }, storeTimeoutMs, (problem, reply) => {
      if (reply !== undefined) this.#doubts.delete(name);
      else if (problem === undefined || errorTable[problem.code].effect !== 'none')
        this.#doubts.set(name, record);
      finish(problem, reply === undefined ? undefined : { record, lsn: reply.lsn });
    });
  }

  // ---- epochs --------------------------------------------------------------------------------

  #isOurs({ writer, epoch }: ClockEntry, from: number): boolean {
    return writer === this.#options.writer && epoch >= from;
  }

  /** Somebody knows more of our writes than we do. */
  #isBehind(base: Uint8Array | undefined, clock: Clock): boolean {
    const from = this.#epoch;
    if (from === undefined) return false;
    const known = setOf(base).clock;
    return clock.some(
      (entry) => this.#isOurs(entry, from) && entry.counter > counterOf(known, entry),
    );
  }

  /**
   * Who counts the next write of a key. We go on as the actor that we have been, unless the key is
   * new here, or was purged, or the writer has seen more of our writes than is left: dots of then
   * may be in the contexts of readers, and must not come again (DV-3).
   */
  #actorFor(known: Clock, context: Clock, stamp: number): SiblingActor {
    const { writer } = this.#options;
    const from = this.#epoch;
    if (from === undefined)
      throw new KvError('UNAVAILABLE', { detail: 'this replica has lost writes; try again' });
    const own = known.filter((entry) => this.#isOurs(entry, from)).at(-1);
    const isGone = context.some(
      (entry) => this.#isOurs(entry, from) && entry.counter > counterOf(known, entry),
    );
    if (own !== undefined && !isGone) return own;
    return { writer, epoch: Math.max(stamp, from) };
  }

  /** From now on we are none of the actors that we have been. */
  #giveUp(clock: Clock): void {
    this.#ctx.probe.reach('sibling epoch given up');
    this.#ctx.log.warn('siblings.epoch-given-up', { epoch: this.#epoch ?? 0 });
    this.#epoch = undefined;
    const own = clock.filter((entry) => this.#isOurs(entry, 0)).map(({ epoch }) => epoch);
    this.#lastEpoch = Math.max(this.#lastEpoch, ...own);
  }

  /** `stamp`: of the event that needs it. Stamps grow, so no actor of before is as new. */
  #renew(stamp: number): void {
    if (this.#isRenewing) return;
    this.#isRenewing = true;
    const { disk, toSelf } = this.#ctx;
    const { epochPath, isStateKept: isKept } = this.#options;
    const epoch = Math.max(this.#lastEpoch + 1, stamp);
    this.#lastEpoch = epoch;
    this.#ctx.session(async () => {
      try {
        await storeEpoch(disk, epochPath, { epoch, isKept });
        toSelf('renewed', { epoch });
      } catch (error) {
        if (!(error instanceof KvError)) throw error;
        toSelf('notRenewed', error.toFailure());
      }
    });
  }

  renewed({ epoch }: { readonly epoch: number }): void {
    this.#epoch = epoch;
    this.#resume(undefined);
  }

  /** The disk may be full: sets are joined all the same, and the next event tries again. */
  notRenewed(problem: Failure): void {
    this.#ctx.log.warn('siblings.epoch-not-stored', { code: problem.code });
    this.#resume(withoutEffect(problem));
  }

  #resume(problem: Failure | undefined): void {
    this.#isRenewing = false;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const run of waiting) run(problem);
  }

  #nowMs(): number {
    return Math.floor(this.#ctx.clock.wallMicros() / 1000);
  }
}

export const siblingKeeper = actor({
  protocol: SiblingKeeper,
  needs: ['disk'],
  create: (ctx: Context<Own, 'disk'>, options: SiblingKeeperOptions) =>
    new SiblingKeeperActor(ctx, options),
});
