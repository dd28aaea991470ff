// What the log says of requests that end in 5xx, through a socket: the trace id that the client sent,
// and few lines where everything fails.

import { expect } from 'chai';
import { HttpGateway } from '../../actors/gateway/protocol.ts';
import { refTo } from '../../runtime/actor.ts';
import type { LogFields } from '../../runtime/environment.ts';
import { failure } from '../../runtime/errors.ts';
import { send, startCluster, type TestCluster } from '../kit-gateway.ts';

describe('failed requests', () => {
  let cluster: TestCluster;
  const warned: (LogFields | undefined)[] = [];
  const ignored = (): void => undefined;
  const log = {
    ...{ debug: ignored, info: ignored, error: ignored },
    warn: (event: string, fields?: LogFields) => {
      expect(event).to.equal('request.failed');
      warned.push(fields);
    },
  };
  beforeEach(async () => {
    warned.length = 0;
    cluster = await startCluster({ log });
  });
  afterEach(() => cluster.close());

  const trace = '0af7651916cd43dd8448eb211c80319c';
  const get = async (headers: Record<string, string> = {}): Promise<number> =>
    (await send(cluster.port, 'GET', '/api/v1/keys/k', { headers })).status;

  it('failed requests: an answer of 5xx is logged with route, code and trace id, others are not', async () => {
    expect(await get({ traceparent: `00-${trace}-b7ad6b7169203331-01` })).to.equal(404);
    expect(warned).to.deep.equal([]);
    cluster.backend.failing.set('n1', failure('UNAVAILABLE', { required: 2 }));
    const line = { route: 'get', status: 503, code: 'UNAVAILABLE' };
    expect(await get({ traceparent: `00-${trace}-b7ad6b7169203331-01` })).to.equal(503);
    expect(await get({ traceparent: 'no trace' })).to.equal(503);
    expect(warned).to.deep.equal([{ ...line, trace }, line]);
  });

  it('failed requests: where all fail a few lines say so, and how many were left out', async () => {
    cluster.backend.failing.set('n1', failure('TIMEOUT'));
    const sent = 200;
    for (let i = 0; i < sent; i += 1) expect(await get()).to.equal(504);
    const left = warned.reduce((sum, fields) => sum + Number(fields?.['leftOut'] ?? 0), 0);
    expect(warned.length).to.be.within(20, 199);
    expect(warned.length + left).to.be.at.most(sent);
    expect(warned[0]).to.not.have.property('leftOut');
  });

  it('failed requests: a probe that hears no is not a failure', async () => {
    cluster.kernel.ask(refTo(HttpGateway, 'n1'), 'startDraining', {}, 5000, () => undefined);
    expect((await send(cluster.port, 'GET', '/readyz')).status).to.equal(503);
    expect(warned).to.deep.equal([]);
  });
});
