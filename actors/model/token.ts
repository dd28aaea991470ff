// A key's place on the ring: farmhash fingerprint32 of the bytes that hash-tag.ts chooses, and which
// shard of a node that place belongs to.

import { KvError } from '../../runtime/errors.ts';
import { fingerprint32 } from '../../runtime/hash.ts';
import { placementBytes } from './hash-tag.ts';

export interface KeyHashes {
  /** 0 to 2^32 - 1: chooses the replicas. */
  readonly token: number;
  /** Of the whole storage key: for bloom filters; equals the token where there is no tag. */
  readonly hash: number;
}

export function hashKey(storageKey: Uint8Array): KeyHashes {
  const hash = fingerprint32(storageKey);
  const placement = placementBytes(storageKey);
  return { token: placement === storageKey ? hash : fingerprint32(placement), hash };
}

/** The shard of a node that owns a token. */
export const shardOf = (token: number, shards: number): number => token % shards;

/** WRONG_SHARD where another shard owns the token: who asked took the node for one with other shards. */
export function checkShard(token: number, shard: number, shards: number): void {
  if (shardOf(token, shards) !== shard) throw new KvError('WRONG_SHARD', { shards });
}
