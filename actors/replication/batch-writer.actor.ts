// Takes atomic batches of clients of this node and runs them (batch-write.ts). It stamps under a name
// of its own, with a clock bound of its own, so no stamp of a coordinator is given twice for a key.

import {
  actor,
  type Call,
  type Context,
  type Later,
  type Ref,
  refTo,
} from '../../runtime/actor.ts';
import { compareBytes } from '../../runtime/bytes.ts';
import { assert, type Failure, failure, KvError } from '../../runtime/errors.ts';
import type { Counter } from '../../runtime/metrics.ts';
import type { Handlers, Tell } from '../../runtime/protocol.ts';
import { HintKeeper } from '../handoff/protocol.ts';
import type { PeerStates } from '../membership/protocol.ts';
import { parsePlainLevel } from '../model/consistency.ts';
import { maxSkewMicros } from '../model/hlc.ts';
import { recordToken, storageKey } from '../model/record.ts';
import type { Ring } from '../model/ring.ts';
import { hashKey, shardOf } from '../model/token.ts';
import { batchBytesMax, batchRecordsMax } from './batch-log-format.ts';
import { type BatchPlace, writeBatch } from './batch-write.ts';
import { BatchKeeper, type BatchReply, type BatchRequest, BatchWriter } from './protocol.ts';
import { admitLevel, ReplicaView } from './replica-view.ts';
import { StampQueue } from './stamp-queue.ts';
import { boundLeadMicros, decodeBound, encodeBound, Stamper } from './stamper.ts';

export interface BatchWriterOptions {
  readonly ring: Ring;
  /** A number that no other stamper of any node has. */
  readonly writer: number;
  readonly incarnation: number;
  readonly shards: number;
  /** File of the clock bound, in the data directory. */
  readonly boundPath: string;
}

interface Own {
  readonly extended: Tell<{ readonly bound: number }>;
  readonly notExtended: Tell<Failure>;
  readonly ended: Tell<object>;
}

/** Batches under way at once. */
const openMax = 256;
const forgetTimeoutMs = 5_000;

class BatchWriterActor implements Handlers<BatchWriter>, Handlers<Own> {
  readonly #ctx: Context<Own, 'disk'>;
  readonly #options: BatchWriterOptions;
  readonly #view: ReplicaView;
  readonly #written: Counter;
  #stamper: Stamper | undefined;
  #stamps: StampQueue | undefined;
  #open = 0;
  #isDraining = false;

  constructor(ctx: Context<Own, 'disk'>, options: BatchWriterOptions) {
    this.#ctx = ctx;
    this.#options = options;
    this.#view = new ReplicaView(options.ring, { node: ctx.node, shards: options.shards });
    this.#written = ctx.metrics.counter('kvd_batch_started_total', 'Atomic batches begun');
  }

  start(): Later<void> {
    const { boundPath } = this.#options;
    const { clock, disk, session, toSelf, node } = this.#ctx;
    const bytes = disk.read(boundPath);
    const bound = bytes === undefined ? 0 : decodeBound(bytes, boundPath);
    this.#stamper = new Stamper(bound);
    this.#stamps = new StampQueue(this.#stamper, {
      clock,
      disk,
      boundPath,
      inBackground: (work) => void session(work),
      onExtended: (reached) => toSelf('extended', { bound: reached }),
      onNotExtended: (problem) => toSelf('notExtended', problem),
      refusal: () => (this.#isDraining ? failure('DRAINING', { node }) : this.#view.clockTrouble()),
    });
    const aheadMs = (bound - clock.wallMicros() - maxSkewMicros) / 1000;
    return session(async (waiting) => {
      // Further ahead than a bound reaches, the clock was set back: waiting would not end.
      if (aheadMs > 0) await waiting.sleep(Math.min(aheadMs, boundLeadMicros / 1000));
    });
  }

  /** The last stamp is the bound, so that the next start need not wait. */
  drain(): Later<void> {
    this.#isDraining = true;
    const { disk, log } = this.#ctx;
    const { boundPath } = this.#options;
    const last = this.#stamper?.last ?? 0;
    return this.#ctx.session(async () => {
      if (last === 0) return;
      try {
        await disk.replace(boundPath, encodeBound(last));
      } catch (error) {
        // The bound on disk is still ahead of every stamp: the next start waits for it.
        if (!(error instanceof KvError)) throw error;
        log.warn('batch-writer.bound-failed', { code: error.code });
      }
    });
  }

  extended({ bound }: { readonly bound: number }): void {
    this.#stamps?.extended(bound);
  }

  notExtended(problem: Failure): void {
    this.#ctx.log.warn('batch-writer.bound-failed', { code: problem.code });
    this.#stamps?.notExtended(problem);
  }

  peersChanged(states: PeerStates): void {
    this.#view.changed(states);
  }

  ended(): void {
    this.#open -= 1;
  }

  run(request: BatchRequest, call: Call): Later<BatchReply> {
    if (this.#isDraining) throw new KvError('DRAINING', { node: this.#ctx.node });
    if (this.#open >= openMax) throw new KvError('OVERLOADED', { open: this.#open, max: openMax });
    const places = this.#placesOf(request);
    const { clock, node, toSelf } = this.#ctx;
    const { writer, incarnation } = this.#options;
    const deadlineMs = call.deadlineMs - Math.min(50, (call.deadlineMs - clock.monotonicMs()) / 10);
    const view = this.#view;
    const holders = this.#holders();
    const stamps = this.#stamps;
    assert(stamps !== undefined, 'a request before start');
    const hint = (other: string, record: Uint8Array): void => this.#hint(other, record);
    const forget = (holder: Ref<BatchKeeper>, hlc: number): void =>
      this.#ctx.ask(holder, 'forget', { hlc, writer, incarnation }, forgetTimeoutMs, ignore);
    this.#open += 1;
    this.#written.add();
    return this.#ctx.session(async (session) => {
      try {
        return await writeBatch({
          session,
          node,
          places,
          holders,
          writer,
          incarnation,
          afterHlc: request.afterHlc,
          replica: (other, token) => view.replica(other, token),
          tryStamp: (floor) => stamps.tryStamp(floor),
          hint,
          forget,
          leftMs: () => deadlineMs - clock.monotonicMs(),
        });
      } finally {
        toSelf('ended', {});
      }
    });
  }

  #hint(node: string, record: Uint8Array): void {
    const shard = shardOf(recordToken(record), this.#options.shards);
    this.#ctx.tell(refTo(HintKeeper, this.#ctx.node, shard), 'keep', { node, record });
  }

  /** Two nodes that keep the log; one where there are no others. UNAVAILABLE: too few are alive. */
  #holders(): readonly Ref<BatchKeeper>[] {
    const { members } = this.#view;
    const live = this.#view.live(members);
    const required = Math.min(2, members.length);
    if (live.length < required)
      throw new KvError('UNAVAILABLE', {
        required,
        alive: live.length,
        detail: 'an atomic batch is logged on two nodes',
      });
    const [self = this.#ctx.node, ...others] = live;
    if (required === 1) return [refTo(BatchKeeper, self)];
    const other = others[this.#ctx.random.int(others.length)] ?? self;
    return [refTo(BatchKeeper, self), refTo(BatchKeeper, other)];
  }

  /** Everything that can be refused before anything is sent. */
  #placesOf({ namespace, operations, level: word }: BatchRequest): readonly BatchPlace[] {
    const level = parsePlainLevel(word);
    if (operations.length === 0 || operations.length > batchRecordsMax)
      throw new KvError('BAD_REQUEST', {
        field: 'operations',
        detail: `expected 1 to ${batchRecordsMax} operations`,
      });
    const bytes = operations.reduce(
      (sum, { key, value }) => sum + key.length + (value?.length ?? 0),
      0,
    );
    if (bytes > batchBytesMax)
      throw new KvError('TOO_LARGE', { field: 'operations', length: bytes, max: batchBytesMax });
    const places = operations.map((operation) => {
      const key = storageKey(namespace, operation.key);
      const hashes = hashKey(key);
      const replicas = this.#view.replicasOf(hashes.token);
      const targets = this.#view.live(replicas);
      const required = admitLevel(level, replicas, targets);
      const absent = replicas.filter((node) => !targets.includes(node));
      return { operation, key, hashes, targets, absent, required };
    });
    refuseTwice(places.map(({ key }) => key));
    return places;
  }
}

/** All keys have one stamp, so nothing would say which of two writes came later. */
function refuseTwice(keys: readonly Uint8Array[]): void {
  const sorted = [...keys].sort(compareBytes);
  if (sorted.some((key, i) => i > 0 && compareBytes(sorted[i - 1] ?? key, key) === 0))
    throw new KvError('BAD_REQUEST', {
      field: 'operations',
      detail: 'a key occurs twice in an atomic batch',
    });
}

const ignore = (): void => undefined;

export const batchWriter = actor({
  protocol: BatchWriter,
  needs: ['disk'],
  create: (ctx: Context<Own, 'disk'>, options: BatchWriterOptions) =>
    new BatchWriterActor(ctx, options),
});
