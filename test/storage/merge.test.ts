// Merging of cursors and of pages against a naive model: sort everything, keep the winners.

import { expect } from 'chai';
import fc from 'fast-check';
import { recordKey } from '../../actors/model/record.ts';
import { mergePages, type RecordPage, readPage } from '../../actors/model/record-pages.ts';
import { lastWriteWins } from '../../actors/model/resolve.ts';
import { mergeCursors } from '../../actors/storage/merge-iterator.ts';
import { compareBytes } from '../../runtime/bytes.ts';
import { BugError } from '../../runtime/errors.ts';
import {
  cursorOf,
  drain,
  hexes,
  makeRecord,
  naiveWinners,
  recordOf,
  writes,
} from './records-under-test.ts';

/** Sorted records with distinct keys, one list per source. */
const sources = fc
  .array(fc.array(writes, { maxLength: 25 }), { maxLength: 6 })
  .map((lists) => lists.map((list) => naiveWinners(list.map(recordOf))));

describe('merge', () => {
  it('merge: cursors give the winner of every key in key order (any sources)', () => {
    fc.assert(
      fc.property(sources, (lists) => {
        const merged = drain(mergeCursors(lists.map(cursorOf), lastWriteWins));
        expect(hexes(merged)).to.deep.equal(hexes(naiveWinners(lists.flat())));
      }),
    );
  });

  it('merge: a cursor out of order is a defect', () => {
    const wrong = cursorOf([makeRecord('b'), makeRecord('a')]);
    expect(() => drain(mergeCursors([wrong], lastWriteWins))).to.throw(BugError, 'out of order');
  });

  it('merge: one page is never wrong, and says what it does not know (any pages, SC-3)', () => {
    const limits = fc.tuple(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 20 }));
    fc.assert(
      fc.property(sources, limits, (lists, [pageLimit, limit]) => {
        const pages = lists.map((list) =>
          readPage(cursorOf(list), { to: undefined, limit: pageLimit, bytes: 1e9 }),
        );
        const { records, isDone } = mergePages(pages, limit, lastWriteWins);
        const all = naiveWinners(lists.flat());
        expect(hexes(records)).to.deep.equal(hexes(all.slice(0, records.length)));
        expect(records.length).to.be.at.most(limit);
        if (isDone) expect(records.length).to.equal(all.length);
        if (lists.length > 0 && all.length > 0) expect(records.length).to.be.greaterThan(0);
      }),
    );
  });

  it('merge: asking page after page gives every winner once (any sources)', () => {
    fc.assert(
      fc.property(sources, fc.integer({ min: 1, max: 5 }), (lists, limit) => {
        const found: Uint8Array[] = [];
        for (let isDone = false; !isDone; ) {
          const last = found[found.length - 1];
          const rest = (list: readonly Uint8Array[]): Uint8Array[] =>
            list.filter(
              (record) =>
                last === undefined || compareBytes(recordKey(record), recordKey(last)) > 0,
            );
          const pages = lists.map((list) =>
            readPage(cursorOf(rest(list)), { to: undefined, limit, bytes: 1e9 }),
          );
          const page = mergePages(pages, limit, lastWriteWins);
          found.push(...page.records);
          isDone = page.isDone;
        }
        expect(hexes(found)).to.deep.equal(hexes(naiveWinners(lists.flat())));
      }),
    );
  });

  it('merge: a page that knows nothing ends the merge before its first key', () => {
    const full: RecordPage = { records: [makeRecord('a')], isDone: true };
    const unknown: RecordPage = { records: [], isDone: false };
    expect(mergePages([full, unknown], 10, lastWriteWins)).to.deep.equal(unknown);
  });

  it('merge: a page ends with its range, its limit, and the record that passes its size', () => {
    const records = ['a', 'b', 'c', 'd'].map((key) => makeRecord(key));
    const size = (records[0] as Uint8Array).length;
    const page = (to: string | undefined, limit: number, bytes: number): [number, boolean] => {
      const end = to === undefined ? undefined : recordKey(makeRecord(to));
      const { records: read, isDone } = readPage(cursorOf(records), { to: end, limit, bytes });
      return [read.length, isDone];
    };
    expect(page(undefined, 10, 1e9)).to.deep.equal([4, true]);
    expect(page('c', 10, 1e9)).to.deep.equal([2, true]);
    expect(page('c', 2, 1e9)).to.deep.equal([2, true]);
    expect(page(undefined, 3, 1e9)).to.deep.equal([3, false]);
    expect(page(undefined, 4, 1e9)).to.deep.equal([4, true]);
    expect(page(undefined, 10, size + 1)).to.deep.equal([2, false]);
    expect(page(undefined, 10, size)).to.deep.equal([1, false]);
  });
});
