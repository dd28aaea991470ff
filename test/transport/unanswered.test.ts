// Requests that the gateway fails on, or does not come to, are told of in the log: with the trace of
// the client, and seldom.

import { expect } from 'chai';
import { failure, type Failure } from '../../runtime/errors.ts';
import { HttpEdge } from '../../transport/edge-http.ts';
import { ManualHost } from '../kit.ts';
import { send } from '../kit-gateway.ts';

const trace = '0af7651916cd43dd8448eb211c80319c';
const headers = { traceparent: `00-${trace}-b7ad6b7169203331-01` };

describe('unanswered requests', () => {
  let edge: HttpEdge;
  let port: number;
  let problem: Failure;
  let host: ManualHost;
  const fail = async (how = {}): Promise<number> =>
    (await send(port, 'GET', '/api/v1/keys/k', how)).status;

  beforeEach(async () => {
    host = new ManualHost();
    problem = failure('ACTOR_RESTARTED', { actor: 'HttpGateway' });
    edge = new HttpEdge({
      ...{ node: 'n1', host: '127.0.0.1', port: 0, reports: host },
      ask: (_request, _timeoutMs, _trace, done) => done(problem, undefined),
    });
    ({ port } = await edge.listen());
  });
  afterEach(() => edge.close());

  it('unanswered: a line says the route, the code and the trace, then one a second with how many were left out', async () => {
    const status = await fail({ headers });
    expect(status).to.be.at.least(500);
    await fail();
    await fail();
    const line = { route: 'get', status, code: 'ACTOR_RESTARTED' };
    expect(host.logged).to.deep.equal([
      { level: 'warn', event: 'request.failed', fields: { ...line, trace } },
    ]);
    host.nowMs += 1_000;
    await fail();
    expect(host.logged.slice(1)).to.deep.equal([
      { level: 'warn', event: 'request.failed', fields: { ...line, leftOut: 2 } },
    ]);
  });

  it('unanswered: a refusal that is no failure of the server is not told of', async () => {
    problem = failure('OVERLOADED', { actor: 'HttpGateway' });
    expect(await fail()).to.equal(429);
    expect(host.logged).to.deep.equal([]);
  });
});
