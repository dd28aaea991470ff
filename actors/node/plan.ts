// The plan of a node: all its actors, where each one runs, how much mail it takes and what happens
// when it crashes. The launcher and the simulator run this same table; it is the only file that
// imports actors.
//
// Start order is table order, stop order the reverse: storage before what reads and writes it,
// membership before the gateway that routes by it.

import type { ActorKind, Ref } from '../../runtime/actor.ts';
import { refTo } from '../../runtime/actor.ts';
import { fingerprint32Text } from '../../runtime/hash.ts';
import type { Placement, ThreadGroup } from '../../runtime/placement.ts';
import { Sealer } from '../../runtime/seal.ts';
import { type ActorSpec, type CrashPolicy, restart, stopNode } from '../../runtime/supervisor.ts';
import { catalog } from '../catalog/catalog.actor.ts';
import { Catalog } from '../catalog/protocol.ts';
import { httpGateway } from '../gateway/http-gateway.actor.ts';
import { defaultGatewaySettings } from '../gateway/http-requests.ts';
import { HttpGateway, RespGateway, Watcher } from '../gateway/protocol.ts';
import { respGateway } from '../gateway/resp-gateway.actor.ts';
import { watcher } from '../gateway/watcher.actor.ts';
import { hintKeeper } from '../handoff/hint-keeper.actor.ts';
import { HintKeeper } from '../handoff/protocol.ts';
import { failureDetector } from '../membership/failure-detector.actor.ts';
import { gossiper } from '../membership/gossiper.actor.ts';
import { primaryWatch } from '../membership/primary-watch.actor.ts';
import { FailureDetector, Gossiper, PrimaryWatch } from '../membership/protocol.ts';
import { recordBytesMax } from '../model/record.ts';
import { lastWriteWins } from '../model/resolve.ts';
import { ReplicaSets } from '../model/replica-sets.ts';
import { Ring } from '../model/ring.ts';
import { mergeReplicas } from '../model/siblings.ts';
import { monitor } from '../observability/monitor.actor.ts';
import { renderPrometheus } from '../observability/prometheus-text.ts';
import { Monitor } from '../observability/protocol.ts';
import { Rejoiner } from '../rejoin/protocol.ts';
import { rejoiner } from '../rejoin/rejoiner.actor.ts';
import { Repairer } from '../repair/protocol.ts';
import { repairer } from '../repair/repairer.actor.ts';
import { acceptor } from '../replication/acceptor.actor.ts';
import { paxosRepairer } from '../replication/paxos-repairer.actor.ts';
import { coordinator, type CoordinatorOptions } from '../replication/coordinator.actor.ts';
import { proposer } from '../replication/proposer.actor.ts';
import { batchKeeper } from '../replication/batch-keeper.actor.ts';
import { batchWriter } from '../replication/batch-writer.actor.ts';
import {
  Acceptor,
  BatchKeeper,
  BatchWriter,
  Coordinator,
  PaxosRepairer,
  Proposer,
  Replica,
  SiblingKeeper,
} from '../replication/protocol.ts';
import { replica } from '../replication/replica.actor.ts';
import { siblingEpochFile } from '../replication/sibling-epoch.ts';
import { siblingKeeper } from '../replication/sibling-keeper.actor.ts';
import { auditor } from '../security/auditor.actor.ts';
import { compactor } from '../storage/compactor.actor.ts';
import { memtable } from '../storage/memtable.actor.ts';
import {
  Compactor,
  Memtable,
  Store,
  TableReader,
  WalArchiver,
  WalWriter,
} from '../storage/protocol.ts';
import type { TombstonePurge } from '../storage/purge-rule.ts';
import { scrubber } from '../storage/scrubber.actor.ts';
import { snapshotter } from '../storage/snapshotter.actor.ts';
import { archiveDirectory } from '../storage/archive-format.ts';
import { store } from '../storage/store.actor.ts';
import { tableReader } from '../storage/table-reader.actor.ts';
import { walArchiver } from '../storage/wal-archiver.actor.ts';
import { walWriter } from '../storage/wal-writer.actor.ts';
import type { NodeSettings, StorageSettings } from './plan-settings.ts';
import { recordAgeMaxMs, type Tunables } from './settings.ts';
import { decisionBytesOf, flushSpaceBytes, heldBytesMax, serialValueBytesMax } from './sizes.ts';
import { threadGroups } from './thread-groups.ts';

export type { Member, NodeSettings, StorageSettings } from './plan-settings.ts';

export interface PlannedActor {
  readonly group: ThreadGroup;
  readonly thread: number;
  readonly spec: ActorSpec;
}

/** A crash here may leave what was acknowledged in doubt: the node stops and recovers. */
const fatal = stopNode();
/** State is rebuilt from messages within a second: a new instance is as good. */
const forgiving = restart({ fromMs: 100, toMs: 10_000, limit: 5, withinMs: 60_000 });

export function arenaCount({ arenasPerShard }: Tunables, shards: number): number {
  return arenasPerShard * shards;
}

interface Row {
  readonly kind: ActorKind;
  readonly options: unknown;
  readonly shard: number;
  readonly capacity: number;
  readonly onCrash: CrashPolicy;
}

/** Who holds what. Large rings have many sets: they are put together once for all actors. */
interface Places {
  readonly ring: Ring;
  readonly sets: ReplicaSets;
}

/** All actors of a node in start order. BAD_REQUEST where the ring cannot be built. */
export function planNode(settings: NodeSettings): readonly PlannedActor[] {
  const { node, placement, members, tunables } = settings;
  const ring = new Ring({
    members: members.map(({ node }) => node),
    virtualNodes: tunables.virtualNodes,
    replicationFactor: tunables.replicationFactor,
  });
  const places = { ring, sets: new ReplicaSets(ring) };
  const shards = [...Array(placement.shards).keys()];
  const purge = tombstonePurgeOf(ring.replicationFactor);
  const storage = { ...settings, shards: shards.length, watcher: refTo(Watcher, node) };
  const placed = (row: Row): PlannedActor => place(row, placement);
  const monitors = [...Array(placement.threads).keys()].map((thread) =>
    place(monitorRow(settings, thread), placement, thread),
  );
  return [
    ...monitors,
    ...shards.flatMap((shard) => storageRows(storage, purge, shard).map(placed)),
    placed(snapshotRow(settings, ring)),
    placed(catalogRow(settings, ring)),
    ...auditRows(settings).map(placed),
    ...shards.flatMap((shard) => replicationRows(settings, places, shard).map(placed)),
    ...batchRows(settings, ring).map(placed),
    ...membershipRows(settings, places).map(placed),
    ...gatewayRows(settings, ring).map(placed),
  ];
}

/** The storage actors of shard 0 alone, one copy, in start order: the engine as a library. */
export function planStorage(
  settings: StorageSettings,
  placement: Placement,
): readonly PlannedActor[] {
  return storageRows(settings, 'at-once', 0).map((row) => place(row, placement));
}

/** On `thread`, or where the placement puts its group. */
function place(
  { kind, options, shard, capacity, onCrash }: Row,
  placement: Placement,
  thread?: number,
): PlannedActor {
  const group = threadGroups[kind.protocol.name] ?? 'control';
  return {
    group,
    thread: thread ?? placement.threadOf(group, shard),
    spec: { kind, options, shard, mailboxCapacity: capacity, onCrash },
  };
}

function monitorRow({ samples }: NodeSettings, thread: number): Row {
  const options = { samples };
  return { kind: row(monitor), options, shard: thread, capacity: 64, onCrash: forgiving };
}

/** An actor's own option and message types are its business; the kernel moves plain values. */
function row(kind: unknown): ActorKind {
  return kind as ActorKind;
}

/** A node that is restarted often still gets to its first pass. */
const scrubAfterMs = 600_000;

const shardDirectory = (shard: number): string => `shard-${shard}`;

/**
 * A tombstone that one replica purges while another still holds what it hides brings that back to
 * life (G8). Only a repair that all replicas took part in rules it out (TS-3). A single copy has
 * no replica to bring anything back, but hints and batches that come late.
 */
const tombstonePurgeOf = (copies: number): TombstonePurge =>
  copies > 1 ? 'after-repair' : 'after-grace';

function storageRows(settings: StorageSettings, purge: TombstonePurge, shard: number): Row[] {
  const { node, clusterName, incarnation, tunables, durability, acceptDataLoss = false } = settings;
  const { shards = 1 } = settings;
  const directory = shardDirectory(shard);
  const identity = { clusterName, node, incarnation };
  const capacity = tunables.mailboxMessages;
  const first = shard * tunables.arenasPerShard;
  const arenas = [...Array(tunables.arenasPerShard).keys()].map((i) => first + i);
  const resolve = lastWriteWins;
  const wal = {
    directory: `${directory}/wal`,
    identity,
    segmentBytes: tunables.walSegmentBytes,
    // With other durabilities no answer waits for a sync.
    aheadBytes: durability === 'group' ? tunables.walAheadBytes : 0,
    durability,
    syncIntervalMs: tunables.walSyncIntervalMs,
    archive: settings.hasWalArchive
      ? { archiver: refTo(WalArchiver, node, shard), intervalMs: tunables.walArchiveIntervalMs }
      : undefined,
    // One record of any size is always let in.
    inFlightBytes: Math.max(tunables.inFlightBytes, recordBytesMax),
    acceptDataLoss,
  };
  const { blockCacheBytes, rowCacheBytes, memtableBytes, inFlightBytes, reserveBytes } = tunables;
  const { l0Tables, tableBytes, timeWindowMs } = tunables;
  const { compaction: strategy = 'leveled', compression = 'auto' } = settings;
  const front = {
    wal: refTo(WalWriter, node, shard),
    memtable: refTo(Memtable, node, shard),
    tables: refTo(TableReader, node, shard),
    compactor: refTo(Compactor, node, shard),
    resolve,
    directory,
    identity,
    watcher: settings.watcher,
    ...{ memtableBytes, inFlightBytes, rowCacheBytes, heldBytesMax: heldBytesMax(tunables) },
    arenas: arenas.length,
    reserveBytes,
    sectionBytesMin: memtableBytes / 64,
    flushSpaceBytes: flushSpaceBytes(tunables) * shards,
    ...{ acceptDataLoss, compression, catalog: { acceptDataLoss } },
    compaction: { strategy, l0Tables, tableBytes, timeWindowMs },
    waitingTablesMax: tunables.l0TablesMax,
    foregroundDelayMs: tunables.foregroundDelayMs,
    tombstonePurge: purge,
    tombstoneGraceMs: Math.max(tunables.tombstoneGraceMs, tunables.hintWindowMs),
  };
  const at = { shard, capacity, onCrash: fatal };
  const archive = { directory, archiveDirectory: archiveDirectory(clusterName, node, shard) };
  return [
    ...(settings.hasWalArchive === true
      ? [{ kind: row(walArchiver), options: archive, ...at, onCrash: forgiving }]
      : []),
    { kind: row(walWriter), options: wal, ...at },
    { kind: row(memtable), options: { arenas, resolve }, ...at },
    { kind: row(tableReader), options: { directory, resolve, blockCacheBytes }, ...at },
    { kind: row(compactor), options: { directory, resolve, compression }, ...at },
    { kind: row(store), options: front, ...at },
    scrubRow(settings, shard),
  ];
}

function scrubRow({ node, clusterName, tunables }: StorageSettings, shard: number): Row {
  const options = {
    store: refTo(Store, node, shard),
    wal: refTo(WalWriter, node, shard),
    directory: shardDirectory(shard),
    identity: { clusterName, node },
    intervalMs: tunables.scrubIntervalMs,
    startAfterMs: scrubAfterMs,
    bytesPerSecond: tunables.scrubBytesPerSecond,
  };
  // It holds nothing that is not read again.
  return { kind: row(scrubber), options, shard, capacity: 64, onCrash: forgiving };
}

function snapshotRow(settings: NodeSettings, ring: Ring): Row {
  const { node, clusterName, incarnation, placement } = settings;
  const { virtualNodes, replicationFactor } = settings.tunables;
  const { shards } = placement;
  const options = {
    stores: [...Array(shards).keys()].map((shard) => refTo(Store, node, shard)),
    identity: { clusterName, node, incarnation },
    shape: { members: [...ring.members].sort(), replicationFactor, virtualNodes, shards },
    birth: counts(settings) ? undefined : (settings.birth ?? incarnation),
  };
  // Its garbage is removed at a start, and nothing acknowledged depends on it.
  return { kind: row(snapshotter), options, shard: 0, capacity: 256, onCrash: forgiving };
}

function catalogRow(settings: NodeSettings, ring: Ring): Row {
  const { access, node, placement, tunables, acceptDataLoss = false } = settings;
  const shards = [...Array(placement.shards).keys()];
  const options = {
    ring,
    shards: placement.shards,
    gossiper: refTo(Gossiper, node),
    guards: shards.flatMap((shard) => [refTo(Replica, node, shard), refTo(Acceptor, node, shard)]),
    listeners: [
      ...shards.map((shard) => refTo(Store, node, shard)),
      ...(ring.replicationFactor > 1 ? shards.map((shard) => refTo(Repairer, node, shard)) : []),
      refTo(HttpGateway, node),
      refTo(RespGateway, node),
      refTo(Watcher, node),
    ],
    stores: shards.map((shard) => refTo(Store, node, shard)),
    usageListeners: [refTo(HttpGateway, node), refTo(RespGateway, node)],
    ...{ countMs: tunables.quotaCountMs, refreshMs: tunables.catalogRefreshMs, acceptDataLoss },
    needsAdministrator: access?.isRequired === true && access.bootstrapHash === undefined,
  };
  // What counts is on disk, and guards keep what they were told.
  return { kind: row(catalog), options, shard: 0, capacity: 1_024, onCrash: forgiving };
}

function auditRows({ access }: NodeSettings): Row[] {
  if (access === undefined) return [];
  // Nothing that was acknowledged depends on it.
  return [{ kind: row(auditor), options: {}, shard: 0, capacity: 1_024, onCrash: forgiving }];
}

/** An operator may take its data for all that there is. */
const counts = ({ isWhole = true, acceptDataLoss = false }: NodeSettings): boolean =>
  isWhole || acceptDataLoss;

function replicationRows(settings: NodeSettings, { ring, sets }: Places, shard: number): Row[] {
  const { node, incarnation, placement, tunables } = settings;
  const capacity = tunables.mailboxMessages;
  const replicaOptions = {
    store: refTo(Store, node, shard),
    siblings: refTo(SiblingKeeper, node, shard),
    ...(ring.replicationFactor > 1 ? { repairer: refTo(Repairer, node, shard) } : {}),
    catalog: { acceptDataLoss: settings.acceptDataLoss ?? false },
    shards: placement.shards,
    ...{ rangeRowsMax: 1_024, rangeBytesMax: 4 * 1024 * 1024 },
    isOpen: counts(settings),
  };
  const writer = fingerprint32Text(node);
  const siblingOptions = {
    store: refTo(Store, node, shard),
    writer,
    epochPath: `${shardDirectory(shard)}/${siblingEpochFile}`,
    isStateKept: settings.durability === 'group' && settings.acceptDataLoss !== true,
  };
  const coordinatorOptions = {
    ring,
    resolve: mergeReplicas,
    writer,
    incarnation,
    shards: placement.shards,
    boundPath: `${shardDirectory(shard)}/clock-bound`,
    ...readSettings(tunables),
    // Up to three answers each, and the control lane holds 65,536.
    openRequestsMax: 16_384,
    hints: refTo(HintKeeper, node, shard),
  };
  const { hintWindowMs, hintBytesMax, hintBytesPerSecond, reserveBytes } = tunables;
  const hintOptions = {
    directory: `${shardDirectory(shard)}/hints`,
    windowMs: hintWindowMs,
    countedMs: recordAgeMaxMs(tunables),
    bytesMax: hintBytesMax,
    bytesPerSecond: hintBytesPerSecond / placement.shards,
    reserveBytes,
  };
  const repairOptions = {
    store: refTo(Store, node, shard),
    siblings: refTo(SiblingKeeper, node, shard),
    sets,
    path: `${shardDirectory(shard)}/repair-horizons`,
    shards: placement.shards,
    intervalMs: tunables.repairIntervalMs,
    bytesPerSecond: tunables.repairBytesPerSecond,
    lagMs: Math.max(5_000, tunables.writeTimeoutMs) + 1_000,
  };
  const at = { shard, capacity, onCrash: fatal };
  // A single copy has nothing to be compared with.
  const repairs = ring.replicationFactor > 1 ? [repairer] : [];
  return [
    { kind: row(siblingKeeper), options: siblingOptions, ...at },
    ...repairs.map((kind) => ({ kind: row(kind), options: repairOptions, ...at })),
    { kind: row(replica), options: replicaOptions, ...at },
    { kind: row(hintKeeper), options: hintOptions, ...at, onCrash: forgiving },
    { kind: row(coordinator), options: coordinatorOptions, ...at },
    ...serialRows(settings, { ring, sets }, shard),
  ];
}

const readSettings = ({
  speculateAfterMs,
  joinReadsAbove,
  backgroundRepairsPerSecond: backgroundRepairs,
}: Tunables): Pick<
  CoordinatorOptions,
  'speculateAfterMs' | 'joinReadsAbove' | 'backgroundRepairs'
> => ({ speculateAfterMs, joinReadsAbove, backgroundRepairs });

/** Votes of this node's replicas, and the rounds that it runs. */
function serialRows(settings: NodeSettings, { ring, sets }: Places, shard: number): Row[] {
  const { node, incarnation, placement, tunables } = settings;
  const proposerOptions = {
    ring,
    resolve: lastWriteWins,
    // Not the number of the coordinator's plain writes: both stamp records of the same keys.
    writer: fingerprint32Text(`${node}/serial`),
    ...{ incarnation, shards: placement.shards },
    operationsPerRound: tunables.serialOperationsPerRound,
    valueBytesMax: serialValueBytesMax(tunables),
    decisionBytesMax: decisionBytesOf(tunables),
    waitingMax: 16_384,
    sparesAfterMs: tunables.speculateAfterMs,
  };
  const { shards } = placement;
  const catalog = { acceptDataLoss: settings.acceptDataLoss ?? false };
  const isOpen = counts(settings);
  const acceptorOptions = {
    store: refTo(Store, node, shard),
    ...(ring.replicationFactor > 1 ? { repairer: refTo(Repairer, node, shard) } : {}),
    ...{ shards, catalog, isOpen },
    floors: { sets, path: `${shardDirectory(shard)}/ballot-floors` },
  };
  const paxosRepairOptions = {
    store: refTo(Store, node, shard),
    proposer: refTo(Proposer, node, shard),
    acceptor: refTo(Acceptor, node, shard),
    ...{ sets, shards },
    keptMs: tunables.serialKeptMs,
    intervalMs: tunables.repairIntervalMs,
    bytesPerSecond: tunables.repairBytesPerSecond,
    settledMs: 3 * tunables.writeTimeoutMs,
  };
  const at = { shard, capacity: tunables.mailboxMessages, onCrash: fatal };
  return [
    { kind: row(acceptor), options: acceptorOptions, ...at },
    { kind: row(proposer), options: proposerOptions, ...at },
    { kind: row(paxosRepairer), options: paxosRepairOptions, ...at, onCrash: forgiving },
  ];
}

/** Atomic batches: they are of no shard, so the first one has them. */
function batchRows(settings: NodeSettings, ring: Ring): Row[] {
  const { node, incarnation, placement, tunables } = settings;
  const common = { ring, shards: placement.shards };
  const writerOptions = {
    ...common,
    // Not the number of a coordinator: both stamp records of the same keys.
    writer: fingerprint32Text(`${node}/batch`),
    incarnation,
    boundPath: `${shardDirectory(0)}/batch-clock-bound`,
  };
  const keeperOptions = {
    ...common,
    store: refTo(Store, node, 0),
    afterMs: 2 * tunables.writeTimeoutMs,
    oldMs: recordAgeMaxMs(tunables),
  };
  const at = { shard: 0, capacity: tunables.mailboxMessages, onCrash: fatal };
  return [
    { kind: row(batchKeeper), options: keeperOptions, ...at },
    { kind: row(batchWriter), options: writerOptions, ...at },
  ];
}

function rejoinRow(settings: NodeSettings, { ring, sets }: Places): Row {
  const { node, members, incarnation, placement } = settings;
  const options = {
    birth: settings.birth ?? incarnation,
    isWhole: counts(settings),
    others: members.map((member) => member.node).filter((member) => member !== node),
    ring,
    sets,
    shards: placement.shards,
    repairer: ring.replicationFactor > 1 ? refTo(Repairer, node) : undefined,
    settleMs: 5_000,
  };
  return { kind: row(rejoiner), options, shard: 0, capacity: 1_024, onCrash: fatal };
}

function membershipRows(settings: NodeSettings, places: Places): Row[] {
  const { ring } = places;
  const copies = ring.replicationFactor;
  const { node, members, placement, tunables, incarnation, host } = settings;
  const shards = [...Array(placement.shards).keys()];
  const { suspectPhi, deadPhi, suspectAfterMs, deadAfterMs, gossipIntervalMs } = tunables;
  const { clockOffsetMaxMs } = tunables;
  const listeners: Ref<never>[] = [
    ...shards.map((shard) => refTo(Coordinator, node, shard) as Ref<never>),
    ...shards.map((shard) => refTo(Proposer, node, shard) as Ref<never>),
    refTo(BatchWriter, node) as Ref<never>,
    refTo(BatchKeeper, node) as Ref<never>,
    ...shards.map((shard) => refTo(HintKeeper, node, shard) as Ref<never>),
    ...(copies > 1 ? shards.map((shard) => refTo(Repairer, node, shard) as Ref<never>) : []),
    refTo(PaxosRepairer, node) as Ref<never>,
    refTo(PrimaryWatch, node) as Ref<never>,
    refTo(Catalog, node) as Ref<never>,
    refTo(Rejoiner, node) as Ref<never>,
    refTo(HttpGateway, node) as Ref<never>,
    refTo(RespGateway, node) as Ref<never>,
  ];
  const detectorOptions = {
    members: members.map((member) => member.node),
    shards: placement.shards,
    gossipIntervalMs,
    suspectPhi,
    deadPhi,
    suspectAfterMs,
    deadAfterMs,
    clockOffsetMaxMs,
    listeners,
  };
  const gossipOptions = {
    roundMs: gossipIntervalMs,
    peers: members
      .filter((member) => member.node !== node)
      .map((member) => refTo(Gossiper, member.node)),
    detector: refTo(FailureDetector, node),
    catalog: refTo(Catalog, node),
    stores: shards.map((shard) => refTo(Store, node, shard)),
    self: {
      node,
      generation: incarnation,
      heartbeat: 0,
      status: 'serving',
      host,
      internodePort: settings.internodePort,
      httpPort: settings.httpPort,
      shards: placement.shards,
      load: { keys: 0, memoryBytes: 0, diskBytes: 0 },
    },
  };
  const at = { shard: 0, capacity: 1_024, onCrash: forgiving };
  return [
    rejoinRow(settings, places),
    { kind: row(failureDetector), options: detectorOptions, ...at },
    { kind: row(gossiper), options: gossipOptions, ...at },
    { kind: row(primaryWatch), options: { ranges: ring.ranges() }, ...at },
  ];
}

function gatewayRows(settings: NodeSettings, ring: Ring): Row[] {
  const { node, clusterName, placement, tunables } = settings;
  const { readTimeoutMs, writeTimeoutMs, scanTimeoutMs, valueBytesMax } = tunables;
  const { operationsPerAddressMax } = tunables;
  const { defaults, limits } = defaultGatewaySettings;
  const common = {
    ring,
    coordinatorShards: placement.shards,
    gossiper: refTo(Gossiper, node),
    catalog: refTo(Catalog, node),
    defaults: { ...defaults, readTimeoutMs, writeTimeoutMs, scanTimeoutMs },
    limits: { ...limits, valueBytes: valueBytesMax },
    ...(settings.access && { access: { ...settings.access, operationsPerAddressMax } }),
  };
  const http = {
    ...common,
    durability: settings.durability,
    detector: refTo(FailureDetector, node),
    rejoiner: refTo(Rejoiner, node),
    monitors: [...Array(placement.threads).keys()].map((thread) => refTo(Monitor, node, thread)),
    renderMetrics: renderPrometheus,
    // A token gives no right to anything: the seal keeps out damage and other clusters' tokens.
    sealer: new Sealer(clusterName),
  };
  const watching = {
    ring,
    stores: [...Array(placement.shards).keys()].map((shard) => refTo(Store, node, shard)),
    ...{ bufferBytes: tunables.watchBufferBytes, watchesMax: tunables.watchesMax },
  };
  const at = { shard: 0, capacity: 16_384, onCrash: forgiving };
  return [
    { kind: row(httpGateway), options: http, ...at },
    { kind: row(respGateway), options: common, ...at },
    { kind: row(watcher), options: watching, ...at },
  ];
}
