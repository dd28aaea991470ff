// One thread of a node, put together: host, links, kernel, and the actors that the plan places
// here. The main thread calls it for itself; each worker thread calls it in node-thread.ts.

import { defaultBodyLimits } from '../../actors/gateway/http-routes.ts';
import { HttpGateway, RespGateway, Watcher } from '../../actors/gateway/protocol.ts';
import { Gossiper } from '../../actors/membership/protocol.ts';
import { type NodeSettings, type PlannedActor, planNode } from '../../actors/node/plan.ts';
import { threadGroups } from '../../actors/node/thread-groups.ts';
import { keyBytesMax } from '../../actors/model/record.ts';
import { allProtocols } from '../../actors/node/protocols.ts';
import { Monitor } from '../../actors/observability/protocol.ts';
import { type Ref, refTo } from '../../runtime/actor.ts';
import { type CodecModules, createCodecs } from '../../runtime/block-codecs.ts';
import type { BlockCodecs, Capabilities, Host, Log } from '../../runtime/environment.ts';
import { createNodeDisk } from '../../runtime/host/node-disk.ts';
import { createNodeHost, secretBytes } from '../../runtime/host/node-host.ts';
import { lowerThreadPriority } from '../../runtime/host/priority.ts';
import type { TaskPool } from '../../runtime/host/task-pool.ts';
import type { ThreadControl } from '../../runtime/host/thread-control.ts';
import type { ThreadPart } from '../../runtime/host/threads.ts';
import { Kernel } from '../../runtime/kernel.ts';
import type { MetricSample } from '../../runtime/metrics.ts';
import { placementOf, type Profile } from '../../runtime/placement.ts';
import { Codec } from '../../transport/codec.ts';
import { HttpEdge } from '../../transport/edge-http.ts';
import { RespEdge } from '../../transport/edge-resp.ts';
import { PeerTable } from '../../transport/peer-table.ts';
import type { TlsMaterial } from '../../transport/tls.ts';
import type { ThreadReceiver } from '../../transport/thread-link.ts';
import { NodeRouter } from '../../transport/transport.ts';
import { expirySeconds, type NodeTls, watchTlsFiles } from './tls-files.ts';
import { createThreadLinks, createThreadReceivers, createThreadTasks } from './thread-parts.ts';

/** All that a thread needs to know; plain data and shared memory. */
export interface ThreadSeed {
  readonly thread: number;
  readonly settings: Omit<NodeSettings, 'samples' | 'placement'>;
  readonly profile: Profile;
  readonly shards: number;
  readonly dataDir: string;
  /** Where closed log segments are kept; undefined: nowhere. */
  readonly archiveDir?: string | undefined;
  readonly codecModules: CodecModules;
  readonly arenas: readonly SharedArrayBuffer[];
  readonly part: ThreadPart;
  readonly tls?: NodeTls | undefined;
}

export interface ThreadRuntime extends ThreadControl {
  readonly kernel: Kernel;
}

const gossipTimeoutMs = 1_000;
const drainingTimeoutMs = 5_000;
/** Of one Redis command: that of a REST batch. */
const commandBytesMin = 16 * 1024 * 1024;

/** Builds the thread; nothing runs before `start`. `fatal` ends the node. */
export function createThreadRuntime(
  seed: ThreadSeed,
  log: Log,
  fatal: (reason: string) => void,
): ThreadRuntime {
  return new NodeThread(seed, log, fatal);
}

class NodeThread implements ThreadRuntime {
  readonly kernel: Kernel;
  readonly #seed: ThreadSeed;
  readonly #planned: readonly PlannedActor[];
  readonly #peers: PeerTable | undefined;
  readonly #receivers: readonly ThreadReceiver[];
  readonly #tasks: TaskPool;
  readonly #samples: () => readonly MetricSample[];
  readonly #edge: HttpEdge | undefined;
  readonly #respEdge: RespEdge | undefined;
  readonly #log: Log;
  readonly #host: Host;
  #certificate: TlsMaterial | undefined;
  #endTlsWatch: () => void = () => undefined;

  constructor(seed: ThreadSeed, log: Log, fatal: (reason: string) => void) {
    this.#seed = seed;
    this.#log = log;
    this.#certificate = seed.tls?.material;
    const { thread, profile, shards, settings } = seed;
    const placement = placementOf(profile, shards);
    const hasBackground = thread === placement.threadOf('background', 0);
    // With everything on one thread the background has no thread of its own.
    const isBackground = thread > 0 && hasBackground;
    const codecs = createCodecs(seed.codecModules);
    const own = isBackground ? codecs : undefined;
    this.#tasks = createThreadTasks(hasBackground, seed.codecModules, own);
    const host = createNodeHost({
      log,
      capabilities: capabilitiesOf(seed, codecs, this.#tasks),
      onStop: fatal,
    });
    this.#host = host;
    const codec = new Codec(allProtocols);
    const links = createThreadLinks(seed.part, (other) => `thread ${other}`, codec, host.clock);
    this.#peers = isBackground ? undefined : peerTable(seed, codec, host, () => this.kernel);
    const router = new NodeRouter({
      node: settings.node,
      placement,
      groupOf: (actor) => threadGroups[actor] ?? 'control',
      threadOverride: (actor, shard) => (actor === Monitor.name ? shard : undefined),
      threadLinks: links,
      peers: this.#peers,
    });
    this.kernel = new Kernel({
      node: settings.node,
      thread: placement.nameOf(thread),
      host,
      router,
      protocols: allProtocols,
    });
    this.#receivers = createThreadReceivers(seed.part, links, codec, host.clock, this.kernel);
    if (thread === 0)
      host.metrics.gauge('kvd_process_resident_bytes', 'Resident memory of the node', () =>
        process.memoryUsage.rss(),
      );
    if (thread === 0 && this.#certificate !== undefined)
      host.metrics.gauge(
        'kvd_tls_certificate_expiry_seconds',
        'When the certificate of the node expires, seconds since 1970',
        () => expirySeconds(this.#certificate as TlsMaterial),
      );
    this.#samples = () => [...this.kernel.samples(), ...host.metrics.samples()];
    const all = planNode({ ...settings, placement, samples: this.#samples });
    this.#planned = all.filter((actor) => actor.thread === thread);
    const hostsGateway = this.#planned.some(
      ({ spec }) => spec.kind.protocol.name === HttpGateway.name,
    );
    this.#edge = hostsGateway ? this.#createEdge() : undefined;
    const { respPort } = settings;
    const hasResp = this.#hosts(RespGateway.name) && respPort !== undefined;
    this.#respEdge = hasResp ? this.#createRespEdge(respPort) : undefined;
  }

  readonly start = async (): Promise<void> => {
    // Only the background thread talks to no other node.
    if (this.#peers === undefined) lowerThreadPriority();
    await this.#peers?.listen();
    for (const { spec } of this.#planned) await this.kernel.spawn(spec);
    await this.#edge?.listen();
    await this.#respEdge?.listen();
    this.#watchTls();
  };

  /**
   * Finishes requests, then what its actors have begun; the order is that of the node's threads. The
   * thread that says goodbye does that first, and its actors are drained after those of the others.
   */
  readonly drain = async (): Promise<void> => {
    const { node } = this.#seed.settings;
    const hasGossiper = this.#hosts(Gossiper.name);
    if (hasGossiper) await this.#tell(refTo(Gossiper, node), 'leaving', gossipTimeoutMs);
    if (this.#edge !== undefined) {
      await this.#tell(refTo(HttpGateway, node), 'startDraining', drainingTimeoutMs);
      await this.#edge.close();
    }
    if (this.#respEdge !== undefined) {
      await this.#tell(refTo(RespGateway, node), 'startDraining', drainingTimeoutMs);
      await this.#respEdge.close();
    }
    if (!hasGossiper) await this.kernel.drain();
  };

  readonly stop = async (): Promise<void> => {
    this.#endTlsWatch();
    this.kernel.stop();
    await this.#peers?.close();
    for (const receiver of this.#receivers) receiver.close();
    await this.#tasks.close();
  };

  readonly samples = (): Promise<readonly MetricSample[]> => Promise.resolve(this.#samples());

  #watchTls(): void {
    const { tls, settings } = this.#seed;
    if (tls === undefined) return;
    const who = { clusterName: settings.clusterName, node: settings.node, log: this.#log };
    this.#endTlsWatch = watchTlsFiles(tls, who, (material) => {
      this.#certificate = material;
      this.#peers?.renewTls(material);
      this.#edge?.renewTls(material);
      this.#respEdge?.renewTls(material);
    });
  }

  #hosts(name: string): boolean {
    return this.#planned.some(({ spec }) => spec.kind.protocol.name === name);
  }

  /** Asks and goes on whatever the answer: a drain never hangs. */
  #tell(
    ref: Ref<Gossiper> | Ref<HttpGateway> | Ref<RespGateway>,
    name: 'leaving' | 'startDraining',
    timeoutMs: number,
  ): Promise<void> {
    return new Promise((resolve) => {
      this.kernel.ask(ref as Ref<never>, name as never, {} as never, timeoutMs, () => resolve());
    });
  }

  #createEdge(): HttpEdge {
    const { access, host, httpPort, node, tunables } = this.#seed.settings;
    const gateway = refTo(HttpGateway, node);
    const watcher = refTo(Watcher, node);
    return new HttpEdge({
      node,
      host,
      port: httpPort,
      timeouts: tunables,
      limits: { ...defaultBodyLimits, valueBytes: tunables.valueBytesMax },
      requiresLogin: access?.isRequired === true,
      tls: this.#seed.tls,
      reports: this.#host,
      connectionLimits: {
        connections: tunables.connectionsMax,
        connectionsPerAddress: tunables.connectionsPerAddressMax,
        connectionsReserved: tunables.connectionsReserved,
        bodyBytes: tunables.requestBytesMax,
      },
      ask: (request, timeoutMs, trace, done) =>
        this.kernel.ask(gateway, 'handle', request, timeoutMs, done, trace),
      watches: {
        next: (watch, waitMs, timeoutMs, done) =>
          this.kernel.ask(watcher, 'next', { watch, waitMs }, timeoutMs, done),
        close: (watch) => this.kernel.tell(watcher, 'close', { watch }),
      },
    });
  }

  #createRespEdge(port: number): RespEdge {
    const { access, host, node, tunables } = this.#seed.settings;
    const gateway = refTo(RespGateway, node);
    // A key may be longer than a small value.
    const bulkBytes = Math.max(tunables.valueBytesMax, keyBytesMax);
    return new RespEdge({
      host,
      port,
      timeouts: tunables,
      limits: {
        bulkBytes,
        commandBytes: Math.max(commandBytesMin, 2 * bulkBytes),
        connections: tunables.connectionsMax,
        connectionsPerAddress: tunables.connectionsPerAddressMax,
        inputBytes: tunables.requestBytesMax,
      },
      requiresLogin: access?.isRequired === true,
      tls: this.#seed.tls,
      reports: this.#host,
      opened: (start) => this.kernel.tell(gateway, 'opened', start),
      closed: (connection) => this.kernel.tell(gateway, 'closed', { connection }),
      run: (batch, timeoutMs, done) => this.kernel.askHere(gateway, 'run', batch, timeoutMs, done),
    });
  }
}

function capabilitiesOf(seed: ThreadSeed, codecs: BlockCodecs, tasks: TaskPool): Capabilities {
  const { dataDir, archiveDir, arenas } = seed;
  const archive = archiveDir === undefined ? undefined : createNodeDisk(archiveDir);
  const secrets = secretBytes;
  return { disk: createNodeDisk(dataDir), archive, codecs, arenas, tasks, secrets };
}

function peerTable(seed: ThreadSeed, codec: Codec, host: Host, kernel: () => Kernel): PeerTable {
  const { thread, settings, profile, shards } = seed;
  const { node, clusterName, incarnation, members } = settings;
  const { clock, timers, random, log, metrics, capabilities } = host;
  return new PeerTable({
    node,
    clusterName,
    incarnation,
    thread,
    placement: placementOf(profile, shards),
    listenHost: settings.host,
    listenPort: settings.internodePort === 0 ? 0 : settings.internodePort + thread,
    peers: members
      .filter((member) => member.node !== node)
      .map((member) => ({
        node: member.node,
        host: member.host,
        port: member.internodePort,
      })),
    codec,
    lz4: capabilities.codecs.lz4,
    host: { clock, timers, random, log, metrics },
    tls: seed.tls?.material,
    deliver: (envelope) => kernel().deliver(envelope),
    linkLost: (link) => kernel().linkLost(link),
  });
}
