// Open items: the same as a Set, whatever comes and goes.

import { expect } from 'chai';
import fc from 'fast-check';
import { type Listed, OpenList } from '../../runtime/open-list.ts';

interface Item extends Listed {
  readonly name: number;
}

const itemOf = (name: number): Item => ({ name, place: -1 });

function namesOf(list: OpenList<Item>): number[] {
  const names: number[] = [];
  list.forEach(({ name }) => names.push(name));
  return names;
}

describe('open list', () => {
  it('open list: holds what a Set holds, in its order, over hundreds of additions and removals', () => {
    // Numbers choose an item to remove; null adds one.
    const steps = fc.array(fc.option(fc.nat(1_000), { freq: 2 }), { maxLength: 600, size: 'max' });
    fc.assert(
      fc.property(steps, (choices) => {
        const list = new OpenList<Item>();
        const model = new Set<Item>();
        const gone: Item[] = [];
        choices.forEach((choice, name) => {
          if (choice === null) {
            const item = itemOf(name);
            list.add(item);
            model.add(item);
          } else {
            const item = [...model][choice % (model.size + 1)] ?? gone[choice % gone.length];
            if (item === undefined) return;
            expect(list.delete(item)).to.equal(model.delete(item));
            gone.push(item);
          }
          expect(list.size).to.equal(model.size);
        });
        expect(namesOf(list)).to.deep.equal([...model].map(({ name }) => name));
      }),
    );
  });

  it('open list: one that stays while thousands pass is still there', () => {
    const list = new OpenList<Item>();
    const first = itemOf(0);
    list.add(first);
    for (let name = 1; name <= 10_000; name += 1) {
      const passing = itemOf(name);
      list.add(passing);
      expect(list.delete(passing)).to.equal(true);
      expect(passing.place).to.equal(-1);
    }
    expect(namesOf(list)).to.deep.equal([0]);
    expect(first.place).to.be.below(64);
    expect(list.delete(first)).to.equal(true);
    expect(list.delete(first)).to.equal(false);
    expect(list.size).to.equal(0);
  });

  it('open list: a look at all of them sees neither what it removes nor what it adds', () => {
    const list = new OpenList<Item>();
    const items = Array.from({ length: 200 }, (_, name) => itemOf(name));
    for (const item of items) list.add(item);
    const seen: number[] = [];
    list.forEach((item) => {
      seen.push(item.name);
      const next = items[item.name + 1];
      if (next !== undefined) list.delete(next);
      list.delete(item);
      list.add(itemOf(1_000 + item.name));
    });
    expect(seen).to.deep.equal(items.filter(({ name }) => name % 2 === 0).map(({ name }) => name));
    expect(list.size).to.equal(100);
  });
});
