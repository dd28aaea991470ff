// The table of tunables: defaults within their ranges, and overrides that are checked.

import { expect } from 'chai';
import {
  defaultTunables,
  type SettingName,
  settingNames,
  settingRows,
  tunablesFrom,
} from '../../actors/node/settings.ts';
import { KvError } from '../../runtime/errors.ts';
import { codeThrownBy } from '../kit.ts';

/** Settings that depend on another one, with a value of that one which allows their whole range. */
const companions: Partial<Record<SettingName, Readonly<Record<string, number>>>> = {
  l0Tables: { l0TablesMax: settingRows.l0TablesMax.max },
  l0TablesMax: { l0Tables: settingRows.l0Tables.min },
};

function refusal(overrides: Readonly<Record<string, unknown>>): string {
  try {
    tunablesFrom(overrides);
    return 'taken';
  } catch (error) {
    if (!(error instanceof KvError)) throw error;
    return `${error.code} ${String(error.fields['field'])}: ${String(error.fields['detail'])}`;
  }
}

describe('settings', () => {
  for (const name of settingNames) {
    const { min, max, what, default: byDefault } = settingRows[name];
    it(`settings: ${name} is taken at both ends of its range and refused beyond them`, () => {
      expect(byDefault).to.be.within(min, max);
      expect(what).to.match(/^[A-Z].*\.$/);
      expect(tunablesFrom({ ...companions[name], [name]: min })[name]).to.equal(min);
      expect(tunablesFrom({ ...companions[name], [name]: max })[name]).to.equal(max);
      const expected = `BAD_REQUEST ${name}: setting ${name}: expected a whole number from ${min} to ${max}`;
      for (const bad of [min - 1, max + 1, min + 0.5, Number.NaN, String(min), null, true])
        expect(refusal({ [name]: bad }), String(bad)).to.equal(expected);
    });
  }

  it('settings: an override leaves the others at their defaults', () => {
    const changed = tunablesFrom({ virtualNodes: 16, deadPhi: 9 });
    expect(changed).to.deep.equal({ ...defaultTunables(), virtualNodes: 16, deadPhi: 9 });
    expect(tunablesFrom({})).to.deep.equal(defaultTunables());
  });

  for (const name of ['virtualNode', 'VirtualNodes', 'constructor', 'toString'])
    it(`settings: an unknown name is refused (name=${name})`, () => {
      expect(refusal({ [name]: 1 })).to.equal(`BAD_REQUEST ${name}: unknown setting ${name}`);
    });

  it('settings: nobody is dead before being suspected', () => {
    const { suspectPhi, deadPhi, suspectAfterMs, deadAfterMs } = defaultTunables();
    expect(suspectPhi).to.be.below(deadPhi);
    expect(suspectAfterMs).to.be.below(deadAfterMs);
  });

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
