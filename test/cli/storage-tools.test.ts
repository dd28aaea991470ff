// kvctl on files without a node: what it shows of tables, log segments and manifests that real
// actors wrote, what it says of damage, and that it changes nothing.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import { userKey } from '../../actors/model/record.ts';
import { SstableReader } from '../../actors/storage/sstable-reader.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { loadCodecModules } from '../../runtime/host/codec-modules.ts';
import { createCodecs } from '../../runtime/block-codecs.ts';
import { kvctl, type KvctlRun } from '../kit-kvctl.ts';
import { MemoryDisk } from '../kit-disk.ts';
import { NodeUnderTest } from '../storage/node-under-test.ts';

type Json = Record<string, unknown>;

const keyOf = (number: number): string => `key:${String(number).padStart(4, '0')}`;
const numbers = (from: number, to: number): number[] =>
  Array.from({ length: to - from }, (_, i) => from + i);
/** A number below a million that nobody can compress away. */
const noise = (number: number): number => Math.imul(number, 0x9e37_79b1) >>> 12;
const valueOf = (number: number): string =>
  JSON.stringify(numbers(0, 40).map((i) => noise(number * 40 + i)));

/** Table 1 with keys 0 to 199; table 2 with 150 to 249, of which 150 is deleted; 300 to 319 in the log. */
async function buildDisk(): Promise<MemoryDisk> {
  const disk = new MemoryDisk();
  const node = await NodeUnderTest.running(disk);
  const write = (from: number, to: number): Promise<void> =>
    node.write(new Map(numbers(from, to).map((number) => [keyOf(number), valueOf(number)])));
  await write(0, 200);
  await node.flush();
  await write(151, 250);
  await node.write(new Map([[keyOf(150), undefined]]));
  await node.flush();
  await write(300, 320);
  await node.write(new Map([['line\nbreak:ttl', '"x"']]));
  await node.advance(150);
  node.end();
  return disk;
}

const linesOf = ({ text }: KvctlRun): Json[] =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Json);

describe('kvctl: storage files', () => {
  let source: MemoryDisk;
  let root: string;
  let segments: string[];
  const at = (name: string): string => path.join(root, name);
  const table1 = 'shard-0/tables/0000000001.sst';
  const table2 = 'shard-0/tables/0000000002.sst';
  const last = (): string => segments[segments.length - 1] as string;

  before(async () => {
    source = await buildDisk();
    segments = source.paths().filter((name) => name.endsWith('.wal'));
  });

  beforeEach(() => {
    root = fs.mkdtempSync(path.join(os.tmpdir(), 'kvd-files-'));
    for (const name of source.paths()) {
      fs.mkdirSync(path.dirname(at(name)), { recursive: true });
      fs.writeFileSync(at(name), source.read(name) as Uint8Array);
    }
  });

  afterEach(() => fs.rmSync(root, { recursive: true }));

  function change(name: string, work: (bytes: Uint8Array) => Uint8Array | undefined): void {
    const bytes = new Uint8Array(fs.readFileSync(at(name)));
    fs.writeFileSync(at(name), work(bytes) ?? bytes);
  }

  const flip = (name: string, byte: number): void =>
    change(name, (bytes) => {
      bytes[byte] = (bytes[byte] as number) ^ 4;
      return undefined;
    });

  /** Where a data block of table 1 lies, and its first keys. */
  function block(number: number): { offset: number; first: string; below: string } {
    const codecs = createCodecs(loadCodecModules());
    const { offset, firstKey, nextKey } = SstableReader.open(
      source.open(table1, 'read'),
      1,
      codecs,
    ).spanOf(number);
    const text = (key: Uint8Array | undefined): string => utf8.decode(userKey(key as Uint8Array));
    return { offset, first: text(firstKey), below: text(nextKey) };
  }

  // ---- sst dump ----------------------------------------------------------------------------

  it('sst dump: all records come as JSON lines, in key order', async () => {
    const run = await kvctl(['sst', 'dump', at(table1), '-o', 'jsonl']);
    expect([run.code, run.stderr]).to.deep.equal([0, '']);
    const lines = linesOf(run);
    expect(lines.map(({ key }) => key)).to.deep.equal(numbers(0, 200).map(keyOf));
    expect(lines[7]).to.include({ namespace: 0, version: 1, tombstone: false, expires_at: null });
    expect(lines[7]?.['value']).to.deep.equal(JSON.parse(valueOf(7)));
  });

  it('sst dump: json is one array, and a tombstone has no value', async () => {
    const { code, text } = await kvctl(['sst', 'dump', at(table2), '-o', 'json']);
    const all = JSON.parse(text) as Json[];
    expect([code, all.length]).to.deep.equal([0, 100]);
    expect(all[0]).to.include({ key: keyOf(150), tombstone: true, version: 2 });
    expect(all[0]).to.not.have.property('value');
  });

  it('sst dump: --keys gives keys, --limit ends it, and a copy of any name is read', async () => {
    fs.copyFileSync(at(table1), at('copy'));
    const run = await kvctl(['sst', 'dump', at('copy'), '--keys', '--limit', '3', '-o', 'jsonl']);
    expect(run.code).to.equal(0);
    expect(linesOf(run)).to.deep.equal(numbers(0, 3).map((n) => ({ namespace: 0, key: keyOf(n) })));
    const table = await kvctl(['sst', 'dump', at('copy'), '--keys', '--limit', '2']);
    expect(table.text.match(/key:\d+/g)).to.deep.equal([keyOf(0), keyOf(1)]);
  });

  it('sst dump: a damaged block is passed over and named, all others are printed', async () => {
    const { offset, first, below } = block(1);
    flip(table1, offset + 100);
    const run = await kvctl(['sst', 'dump', at(table1), '--keys', '-o', 'jsonl']);
    expect(run.code).to.equal(1);
    expect(run.stderr).to.equal(
      `kvctl: ${at(table1)}: damaged at byte ${offset}: the checksum of a block does not match; keys from ${first} to below ${below}\n`,
    );
    const whole = numbers(0, 200).map(keyOf);
    const expected = whole.filter((key) => key < first || key >= below);
    expect(linesOf(run).map(({ key }) => key)).to.deep.equal(expected);
  });

  // ---- sst verify --------------------------------------------------------------------------

  it('sst verify: whole tables are ok, found from the data directory on', async () => {
    const run = await kvctl(['sst', 'verify', root, '-o', 'json']);
    expect([run.code, run.stderr]).to.deep.equal([0, '']);
    const [one, two] = JSON.parse(run.text) as Json[];
    expect(one).to.deep.equal({
      file: at(table1),
      state: 'ok',
      records: 200,
      bytes: source.read(table1)?.length,
      first: { namespace: 0, key: keyOf(0) },
      last: { namespace: 0, key: keyOf(199) },
      damage: [],
    });
    expect(two).to.include({ file: at(table2), state: 'ok', records: 100 });
  });

  it('sst verify: damage ends it with 1 and is told with file, offset and keys, after all files', async () => {
    const { offset, first, below } = block(2);
    flip(table1, offset + 9);
    const run = await kvctl(['sst', 'verify', at(table1), at(table2)]);
    expect(run.code).to.equal(1);
    expect(run.text).to.match(/0000000001[.]sst +│ damaged[^]*0000000002[.]sst +│ ok/);
    expect(run.stderr).to.equal(
      `kvctl: ${at(table1)}: damaged at byte ${offset}: the checksum of a block does not match; keys from ${first} to below ${below}\n`,
    );
  });

  it('sst verify: any changed byte of a table is found (every 97th)', async () => {
    const { length } = source.read(table2) as Uint8Array;
    for (let byte = 0; byte < length; byte += 97) {
      flip(table2, byte);
      const run = await kvctl(['sst', 'verify', at(table2), '-o', 'jsonl']);
      expect([byte, run.code, linesOf(run)[0]?.['state']]).to.deep.equal([byte, 1, 'damaged']);
      flip(table2, byte);
    }
  });

  it('sst verify: a table that was cut is damaged, its keys are unknown (each 500 bytes)', async () => {
    const { length } = source.read(table2) as Uint8Array;
    for (let size = 0; size < length; size += 500) {
      change(table2, () => (source.read(table2) as Uint8Array).slice(0, size));
      const { code, stderr } = await kvctl(['sst', 'verify', at(table2)]);
      expect(code, String(size)).to.equal(1);
      expect(stderr).to.match(/damaged at byte \d+: .*; its keys are unknown\n$/);
    }
  });

  it('sst verify: a table in the making is no damage where the manifest does not name it', async () => {
    const making = 'shard-0/tables/0000000003.sst';
    fs.writeFileSync(at(making), (source.read(table2) as Uint8Array).slice(0, 5000));
    const run = await kvctl(['sst', 'verify', root, '-o', 'jsonl']);
    expect([run.code, run.stderr]).to.deep.equal([0, '']);
    expect(linesOf(run).map(({ state }) => state)).to.deep.equal(['ok', 'ok', 'unused']);
    // Asked for by name, or without a manifest, it is what it is.
    expect((await kvctl(['sst', 'verify', at(making)])).code).to.equal(1);
    fs.rmSync(at('shard-0/CURRENT'));
    expect((await kvctl(['sst', 'verify', root])).code).to.equal(1);
  });

  // ---- wal dump ----------------------------------------------------------------------------

  it('wal dump: segments in order with their records, marks and ends', async () => {
    const run = await kvctl(['wal', 'dump', root, '-o', 'jsonl']);
    expect([run.code, run.stderr]).to.deep.equal([0, '']);
    const lines = linesOf(run);
    const files = lines.filter(({ kind }) => kind === 'segment').map(({ file }) => file);
    expect(files).to.deep.equal(segments.map(at));
    const verdicts = lines.filter(({ kind }) => kind === 'verdict').map(({ verdict }) => verdict);
    expect(verdicts).to.deep.equal(segments.map(() => 'clean'));
    const records = lines.filter(({ kind }) => kind === 'record');
    const keys = records.map(({ key }) => key).slice(-21);
    expect(keys).to.deep.equal([...numbers(300, 320).map(keyOf), 'line\nbreak:ttl']);
    expect(records[records.length - 1]).to.include({ version: 1, tombstone: false, bytes: 3 });
    expect(records[records.length - 1]?.['expires_at']).to.be.a('number');
    const lsns = lines.filter(({ lsn }) => lsn !== undefined).map(({ lsn }) => lsn as number);
    expect(lsns).to.deep.equal(numbers(lsns[0] as number, (lsns[0] as number) + lsns.length));
    // The mark proves what is before it.
    const mark = lines[lines.length - 2] as Json;
    expect(mark).to.include({ kind: 'mark', durable_lsn: (mark['lsn'] as number) - 1 });
  });

  it('wal dump: the table form shows keys on one line and says how each segment ends', async () => {
    const { code, text } = await kvctl(['wal', 'dump', at(last())]);
    expect(code).to.equal(0);
    expect(text).to.include('of shard 0 of n1 in test').and.to.include('"line\\nbreak:ttl"');
    expect(text).to.match(/clean end at byte \d+, last LSN \d+\n$/);
  });

  it('wal dump: a torn tail is no failure, damage before durable records is', async () => {
    const lines = linesOf(await kvctl(['wal', 'dump', at(last()), '-o', 'jsonl']));
    const mark = lines.find(({ kind }) => kind === 'mark')?.['offset'] as number;
    const record = lines.filter(({ kind }) => kind === 'record').pop()?.['offset'] as number;
    flip(last(), mark + 9);
    const torn = await kvctl(['wal', 'dump', at(last())]);
    expect(torn.code).to.equal(0);
    expect(torn.text).to.include(`torn at byte ${mark}: `);
    flip(last(), mark + 9);
    flip(last(), record + 60);
    const corrupt = await kvctl(['wal', 'dump', at(last())]);
    expect(corrupt.code).to.equal(1);
    expect(corrupt.stderr).to.include(`${at(last())}: corrupt at byte ${record}: LSN`);
  });

  it('wal dump: the segment behind says how far one has to go, also where it is not asked for', async () => {
    const [first = ''] = segments;
    const lines = linesOf(await kvctl(['wal', 'dump', at(first), '-o', 'jsonl']));
    const record = lines.filter(({ kind }) => kind === 'record').pop()?.['offset'] as number;
    change(first, (bytes) => bytes.fill(0, record));
    const run = await kvctl(['wal', 'dump', at(first)]);
    expect(run.code).to.equal(1);
    expect(run.stderr).to.match(
      new RegExp(`corrupt at byte ${record}: the next segment follows LSN`),
    );
  });

  it('wal dump: a damaged header is corrupt', async () => {
    flip(last(), 17);
    const run = await kvctl(['wal', 'dump', root]);
    expect(run.code).to.equal(1);
    expect(run.stderr).to.equal(`kvctl: ${at(last())}: corrupt at byte 0: the header is damaged\n`);
  });

  // ---- manifest dump -----------------------------------------------------------------------

  it('manifest dump: edits and the tables that they result in', async () => {
    const run = await kvctl(['manifest', 'dump', at('shard-0'), '-o', 'json']);
    expect([run.code, run.stderr]).to.deep.equal([0, '']);
    const document = JSON.parse(run.text) as { edits: Json[]; tables: Json[] } & Json;
    expect(document['verdict']).to.equal('clean');
    expect(document.edits.map(({ added }) => added)).to.deep.equal([
      [],
      [{ table: 1, level: 0 }],
      [{ table: 2, level: 0 }],
    ]);
    expect(document.tables.map(({ table, records }) => [table, records])).to.deep.equal([
      [1, 200],
      [2, 100],
    ]);
    expect(document.tables[1]).to.deep.include({
      first: { namespace: 0, key: keyOf(150) },
      tombstones: 1,
      bytes: source.read(table2)?.length,
      file_bytes: source.read(table2)?.length,
    });
  });

  it('manifest dump: found from the data directory on, and a missing table is named', async () => {
    fs.rmSync(at(table1));
    const { code, text } = await kvctl(['manifest', 'dump', root]);
    expect(code).to.equal(0);
    expect(text)
      .to.match(/│ 1 +│ 0 +│ 200 .*│ missing/)
      .and.to.match(/│ 2 +│ 0 +│ 100 .*│ there/);
    expect(text).to.match(
      /: 2 tables, flushed through LSN \d+, next file 3\n.*: clean end at byte/,
    );
  });

  it('manifest dump: damage ends it with 1', async () => {
    const manifest = source.paths().find((name) => name.includes('MANIFEST')) as string;
    flip(manifest, 4096 + 40);
    const corrupt = await kvctl(['manifest', 'dump', root]);
    expect(corrupt.code).to.equal(1);
    expect(corrupt.stderr).to.include(`${at(manifest)}: corrupt at byte 4096: `);
    flip('shard-0/CURRENT', 3);
    const lost = await kvctl(['manifest', 'dump', root]);
    expect(lost.code).to.equal(1);
    expect(lost.stderr).to.include(`${at('shard-0/CURRENT')} at byte 0: it names no manifest`);
  });

  // ---- all ---------------------------------------------------------------------------------

  it('storage files: nothing is changed by looking', async () => {
    const state = (): string[][] =>
      fs
        .readdirSync(root, { recursive: true, encoding: 'utf8' })
        .sort()
        .map((name) => {
          const stats = fs.statSync(at(name));
          const content = stats.isFile() ? fs.readFileSync(at(name)).toString('hex') : '';
          return [name, String(stats.mtimeMs), content];
        });
    flip(table1, 20);
    const before = state();
    for (const args of [
      ['sst', 'dump', at(table1)],
      ['sst', 'verify', root],
      ['wal', 'dump', root],
      ['manifest', 'dump', root],
    ])
      await kvctl(args);
    expect(state()).to.deep.equal(before);
  });

  for (const [what, args] of [
    ['a file that is not there', ['sst', 'dump', 'nothing.sst']],
    ['a place that is not there', ['sst', 'verify', 'nothing']],
    ['a directory without log segments', ['wal', 'dump', 'shard-0/tables']],
    ['a directory without CURRENT', ['manifest', 'dump', 'shard-0/tables']],
  ] as const)
    it(`storage files: ${what} ends with 4`, async () => {
      const [group, command, place] = args;
      const run = await kvctl([group, command, at(place)]);
      expect([run.code, run.text]).to.deep.equal([4, '']);
      expect(run.stderr).to.include(at(place));
    });

  it('storage files: what is no table at all ends with 1', async () => {
    fs.writeFileSync(at('note'), 'x'.repeat(500));
    const dump = await kvctl(['sst', 'dump', at('note')]);
    expect(dump.code).to.equal(1);
    expect(dump.stderr).to.equal(
      `kvctl: corrupt data in ${at('note')} at byte 420: no table footer\n`,
    );
    const verify = await kvctl(['sst', 'verify', at('note'), '-o', 'raw']);
    expect(verify.code).to.equal(2);
  });
});
