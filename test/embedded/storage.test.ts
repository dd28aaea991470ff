// The engine as a library: what it promises to a program, with real files, threads and processes.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import fc from 'fast-check';
import { openIdentity } from '../../actors/node/identity.ts';
import { segmentHeaderSpace } from '../../actors/storage/wal-format.ts';
import type { IterateOptions, Operation, Storage } from '../../cli/embedded/storage.ts';
import { compareBytes, startsWith, utf8 } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';
import { createNodeDisk } from '../../runtime/host/node-disk.ts';
import { storagesUnderTest } from './storages-under-test.ts';

const writerFile = fileURLToPath(new URL('./storage-writer.js', import.meta.url));

const text = (bytes: Uint8Array | undefined): string | undefined =>
  bytes === undefined ? undefined : utf8.decode(bytes);

async function codeOf(work: () => Promise<unknown>): Promise<string> {
  try {
    await work();
    return 'none';
  } catch (error) {
    return error instanceof KvError ? error.code : String(error);
  }
}

async function entriesOf(storage: Storage, options?: IterateOptions): Promise<[string, string][]> {
  const found: [string, string][] = [];
  for await (const [key, value] of storage.iterate(options))
    found.push([utf8.decode(key), utf8.decode(value)]);
  return found;
}

const keysOf = async (storage: Storage, options?: IterateOptions): Promise<string[]> =>
  (await entriesOf(storage, options)).map(([key]) => key);

describe('embedded storage', () => {
  const storages = storagesUnderTest();
  const { opened } = storages;

  // ---- values ------------------------------------------------------------------------------

  it('embedded storage: a value is read back, replaced and deleted', async () => {
    const storage = await opened();
    expect(await storage.get('key')).to.equal(undefined);
    await storage.put('key', 'one');
    expect(text(await storage.get('key'))).to.equal('one');
    await storage.put(utf8.encode('key'), new Uint8Array([0, 255]));
    expect(storage.getSync('key')).to.deep.equal(new Uint8Array([0, 255]));
    await storage.delete('key');
    expect(await storage.get('key')).to.equal(undefined);
    await storage.delete('never there');
  });

  it('embedded storage: empty values and values of every byte are kept', async () => {
    const storage = await opened();
    const every = Uint8Array.from({ length: 256 }, (_, byte) => byte);
    await storage.put('empty', '');
    await storage.put(every, every);
    expect(await storage.get('empty')).to.deep.equal(new Uint8Array(0));
    expect(await storage.get(every)).to.deep.equal(every);
  });

  it('embedded storage: of writes that are not awaited the last call wins', async () => {
    const storage = await opened();
    const writes = Array.from({ length: 200 }, (_, n) => storage.put('key', `${n}`));
    await Promise.all(writes);
    expect(text(await storage.get('key'))).to.equal('199');
  });

  it('embedded storage: what the caller does with its bytes afterwards changes nothing', async () => {
    const storage = await opened();
    const key = utf8.encode('key');
    const value = utf8.encode('value');
    const written = storage.put(key, value);
    key.fill(0);
    value.fill(0);
    await written;
    await storage.flush();
    (await storage.get('key'))?.fill(0);
    expect(text(await storage.get('key'))).to.equal('value');
  });

  for (const isFlushed of [false, true])
    it(`embedded storage: entries are the caller's, who may change them while it goes on (${isFlushed ? 'tables' : 'memory'})`, async () => {
      const storage = await opened();
      const valueOf = (n: number): string => (n % 200 === 7 ? 'y'.repeat(6_000) : `value ${n}`);
      const keyOf = (n: number): string => `key ${String(n).padStart(5, '0')}`;
      // More than one page.
      const count = 2_500;
      for (let n = 0; n < count; n += 1) void storage.put(keyOf(n), valueOf(n));
      await storage.put('last', 'of all');
      if (isFlushed) await storage.flush();
      const expected = Array.from({ length: count }, (_, n) => [keyOf(n), valueOf(n)]);
      expected.push(['last', 'of all']);
      for (let round = 0; round < 2; round += 1) {
        const seen: string[][] = [];
        for await (const [key, value] of storage.iterate()) {
          seen.push([text(key) ?? '', text(value) ?? '']);
          expect(seen.length).to.be.at.most(expected.length);
          key.fill(0);
          value.fill(0);
        }
        expect(seen).to.deep.equal(expected);
      }
    });

  it('embedded storage: a batch puts and deletes, and its later operation on a key counts', async () => {
    const storage = await opened();
    await storage.put('gone', 'x');
    await storage.batch([
      { type: 'put', key: 'a', value: '1' },
      { type: 'del', key: 'gone' },
      { type: 'put', key: 'b', value: '1' },
      { type: 'put', key: 'b', value: '2' },
      { type: 'del', key: 'a' },
    ]);
    await storage.batch([]);
    expect(await entriesOf(storage)).to.deep.equal([['b', '2']]);
  });

  // ---- refusals ----------------------------------------------------------------------------

  it('embedded storage: keys, values and operations out of their limits are refused', async () => {
    const storage = await opened({ settings: { valueBytesMax: 1_000 } });
    const refused: readonly (readonly [string, () => Promise<unknown>])[] = [
      ['BAD_REQUEST', () => storage.put('', 'x')],
      ['BAD_REQUEST', () => storage.get('')],
      ['BAD_REQUEST', () => storage.delete(new Uint8Array(0))],
      ['TOO_LARGE', () => storage.put(new Uint8Array(1_025), 'x')],
      ['TOO_LARGE', () => storage.get(new Uint8Array(1_025))],
      ['TOO_LARGE', () => storage.put('key', new Uint8Array(1_001))],
      ['BAD_REQUEST', () => storage.put(7 as never, 'x')],
      ['BAD_REQUEST', () => storage.put('key', undefined as never)],
      ['BAD_REQUEST', () => storage.batch([{ type: 'puts', key: 'a' } as never])],
      ['BAD_REQUEST', () => keysOf(storage, { reverse: 'yes' as unknown as boolean })],
      ['BAD_REQUEST', () => keysOf(storage, { limit: -1 })],
      ['BAD_REQUEST', () => keysOf(storage, { limit: 1.5 })],
      ['BAD_REQUEST', () => keysOf(storage, { from: 'a' } as never)],
    ];
    for (const [code, work] of refused) expect(await codeOf(work), String(work)).to.equal(code);
    await storage.put(new Uint8Array(1_024), new Uint8Array(1_000));
    expect((await storage.get(new Uint8Array(1_024)))?.length).to.equal(1_000);
  });

  it('embedded storage: a batch with one bad operation writes nothing', async () => {
    const storage = await opened();
    const operations: Operation[] = [
      { type: 'put', key: 'a', value: '1' },
      { type: 'put', key: '', value: '1' },
    ];
    expect(await codeOf(() => storage.batch(operations))).to.equal('BAD_REQUEST');
    expect(await keysOf(storage)).to.deep.equal([]);
  });

  it('embedded storage: a batch above inFlightBytes is refused, one below is taken whole', async () => {
    const storage = await opened({ settings: { inFlightBytes: 64 * 1024 } });
    const batch = (count: number): Operation[] =>
      Array.from({ length: count }, (_, n) => ({ type: 'put', key: `k${n}`, value: 'v' }));
    expect(await codeOf(() => storage.batch(batch(600)))).to.equal('TOO_LARGE');
    expect(await keysOf(storage)).to.deep.equal([]);
    await storage.batch(batch(400));
    expect(await keysOf(storage)).to.have.length(400);
  });

  it('embedded storage: options out of their limits are refused, and leave no lock behind', async () => {
    const refused: readonly (readonly [string, object])[] = [
      ['BAD_REQUEST', { durability: 'sometimes' }],
      ['BAD_REQUEST', { memoryBytes: 1_000 }],
      ['BAD_REQUEST', { settings: { memtableBytes: 1 } }],
      ['BAD_REQUEST', { settings: { noSuchSetting: 1 } }],
      ['BAD_REQUEST', { directory: '' }],
    ];
    for (const [code, options] of refused)
      expect(await codeOf(() => opened(options)), JSON.stringify(options)).to.equal(code);
    const storage = await opened({ memoryBytes: 32 * 1024 * 1024 });
    await storage.put('key', 'value');
  });

  it('embedded storage: the directory of a cluster node is refused', async () => {
    const identity = { clusterName: 'kvd', node: 'n1', members: ['n1'], shards: 1 };
    const ring = { replicationFactor: 1, virtualNodes: 256 };
    await openIdentity(createNodeDisk(storages.directory), { ...identity, ...ring }, 1);
    expect(await codeOf(() => opened())).to.equal('DATA_REFUSED');
  });

  it('embedded storage: a directory is open once', async () => {
    const storage = await opened();
    expect(await codeOf(() => opened())).to.equal('CONFLICT');
    await storage.close();
    await opened();
  });

  // ---- iteration ---------------------------------------------------------------------------

  it('embedded storage: iteration with any bounds equals a sorted array', async () => {
    const storage = await opened();
    const byte = fc.constantFrom(0, 1, 2, 0xfe, 0xff);
    const key = fc.uint8Array({ minLength: 0, maxLength: 4 }).map((bytes) => bytes);
    const random = fc.sample(fc.array(byte, { minLength: 1, maxLength: 4 }), {
      numRuns: 300,
      seed: 1,
    });
    const model = new Map<string, Uint8Array>();
    for (const [n, bytes] of random.entries()) {
      const chosen = Uint8Array.from(bytes);
      if (n % 4 === 3) await storage.delete(chosen);
      else await storage.put(chosen, `${n}`);
      if (n % 4 === 3) model.delete(chosen.join());
      else model.set(chosen.join(), chosen);
      // Some in tables, some in memory, some in both.
      if (n === 100 || n === 200) await storage.flush();
    }
    const sorted = [...model.values()].sort(compareBytes);
    const bound = fc.option(
      fc.oneof(
        fc.array(byte, { maxLength: 4 }).map((bytes) => Uint8Array.from(bytes)),
        key,
      ),
      { nil: undefined },
    );
    const limits = fc.option(fc.nat({ max: 40 }), { nil: undefined });
    await fc.assert(
      fc.asyncProperty(bound, bound, bound, bound, bound, limits, async (...drawn) => {
        const [gte, gt, lte, lt, prefix, limit] = drawn;
        const options = Object.fromEntries(
          Object.entries({ gte, gt, lte, lt, prefix, limit }).filter(([, it]) => it !== undefined),
        ) as IterateOptions;
        const expected = sorted
          .filter((one) => gte === undefined || compareBytes(one, gte) >= 0)
          .filter((one) => gt === undefined || compareBytes(one, gt) > 0)
          .filter((one) => lte === undefined || compareBytes(one, lte) <= 0)
          .filter((one) => lt === undefined || compareBytes(one, lt) < 0)
          .filter((one) => prefix === undefined || startsWith(one, prefix))
          .slice(0, limit ?? Infinity);
        const found: Uint8Array[] = [];
        for await (const [one] of storage.iterate(options)) found.push(one);
        expect(found.map(String)).to.deep.equal(expected.map(String));
      }),
      { numRuns: 300 },
    );
  });

  it('embedded storage: iteration goes on over pages, deleted stretches and its own writes', async () => {
    const storage = await opened();
    const key = (n: number): string => `k${String(n).padStart(5, '0')}`;
    const all = Array.from({ length: 5_000 }, (_, n) => n);
    await storage.batch(all.map((n) => ({ type: 'put', key: key(n), value: `${n}` })));
    await storage.batch(
      all
        .filter((n) => n >= 500 && n < 3_500)
        .map((n): Operation => ({ type: 'del', key: key(n) })),
    );
    const left = all.filter((n) => n < 500 || n >= 3_500).map(key);
    expect(await keysOf(storage)).to.deep.equal(left);
    expect(await keysOf(storage, { limit: 501 })).to.deep.equal(left.slice(0, 501));
    const seen: string[] = [];
    for await (const [found] of storage.iterate()) {
      seen.push(utf8.decode(found));
      await storage.delete(found);
    }
    expect(seen).to.deep.equal(left);
    expect(await keysOf(storage)).to.deep.equal([]);
  });

  it('embedded storage: a loop of awaited reads lets the event loop go on', async () => {
    const storage = await opened();
    await storage.put('key', 'value');
    let fired = false;
    setImmediate(() => {
      fired = true;
    });
    for (let n = 0; n < 128; n += 1) await storage.get('key');
    expect(fired).to.equal(true);
  });

  it('embedded storage: a loop of awaited reads lets a write that is under way get on', async () => {
    const storage = await opened({ durability: 'none' });
    await storage.put('key', 'value');
    const writing = { isOpen: true };
    const put = storage.put('other', 'value').then(() => {
      writing.isOpen = false;
    });
    let reads = 0;
    for (; writing.isOpen; reads += 1) await storage.get('key');
    await put;
    // A few turns of the loop, each after 16 reads; without writes each comes after 64.
    expect(reads).to.be.below(128);
  });

  // ---- restarts ----------------------------------------------------------------------------

  for (const durability of ['group', 'periodic', 'none'] as const)
    it(`embedded storage: everything is there after a restart (durability=${durability})`, async () => {
      const before = await opened({ durability });
      await before.batch([
        { type: 'put', key: 'kept', value: '1' },
        { type: 'put', key: 'deleted', value: '1' },
      ]);
      await before.flush();
      await before.put('kept', '2');
      await before.delete('deleted');
      await before.put('new', '3');
      await before.close();
      const after = await opened({ durability });
      const kept: [string, string][] = [
        ['kept', '2'],
        ['new', '3'],
      ];
      expect(await entriesOf(after)).to.deep.equal(kept);
      await after.put('kept', '4');
      expect(text(await after.get('kept'))).to.equal('4');
    });

  it('embedded storage: a write wins over stored ones also when the clock was set back', async () => {
    const before = await opened();
    await before.put('key', 'old');
    await before.close();
    const after = await opened();
    const now = Date.now;
    Date.now = () => now() - 3_600_000;
    try {
      await after.put('key', 'new');
      expect(text(await after.get('key'))).to.equal('new');
    } finally {
      Date.now = now;
    }
  });

  it('embedded storage: what a clean close has flushed is not flushed again', async () => {
    const before = await opened();
    for (let n = 0; n < 100; n += 1) await before.put(`k${n}`, 'v');
    await before.close();
    const after = await opened();
    const { records, tables } = await after.stats();
    expect({ records, tables }).to.deep.equal({ records: 100, tables: 1 });
  });

  it('embedded storage: close waits for writes that are open, and is the last word', async () => {
    const storage = await opened();
    const writes = Array.from({ length: 500 }, (_, n) => storage.put(`k${n}`, `${n}`));
    const closed = storage.close();
    expect(await codeOf(() => storage.put('late', 'x'))).to.equal('DRAINING');
    await Promise.all([...writes, closed, storage.close()]);
    for (const work of [
      () => storage.get('k1'),
      () => storage.delete('k1'),
      () => storage.flush(),
      () => storage.stats(),
      () => keysOf(storage),
    ])
      expect(await codeOf(work)).to.equal('DRAINING');
    expect(await keysOf(await opened())).to.have.length(500);
  });

  it('embedded storage: more writes than memory holds wait instead of failing', async () => {
    const settings = {
      memtableBytes: 64 * 1024,
      inFlightBytes: 64 * 1024,
      walSegmentBytes: 65_536,
    };
    const storage = await opened({ durability: 'none', settings });
    const value = 'x'.repeat(1_000);
    const writes = Array.from({ length: 2_000 }, (_, n) => storage.put(`k${n}`, value));
    await Promise.all(writes);
    expect(await keysOf(storage)).to.have.length(2_000);
    await storage.close();
    expect(await keysOf(await opened({ settings }))).to.have.length(2_000);
  });

  it('embedded storage: when the log cannot go on, open and later writes fail with the reason', async () => {
    const storage = await opened({ logLevel: 'silent', settings: { walSegmentBytes: 64 * 1024 } });
    await storage.put('key', 'value');
    fs.rmSync(path.join(storages.directory, 'shard-0/wal'), { recursive: true });
    const value = 'x'.repeat(10_000);
    const codes = await Promise.all(
      Array.from({ length: 50 }, (_, n) => codeOf(() => storage.put(`k${n}`, value))),
    );
    expect(codes).to.include('DISK_FAILED');
    expect(codes.filter((code) => code !== 'none' && code !== 'DISK_FAILED')).to.deep.equal([]);
    expect(await codeOf(() => storage.put('later', 'x'))).to.equal('DISK_FAILED');
    expect(await codeOf(() => storage.get('key'))).to.equal('DISK_FAILED');
    await storage.close();
  });

  // ---- crashes -----------------------------------------------------------------------------

  const startWriter = (...args: string[]): ChildProcess =>
    spawn(process.execPath, [writerFile, storages.directory, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });

  async function kill(child: ChildProcess): Promise<void> {
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  for (const durability of ['group', 'none'])
    it(`embedded storage: after kill -9 no acknowledged write is missing (durability=${durability})`, async () => {
      const child = startWriter(durability);
      const acked: number[] = [];
      const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
      for await (const line of lines) {
        acked.push(Number(line));
        if (acked.length === 1_000) break;
      }
      await kill(child);
      const storage = await opened({ durability: durability === 'none' ? 'none' : 'group' });
      for (const n of acked) {
        expect(text(await storage.get(`put:${n}`))?.split(' ')[0]).to.equal(`${n}`);
        expect(text(await storage.get(`c:${n}`))).to.equal(`${n}`);
      }
      const parts = await Promise.all(
        ['a:', 'b:', 'c:'].map((prefix) => keysOf(storage, { prefix })),
      );
      const [a, b, c] = parts.map((keys) => keys.map((key) => key.slice(2)));
      expect(b, 'a batch is there or not').to.deep.equal(a);
      expect(c, 'a batch is there or not').to.deep.equal(a);
    });

  it('embedded storage: a batch whose log record is torn is gone as a whole', async () => {
    const child = startWriter('none', 'batch');
    await once(child.stdout as NodeJS.ReadableStream, 'data');
    await kill(child);
    const log = path.join(storages.directory, 'shard-0/wal');
    const segments = fs.readdirSync(log).filter((name) => name.endsWith('.wal'));
    const name = segments.sort()[segments.length - 1] ?? '';
    const bytes = fs.readFileSync(path.join(log, name));
    const end = bytes.findLastIndex((byte) => byte !== 0);
    expect(end).to.be.above(segmentHeaderSpace + 20_000);
    // The last page was not written: most of the batch is still there.
    fs.writeFileSync(path.join(log, name), bytes.fill(0, end - 4_096));
    const storage = await opened({ durability: 'none' });
    expect(await keysOf(storage)).to.deep.equal(['before']);
  });

  it('embedded storage: the lock of a killed process is free', async () => {
    const child = startWriter('none', 'batch');
    await once(child.stdout as NodeJS.ReadableStream, 'data');
    expect(await codeOf(() => opened())).to.equal('CONFLICT');
    await kill(child);
    expect(await keysOf(await opened({ durability: 'none' }))).to.have.length(51);
  });

  it('embedded storage: the example of docs/embedded.md runs and ends', async () => {
    const document = fs.readFileSync('docs/embedded.md', 'utf8');
    const [, example = ''] = /```js\n([\s\S]*?)```/.exec(document) ?? [];
    const [, printed = ''] = /```text\n([\s\S]*?)```/.exec(document) ?? [];
    // Below the package, so that its own name leads to it.
    const folder = fs.mkdtempSync(path.join(process.cwd(), 'dist/example-'));
    const file = path.join(folder, 'example.mjs');
    fs.writeFileSync(file, example);
    try {
      const output = await new Promise<string>((resolve, reject) => {
        execFile(process.execPath, [file], { cwd: storages.directory }, (error, stdout, stderr) => {
          if (error === null) resolve(stdout);
          else reject(new Error(stderr));
        });
      });
      expect(output).to.equal(printed);
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  });
});
