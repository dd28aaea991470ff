// Zstandard by its WebAssembly module: what is packed comes back, the module has the bytes of others,
// and hostile frames neither get through nor break the next call.

import { expect } from 'chai';
import fc from 'fast-check';
import { createCodecs } from '../../runtime/block-codecs.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { BugError, KvError } from '../../runtime/errors.ts';
import { loadCodecModules } from '../../runtime/host/codec-modules.ts';
import { Prng } from '../../runtime/prng.ts';
import { zstdBytesMax } from '../../runtime/zstd.ts';
import { hexOf } from './records-under-test.ts';

const { zstd } = createCodecs(loadCodecModules());

function codeThrownBy(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof KvError) return error.code;
    throw error;
  }
  return 'nothing';
}

const fromHex = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'));

describe('zstd', () => {
  it('zstd: what is compressed comes back (any bytes)', () => {
    const property = fc.property(fc.uint8Array({ maxLength: 5000 }), (bytes) => {
      const block = zstd.compress(bytes).slice();
      expect(hexOf(zstd.decompress(block, bytes.length))).to.equal(hexOf(bytes));
    });
    fc.assert(property, { numRuns: 200 });
  });

  // Frames by hand after RFC 8878: magic, descriptor 0x20 (one segment), length, then one last block:
  // three raw bytes, and a byte that repeats five times.
  for (const [hex, text] of [
    ['28b52ffd2003190000616263', 'abc'],
    ['28b52ffd20052b000078', 'xxxxx'],
  ] as const)
    it(`zstd: the frame ${hex} is ${text}`, () => {
      expect(utf8.decode(zstd.decompress(fromHex(hex), text.length))).to.equal(text);
    });

  it('zstd: a length that is not the content is CORRUPT', () => {
    const block = zstd.compress(utf8.encode('x'.repeat(1000))).slice();
    for (const length of [0, 1, 999, 1001, 4000])
      expect(
        codeThrownBy(() => zstd.decompress(block, length)),
        String(length),
      ).to.equal('CORRUPT');
    expect(zstd.decompress(block, 1000).length).to.equal(1000);
  });

  it('zstd: lengths beyond every bound are CORRUPT before memory is taken', () => {
    const block = zstd.compress(utf8.encode('text')).slice();
    for (const length of [-1, 0.5, NaN, zstdBytesMax + 1, 2 ** 32])
      expect(
        codeThrownBy(() => zstd.decompress(block, length)),
        String(length),
      ).to.equal('CORRUPT');
    expect(codeThrownBy(() => zstd.decompress(new Uint8Array(10_000), 10))).to.equal('CORRUPT');
  });

  it('zstd: hostile blocks give CORRUPT or bytes of the asked length, and the next call is right', () => {
    const random = new Prng(9);
    const content = utf8.encode('some text that compresses, some text that does not '.repeat(20));
    const block = zstd.compress(content).slice();
    let refused = 0;
    for (let i = 0; i < 2000; i += 1) {
      const hostile = block.slice(0, i % 3 === 0 ? random.int(block.length) : block.length);
      for (let flips = 0; flips < 1 + (i % 4); flips += 1)
        if (hostile.length > 0) hostile[random.int(hostile.length)] = random.int(256);
      try {
        expect(zstd.decompress(hostile, content.length).length).to.equal(content.length);
      } catch (error) {
        expect(error).to.include({ code: 'CORRUPT' });
        refused += 1;
      }
    }
    expect(refused).to.be.above(500);
    expect(hexOf(zstd.decompress(block, content.length))).to.equal(hexOf(content));
  });

  it('zstd: a large block is followed by small ones (16 MiB, then 16 KiB)', () => {
    const large = new Uint8Array(16 << 20).map((_, i) => (i >>> 7) & 255);
    const block = zstd.compress(large).slice();
    expect(block.length).to.be.below(large.length / 10);
    expect(Buffer.compare(zstd.decompress(block, large.length), large)).to.equal(0);
    const small = new Prng(4).bytes(16 << 10);
    expect(hexOf(zstd.decompress(zstd.compress(small).slice(), small.length))).to.equal(
      hexOf(small),
    );
  });

  it('zstd: an input beyond the bound is a defect of the caller', () => {
    expect(() => zstd.compress(new Uint8Array(zstdBytesMax + 1))).to.throw(BugError, 'too long');
  });
});
