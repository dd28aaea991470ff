// A key's place on the ring: farmhash fingerprint32 of namespace and key, or of namespace and hash
// tag. A hash tag is what stands between the first `{` and the next `}`, if that is not empty:
// keys that share it live together (Redis Cluster specification, "Hash tags").

import { fingerprint32 } from '../../runtime/hash.ts';
import { namespaceBytes } from './record.ts';

const openBrace = 0x7b;
const closeBrace = 0x7d;

export interface KeyHashes {
  /** 0 to 2^32 - 1: chooses the replicas. */
  readonly token: number;
  /** Of the whole storage key: for bloom filters; equals the token where there is no tag. */
  readonly hash: number;
}

export function hashKey(storageKey: Uint8Array): KeyHashes {
  const hash = fingerprint32(storageKey);
  const open = storageKey.indexOf(openBrace, namespaceBytes);
  if (open < 0) return { token: hash, hash };
  const close = storageKey.indexOf(closeBrace, open + 1);
  if (close <= open + 1) return { token: hash, hash };
  const tagged = new Uint8Array(namespaceBytes + close - open - 1);
  tagged.set(storageKey.subarray(0, namespaceBytes));
  tagged.set(storageKey.subarray(open + 1, close), namespaceBytes);
  return { token: fingerprint32(tagged), hash };
}

/** The shard of a node that owns a token. */
export const shardOf = (token: number, shards: number): number => token % shards;
