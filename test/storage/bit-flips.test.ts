// Rot: one bit of one file of a shard changes while the node is down. Then the start is refused with
// file and offset, or every read and scan gives what was acknowledged or an error; never a wrong
// record, and never a missing one without an error (CO-1, WAL-11, MF-7).
//
// Before the damage the log's last record was followed by its mark: rot of a record that nothing
// proves durable yet cannot be told from a torn write (WAL-15, docs/storage-format.md).

import { expect } from 'chai';
import {
  isLive,
  recordIsTombstone,
  recordKey,
  recordValue,
  storageKey,
  userKey,
} from '../../actors/model/record.ts';
import { ManifestLog } from '../../actors/storage/manifest.ts';
import { decodeSnapshot, encodeSnapshot } from '../../actors/storage/snapshot-format.ts';
import { walRecordLength } from '../../actors/storage/wal-format.ts';
import { decodeList, encodeList } from '../../cli/backup/backup-format.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { CorruptionError, type Failure } from '../../runtime/errors.ts';
import { Prng } from '../../runtime/prng.ts';
import { MemoryDisk } from '../kit-disk.ts';
import { type Answer, NodeUnderTest, shardDirectory } from './node-under-test.ts';
import { hexes, hexOf } from './records-under-test.ts';

interface Kind {
  readonly name: string;
  readonly flips: number;
  readonly files: number;
  readonly pattern: RegExp;
  /** Only so many bytes at the end of the file. */
  readonly lastBytes?: number;
}

const tables = { files: 2, pattern: /[.]sst$/ };
const kinds: readonly Kind[] = [
  { name: 'identity', flips: 60, files: 1, pattern: /^identity[.]json$/ },
  { name: 'whole', flips: 20, files: 1, pattern: /^whole$/ },
  { name: 'clock bound', flips: 60, files: 1, pattern: /clock-bound$/ },
  { name: 'CURRENT', flips: 60, files: 1, pattern: /CURRENT$/ },
  { name: 'manifest', flips: 170, files: 1, pattern: /MANIFEST-\d+$/ },
  { name: 'table', flips: 200, ...tables },
  // Index, filter, properties and footer.
  { name: 'end of a table', flips: 100, ...tables, lastBytes: 800 },
  { name: 'NEWEST', flips: 60, files: 1, pattern: /NEWEST$/ },
  { name: 'log', flips: 350, files: 6, pattern: /[.]wal$/ },
];

/** Wall time of all starts, milliseconds since 1970: nothing expires. */
const nowMs = 1000;
const pageRecords = 64;
const markBytes = walRecordLength(0);

interface Shard {
  readonly disk: MemoryDisk;
  /** The last value of each key; undefined: deleted. */
  readonly written: ReadonlyMap<string, string | undefined>;
  /** All records that were acknowledged, the winner of each key, in key order. */
  readonly records: readonly Uint8Array[];
  /** Storage keys of the records, and some that were never written. */
  readonly keys: readonly Uint8Array[];
  readonly expected: readonly string[];
}

function valuesOf(
  random: Prng,
  keys: readonly number[],
  round: string,
): Map<string, string | undefined> {
  return new Map(
    keys.map((number) => {
      const text = hexOf(random.bytes(40 + random.int(160)));
      const value = JSON.stringify({ round, number, text });
      const key = `key:${String(number).padStart(4, '0')}${number % 10 === 3 ? ':ttl' : ''}`;
      return [key, number % 7 === 6 && round !== 'first' ? undefined : value];
    }),
  );
}

const numbers = (from: number, to: number, step = 1): number[] =>
  Array.from({ length: Math.ceil((to - from) / step) }, (_, i) => from + i * step);

/** Two tables that share keys, and a log of several segments with newer records of these keys. */
async function buildShard(): Promise<Shard> {
  const disk = new MemoryDisk();
  const random = new Prng(7);
  const written = new Map<string, string | undefined>();
  const first = await NodeUnderTest.running(disk);
  const write = async (keys: readonly number[], round: string): Promise<void> => {
    const values = valuesOf(random, keys, round);
    await first.write(values);
    for (const [key, value] of values) written.set(key, value);
  };
  await write(numbers(0, 160), 'first');
  await first.flush();
  await write(numbers(0, 200, 3), 'second');
  await first.flush();
  const third = numbers(0, 240, 2);
  for (let at = 0; at < third.length; at += 10) await write(third.slice(at, at + 10), 'third');
  // The mark: 100 ms after the last sync.
  await first.advance(150);
  first.end();
  const untouched = await NodeUnderTest.running(disk.copy());
  const { reply: records = [] } = await untouched.range(pageRecords);
  untouched.end();
  const absent = ['key:', 'key:0001:', 'key:9999', 'a', 'z'].map((key) =>
    storageKey(0, utf8.encode(key)),
  );
  const keys = [...records.map(recordKey), ...absent];
  const expected = [...hexes(records), ...absent.map(() => 'nothing')];
  return { disk, written, records, keys, expected };
}

interface Flip {
  readonly path: string;
  readonly byte: number;
  readonly bit: number;
}

/** Half of the bytes are drawn from all, half from those that are not zero. */
function flipOf(random: Prng, disk: MemoryDisk, { pattern, lastBytes = Infinity }: Kind): Flip {
  const paths = disk.paths().filter((name) => pattern.test(name));
  const path = paths[random.int(paths.length)] as string;
  const bytes = disk.read(path) as Uint8Array;
  const from = Math.max(0, bytes.length - lastBytes);
  const draw = (): number => from + random.int(bytes.length - from);
  let byte = draw();
  if (random.chance(0.5)) while (bytes[byte] === 0) byte = draw();
  return { path, byte, bit: random.int(8) };
}

/** Zeros behind the last record of a log or manifest, and the mark that may be this record. */
function mayBeHarmless(disk: MemoryDisk, { path, byte }: Flip): boolean {
  const bytes = disk.read(path) as Uint8Array;
  // A damaged mark is none: the others are asked again, and a node alone makes it anew.
  if (path === 'whole') return true;
  const isLog = /[.]wal$|MANIFEST-\d+$/.test(path);
  return isLog && byte > bytes.findLastIndex((value) => value !== 0) - markBytes;
}

function flipped(disk: MemoryDisk, { path, byte, bit }: Flip): MemoryDisk {
  const copy = disk.copy();
  const bytes = copy.read(path) as Uint8Array;
  bytes[byte] = (bytes[byte] as number) ^ (1 << bit);
  copy.put(path, bytes);
  return copy;
}

const shown = ({ path, byte, bit }: Flip): string => `bit ${bit} of byte ${byte} of ${path}`;

type Outcome = 'refused' | 'error' | 'right';

/** Starts on the disk and compares all that is read with what was acknowledged. */
async function lifeOn(disk: MemoryDisk, shard: Shard, flip: Flip): Promise<Outcome> {
  const where = shown(flip);
  const node = await NodeUnderTest.start(disk);
  if (!(node instanceof NodeUnderTest)) {
    expect(node.message, where)
      .to.include(flip.path)
      .and.to.match(/byte \d+/);
    return 'refused';
  }
  const failures: Failure[] = [];
  const found = (await node.read(shard.keys)).map(({ failure, reply }, i) => {
    if (failure === undefined) return reply.record === undefined ? 'nothing' : hexOf(reply.record);
    failures.push(failure);
    return shard.expected[i];
  });
  expect(found, `what is read with ${where}`).to.deep.equal(shard.expected);
  const all = await node.range(pageRecords);
  expectAll(all, shard.records, where);
  if (all.failure !== undefined) failures.push(all.failure);
  for (const { code, fields } of failures) {
    expect(code, where).to.equal('CORRUPT');
    expect(fields, where).to.include({ file: flip.path }).and.to.have.property('offset');
  }
  const scanned = await node.scan();
  expectAll(
    scanned,
    shard.records.filter((record) => isLive(record, nowMs)),
    where,
  );
  node.end();
  expect(all.failure === undefined, where).to.equal(scanned.failure === undefined);
  return failures.length > 0 ? 'error' : 'right';
}

function expectAll(
  { reply }: Answer<readonly Uint8Array[]>,
  records: readonly Uint8Array[],
  where: string,
): void {
  if (reply !== undefined) expect(hexes(reply), where).to.deep.equal(hexes(records));
}

describe('bit flips', () => {
  let shard: Shard;

  before(async () => {
    shard = await buildShard();
  });

  it('bit flips: the shard has files of every kind, and no others', () => {
    const paths = shard.disk.paths();
    const unknown = paths.filter((path) => !kinds.some(({ pattern }) => pattern.test(path)));
    expect(unknown).to.deep.equal([]);
    for (const { name, files, pattern } of kinds)
      expect(paths.filter((path) => pattern.test(path)).length, name).to.equal(files);
    expect(shard.records.length).to.equal(206);
  });

  it('bit flips: without damage everything is there', () => {
    const found = shard.records.map((record) => {
      const value = recordIsTombstone(record) ? undefined : utf8.decode(recordValue(record));
      return [utf8.decode(userKey(recordKey(record))), value];
    });
    expect(found).to.deep.equal([...shard.written].sort(([a], [b]) => (a < b ? -1 : 1)));
  });

  for (const kind of kinds)
    it(`bit flips: a changed bit is refused, an error or harmless (kind=${kind.name}, flips=${kind.flips})`, async () => {
      const random = new Prng(1).fork(kind.name);
      for (let i = 0; i < kind.flips; i += 1) {
        const flip = flipOf(random, shard.disk, kind);
        const disk = flipped(shard.disk, flip);
        const outcome = await lifeOn(disk, shard, flip);
        if (outcome === 'right')
          expect(mayBeHarmless(shard.disk, flip), `unseen: ${shown(flip)}`).to.equal(true);
        // What this start changed on the disk must not have lost anything either.
        expect(await lifeOn(disk, shard, flip), `again: ${shown(flip)}`).to.equal(outcome);
      }
    });

  it('bit flips: a list of a snapshot or backup with a changed bit is refused by its name (flips=120)', async () => {
    const random = new Prng(1).fork('lists');
    const { state } = await ManifestLog.open(shard.disk.copy(), shardDirectory, {
      ...{ clusterName: 'test', node: 'n1', incarnation: 1, shard: 0 },
    });
    const snapshot = {
      ...{ name: 'evening', createdMs: nowMs, clusterName: 'test', node: 'n1', incarnation: 1 },
      shape: { members: ['n1'], replicationFactor: 1, virtualNodes: 8, shards: 1 },
      shards: [
        { shard: 0, flushedThrough: state.flushedThrough, tables: [...state.tables.values()] },
      ],
    };
    const path = 'snapshots/evening.json';
    const lists: readonly [Uint8Array, (bytes: Uint8Array) => unknown][] = [
      [encodeSnapshot(snapshot), (bytes) => decodeSnapshot(path, bytes)],
      [encodeList({ id: '1', nodes: [snapshot] }), (bytes) => decodeList(path, bytes)],
    ];
    for (const [whole, decode] of lists) {
      decode(whole);
      for (let i = 0; i < 60; i += 1) {
        const bytes = whole.slice();
        const at = random.int(bytes.length);
        bytes[at] = (bytes[at] as number) ^ (1 << random.int(8));
        expect(() => decode(bytes), `byte ${at}`).to.throw(CorruptionError, path);
      }
    }
  });
});
