// Namespaces in a whole cluster, simulated: created, used, changed and dropped through any node, and
// what nodes that missed it do.

import { expect } from 'chai';
import type { KvdClient } from '../../cli/client/kvd-client.ts';
import { createCluster, type SimulatedCluster } from '../../cli/embedded/sim-cluster.ts';
import { codeOf } from '../kit-client.ts';

async function keysOf(client: KvdClient): Promise<string[]> {
  const keys: string[] = [];
  for await (const key of client.list()) keys.push(key);
  return keys;
}

describe('catalog: a cluster', function () {
  this.timeout(60_000);
  let cluster: SimulatedCluster;
  afterEach(() => cluster.stop());

  it('catalog: a namespace is created, shown, altered and dropped through any node', async () => {
    cluster = await createCluster({ seed: 1 });
    const { namespaces } = cluster.client;
    expect((await namespaces.list()).map(({ name, id }) => [name, id])).to.deep.equal([
      ['default', 0],
    ]);
    const made = await namespaces.create('orders', { owner: 'shop', quotas: { keys: 7 } });
    expect(made).to.deep.include({ name: 'orders', id: 1, owner: 'shop', conflicts: 'lww' });
    expect(made.quotas).to.deep.equal({ bytes: 0, keys: 7, operationsPerSecond: 0 });
    expect(await codeOf(namespaces.create('orders'))).to.equal('CONFLICT');
    const altered = await namespaces.alter('orders', { maxTtlSeconds: 60 });
    expect(altered).to.deep.include({ owner: 'shop', maxTtlSeconds: 60 });
    await namespaces.drop('orders');
    expect(await namespaces.get('orders')).to.equal(undefined);
    expect(await codeOf(namespaces.drop('orders'))).to.equal('NO_SUCH_NAMESPACE');
    expect(await codeOf(namespaces.drop('default'))).to.equal('CONFLICT');
    expect(await namespaces.create('s', { conflicts: 'siblings' })).to.include({
      conflicts: 'siblings',
    });
    expect(await codeOf(namespaces.alter('s', { conflicts: 'lww' }))).to.equal('CONFLICT');
    expect(await codeOf(namespaces.create('a/b'))).to.equal('BAD_REQUEST');
  });

  it('catalog: keys of namespaces are apart in gets, lists, scans, counters and batches', async () => {
    cluster = await createCluster({ seed: 2 });
    const { client } = cluster;
    const [a, b] = [client.inNamespace('a'), client.inNamespace('b')];
    expect(await codeOf(a.put('k', 1))).to.equal('NO_SUCH_NAMESPACE');
    await client.namespaces.create('a');
    await client.namespaces.create('b');
    for (const [each, value] of [
      [client, 'd'],
      [a, 'a'],
      [b, 'b'],
    ] as const)
      await each.put('k', value);
    await a.putMany([{ key: 'only-a', value: 1 }]);
    await b.incr('n', 5);
    for (const [each, value] of [
      [client, 'd'],
      [a, 'a'],
      [b, 'b'],
    ] as const)
      expect((await each.get('k'))?.value).to.equal(value);
    expect(await keysOf(client)).to.deep.equal(['k']);
    expect(await keysOf(a)).to.deep.equal(['k', 'only-a']);
    expect(await keysOf(b)).to.deep.equal(['k', 'n']);
    expect((await a.incr('n', 1)).value).to.equal(1);
    expect(await b.delete('k')).to.equal(true);
    expect((await a.get('k'))?.value).to.equal('a');
  });

  it('catalog: what is dropped is out of reach, and its name begins empty again', async () => {
    cluster = await createCluster({ seed: 3 });
    const { client } = cluster;
    const a = client.inNamespace('a');
    await client.namespaces.create('a');
    for (let i = 0; i < 9; i += 1) await a.put(`k${i}`, i);
    await a.incr('n', 3);
    await client.namespaces.drop('a');
    for (let i = 0; i < 9; i += 1)
      expect(await codeOf(a.get(`k${i}`))).to.equal('NO_SUCH_NAMESPACE');
    expect(await codeOf(a.put('k', 1))).to.equal('NO_SUCH_NAMESPACE');
    expect((await client.namespaces.create('a')).id).to.equal(2);
    expect(await keysOf(a)).to.deep.equal([]);
    expect((await a.incr('n', 1)).value).to.equal(1);
  });

  it('catalog: a node that was cut off neither serves what was dropped nor loses what is new', async () => {
    cluster = await createCluster({ seed: 4 });
    const { client } = cluster;
    const a = client.inNamespace('a');
    await client.namespaces.create('a');
    await a.put('k', 'old');
    cluster.partition(['n3'], ['n1', 'n2']);
    await cluster.sleep(30_000);
    await client.namespaces.drop('a');
    await client.namespaces.create('a');
    cluster.heal();
    // Through all nodes in turn, n3 with what it knew among them.
    for (let i = 0; i < 6; i += 1) expect(await a.get('k')).to.equal(undefined);
    for (let i = 0; i < 6; i += 1) await a.put(`new-${i}`, i);
    await cluster.sleep(5_000);
    for (let i = 0; i < 6; i += 1) expect((await a.get(`new-${i}`))?.value).to.equal(i);
    expect(await keysOf(a)).to.have.length(6);
  });

  it('catalog: nodes know their namespaces after all of them lost power', async () => {
    cluster = await createCluster({ seed: 5 });
    const { client } = cluster;
    const a = client.inNamespace('a');
    await client.namespaces.create('a', { owner: 'me' });
    await a.put('k', 1);
    for (const node of cluster.nodes) node.losePower();
    for (const node of cluster.nodes) await node.start();
    await cluster.settled();
    expect((await a.get('k'))?.value).to.equal(1);
    expect((await client.namespaces.get('a'))?.owner).to.equal('me');
  });

  it('catalog: concurrent creations of one name give one namespace, and epochs do not meet', async () => {
    cluster = await createCluster({ seed: 6 });
    const { namespaces } = cluster.client;
    const names = ['x', 'x', 'x', 'y', 'z', 'z'];
    const codes = await Promise.all(names.map((name) => codeOf(namespaces.create(name))));
    expect(codes.filter((code) => code === 'none')).to.have.length(3);
    expect(codes.filter((code) => code === 'CONFLICT')).to.have.length(3);
    const ids = (await namespaces.list()).map(({ id }) => id);
    expect(ids).to.deep.equal([0, 1, 2, 3]);
  });

  it('catalog: a node that starts without its peers knows its last catalog', async () => {
    cluster = await createCluster({ seed: 7 });
    const { client } = cluster;
    const a = client.inNamespace('a');
    const b = client.inNamespace('b');
    await client.namespaces.create('a');
    await client.namespaces.create('b');
    await a.put('k', 1, { level: 'ALL' });
    await client.namespaces.drop('b');
    await cluster.sleep(3_000);
    const [first] = cluster.nodes;
    for (const node of cluster.nodes) node.losePower();
    await first?.start();
    await cluster.sleep(5_000);
    expect((await a.get('k', { level: 'ONE' }))?.value).to.equal(1);
    expect(await codeOf(a.put('k', 2, { deadlineMs: 900 }))).to.equal('UNAVAILABLE');
    // What it does not know it cannot deny while nobody can be asked.
    expect(await codeOf(b.get('k', { level: 'ONE', deadlineMs: 900 }))).to.be.oneOf([
      'UNAVAILABLE',
      'UNREACHABLE',
    ]);
  });

  it('catalog: a change without a quorum is refused, and takes effect nowhere', async () => {
    cluster = await createCluster({ seed: 8 });
    const { client } = cluster;
    for (const node of cluster.nodes.slice(1)) node.kill();
    await cluster.sleep(30_000);
    const outcome = await codeOf(client.namespaces.create('alone'));
    expect(outcome).to.be.oneOf(['UNAVAILABLE', 'UNREACHABLE', 'TIMEOUT']);
    for (const node of cluster.nodes.slice(1)) await node.start();
    await cluster.settled();
    expect((await client.namespaces.list()).map(({ name }) => name)).to.deep.equal(['default']);
  });
});
