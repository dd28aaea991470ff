// The connections of a client: at most so many to a node, used again, and closed when idle.

import { expect } from 'chai';
import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { connect } from '../../cli/client/kvd-client.ts';

const body = '{"key":"k","value":1,"version":1,"timestamp":1}';

class OneNode {
  readonly sockets: Socket[] = [];
  readonly waiting: ServerResponse[] = [];
  readonly server: Server;
  /** Most requests that waited at the same time. */
  most = 0;
  /** So many are let in before any is answered. */
  gate = 1;

  constructor() {
    this.server = createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
      if (request.url === '/api/v1/ring') return void response.end(this.#ring());
      this.most = Math.max(this.most, this.waiting.push(response));
      if (this.waiting.length >= this.gate) this.answer();
    });
    this.server.on('connection', (socket) => this.sockets.push(socket));
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  answer(): void {
    for (const response of this.waiting.splice(0))
      response.writeHead(200, { etag: '"1-1-1"', 'content-type': 'application/json' }).end(body);
  }

  #ring(): string {
    const address = this.url.slice('http://'.length);
    const nodes = [{ node_id: 'n1', address, share: 1 }];
    return JSON.stringify({ members: ['n1'], virtual_nodes: 4, replication_factor: 1, nodes });
  }
}

describe('client: connections', () => {
  let node: OneNode;
  beforeEach(async () => {
    node = new OneNode();
    node.server.listen(0, '127.0.0.1');
    await once(node.server, 'listening');
  });
  afterEach(() => {
    node.server.close();
    node.server.closeAllConnections();
  });

  it('client: requests to a node wait for one of its connections (connectionsMax=3)', async () => {
    const client = await connect([node.url], { connectionsMax: 3 });
    // Three are let in together; a fourth at the same time would be seen.
    node.gate = 3;
    const answers = await Promise.all(Array.from({ length: 9 }, (_, i) => client.get(`k${i}`)));
    client.close();
    expect(answers.map((answer) => answer?.value)).to.deep.equal(
      Array.from({ length: 9 }, () => 1),
    );
    expect(node.most).to.equal(3);
    expect(node.sockets.length).to.be.at.most(3);
  });

  it('client: one request after the other needs one connection', async () => {
    const client = await connect([node.url], {});
    for (let i = 0; i < 5; i += 1) await client.get('k');
    client.close();
    expect(node.sockets.length).to.equal(1);
  });

  it('client: a connection that is idle is closed by the client, and the next call opens one', async () => {
    const client = await connect([node.url], { idleMs: 30 });
    await client.get('k');
    for (const socket of node.sockets) if (!socket.destroyed) await once(socket, 'close');
    const before = node.sockets.length;
    expect((await client.get('k'))?.value).to.equal(1);
    client.close();
    expect(node.sockets.length).to.equal(before + 1);
  });

  it('client: close ends what is kept', async () => {
    const client = await connect([node.url], {});
    await client.get('k');
    const closed = node.sockets
      .filter(({ destroyed }) => !destroyed)
      .map((one) => once(one, 'close'));
    client.close();
    expect((await Promise.all(closed)).length).to.be.at.least(1);
  });
});
