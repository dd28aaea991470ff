// Messages of replication: a coordinator runs one request on all replicas of its key, a replica
// applies and serves the records of its shard.

import type { Failure } from '../../runtime/errors.ts';
import { ask, group, type Layout, maybe, protocol, tell } from '../../runtime/protocol.ts';
import type { CatalogBytes } from '../catalog/protocol.ts';
import { type PeerStates, peerStatesLayout } from '../membership/protocol.ts';
import { type Etag, valueTypes } from '../model/record.ts';
import type { RecordPage } from '../model/record-pages.ts';
import type { Decision, Proposal } from './acceptor-state.ts';
import type { RangeRequest } from '../storage/protocol.ts';

/** One write in a namespace that keeps siblings. */
export interface SiblingEvent {
  /** Storage key. */
  readonly key: Uint8Array;
  readonly token: number;
  readonly hash: number;
  /** Absent: delete. */
  readonly value: Uint8Array | undefined;
  readonly valueType: number;
  /** Milliseconds from now; 0 = never expires. */
  readonly ttlMs: number;
  /** What the writer has read (siblings.ts); empty: nothing. */
  readonly context: Uint8Array;
  /** The coordinator's, never given twice: hlc of the value, and a name for a new actor. */
  readonly stamp: number;
}

export interface SiblingEventReply {
  /** The set with the write in it, durable on this replica. */
  readonly record: Uint8Array;
  /** There were live values before. */
  readonly existed: boolean;
}

const siblingEventLayout = {
  key: 'bytes',
  token: 'u32',
  hash: 'u32',
  value: 'bytes?',
  valueType: 'u8',
  ttlMs: 'u53',
  context: 'bytes',
  stamp: 'u53',
} as const;

/**
 * Everything that changes the sibling sets of a shard goes through here, one change of a key at a
 * time: what comes is joined with what is there.
 */
export const SiblingKeeper = protocol('sibling-keeper', 27, {
  /** A set from elsewhere. `lsn` 0: it held nothing new. */
  merge: ask<{ readonly record: Uint8Array }, { readonly lsn: number }>(1, {
    layout: { record: 'bytes' },
    replyLayout: { lsn: 'u53' },
  }),
  /** `aboveHlc`: the stamp of the new set lies above it. CONFLICT above so many siblings (DV-5). */
  event: ask<SiblingEvent & { readonly aboveHlc: number }, SiblingEventReply>(2, {
    layout: { ...siblingEventLayout, aboveHlc: 'u53' },
    replyLayout: { record: 'bytes', existed: 'bool' },
  }),
});
export type SiblingKeeper = typeof SiblingKeeper.messages;

export const Replica = protocol('replica', 20, {
  /** Applies one record as it is stamped; also how read repair repairs (RR-5). Idempotent. */
  write: ask<{ readonly record: Uint8Array }, { readonly lsn: number }>(1, {
    layout: { record: 'bytes' },
    replyLayout: { lsn: 'u53' },
  }),
  /** The newest record of a key, or with `digest` only its etag: hlc 0 where there is none. */
  read: ask<
    { readonly key: Uint8Array; readonly hash: number; readonly digest: boolean },
    {
      readonly record: Uint8Array | undefined;
      readonly hlc: number;
      readonly writer: number;
      readonly incarnation: number;
    }
  >(2, {
    layout: { key: 'bytes', hash: 'u32', digest: 'bool' },
    replyLayout: { record: 'bytes?', hlc: 'u53', writer: 'u32', incarnation: 'u32' },
  }),
  range: ask<RangeRequest, RecordPage>(3, {
    layout: { from: 'bytes', to: 'bytes?', limit: 'u32', bytes: 'u32' },
    replyLayout: { records: 'bytes[]', isDone: 'bool' },
  }),
  /**
   * Records of one token, in one record of the log: after a crash all of them are there or none, and
   * no reader of this replica sees a part. TOO_LARGE: more than one log record takes; none is written.
   */
  writeMany: ask<{ readonly records: readonly Uint8Array[] }, { readonly lsn: number }>(4, {
    layout: { records: 'bytes[]' },
    replyLayout: { lsn: 'u53' },
  }),
  /** A record that this replica has missed; answered when it is durable, or has no effect. */
  hint: ask<{ readonly record: Uint8Array }, { readonly isApplied: boolean }>(30, {
    lane: 'background',
    layout: { record: 'bytes' },
    replyLayout: { isApplied: 'bool' },
  }),
  /** From now on records up to here are announced to the repairer before they are applied. */
  repairFloor: ask<{ readonly hlc: number }, object>(31, { lane: 'control' }),
  /** The same of one that perhaps no replica had: a repair that has passed it by overtakes nothing. */
  countedHint: ask<{ readonly record: Uint8Array }, { readonly isApplied: boolean }>(32, {
    lane: 'background',
    layout: { record: 'bytes' },
    replyLayout: { isApplied: 'bool' },
  }),
  /** From now on keys of namespaces that were dropped are refused. */
  namespacesChanged: ask<CatalogBytes, object>(70, { lane: 'control' }),
  /** Its node has all that it ever acknowledged: it counts from now on. */
  open: tell<object>(71, { lane: 'control', layout: {} }),
  /** A write of a key that keeps siblings, seen from this replica (DV-2). */
  event: ask<SiblingEvent, SiblingEventReply>(100, {
    layout: siblingEventLayout,
    replyLayout: { record: 'bytes', existed: 'bool' },
  }),
});
export type Replica = typeof Replica.messages;

export interface WriteRequest {
  readonly namespace: number;
  /** User's key. */
  readonly key: Uint8Array;
  /** Absent: delete. */
  readonly value: Uint8Array | undefined;
  readonly valueType: number;
  /** Milliseconds from now; 0 = never expires. */
  readonly ttlMs: number;
  /** The stamp lies above this hlc too: what the client's session knows of the key, or 0. */
  readonly afterHlc: number;
  /** A word of actors/model/consistency.ts. */
  readonly level: string;
  /** The reply says how it was done. */
  readonly explain: boolean;
}

export interface WriteReply {
  readonly version: number;
  readonly hlc: number;
  readonly writer: number;
  readonly incarnation: number;
  /** Milliseconds since 1970 when the value expires; 0: never. */
  readonly expiresAt: number;
  /** The coordinating replica saw a live value under the key before. */
  readonly existed: boolean;
  readonly coordinator: string;
  /** JSON, where it was asked for. */
  readonly explanation: string | undefined;
}

/** A put or delete in a namespace that keeps siblings. */
export interface SiblingWriteRequest {
  readonly namespace: number;
  /** User's key. */
  readonly key: Uint8Array;
  /** Absent: delete. */
  readonly value: Uint8Array | undefined;
  readonly valueType: number;
  /** Milliseconds from now; 0 = never expires. */
  readonly ttlMs: number;
  /** What the writer has read; empty: nothing, the write is concurrent to everything. */
  readonly context: Uint8Array;
  readonly level: string;
}

export interface SiblingWriteReply extends Etag {
  /** Writes of the key that its set knows. */
  readonly version: number;
  /** There were live values before. */
  readonly existed: boolean;
  /** Values that stand beside each other now. */
  readonly siblings: number;
  /** The context of the whole set. */
  readonly context: Uint8Array;
  readonly coordinator: string;
}

export interface ReadRequest {
  readonly namespace: number;
  readonly key: Uint8Array;
  readonly level: string;
  /** The reply says how it was done. */
  readonly explain: boolean;
}

/** With the etag of the winner, live or not: hlc 0 where no replica that was asked has anything. */
export interface ReadReply extends Etag {
  /** The winning live record; absent: not found. */
  readonly record: Uint8Array | undefined;
  /** The clock that decided about expiry, milliseconds since 1970 (TTL-3). */
  readonly nowMs: number;
  readonly coordinator: string;
  /** JSON, where it was asked for. */
  readonly explanation: string | undefined;
}

export interface ScanRequest {
  readonly namespace: number;
  readonly prefix: Uint8Array;
  /** User's key after which the page starts; absent: at the beginning. */
  readonly after: Uint8Array | undefined;
  /** Keys on the page, 1 to 1,000. */
  readonly limit: number;
  readonly level: string;
}

export interface ScanReply {
  /** Live records in key order. */
  readonly records: readonly Uint8Array[];
  /** User's key to continue after; absent: there is no more. */
  readonly next: Uint8Array | undefined;
  readonly nowMs: number;
}

// ---- serial operations ---------------------------------------------------------------------

export type SerialVerb =
  | 'read'
  | 'write'
  | 'delete'
  /** Gives what is there another time to live. */
  | 'expire'
  /** Adds a whole number; `add` any number. */
  | 'increment'
  | 'add'
  | 'append'
  /** Puts the value at an offset; what is missing before it becomes zeros. */
  | 'overwrite'
  /** Writes what another key of the group holds, with its time to live. */
  | 'copy';

/** What EXPIRE asks of the time to live that a key has; a key without one counts as for ever. */
export type ExpiryWord = 'nx' | 'xx' | 'gt' | 'lt';

/** What has to hold for the operation to be done; version 0 stands for "nothing there". */
export type SerialCondition =
  | { readonly kind: 'none' | 'absent' | 'exists' }
  | { readonly kind: 'version'; readonly version: number }
  | { readonly kind: 'etag'; readonly etag: Etag }
  | { readonly kind: 'value'; readonly value: Uint8Array }
  /** Every word holds of the expiry that is there and the one that the operation gives. */
  | { readonly kind: 'expiry'; readonly words: readonly ExpiryWord[] };

export interface SerialRequest {
  readonly namespace: number;
  /** User's key. */
  readonly key: Uint8Array;
  readonly verb: SerialVerb;
  /** Of a write, append or overwrite. */
  readonly value: Uint8Array | undefined;
  readonly valueType: number;
  readonly offset: number;
  /** Milliseconds from now; 0: never expires. */
  readonly ttlMs: number;
  /** The new record expires when the old one would have. */
  readonly keepTtl: boolean;
  /** Milliseconds since 1970, instead of `ttlMs`; a moment that is over deletes the key. */
  readonly expiresAt?: number;
  /** Of an increment. */
  readonly delta: number;
  /** Of a copy: the user's key whose value it takes. */
  readonly from?: Uint8Array;
  readonly condition: SerialCondition;
  /** The client's, 1 to 64 bytes; empty: none. */
  readonly requestId: string;
  /** What it writes is stamped above this hlc: the newest that the client's session knows. */
  readonly afterHlc?: number;
  /** True: the reply says how it was carried out. */
  readonly explain?: boolean;
}

/** What most requests leave as it is. */
export const plainSerial: Omit<SerialRequest, 'namespace' | 'key' | 'verb'> = {
  value: undefined,
  valueType: valueTypes.json,
  offset: 0,
  ttlMs: 0,
  keepTtl: false,
  delta: 0,
  condition: { kind: 'none' },
  requestId: '',
};

export interface SerialReply extends Etag {
  /** False: the condition did not hold. */
  readonly isApplied: boolean;
  /** The live record after the operation, or the one that it found. */
  readonly record: Uint8Array | undefined;
  /** The live record before it. */
  readonly before: Uint8Array | undefined;
  /** Of what was written; else of what is there, 0 for nothing. */
  readonly version: number;
  readonly expiresAt: number;
  readonly number: number | undefined;
  readonly nowMs: number;
  readonly coordinator: string;
  /** JSON, where it was asked for. */
  readonly explanation?: string | undefined;
}

/** What a client has seen of a key, and wants unchanged when its transaction is decided. */
export interface Watched {
  /** User's key. */
  readonly key: Uint8Array;
  /** Of its newest record, live or not; hlc 0: there was none. */
  readonly etag: Etag;
  readonly isLive: boolean;
}

/** Operations that are done together or, where a condition does not hold, not at all. */
export interface TransactionCommand {
  readonly conditions: readonly {
    readonly key: Uint8Array;
    readonly condition: SerialCondition;
  }[];
  /** In their order, each on what the ones before it left; without request ids. */
  readonly operations: readonly SerialRequest[];
}

/** Of all commands of a transaction together. */
export const transactionOperationsMax = 1024;

/** Commands on keys of one group, decided at once (docs/decisions/0021). */
export interface TransactionRequest {
  readonly namespace: number;
  /** A user's key of the group. */
  readonly key: Uint8Array;
  /** Where one of these has changed, nothing is done. */
  readonly watches: readonly Watched[];
  readonly commands: readonly TransactionCommand[];
}

export interface TransactionStep {
  /** False: the condition did not hold. */
  readonly isApplied: boolean;
  /** The live record before the operation, and after it. */
  readonly before: Uint8Array | undefined;
  readonly record: Uint8Array | undefined;
  /** Of the newest record of the key, live or not; hlc 0: there is none. */
  readonly stored: Etag;
}

export interface CommandResult {
  /** False: nothing of it was done. */
  readonly isApplied: boolean;
  /** The first of its conditions that did not hold, counted from 0. */
  readonly unmet: number | undefined;
  /** One for each operation, where it was applied. */
  readonly steps: readonly TransactionStep[];
  /** Why the command could not be done on what is there; the others were. */
  readonly problem: Failure | undefined;
}

export interface TransactionReply {
  /** False: a watched key has changed. */
  readonly isApplied: boolean;
  readonly results: readonly CommandResult[];
  readonly nowMs: number;
  readonly coordinator: string;
}

/** Runs serial operations of the keys of its shard: one decision after the other, by Paxos. */
export const Proposer = protocol('proposer', 22, {
  run: ask<SerialRequest, SerialReply>(1),
  peersChanged: tell<PeerStates>(2, { lane: 'control', layout: peerStatesLayout }),
  /** BAD_REQUEST for keys of different groups. */
  transact: ask<TransactionRequest, TransactionReply>(3),
});
export type Proposer = typeof Proposer.messages;

// ---- atomic batches ------------------------------------------------------------------------

export interface BatchOperation {
  /** User's key. */
  readonly key: Uint8Array;
  /** Absent: delete. */
  readonly value: Uint8Array | undefined;
  readonly valueType: number;
  /** Milliseconds from now; 0 = never expires. */
  readonly ttlMs: number;
}

export interface BatchRequest {
  readonly namespace: number;
  /** One to `batchRecordsMax`, of different keys. */
  readonly operations: readonly BatchOperation[];
  /** The stamp lies above this hlc too: what the client's session knows of the keys, or 0. */
  readonly afterHlc: number;
  readonly level: string;
}

/** Of one operation. */
export interface BatchedWrite extends Etag {
  readonly version: number;
  /** Milliseconds since 1970 when the value expires; 0: never. */
  readonly expiresAt: number;
  /** There was a live value before, as one replica saw it. */
  readonly existed: boolean;
}

export interface BatchReply {
  /** In the order of the operations. */
  readonly results: readonly BatchedWrite[];
  readonly coordinator: string;
}

/** Writes atomic batches: all of one or, in the end, nothing of it; not isolated (BL-5). */
export const BatchWriter = protocol('batch-writer', 28, {
  /**
   * UNKNOWN_OUTCOME with `willComplete`: it is in the log of two nodes, and will be everywhere.
   * BAD_REQUEST for a key that occurs twice; SERIAL_KEY, WRONG_TYPE for keys that no batch may write.
   */
  run: ask<BatchRequest, BatchReply>(1),
  peersChanged: tell<PeerStates>(2, { lane: 'control', layout: peerStatesLayout }),
});
export type BatchWriter = typeof BatchWriter.messages;

/** Keeps the log of batches that are under way, and brings to an end what their writer could not. */
export const BatchKeeper = protocol('batch-keeper', 26, {
  /** Durable when it is answered (batch-log-format.ts). OVERLOADED: too much waits. */
  keep: ask<{ readonly entry: Uint8Array }, object>(1, { layout: { entry: 'bytes' } }),
  /** The batch is everywhere: its entry goes, also one that comes later. */
  forget: ask<Etag, object>(2, {
    layout: { hlc: 'u53', writer: 'u32', incarnation: 'u32' },
  }),
  /** It is not to be done: the same, but CONFLICT where this holder has begun to complete it. */
  callOff: ask<Etag, object>(5, {
    layout: { hlc: 'u53', writer: 'u32', incarnation: 'u32' },
  }),
  stats: ask<object, { readonly batches: number; readonly bytes: number }>(3),
  peersChanged: tell<PeerStates>(4, { lane: 'control', layout: peerStatesLayout }),
});
export type BatchKeeper = typeof BatchKeeper.messages;

export interface AcceptorKey {
  /** The group that is decided about (acceptor-state.ts), and its place. */
  readonly key: Uint8Array;
  readonly token: number;
}

export interface PrepareReply {
  readonly isPromised: boolean;
  /** The newest ballot that the replica has seen, this one left out. */
  readonly highest: Etag;
  readonly promisedWrite: Etag;
  readonly accepted: Proposal | undefined;
  readonly committed: Decision;
  /** The newest records of the keys that were asked for, read after the promise was stored. */
  readonly records: readonly Uint8Array[];
}

/** Something of sets of replicas, by their number in the ring: an hlc for each. */
export interface SetBounds {
  readonly sets: readonly number[];
  readonly hlcs: readonly number[];
}

const setBoundsLayout: Layout<SetBounds> = { sets: 'u32[]', hlcs: 'u53[]' };

export interface ProposeReply {
  readonly isAccepted: boolean;
  readonly highest: Etag;
}

const acceptorKeyLayout: Layout<AcceptorKey> = { key: 'bytes', token: 'u32' };
const etagLayout: Layout<Etag> = { hlc: 'u53', writer: 'u32', incarnation: 'u32' };
const namedLayout: Layout<Omit<Proposal, 'records'>> = {
  ballot: group(etagLayout),
  original: group(etagLayout),
  history: 'bytes',
};
const decisionLayout: Layout<Decision> = { ...namedLayout, keys: 'bytes[]' };
const proposalLayout: Layout<Proposal> = { ...namedLayout, records: 'bytes[]' };
const prepareReplyLayout: Layout<PrepareReply> = {
  isPromised: 'bool',
  highest: group(etagLayout),
  promisedWrite: group(etagLayout),
  accepted: maybe(proposalLayout),
  committed: group(decisionLayout),
  records: 'bytes[]',
};

/** The vote of one replica, for the keys of its shard. */
export const Acceptor = protocol('acceptor', 25, {
  /** `keys`: storage keys of the group whose records are wanted. TOO_LARGE: they do not fit into an answer. */
  prepare: ask<
    AcceptorKey & {
      readonly keys: readonly Uint8Array[];
      readonly ballot: Etag;
      readonly isWrite: boolean;
    },
    PrepareReply
  >(1, {
    layout: { ...acceptorKeyLayout, keys: 'bytes[]', ballot: group(etagLayout), isWrite: 'bool' },
    replyLayout: prepareReplyLayout,
  }),
  propose: ask<AcceptorKey & { readonly proposal: Proposal }, ProposeReply>(2, {
    layout: { ...acceptorKeyLayout, proposal: group(proposalLayout) },
    replyLayout: { isAccepted: 'bool', highest: group(etagLayout) },
  }),
  /** Applies a decision; also how a replica that missed one gets it. */
  commit: ask<AcceptorKey & { readonly proposal: Proposal }, object>(3, {
    layout: { ...acceptorKeyLayout, proposal: group(proposalLayout) },
  }),
  /** What a prepare would say, without a promise: for reads of quiet keys. */
  look: ask<AcceptorKey & { readonly keys: readonly Uint8Array[] }, PrepareReply>(4, {
    layout: { ...acceptorKeyLayout, keys: 'bytes[]' },
    replyLayout: prepareReplyLayout,
  }),
  /** From now on keys of namespaces that were dropped are refused. */
  namespacesChanged: ask<CatalogBytes, object>(70, { lane: 'control' }),
  /** Records of states of another replica of their keys, taken over before this one votes (CO-4). */
  adopt: ask<{ readonly records: readonly Uint8Array[] }, object>(71, {
    layout: { records: 'bytes[]' },
  }),
  /** Its node has all that it ever acknowledged: it votes from now on. */
  open: tell<object>(72, { lane: 'control', layout: {} }),
  /** Decisions whose record is not above it have to be announced to the repairer (TS-7). */
  repairFloor: ask<{ readonly hlc: number }, object>(73, { lane: 'control' }),
  /** Below which ballots nothing can be accepted here any more; `isClear`: no state is in doubt. */
  floors: ask<object, SetBounds & { readonly isClear: boolean }>(74, {
    layout: {},
    replyLayout: { ...setBoundsLayout, isClear: 'bool' },
  }),
  /**
   * It promises and accepts nothing below these ballots from now on; answered when that is durable,
   * and what it was accepting before is stored or never will be. Floors never sink.
   */
  raiseFloors: ask<SetBounds, object>(75, { layout: setBoundsLayout }),
  /** Forgets the states of these groups that are older than their bounds (PX-15); how many those were. */
  forget: ask<
    {
      readonly keys: readonly Uint8Array[];
      readonly tokens: readonly number[];
      readonly belows: readonly number[];
    },
    { readonly forgotten: number }
  >(76, {
    lane: 'background',
    layout: { keys: 'bytes[]', tokens: 'u32[]', belows: 'u53[]' },
    replyLayout: { forgotten: 'u32' },
  }),
});
export type Acceptor = typeof Acceptor.messages;

/** What a pass of Paxos repair found. */
export interface PaxosRepairReport {
  /** States of keys that were looked at. */
  readonly states: number;
  /** Groups of keys whose open update is decided now, or can never be. */
  readonly finished: number;
  /** Those that no majority could be asked about. */
  readonly left: number;
  /** States that nobody needs any more. */
  readonly forgotten: number;
}

/** Ends what rounds left open that nobody came back to (PX-16), and forgets what is over (PX-15). */
export const PaxosRepairer = protocol('paxos-repairer', 29, {
  /** A pass now. OVERLOADED while one is under way. */
  run: ask<object, PaxosRepairReport>(1, { lane: 'background' }),
  /**
   * For each of these sets: below this ballot nothing is open here, nor ever will be; 0: not known.
   * `shards`: of this node, all of which have to be asked.
   */
  settled: ask<
    { readonly sets: readonly number[] },
    SetBounds & { readonly wallMicros: number; readonly shards: number }
  >(2, {
    lane: 'background',
    layout: { sets: 'u32[]' },
    replyLayout: { ...setBoundsLayout, wallMicros: 'f64', shards: 'u32' },
  }),
  /** All members have settled so far: the next pass forgets what is older. */
  forget: ask<SetBounds, object>(3, { lane: 'background', layout: setBoundsLayout }),
  peersChanged: tell<PeerStates>(4, { lane: 'control', layout: peerStatesLayout }),
  /** A repair of this shard has ended. Where none runs by itself it is time for a pass. */
  repaired: tell<object>(5, { lane: 'background' }),
});
export type PaxosRepairer = typeof PaxosRepairer.messages;

export const Coordinator = protocol('coordinator', 21, {
  write: ask<WriteRequest, WriteReply>(1, {
    layout: {
      namespace: 'u32',
      key: 'bytes',
      value: 'bytes?',
      valueType: 'u8',
      ttlMs: 'u53',
      afterHlc: 'u53',
      level: 'text',
      explain: 'bool',
    },
    replyLayout: {
      version: 'u53',
      hlc: 'u53',
      writer: 'u32',
      incarnation: 'u32',
      expiresAt: 'u53',
      existed: 'bool',
      coordinator: 'text',
      explanation: 'text?',
    },
  }),
  read: ask<ReadRequest, ReadReply>(2, {
    layout: { namespace: 'u32', key: 'bytes', level: 'text', explain: 'bool' },
    replyLayout: {
      record: 'bytes?',
      hlc: 'u53',
      writer: 'u32',
      incarnation: 'u32',
      nowMs: 'u53',
      coordinator: 'text',
      explanation: 'text?',
    },
  }),
  /** Keys in byte order across the whole cluster, each at the level asked. */
  scan: ask<ScanRequest, ScanReply>(3),
  /** Who is alive, from the failure detector; every change and once per second. */
  peersChanged: tell<PeerStates>(4, { lane: 'control', layout: peerStatesLayout }),
  siblingWrite: ask<SiblingWriteRequest, SiblingWriteReply>(100),
});
export type Coordinator = typeof Coordinator.messages;
