// Rounds of serial operations without nodes: replicas that are nothing but acceptor states and
// records, questions that take a drawn time or are lost, and several proposers, all on virtual time.
// What decides is the product's: acceptor-state.ts and serial-round.ts.

import { refTo, type Session } from '../../runtime/actor.ts';
import { latin1, utf8 } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';
import { Prng } from '../../runtime/prng.ts';
import { recordKey, storageKey } from '../../actors/model/record.ts';
import { lastWriteWins } from '../../actors/model/resolve.ts';
import { hashKey } from '../../actors/model/token.ts';
import {
  accept,
  type AcceptorState,
  commit,
  decodeState,
  emptyState,
  encodeState,
  highestOf,
  promise,
  type Proposal,
} from '../../actors/replication/acceptor-state.ts';
import { Acceptor, plainSerial, type SerialRequest } from '../../actors/replication/protocol.ts';
import type { Ballot } from '../../actors/replication/serial-history.ts';
import type { RoundRequest } from '../../actors/replication/serial-operations.ts';
import { type Decided, SerialRound } from '../../actors/replication/serial-round.ts';

export const key = storageKey(1, utf8.encode('key'));
export const facts = { key, ...hashKey(key) };

/** A read with what a test changes. */
export function requestOf(changes: Partial<SerialRequest> = {}): SerialRequest {
  return {
    ...plainSerial,
    namespace: 1,
    key: utf8.encode('key'),
    verb: 'read',
    ...changes,
  };
}

export const writeOf = (text: string, changes: Partial<SerialRequest> = {}): SerialRequest =>
  requestOf({ verb: 'write', value: utf8.encode(text), ...changes });

export class Replica {
  state: AcceptorState = emptyState;
  readonly records = new Map<string, Uint8Array>();

  /** Of the key that most tests use. */
  get record(): Uint8Array | undefined {
    return this.of(key);
  }

  set record(record: Uint8Array | undefined) {
    if (record === undefined) this.records.delete(latin1(key));
    else this.records.set(latin1(key), record);
  }

  of(storage: Uint8Array): Uint8Array | undefined {
    return this.records.get(latin1(storage));
  }

  apply(record: Uint8Array): void {
    const name = latin1(recordKey(record));
    const other = this.records.get(name);
    this.records.set(name, other === undefined ? record : lastWriteWins(other, record));
  }
}

/** A question on its way; `lost`: it never arrives; `unheard`: its answer does not. */
export type Fate = 'heard' | 'lost' | 'unheard';

interface Body {
  readonly ballot: Ballot;
  readonly isWrite: boolean;
  readonly keys: readonly Uint8Array[];
  readonly proposal: Proposal;
}

export interface WorldOptions {
  readonly seed?: number;
  readonly replicas?: number;
  /** Milliseconds that one way takes at most. */
  readonly delayMsMax?: number;
  readonly fateOf?: (from: number, node: string, step: string, random: Prng) => Fate;
}

/** A wall clock that nobody takes for a real one. */
const startMs = 1_700_000_000_000;

export class SerialWorld {
  readonly random: Prng;
  readonly names: readonly string[];
  readonly replicas = new Map<string, Replica>();
  /** Steps that arrived, in their order: `step node`. */
  readonly heard: string[] = [];
  readonly labels = new Set<string>();
  /** Nodes that are known to be away. */
  readonly away = new Set<string>();
  nowMs = 0;
  readonly #options: WorldOptions;
  readonly #events: { readonly atMs: number; readonly run: () => void }[] = [];
  readonly #last = new Map<number, number>();

  constructor(options: WorldOptions = {}) {
    this.#options = options;
    this.random = new Prng(options.seed ?? 1);
    this.names = Array.from({ length: options.replicas ?? 3 }, (_, i) => `n${i + 1}`);
    for (const name of this.names) this.replicas.set(name, new Replica());
  }

  after(delayMs: number, run: () => void): void {
    this.#events.push({ atMs: this.nowMs + delayMs, run });
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.after(delayMs, resolve));
  }

  /** A message that comes now, from whenever it was sent. */
  deliver(node: string, step: string, body: Partial<Body>): void {
    this.#answer(node, step, body as Body);
  }

  /** Until nothing is left to happen. */
  async run(): Promise<void> {
    for (;;) {
      await settled();
      if (this.#events.length === 0) return;
      let first = 0;
      this.#events.forEach(({ atMs }, i) => {
        if (atMs < (this.#events[first]?.atMs ?? 0)) first = i;
      });
      const [event] = this.#events.splice(first, 1);
      this.nowMs = event?.atMs ?? this.nowMs;
      event?.run();
    }
  }

  /** One round of a proposer; its ballots have its number as their writer. */
  round(proposer: number, requests: readonly RoundRequest[], timeoutMs = 5_000): Promise<Decided> {
    const random = this.random.fork(`proposer-${proposer}-${this.nowMs}`);
    const parts = {
      facts,
      random,
      session: this.#session(proposer),
      clock: {
        monotonicMs: () => this.nowMs,
        wallMicros: () => (startMs + this.nowMs) * 1000,
      },
      probe: {
        reach: (label: string) => void this.labels.add(label),
        buggify: () => false,
      },
      resolve: lastWriteWins,
      valueBytesMax: 1_000,
      sparesAfterMs: 20,
      replicas: this.names,
      live: () => this.names.filter((name) => !this.away.has(name)),
      acceptorOf: (node: string) => refTo(Acceptor, node),
      nextBallot: (floor: number, count: number) => this.#nextBallot(proposer, floor, count),
      deadlineMs: this.nowMs + timeoutMs,
      afterHlc: 0,
    };
    return new SerialRound(parts, requests).run();
  }

  #nextBallot(proposer: number, floor: number, count: number): Ballot {
    const last = this.#last.get(proposer) ?? 0;
    const hlc = Math.max(last, (startMs + Math.floor(this.nowMs)) * 1000, floor) + 1;
    this.#last.set(proposer, hlc + count);
    return { hlc, writer: proposer, incarnation: 1 };
  }

  #session(proposer: number): Session {
    const ask = (
      { node }: { readonly node: string },
      step: string,
      body: Body,
      timeoutMs: number,
    ): Promise<unknown> =>
      new Promise((resolve, reject) => {
        const { fateOf, delayMsMax = 5 } = this.#options;
        const fate = fateOf?.(proposer, node, step, this.random) ?? 'heard';
        const way = (): number => this.random.float() * delayMsMax;
        this.after(timeoutMs, () => reject(new KvError('TIMEOUT')));
        if (fate === 'lost') return;
        this.after(way(), () => {
          if (this.away.has(node)) return reject(new KvError('UNREACHABLE'));
          this.heard.push(`${step} ${node}`);
          const reply = this.#answer(node, step, body);
          if (fate === 'heard') this.after(way(), () => resolve(reply));
        });
      });
    return { ask, sleep: (delayMs: number) => this.sleep(delayMs) } as unknown as Session;
  }

  #answer(node: string, step: string, { ballot, isWrite, keys, proposal }: Body): unknown {
    const replica = this.replicas.get(node) as Replica;
    const { state } = replica;
    const highest = highestOf(state);
    const { promisedWrite, accepted, committed } = state;
    const seen = { highest, promisedWrite, accepted, committed };
    const found = (): Uint8Array[] =>
      keys.map((each) => replica.of(each)).filter((record) => record !== undefined);
    if (step === 'look') return { ...seen, isPromised: false, records: found() };
    if (step === 'prepare') {
      const next = promise(state, ballot, isWrite);
      const isPromised = next !== undefined;
      replica.state = stored(next ?? state);
      return { ...seen, isPromised, records: isPromised ? found() : [] };
    }
    if (step === 'propose') {
      const next = accept(state, proposal);
      replica.state = stored(next ?? state);
      return { isAccepted: next !== undefined, highest };
    }
    const next = commit(state, proposal);
    if (next !== undefined) replica.state = stored(next);
    for (const record of proposal.records) replica.apply(record);
    return {};
  }
}

/** As it comes back from the disk. */
const stored = (state: AcceptorState): AcceptorState => decodeState(encodeState(state));

/** When all promises that are resolved have run. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
