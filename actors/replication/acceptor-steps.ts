// What an acceptor reads and writes of one group of keys, as steps of a session: its own state, and
// the newest records of the data. A decision writes both in one record of the log.
//
// A record is visible when it is durable, so a state that is still on its way to the disk cannot be
// read: whoever went on from the one before it would store a second state under the same stamp, and
// either of them might be the one that stays. So a turn lasts until the store has answered, also
// when its caller gave up; and a state of which nobody can tell whether it was stored (`Doubts`) is
// stored again, above that stamp, before anything else happens to its group. It may as well count: an
// acceptor may promise and accept whatever it was asked to.

import type { Ref, Session } from '../../runtime/actor.ts';
import { noBytes } from '../../runtime/bytes.ts';
import { errorTable, KvError, toFailure } from '../../runtime/errors.ts';
import { fingerprint32 } from '../../runtime/hash.ts';
import {
  encodeRecord,
  recordHlc,
  recordIsTombstone,
  recordValue,
  valueTypes,
} from '../model/record.ts';
import type { Store } from '../storage/protocol.ts';
import {
  above,
  type AcceptorState,
  decodeState,
  emptyState,
  encodeState,
  stateKeyOf,
} from './acceptor-state.ts';
import type { AcceptorKey } from './protocol.ts';

/** Values of several keys in one answer; with what was accepted it fits into a frame. */
const answerBytesMax = 12 * 1024 * 1024;

/** A group's state with the stamp under which this replica stored it last. */
export interface Stored {
  readonly state: AcceptorState;
  readonly stamp: number;
}

/** It may be stored under `stamp`, or not; with the records of a decision. */
interface Doubt extends Stored {
  readonly data: readonly Uint8Array[];
}

/** By name of the group. */
export type Doubts = Map<string, Doubt>;

export interface KeyStepsParts {
  readonly session: Session;
  readonly store: Ref<Store>;
  readonly at: AcceptorKey;
  /** Names the group among the doubts. */
  readonly name: string;
  readonly doubts: Doubts;
  readonly leftMs: () => number;
  readonly wallMicros: () => number;
  /** Below this ballot nothing is promised or accepted. */
  readonly floorOf: (token: number) => number;
  /** Ends when the repairer has heard of a record that comes late, and nobody purges what it hides. */
  readonly announce: (record: Uint8Array) => Promise<unknown>;
}

const storeTimeoutMs = 60_000;
/** With more than that the disk is not usable. */
const doubtsMax = 4_096;

/** Reads and writes of the store for one group's state. */
export class KeySteps {
  readonly #session: Session;
  readonly #store: Ref<Store>;
  readonly #at: AcceptorKey;
  readonly #name: string;
  readonly #doubts: Doubts;
  readonly #leftMs: () => number;
  readonly #wallMicros: () => number;
  readonly #floorOf: (token: number) => number;
  readonly #announce: KeyStepsParts['announce'];
  readonly #stateKey: Uint8Array;

  constructor(parts: KeyStepsParts) {
    const { session, store, at, name, doubts, leftMs, wallMicros, floorOf, announce } = parts;
    this.#session = session;
    this.#store = store;
    this.#at = at;
    this.#name = name;
    this.#doubts = doubts;
    this.#leftMs = leftMs;
    this.#wallMicros = wallMicros;
    this.#floorOf = floorOf;
    this.#announce = announce;
    this.#stateKey = stateKeyOf(at.key);
  }

  /** As `stored`, with the floor of its set promised too. */
  async load(): Promise<Stored> {
    const { state, stamp } = await this.stored();
    return { state: above(state, this.#floorOf(this.#at.token)), stamp };
  }

  /** The state, of which nothing is in doubt any more. UNAVAILABLE: the caller waits no longer. */
  async stored(): Promise<Stored> {
    this.#timeLeft();
    const doubt = this.#doubts.get(this.#name);
    if (doubt !== undefined) {
      const { state } = doubt;
      return { state, stamp: await this.save(doubt, state, doubt.data) };
    }
    if (this.#doubts.size >= doubtsMax)
      throw new KvError('DISK_FAILED', { detail: 'the store does not answer' });
    const record = await this.#read(this.#stateKey, fingerprint32(this.#stateKey));
    if (record === undefined) return { state: emptyState, stamp: 0 };
    if (recordIsTombstone(record)) return { state: emptyState, stamp: recordHlc(record) };
    return { state: decodeState(recordValue(record)), stamp: recordHlc(record) };
  }

  /**
   * Durable when it returns, with records of the data all at once; `state` undefined: it is
   * forgotten. Gives its stamp, which is about the time: tables know the oldest of their records, and
   * a small number would pass for a very old one.
   */
  async save(
    { stamp: before }: Stored,
    state: AcceptorState | undefined,
    data: readonly Uint8Array[] = [],
  ): Promise<number> {
    for (const record of data) await this.#announce(record);
    // Only this replica writes it, so growing is enough of a clock.
    const stamp = Math.max(before + 1, Math.floor(this.#wallMicros()));
    const stateRecord = encodeRecord({
      key: this.#stateKey,
      value: state === undefined ? noBytes : encodeState(state),
      valueType: valueTypes.bytes,
      isTombstone: state === undefined,
      hlc: stamp,
      writer: 0,
      incarnation: 0,
      version: stamp,
      expiresAt: 0,
      token: this.#at.token,
      hash: fingerprint32(this.#stateKey),
    });
    try {
      if (data.length === 0)
        await this.#session.ask(this.#store, 'apply', { record: stateRecord }, storeTimeoutMs);
      else await this.#applyAll([...data, stateRecord]);
      this.#doubts.delete(this.#name);
      return stamp;
    } catch (error) {
      if (errorTable[toFailure(error).code].effect !== 'none')
        this.#doubts.set(this.#name, { state: state ?? emptyState, stamp, data });
      throw error;
    }
  }

  /** What an old decision wrote, where a later one is known already: each key has its own newest. */
  async apply(data: readonly Uint8Array[]): Promise<void> {
    for (const record of data) await this.#announce(record);
    await this.#applyAll(data);
  }

  async #applyAll(records: readonly Uint8Array[]): Promise<void> {
    await this.#session.ask(this.#store, 'applyMany', { records }, storeTimeoutMs);
  }

  wait(ms: number): Promise<void> {
    return this.#session.sleep(ms);
  }

  /** The newest records of keys of the group. TOO_LARGE: they do not fit into one answer. */
  async data(keys: readonly Uint8Array[]): Promise<Uint8Array[]> {
    const records: Uint8Array[] = [];
    let bytes = 0;
    for (const key of keys) {
      const record = await this.#read(key, fingerprint32(key));
      if (record === undefined) continue;
      records.push(record);
      bytes += record.length;
      if (bytes > answerBytesMax && records.length > 1)
        throw new KvError('TOO_LARGE', { bytes, limit: answerBytesMax });
    }
    return records;
  }

  async #read(key: Uint8Array, hash: number): Promise<Uint8Array | undefined> {
    const reply = await this.#session.ask(this.#store, 'read', { key, hash }, this.#timeLeft());
    return reply.record;
  }

  #timeLeft(): number {
    const leftMs = this.#leftMs();
    if (leftMs <= 0) throw new KvError('UNAVAILABLE', { detail: 'no time was left' });
    return leftMs;
  }
}
