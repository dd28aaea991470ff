// Links at full load: asks with a 100-byte value in a fixed layout, answered by an echo actor in a
// thread of its own, 1,024 in flight. Kernels, codecs and links of both ends are part of it; an ask
// and its answer are two messages.

import { refTo } from '../../runtime/actor.ts';
import { assert } from '../../runtime/errors.ts';
import { createThreadMesh } from '../../runtime/host/threads.ts';
import { Kernel } from '../../runtime/kernel.ts';
import { createRing, ThreadLink, ThreadReceiver } from '../../transport/thread-link.ts';
import { freePort, peersOf, startEchoWorker } from '../kit-link-worker.ts';
import { Echo, echoCodec, noise, realHost } from '../kit-transport.ts';

export interface LinkFigures {
  readonly messagesPerSecond: number;
  /** Of a message alone on the link, there and back, microseconds. */
  readonly roundTripMicros: number;
}

const inFlight = 1024;
const ringBytes = 1024 * 1024;
const valueBytes = 100;

/** `count` asks, `width` at a time; how long they took. */
function run(kernel: Kernel, count: number, width: number): Promise<number> {
  const to = refTo(Echo, 'b');
  const body = { number: 1, bytes: noise(valueBytes) };
  const startedMs = performance.now();
  let sent = 0;
  let answered = 0;
  return new Promise((resolve) => {
    const next = (): void => {
      sent += 1;
      kernel.ask(to, 'echo', body, 30_000, (failure, reply) => {
        assert(failure === undefined, `${failure?.code ?? ''} on the link`);
        assert(reply?.bytes.length === valueBytes, 'a wrong answer');
        answered += 1;
        if (sent < count) next();
        else if (answered === count) resolve(performance.now() - startedMs);
      });
    };
    while (sent < width) next();
  });
}

/** After a warm-up; about three seconds. */
async function measure(kernel: Kernel): Promise<LinkFigures> {
  await run(kernel, 200_000, inFlight);
  const count = 400_000;
  const alone = 5_000;
  const loadedMs = await run(kernel, count, inFlight);
  const aloneMs = await run(kernel, alone, 1);
  return {
    messagesPerSecond: (2 * count * 1000) / loadedMs,
    roundTripMicros: (aloneMs * 1000) / alone,
  };
}

/** Two threads of a process, a ring each way. */
export async function benchThreadLink(): Promise<LinkFigures> {
  const [mine, theirs] = createThreadMesh(2, ringBytes, createRing);
  const joint = mine?.rings[1];
  assert(joint !== undefined && theirs !== undefined, 'no mesh');
  const worker = startEchoWorker({ kind: 'ring', part: theirs });
  const host = realHost();
  const codec = echoCodec();
  const { outgoing, incoming, doorbell } = joint;
  const link = new ThreadLink({ name: 'b', ring: outgoing, doorbell, codec, clock: host.clock });
  const kernel = new Kernel({
    node: 'a',
    thread: 'main',
    host,
    router: { linkTo: () => link, flush: () => link.flush() },
    protocols: [Echo],
  });
  const receiver = new ThreadReceiver({
    ring: incoming,
    doorbell,
    received: (bytes) =>
      kernel.deliver(codec.decodeEnvelope(bytes, host.clock.monotonicMs(), link, 'b', 'a')),
  });
  try {
    return await measure(kernel);
  } finally {
    kernel.stop();
    receiver.close();
    await worker.terminate();
  }
}

/** Two threads over loopback TCP, as two nodes would. */
export async function benchTcpLink(): Promise<LinkFigures> {
  const ports = { a: await freePort(), b: await freePort() };
  const worker = startEchoWorker({ kind: 'tcp', ports });
  await new Promise((resolve) => worker.once('message', resolve));
  const peers = peersOf('a', ports, () => kernel);
  const kernel = new Kernel({
    node: 'a',
    thread: 'main',
    host: realHost(),
    router: { linkTo: (node) => peers.linkTo(node, 0), flush: () => undefined },
    protocols: [Echo],
  });
  try {
    return await measure(kernel);
  } finally {
    kernel.stop();
    await peers.close();
    await worker.terminate();
  }
}
