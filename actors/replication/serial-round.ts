// One round of decisions about a group of keys: prepare, finish what others began, evaluate, propose, commit
// (PX-2 to PX-13). It runs until its operations are decided, their deadline has passed, or nothing
// can be decided; it holds no state beyond itself, so rounds of different keys never meet.
//
//   look      reads alone: a majority that is quiet answers at once, nobody promises anything
//   prepare   a majority promises our ballot, and says what it has accepted and committed
//     | somebody's update was accepted and not committed -> proposed again, committed; prepare anew
//     | some of the majority lack the newest decision -> they get it
//   evaluate  the operations on the merged record; nothing to write and nothing under way -> answer
//   propose   a majority accepts: decided, whatever happens to us from here on
//   commit    a majority has applied it -> answer
//
// Whoever was overtaken waits a random while and begins again with a ballot above all that it saw.
// An attempt that may have been accepted is remembered: the next prepare shows whether somebody has
// finished it (PX-12), so that no operation is done twice and none is called failed by guess.

import type { Ref, Session } from '../../runtime/actor.ts';
import { equalBytes, latin1 } from '../../runtime/bytes.ts';
import type { Clock, Probe, Random } from '../../runtime/environment.ts';
import { errorTable, type Failure, KvError } from '../../runtime/errors.ts';
import { quorumOf } from '../model/consistency.ts';
import { maxSkewMicros } from '../model/hlc.ts';
import {
  compareEtags,
  equalEtags,
  recordExpiresAt,
  recordHlc,
  recordKey,
} from '../model/record.ts';
import type { Resolve } from '../model/resolve.ts';
import type { Decision, Proposal } from './acceptor-state.ts';
import type { Acceptor, AcceptorKey, PrepareReply, ProposeReply } from './protocol.ts';
import { askQuorum, type Votes } from '../../runtime/quorum.ts';
import {
  decisionBytesMax,
  type Evaluated,
  evaluateRound,
  type GroupFacts,
  isReadOnly,
  keysOfRound,
  operationsOf,
  type RoundRequest,
} from './serial-operations.ts';
import { type Ballot, SerialHistory } from './serial-history.ts';

export interface RoundParts {
  readonly session: Session;
  readonly clock: Clock;
  readonly random: Random;
  readonly probe: Probe;
  readonly resolve: Resolve;
  readonly facts: GroupFacts;
  readonly valueBytesMax: number;
  readonly decisionBytes?: number | undefined;
  /** All replicas of the group. */
  readonly replicas: readonly string[];
  /** Those of them that can be asked now. */
  readonly live: () => readonly string[];
  readonly acceptorOf: (node: string) => Ref<Acceptor>;
  /** A ballot of this coordinator above `floor`, leaving room for `count` stamps. */
  readonly nextBallot: (floor: number, count: number) => Ballot;
  /** Only a majority is asked at first; the others when it has not answered within this time. */
  readonly sparesAfterMs: number;
  /** Monotonic. */
  readonly deadlineMs: number;
  /** What it writes is stamped above this hlc. */
  readonly afterHlc: number;
}

export interface Decided {
  readonly outcomes: readonly Evaluated[];
  readonly nowMs: number;
}

interface Attempt extends Decided {
  readonly ballot: Ballot;
}

/** Milliseconds for one step; a replica that takes longer is not waited for. */
const stepTimeoutMs = 1_000;
/**
 * Nothing is proposed on promises that are older: a node that stood still in between cannot know
 * whether a disk that went meanwhile has taken one of them with it (docs/decisions/0017).
 */
const promiseLifeMs = 3_000;
const pauseMsMin = 10;
const pauseMsMax = 100;

export type Promised = Votes<PrepareReply>['yes'];

export class SerialRound {
  readonly #parts: RoundParts;
  readonly #requests: readonly RoundRequest[];
  readonly #keys: readonly Uint8Array[];
  readonly #isRead: boolean;
  /** Stamps that the operations may take. */
  readonly #stamps: number;
  readonly #required: number;
  readonly #attempts: Attempt[] = [];
  #floor = 0;
  #tries = 0;
  #lastProblem: Failure | undefined;

  constructor(parts: RoundParts, requests: readonly RoundRequest[]) {
    this.#parts = parts;
    this.#requests = requests;
    this.#floor = parts.afterHlc;
    this.#keys = keysOfRound(requests);
    this.#isRead = isReadOnly(requests);
    this.#stamps = requests.reduce((sum, request) => sum + operationsOf(request).length, 0);
    this.#required = quorumOf(parts.replicas.length);
  }

  /** UNAVAILABLE, CONTENTION and TOO_LARGE had no effect; TIMEOUT may have had one. */
  async run(): Promise<Decided> {
    this.#checkGoOn();
    const seen = this.#isRead ? await this.#look() : undefined;
    if (seen !== undefined) return seen;
    for (;;) {
      this.#checkGoOn();
      const ballot = this.#parts.nextBallot(this.#floor, this.#stamps);
      this.#floor = ballot.hlc;
      const decided = await this.#attempt(ballot);
      if (decided !== undefined) return decided;
      await this.#pause();
    }
  }

  /**
   * A read of a quiet key, which binds nobody and stores nothing (docs/decisions/0011): where no
   * write is under way in a majority and as many hold the newest decision, that decision stands.
   * Undefined: it takes a ballot. So does a record that expires, for without a ballot there is no
   * time that only grows (PX-8).
   */
  async #look(): Promise<Decided | undefined> {
    const body = { ...this.#at(), keys: this.#keys };
    const { yes: seen, isEnough } = await this.#ask(
      (node, timeoutMs) =>
        this.#parts.session.ask(this.#parts.acceptorOf(node), 'look', body, timeoutMs),
      () => true,
    );
    if (!isEnough || newestAccepted(seen) !== undefined || !isQuiet(seen)) return undefined;
    const committed = newestCommitted(seen);
    if (this.#keys.length > 1 && !isOneMoment(seen)) return undefined;
    const before = this.#merged(seen);
    if (before.some((record) => recordExpiresAt(record) !== 0)) return undefined;
    if (!(await this.#catchUp(seen, committed))) return undefined;
    const { facts, clock, probe, valueBytesMax } = this.#parts;
    probe.reach('serial read without a ballot');
    const nowMs = Math.floor(clock.wallMicros() / 1000);
    const history = SerialHistory.decode(committed.history);
    const round = { ...facts, ballot: committed.ballot, nowMs, history, valueBytesMax };
    const { outcomes } = evaluateRound(this.#requests, before, { ...round, mayStamp: false });
    return { outcomes, nowMs };
  }

  /** The newest record of each key. */
  #merged(promised: Promised): Uint8Array[] {
    const merged = new Map<string, Uint8Array>();
    for (const { reply } of promised)
      for (const record of reply.records) {
        const name = latin1(recordKey(record));
        const other = merged.get(name);
        merged.set(name, other === undefined ? record : this.#parts.resolve(other, record));
      }
    return [...merged.values()];
  }

  /** Undefined: overtaken, or too few answered; try again. */
  async #attempt(ballot: Ballot): Promise<Decided | undefined> {
    const { clock } = this.#parts;
    const sinceMs = clock.monotonicMs();
    const isOld = (): boolean => clock.monotonicMs() - sinceMs > promiseLifeMs;
    const promised = await this.#prepare(ballot);
    if (promised === undefined || isOld()) return undefined;
    const unfinished = newestAccepted(promised);
    if (unfinished !== undefined) {
      this.#parts.probe.reach('unfinished decision completed');
      // Under our ballot, with its own name: it stays the decision that it was.
      const finished = await this.#decide({ ...unfinished, ballot });
      return finished ? this.#ownDecision(unfinished.original) : undefined;
    }
    const committed = newestCommitted(promised);
    if (!(await this.#catchUp(promised, committed)) || isOld()) return undefined;
    const history = SerialHistory.decode(committed.history);
    // A majority has it: nothing may be acknowledged that a quorum read can miss (PX-11).
    const own = this.#decidedByOthers(history);
    return own ?? this.#evaluate(ballot, promised, history);
  }

  async #prepare(ballot: Ballot): Promise<Promised | undefined> {
    const body = { ...this.#at(), keys: this.#keys, ballot, isWrite: !this.#isRead };
    const votes = await this.#ask(
      (node, timeoutMs) =>
        this.#parts.session.ask(this.#parts.acceptorOf(node), 'prepare', body, timeoutMs),
      ({ isPromised }) => isPromised,
    );
    for (const { highest } of votes.no) this.#floor = Math.max(this.#floor, highest.hlc);
    return votes.isEnough ? votes.yes : undefined;
  }

  /** True: those of the majority that lacked the newest decision have it now (PX-7 b). */
  async #catchUp(promised: Promised, committed: PrepareReply['committed']): Promise<boolean> {
    const { ballot } = committed;
    if (ballot.hlc === 0) return true;
    const has = ({ reply }: Promised[number]): boolean =>
      compareEtags(reply.committed.ballot, ballot) === 0;
    const lacking = promised.filter((one) => !has(one)).map(({ node }) => node);
    const missing = this.#required - (promised.length - lacking.length);
    if (missing <= 0) return true;
    const records = await this.#recordsOf(committed, promised.filter(has));
    if (records === undefined) return false;
    const votes = await this.#commitTo(lacking, missing, { ...committed, records });
    return votes.isEnough;
  }

  /**
   * What a decision wrote, from a replica that has applied it: the records themselves or newer ones
   * of the same keys. Undefined: nobody who has it answers, or it is the newest no more.
   */
  async #recordsOf(
    { ballot, keys }: Decision,
    holders: Promised,
  ): Promise<readonly Uint8Array[] | undefined> {
    const [first] = holders;
    if (first === undefined) return undefined;
    const { records } = first.reply;
    // In a state from before there were groups: the one key of its group.
    if (keys.length === 0) return records;
    const wanted = new Set(keys.map(latin1));
    const found = records.filter((record) => wanted.has(latin1(recordKey(record))));
    if (found.length === wanted.size) return found;
    const { session, acceptorOf } = this.#parts;
    const body = { ...this.#at(), keys };
    try {
      const seen = await session.ask(acceptorOf(first.node), 'look', body, this.#stepMs());
      return equalEtags(seen.committed.ballot, ballot) ? seen.records : undefined;
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      this.#lastProblem = error.toFailure();
      return undefined;
    }
  }

  async #evaluate(
    ballot: Ballot,
    promised: Promised,
    history: SerialHistory,
  ): Promise<Decided | undefined> {
    const { facts, clock, valueBytesMax, decisionBytes = decisionBytesMax } = this.#parts;
    const before = this.#merged(promised);
    const newest = Math.max(0, ...before.map(recordHlc));
    if (newest >= ballot.hlc) {
      // The update would be hidden by what is there (PX-10).
      this.#floor = Math.max(this.#floor, newest);
      return undefined;
    }
    const wallMicros = clock.wallMicros();
    const mayStamp = ballot.hlc <= wallMicros + maxSkewMicros;
    // The ballot's time and no clock: ballots of a key only grow, so what has expired for one round
    // has expired for all later ones, whoever runs them (PX-8).
    const nowMs = Math.floor((mayStamp ? ballot.hlc : wallMicros) / 1000);
    const round = { ...facts, ballot, nowMs, history, valueBytesMax, decisionBytes, mayStamp };
    const { outcomes, records, kept } = evaluateRound(this.#requests, before, round);
    const decided = { outcomes, nowMs };
    if (records.length === 0 && isQuiet(promised)) return decided;
    const encoded = records.length === 0 ? history : history.with(ballot, kept);
    this.#attempts.push({ ...decided, ballot });
    const proposal = { ballot, original: ballot, records, history: encoded.encode() };
    if (records.length === 0) return (await this.#propose(proposal)) ? decided : undefined;
    return (await this.#decide(proposal)) ? decided : undefined;
  }

  /** True: decided and applied by a majority. */
  async #decide(proposal: Proposal): Promise<boolean> {
    if (!(await this.#propose(proposal))) return false;
    const live = this.#parts.live();
    const votes = await this.#commitTo(live, this.#required, proposal);
    return votes.isEnough;
  }

  async #propose(proposal: Proposal): Promise<boolean> {
    const { session, acceptorOf, probe, live } = this.#parts;
    const body = { ...this.#at(), proposal };
    const ask = (node: string, timeoutMs: number): Promise<ProposeReply> =>
      session.ask(acceptorOf(node), 'propose', body, timeoutMs);
    if (probe.buggify('proposal reaches one replica')) return this.#abandon(ask, live());
    const votes = await this.#ask(ask, ({ isAccepted }) => isAccepted);
    for (const { highest } of votes.no) this.#floor = Math.max(this.#floor, highest.hlc);
    return votes.isEnough;
  }

  /** As if this coordinator had died at the worst moment. */
  async #abandon(
    ask: (node: string, timeoutMs: number) => Promise<ProposeReply>,
    nodes: readonly string[],
  ): Promise<never> {
    const one = nodes.slice(-1);
    await askQuorum(
      one,
      1,
      (node) => ask(node, stepTimeoutMs),
      () => true,
    );
    throw new KvError('TIMEOUT', { required: this.#required, received: 1 });
  }

  #commitTo(
    nodes: readonly string[],
    required: number,
    proposal: Proposal,
  ): Promise<Votes<object>> {
    const { session, acceptorOf } = this.#parts;
    const body = { ...this.#at(), proposal };
    const timeoutMs = this.#stepMs();
    return askQuorum(
      nodes,
      required,
      (node) => session.ask(acceptorOf(node), 'commit', body, timeoutMs),
      () => true,
    );
  }

  // ---- attempts of ours --------------------------------------------------------------------

  #ownDecision(original: Ballot): Decided | undefined {
    return this.#attempts.find(({ ballot }) => compareEtags(ballot, original) === 0);
  }

  /** Our attempt that somebody else has finished; throws where nobody can tell any more. */
  #decidedByOthers(history: SerialHistory): Decided | undefined {
    for (const attempt of [...this.#attempts].reverse()) {
      if (history.includes(attempt.ballot)) {
        this.#parts.probe.reach('own decision found in history');
        return attempt;
      }
      if (!history.reaches(attempt.ballot))
        throw new KvError('TIMEOUT', { detail: 'too much has been decided since to know' });
    }
    return undefined;
  }

  /** Throws where nothing more can be tried. */
  #checkGoOn(): void {
    const { live, replicas, deadlineMs, clock } = this.#parts;
    const alive = live().length;
    const isLate = clock.monotonicMs() >= deadlineMs;
    if (alive >= this.#required && !isLate) return;
    if (this.#attempts.length > 0)
      throw new KvError('TIMEOUT', { required: this.#required, received: alive });
    if (alive < this.#required)
      throw new KvError('UNAVAILABLE', {
        required: this.#required,
        alive,
        level: 'SERIAL',
        detail: `${this.#required} of ${replicas.length} replicas needed, ${alive} alive`,
      });
    const problem = this.#lastProblem;
    const isRefused = problem !== undefined && errorTable[problem.code].effect === 'none';
    // Promises alone change no value: nothing was proposed, so nothing has happened.
    throw isRefused
      ? new KvError(problem.code, problem.fields)
      : new KvError('CONTENTION', { tries: this.#tries });
  }

  async #pause(): Promise<void> {
    const { random, session, clock, deadlineMs } = this.#parts;
    this.#tries += 1;
    const spread = Math.min(pauseMsMax, pauseMsMin * 1.8 ** this.#tries);
    const ms = random.float() * spread;
    const leftMs = deadlineMs - clock.monotonicMs();
    if (leftMs > 0) await session.sleep(Math.min(ms, leftMs));
  }

  // ---- asking ------------------------------------------------------------------------------

  async #ask<Reply>(
    ask: (node: string, timeoutMs: number) => Promise<Reply>,
    isYes: (reply: Reply) => boolean,
  ): Promise<Votes<Reply>> {
    const timeoutMs = this.#stepMs();
    const { live, session, sparesAfterMs } = this.#parts;
    const nodes = live();
    const votes = await askQuorum(
      nodes,
      this.#required,
      (node) => ask(node, timeoutMs),
      isYes,
      () => session.sleep(sparesAfterMs),
    );
    this.#lastProblem = votes.problems[0] ?? this.#lastProblem;
    const tooLarge = votes.problems.find(({ code }) => code === 'TOO_LARGE');
    // It will be so the next time too; and without an attempt nothing has happened.
    if (!votes.isEnough && tooLarge !== undefined && this.#attempts.length === 0)
      throw new KvError(tooLarge.code, tooLarge.fields);
    return votes;
  }

  #at(): AcceptorKey {
    const { key, token } = this.#parts.facts;
    return { key, token };
  }

  #stepMs(): number {
    const { deadlineMs, clock } = this.#parts;
    return Math.max(1, Math.min(stepTimeoutMs, deadlineMs - clock.monotonicMs()));
  }
}

/** The newest update that somebody accepted and nobody of this majority has seen committed. */
export function newestAccepted(promised: Promised): Proposal | undefined {
  const committed = newestCommitted(promised);
  let newest: Proposal | undefined;
  for (const { reply } of promised) {
    const { accepted } = reply;
    if (accepted === undefined || compareEtags(accepted.ballot, committed.ballot) <= 0) continue;
    if (newest === undefined || compareEtags(accepted.ballot, newest.ballot) > 0) newest = accepted;
  }
  if (newest === undefined || newest.records.length === 0) return undefined;
  return compareEtags(newest.original, committed.original) === 0 ? undefined : newest;
}

export function newestCommitted(promised: Promised): PrepareReply['committed'] {
  return promised
    .map(({ reply }) => reply.committed)
    .reduce((a, b) => (compareEtags(a.ballot, b.ballot) >= 0 ? a : b));
}

/**
 * True: all hold the same records. Where they do not, one may hold a part of a decision that is newer
 * than what was looked at: repairs bring single keys. Of a decision nobody has a record before a
 * majority has accepted it, and who of that majority is here was asked before it did, so it lacks it.
 */
function isOneMoment([first, ...others]: Promised): boolean {
  return others.every(
    ({ reply: { records } }) =>
      records.length === first?.reply.records.length &&
      records.every((record, i) => equalBytes(record, first.reply.records[i] as Uint8Array)),
  );
}

/** No round that may write was under way anywhere in this majority (PX-9). */
function isQuiet(promised: Promised): boolean {
  const committed = newestCommitted(promised).ballot;
  return promised.every(({ reply }) => {
    const { accepted, promisedWrite } = reply;
    const isEmpty = accepted !== undefined && accepted.records.length === 0;
    const settled =
      isEmpty && compareEtags(accepted.ballot, committed) > 0 ? accepted.ballot : committed;
    return compareEtags(promisedWrite, settled) <= 0;
  });
}
