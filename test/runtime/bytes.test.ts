// Byte tools: what is written is read back, cut input is refused, orders agree with a naive model.

import { expect } from 'chai';
import fc from 'fast-check';
import {
  base64url,
  ByteReader,
  ByteWriter,
  compareBytes,
  concatBytes,
  crc32,
  equalBytes,
  prefixEnd,
  startsWith,
  utf8,
} from '../../runtime/bytes.ts';
import { codeThrownBy } from '../kit.ts';

const bytes = fc.uint8Array({ maxLength: 40 });
const u53 = fc.maxSafeNat();

describe('bytes', () => {
  it('bytes: every field reads back as it was written', () => {
    const fields = fc.record({
      u8: fc.nat(0xff),
      u16: fc.nat(0xffff),
      u32: fc.nat({ max: 0xffff_ffff }),
      u53,
      f64: fc.double(),
      varint: u53,
      bytes,
      text: fc.string({ unit: 'grapheme' }),
    });
    fc.assert(
      fc.property(fields, (value) => {
        const writer = new ByteWriter(1);
        writer.u8(value.u8);
        writer.u16(value.u16);
        writer.u32(value.u32);
        writer.u53(value.u53);
        writer.f64(value.f64);
        writer.varint(value.varint);
        writer.bytes(value.bytes);
        writer.text(value.text);
        const reader = new ByteReader(writer.copy());
        const back = {
          u8: reader.u8(),
          u16: reader.u16(),
          u32: reader.u32(),
          u53: reader.u53(),
          f64: reader.f64(),
          varint: reader.varint(),
          bytes: reader.bytes(),
          text: reader.text(),
        };
        expect(back).to.deep.equal(value);
        expect(reader.left).to.equal(0);
      }),
    );
  });

  it('bytes: input cut anywhere is BAD_REQUEST, never a crash', () => {
    const writer = new ByteWriter();
    writer.u53(Number.MAX_SAFE_INTEGER);
    writer.varint(300);
    writer.text('words');
    writer.bytes(new Uint8Array(5));
    const whole = writer.copy();
    for (let length = 0; length < whole.length; length += 1) {
      const reader = new ByteReader(whole.subarray(0, length));
      const code = codeThrownBy(() => {
        reader.u53();
        reader.varint();
        reader.text();
        reader.bytes();
      });
      expect(code, `cut at ${length}`).to.equal('BAD_REQUEST');
    }
  });

  it('bytes: a varint of more than eight bytes is refused', () => {
    const reader = new ByteReader(new Uint8Array(9).fill(0x80));
    expect(codeThrownBy(() => reader.varint())).to.equal('BAD_REQUEST');
  });

  it('bytes: a length that claims more than is there is refused before it allocates', () => {
    const writer = new ByteWriter();
    writer.u32(0xffff_ffff);
    expect(codeThrownBy(() => new ByteReader(writer.copy()).bytes())).to.equal('BAD_REQUEST');
  });

  it('bytes: the order is that of Buffer.compare', () => {
    fc.assert(
      fc.property(bytes, bytes, (a, b) => {
        expect(Math.sign(compareBytes(a, b))).to.equal(Buffer.compare(a, b));
        expect(equalBytes(a, b)).to.equal(Buffer.compare(a, b) === 0);
      }),
    );
  });

  it('bytes: prefixEnd bounds exactly the keys with that prefix', () => {
    const low = fc.uint8Array({ maxLength: 3, min: 0xfe });
    fc.assert(
      fc.property(low, low, (prefix, key) => {
        const end = prefixEnd(prefix);
        const isWithin =
          compareBytes(key, prefix) >= 0 && (end === undefined || compareBytes(key, end) < 0);
        expect(isWithin).to.equal(startsWith(key, prefix));
      }),
    );
  });

  it('bytes: base64url is that of Buffer, and refuses what is none', () => {
    fc.assert(
      fc.property(bytes, (value) => {
        const text = Buffer.from(value).toString('base64url');
        expect(base64url.encode(value)).to.equal(text);
        expect(base64url.decode(text)).to.deep.equal(value);
      }),
    );
    for (const text of ['a', 'a=', 'a+b/', 'aaaa ', 'é'])
      expect(base64url.decode(text), text).to.equal(undefined);
  });

  it('bytes: UTF-8 is strict for data and lossy for people', () => {
    const broken = new Uint8Array([0x61, 0xff]);
    expect(utf8.decodeStrict(broken)).to.equal(undefined);
    expect(utf8.decode(broken)).to.equal('a\ufffd');
    expect(utf8.decodeStrict(utf8.encode('\ufeffä€😀'))).to.equal('\ufeffä€😀');
  });

  it('bytes: the checksum is CRC-32 and continues over parts', () => {
    expect(crc32(utf8.encode('123456789'))).to.equal(0xcbf43926);
    fc.assert(
      fc.property(bytes, bytes, (a, b) => {
        expect(crc32(b, crc32(a))).to.equal(crc32(concatBytes([a, b])));
      }),
    );
  });
});
