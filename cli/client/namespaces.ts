// The client's view of namespaces: made, listed, changed and dropped through any node. A change is
// known to so many nodes when its call returns that no quorum goes on without it.

import type { ClusterCalls } from './cluster-calls.ts';
import type { ClientAnswer } from './http-exchange.ts';
import { badRequest } from './given.ts';
import { parse, unless } from './key-requests.ts';

/** What can be set of a namespace; what is left out stays, or is as the nodes have it. */
export interface NamespaceSettings {
  /** A name for people. */
  readonly owner?: string;
  /** Levels of requests that name none; empty: those of the node. */
  readonly defaultConsistency?: { readonly read?: string; readonly write?: string };
  /** `lww`: the newest write wins. */
  readonly conflicts?: string;
  /** Lifetime of values that are written without one, and the longest one; seconds, 0: none. */
  readonly defaultTtlSeconds?: number;
  readonly maxTtlSeconds?: number;
  /** 0: no limit. */
  readonly quotas?: {
    readonly bytes?: number;
    readonly keys?: number;
    readonly operationsPerSecond?: number;
  };
  /** How its tables are merged: leveled, size-tiered, time-window; empty: as the nodes do. */
  readonly compaction?: string;
  /** How they are packed: auto, none, lz4, zstd; empty: as the nodes do. */
  readonly compression?: string;
}

export interface NamespaceInfo extends Required<NamespaceSettings> {
  readonly name: string;
  /** Never given out again: one that is created under the same name later has another. */
  readonly id: number;
  /** Milliseconds since 1970. */
  readonly createdMs: number;
}

interface NamespaceDocument {
  readonly name: string;
  readonly id: number;
  readonly owner: string;
  readonly created_ms: number;
  readonly default_consistency: { readonly read: string; readonly write: string };
  readonly conflicts: string;
  readonly default_ttl: number;
  readonly max_ttl: number;
  readonly quotas: {
    readonly bytes: number;
    readonly keys: number;
    readonly operations_per_second: number;
  };
  readonly compaction: string;
  readonly compression: string;
}

const root = '/api/v1/admin/namespaces';
const json = { 'content-type': 'application/json' };

export class NamespaceCalls {
  readonly #calls: ClusterCalls;

  constructor(calls: ClusterCalls) {
    this.#calls = calls;
  }

  /** CONFLICT where there is one of this name. */
  async create(name: string, settings: NamespaceSettings = {}): Promise<NamespaceInfo> {
    return infoOf(await this.#change('POST', root, { name, ...membersOf(settings) }));
  }

  async list(): Promise<readonly NamespaceInfo[]> {
    const answer = await this.#read(root);
    const { namespaces } = parse<{ readonly namespaces: readonly NamespaceDocument[] }>(answer);
    return namespaces.map(toInfo);
  }

  /** Undefined where there is none. */
  async get(name: string): Promise<NamespaceInfo | undefined> {
    const answer = await unless('NO_SUCH_NAMESPACE', this.#read(pathOf(name)));
    return answer === undefined ? undefined : infoOf(answer);
  }

  /** NO_SUCH_NAMESPACE where there is none. */
  async alter(name: string, settings: NamespaceSettings): Promise<NamespaceInfo> {
    return infoOf(await this.#change('PUT', pathOf(name), membersOf(settings)));
  }

  /** With all keys in it, which are out of reach at once. NO_SUCH_NAMESPACE where there is none. */
  async drop(name: string): Promise<void> {
    const path = `${pathOf(name)}?confirm=${encodeURIComponent(name)}`;
    await this.#calls.call({ method: 'DELETE', path, isIdempotent: false, isWrite: true });
  }

  #read(path: string): Promise<ClientAnswer> {
    return this.#calls.call({ method: 'GET', path, isIdempotent: true, isWrite: false });
  }

  #change(method: 'POST' | 'PUT', path: string, members: object): Promise<ClientAnswer> {
    const body = Buffer.from(JSON.stringify(members));
    const terms = { isIdempotent: method === 'PUT', isWrite: true };
    return this.#calls.call({ method, path, headers: json, body, ...terms });
  }
}

function pathOf(name: string): string {
  if (name === '') throw badRequest('namespace: expected a name');
  return `${root}/${encodeURIComponent(name)}`;
}

const infoOf = (answer: ClientAnswer): NamespaceInfo =>
  toInfo(parse<{ readonly namespace: NamespaceDocument }>(answer).namespace);

const toInfo = ({
  created_ms: createdMs,
  default_consistency: defaultConsistency,
  default_ttl: defaultTtlSeconds,
  max_ttl: maxTtlSeconds,
  quotas: { bytes, keys, operations_per_second: operationsPerSecond },
  ...rest
}: NamespaceDocument): NamespaceInfo => ({
  ...rest,
  createdMs,
  defaultConsistency,
  defaultTtlSeconds,
  maxTtlSeconds,
  quotas: { bytes, keys, operationsPerSecond },
});

/** Members that are undefined are left out of the JSON. */
const membersOf = ({
  owner,
  defaultConsistency,
  conflicts,
  defaultTtlSeconds,
  maxTtlSeconds,
  quotas,
  compaction,
  compression,
}: NamespaceSettings): object => ({
  owner,
  compaction,
  compression,
  default_consistency: defaultConsistency,
  conflicts,
  default_ttl: defaultTtlSeconds,
  max_ttl: maxTtlSeconds,
  quotas:
    quotas === undefined
      ? undefined
      : {
          bytes: quotas.bytes,
          keys: quotas.keys,
          operations_per_second: quotas.operationsPerSecond,
        },
});
