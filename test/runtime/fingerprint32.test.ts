// The fingerprint in TypeScript is the native one.

import { expect } from 'chai';
import fc from 'fast-check';
import { fingerprint32Pure, fingerprint32PureText } from '../../runtime/fingerprint32.ts';
import { fingerprint32, fingerprint32Text } from '../../runtime/hash.ts';

describe('fingerprint32', () => {
  it('fingerprint32: equals the native one for bytes of every length up to 300', () => {
    for (let length = 0; length <= 300; length += 1) {
      const bytes = Uint8Array.from({ length }, (_, i) => (i * 151 + length * 7) & 0xff);
      expect(fingerprint32Pure(bytes), `length ${length}`).to.equal(fingerprint32(bytes));
    }
  });

  it('fingerprint32: equals the native one for any bytes and any text', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), (bytes) => {
        expect(fingerprint32Pure(bytes)).to.equal(fingerprint32(bytes));
      }),
    );
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 100 }), (text) => {
        expect(fingerprint32PureText(text)).to.equal(fingerprint32Text(text));
      }),
    );
  });
});
