// A node as a process: takes its data directory, starts its threads in the order that the plan
// needs, says when it serves, and stops in the reverse order. The main thread is thread 0 and runs
// the control actors; it relays no messages.

import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openIdentity } from '../../actors/node/identity.ts';
import { arenaCount, type Member } from '../../actors/node/plan.ts';
import { arenaBytes } from '../../actors/node/sizes.ts';
import { Rejoiner } from '../../actors/rejoin/protocol.ts';
import { refTo } from '../../runtime/actor.ts';
import type { Log } from '../../runtime/environment.ts';
import { lockDirectory } from '../../runtime/host/directory-lock.ts';
import { loadCodecModules } from '../../runtime/host/codec-modules.ts';
import { createNodeDisk } from '../../runtime/host/node-disk.ts';
import { createNodeLog } from '../../runtime/host/node-log.ts';
import {
  createThreadMesh,
  doorbellsOf,
  startThreads,
  type ThreadHandle,
  watchStalls,
} from '../../runtime/host/threads.ts';
import { placementOf } from '../../runtime/placement.ts';
import type { ReplyOf } from '../../runtime/protocol.ts';
import { createRing } from '../../transport/thread-link.ts';
import type { NodeConfig } from './config.ts';
import { exitCodes, startFailure } from './exit-codes.ts';
import { createThreadRuntime, type ThreadRuntime, type ThreadSeed } from './thread-runtime.ts';

const ringBytes = 4 * 1024 * 1024;
const startTimeoutMs = 600_000;
/** SIGTERM to exit, at most. */
const drainTimeoutMs = 8_000;
const stopTimeoutMs = 1_000;
/** A second signal after this ends the process without a drain. */
const impatientAfterMs = 1_000;
/** How often a node that serves looks whether it counts already, and after how long it says that it waits. */
const wholePollMs = 25;
const statusTimeoutMs = 1_000;
const patienceMs = 5_000;

/** Starts the node and returns when it serves; it then runs until a signal or a failure. */
export async function runNode(config: NodeConfig): Promise<void> {
  const { nodeId: node, logLevel: level, logFormat: format } = config;
  const log = createNodeLog({ node, thread: 'control', level, format });
  try {
    await start(config, log);
  } catch (error) {
    const { code, line } = startFailure(error);
    log.error('node.start-failed', { reason: line });
    process.stderr.write(`kvd: ${line}\n`);
    tellParent({ failed: line });
    // Threads and sockets may be half open: nothing is acknowledged yet, so leave at once.
    process.exit(code);
  }
}

async function start(config: NodeConfig, log: Log): Promise<void> {
  const startedMs = Date.now();
  const root = resolve(config.dataDir);
  const lock = await lockDirectory(root);
  const seeds = await threadSeeds(config, root);
  const fatal = (reason: string): void => {
    log.error('node.failed', { reason });
    process.stderr.write(`kvd: ${reason}\n`);
    process.exit(/disk|fsync|sync failed/i.test(reason) ? exitCodes.diskFailed : exitCodes.crash);
  };
  const [own, ...others] = seeds;
  if (own === undefined) throw new Error('a node has at least one thread');
  const placement = placementOf(config.profile, config.shards);
  const handles = startThreads({
    threads: placement.threads,
    entry: new URL('./node-thread.js', import.meta.url),
    nameOf: placement.nameOf,
    dataFor: (thread) => ({
      seed: others[thread - 1],
      logLevel: config.logLevel,
      logFormat: config.logFormat,
    }),
    transferFor: (thread) => doorbellsOf((others[thread - 1] as ThreadSeed).part),
    onFatal: fatal,
  });
  const main = createThreadRuntime(own, log, fatal);
  // Background first: a store that recovers flushes through it. Control last: it tells the others.
  for (const handle of [...handles].reverse()) await handle.start(startTimeoutMs);
  await main.start();
  const endWatch = watchStalls(handles, log);
  stopOnSignals(handles, main, log, async () => {
    endWatch();
    await lock.release();
  });
  await untilWhole(main, config.nodeId, log);
  announce(config, Date.now() - startedMs, log);
}

/**
 * A node of a new cluster has to hear from the others first, and one that has lost its data has to be
 * filled (docs/operations.md): until then others run what it is asked.
 */
async function untilWhole({ kernel }: ThreadRuntime, node: string, log: Log): Promise<void> {
  const ask = (): Promise<ReplyOf<Rejoiner['status']> | undefined> =>
    new Promise((resolve) => {
      kernel.ask(refTo(Rejoiner, node), 'status', {}, statusTimeoutMs, (_, reply) =>
        resolve(reply),
      );
    });
  for (let told = '', beganMs = Date.now(); ; ) {
    const status = await ask();
    if (status?.phase === 'whole') return;
    if (status !== undefined && status.phase !== told && Date.now() - beganMs > patienceMs) {
      told = status.phase;
      log.warn('node.waits', { ...status });
    }
    await sleep(wholePollMs);
  }
}

/** What each thread of a node starts from. Marks the start in the data directory. */
export async function threadSeeds(config: NodeConfig, root: string): Promise<ThreadSeed[]> {
  const { nodeId: node, clusterName, host, httpPort, respPort, internodePort } = config;
  const { profile, shards, durability, tunables, walArchive, acceptDataLoss } = config;
  const self: Member = { node, host, internodePort };
  const members = config.seeds.length === 0 ? [self] : config.seeds;
  const { replicationFactor, virtualNodes } = tunables;
  const { incarnation, birth, isWhole } = await openIdentity(
    createNodeDisk(root),
    {
      clusterName,
      node,
      members: members.map((member) => member.node).sort(),
      replicationFactor,
      virtualNodes,
      shards,
    },
    Date.now() / 1000,
  );
  const placement = placementOf(profile, shards);
  const mesh = createThreadMesh(placement.threads, ringBytes, createRing);
  const codecModules = loadCodecModules();
  const arenas = Array.from(
    { length: arenaCount(tunables, shards) },
    () => new SharedArrayBuffer(arenaBytes(tunables)),
  );
  const settings = {
    node,
    clusterName,
    incarnation,
    birth,
    isWhole,
    members,
    host,
    httpPort,
    respPort,
    internodePort,
    durability,
    compaction: config.compaction,
    compression: config.compression,
    hasWalArchive: walArchive !== undefined,
    tunables,
    acceptDataLoss,
    access: { isRequired: config.auth === 'required', bootstrapHash: config.bootstrapHash },
  };
  return mesh.map((part, thread) => ({
    thread,
    settings,
    profile,
    shards,
    dataDir: root,
    archiveDir: walArchive === undefined ? undefined : resolve(walArchive),
    codecModules,
    arenas,
    part,
    tls: config.tls,
  }));
}

function stopOnSignals(
  handles: readonly ThreadHandle[],
  main: ThreadRuntime,
  log: Log,
  release: () => Promise<void>,
): void {
  let stoppingSinceMs: number | undefined;
  const stop = (signal: string): void => {
    const nowMs = performance.now();
    if (stoppingSinceMs !== undefined) {
      // Ctrl-C reaches a whole process group, and the launcher of a local cluster signals too:
      // only a second wish is a wish to end at once.
      if (signal !== 'disconnect' && nowMs - stoppingSinceMs > impatientAfterMs)
        process.exit(exitCodes.crash);
      return;
    }
    stoppingSinceMs = nowMs;
    log.info('node.stopping', { signal });
    const late = setTimeout(() => {
      log.warn('node.stop-timeout', { afterMs: drainTimeoutMs });
      // Everything acknowledged is in the WAL; the next start recovers it.
      process.exit(exitCodes.ok);
    }, drainTimeoutMs + stopTimeoutMs);
    void stopAll(handles, main).then(
      async () => {
        await release();
        clearTimeout(late);
        log.info('node.stopped', {});
        process.exit(exitCodes.ok);
      },
      (error: unknown) => {
        log.error('node.stop-failed', { reason: String(error) });
        process.exit(exitCodes.crash);
      },
    );
  };
  process.on('SIGTERM', () => stop('SIGTERM'));
  process.on('SIGINT', () => stop('SIGINT'));
  // The launcher of a local cluster went away: no node outlives it.
  process.on('disconnect', () => stop('disconnect'));
}

async function stopAll(handles: readonly ThreadHandle[], main: ThreadRuntime): Promise<void> {
  // Goodbye by gossip first, then the gateways stop taking requests, then storage flushes, then what
  // all of them have told the main thread is finished.
  await main.drain();
  for (const handle of handles) await handle.drain(drainTimeoutMs);
  await main.kernel.drain();
  for (const handle of handles) await handle.stop(stopTimeoutMs);
  await main.stop();
}

function announce(config: NodeConfig, startMs: number, log: Log): void {
  const { nodeId, host, httpPort, respPort, dataDir, durability, seeds } = config;
  const [s, http] = config.tls === undefined ? ['', 'http'] : ['s', 'https'];
  const redis = respPort === undefined ? undefined : `redis${s}://${host}:${respPort}`;
  log.info('node.ready', { http: `${http}://${host}:${httpPort}`, redis, startMs });
  if (process.send === undefined)
    process.stdout.write(
      [
        `kvd node ${nodeId} serves ${http}://${host}:${httpPort}${redis === undefined ? '' : ` and ${redis}`} (${Math.max(1, seeds.length)} members, data in ${dataDir}, durability ${durability})`,
        `try: curl -X PUT -H 'content-type: application/json' -d '{"value":"hello"}' ${http}://${host}:${httpPort}/api/v1/keys/greeting`,
        '',
      ].join('\n'),
    );
  tellParent({ ready: true });
}

function tellParent(message: { ready?: boolean; failed?: string }): void {
  process.send?.(message);
}
