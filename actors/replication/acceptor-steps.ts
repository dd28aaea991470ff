// What an acceptor reads and writes of one key, as steps of a session: its own state, and the newest
// record of the data. A decision writes both in one record of the log.

import type { Ref, Session } from '../../runtime/actor.ts';
import { fingerprint32 } from '../../runtime/hash.ts';
import { encodeRecord, recordHlc, recordValue, valueTypes } from '../model/record.ts';
import type { Store } from '../storage/protocol.ts';
import {
  type AcceptorState,
  decodeState,
  emptyState,
  encodeState,
  stateKeyOf,
} from './acceptor-state.ts';
import type { AcceptorKey } from './protocol.ts';

/** A key's state with the stamp under which this replica stored it last. */
export interface Stored {
  readonly state: AcceptorState;
  readonly stamp: number;
}

/** Reads and writes of the store for one key's state. */
export class KeySteps {
  readonly #session: Session;
  readonly #store: Ref<Store>;
  readonly #at: AcceptorKey;
  readonly #leftMs: () => number;
  readonly #stateKey: Uint8Array;

  constructor(session: Session, store: Ref<Store>, at: AcceptorKey, leftMs: () => number) {
    this.#session = session;
    this.#store = store;
    this.#at = at;
    this.#leftMs = leftMs;
    this.#stateKey = stateKeyOf(at.key);
  }

  async load(): Promise<Stored> {
    const record = await this.#read(this.#stateKey, fingerprint32(this.#stateKey));
    if (record === undefined) return { state: emptyState, stamp: 0 };
    return { state: decodeState(recordValue(record)), stamp: recordHlc(record) };
  }

  /** Durable when it returns; with a record, both at once. */
  async save({ stamp }: Stored, state: AcceptorState, record?: Uint8Array): Promise<void> {
    const stateRecord = encodeRecord({
      key: this.#stateKey,
      value: encodeState(state),
      valueType: valueTypes.bytes,
      isTombstone: false,
      // Only this replica writes it, so counting is enough of a clock.
      hlc: stamp + 1,
      writer: 0,
      incarnation: 0,
      version: stamp + 1,
      expiresAt: 0,
      token: this.#at.token,
      hash: fingerprint32(this.#stateKey),
    });
    if (record === undefined)
      await this.#session.ask(this.#store, 'apply', { record: stateRecord }, this.#leftMs());
    else {
      const records = [record, stateRecord];
      await this.#session.ask(this.#store, 'applyMany', { records }, this.#leftMs());
    }
  }

  wait(ms: number): Promise<void> {
    return this.#session.sleep(ms);
  }

  data(): Promise<Uint8Array | undefined> {
    return this.#read(this.#at.key, this.#at.hash);
  }

  async #read(key: Uint8Array, hash: number): Promise<Uint8Array | undefined> {
    const reply = await this.#session.ask(this.#store, 'read', { key, hash }, this.#leftMs());
    return reply.record;
  }
}
