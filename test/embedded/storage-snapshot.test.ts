// Snapshots of an embedded store against a map that was copied at the same moment, while the store is
// written, flushed and merged; and descending order.

import { expect } from 'chai';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Entry, openStorage, type Storage } from '../../cli/embedded/storage.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';
import { Prng } from '../../runtime/prng.ts';

const keyOf = (i: number): string => `key:${String(i).padStart(5, '0')}`;

async function textsOf(entries: AsyncIterable<Entry>): Promise<string[]> {
  const texts: string[] = [];
  for await (const [key, value] of entries) texts.push(`${utf8.decode(key)}=${utf8.decode(value)}`);
  return texts;
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof KvError) return error.code;
    throw error;
  }
  return 'none';
}

describe('embedded storage: snapshots', function () {
  this.timeout(60_000);
  let directory: string;
  let storage: Storage;
  const links = (): string[] => readdirSync(join(directory, 'open-snapshots'));
  const small = { memtableBytes: 64 * 1024, l0Tables: 2, tableBytes: 64 * 1024 };
  const open = (): Promise<Storage> =>
    openStorage({ directory, durability: 'none', settings: small, logLevel: 'error' });

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'kvd-snapshot-'));
    storage = await open();
  });
  afterEach(async () => {
    await storage.close();
    rmSync(directory, { recursive: true, force: true });
  });

  it('snapshot: it shows what a copy of that moment holds, whatever is written, flushed and merged', async () => {
    const random = new Prng(7);
    const map = new Map<string, string>();
    const taken: {
      readonly copy: Map<string, string>;
      readonly of: Awaited<ReturnType<Storage['snapshot']>>;
    }[] = [];
    for (let round = 0; round < 12; round += 1) {
      for (let i = 0; i < 300; i += 1) {
        const key = keyOf(random.int(800));
        const value = `${round}.${i}.${'x'.repeat(random.int(200))}`;
        if (random.chance(0.2)) {
          map.delete(key);
          await storage.delete(key);
        } else {
          map.set(key, value);
          await storage.put(key, value);
        }
      }
      if (round % 4 === 1) taken.push({ copy: new Map(map), of: await storage.snapshot() });
      await storage.flush();
    }
    for (const { copy, of } of taken) {
      const expected = [...copy].map(([key, value]) => `${key}=${value}`).sort();
      expect(await textsOf(of.iterate())).to.deep.equal(expected);
      expect(await textsOf(of.iterate({ reverse: true }))).to.deep.equal(expected.toReversed());
      for (let i = 0; i < 800; i += 7) {
        const value = await of.get(keyOf(i));
        expect(value === undefined ? undefined : utf8.decode(value)).to.equal(copy.get(keyOf(i)));
      }
      await of.close();
    }
    expect(links()).to.deep.equal([]);
  });

  it('snapshot: ranges have the same bounds in both directions', async () => {
    for (let i = 0; i < 50; i += 1) await storage.put(keyOf(i), String(i));
    await storage.delete(keyOf(20));
    const snapshot = await storage.snapshot();
    for (const range of [
      { gte: keyOf(10), lt: keyOf(15) },
      { gt: keyOf(18), lte: keyOf(22) },
      { prefix: 'key:0004' },
      { prefix: 'nothing' },
      { gte: keyOf(49) },
      { lt: keyOf(0) },
    ]) {
      const ascending = await textsOf(snapshot.iterate(range));
      expect(ascending).to.deep.equal(await textsOf(storage.iterate(range)));
      const descending = ascending.toReversed();
      expect(await textsOf(snapshot.iterate({ ...range, reverse: true }))).to.deep.equal(
        descending,
      );
      expect(await textsOf(storage.iterate({ ...range, reverse: true }))).to.deep.equal(descending);
    }
    expect(await textsOf(snapshot.iterate({ reverse: true, limit: 2 }))).to.deep.equal([
      'key:00049=49',
      'key:00048=48',
    ]);
    expect(await textsOf(snapshot.iterate({ limit: 0 }))).to.deep.equal([]);
    await snapshot.close();
  });

  it('snapshot: a batch is in it as a whole or not at all', async () => {
    const writing = (async () => {
      for (let i = 0; i < 200; i += 1)
        await storage.batch([
          { type: 'put', key: 'left', value: String(i) },
          { type: 'put', key: 'right', value: String(i) },
        ]);
    })();
    for (let i = 0; i < 5; i += 1) {
      const snapshot = await storage.snapshot();
      const [left, right] = [await snapshot.get('left'), await snapshot.get('right')];
      expect(left === undefined ? '' : utf8.decode(left)).to.equal(
        right === undefined ? '' : utf8.decode(right),
      );
      await snapshot.close();
    }
    await writing;
  });

  it('snapshot: an iteration that is left early lets its files go, and so does the end of the store', async () => {
    await storage.put('a', '1');
    await storage.put('b', '2');
    for await (const [key] of storage.iterate({ reverse: true })) {
      expect(utf8.decode(key)).to.equal('b');
      break;
    }
    expect(links()).to.deep.equal([]);
    const snapshot = await storage.snapshot();
    expect(links()).to.not.deep.equal([]);
    await storage.close();
    expect(links()).to.deep.equal([]);
    expect(await codeOf(snapshot.get('a'))).to.equal('DRAINING');
    expect(await codeOf(storage.snapshot())).to.equal('DRAINING');
  });

  it('snapshot: what a killed process has left goes when the store is opened again', async () => {
    await storage.close();
    mkdirSync(join(directory, 'open-snapshots'), { recursive: true });
    writeFileSync(join(directory, 'open-snapshots', '1-0000000001.sst'), 'left');
    storage = await open();
    expect(links()).to.deep.equal([]);
  });

  it('snapshot: of an empty store it is empty, and a wrong option is refused', async () => {
    const snapshot = await storage.snapshot();
    expect(await textsOf(snapshot.iterate())).to.deep.equal([]);
    expect(await snapshot.get('a')).to.equal(undefined);
    expect(() => snapshot.iterate({ reverse: 1 as unknown as boolean })).to.throw(
      KvError,
      'expected a boolean',
    );
    await snapshot.close();
    await snapshot.close();
  });
});
