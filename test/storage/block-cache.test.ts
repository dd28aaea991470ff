// The cache of decoded blocks: bounded by bytes, and what is used stays.

import { expect } from 'chai';
import { BlockCache, entryOverheadBytes } from '../../actors/storage/block-cache.ts';
import { DataBlock } from '../../actors/storage/data-block.ts';
import { CorruptionError } from '../../runtime/errors.ts';
import { blockOf } from './blocks-under-test.ts';
import { makeRecord } from './records-under-test.ts';

const entryBytes = (bytes: number): number => bytes + entryOverheadBytes;

describe('block-cache', () => {
  it('block-cache: never holds more bytes than its bound, overhead included', () => {
    const cache = new BlockCache(5_000);
    for (let i = 0; i < 100; i += 1) {
      cache.put(1, i, blockOf(100 + (i % 7) * 50));
      expect(cache.bytes).to.be.at.most(5_000);
    }
    expect(cache.get(1, 99)?.bytes.length).to.equal(150);
    cache.put(1, 200, blockOf(4_700));
    expect(cache.get(1, 200)).to.equal(undefined);
    expect(cache.figures.evictions).to.be.above(80);
  });

  it('block-cache: what was used since it came stays', () => {
    const cache = new BlockCache(entryBytes(100) * 4);
    for (const n of [1, 2, 3, 4]) cache.put(1, n, blockOf(100));
    cache.get(1, 1);
    cache.get(1, 3);
    cache.put(1, 5, blockOf(100));
    cache.put(1, 6, blockOf(100));
    const held = [1, 2, 3, 4, 5, 6].filter((n) => cache.get(1, n) !== undefined);
    expect(held).to.deep.equal([1, 3, 5, 6]);
  });

  it('block-cache: what comes back soon after it went is kept longer', () => {
    const cache = new BlockCache(entryBytes(100) * 10);
    const read = (n: number): boolean => {
      const isHit = cache.get(1, n) !== undefined;
      if (!isHit) cache.put(1, n, blockOf(100));
      return isHit;
    };
    for (let n = 0; n < 12; n += 1) read(n);
    expect(read(0)).to.equal(false);
    for (let n = 20; n < 60; n += 1) read(n);
    expect(read(0)).to.equal(true);
  });

  it('block-cache: a scan keeps its first blocks and its last, and does not count as use', () => {
    const cache = new BlockCache(entryBytes(100) * 10);
    cache.scan(() => {
      for (let n = 0; n < 8; n += 1) cache.put(1, n, blockOf(100));
    });
    expect(cache.blocks).to.equal(4);
    const seen = Array.from({ length: 8 }, (_, n) => cache.get(1, n) !== undefined);
    expect(seen).to.deep.equal([true, true, true, true, false, false, false, true]);
    cache.drop(1, 8);
    expect([cache.get(1, 7), cache.bytes]).to.deep.equal([undefined, 0]);
  });

  it('block-cache: a scan of a hundred times its bytes leaves what is used where it is', () => {
    const cache = new BlockCache(entryBytes(1_000) * 20);
    for (let round = 0; round < 3; round += 1)
      for (let n = 0; n < 10; n += 1)
        if (cache.get(1, n) === undefined) cache.put(1, n, blockOf(1_000));
    for (let page = 0; page < 200; page += 1)
      cache.scan(() => {
        for (let n = page * 10; n < page * 10 + 10; n += 1)
          if (cache.get(2, n) === undefined) cache.put(2, n, blockOf(1_000));
      });
    const held = Array.from({ length: 10 }, (_, n) => cache.get(1, n) !== undefined);
    expect(held).to.deep.equal(new Array(10).fill(true));
  });

  it('block-cache: indexes and filters take their part of the bound, at most three quarters', () => {
    const cache = new BlockCache(10_000);
    for (let n = 0; n < 18; n += 1) cache.put(1, n, blockOf(100));
    expect(cache.bytes).to.equal(entryBytes(100) * 18);
    cache.setTableBytes(4_000);
    expect(cache.bytes).to.equal(entryBytes(100) * 12);
    cache.setTableBytes(1_000_000);
    expect(cache.bytes).to.equal(entryBytes(100) * 5);
    cache.put(1, 50, blockOf(100));
    expect(cache.bytes).to.equal(entryBytes(100) * 5);
  });

  it('block-cache: tables do not share block numbers, and a block is replaced in place', () => {
    const cache = new BlockCache(10_000);
    const [first, second] = [cache.takeTable(), cache.takeTable()];
    cache.put(first, 0, blockOf(100));
    cache.put(second, 0, blockOf(120));
    cache.put(second, 0, blockOf(140));
    expect(cache.get(first, 0)?.bytes.length).to.equal(100);
    expect(cache.get(second, 0)?.bytes.length).to.equal(140);
    expect(cache.bytes).to.equal(entryBytes(100) + entryBytes(140));
    cache.drop(first, 1);
    const left = [cache.get(first, 0), cache.blocks, cache.bytes];
    expect(left).to.deep.equal([undefined, 1, entryBytes(140)]);
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
