// Messages of coming back (CO-4): each node remembers the births of the others' data directories,
// and a node whose directory is new asks whether anybody knows an older one.

import { ask, protocol, tell } from '../../runtime/protocol.ts';
import { type PeerStates, peerStatesLayout } from '../membership/protocol.ts';

/** `asking`: nobody has said yet whether it is new. `filling`: it has lost what it acknowledged. */
export type RejoinPhase = 'asking' | 'filling' | 'whole';

export const Rejoiner = protocol('rejoiner', 35, {
  /**
   * The directory of a node was born so; what is known of it when this is answered, durably: this
   * birth, or another one that was known before. `isFilled`: this one takes the place of any other.
   */
  admit: ask<
    { readonly node: string; readonly birth: number; readonly isFilled: boolean },
    { readonly birth: number }
  >(1, {
    lane: 'control',
    layout: { node: 'text', birth: 'u53', isFilled: 'bool' },
    replyLayout: { birth: 'u53' },
  }),
  status: ask<object, { readonly phase: RejoinPhase; readonly detail: string }>(2, {
    lane: 'control',
    replyLayout: { phase: 'text', detail: 'text' },
  }),
  /** Who is alive, from the failure detector; every change and once per second. */
  peersChanged: tell<PeerStates>(3, { lane: 'control', layout: peerStatesLayout }),
});
export type Rejoiner = typeof Rejoiner.messages;
