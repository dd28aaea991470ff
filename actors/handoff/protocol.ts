// Messages of hinted handoff: a coordinator hands over what a replica has missed, and the hint
// keeper of its shard brings it there when that node is back.

import { ask, protocol, tell } from '../../runtime/protocol.ts';
import { type PeerStates, peerStatesLayout } from '../membership/protocol.ts';

export interface HintsOfNode {
  readonly node: string;
  /** Hints that wait, and their bytes on disk. */
  readonly hints: number;
  readonly bytes: number;
  /** When the oldest was created, milliseconds since 1970; 0: there is none. */
  readonly oldestMs: number;
}

export const HintKeeper = protocol('hint-keeper', 23, {
  /** `node` has missed this record. Best effort: what is dropped is counted, repair finds it. */
  keep: tell<{ readonly node: string; readonly record: Uint8Array }>(1, {
    layout: { node: 'text', record: 'bytes' },
  }),
  /** Who is alive, from the failure detector; every change and once per second. */
  peersChanged: tell<PeerStates>(2, { lane: 'control', layout: peerStatesLayout }),
  /** The same, answered when the hint is on disk; refused where none is kept. */
  keepSynced: ask<{ readonly node: string; readonly record: Uint8Array }, object>(80, {
    layout: { node: 'text', record: 'bytes' },
  }),
  /** What waits, sorted by node. */
  stats: ask<object, { readonly nodes: readonly HintsOfNode[] }>(3, { lane: 'background' }),
});
export type HintKeeper = typeof HintKeeper.messages;
