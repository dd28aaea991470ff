// The document that counts: the value of one key of the system namespace, read and replaced by
// serial operations, so that changes of all nodes are put into one order by Paxos. A session's
// functions; they keep nothing.

import { type Ref, refTo, type Session } from '../../runtime/actor.ts';
import type { Clock } from '../../runtime/environment.ts';
import { errorTable, KvError } from '../../runtime/errors.ts';
import type { PeerState } from '../membership/protocol.ts';
import { inOrderOfUse, type Liveness } from '../model/primaries.ts';
import {
  type CatalogDocument,
  catalogKey,
  decodeCatalog,
  encodeCatalog,
  firstDocument,
  systemNamespace,
} from '../model/namespaces.ts';
import { recordValue, recordVersion, storageKey } from '../model/record.ts';
import type { Ring } from '../model/ring.ts';
import { hashKey, shardOf } from '../model/token.ts';
import {
  plainSerial,
  Proposer,
  type SerialReply,
  type SerialRequest,
} from '../replication/protocol.ts';

export interface DecidedOptions {
  readonly node: string;
  readonly ring: Ring;
  /** Shards of this node. */
  readonly shards: number;
  readonly clock: Clock;
  readonly peers: () => ReadonlyMap<string, PeerState>;
}

export interface Decided {
  readonly document: CatalogDocument;
  /** Of the record; 0: there is none. */
  readonly version: number;
}

const { token } = hashKey(storageKey(systemNamespace, catalogKey));
const plain = { ...plainSerial, namespace: systemNamespace, key: catalogKey };

export class DecidedDocument {
  readonly #options: DecidedOptions;

  constructor(options: DecidedOptions) {
    this.#options = options;
  }

  async read(session: Session, deadlineMs: number): Promise<Decided> {
    const { record } = await this.#run(session, { ...plain, verb: 'read' }, deadlineMs);
    if (record === undefined) return { document: firstDocument, version: 0 };
    return { document: decodeCatalog(recordValue(record)), version: recordVersion(record) };
  }

  /** False: another change was decided since that version was read. */
  async replace(
    session: Session,
    version: number,
    document: CatalogDocument,
    deadlineMs: number,
  ): Promise<boolean> {
    const value = encodeCatalog(document);
    const condition = { kind: 'version', version } as const;
    const request = { ...plain, verb: 'write', value, condition } as const;
    const { isApplied } = await this.#run(session, request, deadlineMs);
    return isApplied;
  }

  /** At one replica after another, the primary first, while nothing can have happened. */
  async #run(session: Session, request: SerialRequest, deadlineMs: number): Promise<SerialReply> {
    const { clock } = this.#options;
    let problem = new KvError('UNAVAILABLE', { detail: 'no replica of the catalog is reachable' });
    for (const proposer of this.#proposers()) {
      const leftMs = deadlineMs - clock.monotonicMs();
      if (leftMs <= 0) break;
      try {
        return await session.ask(proposer, 'run', request, leftMs);
      } catch (error) {
        if (!(error instanceof KvError)) throw error;
        problem = error;
        const isSafe = request.verb === 'read' || errorTable[error.code].effect === 'none';
        if (!isSafe) break;
      }
    }
    throw problem;
  }

  #proposers(): Ref<Proposer>[] {
    const { node, ring, shards, peers } = this.#options;
    const known = peers();
    const livenessOf = (replica: string): Liveness =>
      replica === node ? 'alive' : (known.get(replica)?.condition ?? 'dead');
    return inOrderOfUse(ring.replicasOf(token), livenessOf).flatMap((replica) => {
      const count = replica === node ? shards : (known.get(replica)?.shards ?? 0);
      return count > 0 ? refTo(Proposer, replica, shardOf(token, count)) : [];
    });
  }
}
