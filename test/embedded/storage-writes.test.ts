// What the engine as a library does with the memory of records: it is used again while many writes are
// open, and every record is read back as it was written.

import { expect } from 'chai';
import type { Operation, Storage } from '../../cli/embedded/storage.ts';
import { KvError } from '../../runtime/errors.ts';
import { Prng } from '../../runtime/prng.ts';
import { storagesUnderTest } from './storages-under-test.ts';

const smallMemory = {
  memtableBytes: 256 * 1024,
  inFlightBytes: 128 * 1024,
  walSegmentBytes: 256 * 1024,
};

/** Bytes that say whose they are. */
function valueOf(n: number, length: number): Uint8Array {
  const value = new Uint8Array(length);
  for (let i = 0; i < length; i += 1) value[i] = (n * 31 + i * (1 + (n % 5))) & 0xff;
  return value;
}

/** Bytes of arrays outside of the heap that are made here during `work`. */
async function madeOutside(work: () => Promise<void>): Promise<number> {
  const real = Uint8Array;
  let bytes = 0;
  globalThis.Uint8Array = new Proxy(real, {
    construct: (target, [length]: [number]) => {
      if (length > 64) bytes += length;
      return new target(length);
    },
  });
  try {
    await work();
  } finally {
    globalThis.Uint8Array = real;
  }
  return bytes;
}

describe('embedded storage writes', () => {
  const { opened } = storagesUnderTest();

  async function reopened(storage: Storage): Promise<Storage> {
    await storage.close();
    return opened({ settings: smallMemory });
  }

  async function expectAll(storage: Storage, lengths: ReadonlyMap<number, number>): Promise<void> {
    for (const [n, length] of lengths) {
      const found = await storage.get(`k${n}`);
      if (found === undefined) throw new Error(`no record ${n}`);
      if (Buffer.compare(found, valueOf(n, length)) !== 0) throw new Error(`not record ${n}`);
    }
  }

  for (const inFlight of [1, 64])
    it(`embedded storage: writes take no new memory outside of the heap (${inFlight} in flight)`, async () => {
      const storage = await opened({ durability: 'none' });
      const value = new Uint8Array(1_000);
      const keys = Array.from({ length: 16_000 }, (_, n) => `k${n}`);
      const made = await madeOutside(async () => {
        for (let n = 0; n < keys.length; n += inFlight)
          await Promise.all(keys.slice(n, n + inFlight).map((key) => storage.put(key, value)));
      });
      expect(made, 'for 16 MB of records').to.be.below(1_000_000);
    });

  for (const durability of ['group', 'none'] as const)
    it(`embedded storage: puts and batches are read back right while memory is short (durability=${durability})`, async () => {
      const storage = await opened({ durability, settings: smallMemory });
      const random = new Prng(7);
      const lengths = new Map<number, number>();
      const put = (n: number): Operation => {
        const length = random.int(50) === 0 ? random.int(40_000) : random.int(3_000);
        lengths.set(n, length);
        return { type: 'put', key: `k${n}`, value: valueOf(n, length) };
      };
      let next = 0;
      const worker = async (): Promise<void> => {
        while (next < 6_000) {
          const count = random.int(3) === 0 ? 1 + random.int(12) : 1;
          const operations = Array.from({ length: count }, (_, i) => put(next + i));
          next += count;
          const [first] = operations;
          if (count > 1 || first?.type !== 'put') await storage.batch(operations);
          else await storage.put(first.key, first.value);
        }
      };
      await Promise.all(Array.from({ length: 40 }, worker));
      await expectAll(storage, lengths);
      await expectAll(await reopened(storage), lengths);
    });

  it('embedded storage: writes that nobody waits for are right in the end', async () => {
    const storage = await opened({ durability: 'none', settings: smallMemory });
    const lengths = new Map(Array.from({ length: 5_000 }, (_, n) => [n, 200 + (n % 1_500)]));
    const writes = [...lengths].map(([n, length]) => storage.put(`k${n}`, valueOf(n, length)));
    await Promise.all(writes);
    await expectAll(storage, lengths);
    await expectAll(await reopened(storage), lengths);
  });

  it('embedded storage: a batch whose operations write when they are read does not', async () => {
    const storage = await opened();
    const codes: unknown[] = [];
    const nested = (work: Promise<void>): string => {
      work.catch((error: unknown) => codes.push(error instanceof KvError ? error.code : error));
      return 'value';
    };
    await storage.batch([
      {
        type: 'put',
        key: 'a',
        get value() {
          return nested(storage.put('b', 'x')) + nested(storage.batch([{ type: 'del', key: 'c' }]));
        },
      },
      { type: 'put', key: 'd', value: 'x' },
    ]);
    await storage.put('e', 'x');
    expect(codes).to.deep.equal(['BAD_REQUEST', 'BAD_REQUEST']);
    const keys: string[] = [];
    for await (const [key] of storage.iterate()) keys.push(Buffer.from(key).toString());
    expect(keys).to.deep.equal(['a', 'd', 'e']);
  });

  for (const length of [10, 3_000, 6_000, 20_000])
    it(`embedded storage: a value of ${length} bytes is the caller's own, wherever it was found`, async () => {
      const before = await opened();
      await before.put('k1', valueOf(1, length));
      // Memory, then the cache of rows; a table, then the cache.
      for (const isReopened of [false, true]) {
        const storage = isReopened ? await reopened(before) : before;
        for (let n = 0; n < 2; n += 1) {
          await expectAll(storage, new Map([[1, length]]));
          (await storage.get('k1'))?.fill(0);
        }
      }
    });
});
