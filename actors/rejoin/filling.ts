// How a node finds out whether it is new, and how it is filled where it is not: functions of a
// session that keep nothing. What they wait for may take hours; they end when it is there.

import { type Ref, refTo, type Session } from '../../runtime/actor.ts';
import type { Clock } from '../../runtime/environment.ts';
import { KvError } from '../../runtime/errors.ts';
import { quorumOf } from '../model/consistency.ts';
import type { ReplicaSets } from '../model/replica-sets.ts';
import type { Ring } from '../model/ring.ts';
import type { Repairer, RepairReport } from '../repair/protocol.ts';
import { Acceptor, Replica } from '../replication/protocol.ts';
import { Rejoiner } from './protocol.ts';
import { takeOverVotes } from './votes.ts';

export interface FillingParts {
  readonly session: Session;
  readonly clock: Clock;
  readonly node: string;
  readonly birth: number;
  /** All other members. */
  readonly others: readonly string[];
  readonly ring: Ring;
  readonly sets: ReplicaSets;
  /** Shards of this node. */
  readonly shards: number;
  /** Undefined: not known yet. */
  readonly shardsOf: (node: string) => number | undefined;
  readonly repairer: Ref<Repairer>;
  /** Rounds that the lost state had promised something to have ended after so long, milliseconds. */
  readonly settleMs: number;
  /** What it waits for now. */
  readonly tell: (detail: string) => void;
}

type Asking = Pick<FillingParts, 'session' | 'node' | 'birth' | 'others'>;

const askTimeoutMs = 2_000;
/** The others of a new cluster start in the same moment. */
const firstPauseMs = 10;
const againMs = 300;
/** A member may be away, or busy with a repair, for hours. */
const fillAgainMsMax = 2_400;
const repairPollMs = 250;
/** In words for people. */
const shownSets = 8;

/** So many others that any two choices of them have one in common. A node alone is always whole. */
const enoughOf = (others: readonly string[]): number => quorumOf(others.length);

/** What those others who answer know of this node's birth. */
async function knownBirths(
  { session, node, birth, others }: Asking,
  isFilled: boolean,
): Promise<readonly number[]> {
  const body = { node, birth, isFilled };
  const answers = await Promise.allSettled(
    others.map((other) => session.ask(refTo(Rejoiner, other), 'admit', body, askTimeoutMs)),
  );
  return answers.flatMap((one) => (one.status === 'fulfilled' ? [one.value.birth] : []));
}

/** False as soon as one other knows an older directory of this node. */
export async function isNewNode(asking: Asking): Promise<boolean> {
  for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(againMs, 2 * pauseMs)) {
    const known = await knownBirths(asking, false);
    if (known.some((birth) => birth !== asking.birth)) return false;
    if (known.length >= enoughOf(asking.others)) return true;
    await asking.session.sleep(pauseMs);
  }
}

/** Enough others take this directory for the one that counts. */
export async function announceFilled(asking: Asking): Promise<void> {
  while ((await knownBirths(asking, true)).length < enoughOf(asking.others))
    await asking.session.sleep(againMs);
}

/** Everything that a quorum with this node has acknowledged is here, and what it had promised. */
export async function fillNode(parts: FillingParts): Promise<void> {
  const { session, clock, node, sets, settleMs, tell, repairer } = parts;
  const sinceMs = clock.monotonicMs();
  // A set needs one repair by all of its members: what is written from then on, others have to hold
  // to acknowledge it, since this node does not count.
  let open: readonly string[] = sets.ofNode(node).map((set) => sets.sets[set]?.id ?? '');
  for (let pauseMs = againMs; ; pauseMs = Math.min(2 * pauseMs, fillAgainMsMax)) {
    open = openAfter(await repairSome(session, repairer, open), open);
    if (open.length === 0) break;
    const more = open.length > shownSets ? ` and ${open.length - shownSets} more` : '';
    const shown = open.slice(0, shownSets).join(' ');
    tell(`all of these replicas have to take part in a repair: ${shown}${more}`);
    await session.sleep(pauseMs);
  }
  tell('it takes over votes');
  const { others, ring, shards, shardsOf } = parts;
  await takeOverVotes({
    ...{ session, node, others, ring, shards, shardsOf },
    replicaOf: (other, shard) => refTo(Replica, other, shard),
    acceptorOf: (shard) => refTo(Acceptor, node, shard),
    otherAcceptorOf: (other, shard) => refTo(Acceptor, other, shard),
  });
  const leftMs = settleMs - (clock.monotonicMs() - sinceMs);
  if (leftMs > 0) await session.sleep(leftMs);
}

/** The report of a repair of these sets; undefined where it could not be run. */
async function repairSome(
  session: Session,
  repairer: Ref<Repairer>,
  sets: readonly string[],
): Promise<RepairReport | undefined> {
  try {
    // One that runs already counts as well: it began after this start.
    const wanted = { set: undefined, sets, isFull: true };
    let report = await session.ask(repairer, 'run', wanted, askTimeoutMs);
    const { id } = report;
    while (report.isRunning && report.id === id) {
      await session.sleep(repairPollMs);
      report = (await session.ask(repairer, 'status', {}, askTimeoutMs)).report ?? report;
    }
    return report.isRunning ? undefined : report;
  } catch (error) {
    // The repairer is busy, or just starts.
    if (!(error instanceof KvError)) throw error;
    return undefined;
  }
}

/** Those of `wanted` that not all of their members have repaired together yet. */
function openAfter(report: RepairReport | undefined, wanted: readonly string[]): string[] {
  const done = new Set(
    report?.sets.flatMap(({ set, outcome }) => (outcome === 'complete' ? [set] : [])),
  );
  return wanted.filter((id) => !done.has(id));
}
