// Operations per second on one node: a bucket for each of those that have a limit (namespaces, users,
// addresses of clients). The node's share of a limit is the limit divided by the nodes that are alive,
// so that all together give out what is allowed; a bucket holds one second of it, at least one
// operation, unless it is said to hold more. Pure.

import { dropOldest } from './drop-oldest.ts';

/** With nothing granted: when the next one will be there, milliseconds. */
export interface Grant {
  readonly granted: number;
  readonly retryMs: number;
}

export interface Share {
  /** Operations per second of the whole cluster. */
  readonly perSecond: number;
  /** Nodes that give them out, 1 or more. */
  readonly nodes: number;
  /** Most that a bucket of a node holds; absent: one second of its share. */
  readonly burst?: number;
}

interface Bucket {
  tokens: number;
  atMs: number;
}

export class TokenBuckets<Id = number> {
  readonly #buckets = new Map<Id, Bucket>();
  readonly #bucketsMax: number;

  /** With more than `bucketsMax` the oldest is forgotten: it is full again when it is asked for. */
  constructor(bucketsMax = Infinity) {
    this.#bucketsMax = bucketsMax;
  }

  /** At most `wanted` operations; `nowMs` is monotonic. */
  take(id: Id, share: Share, wanted: number, nowMs: number): Grant {
    const tokens = this.#tokensOf(id, share, nowMs);
    const granted = Math.min(wanted, Math.floor(tokens + rounding));
    this.#set(id, { tokens: tokens - granted, atMs: nowMs });
    const retryMs = granted > 0 ? 0 : waitMs(tokens, share);
    return { granted, retryMs };
  }

  /** Milliseconds until there is an operation to take; 0: there is one. Takes nothing. */
  waitMs(id: Id, share: Share, nowMs: number): number {
    return Math.max(0, waitMs(this.#tokensOf(id, share, nowMs), share));
  }

  #tokensOf(id: Id, share: Share, nowMs: number): number {
    const { perSecond, nodes } = share;
    const rate = perSecond / nodes;
    const capacity = Math.max(1, share.burst ?? rate);
    const bucket = this.#buckets.get(id) ?? { tokens: capacity, atMs: nowMs };
    const gained = (Math.max(0, nowMs - bucket.atMs) / 1000) * rate;
    // A share can shrink while a bucket is full.
    return Math.min(capacity, bucket.tokens + gained);
  }

  #set(id: Id, bucket: Bucket): void {
    this.#buckets.set(id, bucket);
    dropOldest(this.#buckets, this.#bucketsMax);
  }

  /** Forgets those that are gone. */
  keep(isThere: (id: Id) => boolean): void {
    for (const id of this.#buckets.keys()) if (!isThere(id)) this.#buckets.delete(id);
  }
}

const waitMs = (tokens: number, { perSecond, nodes }: Share): number =>
  Math.ceil(((1 - rounding - tokens) / (perSecond / nodes)) * 1000);

/** Sums of fractions end just below whole numbers. */
const rounding = 1e-9;
