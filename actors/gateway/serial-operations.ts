// Changes of a key that read it first and must not lose what others write meanwhile: conditions,
// counters, appending. The command handlers of the Redis protocol speak to this interface alone, so
// that whoever serves such changes is wired in one place.
//
// Not implemented yet: every change is refused by name, and none is made in a weaker way.

import type { Done } from '../../runtime/actor.ts';
import { failure } from '../../runtime/errors.ts';

export type SerialChange =
  /** SET with NX, XX or GET, SETNX, GETSET. */
  | {
      readonly kind: 'set';
      readonly value: Uint8Array;
      /** Milliseconds from now; 0: never expires. */
      readonly ttlMs: number;
      /** The time to live that the key has stays; `ttlMs` is for a key that has none. */
      readonly keepsTtl: boolean;
      readonly condition: 'none' | 'absent' | 'present';
    }
  /** KV.CAS: the value is exactly this one. */
  | { readonly kind: 'replace'; readonly expected: Uint8Array; readonly value: Uint8Array }
  | { readonly kind: 'add'; readonly delta: number }
  | { readonly kind: 'add-float'; readonly delta: number }
  | { readonly kind: 'append'; readonly value: Uint8Array }
  | { readonly kind: 'overwrite'; readonly offset: number; readonly value: Uint8Array };

export interface SerialRequest {
  readonly namespace: number;
  readonly key: Uint8Array;
  readonly change: SerialChange;
}

export interface SerialOutcome {
  /** The condition held and the change was made. */
  readonly isApplied: boolean;
  /** Live value before; absent: there was none. */
  readonly before: Uint8Array | undefined;
  /** Live value now. */
  readonly after: Uint8Array | undefined;
}

export interface SerialOperations {
  /** False: every change is refused as not implemented. */
  readonly isServed: boolean;
  /** `deadlineMs`: monotonic. `what`: the command, for messages. */
  readonly change: (
    request: SerialRequest,
    what: string,
    deadlineMs: number,
    done: Done<SerialOutcome>,
  ) => void;
}

export const serialOperations: SerialOperations = {
  isServed: false,
  change: (_request, what, _deadlineMs, done) =>
    done(
      failure('NOT_IMPLEMENTED', { detail: `${what} needs serial operations, not there yet` }),
      undefined,
    ),
};
