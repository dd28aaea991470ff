// The filter never denies what was added, and lets about one in a hundred others through.

import { expect } from 'chai';
import fc from 'fast-check';
import { BloomFilter } from '../../actors/storage/bloom-filter.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { fingerprint32 } from '../../runtime/hash.ts';
import { codeThrownBy } from '../kit.ts';

const hashOf = (n: number): number => fingerprint32(utf8.encode(`key:${n}`));

function filterOf(keys: number): BloomFilter {
  const filter = BloomFilter.create(keys);
  for (let n = 0; n < keys; n += 1) filter.add(hashOf(n));
  return filter;
}

describe('bloom-filter', () => {
  it('bloom-filter: holds every key that was added, also after encoding (any hashes)', () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 0xffff_ffff }), { maxLength: 200 }), (hashes) => {
        const filter = BloomFilter.create(hashes.length);
        for (const hash of hashes) filter.add(hash);
        const decoded = BloomFilter.decode(filter.encode());
        for (const hash of hashes) {
          expect(filter.mayHold(hash)).to.equal(true);
          expect(decoded.mayHold(hash)).to.equal(true);
        }
      }),
    );
  });

  for (const keys of [1_000, 100_000])
    it(`bloom-filter: 0.5 to 1.5 % of other keys pass (keys=${keys}, others=100000)`, () => {
      const filter = filterOf(keys);
      let passed = 0;
      for (let n = keys; n < keys + 100_000; n += 1) if (filter.mayHold(hashOf(n))) passed += 1;
      expect(passed).to.be.within(500, 1500);
    });

  it('bloom-filter: takes 10 bits for a key, in whole lines', () => {
    expect(BloomFilter.create(512_000).encode().length).to.equal(8 + (512_000 * 10) / 8);
    expect(BloomFilter.create(0).encode().length).to.equal(8 + 64);
  });

  it('bloom-filter: an empty filter denies all', () => {
    const filter = BloomFilter.create(100);
    for (let n = 0; n < 1000; n += 1) expect(filter.mayHold(hashOf(n))).to.equal(false);
  });

  it('bloom-filter: bytes that are no filter are refused', () => {
    const bytes = filterOf(100).encode();
    const damaged: Uint8Array[] = [
      bytes.subarray(0, bytes.length - 1),
      bytes.subarray(0, 7),
      bytes.with(0, 9),
      bytes.with(2, 0),
      bytes.with(4, 0),
      bytes.with(7, 0xff),
    ];
    for (const wrong of damaged)
      expect(codeThrownBy(() => BloomFilter.decode(wrong))).to.equal('BAD_REQUEST');
  });
});
