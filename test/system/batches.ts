// Atomic batches in a storm: each writes one value of its own under some of a few keys, so that
// batches overlap. When the storm is over and no log holds one any more, all of a batch is there, or
// nothing (BL-1 to BL-5).

import { setTimeout as sleep } from 'node:timers/promises';
import type { Prng } from '../../runtime/prng.ts';
import type { Verdict } from './checks.ts';
import { compareEtagTexts, type Operation } from './history.ts';
import type { Recorder } from './recorder.ts';
import type { SystemCluster } from './system-cluster.ts';

const pauseMs = 40;
const keyCount = 10;
const emptyTimeoutMs = 120_000;
const shownMax = 5;

/** Half of the keys share a hash tag, so that their replicas take a batch as one record. */
export const batchKeys = Array.from({ length: keyCount }, (_, i) =>
  i % 2 === 0 ? `batch-${i}` : `{batch}-${i}`,
);

export async function batchClient(
  cluster: SystemCluster,
  recorder: Recorder,
  client: number,
  untilMs: number,
  random: Prng,
): Promise<void> {
  for (let i = 0; performance.now() < untilMs; i += 1) {
    const first = random.int(keyCount);
    const step = random.chance(0.5) ? 1 : 2;
    const count = random.between(2, 4);
    const keys = Array.from(
      { length: count },
      (_, at) => batchKeys[(first + at * step) % keyCount] as string,
    );
    const url = cluster.anyUrl(random);
    const level = random.chance(0.3) ? 'ONE' : 'QUORUM';
    await recorder.batch({ client, url, key: keys.join(), level }, keys, `b${client}:${i}`);
    await sleep(pauseMs);
  }
}

/** Ends when no node's log holds a batch. */
export async function batchesEnded(cluster: SystemCluster): Promise<void> {
  const deadline = performance.now() + emptyTimeoutMs;
  for (const node of cluster.nodes)
    for (;;) {
      const answer = await fetch(`${cluster.url(node)}/metrics`);
      const waiting = /^kvd_batch_waiting(?:\{[^}]*\})? (\d+)/m.exec(await answer.text())?.[1];
      if (waiting === '0') break;
      if (performance.now() > deadline)
        throw new Error(`${String(waiting)} batches still wait on ${node}`);
      await sleep(100);
    }
}

/** `finals`: one read of each key, made when everything had ended. */
export function checkBatches(batches: readonly Operation[], finals: readonly Operation[]): Verdict {
  const byValue = new Map(batches.map((batch) => [batch.value, batch]));
  const violations = batches.flatMap((batch) => {
    const reads = finals.filter(({ key }) => batch.keys?.includes(key) === true);
    const shown = reads.find(({ value }) => value === batch.value);
    if (shown === undefined) return batch.outcome === 'ok' ? lostOf(batch, reads, byValue) : [];
    if (batch.outcome === 'fail') return [`${nameOf(batch)} has failed, and ${shown.key} shows it`];
    return reads
      .filter(({ etag }) => etag === undefined || compareEtagTexts(etag, shown.etag ?? '') < 0)
      .map(({ key }) => `${nameOf(batch)} is there in part: ${shown.key} has it, ${key} is older`);
  });
  const shown = violations.slice(0, shownMax);
  return { name: 'atomic batches', judged: batches.length, violations: shown };
}

/** Of an acknowledged batch nothing is shown: then each key has something that is not from before it. */
function lostOf(
  batch: Operation,
  reads: readonly Operation[],
  byValue: ReadonlyMap<string | undefined, Operation>,
): string[] {
  return reads
    .filter(({ value }) => {
      const writer = byValue.get(value);
      return writer === undefined || (writer.outcome === 'ok' && writer.endMs < batch.startMs);
    })
    .map(({ key, value }) => `${nameOf(batch)} is lost: ${key} shows ${String(value)}`);
}

const nameOf = ({ value, key, client }: Operation): string =>
  `batch ${String(value)} of ${key} by client ${client}`;
