// The memtable's tree against a sorted array, at its limits, and as another thread sees it.

import { expect } from 'chai';
import fc from 'fast-check';
import { recordHlc, recordKey } from '../../actors/model/record.ts';
import { lastWriteWins, type Resolve } from '../../actors/model/resolve.ts';
import { ArenaTree } from '../../actors/storage/arena-tree.ts';
import { compareBytes } from '../../runtime/bytes.ts';
import { BugError } from '../../runtime/errors.ts';
import { Prng } from '../../runtime/prng.ts';
import {
  drain,
  hexes,
  hexOf,
  makeRecord,
  naiveWinners,
  recordOf,
  writes,
} from './records-under-test.ts';

const newTree = (bytes = 1 << 20): ArenaTree => ArenaTree.create(new SharedArrayBuffer(bytes));
/** The same order, but not recognised as the one that compares in place. */
const sameOrder: Resolve = (a, b) => lastWriteWins(a, b);

function keyNumber(n: number): string {
  return `user:${String(n).padStart(8, '0')}`;
}

describe('arena-tree', () => {
  it('arena-tree: holds the winner of every key, in key order (random writes, three namespaces)', () => {
    const property = fc.property(
      fc.array(writes, { maxLength: 300 }),
      fc.constantFrom(lastWriteWins, sameOrder),
      (list, resolve) => {
        const tree = newTree();
        const records = list.map(recordOf);
        for (const record of records) expect(tree.insert(record, resolve)).not.to.equal('full');
        const winners = naiveWinners(records);
        expect(tree.records).to.equal(winners.length);
        expect(hexes(drain(tree.cursor()))).to.deep.equal(hexes(winners));
        for (const winner of winners)
          expect(hexOf(tree.get(recordKey(winner)) ?? winner.subarray(1))).to.equal(hexOf(winner));
      },
    );
    fc.assert(property, { numRuns: 200 });
  });

  it('arena-tree: a cursor starts at the first key that is not below (any start)', () => {
    const property = fc.property(
      fc.array(writes, { maxLength: 120 }),
      fc.uint8Array({ maxLength: 14 }),
      writes,
      (list, bytes, write) => {
        const tree = newTree();
        const records = list.map(recordOf);
        for (const record of records) tree.insert(record, lastWriteWins);
        for (const from of [bytes, recordKey(recordOf(write))]) {
          const expected = naiveWinners(records).filter(
            (record) => compareBytes(recordKey(record), from) >= 0,
          );
          expect(hexes(drain(tree.cursor(from)))).to.deep.equal(hexes(expected));
        }
      },
    );
    fc.assert(property, { numRuns: 100 });
  });

  for (const order of ['ascending', 'descending', 'random'] as const)
    it(`arena-tree: 20,000 keys in ${order} order are all there`, () => {
      const ascending = Array.from({ length: 20_000 }, (_, i) => i);
      const numbers = {
        ascending,
        descending: ascending.toReversed(),
        random: new Prng(7).shuffled(ascending),
      }[order];
      const tree = newTree(8 << 20);
      for (const n of numbers)
        expect(tree.insert(makeRecord(keyNumber(n)), lastWriteWins)).to.equal('inserted');
      expect(tree.records).to.equal(20_000);
      const found = drain(tree.cursor()).map((record) => hexOf(recordKey(record)));
      const expected = Array.from({ length: 20_000 }, (_, i) =>
        recordKey(makeRecord(keyNumber(i))),
      );
      expect(found).to.deep.equal(hexes(expected));
      expect(tree.get(recordKey(makeRecord('user:')))).to.equal(undefined);
      expect(tree.get(recordKey(makeRecord(keyNumber(20_000))))).to.equal(undefined);
    });

  it('arena-tree: keys that begin alike for long, end within that or differ after it (any of them)', () => {
    // Stems of up to 40 bytes, each the beginning of others, and short ends: prefixes of nodes grow
    // with the tree, and keys end before, at and behind them.
    const stems = ['', 'a', 'aaaaaaaaaaaaaaaaaaaa', 'aaaaaaaaaaaaaaaaaaab', 'b'.repeat(40)];
    const key = fc
      .tuple(fc.constantFrom(...stems), fc.stringMatching(/^[\0a-c\u00ff]{0,7}$/))
      .map(([stem, end]) => `${stem}${end}`)
      .filter((text) => text !== '');
    const property = fc.property(
      fc.array(key, { minLength: 200, maxLength: 2_000, size: 'max' }),
      key,
      (keys, start) => {
        const tree = newTree();
        const records = keys.map((text, hlc) => makeRecord(text, { hlc: hlc + 1 }));
        for (const record of records)
          expect(tree.insert(record, lastWriteWins)).not.to.equal('full');
        const winners = naiveWinners(records);
        expect(hexes(drain(tree.cursor()))).to.deep.equal(hexes(winners));
        for (const winner of winners)
          expect(hexOf(tree.get(recordKey(winner)) ?? winner.subarray(1))).to.equal(hexOf(winner));
        const from = recordKey(makeRecord(start));
        const expected = winners.filter((record) => compareBytes(recordKey(record), from) >= 0);
        expect(hexes(drain(tree.cursor(from)))).to.deep.equal(hexes(expected));
      },
    );
    fc.assert(property, { numRuns: 60 });
  });

  it('arena-tree: says what became of a record', () => {
    const tree = newTree();
    expect(tree.insert(makeRecord('a', { hlc: 5 }), lastWriteWins)).to.equal('inserted');
    expect(tree.insert(makeRecord('a', { hlc: 4 }), lastWriteWins)).to.equal('kept');
    expect(tree.insert(makeRecord('a', { hlc: 5 }), lastWriteWins)).to.equal('kept');
    expect(tree.insert(makeRecord('a', { hlc: 6 }), lastWriteWins)).to.equal('replaced');
    expect(recordHlc(tree.get(recordKey(makeRecord('a'))) as Uint8Array)).to.equal(6);
    expect(tree.records).to.equal(1);
  });

  it('arena-tree: compares hlc beyond 32 bits, then writer, then incarnation', () => {
    const stamps = [
      { hlc: 2 ** 32 + 1, writer: 0, incarnation: 0 },
      { hlc: 2 ** 40, writer: 0, incarnation: 9 },
      { hlc: 2 ** 40, writer: 0xffff_ffff, incarnation: 0 },
      { hlc: 2 ** 40, writer: 0xffff_ffff, incarnation: 1 },
      { hlc: 2 ** 53 - 1, writer: 0, incarnation: 0 },
    ];
    const tree = newTree();
    const outcomes = stamps.map((stamp) => tree.insert(makeRecord('a', stamp), lastWriteWins));
    expect(outcomes).to.deep.equal(['inserted', ...Array<string>(4).fill('replaced')]);
    const older = stamps.slice(0, 4);
    const later = older.map((stamp) => tree.insert(makeRecord('a', stamp), lastWriteWins));
    expect(later).to.deep.equal(Array<string>(4).fill('kept'));
  });

  it('arena-tree: a hot key does not fill the arena (100,000 writes)', () => {
    const tree = newTree(4096);
    for (let hlc = 1; hlc <= 100_000; hlc += 1)
      expect(tree.insert(makeRecord('hot', { hlc }), lastWriteWins)).not.to.equal('full');
    expect(recordHlc(tree.get(recordKey(makeRecord('hot'))) as Uint8Array)).to.equal(100_000);
  });

  it('arena-tree: full leaves the tree as it was, wherever that happens (arenas of 4 to 40 KiB)', () => {
    for (let bytes = 4096; bytes <= 40_960; bytes += 1016) {
      const tree = newTree(bytes);
      const inserted: Uint8Array[] = [];
      const random = new Prng(bytes);
      for (let tries = 0; tries < 400; tries += 1) {
        const value = new Uint8Array(random.int(120));
        const record = makeRecord(keyNumber(random.int(1_000_000)), { hlc: tries + 1, value });
        const before = tree.bytesUsed;
        if (tree.insert(record, lastWriteWins) !== 'full') inserted.push(record);
        else expect(tree.bytesUsed).to.equal(before);
        expect(tree.bytesUsed).to.be.at.most(tree.capacity);
      }
      expect(inserted.length).to.be.lessThan(400);
      expect(hexes(drain(tree.cursor()))).to.deep.equal(hexes(naiveWinners(inserted)));
    }
  });

  it('arena-tree: a replacement that does not fit leaves the old record', () => {
    const tree = newTree(4096);
    tree.insert(makeRecord('a', { hlc: 1, value: 'small' }), lastWriteWins);
    const large = makeRecord('a', { hlc: 2, value: new Uint8Array(4000) });
    expect(tree.insert(large, lastWriteWins)).to.equal('full');
    expect(recordHlc(tree.get(recordKey(large)) as Uint8Array)).to.equal(1);
  });

  it('arena-tree: a frozen arena opens with nothing but its bytes', () => {
    const memory = new SharedArrayBuffer(1 << 20);
    const tree = ArenaTree.create(memory);
    const records = Array.from({ length: 3000 }, (_, i) => makeRecord(keyNumber(i * 7)));
    for (const record of records) tree.insert(record, lastWriteWins);
    const opened = ArenaTree.open(memory);
    expect(opened.records).to.equal(3000);
    expect(opened.bytesUsed).to.equal(tree.bytesUsed);
    expect(hexes(drain(opened.cursor()))).to.deep.equal(hexes(records));
  });

  it('arena-tree: an arena without a tree is a defect, and creating one forgets what was there', () => {
    const memory = new SharedArrayBuffer(1 << 16);
    expect(() => ArenaTree.open(memory)).to.throw(BugError, 'no tree');
    ArenaTree.create(memory).insert(makeRecord('a'), lastWriteWins);
    const again = ArenaTree.create(memory);
    expect(again.records).to.equal(0);
    expect(again.cursor().next()).to.equal(undefined);
    expect(again.get(recordKey(makeRecord('a')))).to.equal(undefined);
  });

  it('arena-tree: what it gives is a copy outside of the shared memory', () => {
    const tree = newTree();
    tree.insert(makeRecord('a'), lastWriteWins);
    const copy = tree.get(recordKey(makeRecord('a'))) as Uint8Array;
    expect(copy.buffer).to.be.instanceOf(ArrayBuffer);
    copy.fill(0);
    expect(hexOf(tree.cursor().next() as Uint8Array)).to.equal(hexOf(makeRecord('a')));
  });
});
