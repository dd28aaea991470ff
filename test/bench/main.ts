// `npm run bench`: figures of this machine, side by side in one run, as a table and as JSON. Only
// ratios travel between machines; docs/performance.md says what followed from them.
//
// Process level: real nodes (`kvd dev`), HTTP, group commit on. Thread and TCP links: messages per
// second with 1,024 in flight. Memtable: nanoseconds per operation. `npm run bench -- storage` is
// another bench: the engine as a library beside others (storage-bench.ts); `npm run bench -- resp` is
// the Redis face beside redis-server (resp-bench.ts), `npm run bench -- serial` serial operations
// (serial-bench.ts), `npm run bench -- failover` what clients see when a node dies (failover-bench.ts),
// `npm run bench -- curve` how the engine fares as its data grows (curve-bench.ts),
// `npm run bench -- latency` what one request costs (latency-bench.ts), `npm run bench -- peers` three
// nodes beside etcd and Redis (peers-bench.ts), `npm run bench -- hot` many readers of one key
// (hot-bench.ts).

import { writeFileSync } from 'node:fs';
import { DevCluster } from '../process/dev-cluster.ts';
import type { LoadResult } from './closed-loop.ts';
import { benchCurve } from './curve-bench.ts';
import { benchFailover } from './failover-bench.ts';
import { benchHot } from './hot-bench.ts';
import { getRequest, httpLoad, putRequest } from './http-load.ts';
import { benchLatency } from './latency-bench.ts';
import { benchTcpLink, benchThreadLink } from './link-bench.ts';
import { benchMemtable } from './memtable-bench.ts';
import { benchPeers } from './peers-bench.ts';
import { benchResp } from './resp-bench.ts';
import { benchSerial } from './serial-bench.ts';
import { benchStorage } from './storage-bench.ts';

interface Row {
  readonly what: string;
  readonly figures: Readonly<Record<string, number>>;
}

const connections = 50;
const keys = 20_000;
const value = JSON.stringify('x'.repeat(98));

async function benchCluster(nodes: number, requests: number): Promise<Row[]> {
  const cluster = await DevCluster.start({ nodes });
  try {
    const port = cluster.basePort;
    const put = (n: number): Buffer => putRequest(`bench:${n % keys}`, value);
    const get = (n: number): Buffer => getRequest(`bench:${(n * 7919) % keys}`);
    const mixed = (n: number): Buffer => (n % 5 === 0 ? put(n) : get(n));
    const level = nodes === 1 ? '1 node' : `${nodes} nodes, QUORUM`;
    await httpLoad({ port, connections, requests: keys, request: put });
    const rows: Row[] = [];
    for (const [what, request] of [
      ['put', put],
      ['get', get],
      ['mixed 80:20', mixed],
    ] as const) {
      const result = await httpLoad({ port, connections, requests, request });
      rows.push({ what: `${level}: ${what}`, figures: figures(result) });
    }
    return rows;
  } finally {
    await cluster.stop();
    cluster.remove();
  }
}

function figures({ perSecond, p50Ms, p99Ms, errors }: LoadResult): Row['figures'] {
  return {
    perSecond: Math.round(perSecond),
    p50Ms: round(p50Ms),
    p99Ms: round(p99Ms),
    errors,
  };
}

const round = (number: number): number => Math.round(number * 100) / 100;

async function benchParts(): Promise<Row[]> {
  const memtable = await benchMemtable();
  const thread = await benchThreadLink();
  const tcp = await benchTcpLink();
  return [
    {
      what: `memtable, ${memtable.records} records of 20 + 100 bytes`,
      figures: { insertNs: Math.round(memtable.insertNs), getNs: Math.round(memtable.getNs) },
    },
    {
      what: 'link between threads, 1,024 in flight',
      figures: { messagesPerSecond: Math.round(thread.messagesPerSecond) },
    },
    {
      what: 'link over TCP, 1,024 in flight',
      figures: { messagesPerSecond: Math.round(tcp.messagesPerSecond) },
    },
  ];
}

function show(rows: readonly Row[]): void {
  const width = Math.max(...rows.map(({ what }) => what.length));
  for (const { what, figures: shown } of rows) {
    const cells = Object.entries(shown).map(([name, number]) => `${name} ${number}`);
    process.stdout.write(`${what.padEnd(width)}  ${cells.join('  ')}\n`);
  }
}

if (process.argv[2] === 'resp') {
  await benchResp(process.argv.slice(3));
  process.exit(0);
}
if (process.argv[2] === 'hot') {
  await benchHot(process.argv.slice(3));
  process.exit(0);
}
if (process.argv[2] === 'peers') {
  await benchPeers(process.argv.slice(3));
  process.exit(0);
}
if (process.argv[2] === 'serial') {
  await benchSerial();
  process.exit(0);
}
if (process.argv[2] === 'failover') {
  await benchFailover();
  process.exit(0);
}
if (process.argv[2] === 'latency') {
  await benchLatency();
  process.exit(0);
}
if (process.argv[2] === 'curve') {
  await benchCurve(process.argv.slice(3));
  process.exit(0);
}
if (process.argv[2] === 'storage') {
  await benchStorage(process.argv.slice(3));
  process.exit(0);
}
const rows = [
  ...(await benchParts()),
  ...(await benchCluster(1, 60_000)),
  ...(await benchCluster(3, 40_000)),
];
show(rows);
const path = process.argv[2] ?? 'bench.json';
if (path.endsWith('.json')) writeFileSync(path, `${JSON.stringify(rows, null, 2)}\n`);
process.stdout.write(`${JSON.stringify(rows)}\n`);
process.exit(0);
