// Small nodes for tests of the gateway: real kernels joined by links that hand envelopes over at
// once, an edge on a free port of 127.0.0.1, and stand-ins for everything behind the gateway. The
// stand-in coordinators of all nodes share one map, so they behave as one store.

import { type IncomingHttpHeaders, request as httpRequest } from 'node:http';
import {
  actor,
  type Context,
  type Deferred,
  type Later,
  type Ref,
  refTo,
} from '../runtime/actor.ts';
import { compareBytes, startsWith, utf8 } from '../runtime/bytes.ts';
import type { Envelope, Link } from '../runtime/envelope.ts';
import type { Host, Log } from '../runtime/environment.ts';
import { type ErrorCode, type Failure, failure, KvError } from '../runtime/errors.ts';
import { createNodeHost, secretBytes } from '../runtime/host/node-host.ts';
import { Kernel } from '../runtime/kernel.ts';
import type { MetricRegistry, MetricSample } from '../runtime/metrics.ts';
import type { BodyOf, Handlers } from '../runtime/protocol.ts';
import { Sealer } from '../runtime/seal.ts';
import { stopNode } from '../runtime/supervisor.ts';
import { httpGateway, type HttpGatewayOptions } from '../actors/gateway/http-gateway.actor.ts';
import { defaultGatewaySettings, type GatewayLimits } from '../actors/gateway/http-requests.ts';
import { openApiDocument } from '../actors/gateway/openapi.ts';
import { HttpGateway, RespGateway, Watcher } from '../actors/gateway/protocol.ts';
import { respGateway } from '../actors/gateway/resp-gateway.actor.ts';
import type { AccessSettings } from '../actors/gateway/access.ts';
import type { SerialOperations } from '../actors/gateway/serial-operations.ts';
import {
  FailureDetector,
  Gossiper,
  type NodeState,
  type PeerState,
} from '../actors/membership/protocol.ts';
import {
  encodeRecord,
  recordKey,
  namespaceOf,
  noEtag,
  recordEtag,
  recordVersion,
  storageKey,
  userKey,
} from '../actors/model/record.ts';
import { Ring } from '../actors/model/ring.ts';
import { monitor } from '../actors/observability/monitor.actor.ts';
import { renderPrometheus } from '../actors/observability/prometheus-text.ts';
import { Monitor } from '../actors/observability/protocol.ts';
import {
  Coordinator,
  Proposer,
  type ReadReply,
  type ReadRequest,
  type ScanReply,
  type ScanRequest,
  type SiblingWriteReply,
  type SerialReply,
  type SerialRequest,
  type TransactionReply,
  type TransactionRequest,
  type WriteReply,
  type WriteRequest,
} from '../actors/replication/protocol.ts';
import { changed } from '../actors/catalog/changes.ts';
import { Catalog, type CatalogBytes, type CatalogChange } from '../actors/catalog/protocol.ts';
import { type CatalogDocument, encodeCatalog } from '../actors/model/namespaces.ts';
import { type AuditEntry, Auditor } from '../actors/security/protocol.ts';
import { Repairer, type RepairReport, type RepairRequest } from '../actors/repair/protocol.ts';
import { Snapshotter, type SnapshotSummary } from '../actors/storage/protocol.ts';
import { SerialHistory } from '../actors/replication/serial-history.ts';
import {
  type Evaluated,
  evaluateRound,
  keysOfRound,
  type RoundRequest,
} from '../actors/replication/serial-operations.ts';
import { type HttpConnectionLimits, HttpEdge } from '../transport/edge-http.ts';
import { RespEdge, type RespEdgeLimits } from '../transport/edge-resp.ts';

const protocols = [
  Coordinator,
  FailureDetector,
  Gossiper,
  HttpGateway,
  RespGateway,
  Proposer,
  Monitor,
  Snapshotter,
  Repairer,
  Catalog,
  Auditor,
  Watcher,
];

/** The clock of all stand-ins: milliseconds since 1970. */
export const nowMs = 1_700_000_000_000;

/** What the coordinators of a cluster share, and how they misbehave. */
export interface Backend {
  readonly records: Map<string, Uint8Array>;
  /** Requests as they came: node, verb, request. */
  readonly seen: {
    node: string;
    verb: string;
    request: WriteRequest | ReadRequest | ScanRequest;
  }[];
  /** Failures to answer with, by node. */
  readonly failing: Map<string, Failure>;
  /** Keys whose requests are never answered. */
  readonly hanging: Set<string>;
  readonly held: Deferred<WriteReply>[];
  /** Serial requests as they came. */
  readonly serial: { node: string; request: SerialRequest }[];
  history: SerialHistory;
  /** Repairs that were asked for. */
  readonly repairs: (RepairRequest & { readonly node: string })[];
}

function createBackend(): Backend {
  return {
    records: new Map(),
    seen: [],
    failing: new Map(),
    hanging: new Set(),
    held: [],
    serial: [],
    history: new SerialHistory(),
    repairs: [],
  };
}

/** Evaluates operations as a round of one node would, on the records of the backend. */
class FakeProposer implements Handlers<Proposer> {
  readonly #ctx: Context;
  readonly #backend: Backend;
  #rounds = 0;

  constructor(ctx: Context, backend: Backend) {
    this.#ctx = ctx;
    this.#backend = backend;
  }

  peersChanged(): void {}

  run(request: SerialRequest): SerialReply | Later<SerialReply> {
    this.#backend.serial.push({ node: this.#ctx.node, request });
    const problem = this.#backend.failing.get(this.#ctx.node);
    if (problem !== undefined) return failed(this.#ctx, problem);
    const evaluated = this.#decide(request);
    if (!('outcome' in evaluated)) return this.#refused(evaluated);
    const { isApplied, record, written, before: found, number } = evaluated.outcome;
    const version = record === undefined ? 0 : recordVersion(record);
    const etag = record === undefined ? noEtag : recordEtag(record);
    const shown = { ...etag, version, expiresAt: 0, ...written };
    const made = {
      ...{ nowMs, coordinator: this.#ctx.node },
      explanation: request.explain === true ? '{"level":"SERIAL"}' : undefined,
    };
    return { ...shown, ...made, isApplied, record, before: found, number };
  }

  transact(request: TransactionRequest): TransactionReply | Later<TransactionReply> {
    const problem = this.#backend.failing.get(this.#ctx.node);
    if (problem !== undefined) return failed(this.#ctx, problem);
    const evaluated = this.#decide(request);
    if (!('transaction' in evaluated)) return this.#refused(evaluated);
    return { ...evaluated.transaction, nowMs, coordinator: this.#ctx.node };
  }

  #decide(request: RoundRequest): Evaluated {
    this.#rounds += 1;
    const { records, history } = this.#backend;
    const key = storageKey(request.namespace, request.key);
    const ballot = { hlc: (nowMs + this.#rounds) * 1000, writer: 9, incarnation: 3 };
    const idOf = (stored: Uint8Array): string => utf8.decode(userKey(stored));
    const before = keysOfRound([request])
      .map((stored) => records.get(idOf(stored)))
      .filter((record) => record !== undefined);
    const facts = { key, token: 0, ballot, nowMs, history, valueBytesMax: 1000, mayStamp: true };
    const result = evaluateRound([request], before, facts);
    for (const record of result.records) records.set(idOf(recordKey(record)), record);
    this.#backend.history = history.with(ballot, result.kept);
    return result.outcomes[0] as Evaluated;
  }

  #refused(evaluated: Evaluated): Later<never> {
    const refusal = 'refusal' in evaluated ? evaluated.refusal.toFailure() : failure('BUG');
    return failed(this.#ctx, refusal);
  }
}

class FakeCoordinator implements Handlers<Coordinator> {
  readonly #ctx: Context;
  readonly #backend: Backend;

  constructor(ctx: Context, backend: Backend) {
    this.#ctx = ctx;
    this.#backend = backend;
  }

  peersChanged(): void {}

  write(request: WriteRequest): WriteReply | Later<WriteReply> {
    const id = this.#begin('write', request, request.key);
    if (this.#backend.hanging.has(id)) {
      const held = this.#ctx.later<WriteReply>();
      this.#backend.held.push(held);
      return held;
    }
    const problem = this.#backend.failing.get(this.#ctx.node);
    if (problem !== undefined) return failed(this.#ctx, problem);
    const before = this.#backend.records.get(id);
    const version = before === undefined ? 1 : recordVersion(before) + 1;
    const etag = { hlc: nowMs * 1000 + version, writer: 7, incarnation: 2 };
    const { value, valueType, ttlMs, namespace, key } = request;
    const expiresAt = ttlMs === 0 ? 0 : nowMs + ttlMs;
    if (value === undefined) this.#backend.records.delete(id);
    else {
      const fields = { key: storageKey(namespace, key), value, valueType, version, expiresAt };
      const record = encodeRecord({ ...etag, ...fields, isTombstone: false, token: 0, hash: 0 });
      this.#backend.records.set(id, record);
    }
    const existed = before !== undefined;
    return { ...etag, version, expiresAt, existed, ...this.#made(request) };
  }

  read(request: ReadRequest): ReadReply | Later<ReadReply> {
    const id = this.#begin('read', request, request.key);
    const problem = this.#backend.failing.get(this.#ctx.node);
    if (this.#backend.hanging.has(id)) return this.#ctx.later<ReadReply>();
    if (problem !== undefined) return failed(this.#ctx, problem);
    const record = this.#backend.records.get(id);
    const etag = record === undefined ? noEtag : recordEtag(record);
    return { record, ...etag, nowMs, ...this.#made(request) };
  }

  siblingWrite(): Later<SiblingWriteReply> {
    return failed(this.#ctx, failure('NOT_IMPLEMENTED'));
  }

  #made({ explain }: { readonly explain: boolean }): {
    coordinator: string;
    explanation: string | undefined;
  } {
    return { coordinator: this.#ctx.node, explanation: explain ? '{"steps":[]}' : undefined };
  }

  scan(request: ScanRequest): ScanReply | Later<ScanReply> {
    this.#begin('scan', request, request.prefix);
    const problem = this.#backend.failing.get(this.#ctx.node);
    if (problem !== undefined) return failed(this.#ctx, problem);
    const { prefix, after, limit } = request;
    const all = [...this.#backend.records.values()]
      .filter((record) => namespaceOf(recordKey(record)) === request.namespace)
      .filter((record) => startsWith(userKey(recordKey(record)), prefix))
      .filter(
        (record) => after === undefined || compareBytes(userKey(recordKey(record)), after) > 0,
      )
      .sort((a, b) => compareBytes(recordKey(a), recordKey(b)));
    const records = all.slice(0, limit);
    const last = records.at(-1);
    const next = all.length > limit && last !== undefined ? userKey(recordKey(last)) : undefined;
    return { records, next, nowMs };
  }

  #begin(verb: string, request: WriteRequest | ReadRequest | ScanRequest, key: Uint8Array): string {
    this.#backend.seen.push({ node: this.#ctx.node, verb, request });
    return utf8.decode(key);
  }
}

function failed<Reply>(ctx: Context, problem: Failure): Later<Reply> {
  const later = ctx.later<Reply>();
  later.fail(problem);
  return later;
}

const fakeProposer = actor({
  protocol: Proposer,
  create: (ctx, backend: Backend) => new FakeProposer(ctx, backend),
});

const fakeCoordinator = actor({
  protocol: Coordinator,
  create: (ctx, backend: Backend) => new FakeCoordinator(ctx, backend),
});

/** Snapshots of one node in a map; a table is its own name. */
class FakeSnapshotter implements Handlers<Snapshotter> {
  readonly #snapshots = new Map<string, SnapshotSummary>();
  readonly #ctx: Context;
  readonly #backend: Backend;

  constructor(ctx: Context, backend: Backend) {
    this.#ctx = ctx;
    this.#backend = backend;
  }

  create({ name }: { readonly name: string }): SnapshotSummary | Later<SnapshotSummary> {
    const problem = this.#backend.failing.get(this.#ctx.node);
    if (problem !== undefined) return failed(this.#ctx, problem);
    const summary = { name, createdMs: nowMs, tables: 1, records: 2, bytes: 30, maxHlc: 4 };
    this.#snapshots.set(name, summary);
    return summary;
  }

  list(): { readonly snapshots: readonly SnapshotSummary[] } {
    return { snapshots: [...this.#snapshots.values()] };
  }

  remove({ name }: { readonly name: string }): { readonly isRemoved: boolean } {
    return { isRemoved: this.#snapshots.delete(name) };
  }

  describe({ name }: { readonly name: string }): { readonly manifest: Uint8Array } {
    return { manifest: utf8.encode(`manifest of ${name}`) };
  }

  read({ name, shard, fileNumber, offset, length }: BodyOf<Snapshotter['read']>): {
    readonly bytes: Uint8Array;
    readonly size: number;
  } {
    const bytes = utf8.encode(`${name}.${shard}.${fileNumber}`);
    return { bytes: bytes.slice(offset, offset + length), size: bytes.length };
  }

  flush(): { readonly tables: number } | Later<{ readonly tables: number }> {
    const problem = this.#backend.failing.get(this.#ctx.node);
    return problem === undefined ? { tables: 7 } : failed(this.#ctx, problem);
  }
}

const fakeSnapshotter = actor({
  protocol: Snapshotter,
  create: (ctx, backend: Backend) => new FakeSnapshotter(ctx, backend),
});

const repairReport = (id: number): RepairReport => ({
  id,
  startedMs: nowMs,
  tookMs: 3,
  isRunning: true,
  phase: 'sum up',
  setsWanted: 2,
  sets: [{ set: 'n1,n2,n3', outcome: 'complete', why: '' }],
  leavesDiffering: 1,
  keysCompared: 2,
  recordsScanned: 3,
  recordsSent: 4,
  bytesSent: 5,
});

/** A repairer whose repairs never end; what it was asked is kept. */
const fakeRepairer = actor({
  protocol: Repairer,
  create: (ctx: Context, backend: Backend): Handlers<Repairer> => {
    let report: RepairReport | undefined;
    const notPlayed = (): never => {
      throw new Error('not played here');
    };
    return {
      survey: notPlayed,
      begin: notPlayed,
      sums: notPlayed,
      digests: notPlayed,
      write: notPlayed,
      hold: notPlayed,
      read: notPlayed,
      agree: notPlayed,
      confirm: notPlayed,
      end: notPlayed,
      late: notPlayed,
      floor: notPlayed,
      namespacesChanged: notPlayed,
      peersChanged: () => undefined,
      run: (request) => {
        const problem = backend.failing.get(ctx.node);
        if (problem !== undefined) return failed(ctx, problem);
        backend.repairs.push({ node: ctx.node, ...request });
        report = repairReport(backend.repairs.length);
        return report;
      },
      status: () => ({ report }),
    };
  },
});

const fakeGossiper = actor({
  protocol: Gossiper,
  create: (_ctx, states: readonly NodeState[]) => ({
    exchange: () => ({ states: [], wanted: [] }),
    news: () => undefined,
    loadChanged: () => undefined,
    catalogEpoch: () => undefined,
    leaving: () => ({}),
    states: () => ({ states }),
  }),
});

const fakeDetector = actor({
  protocol: FailureDetector,
  create: (_ctx, peers: readonly PeerState[]) => ({
    heard: () => undefined,
    clock: () => undefined,
    peers: () => ({ peers }),
  }),
});

/** Changes a document as the catalog of a cluster does; the gateways of its node hear of it. */
const fakeCatalog = actor({
  protocol: Catalog,
  create: (
    ctx: Context,
    { first, listeners }: { first: CatalogDocument; listeners: Ref<never>[] },
  ): Handlers<Catalog> => {
    let known = first;
    const bytes = (): CatalogBytes => ({ document: encodeCatalog(known) });
    return {
      document: bytes,
      refresh: bytes,
      change: (change: CatalogChange) => {
        try {
          known = changed(known, change, nowMs);
        } catch (error) {
          if (!(error instanceof KvError)) throw error;
          return failed(ctx, error.toFailure());
        }
        for (const listener of listeners)
          ctx.ask(listener, 'namespacesChanged' as never, bytes() as never, 1000, () => undefined);
        return bytes();
      },
      install: () => ({ epoch: known.epoch }),
      heard: () => undefined,
      peersChanged: () => undefined,
      lease: ({ tokens }) => ({ granted: tokens, retryMs: 0 }),
      counted: () => undefined,
    };
  },
});

const fakeAuditor = actor({
  protocol: Auditor,
  create: (_ctx, audit: AuditEntry[]) => ({
    happened: (entry: AuditEntry) => void audit.push(entry),
  }),
});

export interface ClusterOptions {
  /** Users have to say who they are, by the document of the catalog. */
  readonly access?: AccessSettings & { readonly document: CatalogDocument };
  readonly nodes?: readonly string[];
  readonly replicationFactor?: number;
  readonly limits?: Partial<GatewayLimits>;
  readonly respLimits?: Partial<RespEdgeLimits>;
  readonly connectionLimits?: Partial<HttpConnectionLimits>;
  readonly serial?: SerialOperations;
  /** Absent: nothing is logged. */
  readonly log?: Log;
  /** False: the failure detector has not spoken yet. */
  readonly tellsPeers?: boolean;
}

export interface TestCluster {
  /** What was written into the audit log. */
  readonly audit: AuditEntry[];
  readonly backend: Backend;
  /** The node whose gateway the edge asks. */
  readonly kernel: Kernel;
  readonly metrics: MetricRegistry;
  readonly ring: Ring;
  readonly port: number;
  /** Of the Redis protocol. */
  readonly respPort: number;
  readonly setPeers: (conditions: Readonly<Record<string, PeerState['condition']>>) => void;
  /** Nodes to which no link leads any more. */
  readonly cut: Set<string>;
  readonly close: () => Promise<void>;
}

const shardsPerNode = 2;

const stateOf = (node: string, index: number): NodeState => ({
  node,
  generation: 5,
  heartbeat: 9,
  status: 'serving',
  host: '127.0.0.1',
  internodePort: 7002 + 10 * index,
  httpPort: 7000 + 10 * index,
  shards: shardsPerNode,
  load: { keys: 100 + index, memoryBytes: 3 * 1024 * 1024, diskBytes: 5 * 1024 * 1024 },
});

const peerOf = (node: string, condition: PeerState['condition'] = 'alive'): PeerState => ({
  node,
  condition,
  phi: 0.25,
  shards: shardsPerNode,
});

/** One cluster with an edge at its first node. */
export async function startCluster(options: ClusterOptions = {}): Promise<TestCluster> {
  const nodes = options.nodes ?? ['n1'];
  const backend = createBackend();
  const audit: AuditEntry[] = [];
  const cut = new Set<string>();
  const kernels = new Map<string, Kernel>();
  const ring = new Ring({
    members: nodes,
    virtualNodes: 16,
    replicationFactor: options.replicationFactor ?? nodes.length,
  });
  const hosts = new Map(nodes.map((node) => [node, createTestHost(options.log)]));
  const hostOf = (node: string): Host => hosts.get(node) as Host;
  for (const node of nodes) kernels.set(node, createKernel(node, kernels, cut, hostOf(node)));
  for (const [node, kernel] of kernels) {
    for (let shard = 0; shard < shardsPerNode; shard += 1)
      await spawn(kernel, fakeCoordinator, backend, shard);
    for (let shard = 0; shard < shardsPerNode; shard += 1)
      await spawn(kernel, fakeProposer, backend, shard);
    await spawn(kernel, fakeSnapshotter, backend);
    await spawn(kernel, fakeRepairer, backend);
    if (node !== nodes[0]) continue;
    const samples = (): MetricSample[] => [...kernel.samples(), ...hostOf(node).metrics.samples()];
    await spawn(kernel, monitor, { samples });
    await spawn(kernel, fakeGossiper, nodes.map(stateOf));
    await spawn(
      kernel,
      fakeDetector,
      nodes.map((name) => peerOf(name)),
    );
    if (options.access !== undefined) {
      const listeners = [refTo(HttpGateway, node), refTo(RespGateway, node)];
      await spawn(kernel, fakeCatalog, { first: options.access.document, listeners });
      await spawn(kernel, fakeAuditor, audit);
    }
    await spawn(kernel, httpGateway, gatewayOptions(node, ring, options));
    const { serial } = options;
    const shared = gatewayOptions(node, ring, options);
    await spawn(kernel, respGateway, { ...shared, ...(serial === undefined ? {} : { serial }) });
  }
  const [first = ''] = nodes;
  const kernel = kernels.get(first) as Kernel;
  const gateway = refTo(HttpGateway, first);
  const setPeers: TestCluster['setPeers'] = (conditions) => {
    const peers = nodes.map((node) => peerOf(node, conditions[node]));
    kernel.tell(gateway, 'peersChanged', { peers });
    kernel.tell(refTo(RespGateway, first), 'peersChanged', { peers });
  };
  if (options.tellsPeers !== false) setPeers({});
  const edge = new HttpEdge({
    node: 'n1',
    host: '127.0.0.1',
    port: 0,
    connectionLimits: options.connectionLimits ?? {},
    requiresLogin: options.access?.isRequired === true,
    ask: (request, timeoutMs, trace, done) =>
      kernel.ask(gateway, 'handle', request, timeoutMs, done, trace),
  });
  const { port } = await edge.listen();
  const respEdge = createRespEdge(kernel, options);
  const { port: respPort } = await respEdge.listen();
  const close = async (): Promise<void> => {
    await edge.close();
    await respEdge.close();
    for (const one of kernels.values()) one.stop();
  };
  const { metrics } = hostOf(first);
  return { audit, backend, kernel, metrics, ring, port, respPort, setPeers, cut, close };
}

function createRespEdge(kernel: Kernel, options: ClusterOptions): RespEdge {
  const { access, limits, respLimits } = options;
  const gateway = refTo(RespGateway, kernel.node);
  const bulkBytes = limits?.valueBytes;
  return new RespEdge({
    host: '127.0.0.1',
    port: 0,
    limits: { ...(bulkBytes === undefined ? {} : { bulkBytes }), ...respLimits },
    requiresLogin: access?.isRequired === true,
    opened: (start) => kernel.tell(gateway, 'opened', start),
    closed: (connection) => kernel.tell(gateway, 'closed', { connection }),
    run: (batch, timeoutMs, done) => kernel.ask(gateway, 'run', batch, timeoutMs, done),
  });
}

function gatewayOptions(
  node: string,
  ring: Ring,
  { limits, access }: ClusterOptions,
): HttpGatewayOptions {
  return {
    ...(access === undefined ? {} : { access, catalog: refTo(Catalog, node) }),
    ...defaultGatewaySettings,
    limits: { ...defaultGatewaySettings.limits, ...limits },
    ring,
    coordinatorShards: shardsPerNode,
    gossiper: refTo(Gossiper, node),
    detector: refTo(FailureDetector, node),
    monitors: [refTo(Monitor, node)],
    renderMetrics: renderPrometheus,
    durability: 'group' as const,
    sealer: new Sealer('test'),
  };
}

function createKernel(
  node: string,
  kernels: ReadonlyMap<string, Kernel>,
  cut: Set<string>,
  host: Host,
): Kernel {
  const linkFrom = (from: string, to: string): Link => {
    const link: Link = {
      name: `${from}->${to}`,
      send: (envelope: Envelope): boolean => {
        if (cut.has(to) || cut.has(from)) return false;
        const via = envelope.kind === 'ask' ? linkFrom(to, from) : undefined;
        kernels.get(to)?.deliver({ ...envelope, via });
        return true;
      },
    };
    return link;
  };
  return new Kernel({
    node,
    thread: 'test',
    host,
    router: {
      linkTo: (to) => (kernels.has(to) && to !== node ? linkFrom(node, to) : undefined),
      flush: () => undefined,
    },
    protocols,
  });
}

const quiet = (): void => undefined;
const quietLog: Log = { debug: quiet, info: quiet, warn: quiet, error: quiet };

/** The real clock and timers; a node that stops itself fails the test. */
function createTestHost(log: Log = quietLog): Host {
  return createNodeHost({
    log,
    capabilities: { secrets: secretBytes } as unknown as Host['capabilities'],
    onStop: (reason) => {
      throw new Error(`the node stopped: ${reason}`);
    },
  });
}

function spawn(kernel: Kernel, kind: unknown, options: unknown, shard = 0): Promise<void> {
  return kernel.spawn({
    kind: kind as never,
    options,
    shard,
    mailboxCapacity: 4096,
    onCrash: stopNode(),
  });
}

// ---- requests ------------------------------------------------------------------------------

export interface Sent {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly bytes: Buffer;
  readonly text: string;
}

type Paths = Readonly<Record<string, Readonly<Record<string, { readonly responses: object }>>>>;

const operations = Object.entries(openApiDocument('1')['paths'] as Paths).map(
  ([path, methods]) => ({
    pattern: new RegExp(`^${path.replaceAll('.', '\\.').replaceAll(/\{[a-z]+\}/g, '[^/]+')}$`),
    methods,
  }),
);

/** Whatever a test provokes: an answer that the OpenAPI document does not name fails the test. */
function problemWith(method: string, path: string, status: number): Error | undefined {
  const [bare = ''] = path.split('?', 1);
  const found = operations.find(({ pattern }) => pattern.test(bare));
  const responses = found?.methods[method.toLowerCase()]?.responses;
  if (responses === undefined || Object.hasOwn(responses, status)) return undefined;
  return new Error(`${method} ${bare} was answered with ${status}, which is not documented`);
}

/** One request on a connection of its own. `path` goes out as it is. */
export function send(port: number, method: string, path: string, sent: Sent = {}): Promise<Answer> {
  const { headers = {}, body } = sent;
  return new Promise((resolve, reject) => {
    const length = body === undefined ? {} : { 'content-length': Buffer.byteLength(body) };
    const request = httpRequest(
      { host: '127.0.0.1', port, method, path, headers: { ...length, ...headers }, agent: false },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const bytes = Buffer.concat(chunks);
          const { statusCode = 0 } = response;
          const undocumented = problemWith(method, path, statusCode);
          if (undocumented !== undefined) return reject(undocumented);
          resolve({ status: statusCode, headers: response.headers, bytes, text: bytes.toString() });
        });
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

/** The same with a JSON body. */
export function sendJson(
  port: number,
  method: string,
  path: string,
  body: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  const json = { 'content-type': 'application/json' };
  return send(port, method, path, { headers: { ...json, ...headers }, body });
}

export interface Problem {
  readonly code: ErrorCode;
  readonly status: number;
  readonly title: string;
  readonly detail: string;
  readonly type: string;
  readonly field?: string;
  readonly position?: number;
}

export const problemOf = (answer: Answer): Problem => JSON.parse(answer.text) as Problem;
