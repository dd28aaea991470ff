// One atomic batch, as an async function of a session (Cassandra's logged batch; rules BL-1 to BL-3):
//
//   look    the newest record of each key, from one replica: nothing was done yet
//   stamp   one for all keys, above everything that was found
//   log     the whole batch is durable on two nodes, or it is called off
//   send    every record to its replicas, at the level asked; those of one token (of one hash tag,
//           that is) to each replica together, which nobody then sees a part of
//   end     all have met it: acknowledged, and the log may forget; else the log completes it
//
// From the moment that one node may have the entry the batch can no longer fail: only a node that
// confirms that it has forgotten it makes it undone.

import type { Ref, Session } from '../../runtime/actor.ts';
import { noBytes } from '../../runtime/bytes.ts';
import { errorOf, type Failure, KvError, toFailure } from '../../runtime/errors.ts';
import {
  encodeRecord,
  formatEtag,
  isLive,
  recordHlc,
  recordIsSerial,
  recordIsSet,
  recordToken,
  recordVersion,
  valueTypes,
} from '../model/record.ts';
import type { KeyHashes } from '../model/token.ts';
import { encodeBatchEntry } from './batch-log-format.ts';
import { MissedReplicas } from './missed-replicas.ts';
import type { BatchedWrite, BatchKeeper, BatchOperation, BatchReply, Replica } from './protocol.ts';
import { type WriteOutcome, WritePath, withoutEffect } from './write-path.ts';

/** One operation with its place. */
export interface BatchPlace {
  readonly operation: BatchOperation;
  /** Storage key. */
  readonly key: Uint8Array;
  readonly hashes: KeyHashes;
  /** Live replicas, at least `required`. */
  readonly targets: readonly string[];
  /** Replicas that are not asked. */
  readonly absent: readonly string[];
  readonly required: number;
}

export interface BatchStamp {
  readonly hlc: number;
  /** Of the clock that it was made by, milliseconds since 1970. */
  readonly nowMs: number;
}

export interface Batch {
  readonly session: Session;
  readonly node: string;
  readonly places: readonly BatchPlace[];
  readonly holders: readonly Ref<BatchKeeper>[];
  readonly writer: number;
  readonly incarnation: number;
  readonly replica: (node: string, token: number) => Ref<Replica>;
  /** The stamp lies above it. */
  readonly afterHlc: number;
  /** A stamp above `floor` that was never given before; undefined: not yet. A KvError refuses. */
  readonly tryStamp: (floor: number) => BatchStamp | undefined;
  readonly hint: (node: string, record: Uint8Array) => void;
  /** The log may forget it; nobody waits for that. */
  readonly forget: (holder: Ref<BatchKeeper>, hlc: number) => void;
  readonly leftMs: () => number;
}

/** Of one operation, stamped. */
interface Stamped {
  readonly record: Uint8Array;
  readonly result: BatchedWrite;
}

/** Calling off is given so long, whatever is left of the time of the request. */
const cancelMs = 1_000;
const stampRetryMs = 2;

export async function writeBatch(batch: Batch): Promise<BatchReply> {
  const found = await look(batch);
  const { hlc, nowMs } = await stampAbove(batch, Math.max(batch.afterHlc, ...found.map(hlcOf)));
  const stamped = batch.places.map((place, i) => stampedOf(batch, place, found[i], hlc, nowMs));
  await log(batch, stamped, hlc, nowMs);
  const groups = groupsOf(batch.places, stamped);
  const outcomes = await Promise.all(groups.map((group) => send(batch, group)));
  const missed = groups
    .filter((_, i) => outcomes[i]?.kind !== 'acked')
    .reduce((sum, { records }) => sum + records.length, 0);
  if (missed > 0)
    throw new KvError('UNKNOWN_OUTCOME', {
      willComplete: true,
      etag: formatEtag({ hlc, writer: batch.writer, incarnation: batch.incarnation }),
      keysNotAcked: missed,
      detail: 'the batch is in the log: all of it will be written',
    });
  for (const holder of batch.holders) batch.forget(holder, hlc);
  return { results: stamped.map(({ result }) => result), coordinator: batch.node };
}

/** The clock bound may have to be extended first: some milliseconds, and rarely. */
async function stampAbove(
  { session, tryStamp, leftMs }: Batch,
  floor: number,
): Promise<BatchStamp> {
  for (;;) {
    if (leftMs() <= 0)
      throw new KvError('UNAVAILABLE', { detail: 'no time was left to write the batch' });
    const stamp = tryStamp(floor);
    if (stamp !== undefined) return stamp;
    await session.sleep(stampRetryMs);
  }
}

const hlcOf = (record: Uint8Array | undefined): number =>
  record === undefined ? 0 : recordHlc(record);

/** Refuses what a batch may not write: keys that are decided, and sets that are joined. */
async function look({
  session,
  places,
  replica,
  leftMs,
}: Batch): Promise<(Uint8Array | undefined)[]> {
  const found = await Promise.all(
    places.map(async ({ key, hashes, targets }) => {
      const body = { key, hash: hashes.hash, digest: false };
      const [first = ''] = targets;
      const { record } = await session
        .ask(replica(first, hashes.token), 'read', body, leftMs())
        .catch((error: unknown) => {
          throw errorOf(withoutEffect(toFailure(error)));
        });
      return record;
    }),
  );
  for (const record of found) {
    if (record === undefined) continue;
    if (recordIsSerial(record))
      throw new KvError('SERIAL_KEY', { detail: 'serial operations own a key of the batch' });
    if (recordIsSet(record))
      throw new KvError('WRONG_TYPE', { detail: 'a key of the batch keeps siblings' });
  }
  return found;
}

function stampedOf(
  { writer, incarnation }: Batch,
  { operation, key, hashes }: BatchPlace,
  before: Uint8Array | undefined,
  hlc: number,
  nowMs: number,
): Stamped {
  const { value, valueType, ttlMs } = operation;
  const version = (before === undefined ? 0 : recordVersion(before)) + 1;
  const expiresAt = ttlMs === 0 ? 0 : nowMs + ttlMs;
  const stamp = { hlc, writer, incarnation };
  const record = encodeRecord({
    key,
    value: value ?? noBytes,
    valueType: value === undefined ? valueTypes.bytes : valueType,
    isTombstone: value === undefined,
    ...stamp,
    version,
    expiresAt,
    ...hashes,
  });
  const existed = before !== undefined && isLive(before, nowMs);
  return { record, result: { ...stamp, version, expiresAt, existed } };
}

/** Durable with every holder when it returns. UNAVAILABLE: called off. UNKNOWN_OUTCOME: it may be kept. */
async function log(
  { session, holders, writer, incarnation, leftMs }: Batch,
  stamped: readonly Stamped[],
  hlc: number,
  nowMs: number,
): Promise<void> {
  const records = stamped.map(({ record }) => record);
  const entry = encodeBatchEntry({ createdMs: nowMs, records });
  const keeps = holders.map((holder) => session.ask(holder, 'keep', { entry }, leftMs()));
  const settled = await Promise.allSettled(keeps);
  const failed = settled.find((one) => one.status === 'rejected');
  if (failed === undefined) return;
  const calledOff = await Promise.allSettled(
    holders.map((holder) => session.ask(holder, 'callOff', { hlc, writer, incarnation }, cancelMs)),
  );
  const reason = toFailure(failed.reason).code;
  if (calledOff.every(({ status }) => status === 'fulfilled'))
    throw new KvError('UNAVAILABLE', {
      reason,
      detail: 'the batch was not logged; nothing was done',
    });
  throw new KvError('UNKNOWN_OUTCOME', { reason, detail: 'the batch may have been logged' });
}

interface Answered {
  readonly node: string;
  readonly problem: Failure | undefined;
}

/** Records of one token, which have the same replicas. */
interface Group {
  readonly place: BatchPlace;
  readonly records: readonly Uint8Array[];
}

/** Indexes of the records of each token. */
export function byToken(records: readonly Uint8Array[]): ReadonlyMap<number, readonly number[]> {
  const groups = new Map<number, number[]>();
  for (const [i, record] of records.entries()) {
    const token = recordToken(record);
    const group = groups.get(token);
    if (group === undefined) groups.set(token, [i]);
    else group.push(i);
  }
  return groups;
}

function groupsOf(places: readonly BatchPlace[], stamped: readonly Stamped[]): readonly Group[] {
  const records = stamped.map(({ record }) => record);
  return [...byToken(records).values()].map((indexes) => ({
    place: places[indexes[0] ?? 0] as BatchPlace,
    records: indexes.map((i) => records[i] as Uint8Array),
  }));
}

/** A group to its replicas; decided as soon as it is known. Who misses it gets hints, also later. */
async function send(batch: Batch, { place, records }: Group): Promise<WriteOutcome> {
  const { session, replica, hint, leftMs } = batch;
  const { targets, absent, required, hashes } = place;
  const path = new WritePath(required, targets.length);
  const missed = new MissedReplicas(absent);
  const sendTo = async (node: string): Promise<Answered> => {
    const problem = await writeTogether(session, replica(node, hashes.token), records, leftMs);
    for (const other of missed.answered(node, problem))
      for (const record of records) hint(other, record);
    return { node, problem };
  };
  const open = new Map(targets.map((node) => [node, sendTo(node)]));
  for (;;) {
    const { node, problem } = await Promise.race(open.values());
    open.delete(node);
    const outcome = problem === undefined ? path.acked() : path.failed(problem);
    if (outcome.kind !== 'open') return outcome;
  }
}

/** To one replica, in one record of its log where they fit into one; why it does not have all of them. */
export async function writeTogether(
  session: Session,
  to: Ref<Replica>,
  records: readonly Uint8Array[],
  leftMs: () => number,
): Promise<Failure | undefined> {
  try {
    const [record] = records;
    if (records.length === 1 && record !== undefined)
      await session.ask(to, 'write', { record }, leftMs());
    else await session.ask(to, 'writeMany', { records }, leftMs());
    return undefined;
  } catch (error) {
    const problem = toFailure(error);
    if (problem.code !== 'TOO_LARGE' || records.length === 1) return problem;
    const each = records.map((one) => writeTogether(session, to, [one], leftMs));
    return (await Promise.all(each)).find((one) => one !== undefined);
  }
}
