// `npm run bench -- latency`: what one request costs on an idle cluster, beside what it is made of: a
// sync of a small append, an exchange with a node that does nothing, and one between two nodes (what a
// quorum read costs more than one at ONE). A quorum write should cost at most an exchange and a sync
// more than a write on a single node, a serial write two such rounds more than that. What is waited
// for, apart from all work of processors, is counted in test/sim/critical-path.test.ts.
//
// Both clusters run side by side and the kinds of work take turns in short rounds; figures are medians
// of the rounds, differences medians of the differences within them. All of it twice: with a pause
// before each request, so that it finds the cluster idle (a quorum is answered while the last replica
// still works), sleeping processors included; then back to back, as one busy client would see it.
// Requests go to the first replica of their key, as those of the client library do.

import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { DevCluster } from '../process/dev-cluster.ts';
import { httpLoad, keyPath, requestBytes } from './http-load.ts';
import { median } from './median.ts';

/** Of each kind in a round. */
const requests = 250;
const rounds = 7;
/** Before each request of an idle cluster: all replicas are done with the last one. */
const idlePauseMs = 3;
/** Before all rounds, unmeasured: a process that has just begun runs code that is not compiled yet. */
const warmUp = 3_000;

interface Work {
  readonly requests: number;
  readonly pauseMs: number;
}

interface Cost {
  readonly p50Ms: number;
  readonly p99Ms: number;
}

const keyCount = 500;
const body = '{"value":"0123456789"}';

type Requests = (n: number) => Buffer;

const write =
  (level: string, keys: readonly string[]): Requests =>
  (n) =>
    requestBytes('PUT', keyPath(keys[n % keys.length] ?? ''), { level, body });
const read =
  (level: string, keys: readonly string[]): Requests =>
  (n) =>
    requestBytes('GET', keyPath(keys[n % keys.length] ?? ''), { level });

/** Keys whose serial operations this node runs itself; they are not written yet. */
async function keysOf(port: number, prefix: string): Promise<readonly string[]> {
  const keys: string[] = [];
  const headers = { 'consistency-level': 'SERIAL' };
  for (let n = 0; keys.length < keyCount; n += 1) {
    const key = `${prefix}-${n}`;
    const url = `http://127.0.0.1:${port}${keyPath(key)}`;
    const answer = await fetch(url, { headers });
    await answer.arrayBuffer();
    if (answer.headers.get('x-coordinator') === 'n1') keys.push(key);
  }
  return keys;
}

async function load(port: number, request: Requests, work: Work): Promise<Cost> {
  const { p50Ms, p99Ms, errors } = await httpLoad({ port, connections: 1, request, ...work });
  if (errors > 0) throw new Error(`${errors} of ${work.requests} requests failed`);
  return { p50Ms, p99Ms };
}

/** Appends of 100 bytes, each made durable. */
async function syncCost({ requests: count, pauseMs }: Work): Promise<Cost> {
  const directory = mkdtempSync(join(tmpdir(), 'kvd-sync-'));
  const file = openSync(join(directory, 'log'), 'w');
  const bytes = Buffer.alloc(100, 1);
  const times: number[] = [];
  for (let i = 0; i < count; i += 1) {
    if (pauseMs > 0) await setTimeout(pauseMs);
    const startMs = performance.now();
    writeSync(file, bytes);
    fdatasyncSync(file);
    times.push(performance.now() - startMs);
  }
  closeSync(file);
  rmSync(directory, { recursive: true });
  times.sort((a, b) => a - b);
  const at = (part: number): number => times[Math.floor(part * (times.length - 1))] ?? 0;
  return { p50Ms: at(0.5), p99Ms: at(0.99) };
}

/** One kind of work, and what it cost in each round. */
interface Kind {
  readonly what: string;
  readonly once: (work: Work) => Promise<Cost>;
  costs: Cost[];
}

function show({ what, costs }: Kind): void {
  const p50Ms = median(costs.map((cost) => cost.p50Ms));
  const p99Ms = median(costs.map((cost) => cost.p99Ms));
  process.stdout.write(
    `${what.padEnd(44)} p50 ${p50Ms.toFixed(2)} ms  p99 ${p99Ms.toFixed(2)} ms\n`,
  );
}

/** A cluster of one node and one of three, at the same time. */
async function onClusters(work: (alone: number, three: number) => Promise<void>): Promise<void> {
  const clusters: DevCluster[] = [];
  try {
    for (const nodes of [1, 3]) clusters.push(await DevCluster.start({ nodes }));
    const [alone, three] = clusters;
    await work(alone?.basePort ?? 0, three?.basePort ?? 0);
  } finally {
    for (const cluster of clusters) {
      await cluster.stop();
      cluster.remove();
    }
  }
}

async function kindsOn(alone: number, three: number) {
  const kind = (what: string, port: number, request: Requests): Kind => {
    const once = (work: Work): Promise<Cost> => load(port, request, work);
    return { what, once, costs: [] };
  };
  const aloneKeys = await keysOf(alone, 'key');
  const keys = await keysOf(three, 'key');
  // A plain write of a key with serial writes of late would be one itself.
  const serialKeys = await keysOf(three, 'serial');
  return {
    sync: { what: 'append and fdatasync', once: syncCost, costs: [] } as Kind,
    exchange: kind('exchange with a node: GET /livez', alone, () => requestBytes('GET', '/livez')),
    alonePut: kind('1 node: put', alone, write('ONE', aloneKeys)),
    aloneGet: kind('1 node: get', alone, read('ONE', aloneKeys)),
    quorumPut: kind('3 nodes: put at QUORUM', three, write('QUORUM', keys)),
    quorumGet: kind('3 nodes: get at QUORUM', three, read('QUORUM', keys)),
    nearGet: kind('3 nodes: get at ONE', three, read('ONE', keys)),
    serialPut: kind('3 nodes: put at SERIAL', three, write('SERIAL', serialKeys)),
    serialGet: kind('3 nodes: get at SERIAL', three, read('SERIAL', serialKeys)),
  };
}

type Kinds = Awaited<ReturnType<typeof kindsOn>>;

function conclude({ sync, exchange, alonePut, quorumPut, quorumGet, nearGet, serialPut }: Kinds) {
  const perRound = (figure: (p50Of: (kind: Kind) => number) => number): number =>
    median(sync.costs.map((_, i) => figure(({ costs }) => costs[i]?.p50Ms ?? 0)));
  // What a durable round costs in kvd: all of a quorum write but the client's own exchange.
  const round = perRound((p50Of) => p50Of(quorumPut) - p50Of(exchange));
  const more = perRound((p50Of) => p50Of(quorumPut) - p50Of(alonePut));
  const idle = perRound((p50Of) => p50Of(sync) + p50Of(exchange));
  const between = perRound((p50Of) => p50Of(sync) + p50Of(quorumGet) - p50Of(nearGet));
  const serialRounds = perRound(
    (p50Of) => (p50Of(serialPut) - p50Of(quorumPut)) / (p50Of(quorumPut) - p50Of(exchange)),
  );
  process.stdout.write(
    `QUORUM costs ${more.toFixed(2)} ms more than a single node; a sync and an exchange cost ` +
      `${idle.toFixed(2)} ms, between two nodes ${between.toFixed(2)} ms; SERIAL costs ` +
      `${serialRounds.toFixed(2)} durable rounds of ${round.toFixed(2)} ms more than QUORUM ` +
      `(medians of ${rounds} rounds)\n`,
  );
}

async function measure(kinds: Kinds, pauseMs: number): Promise<void> {
  const all: readonly Kind[] = Object.values(kinds);
  for (const kind of all) kind.costs = [];
  for (let round = 0; round < rounds; round += 1)
    for (const { once, costs } of all) costs.push(await once({ requests, pauseMs }));
  for (const kind of all) show(kind);
  conclude(kinds);
}

export async function benchLatency(): Promise<void> {
  await onClusters(async (alone, three) => {
    const kinds = await kindsOn(alone, three);
    for (const { once } of Object.values(kinds)) await once({ requests: warmUp, pauseMs: 0 });
    process.stdout.write(`one request at a time, ${idlePauseMs} ms after the last answer\n`);
    await measure(kinds, idlePauseMs);
    process.stdout.write('\none request at a time, back to back\n');
    await measure(kinds, 0);
  });
}
