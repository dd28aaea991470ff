// One node on a disk in memory, with everything that writes files: identity, the storage of one
// shard, replica and coordinator, from the plan of real nodes. It is started over and over from
// copies of a disk; what a start refuses with is an answer like any other.

import { openIdentity } from '../../actors/node/identity.ts';
import { arenaCount, planNode } from '../../actors/node/plan.ts';
import { arenaBytes } from '../../actors/node/sizes.ts';
import { allProtocols } from '../../actors/node/protocols.ts';
import { defaultTunables, type Tunables } from '../../actors/node/settings.ts';
import { recordKey } from '../../actors/model/record.ts';
import { hashKey } from '../../actors/model/token.ts';
import { Coordinator } from '../../actors/replication/protocol.ts';
import { boundLeadMicros } from '../../actors/replication/stamper.ts';
import { Store } from '../../actors/storage/protocol.ts';
import { type Ref, refTo } from '../../runtime/actor.ts';
import { noBytes, utf8 } from '../../runtime/bytes.ts';
import type { Tasks } from '../../runtime/environment.ts';
import { CorruptionError, type Failure, KvError } from '../../runtime/errors.ts';
import { loadCodecModules } from '../../runtime/host/codec-modules.ts';
import { createCodecs } from '../../runtime/block-codecs.ts';
import { placementOf } from '../../runtime/placement.ts';
import type { AskNames, BodyOf, ReplyOf } from '../../runtime/protocol.ts';
import { coreTasks, runTask } from '../../runtime/tasks.ts';
import { Kit } from '../kit.ts';
import type { MemoryDisk } from '../kit-disk.ts';

export const nodeName = 'n1';
export const shardDirectory = 'shard-0';

/** Small files: several log segments and several blocks per table. */
export const smallTunables: Tunables = {
  ...defaultTunables(),
  replicationFactor: 1,
  virtualNodes: 8,
  memtableBytes: 256 * 1024,
  inFlightBytes: 256 * 1024,
  arenasPerShard: 2,
  walSegmentBytes: 12 * 1024,
  blockCacheBytes: 64 * 1024,
  rowCacheBytes: 64 * 1024,
  reserveBytes: 0,
  valueBytesMax: 4096,
};

const identity = {
  clusterName: 'test',
  node: nodeName,
  members: [nodeName],
  replicationFactor: 1,
  virtualNodes: smallTunables.virtualNodes,
  shards: 1,
};
/** Actors that write or read files, and what leads to them. */
const wantedActors = new Set<string>([
  ...['wal-writer', 'memtable', 'table-reader', 'compactor', 'store'],
  ...['replica', 'coordinator', 'catalog'],
]);

const codecs = createCodecs(loadCodecModules());
const tasks: Tasks = {
  run: <Input, Output>(name: string, input: Input): Promise<Output> =>
    Promise.resolve().then(() => runTask(coreTasks, codecs, name, input) as Output),
};
/** As on a machine: shared by one start after the other, and never cleared. */
const arenas = Array.from(
  { length: arenaCount(smallTunables, 1) },
  () => new SharedArrayBuffer(arenaBytes(smallTunables)),
);

export type Answer<Reply> =
  | { readonly failure: Failure; readonly reply?: undefined }
  | { readonly failure?: undefined; readonly reply: Reply };

export class NodeUnderTest {
  readonly #kit: Kit;

  private constructor(kit: Kit) {
    this.#kit = kit;
  }

  /** The node, or what its start refuses with; anything else that is thrown is a defect. */
  static async start(
    disk: MemoryDisk,
    acceptDataLoss = false,
  ): Promise<NodeUnderTest | KvError | CorruptionError> {
    const kit = new Kit(allProtocols, { disk, arenas, codecs, tasks });
    try {
      await spawnAll(kit, disk, acceptDataLoss);
      return new NodeUnderTest(kit);
    } catch (error) {
      kit.kernel.stop();
      if (error instanceof KvError || error instanceof CorruptionError) return error;
      throw error;
    }
  }

  /** A node that has to start. */
  static async running(disk: MemoryDisk): Promise<NodeUnderTest> {
    const started = await NodeUnderTest.start(disk);
    if (started instanceof NodeUnderTest) return started;
    throw started;
  }

  /** The process is gone; what it wrote stays. */
  end(): void {
    this.#kit.kernel.stop();
  }

  advance(byMs: number): Promise<void> {
    return this.#kit.host.advance(byMs);
  }

  /** Writes at once; `undefined` deletes. All have to be acknowledged. */
  async write(values: ReadonlyMap<string, string | undefined>): Promise<void> {
    const asked = [...values].map(([key, value]) =>
      this.#kit.ask(coordinator, 'write', requestOf(key, value)),
    );
    await this.#kit.host.settle();
    for (const { reply, failure } of asked) if (reply === undefined) throw new Error(failure?.code);
  }

  /** As a peer writes it, whatever its size. */
  async apply(record: Uint8Array): Promise<Answer<ReplyOf<Store['apply']>>> {
    const [answer] = await this.#askAll(store, 'apply', [{ record }]);
    return answer as Answer<ReplyOf<Store['apply']>>;
  }

  async flush(): Promise<void> {
    await this.#askAll(store, 'flush', [{}]);
  }

  /** What the store says of each storage key. */
  read(keys: readonly Uint8Array[]): Promise<readonly Answer<ReplyOf<Store['read']>>[]> {
    const bodies = keys.map((key) => ({ key, hash: hashKey(key).hash }));
    return this.#askAll(store, 'read', bodies);
  }

  /** All records of the store in pages of `limit`; a failure ends it. */
  async range(limit: number): Promise<Answer<readonly Uint8Array[]>> {
    const all: Uint8Array[] = [];
    let from: Uint8Array = noBytes;
    for (;;) {
      const body = { from, to: undefined, limit, bytes: 1 << 20 };
      const [page] = await this.#askAll(store, 'range', [body]);
      if (page?.reply === undefined) return { failure: (page as { failure: Failure }).failure };
      const { records, isDone } = page.reply;
      all.push(...records);
      if (isDone) return { reply: all };
      // The next key after the last one of the page.
      from = new Uint8Array([...recordKey(records[records.length - 1] as Uint8Array), 0]);
    }
  }

  /** Live records as a client's scan gives them. */
  async scan(): Promise<Answer<readonly Uint8Array[]>> {
    const all: Uint8Array[] = [];
    let after: Uint8Array | undefined;
    for (;;) {
      const body = { namespace: 0, prefix: noBytes, after, limit: 100, level: 'ONE' };
      const [page] = await this.#askAll(coordinator, 'scan', [body]);
      if (page?.reply === undefined) return { failure: (page as { failure: Failure }).failure };
      all.push(...page.reply.records);
      if (page.reply.next === undefined) return { reply: all };
      after = page.reply.next;
    }
  }

  async #askAll<P, K extends AskNames<P>>(
    ref: Ref<P>,
    name: K,
    bodies: readonly BodyOf<P[K]>[],
  ): Promise<readonly Answer<ReplyOf<P[K]>>[]> {
    const asked = bodies.map((body) => this.#kit.ask(ref, name, body));
    await this.#kit.host.settle();
    const { stops } = this.#kit.host;
    if (stops.length > 0) throw new Error(`the node stopped: ${stops.join('; ')}`);
    return asked.map(({ failure, reply }) => {
      if (failure !== undefined) return { failure };
      if (reply === undefined) throw new Error(`no answer to ${name}`);
      return { reply };
    });
  }
}

const store = refTo(Store, nodeName);
const coordinator = refTo(Coordinator, nodeName);

const requestOf = (key: string, value: string | undefined): BodyOf<Coordinator['write']> => ({
  namespace: 0,
  key: utf8.encode(key),
  value: value === undefined ? undefined : utf8.encode(value),
  valueType: value === undefined ? 0 : 1,
  ttlMs: key.endsWith('ttl') ? 3_600_000 : 0,
  afterHlc: 0,
  explain: false,
  level: 'ONE',
});

async function spawnAll(kit: Kit, disk: MemoryDisk, acceptDataLoss: boolean): Promise<void> {
  const { incarnation } = await openIdentity(disk, identity, kit.host.nowMs / 1000);
  const planned = planNode({
    node: nodeName,
    clusterName: identity.clusterName,
    incarnation,
    members: [{ node: nodeName, host: '127.0.0.1', internodePort: 7002 }],
    placement: placementOf('single', 1),
    host: '127.0.0.1',
    httpPort: 7000,
    internodePort: 7002,
    durability: 'group',
    acceptDataLoss,
    tunables: smallTunables,
    samples: () => [],
  });
  for (const { spec } of planned) {
    if (!wantedActors.has(spec.kind.protocol.name)) continue;
    const started = kit.kernel.spawn(spec);
    // What it rejects with is looked at below; until then nobody does.
    started.catch(() => undefined);
    await kit.host.settle();
    // After a crash the coordinator waits until the clock has come near its bound (HLC-3).
    if (spec.kind.protocol.name === Coordinator.name)
      await kit.host.advance(boundLeadMicros / 1000);
    await started;
  }
}
