// Consistency levels: the words, and how many answers each one needs.

import { expect } from 'chai';
import { parseLevel, quorumOf, requiredAcks } from '../../actors/model/consistency.ts';
import { codeThrownBy } from '../kit.ts';

const served = [
  'ANY',
  'ONE',
  'TWO',
  'THREE',
  'QUORUM',
  'LOCAL_ONE',
  'LOCAL_QUORUM',
  'EACH_QUORUM',
  'ALL',
  'SESSION',
  'SERIAL',
  'LOCAL_SERIAL',
] as const;

describe('consistency', () => {
  it('consistency: the served words are taken in any case, with space around them', () => {
    for (const word of served) {
      expect(parseLevel(word)).to.equal(word);
      expect(parseLevel(` ${word.toLowerCase()} `)).to.equal(word);
    }
    expect(parseLevel('eventual')).to.equal('ONE');
    expect(parseLevel('Strong')).to.equal('ALL');
  });

  for (const word of ['', 'MAYBE', 'QUORUM2', 'constructor', '__proto__', 'ALL,ONE'])
    it(`consistency: any other word is refused (word=${word})`, () => {
      expect(codeThrownBy(() => parseLevel(word))).to.equal('BAD_REQUEST');
    });

  it('consistency: a quorum is more than half, so that two of them meet', () => {
    expect([1, 2, 3, 4, 5, 9].map(quorumOf)).to.deep.equal([1, 2, 2, 3, 3, 5]);
    for (let replicas = 1; replicas <= 9; replicas += 1)
      expect(2 * requiredAcks('QUORUM', replicas)).to.be.above(replicas);
  });

  it('consistency: the answers needed of three replicas', () => {
    const needed = served.map((level) => requiredAcks(level, 3));
    expect(needed).to.deep.equal([1, 1, 2, 3, 2, 1, 2, 2, 3, 1, 2, 2]);
    expect(requiredAcks('ALL', 1)).to.equal(1);
    // More than there are: never met, and so UNAVAILABLE before anything is sent.
    expect(requiredAcks('THREE', 2)).to.equal(3);
  });
});
