// A session: what one client has written and seen, so that it reads its own writes and never goes
// back, whichever node it asks and at whatever level (rules SS-1 to SS-5). The state travels with
// the client as a sealed token; no node keeps anything.
//
//   recent      up to 64 keys, each with the etag last written or seen
//   high water  the newest hlc of all keys that no longer fit, and whether a quorum holds them
//
// A read of a recent key is right at that etag or a later one. A read of any other key is right
// when its record is newer than the high water, or when so many replicas were asked that one of
// them must hold what the session knows: a quorum where all of it is held by quorums, else all.
// What is not right is asked again of more replicas; an older value is never given out.
//
//   offset  size  field of the token, before its seal
//        0     1  format version (1)
//        1     4  namespace
//        5     4  seconds since 1970 when it was given out
//        9     8  high water, hlc
//       17     1  high water: 1 a quorum holds all of it, 0 not
//       18     1  recent keys, then for each, oldest first:
//                   8 key id   8 hlc   4 writer   4 incarnation   8 dead from, ms   1 quorum

import { base64url, ByteReader, ByteWriter, crc32 } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';
import { fingerprint32 } from '../../runtime/hash.ts';
import type { Sealer } from '../../runtime/seal.ts';
import { type Level, quorumOf, requiredAcks } from '../model/consistency.ts';
import {
  compareEtags,
  type Etag,
  recordEtag,
  recordExpiresAt,
  recordHlc,
  recordKey,
} from '../model/record.ts';

interface Known {
  readonly etag: Etag;
  /** Milliseconds since 1970 from which on it reads as absent; 0: never, 1: it is a tombstone. */
  readonly deadFromMs: number;
  readonly isQuorum: boolean;
}

/** Outcome of a read, live or not: hlc 0 where no replica that was asked has anything. */
export interface Seen extends Etag {
  /** The live record. */
  readonly record: Uint8Array | undefined;
  readonly nowMs: number;
}

export const recentMax = 64;
/** A token is taken for so long after it was given out; longer than any retry of a client. */
export const tokenLifeMs = 24 * 3600 * 1000;
const formatVersion = 1;
const headerBytes = 19;
const entryBytes = 33;
const textLengthMax = 4096;
const crcBits = 2 ** 21;

/** 53 bits of a storage key: two independent checksums. */
export const keyIdOf = (storageKey: Uint8Array): number =>
  fingerprint32(storageKey) * crcBits + (crc32(storageKey) % crcBits);

export class Session {
  readonly #namespace: number;
  readonly #replicas: number;
  /** In the order of use, the oldest first. */
  readonly #recent = new Map<number, Known>();
  #highWater = 0;
  #isHighWaterQuorum = true;

  /** `replicas`: copies of each key in this namespace. */
  constructor(namespace: number, replicas: number) {
    this.#namespace = namespace;
    this.#replicas = replicas;
  }

  // ---- what it knows -----------------------------------------------------------------------

  /** The session wrote this record, acknowledged at `level`. */
  wrote(keyId: number, etag: Etag, deadFromMs: number, level: Level): void {
    this.#remember(keyId, { etag, deadFromMs, isQuorum: this.#isQuorum(level) });
  }

  /** The session was shown this outcome of a read at `level`. */
  saw(keyId: number, seen: Seen, level: Level): void {
    const { record, hlc, writer, incarnation } = seen;
    if (hlc === 0) return;
    const deadFromMs = record === undefined ? 1 : recordExpiresAt(record);
    const etag = { hlc, writer, incarnation };
    this.#remember(keyId, { etag, deadFromMs, isQuorum: this.#isQuorum(level) });
  }

  /** The session was shown a page of a list or scan, read at `level`. */
  sawPage(records: readonly Uint8Array[], level: Level): void {
    if (records.length === 0) return;
    for (const record of records) this.#highWater = Math.max(this.#highWater, recordHlc(record));
    this.#isHighWaterQuorum &&= this.#isQuorum(level);
    // The high water is not asked about keys that the session knows one by one.
    if (this.#recent.size > 0) for (const record of records) this.#sawListed(record, level);
  }

  #sawListed(record: Uint8Array, level: Level): void {
    const keyId = keyIdOf(recordKey(record));
    const known = this.#recent.get(keyId);
    const etag = recordEtag(record);
    if (known === undefined || compareEtags(etag, known.etag) <= 0) return;
    const deadFromMs = recordExpiresAt(record);
    this.#recent.set(keyId, { etag, deadFromMs, isQuorum: this.#isQuorum(level) });
  }

  #remember(keyId: number, known: Known): void {
    const old = this.#recent.get(keyId);
    const order = old === undefined ? 1 : compareEtags(known.etag, old.etag);
    const isQuorum = known.isQuorum || (order === 0 && old?.isQuorum === true);
    this.#recent.delete(keyId);
    this.#recent.set(keyId, order >= 0 || old === undefined ? { ...known, isQuorum } : old);
    if (this.#recent.size > recentMax) this.#forgetOldest();
  }

  #forgetOldest(): void {
    for (const [keyId, { etag, isQuorum }] of this.#recent) {
      this.#recent.delete(keyId);
      this.#highWater = Math.max(this.#highWater, etag.hlc);
      this.#isHighWaterQuorum &&= isQuorum;
      return;
    }
  }

  #isQuorum(level: Level): boolean {
    return requiredAcks(level, this.#replicas) >= quorumOf(this.#replicas);
  }

  // ---- what it asks ------------------------------------------------------------------------

  /** A write of this key is stamped above this, so that it follows what the session knows. */
  afterHlc(keyId: number): number {
    return this.#recent.get(keyId)?.etag.hlc ?? 0;
  }

  /** Level to begin a read of this key with, where `level` was asked. */
  firstLevel(keyId: number, level: Level): Level {
    // One replica may do: the record itself shows whether it is new enough.
    return this.#recent.has(keyId) ? level : this.#highWaterLevel(level);
  }

  #highWaterLevel(level: Level): Level {
    return this.#highWater === 0 ? level : this.#atLeast(level, this.#isHighWaterQuorum);
  }

  /** Level at which a page misses nothing that the session knows, where `level` was asked. */
  pageLevel(level: Level): Level {
    let needed = this.#highWaterLevel(level);
    for (const { isQuorum } of this.#recent.values()) needed = this.#atLeast(needed, isQuorum);
    return needed;
  }

  #atLeast(level: Level, isQuorum: boolean): Level {
    const needed = isQuorum ? 'QUORUM' : 'ALL';
    const asked = requiredAcks(level, this.#replicas);
    return asked >= requiredAcks(needed, this.#replicas) ? level : needed;
  }

  /** Whether this outcome may be shown (SS-2, SS-4). */
  accepts(keyId: number, seen: Seen, level: Level): boolean {
    const known = this.#recent.get(keyId);
    if (known !== undefined) {
      if (compareEtags(seen, known.etag) >= 0) return true;
      // What the session knows is dead by now: nothing is what it should see.
      return seen.record === undefined && isDead(known, seen.nowMs);
    }
    if (seen.hlc >= this.#highWater) return true;
    return this.#atLeast(level, this.#isHighWaterQuorum) === level;
  }

  /** The next wider level to try; undefined after ALL (SS-3). */
  widerThan(level: Level): Level | undefined {
    const asked = requiredAcks(level, this.#replicas);
    if (asked < quorumOf(this.#replicas)) return 'QUORUM';
    return asked < this.#replicas ? 'ALL' : undefined;
  }

  // ---- its token ---------------------------------------------------------------------------

  seal(sealer: Sealer, nowMs: number): string {
    const writer = new ByteWriter(headerBytes + this.#recent.size * entryBytes);
    writer.u8(formatVersion);
    writer.u32(this.#namespace);
    writer.u32(Math.floor(nowMs / 1000));
    writer.u53(this.#highWater);
    writer.u8(this.#isHighWaterQuorum ? 1 : 0);
    writer.u8(this.#recent.size);
    for (const [keyId, { etag, deadFromMs, isQuorum }] of this.#recent) {
      writer.u53(keyId);
      writer.u53(etag.hlc);
      writer.u32(etag.writer);
      writer.u32(etag.incarnation);
      writer.u53(deadFromMs);
      writer.u8(isQuorum ? 1 : 0);
    }
    return base64url.encode(sealer.seal(writer.view()));
  }

  /** The session of a token. BAD_REQUEST for one that is forged, damaged, expired or elsewhere's. */
  static open(text: string, sealer: Sealer, scope: SessionScope): Session {
    const bytes = text.length <= textLengthMax ? base64url.decode(text) : undefined;
    const message = bytes === undefined ? undefined : sealer.open(bytes);
    if (message === undefined) return refuse('it was not given out by this cluster');
    const reader = new ByteReader(message);
    if (reader.u8() !== formatVersion) return refuse('it is of another version of this service');
    if (reader.u32() !== scope.namespace) return refuse('it belongs to another namespace');
    if (reader.u32() * 1000 + tokenLifeMs < scope.nowMs)
      return refuse(`it is older than ${tokenLifeMs / 3_600_000} hours`);
    const session = new Session(scope.namespace, scope.replicas);
    session.#highWater = reader.u53();
    session.#isHighWaterQuorum = reader.u8() === 1;
    for (let left = reader.u8(); left > 0; left -= 1) {
      const keyId = reader.u53();
      const etag = { hlc: reader.u53(), writer: reader.u32(), incarnation: reader.u32() };
      session.#recent.set(keyId, {
        etag,
        deadFromMs: reader.u53(),
        isQuorum: reader.u8() === 1,
      });
    }
    return session;
  }
}

export interface SessionScope {
  readonly namespace: number;
  /** Copies of each key. */
  readonly replicas: number;
  readonly nowMs: number;
}

const isDead = ({ deadFromMs }: Known, nowMs: number): boolean =>
  deadFromMs !== 0 && deadFromMs <= nowMs;

function refuse(why: string): never {
  throw new KvError('BAD_REQUEST', {
    field: 'X-Session-Token',
    detail: `X-Session-Token: ${why}; start a new session without a token`,
  });
}
