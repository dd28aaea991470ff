// What happens when an actor crashes, as data. A crash ends the actor, never the message alone:
// its state is suspect. Storage and Paxos actors always stop the node (rule TR-5, style 1.5).

import type { ActorKind } from './actor.ts';

export type CrashPolicy =
  | { readonly kind: 'stop-node' }
  | {
      readonly kind: 'restart';
      /** First and longest pause before a new instance starts, milliseconds; doubles between. */
      readonly fromMs: number;
      readonly toMs: number;
      /** More than `limit` restarts within `withinMs` escalate: the node stops. */
      readonly limit: number;
      readonly withinMs: number;
    };

export const stopNode = (): CrashPolicy => ({ kind: 'stop-node' });

export function restart(options: {
  readonly fromMs: number;
  readonly toMs: number;
  readonly limit: number;
  readonly withinMs: number;
}): CrashPolicy {
  return { kind: 'restart', ...options };
}

/** One actor to run: a row of the plan with its options filled in. */
export interface ActorSpec {
  readonly kind: ActorKind;
  readonly options: unknown;
  readonly shard: number;
  /** Messages that may wait in the user lane; one more is refused. */
  readonly mailboxCapacity: number;
  readonly onCrash: CrashPolicy;
}

/** Keeps the crash history of one actor and decides. */
export class CrashHistory {
  readonly #policy: CrashPolicy;
  #crashesMs: number[] = [];

  constructor(policy: CrashPolicy) {
    this.#policy = policy;
  }

  /** The pause before the next instance; undefined: stop the node. */
  next(nowMs: number): number | undefined {
    const policy = this.#policy;
    if (policy.kind === 'stop-node') return undefined;
    this.#crashesMs = this.#crashesMs.filter((at) => nowMs - at < policy.withinMs);
    this.#crashesMs.push(nowMs);
    if (this.#crashesMs.length > policy.limit) return undefined;
    return Math.min(policy.toMs, policy.fromMs * 2 ** (this.#crashesMs.length - 1));
  }
}
