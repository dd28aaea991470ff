// What the client knows of the cluster: the ring, computed from the members that a node names, and
// where each member listens. The same members give the same ring on every machine, so the client
// sends a request straight to a replica of its key. A ring that is out of date only costs a hop: any
// node serves any key.

import { type Key, keyBytes } from './keys.ts';
import { placementBytes } from '../../actors/model/hash-tag.ts';
import { storageKey } from '../../actors/model/record.ts';
import { Ring } from '../../actors/model/ring.ts';
import { fingerprint32Pure } from '../../runtime/fingerprint32.ts';

export interface Topology {
  readonly ring: Ring;
  /** Base URLs by node id; a member whose address nobody knows yet is missing. */
  readonly urls: ReadonlyMap<string, URL>;
}

interface RingDocument {
  readonly members: readonly string[];
  readonly virtual_nodes: number;
  readonly replication_factor: number;
  readonly nodes: readonly { readonly node_id: string; readonly address: string | null }[];
}

const defaultNamespace = 0;

/** Reads the document of `GET /api/v1/ring`; all nodes are reached by `protocol`. Undefined where it is none that this client knows. */
export function parseTopology(body: Buffer, protocol = 'http:'): Topology | undefined {
  try {
    const document = JSON.parse(body.toString()) as RingDocument;
    const {
      members,
      virtual_nodes: virtualNodes,
      replication_factor: replicationFactor,
    } = document;
    const ring = new Ring({ members, virtualNodes, replicationFactor });
    const urls = new Map<string, URL>();
    for (const { node_id: node, address } of document.nodes)
      if (address !== null && URL.canParse(`${protocol}//${address}`))
        urls.set(node, new URL(`${protocol}//${address}`));
    return { ring, urls };
  } catch {
    return undefined;
  }
}

/** The base URLs of a key's replicas, the natural primary first. */
export function replicaUrls(topology: Topology, key: Key): readonly URL[] {
  return replicaNames(topology, key).flatMap((node) => topology.urls.get(node) ?? []);
}

/** The ids of a key's replicas, in this order; `namespace` by its number. */
export function replicaNames(
  { ring }: Topology,
  key: Key,
  namespace = defaultNamespace,
): readonly string[] {
  const stored = storageKey(namespace, keyBytes(key));
  const token = fingerprint32Pure(placementBytes(stored));
  return ring.replicasOf(token);
}
