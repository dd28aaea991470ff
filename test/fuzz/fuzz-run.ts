// A real node under hostile input: many connections send damaged streams to all its ports, some of
// them as if they were the other node, while a healthy client of each protocol goes on. What must
// hold: the process lives, each healthy request is answered in time and with what was put, and the
// memory stays within a bound.

import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { DevCluster } from '../process/dev-cluster.ts';
import { type Attack, attacks, type Port } from './streams.ts';

export interface FuzzOptions {
  readonly seed: number;
  readonly seconds: number;
  /** Attacks at the same time. */
  readonly parallel: number;
  /** With two, some streams come as if from the other node. */
  readonly nodes: 1 | 2;
}

export interface FuzzReport {
  readonly attacks: number;
  readonly healthy: number;
  readonly slowestMs: number;
  /** Resident memory, bytes. */
  readonly residentFirst: number;
  readonly residentMax: number;
  /** Empty: all held. */
  readonly problems: readonly string[];
}

const lingerMs = 200;
const answerMsMax = 5_000;
const attacksPerBatch = 200;
/** Growth that hostile input may cause: the budgets of both ports and garbage of a while. */
const growthBytesMax = 768 * 1024 * 1024;

export async function fuzz({ seed, seconds, parallel, nodes }: FuzzOptions): Promise<FuzzReport> {
  const cluster = await DevCluster.start({ nodes });
  const { basePort } = cluster;
  const ports: Record<Port, number> = {
    http: basePort,
    resp: basePort + 1,
    internode: basePort + 2,
  };
  const report = {
    ...{ attacks: 0, healthy: 0, slowestMs: 0, residentFirst: 0, residentMax: 0 },
    problems: [] as string[],
  };
  const untilMs = performance.now() + seconds * 1000;
  const isOver = (): boolean => performance.now() >= untilMs || report.problems.length > 0;
  const attacker = async (lane: number): Promise<void> => {
    for (let batch = 0; !isOver(); batch += 1)
      for (const attack of attacks(seed + lane * 1_000_003 + batch, attacksPerBatch)) {
        if (isOver()) return;
        await launch(ports[attack.port], attack);
        report.attacks += 1;
      }
  };
  const healthy = async (): Promise<void> => {
    for (let i = 0; !isOver(); i += 1) {
      const startedMs = performance.now();
      try {
        await Promise.all([checkHttp(ports.http, i), checkResp(ports.resp, i)]);
        const resident = await residentBytes(ports.http);
        if (i === 0) report.residentFirst = resident;
        report.residentMax = Math.max(report.residentMax, resident);
        if (resident - report.residentFirst > growthBytesMax)
          report.problems.push(`resident memory grew to ${resident} bytes`);
      } catch (error) {
        report.problems.push(`healthy request ${i}: ${(error as Error).message}`);
      }
      report.healthy += 1;
      report.slowestMs = Math.max(report.slowestMs, performance.now() - startedMs);
      await sleep(20);
    }
  };
  await Promise.all([healthy(), ...Array.from({ length: parallel }, (_, i) => attacker(i))]);
  if (report.problems.length > 0) report.problems.push(cluster.output, cluster.logs());
  const code = await cluster.stop();
  if (code !== 0) report.problems.push(`the node ended with ${code}`);
  return report;
}

/** Sends one stream; ends when the connection has. */
function launch(port: number, { stream, pieces, end }: Attack): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    const over = setTimeout(() => socket.destroy(), lingerMs);
    socket.on('error', () => undefined);
    socket.on('close', () => {
      clearTimeout(over);
      resolve();
    });
    if (end !== 'deaf') socket.resume();
    const size = Math.max(1, Math.ceil(stream.length / pieces));
    const sendFrom = (at: number): void => {
      if (at < stream.length) {
        socket.write(stream.subarray(at, at + size), () => setImmediate(sendFrom, at + size));
        return;
      }
      if (end === 'finish') socket.end();
      if (end === 'reset') socket.resetAndDestroy();
    };
    socket.on('connect', () => sendFrom(0));
  });
}

async function checkHttp(port: number, i: number): Promise<void> {
  const url = `http://127.0.0.1:${port}/api/v1/keys/healthy`;
  const signal = AbortSignal.timeout(answerMsMax);
  const headers = { 'content-type': 'application/json' };
  const put = await fetch(url, { method: 'PUT', headers, body: `{"value":${i}}`, signal });
  if (!put.ok) throw new Error(`PUT was answered with ${put.status}: ${await put.text()}`);
  await put.arrayBuffer();
  const got = await fetch(url, { signal });
  const { value } = (await got.json()) as { value?: unknown };
  if (value !== i) throw new Error(`GET gave ${JSON.stringify(value)} and not ${i}`);
}

function checkResp(port: number, i: number): Promise<void> {
  const expected = `+OK\r\n$${String(i).length}\r\n${i}\r\n`;
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1' });
    let said = '';
    socket.setTimeout(answerMsMax, () => socket.destroy(new Error('no answer of Redis in time')));
    socket.on('data', (chunk) => {
      said += chunk.toString('latin1');
      if (said.length < expected.length) return;
      socket.destroy();
      if (said === expected) resolve();
      else reject(new Error(`Redis said ${JSON.stringify(said)}`));
    });
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('the Redis connection was closed')));
    socket.write(`SET healthyresp ${i}\r\nGET healthyresp\r\n`);
  });
}

async function residentBytes(port: number): Promise<number> {
  const signal = AbortSignal.timeout(answerMsMax);
  const answer = await fetch(`http://127.0.0.1:${port}/metrics`, { signal });
  const found = /^kvd_process_resident_bytes(?:{[^}]*})? (\S+)$/m.exec(await answer.text());
  if (found === null) throw new Error('no figure of the resident memory');
  return Number(found[1]);
}
