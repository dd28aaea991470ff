// Faults for a running cluster, one after the other, by a seed: kill -9 and restart, pauses, and
// everything that proxies can do to a network. Mostly a minority is hit; now and then a majority,
// so that refusals are part of the history too.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Prng } from '../../runtime/prng.ts';
import type { SystemCluster } from './system-cluster.ts';

type Undo = () => Promise<void> | void;

interface Fault {
  readonly name: string;
  readonly begin: (cluster: SystemCluster, random: Prng) => Promise<Undo>;
}

const nothing: Undo = () => undefined;

function others(cluster: SystemCluster, node: string): readonly string[] {
  return cluster.nodes.filter((other) => other !== node);
}

const faults: readonly Fault[] = [
  {
    name: 'kill -9',
    begin: async (cluster, random) => {
      const node = random.pick(cluster.nodes);
      await cluster.kill(node);
      return () => cluster.startNode(node);
    },
  },
  {
    name: 'kill -9 of all',
    begin: async (cluster, random) => {
      if (!random.chance(0.2)) return nothing;
      for (const node of cluster.nodes) await cluster.kill(node);
      return () => cluster.nodes.forEach((node) => cluster.startNode(node));
    },
  },
  {
    name: 'pause',
    begin: (cluster, random) => {
      const node = random.pick(cluster.nodes);
      cluster.signal(node, 'SIGSTOP');
      return Promise.resolve(() => cluster.signal(node, 'SIGCONT'));
    },
  },
  {
    name: 'isolate',
    begin: (cluster, random) => {
      const node = random.pick(cluster.nodes);
      for (const other of others(cluster, node))
        for (const proxy of [...cluster.proxies(node, other), ...cluster.proxies(other, node)]) {
          proxy.stop('there');
          proxy.stop('back');
        }
      return Promise.resolve(() => cluster.healNetwork());
    },
  },
  {
    name: 'one way',
    begin: (cluster, random) => {
      const node = random.pick(cluster.nodes);
      const other = random.pick(others(cluster, node));
      for (const proxy of cluster.proxies(node, other)) proxy.stop('there');
      for (const proxy of cluster.proxies(other, node)) proxy.stop('back');
      return Promise.resolve(() => cluster.healNetwork());
    },
  },
  {
    name: 'delay',
    begin: (cluster, random) => {
      for (const node of cluster.nodes)
        for (const other of others(cluster, node))
          for (const proxy of cluster.proxies(node, other)) {
            proxy.delay('there', random.between(5, 300));
            proxy.delay('back', random.between(5, 300));
          }
      return Promise.resolve(() => cluster.healNetwork());
    },
  },
  {
    name: 'reset',
    begin: (cluster, random) => {
      const node = random.pick(cluster.nodes);
      for (const other of others(cluster, node))
        for (const proxy of [...cluster.proxies(node, other), ...cluster.proxies(other, node)])
          proxy.cut();
      return Promise.resolve(nothing);
    },
  },
];

/** Runs until `untilMs`, then undoes everything. The number of each fault that was there. */
export async function runStorm(
  cluster: SystemCluster,
  random: Prng,
  untilMs: number,
): Promise<ReadonlyMap<string, number>> {
  const counts = new Map<string, number>();
  while (performance.now() < untilMs) {
    const fault = random.pick(faults);
    const undo = await fault.begin(cluster, random);
    if (undo !== nothing || fault.name === 'reset')
      counts.set(fault.name, (counts.get(fault.name) ?? 0) + 1);
    await sleep(Math.max(0, Math.min(random.between(300, 6000), untilMs - performance.now())));
    await undo();
    await sleep(Math.max(0, Math.min(random.between(200, 2500), untilMs - performance.now())));
  }
  return counts;
}
