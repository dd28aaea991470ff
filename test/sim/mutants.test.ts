// The runner of planted bugs refuses a patch that does not fit exactly once.

import { expect } from 'chai';
import { type Mutant, patched } from '../mutants/mutants.ts';

const mutant: Mutant = {
  id: 'm',
  what: 'an example',
  file: 'f.js',
  find: 'a(b)',
  replace: '$&',
  seeds: 1,
};

describe('sim mutants', () => {
  it('mutants: a patch replaces its one place, literally', () => {
    expect(patched('x a(b) y', mutant)).to.equal('x $& y');
  });

  it('mutants: a patch that fits nowhere or twice is refused', () => {
    expect(() => patched('x', mutant)).to.throw(/occurs 0 times in f.js, expected once/);
    expect(() => patched('a(b) a(b)', mutant)).to.throw(/occurs 2 times/);
  });
});
