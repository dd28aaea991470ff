// What one node is told before it starts: who it is, its members, its settings; and the part of it
// that its storage alone needs. Plain data: threads get a copy.

import type { Ref } from '../../runtime/actor.ts';
import type { MetricSample } from '../../runtime/metrics.ts';
import type { Placement } from '../../runtime/placement.ts';
import type { Watcher } from '../gateway/protocol.ts';
import type { AccessSettings } from '../gateway/access.ts';
import type { Durability, Tunables } from './settings.ts';
import type { CompactionStrategy, Compression } from '../model/table-choices.ts';

export interface Member {
  readonly node: string;
  readonly host: string;
  /** Port of the member's first thread; its other threads listen on the ports after it. */
  readonly internodePort: number;
}

/** One node, completely. */
export interface NodeSettings {
  readonly node: string;
  readonly clusterName: string;
  /** Of this start; from openIdentity. */
  readonly incarnation: number;
  /** The incarnation of the first start of this data directory; from openIdentity. */
  readonly birth?: number;
  /** False: it counts only when it has what its node may have lost (CO-4). Default true. */
  readonly isWhole?: boolean;
  /** All members, this node included. */
  readonly members: readonly Member[];
  readonly placement: Placement;
  readonly host: string;
  readonly httpPort: number;
  /** Of the Redis protocol; undefined: not served. */
  readonly respPort?: number | undefined;
  readonly internodePort: number;
  readonly durability: Durability;
  /** Default `leveled`. */
  readonly compaction?: CompactionStrategy;
  /** Of tables. Default `auto`. */
  readonly compression?: Compression;
  /** Closed log segments go to the host's archive before they are released. Default false. */
  readonly hasWalArchive?: boolean | undefined;
  readonly tunables: Tunables;
  /** Starts with what is left where stored data is missing or damaged. Default false. */
  readonly acceptDataLoss?: boolean;
  /** Who may do what; absent: everybody may do everything, and nothing is written down of it. */
  readonly access?: Pick<AccessSettings, 'isRequired' | 'bootstrapHash'> | undefined;
  /** Figures of the thread that calls it. */
  readonly samples: () => readonly MetricSample[];
}

/** What the storage of a node needs to know. */
export type StorageSettings = Pick<
  NodeSettings,
  'node' | 'clusterName' | 'incarnation' | 'durability' | 'tunables'
> & {
  readonly compaction?: CompactionStrategy;
  /** Of tables. Default `auto`. */
  readonly compression?: Compression;
  readonly hasWalArchive?: boolean | undefined;
  readonly acceptDataLoss?: boolean;
  /** Shards on the same disk; default 1. */
  readonly shards?: number;
  /** Hears of what is written; the engine alone has none. */
  readonly watcher?: Ref<Watcher>;
};
