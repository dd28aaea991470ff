// A real node under hostile input, for a few seconds with a fixed seed, and with thousands of
// connections that do nothing. The long run is `npm run test:fuzz`.

import { connect, type Socket } from 'node:net';
import { expect } from 'chai';
import { fuzz } from '../fuzz/fuzz-run.ts';
import { DevCluster } from './dev-cluster.ts';

describe('hostile input', function () {
  this.timeout(120_000);

  it('hostile input: healthy clients are served, memory is bounded (seed=7, seconds=10)', async () => {
    const report = await fuzz({ seed: 7, seconds: 10, parallel: 12, nodes: 1 });
    expect(report.problems).to.deep.equal([]);
    expect(report.attacks).to.be.above(100);
    expect(report.healthy).to.be.above(10);
  });

  it('hostile input: idle connections leave a client served (connections=5000)', async () => {
    const cluster = await DevCluster.start({
      nodes: 1,
      extra: ['--set', 'connectionsPerAddressMax=6000'],
    });
    const idle: Socket[] = [];
    try {
      const open = (port: number): Promise<void> =>
        new Promise((resolve, reject) => {
          const socket = connect({ port, host: '127.0.0.1' }, () => resolve());
          socket.on('error', reject);
          idle.push(socket);
        });
      for (let i = 0; i < 50; i += 1)
        await Promise.all(Array.from({ length: 100 }, () => open(cluster.basePort + 1)));
      expect(idle).to.have.length(5000);
      const url = `${cluster.endpoints[0] ?? ''}/api/v1/keys/a`;
      const headers = { 'content-type': 'application/json' };
      const put = await fetch(url, { method: 'PUT', headers, body: '{"value":1}' });
      expect(put.status).to.equal(200);
      const socket = connect({ port: cluster.basePort + 1, host: '127.0.0.1' });
      socket.write('PING\r\n');
      const said = await new Promise<string>((resolve) =>
        socket.once('data', (chunk) => resolve(chunk.toString())),
      );
      expect(said).to.equal('+PONG\r\n');
      socket.destroy();
      expect(idle.filter(({ destroyed }) => destroyed)).to.have.length(0);
    } finally {
      for (const socket of idle) socket.destroy();
      await cluster.stop();
    }
  });
});
