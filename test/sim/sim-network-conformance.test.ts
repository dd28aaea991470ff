// The simulated network keeps the promises of every link.

import { SimCluster } from '../../sim/cluster.ts';
import { codecOf } from '../../sim/kvd-program.ts';
import { World } from '../../sim/world.ts';
import { type Pair, transportSuite } from '../conformance/transport-suite.ts';
import { Echo } from '../kit-transport.ts';
import { noCodecs, quickNetwork } from './small-cluster.ts';

async function makePair(): Promise<Pair> {
  const world = new World({ seed: 1 });
  const cluster = new SimCluster({
    world,
    names: ['a', 'b'],
    program: { protocols: [Echo], arenas: [], actorsOf: () => Promise.resolve([]) },
    codec: codecOf([Echo]),
    codecs: noCodecs,
    network: { ...quickNetwork, queueLengthMax: 100_000 },
  });
  await world.run(() => cluster.startAll());
  const [a, b] = ['a', 'b'].map((name) => cluster.kernelOf(name));
  if (a === undefined || b === undefined) throw new Error('a node did not start');
  return {
    a,
    b,
    until: (condition) =>
      world.run(async () => {
        while (!condition()) await world.sleep(1);
      }),
    sever: () => cluster.network.reset('a', 'b'),
    close: () => Promise.resolve(),
  };
}

transportSuite('simulated links', makePair);
