// Pages of records: against a model, cut pages never hide a key (short-read protection, SC-3).

import { expect } from 'chai';
import fc from 'fast-check';
import { utf8 } from '../../runtime/bytes.ts';
import { recordKey, storageKey, userKey } from '../../actors/model/record.ts';
import {
  mergePages,
  readPage,
  type RecordCursor,
  type RecordPage,
} from '../../actors/model/record-pages.ts';
import { lastWriteWins, resolveAll } from '../../actors/model/resolve.ts';
import { hexOf, makeRecord } from '../kit-replication.ts';

const noLimit = Number.MAX_SAFE_INTEGER;
const letters = 'abcdefgh';
const bound = (letter: string): Uint8Array => storageKey(1, utf8.encode(letter));
const keyOf = (record: Uint8Array): string => utf8.decode(userKey(recordKey(record)));
const keysOf = ({ records }: RecordPage): string => records.map(keyOf).join('');
const recordsOf = (keys: string, hlc = 1): Uint8Array[] =>
  Array.from(keys).map((key) => makeRecord(key, { hlc }));
const page = (keys: string, isDone: boolean, hlc = 1): RecordPage => ({
  records: recordsOf(keys, hlc),
  isDone,
});

function cursorOf(records: readonly Uint8Array[]): RecordCursor {
  let at = 0;
  return { next: () => records[at++] };
}

/** A source: a record of some of the letters, and how many of them its page holds. */
const sources = fc
  .tuple(fc.subarray(Array.from(letters)), fc.nat(9), fc.integer({ min: 1, max: 4 }))
  .map(([keys, cut, hlc]) => {
    const records = recordsOf(keys.join(''), hlc);
    return { records, page: { records: records.slice(0, cut), isDone: cut >= records.length } };
  });

describe('record-pages: readPage', () => {
  const records = recordsOf('abcde');
  const size = (records[0] as Uint8Array).length;

  it('record-pages: a page ends at the end of the range, not included', () => {
    const read = (to: Uint8Array | undefined): RecordPage =>
      readPage(cursorOf(records), { to, limit: 100, bytes: noLimit });
    expect(keysOf(read(undefined))).to.equal('abcde');
    expect(read(undefined).isDone).to.equal(true);
    expect(keysOf(read(bound('c')))).to.equal('ab');
    expect(read(bound('c')).isDone).to.equal(true);
    expect(read(bound('a'))).to.deep.equal({ records: [], isDone: true });
  });

  it('record-pages: a full page is done only where nothing follows it', () => {
    const read = (limit: number, to?: Uint8Array): RecordPage =>
      readPage(cursorOf(records), { to, limit, bytes: noLimit });
    expect(keysOf(read(4))).to.equal('abcd');
    expect(read(4).isDone).to.equal(false);
    expect(read(5).isDone).to.equal(true);
    expect(read(2, bound('c')).isDone).to.equal(true);
  });

  it('record-pages: a page ends with the record that passes its bytes, never before the first', () => {
    const read = (bytes: number): RecordPage =>
      readPage(cursorOf(records), { to: undefined, limit: 100, bytes });
    expect(keysOf(read(size))).to.equal('a');
    expect(keysOf(read(size + 1))).to.equal('ab');
    expect(keysOf(read(0))).to.equal('a');
    expect(read(0).isDone).to.equal(false);
    expect(read(5 * size).isDone).to.equal(true);
  });
});

describe('record-pages: mergePages', () => {
  it('record-pages: pages of disjoint keys come out in key order', () => {
    const merged = mergePages([page('ace', true), page('bd', true)], 10, lastWriteWins);
    expect(keysOf(merged)).to.equal('abcde');
    expect(merged.isDone).to.equal(true);
  });

  it('record-pages: of one key in several pages the winner comes out, once', () => {
    const pages = [page('ab', true, 1), page('ab', true, 3), page('b', true, 2)];
    const merged = mergePages(pages, 10, lastWriteWins);
    expect(merged.records.map(hexOf)).to.deep.equal(recordsOf('ab', 3).map(hexOf));
  });

  it('record-pages: the merge ends where the first cut page ends (SC-3)', () => {
    const merged = mergePages([page('ab', false), page('abcd', true)], 10, lastWriteWins);
    expect(keysOf(merged)).to.equal('ab');
    expect(merged.isDone).to.equal(false);
  });

  it('record-pages: a cut page that reaches furthest still means that there may be more', () => {
    const merged = mergePages([page('abc', false), page('ab', true)], 10, lastWriteWins);
    expect(keysOf(merged)).to.equal('abc');
    expect(merged.isDone).to.equal(false);
  });

  it('record-pages: a page that was cut before its first record speaks for no key', () => {
    const merged = mergePages([page('', false), page('ab', true)], 10, lastWriteWins);
    expect(merged).to.deep.equal({ records: [], isDone: false });
  });

  it('record-pages: a limit that is just met is done only where nothing follows', () => {
    const pages = [page('ac', true), page('b', true)];
    expect(mergePages(pages, 3, lastWriteWins).isDone).to.equal(true);
    expect(keysOf(mergePages(pages, 2, lastWriteWins))).to.equal('ab');
    expect(mergePages(pages, 2, lastWriteWins).isDone).to.equal(false);
    expect(mergePages([page('abc', true)], 2, lastWriteWins)).to.deep.equal(page('ab', false));
    expect(mergePages([], 2, lastWriteWins)).to.deep.equal({ records: [], isDone: true });
  });

  it('record-pages: a page is a true prefix of the merged sources, and done only if it is all', () => {
    const limits = fc.integer({ min: 1, max: 9 });
    fc.assert(
      fc.property(fc.array(sources, { minLength: 1, maxLength: 5 }), limits, (given, limit) => {
        const all = Array.from(letters).flatMap((letter) => {
          const held = given.flatMap(({ records }) => records.filter((r) => keyOf(r) === letter));
          return resolveAll(held, lastWriteWins) ?? [];
        });
        const merged = mergePages(
          given.map((source) => source.page),
          limit,
          lastWriteWins,
        );
        const expected = all.slice(0, merged.records.length);
        expect(merged.records.map(hexOf)).to.deep.equal(expected.map(hexOf));
        expect(merged.records.length).to.be.at.most(limit);
        if (merged.isDone) expect(merged.records.length).to.equal(all.length);
        const isCut = given.some((source) => !source.page.isDone);
        if (!isCut) expect(merged.records.length).to.equal(Math.min(limit, all.length));
      }),
      { numRuns: 1_000 },
    );
  });

  it('record-pages: reading on after each page finds every key once', () => {
    const limits = fc.integer({ min: 1, max: 4 });
    const held = fc.array(fc.subarray(Array.from(letters)), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(held, limits, limits, (sets, pageLimit, limit) => {
        const seen: string[] = [];
        for (let after = ''; ; after = seen[seen.length - 1] ?? after) {
          const pages = sets.map((keys) => {
            const left = recordsOf(keys.filter((key) => key > after).join(''));
            return readPage(cursorOf(left), { to: undefined, limit: pageLimit, bytes: noLimit });
          });
          const merged = mergePages(pages, limit, lastWriteWins);
          seen.push(...merged.records.map(keyOf));
          if (merged.isDone) break;
          expect(merged.records.length).to.be.above(0);
        }
        expect(seen).to.deep.equal([...new Set(sets.flat())].sort());
      }),
    );
  });
});
