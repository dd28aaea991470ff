// Connections between nodes: who may connect, what happens when one ends, and that a peer which
// does not read or does not answer costs bounded memory and bounded time. Each test has its own
// tables on 127.0.0.1 and a clock that it moves itself where time matters.

import { connect, createServer, type Server, type Socket } from 'node:net';
import { expect } from 'chai';
import { ByteWriter } from '../../runtime/bytes.ts';
import type { Envelope, Link } from '../../runtime/envelope.ts';
import type { Host } from '../../runtime/environment.ts';
import { Kernel } from '../../runtime/kernel.ts';
import { placementOf } from '../../runtime/placement.ts';
import { FrameReader, FrameWriter, helloFrame } from '../../transport/frame.ts';
import { decodeHello, encodeHello, type Hello } from '../../transport/handshake.ts';
import { TcpLink } from '../../transport/tcp-link.ts';
import { type PeerTable, type PeerTableOptions } from '../../transport/peer-table.ts';
import { codeRejectedBy, codeThrownBy, type LogEntry, ManualHost } from '../kit.ts';
import { freePort, testPeers } from '../kit-link-worker.ts';
import {
  Echo,
  echoCodec,
  echoEnvelope,
  EchoState,
  noise,
  realHost,
  realLz4,
  spawnEcho,
  until,
} from '../kit-transport.ts';

const lz4 = realLz4();
const codec = echoCodec();

interface End {
  readonly table: PeerTable;
  readonly port: number;
  readonly received: Envelope[];
  readonly lost: Link[];
  readonly logged: readonly LogEntry[];
}

const open: { close: () => unknown }[] = [];

/** Closed after the test. */
function closing<T extends { close: () => unknown }>(thing: T): T {
  open.push(thing);
  return thing;
}

async function startEnd(
  node: string,
  port: number,
  other: { readonly node: string; readonly port: number },
  how: Partial<PeerTableOptions> & { readonly listens?: boolean } = {},
): Promise<End> {
  const logged: LogEntry[] = [];
  const received: Envelope[] = [];
  const lost: Link[] = [];
  const table = testPeers(
    { node, port, other },
    {
      host: realHost(logged),
      deliver: (envelope) => void received.push(envelope),
      linkLost: (link) => void lost.push(link),
      ...how,
    },
  );
  closing(table);
  if (how.listens !== false) await table.listen();
  return { table, port, received, lost, logged };
}

async function pairOf(
  howA: Partial<PeerTableOptions> = {},
  howB: Partial<PeerTableOptions> = {},
): Promise<{ a: End; b: End }> {
  const ports = { a: await freePort(), b: await freePort() };
  const a = await startEnd('a', ports.a, { node: 'b', port: ports.b }, howA);
  const b = await startEnd('b', ports.b, { node: 'a', port: ports.a }, howB);
  return { a, b };
}

const events = (end: End, event: string): readonly LogEntry[] =>
  end.logged.filter((entry) => entry.event === event);
const note = (number: number): Envelope => echoEnvelope('note', { number });
const numbersOf = (envelopes: readonly Envelope[]): number[] =>
  envelopes.map(({ body }) => (body as { number: number }).number);

/** A peer made by hand: a listening socket whose other end the test plays. */
async function rawListener(): Promise<{ port: number; sockets: Socket[] }> {
  const sockets: Socket[] = [];
  const server: Server = createServer((socket) => void sockets.push(socket));
  const port = await freePort();
  await new Promise<void>((resolve) => {
    server.listen(port, '127.0.0.1', () => resolve());
  });
  closing({
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  });
  return { port, sockets };
}

const helloOf = (node: string, how: Partial<Hello> = {}): Hello => ({
  clusterName: 'test',
  node,
  incarnation: 1,
  thread: 0,
  profile: 'single',
  shards: 1,
  answersProbes: false,
  ...how,
});

function frameOf(...envelopes: readonly Envelope[]): Uint8Array {
  const writer = new FrameWriter(lz4);
  for (const envelope of envelopes) {
    const bytes = new ByteWriter();
    codec.encodeEnvelope(bytes, envelope, 0);
    writer.add(bytes.view());
  }
  return writer.take();
}

function tcp(link: Link | undefined): TcpLink {
  if (!(link instanceof TcpLink)) throw new Error('no TCP link');
  return link;
}

describe('peers', () => {
  afterEach(async () => {
    await Promise.all(open.splice(0).map((thing) => thing.close()));
  });

  it('peers: a node finds a place however many strangers hold the others, and keeps it', async () => {
    const ports = { a: await freePort(), b: await freePort() };
    const b = await startEnd(
      'b',
      ports.b,
      { node: 'a', port: ports.a },
      { strangersMax: 3, connectionsMax: 6, handshakeMs: 60_000 },
    );
    let ended = 0;
    const flood = async (): Promise<void> => {
      for (let i = 0; i < 12; i += 1) {
        const socket = connect(ports.b, '127.0.0.1');
        closing({ close: () => socket.destroy() });
        socket.on('error', () => undefined);
        socket.on('close', () => (ended += 1));
        // The end comes behind the hello of the other side.
        socket.resume();
        await until(() => !socket.connecting);
      }
    };
    await flood();
    await until(() => ended === 9);
    const a = await startEnd('a', ports.a, { node: 'b', port: ports.b });
    a.table.linkTo('b', 0)?.send(note(1));
    await until(() => b.received.length === 1);
    await flood();
    await until(() => ended === 21);
    a.table.linkTo('b', 0)?.send(note(2));
    await until(() => b.received.length === 2);
    expect(a.lost).to.have.length(0);
  });

  it('peers: what is sent while the connection is being made arrives', async () => {
    const { a, b } = await pairOf();
    for (const number of [1, 2, 3])
      expect(a.table.linkTo('b', 0)?.send(note(number))).to.equal(true);
    await until(() => b.received.length === 3);
    expect(numbersOf(b.received)).to.deep.equal([1, 2, 3]);
    expect(b.received.map(({ from, node }) => `${from}>${node}`)).to.deep.equal([
      'a>b',
      'a>b',
      'a>b',
    ]);
  });

  it('peers: an answer goes back on the connection of its ask', async () => {
    const { a, b } = await pairOf();
    a.table.linkTo('b', 0)?.send(echoEnvelope('echo', { number: 1, bytes: noise(1) }));
    await until(() => b.received.length === 1);
    const [asked] = b.received;
    if (asked?.via === undefined) throw new Error('no way back');
    expect(asked.via.name).to.equal('a');
    asked.via.send({ ...asked, kind: 'reply', node: 'a', from: 'b' });
    await until(() => a.received.length === 1);
    expect(a.received[0]?.kind).to.equal('reply');
    expect(a.received[0]?.from).to.equal('b');
  });

  it('peers: there is no link to a node that is no member', async () => {
    const { a } = await pairOf();
    expect(a.table.linkTo('c', 0)).to.equal(undefined);
  });

  it('peers: another cluster is refused, and the log says why', async () => {
    const { a, b } = await pairOf({}, { clusterName: 'prod' });
    a.table.linkTo('b', 0)?.send(note(1));
    // Whoever reads first refuses; the other may see no more than the end of the connection.
    const refusals = (): unknown[] =>
      [a, b].flatMap((end) => events(end, 'peer.refused').map(({ fields }) => fields['reason']));
    await until(() => a.lost.length > 0 && refusals().length > 0);
    expect(refusals()[0]).to.be.oneOf([
      'it is of cluster test, this is prod',
      'it is of cluster prod, this is test',
    ]);
    expect(b.received).to.deep.equal([]);
  });

  it('peers: a connection to the wrong node is refused', async () => {
    const ports = { a: await freePort(), c: await freePort() };
    const nodes = ['b', 'c'].map((node) => ({ node, host: '127.0.0.1', port: ports.c }));
    const a = await startEnd('a', ports.a, { node: 'b', port: ports.c }, { peers: nodes });
    const c = await startEnd('c', ports.c, { node: 'a', port: ports.a });
    a.table.linkTo('b', 0)?.send(note(1));
    await until(() => events(a, 'peer.refused').length > 0);
    expect(events(a, 'peer.refused')[0]?.fields['reason']).to.equal('expected b there, found c');
    expect(c.received).to.deep.equal([]);
  });

  it('peers: after a lost connection it is dialled again', async () => {
    const { a, b } = await pairOf();
    const first = a.table.linkTo('b', 0);
    first?.send(note(1));
    await until(() => b.received.length === 1);
    await b.table.close();
    await until(() => a.lost.length === 1);
    expect(a.lost).to.deep.equal([first]);
    expect(first?.send(note(2))).to.equal(false);
    const again = await startEnd('b', b.port, { node: 'a', port: a.port });
    await until(() => {
      const link = a.table.linkTo('b', 0);
      return link !== undefined && tcp(link).isOpen;
    });
    a.table.linkTo('b', 0)?.send(note(3));
    await until(() => again.received.length === 1);
    expect(numbersOf(again.received)).to.deep.equal([3]);
    expect(events(a, 'peer.connection-lost').length).to.be.above(0);
  });

  it('peers: something to send ends a pause that has lasted 200 ms', async () => {
    const real = realHost([]);
    let nowMs = 10_000;
    const waiting: (() => void)[] = [];
    const after: Host['timers']['after'] = (delayMs, fire) => {
      if (delayMs === 500 || delayMs === 1_000 || delayMs === 3_000)
        return real.timers.after(delayMs, fire);
      waiting.push(fire);
      return { cancel: () => void waiting.splice(waiting.indexOf(fire), 1) };
    };
    const clock = { ...real.clock, monotonicMs: () => nowMs };
    const host = { ...real, clock, timers: { ...real.timers, after } };
    const { a, b } = await pairOf({ host });
    a.table.linkTo('b', 0)?.send(note(1));
    await until(() => b.received.length === 1);
    await b.table.close();
    await until(() => waiting.length === 1);
    const again = await startEnd('b', b.port, { node: 'a', port: a.port });
    nowMs += 199;
    expect(a.table.linkTo('b', 0), 'the pause has just begun').to.equal(undefined);
    nowMs += 1;
    a.table.linkTo('b', 0)?.send(note(2));
    await until(() => again.received.length === 1);
    expect(waiting.length, 'no second attempt').to.equal(0);
  });

  it('peers: a peer that ends every connection is dialled with growing pauses', async () => {
    const { port, sockets } = await rawListener();
    const pausesMs: number[] = [];
    const logged: LogEntry[] = [];
    const host = realHost(logged);
    const after: Host['timers']['after'] = (delayMs, fire) => {
      if (delayMs === 1_000 || delayMs === 3_000 || delayMs === 500)
        return host.timers.after(delayMs, fire);
      pausesMs.push(delayMs);
      return host.timers.after(0, fire);
    };
    const a = await startEnd(
      'a',
      await freePort(),
      { node: 'b', port },
      {
        host: {
          ...host,
          timers: { ...host.timers, after },
          random: { ...host.random, float: () => 1 },
        },
      },
    );
    a.table.linkTo('b', 0);
    await until(() => {
      for (const socket of sockets.splice(0)) {
        socket.on('error', () => undefined);
        socket.write(helloFrame(encodeHello(helloOf('b'))));
        socket.end();
      }
      return pausesMs.length >= 9;
    });
    await a.table.close();
    expect(pausesMs.slice(0, 9)).to.deep.equal([50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    expect(logged.filter(({ event }) => event === 'peer.connection-lost').length).to.equal(1);
  });

  it('peers: bytes that are no frame end the connection', async () => {
    const { a } = await pairOf();
    const socket = connect(a.port, '127.0.0.1');
    socket.on('error', () => undefined);
    closing({ close: () => socket.destroy() });
    socket.write('GET / HTTP/1.1\r\nHost: kvd\r\n\r\n');
    await new Promise((resolve) => socket.resume().once('close', resolve));
    expect(events(a, 'peer.connection-failed')[0]?.fields['reason']).to.contain('no frame of kvd');
  });

  it('peers: a message before the handshake ends the connection', async () => {
    const { a } = await pairOf();
    const socket = connect(a.port, '127.0.0.1');
    socket.on('error', () => undefined);
    closing({ close: () => socket.destroy() });
    const writer = new FrameWriter(lz4);
    writer.add(noise(10));
    socket.write(writer.take());
    await new Promise((resolve) => socket.resume().once('close', resolve));
    expect(a.received).to.deep.equal([]);
    expect(events(a, 'peer.connection-failed').length).to.equal(1);
  });

  it('peers: a message that cannot be read is dropped alone', async () => {
    const { a } = await pairOf();
    const socket = connect(a.port, '127.0.0.1');
    closing({ close: () => socket.destroy() });
    socket.resume();
    socket.write(helloFrame(encodeHello(helloOf('b'))));
    const writer = new FrameWriter(lz4);
    const bytes = Uint8Array.from([0, 0, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]);
    writer.add(bytes);
    writer.add(bytes);
    const good = new ByteWriter();
    codec.encodeEnvelope(good, note(7), 0);
    writer.add(good.view());
    socket.write(writer.take());
    await until(() => a.received.length === 1);
    expect(numbersOf(a.received)).to.deep.equal([7]);
    expect(events(a, 'peer.unreadable').length).to.equal(1);
    expect(socket.destroyed).to.equal(false);
  });

  it('peers: what is sent in one turn of the event loop leaves as one frame', async () => {
    const { port, sockets } = await rawListener();
    const a = await startEnd('a', await freePort(), { node: 'b', port });
    const link = a.table.linkTo('b', 0);
    await until(() => sockets.length === 1);
    const received: Buffer[] = [];
    sockets[0]?.write(helloFrame(encodeHello(helloOf('b'))));
    await until(() => tcp(link).isOpen);
    await until(() => sockets[0]?.read() !== null);
    // The turn in which it was greeted is over.
    for (let i = 0; i < 2; i += 1) await new Promise((resolve) => setImmediate(resolve));
    sockets[0]?.on('data', (chunk: Buffer) => void received.push(chunk));
    const notes = [note(1), note(2), note(3)];
    for (const one of notes) link?.send(one);
    const expected = Buffer.from(frameOf(...notes));
    await until(() => Buffer.concat(received).length >= expected.length);
    expect(Buffer.concat(received)).to.deep.equal(expected);
  });

  it('peers: a peer that does not read costs bounded memory, each class by itself', async () => {
    const { port, sockets } = await rawListener();
    const a = await startEnd('a', await freePort(), { node: 'b', port });
    const link = a.table.linkTo('b', 0);
    await until(() => sockets.length === 1);
    sockets[0]?.pause();
    sockets[0]?.write(helloFrame(encodeHello(helloOf('b'))));
    await until(() => tcp(link).isOpen);
    const large = echoEnvelope('echo', { number: 1, bytes: noise(1024 * 1024) });
    let sent = 0;
    for (let refused = 0; refused < 3; ) {
      if (link?.send(large) === true) sent += 1;
      else refused += 1;
      await new Promise((resolve) => setImmediate(resolve));
      expect(sent).to.be.below(120);
    }
    expect(sent).to.be.at.least(63);
    expect(link?.send(note(1))).to.equal(true);
    expect(link?.send(echoEnvelope('hold', { number: 1 }))).to.equal(true);
  });

  it('peers: an asker that reads late hears of each ask, by an error where no room was left', async () => {
    const port = await freePort();
    const asks = 100;
    const state = new EchoState({ keepsEchoes: false });
    const router = { linkTo: () => undefined, flush: () => undefined };
    const kernel = new Kernel({
      ...{ node: 'b', thread: 'main', host: realHost(), router, protocols: [Echo] },
    });
    await spawnEcho(kernel, state);
    const a = { node: 'a', port: await freePort() };
    await startEnd('b', port, a, { deliver: (envelope) => kernel.deliver(envelope) });
    const socket = connect(port, '127.0.0.1').pause();
    closing({ close: () => socket.destroy() });
    socket.write(helloFrame(encodeHello(helloOf('a'))));
    for (let askId = 1; askId <= asks; askId += 1)
      socket.write(
        frameOf(echoEnvelope('echo', { number: askId, bytes: noise(1 << 20) }, { askId })),
      );
    socket.write(frameOf(note(1)));
    await until(() => state.notes.length === 1);
    const answers = new Map<number, string>();
    const reader = new FrameReader(lz4, {
      hello: () => undefined,
      envelope: (bytes) => {
        const { askId, kind, failure } = codec.decodeEnvelope(bytes, 0, undefined, 'b', 'a');
        answers.set(askId, failure?.code ?? kind);
      },
      probe: () => undefined,
    });
    reader.trust();
    socket.on('data', (chunk) => reader.feed(chunk));
    socket.resume();
    await until(() => answers.size === asks);
    expect([...new Set(answers.values())].sort()).to.deep.equal(['UNREACHABLE', 'reply']);
  });

  it('peers: where a class is full, some errors have room', async () => {
    const { port, sockets } = await rawListener();
    const a = await startEnd('a', await freePort(), { node: 'b', port });
    const link = a.table.linkTo('b', 0);
    await until(() => sockets.length === 1);
    let notes = 0;
    while (link?.send(note(1)) === true) notes += 1;
    const error = echoEnvelope('echo', undefined, { kind: 'error' });
    let errors = 0;
    while (link?.send(error) === true) errors += 1;
    expect({ notes, errors }).to.deep.equal({ notes: 131_072, errors: 4_096 });
  });

  it('peers: an answer that fits into no frame becomes TOO_LARGE', async () => {
    const { a, b } = await pairOf();
    a.table.linkTo('b', 0)?.send(echoEnvelope('echo', { number: 1, bytes: noise(1) }));
    await until(() => b.received.length === 1);
    const [asked] = b.received;
    if (asked?.via === undefined) throw new Error('no way back');
    const body = { number: 1, bytes: new Uint8Array(25 * 1024 * 1024) };
    expect(asked.via.send({ ...asked, kind: 'reply', node: 'a', from: 'b', body })).to.equal(true);
    await until(() => a.received.length === 1);
    expect(a.received[0]?.failure?.code).to.equal('TOO_LARGE');
    expect(a.table.linkTo('b', 0)?.send(echoEnvelope('echo', body))).to.equal(false);
  });

  it('peers: a value of the largest size goes through (bytes=16777216)', async () => {
    const { a, b } = await pairOf();
    const bytes = noise(16 * 1024 * 1024);
    expect(a.table.linkTo('b', 0)?.send(echoEnvelope('echo', { number: 1, bytes }))).to.equal(true);
    await until(() => b.received.length === 1);
    const there = (b.received[0]?.body as { bytes: Uint8Array }).bytes;
    expect(Buffer.compare(there, bytes)).to.equal(0);
  });

  it('peers: a peer that was asked and stays silent is given up after 15 s', async () => {
    const { port, sockets } = await rawListener();
    const logged: LogEntry[] = [];
    const clock = new ManualHost().clock;
    const host = { ...realHost(logged), clock };
    const nowMs = clock.monotonicMs();
    const a = await startEnd('a', await freePort(), { node: 'b', port }, { host });
    const link = a.table.linkTo('b', 0);
    await until(() => sockets.length === 1);
    sockets[0]?.write(helloFrame(encodeHello(helloOf('b'))));
    await until(() => tcp(link).isOpen);
    const silent = tcp(link);
    silent.checkSilence(nowMs + 60_000);
    expect(silent.isOpen).to.equal(true);
    link?.send(echoEnvelope('hold', { number: 1 }));
    silent.checkSilence(nowMs + 15_000);
    expect(silent.isOpen).to.equal(true);
    silent.checkSilence(nowMs + 15_001);
    expect(silent.isOpen).to.equal(false);
    expect(a.lost).to.deep.equal([link]);
  });

  it('peers: what waits is sent before this node stops', async () => {
    const { a, b } = await pairOf();
    a.table.linkTo('b', 0)?.send(note(0));
    await until(() => b.received.length === 1);
    for (const number of [1, 2, 3]) a.table.linkTo('b', 0)?.send(note(number));
    await a.table.close();
    await until(() => b.received.length === 4);
    expect(numbersOf(b.received)).to.deep.equal([0, 1, 2, 3]);
  });

  it('peers: the placement of a peer is what it said', async () => {
    const { a, b } = await pairOf({}, { placement: placementOf('wide', 6) });
    expect(a.table.placementOf('b').shards).to.equal(1);
    a.table.linkTo('b', 0)?.send(note(1));
    await until(() => b.received.length === 1);
    await until(() => a.table.placementOf('b').shards === 6);
    expect(a.table.placementOf('b').profile).to.equal('wide');
  });

  it('peers: a port that is taken is BAD_REQUEST', async () => {
    const { a } = await pairOf();
    const second = startEnd('b', a.port, { node: 'a', port: a.port });
    expect(await codeRejectedBy(second)).to.equal('BAD_REQUEST');
  });
});

describe('hello', () => {
  it('hello: comes back equal', () => {
    const hello = helloOf('b', {
      incarnation: 2 ** 40,
      thread: 3,
      profile: 'wide',
      shards: 6,
      answersProbes: true,
    });
    const frames: Hello[] = [];
    const reader = new FrameReader(lz4, {
      hello: (bytes) => void frames.push(decodeHello(bytes)),
      envelope: () => undefined,
      probe: () => undefined,
    });
    reader.feed(helloFrame(encodeHello(hello)));
    expect(frames).to.deep.equal([hello]);
  });

  it('hello: who says nothing of probes does not answer them', () => {
    const { answersProbes, ...before } = helloOf('b', { answersProbes: true });
    expect(answersProbes).to.equal(true);
    expect(decodeHello(encodeHello(before as Hello)).answersProbes).to.equal(false);
  });

  it('hello: anything else is BAD_REQUEST', () => {
    const wrong: readonly Record<string, unknown>[] = [
      { node: 1 },
      { clusterName: undefined },
      { profile: 'huge' },
      { shards: -1 },
      { incarnation: 0.5 },
    ];
    for (const member of wrong) {
      const hello = { ...helloOf('b'), ...member };
      expect(codeThrownBy(() => decodeHello(encodeHello(hello)))).to.equal('BAD_REQUEST');
    }
  });
});
