// One pass of Paxos repair over the states of a shard (PX-16), as a function of a session. What some
// replica has accepted and nobody has committed may be decided or not: nobody knows until a round
// asks a majority. A serial read does that (PX-7, PX-9), so each such group of keys gets one.
//
// Nothing is forgotten here: states stay for as long as their keys could be decided about (PX-15), so
// no bound below which ballots are refused has to be agreed on.

import type { Ref } from '../../runtime/actor.ts';
import { KvError } from '../../runtime/errors.ts';
import { type Pace, pacedPage } from '../model/paced-page.ts';
import {
  isLive,
  namespaceOf,
  privateKeysFrom,
  recordKey,
  recordToken,
  recordValue,
  type StatesPart,
  statesFrom,
  userKey,
} from '../model/record.ts';
import type { ReplicaSets } from '../model/replica-sets.ts';
import type { RangeRequest, Store } from '../storage/protocol.ts';
import {
  type AcceptorState,
  decodeState,
  isForgettable,
  isUnfinished,
  keyOfState,
} from './acceptor-state.ts';
import { type Acceptor, type PaxosRepairReport, plainSerial, type Proposer } from './protocol.ts';

export interface PaxosRepairParts extends Pace {
  readonly store: Ref<Store>;
  readonly proposer: Ref<Proposer>;
  /** A round that began less than this ago may still be under way, milliseconds. */
  readonly settledMs: number;
  readonly acceptor: Ref<Acceptor>;
  readonly sets: ReplicaSets;
  /** By number of a set: states of no newer ballot may be forgotten. */
  readonly forgetBelow: ReadonlyMap<number, number>;
}

export interface PassResult {
  readonly report: PaxosRepairReport;
  /** By number of a set: below this ballot nothing is open here, nor ever will be. */
  readonly settled: ReadonlyMap<number, number>;
}

/** States of one page that may be forgotten. */
interface Old {
  readonly keys: Uint8Array[];
  readonly tokens: number[];
  readonly belows: number[];
}

const pageRows = 256;
const pageBytes = 256 * 1024;
const pageTimeoutMs = 60_000;
const readTimeoutMs = 10_000;

/** Failures of single groups are counted, and left to the next pass; those of the store are thrown. */
export async function repairStates(parts: PaxosRepairParts): Promise<PassResult> {
  const { session, clock, store, settledMs, acceptor, sets, forgetBelow } = parts;
  const report = { states: 0, finished: 0, left: 0, forgotten: 0 };
  // Before the first state is read: nothing below them is accepted any more.
  const settled = await floorsOf(parts);
  const beforeMicros = clock.wallMicros() - settledMs * 1000;
  let from: Uint8Array | undefined = privateKeysFrom;
  while (from !== undefined) {
    const { to, next }: StatesPart = statesFrom(from);
    // The last part is the one state of the system: it never grows old, nothing is won by forgetting it.
    const [counts, belowOf] = next === undefined ? [0, undefined] : [1, forgetBelow];
    const range: RangeRequest = { from, to, limit: pageRows, bytes: pageBytes };
    const open: Uint8Array[] = [];
    const old: Old = { keys: [], tokens: [], belows: [] };
    from = await pacedPage(
      parts,
      () => session.ask(store, 'range', range, pageTimeoutMs),
      (record) => {
        if (!isLive(record, 0)) return;
        report.states += counts;
        const state = decodeState(recordValue(record));
        const key = unfinishedKey(state, beforeMicros);
        if (key !== undefined) open.push(key);
        const token = recordToken(record);
        const set = sets.indexOf(token);
        if (isUnfinished(state) && (state.accepted?.ballot.hlc ?? 0) < (settled.get(set) ?? 0))
          settled.delete(set);
        const below = belowOf?.get(set) ?? 0;
        if (below === 0 || !isForgettable(state, below)) return;
        old.keys.push(keyOfState(recordKey(record)));
        old.tokens.push(token);
        old.belows.push(below);
      },
    );
    for (const key of open) await finish(parts, key, report);
    if (old.keys.length > 0)
      report.forgotten += (await session.ask(acceptor, 'forget', old, pageTimeoutMs)).forgotten;
    from ??= next;
  }
  return { report, settled };
}

/** Empty where the acceptor cannot say, or does not vote. */
async function floorsOf({ session, acceptor }: PaxosRepairParts): Promise<Map<number, number>> {
  try {
    const { sets, hlcs, isClear } = await session.ask(acceptor, 'floors', {}, readTimeoutMs);
    return new Map(isClear ? sets.map((set, i) => [set, hlcs[i] ?? 0]) : []);
  } catch (error) {
    if (!(error instanceof KvError)) throw error;
    return new Map();
  }
}

/** A key of the group that has something accepted and not committed for long. */
function unfinishedKey({ accepted }: AcceptorState, beforeMicros: number): Uint8Array | undefined {
  if (accepted === undefined || accepted.ballot.hlc >= beforeMicros) return undefined;
  // Without records it is the empty update of a read: whether that is decided changes nothing.
  const [record] = accepted.records;
  return record === undefined ? undefined : recordKey(record);
}

async function finish(
  { session, proposer }: PaxosRepairParts,
  key: Uint8Array,
  report: { finished: number; left: number },
): Promise<void> {
  const at = { namespace: namespaceOf(key), key: userKey(key) };
  try {
    await session.ask(proposer, 'run', { ...plainSerial, ...at, verb: 'read' }, readTimeoutMs);
    report.finished += 1;
  } catch (error) {
    if (!(error instanceof KvError)) throw error;
    report.left += 1;
  }
}
