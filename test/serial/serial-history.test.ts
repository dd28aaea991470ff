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

  it('serial history: 256 decisions are kept, the newest', () => {
    let history = new SerialHistory();
    for (let i = 0; i < 300; i += 1) history = history.with(at(i + 1), []);
    expect(history.ballots.length).to.equal(256);
    expect(history.includes(at(44))).to.equal(false);
    expect(history.includes(at(45))).to.equal(true);
  });

  it('serial history: 1,024 results of ten minutes are kept, and 128 older ones (ID-3)', () => {
    const minute = 60_000_000;
    let history = new SerialHistory();
    for (let i = 0; i < 1_100; i += 1) history = history.with(at(i + 1), [resultOf(i)]);
    expect(history.results.length).to.equal(1_024);
    expect([history.find(75), history.find(76)?.id]).to.deep.equal([undefined, 76]);
    const young = { ...resultOf(5_000), ...at(10 * minute) };
    history = history.with(at(10 * minute), [young]);
    expect(history.results.length).to.equal(1_024);
    history = history.with(at(11 * minute), []);
    expect(history.results.length).to.equal(128);
    expect(history.find(5_000)).to.deep.equal(young);
    expect(history.find(972)).to.equal(undefined);
    expect(history.find(973)?.id).to.equal(973);
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
