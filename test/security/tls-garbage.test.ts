// What is no TLS on a port with TLS: plain requests, noise, handshakes that never end or are cut off,
// on all three ports. Each connection is closed, counted and told of once, and a healthy client is
// served all the while.

import { connect, createServer, type Socket } from 'node:net';
import { request } from 'node:https';
import { connect as connectTls } from 'node:tls';
import { expect } from 'chai';
import { createAuthority, type Issued, issueCertificate } from '../../cli/certs/authority.ts';
import { FailedHandshakes } from '../../transport/failed-handshakes.ts';
import { type HttpConnectionLimits, HttpEdge } from '../../transport/edge-http.ts';
import { RespEdge } from '../../transport/edge-resp.ts';
import type { TlsMaterial } from '../../transport/tls.ts';
import { type LogEntry, ManualHost } from '../kit.ts';
import { freePort, testPeers } from '../kit-link-worker.ts';
import { echoEnvelope, noise, realHost, until } from '../kit-transport.ts';
import { command } from '../kit-resp.ts';

const host = '127.0.0.1';
const handshakeMs = 1000;
/** Of each kind, at the same time. */
const parallel = 20;

/** A port with TLS, and how it looks from inside. */
interface Port {
  readonly port: number;
  /** One request of a healthy client, answered. */
  readonly serve: () => Promise<void>;
  readonly failed: () => number;
  readonly logged: () => readonly LogEntry[];
}

/** The first message of a handshake as a client sends it. */
function clientHello(): Promise<Buffer> {
  return new Promise((resolve) => {
    const server = createServer((socket) =>
      socket.once('data', (chunk) => {
        socket.destroy();
        server.close();
        resolve(chunk);
      }),
    ).listen(0, host, () => {
      const address = server.address();
      const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
      connectTls({ port, host }).on('error', () => undefined);
    });
  });
}

describe('tls garbage', () => {
  let authority: Issued;
  let hello: Buffer;
  const closing: (() => Promise<void>)[] = [];
  const sockets: Socket[] = [];
  const forNode = async (node: string): Promise<TlsMaterial> => ({
    ...(await issueCertificate(authority, { node, hosts: [host] }, 10)),
    ca: authority.cert,
  });

  before(async () => {
    authority = await createAuthority('test', 10);
    hello = await clientHello();
  });
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    for (const close of closing.splice(0)) await close();
  });

  const failedOf = ({ metrics }: Pick<ManualHost, 'metrics'>): number =>
    metrics.samples().find(({ name }) => name === 'kvd_handshakes_failed_total')?.value ?? 0;
  const loggedIn = (entries: readonly LogEntry[]): readonly LogEntry[] =>
    entries.filter(({ event }) => /handshake-failed|connection-failed/.test(event));

  async function http(
    deadlineMs = handshakeMs,
    more: Partial<HttpConnectionLimits> = {},
  ): Promise<Port> {
    const reports = new ManualHost();
    const edge = new HttpEdge({
      ...{
        node: 'n1',
        host,
        port: 0,
        reports,
        connectionLimits: { handshakeMs: deadlineMs, ...more },
      },
      tls: { material: await forNode('n1'), requiresClientCertificate: false },
      ask: (_request, _timeoutMs, _trace, done) =>
        done(undefined, { status: 200, headers: {}, body: new Uint8Array(2) }),
    });
    closing.push(() => edge.close());
    const { port } = await edge.listen();
    const serve = (): Promise<void> =>
      new Promise((resolve, reject) => {
        const asked = request({ host, port, path: '/livez', ca: authority.cert, agent: false });
        asked.on('error', reject).on('response', (response) => {
          response.resume().on('end', () => resolve());
        });
        asked.end();
      });
    return { port, serve, failed: () => failedOf(reports), logged: () => loggedIn(reports.logged) };
  }

  async function resp(deadlineMs = handshakeMs): Promise<Port> {
    const reports = new ManualHost();
    const edge = new RespEdge({
      ...{ host, port: 0, reports, limits: { handshakeMs: deadlineMs } },
      tls: { material: await forNode('n1'), requiresClientCertificate: false },
      opened: () => undefined,
      closed: () => undefined,
      run: ({ commands }, _timeoutMs, done) => {
        const bytes = new Uint8Array(Buffer.from('+PONG\r\n'));
        done(undefined, { bytes, count: commands.length, isLast: false, isLoggedIn: true });
      },
    });
    closing.push(() => edge.close());
    const { port } = await edge.listen();
    const serve = (): Promise<void> =>
      new Promise((resolve, reject) => {
        const socket = connectTls({ port, host, ca: authority.cert });
        socket.on('error', reject).on('data', () => {
          socket.destroy();
          resolve();
        });
        socket.write('PING\r\n');
      });
    return { port, serve, failed: () => failedOf(reports), logged: () => loggedIn(reports.logged) };
  }

  async function internode(): Promise<Port> {
    const ports = { a: await freePort(), b: await freePort() };
    const logged: LogEntry[] = [];
    const reports = realHost(logged);
    let arrived = 0;
    const how = { deliver: () => void (arrived += 1), linkLost: () => undefined, handshakeMs };
    const b = testPeers(
      { node: 'b', port: ports.b, other: { node: 'a', port: ports.a } },
      { ...how, host: reports, tls: await forNode('b') },
    );
    closing.push(() => b.close());
    await b.listen();
    const material = await forNode('a');
    const serve = async (): Promise<void> => {
      const before = arrived;
      // Without the port of `a` being listened on, `b` does not dial back.
      const a = testPeers(
        { node: 'a', port: ports.a, other: { node: 'b', port: ports.b } },
        { ...how, handshakeMs: 5000, tls: material },
      );
      a.linkTo('b', 0)?.send(echoEnvelope('note', { number: 1 }));
      await until(() => arrived > before);
      await a.close();
    };
    const failed = (): number => failedOf(reports);
    return { port: ports.b, serve, failed, logged: () => loggedIn(logged) };
  }

  /** What a client does with its connection. */
  const hostile: readonly (readonly [name: string, act: (socket: Socket) => void])[] = [
    ['a plain HTTP request', (socket) => void socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n')],
    ['a plain Redis command', (socket) => void socket.write(command('PING'))],
    ['noise', (socket) => void socket.write(noise(1000))],
    ['one byte', (socket) => void socket.write('\x16')],
    ['nothing', () => undefined],
    ['a handshake that stops after its first message', (socket) => void socket.write(hello)],
    [
      'a handshake that comes a byte at a time',
      (socket) => {
        let at = 0;
        const drip = setInterval(() => socket.write(hello.subarray(at, (at += 1))), 20);
        socket.once('close', () => clearInterval(drip));
      },
    ],
    [
      'a handshake that is cut off in the middle',
      (socket) => void socket.write(hello.subarray(0, 100), () => socket.destroy()),
    ],
    ['a handshake whose sender ends', (socket) => void socket.end(hello.subarray(0, 100))],
    [
      'noise inside of a handshake',
      (socket) => void socket.write(Buffer.concat([hello, noise(99)])),
    ],
  ];

  for (const [name, open] of [
    ['http', http],
    ['resp', resp],
    ['internode', internode],
  ] as const)
    for (const [what, act] of hostile)
      it(`tls garbage: ${what} on the ${name} port ends its connection, is counted, and delays nobody (connections=${parallel})`, async () => {
        const { port, serve, failed, logged } = await open();
        const ended = Array.from({ length: parallel }, () => {
          const socket = connect({ port, host }, () => act(socket));
          sockets.push(socket);
          socket.on('error', () => undefined).resume();
          return new Promise((resolve) => void socket.once('close', resolve));
        });
        await serve();
        await Promise.all(ended);
        await until(() => failed() >= parallel);
        expect(failed()).to.equal(parallel);
        expect(logged()).to.have.length(1);
        expect(logged()[0]?.fields).to.include({ port: name });
        await serve();
      });

  for (const [name, open] of [
    ['http', http],
    ['resp', resp],
  ] as const)
    it(`tls garbage: the ${name} port closes without waiting for handshakes that are under way`, async () => {
      const { port, serve, failed } = await open(60_000);
      const silent = connect({ port, host });
      sockets.push(silent);
      const ended = new Promise((resolve) => void silent.resume().once('close', resolve));
      // Accepted after the silent one.
      await serve();
      await closing.pop()?.();
      await ended;
      expect(failed()).to.equal(0);
    });

  it('tls garbage: silent connections on all places of a port leave the reserved ones (connections=5, reserved=2)', async () => {
    const { port, serve } = await http(60_000, { connections: 5, connectionsReserved: 2 });
    for (let i = 0; i < 50; i += 1) {
      const socket = connect({ port, host }).on('error', () => undefined);
      sockets.push(socket);
      await new Promise((resolve) => void socket.once('connect', resolve));
    }
    for (let i = 0; i < 5; i += 1) await serve();
  });

  it('tls garbage: the log tells of the first one, and after ten seconds of how many followed it', () => {
    const reports = new ManualHost();
    const failures = new FailedHandshakes({ port: 'http', event: 'e', host: reports });
    for (let i = 0; i < 5; i += 1) failures.happened(`10.0.0.${i}`, 'why');
    reports.nowMs += 9_999;
    failures.happened('10.0.0.5', 'why');
    expect(reports.logged.map(({ fields }) => fields)).to.deep.equal([
      { port: 'http', peer: '10.0.0.0', reason: 'why' },
    ]);
    reports.nowMs += 1;
    failures.happened('10.0.0.6', 'other');
    expect(reports.logged[1]?.fields).to.deep.equal({
      ...{ port: 'http', peer: '10.0.0.6', reason: 'other', left_out: 5 },
    });
    expect(failedOf(reports)).to.equal(7);
  });
});
