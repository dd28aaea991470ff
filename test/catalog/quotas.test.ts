// Quotas of namespaces: at the limit and one above it, and that nobody else notices.

import { expect } from 'chai';
import { TokenBuckets } from '../../actors/model/token-buckets.ts';
import { UsageTable } from '../../actors/catalog/usage.ts';
import { ClientError } from '../../cli/client/kvd-client.ts';
import { createCluster, type SimulatedCluster } from '../../cli/embedded/sim-cluster.ts';

/** The code of the problem, and the seconds that its answer says. */
async function refusalOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof ClientError) return `${error.code} ${String(error.fields['quota'])}`;
    throw error;
  }
  return 'none';
}

describe('catalog: quotas', function () {
  this.timeout(60_000);
  let cluster: SimulatedCluster;
  const once = { deadlineMs: 40 };

  describe('in a cluster', () => {
    afterEach(() => cluster.stop());

    it('catalog: a full namespace takes no more keys, and room comes with deletes', async () => {
      cluster = await createCluster({ seed: 11, settings: { quotaCountMs: 1_000 } });
      const { client } = cluster;
      await client.namespaces.create('five', { quotas: { keys: 5 } });
      const five = client.inNamespace('five');
      for (let i = 0; i < 4; i += 1) await five.put(`k${i}`, i);
      await cluster.sleep(5_000);
      expect(await refusalOf(five.put('k4', 4, once)), 'the fifth').to.equal('none');
      await cluster.sleep(5_000);
      expect(await refusalOf(five.put('k5', 5, once))).to.equal('QUOTA_EXCEEDED keys');
      expect(await refusalOf(five.incr('n', 1, once))).to.equal('QUOTA_EXCEEDED keys');
      expect((await five.get('k0'))?.value).to.equal(0);
      await five.delete('k0');
      await cluster.sleep(5_000);
      expect(await refusalOf(five.put('k5', 5, once))).to.equal('none');
      expect(await refusalOf(client.put('k5', 5, once)), 'another namespace').to.equal('none');
    });

    it('catalog: bytes are those of keys and values, each copy counted once', async () => {
      cluster = await createCluster({ seed: 12, settings: { quotaCountMs: 1_000 } });
      const { client } = cluster;
      await client.namespaces.create('small', { quotas: { bytes: 1_000 } });
      const small = client.inNamespace('small');
      // Three bytes of key and 496 of value.
      for (const key of ['k-a', 'k-b']) await small.put(key, new Uint8Array(496));
      await cluster.sleep(5_000);
      expect(await refusalOf(small.put('k-c', new Uint8Array(1), once)), '998').to.equal('none');
      await cluster.sleep(5_000);
      expect(await refusalOf(small.put('k-d', new Uint8Array(1), once)), '1002').to.equal(
        'QUOTA_EXCEEDED bytes',
      );
      await client.namespaces.alter('small', { quotas: { bytes: 1_003 } });
      expect(await refusalOf(small.put('k-d', new Uint8Array(1), once))).to.equal('none');
    });

    it('catalog: operations per second: the limit passes, one more does not, a second later again', async () => {
      cluster = await createCluster({ seed: 13, nodes: 1 });
      const { client } = cluster;
      await client.namespaces.create('slow', { quotas: { operationsPerSecond: 10 } });
      const slow = client.inNamespace('slow');
      const burst = async (count: number): Promise<string[]> =>
        Promise.all(Array.from({ length: count }, (_, i) => refusalOf(slow.put(`k${i}`, i, once))));
      expect(new Set(await burst(10))).to.deep.equal(new Set(['none']));
      await cluster.sleep(2_000);
      const outcomes = await burst(11);
      const refused = outcomes.filter((outcome) => outcome !== 'none');
      expect(refused).to.deep.equal(['QUOTA_EXCEEDED operations_per_second']);
      expect(await refusalOf(client.put('k', 1, once)), 'another namespace').to.equal('none');
      await cluster.sleep(2_000);
      expect(await refusalOf(slow.get('k0', once))).to.equal('none');
    });

    it('catalog: pages and batches count, and the nodes share a quota', async () => {
      cluster = await createCluster({ seed: 14 });
      const { client } = cluster;
      await client.namespaces.create('shared', { quotas: { operationsPerSecond: 30 } });
      const shared = client.inNamespace('shared');
      const operations = Array.from({ length: 25 }, (_, i) => ({ key: `k${i}`, value: i }));
      const outcomes = await shared.putMany(operations, once);
      // One node takes the whole batch, and has a third of the quota.
      expect(outcomes.filter(({ ok }) => ok).length).to.equal(10);
      await cluster.sleep(3_000);
      const keys: string[] = [];
      for await (const key of shared.list({ pageRows: 2 })) keys.push(key);
      expect(keys).to.have.length(10);
    });
  });

  it('catalog: a bucket gives its share of a second at once and then by time', () => {
    const buckets = new TokenBuckets();
    const share = { perSecond: 30, nodes: 3 };
    expect(buckets.take(1, share, 20, 0)).to.deep.equal({ granted: 10, retryMs: 0 });
    expect(buckets.take(1, share, 1, 0)).to.deep.equal({ granted: 0, retryMs: 100 });
    expect(buckets.take(1, share, 5, 99).granted).to.equal(0);
    expect(buckets.take(1, share, 5, 100).granted).to.equal(1);
    expect(buckets.take(1, share, 50, 60_000).granted).to.equal(10);
    expect(buckets.take(2, share, 50, 60_000).granted).to.equal(10);
    // A clock that goes back gives nothing.
    expect(buckets.take(2, share, 1, 0).granted).to.equal(0);
    // Less than one a second is still one after a while.
    const rare = { perSecond: 1, nodes: 4 };
    expect(buckets.take(3, rare, 1, 0).granted).to.equal(1);
    expect(buckets.take(3, rare, 1, 3_999).granted).to.equal(0);
    expect(buckets.take(3, rare, 1, 4_000 + 3_999).granted).to.equal(1);
  });

  it('catalog: a total is the sum of the nodes by the copies; silent nodes are average ones', () => {
    const table = new UsageTable();
    expect(table.total(1, 4, 2)).to.equal(undefined);
    table.heard('a', [{ id: 1, keys: 10, bytes: 100 }]);
    expect(table.total(1, 4, 2)).to.deep.equal({ id: 1, keys: 20, bytes: 200 });
    table.heard('b', [{ id: 1, keys: 20, bytes: 100 }]);
    table.heard('b', [{ id: 1, keys: 30, bytes: 300 }]);
    expect(table.total(1, 4, 2)).to.deep.equal({ id: 1, keys: 40, bytes: 400 });
    expect(table.total(2, 4, 2)).to.equal(undefined);
  });
});
