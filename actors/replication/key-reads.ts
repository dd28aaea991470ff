// Reads of single keys on their way through the replicas: each is a ReadPath driven by the answers to
// its asks, or waits for one that others share (joined-reads.ts). Callbacks, no promises, as in all
// of the coordinator.

import type { Call, Context } from '../../runtime/actor.ts';
import type { TimerHandle } from '../../runtime/environment.ts';
import { assert, type Failure, failure, KvError } from '../../runtime/errors.ts';
import type { Counter } from '../../runtime/metrics.ts';
import { type Listed, OpenList } from '../../runtime/open-list.ts';
import type { ReplyOf, Tell } from '../../runtime/protocol.ts';
import { type Level, parsePlainLevel } from '../model/consistency.ts';
import { isLive, recordHlc, recordIncarnation, recordWriter, storageKey } from '../model/record.ts';
import type { Resolve } from '../model/resolve.ts';
import { hashKey, type KeyHashes } from '../model/token.ts';
import type { BackgroundRepair } from './background-repair.ts';
import { Explanation } from './explain.ts';
import { type Answers, JoinedReads, type ReadTarget, type SharedRead } from './joined-reads.ts';
import type { ReadReply, ReadRequest, Replica } from './protocol.ts';
import { type ReadAction, ReadPath } from './read-path.ts';
import { admitLevel, type ReplicaView } from './replica-view.ts';

/** What its actor tells itself for it. */
export interface ReadTimers {
  readonly sweep: Tell<object>;
  readonly expire: Tell<object>;
}

type Tools = Pick<
  Context<ReadTimers>,
  'after' | 'ask' | 'askHere' | 'clock' | 'metrics' | 'node' | 'probe' | 'shard'
>;

export interface KeyReadsOptions {
  readonly view: ReplicaView;
  readonly resolve: Resolve;
  readonly background: BackgroundRepair;
  /** A read that waits longer asks one replica more, and holds up nobody; milliseconds. */
  readonly speculateAfterMs: number;
  /** With so many reads of a key in flight others join. */
  readonly joinAbove: number;
}

/** A read on its way. */
interface KeyRead extends Listed {
  readonly key: Uint8Array;
  readonly hashes: KeyHashes;
  readonly level: Level;
  readonly candidates: readonly string[];
  readonly required: number;
  readonly startedMs: number;
  /** Monotonic: when the replicas have to have answered. */
  readonly deadlineMs: number;
  readonly explanation: Explanation | undefined;
  /** Undefined: it may yet end in the turn that began it. */
  open: { readonly path: ReadPath; readonly answers: Answers } | undefined;
  /** What came in that turn. */
  early: { readonly problem: Failure | undefined; readonly reply: ReplicaReply } | undefined;
}

type ReplicaReply = ReplyOf<Replica['read']> | undefined;

export class KeyReads {
  readonly #ctx: Tools;
  readonly #options: KeyReadsOptions;
  readonly #reads = new OpenList<KeyRead>();
  readonly #joined: JoinedReads;
  readonly #joinedTotal: Counter;
  #isSweeping = false;
  /** When waiters are looked at next, monotonic. */
  #expiryMs = Infinity;
  #expiry: TimerHandle | undefined;

  constructor(ctx: Tools, options: KeyReadsOptions) {
    this.#ctx = ctx;
    this.#options = options;
    const start = (read: SharedRead): void => this.#startShared(read);
    this.#joined = new JoinedReads({ above: options.joinAbove, start });
    const labels = { shard: String(ctx.shard) };
    ctx.metrics.gauge('kvd_coordinator_open_reads', 'Reads in flight', () => this.open, labels);
    this.#joinedTotal = ctx.metrics.counter(
      'kvd_coordinator_joined_reads_total',
      'Reads of hot keys that were answered with others by one read of the replicas',
      labels,
    );
  }

  /** Reads that were taken and not answered. */
  get open(): number {
    return this.#reads.size + this.#joined.waiting;
  }

  /** The reply, or what `later` has made, which gets it. Throws where it is refused. */
  read<Later extends Answers>(
    { namespace, key: userKey, level: word, explain }: ReadRequest,
    call: Call,
    later: () => Later,
  ): ReadReply | Later {
    const { clock } = this.#ctx;
    const level = parsePlainLevel(word);
    const key = storageKey(namespace, userKey);
    const hashes = hashKey(key);
    const startedMs = clock.monotonicMs();
    const explanation = explain ? new Explanation(clock) : undefined;
    const deadlineMs = deadlineOf(call, startedMs);
    const read = this.#admitted({ key, hashes, level }, startedMs, deadlineMs, explanation);
    if (explain || !this.#joined.isHot(hashes.hash)) return this.#begin(read, later);
    const answers = later();
    this.#expireAt(deadlineMs);
    const target = { key, hashes, level };
    this.#joined.join(target, { answers, required: read.required, deadlineMs });
    return answers;
  }

  /** UNAVAILABLE where too few replicas are alive. */
  #admitted(
    { key, hashes, level }: ReadTarget,
    startedMs: number,
    deadlineMs: number,
    explanation: Explanation | undefined,
  ): KeyRead {
    const { view } = this.#options;
    const replicas = view.replicasOf(hashes.token);
    const candidates = view.live(replicas);
    const required = admitLevel(level, replicas, candidates);
    return {
      key,
      hashes,
      level,
      candidates,
      required,
      startedMs,
      deadlineMs,
      explanation,
      open: undefined,
      early: undefined,
      place: -1,
    };
  }

  #begin<Later extends Answers>(
    read: KeyRead,
    later: (path: ReadPath) => Later,
  ): ReadReply | Later {
    const { key, hashes, candidates, required } = read;
    const { node } = this.#ctx;
    // One copy is enough and this node has it: such a read needs nothing else where it ends in this
    // turn.
    const isAlone = required === 1 && candidates[0] === node && read.explanation === undefined;
    if (isAlone) {
      this.#askAlone(read);
      const found = read.early?.reply;
      if (found !== undefined) {
        this.#options.background.wasRead(key, hashes);
        return this.#replyOf(found.record, undefined);
      }
    }
    const path = new ReadPath(required, candidates, this.#options.resolve);
    const answers = later(path);
    read.open = { path, answers };
    this.#reads.add(read);
    this.#joined.began(hashes.hash);
    const actions = path.begin();
    if (!isAlone) this.#run(read, actions);
    else if (read.early !== undefined)
      this.#answered(read, node, read.early.problem, read.early.reply);
    this.#startSweep();
    return answers;
  }

  #askAlone(read: KeyRead): void {
    const { key, hashes, deadlineMs } = read;
    const { node, askHere } = this.#ctx;
    const replica = this.#options.view.replica(node, hashes.token);
    const body = { key, hash: hashes.hash, digest: false };
    askHere(replica, 'read', body, deadlineMs, (problem, reply) => {
      if (read.open === undefined) read.early = { problem, reply };
      else this.#answered(read, node, problem, reply);
    });
  }

  /** A read for all that wait for it: as one that has come just now. */
  #startShared(shared: SharedRead): void {
    const { target, waiters, deadlineMs } = shared;
    const nowMs = this.#ctx.clock.monotonicMs();
    shared.startedMs = nowMs;
    if (waiters.length > 1) {
      this.#joinedTotal.add(waiters.length - 1);
      this.#ctx.probe.reach('reads joined');
    }
    try {
      const begun = this.#begin(
        this.#admitted(target, nowMs, deadlineMs, undefined),
        (path): Answers => {
          shared.received = () => path.received;
          return shared;
        },
      );
      if (begun !== shared) shared.resolve(begun as ReadReply);
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      shared.fail(error.toFailure());
    }
  }

  #replyOf(record: Uint8Array | undefined, explanation: string | undefined): ReadReply {
    const nowMs = Math.floor(this.#ctx.clock.wallMicros() / 1000);
    return {
      record: record !== undefined && isLive(record, nowMs) ? record : undefined,
      hlc: record === undefined ? 0 : recordHlc(record),
      writer: record === undefined ? 0 : recordWriter(record),
      incarnation: record === undefined ? 0 : recordIncarnation(record),
      nowMs,
      coordinator: this.#ctx.node,
      explanation,
    };
  }

  #run(read: KeyRead, actions: readonly ReadAction[]): void {
    const { path, answers } = openOrBug(read);
    for (const action of actions) {
      if (action.kind === 'read') this.#askRead(read, action.node, action.digest);
      else this.#askRepair(read, action.node, action.record);
    }
    const { outcome } = path;
    if (outcome.kind === 'open' || !this.#end(read)) return;
    const { level, required, hashes, explanation } = read;
    if (outcome.kind === 'failed')
      return answers.fail(failure('TIMEOUT', { required, received: path.received }));
    const replicas = this.#options.view.replicasOf(hashes.token);
    const coordinator = this.#ctx.node;
    const text = explanation?.text({ coordinator, level, required, replicas });
    answers.resolve(this.#replyOf(outcome.record, text));
    this.#options.background.wasRead(read.key, hashes);
  }

  /** False: it had ended before. */
  #end(read: KeyRead): boolean {
    if (!this.#reads.delete(read)) return false;
    this.#joined.ended(read.hashes.hash);
    return true;
  }

  #askRead(read: KeyRead, node: string, digest: boolean): void {
    const { key, hashes, deadlineMs, explanation } = read;
    const note = explanation?.asked(node, digest ? 'digest' : 'read');
    this.#ctx.askHere(
      this.#options.view.replica(node, hashes.token),
      'read',
      { key, hash: hashes.hash, digest },
      deadlineMs,
      (problem, reply) => {
        note?.(problem, reply);
        this.#answered(read, node, problem, reply);
      },
    );
  }

  #answered(read: KeyRead, node: string, problem: Failure | undefined, reply: ReplicaReply): void {
    const { path } = openOrBug(read);
    if (problem?.code === 'NO_SUCH_NAMESPACE') return this.#fail(read, problem);
    if (problem !== undefined) return this.#run(read, path.failed(node));
    assert(reply !== undefined, 'a read answer without a body');
    let actions: readonly ReadAction[];
    try {
      actions = path.answered(node, reply);
    } catch (error) {
      // Sibling sets whose join no record holds: each replica has what it has.
      if (!(error instanceof KvError)) throw error;
      return this.#fail(read, error.toFailure());
    }
    this.#run(read, actions);
  }

  #fail(read: KeyRead, problem: Failure): void {
    const { answers } = openOrBug(read);
    if (this.#end(read)) answers.fail(problem);
  }

  #askRepair(read: KeyRead, node: string, record: Uint8Array): void {
    const { hashes, deadlineMs, explanation } = read;
    const { path } = openOrBug(read);
    const leftMs = deadlineMs - this.#ctx.clock.monotonicMs();
    this.#ctx.probe.reach('blocking read repair');
    const note = explanation?.asked(node, 'repair');
    const replica = this.#options.view.replica(node, hashes.token);
    this.#ctx.ask(replica, 'write', { record }, leftMs, (problem) => {
      note?.(problem);
      this.#run(read, problem === undefined ? path.repaired(node) : path.repairFailed(node));
    });
  }

  // ---- time ----------------------------------------------------------------------------------

  /** Reads that wait too long ask one replica more (RR-3, RR-7), and hold up no others. */
  sweep(): void {
    this.#isSweeping = false;
    const untilMs = this.#ctx.clock.monotonicMs() - this.#options.speculateAfterMs;
    this.#reads.forEach((read) => {
      if (read.startedMs > untilMs) return;
      this.#ctx.probe.reach('speculative read');
      this.#run(read, openOrBug(read).path.speculate());
    });
    this.#joined.startBehind(untilMs);
    if (this.#reads.size > 0) this.#startSweep();
  }

  #startSweep(): void {
    if (this.#isSweeping) return;
    this.#isSweeping = true;
    this.#ctx.after(this.#options.speculateAfterMs, 'sweep', {});
  }

  /** Whoever waits for a read with others has a deadline of its own. */
  expire(): void {
    this.#expiryMs = Infinity;
    this.#expireAt(this.#joined.expire(this.#ctx.clock.monotonicMs()));
  }

  #expireAt(deadlineMs: number): void {
    // A look that comes earlier asks for the next one.
    if (deadlineMs >= this.#expiryMs) return;
    this.#expiry?.cancel();
    this.#expiryMs = deadlineMs;
    const leftMs = Math.max(0, deadlineMs - this.#ctx.clock.monotonicMs());
    this.#expiry = this.#ctx.after(leftMs, 'expire', {});
  }
}

function openOrBug({ open }: KeyRead): NonNullable<KeyRead['open']> {
  assert(open !== undefined, 'a read that has not begun');
  return open;
}

/** When the replicas have to have answered: a little before the caller gives up, so that it hears why. */
export const deadlineOf = ({ deadlineMs }: Pick<Call, 'deadlineMs'>, nowMs: number): number =>
  deadlineMs - Math.min(50, (deadlineMs - nowMs) / 10);
