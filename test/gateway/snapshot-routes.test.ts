// Snapshots over HTTP: which nodes are asked, what one of them refuses, what is read of one.

import { expect } from 'chai';
import { failure } from '../../runtime/errors.ts';
import {
  nowMs,
  problemOf,
  send,
  sendJson,
  startCluster,
  type TestCluster,
} from '../kit-gateway.ts';

const path = '/api/v1/admin/snapshots';
const nodes = ['n1', 'n2', 'n3'];

describe('snapshot routes', () => {
  let cluster: TestCluster;
  beforeEach(async () => {
    cluster = await startCluster({ nodes });
  });
  afterEach(() => cluster.close());

  const create = (body: unknown): ReturnType<typeof send> =>
    sendJson(cluster.port, 'POST', path, JSON.stringify(body));
  const summary = { created_ms: nowMs, tables: 1, records: 2, bytes: 30, max_hlc: 4 };

  it('snapshot routes: one is made, listed and deleted on all nodes, or on those named', async () => {
    const made = await create({ name: 'a' });
    expect(made.status).to.equal(200);
    expect(JSON.parse(made.text)).to.deep.equal({
      name: 'a',
      complete: true,
      nodes: nodes.map((node) => ({ node, name: 'a', ...summary })),
    });
    await create({ name: 'b', nodes: ['n2'] });
    const listed = await send(cluster.port, 'GET', `${path}?nodes=n2,n3`);
    expect(JSON.parse(listed.text)).to.deep.equal({
      complete: true,
      nodes: [
        {
          node: 'n2',
          snapshots: [
            { name: 'a', ...summary },
            { name: 'b', ...summary },
          ],
        },
        { node: 'n3', snapshots: [{ name: 'a', ...summary }] },
      ],
    });
    const deleted = await send(cluster.port, 'DELETE', `${path}/b`);
    expect(JSON.parse(deleted.text)).to.deep.equal({
      name: 'b',
      complete: true,
      nodes: nodes.map((node) => ({ node, deleted: node === 'n2' })),
    });
    const again = await send(cluster.port, 'DELETE', `${path}/b`);
    expect(problemOf(again)).to.include({ code: 'NOT_FOUND', detail: 'there is no snapshot b' });
  });

  it('snapshot routes: a node that refuses does not hide what the others did', async () => {
    cluster.backend.failing.set('n3', failure('DISK_FULL', { detail: 'no space' }));
    const made = await create({ name: 'a' });
    expect(made.status).to.equal(200);
    const document = JSON.parse(made.text) as { complete: boolean; nodes: { error?: object }[] };
    expect(document.complete).to.equal(false);
    expect(document.nodes[2]).to.have.nested.property('error.code', 'DISK_FULL');
    expect(document.nodes[0]).to.include({ tables: 1 });
    const alone = await create({ name: 'b', nodes: ['n3'] });
    expect(problemOf(alone)).to.include({ status: 503, code: 'DISK_FULL', detail: 'no space' });
  });

  it('snapshot routes: manifests and parts of tables come from the node that is asked', async () => {
    const manifest = await send(cluster.port, 'GET', `${path}/a`);
    expect(manifest.text).to.equal('manifest of a');
    const part = await send(cluster.port, 'GET', `${path}/a/tables/1/23?offset=2&length=3`);
    expect(part.text).to.equal('1.2');
    expect(part.headers['x-total-bytes']).to.equal('6');
    expect(part.headers['content-type']).to.equal('application/octet-stream');
  });

  const refused: readonly (readonly [string, string, string, unknown?])[] = [
    ['DELETE', `${path}/a.b`, 'name: expected 1 to 64 letters'],
    [
      'DELETE',
      `${path}/a?nodes=n9`,
      'nodes: expected members of the cluster, each once: n1, n2, n3',
    ],
    ['GET', `${path}?nodes=n1,n1`, 'nodes: expected members'],
    ['GET', `${path}/a/tables/x/1`, 'shard: expected a whole number'],
    ['GET', `${path}/a/tables/0/1?offset=-1`, 'offset: expected a whole number'],
    ['GET', `${path}/a/tables/0/1?length=1048577`, 'length: expected a whole number up to 1048576'],
    ['POST', path, 'name: expected 1 to 64 letters', { name: '../a' }],
    ['POST', path, 'nodes: expected members', { name: 'a', nodes: [] }],
  ];
  for (const [method, url, detail, body] of refused)
    it(`snapshot routes: refused: ${method} ${url} ${JSON.stringify(body ?? null)}`, async () => {
      const answer =
        body === undefined
          ? await send(cluster.port, method, url)
          : await sendJson(cluster.port, method, url, JSON.stringify(body));
      expect(answer.status).to.equal(400);
      expect(problemOf(answer).detail).to.contain(detail);
    });
});
