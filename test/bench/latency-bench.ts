// `npm run bench -- latency`: what one request costs on an idle cluster, one at a time over one
// connection: a write on one node, at QUORUM and at SERIAL on three, reads of each, beside what they
// are made of here: one sync of a small append, one exchange with a node that does nothing.
//
// A quorum write should cost at most one exchange between nodes and one sync more than a write on a
// single node; a serial write at most two rounds more than that, each an exchange and a sync.

import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DevCluster } from '../process/dev-cluster.ts';
import { httpLoad, keyPath, requestBytes } from './http-load.ts';

const requests = 1_500;
const syncs = 300;

interface Cost {
  readonly p50Ms: number;
  readonly p99Ms: number;
}

const pathOf = (n: number): string => keyPath(`key-${n % 500}`);

const write =
  (level: string) =>
  (n: number): Buffer =>
    requestBytes('PUT', pathOf(n), { level, body: '{"value":"0123456789"}' });
const read =
  (level: string) =>
  (n: number): Buffer =>
    requestBytes('GET', pathOf(n), { level });

async function costOf(port: number, request: (n: number) => Buffer): Promise<Cost> {
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
    exchange = await costOf(port, () => requestBytes('GET', '/livez'));
    show('exchange with a node: GET /livez', exchange);
    alone = await costOf(port, write('ONE'));
    show('1 node: put', alone);
    show('1 node: get', await costOf(port, read('ONE')));
  });
  await onCluster(3, async (port) => {
    const quorum = await costOf(port, write('QUORUM'));
    show('3 nodes: put at QUORUM', quorum);
    show('3 nodes: get at QUORUM', await costOf(port, read('QUORUM')));
    show('3 nodes: get at ONE', await costOf(port, read('ONE')));
    const serial = await costOf(port, write('SERIAL'));
    show('3 nodes: put at SERIAL', serial);
    show('3 nodes: get at SERIAL', await costOf(port, read('SERIAL')));
    // What a durable round costs in kvd: all of a quorum write but the client's own exchange.
    const round = quorum.p50Ms - exchange.p50Ms;
    const more = quorum.p50Ms - alone.p50Ms;
    const rounds = (serial.p50Ms - quorum.p50Ms) / round;
    process.stdout.write(
      `QUORUM costs ${more.toFixed(2)} ms more than a single node; SERIAL costs ` +
        `${rounds.toFixed(2)} durable rounds of ${round.toFixed(2)} ms more than QUORUM (medians)\n`,
    );
  });
}
