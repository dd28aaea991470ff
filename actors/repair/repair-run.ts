// One repair, from the survey to the new horizon, as an async function of a session: it sees
// addresses and values only. Members that do not answer are left out; what the others hold is made
// equal all the same, but no horizon moves without them (AE-5).
//
//   survey   clocks and horizons of all parts (a part: one shard of one member)
//   begin    every part sums up its shard at the same `now` (AE-1)
//   compare  from the root of each set's tree down to the leaves that differ
//   sync     the keys of these leaves side by side; the winner goes to everyone who lacks it
//   agree    all parts of a set that is in order store the horizon; then all of them may use it

import { type Ref, refTo, type Session } from '../../runtime/actor.ts';
import { crc32 } from '../../runtime/bytes.ts';
import type { Clock, Log, Random } from '../../runtime/environment.ts';
import { CorruptionError, describeFailure, KvError } from '../../runtime/errors.ts';
import type { AskNames, BodyOf, ReplyOf } from '../../runtime/protocol.ts';
import { maxSkewMicros } from '../model/hlc.ts';
import { recordEtag } from '../model/record.ts';
import type { ReplicaSets } from '../model/replica-sets.ts';
import { lastWriteWins, resolveAll } from '../model/resolve.ts';
import {
  addSums,
  bitsPerLevel,
  childrenOf,
  differing,
  leafBitsFor,
  nodeKey,
} from '../model/sum-tree.ts';
import { hashKey, shardOf } from '../model/token.ts';
import { Replica } from '../replication/protocol.ts';
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
/** Summing up a large shard at a low rate takes its time. */
const scanTimeoutMs = 24 * 3600 * 1000;
const nodesPerAsk = 1_024;
const leavesPerPass = 4_096;
const keysAtOnce = 16;

type AskName = AskNames<Repairer>;

export async function runRepair(session: Session, plan: RunPlan): Promise<void> {
  const run = new Run(session, plan);
  try {
    await run.play();
  } finally {
    run.progress.ended(plan.clock.monotonicMs());
  }
}

class Run {
  readonly progress: RepairProgress;
  readonly #session: Session;
  readonly #plan: RunPlan;
  readonly #id: number;
  /** Members that take part: alive, and answering so far. */
  readonly #members: Set<string>;
  /** By number of the set: the members that took part when it was compared. */
  readonly #compared = new Map<number, readonly string[]>();

  constructor(session: Session, plan: RunPlan) {
    this.#session = session;
    this.#plan = plan;
    this.progress = plan.progress;
    this.#id = plan.random.int(2 ** 31) * 2 ** 21 + plan.random.int(2 ** 21);
    const concerned = new Set(plan.wanted.flatMap((set) => this.#membersOf(set)));
    this.#members = new Set([...plan.shardsOf.keys()].filter((node) => concerned.has(node)));
  }

  async play(): Promise<void> {
    const { progress } = this;
    progress.phase = 'survey';
    const floors = await this.#begin();
    if (floors === undefined) return;
    try {
      progress.phase = 'compare';
      const leaves = this.#plan.isFull ? [] : await this.#compareAll(floors.bits);
      progress.phase = 'sync';
      await this.#syncAll(leaves);
      progress.phase = 'agree';
      await this.#settle();
    } finally {
      progress.phase = 'end';
      await this.#ends();
    }
  }

  // ---- survey and begin ----------------------------------------------------------------------

  /** Undefined: nobody is there to be compared. */
  async #begin(): Promise<{ readonly bits: number } | undefined> {
    const surveys = await this.#askMembers('survey', () => ({}), askTimeoutMs);
    const all = [...surveys.values()].flat();
    if (all.length === 0) {
      for (const set of this.#plan.wanted) this.progress.failed(set, 'no member answers');
      return undefined;
    }
    const wallMicros = Math.min(...all.map((survey) => survey.wallMicros));
    const records = [...surveys.values()].map((parts) =>
      parts.reduce((sum, part) => sum + part.records, 0),
    );
    const floors = this.#plan.sets.sets.map(() => 0);
    for (const { horizons } of all)
      for (const { set, purge } of horizons) floors[set] = Math.max(floors[set] ?? 0, purge);
    const bits = leafBitsFor(Math.max(...records));
    const request = {
      session: this.#id,
      bits,
      nowMs: Math.floor(wallMicros / 1000),
      floors,
      horizon: Math.max(0, Math.floor(wallMicros) - maxSkewMicros - this.#plan.lagMicros),
    };
    this.progress.phase = 'sum up';
    const begun = await this.#askMembers('begin', () => request, scanTimeoutMs);
    for (const parts of begun.values())
      for (const part of parts) this.progress.recordsScanned += part.records;
    return { bits };
  }

  // ---- compare -------------------------------------------------------------------------------

  /** Keys of the leaves that differ, of all sets. */
  async #compareAll(bits: number): Promise<readonly number[]> {
    const found: number[] = [];
    for (const set of this.#plan.wanted) {
      const members = this.#present(set);
      if (members === undefined) continue;
      const leaves = await this.#guarded(set, () => this.#compare(set, members, bits));
      for (const leaf of leaves ?? []) found.push(nodeKey(set, leaf));
    }
    this.progress.leavesDiffering += found.length;
    return found;
  }

  async #compare(
    set: number,
    members: readonly string[],
    bits: number,
  ): Promise<readonly number[]> {
    let nodes: readonly number[] = [0];
    for (let level = 0; ; level += bitsPerLevel) {
      const unequal: number[] = [];
      for (let at = 0; at < nodes.length; at += nodesPerAsk) {
        const some = nodes.slice(at, at + nodesPerAsk);
        const request = { session: this.#id, set, level, nodes: some };
        const sums = members.map(async (node) => {
          const parts = await this.#askParts(node, 'sums', () => request, askTimeoutMs);
          return addSums(parts.map((part) => part.sums));
        });
        unequal.push(...differing(some, await Promise.all(sums)));
      }
      if (unequal.length === 0 || level >= bits) return unequal;
      nodes = childrenOf(unequal);
    }
  }

  /** Members that answer; undefined, and said so, where there is nobody to compare with. */
  #present(set: number): readonly string[] | undefined {
    const members = this.#membersOf(set).filter((node) => this.#members.has(node));
    if (members.length < 2) {
      this.progress.failed(set, 'fewer than two members answer');
      return undefined;
    }
    this.#compared.set(set, members);
    return members;
  }

  // ---- sync ----------------------------------------------------------------------------------

  async #syncAll(leaves: readonly number[]): Promise<void> {
    if (this.#plan.isFull) {
      const sets = this.#plan.wanted.filter((set) => this.#present(set) !== undefined);
      await this.#pass(sets, []);
    }
    for (let at = 0; at < leaves.length; at += leavesPerPass) {
      const some = leaves.slice(at, at + leavesPerPass);
      const sets = [...new Set(some.map((leaf) => Math.floor(leaf / nodeKey(1, 0))))];
      await this.#pass(sets, some);
    }
  }

  /** All keys of these leaves, once; a failure fails all of these sets. */
  async #pass(sets: readonly number[], leaves: readonly number[]): Promise<void> {
    try {
      await this.#syncKeys(sets, leaves);
    } catch (error) {
      const why = reasonOf(error);
      for (const set of sets) this.progress.failed(set, why);
    }
  }

  async #syncKeys(sets: readonly number[], leaves: readonly number[]): Promise<void> {
    const nodes = new Set(sets.flatMap((set) => this.#compared.get(set) ?? []));
    const parts = [...nodes].flatMap((node) =>
      Array.from({ length: this.#shards(node) }, (_, shard) => new DigestPart(node, shard)),
    );
    for (;;) {
      const hungry = parts.filter((part) => part.isHungry);
      await Promise.all(hungry.map((part) => this.#feed(part, sets, leaves)));
      let batch: HeldKey[] = [];
      for (let next = nextKey(parts); next !== undefined; next = nextKey(parts)) {
        this.progress.keysCompared += 1;
        batch.push(next);
        if (batch.length < keysAtOnce) continue;
        await this.#syncBatch(batch);
        batch = [];
      }
      await this.#syncBatch(batch);
      if (parts.every((part) => !part.isHungry)) return;
    }
  }

  async #feed(part: DigestPart, sets: readonly number[], leaves: readonly number[]): Promise<void> {
    const to = refTo(Repairer, part.node, part.shard);
    const request = { session: this.#id, after: part.after, sets, leaves };
    part.feed(await this.#session.ask(to, 'digests', request, askTimeoutMs));
  }

  async #syncBatch(batch: readonly HeldKey[]): Promise<void> {
    const { clock, bytesPerSecond } = this.#plan;
    const startedMs = clock.monotonicMs();
    const sent = await Promise.all(batch.map((key) => this.#syncKey(key)));
    const bytes = sent.reduce((sum, size) => sum + size, 0);
    if (bytes === 0) return;
    const dueMs = startedMs + (bytes / bytesPerSecond) * 1000;
    await this.#session.sleep(Math.max(0, dueMs - clock.monotonicMs()));
  }

  /** Bytes that were sent. */
  async #syncKey({ key, held }: HeldKey): Promise<number> {
    const { token, hash } = hashKey(key);
    const members = this.#compared.get(this.#plan.sets.indexOf(token)) ?? [];
    const known = new Map([...held].filter(([node]) => members.includes(node)));
    const sources = winnersOf(known);
    const contents = new Set([...known.values()].map(({ content }) => content));
    if (sources.length === 1 && contents.size === 1 && known.size === members.length) return 0;
    const found = await Promise.all(
      sources.map((node) => {
        const replica = this.#at(Replica, node, token);
        return this.#session.ask(replica, 'read', { key, hash, digest: false }, askTimeoutMs);
      }),
    );
    const winner = resolveAll(
      found.map(({ record }) => record),
      lastWriteWins,
    );
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
    const request = { session: this.#id, record: winner };
    await Promise.all(
      lacking.map((node) =>
        this.#session.ask(this.#at(Repairer, node, token), 'write', request, askTimeoutMs),
      ),
    );
    this.progress.sent(lacking.length, winner.length);
    return lacking.length * winner.length;
  }

  // ---- the end -------------------------------------------------------------------------------

  /** The horizon moves for sets in which everyone took part and nothing failed, in two steps. */
  async #settle(): Promise<void> {
    for (const [set, members] of this.#compared)
      if (members.length < this.#membersOf(set).length)
        this.progress.partial(set, 'not all members answer');
    const inOrder = [...this.#compared.keys()].filter((set) => this.progress.isInOrder(set));
    const agreed = await this.#tellSets('agree', inOrder);
    const confirmed = await this.#tellSets('confirm', agreed);
    for (const set of confirmed) this.progress.complete(set);
  }

  /** The sets for which all parts of all members have answered. */
  async #tellSets(name: 'agree' | 'confirm', sets: readonly number[]): Promise<readonly number[]> {
    const concerned = new Set(sets.flatMap((set) => this.#membersOf(set)));
    const failed = new Set<string>();
    await Promise.all(
      [...concerned].map(async (node) => {
        const own = sets.filter((set) => this.#membersOf(set).includes(node));
        try {
          await this.#askParts(node, name, () => ({ session: this.#id, sets: own }), askTimeoutMs);
        } catch (error) {
          failed.add(node);
          for (const set of own) this.progress.failed(set, `${node}: ${reasonOf(error)}`);
        }
      }),
    );
    return sets.filter((set) => !this.#membersOf(set).some((node) => failed.has(node)));
  }

  async #ends(): Promise<void> {
    await Promise.allSettled(
      [...this.#members].map((node) =>
        this.#askParts(node, 'end', () => ({ session: this.#id }), askTimeoutMs),
      ),
    );
  }

  // ---- asking --------------------------------------------------------------------------------

  /** Asks all parts of all members; a member of which one part fails is left out from here on. */
  async #askMembers<K extends AskName>(
    name: K,
    body: () => BodyOf<Repairer[K]>,
    timeoutMs: number,
  ): Promise<Map<string, readonly ReplyOf<Repairer[K]>[]>> {
    const answers = new Map<string, readonly ReplyOf<Repairer[K]>[]>();
    await Promise.all(
      [...this.#members].map(async (node) => {
        try {
          answers.set(node, await this.#askParts(node, name, body, timeoutMs));
        } catch (error) {
          this.#members.delete(node);
          this.#plan.log.warn('repair.member-lost', { peer: node, why: reasonOf(error) });
        }
      }),
    );
    return answers;
  }

  #askParts<K extends AskName>(
    node: string,
    name: K,
    body: () => BodyOf<Repairer[K]>,
    timeoutMs: number,
  ): Promise<ReplyOf<Repairer[K]>[]> {
    return Promise.all(
      Array.from({ length: this.#shards(node) }, (_, shard) =>
        this.#session.ask(refTo(Repairer, node, shard), name, body(), timeoutMs),
      ),
    );
  }

  async #guarded<T>(set: number, work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      this.progress.failed(set, reasonOf(error));
      return undefined;
    }
  }

  #at<P extends typeof Repairer | typeof Replica>(
    protocol: P,
    node: string,
    token: number,
  ): Ref<P['messages']> {
    return refTo<P['messages']>(protocol as never, node, shardOf(token, this.#shards(node)));
  }

  #shards(node: string): number {
    return this.#plan.shardsOf.get(node) ?? 1;
  }

  #membersOf(set: number): readonly string[] {
    return this.#plan.sets.sets[set]?.members ?? [];
  }
}

/** Expected failures end a part of the work; a defect ends all of it. */
function reasonOf(error: unknown): string {
  if (error instanceof KvError) return describeFailure(error.toFailure());
  if (error instanceof CorruptionError) return error.message;
  throw error;
}
