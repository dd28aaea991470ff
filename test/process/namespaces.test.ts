// Namespaces over real processes: made at one node, used at others while one dies by kill -9, dropped
// while it is away, and all of it known after every node was killed.

import { expect } from 'chai';
import { ClientError, connect, type KvdClient } from '../../cli/client/kvd-client.ts';
import { DevCluster } from './dev-cluster.ts';

const rounds = 3;
const keysPerRound = 40;

describe('process: namespaces', function () {
  this.timeout(180_000);
  let cluster: DevCluster;

  before(async () => {
    cluster = await DevCluster.start({ nodes: 3, extra: ['--set', 'deadAfterMs=2000'] });
  });
  after(async () => {
    await cluster.stop();
    cluster.remove();
  });

  async function withClient<T>(work: (client: KvdClient) => Promise<T>): Promise<T> {
    const client = await connect(cluster.endpoints);
    try {
      return await work(client);
    } finally {
      client.close();
    }
  }

  /** The same once more where the answer was lost with a node: nobody else writes the key. */
  async function putSurely(client: KvdClient, key: string, value: number): Promise<void> {
    for (;;)
      try {
        await client.put(key, value);
        return;
      } catch (error) {
        if (!(error instanceof ClientError) || !error.isOutcomeUnknown) throw error;
      }
  }

  async function keysOf(client: KvdClient): Promise<number> {
    let count = 0;
    for await (const key of client.list()) count += key === '' ? 0 : 1;
    return count;
  }

  it('process: namespaces are made, filled, dropped and made again while nodes die', async () => {
    await withClient(async ({ namespaces }) => {
      await namespaces.create('lasting', { owner: 'test', maxTtlSeconds: 3600 });
    });
    const ids = new Set<number>();
    for (let round = 0; round < rounds; round += 1) {
      await withClient(async (client) => {
        const { id } = await client.namespaces.create('passing');
        expect(ids.has(id)).to.equal(false);
        ids.add(id);
        const [lasting, passing] = [client.inNamespace('lasting'), client.inNamespace('passing')];
        expect(await keysOf(passing), 'a name that begins again is empty').to.equal(0);
        for (let i = 0; i < keysPerRound; i += 1) {
          if (i === keysPerRound / 2 && round === 0) cluster.kill('n3');
          for (const each of [lasting, passing]) await putSurely(each, `r${round}-${i}`, i);
        }
        expect(await keysOf(passing)).to.equal(keysPerRound);
        if (round < rounds - 1) await client.namespaces.drop('passing');
      });
    }
    await cluster.killAll();
    await cluster.launch();
    await withClient(async (client) => {
      const names = (await client.namespaces.list()).map(({ name }) => name);
      expect(names).to.deep.equal(['default', 'lasting', 'passing']);
      expect((await client.namespaces.get('lasting'))?.owner).to.equal('test');
      expect(await keysOf(client.inNamespace('lasting'))).to.equal(rounds * keysPerRound);
      expect(await keysOf(client.inNamespace('passing'))).to.equal(keysPerRound);
      expect(await keysOf(client)).to.equal(0);
    });
  });
});
