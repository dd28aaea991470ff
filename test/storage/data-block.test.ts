// Data blocks against lists: every place is found from both sides, and bytes that no writer makes are
// a CorruptionError.

import { expect } from 'chai';
import fc from 'fast-check';
import { recordKey } from '../../actors/model/record.ts';
import { BlockIterator } from '../../actors/storage/block-iterator.ts';
import { DataBlock } from '../../actors/storage/data-block.ts';
import { ownRecordBytesMax } from '../../actors/storage/protocol.ts';
import { restartInterval } from '../../actors/storage/sstable-format.ts';
import { BytePool } from '../../runtime/byte-pool.ts';
import { ByteWriter, compareBytes } from '../../runtime/bytes.ts';
import { CorruptionError } from '../../runtime/errors.ts';
import { Prng } from '../../runtime/prng.ts';
import { blockOf } from './blocks-under-test.ts';
import { hexes, hexOf, makeRecord, naiveWinners, recordOf, writes } from './records-under-test.ts';

const pool = new BytePool();

/** Records as version 1 keeps them, or with the bytes left out that `share` says of the i-th. */
function blockFrom(
  records: readonly Uint8Array[],
  share: (i: number, most: number) => number = (_i, most) => most,
): DataBlock {
  const writer = new ByteWriter();
  const restarts: number[] = [];
  let last = new Uint8Array(0);
  records.forEach((record, i) => {
    const key = recordKey(record);
    let most = 0;
    while (most < Math.min(key.length, last.length) && key[most] === last[most]) most += 1;
    const isRestart = i % restartInterval === 0;
    if (isRestart) restarts.push(writer.length);
    const shared = isRestart ? 0 : share(i, most);
    writer.u16(shared);
    writer.raw(record.subarray(0, 48));
    writer.raw(record.subarray(48 + shared));
    last = key.slice();
  });
  for (const restart of restarts) writer.u32(restart);
  writer.u32(restarts.length);
  return new DataBlock('t', 7, writer.copy());
}

function allNext(iterator: BlockIterator): Uint8Array[] {
  const records: Uint8Array[] = [];
  for (let r = iterator.next(); r !== undefined; r = iterator.next()) records.push(r);
  return records;
}

function allPrevious(iterator: BlockIterator): Uint8Array[] {
  const records: Uint8Array[] = [];
  for (let r = iterator.previous(); r !== undefined; r = iterator.previous()) records.push(r);
  return records;
}

const numbered = (count: number): Uint8Array[] =>
  Array.from({ length: count }, (_, i) => makeRecord(`user:${String(i).padStart(4, '0')}`));

describe('data-block', () => {
  it('data-block: any key is found or not, and both ways from any place are right (any records, any sharing)', () => {
    const property = fc.property(
      fc.array(writes, { minLength: 1, maxLength: 120 }),
      fc.array(writes, { maxLength: 10 }),
      fc.nat(),
      (list, others, seed) => {
        const records = naiveWinners(list.map(recordOf));
        const random = new Prng(seed);
        const most = (_i: number, shared: number): number => shared;
        const less = (_i: number, shared: number): number => random.int(shared + 1);
        for (const share of [most, less]) {
          const block = blockFrom(records, share);
          for (const probe of [...records, ...others.map(recordOf)]) {
            const key = recordKey(probe);
            const below = records.filter((record) => compareBytes(recordKey(record), key) < 0);
            const from = records.slice(below.length);
            const isThere = from[0] !== undefined && hexOf(recordKey(from[0])) === hexOf(key);
            const found = block.get(key, pool);
            expect(found && hexOf(found)).to.equal(
              isThere ? hexOf(from[0] as Uint8Array) : undefined,
            );
            const iterator = new BlockIterator(block, pool);
            iterator.seek(key);
            expect(hexes(allNext(iterator))).to.deep.equal(hexes(from));
            iterator.seekBefore(key);
            expect(hexes(allPrevious(iterator))).to.deep.equal(hexes(below.toReversed()));
          }
        }
      },
    );
    fc.assert(property, { numRuns: 60 });
  });

  it('data-block: steps to and fro are those of a list (any steps)', () => {
    const records = numbered(50);
    const block = blockFrom(records);
    const steps = fc.array(
      fc.oneof(fc.constantFrom('next', 'previous', 'start', 'end'), fc.nat(49)),
    );
    const property = fc.property(steps, (list) => {
      const iterator = new BlockIterator(block, pool);
      let at = 0;
      for (const step of list) {
        if (typeof step === 'number') {
          iterator.seek(recordKey(records[step] as Uint8Array));
          at = step;
        } else if (step === 'start') {
          iterator.seekToStart();
          at = 0;
        } else if (step === 'end') {
          iterator.seekToEnd();
          at = 50;
        } else if (step === 'next') {
          const found = iterator.next();
          const expected = records[at];
          expect(found && hexOf(found)).to.equal(expected && hexOf(expected));
          at = Math.min(at + 1, 50);
        } else {
          const found = iterator.previous();
          const expected = records[at - 1];
          expect(found && hexOf(found)).to.equal(expected && hexOf(expected));
          at = Math.max(at - 1, 0);
        }
      }
    });
    fc.assert(property, { numRuns: 300 });
  });

  it('data-block: a step back reads what lies between two restarts once (records=64)', () => {
    const block = blockFrom(numbered(64));
    let reads = 0;
    const counted = Object.create(block, {
      recordAt: {
        value: (at: number, next: number, bytes: Uint8Array, keyAt: number) => {
          reads += 1;
          return block.recordAt(at, next, bytes, keyAt, pool);
        },
      },
      end: { value: block.end },
      seek: { value: (key: Uint8Array) => block.seek(key) },
      nextAt: { value: (at: number) => block.nextAt(at) },
      sharedAt: { value: (at: number) => block.sharedAt(at) },
      restartBefore: { value: (at: number) => block.restartBefore(at) },
    }) as DataBlock;
    const iterator = new BlockIterator(counted, pool);
    iterator.seekToEnd();
    expect(allPrevious(iterator).length).to.equal(64);
    expect(reads).to.equal(64);
  });

  it('data-block: records share no byte of the block, but for a long one that shares no part of its key', () => {
    const long = makeRecord('a', { value: 'x'.repeat(ownRecordBytesMax) });
    const records = [long, ...numbered(4)];
    const keys = records.map((record) => recordKey(record));
    const reads: readonly ((block: DataBlock) => (Uint8Array | undefined)[])[] = [
      (block) => allNext(new BlockIterator(block, pool)),
      (block) => keys.map((key) => block.get(key, pool)),
    ];
    for (const read of reads) {
      const block = blockFrom(records);
      const [first, ...others] = read(block) as Uint8Array[];
      expect(first?.buffer).to.equal(block.bytes.buffer);
      expect(block.isLent).to.equal(true);
      const before = others.map(hexOf);
      for (const record of others) record.fill(0);
      expect(
        read(block)
          .slice(1)
          .map((record) => hexOf(record as Uint8Array)),
      ).to.deep.equal(before);
      const short = blockFrom(numbered(4));
      allNext(new BlockIterator(short, pool));
      expect(short.isLent).to.equal(false);
    }
  });

  it('data-block: lengths that do not fit are a CorruptionError, not a read beyond the block', () => {
    const good = blockOf(200).bytes;
    const key = makeRecord('k').subarray(48, 53);
    const damage = (at: number, value: number): DataBlock =>
      new DataBlock('t', 0, good.with(at, value));
    const first = (block: DataBlock): unknown => new BlockIterator(block, pool).next();
    expect(() => damage(good.length - 4, 0)).to.throw(CorruptionError, 'no records');
    expect(() => damage(good.length - 1, 0xff)).to.throw(CorruptionError, 'no records');
    expect(() => first(damage(7, 0xff))).to.throw(CorruptionError, 'beyond its block');
    expect(() => first(damage(0, 3))).to.throw(CorruptionError, 'more than there is');
    expect(() => damage(3, 0xff).seek(key)).to.throw(CorruptionError, 'beyond its block');
    expect(() => damage(0, 1).seek(key)).to.throw(CorruptionError, 'not whole');
    expect(() => damage(good.length - 6, 0xff).seek(key)).to.throw(CorruptionError, 'offset');
    expect(() => new DataBlock('t', 0, new Uint8Array(3))).to.throw(CorruptionError, 'no records');
  });

  it('data-block: any bytes give records, nothing or a CorruptionError (blocks=3000)', () => {
    const random = new Prng(3);
    const good = blockFrom(numbered(40)).bytes;
    const key = recordKey(numbered(30)[29] as Uint8Array);
    const attempts = [
      (block: DataBlock) => block.get(key, pool),
      (block: DataBlock) => allNext(new BlockIterator(block, pool)),
      (block: DataBlock) => {
        const iterator = new BlockIterator(block, pool);
        iterator.seekBefore(key);
        return allPrevious(iterator);
      },
    ];
    let refused = 0;
    for (let i = 0; i < 3000; i += 1) {
      const bytes = good.slice(0, random.int(8) === 0 ? random.int(good.length) : good.length);
      for (let flips = random.int(4); flips >= 0; flips -= 1)
        if (bytes.length > 0) bytes[random.int(bytes.length)] = random.int(256);
      for (const attempt of attempts)
        try {
          attempt(new DataBlock('t', 0, bytes));
        } catch (error) {
          expect(error).to.be.instanceOf(CorruptionError);
          refused += 1;
        }
    }
    expect(refused).to.be.above(1000);
  });
});
