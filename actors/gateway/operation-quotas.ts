// Operations per second, as a gateway asks for them: the catalog of the node holds the buckets, and a
// gateway takes a few operations ahead of those that wait, so that a busy namespace does not cost a
// message for each. What was taken ahead and not used is given up after a second.

import type { BaseContext, Done, Ref } from '../../runtime/actor.ts';
import { type Failure, failure } from '../../runtime/errors.ts';
import type { Catalog } from '../catalog/protocol.ts';
import type { Namespace } from '../model/namespaces.ts';

interface Lease {
  tokens: number;
  untilMs: number;
  isAsking: boolean;
  readonly waiting: ((problem: Failure | undefined) => void)[];
}

const leaseTimeoutMs = 2_000;
const leaseLifeMs = 1_000;
/** Of the quota so much, as a part, is taken ahead at a time. */
const aheadPart = 100;
const aheadMax = 64;
const namespacesMax = 1_000;

export class OperationQuotas {
  readonly #ctx: Pick<BaseContext<object>, 'ask' | 'clock'>;
  readonly #catalog: Ref<Catalog>;
  readonly #leases = new Map<number, Lease>();

  constructor(ctx: Pick<BaseContext<object>, 'ask' | 'clock'>, catalog: Ref<Catalog>) {
    this.#ctx = ctx;
    this.#catalog = catalog;
  }

  /** One operation: now, or when the catalog has answered; QUOTA_EXCEEDED where it has none left. */
  take(namespace: Namespace, done: (problem: Failure | undefined) => void): void {
    const lease = this.#leaseOf(namespace.id);
    const nowMs = this.#ctx.clock.monotonicMs();
    if (lease.untilMs < nowMs) lease.tokens = 0;
    if (lease.tokens > 0 && lease.waiting.length === 0) {
      lease.tokens -= 1;
      return done(undefined);
    }
    lease.waiting.push(done);
    if (!lease.isAsking) this.#ask(namespace, lease);
  }

  #leaseOf(id: number): Lease {
    let lease = this.#leases.get(id);
    if (lease !== undefined) return lease;
    for (const [old, { isAsking, waiting }] of this.#leases) {
      if (this.#leases.size < namespacesMax) break;
      if (!isAsking && waiting.length === 0) this.#leases.delete(old);
    }
    lease = { tokens: 0, untilMs: 0, isAsking: false, waiting: [] };
    this.#leases.set(id, lease);
    return lease;
  }

  #ask(namespace: Namespace, lease: Lease): void {
    lease.isAsking = true;
    const { id, operationsPerSecondMax: limit } = namespace;
    const asked = lease.waiting.length;
    const tokens = asked + Math.min(aheadMax, Math.floor(limit / aheadPart));
    const { ask, clock } = this.#ctx;
    const heard: Done<{ readonly granted: number; readonly retryMs: number }> = (_, reply) => {
      lease.isAsking = false;
      const waiting = lease.waiting.splice(0, asked);
      lease.tokens = reply?.granted ?? 0;
      lease.untilMs = clock.monotonicMs() + leaseLifeMs;
      const refusal =
        reply === undefined
          ? failure('OVERLOADED', { detail: 'the quota of the namespace cannot be asked for now' })
          : exceeded(namespace, reply.retryMs);
      for (const done of waiting) {
        lease.tokens -= 1;
        done(lease.tokens >= 0 ? undefined : refusal);
      }
      lease.tokens = Math.max(0, lease.tokens);
      if (lease.waiting.length > 0) this.#ask(namespace, lease);
    };
    ask(this.#catalog, 'lease', { id, tokens }, leaseTimeoutMs, heard);
  }
}

function exceeded({ name, operationsPerSecondMax: limit }: Namespace, retryMs: number): Failure {
  return failure('QUOTA_EXCEEDED', {
    namespace: name,
    quota: 'operations_per_second',
    limit,
    retry_after: Math.max(1, Math.ceil(retryMs / 1000)),
    detail: `namespace ${name} may have ${limit} operations per second`,
  });
}
