// LZ4 blocks: what is compressed comes back, known blocks decode to known bytes, and hostile blocks
// end in CORRUPT without taking memory or the next call with them.

import { expect } from 'chai';
import fc from 'fast-check';
import { utf8 } from '../../runtime/bytes.ts';
import { BugError } from '../../runtime/errors.ts';
import { loadLz4Module } from '../../runtime/host/lz4-module.ts';
import { createLz4, lz4BytesMax } from '../../runtime/lz4.ts';
import { Prng } from '../../runtime/prng.ts';
import { codeThrownBy } from '../kit.ts';
import { hexOf } from './records-under-test.ts';

const lz4 = createLz4(loadLz4Module());
const fromHex = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'));

/** A tokens-and-copies decoder after the format's document: the judge of what compress made. */
function decodeNaively(block: Uint8Array): Uint8Array {
  const out: number[] = [];
  let at = 0;
  const more = (nibble: number): number => {
    let length = nibble;
    for (let byte = nibble === 15 ? 255 : 0; byte === 255; ) {
      byte = block[at++] as number;
      length += byte;
    }
    return length;
  };
  while (at < block.length) {
    const token = block[at++] as number;
    for (let left = more(token >> 4); left > 0; left -= 1) out.push(block[at++] as number);
    if (at >= block.length) break;
    const offset = (block[at++] as number) | ((block[at++] as number) << 8);
    for (let left = more(token & 15) + 4; left > 0; left -= 1)
      out.push(out[out.length - offset] as number);
  }
  return new Uint8Array(out);
}

const inputs = fc.oneof(
  fc.uint8Array({ maxLength: 2000 }),
  fc.uint8Array({ maxLength: 3000, max: 1 }),
  fc.tuple(fc.string({ maxLength: 20 }), fc.nat(300)).map(([s, n]) => utf8.encode(s.repeat(n))),
);

describe('lz4', () => {
  it('lz4: what is compressed comes back, also by another decoder (any bytes)', () => {
    fc.assert(
      fc.property(inputs, (bytes) => {
        const block = lz4.compress(bytes).slice();
        expect(hexOf(lz4.decompress(block, bytes.length))).to.equal(hexOf(bytes));
        expect(hexOf(decodeNaively(block))).to.equal(hexOf(bytes));
      }),
    );
  });

  for (const [hex, text] of [
    ['10' + '61', 'a'],
    // One literal, then a copy of 10 bytes from one byte before, then five literals.
    ['16' + '61' + '0100' + '50' + '6161616161', 'a'.repeat(16)],
    ['60' + '616263646566', 'abcdef'],
    // Four literals, a copy that overlaps itself, the last five literals.
    ['48' + '61626364' + '0400' + '50' + '6162636465', 'abcd'.repeat(4) + 'abcde'],
  ] as const)
    it(`lz4: the block ${hex} is ${text.length} bytes`, () => {
      expect(utf8.decode(lz4.decompress(fromHex(hex), text.length))).to.equal(text);
    });

  it('lz4: a length that is not the content is CORRUPT', () => {
    const block = lz4.compress(utf8.encode('x'.repeat(1000))).slice();
    for (const length of [0, 1, 999, 1001, 20_000])
      expect(
        codeThrownBy(() => lz4.decompress(block, length)),
        String(length),
      ).to.equal('CORRUPT');
    expect(lz4.decompress(block, 1000).length).to.equal(1000);
  });

  it('lz4: lengths beyond every bound are CORRUPT before memory is taken', () => {
    const block = fromHex('1061');
    for (const length of [lz4BytesMax + 1, 2 ** 31, 2 ** 32 + 1, -1, 1.5, NaN])
      expect(
        codeThrownBy(() => lz4.decompress(block, length)),
        String(length),
      ).to.equal('CORRUPT');
    const long = new Uint8Array(1000);
    expect(codeThrownBy(() => lz4.decompress(long, 10))).to.equal('CORRUPT');
  });

  it('lz4: hostile blocks give CORRUPT or bytes of the asked length, and the next call is right', () => {
    const random = new Prng(3);
    const content = utf8.encode('{"name":"some value","count":12345}'.repeat(40));
    const block = lz4.compress(content).slice();
    for (let n = 0; n < 3000; n += 1) {
      const hostile = n % 2 === 0 ? block.slice() : random.bytes(1 + random.int(200));
      for (let flips = 1 + random.int(4); flips > 0; flips -= 1) {
        const at = random.int(hostile.length);
        hostile[at] = (hostile[at] as number) ^ (1 << random.int(8));
      }
      try {
        expect(lz4.decompress(hostile, content.length).length).to.equal(content.length);
      } catch (error) {
        expect((error as { code: string }).code).to.equal('CORRUPT');
      }
    }
    expect(hexOf(lz4.decompress(block, content.length))).to.equal(hexOf(content));
  });

  it('lz4: a large block is followed by small ones (16 MiB, then 16 KiB)', () => {
    const large = new Uint8Array(16 << 20);
    new Prng(1).bytes(1 << 20).forEach((byte, i) => {
      large[i * 16] = byte;
    });
    const block = lz4.compress(large).slice();
    expect(Buffer.compare(lz4.decompress(block, large.length), large)).to.equal(0);
    const small = new Prng(2).bytes(16 << 10);
    expect(hexOf(lz4.decompress(lz4.compress(small).slice(), small.length))).to.equal(hexOf(small));
  });

  it('lz4: an input beyond the bound is a defect of the caller', () => {
    expect(() => lz4.compress(new Uint8Array(lz4BytesMax + 1))).to.throw(BugError, 'too long');
  });
});
