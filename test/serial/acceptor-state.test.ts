// What an acceptor may do (PX-2 to PX-5), step by step and over random steps.

import { expect } from 'chai';
import fc from 'fast-check';
import { noBytes } from '../../runtime/bytes.ts';
import { compareEtags } from '../../actors/model/record.ts';
import {
  accept,
  type AcceptorState,
  adopt,
  commit,
  decodeState,
  emptyState,
  encodeState,
  highestOf,
  promise,
  type Proposal,
} from '../../actors/replication/acceptor-state.ts';
import type { Ballot } from '../../actors/replication/serial-history.ts';
import { makeRecord } from '../kit-replication.ts';

const at = (hlc: number, writer = 1): Ballot => ({ hlc, writer, incarnation: 1 });

function proposalAt(ballot: Ballot, changes: Partial<Proposal> = {}): Proposal {
  const records = [makeRecord('key', ballot)];
  return { ballot, original: ballot, records, history: noBytes, ...changes };
}

describe('acceptor state', () => {
  it('acceptor state: only a newer ballot is promised, and all fields of it count (PX-1, PX-2)', () => {
    const state = promise(emptyState, at(10, 5), true) as AcceptorState;
    expect(promise(state, at(9, 9), true)).to.equal(undefined);
    expect(promise(state, at(10, 4), true)).to.equal(undefined);
    expect(promise(state, at(10, 5), true)).to.equal(undefined);
    expect(promise(state, { ...at(10, 5), incarnation: 2 }, true)?.promised.incarnation).to.equal(
      2,
    );
    expect(promise(state, at(10, 6), true)?.promised).to.deep.equal(at(10, 6));
  });

  it('acceptor state: a read promises, and leaves the promise to writers as it was (PX-9)', () => {
    const written = promise(emptyState, at(10), true) as AcceptorState;
    const read = promise(written, at(20), false);
    expect(read?.promised).to.deep.equal(at(20));
    expect(read?.promisedWrite).to.deep.equal(at(10));
  });

  it('acceptor state: a proposal below a promise is refused, one at or above it is taken (PX-4)', () => {
    const state = promise(emptyState, at(10), true) as AcceptorState;
    expect(accept(state, proposalAt(at(9)))).to.equal(undefined);
    expect(accept(state, proposalAt(at(10)))?.accepted?.ballot).to.deep.equal(at(10));
    const above = accept(state, proposalAt(at(11))) as AcceptorState;
    expect(above.promised).to.deep.equal(at(11));
    expect(promise(above, at(11), true)).to.equal(undefined);
  });

  it('acceptor state: a proposal that was committed under its ballot changes nothing', () => {
    const proposal = proposalAt(at(10));
    const state = commit(emptyState, proposal) as AcceptorState;
    expect(accept(state, proposal)).to.equal(state);
  });

  it('acceptor state: a commit forgets what was accepted up to it, and nothing newer (PX-5)', () => {
    const old = accept(emptyState, proposalAt(at(10))) as AcceptorState;
    expect(commit(old, proposalAt(at(12)))?.accepted).to.equal(undefined);
    const newer = accept(emptyState, proposalAt(at(20))) as AcceptorState;
    const both = commit(newer, proposalAt(at(12)));
    expect(both?.accepted?.ballot).to.deep.equal(at(20));
    expect(both?.committed.ballot).to.deep.equal(at(12));
  });

  it('acceptor state: a commit is taken whatever was promised, once, and never an older one', () => {
    const promised = promise(emptyState, at(90), true) as AcceptorState;
    const state = commit(promised, proposalAt(at(12))) as AcceptorState;
    expect(state.promised).to.deep.equal(at(90));
    expect(commit(state, proposalAt(at(12)))).to.equal(undefined);
    expect(commit(state, proposalAt(at(11)))).to.equal(undefined);
  });

  const ballots = fc
    .record({ hlc: fc.integer({ min: 1, max: 6 }), writer: fc.integer({ min: 1, max: 3 }) })
    .map(({ hlc, writer }) => at(hlc, writer));
  const steps = fc.array(
    fc.record({
      what: fc.constantFrom('promise', 'accept', 'empty', 'commit'),
      ballot: ballots,
      isWrite: fc.boolean(),
    }),
    { maxLength: 20 },
  );
  type Step = { what: string; ballot: Ballot; isWrite: boolean };
  const take = (state: AcceptorState, { what, ballot, isWrite }: Step): AcceptorState => {
    const proposal = proposalAt(ballot, what === 'empty' ? { records: [] } : {});
    if (what === 'promise') return promise(state, ballot, isWrite) ?? state;
    if (what === 'commit') return commit(state, proposal) ?? state;
    return accept(state, proposal) ?? state;
  };

  it('acceptor state: over any steps promises and decisions only grow (CK-13)', () => {
    fc.assert(
      fc.property(steps, (taken) => {
        let state = emptyState;
        for (const step of taken) {
          const next = take(state, step);
          for (const of of [
            (s: AcceptorState) => s.promised,
            (s: AcceptorState) => s.promisedWrite,
            (s: AcceptorState) => s.committed.ballot,
            highestOf,
          ])
            expect(compareEtags(of(next), of(state))).to.be.at.least(0);
          const lost = state.accepted !== undefined && next.accepted === undefined;
          if (lost)
            expect(
              compareEtags(next.committed.ballot, state.accepted?.ballot ?? at(0)),
            ).to.be.at.least(0);
          if (next.accepted !== undefined)
            expect(compareEtags(next.promised, next.accepted.ballot)).to.be.at.least(0);
          state = next;
        }
      }),
    );
  });

  /** Of one ballot there is one proposal, whoever hears of it: here those of odd times are empty. */
  const asProposed = (step: Step): Step => {
    const isEmpty = step.ballot.hlc % 2 === 1;
    if (step.what === 'commit') return isEmpty ? { ...step, what: 'promise' } : step;
    return step.what === 'promise' ? step : { ...step, what: isEmpty ? 'empty' : 'accept' };
  };

  it('acceptor state: what is adopted refuses and knows what both did, in any order (CO-4)', () => {
    fc.assert(
      fc.property(steps, steps, steps, (first, second, third) => {
        const [a, b, c] = [first, second, third].map((taken) =>
          taken.map(asProposed).reduce(take, emptyState),
        ) as [AcceptorState, AcceptorState, AcceptorState];
        const both = adopt(a, b);
        for (const one of [a, b]) {
          expect(compareEtags(both.promised, highestOf(one))).to.be.at.least(0);
          expect(compareEtags(both.promisedWrite, one.promisedWrite)).to.be.at.least(0);
          expect(compareEtags(both.committed.ballot, one.committed.ballot)).to.be.at.least(0);
          const { accepted } = one;
          if (accepted === undefined) continue;
          const isSettled = compareEtags(both.committed.ballot, accepted.ballot) >= 0;
          const known = both.accepted?.ballot ?? at(0);
          expect(isSettled || compareEtags(known, accepted.ballot) >= 0).to.equal(true);
        }
        expect(adopt(b, a)).to.deep.equal(both);
        expect(adopt(both, a)).to.deep.equal(both);
        expect(adopt(adopt(a, b), c)).to.deep.equal(adopt(a, adopt(b, c)));
      }),
    );
  });

  it('acceptor state: every state comes back from its bytes as it was', () => {
    fc.assert(
      fc.property(steps, (taken) => {
        const state = taken.reduce(take, emptyState);
        expect(decodeState(encodeState(state))).to.deep.equal(state);
      }),
    );
  });
});
