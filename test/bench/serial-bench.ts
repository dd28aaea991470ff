// `npm run bench -- serial`: serial operations over HTTP on three real nodes, group commit on. 200
// clients increment one counter, with operations of one key merged into shared rounds and with each
// in a round of its own; the total must be exact in both. Then increments, compare-and-set and reads
// spread over many keys, where nothing can be merged, beside plain quorum writes.

import { DevCluster } from '../process/dev-cluster.ts';
import type { LoadResult } from './closed-loop.ts';
import { httpLoad, keyPath, putRequest, requestBytes } from './http-load.ts';

const connections = 200;
const spreadConnections = 50;
const spreadKeys = 10_000;

const post = (key: string, verb: string, body: string): Buffer =>
  requestBytes('POST', `${keyPath(key)}/${verb}`, { body });

function show(what: string, { perSecond, p50Ms, p99Ms, errors }: LoadResult): void {
  const rate = String(Math.round(perSecond)).padStart(7);
  process.stdout.write(
    `${what.padEnd(48)} ${rate} per second  p50 ${p50Ms.toFixed(2)} ms  p99 ${p99Ms.toFixed(2)} ms  errors ${errors}\n`,
  );
}

async function counterOf(port: number): Promise<number> {
  const headers = { 'consistency-level': 'SERIAL' };
  const answer = await fetch(`http://127.0.0.1:${port}/api/v1/keys/counter`, { headers });
  return ((await answer.json()) as { value: number }).value;
}

async function withCluster(
  operationsPerRound: number,
  work: (port: number) => Promise<void>,
): Promise<void> {
  const setting = `serialOperationsPerRound=${operationsPerRound}`;
  const cluster = await DevCluster.start({ nodes: 3, extra: ['--set', setting] });
  try {
    await work(cluster.basePort);
  } finally {
    await cluster.stop();
    cluster.remove();
  }
}

/** Its rate; throws where the total is not the number of increments. */
async function countUp(port: number, what: string, requests: number): Promise<number> {
  const result = await httpLoad({
    ...{ port, connections, requests },
    request: () => post('counter', 'incr', '{"delta":1}'),
  });
  show(what, result);
  const total = await counterOf(port);
  if (total !== requests - result.errors)
    throw new Error(`${requests} increments, ${result.errors} errors, counted ${total}`);
  return result.perSecond;
}

export async function benchSerial(): Promise<void> {
  let alone = 0;
  let merged = 0;
  await withCluster(1, async (port) => {
    alone = await countUp(port, 'incr, one key, 200 clients, not merged', 3_000);
  });
  await withCluster(128, async (port) => {
    merged = await countUp(port, 'incr, one key, 200 clients, merged', 40_000);
    await spread(port);
  });
  process.stdout.write(`merging: ${(merged / alone).toFixed(1)} times the rate, totals exact\n`);
}

async function spread(port: number): Promise<void> {
  const key = (n: number): string => `bench:${(n * 7919) % spreadKeys}`;
  const requests = 10_000;
  const run = async (what: string, request: (n: number) => Buffer): Promise<void> => {
    const load = { port, connections: spreadConnections, requests, request };
    show(`${what}, ${spreadKeys} keys, ${spreadConnections} clients`, await httpLoad(load));
  };
  await run('incr', (n) => post(key(n), 'incr', '{"delta":1}'));
  await run('cas by value', (n) => post(key(n), 'cas', '{"expected_value":1,"new_value":1}'));
  await run('get at SERIAL', (n) => requestBytes('GET', keyPath(key(n)), { level: 'SERIAL' }));
  await run('put at QUORUM', (n) => putRequest(`plain:${n % spreadKeys}`, '1'));
}
