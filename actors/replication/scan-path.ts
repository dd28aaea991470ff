// One page of keys from the whole cluster, in byte order. Every live node is asked for its part of
// the range; the answers are merged as soon as every range of the ring is covered by as many
// replicas as the level asks (SC-3). A page that was cut short limits the merge to its last key,
// so that a key which only one replica returned is never taken for missing on the others. Pure.
//
// A shard of many is asked for its share of the page and some more, not for all of it: the ring
// spreads keys evenly. Where it does not (keys of one hash tag lie together) each further round asks
// for a multiple.
//
// Rounds go on until the page is full of live keys or the range ends: tombstones and expired
// records are merged first and left out after (RR-8).

import { compareBytes, justAfter, prefixEnd } from '../../runtime/bytes.ts';
import type { ErrorFields } from '../../runtime/errors.ts';
import { type Level, requiredAcks } from '../model/consistency.ts';
import { isLive, recordKey, storageKey, userKey } from '../model/record.ts';
import { mergePages, type RecordPage } from '../model/record-pages.ts';
import type { Resolve } from '../model/resolve.ts';
import type { Ring } from '../model/ring.ts';
import { RingCoverage } from '../model/ring-coverage.ts';
import type { RangeRequest } from '../storage/protocol.ts';
import type { ScanReply, ScanRequest } from './protocol.ts';

export interface ScanOptions {
  readonly request: ScanRequest;
  readonly ring: Ring;
  readonly level: Level;
  readonly resolve: Resolve;
  /** The clock that decides about expiry on this page, milliseconds since 1970 (SC-6). */
  readonly nowMs: number;
}

export interface ScanTarget {
  readonly node: string;
  readonly shards: number;
}

/** Bytes of one round and replica. */
const roundBytes = 1024 * 1024;
/** How much more than the round before a round asks each shard for. */
const growth = 4;
/**
 * Standard deviations above the mean of what falls to one shard. Whichever has more than it is asked
 * for cuts the page short, and there may be hundreds of them.
 */
const spread = 4;
/** After so many rounds (ranges full of tombstones) the page ends early, with a cursor (SC-5). */
const roundsMax = 16;

interface Part {
  shardsLeft: number;
  readonly pages: RecordPage[];
  isFailed: boolean;
}

export class ScanPath {
  readonly #options: ScanOptions;
  readonly #to: Uint8Array | undefined;
  #from: Uint8Array;
  #round: RangeRequest | undefined;
  #parts = new Map<string, Part>();
  readonly #required: number;
  /** Of the nodes that have not failed, and of those that have answered. */
  #possible: RingCoverage;
  #complete: RingCoverage;
  readonly #live: Uint8Array[] = [];
  #last: Uint8Array | undefined;
  #rounds = 0;
  /** Shards of all nodes that are asked. */
  #shards = 1;

  constructor(options: ScanOptions) {
    this.#options = options;
    this.#required = requiredAcks(options.level, options.ring.replicationFactor);
    this.#possible = this.#coverage();
    this.#complete = this.#coverage();
    const { namespace, prefix, after } = options.request;
    const start = storageKey(namespace, prefix);
    this.#to = prefixEnd(start);
    const next = after === undefined ? start : justAfter(storageKey(namespace, after));
    this.#from = compareBytes(next, start) < 0 ? start : next;
  }

  /** Starts a round with these nodes; the reason where they cannot cover the ring. */
  begin(targets: readonly ScanTarget[]): ErrorFields | undefined {
    this.#round = undefined;
    this.#parts = new Map(
      targets.map(({ node, shards }) => [node, { shardsLeft: shards, pages: [], isFailed: false }]),
    );
    this.#possible = this.#coverage();
    this.#complete = this.#coverage();
    for (const { node } of targets) this.#possible.add(node);
    this.#shards = targets.reduce((sum, { shards }) => sum + shards, 0);
    return this.#missing();
  }

  /** What each shard is asked in this round. */
  request(): RangeRequest {
    const bounds = { from: this.#from, to: this.#to, bytes: roundBytes };
    this.#round ??= { ...bounds, limit: this.#rowsOfShard() };
    return this.#round;
  }

  /** What a shard holds of the page's rest, most likely; never more than that rest. */
  #rowsOfShard(): number {
    const { ring, request } = this.#options;
    // One more tells whether anything follows.
    const left = request.limit - this.#live.length + 1;
    const mean = (left * ring.replicationFactor) / this.#shards;
    const likely = Math.ceil(mean + spread * Math.sqrt(mean) + spread);
    return Math.max(Math.min(likely * growth ** this.#rounds, left), 2);
  }

  /** Answers of an earlier round do not count. */
  isRound(round: RangeRequest): boolean {
    return this.#round === round;
  }

  answered(node: string, page: RecordPage): void {
    const part = this.#parts.get(node);
    if (part === undefined) return;
    part.pages.push(page);
    part.shardsLeft -= 1;
    if (part.shardsLeft === 0 && !part.isFailed) this.#complete.add(node);
  }

  failed(node: string): void {
    const part = this.#parts.get(node);
    if (part === undefined || part.isFailed) return;
    part.isFailed = true;
    this.#possible.remove(node);
  }

  outcome(): 'open' | 'more' | 'failed' | ScanReply {
    if (!this.#complete.isWhole) return this.#possible.isWhole ? 'open' : 'failed';
    return this.#merge();
  }

  #merge(): 'more' | ScanReply {
    const { request, resolve, nowMs } = this.#options;
    // What comes later does not count, also where the merge fails.
    this.#round = undefined;
    const complete = [...this.#parts.values()].filter(
      (part) => part.shardsLeft === 0 && !part.isFailed,
    );
    const pages = complete.flatMap((part) => part.pages);
    const merged = mergePages(pages, Number.MAX_SAFE_INTEGER, resolve);
    for (const record of merged.records) {
      if (isLive(record, nowMs)) {
        if (this.#live.length === request.limit) return this.#page(false);
        this.#live.push(record);
      }
      this.#last = recordKey(record);
    }
    if (merged.isDone) return this.#page(true);
    this.#rounds += 1;
    if (this.#rounds >= roundsMax) return this.#page(false);
    if (this.#last !== undefined) this.#from = justAfter(this.#last);
    return 'more';
  }

  #page(isDone: boolean): ScanReply {
    const next = isDone || this.#last === undefined ? undefined : userKey(this.#last).slice();
    return { records: this.#live, next, nowMs: this.#options.nowMs };
  }

  #coverage(): RingCoverage {
    return new RingCoverage(this.#options.ring, this.#required);
  }

  /** Undefined where every range has enough replicas that may answer. */
  #missing(): ErrorFields | undefined {
    const alive = this.#possible.firstShort();
    if (alive === undefined) return undefined;
    const { ring, level } = this.#options;
    const required = this.#required;
    const detail = `a range needs ${required} of ${ring.replicationFactor} replicas, ${alive} alive`;
    return { required, alive, level, detail };
  }
}
