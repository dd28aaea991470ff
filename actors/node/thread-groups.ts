// On which kind of thread each actor runs: the router of every thread asks here where a message goes.
// A placement (runtime/placement.ts) says which thread that is.

import type { ThreadGroup } from '../../runtime/placement.ts';
import { Catalog } from '../catalog/protocol.ts';
import { HttpGateway, RespGateway, Watcher } from '../gateway/protocol.ts';
import { HintKeeper } from '../handoff/protocol.ts';
import { FailureDetector, Gossiper, PrimaryWatch } from '../membership/protocol.ts';
import { Monitor } from '../observability/protocol.ts';
import { Rejoiner } from '../rejoin/protocol.ts';
import { Repairer } from '../repair/protocol.ts';
import {
  BatchKeeper,
  BatchWriter,
  Coordinator,
  PaxosRepairer,
  Proposer,
  SiblingKeeper,
} from '../replication/protocol.ts';
import { Auditor } from '../security/protocol.ts';
import {
  Compactor,
  Memtable,
  Scrubber,
  Snapshotter,
  Store,
  TableReader,
  WalArchiver,
  WalWriter,
} from '../storage/protocol.ts';

/** The thread group of each actor, for the router. */
export const threadGroups: Readonly<Record<string, ThreadGroup>> = {
  [Monitor.name]: 'control',
  [Rejoiner.name]: 'control',
  [WalWriter.name]: 'shard',
  [Memtable.name]: 'shard',
  [TableReader.name]: 'shard',
  [Compactor.name]: 'background',
  [Scrubber.name]: 'background',
  [WalArchiver.name]: 'background',
  [Store.name]: 'shard',
  [Snapshotter.name]: 'control',
  [Catalog.name]: 'control',
  [Auditor.name]: 'control',
  replica: 'shard',
  acceptor: 'shard',
  [Proposer.name]: 'shard',
  [PaxosRepairer.name]: 'shard',
  [Coordinator.name]: 'shard',
  [SiblingKeeper.name]: 'shard',
  [BatchKeeper.name]: 'shard',
  [BatchWriter.name]: 'shard',
  [HintKeeper.name]: 'shard',
  [Repairer.name]: 'shard',
  [Gossiper.name]: 'control',
  [FailureDetector.name]: 'control',
  [PrimaryWatch.name]: 'control',
  [HttpGateway.name]: 'shard',
  [RespGateway.name]: 'shard',
  [Watcher.name]: 'shard',
};
