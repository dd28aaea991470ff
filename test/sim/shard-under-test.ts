// One shard of a real node in the simulator, with the smallest sizes, so that a few hundred records
// go through flushes and compactions; asked as a client on the network would ask it.

import { storageKey } from '../../actors/model/record.ts';
import { defaultTunables, type Durability, type Tunables } from '../../actors/node/settings.ts';
import { Store, type StoreStats } from '../../actors/storage/protocol.ts';
import { refTo } from '../../runtime/actor.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { fingerprint32 } from '../../runtime/hash.ts';
import type { AskNames, BodyOf, ReplyOf } from '../../runtime/protocol.ts';
import { type ClientAnswer, SimCluster } from '../../sim/cluster.ts';
import { kvdCodec, kvdProgram, sharedCodecs } from '../../sim/kvd-program.ts';
import { World } from '../../sim/world.ts';
import { makeRecord } from '../storage/records-under-test.ts';
import { quickNetwork } from './small-cluster.ts';
import type { CompactionStrategy, Compression } from '../../actors/model/table-choices.ts';

const kiB = 1024;
const timeoutMs = 60_000;
const reserveBytes = 1024 * kiB;
/** Free space below which the shard takes no writes: with three memtables and a segment. */
export const neededBytes = reserveBytes + 4 * 64 * kiB;

export interface ShardOptions {
  readonly seed: number;
  readonly compaction: CompactionStrategy;
  readonly compression?: Compression;
  /** 1: tombstones may be purged. 2: never. */
  readonly copies: 1 | 2;
  readonly durability?: Durability;
  /** Some sites of rare choices take them (rule SIM-7). */
  readonly hasBuggify?: boolean;
  readonly tunables?: Partial<Tunables>;
}

export class ShardUnderTest {
  readonly cluster: SimCluster;

  constructor(shard: ShardOptions) {
    const { seed, compaction, compression = 'auto', copies, tunables = {} } = shard;
    const { durability = 'group', hasBuggify = false } = shard;
    const names = ['n1', 'n2'].slice(0, copies);
    const small: Tunables = {
      ...defaultTunables(),
      replicationFactor: copies,
      virtualNodes: 1,
      memtableBytes: 64 * kiB,
      inFlightBytes: 64 * kiB,
      walSegmentBytes: 64 * kiB,
      blockCacheBytes: 64 * kiB,
      rowCacheBytes: 64 * kiB,
      valueBytesMax: 8 * kiB,
      reserveBytes,
      gossipIntervalMs: 60_000,
      tableBytes: 16 * kiB,
      timeWindowMs: 20_000,
      tombstoneGraceMs: 0,
      hintWindowMs: 0,
      ...tunables,
    };
    const stored = { compaction, compression, tunables: small };
    const options = { names, shards: 1, durability, ...stored } as const;
    this.cluster = new SimCluster({
      world: new World({ seed }),
      names,
      program: kvdProgram(options),
      codec: kvdCodec(),
      codecs: sharedCodecs(),
      network: quickNetwork,
      hasBuggify,
    });
  }

  /** A stamp of this moment; it never comes twice. */
  stamp(): number {
    this.#lastStamp = Math.max(
      this.#lastStamp + 1,
      Math.floor(this.cluster.clockOf('n1').wallMicros()),
    );
    return this.#lastStamp;
  }
  #lastStamp = 0;

  ask<K extends AskNames<Store>>(
    name: K,
    body: BodyOf<Store[K]>,
  ): Promise<ClientAnswer<ReplyOf<Store[K]>>> {
    return this.cluster.ask(refTo(Store, 'n1'), name, body, timeoutMs);
  }

  /** Asked within the node, in the turn of the call: several in one turn arrive together. */
  askWithin<K extends AskNames<Store>>(
    name: K,
    body: BodyOf<Store[K]>,
  ): Promise<ReplyOf<Store[K]>> {
    const kernel = this.cluster.kernelOf('n1');
    if (kernel === undefined) throw new Error('n1 is down');
    return new Promise((resolve, reject) => {
      kernel.ask(refTo(Store, 'n1'), name, body, timeoutMs, (problem, reply) => {
        if (reply === undefined) reject(new Error(JSON.stringify(problem)));
        else resolve(reply);
      });
    });
  }

  /** True: durable. False: refused or lost, because the node went down. */
  async apply(record: Uint8Array): Promise<boolean> {
    for (;;) {
      const answer = await this.ask('apply', { record });
      if (answer.kind === 'reply') return true;
      const isBusy = answer.kind === 'failure' && answer.failure.code === 'OVERLOADED';
      if (!isBusy) return false;
      await this.cluster.world.sleep(50);
    }
  }

  /** What the shard holds of a key; throws where it does not answer. */
  async read(key: string, namespace = 1): Promise<Uint8Array | undefined> {
    const stored = storageKey(namespace, utf8.encode(key));
    const answer = await this.ask('read', { key: stored, hash: fingerprint32(stored) });
    if (answer.kind !== 'reply') throw new Error(`no answer for ${key}: ${JSON.stringify(answer)}`);
    return answer.reply.record;
  }

  async range(): Promise<readonly Uint8Array[]> {
    return this.#page(storageKey(1, utf8.encode('')));
  }

  /** Of all namespaces, and what the replica keeps for itself. */
  all(): Promise<readonly Uint8Array[]> {
    return this.#page(utf8.encode(''));
  }

  async #page(from: Uint8Array): Promise<readonly Uint8Array[]> {
    const answer = await this.ask('range', { from, to: undefined, limit: 100_000, bytes: 1 << 30 });
    if (answer.kind !== 'reply') throw new Error(`no page: ${JSON.stringify(answer)}`);
    return answer.reply.records;
  }

  async stats(): Promise<StoreStats> {
    const answer = await this.ask('stats', {});
    if (answer.kind !== 'reply') throw new Error(`no figures: ${JSON.stringify(answer)}`);
    return answer.reply;
  }

  /** Files of tables on the disk. */
  tableFiles(): readonly string[] {
    return this.cluster.machineOf('n1').storage.list('shard-0/tables');
  }

  reached(label: string): number {
    return this.cluster.probes.reached.get(label) ?? 0;
  }
}

export const recordOf = (
  key: string,
  hlc: number,
  value: Uint8Array | undefined,
  namespace = 1,
): Uint8Array =>
  makeRecord(key, { hlc, value: value ?? '', isTombstone: value === undefined, namespace });
