// The first frame of a connection, both ways: who I am, which cluster, where my actors run. A peer
// that does not fit is refused with a sentence for both logs; nothing else is read from it.

import { fingerprint32Text } from '../runtime/hash.ts';
import { KvError } from '../runtime/errors.ts';
import type { Profile } from '../runtime/placement.ts';
import { decodeMsgpack, encodeMsgpack } from './msgpack.ts';

export interface Hello {
  readonly clusterName: string;
  readonly node: string;
  readonly incarnation: number;
  /** Thread of the sender on this connection. */
  readonly thread: number;
  readonly profile: Profile;
  readonly shards: number;
  /** The sender answers probes (frame.ts); a program of before does not, and does not say so. */
  readonly answersProbes: boolean;
}

const profiles: readonly string[] = ['single', 'small', 'wide'] satisfies Profile[];

export const encodeHello = (hello: Hello): Uint8Array => encodeMsgpack(hello);

/** BAD_REQUEST where it is no hello. */
export function decodeHello(bytes: Uint8Array): Hello {
  const read = decodeMsgpack(bytes) as Partial<Record<keyof Hello, unknown>> | null;
  const { clusterName, node, incarnation, thread, profile, shards, answersProbes } = read ?? {};
  if (
    typeof clusterName !== 'string' ||
    typeof node !== 'string' ||
    typeof profile !== 'string' ||
    !profiles.includes(profile) ||
    !isCount(incarnation) ||
    !isCount(thread) ||
    !isCount(shards) ||
    shards < 1 ||
    shards > shardsMax
  )
    throw new KvError('BAD_REQUEST', { detail: 'the handshake is no hello of kvd' });
  return {
    ...{ clusterName, node, incarnation, thread, profile: profile as Profile, shards },
    answersProbes: answersProbes === true,
  };
}

/** More shards than any machine has cores: a number from the wire decides about ports. */
const shardsMax = 1_024;

const isCount = (value: unknown): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;

/**
 * Why `peer` may not talk to `self`; undefined where it may. `members`: who may join. Two ids with
 * one fingerprint would give their writes the same name.
 */
export function refusal(self: Hello, peer: Hello, members: readonly string[]): string | undefined {
  if (peer.clusterName !== self.clusterName)
    return `it is of cluster ${peer.clusterName}, this is ${self.clusterName}`;
  if (peer.node === self.node) return `it runs under this node's own id ${self.node}`;
  if (!members.includes(peer.node)) return `${peer.node} is no member`;
  if (fingerprint32Text(peer.node) === fingerprint32Text(self.node))
    return `the ids ${peer.node} and ${self.node} have the same fingerprint: rename one`;
  return undefined;
}
