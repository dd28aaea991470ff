// One repair, from the survey to the new horizon, as an async function of a session: it sees
// addresses and values only. Members that do not answer are left out; what the others hold is made
// equal all the same, but no horizon moves without them (AE-5).
//
//   survey   clocks and horizons of all parts (a part: one shard of one member)
//   begin    every part sums up its shard at the same `now` (AE-1)
//   compare  from the root of each set's tree down to the leaves that differ
//   sync     the keys of these leaves side by side; the winner goes to everyone who lacks it
//   agree    all parts of a set that is in order store the horizon; then all of them may use it
//
// A part may have nothing to do for hours while others sum up or are brought what they lack: it is
// told all the time that the session goes on.

import { type Ref, refTo, type Session } from '../../runtime/actor.ts';
import { crc32 } from '../../runtime/bytes.ts';
import type { Clock, Log, Random } from '../../runtime/environment.ts';
import { CorruptionError, describeFailure, KvError } from '../../runtime/errors.ts';
import type { AskNames, BodyOf, ReplyOf } from '../../runtime/protocol.ts';
import { maxSkewMicros } from '../model/hlc.ts';
import { recordEtag, recordIsSet } from '../model/record.ts';
import type { ReplicaSets } from '../model/replica-sets.ts';
import { resolveAll } from '../model/resolve.ts';
import { mergeReplicas } from '../model/siblings.ts';
import {
  addSums,
  bitsPerLevel,
  childrenOf,
  differing,
  leafBitsFor,
  nodeKey,
} from '../model/sum-tree.ts';
import { hashKey, shardOf } from '../model/token.ts';
import { type Pauses, tryAgain } from '../model/try-again.ts';
import { DigestPart, type HeldKey, nextKey, winnersOf } from './digest-merge.ts';
import { Repairer } from './protocol.ts';
import type { RepairProgress } from './repair-progress.ts';

export interface RunPlan {
  readonly sets: ReplicaSets;
  /** Numbers of the sets to repair. */
  readonly wanted: readonly number[];
  readonly isFull: boolean;
  /** Shards of the members that are alive. */
  readonly shardsOf: ReadonlyMap<string, number>;
  /** A write is durable everywhere or given up within so long, microseconds. */
  readonly lagMicros: number;
  readonly bytesPerSecond: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly progress: RepairProgress;
}

const askTimeoutMs = 30_000;
/** Several times within what a part waits before it gives a session up (repairer.actor.ts). */
const holdEveryMs = 30_000;
/** Pages of large records at a low rate take longer than anything else that is asked. */
const digestsTimeoutMs = 600_000;
/** Summing up a large shard at a low rate takes its time. */
const scanTimeoutMs = 24 * 3600 * 1000;
/** For so long a question is asked again before the sets that it is about count as failed. */
const patience: Readonly<Record<string, number>> = {
  OVERLOADED: 60_000,
  UNREACHABLE: 5_000,
  NOT_CONNECTED: 5_000,
};
const pauses: Pauses = { firstMs: 20, longestMs: 1_000 };
const nodesPerAsk = 1_024;
const leavesPerPass = 4_096;
/** Sets whose keys are all compared in one go: each go reads through all shards of their members. */
const setsPerPass = 64;
/** Keys that are brought to whoever lacks them side by side: as many as have so many bytes. */
const keysAtOnceMax = 64;
const bytesAtOnce = 4 * 1024 * 1024;

type AskName = AskNames<Repairer>;

interface Question<K extends AskName> {
  readonly body: BodyOf<Repairer[K]>;
  readonly timeoutMs?: number;
}

/** A question to all members, the same or another one for each. */
interface Questions<K extends AskName> {
  readonly bodyFor: (node: string) => BodyOf<Repairer[K]>;
  readonly timeoutMs?: number;
}

export async function runRepair(session: Session, plan: RunPlan): Promise<void> {
  const run = new Run(session, plan);
  void hold(run);
  try {
    await play(run);
  } finally {
    run.isOver = true;
    run.progress.ended(plan.clock.monotonicMs());
  }
}

/** What the steps of one repair share. */
class Run {
  readonly progress: RepairProgress;
  readonly session: Session;
  readonly plan: RunPlan;
  readonly id: number;
  isOver = false;
  /** Members that take part: alive, and answering so far. */
  readonly members: Set<string>;
  /** By number of the set: the members that took part when it was compared. */
  readonly compared = new Map<number, readonly string[]>();

  constructor(session: Session, plan: RunPlan) {
    this.session = session;
    this.plan = plan;
    this.progress = plan.progress;
    this.id = plan.random.int(2 ** 31) * 2 ** 21 + plan.random.int(2 ** 21);
    const concerned = new Set(plan.wanted.flatMap((set) => plan.sets.sets[set]?.members ?? []));
    this.members = new Set([...plan.shardsOf.keys()].filter((node) => concerned.has(node)));
  }
}

async function play(run: Run): Promise<void> {
  const { progress } = run;
  progress.phase = 'survey';
  const floors = await begin(run);
  if (floors === undefined) return;
  try {
    progress.phase = 'compare';
    const leaves = run.plan.isFull ? [] : await compareAll(run, floors.bits);
    progress.phase = 'sync';
    await syncAll(run, leaves);
    progress.phase = 'agree';
    await settle(run);
  } finally {
    progress.phase = 'end';
    await ends(run);
  }
}

/** Who does not hear of it has gone or never began: the step that asks it next finds out. */
async function hold(run: Run): Promise<void> {
  const body = { session: run.id };
  for (;;) {
    await run.session.sleep(holdEveryMs);
    if (run.isOver) return;
    await Promise.allSettled([...run.members].map((node) => askParts(run, node, 'hold', { body })));
  }
}

// ---- survey and begin ----------------------------------------------------------------------

/** Undefined: nobody is there to be compared. */
async function begin(run: Run): Promise<{ readonly bits: number } | undefined> {
  const surveys = await askMembers(run, 'survey', { bodyFor: () => ({}) });
  const all = [...surveys.values()].flat();
  if (all.length === 0) {
    for (const set of run.plan.wanted) run.progress.failed(set, 'no member answers');
    return undefined;
  }
  const { sets, lagMicros, isFull } = run.plan;
  const wallMicros = Math.min(...all.map((survey) => survey.wallMicros));
  const records = [...surveys.values()].map((parts) =>
    parts.reduce((sum, part) => sum + part.records, 0),
  );
  const horizons = horizonsOf(sets, surveys);
  const bits = leafBitsFor(Math.max(...records));
  const request = {
    session: run.id,
    bits,
    nowMs: Math.floor(wallMicros / 1000),
    horizon: Math.max(0, Math.floor(wallMicros) - maxSkewMicros - lagMicros),
    isFull,
  };
  run.progress.phase = isFull ? 'begin' : 'sum up';
  const bodyFor = (node: string): BodyOf<Repairer['begin']> => {
    const own = new Set(sets.ofNode(node));
    const ownOnly = (of: readonly number[]): number[] => of.map((hlc, i) => (own.has(i) ? hlc : 0));
    // Where one went back, its members have something that came late and that the others have to
    // get, also if some of them have purged what is younger (TS-7): so the lowest.
    return { ...request, floors: ownOnly(horizons.lowest), purged: ownOnly(horizons.highest) };
  };
  const begun = await askMembers(run, 'begin', { bodyFor, timeoutMs: scanTimeoutMs });
  for (const parts of begun.values())
    for (const part of parts) run.progress.recordsScanned += part.records;
  return { bits };
}

/** By number of the set: the purge horizons of all parts of its members that answer. */
function horizonsOf(
  { sets }: ReplicaSets,
  surveys: ReadonlyMap<string, readonly ReplyOf<Repairer['survey']>[]>,
): { readonly lowest: readonly number[]; readonly highest: readonly number[] } {
  const known = new Map(
    [...surveys].map(([node, parts]) => [
      node,
      parts.map(({ horizons }) => new Map(horizons.map(({ set, purge }) => [set, purge]))),
    ]),
  );
  const lowest: number[] = [];
  const highest: number[] = [];
  sets.forEach(({ members }, i) => {
    let low = Infinity;
    let high = 0;
    for (const node of members)
      for (const part of known.get(node) ?? []) {
        const purge = part.get(i) ?? 0;
        low = Math.min(low, purge);
        high = Math.max(high, purge);
      }
    lowest.push(low === Infinity ? 0 : low);
    highest.push(high);
  });
  return { lowest, highest };
}

// ---- compare -------------------------------------------------------------------------------

/** Keys of the leaves that differ, of all sets. */
async function compareAll(run: Run, bits: number): Promise<readonly number[]> {
  const found: number[] = [];
  for (const set of run.plan.wanted) {
    const members = present(run, set);
    if (members === undefined) continue;
    const leaves = await guarded(run, set, () => compare(run, set, members, bits));
    for (const leaf of leaves ?? []) found.push(nodeKey(set, leaf));
  }
  run.progress.leavesDiffering += found.length;
  return found;
}

async function compare(
  run: Run,
  set: number,
  members: readonly string[],
  bits: number,
): Promise<readonly number[]> {
  let nodes: readonly number[] = [0];
  for (let level = 0; ; level += bitsPerLevel) {
    const unequal: number[] = [];
    for (let at = 0; at < nodes.length; at += nodesPerAsk) {
      const some = nodes.slice(at, at + nodesPerAsk);
      const request = { session: run.id, set, level, nodes: some };
      const sums = members.map(async (node) => {
        const parts = await askParts(run, node, 'sums', { body: request });
        return addSums(parts.map((part) => part.sums));
      });
      unequal.push(...differing(some, await Promise.all(sums)));
    }
    if (unequal.length === 0 || level >= bits) return unequal;
    nodes = childrenOf(unequal);
  }
}

/** Members that answer; undefined, and said so, where there is nobody to compare with. */
function present(run: Run, set: number): readonly string[] | undefined {
  const members = membersOf(run, set).filter((node) => run.members.has(node));
  if (members.length < 2) {
    run.progress.failed(set, 'fewer than two members answer');
    return undefined;
  }
  run.compared.set(set, members);
  return members;
}

// ---- sync ----------------------------------------------------------------------------------

async function syncAll(run: Run, leaves: readonly number[]): Promise<void> {
  if (run.plan.isFull) {
    const sets = run.plan.wanted.filter((set) => present(run, set) !== undefined);
    for (let at = 0; at < sets.length; at += setsPerPass)
      await pass(run, sets.slice(at, at + setsPerPass), []);
  }
  for (let at = 0; at < leaves.length; at += leavesPerPass) {
    const some = leaves.slice(at, at + leavesPerPass);
    const sets = [...new Set(some.map((leaf) => Math.floor(leaf / nodeKey(1, 0))))];
    await pass(run, sets, some);
  }
}

/** All keys of these leaves, once; a failure fails all of these sets. */
async function pass(run: Run, sets: readonly number[], leaves: readonly number[]): Promise<void> {
  try {
    await syncKeys(run, sets, leaves);
  } catch (error) {
    const why = reasonOf(error);
    for (const set of sets) run.progress.failed(set, why);
  }
}

async function syncKeys(
  run: Run,
  sets: readonly number[],
  leaves: readonly number[],
): Promise<void> {
  const nodes = new Set(sets.flatMap((set) => run.compared.get(set) ?? []));
  const parts = [...nodes].flatMap((node) =>
    Array.from({ length: shardsOf(run, node) }, (_, shard) => new DigestPart(node, shard)),
  );
  let keysAtOnce = keysAtOnceMax / 4;
  const sync = async (batch: readonly HeldKey[]): Promise<void> => {
    const bytes = await syncBatch(run, batch);
    const fitting = Math.floor((batch.length * bytesAtOnce) / Math.max(bytes, 1));
    keysAtOnce = Math.max(1, Math.min(fitting, 2 * keysAtOnce, keysAtOnceMax));
  };
  for (;;) {
    const hungry = parts.filter((part) => part.isHungry);
    await Promise.all(hungry.map((part) => feed(run, part, sets, leaves)));
    let batch: HeldKey[] = [];
    for (let next = nextKey(parts); next !== undefined; next = nextKey(parts)) {
      run.progress.keysCompared += 1;
      batch.push(next);
      if (batch.length < keysAtOnce) continue;
      await sync(batch);
      batch = [];
    }
    if (batch.length > 0) await sync(batch);
    if (parts.every((part) => !part.isHungry)) return;
  }
}

async function feed(
  run: Run,
  part: DigestPart,
  sets: readonly number[],
  leaves: readonly number[],
): Promise<void> {
  const to = refTo(Repairer, part.node, part.shard);
  const request = { session: run.id, after: part.after, sets, leaves };
  part.feed(await askPatiently(run, to, 'digests', request, digestsTimeoutMs));
}

/** Bytes that were sent. */
async function syncBatch(run: Run, batch: readonly HeldKey[]): Promise<number> {
  const { clock, bytesPerSecond } = run.plan;
  const startedMs = clock.monotonicMs();
  const sent = await Promise.all(batch.map((key) => syncOne(run, key)));
  const bytes = sent.reduce((sum, size) => sum + size, 0);
  if (bytes === 0) return 0;
  const dueMs = startedMs + (bytes / bytesPerSecond) * 1000;
  await run.session.sleep(Math.max(0, dueMs - clock.monotonicMs()));
  return bytes;
}

/** Bytes that were sent. Siblings that no record holds together fail the set of their key alone. */
async function syncOne(run: Run, held: HeldKey): Promise<number> {
  try {
    return await syncKey(run, held);
  } catch (error) {
    if (!(error instanceof KvError) || error.code !== 'TOO_LARGE') throw error;
    run.progress.failed(run.plan.sets.indexOf(hashKey(held.key).token), reasonOf(error));
    return 0;
  }
}

/** Bytes that were sent. */
async function syncKey(run: Run, { key, held }: HeldKey): Promise<number> {
  const { token, hash } = hashKey(key);
  const members = run.compared.get(run.plan.sets.indexOf(token)) ?? [];
  const known = new Map([...held].filter(([node]) => members.includes(node)));
  const sources = winnersOf(known);
  const contents = new Set([...known.values()].map(({ content }) => content));
  if (sources.length === 1 && contents.size === 1 && known.size === members.length) return 0;
  const read = (nodes: readonly string[]): Promise<(Uint8Array | undefined)[]> =>
    Promise.all(
      nodes.map(async (node) => {
        const part = refTo(Repairer, node, partOf(run, node, token));
        const body = { session: run.id, key, hash };
        return (await askPatiently(run, part, 'read', body)).record;
      }),
    );
  const found = await read(sources);
  // No stamp says which sibling set holds all others.
  if (found.some((record) => record !== undefined && recordIsSet(record)))
    found.push(...(await read([...known.keys()].filter((node) => !sources.includes(node)))));
  const winner = resolveAll(found, mergeReplicas);
  // It was purged in the meantime: then it hides nothing any more.
  if (winner === undefined) return 0;
  const { hlc, writer, incarnation } = recordEtag(winner);
  const content = crc32(winner);
  const lacking = members.filter((node) => {
    const digest = known.get(node);
    return (
      digest?.content !== content ||
      digest.hlc !== hlc ||
      digest.writer !== writer ||
      digest.incarnation !== incarnation
    );
  });
  const request = { session: run.id, record: winner };
  await Promise.all(
    lacking.map((node) =>
      askPatiently(run, refTo(Repairer, node, partOf(run, node, token)), 'write', request),
    ),
  );
  run.progress.sent(lacking.length, winner.length);
  return lacking.length * winner.length;
}

/**
 * A shard that is busy for a while, with its flushes or with what others write, is asked again, and
 * so is one to which a connection was lost. What is asked may be done twice.
 */
function askPatiently<K extends 'digests' | 'read' | 'write'>(
  { session, plan: { clock } }: Run,
  to: Ref<Repairer>,
  name: K,
  body: BodyOf<Repairer[K]>,
  timeoutMs = askTimeoutMs,
): Promise<ReplyOf<Repairer[K]>> {
  const startedMs = clock.monotonicMs();
  const ask = (): Promise<ReplyOf<Repairer[K]>> => session.ask(to, name, body, timeoutMs);
  return tryAgain(session, pauses, ask, (error) => {
    const patienceMs = error instanceof KvError ? (patience[error.code] ?? 0) : 0;
    return clock.monotonicMs() - startedMs < patienceMs;
  });
}

// ---- the end -------------------------------------------------------------------------------

/** The horizon moves for sets in which everyone took part and nothing failed, in two steps. */
async function settle(run: Run): Promise<void> {
  for (const [set, members] of run.compared)
    if (members.length < membersOf(run, set).length)
      run.progress.partial(set, 'not all members answer');
  const inOrder = [...run.compared.keys()].filter((set) => run.progress.isInOrder(set));
  const agreed = await tellSets(run, 'agree', inOrder);
  const confirmed = await tellSets(run, 'confirm', agreed);
  for (const set of confirmed) run.progress.complete(set);
}

/** The sets for which all parts of all members have answered. */
async function tellSets(
  run: Run,
  name: 'agree' | 'confirm',
  sets: readonly number[],
): Promise<readonly number[]> {
  const concerned = new Set(sets.flatMap((set) => membersOf(run, set)));
  const failed = new Set<string>();
  await Promise.all(
    [...concerned].map(async (node) => {
      const own = sets.filter((set) => membersOf(run, set).includes(node));
      try {
        await askParts(run, node, name, { body: { session: run.id, sets: own } });
      } catch (error) {
        failed.add(node);
        for (const set of own) run.progress.failed(set, `${node}: ${reasonOf(error)}`);
      }
    }),
  );
  return sets.filter((set) => !membersOf(run, set).some((node) => failed.has(node)));
}

async function ends(run: Run): Promise<void> {
  await Promise.allSettled(
    [...run.members].map((node) => askParts(run, node, 'end', { body: { session: run.id } })),
  );
}

// ---- asking --------------------------------------------------------------------------------

/** Asks all parts of all members; a member of which one part fails is left out from here on. */
async function askMembers<K extends AskName>(
  run: Run,
  name: K,
  { bodyFor, ...rest }: Questions<K>,
): Promise<Map<string, readonly ReplyOf<Repairer[K]>[]>> {
  const answers = new Map<string, readonly ReplyOf<Repairer[K]>[]>();
  await Promise.all(
    [...run.members].map(async (node) => {
      try {
        answers.set(node, await askParts(run, node, name, { ...rest, body: bodyFor(node) }));
      } catch (error) {
        run.members.delete(node);
        run.plan.log.warn('repair.member-lost', { peer: node, why: reasonOf(error) });
      }
    }),
  );
  return answers;
}

function askParts<K extends AskName>(
  run: Run,
  node: string,
  name: K,
  { body, timeoutMs = askTimeoutMs }: Question<K>,
): Promise<ReplyOf<Repairer[K]>[]> {
  return Promise.all(
    Array.from({ length: shardsOf(run, node) }, (_, shard) =>
      run.session.ask(refTo(Repairer, node, shard), name, body, timeoutMs),
    ),
  );
}

async function guarded<T>(run: Run, set: number, work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    run.progress.failed(set, reasonOf(error));
    return undefined;
  }
}

/** The shard of a node that holds a token. */
const partOf = (run: Run, node: string, token: number): number =>
  shardOf(token, shardsOf(run, node));

function shardsOf(run: Run, node: string): number {
  return run.plan.shardsOf.get(node) ?? 1;
}

function membersOf(run: Run, set: number): readonly string[] {
  return run.plan.sets.sets[set]?.members ?? [];
}

/** Expected failures end a part of the work; a defect ends all of it. */
function reasonOf(error: unknown): string {
  if (error instanceof KvError) return describeFailure(error.toFailure());
  if (error instanceof CorruptionError) return error.message;
  throw error;
}
