// The runner of planted bugs refuses a patch that does not fit exactly once, and all of them fit.

import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { mutants, type Patch, patched, patchesOf } from '../mutants/mutants.ts';
import { scenarioMutants } from '../mutants/scenarios.ts';

const output = new URL('../../', import.meta.url);

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

  it('mutants: every patch fits the compiled program', () => {
    for (const bug of [...mutants, ...scenarioMutants]) {
      const texts = new Map<string, string>();
      for (const patch of patchesOf(bug)) {
        const text = texts.get(patch.file) ?? readFileSync(new URL(patch.file, output), 'utf8');
        texts.set(patch.file, patched(text, bug.id, patch));
      }
    }
  });

  it('mutants: every scenario is a test that exists', () => {
    for (const { scenario } of scenarioMutants) {
      const text = readFileSync(new URL(scenario.file, output), 'utf8');
      // What follows in brackets is put together when the test runs.
      expect(text).to.include(scenario.title.replace(/ \(.*/, ''));
      expect(text).to.include(scenario.failsWith);
    }
  });
});
