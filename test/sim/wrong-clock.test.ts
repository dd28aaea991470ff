// A node whose clock is wrong coordinates no writes and no serial operations, says so, serves reads,
// and hands its writes to others (HLC-7).

import { expect } from 'chai';
import { defaultTunables, type Tunables } from '../../actors/node/settings.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { SimCluster } from '../../sim/cluster.ts';
import { kvdCodec, kvdProgram, sharedCodecs } from '../../sim/kvd-program.ts';
import { World } from '../../sim/world.ts';
import { callGateway } from './gateway-call.ts';
import { quickNetwork } from './small-cluster.ts';

const keys = Array.from({ length: 30 }, (_, n) => `key-${n}`);
/** A few rounds of gossip, so that every node has measured every other one. */
const someRoundsMs = 15_000;

interface Answer {
  readonly status: number;
  readonly code: string | undefined;
  readonly coordinator: string | undefined;
}

class Cluster {
  readonly sim: SimCluster;

  constructor(tunables: Partial<Tunables> = {}) {
    const names = ['n1', 'n2', 'n3'];
    const all: Tunables = {
      ...defaultTunables(),
      ...{ replicationFactor: 3, virtualNodes: 8, reserveBytes: 0 },
      ...tunables,
    };
    this.sim = new SimCluster({
      world: new World({ seed: 1 }),
      names,
      program: kvdProgram({ names, shards: 1, durability: 'group', tunables: all }),
      codec: kvdCodec(),
      codecs: sharedCodecs(),
      network: quickNetwork,
    });
  }

  async send(node: string, route: string, key: string, level: string): Promise<Answer> {
    const headers = { 'consistency-level': level };
    const json = route === 'put' ? '{"value":1}' : undefined;
    const call = { route, params: { key }, headers, json };
    const { status, headers: told, body: bytes } = await callGateway(this.sim, node, call);
    const code =
      status >= 400 ? (JSON.parse(utf8.decode(bytes)) as { code: string }).code : undefined;
    return { status, code, coordinator: told['x-coordinator'] };
  }

  /** Milliseconds that this node says its clock is off; null where it is right. */
  async clockOff(node: string): Promise<number | null> {
    const { body } = await callGateway(this.sim, node, { route: 'cluster-status' });
    const status = JSON.parse(utf8.decode(body)) as {
      answered_by: { clock_off_ms: number | null };
    };
    return status.answered_by.clock_off_ms;
  }

  run(work: () => Promise<void>): Promise<void> {
    const { world } = this.sim;
    return world.run(async () => {
      await this.sim.startAll();
      await world.sleep(someRoundsMs);
      await work();
    });
  }
}

describe('sim: a wrong clock', () => {
  for (const byMs of [2_000, -2_000])
    it(`wrong clock: others coordinate what comes to that node, and it does again when set right (${byMs} ms)`, async () => {
      const cluster = new Cluster();
      const { sim } = cluster;
      await cluster.run(async () => {
        sim.clockOf('n1').jump(byMs);
        await sim.world.sleep(someRoundsMs);
        expect(await cluster.clockOff('n1')).to.be.closeTo(2_000, 50);
        expect(await cluster.clockOff('n2')).to.equal(null);
        for (const level of ['QUORUM', 'ONE', 'SERIAL'])
          for (const key of keys) {
            const put = await cluster.send('n1', 'put', `${key}-${level}`, level);
            expect([put.status, put.code], `${level} ${key}`).to.deep.equal([200, undefined]);
            expect(put.coordinator, 'who has coordinated it').to.be.oneOf(['n2', 'n3']);
            const got = await cluster.send('n1', 'get', `${key}-${level}`, 'QUORUM');
            expect([got.status, got.coordinator]).to.deep.equal([200, 'n1']);
          }
        sim.clockOf('n1').correct();
        await sim.world.sleep(someRoundsMs);
        expect(await cluster.clockOff('n1')).to.equal(null);
        const put = await cluster.send('n1', 'put', 'again', 'QUORUM');
        expect([put.status, put.coordinator]).to.deep.equal([200, 'n1']);
      });
    });

  it('wrong clock: where nobody else can be asked the write is refused as CLOCK_SKEW, without effect', async () => {
    const cluster = new Cluster();
    const { sim } = cluster;
    await cluster.run(async () => {
      sim.clockOf('n1').jump(-5_000);
      await sim.world.sleep(someRoundsMs);
      sim.crash('n2', 'kill');
      await sim.world.sleep(1_000);
      // n3 goes on: only one of its two peers differs from it.
      const put = await cluster.send('n3', 'put', 'k', 'QUORUM');
      expect([put.status, put.coordinator]).to.deep.equal([200, 'n3']);
      sim.crash('n3', 'kill');
      // Until both are known to be dead: before, the write would be tried there.
      await sim.world.sleep(40_000);
      const refused = await cluster.send('n1', 'put', 'k', 'ONE');
      expect([refused.status, refused.code]).to.deep.equal([503, 'CLOCK_SKEW']);
      expect((await cluster.send('n1', 'get', 'k', 'ONE')).status).to.equal(200);
    });
  });

  it('wrong clock: with clockOffsetMaxMs=0 nobody asks', async () => {
    const cluster = new Cluster({ clockOffsetMaxMs: 0 });
    const { sim } = cluster;
    await cluster.run(async () => {
      sim.clockOf('n1').jump(-5_000);
      await sim.world.sleep(someRoundsMs);
      expect(await cluster.clockOff('n1')).to.equal(null);
      const put = await cluster.send('n1', 'put', 'k', 'QUORUM');
      expect([put.status, put.coordinator]).to.deep.equal([200, 'n1']);
    });
  });
});
