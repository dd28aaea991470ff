// What many, slow or greedy connections cost: each limit at its value and one above it, and a
// healthy client served all the while. The edges with stand-ins for the gateway on 127.0.0.1.

import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { expect } from 'chai';
import {
  bodyBytesMax,
  defaultBodyLimits,
  type HttpRoute,
  httpRoutes,
} from '../../actors/gateway/http-routes.ts';
import { HttpEdge, type HttpConnectionLimits } from '../../transport/edge-http.ts';
import { RespEdge, type RespEdgeLimits } from '../../transport/edge-resp.ts';

const host = '127.0.0.1';
const large = new Uint8Array(8 * 1024 * 1024);

describe('limits', () => {
  const closing: (() => Promise<void>)[] = [];
  const sockets: Socket[] = [];

  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    for (const close of closing.splice(0)) await close();
  });

  async function http(limits: Partial<HttpConnectionLimits>, holds = false): Promise<number> {
    const edge = new HttpEdge({
      node: 'n1',
      host,
      port: 0,
      connectionLimits: limits,
      ask: ({ route, body }, _timeoutMs, _trace, done) => {
        if (holds && body.length > 1) return;
        const answer = route === 'get' ? large : new Uint8Array(0);
        done(undefined, { status: 200, headers: {}, body: answer });
      },
    });
    closing.push(() => edge.close());
    return (await edge.listen()).port;
  }

  /** Answers OK to everything; RESET logs out, everything else logs in. */
  async function resp(
    limits: Partial<RespEdgeLimits>,
    { requiresLogin = false } = {},
  ): Promise<number> {
    const edge = new RespEdge({
      host,
      port: 0,
      limits,
      requiresLogin,
      opened: () => undefined,
      closed: () => undefined,
      run: ({ commands }, _timeoutMs, done) => {
        const bytes = new Uint8Array(Buffer.from('+OK\r\n'.repeat(commands.length)));
        const [word] = commands.at(-1)?.args ?? [];
        const isLoggedIn = word !== undefined && Buffer.from(word).toString() !== 'RESET';
        done(undefined, { ...{ bytes, count: commands.length, isLast: false, isLoggedIn } });
      },
    });
    closing.push(() => edge.close());
    return (await edge.listen()).port;
  }

  function dial(port: number, from = host): Socket {
    const socket = connect({ port, host, localAddress: from, allowHalfOpen: true });
    socket.on('error', () => undefined);
    sockets.push(socket);
    return socket;
  }

  const first = async (socket: Socket): Promise<string> => {
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    return chunk.toString('latin1').split('\r\n', 1)[0] ?? '';
  };
  const closed = (socket: Socket): Promise<void> =>
    new Promise((resolve) => void socket.once('close', () => resolve()));
  /** All that came until the other end closed. */
  const all = async (socket: Socket): Promise<string> => {
    const chunks: Buffer[] = [];
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('end', () => socket.end());
    await closed(socket);
    return Buffer.concat(chunks).toString('latin1');
  };

  async function pings(port: number, from = host): Promise<{ said: string; socket: Socket }> {
    const socket = dial(port, from);
    socket.write('PING\r\n');
    return { said: await first(socket), socket };
  }

  it('limits: connections from one address up to the limit, not one more (limit=3)', async () => {
    const port = await resp({ connectionsPerAddress: 3 });
    const three = [await pings(port), await pings(port), await pings(port)];
    expect(three.map(({ said }) => said)).to.deep.equal(['+OK', '+OK', '+OK']);
    expect((await pings(port)).said).to.equal('-ERR max number of clients reached');
    expect((await pings(port, '127.0.0.2')).said).to.equal('+OK');
    const [{ socket }] = three as [(typeof three)[0]];
    socket.destroy();
    await once(socket, 'close');
    let said = '';
    // The place is free once the server has noticed the end.
    while (said !== '+OK') ({ said } = await pings(port));
  });

  it('limits: connections from everywhere up to the limit, not one more (limit=2)', async () => {
    const port = await resp({ connections: 2 });
    expect((await pings(port)).said).to.equal('+OK');
    expect((await pings(port, '127.0.0.2')).said).to.equal('+OK');
    expect((await pings(port, '127.0.0.3')).said).to.equal('-ERR max number of clients reached');
  });

  it('limits: connections of HTTP up to the limit, the next gets 503 (limit=2)', async () => {
    const port = await http({ connectionsPerAddress: 2, connectionsReserved: 0 });
    const ask = (socket: Socket): Promise<string> => {
      socket.write('GET /livez HTTP/1.1\r\nhost: a\r\n\r\n');
      return first(socket);
    };
    expect(await ask(dial(port))).to.equal('HTTP/1.1 200 OK');
    expect(await ask(dial(port))).to.equal('HTTP/1.1 200 OK');
    expect(await ask(dial(port))).to.equal('HTTP/1.1 503 Refused');
  });

  /** How the port was reached and how it answered: `reserved 200`. */
  async function asked(port: number, seen: boolean[]): Promise<string> {
    const socket = dial(port);
    socket.write('GET /livez HTTP/1.1\r\nhost: a\r\n\r\n');
    const said = await all(socket);
    const status = said.split(' ')[1] ?? 'nothing';
    return `${said.includes('503') ? '' : seen.at(-1) === true ? 'reserved ' : 'usual '}${status}`;
  }

  async function counting(
    limits: Partial<HttpConnectionLimits>,
    holds: () => boolean = () => false,
  ): Promise<{ readonly port: number; readonly seen: boolean[] }> {
    const seen: boolean[] = [];
    const edge = new HttpEdge({
      ...{ node: 'n1', host, port: 0, connectionLimits: limits },
      ask: ({ isReserved }, _timeoutMs, _trace, done) => {
        seen.push(isReserved === true);
        if (!holds()) done(undefined, { status: 200, headers: {}, body: new Uint8Array(0) });
      },
    });
    closing.push(() => edge.close());
    return { port: (await edge.listen()).port, seen };
  }

  /** Connections that do nothing, in the order in which the port took them. */
  async function idle(port: number, count: number): Promise<Socket[]> {
    const found: Socket[] = [];
    for (let i = 0; i < count; i += 1) {
      const socket = dial(port).resume();
      found.push(socket);
      await once(socket, 'connect');
    }
    return found;
  }

  it('limits: with all places taken a request goes over a reserved one, which ends with it (limit=3)', async () => {
    const { port, seen } = await counting({ connections: 3, connectionsReserved: 1 });
    await idle(port, 2);
    const third = dial(port);
    third.write('GET /livez HTTP/1.1\r\nhost: a\r\n\r\n');
    expect(await first(third)).to.equal('HTTP/1.1 200 OK');
    expect(seen).to.deep.equal([false]);
    for (let i = 0; i < 5; i += 1) expect(await asked(port, seen)).to.equal('reserved 200');
  });

  it('limits: the bound of one address leads to the reserve as well (limit=1)', async () => {
    const { port, seen } = await counting({ connectionsPerAddress: 1, connectionsReserved: 1 });
    await idle(port, 1);
    expect(await asked(port, seen)).to.equal('reserved 200');
  });

  it('limits: reserved places whose requests are answered are kept, the next is refused (limit=2)', async () => {
    let holds = true;
    const { port, seen } = await counting({ connections: 1, connectionsReserved: 2 }, () => holds);
    await idle(port, 1);
    const held = [dial(port), dial(port)];
    for (const socket of held) socket.write('GET /livez HTTP/1.1\r\nhost: a\r\n\r\n');
    while (seen.length < 2) await new Promise((resolve) => setImmediate(resolve));
    holds = false;
    expect(await asked(port, seen)).to.equal('503');
    const [one] = held as [Socket];
    one.destroy();
    let said = '503';
    // The place is free once the server has noticed the end.
    while (said === '503') said = await asked(port, seen);
    expect(said).to.equal('reserved 200');
  });

  it('limits: of reserved places that wait for a request the oldest makes room (flood=200)', async () => {
    const { port, seen } = await counting({ connections: 2, connectionsReserved: 2 });
    const flood = await idle(port, 200);
    const ended = (socket: Socket): Promise<unknown> =>
      socket.readableEnded || socket.destroyed ? Promise.resolve() : once(socket, 'end');
    const ends = flood.slice(2, 198).map(ended);
    expect(await asked(port, seen)).to.equal('reserved 200');
    await Promise.all(ends);
    // The usual places stay with those who have them.
    expect(flood.slice(0, 2).map(({ readableEnded }) => readableEnded)).to.deep.equal([
      false,
      false,
    ]);
  });

  it('limits: a body is taken up to its limit, and counted as it comes, not one byte more', async () => {
    const port = await http({});
    const put = (bytes: number, head: string, body: string): Promise<string> => {
      const socket = dial(port);
      socket.write(
        `PUT /api/v1/keys/a HTTP/1.1\r\nhost: a\r\ncontent-type: application/octet-stream\r\n${head}\r\n\r\n`,
      );
      socket.write(body.padEnd(bytes, 'x'));
      if (body !== '') socket.write('\r\n0\r\n\r\n');
      return first(socket);
    };
    const route = httpRoutes.find(({ name }) => name === 'put') as HttpRoute;
    const limit = bodyBytesMax(route, defaultBodyLimits);
    const chunked = (bytes: number): Promise<string> => {
      const size = `${bytes.toString(16)}\r\n`;
      return put(size.length + bytes, 'transfer-encoding: chunked', size);
    };
    expect(await put(limit, `content-length: ${limit}`, '')).to.equal('HTTP/1.1 200 OK');
    expect(await put(1, `content-length: ${limit + 1}`, '')).to.match(/^HTTP\/1.1 413/);
    expect(await chunked(limit)).to.equal('HTTP/1.1 200 OK');
    expect(await chunked(limit + 1)).to.match(/^HTTP\/1.1 413/);
  });

  it('limits: bodies that wait fill the budget, then large ones get 429 and small ones pass', async () => {
    const size = 512 * 1024;
    const port = await http({ bodyBytes: 2 * size }, true);
    const put = (bytes: number): Socket => {
      const socket = dial(port);
      socket.write(
        `PUT /api/v1/keys/a HTTP/1.1\r\nhost: a\r\ncontent-type: application/octet-stream\r\ncontent-length: ${bytes}\r\n\r\n`,
      );
      socket.write('x'.repeat(bytes));
      return socket;
    };
    // Two fit exactly; of a third, whichever comes last is refused.
    const answers = [put(size), put(size), put(size)].map((socket) => first(socket));
    expect(await Promise.race(answers)).to.match(/^HTTP\/1.1 429/);
    expect(await first(put(1))).to.equal('HTTP/1.1 200 OK');
    for (const socket of sockets) socket.destroy();
    for (const answer of answers) answer.catch(() => undefined);
  });

  /** As many as are under way at the most, and what the others hear. */
  async function pipelined(
    limits: Partial<HttpConnectionLimits>,
    count: number,
  ): Promise<{
    readonly port: number;
    readonly asked: () => number;
    readonly end: () => void;
    readonly said: () => Promise<string>;
  }> {
    let asked = 0;
    const open: (() => void)[] = [];
    const edge = new HttpEdge({
      ...{ node: 'n1', host, port: 0, connectionLimits: limits },
      ask: ({ route }, _timeoutMs, _trace, done) => {
        asked += 1;
        const body = route === 'get' ? large : new Uint8Array(0);
        open.push(() => done(undefined, { status: 200, headers: {}, body }));
        if (route !== 'get') open.pop()?.();
      },
    });
    closing.push(() => edge.close());
    const { port } = await edge.listen();
    const socket = dial(port);
    socket.pause();
    socket.write('GET /api/v1/keys/a HTTP/1.1\r\nhost: a\r\n\r\n'.repeat(count));
    while (asked < Math.min(count, limits.requestsPerConnection ?? count))
      await new Promise((resolve) => setImmediate(resolve));
    const end = (): void => {
      for (const one of open.splice(0)) one();
    };
    const said = (): Promise<string> => {
      socket.resume();
      return all(socket);
    };
    return { port, asked: () => asked, end, said };
  }

  const statusesOf = (text: string): string[] =>
    [...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status = '']) => status);

  it('limits: requests of one connection that are under way, not one more (limit=3)', async () => {
    const { asked, end, said } = await pipelined({ requestsPerConnection: 3 }, 20);
    end();
    expect(statusesOf(await said())).to.deep.equal(['200', '200', '200', '429']);
    expect(asked()).to.equal(3);
  });

  it('limits: answers that nobody takes fill the budget, then reads end with 429, others are served', async () => {
    const { port, end, said } = await pipelined({ answerBytes: 2 * large.length }, 6);
    end();
    // Another connection has its first answer, whatever waits.
    const healthy = dial(port);
    healthy.write('GET /livez HTTP/1.1\r\nhost: a\r\n\r\n');
    expect(await first(healthy)).to.equal('HTTP/1.1 200 OK');
    expect(statusesOf(await said())).to.deep.equal(['200', '200', '429']);
  });

  it('limits: headers up to the limit, with one more nothing is done (limit=100)', async () => {
    const asks: string[] = [];
    const edge = new HttpEdge({
      ...{ node: 'n1', host, port: 0 },
      ask: ({ headers }, _timeoutMs, _trace, done) => {
        asks.push(headers['if-match'] ?? 'none');
        done(undefined, { status: 200, headers: {}, body: new Uint8Array(0) });
      },
    });
    closing.push(() => edge.close());
    const { port } = await edge.listen();
    const ask = (count: number): Promise<string> => {
      const socket = dial(port);
      const others = Array.from({ length: count - 2 }, (_, i) => `h${i}: 1`);
      const lines = ['host: a', ...others, 'if-match: "x"'].join('\r\n');
      socket.write(`DELETE /api/v1/keys/a HTTP/1.1\r\n${lines}\r\n\r\n`);
      return first(socket);
    };
    expect(await ask(100)).to.equal('HTTP/1.1 200 OK');
    for (const count of [101, 900, 1500])
      expect(await ask(count)).to.equal('HTTP/1.1 431 Request Header Fields Too Large');
    expect(asks).to.deep.equal(['"x"']);
  });

  it('limits: headers that come slowly end with 408, others are served (connections=200)', async () => {
    const port = await http({ headersMs: 200, requestMs: 400 });
    const slow = Array.from({ length: 200 }, () => dial(port));
    for (const socket of slow) socket.write('GET /livez HTTP/1.1\r\nx: ');
    const healthy = dial(port);
    healthy.write('GET /livez HTTP/1.1\r\nhost: a\r\n\r\n');
    expect(await first(healthy)).to.equal('HTTP/1.1 200 OK');
    const said = await Promise.all(slow.map(all));
    expect(said.filter((text) => text.startsWith('HTTP/1.1 408'))).to.have.length(200);
  });

  it('limits: a connection without a request is closed', async () => {
    const port = await http({ idleMs: 100, headersMs: 200, requestMs: 400 });
    await all(dial(port));
    const served = dial(port);
    served.write('GET /livez HTTP/1.1\r\nhost: a\r\n\r\n');
    expect(await all(served)).to.match(/^HTTP\/1.1 200 OK/);
  });

  it('limits: an HTTP client that never reads its answers is cut off', async () => {
    const port = await http({ stallMs: 200 });
    const socket = dial(port);
    socket.pause();
    socket.write('GET /api/v1/keys/a HTTP/1.1\r\nhost: a\r\n\r\n'.repeat(8));
    const healthy = dial(port);
    healthy.write('GET /livez HTTP/1.1\r\nhost: a\r\n\r\n');
    expect(await first(healthy)).to.equal('HTTP/1.1 200 OK');
    // A paused socket learns of the end when it writes.
    const probe = setInterval(() => socket.write('G'), 50);
    await closed(socket);
    clearInterval(probe);
    expect(socket.bytesRead).to.be.below(8 * large.length);
  });

  it('limits: a command of which no more comes ends its connection, others go on', async () => {
    const port = await resp({ commandMs: 200 });
    const half = dial(port);
    half.write('*2\r\n$3\r\nGET\r\n$100\r\nabc');
    const { said, socket } = await pings(port);
    expect(said).to.equal('+OK');
    expect(await all(half)).to.equal('-ERR Protocol error: the command did not arrive in time\r\n');
    socket.write('PING\r\n');
    expect(await first(socket)).to.equal('+OK');
  });

  it('limits: who has to log in and does not, or no longer is, is closed; others go on', async () => {
    const port = await resp({ loginMs: 200 }, { requiresLogin: true });
    const silent = dial(port);
    const { socket: left } = await pings(port);
    left.write('RESET\r\n');
    expect(await first(left)).to.equal('+OK');
    const { socket: stays } = await pings(port);
    const late = '-ERR Protocol error: expected AUTH within 200 ms\r\n';
    expect(await Promise.all([all(silent), all(left)])).to.deep.equal([late, late]);
    stays.write('PING\r\n');
    expect(await first(stays)).to.equal('+OK');
  });

  it('limits: where nobody has to log in, a connection may be silent', async () => {
    const port = await resp({ loginMs: 50, commandMs: 200 });
    const silent = dial(port);
    const half = dial(port);
    half.write('*2\r\n$3\r\nGET\r\n$100\r\nabc');
    await all(half);
    silent.write('PING\r\n');
    expect(await first(silent)).to.equal('+OK');
  });
});
