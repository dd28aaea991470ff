// Where requests go in a cluster of three, and what happens when nodes are gone.

import { expect } from 'chai';
import { utf8 } from '../../runtime/bytes.ts';
import { failure } from '../../runtime/errors.ts';
import { storageKey } from '../../actors/model/record.ts';
import { hashKey } from '../../actors/model/token.ts';
import {
  type Answer,
  problemOf,
  send,
  sendJson,
  startCluster,
  type TestCluster,
} from '../kit-gateway.ts';

const nodes = ['n1', 'n2', 'n3'];

describe('http gateway in a cluster', () => {
  let cluster: TestCluster;
  const get = (key: string, headers = {}): Promise<Answer> =>
    send(cluster.port, 'GET', `/api/v1/keys/${key}`, { headers });
  const put = (key: string, headers = {}): Promise<Answer> =>
    sendJson(cluster.port, 'PUT', `/api/v1/keys/${key}`, '{"value":1}', headers);

  const replicasOf = (key: string): readonly string[] =>
    cluster.ring.replicasOf(hashKey(storageKey(0, utf8.encode(key))).token);

  /** Some key whose replicas are these, in this order. */
  function keyAt(...replicas: string[]): string {
    for (let i = 0; ; i += 1) if (replicasOf(`k${i}`).join() === replicas.join()) return `k${i}`;
  }

  const asked = (): string[] => cluster.backend.seen.map(({ node }) => node);

  beforeEach(async () => {
    cluster = await startCluster({ nodes, replicationFactor: 2 });
  });
  afterEach(async () => {
    await cluster.close();
  });

  it('routing: a node that holds the key coordinates itself, also as second replica', async () => {
    expect((await put(keyAt('n1', 'n2'))).headers['x-coordinator']).to.equal('n1');
    expect((await put(keyAt('n2', 'n1'))).headers['x-coordinator']).to.equal('n1');
    expect(asked()).to.deep.equal(['n1', 'n1']);
  });

  it('routing: any other key goes to its first replica that is alive', async () => {
    const key = keyAt('n2', 'n3');
    expect((await put(key)).headers['x-coordinator']).to.equal('n2');
    cluster.setPeers({ n2: 'suspected' });
    expect((await put(key)).headers['x-coordinator']).to.equal('n3');
    cluster.setPeers({ n2: 'suspected', n3: 'dead' });
    expect((await put(key)).headers['x-coordinator']).to.equal('n2');
  });

  it('routing: with no replica alive nothing is sent and 503 says what was needed', async () => {
    cluster.setPeers({ n2: 'dead', n3: 'dead' });
    const answer = await put(keyAt('n2', 'n3'));
    expect(answer.status).to.equal(503);
    expect(problemOf(answer)).to.include({ code: 'UNAVAILABLE', required: 2, alive: 0 });
    expect(answer.headers).to.include({ 'x-coordinator': 'n1', 'retry-after': '1' });
    expect(asked()).to.deep.equal([]);
  });

  it('routing: at ANY a write ends at this node where no replica is left, a read does not', async () => {
    cluster.setPeers({ n2: 'dead', n3: 'dead' });
    const key = keyAt('n2', 'n3');
    const levels = { 'consistency-level': 'ANY' };
    expect((await put(key, levels)).status).to.equal(200);
    expect(asked()).to.deep.equal(['n1']);
    expect((await get(key, levels)).status).to.equal(503);
  });

  it('routing: a link that takes nothing sends reads and writes to the next replica', async () => {
    cluster.cut.add('n2');
    const key = keyAt('n2', 'n3');
    expect((await put(key)).headers['x-coordinator']).to.equal('n3');
    expect((await get(key)).headers['x-coordinator']).to.equal('n3');
  });

  it('routing: a read goes on after any trouble of a coordinator', async () => {
    const key = keyAt('n2', 'n3');
    for (const code of ['UNREACHABLE', 'ACTOR_RESTARTED', 'DRAINING', 'DISK_FAILED'] as const) {
      cluster.backend.failing.set('n2', failure(code));
      const answer = await get(key);
      expect([answer.status, answer.headers['x-coordinator']], code).to.deep.equal([404, 'n3']);
    }
    expect(asked()).to.deep.equal(['n2', 'n3', 'n2', 'n3', 'n2', 'n3', 'n2', 'n3']);
  });

  it('routing: a write goes on only where nothing can have happened', async () => {
    const key = keyAt('n2', 'n3');
    cluster.backend.failing.set('n2', failure('DRAINING'));
    expect((await put(key)).status).to.equal(200);
    expect(asked()).to.deep.equal(['n2', 'n3']);
    for (const code of ['UNREACHABLE', 'ACTOR_RESTARTED'] as const) {
      cluster.backend.seen.length = 0;
      cluster.backend.failing.set('n2', failure(code, { node: 'n2' }));
      const answer = await put(key);
      expect([answer.status, problemOf(answer).code]).to.deep.equal([504, 'UNKNOWN_OUTCOME']);
      expect(problemOf(answer).detail).to.contain('node n2 was lost');
      expect(asked()).to.deep.equal(['n2']);
    }
  });

  it("routing: an overload of the coordinator of this node is the client's to wait for", async () => {
    cluster.backend.failing.set('n1', failure('OVERLOADED'));
    const answer = await put(keyAt('n1', 'n2'));
    expect([answer.status, problemOf(answer).code]).to.deep.equal([429, 'OVERLOADED']);
    expect(answer.headers['retry-after']).to.equal('1');
    expect(asked()).to.deep.equal(['n1']);
  });

  it('routing: a read that nobody answers is UNAVAILABLE, not unknown', async () => {
    for (const node of ['n2', 'n3']) cluster.backend.failing.set(node, failure('UNREACHABLE'));
    const answer = await get(keyAt('n2', 'n3'));
    expect([answer.status, problemOf(answer).code]).to.deep.equal([503, 'UNAVAILABLE']);
  });

  it('routing: keys of one batch go each its own way', async () => {
    const names = [keyAt('n1', 'n2'), keyAt('n2', 'n3'), keyAt('n3', 'n2')];
    const body = JSON.stringify({ operations: names.map((key) => ({ key, value: key })) });
    const answer = await sendJson(cluster.port, 'POST', '/api/v1/batch/put', body);
    expect((JSON.parse(answer.text) as { success_count: number }).success_count).to.equal(3);
    expect(asked().sort()).to.deep.equal(nodes);
  });

  it('routing: before the failure detector has spoken the node is not ready', async () => {
    const early = await startCluster({ nodes, tellsPeers: false });
    const answer = await send(early.port, 'GET', '/readyz');
    expect([answer.status, problemOf(answer).detail]).to.deep.equal([503, 'this node is starting']);
    early.setPeers({});
    expect((await send(early.port, 'GET', '/readyz')).status).to.equal(200);
    await early.close();
  });

  it('status: every node has a row, and keys are counted once', async () => {
    const answer = await send(cluster.port, 'GET', '/api/v1/admin/cluster/status');
    const status = JSON.parse(answer.text) as Record<string, unknown> & { nodes: unknown[] };
    expect(status['nodes'][0]).to.deep.equal({
      node_id: 'n1',
      address: '127.0.0.1:7000',
      internode_port: 7002,
      dc: 'dc1',
      rack: 'r1',
      status: 'alive',
      role: 'member',
      primary_share: 0.208,
      keys_count: 100,
      memory_used_mb: 3,
      disk_used_mb: 5,
      phi: 0.25,
      shards: 2,
      generation: 5,
    });
    expect(status).to.deep.include({
      total_keys: Math.round((100 + 101 + 102) / 2),
      total_keys_estimate: true,
      replication_factor: 2,
      epoch: 1,
      consistency: { read: 'QUORUM', write: 'QUORUM' },
    });
    expect(status.nodes.length).to.equal(3);
  });

  it('ring: members, virtual nodes and shares that add up to the replication factor', async () => {
    const ring = JSON.parse((await send(cluster.port, 'GET', '/api/v1/ring')).text) as {
      members: string[];
      virtual_nodes: number;
      replication_factor: number;
      nodes: { share: number; address: string }[];
    };
    expect(ring).to.deep.include({ members: nodes, virtual_nodes: 16, replication_factor: 2 });
    expect(ring.nodes.map(({ address }) => address)).to.deep.equal([
      '127.0.0.1:7000',
      '127.0.0.1:7010',
      '127.0.0.1:7020',
    ]);
    expect(ring.nodes.reduce((sum, { share }) => sum + share, 0)).to.be.closeTo(2, 0.001);
  });
});
