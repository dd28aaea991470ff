// What bodies of HTTP requests hold: it is given back, also where a connection ends in the middle of
// a pipeline, whose answers behind the first one were never begun; and strangers may not hold all of
// it.

import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { expect } from 'chai';
import { changed } from '../../actors/catalog/changes.ts';
import { firstDocument } from '../../actors/model/namespaces.ts';
import { mintToken, tokenBytes } from '../../runtime/access-token.ts';
import { HttpEdge } from '../../transport/edge-http.ts';
import { nowMs, send, startCluster, type TestCluster } from '../kit-gateway.ts';

const size = 512 * 1024;
const path = '/api/v1/keys/k';
const headers = { 'content-type': 'application/octet-stream' };

describe('body budget', () => {
  it('body budget: a connection that ends gives back what all its requests held', async () => {
    let isAnswering = false;
    let asked = 0;
    let bothAsked: () => void;
    const waited = new Promise<void>((resolve) => {
      bothAsked = resolve;
    });
    const edge = new HttpEdge({
      ...{ node: 'n1', host: '127.0.0.1', port: 0, connectionLimits: { bodyBytes: 2 * size } },
      ask: (_request, _timeoutMs, _trace, done) => {
        if (isAnswering)
          return done(undefined, { status: 200, headers: {}, body: new Uint8Array(0) });
        asked += 1;
        if (asked === 2) bothAsked();
      },
    });
    const { port } = await edge.listen();
    const request = `PUT ${path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/octet-stream\r\ncontent-length: ${size}\r\n\r\n${'x'.repeat(size)}`;
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write(request.repeat(2));
    await waited;
    const body = 'x'.repeat(size + 1);
    expect((await send(port, 'PUT', path, { headers, body })).status, 'all is taken').to.equal(429);
    isAnswering = true;
    socket.destroy();
    // The edge hears of the end a little later.
    let status = 429;
    for (let turn = 0; turn < 200 && status === 429; turn += 1)
      ({ status } = await send(port, 'PUT', path, { headers, body }));
    expect(status).to.equal(200);
    await edge.close();
  });

  describe('body budget: strangers', () => {
    const bodyBytes = 1024 * 1024;
    const share = bodyBytes / 2;
    const large = 128 * 1024;
    const { id, hash, text } = mintToken(new Uint8Array(tokenBytes).fill(1));
    const document = changed(
      firstDocument,
      {
        ...{ kind: 'user-create', name: 'root', settings: { isAdmin: true }, roles: [] },
        ...{ token: { id, hash, expiresMs: 0 }, isFirst: false },
      },
      nowMs,
    );
    const sockets: Socket[] = [];
    let cluster: TestCluster | undefined;

    async function start(isRequired: boolean): Promise<void> {
      const access = { isRequired, operationsPerAddressMax: 0, document };
      cluster = await startCluster({ access, connectionLimits: { bodyBytes } });
    }
    afterEach(async () => {
      for (const socket of sockets.splice(0)) socket.destroy();
      await cluster?.close();
    });

    function dial(): Socket {
      const socket = connect(cluster?.port ?? 0, '127.0.0.1');
      socket.on('error', () => undefined);
      sockets.push(socket);
      return socket;
    }

    const authorized = `authorization: Bearer ${text}\r\n`;
    const put = (sentBytes: number, more: string, declaredBytes = sentBytes): string =>
      `PUT ${path} HTTP/1.1\r\nhost: a\r\n${more}content-type: application/octet-stream\r\ncontent-length: ${declaredBytes}\r\n\r\n${'x'.repeat(sentBytes)}`;
    const get = (more: string): string => `GET ${path} HTTP/1.1\r\nhost: a\r\n${more}\r\n`;

    async function statusOf(socket: Socket, request: string): Promise<string> {
      socket.write(request);
      const [chunk] = (await once(socket, 'data')) as [Buffer];
      return chunk.toString('latin1').split(' ', 2)[1] ?? '';
    }

    /** All that strangers may hold, by a request that never ends. */
    async function fill(): Promise<void> {
      dial().write(put(share, '', share + 1));
      // It is there when the next stranger is one too many.
      let status = '';
      for (let turn = 0; turn < 200 && status !== '429'; turn += 1)
        status = await statusOf(dial(), put(large, authorized));
      expect(status).to.equal('429');
    }

    it('body budget: strangers hold half of it, who has shown a token gets the rest', async () => {
      await start(true);
      const known = dial();
      expect(await statusOf(known, get(authorized))).to.equal('404');
      const open = dial();
      expect(await statusOf(open, 'GET /livez HTTP/1.1\r\nhost: a\r\n\r\n')).to.equal('200');
      const wrong = dial();
      expect(await statusOf(wrong, get('authorization: Bearer wrong\r\n'))).to.equal('401');
      await fill();
      for (const stranger of [open, wrong, dial()])
        expect(await statusOf(stranger, put(large, authorized))).to.equal('429');
      expect(await statusOf(dial(), put(64 * 1024, authorized)), 'a modest one').to.equal('200');
      expect(await statusOf(known, put(large, authorized))).to.equal('200');
    });

    it('body budget: where nobody has to show a token, nobody is a stranger', async () => {
      await start(false);
      expect(await statusOf(dial(), put(share + large, ''))).to.equal('200');
    });
  });
});
