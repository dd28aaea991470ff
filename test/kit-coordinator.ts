// A coordinator on n1 whose replicas are all played by the test.

import { refTo } from '../runtime/actor.ts';
import { utf8 } from '../runtime/bytes.ts';
import type { Disk } from '../runtime/environment.ts';
import { lastWriteWins, type Resolve } from '../actors/model/resolve.ts';
import { Ring } from '../actors/model/ring.ts';
import { storageKey } from '../actors/model/record.ts';
import { hashKey } from '../actors/model/token.ts';
import { HintKeeper } from '../actors/handoff/protocol.ts';
import type { PeerCondition } from '../actors/membership/protocol.ts';
import { coordinator, type CoordinatorOptions } from '../actors/replication/coordinator.actor.ts';
import {
  Coordinator,
  Replica,
  type ReadReply,
  type ReadRequest,
  type ScanReply,
  type ScanRequest,
  type WriteReply,
  type WriteRequest,
} from '../actors/replication/protocol.ts';
import { MemoryDisk } from './kit-disk.ts';
import type { Outcome } from './kit.ts';
import { Store } from '../actors/storage/protocol.ts';
import { ReplicaKit, readReply } from './kit-replication.ts';

/** The wall clock of the kit, which stands still unless a test moves it. */
export const wallMicros = 1_700_000_000_000_000;
export const wallMs = wallMicros / 1_000;
export const boundPath = 'clock-bound';

export interface CoordinatorSetup {
  readonly members?: readonly string[];
  readonly replicationFactor?: number;
  readonly shards?: number;
  readonly disk?: Disk;
  readonly openRequestsMax?: number;
  /** Default 8. */
  readonly joinReadsAbove?: number;
  /** Who keeps hints is played by the test too, as an actor of the node `keeper`. */
  readonly hasHints?: boolean;
  /** Default: the last write wins. */
  readonly resolve?: Resolve;
  /** Default true: the failure detector has said that all members are alive. */
  readonly knowsPeers?: boolean;
}

export class CoordinatorKit extends ReplicaKit {
  readonly members: readonly string[];
  wallMicros = wallMicros;

  constructor(disk: Disk, members: readonly string[]) {
    super({ disk }, [Coordinator, Replica, Store, HintKeeper]);
    this.members = members;
    this.host.clock.wallMicros = () => this.wallMicros;
  }

  static async start(setup: CoordinatorSetup = {}): Promise<CoordinatorKit> {
    const { members = ['n1', 'n2', 'n3'], replicationFactor = 3, shards = 1 } = setup;
    const kit = new CoordinatorKit(setup.disk ?? new MemoryDisk(), members);
    for (let shard = 0; shard < shards; shard += 1) await kit.playReplica(shard);
    for (const node of members) if (node !== 'n1') kit.playPeer(node);
    const options: CoordinatorOptions = {
      ring: new Ring({ members, virtualNodes: 4, replicationFactor }),
      resolve: setup.resolve ?? lastWriteWins,
      writer: 41,
      incarnation: 42,
      shards,
      boundPath,
      speculateAfterMs: 100,
      backgroundRepairs: 0,
      joinReadsAbove: setup.joinReadsAbove ?? 8,
      openRequestsMax: setup.openRequestsMax ?? 16_384,
      ...(setup.hasHints === true ? { hints: refTo(HintKeeper, 'keeper') } : {}),
    };
    kit.playPeer('keeper');
    await kit.spawn(coordinator, options);
    if (setup.knowsPeers !== false) kit.peers({});
    return kit;
  }

  /** What the failure detector says; who is not named is alive. */
  peers(conditions: Readonly<Record<string, PeerCondition>>, shards = 1): void {
    const peers = this.members.map((node) => ({
      node,
      condition: conditions[node] ?? ('alive' as const),
      phi: 0,
      shards,
    }));
    this.kernel.tell(refTo(Coordinator, 'n1'), 'peersChanged', { peers });
  }

  write(
    key: string,
    changes: Partial<Omit<WriteRequest, 'key'>> = {},
    timeoutMs = 1_000,
  ): Outcome<WriteReply> {
    const request: WriteRequest = {
      namespace: 1,
      key: utf8.encode(key),
      value: utf8.encode('value'),
      valueType: 0,
      ttlMs: 0,
      afterHlc: 0,
      explain: false,
      level: 'QUORUM',
      ...changes,
    };
    return this.ask(refTo(Coordinator, 'n1'), 'write', request, timeoutMs);
  }

  /** A write whose key this node finds to hold `before`: the replicas have been asked to write. */
  async sentWrite(
    key: string,
    before?: Uint8Array,
    changes: Partial<Omit<WriteRequest, 'key'>> = {},
  ): Promise<Outcome<WriteReply>> {
    const written = this.write(key, changes);
    (await this.take('n1', 'read')).reply(readReply(before));
    await this.host.settle();
    return written;
  }

  read(key: string, level = 'QUORUM', timeoutMs = 1_000, explain = false): Outcome<ReadReply> {
    const request: ReadRequest = { namespace: 1, key: utf8.encode(key), level, explain };
    return this.ask(refTo(Coordinator, 'n1'), 'read', request, timeoutMs);
  }

  scan(changes: Partial<ScanRequest> = {}, timeoutMs = 1_000): Outcome<ScanReply> {
    const request: ScanRequest = {
      namespace: 1,
      prefix: utf8.encode(''),
      after: undefined,
      limit: 10,
      level: 'QUORUM',
      ...changes,
    };
    return this.ask(refTo(Coordinator, 'n1'), 'scan', request, timeoutMs);
  }

  /** Reads that the coordinator still keeps. */
  openReads(): number | undefined {
    const samples = this.host.metrics.samples();
    return samples.find(({ name }) => name === 'kvd_coordinator_open_reads')?.value;
  }
}

export const tokenOf = (key: string): number => hashKey(storageKey(1, utf8.encode(key))).token;

/** The first of many keys whose token fits. */
export function keyWhere(fits: (token: number) => boolean): string {
  for (let i = 0; i < 1_000; i += 1) if (fits(tokenOf(`key-${i}`))) return `key-${i}`;
  throw new Error('no key fits');
}
