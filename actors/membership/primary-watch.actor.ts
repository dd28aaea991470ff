// Makes it visible which ranges this node is the primary of: an event in the log and figures when it
// takes ranges over from a node that was convicted, and when it gives them back. It decides nothing;
// whoever routes a request works the same out of the same list of peers.

import { actor, type Context } from '../../runtime/actor.ts';
import type { Counter } from '../../runtime/metrics.ts';
import type { Handlers } from '../../runtime/protocol.ts';
import { primariesOf, primaryShares, takeoversBy } from '../model/primaries.ts';
import type { RingRange } from '../model/ring.ts';
import { type PeerStates, PrimaryWatch } from './protocol.ts';

export interface PrimaryWatchOptions {
  readonly ranges: readonly RingRange[];
}

class PrimaryWatchActor implements Handlers<PrimaryWatch> {
  readonly #ctx: Context;
  readonly #ranges: readonly RingRange[];
  readonly #takeovers: Counter;
  /** Undefined until the failure detector has spoken. */
  #primaries: readonly (string | undefined)[] | undefined;
  /** Who was in which condition when that was worked out. */
  #seen = '';
  #share = 0;

  constructor(ctx: Context, { ranges }: PrimaryWatchOptions) {
    this.#ctx = ctx;
    this.#ranges = ranges;
    const { metrics } = ctx;
    const help = 'Part of all keys that this node is the primary of';
    metrics.gauge('kvd_primary_share_ratio', help, () => this.#share);
    this.#takeovers = metrics.counter('kvd_primary_takeovers_total', 'Ranges taken over');
  }

  peersChanged({ peers }: PeerStates): void {
    const { node, log, probe } = this.#ctx;
    const seen = peers.map((peer) => `${peer.node} ${peer.condition}`).join();
    // Most of what comes says that nothing has changed, and there may be many ranges.
    if (seen === this.#seen) return;
    this.#seen = seen;
    const conditions = new Map(peers.map((peer) => [peer.node, peer.condition]));
    const now = primariesOf(this.#ranges, (other) =>
      other === node ? 'alive' : (conditions.get(other) ?? 'dead'),
    );
    const before = this.#primaries ?? now;
    this.#primaries = now;
    this.#share = primaryShares(this.#ranges, now).get(node) ?? 0;
    for (const { from, ranges, share } of takeoversBy(node, this.#ranges, before, now)) {
      this.#takeovers.add(ranges);
      probe.reach('primary taken over');
      log.warn('primary.taken-over', { from: from ?? 'nobody', ranges, share: rounded(share) });
    }
    const lost = before.filter((primary, i) => primary === node && now[i] !== node).length;
    if (lost > 0) log.info('primary.handed-back', { ranges: lost, share: rounded(this.#share) });
  }
}

const rounded = (share: number): number => Math.round(share * 10_000) / 10_000;

export const primaryWatch = actor({
  protocol: PrimaryWatch,
  create: (ctx: Context, options: PrimaryWatchOptions) => new PrimaryWatchActor(ctx, options),
});
