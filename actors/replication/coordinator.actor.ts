// Runs one request on all replicas of its key. It sits on a replica: a write is stamped above the
// newest record that this replica holds, so a write that saw another one wins over it however
// skewed the clocks are (model.md section 1).
//
// Requests are explicit state machines (write-path.ts, read-path.ts) driven by ask callbacks, not
// sessions: a promise per hop would cost more than the work (docs/performance.md).

import {
  actor,
  type Call,
  type Context,
  type Deferred,
  type Later,
  type Ref,
} from '../../runtime/actor.ts';
import { refTo } from '../../runtime/actor.ts';
import { assert, type Failure, failure, KvError } from '../../runtime/errors.ts';
import { BytePool } from '../../runtime/byte-pool.ts';
import type { Handlers, Tell } from '../../runtime/protocol.ts';
import { parsePlainLevel } from '../model/consistency.ts';
import { maxSkewMicros } from '../model/hlc.ts';
import { recordIsSerial, recordIsSet, storageKey } from '../model/record.ts';
import type { Resolve } from '../model/resolve.ts';
import type { Ring } from '../model/ring.ts';
import { hashKey, shardOf } from '../model/token.ts';
import type { HintKeeper } from '../handoff/protocol.ts';
import type { PeerStates } from '../membership/protocol.ts';
import {
  Coordinator,
  type ReadReply,
  type ReadRequest,
  Replica,
  type ScanReply,
  type ScanRequest,
  type SiblingWriteReply,
  type SiblingWriteRequest,
  type WriteReply,
  type WriteRequest,
} from './protocol.ts';
import { keepForReplicas } from './hinted-write.ts';
import { MissedReplicas } from './missed-replicas.ts';
import { BackgroundRepair } from './background-repair.ts';
import { Explanation } from './explain.ts';
import { deadlineOf, KeyReads, type ReadTimers } from './key-reads.ts';
import { OpenWrite, type Stamped, type WritePlace, type WritesItsRecords } from './open-write.ts';
import { admitLevel, ReplicaView } from './replica-view.ts';
import { ScanPath } from './scan-path.ts';
import { sendSiblingWrite } from './sibling-write.ts';
import { StampQueue } from './stamp-queue.ts';
import { boundLeadMicros, decodeBound, encodeBound, Stamper } from './stamper.ts';
import { withoutEffect, WritePath } from './write-path.ts';

export interface CoordinatorOptions {
  readonly ring: Ring;
  readonly resolve: Resolve;
  /** fingerprint32 of this node's id. */
  readonly writer: number;
  readonly incarnation: number;
  readonly shards: number;
  /** File of the clock bound, in the data directory. */
  readonly boundPath: string;
  /** A read that waits longer asks one replica more, milliseconds. Default 100. */
  readonly speculateAfterMs: number;
  /** With so many reads of a key in flight others are answered together (decision 25). */
  readonly joinReadsAbove: number;
  /** Requests under way at once; their answers take the control lane, which has a bound. */
  readonly openRequestsMax: number;
  /** Keys that are compared on all replicas after a read, per second; 0: none. */
  readonly backgroundRepairs: number;
  /** Gets what replicas have missed; absent: nobody does. */
  readonly hints?: Ref<HintKeeper>;
}

interface Own extends ReadTimers {
  readonly extended: Tell<{ readonly bound: number }>;
  readonly notExtended: Tell<Failure>;
}

class CoordinatorActor implements Handlers<Coordinator>, Handlers<Own>, WritesItsRecords {
  readonly #ctx: Context<Own, 'disk'>;
  readonly #options: CoordinatorOptions;
  readonly #view: ReplicaView;
  readonly #reads: KeyReads;
  readonly #newRead = (): Deferred<ReadReply> => this.#ctx.later<ReadReply>();
  readonly #pool = new BytePool();
  readonly #take = (length: number): Uint8Array => this.#pool.take(length);
  /** Writes that were taken and not answered. */
  #openWrites = 0;
  #stamper: Stamper | undefined;
  #stamps: StampQueue | undefined;
  #isDraining = false;

  constructor(ctx: Context<Own, 'disk'>, options: CoordinatorOptions) {
    this.#ctx = ctx;
    this.#options = options;
    this.#view = new ReplicaView(options.ring, { node: ctx.node, shards: options.shards });
    const background = new BackgroundRepair(ctx, {
      perSecond: options.backgroundRepairs,
      live: (token) => this.#view.live(this.#view.replicasOf(token)),
      replica: (node, token) => this.#view.replica(node, token),
    });
    const { resolve, speculateAfterMs, joinReadsAbove: joinAbove } = options;
    const view = this.#view;
    this.#reads = new KeyReads(ctx, { view, resolve, background, speculateAfterMs, joinAbove });
  }

  /** After a crash the bound may be ahead: no stamp is given that others would not overwrite. */
  start(): Later<void> {
    const { boundPath } = this.#options;
    const bytes = this.#ctx.disk.read(boundPath);
    const bound = bytes === undefined ? 0 : decodeBound(bytes, boundPath);
    this.#stamper = new Stamper(bound);
    this.#stamps = this.#newQueue(this.#stamper);
    const aheadMs = (bound - this.#ctx.clock.wallMicros() - maxSkewMicros) / 1000;
    return this.#ctx.session(async (session) => {
      // Further ahead than a bound reaches, the clock was set back: waiting would not end.
      if (aheadMs > 0) await session.sleep(Math.min(aheadMs, boundLeadMicros / 1000));
    });
  }

  #newQueue(stamper: Stamper): StampQueue {
    const { clock, disk, session, toSelf, node } = this.#ctx;
    return new StampQueue(stamper, {
      clock,
      disk,
      boundPath: this.#options.boundPath,
      inBackground: (work) => void session(work),
      onExtended: (bound) => toSelf('extended', { bound }),
      onNotExtended: (problem) => toSelf('notExtended', problem),
      refusal: () => (this.#isDraining ? failure('DRAINING', { node }) : this.#view.clockTrouble()),
    });
  }

  /** No more stamps: the last one is the bound, so that the next start need not wait. */
  drain(): Later<void> {
    this.#isDraining = true;
    const { disk, log } = this.#ctx;
    const { boundPath } = this.#options;
    const { last } = this.#stamperOrBug();
    return this.#ctx.session(async () => {
      try {
        await disk.replace(boundPath, encodeBound(last));
      } catch (error) {
        // The bound on disk is still ahead of every stamp: the next start waits for it.
        if (!(error instanceof KvError)) throw error;
        log.warn('coordinator.bound-failed', { code: error.code });
      }
    });
  }

  peersChanged(states: PeerStates): void {
    this.#view.changed(states);
  }

  // ---- writes ------------------------------------------------------------------------------

  write(request: WriteRequest, call: Call): Later<WriteReply> {
    if (this.#isDraining) throw new KvError('DRAINING', { node: this.#ctx.node });
    this.#refuseTooMany();
    const place = this.#placeOf(request);
    const write = new OpenWrite(this, request, place, {
      deadlineMs: this.#deadlineOf(call),
      later: this.#ctx.later<WriteReply>(),
      explanation: request.explain ? new Explanation(this.#ctx.clock) : undefined,
    });
    this.#openWrites += 1;
    const { key, hashes } = place;
    if (place.targets.length === 0) this.#proceed(write);
    else
      this.#ctx.askHere(
        this.#view.replica(this.#ctx.node, hashes.token),
        'read',
        { key, hash: hashes.hash, digest: false },
        write.deadlineMs,
        (problem, reply) => {
          // Nothing was sent yet: whatever went wrong had no effect.
          if (problem !== undefined) return this.refuse(write, withoutEffect(problem));
          const before = reply?.record;
          // Its gateway asks for a decision instead (PX-18).
          if (before !== undefined && recordIsSerial(before))
            return this.refuse(write, failure('SERIAL_KEY'));
          if (before !== undefined && recordIsSet(before))
            return this.refuse(write, failure('WRONG_TYPE', { detail: 'this key keeps siblings' }));
          write.before = before;
          this.#proceed(write);
        },
      );
    return write.later;
  }

  siblingWrite(request: SiblingWriteRequest, call: Call): Later<SiblingWriteReply> {
    if (this.#isDraining) throw new KvError('DRAINING', { node: this.#ctx.node });
    this.#refuseTooMany();
    const place = this.#placeOf(request);
    if (place.targets.length === 0) throw notReplica(this.#ctx.node);
    const later = this.#ctx.later<SiblingWriteReply>();
    this.#openWrites += 1;
    const done = (problem: Failure | undefined, reply: SiblingWriteReply | undefined): void => {
      this.#openWrites -= 1;
      if (reply === undefined) later.fail(problem ?? failure('BUG'));
      else later.resolve(reply);
    };
    const { token } = place.hashes;
    const deadlineMs = this.#deadlineOf(call);
    this.#stampsOrBug().take({
      deadlineMs,
      fail: (problem) => done(problem, undefined),
      proceed: (wallMicros) =>
        sendSiblingWrite(this.#ctx, {
          request,
          ...place,
          stamp: this.#stamperOrBug().stamp(wallMicros, 0),
          absent: this.#view.replicasOf(token).filter((node) => !place.targets.includes(node)),
          deadlineMs,
          replica: (node) => this.#view.replica(node, token),
          hint: (node, record) => this.#hint(node, record),
          done,
        }),
    });
    return later;
  }

  /**
   * Where a write goes; at ANY perhaps to nobody, for somebody who holds no copy keeps it until a
   * replica is back. UNAVAILABLE where this is no replica of the key, or too few are alive.
   */
  #placeOf(request: Pick<WriteRequest, 'namespace' | 'key' | 'level'>): WritePlace {
    const level = parsePlainLevel(request.level);
    const key = storageKey(request.namespace, request.key);
    const hashes = hashKey(key);
    const replicas = this.#view.replicasOf(hashes.token);
    // Stamps are unique per coordinator: no other shard's may stamp this key.
    const isOurs = shardOf(hashes.token, this.#options.shards) === this.#ctx.shard;
    const isReplica = replicas.includes(this.#ctx.node);
    const keepsHints = level === 'ANY' && this.#options.hints !== undefined;
    if (!isOurs || !(isReplica || keepsHints)) throw notReplica(this.#ctx.node);
    if (!isReplica) return { key, hashes, targets: [], required: 1 };
    const targets = this.#view.live(replicas);
    return { key, hashes, targets, required: admitLevel(level, replicas, targets) };
  }

  /** Each open request has answers on their way, and the lane that they take has a bound. */
  #refuseTooMany(): void {
    const open = this.#openWrites + this.#reads.open;
    const max = this.#options.openRequestsMax;
    if (open >= max) throw new KvError('OVERLOADED', { open, max });
  }

  /** Every write ends once: here or in `refuse`. */
  #acknowledge({ request, place, later, explanation }: OpenWrite, reply: WriteReply): void {
    this.#openWrites -= 1;
    if (explanation === undefined) return later.resolve(reply);
    const text = this.#explained(explanation, request.level, place.required, place.hashes.token);
    later.resolve({ ...reply, explanation: text });
  }

  refuse({ later }: OpenWrite, problem: Failure): void {
    this.#openWrites -= 1;
    later.fail(problem);
  }

  /** Stamps and sends the write now, or when the clock bound allows it. */
  #proceed(write: OpenWrite): void {
    this.#stampsOrBug().take(write);
  }

  extended({ bound }: { readonly bound: number }): void {
    this.#stampsOrBug().extended(bound);
  }

  notExtended(problem: Failure): void {
    this.#ctx.log.warn('coordinator.bound-failed', { code: problem.code });
    this.#stampsOrBug().notExtended(problem);
  }

  #stamped(write: OpenWrite, wallMicros: number): Stamped {
    const hlc = this.#stamperOrBug().stamp(wallMicros, write.floorHlc);
    const { writer, incarnation } = this.#options;
    const coordinator = this.#ctx.node;
    return write.stamped({ hlc, writer, incarnation, wallMicros, coordinator }, this.#take);
  }

  send(write: OpenWrite, wallMicros: number): void {
    const { place, deadlineMs, explanation } = write;
    const { targets, required, hashes } = place;
    const { record, reply } = this.#stamped(write, wallMicros);
    const replicas = this.#view.replicasOf(hashes.token);
    const path = new WritePath(required, targets.length === 0 ? replicas.length : targets.length);
    const answered = (problem: Failure | undefined): void => {
      const outcome = problem === undefined ? path.acked() : path.failed(problem);
      if (outcome.kind === 'acked') this.#acknowledge(write, reply);
      else if (outcome.kind === 'failed') this.refuse(write, outcome.failure);
    };
    const body = { record };
    // The only copy: nobody misses it, and there is nothing to explain.
    if (replicas.length === 1 && targets.length === 1 && explanation === undefined) {
      const replica = this.#view.replica(this.#ctx.node, hashes.token);
      return this.#ctx.askHere(replica, 'write', body, deadlineMs, answered);
    }
    const { hints } = this.#options;
    if (targets.length === 0 && hints !== undefined) {
      const { ask } = this.#ctx;
      const leftMs = this.#leftMs(deadlineMs);
      keepForReplicas(ask, { hints, record, replicas, leftMs, explanation, answered });
      return;
    }
    const missed = new MissedReplicas(replicas.filter((node) => !targets.includes(node)));
    for (const node of targets) {
      const note = explanation?.asked(node, 'write');
      const replica = this.#view.replica(node, hashes.token);
      this.#ctx.askHere(replica, 'write', body, deadlineMs, (problem) => {
        for (const absent of missed.answered(node, problem)) this.#hint(absent, record);
        note?.(problem);
        answered(problem);
      });
    }
  }

  #hint(node: string, record: Uint8Array): void {
    const { hints } = this.#options;
    if (hints !== undefined) this.#ctx.tell(hints, 'keep', { node, record });
  }

  // ---- reads -------------------------------------------------------------------------------

  read(request: ReadRequest, call: Call): ReadReply | Later<ReadReply> {
    this.#refuseTooMany();
    return this.#reads.read(request, call, this.#newRead);
  }

  sweep(): void {
    this.#reads.sweep();
  }

  expire(): void {
    this.#reads.expire();
  }

  // ---- scans -------------------------------------------------------------------------------

  scan(request: ScanRequest, call: Call): Later<ScanReply> {
    const { ring, resolve } = this.#options;
    const level = parsePlainLevel(request.level);
    const later = this.#ctx.later<ScanReply>();
    const nowMs = Math.floor(this.#ctx.clock.wallMicros() / 1000);
    const path = new ScanPath({ request, ring, level, resolve, nowMs });
    this.#scanRound(path, this.#deadlineOf(call), later);
    return later;
  }

  #scanRound(path: ScanPath, deadlineMs: number, later: Deferred<ScanReply>): void {
    const nodes = this.#view.live(this.#view.members);
    const missing = path.begin(nodes.map((node) => ({ node, shards: this.#view.shardsOf(node) })));
    if (missing !== undefined) {
      later.fail(failure('UNAVAILABLE', missing));
      return;
    }
    const leftMs = this.#leftMs(deadlineMs);
    const round = path.request();
    const next = (): void => {
      const outcome = outcomeOf(path);
      if (outcome instanceof KvError) return later.fail(outcome.toFailure());
      if (outcome === 'open') return;
      if (outcome === 'failed')
        later.fail(failure('TIMEOUT', { detail: 'replicas did not answer' }));
      else if (outcome === 'more') this.#scanRound(path, deadlineMs, later);
      else later.resolve(outcome);
    };
    for (const node of nodes)
      for (let shard = 0; shard < this.#view.shardsOf(node); shard += 1)
        this.#ctx.ask(refTo(Replica, node, shard), 'range', round, leftMs, (problem, page) => {
          if (!path.isRound(round)) return;
          if (problem?.code === 'NO_SUCH_NAMESPACE') return later.fail(problem);
          if (problem === undefined && page !== undefined) path.answered(node, page);
          else path.failed(node);
          next();
        });
  }

  // ---- time ----------------------------------------------------------------------------------

  #explained(
    explanation: Explanation | undefined,
    level: string,
    required: number,
    token: number,
  ): string | undefined {
    const replicas = this.#view.replicasOf(token);
    return explanation?.text({ coordinator: this.#ctx.node, level, required, replicas });
  }

  /** When the replicas have to have answered: a little before the caller gives up, so that it hears why. */
  #deadlineOf(call: Call): number {
    return deadlineOf(call, this.#ctx.clock.monotonicMs());
  }

  #leftMs(deadlineMs: number): number {
    return deadlineMs - this.#ctx.clock.monotonicMs();
  }

  #stampsOrBug(): StampQueue {
    assert(this.#stamps !== undefined, 'a request before start');
    return this.#stamps;
  }

  #stamperOrBug(): Stamper {
    assert(this.#stamper !== undefined, 'a request before start');
    return this.#stamper;
  }
}

/** What a page has come to; the failure where siblings of one key fit into no record together. */
function outcomeOf(path: ScanPath): ReturnType<ScanPath['outcome']> | KvError {
  try {
    return path.outcome();
  } catch (error) {
    if (!(error instanceof KvError)) throw error;
    return error;
  }
}

function notReplica(node: string): KvError {
  return new KvError('UNAVAILABLE', { detail: `this part of node ${node} does not hold the key` });
}

export const coordinator = actor({
  protocol: Coordinator,
  needs: ['disk'],
  create: (ctx: Context<Own, 'disk'>, options: CoordinatorOptions) =>
    new CoordinatorActor(ctx, options),
});
