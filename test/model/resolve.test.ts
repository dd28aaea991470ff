// Which record wins, whatever the order and however often the writes arrive (guarantee G9).

import { expect } from 'chai';
import fc from 'fast-check';
import { lastWriteWins, resolveAll } from '../../actors/model/resolve.ts';
import { hexOf, makeRecord, writesOfOneKey } from '../kit-replication.ts';

describe('resolve', () => {
  it('resolve: last write wins is commutative, associative and idempotent', () => {
    fc.assert(
      fc.property(writesOfOneKey, writesOfOneKey, writesOfOneKey, (a, b, c) => {
        const lww = lastWriteWins;
        expect(hexOf(lww(a, b))).to.equal(hexOf(lww(b, a)));
        expect(hexOf(lww(lww(a, b), c))).to.equal(hexOf(lww(a, lww(b, c))));
        expect(hexOf(lww(a, a))).to.equal(hexOf(a));
        expect([hexOf(a), hexOf(b)]).to.include(hexOf(lww(a, b)));
      }),
      { numRuns: 500 },
    );
  });

  it('resolve: the order of arrival and repeats do not matter to resolveAll', () => {
    const arrivals = fc
      .array(writesOfOneKey, { minLength: 1, maxLength: 6 })
      .chain((writes) =>
        fc.tuple(
          fc.constant(writes),
          fc.shuffledSubarray([...writes, ...writes], { minLength: writes.length * 2 }),
        ),
      );
    fc.assert(
      fc.property(arrivals, ([writes, shuffled]) => {
        const winner = hexOf(resolveAll(writes, lastWriteWins));
        expect(hexOf(resolveAll(shuffled, lastWriteWins))).to.equal(winner);
      }),
    );
  });

  it('resolve: what is missing does not count, and of nothing comes nothing', () => {
    const record = makeRecord('key');
    expect(resolveAll([], lastWriteWins)).to.equal(undefined);
    expect(resolveAll([undefined, undefined], lastWriteWins)).to.equal(undefined);
    expect(resolveAll([undefined, record, undefined], lastWriteWins)).to.equal(record);
  });

  it('resolve: a newer tombstone wins over a live value, an older one does not', () => {
    const live = makeRecord('key', { hlc: 10 });
    const newer = makeRecord('key', { hlc: 11, isTombstone: true });
    const older = makeRecord('key', { hlc: 9, isTombstone: true });
    expect(lastWriteWins(live, newer)).to.equal(newer);
    expect(lastWriteWins(older, live)).to.equal(live);
  });
});
