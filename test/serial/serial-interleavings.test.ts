// Every order in which the messages of a few rounds can reach three acceptors, none of them lost for
// good and any of them never coming (2.5): whatever happens, no majority overlooks what was decided.
// What acceptors do and what a round makes of their promises is the product's; the order of the
// steps of a round is written here once more.

import { expect } from 'chai';
import {
  accept,
  type AcceptorState,
  commit,
  emptyState,
  highestOf,
  promise,
  type Proposal,
} from '../../actors/replication/acceptor-state.ts';
import { type Ballot, SerialHistory } from '../../actors/replication/serial-history.ts';
import {
  newestAccepted,
  newestCommitted,
  type Promised,
} from '../../actors/replication/serial-round.ts';
import { makeRecord } from '../kit-replication.ts';

const nodes = [0, 1, 2] as const;
const majorities = [
  [0, 1],
  [0, 2],
  [1, 2],
] as const;
const never = -1;

/** Equal values as one small number. */
class Numbers<Value> {
  readonly #known = new Map<string, number>();
  readonly values: Value[] = [];

  of(value: Value): number {
    const text = JSON.stringify(value, (_name, part: unknown) =>
      part instanceof Uint8Array ? Buffer.from(part).toString('base64') : part,
    );
    const known = this.#known.get(text);
    if (known !== undefined) return known;
    this.#known.set(text, this.values.length);
    return this.values.push(value) - 1;
  }
}

interface Round {
  /** Of each node: number of the state that it had when it promised; `never`: it did not. */
  readonly promises: readonly number[];
  /** Nodes that a prepare, a proposal, a commit has reached, as bits. */
  readonly prepared: number;
  readonly proposed: number;
  readonly committed: number;
  readonly accepted: number;
  /** Number of its proposal; `never`: it has none yet. */
  readonly proposal: number;
}

interface State {
  readonly acceptors: readonly number[];
  readonly rounds: readonly Round[];
}

const newRound: Round = {
  promises: [never, never, never],
  prepared: 0,
  proposed: 0,
  committed: 0,
  accepted: 0,
  proposal: never,
};
const isMajority = (bits: number): boolean => bits === 3 || bits === 5 || bits === 6 || bits === 7;
const keyOf = ({ acceptors, rounds }: State): string =>
  `${acceptors.join()};${rounds.map((round) => Object.values(round).join()).join(';')}`;

class Exploration {
  readonly #states = new Numbers<AcceptorState>();
  readonly #proposals = new Numbers<Proposal>();
  readonly #ballots: readonly Ballot[];
  readonly #seen = new Set<string>();
  readonly #open: State[] = [];
  /** What a step makes of an acceptor's state, what is proposed, what is found: by their numbers. */
  readonly #made = new Map<string, number>();
  decisions = 0;

  constructor(rounds: number) {
    this.#ballots = Array.from({ length: rounds }, (_, i) => ({
      hlc: 10 * (i + 1),
      writer: i + 1,
      incarnation: 1,
    }));
  }

  /** How many states there are. */
  run(): number {
    const empty = this.#states.of(emptyState);
    this.#reach({ acceptors: [empty, empty, empty], rounds: this.#ballots.map(() => newRound) });
    for (let state = this.#open.pop(); state !== undefined; state = this.#open.pop()) {
      this.#check(state);
      state.rounds.forEach((round, i) => {
        for (const node of nodes) this.#deliver(state, round, i, node);
      });
    }
    return this.#seen.size;
  }

  #reach(state: State): void {
    const key = keyOf(state);
    if (this.#seen.has(key)) return;
    this.#seen.add(key);
    this.#open.push(state);
  }

  #once(key: string, make: () => number): number {
    const known = this.#made.get(key);
    if (known !== undefined) return known;
    const made = make();
    this.#made.set(key, made);
    return made;
  }

  /** The state after a step; `never`: it was refused. */
  #step(
    name: string,
    before: number,
    step: (state: AcceptorState) => AcceptorState | undefined,
  ): number {
    return this.#once(`${name} ${before}`, () => {
      const after = step(this.#states.values[before] as AcceptorState);
      return after === undefined ? never : this.#states.of(after);
    });
  }

  #deliver(state: State, round: Round, i: number, node: number): void {
    const bit = 1 << node;
    const before = state.acceptors[node] ?? 0;
    const to = (after: number, changes: Partial<Round>): void => {
      const acceptors = state.acceptors.with(node, after === never ? before : after);
      this.#reach({ acceptors, rounds: state.rounds.with(i, { ...round, ...changes }) });
    };
    if (round.proposal === never) {
      if ((round.prepared & bit) !== 0) return;
      const prepared = round.prepared | bit;
      const ballot = this.#ballots[i] as Ballot;
      const promised = this.#step(`promise ${i}`, before, (old) => promise(old, ballot, true));
      if (promised === never) return to(before, { prepared });
      const promises = round.promises.with(node, before);
      const proposal = this.#once(`propose ${i} ${promises.join()}`, () =>
        this.#chosen(promises, i),
      );
      return to(promised, { prepared, promises, proposal });
    }
    const { proposal: number } = round;
    const proposal = this.#proposals.values[number] as Proposal;
    if ((round.proposed & bit) === 0) {
      const taken = this.#step(`accept ${number}`, before, (old) => accept(old, proposal));
      const accepted = taken === never ? round.accepted : round.accepted | bit;
      to(taken, { proposed: round.proposed | bit, accepted });
    }
    if (isMajority(round.accepted) && (round.committed & bit) === 0) {
      const applied = this.#step(`commit ${number}`, before, (old) => commit(old, proposal));
      to(applied, { committed: round.committed | bit });
    }
  }

  /** What a round proposes as soon as a majority has promised. */
  #chosen(promises: readonly number[], i: number): number {
    const promised = this.#promised(promises);
    if (promised.length < 2) return never;
    const ballot = this.#ballots[i] as Ballot;
    const unfinished = newestAccepted(promised);
    if (unfinished !== undefined) return this.#proposals.of({ ...unfinished, ballot });
    const history = SerialHistory.decode(newestCommitted(promised).history).with(ballot, []);
    const records = [makeRecord('key', ballot)];
    return this.#proposals.of({ ballot, original: ballot, records, history: history.encode() });
  }

  #promised(promises: readonly number[]): Promised {
    return promises.flatMap((number, node) => {
      if (number === never) return [];
      const state = this.#states.values[number] as AcceptorState;
      const { promisedWrite, accepted, committed } = state;
      const seen = { highest: highestOf(state), promisedWrite, accepted, committed };
      return [{ node: `n${node}`, reply: { ...seen, isPromised: true, records: [] } }];
    });
  }

  /** The next round of whomever meets everything that was decided, in any majority. */
  #check({ acceptors, rounds }: State): void {
    const numbers = rounds
      .filter(({ accepted }) => isMajority(accepted))
      .map(({ proposal }) => proposal);
    if (numbers.length === 0) return;
    this.decisions += 1;
    this.#once(`check ${acceptors.join()} ${numbers.join()}`, () => {
      this.#expectFound(acceptors, numbers);
      return 0;
    });
  }

  #expectFound(acceptors: readonly number[], numbers: readonly number[]): void {
    const decided = numbers.map((number) => this.#proposals.values[number] as Proposal);
    for (const majority of majorities) {
      const promises = nodes.map((node) =>
        (majority as readonly number[]).includes(node) ? (acceptors[node] ?? never) : never,
      );
      const promised = this.#promised(promises);
      const { history } = newestAccepted(promised) ?? newestCommitted(promised);
      const known = SerialHistory.decode(history);
      for (const { original } of decided)
        if (!known.includes(original))
          expect.fail(
            `the decision of ${original.hlc} is overlooked by nodes ${majority.join(' and ')}`,
          );
    }
  }
}

describe('serial interleavings', () => {
  it('serial interleavings: two rounds, three acceptors: no order of messages loses a decision (2.5)', () => {
    const exploration = new Exploration(2);
    expect(exploration.run()).to.be.above(1_000);
    expect(exploration.decisions).to.be.above(100);
  });
});
