// What bodies of HTTP requests hold is given back, also where a connection ends in the middle of a
// pipeline: the answers behind the first one were never begun.

import { connect } from 'node:net';
import { expect } from 'chai';
import { HttpEdge } from '../../transport/edge-http.ts';
import { send } from '../kit-gateway.ts';

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
});
