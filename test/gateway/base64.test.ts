// base64 against Node's own, for bytes in JSON.

import { expect } from 'chai';
import fc from 'fast-check';
import { decodeBase64, encodeBase64 } from '../../actors/gateway/base64.ts';
import { utf8 } from '../../runtime/bytes.ts';

describe('base64', () => {
  it('base64: texts are those of Node and decode to the same bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const text = encodeBase64(bytes);
        expect(utf8.decode(text)).to.equal(Buffer.from(bytes).toString('base64'));
        expect([...(decodeBase64(text) ?? [])]).to.deep.equal([...bytes]);
      }),
    );
  });

  it('base64: only the one canonical form of some bytes is accepted', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom(...'AQgw/+=09z-_ '.split('')), maxLength: 9 }),
        (text) => {
          const isCanonical = Buffer.from(text, 'base64').toString('base64') === text;
          expect(decodeBase64(utf8.encode(text)) !== undefined, text).to.equal(isCanonical);
        },
      ),
      { numRuns: 5000 },
    );
  });
});
