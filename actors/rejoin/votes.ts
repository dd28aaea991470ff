// What the other replicas have promised, accepted and committed for the keys of a node that has
// forgotten it, taken over before it votes again (CO-4, PX-17). All other replicas of a key are asked:
// each decision of a majority that this node belonged to is known to one of them.

import type { Ref, Session } from '../../runtime/actor.ts';
import { justAfter } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';
import { privateKeysFrom, privateKeysTo, recordKey, recordToken } from '../model/record.ts';
import type { RecordPage } from '../model/record-pages.ts';
import type { Ring } from '../model/ring.ts';
import { shardOf } from '../model/token.ts';
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
const againMs = 500;

export async function takeOverVotes(options: VotesOptions): Promise<void> {
  const { others, session, node, ring } = options;
  for (const other of others) {
    if (!sharesKeys(ring, node, other)) continue;
    while (!(await takeFrom(options, other))) await session.sleep(againMs);
  }
}

const sharesKeys = (ring: Ring, a: string, b: string): boolean =>
  ring.ranges().some(({ replicas }) => replicas.includes(a) && replicas.includes(b));

/** False: it could not be asked to the end; what was taken over stays. */
async function takeFrom(options: VotesOptions, other: string): Promise<boolean> {
  const shards = options.shardsOf(other);
  if (shards === undefined) return false;
  try {
    for (let shard = 0; shard < shards; shard += 1) {
      await takeFloors(options, options.otherAcceptorOf(other, shard));
      await takeFromShard(options, options.replicaOf(other, shard));
    }
    return true;
  } catch (error) {
    if (error instanceof KvError) return false;
    throw error;
  }
}

/** What the others refuse because they may have forgotten it. */
async function takeFloors(
  { session, acceptorOf, shards }: VotesOptions,
  other: Ref<Acceptor>,
): Promise<void> {
  const { sets, hlcs } = await session.ask(other, 'floors', {}, pageTimeoutMs);
  for (let shard = 0; shard < shards; shard += 1)
    await session.ask(acceptorOf(shard), 'raiseFloors', { sets, hlcs }, pageTimeoutMs);
}

async function takeFromShard(
  { session, ring, node, acceptorOf, shards }: VotesOptions,
  replica: Ref<Replica>,
): Promise<void> {
  let from: Uint8Array | undefined = privateKeysFrom;
  while (from !== undefined) {
    const range: RangeRequest = { from, to: privateKeysTo, limit: pageRows, bytes: pageBytes };
    const { records, isDone }: RecordPage = await session.ask(
      replica,
      'range',
      range,
      pageTimeoutMs,
    );
    const own = records.filter((record) => ring.replicasOf(recordToken(record)).includes(node));
    for (let shard = 0; shard < shards; shard += 1) {
      const ofShard = own.filter((record) => shardOf(recordToken(record), shards) === shard);
      if (ofShard.length > 0)
        await session.ask(acceptorOf(shard), 'adopt', { records: ofShard }, pageTimeoutMs);
    }
    const last = records.at(-1);
    from = isDone || last === undefined ? undefined : justAfter(recordKey(last));
  }
}
