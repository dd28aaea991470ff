// Three nodes in the simulator that hold every key, for the tests of handoff and repair: writes go
// through a coordinator, and what each node holds is read from its replica alone, so that no read
// repairs what a test looks at.

import { recordIsTombstone, recordValue, storageKey } from '../../actors/model/record.ts';
import { Ring } from '../../actors/model/ring.ts';
import { hashKey, shardOf } from '../../actors/model/token.ts';
import { flushSpaceBytes } from '../../actors/node/sizes.ts';
import { defaultTunables, type Tunables } from '../../actors/node/settings.ts';
import { Coordinator, Replica } from '../../actors/replication/protocol.ts';
import { type RepairReport, type RepairRequest, Repairer } from '../../actors/repair/protocol.ts';
import { Store } from '../../actors/storage/protocol.ts';
import { type Ref, refTo } from '../../runtime/actor.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { SimCluster } from '../../sim/cluster.ts';
import { kvdCodec, kvdProgram, sharedCodecs } from '../../sim/kvd-program.ts';
import { World } from '../../sim/world.ts';
import { quickNetwork } from './small-cluster.ts';

const kiB = 1024;
export const replicaNames = ['n1', 'n2', 'n3'] as const;

export interface ReplicasOptions {
  readonly seed?: number;
  readonly shards?: number;
  readonly tunables?: Partial<Tunables>;
}

export class ReplicasUnderTest {
  readonly cluster: SimCluster;
  readonly #shards: number;
  readonly #tunables: Tunables;

  constructor({ seed = 1, shards = 1, tunables = {} }: ReplicasOptions = {}) {
    const small: Tunables = {
      ...defaultTunables(),
      virtualNodes: 4,
      memtableBytes: 256 * kiB,
      inFlightBytes: 64 * kiB,
      walSegmentBytes: 64 * kiB,
      blockCacheBytes: 64 * kiB,
      // It would answer for what compaction has purged.
      rowCacheBytes: 0,
      valueBytesMax: 8 * kiB,
      reserveBytes: 16 * kiB,
      tableBytes: 16 * kiB,
      gossipIntervalMs: 300,
      suspectAfterMs: 2_000,
      deadAfterMs: 5_000,
      ...tunables,
    };
    this.#shards = shards;
    this.#tunables = small;
    const names = [...replicaNames];
    this.cluster = new SimCluster({
      world: new World({ seed }),
      names,
      program: kvdProgram({ names, shards, durability: 'group', tunables: small }),
      codec: kvdCodec(),
      codecs: sharedCodecs(),
      network: quickNetwork,
    });
  }

  /** Runs the scenario with all nodes up and known to each other. */
  run(scenario: () => Promise<void>): Promise<void> {
    const { world } = this.cluster;
    return world.run(async () => {
      await this.cluster.startAll();
      await world.sleep(3_000);
      await scenario();
    });
  }

  sleep(seconds: number): Promise<void> {
    return this.cluster.world.sleep(seconds * 1000);
  }

  /** A key that this node has no copy of. */
  keyWithout(node: string): string {
    const { virtualNodes, replicationFactor } = this.#tunables;
    const ring = new Ring({ members: [...replicaNames], virtualNodes, replicationFactor });
    for (let n = 0; ; n += 1) {
      const { token } = hashKey(storageKey(0, utf8.encode(`key-${n}`)));
      if (!ring.replicasOf(token).includes(node)) return `key-${n}`;
    }
  }

  /** Down, and noticed by the others. */
  async down(node: string): Promise<void> {
    // What is on its way to it arrives first.
    await this.sleep(0.5);
    this.cluster.crash(node, 'power-loss');
    await this.sleep(7);
  }

  async up(node: string): Promise<void> {
    if (!(await this.cluster.start(node))) throw new Error(`${node} did not start`);
  }

  /** `value` undefined: a delete. Throws where the write is not acknowledged. */
  async write(
    node: string,
    key: string,
    value: string | undefined,
    level = 'QUORUM',
    namespace = 0,
  ): Promise<void> {
    const request = {
      namespace,
      key: utf8.encode(key),
      value: value === undefined ? undefined : utf8.encode(value),
      valueType: 0,
      ttlMs: 0,
      afterHlc: 0,
      level,
      explain: false,
    };
    const to = this.#coordinator(node, key, namespace);
    const answer = await this.cluster.ask(to, 'write', request, 5_000);
    if (answer.kind !== 'reply') throw new Error(`${key}: ${JSON.stringify(answer)}`);
  }

  /** What a client is shown; `refused` where there is no answer. */
  async read(node: string, key: string, level = 'QUORUM'): Promise<string> {
    const request = { namespace: 0, key: utf8.encode(key), level, afterHlc: 0, explain: false };
    const answer = await this.cluster.ask(this.#coordinator(node, key), 'read', request, 5_000);
    return answer.kind === 'reply' ? shown(answer.reply.record) : 'refused';
  }

  #coordinator(node: string, key: string, namespace = 0): Ref<Coordinator> {
    const { token } = hashKey(storageKey(namespace, utf8.encode(key)));
    return refTo(Coordinator, node, shardOf(token, this.#shards));
  }

  /** The value that one node holds; `deleted` for a mark of a delete, `nothing` where there is none. */
  async holds(node: string, key: string): Promise<string> {
    const stored = storageKey(0, utf8.encode(key));
    const { token, hash } = hashKey(stored);
    const to = refTo(Replica, node, shardOf(token, this.#shards));
    const answer = await this.cluster.ask(to, 'read', { key: stored, hash, digest: false }, 5_000);
    if (answer.kind !== 'reply') throw new Error(`${node} ${key}: ${JSON.stringify(answer)}`);
    return shown(answer.reply.record);
  }

  /** What the three nodes hold of a key. */
  async held(key: string): Promise<string[]> {
    const held: string[] = [];
    for (const node of replicaNames) held.push(await this.holds(node, key));
    return held;
  }

  /** Writes memory to tables on every shard of a node. */
  async flush(node: string): Promise<void> {
    for (let shard = 0; shard < this.#shards; shard += 1)
      await this.cluster.ask(refTo(Store, node, shard), 'flush', {}, 60_000);
  }

  /** Writes so many tables of other keys through a node that every table is merged on all of them. */
  async mergeAll(node: string, prefix: string): Promise<void> {
    for (let table = 0; table < 6; table += 1) {
      for (let i = 0; i < 40; i += 1)
        await this.write(node, `${prefix}-${table}-key-${i}`, 'x'.repeat(400));
      for (const each of replicaNames) await this.flush(each);
      await this.sleep(1);
    }
  }

  /** The disk of a node holds so many bytes more than what a node needs free to take writes. */
  limitSpace(node: string, spareBytes: number): void {
    const { storage } = this.cluster.machineOf(node);
    const neededBytes =
      this.#tunables.reserveBytes + flushSpaceBytes(this.#tunables) * this.#shards;
    storage.faults.capacityBytes = storage.usedBytes + neededBytes + spareBytes;
  }

  /** Starts a repair on a node and waits for its end, at most ten minutes. */
  async repair(node: string, request: Partial<RepairRequest> = {}): Promise<RepairReport> {
    const to = refTo(Repairer, node);
    const body = { set: undefined, isFull: false, ...request };
    const begun = await this.cluster.ask(to, 'run', body, 5_000);
    if (begun.kind !== 'reply') throw new Error(`repair: ${JSON.stringify(begun)}`);
    for (let second = 0; second < 600; second += 1) {
      const answer = await this.cluster.ask(to, 'status', {}, 5_000);
      const report = answer.kind === 'reply' ? answer.reply.report : undefined;
      if (report !== undefined && !report.isRunning) return report;
      await this.sleep(1);
    }
    throw new Error('the repair does not end');
  }

  reached(label: string): number {
    return this.cluster.probes.reached.get(label) ?? 0;
  }

  logged(event: string): readonly string[] {
    return this.cluster.log.last(100_000).filter((line) => line.includes(event));
  }
}

export function shown(record: Uint8Array | undefined): string {
  if (record === undefined) return 'nothing';
  return recordIsTombstone(record) ? 'deleted' : utf8.decode(recordValue(record));
}
