// Records as bytes: what is encoded comes back, damage is refused, and the order of writes is total.

import { expect } from 'chai';
import fc from 'fast-check';
import { compareBytes, utf8 } from '../../runtime/bytes.ts';
import {
  checkRecord,
  compareEtags,
  compareRecords,
  decodeRecord,
  encodeRecord,
  equalEtags,
  formatEtag,
  isLive,
  keyBytesMax,
  namespaceBytes,
  namespaceOf,
  noEtag,
  recordEtag,
  type RecordFields,
  recordHash,
  recordHeaderBytes,
  recordKey,
  recordLengthAt,
  recordToken,
  recordValue,
  recordValueLength,
  recordVersion,
  storageKey,
  userKey,
  valueBytesHardMax,
} from '../../actors/model/record.ts';
import { codeThrownBy } from '../kit.ts';
import { hexOf, makeRecord, writesOfOneKey } from '../kit-replication.ts';

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const u53 = fc.maxSafeNat();
const fields: fc.Arbitrary<RecordFields> = fc.record({
  key: fc.uint8Array({ minLength: namespaceBytes + 1, maxLength: 60 }),
  value: fc.uint8Array({ maxLength: 300 }),
  valueType: fc.constantFrom(0, 1),
  isTombstone: fc.boolean(),
  isSerial: fc.boolean(),
  isSet: fc.boolean(),
  hlc: u53,
  writer: u32,
  incarnation: u32,
  version: u53,
  expiresAt: u53,
  token: u32,
  hash: u32,
});

/** A record with single bytes overwritten. */
function patched(record: Uint8Array, changes: Readonly<Record<number, number>>): Uint8Array {
  const copy = record.slice();
  for (const [at, byte] of Object.entries(changes)) copy[Number(at)] = byte;
  return copy;
}

/** Why a record is refused, or 'taken'. */
function verdict(record: Uint8Array): string {
  try {
    checkRecord(record);
    return 'taken';
  } catch (error) {
    return (error as Error).message.replace('BAD_REQUEST: bad record: ', '');
  }
}

describe('record', () => {
  it('record: every field comes back from the bytes', () => {
    fc.assert(
      fc.property(fields, (given) => {
        const record = encodeRecord(given);
        expect(decodeRecord(record)).to.deep.equal(given);
        expect(record.length).to.equal(recordHeaderBytes + given.key.length + given.value.length);
        expect(recordLengthAt(record, 0)).to.equal(record.length);
      }),
    );
  });

  it('record: every byte is written, whatever was there before', () => {
    fc.assert(
      fc.property(fields, (drawn) => {
        const used = encodeRecord(drawn, (length) => new Uint8Array(length).fill(0xaa));
        expect(used).to.deep.equal(encodeRecord(drawn));
      }),
    );
  });

  it('record: the layout is what the header says, byte for byte', () => {
    const record = encodeRecord({
      key: Uint8Array.of(0, 0, 0, 9, 0x6b),
      value: Uint8Array.of(0xaa, 0xbb),
      valueType: 1,
      isTombstone: false,
      hlc: 0x1f_0403_0201_0000,
      writer: 0x0807_0605,
      incarnation: 0x0c0b_0a09,
      version: 0x0d,
      expiresAt: 0x1_0000_000e,
      token: 0x1211_100f,
      hash: 0x1615_1413,
    });
    expect(hexOf(record)).to.equal(
      [
        '0500',
        '00',
        '01',
        '02000000',
        '0000010203041f00',
        '05060708',
        '090a0b0c',
        '0d00000000000000',
        '0e00000001000000',
        '0f101112',
        '13141516',
        '00000009',
        '6b',
        'aabb',
      ].join(''),
    );
  });

  it('record: single fields are read from a view into a larger buffer', () => {
    const inner = makeRecord('k', { value: 'v', version: 5, namespace: 0xffff_fffe });
    const outer = new Uint8Array(inner.length + 20).fill(0xee);
    outer.set(inner, 10);
    expect(recordLengthAt(outer, 10)).to.equal(inner.length);
    const view = outer.subarray(10, 10 + inner.length);
    expect(recordVersion(view)).to.equal(5);
    expect(namespaceOf(recordKey(view))).to.equal(0xffff_fffe);
    expect(utf8.decode(userKey(recordKey(view)))).to.equal('k');
    expect(utf8.decode(recordValue(view))).to.equal('v');
    expect(recordValueLength(view)).to.equal(1);
    expect(recordToken(view)).to.equal(recordHash(view));
  });

  it('record: storage keys sort by namespace, then by key', () => {
    const key = fc.tuple(u32, fc.uint8Array({ minLength: 1, maxLength: 4 }));
    fc.assert(
      fc.property(key, key, ([namespaceA, a], [namespaceB, b]) => {
        const expected = namespaceA - namespaceB || compareBytes(a, b);
        const found = compareBytes(storageKey(namespaceA, a), storageKey(namespaceB, b));
        expect(Math.sign(found)).to.equal(Math.sign(expected));
      }),
    );
  });

  it('record: bytes of every wrong length are refused', () => {
    const record = makeRecord('key', { value: 'value' });
    expect(verdict(record)).to.equal('taken');
    for (let length = 0; length < record.length; length += 1)
      expect(verdict(record.slice(0, length)), `length=${length}`).to.equal(
        length < recordHeaderBytes ? 'shorter than its header' : 'lengths do not add up',
      );
    const longer = new Uint8Array(record.length + 1);
    longer.set(record);
    expect(verdict(longer)).to.equal('lengths do not add up');
    expect(codeThrownBy(() => checkRecord(longer))).to.equal('BAD_REQUEST');
    expect(codeThrownBy(() => decodeRecord(longer))).to.equal('BAD_REQUEST');
  });

  it('record: flags and value types that nobody knows are refused', () => {
    const record = makeRecord('key');
    for (let flags = 0; flags < 256; flags += 1)
      expect(verdict(patched(record, { 2: flags }))).to.equal(flags < 8 ? 'taken' : 'unknown flag');
    for (let type = 0; type < 256; type += 1)
      expect(verdict(patched(record, { 3: type }))).to.equal(
        type < 2 ? 'taken' : 'unknown value type',
      );
  });

  it('record: integers of 2^53 and above are refused (fields=hlc, version, expiresAt)', () => {
    const record = makeRecord('key');
    for (const at of [8, 24, 32]) {
      const full = { [at]: 255, [at + 1]: 255, [at + 2]: 255, [at + 3]: 255, [at + 4]: 255 };
      const highest = { ...full, [at + 5]: 255, [at + 6]: 0x1f, [at + 7]: 0 };
      expect(verdict(patched(record, highest)), `at=${at}`).to.equal('taken');
      const above = { [at + 6]: 0x20, [at + 7]: 0 };
      expect(verdict(patched(record, above)), `at=${at}`).to.equal('integer above 2^53');
      expect(verdict(patched(record, { [at + 7]: 1 }))).to.equal('integer above 2^53');
    }
  });

  it('record: keys of 0 and 1,025 bytes and values above 16 MiB are refused', () => {
    const base = decodeRecord(makeRecord('key'));
    const withKey = (length: number): Uint8Array =>
      encodeRecord({ ...base, key: new Uint8Array(namespaceBytes + length) });
    expect(verdict(withKey(0))).to.equal('key is empty');
    expect(verdict(withKey(1))).to.equal('taken');
    expect(verdict(withKey(keyBytesMax))).to.equal('taken');
    expect(verdict(withKey(keyBytesMax + 1))).to.equal('key too long');
    const withValue = (length: number): Uint8Array =>
      encodeRecord({ ...base, value: new Uint8Array(length) });
    expect(verdict(withValue(valueBytesHardMax))).to.equal('taken');
    expect(verdict(withValue(valueBytesHardMax + 1))).to.equal('value too long');
  });

  it('record: random bytes are refused or decode to what encodes to them again', () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 80 }),
      fc
        .tuple(fields, fc.nat(), fc.nat(255))
        .map(([given, at, byte]) => patched(encodeRecord(given), { [at % 48]: byte })),
    );
    fc.assert(
      fc.property(bytes, (candidate) => {
        if (verdict(candidate) !== 'taken') return;
        expect(hexOf(encodeRecord(decodeRecord(candidate)))).to.equal(hexOf(candidate));
      }),
    );
  });

  it('record: it lives up to the last millisecond before its expiry (TTL-2)', () => {
    const expiring = makeRecord('key', { expiresAt: 5_000 });
    expect(isLive(expiring, 4_999)).to.equal(true);
    expect(isLive(expiring, 5_000)).to.equal(false);
    expect(isLive(makeRecord('key'), Number.MAX_SAFE_INTEGER)).to.equal(true);
    expect(isLive(makeRecord('key', { isTombstone: true }), 0)).to.equal(false);
    expect(isLive(makeRecord('key', { isTombstone: true, expiresAt: 5_000 }), 1)).to.equal(false);
  });
});

describe('record: the order of writes (HLC-1)', () => {
  const older = { hlc: 10, writer: 5, incarnation: 5, expiresAt: 50, value: 'm' };

  for (const [rule, newer] of [
    ['a higher hlc', { ...older, hlc: 11, writer: 0, incarnation: 0, expiresAt: 0, value: '' }],
    ['then a higher writer', { ...older, writer: 6, incarnation: 0, expiresAt: 0, value: '' }],
    ['then a higher incarnation', { ...older, incarnation: 6, expiresAt: 0, value: '' }],
    ['then a tombstone', { ...older, isTombstone: true, expiresAt: 0 }],
    ['then a later expiry', { ...older, expiresAt: 51, value: '' }],
    ['then a larger value', { ...older, value: 'n' }],
  ] as const)
    it(`record: ${rule} wins`, () => {
      expect(compareRecords(makeRecord('k', newer), makeRecord('k', older))).to.be.above(0);
      expect(compareRecords(makeRecord('k', older), makeRecord('k', newer))).to.be.below(0);
    });

  it('record: with equal stamps expiring wins over not expiring', () => {
    const never = makeRecord('k', { ...older, expiresAt: 0 });
    expect(compareRecords(makeRecord('k', older), never)).to.be.above(0);
  });

  it('record: the order is total: antisymmetric, transitive, zero for equal bytes only', () => {
    fc.assert(
      fc.property(writesOfOneKey, writesOfOneKey, writesOfOneKey, (a, b, c) => {
        expect(Math.sign(compareRecords(a, b))).to.equal(-Math.sign(compareRecords(b, a)) || 0);
        expect(compareRecords(a, b) === 0).to.equal(hexOf(a) === hexOf(b));
        const [low, middle, high] = [a, b, c].sort(compareRecords) as [
          Uint8Array,
          Uint8Array,
          Uint8Array,
        ];
        expect(compareRecords(low, middle)).to.be.at.most(0);
        expect(compareRecords(middle, high)).to.be.at.most(0);
        expect(compareRecords(low, high)).to.be.at.most(0);
      }),
      { numRuns: 500 },
    );
  });

  it('record: etags order as the records do, and name the write', () => {
    fc.assert(
      fc.property(writesOfOneKey, writesOfOneKey, (a, b) => {
        const byEtag = compareEtags(recordEtag(a), recordEtag(b));
        expect(equalEtags(recordEtag(a), recordEtag(b))).to.equal(byEtag === 0);
        if (byEtag !== 0) expect(Math.sign(compareRecords(a, b))).to.equal(Math.sign(byEtag));
        expect(formatEtag(recordEtag(a)) === formatEtag(recordEtag(b))).to.equal(byEtag === 0);
        expect(compareEtags(recordEtag(a), noEtag)).to.be.above(0);
      }),
    );
    expect(formatEtag({ hlc: 1_700_000_000_000_000, writer: 35, incarnation: 36 })).to.equal(
      'gqll7vatq8-z-10',
    );
  });
});
