// Requests and answers as the edges (HTTP, Redis) and the gateways exchange them. An edge turns
// sockets into these; a gateway validates, routes and maps errors.

import { ask, protocol, tell } from '../../runtime/protocol.ts';
import type { CatalogBytes } from '../catalog/protocol.ts';
import { type PeerStates, peerStatesLayout } from '../membership/protocol.ts';
import type { Usage } from '../model/namespaces.ts';

/** When an operation ends at the latest, milliseconds; one that is decided is a read or a write too. */
export interface GatewayTimeouts {
  readonly readTimeoutMs: number;
  readonly writeTimeoutMs: number;
  /** Of a page of keys. */
  readonly scanTimeoutMs: number;
}

export const usualTimeouts: GatewayTimeouts = {
  readTimeoutMs: 5000,
  writeTimeoutMs: 5000,
  scanTimeoutMs: 10_000,
};

const httpMarginMs = 5000;
const respMarginMs = 10_000;
/** A batch of a Redis connection that runs longer starts no more commands. */
export const batchMsMax = 10_000;
/** FLUSHDB and FLUSHALL end then, with what they have done. */
export const flushTimeoutMs = 40_000;

const longest = ({ readTimeoutMs, writeTimeoutMs, scanTimeoutMs }: GatewayTimeouts): number =>
  Math.max(readTimeoutMs, writeTimeoutMs, scanTimeoutMs);

/** So long an edge waits for the answer to a request that names no deadline. */
export const httpAnswerMs = (timeouts: GatewayTimeouts): number => longest(timeouts) + httpMarginMs;

/** So long an edge waits for the answers to a batch. */
export const respAnswerMs = (timeouts: GatewayTimeouts): number =>
  batchMsMax + Math.max(flushTimeoutMs, longest(timeouts)) + respMarginMs;

export interface HttpRequest {
  /** Name of a row of http-routes.ts. */
  readonly route: string;
  /** Path parameters, percent-decoded. */
  readonly params: Readonly<Record<string, string>>;
  /** Query parameters, the last of each name. */
  readonly query: Readonly<Record<string, string>>;
  /** Header names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  /** Address of the client, without a port; absent: not known. */
  readonly client?: string;
  /** It came over one of the last connections, which are for health and administrators. */
  readonly isReserved?: boolean;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  /** Who asked has shown a token that is known; absent: not, or nobody is asked. */
  readonly isLoggedIn?: true;
}

export const HttpGateway = protocol('http-gateway', 40, {
  handle: ask<HttpRequest, HttpAnswer>(1),
  peersChanged: tell<PeerStates>(2, { lane: 'control', layout: peerStatesLayout }),
  /** From now on refuse new requests with DRAINING; readyz says 503. */
  startDraining: ask<object, object>(3, { lane: 'control' }),
  namespacesChanged: ask<CatalogBytes, object>(70, { lane: 'control' }),
  /** What namespaces with a quota hold, all nodes together. */
  usageChanged: tell<{ readonly usages: readonly Usage[] }>(71, { lane: 'control' }),
});
export type HttpGateway = typeof HttpGateway.messages;

/** One command as the Redis edge read it. */
export interface RespCommand {
  /** Its name, then its arguments. */
  readonly args: readonly Uint8Array[];
  /** An argument was over its limit and left out: to be refused. */
  readonly isTooLarge: boolean;
}

export interface RespConnectionStart {
  /** Unique among the connections of this node's life. */
  readonly connection: number;
  /** `address:port` of the client and of the socket that it reached. */
  readonly remote: string;
  readonly local: string;
}

export interface RespBatch {
  readonly connection: number;
  readonly commands: readonly RespCommand[];
}

export interface RespAnswers {
  /** Answers in the order of their commands, as they go out. */
  readonly bytes: Uint8Array;
  /** So many commands were answered; the others come again with the next batch. */
  readonly count: number;
  /** The connection ends when these bytes are out. */
  readonly isLast: boolean;
  /** It is known who the connection speaks for, or nobody has to say. */
  readonly isLoggedIn: boolean;
}

export const RespGateway = protocol('resp-gateway', 41, {
  opened: tell<RespConnectionStart>(1, { lane: 'control' }),
  /** Runs the next commands of a connection; one batch of a connection at a time. */
  run: ask<RespBatch, RespAnswers>(2),
  closed: tell<{ readonly connection: number }>(3, { lane: 'control' }),
  peersChanged: tell<PeerStates>(4, { lane: 'control', layout: peerStatesLayout }),
  /** From now on refuse commands with DRAINING; answers when the last open one is answered. */
  startDraining: ask<object, object>(5, { lane: 'control' }),
  namespacesChanged: ask<CatalogBytes, object>(70, { lane: 'control' }),
  usageChanged: tell<{ readonly usages: readonly Usage[] }>(71, { lane: 'control' }),
});
export type RespGateway = typeof RespGateway.messages;

export interface WatchRequest {
  readonly namespace: number;
  /** Of the user's keys; empty: all. */
  readonly prefix: Uint8Array;
  readonly withValues: boolean;
  /** Id of the last event that was read; empty: from now on. */
  readonly lastEventId: string;
  /** Whose right to read it needs; absent: nobody has to say who he is. */
  readonly reader?: WatchReader;
}

/** Somebody who was let in. */
export interface WatchReader {
  readonly user: string;
  /** Of his token. */
  readonly tokenId: string;
  /** Of the users by which he was let in. */
  readonly epoch: number;
  /** Of the token, milliseconds since 1970; 0: it does not expire. */
  readonly expiresMs: number;
}

export interface ChangesRequest {
  readonly epoch: string;
  readonly after: number;
  /** Of storage keys. */
  readonly prefix: Uint8Array;
  /** With nothing new the answer may take so long. */
  readonly waitMs: number;
}

export interface ChangesReply {
  readonly epoch: string;
  readonly next: number;
  readonly records: readonly Uint8Array[];
  readonly isGap: boolean;
  readonly isHead: boolean;
}

/** Changes of keys: those of this node for other nodes, those of all nodes for clients. */
export const Watcher = protocol('watcher', 42, {
  /** Of a store that was told to: records that are visible now; `sequence` counts them. */
  committed: tell<{
    readonly shard: number;
    readonly sequence: number;
    readonly records: readonly Uint8Array[];
  }>(1, {
    layout: { shard: 'u32', sequence: 'u53', records: 'bytes[]' },
  }),
  /** The feed of this node. */
  changes: ask<ChangesRequest, ChangesReply>(2, {
    layout: { epoch: 'text', after: 'u53', prefix: 'bytes', waitMs: 'u32' },
    replyLayout: {
      epoch: 'text',
      next: 'u53',
      records: 'bytes[]',
      isGap: 'bool',
      isHead: 'bool',
    },
  }),
  /** UNAVAILABLE where too few nodes answer, OVERLOADED with too many open watches. */
  open: ask<WatchRequest, { readonly watch: number }>(3),
  /**
   * The next events as text of a stream (server-sent events); a sign of life where there is none for
   * `waitMs`. `isLast`: the watch has ended here, with these bytes. One at a time.
   */
  next: ask<
    { readonly watch: number; readonly waitMs: number },
    { readonly bytes: Uint8Array; readonly isLast: boolean }
  >(4),
  close: tell<{ readonly watch: number }>(5, { lane: 'control' }),
  /** Ends watches of namespaces that were dropped, and of readers who may not read any more. */
  namespacesChanged: ask<CatalogBytes, object>(70, { lane: 'control' }),
});
export type Watcher = typeof Watcher.messages;
