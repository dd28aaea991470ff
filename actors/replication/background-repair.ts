// Now and then a key that was read is compared on all of its live replicas, after the answer, and
// those that have something older get the newest record as it was written (RR-4, RR-5). So keys
// that are read often agree long before a repair comes by, also where reads ask a single replica.
//
// Best effort: so many keys per second at most, one comparison of a key at a time, and whatever
// fails is left to hints and repair.

import type { BaseContext, Ref } from '../../runtime/actor.ts';
import type { KeyHashes } from '../model/token.ts';
import { compareEtags, equalEtags, type Etag, isLive } from '../model/record.ts';
import type { Replica } from './protocol.ts';

export interface BackgroundRepairOptions {
  /** Keys that are compared, at most; 0: none. */
  readonly perSecond: number;
  /** Live replicas of a key. */
  readonly live: (token: number) => readonly string[];
  readonly replica: (node: string, token: number) => Ref<Replica>;
}

type Tools = Pick<BaseContext<object>, 'ask' | 'clock' | 'random' | 'probe'>;

interface Compared {
  readonly key: Uint8Array;
  readonly hashes: KeyHashes;
  readonly etags: Map<string, Etag>;
  /** Replicas that have not answered. */
  waiting: number;
}

/** One read of so many is looked at. */
const oneOf = 16;
const timeoutMs = 2_000;

export class BackgroundRepair {
  readonly #ctx: Tools;
  readonly #options: BackgroundRepairOptions;
  /** Hashes of the keys that are being compared. */
  readonly #open = new Set<number>();
  #allowance: number;
  #refilledMs: number;

  constructor(ctx: Tools, options: BackgroundRepairOptions) {
    this.#ctx = ctx;
    this.#options = options;
    this.#allowance = options.perSecond;
    this.#refilledMs = ctx.clock.monotonicMs();
  }

  /** A read of this key was answered. */
  wasRead(key: Uint8Array, hashes: KeyHashes): void {
    const { random } = this.#ctx;
    if (this.#options.perSecond === 0 || random.int(oneOf) !== 0) return;
    if (this.#open.has(hashes.hash) || !this.#mayCompare()) return;
    const nodes = this.#options.live(hashes.token);
    if (nodes.length < 2) return;
    this.#open.add(hashes.hash);
    const compared: Compared = { key, hashes, etags: new Map(), waiting: nodes.length };
    for (const node of nodes) this.#askEtag(compared, node);
  }

  #mayCompare(): boolean {
    const { perSecond } = this.#options;
    const nowMs = this.#ctx.clock.monotonicMs();
    const earned = ((nowMs - this.#refilledMs) / 1000) * perSecond;
    this.#refilledMs = nowMs;
    this.#allowance = Math.min(perSecond, this.#allowance + earned);
    if (this.#allowance < 1) return false;
    this.#allowance -= 1;
    return true;
  }

  #askEtag(compared: Compared, node: string): void {
    const { key, hashes, etags } = compared;
    const body = { key, hash: hashes.hash, digest: true };
    const replica = this.#options.replica(node, hashes.token);
    this.#ctx.ask(replica, 'read', body, timeoutMs, (_problem, reply) => {
      if (reply !== undefined) {
        const { hlc, writer, incarnation } = reply;
        etags.set(node, { hlc, writer, incarnation });
      }
      compared.waiting -= 1;
      if (compared.waiting === 0) this.#judge(compared);
    });
  }

  #judge({ key, hashes, etags }: Compared): void {
    let newest: readonly [string, Etag] | undefined;
    for (const [node, etag] of etags)
      if (newest === undefined || compareEtags(etag, newest[1]) > 0) newest = [node, etag];
    const stale = [...etags].filter(
      ([, etag]) => newest !== undefined && !equalEtags(etag, newest[1]),
    );
    if (newest === undefined || stale.length === 0) return void this.#open.delete(hashes.hash);
    const body = { key, hash: hashes.hash, digest: false };
    const replica = this.#options.replica(newest[0], hashes.token);
    this.#ctx.ask(replica, 'read', body, timeoutMs, (_problem, reply) => {
      this.#open.delete(hashes.hash);
      const record = reply?.record;
      if (record === undefined) return;
      // Where there is nothing the mark of a delete may have been purged: that is no difference (RR-6).
      const isMark = !isLive(record, this.#ctx.clock.wallMicros() / 1000);
      for (const [node, { hlc }] of stale) if (!isMark || hlc > 0) this.#send(node, hashes, record);
    });
  }

  #send(node: string, hashes: KeyHashes, record: Uint8Array): void {
    const replica = this.#options.replica(node, hashes.token);
    this.#ctx.ask(replica, 'write', { record }, timeoutMs, (problem) => {
      if (problem === undefined) this.#ctx.probe.reach('background read repair');
    });
  }
}
