// Memory of closed stores that the next ones take.

import { expect } from 'chai';
import { type Spare, spareArenas, spareArrays } from '../../cli/embedded/spare-memory.ts';
import { storagesUnderTest } from './storages-under-test.ts';

describe('spare memory', () => {
  const under = storagesUnderTest();

  const check = <Memory extends ArrayBufferLike>(spare: Spare<Memory>): void => {
    const memory = spare.take(12_345);
    expect(memory.byteLength).to.equal(12_345);
    spare.giveBack(memory);
    const others = [spare.take(12_346), spare.take(12_345), spare.take(12_345)];
    expect(others.map((other) => other === memory)).to.deep.equal([false, true, false]);
  };

  it('spare memory: what was given back is taken again, by one, and for the same length', () => {
    check(spareArenas);
    check(spareArrays);
  });

  it('spare memory: a store that is opened after one was closed reads nothing of that one', async () => {
    const text = (n: number): string => `value ${n}`.repeat(20);
    const rowCacheBytes = 1024 * 1024;
    for (const round of [0, 1, 2]) {
      const storage = await under.opened({ settings: { rowCacheBytes } });
      if (round === 0) {
        for (let n = 0; n < 2_000; n += 1) await storage.put(`key ${n}`, text(n));
        await storage.flush();
      }
      // The second look comes from the row cache.
      for (const key of ['key 7', 'key 1999', `no key ${round}`])
        for (const look of [1, 2]) {
          const expected = key.startsWith('no') ? undefined : text(Number(key.slice(4)));
          const found = await storage.get(key);
          const seen = found === undefined ? undefined : Buffer.from(found).toString();
          expect(seen, `${key}, look ${look}`).to.equal(expected);
        }
      await storage.close();
    }
  });
});
