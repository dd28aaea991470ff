// The ring between threads: bounded, in order, one doorbell per batch, and no message lost when the
// reader goes to sleep while the writer writes. The last test has a real thread at the other end.

import { expect } from 'chai';
import { MessageChannel } from 'node:worker_threads';
import type { Envelope } from '../../runtime/envelope.ts';
import { createRing, ThreadLink, ThreadReceiver } from '../../transport/thread-link.ts';
import { createThreadMesh } from '../../runtime/host/threads.ts';
import { asked, Echo, echoCodec, echoEnvelope, noise, realHost, until } from '../kit-transport.ts';
import { Kernel } from '../../runtime/kernel.ts';
import { startEchoWorker } from '../kit-link-worker.ts';

const { clock } = realHost();
const codec = echoCodec();

/** A doorbell that a test rings by itself. */
class ManualBell {
  rung = 0;
  #listener: () => void = () => undefined;

  readonly postMessage = (): void => {
    this.rung += 1;
  };

  readonly on = (_: 'message', listener: () => void): void => {
    this.#listener = listener;
  };

  readonly close = (): void => undefined;

  readonly ring = (): void => this.#listener();
}

interface Joint {
  readonly link: ThreadLink;
  readonly bell: ManualBell;
  readonly received: Envelope[];
  readonly receiver: ThreadReceiver;
}

function joint(ringBytes: number): Joint {
  const bell = new ManualBell();
  const ring = createRing(ringBytes);
  const received: Envelope[] = [];
  const link = new ThreadLink({ name: 'b', ring, doorbell: bell, codec, clock });
  const receiver = new ThreadReceiver({
    ring,
    doorbell: bell,
    received: (bytes) => void received.push(codec.decodeEnvelope(bytes, 0, undefined, 'a', 'b')),
  });
  return { link, bell, received, receiver };
}

const numbersOf = (envelopes: readonly Envelope[]): number[] =>
  envelopes.map(({ body }) => (body as { number: number }).number);
const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

describe('ring', () => {
  it('ring: a batch rings once, and only for a reader that sleeps', () => {
    const { link, bell, received } = joint(4096);
    for (const number of upTo(3)) link.send(echoEnvelope('note', { number }));
    expect(bell.rung).to.equal(0);
    link.flush();
    link.flush();
    expect(bell.rung).to.equal(1);
    link.send(echoEnvelope('note', { number: 3 }));
    link.flush();
    expect(bell.rung).to.equal(1);
    bell.ring();
    expect(numbersOf(received)).to.deep.equal(upTo(4));
    link.send(echoEnvelope('note', { number: 4 }));
    link.flush();
    expect(bell.rung).to.equal(2);
  });

  it('ring: what nobody flushes leaves by itself', async () => {
    const { link, bell } = joint(4096);
    link.send(echoEnvelope('note', { number: 1 }));
    await until(() => bell.rung === 1);
  });

  it('ring: what was sent before the reader existed is read', () => {
    const bell = new ManualBell();
    const ring = createRing(4096);
    const link = new ThreadLink({ name: 'b', ring, doorbell: bell, codec, clock });
    link.send(echoEnvelope('note', { number: 1 }));
    link.flush();
    const received: Uint8Array[] = [];
    new ThreadReceiver({ ring, doorbell: bell, received: (bytes) => void received.push(bytes) });
    expect(received.length).to.equal(1);
  });

  it('ring: entries of every size keep order over many rounds (messages=5000)', async () => {
    const { link, bell, received } = joint(4096);
    const sizes = upTo(5000).map((i) => (i * 7919) % 1500);
    for (const [number, size] of sizes.entries()) {
      link.send(echoEnvelope('echo', { number, bytes: noise(size, number + 1) }));
      if (number % 13 === 0) link.flush();
      if (number % 29 === 0) bell.ring();
    }
    link.flush();
    await until(() => {
      bell.ring();
      return received.length === sizes.length;
    });
    expect(numbersOf(received)).to.deep.equal(upTo(5000));
    for (const { body } of received) {
      const { number, bytes } = body as { number: number; bytes: Uint8Array };
      expect(bytes.length).to.equal(sizes[number]);
      if (number % 100 === 0) expect(bytes).to.deep.equal(noise(bytes.length, number + 1));
    }
  });

  it('ring: a message larger than the ring goes in parts, in its turn (bytes=16777216)', async () => {
    const { link, bell, received } = joint(64 * 1024);
    link.send(echoEnvelope('note', { number: 0 }));
    const bytes = noise(16 * 1024 * 1024);
    link.send(echoEnvelope('echo', { number: 1, bytes }));
    link.send(echoEnvelope('note', { number: 2 }));
    link.flush();
    await until(() => {
      bell.ring();
      return received.length === 3;
    });
    expect(numbersOf(received)).to.deep.equal([0, 1, 2]);
    const there = (received[1]?.body as { bytes: Uint8Array }).bytes;
    expect(Buffer.compare(there, bytes)).to.equal(0);
  });

  it('ring: when the reader stands still the queue is bounded, then sending is refused', async () => {
    const { link, bell, received } = joint(64 * 1024);
    const mebibyte = noise(1024 * 1024);
    let sent = 0;
    while (link.send(echoEnvelope('echo', { number: sent, bytes: mebibyte }))) {
      sent += 1;
      expect(sent).to.be.below(70);
    }
    expect(sent).to.equal(64);
    expect(link.send(echoEnvelope('echo', undefined, { kind: 'error' }))).to.equal(true);
    link.flush();
    await until(() => {
      bell.ring();
      return received.length === sent + 1;
    });
    expect(received.pop()?.kind).to.equal('error');
    expect(numbersOf(received)).to.deep.equal(upTo(sent));
    expect(link.send(echoEnvelope('note', { number: 1 }))).to.equal(true);
  });

  it('ring: a closed reader hears nothing more', () => {
    const { link, bell, received, receiver } = joint(4096);
    receiver.close();
    link.send(echoEnvelope('note', { number: 1 }));
    link.flush();
    bell.ring();
    expect(received).to.deep.equal([]);
  });

  it('ring: two real threads exchange messages of every size (asks=3000)', async () => {
    const [mine, theirs] = createThreadMesh(2, 64 * 1024, createRing);
    const joint = mine?.rings[1];
    if (joint === undefined || theirs === undefined) throw new Error('no mesh');
    const worker = startEchoWorker({ kind: 'ring', part: theirs });
    const host = realHost();
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
      const answers = await Promise.all(
        upTo(3000).map(async (number) => {
          const bytes = noise((number * 31) % 3000, number + 1);
          const { reply } = await asked(kernel, 'b', 'echo', { number, bytes }, 15_000);
          return reply?.number === number && Buffer.compare(reply.bytes, bytes) === 0;
        }),
      );
      expect(answers.filter((isRight) => isRight).length).to.equal(3000);
    } finally {
      receiver.close();
      await worker.terminate();
    }
  });
});

describe('ring: doorbell', () => {
  it('ring: a message channel rings across', async () => {
    const { port1, port2 } = new MessageChannel();
    const ring = createRing(4096);
    const received: Uint8Array[] = [];
    const receiver = new ThreadReceiver({
      ring,
      doorbell: port2,
      received: (bytes) => void received.push(bytes),
    });
    const link = new ThreadLink({ name: 'b', ring, doorbell: port1, codec, clock });
    link.send(echoEnvelope('note', { number: 1 }));
    link.flush();
    await until(() => received.length === 1);
    receiver.close();
    port1.close();
  });
});
