// The list of labels that a long campaign must reach is that of the source (SIM-9).

import { expect } from 'chai';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { declaredLabels, unreached } from '../../sim/labels.ts';
import { crashLabels } from '../../sim/schedule.ts';

function labelsIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .flatMap((name) => [
      ...readFileSync(join(folder, name), 'utf8').matchAll(/probe\.reach\(\s*'([^']+)'/g),
    ])
    .map((match) => match[1] as string);
}

describe('sim labels', () => {
  const inSource = [...new Set(labelsIn('actors'))].sort();

  it('labels: each label of an actor is declared in sim/labels.ts, and each declared one is marked', () => {
    const declared = declaredLabels.filter((label) => !label.startsWith('sim: '));
    expect([...declared].sort()).to.deep.equal(inSource);
  });

  it('labels: targeted crashes wait for labels that exist', () => {
    for (const label of crashLabels) expect(inSource).to.include(label);
  });

  it('labels: what was not reached is named, in order', () => {
    const all = new Map(declaredLabels.map((label) => [label, 1]));
    expect(unreached(all)).to.deep.equal([]);
    all.delete('torn tail cut');
    all.delete('append cut back');
    expect(unreached(all)).to.deep.equal(['append cut back', 'torn tail cut']);
  });
});
