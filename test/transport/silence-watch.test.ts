// A peer that takes long is left alone, one that is not there any more is noticed. Sockets are real,
// the time is the test's own: it looks at a connection second by second, and waits for bytes where
// some were sent.

import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { expect } from 'chai';
import type { Envelope } from '../../runtime/envelope.ts';
import { emptyFrame, FrameReader, helloFrame, probeFrame } from '../../transport/frame.ts';
import { encodeHello, type Hello } from '../../transport/handshake.ts';
import { SilenceWatch } from '../../transport/silence-watch.ts';
import { TcpLink } from '../../transport/tcp-link.ts';
import { ManualHost } from '../kit.ts';
import { freePort, testPeers } from '../kit-link-worker.ts';
import { echoCodec, echoEnvelope, realLz4, until } from '../kit-transport.ts';

const hourSeconds = 3_600;
const lz4 = realLz4();
const open: { close: () => unknown }[] = [];

const helloOf = (node: string, answersProbes = true): Hello => ({
  ...{ clusterName: 'test', node, incarnation: 1, thread: 0, profile: 'single', shards: 1 },
  answersProbes,
});

/** A real node b; `deliver` gets what it is sent. */
async function startNode(deliver: (envelope: Envelope) => void): Promise<number> {
  const port = await freePort();
  const end = { node: 'b', port, other: { node: 'a', port: await freePort() } };
  const table = testPeers(end, { deliver, linkLost: () => undefined });
  open.push(table);
  await table.listen();
  return port;
}

/** Node b made by hand: says hello, counts probes, and answers as many as the test says. */
async function startByHand(
  answersProbes: boolean,
): Promise<{ port: number; probes: number; answersLeft: number; sockets: Socket[] }> {
  const peer = { port: await freePort(), probes: 0, answersLeft: 0, sockets: [] as Socket[] };
  const server = createServer((socket) => {
    peer.sockets.push(socket);
    socket.on('error', () => undefined);
    const reader = new FrameReader(lz4, {
      hello: () => undefined,
      envelope: () => undefined,
      probe: () => {
        peer.probes += 1;
        peer.answersLeft -= 1;
        if (peer.answersLeft >= 0) socket.write(emptyFrame());
      },
    });
    socket.on('data', (chunk) => reader.feed(chunk));
    socket.write(helloFrame(encodeHello(helloOf('b', answersProbes))));
  });
  server.listen(peer.port, '127.0.0.1');
  await once(server, 'listening');
  open.push({
    close: () => {
      for (const socket of peer.sockets) socket.destroy();
      server.close();
    },
  });
  return peer;
}

interface Dialled {
  readonly link: TcpLink;
  readonly socket: Socket;
  readonly received: Envelope[];
  /** Why it ended. */
  readonly reasons: string[];
  /** One more second passes, and the connection is looked at; true: something was written. */
  readonly second: () => boolean;
}

/** A connection of node a, after the handshake. */
async function dial(port: number): Promise<Dialled> {
  const { clock } = new ManualHost();
  const socket = connect(port, '127.0.0.1');
  const received: Envelope[] = [];
  const reasons: string[] = [];
  const link = new TcpLink({
    ...{ socket, codec: echoCodec(), lz4, clock, self: helloOf('a') },
    greeted: () => undefined,
    deliver: (envelope) => void received.push(envelope),
    unreadable: () => undefined,
    closed: (_, reason) => void reasons.push(reason),
  });
  open.push({ close: () => link.close('the test is over') });
  await until(() => link.isOpen);
  let nowMs = clock.monotonicMs();
  const second = (): boolean => {
    const before = socket.bytesWritten;
    nowMs += 1_000;
    link.checkSilence(nowMs);
    return socket.bytesWritten > before;
  };
  return { link, socket, received, reasons, second };
}

const hold = echoEnvelope('hold', { number: 1 });

describe('silence', () => {
  afterEach(async () => {
    await Promise.all(open.splice(0).map((thing) => thing.close()));
  });

  it('silence: an ask may take an hour on a quiet connection, for 20 bytes every 6 s', async () => {
    const heard: Envelope[] = [];
    const { link, socket, second } = await dial(await startNode((one) => void heard.push(one)));
    link.send(hold);
    await until(() => heard.length === 1);
    const before = { read: socket.bytesRead, written: socket.bytesWritten };
    let probes = 0;
    for (let i = 0; i < hourSeconds && link.isOpen; i += 1) {
      const answered = once(socket, 'data');
      if (!second()) continue;
      probes += 1;
      await answered;
    }
    expect(link.isOpen).to.equal(true);
    expect(probes).to.be.within(hourSeconds / 8, hourSeconds / 6);
    expect(socket.bytesWritten - before.written).to.equal(20 * probes);
    expect(socket.bytesRead - before.read).to.equal(20 * probes);
  });

  it('silence: where no ask is open nothing is sent, and silence means nothing', async () => {
    const port = await startNode((asked) => {
      asked.via?.send({ ...asked, kind: 'reply', node: 'a', from: 'b' });
    });
    const { link, received, second } = await dial(port);
    link.send(echoEnvelope('echo', { number: 1, bytes: new Uint8Array(1) }));
    link.send(echoEnvelope('note', { number: 1 }));
    await until(() => received.length === 1);
    for (let i = 0; i < hourSeconds; i += 1) expect(second()).to.equal(false);
    expect(link.isOpen).to.equal(true);
  });

  it('silence: a peer that stops is noticed 16 s after its last answer at the latest', async () => {
    const peer = await startByHand(true);
    const { link, socket, reasons, second } = await dial(peer.port);
    peer.answersLeft = 3;
    link.send(hold);
    let seconds = 0;
    while (peer.answersLeft > 0) {
      const answered = once(socket, 'data');
      if (second()) await answered;
    }
    for (; link.isOpen; seconds += 1) second();
    expect(seconds).to.be.within(16, 17);
    expect(reasons).to.deep.equal(['no answer for 15000 ms']);
  });

  it('silence: a peer that never answers is probed once, and given up after 15 s', async () => {
    const peer = await startByHand(true);
    const { link, second } = await dial(peer.port);
    link.send(hold);
    const written: number[] = [];
    for (let i = 1; i <= 15; i += 1) if (second()) written.push(i);
    expect(written).to.deep.equal([6]);
    await until(() => peer.probes === 1);
    expect(link.isOpen).to.equal(true);
    second();
    expect(link.isOpen).to.equal(false);
  });

  it('silence: a peer of before gets no probe, and is given up after 15 s', async () => {
    const { link, second } = await dial((await startByHand(false)).port);
    link.send(hold);
    for (let i = 1; i <= 15; i += 1) expect(second()).to.equal(false);
    expect(link.isOpen).to.equal(true);
    second();
    expect(link.isOpen).to.equal(false);
  });

  it('silence: a probe before the handshake ends the connection', async () => {
    const socket = connect(await startNode(() => undefined), '127.0.0.1');
    socket.on('error', () => undefined);
    open.push({ close: () => socket.destroy() });
    socket.write(probeFrame());
    await once(socket.resume(), 'close');
  });
});

describe('silence watch', () => {
  /** What it says second by second, from 1 s on. */
  const looks = (watch: SilenceWatch, seconds: number, heardEvery = Infinity): string[] => {
    const said: string[] = [];
    for (let at = 1; at <= seconds; at += 1) {
      if (at % heardEvery === 0) watch.heard();
      said.push(watch.look(at * 1_000, true));
    }
    return said;
  };

  it('silence watch: what is heard of every four seconds is not probed', () => {
    const watch = new SilenceWatch();
    watch.asked(0, Infinity);
    expect(looks(watch, 100, 4)).to.not.include('probe');
  });

  it('silence watch: after the deadline of the last ask nobody waits any more', () => {
    const watch = new SilenceWatch();
    watch.asked(0, 30_000);
    watch.asked(0, 20_000);
    watch.heard();
    expect(looks(watch, 100, 9).lastIndexOf('probe')).to.be.within(20, 35);
  });

  it('silence watch: who was held up himself probes before he judges', () => {
    const watch = new SilenceWatch();
    watch.asked(0, Infinity);
    expect(looks(watch, 7)).to.include('probe');
    expect(watch.look(60_000, true)).to.equal('probe');
    expect(watch.look(65_000, true)).to.equal('wait');
    expect(watch.look(66_000, true)).to.equal('end');
  });
});
