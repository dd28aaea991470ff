// `npm run bench -- latency`: what one request costs on an idle cluster, one at a time over one
// connection: a write on one node, at QUORUM and at SERIAL on three, reads of each, beside what they
// are made of here: one sync of a small append, one exchange with a node that does nothing.
//
// A quorum write should cost at most one exchange between nodes and one sync more than a write on a
// single node; a serial write at most two rounds more than that, each an exchange and a sync. An
// exchange is measured twice: with a node that does nothing while all else sleeps, and between two
// nodes of the cluster, by what a quorum read costs more than one at ONE. What is waited for, apart
// from all work of processors, is counted in test/sim/critical-path.test.ts.
//
// Requests go to the first replica of their key, as those of the client library do: from another
// node a serial operation takes one hop more.

import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DevCluster } from '../process/dev-cluster.ts';
import { httpLoad, keyPath, requestBytes } from './http-load.ts';

const requests = 1_500;
/** Before each figure, unmeasured: a process that has just begun runs code that is not compiled yet. */
const warmUp = 3_000;
const syncs = 1_500;

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
async function keysOf(port: number): Promise<readonly string[]> {
  const keys: string[] = [];
  const headers = { 'consistency-level': 'SERIAL' };
  for (let n = 0; keys.length < keyCount; n += 1) {
    const key = `key-${n}`;
    const url = `http://127.0.0.1:${port}${keyPath(key)}`;
    const answer = await fetch(url, { headers });
    await answer.arrayBuffer();
    if (answer.headers.get('x-coordinator') === 'n1') keys.push(key);
  }
  return keys;
}

async function costOf(port: number, request: Requests): Promise<Cost> {
  await httpLoad({ port, connections: 1, requests: warmUp, request });
  const { p50Ms, p99Ms, errors } = await httpLoad({ port, connections: 1, requests, request });
  if (errors > 0) throw new Error(`${errors} of ${requests} requests failed`);
  return { p50Ms, p99Ms };
}

/** Appends of 100 bytes, each made durable. */
function syncCost(): Cost {
  const directory = mkdtempSync(join(tmpdir(), 'kvd-sync-'));
  const file = openSync(join(directory, 'log'), 'w');
  const bytes = Buffer.alloc(100, 1);
  const times: number[] = [];
  for (let i = 0; i < syncs; i += 1) {
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

function show(what: string, { p50Ms, p99Ms }: Cost): void {
  process.stdout.write(
    `${what.padEnd(44)} p50 ${p50Ms.toFixed(2)} ms  p99 ${p99Ms.toFixed(2)} ms\n`,
  );
}

async function onCluster(nodes: number, work: (port: number) => Promise<void>): Promise<void> {
  const cluster = await DevCluster.start({ nodes });
  try {
    await work(cluster.basePort);
  } finally {
    await cluster.stop();
    cluster.remove();
  }
}

export async function benchLatency(): Promise<void> {
  const sync = syncCost();
  show('append and fdatasync', sync);
  let alone = sync;
  let exchange = sync;
  await onCluster(1, async (port) => {
    const keys = await keysOf(port);
    exchange = await costOf(port, () => requestBytes('GET', '/livez'));
    show('exchange with a node: GET /livez', exchange);
    alone = await costOf(port, write('ONE', keys));
    show('1 node: put', alone);
    show('1 node: get', await costOf(port, read('ONE', keys)));
  });
  await onCluster(3, async (port) => {
    const keys = await keysOf(port);
    const quorum = await costOf(port, write('QUORUM', keys));
    show('3 nodes: put at QUORUM', quorum);
    const quorumRead = await costOf(port, read('QUORUM', keys));
    show('3 nodes: get at QUORUM', quorumRead);
    const nearRead = await costOf(port, read('ONE', keys));
    show('3 nodes: get at ONE', nearRead);
    const serial = await costOf(port, write('SERIAL', keys));
    show('3 nodes: put at SERIAL', serial);
    show('3 nodes: get at SERIAL', await costOf(port, read('SERIAL', keys)));
    // What a durable round costs in kvd: all of a quorum write but the client's own exchange.
    const round = quorum.p50Ms - exchange.p50Ms;
    const more = quorum.p50Ms - alone.p50Ms;
    const between = quorumRead.p50Ms - nearRead.p50Ms;
    const rounds = (serial.p50Ms - quorum.p50Ms) / round;
    process.stdout.write(
      `QUORUM costs ${more.toFixed(2)} ms more than a single node; a sync and an exchange cost ` +
        `${(sync.p50Ms + exchange.p50Ms).toFixed(2)} ms, between two nodes ` +
        `${(sync.p50Ms + between).toFixed(2)} ms; SERIAL costs ` +
        `${rounds.toFixed(2)} durable rounds of ${round.toFixed(2)} ms more than QUORUM (medians)\n`,
    );
  });
}
