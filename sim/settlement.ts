// What workloads use once the faults have ended (rule 2.4, final reads): operations that must work
// within a bound now, and a look at what each replica holds.
//
// Invariant: an operation that still does not succeed when the bound has passed is a LivenessError;
// nothing here gives up silently.

import { storageKey } from '../actors/model/record.ts';
import type { Ring } from '../actors/model/ring.ts';
import { hashKey, shardOf } from '../actors/model/token.ts';
import { Replica } from '../actors/replication/protocol.ts';
import { refTo } from '../runtime/actor.ts';
import { crc32, utf8 } from '../runtime/bytes.ts';
import type { ReplicaCopy } from './checkers/settled.ts';
import type { SimCluster } from './cluster.ts';
import type { Operation } from './history.ts';
import type { Settlement } from './workload.ts';

/** After faults have ended, everything must work again within this time. */
export const settleMs = 60_000;
const pauseMs = 200;
const parallel = 8;
const replicaTries = 20;

/** The cluster did not come back, or an operation did not succeed, though nothing is wrong. */
export class LivenessError extends Error {
  constructor(what: string) {
    super(what);
    this.name = 'LivenessError';
  }
}

export interface SettlementOptions {
  readonly cluster: SimCluster;
  readonly ring: Ring;
  /** By node. */
  readonly shards: ReadonlyMap<string, number>;
  readonly nodes: readonly string[];
  readonly isWhole: boolean;
}

export class ClusterSettlement implements Settlement {
  readonly nodes: readonly string[];
  readonly isWhole: boolean;
  readonly copies = new Map<string, ReplicaCopy[]>();
  readonly #options: SettlementOptions;
  #turn = 0;

  constructor(options: SettlementOptions) {
    this.#options = options;
    this.nodes = options.nodes;
    this.isWhole = options.isWhole;
  }

  async untilOk(
    what: string,
    attempt: (node: string) => Promise<Pick<Operation, 'outcome' | 'code'>>,
  ): Promise<void> {
    const { world } = this.#options.cluster;
    const endMs = world.nowMs + settleMs;
    let code: string | undefined;
    this.#turn += 1;
    for (let turn = this.#turn; world.nowMs < endMs; turn += 1) {
      const ended = await attempt(this.nodes[turn % this.nodes.length] as string);
      if (ended.outcome === 'ok') return;
      ({ code } = ended);
      await world.sleep(pauseMs);
    }
    throw new LivenessError(
      `${what} did not succeed within ${settleMs / 1000} s after all faults had ended (${code ?? 'no answer'})`,
    );
  }

  async forEach<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < items.length) {
        const item = items[next] as T;
        next += 1;
        await work(item);
      }
    };
    await Promise.all(Array.from({ length: parallel }, worker));
  }

  async dump(key: string, namespace = 0): Promise<void> {
    const { ring, shards } = this.#options;
    const stored = storageKey(namespace, utf8.encode(key));
    const { token, hash } = hashKey(stored);
    for (const node of ring.replicasOf(token)) {
      const shard = shardOf(token, shards.get(node) ?? 1);
      const copy = await this.#readReplica(refTo(Replica, node, shard), stored, hash);
      this.copies.set(key, [...(this.copies.get(key) ?? []), copy]);
    }
  }

  async #readReplica(
    to: ReturnType<typeof refTo<Replica>>,
    key: Uint8Array,
    hash: number,
  ): Promise<ReplicaCopy> {
    const { cluster } = this.#options;
    const { node } = to;
    for (let attempt = 0; attempt < replicaTries; attempt += 1) {
      const answer = await cluster.ask(to, 'read', { key, hash, digest: false }, 5_000);
      if (answer.kind === 'reply') {
        const { record, hlc, writer, incarnation } = answer.reply;
        const content = record === undefined ? 0 : crc32(record);
        return { node, etag: hlc === 0 ? undefined : { hlc, writer, incarnation }, content };
      }
      await cluster.world.sleep(pauseMs);
    }
    throw new LivenessError(`the replica on ${node} does not answer though nothing is wrong`);
  }
}
