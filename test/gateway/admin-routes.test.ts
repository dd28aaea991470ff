// Care of the cluster over HTTP: where a repair runs, who tells of it, what refuses to flush.

import { expect } from 'chai';
import { failure } from '../../runtime/errors.ts';
import { problemOf, send, sendJson, startCluster, type TestCluster } from '../kit-gateway.ts';

const nodes = ['n1', 'n2', 'n3'];
const repairPath = '/api/v1/admin/repair';

describe('admin routes', () => {
  let cluster: TestCluster;
  beforeEach(async () => {
    cluster = await startCluster({ nodes });
  });
  afterEach(() => cluster.close());

  const repair = (body: unknown): ReturnType<typeof send> =>
    sendJson(cluster.port, 'POST', repairPath, JSON.stringify(body));
  const report = {
    id: 1,
    started_ms: 1_700_000_000_000,
    took_ms: 3,
    running: true,
    phase: 'sum up',
    sets_wanted: 2,
    sets: [{ set: 'n1,n2,n3', outcome: 'complete', why: '' }],
    leaves_differing: 1,
    keys_compared: 2,
    records_scanned: 3,
    records_sent: 4,
    bytes_sent: 5,
  };

  it('admin routes: a repair is run by the node that is asked, and every node tells of its own', async () => {
    const none = await send(cluster.port, 'GET', repairPath);
    expect(JSON.parse(none.text)).to.deep.equal({
      complete: true,
      nodes: nodes.map((node) => ({ node, repair: null })),
    });
    const begun = await repair({ set: 'n3,n1,n2', full: true });
    expect(begun.status).to.equal(202);
    expect(JSON.parse(begun.text)).to.deep.equal({ node: 'n1', repair: report });
    expect(cluster.backend.repairs, 'members in order').to.deep.equal([
      { node: 'n1', set: 'n1,n2,n3', isFull: true },
    ]);
    const told = await send(cluster.port, 'GET', `${repairPath}?nodes=n2,n1`);
    expect(JSON.parse(told.text)).to.deep.equal({
      complete: true,
      nodes: [
        { node: 'n2', repair: null },
        { node: 'n1', repair: report },
      ],
    });
    await repair({});
    expect(cluster.backend.repairs[1]).to.deep.equal({ node: 'n1', set: undefined, isFull: false });
  });

  it('admin routes: with one replica of each key there is nothing to repair, and no repairer', async () => {
    await cluster.close();
    cluster = await startCluster({ nodes, replicationFactor: 1 });
    const { status, text } = await repair({ full: true });
    expect(status).to.equal(202);
    const { node, repair: said } = JSON.parse(text) as { node: string; repair: object };
    expect(node).to.equal('n1');
    expect(said).to.include({ running: false, sets_wanted: 0, records_sent: 0 });
    expect(Object.keys(said)).to.deep.equal(Object.keys(report));
    expect(cluster.backend.repairs).to.deep.equal([]);
    const told = await send(cluster.port, 'GET', repairPath);
    expect(JSON.parse(told.text)).to.deep.equal({
      complete: true,
      nodes: nodes.map((name) => ({ node: name, repair: null })),
    });
    expect((await repair({ set: 1 })).status).to.equal(400);
  });

  it('admin routes: what a repairer refuses is the answer', async () => {
    cluster.backend.failing.set('n1', failure('BAD_REQUEST', { field: 'set', detail: 'no set' }));
    const answer = await repair({ set: 'n9' });
    expect(problemOf(answer)).to.include({ status: 400, code: 'BAD_REQUEST', field: 'set' });
  });

  it('admin routes: a flush goes to all nodes or those named, and each one answers', async () => {
    const path = '/api/v1/admin/flush';
    const all = await sendJson(cluster.port, 'POST', path, '{}');
    expect(JSON.parse(all.text)).to.deep.equal({
      complete: true,
      nodes: nodes.map((node) => ({ node, tables: 7 })),
    });
    cluster.backend.failing.set('n2', failure('DISK_FULL', { detail: 'no space' }));
    const some = await sendJson(cluster.port, 'POST', path, '{"nodes":["n1","n2"]}');
    expect(JSON.parse(some.text)).to.deep.equal({
      complete: false,
      nodes: [
        { node: 'n1', tables: 7 },
        { node: 'n2', error: { code: 'DISK_FULL', detail: 'no space' } },
      ],
    });
    const stranger = await sendJson(cluster.port, 'POST', path, '{"nodes":["n4"]}');
    expect(problemOf(stranger)).to.include({ status: 400, field: 'nodes' });
  });
});
