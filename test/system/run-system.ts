// One run: a cluster of real processes, clients that record, a storm, then calm, and the checks.

import { setTimeout as sleep } from 'node:timers/promises';
import { Prng } from '../../runtime/prng.ts';
import { batchClient, batchesEnded, batchKeys, checkBatches } from './batches.ts';
import {
  checkCounters,
  checkLinearizable,
  checkQuorumFloor,
  checkSessions,
  checkValues,
  type Verdict,
} from './checks.ts';
import { compareEtagTexts, type Operation } from './history.ts';
import { Recorder } from './recorder.ts';
import { runStorm } from './storm.ts';
import { SystemCluster } from './system-cluster.ts';

export interface SystemOptions {
  readonly nodes: number;
  readonly seconds: number;
  readonly seed: number;
  readonly basePort: number;
}

export interface SystemReport {
  readonly operations: number;
  readonly acked: number;
  readonly unknown: number;
  readonly refused: number;
  readonly faults: ReadonlyMap<string, number>;
  readonly verdicts: readonly Verdict[];
  /** Words about what was left out. */
  readonly notes: readonly string[];
}

const registerClients = 8;
const sessionClients = 4;
const serialClients = 6;
const batchClients = 4;
const registerKeys = 12;
/** A key of the serial register is left after so many: the search for an order stays small. */
const serialKeyOperations = 60;
const serialKeyUnknown = 8;
const pauseMs = 15;
const calmTimeoutMs = 60_000;

export async function runSystem(options: SystemOptions): Promise<SystemReport> {
  const cluster = await SystemCluster.start(options.nodes, options.basePort);
  const recorder = {
    registers: new Recorder(),
    sessions: new Recorder(),
    serial: new Recorder(),
    counters: new Recorder(),
    batches: new Recorder(),
  };
  try {
    const random = new Prng(options.seed);
    const untilMs = performance.now() + options.seconds * 1000;
    const notes: string[] = [];
    const hasSerial = await servesSerial(cluster);
    if (!hasSerial) notes.push('serial operations are not served: their checks judged nothing');
    const era: Era = { number: 0, operations: 0, unknown: 0 };
    const clients = [
      ...many(registerClients, (client) =>
        registerClient(cluster, recorder.registers, client, untilMs, random.fork(`r${client}`)),
      ),
      ...many(sessionClients, (client) =>
        sessionClient(cluster, recorder.sessions, client, untilMs, random.fork(`s${client}`)),
      ),
      ...many(batchClients, (client) =>
        batchClient(cluster, recorder.batches, client, untilMs, random.fork(`b${client}`)),
      ),
      ...(hasSerial
        ? [
            ...many(serialClients, (client) =>
              serialClient(
                { cluster, recorder: recorder.serial, era },
                client,
                untilMs,
                random.fork(`p${client}`),
              ),
            ),
            ...many(serialClients, (client) =>
              counterClient(cluster, recorder.counters, client, untilMs, random.fork(`c${client}`)),
            ),
          ]
        : []),
    ];
    const faults = await runStorm(cluster, random.fork('storm'), untilMs);
    await Promise.all(clients);
    await calm(cluster);
    await batchesEnded(cluster);
    const last = await finalReads(cluster, recorder.registers);
    const batched: Operation[] = [];
    for (const key of batchKeys) batched.push(await eventualRead(cluster, key));
    const totals = hasSerial ? await counterTotals(cluster) : new Map<string, number>();
    const { registers, sessions, serial, counters, batches } = recorder;
    const all = Object.values(recorder).flatMap(({ history }) => history);
    const count = (outcome: string): number => all.filter((one) => one.outcome === outcome).length;
    return {
      operations: all.length,
      acked: count('ok'),
      unknown: count('unknown'),
      refused: count('fail'),
      faults,
      notes,
      verdicts: [
        checkQuorumFloor(registers.history),
        checkValues(registers.history),
        checkSessions(sessions.history),
        checkValues(sessions.history),
        checkLinearizable(serial.history),
        checkCounters(counters.history, totals),
        checkBatches(batches.history, batched),
        last,
      ],
    };
  } catch (error) {
    for (const node of cluster.nodes) process.stderr.write(`${node}: ${cluster.logTail(node)}\n`);
    throw error;
  } finally {
    for (const one of Object.values(recorder)) one.close();
    await cluster.stop();
    cluster.remove();
  }
}

const many = <T>(count: number, make: (index: number) => T): T[] =>
  Array.from({ length: count }, (_, index) => make(index));

async function servesSerial(cluster: SystemCluster): Promise<boolean> {
  const url = `${cluster.url('n1')}/api/v1/keys/probe/incr`;
  const headers = { 'content-type': 'application/json' };
  const answer = await fetch(url, { method: 'POST', headers, body: '{"delta":1}' });
  await answer.arrayBuffer();
  return answer.status === 200;
}

/** Unique values at QUORUM, read at QUORUM, with a delete now and then. */
async function registerClient(
  cluster: SystemCluster,
  recorder: Recorder,
  client: number,
  untilMs: number,
  random: Prng,
): Promise<void> {
  for (let i = 0; performance.now() < untilMs; i += 1) {
    const key = `register-${random.int(registerKeys)}`;
    const request = { client, url: cluster.anyUrl(random), key, level: 'QUORUM' };
    const choice = random.float();
    if (choice < 0.5) await recorder.read(request);
    else await recorder.write(request, choice < 0.95 ? `${client}:${i}` : undefined);
    await sleep(pauseMs);
  }
}

/** A session at level ONE through any node: its token has to do all the work. */
async function sessionClient(
  cluster: SystemCluster,
  recorder: Recorder,
  client: number,
  untilMs: number,
  random: Prng,
): Promise<void> {
  let token: string | undefined;
  for (let i = 0; performance.now() < untilMs; i += 1) {
    const key = `session-${random.int(registerKeys)}`;
    const level = random.chance(0.5) ? 'ONE' : 'QUORUM';
    const request = { client, url: cluster.anyUrl(random), key, level, token };
    const next = random.chance(0.5)
      ? await recorder.read(request)
      : await recorder.write(request, `${client}:${i}`);
    token = next ?? token;
    await sleep(pauseMs);
  }
}

/** The serial register that is in use, for all clients. */
interface Era {
  number: number;
  operations: number;
  unknown: number;
}

/** Reads, writes and compare-and-set of few values on one key at a time, all SERIAL. */
async function serialClient(
  { cluster, recorder, era }: { cluster: SystemCluster; recorder: Recorder; era: Era },
  client: number,
  untilMs: number,
  random: Prng,
): Promise<void> {
  while (performance.now() < untilMs) {
    const key = `serial-${era.number}`;
    const request = { client, url: cluster.anyUrl(random), key, level: 'SERIAL' };
    const choice = random.float();
    const value = String(random.int(5));
    if (choice < 0.35) await recorder.read(request);
    else if (choice < 0.6) await recorder.write(request, value);
    else await recorder.cas(request, String(random.int(5)), value);
    const last = recorder.history.at(-1);
    const isOpen = last?.outcome === 'unknown' && last.kind !== 'read';
    if (key === `serial-${era.number}`) countTurn(era, isOpen);
    await sleep(2 * pauseMs);
  }
}

function countTurn(era: Era, isUnknown: boolean): void {
  era.operations += 1;
  era.unknown += isUnknown ? 1 : 0;
  if (era.operations < serialKeyOperations && era.unknown < serialKeyUnknown) return;
  era.number += 1;
  era.operations = 0;
  era.unknown = 0;
}

const counterKeys = ['counter-0', 'counter-1'];

async function counterClient(
  cluster: SystemCluster,
  recorder: Recorder,
  client: number,
  untilMs: number,
  random: Prng,
): Promise<void> {
  while (performance.now() < untilMs) {
    const key = random.pick(counterKeys);
    await recorder.increment({ client, url: cluster.anyUrl(random), key, level: 'SERIAL' });
    await sleep(2 * pauseMs);
  }
}

/** Every node runs and sees every other; none may have ended by itself. */
async function calm(cluster: SystemCluster): Promise<void> {
  cluster.healNetwork();
  for (const node of cluster.nodes) {
    cluster.signal(node, 'SIGCONT');
    cluster.startNode(node);
  }
  await cluster.whole();
}

/** After the storm every key is read at ALL: what was acknowledged is there, on all replicas. */
async function finalReads(cluster: SystemCluster, recorder: Recorder): Promise<Verdict> {
  const before = [...recorder.history];
  const violations: string[] = [];
  const keys = [...new Set(before.map(({ key }) => key))];
  for (const key of keys) {
    const read = await eventualRead(cluster, key);
    const acked = before.filter(
      (one) => one.key === key && one.outcome === 'ok' && one.etag !== undefined,
    );
    const newest = acked.reduce<Operation | undefined>(
      (best, one) =>
        best === undefined || compareEtagTexts(one.etag ?? '', best.etag ?? '') > 0 ? one : best,
      undefined,
    );
    if (newest?.etag === undefined) continue;
    const isLost =
      read.etag === undefined
        ? newest.kind !== 'delete' &&
          !before.some(
            (one) => one.key === key && one.kind === 'delete' && one.outcome === 'unknown',
          )
        : compareEtagTexts(read.etag, newest.etag) < 0;
    if (isLost)
      violations.push(`${key}: in the end ${String(read.etag)}, acknowledged ${newest.etag}`);
  }
  return { name: 'nothing acknowledged is lost', judged: keys.length, violations };
}

/** A read at ALL, again until it is answered. */
async function eventualRead(cluster: SystemCluster, key: string): Promise<Operation> {
  const recorder = new Recorder();
  const deadline = performance.now() + calmTimeoutMs;
  try {
    for (;;) {
      await recorder.read({ client: 0, url: cluster.url('n1'), key, level: 'ALL' });
      const last = recorder.history.at(-1) as Operation;
      if (last.outcome === 'ok') return last;
      if (performance.now() > deadline)
        throw new Error(`${key} cannot be read at ALL: ${String(last.code)}`);
      await sleep(200);
    }
  } finally {
    recorder.close();
  }
}

async function counterTotals(cluster: SystemCluster): Promise<Map<string, number>> {
  const totals = new Map<string, number>();
  for (const key of counterKeys) {
    const headers = { 'consistency-level': 'SERIAL' };
    const answer = await fetch(`${cluster.url('n1')}/api/v1/keys/${key}`, { headers });
    const { value } = (await answer.json()) as { value?: unknown };
    if (answer.status === 200) totals.set(key, Number(value));
  }
  return totals;
}
