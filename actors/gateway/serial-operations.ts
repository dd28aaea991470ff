// Changes of a key that read it first and must not lose what others write meanwhile: conditions,
// counters, appending, times to live. The command handlers of the Redis protocol speak to this interface alone, so
// that whoever serves such changes is wired in one place.

import type { Done } from '../../runtime/actor.ts';
import { recordValue, storageKey, valueTypes } from '../model/record.ts';
import {
  type ExpiryWord,
  plainSerial,
  type SerialCondition,
  type SerialRequest as ProposerRequest,
  type TransactionStep,
} from '../replication/protocol.ts';
import type { KeyCalls } from './key-calls.ts';
import type { RespCall } from './resp-call.ts';
import { keyIdOf } from './session.ts';

export type SerialChange =
  /** SET with NX, XX or GET, SETNX, GETSET. */
  | {
      readonly kind: 'set';
      readonly value: Uint8Array;
      /** Milliseconds from now; 0: never expires. */
      readonly ttlMs: number;
      /** Milliseconds since 1970, instead of `ttlMs`. */
      readonly expiresAt: number;
      /** The time to live that the key has stays; `ttlMs` is for a key that has none. */
      readonly keepsTtl: boolean;
      readonly condition: 'none' | 'absent' | 'present';
    }
  /** KV.CAS: the value is exactly this one. */
  | { readonly kind: 'replace'; readonly expected: Uint8Array; readonly value: Uint8Array }
  /** DELEX: deletes the key where its value is exactly this one. GETDEL: whatever it is. */
  | { readonly kind: 'delete'; readonly expected: Uint8Array | undefined }
  /** EXPIRE and its family, PERSIST, GETEX. Both 0: for ever. */
  | {
      readonly kind: 'expire';
      readonly ttlMs: number;
      /** Milliseconds since 1970, instead of `ttlMs`; a moment that is over deletes the key. */
      readonly expiresAt: number;
      readonly words: readonly ExpiryWord[];
    }
  | { readonly kind: 'add'; readonly delta: number }
  | { readonly kind: 'add-float'; readonly delta: number }
  | { readonly kind: 'append'; readonly value: Uint8Array }
  | { readonly kind: 'overwrite'; readonly offset: number; readonly value: Uint8Array };

export interface SerialRequest {
  /** The command that it is for. */
  readonly call: RespCall;
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
  /** `deadlineMs`: monotonic. `what`: the command, for messages. */
  readonly change: (
    request: SerialRequest,
    what: string,
    deadlineMs: number,
    done: Done<SerialOutcome>,
  ) => void;
}

/** Changes that run at the proposer of their key. */
export function serialOperationsOf(calls: KeyCalls): SerialOperations {
  return {
    change: ({ call, key, change }, _what, deadlineMs, done) => {
      const { namespace } = call;
      const request = { ...serialTermsOf(change), namespace, key };
      calls.serial(request, deadlineMs, (problem, reply) => {
        if (reply === undefined) return done(problem, undefined);
        const keyId = keyIdOf(storageKey(namespace, key));
        const deadFromMs = reply.record === undefined ? 1 : reply.expiresAt;
        if (reply.hlc > 0) call.session?.wrote(keyId, reply, deadFromMs, 'QUORUM');
        done(undefined, outcomeOfStep(reply));
      });
    },
  };
}

/** As the handlers of commands hear it. */
export const outcomeOfStep = ({
  isApplied,
  before,
  record,
}: Pick<TransactionStep, 'isApplied' | 'before' | 'record'>): SerialOutcome => ({
  ...{ isApplied, before: valueOf(before), after: valueOf(record) },
});

const valueOf = (record: Uint8Array | undefined): Uint8Array | undefined =>
  record === undefined ? undefined : recordValue(record);

const exists: SerialCondition = { kind: 'exists' };
/** A change of the Redis protocol keeps the time to live, unless its command says otherwise. */
const usual = { ...plainSerial, valueType: valueTypes.bytes, keepTtl: true };

type Terms = Pick<ProposerRequest, 'verb'> & Partial<ProposerRequest>;

/** The operation that a change is, without its key. */
export const serialTermsOf = (
  change: SerialChange,
): Omit<ProposerRequest, 'namespace' | 'key'> => ({ ...usual, ...termsOf(change) });

function termsOf(change: SerialChange): Terms {
  switch (change.kind) {
    case 'set': {
      const { value, ttlMs, expiresAt, keepsTtl: keepTtl, condition } = change;
      const kind = condition === 'present' ? 'exists' : condition;
      return { verb: 'write', value, ttlMs, expiresAt, keepTtl, condition: { kind } };
    }
    case 'replace': {
      const { value, expected } = change;
      return { verb: 'write', value, condition: { kind: 'value', value: expected } };
    }
    case 'delete': {
      const { expected: value } = change;
      const condition = value === undefined ? exists : ({ kind: 'value', value } as const);
      return { verb: 'delete', condition };
    }
    case 'expire': {
      const { ttlMs, expiresAt, words } = change;
      const condition = words.length === 0 ? exists : ({ kind: 'expiry', words } as const);
      return { verb: 'expire', ttlMs, expiresAt, keepTtl: false, condition };
    }
    case 'add':
      return { verb: 'increment', delta: change.delta };
    case 'add-float':
      return { verb: 'add', delta: change.delta };
    case 'append':
      return { verb: 'append', value: change.value };
    case 'overwrite':
      return { verb: 'overwrite', value: change.value, offset: change.offset };
  }
}
