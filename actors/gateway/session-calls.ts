// Operations on keys within the session of their request: the session says where a read begins, what
// it may be shown, and above what a write is stamped, and it learns of every outcome (SS-*). Levels
// that are decided go to the proposer of the key, all others to a coordinator.

import type { Done } from '../../runtime/actor.ts';
import { failure } from '../../runtime/errors.ts';
import { isSerial, type Level } from '../model/consistency.ts';
import { storageKey, valueTypes } from '../model/record.ts';
import type {
  ReadReply,
  SerialReply,
  SerialRequest,
  SiblingWriteReply,
  SiblingWriteRequest,
  WriteReply,
  WriteRequest,
} from '../replication/protocol.ts';
import type { KeyTerms } from './http-requests.ts';
import type { KeyCalls } from './key-calls.ts';
import type { HttpRequest } from './protocol.ts';
import {
  asRead,
  asWritten,
  explained,
  serialRead,
  serialWrite,
  unmetFailure,
} from './serial-requests.ts';
import { keyIdOf } from './session.ts';

/** A write without what its session adds. */
export type KeyedWrite = Omit<WriteRequest, 'afterHlc' | 'level' | 'explain'>;

export interface BatchWrite extends KeyedWrite {
  readonly ifNotExists: boolean;
}

/** The request that a batch came with, and when its operations have to have ended. */
/** Of an atomic batch: a reply for each operation. */
export interface AtomicReply {
  readonly replies: readonly WriteReply[];
  readonly coordinator: string;
  readonly explanation: undefined;
}

interface BatchTerms {
  readonly request: HttpRequest;
  readonly deadlineMs: number;
}

/** A delete of one key. */
export function removal(namespace: number, key: Uint8Array): KeyedWrite {
  return { namespace, key, value: undefined, valueType: valueTypes.bytes, ttlMs: 0 };
}

/** `deadlineMs` is monotonic, in all of them. */
export class SessionCalls {
  readonly #calls: KeyCalls;

  constructor(calls: KeyCalls) {
    this.#calls = calls;
  }

  /** Writes a key after all that the session knows of it, which learns of the write. */
  write(
    { session, level, explain }: KeyTerms,
    write: KeyedWrite,
    deadlineMs: number,
    done: Done<WriteReply>,
  ): void {
    const keyId = keyIdOf(storageKey(write.namespace, write.key));
    const body = { ...write, level, explain, afterHlc: session.afterHlc(keyId) };
    this.#calls.run('write', body, deadlineMs, (problem, reply) => {
      if (reply === undefined) return done(problem, undefined);
      session.wrote(keyId, reply, write.value === undefined ? 1 : reply.expiresAt, level);
      done(undefined, reply);
    });
  }

  /** A write of a key that keeps siblings: its context says what it has seen, no session does. */
  writeSibling(
    write: SiblingWriteRequest,
    deadlineMs: number,
    done: Done<SiblingWriteReply & { readonly explanation: undefined }>,
  ): void {
    this.#calls.run('siblingWrite', write, deadlineMs, (problem, reply) =>
      done(problem, reply === undefined ? undefined : { ...reply, explanation: undefined }),
    );
  }

  /** Reads a key, of more replicas while the outcome is older than the session may see (SS-3). */
  read(
    terms: KeyTerms,
    key: Uint8Array,
    deadlineMs: number,
    done: Done<ReadReply & { readonly level: Level }>,
  ): void {
    if (isSerial(terms.level)) return this.#serialRead(terms, key, deadlineMs, done);
    const { namespace, session, level, explain } = terms;
    const keyId = keyIdOf(storageKey(namespace, key));
    const attempt = (at: Level): void =>
      this.#calls.run(
        'read',
        { namespace, key, level: at, explain },
        deadlineMs,
        (problem, reply) => {
          if (reply === undefined) return done(problem, undefined);
          if (session.accepts(keyId, reply, at)) {
            session.saw(keyId, reply, at);
            return done(undefined, { ...reply, level: at });
          }
          const wider = session.widerThan(at);
          if (wider !== undefined) return attempt(wider);
          const detail = 'every replica that answers is behind this session';
          done(failure('SESSION_UNSATISFIED', { level: at, detail }), undefined);
        },
      );
    attempt(session.firstLevel(keyId, level));
  }

  /** Runs an operation that is decided; its session learns of the outcome. */
  serial(
    { session, explain }: KeyTerms,
    request: SerialRequest,
    deadlineMs: number,
    done: Done<SerialReply>,
  ): void {
    const keyId = keyIdOf(storageKey(request.namespace, request.key));
    const body = { ...explained(request, explain), afterHlc: session.afterHlc(keyId) };
    this.#calls.serial(body, deadlineMs, (problem, reply) => {
      if (reply !== undefined && reply.hlc > 0) {
        const deadFromMs = reply.record === undefined ? 1 : reply.expiresAt;
        session.wrote(keyId, reply, deadFromMs, 'QUORUM');
      }
      done(problem, reply);
    });
  }

  #serialRead(
    terms: KeyTerms,
    key: Uint8Array,
    deadlineMs: number,
    done: Done<ReadReply & { readonly level: Level }>,
  ): void {
    const { namespace, session, level, explain } = terms;
    const keyId = keyIdOf(storageKey(namespace, key));
    const request = explained(serialRead({ namespace, key }), explain);
    const attempt = (isLast: boolean): void =>
      this.#calls.serial(request, deadlineMs, (problem, reply) => {
        if (reply === undefined) return done(problem, undefined);
        const seen = asRead(reply);
        if (session.accepts(keyId, seen, level)) {
          session.saw(keyId, seen, level);
          return done(undefined, { ...seen, level });
        }
        const detail = 'what is decided is behind this session';
        if (isLast) return done(failure('SESSION_UNSATISFIED', { level, detail }), undefined);
        // A plain write that no majority has seen: a read of all brings it to all that answer.
        const widest = { namespace, key, level: 'ALL', explain: false };
        this.#calls.run('read', widest, deadlineMs, (refused) => {
          if (refused === undefined) attempt(true);
          else done(refused, undefined);
        });
      });
    attempt(false);
  }

  /** Writes of different keys as one: in the end all of them or none, not isolated (BL-5). */
  writeAtomic(
    { session, level, namespace }: KeyTerms,
    writes: readonly BatchWrite[],
    deadlineMs: number,
    done: Done<AtomicReply>,
  ): void {
    const keyIds = writes.map(({ key }) => keyIdOf(storageKey(namespace, key)));
    const afterHlc = Math.max(0, ...keyIds.map((keyId) => session.afterHlc(keyId)));
    const body = { namespace, operations: writes, afterHlc, level };
    this.#calls.atomic(body, deadlineMs, (problem, reply) => {
      if (reply === undefined) return done(problem, undefined);
      const { results, coordinator } = reply;
      results.forEach((result, i) => {
        const deadFromMs = writes[i]?.value === undefined ? 1 : result.expiresAt;
        session.wrote(keyIds[i] as number, result, deadFromMs, level);
      });
      const made = { coordinator, explanation: undefined };
      done(undefined, { replies: results.map((result) => ({ ...result, ...made })), ...made });
    });
  }

  /** A write of a batch, decided where its condition or level asks for it. */
  writeOne(
    { request, deadlineMs }: BatchTerms,
    terms: KeyTerms,
    { ifNotExists, ...write }: BatchWrite,
    done: Done<WriteReply>,
  ): void {
    const { namespace, key, value } = write;
    const operation = value === undefined ? undefined : { ...write, value, ifNotExists };
    const serial = serialWrite(request, { namespace, key }, operation, terms);
    if (serial === undefined) return this.write(terms, write, deadlineMs, done);
    this.serial(terms, serial, deadlineMs, (problem, reply) => {
      if (reply === undefined) done(problem, undefined);
      else if (reply.isApplied) done(undefined, asWritten(reply));
      else done(unmetFailure(reply), undefined);
    });
  }
}
