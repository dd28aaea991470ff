// Sibling sets: what a key holds in a namespace that keeps concurrent writes instead of choosing one.
// A set is a version vector and the values that nobody has overwritten yet, each with the dot of the
// write that brought it (dotted version vectors: Preguica et al., 2010; Almeida et al., "Scalable and
// Accurate Causality Tracking for Eventually Consistent Stores", 2014).
//
//   clock      for each actor (a replica, in one epoch of its state) how many writes of it are known
//   siblings   values with their dots; a dot that the clock knows and that has no value here was
//              overwritten or deleted
//   join       keeps a value where both sides have it, or the other side does not know its dot
//
// A set grows only by new events, so the number of events that it knows grows with every change:
// that number is the version of its record and, between two sets with the same newest stamp, decides
// which one a store keeps. Equal etags stand for equal sets (the last part is a hash of the bytes).
//
// The value of a record with the flag "sibling set", little-endian; one set has one encoding:
//
//   u8 format (1), u16 entries, u16 siblings
//   entry     u32 writer, u53 epoch, u53 counter           ascending by writer and epoch
//   sibling   u16 entry, u53 counter, u53 hlc, u53 expiresAt, u8 value type, u32 length, value
//                                                           ascending by entry and counter

import { ByteReader, ByteWriter, compareBytes, crc32, noBytes } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';
import { fingerprint32 } from '../../runtime/hash.ts';
import {
  compareRecords,
  encodeRecord,
  recordHash,
  recordHlc,
  recordIsSet,
  recordKey,
  recordToken,
  recordValue,
  valueBytesHardMax,
  valueTypes,
} from './record.ts';
import type { Resolve } from './resolve.ts';

/**
 * A replica in one epoch of a key: where it knows nothing of the key, or has lost what it knew, it is
 * another actor (DV-3).
 */
export interface SiblingActor {
  /** fingerprint32 of the node id. */
  readonly writer: number;
  /** Stamp of its first write of the key. */
  readonly epoch: number;
}

/** All writes of an actor up to `counter` are known. */
export interface ClockEntry extends SiblingActor {
  readonly counter: number;
}

/** A version vector, ascending by actor. What a reader gives back as the context of its write. */
export type Clock = readonly ClockEntry[];

export interface SiblingContent {
  readonly hlc: number;
  /** Milliseconds since 1970; 0: never. */
  readonly expiresAt: number;
  readonly valueType: number;
  readonly value: Uint8Array;
}

/** A value with the dot of its write. */
export interface Sibling extends ClockEntry, SiblingContent {}

export interface SiblingSet {
  readonly clock: Clock;
  /** Ascending by dot. */
  readonly siblings: readonly Sibling[];
}

export const emptySet: SiblingSet = { clock: [], siblings: [] };
/** A write without context is refused where so many values wait to be resolved (DV-5). */
export const siblingsMax = 100;
/** Actors of one vector: replicas, and each loss of state of one of them. */
export const clockEntriesMax = 1_000;

const formatVersion = 1;
const headerBytes = 5;
const entryBytes = 20;
const siblingHeaderBytes = 31;

const compareActors = (a: SiblingActor, b: SiblingActor): number =>
  a.writer - b.writer || a.epoch - b.epoch;
const compareDots = (a: ClockEntry, b: ClockEntry): number =>
  compareActors(a, b) || a.counter - b.counter;

/** How many writes of `actor` this clock knows. */
export function counterOf(clock: Clock, actor: SiblingActor): number {
  return clock.find((entry) => compareActors(entry, actor) === 0)?.counter ?? 0;
}

const knows = (clock: Clock, dot: ClockEntry): boolean => counterOf(clock, dot) >= dot.counter;

/** Every write that `inner` knows is known to `outer` too. */
export const covers = (outer: Clock, inner: Clock): boolean =>
  inner.every((entry) => knows(outer, entry));

export function joinClocks(a: Clock, b: Clock): Clock {
  const joined = a.map((entry) => ({
    ...entry,
    counter: Math.max(entry.counter, counterOf(b, entry)),
  }));
  for (const entry of b) if (counterOf(a, entry) === 0) joined.push(entry);
  return joined.sort(compareActors);
}

/** What both sides know together. Commutative, associative, idempotent. */
export function joinSets(a: SiblingSet, b: SiblingSet): SiblingSet {
  const has = (set: SiblingSet, dot: ClockEntry): boolean =>
    set.siblings.some((sibling) => compareDots(sibling, dot) === 0);
  const fromA = a.siblings.filter((one) => !knows(b.clock, one) || has(b, one));
  const onlyB = b.siblings.filter((one) => !knows(a.clock, one));
  const siblings = [...fromA, ...onlyB].sort(compareDots);
  return { clock: joinClocks(a.clock, b.clock), siblings };
}

/**
 * One more write by `actor`: what `context` has seen is gone, also where it has not arrived yet; the
 * rest stays beside the new content. Absent content is a delete. The caller has exclusive use of the
 * key and knows all writes of the actor (DV-2).
 */
export function addEvent(
  set: SiblingSet,
  actor: SiblingActor,
  context: Clock,
  content: SiblingContent | undefined,
): SiblingSet {
  const { writer, epoch } = actor;
  const dot = { writer, epoch, counter: counterOf(set.clock, actor) + 1 };
  const left = set.siblings.filter((one) => !knows(context, one));
  const siblings = content === undefined ? left : [...left, { ...dot, ...content }];
  const clock = joinClocks(joinClocks(set.clock, context), [dot]);
  return { clock, siblings: [...siblings].sort(compareDots) };
}

// ---- bytes ---------------------------------------------------------------------------------

function putEntry(writer: ByteWriter, entry: ClockEntry): void {
  writer.u32(entry.writer);
  writer.u53(entry.epoch);
  writer.u53(entry.counter);
}

export function encodeSet({ clock, siblings }: SiblingSet): Uint8Array {
  const writer = new ByteWriter(256);
  writer.u8(formatVersion);
  writer.u16(clock.length);
  writer.u16(siblings.length);
  for (const entry of clock) putEntry(writer, entry);
  for (const one of siblings) {
    writer.u16(clock.findIndex((entry) => compareActors(entry, one) === 0));
    writer.u53(one.counter);
    writer.u53(one.hlc);
    writer.u53(one.expiresAt);
    writer.u8(one.valueType);
    writer.bytes(one.value);
  }
  return writer.copy();
}

const bad = (problem: string): KvError =>
  new KvError('BAD_REQUEST', { detail: `bad sibling set: ${problem}` });

/** Values are views. BAD_REQUEST where the bytes are no set in its one encoding. */
export function decodeSet(bytes: Uint8Array): SiblingSet {
  if (bytes.length < headerBytes) throw bad('shorter than its header');
  const reader = new ByteReader(bytes);
  if (reader.u8() !== formatVersion) throw bad('unknown format');
  const entries = reader.u16();
  const count = reader.u16();
  const least = headerBytes + entries * entryBytes + count * siblingHeaderBytes;
  if (entries > clockEntriesMax || bytes.length < least) throw bad('lengths do not add up');
  const clock = readClock(reader, entries);
  const siblings: Sibling[] = [];
  for (let i = 0; i < count; i += 1) {
    const one = readSibling(reader, clock);
    const last = siblings.at(-1);
    if (last !== undefined && compareDots(last, one) >= 0) throw bad('dots out of order');
    siblings.push(one);
  }
  if (reader.left > 0) throw bad('bytes after its end');
  return { clock, siblings };
}

function safeInteger(reader: ByteReader): number {
  const value = reader.u53();
  if (value > Number.MAX_SAFE_INTEGER) throw bad('integer above 2^53');
  return value;
}

function readClock(reader: ByteReader, entries: number): Clock {
  const clock: ClockEntry[] = [];
  for (let i = 0; i < entries; i += 1) {
    const entry = {
      writer: reader.u32(),
      epoch: safeInteger(reader),
      counter: safeInteger(reader),
    };
    const last = clock.at(-1);
    if (entry.counter === 0 || (last !== undefined && compareActors(last, entry) >= 0))
      throw bad('actors out of order');
    clock.push(entry);
  }
  return clock;
}

function readSibling(reader: ByteReader, clock: Clock): Sibling {
  if (reader.left < siblingHeaderBytes) throw bad('lengths do not add up');
  const entry = clock[reader.u16()];
  const [counter, hlc, expiresAt] = [safeInteger(reader), safeInteger(reader), safeInteger(reader)];
  const valueType = reader.u8();
  const length = reader.u32();
  if (length > reader.left) throw bad('lengths do not add up');
  if (entry === undefined || counter === 0 || counter > entry.counter) throw bad('unknown dot');
  if (valueType > valueTypes.json) throw bad('unknown value type');
  const { writer, epoch } = entry;
  return { writer, epoch, counter, hlc, expiresAt, valueType, value: reader.rawView(length) };
}

// ---- records -------------------------------------------------------------------------------

/** Where a set is stored. */
export interface SetPlace {
  /** Storage key. */
  readonly key: Uint8Array;
  readonly token: number;
  readonly hash: number;
}

/** The set in a record; nothing where there is no record. WRONG_TYPE for a record of another kind. */
export function setOf(record: Uint8Array | undefined): SiblingSet {
  if (record === undefined) return emptySet;
  if (!recordIsSet(record))
    throw new KvError('WRONG_TYPE', {
      detail: 'this key holds a single value; its namespace was not one that keeps siblings then',
    });
  return decodeSet(recordValue(record));
}

/**
 * `hlc`: of its newest event. A set without values is a tombstone; one whose values all expire is
 * over when the last of them is. TOO_LARGE above what a record holds.
 */
export function recordOfSet(
  { key, token, hash }: SetPlace,
  set: SiblingSet,
  hlc: number,
): Uint8Array {
  const value = encodeSet(set);
  if (value.length > valueBytesHardMax || set.clock.length > clockEntriesMax)
    throw new KvError('TOO_LARGE', {
      field: 'siblings',
      length: value.length,
      max: valueBytesHardMax,
      detail: 'all siblings of the key together',
    });
  const events = set.clock.reduce((sum, { counter }) => sum + counter, 0);
  const expiries = set.siblings.map(({ expiresAt }) => expiresAt);
  return encodeRecord({
    key,
    value,
    valueType: valueTypes.bytes,
    isTombstone: set.siblings.length === 0,
    isSet: true,
    hlc,
    writer: Math.min(events, 0xffff_ffff),
    incarnation: fingerprint32(value),
    version: events,
    expiresAt: expiries.includes(0) ? 0 : Math.max(0, ...expiries),
    token,
    hash,
  });
}

const placeOf = (record: Uint8Array): SetPlace => ({
  key: recordKey(record),
  token: recordToken(record),
  hash: recordHash(record),
});

/** The join of two sets of one key, as a record; one of the two where it holds all of the other. */
export function joinRecords(a: Uint8Array, b: Uint8Array): Uint8Array {
  const [setA, setB] = [setOf(a), setOf(b)];
  const hlc = Math.max(recordHlc(a), recordHlc(b));
  const joined = recordOfSet(placeOf(a), joinSets(setA, setB), hlc);
  if (compareBytes(joined, a) === 0) return a;
  return compareBytes(joined, b) === 0 ? b : joined;
}

/** What replicas hold of one key, brought together: sets are joined, of single values the newest wins. */
export const mergeReplicas: Resolve = (a, b) => {
  if (recordIsSet(a) && recordIsSet(b)) return joinRecords(a, b);
  return compareRecords(a, b) >= 0 ? a : b;
};

/** Values that count at `nowMs`. */
export const liveSiblings = ({ siblings }: SiblingSet, nowMs: number): readonly Sibling[] =>
  siblings.filter(({ expiresAt }) => expiresAt === 0 || nowMs < expiresAt);

// ---- contexts ------------------------------------------------------------------------------

/** What a reader of this record gives back with its write. Bound to the key; empty where nothing is. */
export function contextOf(record: Uint8Array | undefined): Uint8Array {
  if (record === undefined) return noBytes;
  const { clock } = setOf(record);
  const writer = new ByteWriter(64);
  writer.u8(formatVersion);
  writer.u32(recordHash(record));
  writer.u16(clock.length);
  for (const entry of clock) putEntry(writer, entry);
  writer.u32(crc32(writer.view()));
  return writer.copy();
}

/** BAD_REQUEST for what no read of the key with this hash has given. */
export function decodeContext(bytes: Uint8Array, hash: number): Clock {
  if (bytes.length === 0) return [];
  const refused = new KvError('BAD_REQUEST', {
    field: 'context',
    detail: 'expected the context of a read of this key, unchanged',
  });
  const length = bytes.length - 4;
  if (length < 7 || (length - 7) % entryBytes !== 0) throw refused;
  if (new ByteReader(bytes, length).u32() !== crc32(bytes.subarray(0, length))) throw refused;
  const reader = new ByteReader(bytes.subarray(0, length));
  if (reader.u8() !== formatVersion || reader.u32() !== hash) throw refused;
  const entries = reader.u16();
  if (entries * entryBytes !== length - 7) throw refused;
  return readClock(reader, entries);
}
