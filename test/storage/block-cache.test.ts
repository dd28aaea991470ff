// The cache of decoded blocks: bounded by bytes, and what is used stays.

import { expect } from 'chai';
import { BlockCache } from '../../actors/storage/block-cache.ts';
import { DataBlock } from '../../actors/storage/data-block.ts';
import { CorruptionError } from '../../runtime/errors.ts';
import { concatBytes } from '../../runtime/bytes.ts';
import { makeRecord } from './records-under-test.ts';

/** A block with one record and one offset. */
function blockOf(bytes: number): DataBlock {
  const overhead = makeRecord('k', { value: '' }).length + 8;
  const record = makeRecord('k', { value: new Uint8Array(bytes - overhead) });
  return new DataBlock(
    't',
    0,
    concatBytes([record, new Uint8Array(4), new Uint8Array([1, 0, 0, 0])]),
  );
}

describe('block-cache', () => {
  it('block-cache: never holds more bytes than its bound', () => {
    const cache = new BlockCache(1000);
    for (let i = 0; i < 100; i += 1) {
      cache.put(1, i, blockOf(100 + (i % 7) * 50));
      expect(cache.bytes).to.be.at.most(1000);
    }
    expect(cache.get(1, 99)?.bytes.length).to.equal(150);
    cache.put(1, 200, blockOf(1001));
    expect(cache.get(1, 200)).to.equal(undefined);
  });

  it('block-cache: what was used since the last round stays', () => {
    const cache = new BlockCache(400);
    for (const n of [1, 2, 3, 4]) cache.put(1, n, blockOf(100));
    cache.get(1, 1);
    cache.get(1, 3);
    cache.put(1, 5, blockOf(100));
    cache.put(1, 6, blockOf(100));
    const held = [1, 2, 3, 4, 5, 6].filter((n) => cache.get(1, n) !== undefined);
    expect(held).to.deep.equal([1, 3, 5, 6]);
  });

  it('block-cache: tables do not share block numbers, and a block is replaced in place', () => {
    const cache = new BlockCache(1000);
    const [first, second] = [cache.takeTable(), cache.takeTable()];
    cache.put(first, 0, blockOf(100));
    cache.put(second, 0, blockOf(120));
    cache.put(second, 0, blockOf(140));
    expect(cache.get(first, 0)?.bytes.length).to.equal(100);
    expect(cache.get(second, 0)?.bytes.length).to.equal(140);
    expect(cache.bytes).to.equal(240);
    cache.drop(first, 1);
    expect([cache.get(first, 0), cache.blocks, cache.bytes]).to.deep.equal([undefined, 1, 140]);
  });
});

describe('data-block', () => {
  it('data-block: lengths that do not fit are a CorruptionError, not a read beyond the block', () => {
    const good = blockOf(200).bytes;
    const key = makeRecord('k').subarray(48, 53);
    const damage = (at: number, value: number): DataBlock =>
      new DataBlock('t', 0, good.with(at, value));
    expect(() => damage(good.length - 4, 0)).to.throw(CorruptionError, 'no records');
    expect(() => damage(good.length - 1, 0xff)).to.throw(CorruptionError, 'no records');
    expect(() => damage(5, 0xff).recordAt(0)).to.throw(CorruptionError, 'beyond its block');
    expect(() => damage(1, 0xff).lowerBound(key)).to.throw(CorruptionError, 'beyond its block');
    expect(() => damage(good.length - 6, 0xff).lowerBound(key)).to.throw(CorruptionError, 'offset');
    expect(() => new DataBlock('t', 0, new Uint8Array(3))).to.throw(CorruptionError, 'no records');
  });
});
