// The memory of a key's decisions: what is kept, for how long, and what can be said from it.

import { expect } from 'chai';
import fc from 'fast-check';
import {
  type Ballot,
  type KeptResult,
  requestIdOf,
  SerialHistory,
} from '../../actors/replication/serial-history.ts';

const at = (hlc: number): Ballot => ({ hlc, writer: 1, incarnation: 1 });

const resultOf = (id: number): KeptResult => ({
  ...at(id + 1),
  id,
  request: 7,
  isApplied: true,
  version: 3,
  number: id % 2 === 0 ? undefined : -4,
});

describe('serial history', () => {
  it('serial history: it comes back from its bytes as it was', () => {
    let history = new SerialHistory();
    for (let i = 0; i < 5; i += 1) history = history.with(at(10 + i), [resultOf(i)]);
    expect(SerialHistory.decode(history.encode())).to.deep.equal(history);
    expect(SerialHistory.decode(new Uint8Array(0))).to.deep.equal(new SerialHistory());
  });

  it('serial history: 256 decisions and 128 results are kept, the newest (ID-3)', () => {
    let history = new SerialHistory();
    for (let i = 0; i < 300; i += 1) history = history.with(at(i + 1), [resultOf(i)]);
    expect(history.ballots.length).to.equal(256);
    expect(history.results.length).to.equal(128);
    expect(history.find(171)).to.equal(undefined);
    expect(history.find(172)?.id).to.equal(172);
    expect(history.includes(at(44))).to.equal(false);
    expect(history.includes(at(45))).to.equal(true);
  });

  it('serial history: whether a ballot was decided is known as far as it reaches (PX-12)', () => {
    let history = new SerialHistory();
    expect(history.reaches(at(1))).to.equal(true);
    for (let i = 0; i < 256; i += 1) history = history.with(at(100 + i), []);
    expect(history.reaches(at(101))).to.equal(true);
    expect(history.reaches(at(99))).to.equal(false);
  });

  it('serial history: request ids become 53 bits, few of them equal', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1, maxLength: 64 }), (text) => {
        expect(Number.isSafeInteger(requestIdOf(text))).to.equal(true);
      }),
    );
    const ids = new Set(Array.from({ length: 20_000 }, (_, i) => requestIdOf(`request-${i}`)));
    expect(ids.size).to.equal(20_000);
  });
});
