// All connections of one thread to other nodes: it listens on the thread's port, dials the thread
// of a peer that it wants to ask, and dials again with a growing pause when a connection ends.
//
// A connection is dialled by the asker; answers come back on it. So there are up to two connections
// between two threads, one for each direction of asking, and no rule is needed for who dials.
//
// Whoever has something to send while no pause has just begun does not wait for the end of a long
// one: a peer that the failure detector calls alive again is reached at once.
//
// The pause before dialling again starts anew only after a connection that lasted: one that a peer
// ends right after the handshake must not be tried twenty times a second.

import { connect, createServer, type Server, type Socket } from 'node:net';
import { connect as connectTls, createServer as createTlsServer, TLSSocket } from 'node:tls';
import type { Envelope, Link } from '../runtime/envelope.ts';
import type { Host, TimerHandle } from '../runtime/environment.ts';
import { KvError } from '../runtime/errors.ts';
import type { Lz4 } from '../runtime/environment.ts';
import { type Placement, placementOf } from '../runtime/placement.ts';
import type { Codec } from './codec.ts';
import { type Hello, refusal } from './handshake.ts';
import { FailedHandshakes } from './failed-handshakes.ts';
import { Strangers } from './strangers.ts';
import { TcpLink } from './tcp-link.ts';
import {
  certificateRefusal,
  namesUri,
  nodeUri,
  renewServer,
  secureContextOptions,
  type TlsMaterial,
} from './tls.ts';

export interface Peer {
  readonly node: string;
  readonly host: string;
  /** Of the peer's thread 0; its other threads follow. */
  readonly port: number;
}

export interface PeerTableOptions {
  readonly node: string;
  readonly clusterName: string;
  readonly incarnation: number;
  readonly thread: number;
  readonly placement: Placement;
  readonly listenHost: string;
  /** Of this thread. */
  readonly listenPort: number;
  readonly peers: readonly Peer[];
  readonly codec: Codec;
  readonly lz4: Lz4;
  readonly host: Pick<Host, 'clock' | 'timers' | 'random' | 'log' | 'metrics'>;
  readonly deliver: (envelope: Envelope) => void;
  readonly linkLost: (link: Link) => void;
  /** Both ends show a certificate of their node; absent: nothing is encrypted. */
  readonly tls?: TlsMaterial | undefined;
  /** Connections that are accepted at the same time. Default 4,096. */
  readonly connectionsMax?: number;
  /** Of them before the end of their handshakes. Default 1,024. */
  readonly strangersMax?: number;
  /** From dialling or accepting to the end of the handshake; with TLS of each of the two. Default 3 s. */
  readonly handshakeMs?: number;
}

const retryMsMin = 50;
const retryMsMax = 5_000;
/** Something to send ends a pause that has lasted so long. */
const wantedAfterMs = 200;
const handshakeTimeoutMs = 3_000;
const silenceCheckMs = 1_000;
/** Nodes times their threads are fewer; strangers shall not take all descriptors. */
const acceptedMax = 4_096;
const defaultStrangersMax = 1_024;
/** What is written when this node stops gets so long to reach its peers. */
const finishMs = 500;

interface Dialled {
  readonly peer: Peer;
  readonly thread: number;
  link: TcpLink | undefined;
  /** Connections in a row that did not last. */
  failures: number;
  /** Monotonic time of the last handshake. */
  greetedMs: number;
  /** Monotonic time of the end of the last connection. */
  lostMs: number;
  retry: TimerHandle | undefined;
}

const portMax = 65_535;

export class PeerTable {
  readonly #options: PeerTableOptions;
  readonly #self: Hello;
  readonly #peers: ReadonlyMap<string, Peer>;
  readonly #dialled = new Map<string, Dialled>();
  readonly #accepted = new Set<TcpLink>();
  /** Where a peer's actors run, once it has said so. */
  readonly #placements = new Map<string, Placement>();
  #server: Server | undefined;
  #silenceTimer: TimerHandle | undefined;
  #isClosed = false;
  #tls: TlsMaterial | undefined;
  readonly #failed: FailedHandshakes;
  readonly #strangers: Strangers;
  readonly #handshakeMs: number;

  constructor(options: PeerTableOptions) {
    this.#options = options;
    this.#tls = options.tls;
    this.#handshakeMs = options.handshakeMs ?? handshakeTimeoutMs;
    const { host } = options;
    this.#failed = new FailedHandshakes({
      ...{ port: 'internode', event: 'peer.connection-failed', host },
    });
    this.#strangers = new Strangers(options.strangersMax ?? defaultStrangersMax);
    const { clusterName, node, incarnation, thread, placement } = options;
    const { profile, shards } = placement;
    this.#self = {
      ...{ clusterName, node, incarnation, thread, profile, shards },
      answersProbes: true,
    };
    this.#peers = new Map(options.peers.map((peer) => [peer.node, peer]));
  }

  /** The port of this thread; BAD_REQUEST where it is taken. */
  listen(): Promise<number> {
    const { listenHost: host, listenPort: port } = this.#options;
    const { log } = this.#options.host;
    const server = this.#createServer();
    server.maxConnections = this.#options.connectionsMax ?? acceptedMax;
    this.#strangers.watch(server);
    this.#server = server;
    this.#watchSilence();
    return new Promise((resolve, reject) => {
      server.on('error', (error: NodeJS.ErrnoException) => {
        const reason = error.code === 'EADDRINUSE' ? 'the port is in use' : error.message;
        // Later on: a connection could not be accepted; it will be dialled again.
        if (server.listening) log.warn('peer.not-accepted', { reason });
        else reject(cannotListen(host, port, reason));
      });
      server.listen({ host, port }, () => {
        const address = server.address();
        resolve(address !== null && typeof address === 'object' ? address.port : port);
      });
    });
  }

  /** For connections from now on. */
  renewTls(material: TlsMaterial): void {
    this.#tls = material;
    renewServer(this.#server, material);
  }

  /** Where the peer runs its actors; like this node until it has said otherwise. */
  placementOf(node: string): Placement {
    return this.#placements.get(node) ?? this.#options.placement;
  }

  /** The connection to a peer's thread; undefined while there is none (it is being dialled). */
  linkTo(node: string, thread: number): Link | undefined {
    const id = `${node}/${thread}`;
    let dialled = this.#dialled.get(id);
    if (dialled === undefined) {
      const peer = this.#peers.get(node);
      if (peer === undefined || this.#isClosed) return undefined;
      // A peer may claim more threads than there are ports.
      if (peer.port + thread > portMax) return undefined;
      dialled = {
        peer,
        thread,
        link: undefined,
        failures: 0,
        greetedMs: -1,
        lostMs: 0,
        retry: undefined,
      };
      this.#dialled.set(id, dialled);
      this.#dial(dialled);
    } else if (dialled.link === undefined) this.#dialWanted(dialled);
    return dialled.link;
  }

  /** Sends what waits, then ends all connections; within a second. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#silenceTimer?.cancel();
    this.#failed.end();
    const links = [...this.#accepted];
    for (const { link, retry } of this.#dialled.values()) {
      retry?.cancel();
      if (link !== undefined) links.push(link);
    }
    for (const link of links) link.finish('this node stops');
    const server = this.#server;
    if (server === undefined) return;
    const abandoned = this.#options.host.timers.after(finishMs, () => {
      for (const link of links) link.abandon();
    });
    await new Promise((resolve) => server.close(resolve));
    abandoned.cancel();
  }

  #dial(dialled: Dialled): void {
    const { peer, thread } = dialled;
    const socket = this.#connect(peer, peer.port + thread);
    dialled.greetedMs = Infinity;
    // Messages wait in its queues until the handshake is over.
    dialled.link = this.#wrap(socket, {
      greeted: (hello) => {
        if (hello.node !== peer.node) return `expected ${peer.node} there, found ${hello.node}`;
        if (hello.thread !== thread)
          return `expected thread ${thread} there, found ${hello.thread}`;
        dialled.greetedMs = this.#options.host.clock.monotonicMs();
        return undefined;
      },
      closed: (reason) => {
        dialled.link = undefined;
        this.#retry(dialled, reason);
      },
    });
  }

  #connect({ host, node }: Peer, port: number): Socket {
    const tls = this.#tls;
    if (tls === undefined) return connect({ host, port });
    const uri = nodeUri(this.#options.clusterName, node);
    return connectTls({
      ...{ host, port, ...secureContextOptions(tls) },
      // A node is known by its id, wherever it listens.
      checkServerIdentity: (_, { subjectaltname = '' }) =>
        namesUri(subjectaltname, uri)
          ? undefined
          : new Error(`the certificate there is not for ${uri}`),
    });
  }

  #createServer(): Server {
    const tls = this.#tls;
    if (tls === undefined) return createServer((socket) => this.#accept(socket));
    const server = createTlsServer(
      {
        ...secureContextOptions(tls),
        requestCert: true,
        rejectUnauthorized: true,
        handshakeTimeout: this.#handshakeMs,
      },
      (socket) => this.#accept(socket),
    );
    this.#failed.watch(server);
    return server;
  }

  #retry(dialled: Dialled, reason: string): void {
    if (this.#isClosed) return;
    const { clock, log, random, timers } = this.#options.host;
    dialled.lostMs = clock.monotonicMs();
    if (clock.monotonicMs() - dialled.greetedMs > retryMsMax) dialled.failures = 0;
    if (dialled.failures === 0)
      log.info('peer.connection-lost', { peer: dialled.peer.node, thread: dialled.thread, reason });
    const pauseMs = Math.min(retryMsMax, retryMsMin * 2 ** dialled.failures);
    dialled.failures = Math.min(dialled.failures + 1, 16);
    dialled.retry = timers.after(pauseMs * (0.5 + random.float() / 2), () => {
      if (!this.#isClosed) this.#dial(dialled);
    });
  }

  #dialWanted(dialled: Dialled): void {
    const pausedMs = this.#options.host.clock.monotonicMs() - dialled.lostMs;
    if (this.#isClosed || pausedMs < wantedAfterMs) return;
    dialled.retry?.cancel();
    this.#dial(dialled);
  }

  /** It was heard of: no need to wait for the end of the pause. */
  #redial(node: string): void {
    for (const dialled of this.#dialled.values()) {
      if (dialled.peer.node !== node || dialled.link !== undefined) continue;
      dialled.retry?.cancel();
      this.#dial(dialled);
    }
  }

  #accept(socket: Socket): void {
    let isGreeted = false;
    const link = this.#wrap(socket, {
      greeted: ({ node }) => {
        isGreeted = true;
        this.#strangers.known(socket);
        this.#redial(node);
        return undefined;
      },
      closed: (reason) => {
        this.#accepted.delete(link);
        if (!isGreeted && !this.#isClosed) this.#failed.happened(link.name, reason);
      },
    });
    this.#accepted.add(link);
  }

  #wrap(
    socket: Socket,
    on: {
      readonly greeted: (hello: Hello) => string | undefined;
      readonly closed: (reason: string) => void;
    },
  ): TcpLink {
    const { codec, lz4, host, deliver, linkLost } = this.#options;
    const members = [...this.#peers.keys()];
    const deadline = host.timers.after(this.#handshakeMs, () => link.close('no handshake in time'));
    const isHandshaking = socket instanceof TLSSocket && !socket.authorized;
    const link = new TcpLink({
      socket,
      helloAfter: isHandshaking ? 'secureConnect' : undefined,
      codec,
      lz4,
      clock: host.clock,
      self: this.#self,
      deliver,
      greeted: (hello) => {
        deadline.cancel();
        const refused =
          refusal(this.#self, hello, members) ?? this.#stranger(socket, hello) ?? on.greeted(hello);
        if (refused !== undefined)
          host.log.warn('peer.refused', { peer: hello.node, at: link.name, reason: refused });
        else this.#placements.set(hello.node, placementOf(hello.profile, hello.shards));
        return refused;
      },
      unreadable: (_, problem) =>
        host.log.warn('peer.unreadable', { peer: link.name, reason: problem.message }),
      closed: (_, reason) => {
        deadline.cancel();
        linkLost(link);
        on.closed(reason);
      },
    });
    return link;
  }

  /** Why the certificate of the connection is not that of who it says it is. */
  #stranger(socket: Socket, { node }: Hello): string | undefined {
    if (this.#options.tls === undefined) return undefined;
    return certificateRefusal(socket, this.#options.clusterName, node);
  }

  #watchSilence(): void {
    const { clock, timers } = this.#options.host;
    this.#silenceTimer = timers.after(silenceCheckMs, () => {
      const nowMs = clock.monotonicMs();
      for (const { link } of this.#dialled.values()) link?.checkSilence(nowMs);
      this.#watchSilence();
    });
  }
}

const cannotListen = (host: string, port: number, reason: string): KvError =>
  new KvError('BAD_REQUEST', {
    field: 'internode-port',
    detail: `cannot listen for other nodes on ${host}:${port}: ${reason}`,
  });
