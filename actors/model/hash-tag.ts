// Which bytes of a key choose its place: all of them, or namespace and hash tag. A hash tag is what
// stands between the first `{` and the next `}`, if that is not empty: keys that share it live
// together (Redis Cluster specification, "Hash tags").

import { namespaceBytes } from './record.ts';

const openBrace = 0x7b;
const closeBrace = 0x7d;

/** The hash tag of a key, a view; undefined where it has none. `from`: where the user's key begins. */
export function hashTagOf(key: Uint8Array, from = 0): Uint8Array | undefined {
  const open = key.indexOf(openBrace, from);
  if (open < 0) return undefined;
  const close = key.indexOf(closeBrace, open + 1);
  return close <= open + 1 ? undefined : key.subarray(open + 1, close);
}

/** The storage key itself where it has no tag. */
export function placementBytes(storageKey: Uint8Array): Uint8Array {
  const tag = hashTagOf(storageKey, namespaceBytes);
  if (tag === undefined) return storageKey;
  const tagged = new Uint8Array(namespaceBytes + tag.length);
  tagged.set(storageKey.subarray(0, namespaceBytes));
  tagged.set(tag, namespaceBytes);
  return tagged;
}
