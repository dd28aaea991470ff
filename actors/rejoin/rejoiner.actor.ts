// Decides whether this node may count (CO-4). A node whose data directory is new may have lost one
// that held what it acknowledged: its disk was emptied, or it came back from a backup. It cannot
// know by itself, so the others remember the births of each other's directories:
//
//   asking   do enough others know no older birth of mine? then I am new -> whole
//            one of them does -> filling
//   filling  a repair of all my sets that all of their members take part in, then the votes of the
//            other replicas of my keys, then they remember this birth instead -> whole
//   whole    durable; the replicas and acceptors of this node open
//
// Until then those answer nobody, so no quorum counts this node (docs/decisions/0017).

import { actor, type Context, type Later, type Ref, refTo } from '../../runtime/actor.ts';
import { KvError } from '../../runtime/errors.ts';
import type { BodyOf, Handlers, ReplyOf, Tell } from '../../runtime/protocol.ts';
import type { PeerStates } from '../membership/protocol.ts';
import type { ReplicaSets } from '../model/replica-sets.ts';
import type { Ring } from '../model/ring.ts';
import { isMarkedWhole, markWhole } from '../model/wholeness.ts';
import type { Repairer } from '../repair/protocol.ts';
import { Acceptor, Replica } from '../replication/protocol.ts';
import { Births } from './births.ts';
import { announceFilled, fillNode, isNewNode } from './filling.ts';
import { Rejoiner, type RejoinPhase } from './protocol.ts';

export interface RejoinOptions {
  readonly birth: number;
  readonly isWhole: boolean;
  /** All other members. */
  readonly others: readonly string[];
  readonly ring: Ring;
  readonly sets: ReplicaSets;
  /** Shards of this node. */
  readonly shards: number;
  /** Runs repairs; absent where there is one copy of each key: then nobody has what is lost. */
  readonly repairer?: Ref<Repairer> | undefined;
  /** Rounds that the lost state had promised something to have ended after so long, milliseconds. */
  readonly settleMs: number;
}

interface Own {
  readonly filling: Tell<{ readonly detail: string }>;
  readonly becameWhole: Tell<object>;
}

class RejoinerActor implements Handlers<Rejoiner>, Handlers<Own> {
  readonly #ctx: Context<Own, 'disk'>;
  readonly #options: RejoinOptions;
  #births: Births | undefined;
  #phase: RejoinPhase;
  #detail = '';
  readonly #shards = new Map<string, number>();

  constructor(ctx: Context<Own, 'disk'>, options: RejoinOptions) {
    this.#ctx = ctx;
    this.#options = options;
    this.#phase = options.isWhole ? 'whole' : 'asking';
    ctx.metrics.gauge('kvd_node_whole', 'This node counts in quorums', () =>
      this.#phase === 'whole' ? 1 : 0,
    );
  }

  start(): void {
    const { isWhole, birth } = this.#options;
    const { disk, session } = this.#ctx;
    this.#births = new Births(disk);
    if (!isWhole) this.#rejoin();
    // An operator has accepted the loss.
    else if (!isMarkedWhole(disk, birth)) session(() => markWhole(disk, birth));
  }

  peersChanged({ peers }: PeerStates): void {
    for (const { node, shards, condition } of peers)
      if (condition !== 'dead') this.#shards.set(node, shards);
  }

  status(): ReplyOf<Rejoiner['status']> {
    return { phase: this.#phase, detail: this.#detail };
  }

  admit({ node, birth, isFilled }: BodyOf<Rejoiner['admit']>): Later<{ readonly birth: number }> {
    const births = this.#births;
    if (births === undefined) throw new KvError('DRAINING', { node: this.#ctx.node });
    return this.#ctx.session(async () => ({ birth: await births.admit(node, birth, isFilled) }));
  }

  #rejoin(): void {
    const { disk, toSelf, node, clock, probe, log } = this.#ctx;
    const { birth, others, repairer, ...options } = this.#options;
    const shardsOf = (other: string): number | undefined => this.#shards.get(other);
    const tell = (detail: string): void => toSelf('filling', { detail });
    this.#ctx.session(async (session) => {
      const asking = { session, node, birth, others };
      if (!(await isNewNode(asking))) {
        probe.reach('node filled');
        tell('its repair begins');
        if (repairer === undefined)
          log.error('rejoin.lost', { detail: 'there was one copy of each key; some were here' });
        else await fillNode({ ...asking, ...options, clock, repairer, shardsOf, tell });
        await announceFilled(asking);
      }
      await markWhole(disk, birth);
      toSelf('becameWhole', {});
    });
  }

  filling({ detail }: { readonly detail: string }): void {
    if (this.#detail !== detail) this.#ctx.log.warn('rejoin.filling', { detail });
    this.#phase = 'filling';
    this.#detail = detail;
  }

  becameWhole(): void {
    const { node, log, tell } = this.#ctx;
    const { birth, shards } = this.#options;
    log.info('rejoin.whole', { birth });
    this.#phase = 'whole';
    this.#detail = '';
    for (let shard = 0; shard < shards; shard += 1) {
      tell(refTo(Acceptor, node, shard), 'open', {});
      tell(refTo(Replica, node, shard), 'open', {});
    }
  }
}

export const rejoiner = actor({
  protocol: Rejoiner,
  needs: ['disk'],
  create: (ctx: Context<Own, 'disk'>, options: RejoinOptions) => new RejoinerActor(ctx, options),
});
