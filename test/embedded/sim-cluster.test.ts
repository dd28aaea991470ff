// The simulated cluster for users' tests: the same client, faults by call, virtual time, and the same
// run for the same seed.

import { expect } from 'chai';
import { ClientError } from '../../cli/client/kvd-client.ts';
import { createCluster, type SimulatedCluster } from '../../cli/embedded/sim-cluster.ts';
import { KvError } from '../../runtime/errors.ts';

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof ClientError || error instanceof KvError) return error.code;
    throw error;
  }
  return 'none';
}

describe('simulated cluster', function () {
  this.timeout(60_000);
  let cluster: SimulatedCluster;
  afterEach(() => cluster.stop());

  it('simulated cluster: every call of the client works on it', async () => {
    cluster = await createCluster({ seed: 1 });
    const { client } = cluster;
    await client.put('a b/é', { n: [1] }, { ttlSeconds: 60 });
    expect((await client.get('a b/é'))?.value).to.deep.equal({ n: [1] });
    await client.put('bytes', Uint8Array.from([0, 255]));
    expect((await client.getRaw('bytes'))?.bytes).to.deep.equal(Buffer.from([0, 255]));
    expect(await client.cas('c', { version: 0 }, 1)).to.include({ ok: true, version: 1 });
    expect(await client.cas('c', { value: 2 }, 3)).to.deep.include({ ok: false });
    expect((await client.incr('c', 4)).value).to.equal(5);
    expect(await client.putIfAbsent('c', 1)).to.equal(undefined);
    const etag = (await client.getSerial('c'))?.etag ?? '';
    expect(await client.deleteIf('c', 'h-1-1')).to.equal(false);
    expect(await client.deleteIf('c', etag)).to.equal(true);
    expect(await client.exists('c')).to.equal(false);
    const outcomes = await client.putMany([
      { key: 'm1', value: 1 },
      { key: 'm2', value: 2, ifNotExists: true },
    ]);
    expect(outcomes.map(({ ok }) => ok)).to.deep.equal([true, true]);
    const keys: string[] = [];
    for await (const key of client.list({ pageRows: 2 })) keys.push(key);
    expect(keys).to.deep.equal(['a b/é', 'bytes', 'm1', 'm2']);
    expect(await codeOf(client.incr('m1', 0.5))).to.equal('BAD_REQUEST');
  });

  it('simulated cluster: virtual time passes when the test asks for it, and keys expire by it', async () => {
    cluster = await createCluster({ seed: 2 });
    await cluster.client.put('short', 1, { ttlSeconds: 300 });
    const before = cluster.nowMs;
    await cluster.sleep(299_000);
    expect((await cluster.client.get('short'))?.ttlRemaining).to.be.within(0, 1);
    await cluster.sleep(2000);
    expect(await cluster.client.get('short')).to.equal(undefined);
    expect(cluster.nowMs - before).to.be.within(301_000, 302_000);
  });

  it('simulated cluster: acknowledged writes outlive loss of power on every machine', async () => {
    cluster = await createCluster({ seed: 3 });
    for (let i = 0; i < 10; i += 1) await cluster.client.put(`k${i}`, i);
    for (const node of cluster.nodes) node.losePower();
    expect(cluster.nodes.map(({ isRunning }) => isRunning)).to.deep.equal([false, false, false]);
    expect(await codeOf(cluster.client.get('k1', { deadlineMs: 500 }))).to.equal('UNREACHABLE');
    expect(await Promise.all(cluster.nodes.map((node) => node.start()))).to.deep.equal([
      true,
      true,
      true,
    ]);
    await cluster.settled();
    for (let i = 0; i < 10; i += 1) expect((await cluster.client.get(`k${i}`))?.value).to.equal(i);
  });

  it('simulated cluster: a partition refuses quorums, healing ends that; ALL needs all', async () => {
    cluster = await createCluster({ seed: 4 });
    const { client } = cluster;
    cluster.partition(['n1'], ['n2', 'n3']);
    cluster.partition(['n2'], ['n3']);
    expect(await codeOf(client.getSerial('k', { deadlineMs: 2000 }))).to.be.oneOf([
      'TIMEOUT',
      'UNAVAILABLE',
      'CONTENTION',
    ]);
    cluster.heal();
    await cluster.settled();
    await client.put('k', 1, { level: 'ALL' });
    await cluster.nodes[2]?.stop();
    // Taken for dead after 30 s of silence at the latest, and the last beat may be one round younger.
    await cluster.sleep(33_000);
    expect(await codeOf(client.put('k', 2, { level: 'ALL', deadlineMs: 500 }))).to.equal(
      'UNAVAILABLE',
    );
    expect((await client.put('k', 2)).version).to.equal(2);
  });

  it('simulated cluster: clocks, pauses, slow disks and a lossy network hurt nothing that was acknowledged', async () => {
    cluster = await createCluster({ seed: 6 });
    const [first, second, third] = cluster.nodes;
    first?.moveClock(-400);
    second?.pause(300);
    third?.slowDisk(20);
    cluster.delay('n1', 'n2', 50);
    cluster.lose(0.05);
    const sums = await Promise.all(Array.from({ length: 20 }, () => cluster.client.incr('n')));
    expect(sums.map(({ value }) => value).sort((a, b) => a - b)).to.deep.equal(
      Array.from({ length: 20 }, (_, i) => i + 1),
    );
    cluster.heal();
    expect((await cluster.client.getSerial('n'))?.value).to.equal(20);
  });

  it('simulated cluster: one seed and one test are one run; another seed is another', async () => {
    const run = async (seed: number): Promise<readonly [number, number, string]> => {
      cluster = await createCluster({ seed });
      const { client } = cluster;
      cluster.lose(0.02);
      await Promise.all(
        Array.from({ length: 30 }, (_, i) => client.put(`k${i % 7}`, i)).map((put) =>
          put.catch(() => 0),
        ),
      );
      cluster.nodes[0]?.kill();
      await client.incr('n').catch(() => 0);
      const result = [cluster.seed, cluster.nowMs, cluster.trace] as const;
      cluster.stop();
      return result;
    };
    const first = await run(11);
    expect(await run(11)).to.deep.equal(first);
    expect((await run(12))[2]).to.not.equal(first[2]);
  });

  it('simulated cluster: an abort ends a call that waits, a stop every later one', async () => {
    cluster = await createCluster({ seed: 6 });
    const controller = new AbortController();
    const read = cluster.client.get('k', { signal: controller.signal });
    controller.abort(new KvError('TIMEOUT', { detail: 'enough' }));
    expect(await codeOf(read)).to.equal('TIMEOUT');
    cluster.stop();
    expect(await codeOf(cluster.client.get('k'))).to.equal('DRAINING');
  });

  it('simulated cluster: bad options and unknown nodes are refused by name', async () => {
    cluster = await createCluster({ nodes: 1, seed: 0 });
    for (const options of [
      { nodes: 10 },
      { seed: -1 },
      { latencyMs: -1 },
      { replicationFactor: 4 },
      { nodes: 2, replicationFactor: 3 },
      { replicas: 3 },
      { settings: { nonsense: 1 } },
    ])
      expect(await codeOf(createCluster(options))).to.equal('BAD_REQUEST');
    expect(() => cluster.partition(['n1'], ['n7'])).to.throw(RangeError);
  });
});
