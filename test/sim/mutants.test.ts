// The runner of planted bugs refuses a patch that does not fit exactly once.

import { expect } from 'chai';
import { type Patch, patched } from '../mutants/mutants.ts';

const mutant: Patch = {
  file: 'f.js',
  find: 'a(b)',
  replace: '$&',
};

describe('sim mutants', () => {
  it('mutants: a patch replaces its one place, literally', () => {
    expect(patched('x a(b) y', 'm', mutant)).to.equal('x $& y');
  });

  it('mutants: a patch that fits nowhere or twice is refused', () => {
    expect(() => patched('x', 'm', mutant)).to.throw(/occurs 0 times in f.js, expected once/);
    expect(() => patched('a(b) a(b)', 'm', mutant)).to.throw(/occurs 2 times/);
  });
});
