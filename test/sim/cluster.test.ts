// Crash semantics, network and determinism, with tiny actors (small-cluster.ts).

import { expect } from 'chai';
import { refTo } from '../../runtime/actor.ts';
import { type ClientAnswer, type ClusterOptions, SimCluster } from '../../sim/cluster.ts';
import { World } from '../../sim/world.ts';
import {
  jsonCodec,
  Ledger,
  ledger,
  lineBytes,
  noCodecs,
  quickNetwork,
  Rambler,
  rambler,
  smallProgram,
  specOf,
} from './small-cluster.ts';

const names = ['n1', 'n2', 'n3'];

function clusterOf(
  seed: number,
  program: ClusterOptions['program'],
  options: Partial<ClusterOptions> = {},
): SimCluster {
  return new SimCluster({
    world: new World({ seed }),
    names,
    program,
    codec: jsonCodec,
    codecs: noCodecs,
    network: quickNetwork,
    ...options,
  });
}

const ledgers = smallProgram([specOf(ledger)]);
const ramblers = smallProgram([specOf(rambler, { names })]);

const add = (cluster: SimCluster): Promise<ClientAnswer<{ readonly lines: number }>> =>
  cluster.ask(refTo(Ledger, 'n1'), 'add', {}, 2_000);

async function ramble(seed: number, chaos = false): Promise<{ hash: string; heard: number[] }> {
  const cluster = clusterOf(seed, ramblers);
  const heard: number[] = [];
  await cluster.world.run(async () => {
    await cluster.startAll();
    await cluster.world.sleep(2_000);
    if (chaos) {
      cluster.network.cut('n1', 'n2', 'hold');
      cluster.crash('n3', 'power-loss');
      await cluster.world.sleep(3_000);
      cluster.network.healAll();
      await cluster.startAll();
    }
    await cluster.world.sleep(2_000);
    for (const name of names) {
      const answer = await cluster.ask(refTo(Rambler, name), 'count', {}, 1_000);
      heard.push(answer.kind === 'reply' ? answer.reply.heard : -1);
    }
  });
  return { hash: cluster.world.trace.text, heard };
}

describe('sim cluster', () => {
  it('cluster: one seed is one run, another seed another (RP-1)', async () => {
    expect(await ramble(1)).to.deep.equal(await ramble(1));
    expect((await ramble(1)).hash).to.not.equal((await ramble(2)).hash);
  });

  it('cluster: one seed is one run with cuts and crashes too', async () => {
    expect(await ramble(5, true)).to.deep.equal(await ramble(5, true));
  });

  it('cluster: what was acknowledged is there after a crash at every call, of both kinds', async () => {
    for (const kind of ['kill', 'power-loss'] as const)
      for (let call = 1; call <= 25; call += 1) {
        const cluster = clusterOf(call, ledgers);
        let acknowledged = 0;
        await cluster.world.run(async () => {
          await cluster.startAll();
          cluster.crashAtCall('n1', call, kind);
          while (cluster.condition('n1') === 'up') {
            const answer = await add(cluster);
            if (answer.kind === 'reply') acknowledged = answer.reply.lines;
          }
        });
        const size = cluster.machineOf('n1').storage.find('ledger')?.size ?? 0;
        expect(Math.floor(size / lineBytes)).to.be.at.least(acknowledged);
        expect(acknowledged).to.be.lessThan(25);
      }
  });

  it('cluster: a node comes back from its disk alone', async () => {
    const cluster = clusterOf(1, ledgers);
    const lines: number[] = [];
    await cluster.world.run(async () => {
      await cluster.startAll();
      for (let round = 0; round < 3; round += 1) {
        const answer = await add(cluster);
        if (answer.kind === 'reply') lines.push(answer.reply.lines);
        cluster.crash('n1', 'power-loss');
        await cluster.start('n1');
      }
    });
    expect(lines).to.deep.equal([1, 2, 3]);
    expect(cluster.crashes).to.equal(3);
  });

  it('cluster: a client of a node that is down is refused, of one that crashes it hears nothing', async () => {
    const cluster = clusterOf(1, ledgers);
    await cluster.world.run(async () => {
      await cluster.startAll();
      cluster.machineOf('n1').storage.faults.syncMs = 500;
      const answer = add(cluster);
      await cluster.world.sleep(50);
      cluster.crash('n1', 'kill');
      expect((await answer).kind).to.equal('lost');
      expect((await add(cluster)).kind).to.equal('refused');
    });
  });

  it('cluster: a paused node answers when its pause is over', async () => {
    const cluster = clusterOf(1, ledgers);
    await cluster.world.run(async () => {
      await cluster.startAll();
      cluster.pause('n1', 1_000);
      const startMs = cluster.world.nowMs;
      expect((await add(cluster)).kind).to.equal('reply');
      expect(cluster.world.nowMs - startMs).to.be.at.least(1_000);
    });
  });

  it('cluster: a defect of an actor fails the run', async () => {
    const broken = { ...ledger, create: () => ({ add: () => JSON.parse('{') as never }) };
    const cluster = clusterOf(1, smallProgram([specOf(broken)]));
    let message = '';
    await cluster.world
      .run(async () => {
        await cluster.startAll();
        await add(cluster);
      })
      .catch((error: unknown) => {
        message = String(error);
      });
    expect(message).to.match(/^ProgramCrash: n1: SyntaxError/);
  });
});

describe('sim network', () => {
  const heardIn = async (prepare: (cluster: SimCluster) => void): Promise<SimCluster> => {
    const cluster = clusterOf(3, ramblers);
    await cluster.world.run(async () => {
      await cluster.startAll();
      prepare(cluster);
      await cluster.world.sleep(5_000);
    });
    return cluster;
  };

  it('network: nothing passes a cut, in either kind, and it does again after its end', async () => {
    for (const kind of ['hold', 'drop'] as const) {
      const cluster = await heardIn(({ network }) => {
        for (const from of names)
          for (const to of names) if (from !== to) network.cut(from, to, kind);
      });
      const before = cluster.network.delivered;
      await cluster.world.run(() => cluster.world.sleep(5_000));
      expect(cluster.network.delivered).to.equal(before);
      cluster.network.healAll();
      await cluster.world.run(() => cluster.world.sleep(5_000));
      expect(cluster.network.delivered).to.be.greaterThan(before + 100);
    }
  });

  it('network: old bytes are refused every time (replays=all)', async () => {
    const cluster = await heardIn(({ network }) => {
      network.faults.replayRatio = 1;
    });
    expect(cluster.network.refused).to.be.greaterThan(100);
  });

  it('network: lost messages are missing at the other end (loss=1)', async () => {
    const cluster = await heardIn(({ network }) => {
      network.faults.lossRatio = 1;
    });
    const before = cluster.network.delivered;
    await cluster.world.run(() => cluster.world.sleep(5_000));
    expect(cluster.network.delivered).to.equal(before);
  });
});
