// What the cluster looks like to an operator: gossip's states (load, addresses) joined with the
// failure detector's opinion (condition, phi) and the ring (who belongs). Every member has a row,
// also one that was never heard of.

import type { NodeState, PeerState } from '../membership/protocol.ts';
import { primariesOf, primaryShares } from '../model/primaries.ts';
import type { Ring } from '../model/ring.ts';
import type { GatewayDefaults } from './http-requests.ts';

export interface ClusterView {
  readonly ring: Ring;
  readonly states: readonly NodeState[];
  readonly peers: readonly PeerState[];
  readonly defaults: GatewayDefaults;
  /** Of the node that answers. */
  readonly own: {
    readonly node: string;
    readonly durability: string;
    /** How far its clock is from those of most others; undefined: near enough. */
    readonly clockOffMicros: number | undefined;
  };
}

/** The one epoch of a fixed membership. */
const epoch = 1;
const mebibyte = 1024 * 1024;

const megabytes = (bytes: number): number => Math.round((bytes / mebibyte) * 10) / 10;

/** For a member that gossip has not heard of yet. */
const unheard: Pick<NodeState, 'shards' | 'generation' | 'load' | 'status'> = {
  shards: 0,
  generation: 0,
  load: { keys: 0, memoryBytes: 0, diskBytes: 0 },
  status: 'serving',
};

function addressOf(node: string, states: readonly NodeState[]): string | null {
  const state = states.find((known) => known.node === node);
  return state === undefined ? null : `${state.host}:${state.httpPort}`;
}

function statusOf(peer: PeerState | undefined, { status }: Pick<NodeState, 'status'>): string {
  if (peer === undefined) return 'unknown';
  return status === 'draining' && peer.condition !== 'dead' ? 'draining' : peer.condition;
}

interface NodeRow {
  readonly keys_count: number;
  readonly [figure: string]: string | number | null;
}

function nodeRow(
  node: string,
  { states, peers }: ClusterView,
  shares: ReadonlyMap<string, number>,
): NodeRow {
  const known = states.find((state) => state.node === node);
  const state = known ?? unheard;
  const peer = peers.find((one) => one.node === node);
  return {
    node_id: node,
    address: addressOf(node, states),
    internode_port: known?.internodePort ?? null,
    dc: 'dc1',
    rack: 'r1',
    status: statusOf(peer, state),
    role: 'member',
    primary_share: Math.round((shares.get(node) ?? 0) * 10_000) / 10_000,
    keys_count: state.load.keys,
    memory_used_mb: megabytes(state.load.memoryBytes),
    disk_used_mb: megabytes(state.load.diskBytes),
    phi: Math.round((peer?.phi ?? 0) * 100) / 100,
    shards: state.shards,
    generation: state.generation,
  };
}

/** Load is what each node said last; `total_keys` counts each key once, as well as that allows. */
export function clusterStatus(view: ClusterView): object {
  const { ring, defaults, own } = view;
  const conditions = new Map(view.peers.map((peer) => [peer.node, peer.condition]));
  const ranges = ring.ranges();
  const primaries = primariesOf(ranges, (node) => conditions.get(node) ?? 'dead');
  const shares = primaryShares(ranges, primaries);
  const nodes = ring.members.map((node) => nodeRow(node, view, shares));
  const copies = nodes.reduce((sum, { keys_count: keys }) => sum + keys, 0);
  const total = Math.round(copies / ring.replicationFactor);
  return {
    nodes,
    total_keys: total,
    total_keys_estimate: true,
    replication_factor: ring.replicationFactor,
    epoch,
    answered_by: {
      node_id: own.node,
      durability: own.durability,
      clock_off_ms: own.clockOffMicros === undefined ? null : Math.round(own.clockOffMicros / 1000),
    },
    consistency: { read: defaults.readLevel, write: defaults.writeLevel },
  };
}

/** Enough for a client to compute where a key lives. */
export function ringDocument({ ring, states }: ClusterView): object {
  const shares = ring.ownership();
  return {
    members: ring.members,
    virtual_nodes: ring.virtualNodes,
    replication_factor: ring.replicationFactor,
    partitioner: 'consistent-hash',
    hash: 'farmhash-fingerprint32',
    epoch,
    nodes: ring.members.map((node) => ({
      node_id: node,
      address: addressOf(node, states),
      share: Math.round((shares.get(node) ?? 0) * 10_000) / 10_000,
    })),
  };
}
