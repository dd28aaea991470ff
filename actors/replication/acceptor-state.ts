// What one replica has promised and accepted for one group of keys (PX-1 to PX-5), as a record of a namespace
// of its own beside the data: the same log makes both durable, and a commit writes both at once.
// Pure: each step says what to store, or why not.
//
// Invariants: a promise is never taken back; what was accepted under a ballot is forgotten only when
// that ballot or a later one is committed. These records are this replica's alone: nobody copies
// them to another replica, for a promise that was not given binds nobody.
//
// A group is what has one place on the ring: a key without a hash tag, or all keys of one tag. It has
// one order of decisions, and a decision may write several of its keys: that is what makes
// transactions (docs/decisions/0021).

import { ByteReader, ByteWriter, noBytes } from '../../runtime/bytes.ts';
import { placementBytes } from '../model/hash-tag.ts';
import {
  compareEtags,
  namespaceOf,
  noEtag,
  privateNamespaces,
  recordKey,
  storageKey,
  userKey,
} from '../model/record.ts';
import { type Ballot, readBallot, writeBallot } from './serial-history.ts';

/** An update on its way to a decision; without records it is the empty one of a read. */
export interface Proposal {
  readonly ballot: Ballot;
  /** Under which the update was proposed first: it names the decision. */
  readonly original: Ballot;
  readonly records: readonly Uint8Array[];
  /** Bytes of SerialHistory, with this decision in it. */
  readonly history: Uint8Array;
}

/** A decision that was applied. */
export interface Decision extends Omit<Proposal, 'records'> {
  /** Storage keys that it wrote; empty in states from before there were groups. */
  readonly keys: readonly Uint8Array[];
}

export interface AcceptorState {
  readonly promised: Ballot;
  /** The newest promise for a round that may write. */
  readonly promisedWrite: Ballot;
  readonly accepted: Proposal | undefined;
  /** The newest decision that this replica has applied. */
  readonly committed: Decision;
}

export const emptyState: AcceptorState = {
  promised: noEtag,
  promisedWrite: noEtag,
  accepted: undefined,
  committed: { ballot: noEtag, original: noEtag, history: noBytes, keys: [] },
};

/** The group of a storage key: what chooses its place, and what its decisions go by. */
export const groupOf = placementBytes;

/** Where the state of a group is stored. */
export const stateKeyOf = (key: Uint8Array): Uint8Array =>
  storageKey(namespaceOf(key) + privateNamespaces, userKey(key));

/** The group whose state is stored there. */
export const keyOfState = (stateKey: Uint8Array): Uint8Array =>
  storageKey(namespaceOf(stateKey) - privateNamespaces, userKey(stateKey));

const newest = (a: Ballot, b: Ballot): Ballot => (compareEtags(a, b) >= 0 ? a : b);

/** The newest ballot that this replica has seen for the key. */
export function highestOf({ promised, accepted, committed }: AcceptorState): Ballot {
  return newest(newest(promised, accepted?.ballot ?? noEtag), committed.ballot);
}

/** Above all ballots of earlier times, below those of its own. */
export const floorBallot = (hlc: number): Ballot => ({ hlc, writer: 0, incarnation: 0 });

/** The state of an acceptor that has promised the floor of its set as well. */
export const above = (state: AcceptorState, floorHlc: number): AcceptorState =>
  floorHlc === 0 ? state : { ...state, promised: newest(state.promised, floorBallot(floorHlc)) };

/** Something was accepted that may be decided or not; this replica cannot tell. */
export function isUnfinished({ accepted, committed }: AcceptorState): boolean {
  if (accepted === undefined || compareEtags(accepted.ballot, committed.ballot) <= 0) return false;
  // The empty update of a read changes nothing; and what was committed already may be proposed again.
  return accepted.records.length > 0 && compareEtags(accepted.original, committed.original) !== 0;
}

/** An acceptor without it that refuses all below the floor answers as one with it (PX-15). */
export const isForgettable = (state: AcceptorState, floorHlc: number): boolean =>
  !isUnfinished(state) && compareEtags(highestOf(state), floorBallot(floorHlc)) <= 0;

/** The state with the promise; undefined where a newer ballot was seen. */
export function promise(
  state: AcceptorState,
  ballot: Ballot,
  isWrite: boolean,
): AcceptorState | undefined {
  if (compareEtags(ballot, highestOf(state)) <= 0) return undefined;
  return { ...state, promised: ballot, ...(isWrite ? { promisedWrite: ballot } : {}) };
}

/** The state with the proposal; undefined where a newer ballot was seen. */
export function accept(state: AcceptorState, proposal: Proposal): AcceptorState | undefined {
  const { ballot } = proposal;
  if (compareEtags(ballot, highestOf(state)) < 0) return undefined;
  // Committed under this very ballot: accepted long ago.
  if (compareEtags(ballot, state.committed.ballot) === 0) return state;
  return { ...state, promised: newest(state.promised, ballot), accepted: proposal };
}

/** The state with the decision; undefined where a later one is known. */
export function commit(state: AcceptorState, decided: Proposal): AcceptorState | undefined {
  if (compareEtags(decided.ballot, state.committed.ballot) <= 0) return undefined;
  const { ballot, original, history } = decided;
  const keys = decided.records.map(recordKey);
  const isDone = state.accepted !== undefined && compareEtags(state.accepted.ballot, ballot) <= 0;
  return {
    ...state,
    committed: { ballot, original, history, keys },
    accepted: isDone ? undefined : state.accepted,
  };
}

/**
 * What a replica that has lost its state takes over from another one (CO-4): it refuses what that
 * one would refuse, and knows what that one has accepted and committed. Merged with the states of all
 * other replicas of the key, no decision can be overlooked that any majority has made.
 */
export function adopt(state: AcceptorState, other: AcceptorState): AcceptorState {
  const isBehind = compareEtags(state.committed.ballot, other.committed.ballot) < 0;
  const committed = isBehind ? other.committed : state.committed;
  const accepted = [state.accepted, other.accepted]
    .filter((one) => one !== undefined)
    .filter((one) => compareEtags(one.ballot, committed.ballot) > 0)
    .reduce<Proposal | undefined>(
      (best, one) => (best === undefined || compareEtags(one.ballot, best.ballot) > 0 ? one : best),
      undefined,
    );
  return {
    promised: newest(highestOf(state), highestOf(other)),
    promisedWrite: newest(state.promisedWrite, other.promisedWrite),
    accepted,
    committed,
  };
}

/** 1: of one key, whose decisions had one record. */
const formatVersion = 2;

export function encodeState({
  promised,
  promisedWrite,
  accepted,
  committed,
}: AcceptorState): Uint8Array {
  const writer = new ByteWriter(256);
  writer.u8(formatVersion);
  writeBallot(writer, promised);
  writeBallot(writer, promisedWrite);
  writeBallot(writer, committed.ballot);
  writeBallot(writer, committed.original);
  writer.bytes(committed.history);
  writeMany(writer, committed.keys);
  writer.u8(accepted === undefined ? 0 : 1);
  if (accepted !== undefined) {
    writeBallot(writer, accepted.ballot);
    writeBallot(writer, accepted.original);
    writer.bytes(accepted.history);
    writeMany(writer, accepted.records);
  }
  return writer.copy();
}

export function decodeState(bytes: Uint8Array): AcceptorState {
  const reader = new ByteReader(bytes);
  const isOfGroup = reader.u8() >= formatVersion;
  const promised = readBallot(reader);
  const promisedWrite = readBallot(reader);
  const ballot = readBallot(reader);
  const original = readBallot(reader);
  const history = reader.bytes();
  const committed = { ballot, original, history, keys: isOfGroup ? readMany(reader) : [] };
  const kind = reader.u8();
  if (kind === 0) return { promised, promisedWrite, committed, accepted: undefined };
  const accepted = {
    ballot: readBallot(reader),
    original: readBallot(reader),
    history: reader.bytes(),
    records: isOfGroup ? readMany(reader) : kind === 2 ? [reader.bytes()] : [],
  };
  return { promised, promisedWrite, committed, accepted };
}

function writeMany(writer: ByteWriter, list: readonly Uint8Array[]): void {
  writer.u32(list.length);
  for (const bytes of list) writer.bytes(bytes);
}

function readMany(reader: ByteReader): Uint8Array[] {
  const list: Uint8Array[] = [];
  for (let left = reader.u32(); left > 0; left -= 1) list.push(reader.bytes());
  return list;
}
