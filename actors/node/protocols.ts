// All protocols of a node, in the order of their wire numbers: what may travel between threads and
// nodes. test/golden/protocols.txt holds every number; they are never reused.

import type { Protocol } from '../../runtime/protocol.ts';
import { Catalog } from '../catalog/protocol.ts';
import { HttpGateway, RespGateway, Watcher } from '../gateway/protocol.ts';
import { HintKeeper } from '../handoff/protocol.ts';
import { Auditor } from '../security/protocol.ts';
import { FailureDetector, Gossiper, PrimaryWatch } from '../membership/protocol.ts';
import { Monitor } from '../observability/protocol.ts';
import { Rejoiner } from '../rejoin/protocol.ts';
import { Repairer } from '../repair/protocol.ts';
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

export const allProtocols: readonly Protocol[] = [
  Store,
  WalWriter,
  Memtable,
  TableReader,
  Compactor,
  Scrubber,
  Snapshotter,
  WalArchiver,
  Replica,
  Coordinator,
  Proposer,
  HintKeeper,
  Repairer,
  Acceptor,
  BatchKeeper,
  SiblingKeeper,
  BatchWriter,
  PaxosRepairer,
  Gossiper,
  FailureDetector,
  PrimaryWatch,
  Catalog,
  Rejoiner,
  Auditor,
  HttpGateway,
  RespGateway,
  Watcher,
  Monitor,
];
