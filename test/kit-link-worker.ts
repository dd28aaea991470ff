// A real thread at the other end of a link: node b with an echo kernel, joined by a ring or
// listening for TCP. The module starts the thread and is its entry file too.

import { createServer } from 'node:net';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import type { Router } from '../runtime/envelope.ts';
import { doorbellsOf, type ThreadPart } from '../runtime/host/threads.ts';
import { Kernel } from '../runtime/kernel.ts';
import { placementOf } from '../runtime/placement.ts';
import { PeerTable, type PeerTableOptions } from '../transport/peer-table.ts';
import { ThreadLink, ThreadReceiver } from '../transport/thread-link.ts';
import { Echo, echoCodec, EchoState, realHost, realLz4, spawnEcho } from './kit-transport.ts';

export type EchoWorkerData =
  /** Joined to thread 0 of `part`. */
  | { readonly kind: 'ring'; readonly part: ThreadPart }
  | { readonly kind: 'tcp'; readonly ports: TcpPorts };

export interface TcpPorts {
  readonly a: number;
  readonly b: number;
}

/** Posts one message when it listens; `terminate` ends it. */
export function startEchoWorker(data: EchoWorkerData): Worker {
  const ports = data.kind === 'ring' ? [...doorbellsOf(data.part)] : [];
  return new Worker(new URL(import.meta.url), { workerData: data, transferList: ports });
}

/** A port of 127.0.0.1 that was free a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
      server.close(() => resolve(port));
    });
  });
}

/** Where a node of a test listens, and its only peer. */
export interface TestEnd {
  readonly node: string;
  readonly port: number;
  readonly other: { readonly node: string; readonly port: number };
}

/** The connections of a node that knows one other. */
export function testPeers(
  { node, port, other }: TestEnd,
  how: Pick<PeerTableOptions, 'deliver' | 'linkLost'> & Partial<PeerTableOptions>,
): PeerTable {
  return new PeerTable({
    node,
    clusterName: 'test',
    incarnation: 1,
    thread: 0,
    placement: placementOf('single', 1),
    listenHost: '127.0.0.1',
    listenPort: port,
    peers: [{ ...other, host: '127.0.0.1' }],
    codec: echoCodec(),
    lz4: realLz4(),
    host: realHost(),
    ...how,
  });
}

/** The connections of node a or b, whose only peer is the other one. */
export function peersOf(node: 'a' | 'b', ports: TcpPorts, kernel: () => Kernel): PeerTable {
  const other = node === 'a' ? 'b' : 'a';
  const end = { node, port: ports[node], other: { node: other, port: ports[other] } };
  return testPeers(end, {
    deliver: (envelope) => kernel().deliver(envelope),
    linkLost: (link) => kernel().linkLost(link),
  });
}

const echoKernel = (router: Router): Kernel =>
  new Kernel({ node: 'b', thread: 'echo', host: realHost(), router, protocols: [Echo] });

async function serveRing(part: ThreadPart): Promise<void> {
  const joint = part.rings[0];
  if (joint === undefined) throw new Error('no ring to thread 0');
  const { outgoing, incoming, doorbell } = joint;
  const codec = echoCodec();
  const { clock } = realHost();
  const back = new ThreadLink({ name: 'a', ring: outgoing, doorbell, codec, clock });
  const kernel = echoKernel({ linkTo: () => back, flush: () => back.flush() });
  await spawnEcho(kernel, new EchoState({ keepsEchoes: false }));
  new ThreadReceiver({
    ring: incoming,
    doorbell,
    received: (bytes) =>
      kernel.deliver(codec.decodeEnvelope(bytes, clock.monotonicMs(), back, 'a', 'b')),
  });
}

async function serveTcp(ports: TcpPorts): Promise<void> {
  const peers = peersOf('b', ports, () => kernel);
  const kernel = echoKernel({ linkTo: (node) => peers.linkTo(node, 0), flush: () => undefined });
  await spawnEcho(kernel, new EchoState({ keepsEchoes: false }));
  await peers.listen();
}

const data = workerData as EchoWorkerData | null;
if (!isMainThread && parentPort !== null && data !== null && 'kind' in data) {
  await (data.kind === 'ring' ? serveRing(data.part) : serveTcp(data.ports));
  parentPort.postMessage('ready');
}
