// One simulated node with everything that has files, from replica and coordinator down, for tests
// that crash it at every call of its environment (rule 2.5): small tables, quick compaction, and
// what lies on its disks afterwards.

import { expect } from 'chai';
import { recordKey, recordValue, userKey } from '../../actors/model/record.ts';
import { defaultTunables, type Tunables } from '../../actors/node/settings.ts';
import { Coordinator } from '../../actors/replication/protocol.ts';
import { Snapshotter, Store } from '../../actors/storage/protocol.ts';
import { segmentHeaderSpace } from '../../actors/storage/wal-format.ts';
import { type Ref, refTo } from '../../runtime/actor.ts';
import { noBytes, utf8 } from '../../runtime/bytes.ts';
import type { AskNames, BodyOf, ReplyOf } from '../../runtime/protocol.ts';
import { type CrashKind, type NodeProgram, SimCluster } from '../../sim/cluster.ts';
import { kvdCodec, kvdProgram, sharedCodecs } from '../../sim/kvd-program.ts';
import type { SimStorage } from '../../sim/sim-disk.ts';
import { World } from '../../sim/world.ts';
import { MemoryDisk } from '../kit-disk.ts';
import { quickNetwork } from '../sim/small-cluster.ts';

export const nodeName = 'n1';
const timeoutMs = 5_000;
const wanted = new Set([
  ...['wal-archiver', 'wal-writer', 'memtable', 'table-reader', 'compactor', 'store'],
  ...['snapshotter', 'replica', 'coordinator', 'catalog'],
]);

const tunables: Tunables = {
  ...defaultTunables(),
  replicationFactor: 1,
  virtualNodes: 4,
  memtableBytes: 64 * 1024,
  inFlightBytes: 64 * 1024,
  arenasPerShard: 2,
  walSegmentBytes: segmentHeaderSpace + 1024,
  walArchiveIntervalMs: 200,
  blockCacheBytes: 64 * 1024,
  l0Tables: 2,
  reserveBytes: 0,
  valueBytesMax: 1024,
};

function program(hasWalArchive: boolean, changes: Partial<Tunables>): NodeProgram {
  const own = { names: [nodeName], shards: 1, durability: 'group' } as const;
  const options = { ...own, tunables: { ...tunables, ...changes } };
  const whole = kvdProgram({ ...options, hasWalArchive });
  return {
    ...whole,
    actorsOf: async (name, host) => {
      // The caller plans the crash before the first call.
      await Promise.resolve();
      const specs = await whole.actorsOf(name, host);
      return specs.filter(({ kind }) => wanted.has(kind.protocol.name));
    },
  };
}

/** Where a crash happens: `call` counts the calls from the moment it is planned, from 1. */
export interface Crash {
  readonly kind: CrashKind;
  readonly call: number;
}

export class MachineUnderTest {
  readonly cluster: SimCluster;
  /** Values are numbers that grow: the last one acknowledged, by key. */
  readonly acked = new Map<string, number>();
  readonly #tried = new Map<string, number>();
  #value = 0;

  constructor(hasWalArchive = false, changes: Partial<Tunables> = {}) {
    this.cluster = new SimCluster({
      world: new World({ seed: 1 }),
      names: [nodeName],
      program: program(hasWalArchive, changes),
      codec: kvdCodec(),
      codecs: sharedCodecs(),
      network: quickNetwork,
    });
  }

  get isUp(): boolean {
    return this.cluster.condition(nodeName) === 'up';
  }

  get calls(): number {
    return this.cluster.processOf(nodeName)?.calls ?? 0;
  }

  get storage(): SimStorage {
    return this.cluster.machineOf(nodeName).storage;
  }

  async start(): Promise<void> {
    if (!(await this.cluster.start(nodeName)))
      throw new Error(`it did not start:\n${this.cluster.log.last(20).join('\n')}`);
  }

  plan({ kind, call }: Crash): void {
    this.cluster.crashAtCall(nodeName, call, kind);
  }

  /** The reply; undefined where the node refused or is gone. */
  async ask<P, K extends AskNames<P>>(
    ref: Ref<P>,
    name: K,
    body: BodyOf<P[K]>,
  ): Promise<ReplyOf<P[K]> | undefined> {
    if (!this.isUp) return undefined;
    const answer = await this.cluster.ask(
      ref as Ref<never>,
      name as never,
      body as never,
      timeoutMs,
    );
    return answer.kind === 'reply' ? answer.reply : undefined;
  }

  /** Writes `count` values over 10 keys, in groups that share a sync. */
  async write(count: number): Promise<void> {
    for (let done = 0; done < count && this.isUp; done += 5)
      await Promise.all(Array.from({ length: 5 }, () => this.#writeOne()));
  }

  async #writeOne(): Promise<void> {
    this.#value += 1;
    const value = this.#value;
    const key = `key-${value % 10}`;
    this.#tried.set(key, value);
    const body = {
      namespace: 0,
      key: utf8.encode(key),
      value: utf8.encode(String(value)),
      valueType: 0,
      ttlMs: 0,
      afterHlc: 0,
      level: 'ONE',
    };
    const reply = await this.ask(refTo(Coordinator, nodeName), 'write', body as never);
    if (reply !== undefined) this.acked.set(key, value);
  }

  flush = (): Promise<unknown> => this.ask(refTo(Store, nodeName), 'flush', {});

  snapshot = (name: string): Promise<ReplyOf<Snapshotter['create']> | undefined> =>
    this.ask(refTo(Snapshotter, nodeName), 'create', { name });

  remove = (name: string): Promise<ReplyOf<Snapshotter['remove']> | undefined> =>
    this.ask(refTo(Snapshotter, nodeName), 'remove', { name });

  async snapshots(): Promise<readonly string[]> {
    const reply = await this.ask(refTo(Snapshotter, nodeName), 'list', {});
    return reply?.snapshots.map(({ name }) => name) ?? [];
  }

  /** Every key has at least its acknowledged value, and none that was never written. */
  async expectAcked(): Promise<void> {
    const request = { namespace: 0, prefix: noBytes, after: undefined, limit: 1000, level: 'ONE' };
    const scan = await this.ask(refTo(Coordinator, nodeName), 'scan', request);
    const found = new Map(
      scan?.records.map((record) => [
        utf8.decode(userKey(recordKey(record))),
        Number(utf8.decode(recordValue(record))),
      ]),
    );
    for (const [key, value] of this.acked) expect(found.get(key), key).to.be.at.least(value);
    for (const [key, value] of found) {
      expect(value, key).to.be.at.most(this.#tried.get(key) ?? 0);
      this.acked.set(key, value);
    }
  }
}

/** The disk has no more than `freeBytes` left from the moment when the first such file is created. */
export function fillWhenCreated(storage: SimStorage, path: RegExp, freeBytes: number): void {
  const create = storage.create.bind(storage);
  storage.create = (name) => {
    const file = create(name);
    if (path.test(name)) {
      storage.faults.capacityBytes = storage.usedBytes + freeBytes;
      storage.create = create;
    }
    return file;
  };
}

/** The files of a simulated disk, copied as they are now. */
export function copyOf(storage: SimStorage, directories: readonly string[]): MemoryDisk {
  const disk = new MemoryDisk();
  for (const directory of directories)
    for (const name of storage.list(directory)) {
      const path = directory === '' ? name : `${directory}/${name}`;
      const file = storage.find(path);
      if (file !== undefined) disk.put(path, file.copy());
    }
  return disk;
}
