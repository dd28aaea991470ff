// One watch of a client: what was read of each node's feed, and what waits to be told. The queue is
// bounded: while it is full nothing more is read, and a client that stays behind loses its place in
// the feeds and is told to begin again (`reset`). Nothing grows with a slow reader.
//
// The id that goes out with events stands for exactly what was told so far; what was queued behind
// it is told again after a resume.

import type { Ring } from '../model/ring.ts';
import { type FeedPosition, WatchPositions } from './watch-positions.ts';
import { changeEvent, expiryEvent, readyEvent, resetEvent, withId } from './watch-events.ts';
import { WatchMemory } from './watch-memory.ts';
import type { ChangesReply } from './protocol.ts';

export interface WatchQuestion {
  readonly ring: Ring;
  /** Of storage keys. */
  readonly prefix: Uint8Array;
  readonly withValues: boolean;
}

interface Queued {
  readonly bytes: Uint8Array;
  /** With this one told, the feed of the node has been told up to here. */
  readonly position: { readonly node: string; readonly feed: FeedPosition } | undefined;
}

const queueBytesMax = 512 * 1024;
const answerBytes = 256 * 1024;

/** One moment on both clocks. */
export interface Moment {
  readonly wallMs: number;
  readonly monotonicMs: number;
}

export class WatchStream {
  readonly prefix: Uint8Array;
  readonly nodes: readonly string[];
  readonly #question: WatchQuestion;
  readonly #memory = new WatchMemory();
  #read: WatchPositions;
  #told: WatchPositions;
  #queue: Queued[] = [];
  #queuedBytes = 0;

  constructor(question: WatchQuestion) {
    this.#question = question;
    this.prefix = question.prefix;
    this.nodes = question.ring.members;
    this.#read = new WatchPositions(question.ring);
    this.#told = new WatchPositions(question.ring);
  }

  get isFull(): boolean {
    return this.#queuedBytes >= queueBytesMax;
  }

  get hasNews(): boolean {
    return this.#queue.length > 0;
  }

  /** Up to where the feed of a node was read. */
  position(node: string): FeedPosition {
    return this.#read.get(node);
  }

  // ---- beginning -----------------------------------------------------------------------------

  /** Goes on after the event with this id; BAD_REQUEST where it is none of this question. */
  resume(lastEventId: string, monotonicMs: number): void {
    for (const positions of [this.#read, this.#told])
      positions.resume(lastEventId, this.prefix, monotonicMs);
    this.#pushBeginning(readyEvent());
  }

  /** Forgets everything: the feeds have to be found before it goes on. */
  restart(): void {
    const { ring } = this.#question;
    this.#read = new WatchPositions(ring);
    this.#told = new WatchPositions(ring);
    this.#memory.clear();
    this.#queue = [];
    this.#queuedBytes = 0;
  }

  /** The end of a node's feed, where the watch begins. */
  found(node: string, { epoch, next: after }: ChangesReply, monotonicMs: number): void {
    const feed = { epoch, after, gapMs: 0, headMs: monotonicMs };
    this.#read.set(node, feed);
    this.#told.set(node, feed);
  }

  get isEstablished(): boolean {
    return this.#read.isEstablished;
  }

  /** The feeds are found; `reason`: why the watch had to begin again, undefined the first time. */
  begin(reason: string | undefined): void {
    this.#pushBeginning(reason === undefined ? readyEvent() : resetEvent(reason));
  }

  // ---- events --------------------------------------------------------------------------------

  /** What a feed has brought. False: a change may be lost; the watch has to restart. */
  take(node: string, reply: ChangesReply, { wallMs, monotonicMs }: Moment): boolean {
    const { epoch, next: after, records, isGap, isHead } = reply;
    const how = { isGap, isHead, nowMs: monotonicMs };
    if (!this.#read.read(node, { epoch, after }, how)) return false;
    const position = { node, feed: this.#read.get(node) };
    const news = records.filter((record) => this.#memory.isNews(record));
    const last = news.length - 1;
    for (const [i, record] of news.entries()) {
      const bytes = changeEvent(record, this.#question.withValues, wallMs);
      this.#push(bytes, i === last ? position : undefined);
    }
    // With nothing to tell, and nothing waiting before it, this is told already.
    if (news.length > 0) return true;
    if (this.#queue.length === 0) this.#told.set(node, position.feed);
    else this.#push(new Uint8Array(0), position);
    return true;
  }

  /** Times to live that are over. */
  expire(nowMs: number): void {
    for (const record of this.#memory.takeExpired(nowMs))
      this.#push(expiryEvent(record), undefined);
  }

  /** What waits, as much as goes into one answer; with nothing, a sign of life. */
  drain(): Uint8Array {
    const parts: Uint8Array[] = [];
    let bytes = 0;
    let count = 0;
    for (const { bytes: one, position } of this.#queue) {
      if (bytes >= answerBytes) break;
      parts.push(one);
      bytes += one.length;
      count += 1;
      if (position !== undefined) this.#told.set(position.node, position.feed);
    }
    this.#queue.splice(0, count);
    this.#queuedBytes -= bytes;
    return withId(parts, this.#told.text(this.prefix));
  }

  /** With an id of its own: whoever has heard of nothing else yet goes on from there. */
  #pushBeginning(event: Uint8Array): void {
    this.#push(withId([event], this.#told.text(this.prefix)), undefined);
  }

  #push(bytes: Uint8Array, position: Queued['position']): void {
    this.#queue.push({ bytes, position });
    this.#queuedBytes += bytes.length;
  }
}
