// How many waits an answer is made of. On machines whose processors cost nothing, an exchange takes
// always the same time and so does a sync: what a request takes is then exactly the exchanges and
// syncs that its answer waits for, one after the other. `npm run bench -- latency` measures the same
// with real processors, where the work of three nodes comes on top.

import { expect } from 'chai';
import { defaultTunables, type Tunables } from '../../actors/node/settings.ts';
import { SimCluster } from '../../sim/cluster.ts';
import { kvdCodec, kvdProgram, sharedCodecs } from '../../sim/kvd-program.ts';
import type { DiskFaults } from '../../sim/sim-disk.ts';
import { World } from '../../sim/world.ts';
import { callGateway } from './gateway-call.ts';

/** One way, and the client's too. */
const messageMs = 5;
const exchangeMs = 2 * messageMs;
const syncMs = 7;
const keyCount = 20;

/** Every sync takes the same time. */
function steady(faults: DiskFaults): void {
  faults.syncMs = 0;
  Object.defineProperty(faults, 'stuckMs', { get: () => syncMs, set: () => undefined });
}

class Timed {
  readonly #cluster: SimCluster;

  constructor(nodes: number) {
    const names = Array.from({ length: nodes }, (_, n) => `n${n + 1}`);
    const tunables: Tunables = {
      ...defaultTunables(),
      replicationFactor: nodes,
      virtualNodes: 8,
      reserveBytes: 0,
    };
    this.#cluster = new SimCluster({
      world: new World({ seed: 1 }),
      names,
      program: kvdProgram({ names, shards: 1, durability: 'group', tunables }),
      codec: kvdCodec(),
      codecs: sharedCodecs(),
      network: {
        minMs: messageMs,
        meanMs: 0,
        hasSlowTail: false,
        queueLengthMax: 1_000,
        keepAliveMs: 2_000,
      },
    });
    for (const name of names) steady(this.#cluster.machineOf(name).storage.faults);
  }

  /** Virtual milliseconds of each request, at n1, for keys whose first replica that is. */
  async times(route: 'put' | 'get', level: string): Promise<readonly number[]> {
    const { world } = this.#cluster;
    const times: number[] = [];
    for (let n = 0; times.length < keyCount; n += 1) {
      const coordinator = await this.#send('get', `key-${n}`, 'SERIAL');
      if (coordinator !== 'n1') continue;
      await world.sleep(1_000);
      const startMs = world.nowMs;
      await this.#send(route, `key-${n}`, level);
      times.push(world.nowMs - startMs);
    }
    return times;
  }

  run(work: (timed: Timed) => Promise<void>): Promise<void> {
    const { world } = this.#cluster;
    return world.run(async () => {
      await this.#cluster.startAll();
      await world.sleep(3_000);
      await work(this);
    });
  }

  /** Who coordinated it. */
  async #send(route: string, key: string, level: string): Promise<string> {
    const headers = { 'consistency-level': level };
    const json = route === 'put' ? '{"value":1}' : undefined;
    const call = { route, params: { key }, headers, json };
    const answer = await callGateway(this.#cluster, 'n1', call);
    expect(answer.status, `${route} ${level}`).to.be.oneOf([200, 201, 404]);
    return answer.headers['x-coordinator'] ?? '';
  }
}

/** What requests take, each time once, ascending; whole milliseconds, since turns take microseconds. */
async function timesOf(nodes: number, route: 'put' | 'get', level: string): Promise<number[]> {
  let times: readonly number[] = [];
  await new Timed(nodes).run(async (timed) => {
    times = await timed.times(route, level);
  });
  return [...new Set(times.map(Math.floor))].sort((a, b) => a - b);
}

interface Path {
  readonly nodes: number;
  readonly route: 'put' | 'get';
  readonly level: string;
  /** One after the other, the client's own exchange among them. */
  readonly exchanges: number;
  readonly syncs: number;
}

const paths: readonly Path[] = [
  { nodes: 1, route: 'put', level: 'ONE', exchanges: 1, syncs: 1 },
  { nodes: 3, route: 'put', level: 'ONE', exchanges: 1, syncs: 1 },
  { nodes: 3, route: 'put', level: 'QUORUM', exchanges: 2, syncs: 1 },
  { nodes: 3, route: 'put', level: 'ALL', exchanges: 2, syncs: 1 },
  { nodes: 3, route: 'put', level: 'SERIAL', exchanges: 4, syncs: 3 },
  { nodes: 1, route: 'get', level: 'ONE', exchanges: 1, syncs: 0 },
  { nodes: 3, route: 'get', level: 'ONE', exchanges: 1, syncs: 0 },
  { nodes: 3, route: 'get', level: 'QUORUM', exchanges: 2, syncs: 0 },
  { nodes: 3, route: 'get', level: 'SERIAL', exchanges: 2, syncs: 0 },
];

describe('critical path', function () {
  this.timeout(60_000);

  for (const { nodes, route, level, exchanges, syncs } of paths)
    it(`critical path: ${route} at ${level} on ${nodes}: exchanges ${exchanges}, syncs ${syncs}`, async () => {
      const least = exchanges * exchangeMs + syncs * syncMs;
      const [usual, ...rare] = await timesOf(nodes, route, level);
      expect(usual).to.equal(least);
      // After a pause a writer extends the bound of its clock first: a file, and its name (HLC-3).
      for (const ms of rare) expect(ms).to.equal(least + 2 * syncMs);
      if (route === 'get') expect(rare).to.deep.equal([]);
    });
});
