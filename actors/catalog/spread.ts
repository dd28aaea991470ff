// Brings a decided document to all nodes, and waits for those that matter: it ends when each set of
// replicas has a quorum that acts by it. A function of a session.

import { refTo, type Session } from '../../runtime/actor.ts';
import type { Clock } from '../../runtime/environment.ts';
import { KvError } from '../../runtime/errors.ts';
import { quorumOf } from '../model/consistency.ts';
import { type CatalogDocument, encodeCatalog } from '../model/namespaces.ts';
import type { Ring } from '../model/ring.ts';
import { Catalog } from './protocol.ts';

/** Nodes that answer slower are not waited for when enough others have. */
const peerTimeoutMs = 1_500;
const retryMs = 250;

/** UNKNOWN_OUTCOME where too few nodes are known to have it at `untilMs`, monotonic. */
export async function spread(
  session: Session,
  document: CatalogDocument,
  terms: { readonly ring: Ring; readonly clock: Clock; readonly untilMs: number },
): Promise<void> {
  const { ring, clock, untilMs } = terms;
  const body = { document: encodeCatalog(document) };
  const have = new Set<string>();
  const leftMs = (): number => untilMs - clock.monotonicMs();
  while (leftMs() > 0) {
    const timeoutMs = Math.min(leftMs(), peerTimeoutMs);
    const send = async (node: string): Promise<void> => {
      try {
        await session.ask(refTo(Catalog, node), 'install', body, timeoutMs);
        have.add(node);
      } catch (error) {
        if (!(error instanceof KvError)) throw error;
      }
    };
    await Promise.all(ring.members.filter((node) => !have.has(node)).map(send));
    if (isCovered(ring, have)) return;
    await session.sleep(Math.min(retryMs, Math.max(0, leftMs())));
  }
  const detail = 'the change is decided, but too few nodes are known to act by it yet';
  throw new KvError('UNKNOWN_OUTCOME', { epoch: document.epoch, detail });
}

/** Each set of replicas has a quorum among `nodes`. */
const isCovered = (ring: Ring, nodes: ReadonlySet<string>): boolean =>
  ring
    .replicaLists()
    .every(
      (replicas) => replicas.filter((node) => nodes.has(node)).length >= quorumOf(replicas.length),
    );
