// `npm run bench -- failover`: three real nodes under load, one dies by kill -9, and what clients of
// the other two see: from the kill to the first success, and the longest time without one, for
// quorum writes, quorum reads, and increments of keys whose primary has died.

import { setTimeout as sleep } from 'node:timers/promises';
import { DevCluster } from '../process/dev-cluster.ts';

const trials = 3;
const victim = 'n3';
/** Before the kill, and after it: longer than the failure detector may take. */
const calmMs = 2_000;
const watchMs = 35_000;
const requestTimeoutMs = 1_000;
const clientsPerKind = 8;

interface Kind {
  readonly name: string;
  readonly send: (endpoint: string) => Promise<Response>;
}

interface Seen {
  readonly startedMs: number;
  readonly endedMs: number;
  readonly isOk: boolean;
}

interface Gap {
  readonly firstSuccessMs: number;
  readonly longestGapMs: number;
  readonly failed: number;
  readonly total: number;
}

const json = { 'content-type': 'application/json', 'x-deadline-ms': String(requestTimeoutMs) };

function ask(url: string, init: RequestInit): Promise<Response> {
  return fetch(url, { ...init, signal: AbortSignal.timeout(requestTimeoutMs + 500) });
}

/** A key that the victim decides. */
async function keyOfVictim(endpoint: string): Promise<string> {
  for (let i = 0; ; i += 1) {
    const key = `counter-${i}`;
    const url = `${endpoint}/api/v1/keys/${key}/incr`;
    const answer = await ask(url, { method: 'POST', headers: json, body: '{}' });
    await answer.arrayBuffer();
    if (answer.headers.get('x-coordinator') === victim) return key;
  }
}

function kindsFor(counter: string): readonly Kind[] {
  const headers = { ...json, 'consistency-level': 'QUORUM' };
  const key = (): string => `key-${Math.floor(Math.random() * 1_000)}`;
  return [
    {
      name: 'put at QUORUM',
      send: (at) =>
        ask(`${at}/api/v1/keys/${key()}`, { method: 'PUT', headers, body: '{"value":1}' }),
    },
    { name: 'get at QUORUM', send: (at) => ask(`${at}/api/v1/keys/${key()}`, { headers }) },
    {
      name: 'incr, primary dead',
      send: (at) =>
        ask(`${at}/api/v1/keys/${counter}/incr`, { method: 'POST', headers: json, body: '{}' }),
    },
  ];
}

async function client(
  kind: Kind,
  endpoints: readonly string[],
  untilMs: number,
  seen: Seen[],
): Promise<void> {
  for (let i = 0; performance.now() < untilMs; i += 1) {
    const startedMs = performance.now();
    let isOk = false;
    try {
      const answer = await kind.send(endpoints[i % endpoints.length] ?? '');
      await answer.arrayBuffer();
      isOk = answer.status === 200 || answer.status === 404;
    } catch {
      isOk = false;
    }
    seen.push({ startedMs, endedMs: performance.now(), isOk });
    await sleep(5);
  }
}

function gapOf(seen: readonly Seen[], killedMs: number, untilMs: number): Gap {
  const after = seen.filter(({ endedMs }) => endedMs > killedMs);
  const successes = after
    // What had begun before the kill may have been decided before it.
    .filter(({ isOk, startedMs }) => isOk && startedMs > killedMs)
    .map(({ endedMs }) => endedMs)
    .sort((a, b) => a - b);
  const marks = [killedMs, ...successes, untilMs];
  const gaps = marks.slice(1).map((mark, i) => mark - (marks[i] ?? mark));
  return {
    firstSuccessMs: (successes[0] ?? Infinity) - killedMs,
    longestGapMs: Math.max(...gaps),
    failed: after.filter(({ isOk }) => !isOk).length,
    total: after.length,
  };
}

async function trial(): Promise<ReadonlyMap<string, Gap>> {
  const cluster = await DevCluster.start({ nodes: 3 });
  try {
    const endpoints = cluster.endpoints.slice(0, 2);
    const kinds = kindsFor(await keyOfVictim(endpoints[0] ?? ''));
    const killedMs = performance.now() + calmMs;
    const untilMs = killedMs + watchMs;
    const seen = kinds.map((): Seen[] => []);
    const running = kinds.flatMap((kind, i) =>
      Array.from({ length: clientsPerKind }, () =>
        client(kind, endpoints, untilMs, seen[i] as Seen[]),
      ),
    );
    await sleep(killedMs - performance.now());
    cluster.kill(victim);
    const reallyMs = performance.now();
    await Promise.all(running);
    return new Map(kinds.map(({ name }, i) => [name, gapOf(seen[i] as Seen[], reallyMs, untilMs)]));
  } finally {
    await cluster.stop();
    cluster.remove();
  }
}

export async function benchFailover(): Promise<void> {
  for (let number = 1; number <= trials; number += 1)
    for (const [name, gap] of await trial()) {
      const { firstSuccessMs, longestGapMs, failed, total } = gap;
      process.stdout.write(
        `trial ${number}  ${name.padEnd(20)} first success after ${firstSuccessMs.toFixed(0)} ms  ` +
          `longest gap ${longestGapMs.toFixed(0)} ms  ${failed} of ${total} failed\n`,
      );
    }
}
