// Logging in is required, and nobody can: a node says so once, as soon as a majority has told it that there
// is no administrator, and not before.

import { expect } from 'chai';
import type { NodeSettings } from '../../actors/node/plan-settings.ts';
import { defaultTunables } from '../../actors/node/settings.ts';
import { kvdCodec, kvdProgram, sharedCodecs } from '../../sim/kvd-program.ts';
import { SimCluster } from '../../sim/cluster.ts';
import { World } from '../../sim/world.ts';
import { mintToken, tokenBytes } from '../../runtime/access-token.ts';
import { quickNetwork } from '../sim/small-cluster.ts';

const names = ['n1', 'n2', 'n3'];
const { hash } = mintToken(new Uint8Array(tokenBytes).fill(7));

describe('catalog: no administrator', () => {
  const clusterOf = (access: NodeSettings['access']): SimCluster =>
    new SimCluster({
      world: new World({ seed: 1 }),
      names,
      program: kvdProgram({
        names,
        shards: 1,
        durability: 'group',
        tunables: { ...defaultTunables(), replicationFactor: 3, catalogRefreshMs: 1_000 },
        access,
      }),
      codec: kvdCodec(),
      codecs: sharedCodecs(),
      network: quickNetwork,
    });
  /** Nodes that have said so, once for each time. */
  const said = ({ log }: SimCluster): string[] =>
    log
      .last(10_000)
      .filter((line) => line.includes('access.no-administrator'))
      .map((line) => line.split(' ')[1] ?? '')
      .sort();

  it('catalog: each node says once that nobody can log in', async () => {
    const cluster = clusterOf({ isRequired: true });
    await cluster.world.run(async () => {
      await cluster.startAll();
      await cluster.world.sleep(20_000);
    });
    expect(said(cluster)).to.deep.equal(names);
  });

  it('catalog: without a majority a node cannot know, and does not say it', async () => {
    const cluster = clusterOf({ isRequired: true });
    await cluster.world.run(async () => {
      await cluster.start('n1');
      await cluster.world.sleep(20_000);
      expect(said(cluster)).to.deep.equal([]);
      await cluster.startAll();
      await cluster.world.sleep(20_000);
    });
    expect(said(cluster)).to.deep.equal(names);
  });

  const others = {
    'a token makes the first administrator': { isRequired: true, bootstrapHash: hash },
    'nobody has to log in': { isRequired: false },
  };
  for (const [what, access] of Object.entries(others))
    it(`catalog: nothing is said where ${what}`, async () => {
      const cluster = clusterOf(access);
      await cluster.world.run(async () => {
        await cluster.startAll();
        await cluster.world.sleep(20_000);
      });
      expect(said(cluster)).to.deep.equal([]);
    });
});
