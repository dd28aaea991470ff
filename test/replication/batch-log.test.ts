// The entry of a batch log and when it may be forgotten: a whole entry or none, and no copy of a
// batch is given up before something durable holds it.

import { expect } from 'chai';
import fc from 'fast-check';
import { BatchDelivery } from '../../actors/replication/batch-delivery.ts';
import {
  type BatchEntry,
  batchRecordsMax,
  decodeBatchEntry,
  encodeBatchEntry,
} from '../../actors/replication/batch-log-format.ts';
import { encodeRecord, storageKey } from '../../actors/model/record.ts';
import { hashKey } from '../../actors/model/token.ts';
import { ByteWriter, crc32, utf8 } from '../../runtime/bytes.ts';
import { BugError, CorruptionError } from '../../runtime/errors.ts';

interface Parts {
  readonly key: string;
  readonly value?: Uint8Array;
  readonly hlc?: number;
}

function record({ key, value, hlc = 1_700_000_000_000_001 }: Parts): Uint8Array {
  const stored = storageKey(1, utf8.encode(key));
  const isTombstone = value === undefined;
  return encodeRecord({
    ...hashKey(stored),
    key: stored,
    value: value ?? new Uint8Array(0),
    valueType: 0,
    isTombstone,
    hlc,
    writer: 7,
    incarnation: 3,
    version: 2,
    expiresAt: 0,
  });
}

const bytes = (text: string): Uint8Array => utf8.encode(text);
const hex = (data: Uint8Array): string => Buffer.from(data).toString('hex');
const small: BatchEntry = {
  createdMs: 1_700_000_000_123,
  records: [record({ key: 'a', value: bytes('1') }), record({ key: 'b' })],
};

const entries = fc
  .tuple(
    fc.maxSafeNat(),
    fc.uniqueArray(fc.string({ minLength: 1, maxLength: 20 }), { minLength: 1, maxLength: 12 }),
    fc.array(fc.option(fc.uint8Array({ maxLength: 60 }), { nil: undefined }), {
      minLength: 12,
      maxLength: 12,
    }),
  )
  .map(([createdMs, keys, values]): BatchEntry => {
    const records = keys.map((key, i) => {
      const value = values[i];
      return record(value === undefined ? { key } : { key, value });
    });
    return { createdMs, records };
  });

/** An entry around any records, with a right checksum. */
function forged(count: number, records: readonly Uint8Array[], tail = 0): Uint8Array {
  const body = new ByteWriter();
  body.u53(5);
  body.u32(count);
  for (const each of records) {
    body.u32(each.length);
    body.raw(each);
  }
  body.raw(new Uint8Array(tail));
  const entry = new ByteWriter();
  entry.raw(bytes('KVBL'));
  entry.u32(crc32(body.view()));
  entry.raw(body.view());
  return entry.copy();
}

const decode = (data: Uint8Array): BatchEntry => decodeBatchEntry(data, 'batch-1');

describe('batch-log', () => {
  it('batch-log: an entry comes back as it was written', () => {
    fc.assert(
      fc.property(entries, (entry) => {
        expect(decode(encodeBatchEntry(entry))).to.deep.equal(entry);
      }),
      { numRuns: 200, seed: 1 },
    );
  });

  it('batch-log: an entry is the same bytes on every machine', () => {
    const encoded = encodeBatchEntry(small);
    expect(hex(encoded.subarray(0, 4))).to.equal(hex(bytes('KVBL')));
    expect(hex(encoded.subarray(8, 20))).to.equal('7b68e5cf8b01000002000000');
    const checksum = new DataView(encoded.buffer).getUint32(4, true);
    expect([encoded.length, checksum]).to.deep.equal([135, 0xf73c2867]);
  });

  it('batch-log: every cut of an entry is refused (a crash while it is written)', () => {
    const whole = encodeBatchEntry(small);
    for (let length = 0; length < whole.length; length += 1)
      expect(() => decode(whole.subarray(0, length)), `${length} bytes`).to.throw(CorruptionError);
  });

  it('batch-log: every flipped bit of an entry is noticed', () => {
    const whole = encodeBatchEntry(small);
    for (let bit = 0; bit < whole.length * 8; bit += 1) {
      const damaged = whole.slice();
      damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(() => decode(damaged), `bit ${bit}`).to.throw(CorruptionError);
    }
  });

  const one = record({ key: 'a', value: bytes('1') });
  const hostile: readonly (readonly [string, Uint8Array, string])[] = [
    ['no records', forged(0, []), 'no records'],
    ['a count above the limit', forged(0xffff_ffff, [one]), 'too many records'],
    ['fewer records than it says', forged(2, [one]), 'a record is missing'],
    ['bytes after the last record', forged(1, [one], 1), 'bytes after the last record'],
    ['a key twice', forged(2, [one, record({ key: 'a' })]), 'a key occurs twice'],
    ['two stamps', forged(2, [one, record({ key: 'b', hlc: 9 })]), 'several stamps'],
    ['a record that is none', forged(1, [new Uint8Array(60)]), 'a record is damaged'],
  ];
  for (const [name, data, what] of hostile)
    it(`batch-log: an entry with a right checksum and ${name} is refused`, () => {
      expect(() => decode(data)).to.throw(CorruptionError, what);
    });

  it('batch-log: a length that reaches beyond the entry is refused, nothing is allocated', () => {
    const data = forged(1, [one]);
    new DataView(data.buffer).setUint32(20, 0xffff_fff0, true);
    new DataView(data.buffer).setUint32(4, crc32(data.subarray(8)), true);
    expect(() => decode(data)).to.throw(CorruptionError, 'a length makes no sense');
  });

  it(`batch-log: BL-1: ${batchRecordsMax} records fit, one more does not`, () => {
    const many = Array.from({ length: batchRecordsMax + 1 }, (_, i) => record({ key: `k${i}` }));
    const fits = { createdMs: 1, records: many.slice(1) };
    expect(decode(encodeBatchEntry(fits)).records.length).to.equal(batchRecordsMax);
    expect(() => encodeBatchEntry({ createdMs: 1, records: many })).to.throw(BugError);
  });

  it('batch-log: BL-1: a coordinator that gives several stamps or a key twice is a defect', () => {
    const write = (...records: Uint8Array[]): (() => unknown) => {
      return () => encodeBatchEntry({ createdMs: 1, records });
    };
    expect(write(one, record({ key: 'b', hlc: 9 }))).to.throw(BugError, 'several stamps');
    expect(write(one, record({ key: 'a' }))).to.throw(BugError, 'a key occurs twice');
    expect(write()).to.throw(BugError, 'no records');
  });
});

describe('batch-delivery', () => {
  interface Event {
    readonly record: number;
    readonly node: string;
    readonly isHint: boolean;
  }
  const nodes = ['n1', 'n2', 'n3'] as const;
  const events = fc.array(
    fc.record({
      record: fc.integer({ min: 0, max: 2 }),
      node: fc.constantFrom(...nodes),
      isHint: fc.boolean(),
    }),
    { maxLength: 40 },
  );

  function settle(delivery: BatchDelivery, { record: of, node, isHint }: Event): void {
    if (isHint) delivery.hintSynced(of, node);
    else delivery.delivered(of, node);
  }

  it('batch-delivery: BL-4: settled exactly when every copy is durable somewhere, in any order', () => {
    fc.assert(
      fc.property(events, (played) => {
        const delivery = new BatchDelivery([nodes, nodes, nodes]);
        const durable = new Set<string>();
        for (const event of played) {
          settle(delivery, event);
          durable.add(`${event.record} ${event.node}`);
          expect(delivery.isSettled).to.equal(durable.size === 9);
        }
        for (const of of [0, 1, 2])
          expect(delivery.openOf(of)).to.deep.equal(
            nodes.filter((node) => !durable.has(`${of} ${node}`)),
          );
      }),
      { numRuns: 300, seed: 1 },
    );
  });

  it('batch-delivery: a batch of which one copy is open is not settled (copies=9)', () => {
    for (let left = 0; left < 9; left += 1) {
      const delivery = new BatchDelivery([nodes, nodes, nodes]);
      for (let copy = 0; copy < 9; copy += 1)
        if (copy !== left) delivery.delivered(Math.floor(copy / 3), nodes[copy % 3] ?? '');
      expect(delivery.isSettled, `copy ${left}`).to.equal(false);
      delivery.hintSynced(Math.floor(left / 3), nodes[left % 3] ?? '');
      expect(delivery.isSettled, `copy ${left}`).to.equal(true);
    }
  });

  it('batch-delivery: a node that is no replica settles nothing', () => {
    const delivery = new BatchDelivery([['n1'], ['n2']]);
    delivery.delivered(0, 'n2');
    delivery.delivered(1, 'n1');
    expect([delivery.openOf(0), delivery.openOf(1)]).to.deep.equal([['n1'], ['n2']]);
    expect(delivery.isSettled).to.equal(false);
  });

  it('batch-delivery: no records, no replicas, or a record beyond the batch is a defect', () => {
    expect(() => new BatchDelivery([])).to.throw(BugError);
    expect(() => new BatchDelivery([['n1'], []])).to.throw(BugError);
    const delivery = new BatchDelivery([['n1']]);
    expect(() => delivery.delivered(1, 'n1')).to.throw(BugError);
  });
});
