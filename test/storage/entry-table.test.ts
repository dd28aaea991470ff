// The table and the queues of a cache, against a Map and arrays.

import { expect } from 'chai';
import fc from 'fast-check';
import { EntryQueue, EntryTable } from '../../actors/storage/entry-table.ts';

interface Entry {
  readonly key: number;
  chained: Entry | undefined;
  older: Entry | undefined;
  newer: Entry | undefined;
}

const entryOf = (key: number): Entry => ({
  key,
  chained: undefined,
  older: undefined,
  newer: undefined,
});

describe('entry table', () => {
  /** Numbers of blocks as a cache has them: many of few tables, those of the index below zero. */
  const keys = fc
    .tuple(fc.nat({ max: 3 }), fc.nat({ max: 300 }), fc.boolean())
    .map(([table, block, isIndex]) => {
      const number = table * 2 ** 26 + block;
      return isIndex ? -1 - number : number;
    });

  it('entry table: what is in it and which is oldest, against a Map (any adding and removing)', () => {
    fc.assert(
      fc.property(fc.array(keys, { maxLength: 1_000 }), (list) => {
        const table = new EntryTable<Entry>();
        const queue = new EntryQueue<Entry>();
        const model = new Map<number, Entry>();
        for (const key of list) {
          const known = model.get(key);
          expect(table.get(key)).to.equal(known);
          if (known === undefined) {
            const entry = entryOf(key);
            table.add(entry);
            queue.push(entry);
            model.set(key, entry);
          } else {
            table.remove(known);
            queue.remove(known);
            model.delete(key);
            expect(known).to.deep.equal(entryOf(key));
          }
          expect(table.size).to.equal(model.size);
          expect(queue.oldest).to.equal(model.values().next().value);
        }
        for (const [key, entry] of model) {
          expect(table.get(key)).to.equal(entry);
          expect(queue.oldest).to.equal(entry);
          queue.remove(entry);
        }
        expect(queue.oldest).to.equal(undefined);
      }),
      { numRuns: 50 },
    );
  });
});
