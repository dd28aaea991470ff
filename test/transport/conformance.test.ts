// The conformance suite over each kind of link, with both kernels on one thread.

import { MessageChannel } from 'node:worker_threads';
import { ByteWriter } from '../../runtime/bytes.ts';
import type { Envelope, Link, Router } from '../../runtime/envelope.ts';
import { Kernel } from '../../runtime/kernel.ts';
import { placementOf } from '../../runtime/placement.ts';
import type { PeerTable } from '../../transport/peer-table.ts';
import { createRing, ThreadLink, ThreadReceiver } from '../../transport/thread-link.ts';
import { NodeRouter } from '../../transport/transport.ts';
import { type Pair, transportSuite } from '../conformance/transport-suite.ts';
import { freePort, peersOf } from '../kit-link-worker.ts';
import { Echo, echoCodec, realHost, until } from '../kit-transport.ts';

const host = realHost();

function kernelOf(node: string, router: Router): Kernel {
  return new Kernel({ node, thread: 'main', host, router, protocols: [Echo] });
}

/** Through the codec, without anything between. */
class DirectLink implements Link {
  readonly name: string;
  readonly #codec = echoCodec();
  readonly #received: (bytes: Uint8Array) => void;
  isCut = false;

  constructor(name: string, received: (bytes: Uint8Array) => void) {
    this.name = name;
    this.#received = received;
  }

  readonly send = (envelope: Envelope): boolean => {
    const writer = new ByteWriter();
    this.#codec.encodeEnvelope(writer, envelope, host.clock.monotonicMs());
    const bytes = writer.copy();
    host.timers.soon(() => {
      if (!this.isCut) this.#received(bytes);
    });
    return !this.isCut;
  };
}

function directPair(): Promise<Pair> {
  const codec = echoCodec();
  const deliver = (kernel: Kernel, bytes: Uint8Array, back: Link, from: string): void =>
    kernel.deliver(codec.decodeEnvelope(bytes, host.clock.monotonicMs(), back, from, kernel.node));
  const there: DirectLink = new DirectLink('b', (bytes) => deliver(b, bytes, back, 'a'));
  const back: DirectLink = new DirectLink('a', (bytes) => deliver(a, bytes, there, 'b'));
  const a = kernelOf('a', { linkTo: () => there, flush: () => undefined });
  const b = kernelOf('b', { linkTo: () => back, flush: () => undefined });
  const sever = (): void => {
    there.isCut = true;
    back.isCut = true;
    a.linkLost(there);
    b.linkLost(back);
  };
  return Promise.resolve({ a, b, until, sever, close: () => Promise.resolve() });
}

/** As createThreadMesh joins two threads: two rings, one channel. */
function ringPair(ringBytes: number): Promise<Pair> {
  const codec = echoCodec();
  const { clock } = host;
  const { port1, port2 } = new MessageChannel();
  const rings = { there: createRing(ringBytes), back: createRing(ringBytes) };
  const there = new ThreadLink({ name: 'b', ring: rings.there, doorbell: port1, codec, clock });
  const back = new ThreadLink({ name: 'a', ring: rings.back, doorbell: port2, codec, clock });
  const router = (link: ThreadLink): Router => ({ linkTo: () => link, flush: () => link.flush() });
  const a = kernelOf('a', router(there));
  const b = kernelOf('b', router(back));
  const receivers = [
    new ThreadReceiver({
      ring: rings.there,
      doorbell: port2,
      received: (bytes) =>
        b.deliver(codec.decodeEnvelope(bytes, clock.monotonicMs(), back, 'a', 'b')),
    }),
    new ThreadReceiver({
      ring: rings.back,
      doorbell: port1,
      received: (bytes) =>
        a.deliver(codec.decodeEnvelope(bytes, clock.monotonicMs(), there, 'b', 'a')),
    }),
  ];
  const close = (): void => {
    for (const receiver of receivers) receiver.close();
  };
  const sever = (): void => {
    close();
    a.linkLost(there);
    b.linkLost(back);
  };
  return Promise.resolve({
    a,
    b,
    until,
    sever,
    close: () => {
      close();
      return Promise.resolve();
    },
  });
}

async function tcpPair(): Promise<Pair> {
  const ports = { a: await freePort(), b: await freePort() };
  const end = (node: 'a' | 'b'): { kernel: Kernel; peers: PeerTable } => {
    const peers = peersOf(node, ports, () => kernel);
    const router = new NodeRouter({
      node,
      placement: placementOf('single', 1),
      groupOf: () => 'shard',
      threadLinks: new Map(),
      peers,
    });
    const kernel = kernelOf(node, router);
    return { kernel, peers };
  };
  const a = end('a');
  const b = end('b');
  await Promise.all([a.peers.listen(), b.peers.listen()]);
  return {
    a: a.kernel,
    b: b.kernel,
    until,
    sever: () => void b.peers.close(),
    close: async () => {
      await Promise.all([a.peers.close(), b.peers.close()]);
    },
  };
}

transportSuite('direct', directPair);
transportSuite('ring between threads', () => ringPair(1024 * 1024));
// Smaller than one message of the suite: everything goes in parts and waits for room.
transportSuite('small ring between threads', () => ringPair(4096));
transportSuite('TCP', tcpPair);
