// The policy of the caches against a naive model of the paper: arrays, sorted by nothing but arrival.

import { expect } from 'chai';
import fc from 'fast-check';
import { BlockCache, entryOverheadBytes } from '../../actors/storage/block-cache.ts';
import { smallBytesOf, usesMax } from '../../actors/storage/s3-fifo.ts';
import { blockOf } from './blocks-under-test.ts';

interface Held {
  readonly key: number;
  readonly bytes: number;
  uses: number;
}

/** S3-FIFO as the paper has it, with one list per queue and a set of ghosts. */
class Model {
  small: Held[] = [];
  main: Held[] = [];
  readonly ghosts = new Set<number>();
  readonly #bytesMax: number;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get keys(): number[] {
    return [...this.small, ...this.main].map(({ key }) => key).sort((a, b) => a - b);
  }

  get bytes(): number {
    return sum(this.small) + sum(this.main);
  }

  get(key: number): boolean {
    const held = [...this.small, ...this.main].find((one) => one.key === key);
    if (held !== undefined) held.uses = Math.min(held.uses + 1, usesMax);
    return held !== undefined;
  }

  put(key: number, bytes: number): void {
    this.small = this.small.filter((held) => held.key !== key);
    this.main = this.main.filter((held) => held.key !== key);
    if (bytes > this.#bytesMax) return;
    const isGhost = this.ghosts.delete(key);
    while (this.bytes + bytes > this.#bytesMax) this.#evict();
    (isGhost ? this.main : this.small).push({ key, bytes, uses: 0 });
  }

  #evict(): void {
    const takesSmall = this.main.length === 0 || sum(this.small) > smallBytesOf(this.#bytesMax);
    const held = (takesSmall ? this.small : this.main).shift() as Held;
    if (takesSmall && held.uses > 0) this.main.push({ ...held, uses: 0 });
    else if (takesSmall) this.ghosts.add(held.key);
    else if (held.uses > 0) this.main.push({ ...held, uses: held.uses - 1 });
  }
}

const sum = (held: readonly Held[]): number => held.reduce((total, { bytes }) => total + bytes, 0);

describe('s3-fifo', () => {
  it('s3-fifo: holds what a naive model holds, after any reads and writes', () => {
    const keyCount = 16;
    const step = fc.tuple(fc.boolean(), fc.nat({ max: keyCount - 1 }), fc.nat({ max: 400 }));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
        const bytesMax = 6_000;
        const cache = new BlockCache(bytesMax);
        const model = new Model(bytesMax);
        const table = cache.takeTable();
        for (const [isPut, key, extra] of steps) {
          if (isPut) {
            const block = blockOf(100 + extra);
            cache.put(table, key, block);
            model.put(key, block.bytes.length + entryOverheadBytes);
          } else expect(cache.get(table, key) !== undefined).to.equal(model.get(key));
          expect(cache.bytes).to.equal(model.bytes);
          expect(cache.blocks).to.equal(model.keys.length);
        }
        const held = Array.from({ length: keyCount }, (_, key) => key).filter(
          (key) => cache.get(table, key) !== undefined,
        );
        expect(held).to.deep.equal(model.keys);
      }),
      { numRuns: 300 },
    );
  });
});
