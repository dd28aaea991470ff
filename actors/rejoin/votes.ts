// What the other replicas have promised, accepted and committed for the keys of a node that has
// forgotten it, taken over before it votes again (CO-4, PX-17). All other replicas of a key are asked:
// each decision of a majority that this node belonged to is known to one of them.

import type { Ref, Session } from '../../runtime/actor.ts';
import { justAfter } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';
import { privateKeysFrom, recordKey, recordToken, statesFrom } from '../model/record.ts';
import type { RecordPage } from '../model/record-pages.ts';
import type { Ring } from '../model/ring.ts';
import { shardOf } from '../model/token.ts';
import { type Pauses, tryAgain } from '../model/try-again.ts';
import type { Acceptor, Replica } from '../replication/protocol.ts';
import type { RangeRequest } from '../storage/protocol.ts';

export interface VotesOptions {
  readonly session: Session;
  readonly node: string;
  readonly others: readonly string[];
  readonly ring: Ring;
  readonly replicaOf: (node: string, shard: number) => Ref<Replica>;
  /** Undefined: not known yet. */
  readonly shardsOf: (node: string) => number | undefined;
  readonly acceptorOf: (shard: number) => Ref<Acceptor>;
  readonly otherAcceptorOf: (node: string, shard: number) => Ref<Acceptor>;
  /** Of this node. */
  readonly shards: number;
}

const pageRows = 256;
const pageBytes = 1024 * 1024;
const pageTimeoutMs = 10_000;
const pauses: Pauses = { firstMs: 500, longestMs: 500 };

/** How far it has come with another node, over all tries. */
interface Progress {
  /** Of the other node, as far as was known; another number of them is another division of keys. */
  shards: number;
  shard: number;
  from: Uint8Array;
}

/** An hlc for each set of replicas, by number. */
type Floors = Map<number, number>;

export async function takeOverVotes(options: VotesOptions): Promise<void> {
  const { others, session, node, ring, shards, acceptorOf } = options;
  const floors: Floors = new Map();
  for (const other of others) {
    if (!sharesKeys(ring, node, other)) continue;
    const progress: Progress = { shards: 0, shard: 0, from: privateKeysFrom };
    await untilDone(session, () => takeFrom(options, other, progress, floors));
  }
  if (floors.size === 0) return;
  const bounds = { sets: [...floors.keys()], hlcs: [...floors.values()] };
  for (let shard = 0; shard < shards; shard += 1)
    await untilDone(session, () =>
      session.ask(acceptorOf(shard), 'raiseFloors', bounds, pageTimeoutMs),
    );
}

const untilDone = (session: Session, work: () => Promise<unknown>): Promise<unknown> =>
  tryAgain(session, pauses, work, (error) => error instanceof KvError);

const sharesKeys = (ring: Ring, a: string, b: string): boolean =>
  ring.ranges().some(({ replicas }) => replicas.includes(a) && replicas.includes(b));

/** Goes on where the last try ended. UNREACHABLE: nothing is known of the other's shards. */
async function takeFrom(
  options: VotesOptions,
  other: string,
  progress: Progress,
  floors: Floors,
): Promise<void> {
  const shards = options.shardsOf(other);
  if (shards === undefined) throw new KvError('UNREACHABLE', { node: other });
  if (shards !== progress.shards)
    Object.assign(progress, { shards, shard: 0, from: privateKeysFrom });
  while (progress.shard < shards) {
    await takeFromShard(options, options.replicaOf(other, progress.shard), progress);
    await takeFloors(options, options.otherAcceptorOf(other, progress.shard), floors);
    progress.shard += 1;
    progress.from = privateKeysFrom;
  }
}

/**
 * What the others refuse because they may have forgotten it. Asked after the votes: what they
 * forget while those are read is below what they refuse by then.
 */
async function takeFloors(
  { session }: VotesOptions,
  other: Ref<Acceptor>,
  floors: Floors,
): Promise<void> {
  const { sets, hlcs } = await session.ask(other, 'floors', {}, pageTimeoutMs);
  for (const [i, set] of sets.entries())
    floors.set(set, Math.max(floors.get(set) ?? 0, hlcs[i] ?? 0));
}

async function takeFromShard(
  { session, ring, node, acceptorOf, shards }: VotesOptions,
  replica: Ref<Replica>,
  progress: Progress,
): Promise<void> {
  for (;;) {
    const { from } = progress;
    const { to, next } = statesFrom(from);
    const range: RangeRequest = { from, to, limit: pageRows, bytes: pageBytes };
    const page: RecordPage = await session.ask(replica, 'range', range, pageTimeoutMs);
    const { records, isDone } = page;
    const own = records.filter((record) => ring.replicasOf(recordToken(record)).includes(node));
    for (let shard = 0; shard < shards; shard += 1) {
      const ofShard = own.filter((record) => shardOf(recordToken(record), shards) === shard);
      if (ofShard.length > 0)
        await session.ask(acceptorOf(shard), 'adopt', { records: ofShard }, pageTimeoutMs);
    }
    const last = records.at(-1);
    if (!isDone && last !== undefined) progress.from = justAfter(recordKey(last));
    else if (next === undefined) return;
    else progress.from = next;
  }
}
