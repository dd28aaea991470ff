// Messages of repair (anti-entropy). One repairer for each shard: it lets a repair look at its
// shard, and keeps the horizons; the repairer of shard 0 also runs repairs, for all shards of all
// members of the sets that it compares.
//
// A session has a number that its parts know: what belongs to another session, or to one that has
// expired, is refused (TS-6).

import { ask, protocol, tell } from '../../runtime/protocol.ts';
import type { CatalogBytes } from '../catalog/protocol.ts';
import { type PeerStates, peerStatesLayout } from '../membership/protocol.ts';

/** How far one set of replicas has been repaired, as one replica knows it; hlc, 0: never. */
export interface Horizon {
  readonly set: number;
  /** All members have agreed to this one: some of them may have purged below it. */
  readonly agreed: number;
  /** Tombstones up to here may be purged in this shard. */
  readonly purge: number;
}

export interface RepairRequest {
  /** Members of the one set to compare, sorted, with commas; absent: all sets. */
  readonly set: string | undefined;
  /** Ids of the sets to compare; absent, and `set` as well: all. */
  readonly sets?: readonly string[] | undefined;
  /** Compare every key, not only those below parts that differ. */
  readonly isFull: boolean;
}

/** `complete`: all members took part and hold the same now. `partial`: those that took part do. */
export type SetOutcome = 'complete' | 'partial' | 'failed';

export interface RepairReport {
  /** Number of this repair on this node. */
  readonly id: number;
  readonly startedMs: number;
  readonly tookMs: number;
  readonly isRunning: boolean;
  /** What it does now, or how it ended. */
  readonly phase: string;
  /** Sets to compare; those that are done are in `sets`. */
  readonly setsWanted: number;
  readonly sets: readonly {
    readonly set: string;
    readonly outcome: SetOutcome;
    readonly why: string;
  }[];
  /** Leaves that differed; records compared one by one, and those sent to replicas. */
  readonly leavesDiffering: number;
  readonly keysCompared: number;
  readonly recordsScanned: number;
  readonly recordsSent: number;
  readonly bytesSent: number;
}

export const Repairer = protocol('repairer', 24, {
  /**
   * Before a session: the clock of this node and its horizons, where it has any. `isFresh`: it began
   * without data.
   */
  survey: ask<
    object,
    {
      readonly wallMicros: number;
      readonly horizons: readonly Horizon[];
      readonly isFresh: boolean;
      readonly records: number;
    }
  >(1, { lane: 'background' }),
  /**
   * Begins a session and sums up the shard; answers when that is done. Records that count as
   * tombstones at `nowMs` and lie at or below the floor of their set are left out (AE-3).
   */
  begin: ask<
    {
      readonly session: number;
      readonly bits: number;
      readonly nowMs: number;
      /** By number of the set; 0 where the node is no member. */
      readonly floors: readonly number[];
      /** The same: some member may have purged up to here. */
      readonly purged: readonly number[];
      /** The horizon that the session will set, if it succeeds. */
      readonly horizon: number;
      /** Every key will be compared: nothing has to be summed up. */
      readonly isFull?: boolean;
    },
    { readonly records: number }
  >(2, { lane: 'background' }),
  /** Sums of nodes of a set's tree, as SumTree gives them. */
  sums: ask<
    {
      readonly session: number;
      readonly set: number;
      readonly level: number;
      readonly nodes: readonly number[];
    },
    { readonly sums: readonly number[] }
  >(3, {
    lane: 'background',
    layout: { session: 'u53', set: 'u32', level: 'u8', nodes: 'u32[]' },
    replyLayout: { sums: 'u32[]' },
  }),
  /**
   * Keys of these leaves (as nodeKey; none: all) in key order, from after a key on; with four
   * numbers each: hlc, writer, incarnation, CRC-32 of the record. `through`: everything up to this
   * key was looked at; absent: all of the shard.
   */
  digests: ask<
    {
      readonly session: number;
      readonly after: Uint8Array | undefined;
      readonly sets: readonly number[];
      readonly leaves: readonly number[];
    },
    {
      readonly keys: readonly Uint8Array[];
      readonly stamps: readonly number[];
      readonly through: Uint8Array | undefined;
    }
  >(4, {
    lane: 'background',
    layout: { session: 'u53', after: 'bytes?', sets: 'u32[]', leaves: 'u53[]' },
    replyLayout: { keys: 'bytes[]', stamps: 'u53[]', through: 'bytes?' },
  }),
  /** A record that this shard lacks, as it was written; answers when it is durable (RR-5). */
  write: ask<{ readonly session: number; readonly record: Uint8Array }, object>(5, {
    lane: 'background',
    layout: { session: 'u53', record: 'bytes' },
  }),
  /** Sets that are in order: their horizon is agreed, durably. */
  agree: ask<{ readonly session: number; readonly sets: readonly number[] }, object>(6, {
    lane: 'background',
  }),
  /** All members have agreed: purging up to the horizon is allowed. */
  confirm: ask<{ readonly session: number; readonly sets: readonly number[] }, object>(7, {
    lane: 'background',
  }),
  /** The session goes on, however long this shard has nothing to do in it. */
  hold: ask<{ readonly session: number }, object>(14, {
    lane: 'control',
    layout: { session: 'u53' },
  }),
  /** The record of a key, also where this node does not answer readers yet. */
  read: ask<
    { readonly session: number; readonly key: Uint8Array; readonly hash: number },
    { readonly record: Uint8Array | undefined }
  >(15, {
    lane: 'background',
    layout: { session: 'u53', key: 'bytes', hash: 'u32' },
    replyLayout: { record: 'bytes?' },
  }),
  /** The session is over. */
  end: ask<{ readonly session: number }, object>(8, { lane: 'control' }),
  /**
   * The replica of this shard got a record at or below what `floor` said. A hint that a repair has
   * overtaken has no effect; for anything else the horizon goes back below it, durably.
   */
  late: ask<
    { readonly token: number; readonly hlc: number; readonly isHint: boolean },
    { readonly isOvertaken: boolean }
  >(9, {
    lane: 'control',
    layout: { token: 'u32', hlc: 'u53', isHint: 'bool' },
    replyLayout: { isOvertaken: 'bool' },
  }),
  /** Records up to here have to be announced with `late`. */
  floor: ask<object, { readonly hlc: number }>(10, { lane: 'control' }),
  /** Keys of namespaces that were dropped are left out from now on. */
  namespacesChanged: ask<CatalogBytes, object>(70, { lane: 'control' }),
  /** Starts a repair of all members, or tells of the one that runs. BAD_REQUEST: no such set. */
  run: ask<RepairRequest, RepairReport>(11),
  /** The last repair that this node ran, or runs; absent: none since its start. */
  status: ask<object, { readonly report: RepairReport | undefined }>(12),
  /** Who is alive, from the failure detector; every change and once per second. */
  peersChanged: tell<PeerStates>(13, { lane: 'control', layout: peerStatesLayout }),
});
export type Repairer = typeof Repairer.messages;
