// The cache of decoded blocks: bounded by bytes, and what is used stays.

import { expect } from 'chai';
import { BlockCache, entryOverheadBytes } from '../../actors/storage/block-cache.ts';
import type { DataBlock } from '../../actors/storage/data-block.ts';
import type { BlockIndex } from '../../actors/storage/sstable-index.ts';
import { blockOf } from './blocks-under-test.ts';

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
    cache.drop(1, 8, 0);
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

  it('block-cache: arrays of blocks that have gone are used again, if nobody can look at them', () => {
    const usual = 16_700;
    const cache = new BlockCache(2 * entryBytes(17_000));
    const content = blockOf(usual).bytes;
    const decoded = (): DataBlock => {
      const bytes = cache.takeArray(usual);
      bytes.set(content);
      return cache.blockOf('t', 0, bytes, 'prefixed');
    };
    const [looked, free] = [decoded(), decoded()];
    looked.isLent = true;
    cache.put(1, 0, looked);
    cache.put(1, 1, free);
    cache.put(1, 2, decoded());
    cache.put(1, 3, decoded());
    expect([cache.get(1, 0), cache.get(1, 1)]).to.deep.equal([undefined, undefined]);
    const next = [cache.takeArray(usual), cache.takeArray(usual)].map(({ buffer }) => buffer);
    expect(next).to.include(free.bytes.buffer).and.not.include(looked.bytes.buffer);
    for (const length of [usual / 2, usual * 2])
      expect(cache.takeArray(length).buffer.byteLength, 'one of its own').to.equal(length);
  });

  it('block-cache: arrays of what goes during a range read wait for its end, also of blocks not kept', () => {
    const usual = 16_700;
    const cache = new BlockCache(3 * entryBytes(17_000));
    const content = blockOf(usual).bytes;
    const read = (n: number): ArrayBufferLike => {
      const bytes = cache.takeArray(usual);
      bytes.set(content);
      cache.put(1, n, cache.blockOf('t', 0, bytes, 'prefixed'));
      return bytes.buffer;
    };
    const looked = [read(0), read(1), read(2)];
    const page = (first: number): ArrayBufferLike[] =>
      cache.scan(() => Array.from({ length: 10 }, (_, i) => read(first + i)));
    const once = page(10);
    expect(new Set([...looked, ...once]).size, 'none twice in one page').to.equal(13);
    const again = page(20);
    expect(new Set(again).size).to.equal(10);
    const kept = 3 + 1;
    const known = new Set([...looked, ...once]);
    expect(again.filter((buffer) => !known.has(buffer)).length, 'new arrays').to.be.at.most(kept);
    const before = new Set([...known, ...again]);
    expect(page(30).filter((buffer) => !before.has(buffer)).length, 'new arrays').to.equal(0);
  });

  it('block-cache: the last block of a range read is free once another one is the last', () => {
    const cache = new BlockCache(4 * entryBytes(17_000));
    const content = blockOf(16_700).bytes;
    const read = (n: number): ArrayBufferLike => {
      const bytes = cache.takeArray(16_700);
      bytes.set(content);
      cache.put(1, n, cache.blockOf('t', 0, bytes, 'prefixed'));
      return bytes.buffer;
    };
    const [last] = cache.scan(() => Array.from({ length: 6 }, (_, n) => read(n))).slice(-1);
    const taken = (): ArrayBufferLike[] =>
      Array.from({ length: 80 }, () => cache.takeArray(16_700).buffer);
    expect(taken()).not.to.include(last);
    expect(cache.get(1, 5)?.bytes.buffer).to.equal(last);
    cache.drop(1, 6, 0);
    expect(taken()).to.include(last);
  });

  it('block-cache: as many arrays as it holds are of shared memory, those that are made later are not', () => {
    const cache = new BlockCache(4 * entryBytes(17_000));
    const made = Array.from({ length: 10 }, () => cache.takeArray(16_700).buffer);
    const shared = made.map((buffer) => buffer instanceof SharedArrayBuffer);
    expect(shared).to.deep.equal(Array.from({ length: 10 }, (_, n) => n < 4));
    expect(new BlockCache(0).takeArray(16_700).buffer).to.be.instanceOf(ArrayBuffer);
  });

  it('block-cache: arrays of a closed table wait for the next one as far as there is room', () => {
    const usual = 16_700;
    const content = blockOf(usual).bytes;
    const cache = new BlockCache(200 * entryBytes(17_000));
    const fill = (table: number): Set<ArrayBufferLike> => {
      const buffers = new Set<ArrayBufferLike>();
      for (let n = 0; n < 150; n += 1) {
        const bytes = cache.takeArray(usual);
        bytes.set(content);
        buffers.add(bytes.buffer);
        cache.put(table, n, cache.blockOf('t', 0, bytes, 'prefixed'));
      }
      return buffers;
    };
    const first = fill(1);
    cache.drop(1, 150, 0);
    const second = fill(2);
    expect([...second].filter((buffer) => first.has(buffer)).length).to.equal(150);
    cache.drop(2, 150, 0);
    // Blocks that need other arrays take the room: most of those that wait go.
    for (let n = 0; n < 190; n += 1) cache.put(3, n, blockOf(17_000));
    cache.drop(3, 190, 0);
    const third = fill(4);
    const again = [...third].filter((buffer) => second.has(buffer)).length;
    expect(again).to.be.within(32, 80);
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

  it('block-cache: index blocks are entries with figures of their own, and a scan keeps them', () => {
    const index = (bytes: number): BlockIndex =>
      ({ heldBytes: bytes, bytes: new Uint8Array(bytes) }) as BlockIndex;
    const cache = new BlockCache(10_000);
    cache.put(1, 3, blockOf(100));
    cache.scan(() => {
      for (let n = 0; n < 6; n += 1) cache.putIndex(1, n, index(200));
    });
    expect(cache.getIndex(1, 3)?.bytes.length).to.equal(200);
    expect(cache.get(1, 3)?.bytes.length).to.equal(100);
    expect(cache.getIndex(1, 9)).to.equal(undefined);
    const none = { hits: 1, evictions: 0 };
    const bytes = 6 * entryBytes(200);
    expect(cache.indexFigures).to.deep.equal({ ...none, misses: 1, entries: 6, bytes });
    expect(cache.figures).to.deep.equal({ ...none, misses: 0, entries: 1, bytes: entryBytes(100) });
    for (let n = 0; n < 100; n += 1) cache.putIndex(2, n, index(200));
    expect(cache.bytes).to.be.at.most(10_000);
    expect(cache.indexFigures.evictions).to.be.above(80);
    cache.drop(1, 4, 6);
    cache.drop(2, 0, 100);
    expect([cache.blocks, cache.bytes, cache.indexFigures.bytes]).to.deep.equal([0, 0, 0]);
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
    cache.drop(first, 1, 0);
    const left = [cache.get(first, 0), cache.blocks, cache.bytes];
    expect(left).to.deep.equal([undefined, 1, entryBytes(140)]);
  });
});
