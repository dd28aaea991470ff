// Sums as INCRBYFLOAT prints them. What is expected is what redis-server 7 answers, where the sum has
// no more digits than its long double holds.

import { expect } from 'chai';
import fc from 'fast-check';
import { sumText } from '../../actors/model/decimal.ts';

describe('decimal', () => {
  // biome-ignore format: a table
  const sums: readonly (readonly [string, number, string])[] = [
    ['0.1', 0.2, '0.3'], ['3.0', 110, '113'], ['10.5', 0.1, '10.6'], ['5.0e3', 200, '5200'],
    ['1e20', 1, '100000000000000000001'], ['1e21', 1, '1000000000000000000001'],
    ['0', 1e-7, '0.0000001'], ['0', 1e-17, '0.00000000000000001'], ['0', 1e-18, '0'],
    ['0', 1.5e-10, '0.00000000015'], ['0.3', -0.3, '0'], ['1', -1, '0'], ['0', -0, '0'],
    ['0', -1e-20, '0'], ['-1.5', 0.25, '-1.25'], ['.5', 0, '0.5'], ['5.', 0, '5'], ['+7', 0, '7'],
    ['0', 3.141592653589793, '3.141592653589793'], ['0', 0.30000000000000004, '0.30000000000000004'],
    ['1.1', 2.2, '3.3'], ['0', 1e17, '100000000000000000'], ['0', -1e-7, '-0.0000001'],
    ['0.000000000000000005', 0, '0.00000000000000001'], ['0.000000000000000004', 0, '0'],
  ];
  for (const [text, delta, sum] of sums)
    it(`decimal: ${text} and ${delta} are ${sum}`, () => {
      expect(sumText(text, delta)).to.equal(sum);
    });

  it('decimal: whatever the numbers, the sum is near that of doubles and has no exponent', () => {
    const number = fc.double({ noNaN: true, noDefaultInfinity: true, min: -1e300, max: 1e300 });
    fc.assert(
      fc.property(number, number, (a, b) => {
        const text = sumText(String(a), b);
        expect(text).to.match(/^-?(0|[1-9]\d*)(\.\d{0,16}[1-9])?$/);
        const bound = 1e-15 * (Math.abs(a) + Math.abs(b)) + 1e-17;
        expect(Math.abs(Number(text) - (a + b))).to.be.at.most(bound);
      }),
    );
  });

  it('decimal: a text of many digits, or with an exponent beyond all, costs no more', () => {
    expect(sumText('9'.repeat(300), 1)).to.equal(`1${'0'.repeat(299)}1`);
    expect(sumText(`0.${'3'.repeat(1_000_000)}`, 1)).to.equal('1.3333333333333333');
    expect(sumText('1e-99999999', 1)).to.equal('1');
  });
});
