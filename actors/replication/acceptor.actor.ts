// One replica's vote in the decisions about its keys (PX-2 to PX-5). A step reads the state of their
// group, decides by acceptor-state.ts, and answers only when the new state is durable. Steps of one
// group run one after the other; those of different groups beside each other.

import {
  actor,
  type Call,
  type Context,
  type Later,
  type Ref,
  type Session,
} from '../../runtime/actor.ts';
import { base64url } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';
import { KeyTurns } from '../../runtime/key-turns.ts';
import type { BodyOf, Handlers, Tell } from '../../runtime/protocol.ts';
import type { CatalogBytes } from '../catalog/protocol.ts';
import { type CatalogFileOptions, readCatalogFile } from '../model/catalog-file.ts';
import { DroppedKeys } from '../model/dropped-keys.ts';
import {
  checkRecord,
  recordHlc,
  recordIsTombstone,
  recordKey,
  recordToken,
  recordValue,
} from '../model/record.ts';
import type { ReplicaSets } from '../model/replica-sets.ts';
import { checkShard } from '../model/token.ts';
import { notWhole } from '../model/wholeness.ts';
import type { Repairer } from '../repair/protocol.ts';
import type { Store } from '../storage/protocol.ts';
import {
  accept,
  type AcceptorState,
  adopt,
  commit,
  decodeState,
  highestOf,
  isForgettable,
  keyOfState,
  promise,
  type Proposal,
} from './acceptor-state.ts';
import { type Doubts, KeySteps, type KeyStepsParts } from './acceptor-steps.ts';
import { BallotFloors } from './ballot-floors.ts';
import {
  Acceptor,
  type AcceptorKey,
  type PrepareReply,
  type ProposeReply,
  type SetBounds,
} from './protocol.ts';

export interface AcceptorOptions {
  readonly store: Ref<Store>;
  /** Shards of this node. */
  readonly shards: number;
  /** How the catalog of namespaces is read; absent: none is ever dropped. */
  readonly catalog?: CatalogFileOptions;
  /** Hears of decisions that come late; absent: nobody repairs. */
  readonly repairer?: Ref<Repairer>;
  /** False: it votes only after `open`. Default true. */
  readonly isOpen?: boolean;
  /** Below which ballots nothing is accepted, and their file; absent: no state is ever forgotten. */
  readonly floors?: { readonly sets: ReplicaSets; readonly path: string };
}

interface Own {
  readonly floorKnown: Tell<{ readonly hlc: number }>;
}

interface Floors {
  readonly path: string;
  readonly refused: BallotFloors;
  /** Refused after a restart too, and by every step under way: nothing below can come any more. */
  readonly confirmed: BallotFloors;
}

const startTimeoutMs = 60_000;
/** The horizon is stored before a late record is. */
const lateTimeoutMs = 30_000;
/** Of a decision that a simulation holds back, milliseconds. */
const lateMs = 300;

class AcceptorActor implements Handlers<Acceptor>, Handlers<Own> {
  readonly #ctx: Context<Own, 'disk'>;
  readonly #options: AcceptorOptions;
  readonly #turns = new KeyTurns();
  readonly #doubts: Doubts = new Map();
  readonly #dropped = new DroppedKeys();
  /** Records up to here are late. */
  readonly #floor = { hlc: 0 };
  /** Absent: there are none. */
  #floors: Floors | undefined;
  /** Steps under way: those began with the floors of their time. */
  readonly #steps = new Set<Promise<unknown>>();
  #isOpen: boolean;

  constructor(ctx: Context<Own, 'disk'>, options: AcceptorOptions) {
    this.#ctx = ctx;
    this.#options = options;
    this.#isOpen = options.isOpen ?? true;
  }

  start(): Later<void> | undefined {
    const { catalog, repairer, floors } = this.#options;
    // Not asked for: the actor that keeps it may start later than this one.
    if (catalog !== undefined) this.#dropped.knows(readCatalogFile(this.#ctx.disk, catalog));
    if (floors !== undefined) {
      const { sets, path } = floors;
      const bytes = this.#ctx.disk.read(path);
      const confirmed =
        bytes === undefined ? new BallotFloors(sets) : BallotFloors.decode(bytes, path, sets);
      const refused = new BallotFloors(sets);
      refused.raise(confirmed.bounds());
      this.#floors = { path, refused, confirmed };
    }
    if (repairer === undefined) return undefined;
    const { toSelf } = this.#ctx;
    return this.#ctx.session(async (session) => {
      toSelf('floorKnown', await session.ask(repairer, 'floor', {}, startTimeoutMs));
    });
  }

  floorKnown({ hlc }: { readonly hlc: number }): void {
    this.#floor.hlc = Math.max(this.#floor.hlc, hlc);
  }

  repairFloor({ hlc }: { readonly hlc: number }): object {
    this.#floor.hlc = hlc;
    return {};
  }

  namespacesChanged(known: CatalogBytes): object {
    this.#dropped.changed(known);
    return {};
  }

  prepare(
    { ballot, isWrite, keys, ...at }: BodyOf<Acceptor['prepare']>,
    call: Call,
  ): Later<PrepareReply> {
    return this.#step(at, call, async (steps) => {
      const stored = await steps.load();
      const { state } = stored;
      const seen = seenIn(state);
      const promised = promise(state, ballot, isWrite);
      if (promised === undefined) return { ...seen, isPromised: false, records: [] };
      await steps.save(stored, promised);
      // After the promise: whatever was committed before it is in what is read (PX-3).
      return { ...seen, isPromised: true, records: await steps.data(keys) };
    });
  }

  look({ keys, ...at }: BodyOf<Acceptor['look']>, call: Call): Later<PrepareReply> {
    return this.#step(at, call, async (steps) => {
      const { state } = await steps.load();
      return { ...seenIn(state), isPromised: false, records: await steps.data(keys) };
    });
  }

  propose({ proposal, ...at }: BodyOf<Acceptor['propose']>, call: Call): Later<ProposeReply> {
    checkProposal(proposal);
    return this.#step(at, call, async (steps) => {
      const stored = await steps.load();
      const highest = highestOf(stored.state);
      const accepted = accept(stored.state, proposal);
      if (accepted === undefined) return { isAccepted: false, highest };
      if (accepted !== stored.state) await steps.save(stored, accepted);
      return { isAccepted: true, highest };
    });
  }

  commit({ proposal, ...at }: BodyOf<Acceptor['commit']>, call: Call): Later<object> {
    checkProposal(proposal);
    const { probe } = this.#ctx;
    return this.#step(at, call, async (steps) => {
      if (probe.buggify('decision applied late')) await steps.wait(lateMs);
      const stored = await steps.load();
      const committed = commit(stored.state, proposal);
      if (committed !== undefined) {
        probe.reach('decision applied');
        await steps.save(stored, committed, proposal.records);
      } else if (proposal.records.length > 0) await steps.apply(proposal.records);
      return {};
    });
  }

  open(): void {
    this.#isOpen = true;
  }

  // ---- what is forgotten ---------------------------------------------------------------------

  floors(): SetBounds & { readonly isClear: boolean } {
    this.#checkOpen();
    const bounds = this.#floors?.confirmed.bounds() ?? { sets: [], hlcs: [] };
    return { ...bounds, isClear: this.#doubts.size === 0 };
  }

  raiseFloors(bounds: SetBounds): Later<object> {
    if (this.#floors === undefined)
      throw new KvError('BAD_REQUEST', { detail: 'this node keeps no floors of ballots' });
    const { disk, session } = this.#ctx;
    const { path, refused, confirmed } = this.#floors;
    // Steps that begin from here on refuse what is below; those under way may not know it yet.
    refused.raise(bounds);
    const bytes = refused.encode();
    const underWay = [...this.#steps];
    return session(async () => {
      await disk.replace(path, bytes);
      await Promise.allSettled(underWay);
      confirmed.raise(bounds);
      return {};
    });
  }

  forget(
    { keys, tokens, belows }: BodyOf<Acceptor['forget']>,
    call: Call,
  ): Later<{
    readonly forgotten: number;
  }> {
    const confirmed = this.#floors?.confirmed;
    const inTurn = this.#inTurn(call);
    const { probe } = this.#ctx;
    return this.#ctx.session(async (session) => {
      let forgotten = 0;
      for (const [i, key] of keys.entries()) {
        const token = tokens[i] ?? 0;
        const below = Math.min(belows[i] ?? 0, confirmed?.ofToken(token) ?? 0);
        await inTurn(session, { key, token }, async (steps) => {
          const stored = await steps.stored();
          if (stored.stamp === 0 || !isForgettable(stored.state, below)) return;
          await steps.save(stored, undefined);
          probe.reach('serial state forgotten');
          forgotten += 1;
        });
      }
      return { forgotten };
    });
  }

  /** Of the same keys, in their place (acceptor-state.ts). */
  adopt({ records }: BodyOf<Acceptor['adopt']>, call: Call): Later<object> {
    for (const record of records) checkRecord(record);
    const states = records.filter((record) => !recordIsTombstone(record));
    const inTurn = this.#inTurn(call);
    return this.#ctx.session(async (session) => {
      for (const record of states) {
        const at = { key: keyOfState(recordKey(record)), token: recordToken(record) };
        await inTurn(session, at, async (steps) => {
          const stored = await steps.load();
          await steps.save(stored, adopt(stored.state, decodeState(recordValue(record))));
        });
      }
      return {};
    });
  }

  /** A replica that has forgotten what it promised must not vote (PX-17). */
  #checkOpen(): void {
    if (!this.#isOpen) throw notWhole(this.#ctx.node);
  }

  #step<Reply>(
    at: AcceptorKey,
    call: Call,
    work: (steps: KeySteps) => Promise<Reply>,
  ): Later<Reply> {
    this.#checkOpen();
    checkShard(at.token, this.#ctx.shard, this.#options.shards);
    this.#dropped.refuse(at.key);
    const inTurn = this.#inTurn(call);
    const underWay = this.#steps;
    return this.#ctx.session(async (session) => {
      const step = inTurn(session, at, work);
      underWay.add(step);
      try {
        return await step;
      } finally {
        underWay.delete(step);
      }
    });
  }

  /** Runs work on a group, for sessions, when all earlier work on it has ended. */
  #inTurn(
    call: Call,
  ): <Reply>(
    session: Session,
    at: AcceptorKey,
    work: (steps: KeySteps) => Promise<Reply>,
  ) => Promise<Reply> {
    const turns = this.#turns;
    const parts = this.#partsOf(call);
    return (session, at, work) => {
      const name = base64url.encode(at.key);
      return turns.run(name, () => work(new KeySteps({ session, at, name, ...parts(session) })));
    };
  }

  /** What the steps of all keys share. */
  #partsOf({
    deadlineMs,
  }: Call): (session: Session) => Omit<KeyStepsParts, 'session' | 'at' | 'name'> {
    const { store, repairer } = this.#options;
    const { clock } = this.#ctx;
    const doubts = this.#doubts;
    const floor = this.#floor;
    const floors = this.#floors;
    const floorOf = (token: number): number => floors?.refused.ofToken(token) ?? 0;
    const leftMs = (): number => deadlineMs - clock.monotonicMs();
    return (session) => ({
      ...{ store, doubts, leftMs, floorOf, wallMicros: clock.wallMicros },
      announce: async (record) => {
        const hlc = recordHlc(record);
        if (repairer === undefined || hlc > floor.hlc) return;
        const late = { token: recordToken(record), hlc, isHint: false };
        await session.ask(repairer, 'late', late, lateTimeoutMs);
      },
    });
  }
}

function seenIn(state: AcceptorState): Omit<PrepareReply, 'isPromised' | 'records'> {
  const { promisedWrite, accepted, committed } = state;
  return { highest: highestOf(state), promisedWrite, accepted, committed };
}

function checkProposal({ records }: Proposal): void {
  for (const record of records) checkRecord(record);
}

export const acceptor = actor({
  protocol: Acceptor,
  needs: ['disk'],
  create: (ctx: Context<Own, 'disk'>, options: AcceptorOptions) => new AcceptorActor(ctx, options),
});
