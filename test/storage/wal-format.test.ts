// The bytes of a log: headers and records read back, and nothing foreign or damaged does.

import { expect } from 'chai';
import fc from 'fast-check';
import {
  appendWalRecord,
  decodeSegmentHeader,
  decodeWalRecord,
  encodeSegmentHeader,
  segmentChain,
  segmentHeaderSpace,
  segmentName,
  segmentNumberOf,
  splitPayload,
  walPayloadBytesMax,
  walRecordLength,
  walRecordTypes,
} from '../../actors/storage/wal-format.ts';
import { ByteWriter, concatBytes } from '../../runtime/bytes.ts';
import { BugError } from '../../runtime/errors.ts';
import { codeThrownBy } from '../kit.ts';
import { identity } from './log-under-test.ts';
import { hexes, hexOf, makeRecord } from './records-under-test.ts';

const header = {
  kind: 'wal' as const,
  ...identity,
  segmentNumber: 7,
  previousSegmentNumber: 6,
  previousLastLsn: 2 ** 40 + 5,
  previousChain: 0xdead_beef,
};

function encode(changes: Partial<Parameters<typeof appendWalRecord>[1]> = {}): Uint8Array {
  const writer = new ByteWriter(16);
  appendWalRecord(writer, {
    type: walRecordTypes.data,
    lsn: 10,
    durableLsn: 9,
    previousCrc: 0x1234_5678,
    segmentNumber: 7,
    payload: [new Uint8Array([1, 2, 3])],
    ...changes,
  });
  return writer.copy();
}

describe('wal-format', () => {
  it('wal-format: a segment header reads back (any names)', () => {
    const u53 = fc.maxSafeNat();
    const u32 = fc.nat({ max: 0xffff_ffff });
    const headers = fc.record({
      kind: fc.constantFrom('wal' as const, 'manifest' as const),
      clusterName: fc.string({ unit: 'grapheme', maxLength: 60 }),
      node: fc.string({ unit: 'grapheme', maxLength: 60 }),
      incarnation: u53,
      shard: u32,
      segmentNumber: u53,
      previousSegmentNumber: u53,
      previousLastLsn: u53,
      previousChain: u32,
    });
    fc.assert(
      fc.property(headers, (value) => {
        const bytes = encodeSegmentHeader(value);
        expect(bytes.length).to.equal(segmentHeaderSpace);
        expect(decodeSegmentHeader(bytes)).to.deep.equal(value);
      }),
    );
  });

  it('wal-format: no header survives a changed bit (32,768 bits)', () => {
    const bytes = encodeSegmentHeader(header);
    const survivors: number[] = [];
    for (let bit = 0; bit < bytes.length * 8; bit += 1) {
      const byte = bytes[bit >> 3] as number;
      bytes[bit >> 3] = byte ^ (1 << (bit & 7));
      if (decodeSegmentHeader(bytes) !== undefined) survivors.push(bit);
      bytes[bit >> 3] = byte;
    }
    expect(survivors).to.deep.equal([]);
    expect(decodeSegmentHeader(bytes)).to.deep.equal(header);
    expect(decodeSegmentHeader(bytes.subarray(0, segmentHeaderSpace - 1))).to.equal(undefined);
  });

  it('wal-format: a record reads back, is aligned, and has zeros between payload and CRC', () => {
    const u53 = fc.maxSafeNat();
    const property = fc.property(
      fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 3 }),
      fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
      u53,
      fc.nat({ max: 0xffff_ffff }),
      (payload, lsn, durable, previousCrc) => {
        const durableLsn = durable % lsn;
        const segmentNumber = 12;
        const writer = new ByteWriter(8);
        // What was in the writer before must not show in the padding.
        writer.raw(new Uint8Array(300).fill(0xff));
        writer.truncate(8);
        const type = walRecordTypes.data;
        const fields = { type, lsn, durableLsn, previousCrc, segmentNumber, payload };
        const crc = appendWalRecord(writer, fields);
        const bytes = writer.copy();
        const joined = concatBytes(payload);
        expect(bytes.length).to.equal(8 + walRecordLength(joined.length));
        expect(bytes.length % 8).to.equal(0);
        expect(bytes.subarray(36 + joined.length, -4).every((byte) => byte === 0)).to.equal(true);
        expect(decodeWalRecord(bytes, 8, segmentNumber)).to.deep.equal({
          type,
          flags: 0,
          lsn,
          durableLsn,
          previousCrc,
          payload: joined,
          crc,
          end: bytes.length,
        });
      },
    );
    fc.assert(property);
  });

  it('wal-format: bytes of another segment never verify (1,000 segments)', () => {
    const bytes = encode({ segmentNumber: 7 });
    const verified: number[] = [];
    for (let number = 0; number < 1000; number += 1)
      if (decodeWalRecord(bytes, 0, number) !== undefined) verified.push(number);
    expect(verified).to.deep.equal([7]);
  });

  it('wal-format: a record that ends behind the bytes is none (each length)', () => {
    const bytes = encode();
    for (let length = 0; length < bytes.length; length += 1)
      expect(decodeWalRecord(bytes.subarray(0, length), 0, 7), String(length)).to.equal(undefined);
    expect(decodeWalRecord(bytes, 0, 7)?.lsn).to.equal(10);
    expect(decodeWalRecord(bytes, bytes.length, 7)).to.equal(undefined);
  });

  it('wal-format: an implausible length is no record, whatever its CRC', () => {
    for (const length of [walPayloadBytesMax + 1, 0x7fff_ffff, 0xffff_ffff]) {
      const bytes = encode();
      new DataView(bytes.buffer).setUint32(4, length, true);
      expect(decodeWalRecord(bytes, 0, 7)).to.equal(undefined);
    }
    const huge = { length: walPayloadBytesMax + 1 } as Uint8Array;
    expect(() => encode({ payload: [huge] })).to.throw(BugError, 'log record of');
  });

  it('wal-format: no record proves itself durable', () => {
    expect(() => encode({ lsn: 5, durableLsn: 5 })).to.throw(BugError, 'durable');
  });

  it('wal-format: a payload splits into its model records, or is refused', () => {
    const records = [makeRecord('a'), makeRecord('b', { value: '' }), makeRecord('c')];
    const payload = concatBytes(records);
    expect(hexes(splitPayload(payload))).to.deep.equal(hexes(records));
    expect(splitPayload(new Uint8Array(0))).to.deep.equal([]);
    for (let cut = 1; cut < (records[2] as Uint8Array).length; cut += 1) {
      const short = payload.subarray(0, payload.length - cut);
      expect(
        codeThrownBy(() => splitPayload(short)),
        String(cut),
      ).to.equal('BAD_REQUEST');
    }
  });

  it('wal-format: names sort as numbers do', () => {
    expect([10, 9, 1_000].map(segmentName).sort().map(segmentNumberOf)).to.deep.equal([
      9, 10, 1000,
    ]);
    expect(segmentNumberOf('0000000001.sst')).to.equal(undefined);
    expect(segmentNumberOf('1.wal')).to.equal(undefined);
  });

  it('wal-format: the chain starts with the CRC of the header', () => {
    const bytes = encodeSegmentHeader(header);
    expect(hexOf(bytes.subarray(-4))).to.equal(
      segmentChain(bytes).toString(16).padStart(8, '0').match(/../g)?.reverse().join(''),
    );
    const other = encodeSegmentHeader({ ...header, shard: 3 });
    expect(segmentChain(other)).not.to.equal(segmentChain(bytes));
  });
});
