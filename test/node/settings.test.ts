// Settings that depend on each other, and what a number of copies decides.

import { expect } from 'chai';
import { tunablesFrom } from '../../actors/node/settings.ts';
import { codeThrownBy } from '../kit.ts';

describe('settings', () => {
  it('settings: writes may be refused only with more tables than start a merge', () => {
    expect(codeThrownBy(() => tunablesFrom({ l0Tables: 8, l0TablesMax: 8 }))).to.equal(
      'BAD_REQUEST',
    );
    expect(tunablesFrom({ l0Tables: 8, l0TablesMax: 9 })).to.include({
      l0Tables: 8,
      l0TablesMax: 9,
    });
    expect(codeThrownBy(() => tunablesFrom({ l0Tables: 30 }))).to.equal('BAD_REQUEST');
  });
});
