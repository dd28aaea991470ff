// Every tunable of a node: unit in the name, default, range, one sentence. The launcher reads them
// from a file, the environment and flags; the simulator draws hostile values from the same ranges
// (rule SIM-8); docs/configuration.md is compared with this table by a test.

import { KvError } from '../../runtime/errors.ts';
import { maxSkewMicros } from '../model/hlc.ts';

export interface SettingRow {
  readonly default: number;
  readonly min: number;
  readonly max: number;
  readonly what: string;
}

const row = (byDefault: number, min: number, max: number, what: string): SettingRow => ({
  default: byDefault,
  min,
  max,
  what,
});

const kiB = 1024;
const miB = 1024 * kiB;

export const settingRows = {
  replicationFactor: row(3, 1, 9, 'Copies of each key; every member must agree.'),
  virtualNodes: row(256, 1, 4096, 'Places of each node on the ring; every member must agree.'),
  memtableBytes: row(64 * miB, 64 * kiB, 1024 * miB, 'A memtable of this size is flushed.'),
  inFlightBytes: row(
    16 * miB,
    64 * kiB,
    256 * miB,
    'Records that may wait for the WAL, per shard.',
  ),
  arenasPerShard: row(
    3,
    2,
    8,
    'Memtables per shard: one takes records, the others wait for their flush.',
  ),
  walSegmentBytes: row(64 * miB, 64 * kiB, 1024 * miB, 'Size of one WAL file.'),
  walAheadBytes: row(
    64 * kiB,
    0,
    16 * miB,
    'Zeros that are written ahead of the records of a WAL file, at a time, with durability `group`: a sync of records costs less then. 0: none, for a file system that never writes in place (Btrfs, ZFS).',
  ),
  walSyncIntervalMs: row(
    1_000,
    10,
    60_000,
    'Time between syncs with durability `periodic`, at most: 4 MiB do not wait for it.',
  ),
  walArchiveIntervalMs: row(
    60_000,
    100,
    3_600_000,
    'With `--wal-archive`: a WAL file with records is archived after this time at the latest.',
  ),
  blockCacheBytes: row(
    64 * miB,
    64 * kiB,
    64 * 1024 * miB,
    'Decoded table blocks with indexes and filters of open tables, per shard.',
  ),
  rowCacheBytes: row(
    32 * miB,
    0,
    2047 * miB,
    'Records that are read often, with their index, per shard; 0 keeps none.',
  ),
  l0Tables: row(4, 2, 64, 'So many flushed tables, or tables of one size, are merged.'),
  l0TablesMax: row(
    20,
    4,
    1_000,
    'With so many tables waiting for a merge writes are refused; from a quarter of the way on they are slowed down.',
  ),
  foregroundDelayMs: row(
    5,
    0,
    10_000,
    'Merges pause while the p99 of the wait of requests for their turn is above; 0: never.',
  ),
  tableBytes: row(64 * miB, 16 * kiB, 1024 * miB, 'Size of a table that compaction writes.'),
  timeWindowMs: row(
    86_400_000,
    1_000,
    31_536_000_000,
    'With compaction `time-window`: length of a window.',
  ),
  clockOffsetMaxMs: row(
    maxSkewMicros / 1000,
    0,
    60_000,
    'A node whose clock is further from those of most others coordinates no writes; 0: it always does.',
  ),
  reserveBytes: row(
    64 * miB,
    0,
    1024 * 1024 * miB,
    'Disk space that writes leave free, beside that of a flush.',
  ),
  scrubIntervalMs: row(
    259_200_000,
    0,
    31_536_000_000,
    'Pause after which all stored bytes are read again; 0: never.',
  ),
  scrubBytesPerSecond: row(4 * miB, 64 * kiB, 1024 * miB, 'How fast, at most, per shard.'),
  valueBytesMax: row(miB, 1, 16 * miB, 'Longest value.'),
  connectionsMax: row(10_000, 1, 100_000, 'Connections of clients, for each of the two ports.'),
  connectionsPerAddressMax: row(1_000, 1, 100_000, 'Of these, from one address.'),
  connectionsReserved: row(
    32,
    0,
    1_000,
    'Connections of the HTTP port beyond these two, for health and administrators.',
  ),
  requestBytesMax: row(
    256 * miB,
    miB,
    16 * 1024 * miB,
    'Requests that arrive or wait may hold so much, for each of the two ports.',
  ),
  operationsPerAddressMax: row(
    0,
    0,
    1_000_000_000,
    'Requests and commands per second of one client address, for each of the two ports; 0: no limit.',
  ),
  readTimeoutMs: row(5_000, 10, 600_000, 'A read ends at the latest, also one that is decided.'),
  writeTimeoutMs: row(5_000, 10, 600_000, 'A write ends at the latest, also one that is decided.'),
  scanTimeoutMs: row(10_000, 10, 600_000, 'A page of a list or scan ends at the latest.'),
  serialOperationsPerRound: row(
    128,
    1,
    256,
    'Serial operations of one key that are decided together at most; 1: each by itself.',
  ),
  speculateAfterMs: row(
    100,
    5,
    60_000,
    'A read that waits longer asks one replica more, a step of a serial operation all of them.',
  ),
  joinReadsAbove: row(
    8,
    0,
    65_535,
    'With so many reads of a key in flight in a shard, others of it are answered together; 0: always.',
  ),
  backgroundRepairsPerSecond: row(
    20,
    0,
    10_000,
    'Keys of a shard that are compared on all replicas after a read; 0: none.',
  ),
  hintWindowMs: row(
    10_800_000,
    0,
    604_800_000,
    'Writes that a node misses are kept for it so long; 0: never.',
  ),
  hintBytesMax: row(256 * miB, 64 * kiB, 64 * 1024 * miB, 'All hints of a shard.'),
  hintBytesPerSecond: row(
    4 * miB,
    kiB,
    1024 * miB,
    'Hints go to a node no faster, from each neighbour.',
  ),
  repairIntervalMs: row(
    3_600_000,
    0,
    2_592_000_000,
    'Time between two repairs of everything; 0: only when asked for. As often each node ends serial operations that were left open.',
  ),
  repairBytesPerSecond: row(32 * miB, 64 * kiB, 1024 * miB, 'Repair reads a shard no faster.'),
  serialKeptMs: row(
    86_400_000,
    600_000,
    31_536_000_000,
    'What is known of the last serial operations of a key is kept for so long, at least.',
  ),
  tombstoneGraceMs: row(
    14_400_000,
    0,
    2_592_000_000,
    'Marks of deletes stay for so long, and longer than hints, also after a repair.',
  ),
  watchBufferBytes: row(
    16 * miB,
    64 * kiB,
    4096 * miB,
    'Latest changes that a node keeps for watches, while somebody watches.',
  ),
  watchesMax: row(64, 1, 4_096, 'Watches at the same time at a node; of one user half of them.'),
  catalogRefreshMs: row(
    30_000,
    1_000,
    3_600_000,
    'Time after which a node reads the namespaces again, also when it heard of no change.',
  ),
  quotaCountMs: row(
    5_000,
    100,
    3_600_000,
    'Pause between two counts of what namespaces with a quota of keys or bytes hold.',
  ),
  gossipIntervalMs: row(1_000, 100, 60_000, 'Time between gossip rounds.'),
  suspectPhi: row(5, 1, 16, 'Phi above which a node is suspected.'),
  deadPhi: row(8, 1, 32, 'Phi above which a node is taken for dead.'),
  suspectAfterMs: row(10_000, 500, 600_000, 'Silence after which a node is suspected in any case.'),
  deadAfterMs: row(30_000, 1_000, 600_000, 'Silence after which a node is dead in any case.'),
  mailboxMessages: row(8_192, 16, 1_000_000, 'Messages that may wait for a storage actor.'),
} as const satisfies Record<string, SettingRow>;

export type SettingName = keyof typeof settingRows;
export type Tunables = Readonly<Record<SettingName, number>>;

export const settingNames = Object.keys(settingRows) as readonly SettingName[];

export function defaultTunables(): Tunables {
  const values: Partial<Record<SettingName, number>> = {};
  for (const name of settingNames) values[name] = settingRows[name].default;
  return values as Tunables;
}

/** The defaults with `overrides` applied. BAD_REQUEST names the setting and its range. */
export function tunablesFrom(overrides: Readonly<Record<string, unknown>>): Tunables {
  const values: Record<string, number> = { ...defaultTunables() };
  for (const [name, value] of Object.entries(overrides)) {
    if (!Object.hasOwn(settingRows, name))
      throw new KvError('BAD_REQUEST', { field: name, detail: `unknown setting ${name}` });
    const { min, max } = settingRows[name as SettingName];
    if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max)
      throw new KvError('BAD_REQUEST', {
        field: name,
        detail: `setting ${name}: expected a whole number from ${min} to ${max}`,
      });
    values[name] = value;
  }
  const tunables = values as Tunables;
  if (tunables.l0TablesMax <= tunables.l0Tables)
    throw new KvError('BAD_REQUEST', {
      field: 'l0TablesMax',
      detail: `setting l0TablesMax: expected more than l0Tables (${tunables.l0Tables})`,
    });
  return tunables;
}

/** What hides a record is kept for longer than this: an older one may not be brought any more. */
export const recordAgeMaxMs = ({ tombstoneGraceMs, hintWindowMs }: Tunables): number =>
  Math.max(tombstoneGraceMs, hintWindowMs) * 0.9;

/** When a write is acknowledged: after an fdatasync (group), after a write to the page cache
 * with an fdatasync now and then (periodic), or without any (none). */
export const durabilities = ['group', 'periodic', 'none'] as const;
export type Durability = (typeof durabilities)[number];
