// One plain write at its coordinator, from its request to its answer, in one object: the hot path makes
// no other that lives until the replicas have answered. First it needs what the key holds, then a stamp
// (stamp-queue.ts), then the replicas.

import type { Deferred } from '../../runtime/actor.ts';
import { noBytes } from '../../runtime/bytes.ts';
import type { Failure } from '../../runtime/errors.ts';
import { encodeRecord, isLive, recordHlc, recordVersion, valueTypes } from '../model/record.ts';
import type { KeyHashes } from '../model/token.ts';
import type { Explanation } from './explain.ts';
import type { WriteReply, WriteRequest } from './protocol.ts';
import type { AwaitsStamp } from './stamp-queue.ts';

/** Where a write goes. */
export interface WritePlace {
  /** Storage key. */
  readonly key: Uint8Array;
  readonly hashes: KeyHashes;
  readonly targets: readonly string[];
  readonly required: number;
}

export interface WriteTerms {
  /** Monotonic: when the replicas have to have answered. */
  readonly deadlineMs: number;
  readonly later: Deferred<WriteReply>;
  readonly explanation: Explanation | undefined;
}

/** What its coordinator does with it. */
export interface WritesItsRecords {
  readonly send: (write: OpenWrite, wallMicros: number) => void;
  readonly refuse: (write: OpenWrite, problem: Failure) => void;
}

export interface WriteStamp {
  readonly hlc: number;
  readonly writer: number;
  readonly incarnation: number;
  readonly wallMicros: number;
  readonly coordinator: string;
}

export interface Stamped {
  readonly record: Uint8Array;
  readonly reply: WriteReply;
}

export class OpenWrite implements AwaitsStamp {
  readonly request: WriteRequest;
  readonly place: WritePlace;
  readonly deadlineMs: number;
  readonly later: Deferred<WriteReply>;
  readonly explanation: Explanation | undefined;
  /** What the key held. */
  before: Uint8Array | undefined = undefined;
  readonly #coordinator: WritesItsRecords;

  constructor(
    coordinator: WritesItsRecords,
    request: WriteRequest,
    place: WritePlace,
    { deadlineMs, later, explanation }: WriteTerms,
  ) {
    this.#coordinator = coordinator;
    this.request = request;
    this.place = place;
    this.deadlineMs = deadlineMs;
    this.later = later;
    this.explanation = explanation;
  }

  /** Its stamp has to be above. */
  get floorHlc(): number {
    const { afterHlc } = this.request;
    return Math.max(afterHlc, this.before === undefined ? 0 : recordHlc(this.before));
  }

  proceed(wallMicros: number): void {
    this.#coordinator.send(this, wallMicros);
  }

  fail(problem: Failure): void {
    this.#coordinator.refuse(this, problem);
  }

  /** `allocate`: where the bytes of the record come from. */
  stamped(
    { hlc, writer, incarnation, wallMicros, coordinator }: WriteStamp,
    allocate: (length: number) => Uint8Array,
  ): Stamped {
    const { before } = this;
    const { value, valueType, ttlMs } = this.request;
    const { key, hashes } = this.place;
    const nowMs = Math.floor(wallMicros / 1000);
    const version = (before === undefined ? 0 : recordVersion(before)) + 1;
    const expiresAt = ttlMs === 0 ? 0 : nowMs + ttlMs;
    const record = encodeRecord(
      {
        key,
        value: value ?? noBytes,
        valueType: value === undefined ? valueTypes.bytes : valueType,
        isTombstone: value === undefined,
        hlc,
        writer,
        incarnation,
        version,
        expiresAt,
        token: hashes.token,
        hash: hashes.hash,
      },
      allocate,
    );
    const existed = before !== undefined && isLive(before, nowMs);
    const reply = {
      version,
      hlc,
      writer,
      incarnation,
      expiresAt,
      existed,
      coordinator,
      explanation: undefined,
    };
    return { record, reply };
  }
}
