// Which bytes of a key choose its place: all of them, or namespace and hash tag. A hash tag is what
// stands between the first `{` and the next `}`, if that is not empty: keys that share it live
// together (Redis Cluster specification, "Hash tags").

import { namespaceBytes } from './record.ts';

const openBrace = 0x7b;
const closeBrace = 0x7d;

/** The storage key itself where it has no tag. */
export function placementBytes(storageKey: Uint8Array): Uint8Array {
  const open = storageKey.indexOf(openBrace, namespaceBytes);
  if (open < 0) return storageKey;
  const close = storageKey.indexOf(closeBrace, open + 1);
  if (close <= open + 1) return storageKey;
  const tagged = new Uint8Array(namespaceBytes + close - open - 1);
  tagged.set(storageKey.subarray(0, namespaceBytes));
  tagged.set(storageKey.subarray(open + 1, close), namespaceBytes);
  return tagged;
}
