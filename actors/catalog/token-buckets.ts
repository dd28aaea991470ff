// Operations per second of namespaces on one node: a bucket for each that has a quota. The node's
// share of a quota is the quota divided by the nodes that are alive, so that all together give out
// what is allowed; a bucket holds one second of it, at least one operation. Pure.

import type { Grant } from './protocol.ts';

export interface Share {
  /** Operations per second of the whole cluster. */
  readonly perSecond: number;
  /** Nodes that give them out, 1 or more. */
  readonly nodes: number;
}

interface Bucket {
  tokens: number;
  atMs: number;
}

export class TokenBuckets {
  readonly #buckets = new Map<number, Bucket>();

  /** At most `wanted` operations of a namespace; `nowMs` is monotonic. */
  take(id: number, { perSecond, nodes }: Share, wanted: number, nowMs: number): Grant {
    const rate = perSecond / nodes;
    const capacity = Math.max(1, rate);
    const bucket = this.#buckets.get(id) ?? { tokens: capacity, atMs: nowMs };
    const gained = (Math.max(0, nowMs - bucket.atMs) / 1000) * rate;
    // A share can shrink while a bucket is full.
    const tokens = Math.min(capacity, bucket.tokens + gained);
    const granted = Math.min(wanted, Math.floor(tokens + rounding));
    this.#buckets.set(id, { tokens: tokens - granted, atMs: nowMs });
    const retryMs = granted > 0 ? 0 : Math.ceil(((1 - tokens) / rate) * 1000);
    return { granted, retryMs };
  }

  /** Forgets namespaces that are gone. */
  keep(isThere: (id: number) => boolean): void {
    for (const id of this.#buckets.keys()) if (!isThere(id)) this.#buckets.delete(id);
  }
}

/** Sums of fractions end just below whole numbers. */
const rounding = 1e-9;
