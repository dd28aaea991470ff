// All protocols of a node, in the order of their wire numbers: what may travel between threads and
// nodes. test/golden/protocols.txt holds every number; they are never reused.

import type { Protocol } from '../../runtime/protocol.ts';
import { HttpGateway } from '../gateway/protocol.ts';
import { FailureDetector, Gossiper } from '../membership/protocol.ts';
import { Monitor } from '../observability/protocol.ts';
import { Coordinator, Replica } from '../replication/protocol.ts';
import {
  Compactor,
  Memtable,
  Scrubber,
  Store,
  TableReader,
  WalWriter,
} from '../storage/protocol.ts';

export const allProtocols: readonly Protocol[] = [
  Store,
  WalWriter,
  Memtable,
  TableReader,
  Compactor,
  Scrubber,
  Replica,
  Coordinator,
  Gossiper,
  FailureDetector,
  HttpGateway,
  Monitor,
];
