// Users in a whole cluster, simulated: made, used, revoked while a node is cut off, known after all
// nodes lost power, and the same again from the same seed.

import { expect } from 'chai';
import type { KvdClient } from '../../cli/client/kvd-client.ts';
import { createCluster, type SimulatedCluster } from '../../cli/embedded/sim-cluster.ts';
import { codeOf } from '../kit-client.ts';

describe('security: users of a cluster', function () {
  this.timeout(60_000);
  let cluster: SimulatedCluster;
  afterEach(() => cluster.stop());

  /** A user who may write in `default`: his token and its id. */
  async function userOf(name: string): Promise<{ id: string; token: string }> {
    const { token } = await cluster.client.users.create(name, { roles: { default: 'write' } });
    return token;
  }

  async function play(seed: number): Promise<readonly string[]> {
    cluster = await createCluster({ seed, hasUsers: true, settings: { replicationFactor: 3 } });
    const { client } = cluster;
    const { id, token } = await userOf('ada');
    const codes: string[] = [];
    const see = async (of: KvdClient, level: 'ONE' | 'QUORUM'): Promise<void> => {
      codes.push(await codeOf(of.put('k', codes.length, { level, deadlineMs: 2_000 })));
    };
    const atN3 = await cluster.connect(token, 'n3');
    const atN1 = await cluster.connect(token, 'n1');
    await see(atN3, 'QUORUM');
    codes.push(await codeOf(atN3.namespaces.create('more')));
    cluster.partition(['n3'], ['n1', 'n2']);
    await cluster.sleep(20_000);
    // Through the node that is cut off nothing is decided: then once more, through another one.
    while ((await codeOf(client.users.revoke('ada', id))) === 'TIMEOUT');
    await see(atN1, 'QUORUM');
    cluster.heal();
    // Gossip says it within a few rounds of a second.
    await cluster.sleep(10_000);
    for (let i = 0; i < 3; i += 1) await see(atN3, 'ONE');
    for (const node of cluster.nodes) node.losePower();
    for (const node of cluster.nodes) await node.start();
    await cluster.settled();
    for (let i = 0; i < 3; i += 1) await see(atN3, 'ONE');
    expect((await client.get('k'))?.value).to.equal(0);
    return [...codes, token, cluster.trace];
  }

  it('users: a token that is revoked counts at no node that has heard, also after power is lost; a seed replays it', async () => {
    const first = await play(31);
    expect(first.slice(0, -2)).to.deep.equal([
      ...['none', 'FORBIDDEN', 'UNAUTHORIZED'],
      ...Array<string>(6).fill('UNAUTHORIZED'),
    ]);
    cluster.stop();
    expect(await play(31)).to.deep.equal(first);
  });

  it('users: tokens of two clusters differ', async () => {
    cluster = await createCluster({ seed: 32, hasUsers: true, nodes: 1 });
    const one = await userOf('ada');
    cluster.stop();
    cluster = await createCluster({ seed: 33, hasUsers: true, nodes: 1 });
    expect((await userOf('ada')).token).to.not.equal(one.token);
  });
});
