// Concurrent reads of a hot key share reads of its replicas (docs/decisions/0025). Pure: requests and
// outcomes in, reads to start out.
//
//   a read of the key comes, and none is in flight ---> it starts, alone
//   others come meanwhile -----------------------------> they wait, together
//   the one in flight ends, or takes too long ---------> one read starts for all that wait
//
// Invariant: a read is answered only by one that started after it had come. One that was under way
// already may have asked a replica before a write was acknowledged which the newcomer has to see.
//
// What makes a key hot is counted in a table without keys: reads in flight by some bits of their
// hash. A cold key that shares its place with a hot one is joined too, which is as right. So a key
// that is read now and then costs two additions and no memory.

import { equalBytes } from '../../runtime/bytes.ts';
import { type Failure, failure } from '../../runtime/errors.ts';
import { type Listed, OpenList } from '../../runtime/open-list.ts';
import type { Level } from '../model/consistency.ts';
import type { KeyHashes } from '../model/token.ts';
import type { ReadReply } from './protocol.ts';

/** Who gets the outcome of a read. */
export interface Answers {
  readonly resolve: (reply: ReadReply) => void;
  readonly fail: (problem: Failure) => void;
}

/** What reads have in common that may be answered by one. */
export interface ReadTarget {
  /** Storage key. */
  readonly key: Uint8Array;
  readonly hashes: KeyHashes;
  readonly level: Level;
}

export interface Waiter {
  readonly answers: Answers;
  /** Replicas that its level needs. */
  readonly required: number;
  /** Monotonic: it has its answer by then, whatever becomes of the others. */
  readonly deadlineMs: number;
}

export interface JoinedReadsOptions {
  /** A key with so many reads in flight is hot; 0: every key is. */
  readonly above: number;
  /** Starts a read of the replicas, which settles `read`, perhaps before this returns. */
  readonly start: (read: SharedRead) => void;
}

interface Hears {
  /** So many waiters have their answer. */
  readonly answered: (count: number) => void;
  readonly ended: (read: SharedRead) => void;
}

/** One read of the replicas, for all that wait for it. */
export class SharedRead implements Answers, Listed {
  place = -1;
  readonly target: ReadTarget;
  readonly #hears: Hears;
  #waiters: Waiter[] = [];
  /** Monotonic; undefined: it waits for another one to end. */
  startedMs: number | undefined;
  /** Replicas that have answered. */
  received: () => number = () => 0;

  constructor(target: ReadTarget, hears: Hears) {
    this.target = target;
    this.#hears = hears;
  }

  get waiters(): readonly Waiter[] {
    return this.#waiters;
  }

  /** The most patient of its waiters gives up then. */
  get deadlineMs(): number {
    return this.#waiters.reduce((latest, { deadlineMs }) => Math.max(latest, deadlineMs), 0);
  }

  add(waiter: Waiter): void {
    this.#waiters.push(waiter);
  }

  readonly resolve = (reply: ReadReply): void => {
    this.#end(({ answers }) => answers.resolve(reply));
  };

  readonly fail = (problem: Failure): void => {
    this.#end(({ answers }) => answers.fail(problem));
  };

  /** Those whose time is over get their TIMEOUT. */
  expire(nowMs: number): void {
    const over = this.#waiters.filter(({ deadlineMs }) => deadlineMs <= nowMs);
    if (over.length === 0) return;
    this.#waiters = this.#waiters.filter(({ deadlineMs }) => deadlineMs > nowMs);
    for (const { answers, required } of over)
      answers.fail(failure('TIMEOUT', { required, received: this.received() }));
    this.#hears.answered(over.length);
  }

  #end(settle: (waiter: Waiter) => void): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    waiters.forEach(settle);
    this.#hears.answered(waiters.length);
    this.#hears.ended(this);
  }
}

/** Reads of the same target. */
interface Group {
  /** In flight; the youngest where there are several. */
  running: SharedRead;
  /** What has come since it started. */
  next: SharedRead | undefined;
}

/** Places of the table: 4,096 in 16 KiB. */
const placeBits = 12;
/** Not the lowest bits: they choose the shard, so that all keys of one have them in common. */
const placeOf = (hash: number): number => hash >>> (32 - placeBits);

export class JoinedReads {
  readonly #options: JoinedReadsOptions;
  readonly #inFlight = new Uint32Array(1 << placeBits);
  /** By the hash of their key. */
  readonly #groups = new Map<number, Group[]>();
  /** That run or wait. */
  readonly #reads = new OpenList<SharedRead>();
  readonly #hears: Hears;
  #running = 0;
  #unanswered = 0;

  constructor(options: JoinedReadsOptions) {
    this.#options = options;
    this.#hears = {
      answered: (count) => {
        this.#unanswered -= count;
      },
      ended: (read) => this.#ended(read),
    };
  }

  /** A read of the replicas is in flight. */
  began(hash: number): void {
    this.#count(hash, 1);
  }

  ended(hash: number): void {
    this.#count(hash, -1);
  }

  #count(hash: number, change: 1 | -1): void {
    const place = placeOf(hash);
    this.#inFlight[place] = (this.#inFlight[place] as number) + change;
  }

  /** Many of its reads are in flight; and as long as one after the other is shared. */
  isHot(hash: number): boolean {
    if ((this.#inFlight[placeOf(hash)] as number) >= this.#options.above) return true;
    return this.#groups.size > 0 && this.#groups.has(hash);
  }

  /** Requests without an answer, beyond one for each read that is in flight. */
  get waiting(): number {
    return this.#unanswered - this.#running;
  }

  /** A read of a hot key has come: one that starts now or later answers it. */
  join(target: ReadTarget, waiter: Waiter): void {
    this.#unanswered += 1;
    const group = this.#groupOf(target);
    if (group === undefined) return this.#open(target, waiter);
    group.next ??= this.#newRead(target);
    group.next.add(waiter);
  }

  /** Nobody waits for long behind a slow read: those behind one that began until then have their own. */
  startBehind(untilMs: number): void {
    for (const group of [...this.#groups.values()].flat())
      if ((group.running.startedMs ?? Infinity) <= untilMs) this.#startNext(group);
  }

  /** Ends those whose time is over. The deadline of the next one, if there is one. */
  expire(nowMs: number): number {
    let nextMs = Infinity;
    this.#reads.forEach((read) => {
      read.expire(nowMs);
      for (const { deadlineMs } of read.waiters) nextMs = Math.min(nextMs, deadlineMs);
    });
    return nextMs;
  }

  #groupOf({ key, hashes, level }: ReadTarget): Group | undefined {
    return this.#groups
      .get(hashes.hash)
      ?.find(({ running: { target } }) => target.level === level && equalBytes(target.key, key));
  }

  #newRead(target: ReadTarget): SharedRead {
    const read = new SharedRead(target, this.#hears);
    this.#reads.add(read);
    return read;
  }

  #open(target: ReadTarget, waiter: Waiter): void {
    const running = this.#newRead(target);
    running.add(waiter);
    const { hash } = target.hashes;
    this.#groups.set(hash, [...(this.#groups.get(hash) ?? []), { running, next: undefined }]);
    this.#start(running);
  }

  #start(read: SharedRead): void {
    this.#running += 1;
    this.#options.start(read);
  }

  #ended(read: SharedRead): void {
    this.#running -= 1;
    this.#reads.delete(read);
    const group = this.#groupOf(read.target);
    // A younger one is in flight: it is what the others wait for.
    if (group?.running !== read) return;
    if (!this.#startNext(group)) this.#close(group);
  }

  /** False: nobody waits. */
  #startNext(group: Group): boolean {
    const { next } = group;
    if (next === undefined) return false;
    group.next = undefined;
    // All of them have given up.
    if (next.waiters.length === 0) return !this.#reads.delete(next);
    group.running = next;
    this.#start(next);
    return true;
  }

  #close(group: Group): void {
    const { hash } = group.running.target.hashes;
    const others = (this.#groups.get(hash) ?? []).filter((other) => other !== group);
    if (others.length === 0) this.#groups.delete(hash);
    else this.#groups.set(hash, others);
  }
}
