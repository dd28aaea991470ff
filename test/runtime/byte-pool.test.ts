// Arrays from one pool never share a byte, whatever their lengths.

import { expect } from 'chai';
import fc from 'fast-check';
import { BytePool } from '../../runtime/byte-pool.ts';

describe('byte pool', () => {
  it('byte pool: every array has its length, zeros, and bytes of its own', () => {
    const lengths = fc.array(fc.oneof(fc.nat({ max: 3_000 }), fc.nat({ max: 64 })), {
      maxLength: 200,
    });
    fc.assert(
      fc.property(lengths, (drawn) => {
        const pool = new BytePool();
        const taken = drawn.map((length, n) => {
          const bytes = pool.take(length);
          expect(bytes).to.have.length(length);
          expect(bytes.every((byte) => byte === 0)).to.equal(true);
          return bytes.fill(n + 1);
        });
        taken.forEach((bytes, n) => {
          expect(bytes.every((byte) => byte === ((n + 1) & 0xff))).to.equal(true);
        });
      }),
    );
  });

  it('byte pool: a copy is equal and does not follow its source', () => {
    const pool = new BytePool();
    const source = Uint8Array.of(1, 2, 3);
    const copy = pool.copy(source);
    source.fill(9);
    expect(copy).to.deep.equal(Uint8Array.of(1, 2, 3));
  });
});
