// How far a watch has read the feed of each node, and whether a gap in one of them may have lost a
// change. All replicas of a key have a change in their feeds, and an acknowledged write (QUORUM or
// more) is in a majority of them; so what one feed has lost, another one still brings, unless a
// majority of the replicas of some range has a gap at the same time: then the watch says `reset`.
//
// A gap is over when every other feed has been read to its end some time after it: whatever was
// acknowledged before the gap has come out of one of them by then. Times are those of one process: a
// watch that goes on elsewhere knows no more than that a gap was open, and takes it for a new one.
//
// As text it is the id of an event, with which a watch goes on elsewhere. It says nothing that a
// client may not know, gives no right, and is checked as input from anywhere:
//
//   2.crc32 of the question.node:epoch:number:gap,node:...     number in base 36; gap 1: open, else 0

import { crc32 } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';
import { quorumOf } from '../model/consistency.ts';
import type { Ring } from '../model/ring.ts';
import { RingCoverage } from '../model/ring-coverage.ts';

export interface FeedPosition {
  /** Empty: nothing was read of this feed yet. */
  readonly epoch: string;
  readonly after: number;
  /** Monotonic milliseconds of the gap that is not over; 0: none. */
  readonly gapMs: number;
  /** Monotonic milliseconds of the last time that it was read to its end; 0: not here. */
  readonly headMs: number;
}

export const unread: FeedPosition = { epoch: '', after: 0, gapMs: 0, headMs: 0 };

/** Longer than a write may be under way and an answer between two threads may take. */
export const gapSettleMs = 10_000;
const formatVersion = '2';
const textLengthMax = 8192;
const feedForm = /^([A-Za-z0-9_-]{1,64}):([0-9a-z-]{0,32}):([0-9a-z]{1,11}):([01])$/;

export class WatchPositions {
  readonly #feeds = new Map<string, FeedPosition>();
  readonly #ring: Ring;

  constructor(ring: Ring) {
    for (const node of ring.members) this.#feeds.set(node, unread);
    this.#ring = ring;
  }

  get(node: string): FeedPosition {
    return this.#feeds.get(node) ?? unread;
  }

  /** Only members of this cluster have feeds; what a text says of others is forgotten. */
  set(node: string, position: FeedPosition): void {
    if (this.#feeds.has(node)) this.#feeds.set(node, position);
  }

  /** A feed was read; false: with the gaps that are open now a change may be lost. */
  read(node: string, to: Omit<FeedPosition, 'gapMs' | 'headMs'>, how: ReadHow): boolean {
    const { gapMs, headMs } = this.get(node);
    this.set(node, {
      ...to,
      gapMs: how.isGap ? Math.max(1, how.nowMs) : gapMs,
      headMs: how.isHead ? how.nowMs : headMs,
    });
    // Before gaps are closed: without other feeds this one would close its own.
    const isBorne = !how.isGap || this.#meetsQuorums((feed) => feed.gapMs === 0);
    this.#closeGaps();
    return isBorne;
  }

  /** Enough feeds have been found for a watch to begin. */
  get isEstablished(): boolean {
    return this.#meetsQuorums(() => true);
  }

  /** Of each range one feed of every majority of its replicas has been found, and counts. */
  #meetsQuorums(counts: (feed: FeedPosition) => boolean): boolean {
    const { replicationFactor } = this.#ring;
    const coverage = new RingCoverage(
      this.#ring,
      replicationFactor - quorumOf(replicationFactor) + 1,
    );
    for (const [node, feed] of this.#feeds)
      if (feed.epoch !== '' && counts(feed)) coverage.add(node);
    return coverage.isWhole;
  }

  #closeGaps(): void {
    for (const [node, feed] of this.#feeds) {
      if (feed.gapMs === 0) continue;
      const isOver = [...this.#feeds].every(
        ([other, { headMs }]) => other === node || headMs >= feed.gapMs + gapSettleMs,
      );
      if (isOver) this.#feeds.set(node, { ...feed, gapMs: 0 });
    }
  }

  text(question: Uint8Array): string {
    const feeds = [...this.#feeds].map(([node, { epoch, after, gapMs }]) =>
      [node, epoch, after.toString(36), gapMs > 0 ? '1' : '0'].join(':'),
    );
    return `${formatVersion}.${crc32(question).toString(36)}.${feeds.join(',')}`;
  }

  /** Goes on where `text` was given out. BAD_REQUEST where it is no event id of this question. */
  resume(text: string, question: Uint8Array, nowMs: number): void {
    const [version, checksum, feeds, ...rest] = text.split('.');
    if (text.length > textLengthMax || version !== formatVersion || rest.length > 0)
      return refuse('it is no event id of this service');
    if (checksum !== crc32(question).toString(36)) return refuse('it belongs to another prefix');
    for (const feed of (feeds ?? '').split(',')) this.set(...parseFeed(feed, nowMs));
  }
}

function parseFeed(text: string, nowMs: number): readonly [string, FeedPosition] {
  const parsed = feedForm.exec(text);
  if (parsed === null) return refuse('it is damaged');
  const [, node = '', epoch = '', number = '', gap = '0'] = parsed;
  const after = Number.parseInt(number, 36);
  if (!Number.isSafeInteger(after)) return refuse('it is damaged');
  return [node, { epoch, after, gapMs: gap === '1' ? Math.max(1, nowMs) : 0, headMs: 0 }];
}

export interface ReadHow {
  readonly isGap: boolean;
  readonly isHead: boolean;
  readonly nowMs: number;
}

function refuse(why: string): never {
  throw new KvError('BAD_REQUEST', {
    field: 'Last-Event-ID',
    detail: `Last-Event-ID: ${why}; list the keys and watch without it`,
  });
}
